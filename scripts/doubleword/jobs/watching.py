"""Watching batches: one look, or many at a pace that finds the end soon and asks seldom.

Promises: at most 400 looks in 24 hours, the end found within 2 % of the run time (2.2 s for short runs);
a wait always ends; "done" is said only of what the server says is over, "succeeded" only of what is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from doubleword.cli import Progress
from doubleword.failure import plain
from doubleword.jobs.job_file import Job
from doubleword.server.api import PAGE, Api
from doubleword.server.errors import ApiError
from doubleword.server.objects import Batch
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


def older_than_retry(job: Job, system: System) -> Callable[[Batch], bool]:
    """Tells a sight of a batch from before its confirmed retry, which a lagging replica may give for a while."""
    latest = {one.batch_id: one.retries[-1] for one in job.batches if one.retries and job.local is None}

    def is_old(batch: Batch) -> bool:
        asked = latest.get(batch.id)
        if asked is None or asked.state != "asked" or system.now() - asked.at > RETRY_SHOWS_S:
            return False
        return batch.terminal and counted(batch) == asked.before

    return is_old


def look(api: Api, ids: Sequence[str], job_id: str = "", is_old: Callable[[Batch], bool] | None = None) -> list[Batch]:
    """The batches with these ids, in their order; several of one job come by one list call where that finds them.

    One that `is_old` tells is shown as running, which it does.
    """
    found: dict[str, Batch] = {}
    if len(ids) > 1 and job_id:
        try:
            for number, batch in enumerate(api.batches(search=job_id), start=1):
                found[batch.id] = batch
                if number >= max(PAGE, 2 * len(ids)) or all(one in found for one in ids):
                    break
        except ApiError as error:
            if error.status not in (400, 422):  # a server that knows no search tells each batch by its id
                raise
    seen = [found[one] if one in found else api.batch(one, known=bool(job_id)) for one in ids]
    return [replace(one, status="in_progress", ended_at=None) if is_old and is_old(one) else one for one in seen]


def watch(
    api: Api,
    ids: Sequence[str],
    *,
    job_id: str,
    started: float,
    wait_s: float,
    system: System,
    progress: Progress,
    is_old: Callable[[Batch], bool] | None = None,
) -> list[Batch]:
    """Look until all batches are terminal or `wait_s` is over, and return the last sight of them.

    `started` is when the job began (epoch seconds). Raises ApiError when the server stays away too long.
    """
    ends = system.monotonic() + wait_s
    zero = system.monotonic() - max(0.0, system.now() - started)  # from here on no set clock changes the pace
    api.patience_s = min(PATIENCE_S, max(wait_s, 20.0))
    api.until = ends if wait_s > 0 else None
    pace = Pace(system.random)
    batches: list[Batch] = []
    while True:
        try:
            batches = look(api, ids, job_id, is_old)
        except ApiError as error:
            if not batches or not error.may_pass or system.monotonic() < ends:
                raise
            return batches  # the wait ended inside a call: what was seen last still stands
        if all(one.terminal for one in batches):
            return batches
        left = ends - system.monotonic()
        if left <= 0:
            return batches
        done = sum(one.completed + one.failed for one in batches)
        total = sum(one.total for one in batches)
        progress.show(f"{status_of(batches)}, requests done:", done, total)
        system.sleep(min(left, pace.wait(system.monotonic() - zero, done, total)))


def status_of(batches: Sequence[Batch]) -> str:
    """One word for several batches: their common status, else in_progress while any runs, else the worst."""
    states = {one.status for one in batches}
    if len(states) == 1:
        return plain(states.pop(), 40)
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
