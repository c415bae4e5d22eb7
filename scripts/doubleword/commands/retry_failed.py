"""What failed, asked again: by the server's own retry where it has one, else as a new attempt.

Promises: requests that succeeded are never asked again, unless their flaw is named; a retry whose reply was lost
is looked for before it is asked twice; a new attempt is a batch file of its own with a key of its own, submitted
exactly once, and none is made from a job file that is not the newest; the attempts for all batch files are planned
together, and a run after a kill goes on with them.

The server's retry makes failed and cancelled requests pending again and leaves the rest (dwctl batches.rs);
OpenAI has none, and rows that are in no file need a new attempt anywhere.
"""

from __future__ import annotations

import argparse
import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from doubleword.answers.judgement import INVALID
from doubleword.answers.schema import Schema
from doubleword.batch_files.reading import request_of
from doubleword.cli import Progress, quoted, script
from doubleword.commands.create_batch_file import require_row_map
from doubleword.failure import Exit, Failure, plain
from doubleword.jobs.attempts import UNANSWERED, Attempts, Owed, Wanted, asked_for, of_requests
from doubleword.jobs.connection import connect
from doubleword.jobs.cost_limit import prices_of, require_limit, require_within, spent_ceiling
from doubleword.jobs.exactly_once import SETTLE_S
from doubleword.jobs.job_file import Intended, JobFile, Written, locked, resolve
from doubleword.jobs.server_copies import require_files
from doubleword.jobs.server_retry import ServerRetry
from doubleword.jobs.submission import carry_out, is_refused, report, require_unchanged
from doubleword.output_file import sha256_of
from doubleword.pricing.estimate import Total, total_of
from doubleword.quick_msgspec import replace
from doubleword.results.advice import is_lasting
from doubleword.results.expected import Schemas, read_schema
from doubleword.results.reconciliation import Collector
from doubleword.results.result import Entry, Result
from doubleword.server.api import Api
from doubleword.server.errors import ApiError
from doubleword.server.objects import Asked, Batch
from doubleword.system import System


def retry(args: argparse.Namespace, system: System) -> dict[str, Any]:
    """The work of `retry_failed.py`; answers the keys of `submit.py`. With nothing to retry it changes nothing."""
    progress = Progress(system.monotonic)
    named, _ = resolve([args.job], system.disk)
    if named is None:
        raise Failure(Exit.BAD_INPUT, "no_job", "retry_failed.py needs a job file", f"{script('retry_failed.py')} JOB")
    wanted = asked_for(args, system.disk)
    with locked(named.path, system.disk):
        store = JobFile.load(named.path, system.disk)
        require_files(store)
        row_map = require_row_map(store, system.disk) if wanted.ids is not None else None
        if wanted.ids is not None and row_map is not None:
            files = [store.input_path(one) for one in store.job.files]
            wanted = replace(wanted, ids=of_requests(wanted.ids, row_map.rows, files, system.disk))
        judge = read_schema(Path(args.response_schema), system.disk) if args.response_schema else None
        with connect(args, system, progress.note, store) as api:
            retrial = Retrial(store, api, system, progress, wanted, judge)
            return {**retrial.run(args.dry_run, args.max_cost), **retrial.warnings()}


class Retrial:
    """Asks again for what the attempts at each batch file left open; answers are judged by `judge`, or their requests'
    own schemas.
    """

    def __init__(
        self, store: JobFile, api: Api, system: System, progress: Progress, wanted: Wanted, judge: Schema | None
    ) -> None:
        self._store = store
        self._schemas = Schemas(system.disk, judge)
        self._api = api
        self._system = system
        self._progress = progress
        self._wanted = wanted
        self._attempts = Attempts(store, system)
        self._server = ServerRetry(store, api, system, progress)
        self._since = 0
        self._cancelled = False
        self._left_out: Counter[str] = Counter()
        self._met: set[str] = set()
        self._warnings: list[str] = []

    def run(self, dry_run: bool, max_cost: float | None) -> dict[str, Any]:
        """Retry every batch that is over and left open what is wanted."""
        job = self._store.job
        if not job.submitted and not any(one.attempt > 1 for one in job.batches):
            hint = "run the submit.py command again: it goes on where it stopped"
            raise Failure(Exit.NOT_FINISHED, "not_submitted", "some batch files have no batch yet", hint)
        latest = {one.file: one for one in job.batches}.values()  # attempts stand in order, so the last one stays
        unsent = [one for one in latest if one.batch_id is None]
        if unsent:
            return self._go_on(unsent, dry_run, max_cost)
        seen = [(one, self._over(one)) for one in latest]
        over = [(one, batch) for one, batch in seen if batch is not None]
        self._cancelled = any(batch.status == "cancelled" for _, batch in over) and job.local is None
        self._since = min((batch.created_at or 0 for _, batch in over), default=0)
        open_ones = [(one, batch) for one, batch in over if one.left or batch.completed < one.input.requests]
        if self._wanted.is_plain and (open_ones or len(over) < len(seen)):
            return self._by_server(open_ones, dry_run, max_cost)
        # Of the rest only the rows tell: answers with flaws, and those that the server calls completed and are none.
        return self._by_attempts([], [one for one, _ in over], dry_run, max_cost)

    def _go_on(self, unsent: list[Intended], dry_run: bool, max_cost: float | None) -> dict[str, Any]:
        """Submit the attempts that an earlier run only planned, which were all that it wanted."""
        change = self._wanted.change.recorded
        if change is not None and any(one.change != change for one in unsent):
            message = f"an attempt with other changes ({plain(unsent[0].change, 120)}) is planned and not submitted yet"
            hint = f"{script('retry_failed.py')} {quoted(self._store.path)} submits it as it was planned"
            raise Failure(Exit.BAD_INPUT, "attempt_planned", message, hint)
        unasked = [self._store.input_path(one.input) for one in unsent if not one.may_cost]
        if dry_run:
            total = total_of(unasked, self._system.disk, prices_of(self._store.job, self._system.disk))
            self._require_within(total, max_cost)
            return {**report(self._store, {}, resumed=True), **total.forecast(self._store.job.window)}
        with self._withdrawing():
            require_limit([self._store], max_cost, self._system, last_word=not unasked)
            return carry_out(self._store, self._api, self._system, self._progress, True, max_cost)

    def _by_server(
        self, wanting: list[tuple[Intended, Batch]], dry_run: bool, max_cost: float | None
    ) -> dict[str, Any]:
        """Let the server retry, where it has a retry and the batch holds all that is open; attempts for the rest."""
        whole = [(one, batch) for one, batch in wanting if not one.left and not self._has_lasting(one, batch)]
        if not wanting:
            return self._by_attempts([], [], True, None)
        # What the server runs again is in the ceiling of what was asked.
        require_limit([self._store], max_cost, self._system)
        if dry_run:
            return self._by_attempts([], [one for one, _ in wanting], True, None)
        if whole:
            self._store.job.results.clear()  # what was delivered is no longer the last word
        asked = [one for one, batch in whole if self._server.asked(one, batch)]
        rest = [one for one, _ in wanting if one not in asked]
        return self._by_attempts(asked, rest, dry_run, max_cost)

    def _has_lasting(self, one: Intended, batch: Batch) -> bool:
        """Whether requests failed that would fail again, which the server's own retry would run all the same."""
        if not batch.failed:
            return False
        failed = replace(batch, output_file_id=None, input_file_id="", completed=0)
        asked = Asked(None, None, one.input.endpoint, (failed,))
        causes = [result.cause or "" for result, _ in self._rows([asked], partial=True)]
        unpaid = sum(cause.startswith("HTTP 402") for cause in causes)
        if unpaid:
            said = (
                f"{unpaid} requests failed for want of credit; the server takes a retry without any: add credit first"
            )
            self._warnings.append(said)
        return any(map(is_lasting, causes))

    def _by_attempts(
        self, asked: list[Intended], ones: list[Intended], dry_run: bool, max_cost: float | None
    ) -> dict[str, Any]:
        """Plan a new attempt for each batch file of `ones` that has what is wanted, all of them at once, and submit.

        `asked` are those that the server retries already.
        """
        job = self._store.job
        if self._cancelled and ones and not dry_run:
            # A result that was under way still takes its place (fusillade postgres.rs), and is not to be paid again.
            self._progress.note("the batch was cancelled; waiting for answers that may still come")
            self._system.sleep(SETTLE_S)
        owed = {one.key: self._owed(one) for one in ones}
        strangers = sorted((self._wanted.ids or frozenset()) - self._met)
        if strangers:
            message = f"{len(strangers)} of --ids are no custom_ids of this job, such as {plain(strangers[0], 64)}"
            raise Failure(Exit.BAD_INPUT, "bad_arguments", message, "the errors file and the results have them")
        wanting = [one for one in ones if owed[one.key].ids]
        if self._wanted.cause and not wanting:
            self._warnings.append(
                f"nothing that is open failed by {plain(self._wanted.cause, 80)}, so nothing is asked"
            )
        if dry_run or not (asked or wanting):
            statuses = {one.batch_id or "": f"{len(owed[one.key].ids)} to retry" for one in wanting}
            keys = report(self._store, statuses, resumed=not wanting)
            return {**keys, **self._forecast(wanting, owed, max_cost if wanting else None)} if dry_run else keys
        if wanting:
            self._attempts.require_newest(self._api, self._since)
        drafts: list[Intended] = []
        try:
            for one in wanting:
                drafts.append(self._attempts.draft(one, owed[one.key], self._wanted.change))
            more = [self._store.input_path(one.input) for one in drafts]
            if drafts:
                require_limit([self._store], max_cost, self._system, last_word=False, more=more)
        except BaseException:
            for one in wanting:
                self._system.disk.remove(self._attempts.path(one.file, one.attempt + 1))
            raise
        kept = [] if asked else list(job.results)
        if drafts:
            job.results.clear()
            job.batches += drafts
            self._store.save()
        with self._withdrawing(kept):
            return carry_out(self._store, self._api, self._system, self._progress, False, max_cost)

    @contextlib.contextmanager
    def _withdrawing(self, results: Sequence[Written] = ()) -> Iterator[None]:
        """Plan attempts no more that cannot be submitted as they are; `results` are what was delivered before.

        They would stand in the way of every other retry. Of what was uploaded at most no batch was made.
        """
        try:
            yield
        except Failure as failure:
            if is_refused(failure):
                job = self._store.job
                unmade = [one for one in job.batches if one.attempt > 1 and not one.may_cost]
                job.batches = [one for one in job.batches if one not in unmade]
                job.results += results
                self._store.save()
                for one in unmade:
                    self._system.disk.remove(self._attempts.path(one.file, one.attempt))
            raise

    def _require_within(self, total: Total, limit: float | None) -> None:
        """As `require_limit`, of what a dry run counted; the server is not asked for its prices."""
        if limit is not None and self._store.job.local is None:
            spent = spent_ceiling(self._store, self._system)
            require_within(limit, total.estimate(self._store.job.window), spent, again=True)

    def _forecast(self, wanting: list[Intended], owed: dict[str, Owed], limit: float | None) -> dict[str, Any]:
        """What the attempts would cost, for a dry run; raises Failure (8) where that is above `limit`."""
        job = self._store.job
        total = Total(prices_of(job, self._system.disk), job.answer_tokens)
        for one in wanting:
            for line in self._attempts.lines(one, owed[one.key], self._wanted.change):
                total.add(request_of(line))
        self._require_within(total, limit)
        return total.forecast(job.window)

    def _over(self, one: Intended) -> Batch | None:
        """The batch, if it is over; raises Failure (7) while it runs, None while an earlier run's retry does."""
        try:
            batch = self._server.settled(one, earlier=True) if one.retries else self._api.batch(one.batch_id or "")
        except ApiError as error:
            raise error.failure(f"looking at the batch {plain(one.batch_id, 60)}") from error
        if not batch.terminal:
            if one.retries and self._wanted.is_plain:
                return None
            raise _still_runs(batch, self._store)
        return batch

    def _owed(self, one: Intended) -> Owed:
        """What of the batch file of `one` is wanted, by the rows of all its attempts."""
        job = self._store.job
        asked_first = job.files[one.file]
        original = self._store.input_path(asked_first)
        if INVALID in (self._wanted.kinds or ()):
            require_unchanged(self._store, asked_first, self._system.disk)  # it says what is invalid
        try:
            batches = tuple(self._api.batch(other.batch_id or "") for other in self._attempts.of(one))
        except ApiError as error:
            raise error.failure("looking at the batches") from error
        for batch in batches:
            if not batch.terminal:
                raise _still_runs(batch, self._store)
        known = sha256_of(original, self._system.disk) == asked_first.sha256
        asked = Asked(original if known else None, asked_first.requests, one.input.endpoint, batches)
        ids, left = set(), 0
        for result, last in self._rows([asked], remember=one.attempt > 1):
            self._met.add(result.custom_id)
            # A flawed answer stands where asking it again failed; but the server counts that one as failed,
            # and its own retry would ask it once more.
            stands = last.batch == one.batch_id and last.result.status == "failed" and not self._wanted.is_chosen
            if self._wanted.takes(result) or (stands and "failed" in (self._wanted.kinds or UNANSWERED)):
                if not self._wanted.leaves_out(last.result if stands else result):
                    ids.add(result.custom_id)
                    continue
                self._left_out[(last.result if stands else result).cause or ""] += 1
            left += result.status in UNANSWERED
        return Owed(ids, left)

    def _rows(
        self, asked: list[Asked], partial: bool = False, remember: bool = False
    ) -> Iterator[tuple[Result, Entry]]:
        """The result of each request, and what the last batch said of it."""
        spool = self._store.path.with_name(f".{self._store.path.name}.rows")
        try:
            tools = self._api, self._system, spool, lambda _: None, partial, self._schemas, remember
            with Collector(*tools) as collector:
                for result in collector.collect(asked):
                    yield result, collector.history(result)[-1]
        finally:
            self._system.disk.remove(spool)  # once more: Ctrl-C may have come at the first removal

    def warnings(self) -> dict[str, list[str]]:
        """What the user should know: requests that were left out, and why."""
        if self._left_out:
            causes = "; ".join(f"{plain(cause, 80)} ({count})" for cause, count in self._left_out.most_common(3))
            said = f"{sum(self._left_out.values())} requests are left out, which would fail again or be paid again"
            self._warnings.append(f"{said}: {causes}; mend them in a new file, or choose them by --cause or --ids")
        return {"warnings": self._warnings} if self._warnings else {}


def _still_runs(batch: Batch, store: JobFile) -> Failure:
    message = f"the batch {plain(batch.id, 60)} is {plain(batch.status, 30)}; only what is over can be retried"
    hint = f"{script('poll.py')} {quoted(store.path)} --wait 600"
    return Failure(Exit.NOT_FINISHED, "not_finished", message, hint)
