"""Results: output and error files reconciled with the requests, in the order of the input.

Promises: one row for each request of the job; what is not there is said to be missing; `complete` only when the
rows add up. Of several attempts the latest good answer wins, and a good one is never replaced by a flawed one or a
failure.
"""

from __future__ import annotations

import collections
import functools
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from doubleword.answers import lines as result_lines
from doubleword.answers.judgement import INVALID
from doubleword.answers.vectors import FLOAT32
from doubleword.batch_files import reading as batch_files
from doubleword.failure import Exit, Failure, plain
from doubleword.quick_msgspec import Struct, field
from doubleword.results.advice import GONE, UNEXPLAINED, is_lasting
from doubleword.results.expected import Expected, Schemas
from doubleword.results.reading import FLAWED, GOOD, Reader, Reading, Row
from doubleword.results.result import Entry, Good, Pack, Result
from doubleword.results.spool import LENGTH, Spool
from doubleword.server.api import Api
from doubleword.server.errors import ApiError
from doubleword.server.objects import Asked, Batch
from doubleword.server.transfers import lines_of
from doubleword.service import EMBEDDINGS
from doubleword.system import System

# Answers are handed out many at once.
RUN_BYTES = 1 << 20
SHOWN_IDS = 10


class Tally(Struct):
    """What was counted, row by row.

    `failures` counts causes, `examples` holds a result for each, `ids` the first ten; `flaws` counts flawed answers,
    `flawed` holds one of each. An answer with two flaws counts under both. `reused` of those that succeeded have the
    answers of earlier jobs.
    """

    succeeded: int = 0
    failed: int = 0
    missing: int = 0
    pending: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    examples: dict[str, Result] = field(default_factory=dict)
    ids: dict[str, list[str]] = field(default_factory=dict)
    reused: int = 0
    flaws: Counter[str] = field(default_factory=Counter)
    flawed: dict[str, Result] = field(default_factory=dict)

    def add(self, result: Result) -> None:
        """Count one request."""
        if result.kind == "succeeded" and not result.flaws:
            self.succeeded += 1
            return
        setattr(self, result.kind, getattr(self, result.kind) + 1)
        if result.kind in ("failed", "missing"):
            cause = result.cause or "no explanation was given"
            self.failures[cause] += 1
            self.examples.setdefault(cause, result._replace(line=None, packed=None))
            if len(ids := self.ids.setdefault(cause, [])) < SHOWN_IDS:
                ids.append(result.custom_id)
        for flaw in result.flaws:
            self.flaws[flaw] += 1
            self.flawed.setdefault(flaw, result._replace(line=None, packed=None))

    @property
    def total(self) -> int:
        """All requests that were asked, whatever became of them."""
        return self.succeeded + self.failed + self.missing + self.pending

    @property
    def answers(self) -> int:
        """Those that were answered, be the answer invalid."""
        return self.succeeded + self.flaws[INVALID]

    def causes(self) -> list[tuple[str, int, Result]]:
        """Causes of failure: the cause, how often, and a result as an example. First what a repetition may mend, and of
        these the most frequent.
        """
        ordered = sorted(self.failures.items(), key=lambda one: (is_lasting(one[0]), -one[1]))
        return [(cause, count, self.examples[cause]) for cause, count in ordered[:10]]


class Collector:
    """Reads and reconciles the results of batch files, in memory bounded by one batch file.

    `spool` is where rows are kept on disk meanwhile; it is removed on exit. With `partial` the requests that have
    no row yet are pending; without it they are a Failure (7) where the server counts more rows than it shows.
    `schemas` says what answers have to be. With `remember`, `history` tells what became of a request each time.
    `pack` says what is kept of an answer where its line is not needed. With `in_order` it is a Failure (2) where nobody
    knows any more in which order requests were asked.
    """

    def __init__(
        self,
        api: Api,
        system: System,
        spool: Path,
        progress: Callable[[int], None],
        partial: bool = False,
        schemas: Schemas | None = None,
        remember: bool = False,
        pack: Pack | None = None,
        in_order: bool = False,
    ) -> None:
        self._api = api
        self._system = system
        self._in_order_only = in_order
        self._spool = Spool(spool, system.disk)
        self._pack = pack
        self._schemas = schemas or Schemas(system.disk)
        self._reader = Reader(api, system, self._spool, progress, partial, pack, remember)
        self._reading = Reading()
        self._expected = Expected()
        self.tally = Tally()
        self.usage = self._reader.usage
        self.remarks = self._reader.remarks
        self.warnings: list[str] = []

    def __enter__(self) -> Collector:
        self._spool.__enter__()
        return self

    def __exit__(self, *failed: object) -> None:
        self._spool.__exit__(*failed)

    @property
    def unreadable(self) -> int:
        """How many lines do not say whose answer they are."""
        return self.remarks.unreadable

    def collect(self, every: Sequence[Asked]) -> Iterator[Result]:
        """One result for each request of each batch file, in their order; each is counted in `tally`."""
        for found in self.collect_runs(every):
            yield from found.results()

    def collect_runs(self, every: Sequence[Asked]) -> Iterator[Result | Good]:
        """As `collect`, with good answers that follow each other taken together."""
        for asked in every:
            ids, self._expected = self._asked_for(asked)
            repeated = frozenset(one for one, count in Counter(ids or ()).items() if count > 1)
            reading = self._reading = self._reader.read(asked, self._expected, repeated)
            for custom_ids, rows in self._in_order(asked, reading, ids):
                for start, end in _runs(rows):
                    run = custom_ids[start:end], rows[start:end]
                    if isinstance(rows[start], int):
                        yield from self._good(*run, asked.endpoint)
                        continue
                    for custom_id, row in zip(*run, strict=True):
                        result = self._result(custom_id, row, reading, asked)
                        self.tally.add(result)
                        yield result
            # An answer that was cut off may have no usage, or one that leaves its thoughts out.
            self.remarks.cut_at = max(self.remarks.cut_at, self._schemas.most_tokens)

    def _good(self, custom_ids: Sequence[str], places: Sequence[Any], endpoint: str) -> Iterator[Good]:
        """Good answers, no more at once than fit into `RUN_BYTES`, and vectors of one form."""
        size = sum(map(LENGTH.__and__, places))
        at_once = max(1, len(places) * RUN_BYTES // max(size, 1))
        start, packed = 0, self._is_packed(endpoint)
        while start < len(places):
            end, form = min(start + at_once, len(places)), FLOAT32
            if endpoint == EMBEDDINGS:
                form = self._expected.form(custom_ids[start])
                end = next((at for at in range(start + 1, end) if self._expected.form(custom_ids[at]) != form), end)
            kept = self._spool.read_all(places[start:end])
            self.tally.succeeded += len(kept)
            yield Good(custom_ids[start:end], kept, endpoint, packed, form)
            start = end

    def history(self, result: Result) -> list[Entry]:
        """What each batch said of the request that `result` ends, oldest first; asked while `collect` stands at it."""
        past = self._reading.past.get(result.custom_id, [])
        if not past:
            return [Entry("", result)]
        return [Entry(batch, self._of_row(result.custom_id, row, result.endpoint)) for batch, row in past]

    def _in_order(
        self, asked: Asked, reading: Reading, ids: Sequence[str] | None
    ) -> Iterator[tuple[Sequence[str], list[Row | None]]]:
        """Requests with their rows, many at once; what is left in the end answers none of them."""
        rows, several = reading.rows, {name: collections.deque(many) for name, many in reading.several.items()}
        take = functools.partial(_taken, rows, several) if several else rows.pop
        for custom_ids in self._ids(asked, reading, ids):
            yield custom_ids, list(map(take, custom_ids, itertools.repeat(None)))
        if several:
            named = plain(", ".join(list(several)[:3]), 120)
            said = f"{len(several)} custom_ids stand in more than one request, such as {named}; every answer is given"
            self.warnings.append(f"{said}, but which of them answers which request cannot be told")
        strangers = rows.keys() - several.keys()
        if strangers and asked.path is not None:
            named = plain(next(one for one in rows if one in strangers), 64)
            said = f"{len(strangers)} rows answer no request of this job, such as {named}; they are left out"
            self.warnings.append(said)

    def _result(self, custom_id: str, row: Row | None, reading: Reading, asked: Asked) -> Result:
        if row is not None:
            return self._of_row(custom_id, row, asked.endpoint)
        if not reading.over:
            return Result(custom_id, "pending", None, None, asked.endpoint)
        if reading.gone == {"error"}:
            return Result(custom_id, "failed", None, UNEXPLAINED, asked.endpoint)
        cause = GONE if reading.gone else _no_row(asked.batches)
        return Result(custom_id, "missing", None, cause, asked.endpoint)

    def _of_row(self, custom_id: str, row: Row, endpoint: str) -> Result:
        rank, cause, flaws, place = (GOOD, None, (), row) if isinstance(row, int) else row
        (kept,) = self._spool.read_all([place])
        kind, packed, line = ("succeeded" if rank >= FLAWED else "failed"), None, kept
        if kind == "succeeded" and self._is_packed(endpoint):
            packed, _, line = kept.partition(b"\n")  # the line is there only where it is remembered
        form = self._expected.form(custom_id)
        return Result(custom_id, kind, line or None, cause, endpoint, flaws, form=form, packed=packed)

    def _is_packed(self, endpoint: str) -> bool:
        return self._pack is not None and endpoint != EMBEDDINGS

    # Whose answers

    def _ids(self, asked: Asked, reading: Reading, ids: Sequence[str] | None) -> Iterator[Sequence[str]]:
        """custom_ids in input order: from the local file, else the server's copy, else in the order of the answers."""
        if asked.path is not None:
            yield from batch_files.custom_id_blocks(asked.path, self._system.disk)
            return
        if ids is not None:
            yield ids
            return
        if self._in_order_only:
            message = "the batch file is gone or was changed, and the server has no copy; nothing says what rows asked"
            raise Failure(Exit.BAD_INPUT, "batch_file_changed", message, "restore the file as it was, then run again")
        said = "the input file is gone, so missing requests cannot be named and rows stand as they came"
        self.warnings.append(said)
        came = list(reading.rows)
        yield came
        yield [f"(unknown request {number + 1})" for number in range(len(came), asked.requests or 0)]

    def _asked_for(self, asked: Asked) -> tuple[list[str] | None, Expected]:
        """What requests say of their answers; and without a local file, their ids, None where nobody knows them."""
        if asked.path is not None:
            return None, self._schemas.expected(asked.path)
        found = self._on_server(asked)
        return (None, self._schemas.expected(None)) if found is None else found

    def _on_server(self, asked: Asked) -> tuple[list[str], Expected] | None:
        """The server's copy of the first batch's input file; None when it is gone or not whole."""
        file_id = asked.batches[0].input_file_id if asked.batches else ""
        if not file_id:
            return None
        came: list[int] = []  # how many requests each attempt found that ended as if all were there

        def attempt() -> tuple[list[str], Expected]:
            ids: list[str] = []

            def requests() -> Iterator[tuple[str, bytes]]:
                for lines in lines_of(self._api.content(file_id), lambda _: None):
                    for raw in filter(None, map(bytes.strip, lines.raws)):
                        ids.append(_id_of(raw))
                        yield ids[-1], raw

            expected = self._schemas.expected_in(requests())
            came.append(len(ids))
            if asked.requests and len(ids) < asked.requests:
                raise ApiError(200, "the input file came short", garbled=True)
            return ids, expected

        try:
            found: tuple[list[str], Expected] = self._api.patiently(attempt)
        except ApiError as error:
            # Twice the same: what the server has is short, and it is no gateway that answers in its stead for now.
            is_short = error.garbled and any(came.count(length) > 1 for length in came)
            if is_short or error.gone or error.status == 400:
                return None
            raise error.failure("reading the input file") from error  # it is there, and can be read another time
        return found


def _no_row(batches: Sequence[Batch]) -> str:
    """Why a request has no row though its batches are over: by the latest batch that says why it failed as a whole."""
    said = next((batch.errors[0] for batch in reversed(batches) if batch.errors), None)
    if said is not None:
        return plain(said, 160)
    states = plain(", ".join(sorted({one.status for one in batches})), 60)
    return "no row: it was cancelled" if "cancelled" in states else f"no row, though the batch is {states}"


def _runs(rows: Sequence[Row | None]) -> Iterator[tuple[int, int]]:
    """Where runs of good answers, and of others, begin and end."""
    if set(map(type, rows)) == {int}:
        yield 0, len(rows)
        return
    start = 0
    for _, run in itertools.groupby(rows, lambda row: isinstance(row, int)):
        end = start + sum(1 for _ in run)
        yield start, end
        start = end


def _taken(
    rows: dict[str, Row], several: dict[str, collections.deque[Row]], custom_id: str, missing: None
) -> Row | None:
    """The next of several rows of an id, or its only one."""
    if custom_id in several:
        return several[custom_id].popleft() if several[custom_id] else missing
    return rows.pop(custom_id, missing)


def _id_of(raw: bytes) -> str:
    value = result_lines.parse(raw)
    custom_id = value.get("custom_id") if value is not None else None
    if not isinstance(custom_id, str):
        raise ApiError(200, "a line of the input file cannot be read", garbled=True)
    return custom_id
