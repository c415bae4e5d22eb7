"""Results: output and error files reconciled with the requests, in the order of the input.

Promises: one row for each request of the job; what is not there is said to be missing; `complete` only when the
rows add up. Of several attempts the latest good answer wins, and a good one is never replaced by a flawed one or a
failure.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from doubleword.batch_files import batch_file
from doubleword.failure import plain
from doubleword.pricing.bill import Usage
from doubleword.results import judgement
from doubleword.results import lines as result_lines
from doubleword.results.reading import (
    FLAWED,
    GOOD,
    LENGTH,
    Asked,
    Block,
    Good,
    Packs,
    Reader,
    Reading,
    Result,
    Row,
    lines_of,
)
from doubleword.results.spool import Spool
from doubleword.results.structured import Schemas
from doubleword.server.api import Api
from doubleword.server.errors import ApiError
from doubleword.system import System

# So many requests make it worth a process of its own that reads one batch file while the rows of another are written;
# so many of them may read ahead at once.
WORTH_READING_AHEAD = 5000
AHEAD = 2


# Answers are handed out many at once, of about so many bytes.
RUN_BYTES = 1 << 20
RUN_ROWS = 1024


class Entry(NamedTuple):
    """What one batch said of a request, for the history."""

    batch: str
    result: Result


@dataclass
class Tally:
    """What was counted, row by row.

    `failures` counts causes, `examples` holds a result for each; `flaws` counts flawed answers, `flawed` holds the
    custom_id of one of each. An answer with two flaws counts under both.
    """

    succeeded: int = 0
    failed: int = 0
    missing: int = 0
    pending: int = 0
    strangers: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    examples: dict[str, Result] = field(default_factory=dict)
    flaws: Counter[str] = field(default_factory=Counter)
    flawed: dict[str, str] = field(default_factory=dict)

    def add(self, result: Result) -> None:
        """Count one request."""
        if result.kind == "succeeded" and not result.flaws:
            self.succeeded += 1
            return
        setattr(self, result.kind, getattr(self, result.kind) + 1)
        if result.kind in ("failed", "missing"):
            cause = result.cause or "no explanation was given"
            self.failures[cause] += 1
            self.examples.setdefault(cause, result._replace(line=None))
        for flaw in result.flaws:
            self.flaws[flaw] += 1
            self.flawed.setdefault(flaw, result.custom_id)

    @property
    def total(self) -> int:
        """All requests that were asked, whatever became of them."""
        return self.succeeded + self.failed + self.missing + self.pending

    def causes(self) -> list[tuple[str, int, Result]]:
        """Causes of failure, most frequent first: the cause, how often, and a result as an example."""
        return [(cause, count, self.examples[cause]) for cause, count in self.failures.most_common(10)]


class Collector:
    """Reads and reconciles the results of batch files, in memory bounded by a batch file or two.

    `spool` is where rows are kept on disk meanwhile; it is removed on exit. With `partial` the requests that have
    no row yet are pending; without it they are a Failure (7) where the server counts more rows than it shows.
    `schemas` says what answers have to be. With `remember`, `history` tells what became of a request each time.
    `packs` says what is kept of an answer where its line is not needed.
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
        packs: Packs | None = None,
    ) -> None:
        self._api = api
        self._system = system
        self._spool = spool
        self._spools: dict[int, Spool] = {}
        self._held = contextlib.ExitStack()
        self._packed = packs is not None and not remember
        self._remember = remember
        self._schemas = schemas or Schemas(system.disk)
        self._progress = progress
        self._reader = Reader(api, system, progress, partial, packs if self._packed else None, remember)
        self._reading: Reading | None = None
        self.tally = Tally()
        self.usage = Usage()
        self.unreadable = 0
        self.warnings: list[str] = []

    def __enter__(self) -> Collector:
        self._spool_of(0)
        return self

    def __exit__(self, *failed: object) -> None:
        self._held.close()

    def collect(self, every: Sequence[Asked]) -> Iterator[Result]:
        """One result for each request of each batch file, in their order; each is counted in `tally`."""
        for found in self.collect_runs(every):
            if isinstance(found, Good):
                yield from found.results()
            else:
                yield found

    def collect_runs(self, every: Sequence[Asked]) -> Iterator[Result | Good]:
        """As `collect`, with good answers that follow each other taken together.

        While the results of one file are taken, other processes read those of the next, where that is worth it; what
        they do not bring is read here, and here its failure is told.
        """
        following = iter(enumerate(every))
        begun = collections.deque[tuple[Callable[[], Any] | None, Callable[[], None]]]()
        with contextlib.ExitStack() as others:

            def begin() -> None:
                for number, asked in itertools.islice(following, AHEAD - len(begun)):
                    process = others.enter_context(contextlib.ExitStack())
                    worth = len(every) > 1 and (asked.requests or 0) >= WORTH_READING_AHEAD
                    begun.append((process.enter_context(self._beside(asked, number)) if worth else None, process.close))

            begin()
            for number, asked in enumerate(every):
                told, end = begun.popleft()
                found = told() if told is not None else None
                end()
                begin()
                yield from self._taken(asked, self._reading_of(asked, number, found))

    def _reading_of(self, asked: Asked, number: int, found: Any) -> Reading:
        """What another process `found`, or, where that is None, what is read here."""
        spool = self._spool_of(number)
        if found is None:
            return self._reader.read(asked, self._schemas.expected(asked.path), spool)
        received, told = found
        self._progress(received)
        return Reading.of(told, spool)

    def _spool_of(self, number: int) -> Spool:
        """Where the rows of file `number` are kept; no two that are read at once share one."""
        place = number % (AHEAD + 1)
        if place not in self._spools:
            spool = Spool(self._spool.with_name(f"{self._spool.name}{place or ''}"), self._system.disk)
            self._spools[place] = self._held.enter_context(spool)
        return self._spools[place]

    @contextlib.contextmanager
    def _beside(self, asked: Asked, number: int) -> Iterator[Callable[[], Any] | None]:
        """Read the batches of file `number` in a process of its own, over its own connections, where that can be."""
        # On macOS a process that was split off may not look for proxies, which the first call does.
        if self._remember or sys.platform == "darwin":
            yield None
            return
        self._spool_of(number)  # made here, it is there for both

        def read_ahead() -> tuple[Any, ...]:
            self._api.disconnect()
            received: list[int] = []
            self._reader.progress = received.append
            reading = self._reading_of(asked, number, None)
            reading.blocks = list(self._in_order(asked, reading))
            return sum(received), reading.told()

        with self._system.disk.beside(read_ahead) as told:
            yield told

    def _taken(self, asked: Asked, reading: Reading) -> Iterator[Result | Good]:
        self._reading = reading
        for custom_ids, rows in reading.blocks or self._in_order(asked, reading):
            for start, end in _runs(rows):
                results = self._good if isinstance(rows[start], int) else self._others
                yield from results(custom_ids[start:end], rows[start:end], reading, asked)
        self.unreadable += reading.unreadable
        self.usage.include(reading.usage)
        self.tally.strangers += reading.strangers
        self.warnings += reading.warnings

    def _in_order(self, asked: Asked, reading: Reading) -> Iterator[Block]:
        """The rows in the order of the requests, taken out of `reading`; what is left in the end are strangers."""
        rows = reading.rows
        for ids in self._ids(asked, reading):
            for start in range(0, len(ids), RUN_ROWS):
                custom_ids = ids[start : start + RUN_ROWS]
                yield custom_ids, list(map(rows.pop, custom_ids, itertools.repeat(None)))
        if rows and asked.path is not None:
            reading.strangers = len(rows)
            named = plain(next(iter(rows)), 64)
            said = f"{len(rows)} rows answer no request of this job, such as {named}; they are left out"
            reading.warnings.append(said)

    def _good(self, custom_ids: Sequence[str], places: Sequence[Any], reading: Reading, asked: Asked) -> Iterator[Good]:
        """Good answers, no more at once than fit into `RUN_BYTES`."""
        at_once = max(1, RUN_BYTES // (1 + max(place & LENGTH for place in places)))
        for start in range(0, len(places), at_once):
            kept = reading.kept(places[start : start + at_once])
            self.tally.succeeded += len(kept)
            yield Good(custom_ids[start : start + at_once], kept, asked.endpoint, self._packed)

    def _others(
        self, custom_ids: Sequence[str], rows: Sequence[Row | None], reading: Reading, asked: Asked
    ) -> Iterator[Result]:
        for custom_id, row in zip(custom_ids, rows, strict=True):
            result = self._result(custom_id, row, reading, asked)
            self.tally.add(result)
            yield result

    def history(self, result: Result) -> list[Entry]:
        """What each batch said of the request that `result` ends, oldest first; asked while `collect` stands at it."""
        reading = self._reading
        past = reading.past.get(result.custom_id, []) if reading is not None else []
        if reading is None or not past:
            return [Entry("", result)]
        return [Entry(batch, self._of_row(result.custom_id, row, reading, result.endpoint)) for batch, row in past]

    def _result(self, custom_id: str, row: Row | None, reading: Reading, asked: Asked) -> Result:
        if row is not None:
            return self._of_row(custom_id, row, reading, asked.endpoint)
        if not reading.over:
            return Result(custom_id, "pending", None, None, asked.endpoint)
        states = plain(", ".join(sorted({one.status for one in asked.batches})), 60)
        cause = "no row: it was cancelled" if "cancelled" in states else f"no row, though the batch is {states}"
        return Result(custom_id, "missing", None, cause, asked.endpoint)

    def _of_row(self, custom_id: str, row: Row, reading: Reading, endpoint: str) -> Result:
        rank, cause, flaws, place = (GOOD, None, (), row) if isinstance(row, int) else row
        (kept,) = reading.kept([place])
        if rank < FLAWED:
            return Result(custom_id, "failed", kept, cause, endpoint, flaws)
        if self._packed:
            return Result(custom_id, "succeeded", None, cause, endpoint, flaws, None, kept)
        return Result(custom_id, "succeeded", kept, cause, endpoint, flaws)

    # Whose answers

    def _ids(self, asked: Asked, reading: Reading) -> Iterator[Sequence[str]]:
        """custom_ids in input order: from the local file, else the server's copy, else in the order of the answers."""
        if asked.path is not None:
            yield from batch_file.custom_id_blocks(asked.path, self._system.disk)
            return
        known = self._ids_on_server(asked)
        if known is not None:
            yield known
            return
        said = "the input file is gone, so missing requests cannot be named and rows stand as they came"
        reading.warnings.append(said)
        came = list(reading.rows)
        yield came
        yield [f"(unknown request {number + 1})" for number in range(len(came), asked.requests or 0)]

    def _ids_on_server(self, asked: Asked) -> list[str] | None:
        """The ids in the server's copy of the first batch's input file; None when it is gone or not whole."""
        file_id = asked.batches[0].input_file_id if asked.batches else ""
        if not file_id:
            return None

        def attempt() -> list[str]:
            every = lines_of(self._api.content(file_id), lambda _: None)
            ids = [_id_of(raw) for lines in every for raw in lines.raws if raw.strip()]
            if asked.requests and len(ids) < asked.requests:
                raise ApiError(200, "the input file came short", garbled=True)
            return ids

        try:
            ids: list[str] = self._api.patiently(attempt)
        except ApiError as error:
            if error.garbled or error.status in (400, 404, 410):
                return None
            raise error.failure("reading the input file") from error  # it is there, and can be read another time
        return ids


def _runs(rows: Sequence[Row | None]) -> Iterator[tuple[int, int]]:
    """Where runs of good answers, and of others, begin and end."""
    if set(map(type, rows)) == {int}:
        yield 0, len(rows)
        return
    start = 0
    for _, part in itertools.groupby(rows, lambda row: isinstance(row, int)):
        end = start + sum(1 for _ in part)
        yield start, end
        start = end


def _id_of(raw: bytes) -> str:
    value = result_lines.parse(raw)
    custom_id = value.get("custom_id") if value is not None else None
    if not isinstance(custom_id, str):
        raise ApiError(200, "a line of the input file cannot be read", garbled=True)
    return custom_id


def error_line(result: Result) -> bytes:
    """The line of a failed or missing request for the errors file: the server's own, or one in the same form.

    An invalid answer was paid for, so its line stands there whole, with the error added that it is.
    """
    value = result_lines.parse(result.line) if result.line is not None else None
    if judgement.INVALID in result.flaws and value is not None:
        return json.dumps({**value, "error": {"code": "invalid_answer", "message": result.cause}}).encode()
    if result.line is not None and value is not None:
        return result.line
    error = {"code": result.kind, "message": result.cause}
    return json.dumps({"id": None, "custom_id": result.custom_id, "response": None, "error": error}).encode()
