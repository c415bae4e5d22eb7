"""A step of a partition: taken up, worked on, put down; by a thread of the script, or by a task on another machine.

Promises: a step done twice changes nothing; what a step says is plain values, so that it can travel; a part is put in
its place before its state says so.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from doubleword.cli import Progress
from doubleword.dataset.claims import Claim, claimed
from doubleword.dataset.part_job import PartJob, stem_of, tries_of
from doubleword.dataset.partitions import Partition, Source
from doubleword.dataset.places import Place, is_url, place
from doubleword.failure import Exit, Failure, plain
from doubleword.server.api import Api
from doubleword.system import Disk, System

SUBMIT, FINISH, ALL = "submit", "finish", "all"
WORK = "_work"
# Arguments that name a file which the requests are made with; it travels with the step.
FILES = ("prompt_file", "system_file", "examples", "response_schema", "tools")
COUNTS = ("total", "succeeded", "failed", "missing")


@dataclass(frozen=True)
class Step:
    """What is to be done of a partition: `SUBMIT` its batches, `FINISH` it, or `ALL` of it.

    `args` are those of the script, `files` the names and contents of the files that they name. `base_url` is None on
    the embedded engine. `limit` is what the batches may cost at most, `wait_s` how long they are waited for.
    """

    what: str
    one: Partition
    args: Mapping[str, Any]
    files: Mapping[str, tuple[str, bytes]]
    name: str
    base_url: str | None
    limit: float | None = None
    wait_s: float = 0.0


def perform(
    step: Step,
    system: System,
    server: Callable[[], AbstractContextManager[Api]],
    working: AbstractContextManager[Any],
    note: Callable[[str], None],
) -> dict[str, Any]:
    """Do a step; the record of the part, or after `SUBMIT` what its job can cost: `{"ceiling_usd"}`.

    `working` is held while tables are read and written. Raises Failure: 7 while its batches run, or another run has it.
    """
    output = place(step.args["output"], system)
    with contextlib.ExitStack() as held:
        claim = held.enter_context(claimed(output, step.one.part, system))
        folder = held.enter_context(_work_folder(step.args["output"], system.disk))
        if claim.state.record is not None and not was_retried(claim.state.record, step.one, folder, system):
            record = claim.state.record
            cost = record["cost_usd"]
            return record if step.what != SUBMIT else {"ceiling_usd": claim.state.ceiling_usd if cost is None else cost}
        with working:
            source = Source(step.args["source"], system.disk)
            file = source.fetch(step.one, folder)
            args = _arguments(step, held.enter_context(system.disk.work_folder(None)), system.disk)
            progress = _Quiet(system, note, step.one.part)
            job = PartJob(args, step.one, file, folder, step.name, step.base_url, system, progress)
        api = held.enter_context(server())
        return _Doing(step, claim, output, job, api, working, source.version(step.one)).run()


def was_retried(record: Mapping[str, Any], one: Partition, folder: Path, system: System) -> bool:
    """Whether requests of a part that is done were asked again since, by `retry_failed.py` on its job file."""
    if record["succeeded"] == record["rows"]:
        return False
    tries = tries_of(folder / f"{stem_of(one.part)}.job.json", system)
    return tries is not None and tries != record["tries"]


class _Doing:
    """The doing of one step."""

    def __init__(
        self,
        step: Step,
        claim: Claim,
        output: Place,
        job: PartJob,
        api: Api,
        working: AbstractContextManager[Any],
        version: str | None,
    ) -> None:
        self._step = step
        self._claim = claim
        self._output = output
        self._job = job
        self._api = api
        self._working = working
        self._version = version

    def run(self) -> dict[str, Any]:
        """What `perform` returns."""
        claim, step, warnings = self._claim, self._step, list[str]()
        ceiling = claim.state.ceiling_usd
        if step.what != FINISH or not self._job.is_submitted:
            try:
                found, warnings = self._submit()
            except Failure as failure:
                if failure.code != "no_rows":
                    raise
                return self._finished({"counts": dict.fromkeys(COUNTS, 0), "cost_usd": 0.0}, [failure.message])
            ceiling = found if ceiling is None else max(ceiling, found or 0.0)
            claim.save(ceiling_usd=ceiling)
        if step.what == SUBMIT:
            return {"ceiling_usd": ceiling}
        deliver = self._job.finish(self._api, step.wait_s)
        with self._working:
            keys = deliver()
        claim.confirm()
        self._output.put(self._job.answers, step.one.part)
        return self._finished(keys, warnings)

    def _submit(self) -> tuple[float | None, list[str]]:
        claim, job = self._claim, self._job
        begin = functools.partial(claim.save, begun=True)
        try:
            return job.submit(self._api, claim.state.begun, self._step.limit, begin, self._working)
        except Failure:
            if not job.is_known:  # nothing was taken
                claim.save(begun=False)
            raise

    def _finished(self, keys: Mapping[str, Any], warnings: list[str]) -> dict[str, Any]:
        """The record of the part, kept in its state."""
        counts = keys["counts"]
        record = {
            "part": self._step.one.part,
            "rows": counts["total"],
            **{name: counts[name] for name in COUNTS[1:]},
            "cost_usd": keys["cost_usd"],
            "source": self._version,
            "tries": self._job.tries,
            "failures": [
                {name: one[name] for name in ("cause", "count", "action")} for one in keys.get("failures", [])
            ],
            "warnings": [*warnings, *keys.get("warnings", [])][:5],
        }
        self._claim.save(record=record)
        self._job.clean(counts["succeeded"] == counts["total"])
        return record


class _Quiet(Progress):
    """Says of one partition only what stays; how far all of them are is said by the driver."""

    def __init__(self, system: System, note: Callable[[str], None], part: str) -> None:
        super().__init__(system.monotonic)
        self._note = note
        self._part = part

    def show(self, text: str, done: int | None = None, total: int | None = None) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Tell it with the name of the part."""
        self._note(f"{plain(self._part, 120)}: {text}")


@contextlib.contextmanager
def _work_folder(output: str, disk: Disk) -> Iterator[Path]:
    """Where jobs are kept: in the output where that is a folder, else for as long as the step lasts."""
    if is_url(output):
        with disk.work_folder(None) as folder:
            yield folder
        return
    folder = Path(output) / WORK
    disk.make_folder(folder)
    yield folder


def _arguments(step: Step, folder: Path, disk: Disk) -> argparse.Namespace:
    """The arguments of the script, naming files of this machine."""
    told = dict(step.args)
    for argument, (name, content) in step.files.items():
        place = folder / argument
        disk.make_folder(place)
        with disk.create(place / name) as file:
            file.write(content)
        told[argument] = str(place / name)
    return argparse.Namespace(**told)


def files_of(args: argparse.Namespace, disk: Disk) -> dict[str, tuple[str, bytes]]:
    """The names and contents of the files that the requests are made with; raises Failure (2) for one that is not."""
    found = {}
    for argument in FILES:
        given = getattr(args, argument)
        if given is not None:
            try:
                with disk.open(Path(given)) as file:
                    found[argument] = (Path(given).name, file.read())
            except OSError as error:
                message = f"{plain(given, 120)} cannot be read: {plain(error.strerror)}"
                raise Failure(Exit.BAD_INPUT, "no_file", message, "check the path") from None
    return found
