"""poll.py: one look at the batches of a job, or many until they are over.

Promises: "done" is said only of what the server says is over, "succeeded" only of what is counted.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from doubleword.cli import Progress, iso, quoted, script
from doubleword.failure import Exit, Failure
from doubleword.jobs.connection import connect
from doubleword.jobs.cost_limit import bill_of
from doubleword.jobs.job_file import JobFile, resolve
from doubleword.jobs.watching import remarks, status_of, watch
from doubleword.server.api import Api
from doubleword.server.errors import ApiError
from doubleword.server.objects import Batch
from doubleword.system import System


def poll(args: argparse.Namespace, system: System) -> dict[str, Any]:
    """The work of `poll.py`; answers its output keys, or raises Failure 6 or 7 with them."""
    progress = Progress(system.monotonic)
    store, ids = resolve(args.names, system.disk)
    handle = quoted(store.path) if store is not None else " ".join(ids)
    if store is not None:
        if not store.job.submitted:
            hint = "run the submit.py command again: it goes on where it stopped"
            raise Failure(Exit.NOT_FINISHED, "not_submitted", "some batch files have no batch yet", hint)
        ids = [one.batch_id or "" for one in store.job.batches]
    ends = system.monotonic() + args.wait
    with connect(args, system, progress.note, store) as api:
        seen = None
        if args.report is not None:
            from doubleword.report.reporting import along  # which needs packages that a look does not

            seen = along(args.report, store, ids, api, system, progress)
        try:
            job = store.job if store is not None else None
            batches = watch(api, ids, job, args.wait, system, progress, seen)
        except ApiError as error:
            raise error.failure("looking at the batch", known(store) if store is not None else None) from error
        finally:
            progress.close()
        over = all(one.terminal for one in batches)
        bill = _bill(api, batches, store, system, ends - system.monotonic()) if over or vars(args).get("cost") else {}
    return report(batches, store, system, handle, bill)


def known(store: JobFile) -> dict[str, Any]:
    """What a job file alone tells, while the server is away."""
    made = [{"id": one.batch_id, "requests": one.input.requests} for one in store.job.batches]
    return {"batches": made, "window": store.job.window, "created_at": iso(store.job.created_at)}


def _bill(api: Api, batches: Sequence[Batch], store: JobFile | None, system: System, wait_s: float) -> dict[str, Any]:
    """The keys of the bill, without any results; nothing on the embedded engine, which costs nothing."""
    job = store.job if store is not None else None
    if job is not None and job.local is not None:
        return {}
    paths: list[Path | None] = []
    with contextlib.suppress(Failure):  # a batch file that is gone, or was changed
        paths = [store.input_path(one) for one in store.job.files] if store is not None else []
    return bill_of(api, store, batches, paths, system, None, wait_s)


def report(
    batches: Sequence[Batch], store: JobFile | None, system: System, handle: str, bill: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The keys of `poll.py`, when everything succeeded; raises Failure 6 or 7 with the same keys otherwise.

    Counts of a job are held against the requests it was made of, not against what the server says it has.
    """
    now = system.now()
    total = store.job.requests if store is not None else sum(one.total for one in batches)
    completed = sum(one.completed for one in batches)
    failed = sum(one.failed for one in batches)
    last = batches
    if store is not None:
        # The latest attempt of a batch file says what is open: its own requests, and those that it left out.
        latest = {one.file: (one, batch) for one, batch in zip(store.job.batches, batches, strict=True)}.values()
        last = [batch for _, batch in latest]
        completed = total - sum(one.left + one.input.requests - batch.completed for one, batch in latest)
        failed = sum(one.left + batch.failed for one, batch in latest)
    started = min((one.created_at for one in batches if one.created_at), default=None)
    keys: dict[str, Any] = {
        "status": status_of(last if all(one.terminal for one in batches) else batches),
        "done": all(one.terminal for one in batches),
        "counts": {"total": total, "completed": completed, "failed": failed},
        "batches": [
            {"id": one.id, "status": one.status, "total": one.total, "completed": one.completed, "failed": one.failed}
            for one in batches
        ],
        "elapsed_s": max(0, round(now - started)) if started else 0,
        **(bill or {}),
    }
    warnings = [remark for one in batches for remark in remarks(one, now)]
    if warnings:
        keys["warnings"] = warnings
    if not keys["done"]:
        again = f"{script('poll.py')} {handle} --wait 600"
        message = f"{completed + failed} of {total} requests are done"
        if store is not None and store.job.local is not None:
            message += "; the embedded engine works only while a script runs, such as poll.py --wait"
        raise Failure(Exit.NOT_FINISHED, "not_finished", message, again, keys)
    if failed or completed != total or (batches and not total):
        message = f"the batch is over: {completed} of {total} requests succeeded, {failed} failed"
        if not total:
            message = "the batch is over and holds no request at all"
        hint = f"{script('fetch_results.py')} {handle} says which, why, and what to do"
        raise Failure(Exit.SOME_FAILED, "some_failed", message, hint, keys)
    return keys
