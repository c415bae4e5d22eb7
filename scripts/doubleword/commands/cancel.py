"""Batches ended early: said what would be lost, done only when confirmed, believed only when the server says so.

Promises: a finished batch is left alone (the server would relabel a completed one, dwctl batches.rs); a batch
is not cancelled while it is still being filled, since such a one may stay "cancelling" for ever (fusillade
postgres.rs); nothing is called cancelled before the server does.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from doubleword.cli import Progress, quoted, script
from doubleword.failure import Exit, Failure, plain
from doubleword.jobs.connection import connect
from doubleword.jobs.exactly_once import LAG_S
from doubleword.jobs.job_file import Job, resolve
from doubleword.jobs.watching import look
from doubleword.server.api import Api
from doubleword.server.errors import ApiError
from doubleword.server.objects import Batch
from doubleword.system import System

WAIT_UNTIL_FILLED_S = 60.0
WAIT_UNTIL_CANCELLED_S = 60.0
WAIT_UNTIL_STILL_S = 30.0
PAUSE_S = 2.0
LOOKS_ALIKE = 2


def cancel_named(args: argparse.Namespace, system: System) -> dict[str, Any]:
    """The work of `cancel.py`: the batches of a job, or those with the given ids."""
    progress = Progress(system.monotonic)
    store, ids = resolve(args.names, system.disk)
    handle = quoted(store.path) if store is not None else " ".join(ids)
    if store is not None:
        ids = [one.batch_id for one in store.job.batches if one.batch_id]
        if not ids:
            raise Failure(Exit.NOT_FOUND, "no_batch", "this job has no batch yet", f"{script('submit.py')} --help")
    with connect(args, system, progress.note, store) as api:
        return cancel(api, ids, store.job if store is not None else None, args.yes, handle, system)


def cancel(
    api: Api, ids: Sequence[str], job: Job | None, confirmed: bool, handle: str, system: System
) -> dict[str, Any]:
    """The keys of `cancel.py`, with the totals over its batches.

    Raises Failure 8 without confirmation, 7 when the end was not seen in time.
    """

    def seen(*ids: str) -> list[Batch]:
        return look(api, ids, system, job)

    try:
        batches = seen(*ids)
        running = [one for one in batches if not one.terminal]
        if running and not confirmed:
            open_requests = sum(one.total - one.completed - one.failed for one in running)
            message = f"{len(running)} batches would be cancelled, {open_requests} requests would not be run"
            hint = f"{script('cancel.py')} {handle} --yes"
            raise Failure(Exit.REFUSED, "not_confirmed", message, hint, _keys(batches))
        ended = [_cancel_one(api, one, lambda one: seen(one.id)[0], system) for one in batches]
        if running:
            ended = _still(ended, seen, system)
    except ApiError as error:
        raise error.failure("cancelling") from error
    keys = _keys(ended)
    if any(not one.terminal for one in ended):
        message = "the server took the request, and has not said that the batch is cancelled"
        raise Failure(Exit.NOT_FINISHED, "cancelling", message, f"{script('poll.py')} {handle}", keys)
    if keys["kept"] or keys["failed"]:
        keys["hint"] = f"{script('fetch_results.py')} {handle} gets what was answered, once no more can come"
    return keys


def _cancel_one(api: Api, batch: Batch, seen: Callable[[Batch], Batch], system: System) -> Batch:
    """Cancel unless it is over, looking again after each lost reply: a repeated cancel changes nothing."""
    filled_by = system.monotonic() + WAIT_UNTIL_FILLED_S
    while batch.status == "validating" and system.monotonic() < filled_by:
        system.sleep(PAUSE_S)
        batch = seen(batch)
    ends, refused = system.monotonic() + WAIT_UNTIL_CANCELLED_S, False
    while not batch.terminal:
        if batch.status != "cancelling":
            try:
                batch = api.cancel(batch.id)
            except ApiError as error:
                if not error.may_have_happened and not error.may_pass:
                    if error.status not in (400, 409) or refused:
                        raise
                    # What has just ended cannot be cancelled at OpenAI; unless others retry it, which can be.
                    refused = True
                    system.sleep(LAG_S)
                    batch = seen(batch)
        if batch.terminal or system.monotonic() >= ends:
            break
        system.sleep(PAUSE_S)
        batch = seen(batch)
    return batch


def _still(batches: list[Batch], seen: Callable[..., list[Batch]], system: System) -> list[Batch]:
    """The batches once their counts stand still: answers that were under way still come (fusillade postgres.rs)."""
    ends = system.monotonic() + WAIT_UNTIL_STILL_S
    alike = 0
    while alike < LOOKS_ALIKE and system.monotonic() < ends:
        system.sleep(PAUSE_S)
        # A sight that is not over is an older one, of a replica.
        now = [new if new.terminal else old for old, new in zip(batches, seen(*(b.id for b in batches)), strict=True)]
        alike = alike + 1 if now == batches else 0
        batches = now
    return batches


def _keys(batches: Sequence[Batch]) -> dict[str, Any]:
    """What all batches come to: answers that are kept, requests that failed, and those that are not run any more."""
    rows = [
        {
            "id": one.id,
            "status": plain(one.status, 40),
            "total": one.total,
            "completed": one.completed,
            "failed": one.failed,
            "not_run": max(0, one.total - one.completed - one.failed),
        }
        for one in batches
    ]
    return {
        "batches": rows,
        "kept": sum(one.completed for one in batches),
        "failed": sum(one.failed for one in batches),
        "not_run": sum(row["not_run"] for row in rows),
    }
