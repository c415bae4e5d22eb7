"""run_dataset.py: a dataset in, a dataset out, partition by partition.

Promises: at most so many partitions are under way at once; what was asked for a partition is never asked again; the
limit of the cost is one for all of them, and what may be spent is counted before it is; the manifest is true whenever
it is written.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import json
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from doubleword.batch_files.table_arguments import settings_of
from doubleword.cli import Progress
from doubleword.dataset import manifest
from doubleword.dataset.claims import read_state
from doubleword.dataset.on_ray import cluster
from doubleword.dataset.part_job import ENGINE, PartJob
from doubleword.dataset.partitions import Partition, Source, sliced
from doubleword.dataset.places import is_url, place
from doubleword.dataset.steps import ALL, FINISH, SUBMIT, WORK, Step, files_of, perform, said_once, was_retried
from doubleword.failure import Exit, Failure, plain
from doubleword.jobs.connection import chosen_base_url, connect
from doubleword.jobs.cost_limit import ASK
from doubleword.jobs.submission import WINDOWS
from doubleword.pricing.estimate import Total
from doubleword.pricing.prices import load_prices
from doubleword.quick_msgspec import replace
from doubleword.request_lines.form_arguments import bad_arguments
from doubleword.server.api import Api
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
    parts = _partitions(args, system)
    if args.dry_run:
        return _forecast(args, parts, system)
    with contextlib.ExitStack() as held:
        held.callback(progress.close)
        return Running(args, parts, system, progress, held).run()


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
        self._require_same_run()
        begun = self._read_states()
        left = [one for one in self._parts if one.part not in self._records]
        left.sort(key=lambda one: one not in begun)
        if left and self._args.local:
            folder = Path(self._args.output) / WORK / ENGINE
            self._engine = self._held.enter_context(engine(folder, self._system, self._note))
        if left and self._args.ray:
            self._perform = self._held.enter_context(cluster(self._args.ray, self._note))
        try:
            for one in begun if self._args.max_cost is not None else ():
                self._tried(one, self._count)
            works = [functools.partial(self._tried, one, self._work) for one in left]
            self._system.together(works, self._args.at_once)
        except Failure as failure:
            self._write_manifest()
            try:
                failure.keys = self._answer()
            except Failure as open_parts:
                failure.keys = open_parts.keys
            raise
        self._write_manifest()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        return manifest.answer(self._args.output, self._parts, self._records, self._open)

    def _require_same_run(self) -> None:
        """Raise Failure (2) where the output is that of a run that asked something else."""
        asked = {name: value for name, value in vars(self._args).items() if name not in FREE}
        contents = {name: hashlib.sha256(content).hexdigest() for name, (_, content) in self._files.items()}
        told = json.dumps({**asked, **contents, "server": self._base_url}, sort_keys=True)
        own = json.dumps({"name": self._name, "asks": hashlib.sha256(told.encode()).hexdigest()}).encode()
        found = self._output.read(RUN)
        if found is None and self._output.create(RUN, own):
            return
        found = found or self._output.read(RUN)
        if found is None or found.content != own:
            message = f"{plain(self._args.output, 120)} was begun with other arguments than these"
            hint = "name another OUTPUT_DIR for a new, paid run; or use the arguments, server and --name of the first"
            raise Failure(Exit.BAD_INPUT, "other_requests", message, hint)

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
            work = Path(self._args.output) / WORK
            if is_url(self._args.output) or not was_retried(record, one, work, self._system):
                self._records[one.part] = record

        self._system.together([functools.partial(read, one) for one in self._parts], READ_AT_ONCE)
        return begun

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
            limit = self._left(one.part)
            try:
                self._submit_within(one, limit)
            except Failure as failure:
                if failure.code == "over_max_cost":
                    failure.message += f"; of --max-cost {self._args.max_cost:g} for all parts USD {limit:g} is left"
                    failure.hint = f"once parts under way have ended there may be room: run it again; or {ASK}"
                raise

    def _submit_within(self, one: Partition, limit: float) -> None:
        self._costs[one.part] = self._perform(self._step(SUBMIT, one, limit))["ceiling_usd"]

    def _left(self, part: str) -> float:
        """What a part may cost; raises Failure (8) where what others cost is not known."""
        others = {other: cost for other, cost in self._costs.items() if other != part}
        unknown = next((other for other, cost in others.items() if cost is None), None)
        if unknown is not None:
            message = f"--max-cost cannot be promised: what {plain(unknown, 120)} costs is not known"
            raise Failure(Exit.REFUSED, "cost_unknown", message, "leave --max-cost out")
        return max(0.0, float(self._args.max_cost) - sum(cost or 0.0 for cost in others.values()))

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


def _forecast(args: argparse.Namespace, parts: list[Partition], system: System) -> dict[str, Any]:
    """What a dry run answers: the parts, and what they would cost. Their requests are made one by one, and removed."""
    disk, source, asked = system.disk, Source(args.source, system.disk), 0
    total = Total(load_prices(None, disk))
    for one in parts:
        with disk.work_folder(None) as folder, disk.work_folder(None) as meanwhile:
            file = source.fetch(one, meanwhile)
            job = PartJob(args, one, file, folder, "", None, system, Progress(system.monotonic))
            try:
                paths = job.made()
            except Failure as failure:
                if failure.code != "no_rows":
                    raise
                continue
            for path in paths:
                total.add_file(path, disk)
            asked += 1
    return {"parts": {"total": len(parts), "asked": asked}, **total.forecast(args.window or WINDOWS[0])}
