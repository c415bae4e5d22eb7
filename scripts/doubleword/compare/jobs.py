"""The jobs of a comparison: one for each variant, brought to the server together, waited for, and delivered.

Promises: all files are on the server, and all of it is within the limit by the server's prices, before the first batch
is made; where one is refused no file is left, and nothing is paid; a delivery that is final needs no server.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from doubleword.cli import Progress, again
from doubleword.commands.fetch_results import Delivery, is_final
from doubleword.compare.sample import Sample
from doubleword.compare.variants import Variant
from doubleword.failure import Exit, Failure, plain
from doubleword.jobs.connection import chosen_base_url
from doubleword.jobs.cost_limit import ASKED, Approval, prices_of, require_cost, spent_ceiling
from doubleword.jobs.job_file import Intended, JobFile, Written, job_path
from doubleword.jobs.submission import WINDOWS, bring, checked, plan, require_same
from doubleword.jobs.watching import older_than_retry, status_of, watch
from doubleword.output_file import refuse_existing
from doubleword.pricing.prices import Prices
from doubleword.server.api import Api
from doubleword.server.errors import ApiError
from doubleword.server.objects import Batch
from doubleword.system import Disk, System

NO_TABLE = {"join": None, "id": None, "columns": None, "delimiter": None, "bom": False, "raw_cells": False}
OPTIONS = {**NO_TABLE, "format": "jsonl", "history": None, "response_schema": None, "partial": False}


@dataclass(frozen=True)
class VariantJob:
    """A variant's job; `resumed` says that an earlier run made it."""

    variant: Variant
    sample: Sample
    store: JobFile
    resumed: bool
    results: Path

    def delivery(self, system: System, progress: Progress, force: bool) -> Delivery:
        """What writes its results, as `fetch_results.py JOB --format jsonl` would."""
        args = argparse.Namespace(**OPTIONS, output=str(self.results), force=force)
        return Delivery(args, self.store, [], system, progress)

    @property
    def errors(self) -> Path:
        """The file of what failed, where something did."""
        return self.results.with_name(f"{self.results.stem}.errors.jsonl")


def planned(variant: Variant, sample: Sample, args: argparse.Namespace, output: Path, system: System) -> VariantJob:
    """The job of a variant, taken up again or planned. Nothing is sent.

    Raises Failure (exit 2) where a job of this name was made with other options.
    """
    path = job_path(sample.path)
    check = checked([sample.path], system)
    metadata = {"comparison": output.name, "variant": variant.name}
    results = variant.path(output, ".results.jsonl")
    resumed = system.disk.size(path) is not None
    if resumed:
        store = JobFile.load(path, system.disk)
        try:
            require_same(store, check, args.window, metadata)
        except Failure as failure:
            failure.hint = "use the arguments of the first run, or name another OUTPUT for a new, paid comparison"
            raise
    else:
        refuse_existing(results, system.disk, args.force)
        store = plan(
            check,
            path,
            base_url=None if args.local else chosen_base_url(args),
            local=f"{output.stem}.local" if args.local else None,
            window=args.window or WINDOWS[0],
            metadata=metadata,
            system=system,
        )
    return VariantJob(variant, sample, store, resumed, results)


def require_one_server(jobs: Sequence[VariantJob]) -> None:
    """Raise Failure (exit 2) unless all jobs belong to one server."""
    servers = {(one.store.job.base_url, one.store.job.local) for one in jobs}
    if len(servers) > 1:
        named = ", ".join(plain(url or "the embedded engine", 120) for url, _ in sorted(servers, key=str))
        message = f"the jobs of this comparison were made on several servers: {named}"
        raise Failure(Exit.BAD_INPUT, "other_server", message, "name another OUTPUT for a comparison on one of them")


class Together:
    """Brings jobs to their server, all or none; `limit` is the most they may cost, in USD and if any, together with the
    requests in the files `more`.
    """

    def __init__(
        self,
        jobs: Sequence[VariantJob],
        api: Api,
        system: System,
        progress: Progress,
        limit: float | None,
        more: Sequence[Path] = (),
    ) -> None:
        self._jobs = jobs
        self._api = api
        self._system = system
        self._progress = progress
        self._limit = limit
        self._more = more
        self._unsure: set[str] = set()

    def submit(self) -> None:
        """Create every batch that is not there yet; raises Failure (8), with nothing left, beyond the limit."""
        waiting = [one for one in self._jobs if _unasked(one.store)]
        if waiting:
            self._bring(waiting)
        for one in self._jobs:  # where the reply of a call was lost, it is looked for
            if not one.store.job.submitted:
                bring(one.store, self._api, self._system, self._progress, one.resumed, None)

    def _bring(self, waiting: Sequence[VariantJob]) -> None:
        """The files of the first; then, before it is paid, the others; the last one knows the prices of all."""
        first, others = waiting[0], waiting[1:]
        store = first.store

        def approve(ones: Sequence[Intended]) -> None:
            if store.job.local is None:
                unsure, _ = Approval(store, self._api, self._system, None, self._progress.note).learn(ones)
                self._unsure |= unsure
            if others:
                self._bring(others)
            elif self._limit is not None:
                stores = [one.store for one in self._jobs]
                require_limit(stores, self._limit, self._system, unsure=self._unsure, more=self._more)

        bring(store, self._api, self._system, self._progress, first.resumed, approve)


def require_limit(
    stores: Sequence[JobFile],
    limit: float,
    system: System,
    last_word: bool = True,
    unsure: Iterable[str] = (),
    more: Sequence[Path] = (),
) -> None:
    """Raise Failure (8) unless all that the jobs have asked and would ask, and the requests in the files `more`, surely
    costs at most `limit` USD; as `require_cost`. Of `unsure` models the server does not tell the price.
    """
    if any(store.job.local is not None for store in stores):
        return
    window = stores[0].job.window
    paths = [store.input_path(one.input) for store in stores for one in _unasked(store)]
    spent = [spent_ceiling(store, system) for store in stores]
    known = [one for one in spent if one is not None]
    before = sum(known) if len(known) == len(spent) else None
    prices = joint_prices(stores, system.disk).without(set(unsure), window)
    require_cost([*paths, *more], window, limit, system, before, prices, last_word)


def joint_prices(stores: Sequence[JobFile], disk: Disk) -> Prices:
    """The price table, put right by what the server said of any of the jobs."""
    tariff: dict[str, dict[str, list[str]]] = {}
    for store in stores:
        for model, windows in store.job.tariff.items():
            tariff.setdefault(model, {}).update(windows)
    return prices_of(replace(stores[0].job, tariff=tariff), disk)


def _unasked(store: JobFile) -> list[Intended]:
    """The batches that cost nothing yet."""
    return [one for one in store.job.batches if one.state not in ASKED]


def former_of(one: VariantJob, system: System, progress: Progress) -> tuple[Delivery, Written | None]:
    """What delivers a variant's results, and what an earlier run wrote of them."""
    delivery = one.delivery(system, progress, force=False)
    return delivery, delivery.former()


def final_keys(one: VariantJob, system: System, progress: Progress) -> dict[str, Any] | None:
    """The keys of a delivery to which nothing can be added; None where there is none, and the server is needed."""
    delivery, former = former_of(one, system, progress)
    return _keys(lambda: delivery.repeated(former)) if former is not None and is_final(former) else None


def deliver(one: VariantJob, api: Api, system: System, progress: Progress) -> dict[str, Any]:
    """Write a variant's results; the keys of `fetch_results.py`, also where requests failed.

    Raises Failure (7) while answers may still come.
    """
    _, former = former_of(one, system, progress)
    # What a retry made out of date is this comparison's own file, and is replaced.
    delivery = one.delivery(system, progress, force=former is None)
    try:
        return _keys(lambda: delivery.run(api, former))
    except Failure as failure:
        if failure.exit_code == Exit.NOT_FINISHED:
            failure.hint, failure.keys = again(), {}
        raise


def _keys(deliver: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The keys of a delivery, also of one that tells of failures."""
    try:
        return deliver()
    except Failure as failure:
        if failure.exit_code != Exit.SOME_FAILED:
            raise
        return failure.keys


def wait_for(jobs: Sequence[VariantJob], api: Api, ends: float, system: System, progress: Progress) -> None:
    """Watch until every batch of all jobs is over; raises Failure (7) where one still runs at `ends`."""
    seen: list[tuple[VariantJob, list[Batch]]] = []
    for one in jobs:
        job = one.store.job
        try:
            batches = watch(
                api,
                [batch.batch_id or "" for batch in job.batches],
                job_id=job.id,
                is_old=older_than_retry(job, system),
                started=job.created_at,
                wait_s=max(0.0, ends - system.monotonic()),
                system=system,
                progress=progress,
            )
        except ApiError as error:
            raise error.failure("watching the jobs") from error
        finally:
            api.until = None
        seen.append((one, batches))
    with contextlib.closing(progress):
        running = [one.variant.name for one, batches in seen if not all(batch.terminal for batch in batches)]
    if running:
        told = [{"name": one.variant.name, "job": str(one.store.path), **_counts(batches)} for one, batches in seen]
        message = f"{len(running)} of {len(jobs)} jobs still run, such as that of {plain(running[0], 80)}"
        raise Failure(Exit.NOT_FINISHED, "not_finished", message, again(), {"variants": told})


def _counts(batches: Sequence[Batch]) -> dict[str, Any]:
    sums = {
        "total": sum(one.total for one in batches),
        "completed": sum(one.completed for one in batches),
        "failed": sum(one.failed for one in batches),
    }
    return {"status": status_of(batches), "counts": sums}
