"""What failed, asked again: by the server's own retry where it has one, else as a new attempt.

Promises: requests that succeeded are never asked again; a retry whose reply was lost is looked for before it
is asked twice; a new attempt is a batch file of its own with a key of its own, submitted exactly once.

The server's retry makes failed and cancelled requests pending again and leaves the rest (dwctl batches.rs);
OpenAI has none, and rows that are in no file need a new attempt anywhere.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from doubleword import batch_file, file_check
from doubleword.api import Api
from doubleword.api_error import ApiError
from doubleword.api_objects import Batch
from doubleword.command import Progress, quoted, script
from doubleword.connection import connect
from doubleword.exactly_once import LAG_S, LOOK_AGAIN_S, SETTLE_S
from doubleword.failure import Exit, Failure, plain
from doubleword.job import InputFile, Intended, JobFile, Retry, locked, resolve
from doubleword.outside import Outside, WholeFile
from doubleword.results import Asked, Collector
from doubleword.submission import carry_out, relative, report, require_cost
from doubleword.tables import sha256_of
from doubleword.watch import counted


def retry(args: argparse.Namespace, outside: Outside) -> dict[str, Any]:
    """The work of `retry_failed.py`; answers the keys of `submit.py`. With nothing to retry it changes nothing."""
    progress = Progress(outside.monotonic)
    named, _ = resolve([args.job], outside.disk)
    if named is None:
        raise Failure(Exit.BAD_INPUT, "no_job", "retry_failed.py needs a job file", f"{script('retry_failed.py')} JOB")
    with locked(named.path, outside.disk):
        store = JobFile.load(named.path, outside.disk)
        with connect(args, outside, progress.note, store) as api:
            return Retrial(store, api, outside, progress).run(args.dry_run, args.max_cost)


class Retrial:
    """Asks again for what the latest attempt of each batch file left unanswered."""

    def __init__(self, store: JobFile, api: Api, outside: Outside, progress: Progress) -> None:
        self._store = store
        self._api = api
        self._outside = outside
        self._progress = progress

    def run(self, dry_run: bool, max_cost: float | None) -> dict[str, Any]:
        """Retry every batch that is over and did not answer all of its requests."""
        job = self._store.job
        if not job.submitted and not any(one.attempt > 1 for one in job.batches):
            hint = "run the submit.py command again: it goes on where it stopped"
            raise Failure(Exit.NOT_FINISHED, "not_submitted", "some batch files have no batch yet", hint)
        latest = {one.file: one for one in job.batches}  # attempts stand in order, so the last one stays
        wanting = [(one, batch) for one in latest.values() if (batch := self._unanswered(one)) is not None]
        unsent = any(one.batch_id is None for one in latest.values())  # attempts that an earlier run only planned
        if dry_run or not (wanting or unsent):
            statuses = {batch.id: f"{batch.total - batch.completed} to retry" for _, batch in wanting}
            return report(self._store, statuses, resumed=not wanting)
        if max_cost is not None and job.local is None:
            require_cost([self._store.input_path(one.input) for one, _ in wanting], job.window, max_cost, self._outside)
        job.results.clear()  # what was delivered is no longer the last word
        for one, batch in wanting:
            if not self._asked_server(one, batch):
                self._new_attempt(one)
        return carry_out(self._store, self._api, self._outside, self._progress, resumed=False)

    def _unanswered(self, one: Intended) -> Batch | None:
        """The batch, if it is over and owes answers; raises Failure (7) while it runs, None when all is well."""
        if one.batch_id is None:
            return None  # an attempt that carry_out still has to submit
        try:
            batch = self._api.batch(one.batch_id)
            if one.retries:
                batch = self._settled(one, batch, earlier=True)
        except ApiError as error:
            raise error.failure(f"looking at the batch {plain(one.batch_id, 60)}") from error
        if not batch.terminal:
            if one.retries:
                return None  # the retry of an earlier run is under way
            raise self._still_runs(batch)
        return batch if batch.completed < one.input.requests else None

    def _settled(self, one: Intended, batch: Batch, earlier: bool = False) -> Batch:
        """The batch as it is once its latest retry shows: it runs again, or its counts or its end changed.

        One that was confirmed shows within the lag of a replica; one whose reply was lost may still be under way,
        and is struck from the record when it surely never happened.
        """
        last = one.retries[-1]
        dead = earlier and self._store.job.local is not None
        if last.state == "asking" and not dead:
            # A replica may still show how the batch ran before it last ended, which looks like a retry of it.
            self._outside.sleep(LAG_S)
            batch = self._api.batch(batch.id)
        pause = LOOK_AGAIN_S
        now = self._outside.monotonic()
        ends = now + (0.0 if dead else SETTLE_S if last.state == "asking" else LAG_S)
        while batch.terminal and counted(batch) == last.before:
            if now >= ends:
                if last.state == "asking":
                    one.retries.pop()
                    self._store.save()
                return batch
            self._outside.sleep(min(pause, max(0.0, ends - self._outside.monotonic())))
            pause += LOOK_AGAIN_S
            now = self._outside.monotonic()
            batch = self._api.batch(batch.id)
        if last.state == "asking":
            last.state = "asked"
            self._store.save()
        return batch

    def _asked_server(self, one: Intended, batch: Batch) -> bool:
        """Ask for the server's retry, once; False where it has none or nothing that it would retry."""
        doing = f"retrying the batch {plain(batch.id, 60)}"
        for _ in range(3):
            asking = Retry(self._outside.now(), "asking", counted(batch))
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
                        self._outside.sleep(LAG_S)
                    if error.status in (400, 404, 405):
                        return False
                    if not error.may_pass:
                        raise error.failure(doing) from error
                    self._outside.sleep(self._api.pause(1, error))
                    continue
                self._progress.note(f"{doing}: {error.sentence}; looking whether it happened")
                try:
                    batch = self._settled(one, self._api.batch(batch.id))
                except ApiError as lost:
                    raise lost.failure(doing) from lost
                if asking.state == "asked":
                    return True
            else:
                asking.state = "asked"
                self._store.save()
                return True
        raise Failure(Exit.UNREACHABLE, "server_unreachable", f"{doing} kept failing", "run this again later")

    def _new_attempt(self, one: Intended) -> None:
        """Write what is unanswered to `<stem>.attempt-N.jsonl` and intend a batch for it."""
        job, disk = self._store.job, self._outside.disk
        asked_first = job.files[one.file]
        original = self._store.input_path(asked_first)
        self._require_unchanged(original, asked_first)
        attempts = [other for other in job.batches if other.file == one.file]
        try:
            batches = tuple(self._api.batch(other.batch_id or "") for other in attempts)
        except ApiError as error:
            raise error.failure("looking at the batches") from error
        for batch in batches:
            if not batch.terminal:
                raise self._still_runs(batch)
        spool = original.with_name(f".{original.name}.rows")
        asked = Asked(original, asked_first.requests, one.input.endpoint, batches)
        with Collector(self._api, self._outside, spool, lambda _: None) as collector:
            owed = {result.custom_id for result in collector.collect(asked) if result.kind != "succeeded"}
        if not owed:
            return
        path = _attempt_path(original, one.attempt + 1)
        with WholeFile(path, disk, force=True) as file:
            for custom_id, line in batch_file.request_lines(original, disk):
                if custom_id in owed:
                    file.write(line + b"\n")
        self._require_unchanged(original, asked_first)
        made = file_check.check([path], disk).files[0]
        part = InputFile(relative(path, self._store.folder), made.bytes, made.sha256, made.requests, made.endpoint)
        job.batches.append(Intended(self._outside.new_key(), one.file, part, attempt=one.attempt + 1))
        self._store.save()

    def _require_unchanged(self, path: Path, file: InputFile) -> None:
        """What is asked again must be what was asked."""
        if sha256_of(path, self._outside.disk) != file.sha256:
            message = f"{plain(path)} is gone or was changed after it was submitted; nothing was sent"
            raise Failure(Exit.BAD_INPUT, "batch_file_changed", message, "restore the file as it was, then run again")

    def _still_runs(self, batch: Batch) -> Failure:
        message = f"the batch {plain(batch.id, 60)} is {plain(batch.status, 30)}; only what is over can be retried"
        hint = f"{script('poll.py')} {quoted(self._store.path)} --wait 600"
        return Failure(Exit.NOT_FINISHED, "not_finished", message, hint)


def _attempt_path(original: Path, attempt: int) -> Path:
    return original.with_name(f"{original.stem}.attempt-{attempt}{original.suffix}")
