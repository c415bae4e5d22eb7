"""Result files read to the end: every row of a job's batches judged, and kept on disk, as it comes.

Promises: a row is never lost to a cut connection, a duplicate, a late commit or a parser; of several rows for one
request the better one stays, and among equals the later; what a server counts and does not show is an error.

A batch's rows come in order of completion, failed ones in a file of their own, cancelled ones in none; rows
may become visible late and out of order (control-layer, fusillade `postgres.rs`; dwctl `files.rs`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import NamedTuple

from doubleword.answers import judgement
from doubleword.answers import lines as result_lines
from doubleword.answers import usage as usage_of
from doubleword.answers.judgement import LOOKED_AT, Remarks
from doubleword.answers.usual import usual
from doubleword.failure import Exit, Failure, plain
from doubleword.pricing.bill import Usage
from doubleword.quick_msgspec import Struct, field
from doubleword.results.expected import Expected
from doubleword.results.result import Pack, Result
from doubleword.results.spool import Spool
from doubleword.server.api import Api, results_deleted
from doubleword.server.errors import ApiError
from doubleword.server.key import without_key
from doubleword.server.objects import Asked, Batch
from doubleword.server.transfers import LONGEST_LINE, Lines, TooSlow, lines_of
from doubleword.service import CHAT, EMBEDDINGS
from doubleword.system import System

# Rows that the counts promise and a read did not show become visible within moments (a replica, a late commit).
LATE_ROWS_WAITS_S = (1.0, 3.0, 6.0, 20.0)
NAMED_BY_S = 3600.0  # a result file that is not named so long after the end will not be
FAILURES_WITHOUT_PROGRESS = 8

FAILED, UNFIT, FLAWED, GOOD = range(4)
ANOTHER = "came beside another one to the same request, of which the better is given, else the later"


class Flawed(NamedTuple):
    """A row of a result file that is not a good answer: how good it is, why not better, and its place in the spool."""

    rank: int
    cause: str | None
    flaws: tuple[str, ...]
    place: int


# A row. Of a good answer, as nearly all are, it is only the place in the spool.
Row = Flawed | int


def rank_of(row: Row) -> int:
    return GOOD if isinstance(row, int) else row.rank


class Reading(Struct):
    """What the batches of one batch file showed: the best row for each custom_id, with `past` all of them by batch.

    `over` says that no row can come any more. `several` has all rows of ids that stand in more than one request.
    `gone` names the result files that the server has deleted, `output` and `error`.
    """

    rows: dict[str, Row] = field(default_factory=dict)
    past: dict[str, list[tuple[str, Row]]] = field(default_factory=dict)
    several: dict[str, list[Row]] = field(default_factory=dict)
    over: bool = True
    gone: set[str] = field(default_factory=set)


class _Shown(Struct):
    """What one read of a batch's files showed."""

    rows: dict[str, Row] = field(default_factory=dict)
    several: dict[str, list[Row]] = field(default_factory=dict)
    lines: int = 0
    gone: set[str] = field(default_factory=set)
    usage: Usage = field(default_factory=Usage)
    remarks: Remarks = field(default_factory=Remarks)


class Reader(Struct):
    """Reads the batches of one batch file after the other into a spool.

    With `partial` rows may be missing; without it they are a Failure (7) where the server counts more than it shows.
    `pack` says what is kept of an answer instead of its line. With `remember` every batch's rows are kept, and lines,
    too. Vectors are not packed, since a line may have to be told of them in the end. `usage` has the tokens of each
    batch, `remarks` what is to be said of all answers.
    """

    api: Api
    system: System
    spool: Spool
    progress: Callable[[int], None]
    partial: bool
    pack: Pack | None
    remember: bool
    usage: dict[str, Usage] = field(default_factory=dict)
    remarks: Remarks = field(default_factory=Remarks)

    def read(self, asked: Asked, expected: Expected, repeated: frozenset[str] = frozenset()) -> Reading:
        """Every row of the batches of `asked`, whose answers have to be as `expected`, with its bytes in the spool.

        `repeated` are ids of more than one request, of which all rows are kept.
        """
        self.spool.clear()
        reading = Reading(over=bool(asked.batches))
        pack = self.pack if asked.endpoint != EMBEDDINGS else None
        may_be_usual = asked.endpoint == CHAT and expected.nothing and not repeated and not self.remember
        into = _Into(self.spool, asked.endpoint, expected, pack, repeated, self.remember, may_be_usual)
        for batch in asked.batches:
            reading.over = self._read_batch(batch, into, reading) and reading.over
        self.spool.settle()
        return reading

    def _read_batch(self, batch: Batch, into: _Into, reading: Reading) -> bool:
        """Read both files into `reading`; whether the batch is over and showed every row that it counts.

        While an ended batch shows fewer rows or answers than it counts, or lines that are no rows (a gateway's page may
        come with 200), look at it again and read it again, a little later.
        """
        for wait in (*LATE_ROWS_WAITS_S, None):
            shown, old = _Shown(), False
            files = ("output", batch.output_file_id, batch.completed), ("error", batch.error_file_id, batch.failed)
            for kind, file_id, rows in files:
                # The server forgets the id of a file that it has deleted (fusillade postgres.rs).
                forgotten = rows and not file_id and self._is_forgotten(batch, kind)
                if forgotten if not file_id else not self._read_file(file_id, into, shown):
                    shown.gone.add(kind)
                # A replica may show failures that a retry has mended, as many rows as are counted all the same.
                old = old or (kind == "output" and shown.lines < rows)
            whole = shown.lines >= batch.completed + batch.failed
            if not batch.terminal or (whole and not old and not shown.remarks.unreadable) or wait is None:
                break
            self.system.sleep(wait)
            try:
                batch = self.api.batch(batch.id)
            except ApiError as error:
                raise error.failure("looking at the batch again") from error
        over = batch.terminal and (whole or bool(shown.gone))
        if not over and not self.partial:
            raise _rows_missing(batch, shown.lines)
        reading.gone |= set() if whole else shown.gone
        self.usage[batch.id] = shown.usage
        self.remarks.include(shown.remarks)
        reading.several.update(shown.several)
        if not reading.rows and not self.remember:  # a first attempt, which is most of what is read
            reading.rows = shown.rows
            return over
        for custom_id, row in shown.rows.items():
            if self.remember:
                reading.past.setdefault(custom_id, []).append((batch.id, row))
            known = reading.rows.get(custom_id)
            # A later attempt's word counts, but never against a better answer.
            if known is None or rank_of(row) >= rank_of(known):
                reading.rows[custom_id] = row
        return over

    def _is_forgotten(self, batch: Batch, kind: str) -> bool:
        """Whether a result file that is not named was deleted: it is long since the end, or the server says so."""
        if batch.ended_at and self.system.now() - batch.ended_at > NAMED_BY_S:
            return True
        return batch.terminal and results_deleted(self.api, batch.id, failed=kind == "error")

    def _read_file(self, file_id: str, into: _Into, shown: _Shown) -> bool:
        """Every line of a result file, from wherever a cut connection left off, into the spool and `shown`.

        A server that ignores where to go on sends known lines again; they are told by their id. False where the file is
        not there: whether it held anything, the counts tell.
        """
        seen: set[tuple[str, str]] = set()
        failures = 0
        while True:
            before = len(seen)
            try:
                for lines in lines_of(self.api.content(file_id, before), self.progress):
                    if not lines.ended and not lines.cut and result_lines.parse(lines.raws[-1]) is None:
                        raise ApiError(None, "the body ended inside a line")
                    into.keep(lines, shown, seen)
                break
            except ApiError as error:
                if error.gone:
                    shown.lines += len(seen)
                    return False
                moved = len(seen) > before and not isinstance(error, TooSlow)
                failures = 1 if moved else failures + 1
                if failures >= FAILURES_WITHOUT_PROGRESS or not error.may_pass:
                    raise error.failure("reading results") from error
                self.system.sleep(self.api.pause(failures, error))
        shown.lines += len(seen)
        return True


class _Into(Struct):
    """Where the rows of one batch file go; those that `may_be_usual` are looked at for that first."""

    spool: Spool
    endpoint: str
    expected: Expected
    pack: Pack | None
    repeated: frozenset[str]
    remember: bool
    may_be_usual: bool

    def keep(self, lines: Lines, shown: _Shown, seen: set[tuple[str, str]]) -> None:
        """Judge lines, and keep each that is new and has no better one."""
        if not self.may_be_usual or lines.cut:
            for raw in filter(None, map(bytes.strip, lines.raws)):
                self._keep_judged(raw, lines.cut, shown, seen)
            return
        add, rows = self.spool.add, shown.rows
        pack = self.pack.pack_usual if self.pack is not None else None
        model, answers, prompt, completion, cached, reasoning = "", 0, 0, 0, 0, 0
        compare = shown.remarks.compared < LOOKED_AT
        for raw in lines.raws:
            found = usual(raw)
            if found is None or found.custom_id in rows or not found.id:
                if raw := raw.strip():
                    self._keep_judged(raw, False, shown, seen)
                continue
            seen.add((found.id, found.custom_id))
            body = found.response.body
            if body.model != model:
                shown.usage.count(model, answers, prompt, completion, cached, reasoning)
                model, answers, prompt, completion, cached, reasoning = body.model, 0, 0, 0, 0, 0
            tokens = body.usage
            answers += 1
            prompt += tokens.prompt_tokens
            completion += tokens.completion_tokens
            if tokens.prompt_tokens_details is not None:
                cached += tokens.prompt_tokens_details.cached_tokens or 0
            if tokens.completion_tokens_details is not None:
                reasoning += tokens.completion_tokens_details.reasoning_tokens or 0
            rows[found.custom_id] = add(pack(found) if pack is not None else raw.strip())
            if compare:
                shown.remarks.compare(found.text)
        shown.usage.count(model, answers, prompt, completion, cached, reasoning)

    def _keep_judged(self, raw: bytes, cut: bool, shown: _Shown, seen: set[tuple[str, str]]) -> None:
        judged = result_lines.judge(raw, self.endpoint)
        if judged is None:
            known = ("", hashlib.sha256(raw).hexdigest())
            shown.remarks.unreadable += known not in seen
            seen.add(known)
            return
        identity = (judged.id, judged.custom_id) if judged.id else ("", hashlib.sha256(raw).hexdigest())
        if identity in seen and (judged.id or judged.custom_id not in self.repeated):
            return
        seen.add(identity)
        cause = f"the answer's line is longer than {LONGEST_LINE:,} bytes" if cut else judged.cause
        asked = self.expected.request(judged.custom_id)
        found = judgement.Judgement()
        if judged.body is not None:
            shown.usage.add(judged.body, judged.is_charged)
        if cause is None and judged.body is not None:
            found = judgement.judged(judged.body, self.endpoint, asked.schema, asked.form)
            cause = found.cause
            used = usage_of.tokens(judged.body)[1]
            used_all = usage_of.used_all_tokens(judged.body, asked.limit)
            shown.remarks.add(judged.custom_id, found, used, used_all)
        elif cause is not None:  # a refusal may repeat the key it refused
            cause = without_key(cause)
            raw = without_key(raw.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
        rank = _rank(cause, found.flaws)
        kind = "succeeded" if rank >= FLAWED else "failed"
        result = Result(judged.custom_id, kind, raw, cause, self.endpoint, found.flaws, judged.body, found.texts)
        self._keep(result, rank, shown)

    def _keep(self, result: Result, rank: int, shown: _Shown) -> None:
        custom_id = result.custom_id
        earlier = shown.rows.get(custom_id)
        if earlier is not None and custom_id not in self.repeated:
            if min(rank, rank_of(earlier)) > FAILED:  # both were paid
                shown.remarks.count(custom_id, ANOTHER)
            if rank < rank_of(earlier):
                return
        kept = result.line or b""
        if self.pack is not None and rank >= FLAWED:
            kept = self.pack.pack(result) + (b"\n" + kept if self.remember else b"")
        place = self.spool.add(kept)
        row = place if rank == GOOD else Flawed(rank, result.cause, result.flaws, place)
        if custom_id in self.repeated:
            shown.several.setdefault(custom_id, []).append(row)
        shown.rows[custom_id] = row


def _rank(cause: str | None, flaws: tuple[str, ...]) -> int:
    """The better of two rows for a request has the higher rank."""
    if judgement.INVALID in flaws:
        return UNFIT
    if cause is not None:
        return FAILED
    return FLAWED if flaws else GOOD


def _rows_missing(batch: Batch, shown: int) -> Failure:
    """Rows that the server counts are neither failed nor missing: to ask for them again would pay them twice."""
    name, counted = plain(batch.id, 60), batch.completed + batch.failed
    message = f"the server counts {counted} results of the batch {name} and shows {shown}; nothing was written"
    hint = "run the same command again later; fetch_results.py --partial takes what is there"
    return Failure(Exit.NOT_FINISHED, "rows_missing", message, hint)
