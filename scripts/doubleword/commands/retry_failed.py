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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from doubleword.answers.judgement import FLAWS, INVALID, TRUNCATED
from doubleword.batch_files.reading import request_lines
from doubleword.cli import Progress, quoted, script
from doubleword.failure import Exit, Failure, plain
from doubleword.jobs.change import Change, asked_change
from doubleword.jobs.connection import connect
from doubleword.jobs.exactly_once import JOB_NAME, KEY_NAME, LAG_S, LOOK_AGAIN_S, SETTLE_S
from doubleword.jobs.job_file import SUFFIX, InputFile, Intended, JobFile, Retry, job_path, locked, resolve
from doubleword.jobs.submission import ASKED, carry_out, checked, relative, report, require_cost, spent_ceiling
from doubleword.jobs.watching import counted
from doubleword.output_file import WholeFile, sha256_of
from doubleword.results.reading import Asked
from doubleword.results.reconciliation import Collector
from doubleword.results.result import Result
from doubleword.server.api import Api
from doubleword.server.errors import ApiError
from doubleword.server.objects import Batch
from doubleword.system import System


def retry(args: argparse.Namespace, system: System) -> dict[str, Any]:
    """The work of `retry_failed.py`; answers the keys of `submit.py`. With nothing to retry it changes nothing."""
    progress = Progress(system.monotonic)
    named, _ = resolve([args.job], system.disk)
    if named is None:
        raise Failure(Exit.BAD_INPUT, "no_job", "retry_failed.py needs a job file", f"{script('retry_failed.py')} JOB")
    wanted = asked_for(args)
    with locked(named.path, system.disk):
        store = JobFile.load(named.path, system.disk)
        with connect(args, system, progress.note, store) as api:
            return Retrial(store, api, system, progress, wanted).run(args.dry_run, args.max_cost)


UNANSWERED = ("failed", "missing")


@dataclass(frozen=True)
class Wanted:
    """Which requests are asked again, by what became of them, and what is changed in them."""

    kinds: frozenset[str]
    change: Change

    @property
    def is_plain(self) -> bool:
        """Whether it is just what a server's own retry does."""
        return self.kinds == frozenset(UNANSWERED) and not self.change

    def takes(self, result: Result) -> bool:
        """Whether the request that ended so is asked again."""
        return result.status in self.kinds or not self.kinds.isdisjoint(result.flaws)


def asked_for(args: argparse.Namespace) -> Wanted:
    """What the arguments of `retry_failed.py` ask for; raises Failure (2) for what makes no sense."""
    kinds = frozenset(word.strip() for word in args.only.split(","))
    unknown = sorted(kinds - {*UNANSWERED, *FLAWS})
    if unknown:
        message = f"--only knows no {plain(unknown[0], 40) or 'empty word'}"
        raise Failure(Exit.BAD_INPUT, "bad_arguments", message, f"--only {','.join((*UNANSWERED, *FLAWS))}")
    wanted = Wanted(kinds, asked_change(args))
    if TRUNCATED in kinds and not wanted.change:
        message = "the same request would be cut off at the same limit again, and paid again"
        raise Failure(Exit.BAD_INPUT, "same_request", message, "add --max-tokens N, --model ID or --note TEXT")
    return wanted


class Retrial:
    """Asks again for what the attempts at each batch file left open."""

    def __init__(self, store: JobFile, api: Api, system: System, progress: Progress, wanted: Wanted) -> None:
        self._store = store
        self._api = api
        self._system = system
        self._progress = progress
        self._wanted = wanted
        self._since = 0
        self._cancelled = False

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
        if dry_run:
            return report(self._store, {}, resumed=True)
        with self._withdrawing():
            unasked = [self._store.input_path(one.input) for one in unsent if one.state not in ASKED]
            self._require_cost(unasked, max_cost)
            return carry_out(self._store, self._api, self._system, self._progress, resumed=True)

    def _by_server(
        self, wanting: list[tuple[Intended, Batch]], dry_run: bool, max_cost: float | None
    ) -> dict[str, Any]:
        """Let the server retry, where it has a retry and the batch holds all that is open; attempts for the rest."""
        if dry_run or not wanting:
            statuses = {
                batch.id: f"{one.left + one.input.requests - batch.completed} to retry" for one, batch in wanting
            }
            return report(self._store, statuses, resumed=not wanting)
        self._require_cost([], max_cost)  # what the server runs again is in the ceiling of what was asked
        self._store.job.results.clear()  # what was delivered is no longer the last word
        asked = [one for one, batch in wanting if not one.left and self._asked_server(one, batch)]
        rest = [one for one, _ in wanting if one not in asked]
        return self._by_attempts(asked, rest, dry_run, max_cost)

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
        wanting = [one for one in ones if owed[one.key].ids]
        if dry_run or not (asked or wanting):
            statuses = {one.batch_id or "": f"{len(owed[one.key].ids)} to retry" for one in wanting}
            return report(self._store, statuses, resumed=not wanting)
        if wanting:
            self._require_newest()
        drafts: list[Intended] = []
        try:
            for one in wanting:
                drafts.append(self._drafted(one, owed[one.key]))
            if drafts:
                self._require_cost([self._store.input_path(one.input) for one in drafts], max_cost)
        except BaseException:
            for one in wanting:
                self._system.disk.remove(self._attempt_path(one.file, one.attempt + 1))
            raise
        if drafts:
            job.results.clear()
            job.batches += drafts
            self._store.save()
        with self._withdrawing():
            return carry_out(self._store, self._api, self._system, self._progress, resumed=False)

    @contextlib.contextmanager
    def _withdrawing(self) -> Iterator[None]:
        """Plan attempts no more that cannot be submitted as they are, such as by a model that does not exist.

        They would stand in the way of every other retry. Of what was uploaded at most no batch was made; what an
        account without credit refuses can be submitted later.
        """
        try:
            yield
        except Failure as failure:
            if failure.exit_code in (Exit.BAD_INPUT, Exit.NO_KEY, Exit.NOT_FOUND):
                job = self._store.job
                unmade = [one for one in job.batches if one.attempt > 1 and one.state not in ASKED]
                job.batches = [one for one in job.batches if one not in unmade]
                self._store.save()
                for one in unmade:
                    self._system.disk.remove(self._attempt_path(one.file, one.attempt))
            raise

    def _require_newest(self) -> None:
        """Refuse where the server has an attempt that the job file does not know, since it would be paid again.

        An older copy of the file was put back, or the job was adopted and goes on in two places. Batches are listed
        newest first (dwctl batches.rs); one whose input file was deleted cannot be adopted, and is passed over.
        """
        job = self._store.job
        known = {one.key for one in job.batches}
        for search in (job.id, ""):
            try:
                for batch in self._api.batches(search):
                    if batch.created_at and batch.created_at < self._since:
                        break
                    ours = batch.metadata.get(JOB_NAME) == job.id and batch.input_file_id
                    if ours and batch.metadata.get(KEY_NAME) not in known:
                        message = (
                            f"{plain(self._store.path)} is not the newest: the server has {plain(batch.id, 60)} too"
                        )
                        command = f"{script('submit.py')} --adopt {quoted(job.id)} --job newest{SUFFIX}"
                        raise Failure(
                            Exit.BAD_INPUT, "job_outdated", message, f"go on from the newer file, or {command}"
                        )
                return
            except ApiError as error:
                if search == "" or error.status not in (400, 422):  # a server without search gives the whole list
                    raise error.failure("looking for other attempts") from error

    def _require_cost(self, paths: list[Path], limit: float | None) -> None:
        """Refuse unless the whole job, with all that it has asked so far, surely stays within `limit`."""
        if limit is not None and self._store.job.local is None:
            spent = spent_ceiling(self._store, self._system)
            require_cost(paths, self._store.job.window, limit, self._system, spent)

    def _over(self, one: Intended) -> Batch | None:
        """The batch, if it is over; raises Failure (7) while it runs, None while an earlier run's retry does."""
        try:
            batch = self._api.batch(one.batch_id or "")
            if one.retries:
                batch = self._settled(one, batch, earlier=True)
        except ApiError as error:
            raise error.failure(f"looking at the batch {plain(one.batch_id, 60)}") from error
        if not batch.terminal:
            if one.retries and self._wanted.is_plain:
                return None
            raise self._still_runs(batch)
        return batch

    def _settled(self, one: Intended, batch: Batch, earlier: bool = False) -> Batch:
        """The batch as it is once its latest retry shows: it runs again, or its counts or its end changed.

        One that was confirmed shows within the lag of a replica; one whose reply was lost may still be under way,
        and is struck from the record when it surely never happened.
        """
        last = one.retries[-1]
        dead = earlier and self._store.job.local is not None
        if last.state == "asking" and not dead:
            # A replica may still show how the batch ran before it last ended, which looks like a retry of it.
            self._system.sleep(LAG_S)
            batch = self._api.batch(batch.id)
        pause = LOOK_AGAIN_S
        now = self._system.monotonic()
        ends = now + (0.0 if dead else SETTLE_S if last.state == "asking" else LAG_S)
        while batch.terminal and counted(batch) == last.before:
            if now >= ends:
                if last.state == "asking":
                    one.retries.pop()
                    self._store.save()
                return batch
            self._system.sleep(min(pause, max(0.0, ends - self._system.monotonic())))
            pause += LOOK_AGAIN_S
            now = self._system.monotonic()
            batch = self._api.batch(batch.id)
        if last.state == "asking":
            self._confirm(last)
        return batch

    def _confirm(self, retry: Retry) -> None:
        """Record that it happened, and when that was known: for a while from then on a replica may show the old end."""
        retry.state, retry.at = "asked", self._system.now()
        self._store.save()

    def _asked_server(self, one: Intended, batch: Batch) -> bool:
        """Ask for the server's retry, once; False where it has none or nothing that it would retry."""
        doing = f"retrying the batch {plain(batch.id, 60)}"
        for _ in range(3):
            asking = Retry(self._system.now(), "asking", counted(batch))
            one.retries.append(asking)
            self._store.save()
            try:
                self._api.retry(batch.id)
            except ApiError as error:
                if not error.may_have_happened:
                    one.retries.pop()
                    self._store.save()
                    if error.status == 400:
                        # There is nothing to retry, or others did it a moment ago and a replica does not show it yet.
                        self._system.sleep(LAG_S)
                    if error.status in (400, 404, 405):
                        return False
                    if not error.may_pass:
                        raise error.failure(doing) from error
                    self._system.sleep(self._api.pause(1, error))
                    continue
                self._progress.note(f"{doing}: {error.sentence}; looking whether it happened")
                try:
                    batch = self._settled(one, self._api.batch(batch.id))
                except ApiError as lost:
                    raise lost.failure(doing) from lost
                if asking.state == "asked":
                    return True
            else:
                self._confirm(asking)
                return True
        raise Failure(Exit.UNREACHABLE, "server_unreachable", f"{doing} kept failing", "run this again later")

    def _owed(self, one: Intended) -> _Owed:
        """What of the batch file of `one` is wanted, by the rows of all its attempts."""
        job = self._store.job
        asked_first = job.files[one.file]
        original = self._store.input_path(asked_first)
        if INVALID in self._wanted.kinds:
            self._require_unchanged(original, asked_first)  # it says what is invalid
        try:
            batches = tuple(self._api.batch(other.batch_id or "") for other in self._attempts(one))
        except ApiError as error:
            raise error.failure("looking at the batches") from error
        for batch in batches:
            if not batch.terminal:
                raise self._still_runs(batch)
        spool = self._store.path.with_name(f".{self._store.path.name}.rows")
        known = sha256_of(original, self._system.disk) == asked_first.sha256
        asked = Asked(original if known else None, asked_first.requests, one.input.endpoint, batches)
        ids, left = set(), 0
        remember = one.attempt > 1
        try:
            with Collector(self._api, self._system, spool, lambda _: None, remember=remember) as collector:
                for result in collector.collect([asked]):
                    # A flawed answer stands where asking it again failed; but the server counts that one as failed,
                    # and its own retry would ask it once more.
                    last = collector.history(result)[-1]
                    in_vain = last.batch == one.batch_id and last.result.status == "failed"
                    if self._wanted.takes(result) or (in_vain and "failed" in self._wanted.kinds):
                        ids.add(result.custom_id)
                    elif result.status in UNANSWERED:
                        left += 1
        finally:
            self._system.disk.remove(spool)  # once more: Ctrl-C may have come at the first removal
        return _Owed(ids, left)

    def _drafted(self, one: Intended, owed: _Owed) -> Intended:
        """An attempt after `one`, its batch file written to `<stem>.attempt-N.jsonl` and checked."""
        job, disk = self._store.job, self._system.disk
        original = self._store.input_path(job.files[one.file])
        self._require_unchanged(original, job.files[one.file])
        path = self._attempt_path(one.file, one.attempt + 1)
        with WholeFile(path, disk, force=True) as file:
            for custom_id, line in self._as_asked_last(one):
                if custom_id in owed.ids:
                    file.write(self._wanted.change.applied(line) + b"\n")
        self._require_unchanged(original, job.files[one.file])
        made = checked([path], self._system).files[0]
        part = InputFile(relative(path, self._store.folder), made.bytes, made.sha256, made.requests, made.endpoint)
        key, change = self._system.new_key(), self._wanted.change.recorded
        return Intended(key, one.file, part, attempt=one.attempt + 1, left=owed.left, change=change)

    def _as_asked_last(self, one: Intended) -> Iterator[tuple[str, bytes]]:
        """Each request of a batch file, in its order, as the latest attempt asked it."""
        original = self._store.input_path(self._store.job.files[one.file])
        changed = []
        for other in self._attempts(one):
            if other.change is not None:  # other attempts hold what stands elsewhere already
                path = self._store.input_path(other.input)
                self._require_unchanged(path, other.input)
                changed.append(request_lines(path, self._system.disk))
        heads = [next(lines, None) for lines in changed]  # an attempt stands in the order of the original
        for custom_id, first in request_lines(original, self._system.disk):
            line = first
            for at, head in enumerate(heads):
                if head is not None and head[0] == custom_id:
                    line = head[1]
                    heads[at] = next(changed[at], None)
            yield custom_id, line

    def _attempts(self, one: Intended) -> list[Intended]:
        return [other for other in self._store.job.batches if other.file == one.file]

    def _attempt_path(self, file: int, attempt: int) -> Path:
        """Where an attempt at a batch file is written; a job of another name than its batch file's puts its own in."""
        job, path = self._store.job, self._store.path
        usual = job_path(self._store.input_path(job.files[0])).absolute() == path.absolute()
        original = self._store.input_path(job.files[file])
        stem = original.stem if usual else f"{original.stem}.{path.name.removesuffix(SUFFIX)}"
        return original.with_name(f"{stem}.attempt-{attempt}{original.suffix}")

    def _require_unchanged(self, path: Path, file: InputFile) -> None:
        """What is asked again must be what was asked."""
        if sha256_of(path, self._system.disk) != file.sha256:
            message = f"{plain(path)} is gone or was changed after it was submitted; nothing was sent"
            raise Failure(Exit.BAD_INPUT, "batch_file_changed", message, "restore the file as it was, then run again")

    def _still_runs(self, batch: Batch) -> Failure:
        message = f"the batch {plain(batch.id, 60)} is {plain(batch.status, 30)}; only what is over can be retried"
        hint = f"{script('poll.py')} {quoted(self._store.path)} --wait 600"
        return Failure(Exit.NOT_FINISHED, "not_finished", message, hint)


@dataclass(frozen=True)
class _Owed:
    """The requests of a batch file that are asked again, and how many others are unanswered."""

    ids: set[str]
    left: int
