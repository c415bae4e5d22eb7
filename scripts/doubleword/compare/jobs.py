"""The jobs of a comparison: one for each variant, brought to the server together, waited for, and delivered.

Promises: all files are on the server, and all of it is within the limit by the server's prices, before the first batch
is made; where one is refused no file is left, and nothing is paid; a delivery that is final needs no server.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from doubleword.cli import Progress, again
from doubleword.commands.fetch_results import Delivery, is_final
from doubleword.commands.submit import opened
from doubleword.compare.sample import Side
from doubleword.failure import Exit, Failure, plain
from doubleword.jobs.cost_limit import learn, require_limit
from doubleword.jobs.job_file import Intended, JobFile, job_path
from doubleword.jobs.submission import bring, checked, refuse_written
from doubleword.jobs.watching import status_of, watch_job
from doubleword.server.api import Api
from doubleword.server.objects import Batch
from doubleword.system import System

# What `fetch_results.py JOB --format jsonl` is given where no other flag is.
OPTIONS = {
    **dict.fromkeys(("join", "id", "columns", "delimiter", "history", "response_schema")),
    **dict.fromkeys(("bom", "raw_cells", "partial", "force"), False),
    "format": "jsonl",
}


class VariantJob(NamedTuple):
    """A variant's job, and what writes its results as `fetch_results.py JOB --format jsonl` would; `resumed` says that
    an earlier run made it.
    """

    side: Side
    store: JobFile
    resumed: bool
    delivery: Delivery


def planned(side: Side, args: argparse.Namespace, system: System, progress: Progress) -> VariantJob:
    """The job of a variant, taken up again or planned. Nothing is sent.

    Raises Failure (exit 2) where a job of this name was made with other options.
    """
    output, results = Path(args.output), side.variant.path(".results.jsonl")
    metadata = {"comparison": output.name, "variant": side.name}
    told = argparse.Namespace(**{**vars(args), "max_cost": None})  # which is one for all jobs
    path, check = job_path(side.path), checked([side.path], system)
    if system.disk.size(path) is None:
        refuse_written(results, args, system.disk, None if side.is_new else path)
    try:
        store, resumed = opened(told, check, path, metadata, system, local=f"{output.stem}.local")
    except Failure as failure:
        if failure.code in ("other_options", "batch_file_changed"):
            failure.hint = "use the arguments of the first run, or name another OUTPUT for a new, paid comparison"
        raise
    delivery = Delivery(argparse.Namespace(**OPTIONS, output=str(results)), store, [], system, progress)
    return VariantJob(side, store, resumed, delivery)


def require_one_server(jobs: Sequence[VariantJob]) -> None:
    """Raise Failure (exit 2) unless all jobs belong to one server."""
    servers = {(one.store.job.base_url, one.store.job.local) for one in jobs}
    if len(servers) > 1:
        named = ", ".join(plain(url or "the embedded engine", 120) for url, _ in sorted(servers, key=str))
        message = f"the jobs of this comparison were made on several servers: {named}"
        raise Failure(Exit.BAD_INPUT, "other_server", message, "name another OUTPUT for a comparison on one of them")


def submit(
    jobs: Sequence[VariantJob], api: Api, system: System, progress: Progress, limit: float | None, more: Sequence[Path]
) -> None:
    """Create every batch that is not there yet: the files of all jobs are there before the first is paid.

    `limit` is the most they may cost, in USD and if any, together with the requests in the files `more`. Raises Failure
    (8), with nothing left on the server, beyond the limit.
    """
    waiting = [one for one in jobs if not all(batch.may_cost for batch in one.store.job.batches)]
    unsure: set[str] = set()

    def bring_from(at: int) -> None:
        """The files of one, and before it is paid those of the next; the last one knows the prices of all."""
        one = waiting[at]

        def approve(batches: Sequence[Intended]) -> None:
            if one.store.job.local is None:
                unsure.update(learn(one.store, api, system, batches, progress.note)[0])
            if at + 1 < len(waiting):
                bring_from(at + 1)
            else:
                require_limit([one.store for one in jobs], limit, system, unsure=unsure, more=more)

        bring(one.store, api, system, progress, one.resumed, approve)

    if waiting:
        bring_from(0)
    for one in jobs:  # where the reply of a call was lost, it is looked for
        if not one.store.job.submitted:
            bring(one.store, api, system, progress, one.resumed, None)


def delivered(one: VariantJob, api: Api | None) -> dict[str, Any] | None:
    """The keys of `fetch_results.py` on a variant's results, also where requests failed.

    Without `api` those of an earlier delivery to which nothing can be added; None where there is none, and the server
    is needed. Raises Failure (7) while answers may still come.
    """
    former = one.delivery.former()
    try:
        if api is None:
            return one.delivery.repeated(former) if former is not None and is_final(former) else None
        one.delivery.replaces = True  # what a retry made out of date is this comparison's own file
        return one.delivery.run(api, former)
    except Failure as failure:
        if failure.exit_code == Exit.SOME_FAILED:
            return failure.keys
        if failure.exit_code == Exit.NOT_FINISHED:
            failure.hint, failure.keys = again(), {}
        raise


def wait_for(jobs: Sequence[VariantJob], api: Api, ends: float, system: System, progress: Progress) -> None:
    """Watch until every batch of all jobs is over; raises Failure (7) where one still runs at `ends`."""
    with contextlib.closing(progress):
        seen = [watch_job(one.store.job, api, max(0.0, ends - system.monotonic()), system, progress) for one in jobs]
    told = [
        {"name": one.side.name, "job": str(one.store.path), **_counts(own)} for one, own in zip(jobs, seen, strict=True)
    ]
    running = [one["name"] for one, own in zip(told, seen, strict=True) if not all(batch.terminal for batch in own)]
    if running:
        message = f"{len(running)} of {len(jobs)} jobs still run, such as that of {plain(running[0], 80)}"
        raise Failure(Exit.NOT_FINISHED, "not_finished", message, again(), {"variants": told})


def _counts(batches: Sequence[Batch]) -> dict[str, Any]:
    sums = {name: sum(getattr(one, name) for one in batches) for name in ("total", "completed", "failed")}
    return {"status": status_of(batches), "counts": sums}
