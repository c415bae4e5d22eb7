"""Result files read to the end: every row of a job's batches kept on disk, and judged, as it comes.

Promises: a row is never lost to a cut connection, a duplicate, a late commit or a parser; of several rows for one
request the better one stays, and among equals the later; what a server counts and does not show is an error.

A batch's rows come in order of completion, failed ones in a file of their own, cancelled ones in none; rows
may become visible late and out of order (control-layer, fusillade `postgres.rs`; dwctl `files.rs`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from doubleword.failure import Exit, Failure, plain
from doubleword.pricing.bill import Usage
from doubleword.request_lines.line import CHAT
from doubleword.results import judgement
from doubleword.results import lines as result_lines
from doubleword.results.spool import Spool
from doubleword.results.structured import Expected
from doubleword.results.usual_answers import UsualAnswers, UsualLines, usual
from doubleword.server.api import Api
from doubleword.server.errors import ApiError
from doubleword.server.key import without_key
from doubleword.server.objects import Batch
from doubleword.server.transfers import Content, TooSlow
from doubleword.system import System

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
    answer may have `flaws` (`judgement.FLAWS`); one that is invalid has failed, and its `cause` says why. `body` is
    the answer where it was just read. `packed` takes the place of the line where that is not needed any more.
    """

    custom_id: str
    kind: str
    line: bytes | None
    cause: str | None
    endpoint: str
    flaws: tuple[str, ...] = ()
    body: dict[str, Any] | None = None
    packed: bytes | None = None

    @property
    def status(self) -> str:
        """`kind`, but invalid for an answer that failed only because it is not what was asked for."""
        return judgement.INVALID if judgement.INVALID in self.flaws else self.kind


class Good(NamedTuple):
    """Requests in a row whose answers have no flaw, and what is kept of each: its line, or what was packed of it."""

    custom_ids: Sequence[str]
    kept: Sequence[bytes]
    endpoint: str
    packed: bool

    def results(self) -> Iterator[Result]:
        """The result of each."""
        for custom_id, kept in zip(self.custom_ids, self.kept, strict=True):
            line, packed = (None, kept) if self.packed else (kept, None)
            yield Result(custom_id, "succeeded", line, None, self.endpoint, (), None, packed)


class Flawed(NamedTuple):
    """A row that is not a good answer, why not, and its place in the spool."""

    rank: int
    cause: str | None
    flaws: tuple[str, ...]
    place: int


# A row. Of a good answer, as nearly all are, it is only the place in the spool: its start and, in 32 bits, its length.
Row = Flawed | int
# custom_ids in the order of the requests, and the row of each, None where there is none.
Block = tuple[Sequence[str], Sequence[Row | None]]
FAILED, UNFIT, FLAWED, GOOD = range(4)
LENGTH_BITS = 32
LENGTH = (1 << LENGTH_BITS) - 1
# Rows of no more than this are read from the spool together, and handed out from there.
SMALL_SPOOL = 1 << 24


def _plain(row: Row | None) -> int | tuple[Any, ...] | None:
    return tuple(row) if isinstance(row, Flawed) else row


def rank_of_row(row: Row) -> int:
    """The better of two rows for a request has the higher rank."""
    return GOOD if isinstance(row, int) else row.rank


def rank_of(cause: str | None, flaws: tuple[str, ...]) -> int:
    if judgement.INVALID in flaws:
        return UNFIT
    if cause is not None:
        return FAILED
    return FLAWED if flaws else GOOD


class Packs(Protocol):
    """What keeps less of an answer than its line: as many bytes as its table needs when the answer's turn comes."""

    def pack(self, result: Result, /) -> bytes:
        """What is kept of any answer."""

    def pack_usual(self, answers: UsualAnswers, /) -> list[bytes]:
        """The same of each of many usual ones."""


@dataclass
class Reading:
    """What the batches of one batch file showed: `rows` by custom_id, with `past` all of them by batch, and their bytes
    in `spool`, of which there are `size`.

    `over` says that no row can come any more. `blocks` has the rows in the order of the requests, if they were taken
    out of `rows`. `unreadable` counts lines that do not say whose they are, `strangers` rows that answer no request.
    """

    spool: Spool
    rows: dict[str, Row] = field(default_factory=dict)
    past: dict[str, list[tuple[str, Row]]] = field(default_factory=dict)
    over: bool = True
    unreadable: int = 0
    usage: Usage = field(default_factory=Usage)
    blocks: list[Block] = field(default_factory=list)
    strangers: int = 0
    size: int = 0
    warnings: list[str] = field(default_factory=list)
    _whole: bytes | None = None

    def kept(self, places: Sequence[int]) -> list[bytes]:
        """What the spool has at each of `places`."""
        if self._whole is None:
            self._whole = self.spool.line(0, self.size) if self.size <= SMALL_SPOOL else b""
        whole, line = self._whole, self.spool.line
        if whole:
            return [whole[(start := place >> LENGTH_BITS) : start + (place & LENGTH)] for place in places]
        return [line(place >> LENGTH_BITS, place & LENGTH) for place in places]

    def told(self) -> tuple[Any, ...]:
        """What `blocks` and counts say, in plain values, for another process that has the spool too."""
        blocks = [
            (list(ids), list(rows) if set(map(type, rows)) == {int} else list(map(_plain, rows)))
            for ids, rows in self.blocks
        ]
        counts = (self.over, self.unreadable, self.strangers, self.size, self.warnings)
        return blocks, self.usage.models, self.usage.unknown, counts

    @classmethod
    def of(cls, told: tuple[Any, ...], spool: Spool) -> Reading:
        """The reading that another process told of."""
        blocks, models, unknown, (over, unreadable, strangers, size, warnings) = told
        for _, rows in blocks:
            if tuple in map(type, rows):
                rows[:] = [Flawed._make(row) if type(row) is tuple else row for row in rows]
        return cls(spool, {}, {}, over, unreadable, Usage(models, unknown), blocks, strangers, size, warnings)


@dataclass
class _Shown:
    """What one read of a batch's files showed: rows by custom_id, how many lines, how many of them unreadable."""

    rows: dict[str, Row] = field(default_factory=dict)
    lines: int = 0
    unreadable: int = 0
    usage: Usage = field(default_factory=Usage)


class Reader:
    """Reads the batches of batch files into spools.

    With `partial` rows may be missing; without it they are a Failure (7) where the server counts more than it shows.
    `packs` says what is kept of an answer instead of its line. With `remember` every batch's rows are kept.
    """

    def __init__(
        self,
        api: Api,
        system: System,
        progress: Callable[[int], None],
        partial: bool,
        packs: Packs | None,
        remember: bool,
    ) -> None:
        self._api = api
        self._system = system
        self.progress = progress
        self._partial = partial
        self._packs = packs
        self._remember = remember

    def read(self, asked: Asked, expected: Expected, spool: Spool) -> Reading:
        """Every row of the batches of `asked`, whose answers have to be as `expected`, in `spool`."""
        spool.clear()
        reading = Reading(spool, over=bool(asked.batches))
        into = _Into(spool, asked.endpoint, expected, self._packs)
        for batch in asked.batches:
            reading.over = self._read_batch(batch, into, reading) and reading.over
        reading.size = spool.settle()
        return reading

    def _read_batch(self, batch: Batch, into: _Into, reading: Reading) -> bool:
        """Read both files into `reading`; whether the batch is over and showed every row that it counts.

        While an ended batch shows fewer rows than it counts, or lines that are no rows (a gateway's page may come
        with 200), look at it again and read it again, a little later.
        """
        for wait in (*LATE_ROWS_WAITS_S, None):
            shown = _Shown()
            for file_id in (batch.output_file_id, batch.error_file_id):
                if file_id:
                    self._read_file(file_id, into, shown)
            whole = shown.lines >= batch.completed + batch.failed
            if not batch.terminal or (whole and not shown.unreadable) or wait is None:
                break
            self._system.sleep(wait)
            try:
                batch = self._api.batch(batch.id)
            except ApiError as error:
                raise error.failure("looking at the batch again") from error
        if not (batch.terminal and whole) and not self._partial:
            raise _rows_missing(batch, shown.lines)
        reading.unreadable += shown.unreadable
        reading.usage.include(shown.usage)
        if not reading.rows and not self._remember:
            reading.rows = shown.rows
        for custom_id, row in shown.rows.items() if reading.rows is not shown.rows else ():
            if self._remember:
                reading.past.setdefault(custom_id, []).append((batch.id, row))
            known = reading.rows.get(custom_id)
            # A later attempt's word counts, but never against a better answer.
            if known is None or rank_of_row(row) >= rank_of_row(known):
                reading.rows[custom_id] = row
        return batch.terminal and whole

    def _read_file(self, file_id: str, into: _Into, shown: _Shown) -> None:
        """Every line of a result file, from wherever a cut connection left off, into the spool and `shown`.

        A server that ignores where to go on sends known lines again; they are told by their id. A file that is
        not there shows nothing, as an empty one does: what it should hold, the counts tell.
        """
        seen: set[tuple[str, str]] = set()
        failures = 0
        while True:
            before = len(seen)
            try:
                self._read_stream(self._api.content(file_id, before), into, shown, seen)
                break
            except ApiError as error:
                if error.status == 404:
                    break
                moved = len(seen) > before and not isinstance(error, TooSlow)
                failures = 1 if moved else failures + 1
                if failures >= FAILURES_WITHOUT_PROGRESS or not error.may_pass:
                    raise error.failure("reading results") from error
                self._system.sleep(self._api.pause(failures, error))
        shown.lines += len(seen)

    def _read_stream(self, content: Content, into: _Into, shown: _Shown, seen: set[tuple[str, str]]) -> None:
        """Keep the whole lines of one body; raises ApiError when it ends early."""
        for lines in lines_of(content, self.progress):
            if not lines.ended and not lines.cut and result_lines.parse(lines.raws[-1]) is None:
                raise ApiError(None, "the body ended inside a line")
            into.keep(lines, shown, seen)


class _Into:
    """Where the rows of one batch file go."""

    def __init__(self, spool: Spool, endpoint: str, expected: Expected, packs: Packs | None) -> None:
        self._spool = spool
        self._endpoint = endpoint
        self._expected = expected
        self._packs = packs
        self._lines = UsualLines() if endpoint == CHAT and expected.nothing else None

    def keep(self, lines: Lines, shown: _Shown, seen: set[tuple[str, str]]) -> None:
        """Judge each of `lines` and keep it, if it is new and no better one is there."""
        runs = [(lines.raws, None)] if self._lines is None or lines.cut else self._lines.runs(lines.raws)
        for raws, answers in runs:
            if answers is None or not self._keep_usual(raws, answers, shown, seen):
                for raw in filter(None, map(bytes.strip, raws)):
                    self._keep_one(raw, lines.cut, shown, seen)

    def _keep_one(self, raw: bytes, cut: bool, shown: _Shown, seen: set[tuple[str, str]]) -> None:
        value = result_lines.parse(raw)
        if self._lines is not None and not cut and (answer := usual(value)) is not None:
            if self._lines.learning:
                self._lines.learn(raw)
            if self._keep_usual([raw], UsualAnswers.of(answer), shown, seen):
                return
        judged = result_lines.judge_read(raw, value, self._endpoint)
        if judged is None:
            known = ("", hashlib.sha256(raw).hexdigest())
            shown.unreadable += known not in seen
            seen.add(known)
            return
        identity = (judged.id, judged.custom_id)
        if judged.id and identity in seen:
            return
        seen.add(identity)
        cause = f"the answer's line is longer than {LONGEST_LINE:,} bytes" if cut else judged.cause
        flaws: tuple[str, ...] = ()
        body = judged.body
        if body is not None:
            shown.usage.add(body)
        if cause is None and body is not None:
            flaws, cause = judgement.judged(body, self._endpoint, self._expected.of(judged.custom_id))
        elif cause is not None:  # a refusal may repeat the key it refused
            cause = without_key(cause)
            raw = without_key(raw.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
        rank, earlier = rank_of(cause, flaws), shown.rows.get(judged.custom_id)
        if earlier is None or (not isinstance(earlier, int) and rank >= earlier.rank):
            if self._packs is not None and rank >= FLAWED:
                raw = self._packs.pack(Result(judged.custom_id, "succeeded", raw, cause, self._endpoint, flaws, body))
            place = self._spool.add(raw) << LENGTH_BITS | len(raw)
            shown.rows[judged.custom_id] = place if rank == GOOD else Flawed(rank, cause, flaws, place)

    def _keep_usual(
        self, raws: Sequence[bytes], answers: UsualAnswers, shown: _Shown, seen: set[tuple[str, str]]
    ) -> bool:
        """As `_keep_one` does of each, which have no flaw; False, and nothing done, where one was there already."""
        custom_ids = answers.custom_ids
        # Every line that was seen has left a row, so one without is new; the rest is told apart one by one.
        if len(set(custom_ids)) < len(raws) or not shown.rows.keys().isdisjoint(custom_ids):
            return False
        seen.update(zip(answers.ids, custom_ids, strict=True))
        shown.usage.count(answers.model, sum(map(int, answers.prompt_tokens)), sum(map(int, answers.completion_tokens)))
        kept = self._packs.pack_usual(answers) if self._packs is not None else raws
        places = [start << LENGTH_BITS | len(one) for start, one in zip(self._spool.add_all(kept), kept, strict=True)]
        shown.rows.update(zip(custom_ids, places, strict=True))
        return True


class Lines(NamedTuple):
    """Lines without their line feeds, some of them blank; `cut` when only the beginning of one was kept.

    `ended` is False for a last line that no newline ends.
    """

    raws: list[bytes]
    cut: bool = False
    ended: bool = True


def lines_of(content: Content, progress: Callable[[int], None]) -> Iterator[Lines]:
    """The lines of a body, as they come, in bounded memory. Lines end at the byte \\n only, whatever Unicode thinks."""
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
            first, cut = b"".join(rest), length > LONGEST_LINE
            if cut:
                yield Lines([first], cut)
            *lines, tail = others
            yield Lines(lines if cut else [first, *lines])
            rest, length = [tail], len(tail)
    if last := b"".join(rest).strip():
        yield Lines([last], length > LONGEST_LINE, ended=False)


def _rows_missing(batch: Batch, shown: int) -> Failure:
    """Rows that the server counts are neither failed nor missing: to ask for them again would pay them twice."""
    name, counted = plain(batch.id, 60), batch.completed + batch.failed
    message = f"the server counts {counted} results of the batch {name} and shows {shown}; nothing was written"
    hint = "run the same command again later; fetch_results.py --partial takes what is there"
    return Failure(Exit.NOT_FINISHED, "rows_missing", message, hint)
