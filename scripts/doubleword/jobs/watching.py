"""Watching batches: one look, or many at a pace that finds the end soon and asks seldom.

Promises: at most 400 looks in 24 hours, the end found within 2 % of the run time (2.2 s for short runs);
a wait always ends; "done" is said only of what the server says is over, "succeeded" only of what is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from doubleword.cli import Progress, script
from doubleword.failure import Exit, Failure, plain
from doubleword.jobs.exactly_once import SETTLE_S
from doubleword.jobs.job_file import Job, JobFile, Retry
from doubleword.output_file import sha256_of
from doubleword.quick_msgspec import replace
from doubleword.server.api import PAGE, Api
from doubleword.server.errors import ApiError
from doubleword.server.objects import Asked, Batch
from doubleword.system import System

FIRST_WAIT_S = 2.2
SHARE_OF_ELAPSED = 0.02
EXTRA_LOOKS = 8
# A poll outlives ten minutes of an unreachable server.
PATIENCE_S = 900.0
# Longer than this in a state that should pass at once is worth a word (control-layer leaves a batch that was
# cancelled before it was filled "cancelling" for ever, fusillade postgres.rs).
STUCK_S = 900.0
# A retry that the server confirmed is known to every replica of it after this, wherever its call was held up.
RETRY_SHOWS_S = 90.0
SETTLING = "cancelled, and answers may still come"  # what a batch is called meanwhile, which is not over


class Pace:
    """How long to wait before the next look: a fiftieth of the time so far, less near a foreseeable end.

    Growing with the time so far bounds the number of looks; the few extra ones near the end are counted.
    """

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._extra = EXTRA_LOOKS
        self._last: tuple[float, int] | None = None

    def wait(self, elapsed_s: float, done: int, total: int) -> float:
        """Seconds until the next look, `elapsed_s` after the start, with `done` of `total` requests done."""
        pace = max(FIRST_WAIT_S, SHARE_OF_ELAPSED * elapsed_s) * (1 - 0.015 * self._random())
        last, self._last = self._last, (elapsed_s, done)
        if last is None or done <= last[1] or elapsed_s <= last[0] or done >= total:
            return pace
        remaining = (total - done) * (elapsed_s - last[0]) / (done - last[1])
        if remaining >= pace / 2 or not self._extra:
            return pace
        self._extra -= 1
        return max(0.5, remaining)


def counted(batch: Batch) -> dict[str, int | None]:
    """What a retry changes in a batch that is over (dwctl batches.rs: it clears the end and counts anew)."""
    return {"completed": batch.completed, "failed": batch.failed, "ended_at": batch.ended_at}


def is_as_before(batch: Batch, before: dict[str, int | None]) -> bool:
    """Whether a sight of a batch tells nothing of a retry before which it was `counted` so.

    The counts of one that was cancelled change by themselves, as answers under way still come (fusillade postgres.rs).
    """
    same_end = batch.ended_at == before["ended_at"]
    return batch.terminal and same_end and (batch.status == "cancelled" or counted(batch) == before)


def _is_older(batch: Batch, retry: Retry | None, now: float) -> bool:
    """Whether a sight of a batch is from before a confirmed `retry`, which a lagging replica may give for a while."""
    if retry is None or retry.state != "asked" or now - retry.at > RETRY_SHOWS_S:
        return False
    return is_as_before(batch, retry.before)


def look(api: Api, ids: Sequence[str], system: System, job: Job | None = None) -> list[Batch]:
    """The batches with these ids, in their order; several of one `job` come by one list call where that finds them.

    One that is seen as it was before the server's retry of it is shown as running, which it does.
    """
    found: dict[str, Batch] = {}
    if len(ids) > 1 and job is not None:
        for number, batch in enumerate(api.batches(search=job.id), start=1):
            found[batch.id] = batch
            if number >= max(PAGE, 2 * len(ids)) or all(one in found for one in ids):
                break
    seen = [found[one] if one in found else api.batch(one, known=job is not None) for one in ids]
    if job is None or job.local is not None:
        return seen
    latest, now = {one.batch_id: one.retries[-1] for one in job.batches if one.retries}, system.now()
    return [
        replace(one, status="in_progress", ended_at=None) if _is_older(one, latest.get(one.id), now) else one
        for one in seen
    ]


def watch(
    api: Api,
    ids: Sequence[str],
    job: Job | None,
    wait_s: float,
    system: System,
    progress: Progress,
    seen: Callable[[list[Batch]], None] | None = None,
) -> list[Batch]:
    """Look until all batches are terminal or `wait_s` is over, and return the last sight of them.

    `seen` is told of each sight. Raises ApiError when the server stays away too long.
    """
    ends = system.monotonic() + wait_s
    age = system.now() - job.created_at if job is not None else 0.0
    zero = system.monotonic() - max(0.0, age)  # from here on no set clock changes the pace
    api.patience_s = min(PATIENCE_S, max(wait_s, 20.0))
    api.until = ends if wait_s > 0 else None
    pace = Pace(system.random)
    batches: list[Batch] = []
    while True:
        try:
            batches = look(api, ids, system, job)
        except ApiError as error:
            if not batches or not error.may_pass or system.monotonic() < ends:
                raise
            return batches  # the wait ended inside a call: what was seen last still stands
        if seen is not None:
            seen(batches)
        if all(one.terminal for one in batches):
            return batches
        left = ends - system.monotonic()
        if left <= 0:
            return batches
        done = sum(one.completed + one.failed for one in batches)
        total = sum(one.total for one in batches)
        progress.show(f"{status_of(batches)}, requests done:", done, total)
        system.sleep(min(left, pace.wait(system.monotonic() - zero, done, total)))


def watch_job(
    job: Job,
    api: Api,
    wait_s: float,
    system: System,
    progress: Progress,
    seen: Callable[[list[Batch]], None] | None = None,
) -> list[Batch]:
    """`watch` all batches of a job; raises Failure where the server stays away too long."""
    try:
        return watch(api, [one.batch_id or "" for one in job.batches], job, wait_s, system, progress, seen)
    except ApiError as error:
        raise error.failure("watching the job") from error
    finally:
        api.until = None


def status_of(batches: Sequence[Batch]) -> str:
    """One word for several batches: their common status, else in_progress while any runs, else the worst."""
    states = {one.status for one in batches}
    if len(states) == 1:
        return plain(states.pop(), 40)
    if not states:  # nothing had to be asked
        return "completed"
    if any(not one.terminal for one in batches):
        return "in_progress"
    return next(state for state in ("failed", "expired", "cancelled", "completed") if state in states)


def remarks(batch: Batch, now: float) -> list[str]:
    """What a status word hides: a window that has passed, a state that should have passed, the server's errors."""
    found = [f"{batch.id}: {error}" for error in batch.errors[:3]]
    age = now - batch.created_at if batch.created_at else 0.0
    if batch.status == "cancelling" and age > STUCK_S:
        found.append(
            f"{batch.id} has been cancelling for long; it may never end. fetch_results.py --partial gets its rows"
        )
    if batch.status == "validating" and age > STUCK_S:
        found.append(
            f"{batch.id} has been validating for {age / 60:.0f} minutes; if it stays so, cancel it and ask the provider"
        )
    if not batch.terminal and batch.expires_at and now > batch.expires_at:
        found.append(f"{batch.id} is past its completion window of {plain(batch.window, 20)} and still {batch.status}")
    return found


class Answering:
    """The batches that answer each batch file of a job, or bare batches with the given ids."""

    def __init__(
        self, store: JobFile | None, ids: Sequence[str], api: Api, system: System, note: Callable[[str], None]
    ) -> None:
        self._store = store
        self._ids = ids
        self._api = api
        self._system = system
        self._note = note
        self._begun, self._began = system.now(), system.monotonic()

    def look(self, seen: Sequence[Batch] | None = None) -> list[Asked]:
        """One entry for each batch file of the job, or for each bare batch; raises Failure where there is no answer.

        Batches that were just `seen`, all of them and in order, are not looked at again.
        """
        try:
            if self._store is None:
                batches = [self._as_it_is(one) for one in seen or look(self._api, self._ids, self._system)]
                return [Asked(None, one.total, one.endpoint, (one,)) for one in batches]
            job = self._store.job
            made = [one for one in job.batches if one.batch_id]
            ids = [one.batch_id or "" for one in made]
            seen = seen or look(self._api, ids, self._system, job)
        except ApiError as error:
            raise error.failure("looking at the batches") from error
        asked = []
        for index, file in enumerate(job.files):
            path: Path | None = (named := self._store.input_path(file))
            if sha256_of(named, self._system.disk) != file.sha256:
                self._note(f"{plain(path, 120)} is gone or was changed; the server's copy says what was asked")
                path = None
            answers = tuple(self._as_it_is(one) for own, one in zip(made, seen, strict=True) if own.file == index)
            asked.append(Asked(path, file.requests, file.endpoint, answers))
        return asked

    def over(self, handle: str) -> list[Asked]:
        """The same once nothing can come any more; raises Failure (7) while batches run, which `handle` names."""
        while True:
            asked = self.look()
            batches = [batch for one in asked for batch in one.batches]
            left = max(map(self._may_come_s, batches), default=0.0)
            if left <= 0 or any(not one.terminal and one.status != SETTLING for one in batches):
                _require_over(asked, handle)
                return asked
            self._note("a batch was cancelled; waiting for answers that may still come")
            self._system.sleep(min(left, SETTLE_S / 9))

    def _may_come_s(self, batch: Batch) -> float:
        """How long answers may still come that were under way when the batch was cancelled, in seconds.

        Such a result takes the place of its request's cancellation (fusillade postgres.rs). A clock that is set
        meanwhile makes it neither longer nor shorter.
        """
        if batch.status not in ("cancelled", SETTLING) or not is_open(batch) or (self._store and self._store.job.local):
            return 0.0
        return min(batch.ended_at or 0, self._begun) + SETTLE_S - self._begun - (self._system.monotonic() - self._began)

    def _as_it_is(self, batch: Batch) -> Batch:
        """The batch, shown as running while answers may still come."""
        return replace(batch, status=SETTLING) if self._may_come_s(batch) > 0 else batch


def is_open(batch: Batch) -> bool:
    """Whether the batch has requests that neither succeeded nor failed."""
    return batch.completed + batch.failed < batch.total


def counts_of(asked: Sequence[Asked]) -> dict[str, list[int]]:
    """By the id of each batch, how many of its requests succeeded, and failed."""
    return {batch.id: [batch.completed, batch.failed] for one in asked for batch in one.batches}


def _require_over(asked: list[Asked], handle: str) -> None:
    unsent = sum(1 for one in asked if not one.batches)
    if unsent:
        message = f"{unsent} of {len(asked)} batch files have no batch yet"
        hint = "run the submit.py command again: it goes on where it stopped"
        raise Failure(Exit.NOT_FINISHED, "not_submitted", message, hint)
    batches = [batch for one in asked for batch in one.batches]
    running = sum(1 for one in batches if not one.terminal)
    if running:
        done = sum(one.completed + one.failed for one in batches)
        message = f"{running} of {len(batches)} batches still run, {done} requests are done; nothing was written"
        hint = f"{script('poll.py')} {handle} --wait 600; or add --partial to take what is there"
        raise Failure(Exit.NOT_FINISHED, "not_finished", message, hint)
