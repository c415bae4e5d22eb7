"""Results: output and error files read to the end, reconciled with the requests, in the order of the input.

Promises: one row for each request of the job; an answer is never lost to a cut connection, a late row, a
duplicate or a parser; what is not there is said to be missing; `complete` only when the rows add up. Of several
attempts the latest good answer wins, and a good one is never replaced by a flawed one or a failure.

A batch's rows come in order of completion, failed ones in a file of their own, cancelled ones in none; rows
may become visible late and out of order (control-layer, fusillade `postgres.rs`; dwctl `files.rs`).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from doubleword import batch_file, judgement, result_lines
from doubleword.api import Api, Content, TooSlow
from doubleword.api_error import ApiError
from doubleword.api_objects import Batch
from doubleword.bill import Usage
from doubleword.failure import Exit, Failure, plain
from doubleword.key import without_key
from doubleword.outside import Outside
from doubleword.spool import Spool
from doubleword.structured import Expected, Schemas

# A longer line is no answer; of it only the beginning is kept, which says whose it is. A line that goes on for
# ever is no line.
LONGEST_LINE = 64 * 1024 * 1024
ENDLESS_LINE = 4 * 1024 * 1024 * 1024
BEGINNING = 4096
# Rows that the counts promise and a read did not show become visible within moments (a replica, a late commit).
LATE_ROWS_WAITS_S = (1.0, 3.0, 6.0, 20.0)
FAILURES_WITHOUT_PROGRESS = 8


@dataclass(frozen=True)
class Asked:
    """The requests of one batch file: where their ids can be read, how many, and the batches that answer them.

    `path` is the local batch file, None when only the server may still have it. Batches stand oldest first.
    """

    path: Path | None
    requests: int | None
    endpoint: str
    batches: tuple[Batch, ...]


class Result(NamedTuple):
    """One request's end. `line` is the server's own line, without newline; None when there is none.

    `kind` is succeeded, failed, missing (the batch is over and has no row), or pending (it may still come). An
    answer may have `flaws` (`judgement.FLAWS`); one that is invalid has failed, and its `cause` says why.
    """

    custom_id: str
    kind: str
    line: bytes | None
    cause: str | None
    endpoint: str
    flaws: tuple[str, ...] = ()

    @property
    def status(self) -> str:
        """`kind`, but invalid for an answer that failed only because it is not what was asked for."""
        return judgement.INVALID if judgement.INVALID in self.flaws else self.kind


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


class _Row(NamedTuple):
    """Where a line stands in the spool, and what it is. The better of two rows has the higher `rank`."""

    rank: int
    cause: str | None
    flaws: tuple[str, ...]
    start: int
    length: int


FAILED, UNFIT, FLAWED, GOOD = range(4)


def _rank(cause: str | None, flaws: tuple[str, ...]) -> int:
    if judgement.INVALID in flaws:
        return UNFIT
    if cause is not None:
        return FAILED
    return FLAWED if flaws else GOOD


@dataclass
class _Shown:
    """What one read of a batch's files showed: rows by custom_id, how many lines, how many of them unreadable."""

    rows: dict[str, _Row] = field(default_factory=dict)
    lines: int = 0
    unreadable: int = 0
    usage: Usage = field(default_factory=Usage)


class Collector:
    """Reads and reconciles the results of batch files, one at a time, in memory bounded by one batch file.

    `spool` is where rows are kept on disk meanwhile; it is removed on exit. With `partial` the requests that have
    no row yet are pending; without it they are a Failure (7) where the server counts more rows than it shows.
    `schemas` says what answers have to be. With `remember`, `history` tells what became of a request each time.
    """

    def __init__(
        self,
        api: Api,
        outside: Outside,
        spool: Path,
        progress: Callable[[int], None],
        partial: bool = False,
        schemas: Schemas | None = None,
        remember: bool = False,
    ) -> None:
        self._api = api
        self._outside = outside
        self._spool = Spool(spool, outside.disk)
        self._progress = progress
        self._partial = partial
        self._schemas = schemas or Schemas(outside.disk)
        self._expected = Expected()
        self._past: dict[str, list[tuple[str, _Row]]] | None = {} if remember else None
        self.tally = Tally()
        self.usage = Usage()
        self.unreadable = 0
        self.warnings: list[str] = []

    def __enter__(self) -> Collector:
        self._spool.__enter__()
        return self

    def __exit__(self, *failed: object) -> None:
        self._spool.__exit__(*failed)

    def collect(self, asked: Asked) -> Iterator[Result]:
        """One result for each request of `asked`, in the order of its batch file; each is counted in `tally`."""
        rows: dict[str, _Row] = {}
        self._spool.clear()
        if self._past is not None:
            self._past.clear()
        self._expected = self._schemas.expected(asked.path)
        over = bool(asked.batches)
        for batch in asked.batches:
            over = self._read_batch(batch, asked.endpoint, rows) and over
        for custom_id in self._ids(asked, rows):
            result = self._result(custom_id, rows.pop(custom_id, None), over, asked)
            self.tally.add(result)
            yield result
        if rows and asked.path is not None:
            self.tally.strangers += len(rows)
            named = plain(next(iter(rows)), 64)
            self.warnings.append(f"{len(rows)} rows answer no request of this job, such as {named}; they are left out")

    def history(self, result: Result) -> list[Entry]:
        """What each batch said of the request that `result` ends, oldest first; asked while `collect` stands at it."""
        past = (self._past or {}).get(result.custom_id, [])
        if not past:
            return [Entry("", result)]
        return [Entry(batch, self._of_row(result.custom_id, row, result.endpoint)) for batch, row in past]

    def _result(self, custom_id: str, row: _Row | None, over: bool, asked: Asked) -> Result:
        if row is not None:
            return self._of_row(custom_id, row, asked.endpoint)
        if not over:
            return Result(custom_id, "pending", None, None, asked.endpoint)
        states = plain(", ".join(sorted({one.status for one in asked.batches})), 60)
        cause = "no row: it was cancelled" if "cancelled" in states else f"no row, though the batch is {states}"
        return Result(custom_id, "missing", None, cause, asked.endpoint)

    def _of_row(self, custom_id: str, row: _Row, endpoint: str) -> Result:
        kind = "succeeded" if row.rank >= FLAWED else "failed"
        return Result(custom_id, kind, self._spool.line(row.start, row.length), row.cause, endpoint, row.flaws)

    # Reading

    def _read_batch(self, batch: Batch, endpoint: str, rows: dict[str, _Row]) -> bool:
        """Read both files into `rows`; whether the batch is over and showed every row that it counts.

        While an ended batch shows fewer rows than it counts, or lines that are no rows (a gateway's page may come
        with 200), look at it again and read it again, a little later.
        """
        for wait in (*LATE_ROWS_WAITS_S, None):
            shown = _Shown()
            for file_id in (batch.output_file_id, batch.error_file_id):
                if file_id:
                    self._read_file(file_id, endpoint, shown)
            whole = shown.lines >= batch.completed + batch.failed
            if not batch.terminal or (whole and not shown.unreadable) or wait is None:
                break
            self._outside.sleep(wait)
            try:
                batch = self._api.batch(batch.id)
            except ApiError as error:
                raise error.failure("looking at the batch again") from error
        if not (batch.terminal and whole) and not self._partial:
            raise _rows_missing(batch, shown.lines)
        self.unreadable += shown.unreadable
        self.usage.include(shown.usage)
        for custom_id, row in shown.rows.items():
            if self._past is not None:
                self._past.setdefault(custom_id, []).append((batch.id, row))
            known = rows.get(custom_id)
            # A later attempt's word counts, but never against a better answer.
            if known is None or row.rank >= known.rank:
                rows[custom_id] = row
        return batch.terminal and whole

    def _read_file(self, file_id: str, endpoint: str, shown: _Shown) -> None:
        """Every line of a result file, from wherever a cut connection left off, into the spool and `shown`.

        A server that ignores where to go on sends known lines again; they are told by their id. A file that is
        not there shows nothing, as an empty one does: what it should hold, the counts tell.
        """
        seen: set[tuple[str, str]] = set()
        failures = 0
        while True:
            before = len(seen)
            try:
                self._read_stream(self._api.content(file_id, before), endpoint, shown, seen)
                break
            except ApiError as error:
                if error.status == 404:
                    break
                moved = len(seen) > before and not isinstance(error, TooSlow)
                failures = 1 if moved else failures + 1
                if failures >= FAILURES_WITHOUT_PROGRESS or not error.may_pass:
                    raise error.failure("reading results") from error
                self._outside.sleep(self._api.pause(failures, error))
        shown.lines += len(seen)

    def _read_stream(self, content: Content, endpoint: str, shown: _Shown, seen: set[tuple[str, str]]) -> None:
        """Keep the whole lines of one body; raises ApiError when it ends early."""
        for line in _lines(content, self._progress):
            if not line.ended and not line.cut and result_lines.parse(line.raw) is None:
                raise ApiError(None, "the body ended inside a line")
            self._keep(line, endpoint, shown, seen)

    def _keep(self, line: _Line, endpoint: str, shown: _Shown, seen: set[tuple[str, str]]) -> None:
        raw = line.raw
        judged = result_lines.judge(raw, endpoint)
        if judged is None:
            known = ("", hashlib.sha256(raw).hexdigest())
            shown.unreadable += known not in seen
            seen.add(known)
            return
        if judged.id and (judged.id, judged.custom_id) in seen:
            return
        seen.add((judged.id, judged.custom_id))
        cause = f"the answer's line is longer than {LONGEST_LINE:,} bytes" if line.cut else judged.cause
        flaws: tuple[str, ...] = ()
        if judged.body is not None:
            shown.usage.add(judged.body)
        if cause is None and judged.body is not None:
            flaws, cause = judgement.judged(judged.body, endpoint, self._expected.of(judged.custom_id))
        elif cause is not None:  # a refusal may repeat the key it refused
            cause = without_key(cause)
            raw = without_key(raw.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
        rank, earlier = _rank(cause, flaws), shown.rows.get(judged.custom_id)
        if earlier is None or (earlier.rank < GOOD and rank >= earlier.rank):
            shown.rows[judged.custom_id] = _Row(rank, cause, flaws, self._spool.add(raw), len(raw))

    # Whose answers

    def _ids(self, asked: Asked, rows: dict[str, _Row]) -> Iterator[str]:
        """custom_ids in input order: from the local file, else the server's copy, else in the order of the answers."""
        if asked.path is not None:
            yield from batch_file.custom_ids(asked.path, self._outside.disk)
            return
        known = self._ids_on_server(asked)
        if known is not None:
            yield from known
            return
        self.warnings.append("the input file is gone, so missing requests cannot be named and rows stand as they came")
        count = 0
        for custom_id in list(rows):
            count += 1
            yield custom_id
        for number in range(count, asked.requests or 0):
            yield f"(unknown request {number + 1})"

    def _ids_on_server(self, asked: Asked) -> list[str] | None:
        """The ids in the server's copy of the first batch's input file; None when it is gone or not whole."""
        file_id = asked.batches[0].input_file_id if asked.batches else ""
        if not file_id:
            return None

        def attempt() -> list[str]:
            ids = [_id_of(line.raw) for line in _lines(self._api.content(file_id), lambda _: None)]
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


class _Line(NamedTuple):
    """A line that is not blank, without white space around it; `cut` when only its beginning was kept.

    `ended` is False for a last line that no newline ends.
    """

    raw: bytes
    cut: bool = False
    ended: bool = True


def _lines(content: Content, progress: Callable[[int], None]) -> Iterator[_Line]:
    """The lines of a body, in bounded memory. Lines end at the byte \\n only, whatever Unicode thinks of others."""
    rest: list[bytes] = []
    length = 0
    for block in content.blocks():
        progress(len(block))
        first, *others = block.split(b"\n")
        length += len(first)
        if length <= LONGEST_LINE:
            rest.append(first)
        elif len(rest) > 1 or len(rest[0]) > BEGINNING:
            rest = [b"".join(rest)[:BEGINNING]]
        if length > ENDLESS_LINE:
            raise ApiError(200, "a result line has no end", lasting=True)
        if others:
            if whole := b"".join(rest).strip():
                yield _Line(whole, length > LONGEST_LINE)
            *lines, tail = others
            for line in lines:
                if whole := line.strip():
                    yield _Line(whole)
            rest, length = [tail], len(tail)
    if whole := b"".join(rest).strip():
        yield _Line(whole, length > LONGEST_LINE, ended=False)


def _rows_missing(batch: Batch, shown: int) -> Failure:
    """Rows that the server counts are neither failed nor missing: to ask for them again would pay them twice."""
    name, counted = plain(batch.id, 60), batch.completed + batch.failed
    message = f"the server counts {counted} results of the batch {name} and shows {shown}; nothing was written"
    hint = "run the same command again later; fetch_results.py --partial takes what is there"
    return Failure(Exit.NOT_FINISHED, "rows_missing", message, hint)


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
