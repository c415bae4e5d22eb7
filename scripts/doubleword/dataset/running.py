"""run_dataset.py: a dataset in, a dataset out, partition by partition.

Promises: all partitions are checked before anything is sent for the first; at most so many are under way at once; what
was asked for a partition is never asked again; the limit of the cost is one for all of them, and what may be spent is
counted before it is; the manifest is true whenever it is written.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from doubleword.batch_files.table_arguments import settings_of
from doubleword.cli import Progress
from doubleword.dataset import manifest
from doubleword.dataset.claims import read_state
from doubleword.dataset.on_ray import cluster
from doubleword.dataset.part_job import ENGINE
from doubleword.dataset.partitions import Partition, Source, sliced
from doubleword.dataset.places import Place, is_url, place
from doubleword.dataset.steps import ALL, CHECK, FINISH, SUBMIT, Step, files_of, perform, said_once, was_retried
from doubleword.failure import Exit, Failure, plain
from doubleword.jobs.connection import chosen_base_url, connect
from doubleword.jobs.cost_limit import ASK, require_within
from doubleword.jobs.job_file import OF_DATASET
from doubleword.jobs.submission import WINDOWS
from doubleword.pricing.estimate import Total
from doubleword.pricing.live import all_live_prices
from doubleword.pricing.prices import REALTIME, load_prices
from doubleword.quick_msgspec import replace
from doubleword.request_lines.form_arguments import bad_arguments
from doubleword.server.api import Api
from doubleword.server.errors import ApiError
from doubleword.server.key import read_key
from doubleword.server.local_engine import LocalEngine, engine
from doubleword.system import System

RUN = "_run.json"
MANIFEST_S = 10.0
READ_AT_ONCE = 8
# Arguments that change neither what is asked nor what is written.
FREE = ("at_once", "ray", "max_cost", "wait", "dry_run", "base_url", "local", "source", "output", "force", "name")


def run(args: argparse.Namespace, system: System) -> dict[str, Any]:
    """The work of `run_dataset.py`: its keys, or Failure 6, 7 or 8 with them.

    Raises Failure 2 for arguments that do not fit, a source without tables, an output of another run or a source that
    was changed; as `run_batch.py` otherwise.
    """
    _refuse(args)
    progress = Progress(system.monotonic)
    with contextlib.ExitStack() as held:
        held.callback(progress.close)
        running = Running(args, _partitions(args, system), system, progress, held)
        return running.forecast() if args.dry_run else running.run()


class Running:
    """One run over all partitions."""

    def __init__(
        self,
        args: argparse.Namespace,
        parts: list[Partition],
        system: System,
        progress: Progress,
        held: contextlib.ExitStack,
    ) -> None:
        self._args = args
        self._parts = parts
        self._system = system
        self._progress = progress
        self._held = held
        self._output = place(args.output, system)
        self._base_url = None if args.local else chosen_base_url(args)
        self._files = files_of(args, system.disk)
        self._name = args.name or (args.output if is_url(args.output) else str(Path(args.output).absolute()))
        self._window = args.window or WINDOWS[0]
        self._ends = system.monotonic() + args.wait
        self._records: dict[str, dict[str, Any]] = {}
        self._costs: dict[str, float | None] = {}  # what each part costs at most, or did; None is not known
        self._open: list[str] = []  # why parts are open
        self._note = said_once(progress.note)
        self._under_way = 0
        self._submitting, self._working, self._noting = system.lock(), system.lock(), system.lock()
        self._manifest_at = system.monotonic()
        self._perform: Callable[[Step], dict[str, Any]] = self._here
        self._engine: LocalEngine | None = None

    def run(self) -> dict[str, Any]:
        """The keys of `run_dataset.py`."""
        args, output = self._args, self._output
        digest = _digest(args, self._files, self._name, self._base_url)
        is_new = not _is_known(output, digest, args.output)
        answer = functools.partial(manifest.answer, args.output, self._parts, self._records, self._open)
        begun = self._read_states()
        left = [one for one in self._parts if one.part not in self._records]
        left.sort(key=lambda one: one not in begun)
        if left and args.ray:
            self._perform = self._held.enter_context(cluster(args.ray, self._note))
        if not begun:
            # One that was retried since it was done asks nothing, and what it cost is known.
            self._require_cost(self._checked([one for one in left if one.part not in self._costs]))
        if is_new and not output.create(RUN, digest):
            _is_known(output, digest, args.output)
        if left and args.local:
            folder = Path(args.output) / OF_DATASET / ENGINE
            self._engine = self._held.enter_context(engine(folder, self._system, self._note))
        try:
            for one in begun if args.max_cost is not None else ():
                self._tried(one, self._count)
            works = [functools.partial(self._tried, one, self._work) for one in left]
            self._system.together(works, args.at_once)
        except Failure as failure:
            self._write_manifest()
            try:
                failure.keys = answer()
            except Failure as open_parts:
                failure.keys = open_parts.keys
            raise
        self._write_manifest()
        return answer()

    def forecast(self) -> dict[str, Any]:
        """What a dry run answers: the parts, and what they would cost."""
        asked = [one for one in self._checked(self._parts).values() if one is not None]
        total = Total(load_prices(None, self._system.disk))
        for one in asked:
            total.include(one)
        if self._args.max_cost is not None and not self._args.local and asked:
            require_within(self._args.max_cost, total.estimate(self._window), again=True)  # --limit is of each part
        return {"parts": {"total": len(self._parts), "asked": len(asked)}, **total.forecast(self._window)}

    def _read_states(self) -> list[Partition]:
        """Take note of the parts that are done; those that were begun and are not."""
        source, begun = Source(self._args.source, self._system.disk), list[Partition]()

        def read(one: Partition) -> None:
            state = read_state(self._output, one.part)
            if state is None:
                return
            record = state.record
            if record is None:
                begun.extend([one] if state.begun else [])
                return
            cost = record["cost_usd"]
            self._costs[one.part] = state.ceiling_usd if cost is None else cost
            if record["source"] != source.version(one):
                message = f"{plain(one.file, 120)} was changed since its part was written"
                hint = "restore it, or name another OUTPUT_DIR for a new, paid run"
                raise Failure(Exit.BAD_INPUT, "source_changed", message, hint)
            work = Path(self._args.output) / OF_DATASET
            if is_url(self._args.output) or not was_retried(record, one, work, self._system):
                self._records[one.part] = record

        self._system.together([functools.partial(read, one) for one in self._parts], READ_AT_ONCE)
        return begun

    # Before anything is sent

    def _checked(self, parts: list[Partition]) -> dict[str, Total | None]:
        """What each of them would ask; raises the Failure (2) of one that cannot be asked."""
        totals: dict[str, Total | None] = {}
        if not (self._args.local or self._args.ray or self._args.dry_run):
            with self._server():  # which needs a key
                pass

        def check(one: Partition) -> None:
            found = self._perform(self._step(CHECK, one))["total"]
            with self._noting:
                totals[one.part] = found
                self._progress.show("parts checked:", len(totals), len(parts))

        self._system.together([functools.partial(self._tried, one, check) for one in parts], self._args.at_once)
        return totals

    def _require_cost(self, totals: dict[str, Total | None]) -> None:
        """Raise Failure (8) unless all that is asked surely stays within --max-cost, by the server's prices."""
        limit = self._args.max_cost
        if limit is None or self._args.local:
            return
        spent = None if None in self._costs.values() else sum(cost or 0.0 for cost in self._costs.values())
        prices = load_prices(None, self._system.disk)
        models = {model for one in totals.values() if one is not None for model in one.models}
        if models and read_key():
            with self._server() as api, contextlib.suppress(ApiError):  # then the table has to do
                prices = prices.replaced(all_live_prices(api, self._system, models, (self._window, REALTIME)))
        whole = Total(prices)
        for part, found in totals.items():
            total = Total(prices)
            if found is not None:
                total.include(found)
                whole.include(found)
            self._costs[part] = total.estimate(self._window).ceiling_usd
        estimate = whole.estimate(self._window) if whole.requests else None
        require_within(limit, estimate, spent, again=True)  # --limit is of each part

    # One partition

    def _tried(self, one: Partition, work: Callable[[Partition], None]) -> None:
        """Do it; that a partition is not over yet, or another run has it, ends nothing else."""
        try:
            work(one)
        except Failure as failure:
            if failure.exit_code != Exit.NOT_FINISHED:
                if failure.exit_code in (Exit.BAD_INPUT, Exit.REFUSED):
                    failure.message = f"{plain(one.part, 120)}: {failure.message}"
                raise
            self._open.append(f"{plain(one.part, 120)}: {failure.message}")

    def _count(self, one: Partition) -> None:
        """Count what was asked for a partition already; a limit of nothing lets nothing new be asked."""
        try:
            self._submit_within(one, 0.0)
        except Failure as failure:
            if failure.exit_code != Exit.REFUSED:
                raise

    def _submit(self, one: Partition) -> None:
        with self._submitting:
            limit = _left(self._costs, one.part, float(self._args.max_cost))
            try:
                self._submit_within(one, limit)
            except Failure as failure:
                if failure.code == "over_max_cost":
                    failure.message += f"; of --max-cost {self._args.max_cost:g} for all parts USD {limit:g} is left"
                    failure.hint = f"once parts under way have ended there may be room: run it again; or {ASK}"
                raise

    def _submit_within(self, one: Partition, limit: float) -> None:
        self._costs[one.part] = self._perform(self._step(SUBMIT, one, limit))["ceiling_usd"]

    def _work(self, one: Partition) -> None:
        with self._noting:
            if self._under_way >= self._args.at_once and self._system.monotonic() >= self._ends:
                return  # so many are under way, and they are not waited for any more
            self._under_way += 1
        if self._args.max_cost is None:
            record = self._perform(self._step(ALL, one))
        else:
            self._submit(one)
            record = self._perform(self._step(FINISH, one, 0.0))  # what it asked is counted, and no more
        with self._noting:
            self._under_way -= 1
            self._records[one.part] = record
            if record["cost_usd"] is not None:
                self._costs[one.part] = record["cost_usd"]
            self._progress.show("parts done:", len(self._records), len(self._parts))
            if self._system.monotonic() - self._manifest_at >= MANIFEST_S:
                self._write_manifest()

    def _step(self, what: str, one: Partition, limit: float | None = None) -> Step:
        left = max(0.0, self._ends - self._system.monotonic())
        return Step(what, one, vars(self._args), self._files, self._name, self._base_url, limit, left)

    def _here(self, step: Step) -> dict[str, Any]:
        """A step in this process."""
        return perform(step, self._system, self._server, self._working, self._note)

    def _server(self) -> AbstractContextManager[Api]:
        if self._engine is not None:
            return contextlib.nullcontext(Api(self._engine.base_url, self._engine.key, self._system))
        return connect(self._args, self._system, self._note)

    def _write_manifest(self) -> None:
        self._manifest_at = self._system.monotonic()
        sums = manifest.manifest(self._parts, self._records)
        self._output.write(manifest.NAME, json.dumps(sums, indent=1).encode() + b"\n")


def _refuse(args: argparse.Namespace) -> None:
    """Raise Failure (2) for arguments that have no place here."""
    for flag in ("input", "example", "force"):
        if getattr(args, flag):
            raise bad_arguments(f"--{flag} has no place here: the rows are those of SOURCE", f"leave --{flag} out")
    if args.local and (is_url(args.output) or args.ray):
        raise bad_arguments("--local runs on this machine, in a local folder", "leave --local out")
    if args.local and args.base_url:
        raise Failure(Exit.BAD_INPUT, "two_servers", "--local and --base-url exclude each other", "give one of them")


def _partitions(args: argparse.Namespace, system: System) -> list[Partition]:
    source = Source(args.source, system.disk)
    parts = source.partitions()
    _refuse_nested(args.source, args.output, parts)
    if args.rows_per_part:
        return sliced(parts, args.rows_per_part, source, replace(settings_of(args), where=None), system.disk)
    return parts


def _refuse_nested(source: str, output: str, parts: list[Partition]) -> None:
    """Raise Failure (2) where parts of the output are, or would become, files of the source."""

    def place_of(given: str) -> str:
        return f"{given.rstrip('/') if is_url(given) else os.path.realpath(given)}/"

    inside = place_of(output).startswith(place_of(source))
    if inside or any(place_of(one.file).startswith(place_of(output)) for one in parts if not is_url(source)):
        message = f"the parts in {plain(output, 120)} would become files of the source {plain(source, 120)}"
        raise Failure(Exit.BAD_INPUT, "output_is_input", message, "name an OUTPUT_DIR beside the source")


def _digest(args: argparse.Namespace, files: Mapping[str, tuple[str, bytes]], name: str, server: str | None) -> bytes:
    """What `RUN` says: the name of the run, and a digest of what it asks."""
    asked = {flag: value for flag, value in vars(args).items() if flag not in FREE}
    contents = {flag: hashlib.sha256(content).hexdigest() for flag, (_, content) in files.items()}
    told = json.dumps({**asked, **contents, "server": server}, sort_keys=True)
    return json.dumps({"name": name, "asks": hashlib.sha256(told.encode()).hexdigest()}).encode()


def _is_known(output: Place, digest: bytes, shown: str) -> bool:
    """Whether the output was begun; raises Failure (2) where that was by a run that asked something else."""
    found = output.read(RUN)
    if found is not None and found.content != digest:
        message = f"{plain(shown, 120)} was begun with other arguments than these"
        hint = "name another OUTPUT_DIR for a new, paid run; or use the arguments, server and --name of the first"
        raise Failure(Exit.BAD_INPUT, "other_requests", message, hint)
    return found is not None


def _left(costs: Mapping[str, float | None], part: str, limit: float) -> float:
    """What a part may cost: what the others leave, or what it was checked for, should sums of USD differ by a hair.

    Raises Failure (8) where what others cost is not known.
    """
    others = {other: cost for other, cost in costs.items() if other != part}
    unknown = next((other for other, cost in others.items() if cost is None), None)
    if unknown is not None:
        message = f"--max-cost cannot be promised: what {plain(unknown, 120)} costs is not known"
        raise Failure(Exit.REFUSED, "cost_unknown", message, "leave --max-cost out")
    return max(costs.get(part) or 0.0, limit - sum(cost or 0.0 for cost in others.values()))
