"""A step of a partition: taken up, worked on, put down; by a thread of the script, or by a task on another machine.

Promises: a step done twice changes nothing; what a step says is plain values, so that it can travel; a part is put in
its place before its state says so.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from doubleword.cli import Progress
from doubleword.dataset.claims import Claim, claimed
from doubleword.dataset.part_job import PartJob, stem_of, tries_of
from doubleword.dataset.partitions import Partition, Source
from doubleword.dataset.places import is_url, place
from doubleword.failure import Exit, Failure, plain
from doubleword.jobs.job_file import OF_DATASET
from doubleword.quick_msgspec import Struct
from doubleword.server.api import Api
from doubleword.system import Disk, System

CHECK, SUBMIT, FINISH, ALL = "check", "submit", "finish", "all"
# Arguments that name a file which the requests are made with; it travels with the step.
FILES = ("prompt_file", "system_file", "examples", "response_schema", "tools")
COUNTS = ("total", "succeeded", "failed", "missing")


class Step(Struct, frozen=True):
    """What is to be done of a partition: `CHECK` what it would ask, `SUBMIT` its batches, `FINISH` it, or `ALL` of it.

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
    """Do a step; the record of the part, after `SUBMIT` what its job can cost: `{"ceiling_usd"}`, and after `CHECK`
    what it would ask, a Total or None where that is not to be counted: `{"total"}`.

    `working` is held while tables are read and written. Raises Failure: 7 while its batches run, or another run has it.
    """
    if step.what == CHECK:
        return _checked(step, system, working, note)
    one, disk, output = step.one, system.disk, place(step.args["output"], system)
    with contextlib.ExitStack() as held:
        claim = held.enter_context(claimed(output, one.part, system))
        folder = Path(step.args["output"]) / OF_DATASET
        if is_url(step.args["output"]):  # then jobs are kept for as long as the step lasts
            folder = held.enter_context(disk.work_folder(None))
        disk.make_folder(folder)
        record = claim.state.record
        if record is not None and not was_retried(record, one, folder, system):
            cost = record["cost_usd"]
            return record if step.what != SUBMIT else {"ceiling_usd": claim.state.ceiling_usd if cost is None else cost}
        source, meanwhile = Source(step.args["source"], disk), held.enter_context(disk.work_folder(None))
        with working:
            file, version = source.fetch(one, meanwhile), source.version(one)
        args = _arguments(step, meanwhile, disk)
        progress = _Quiet(system, note, one.part)
        job = PartJob(args, one, file, folder, step.name, step.base_url, system, progress, working)
        api = held.enter_context(server())
        try:
            warnings = _submitted(step, claim, job, api)
            if step.what == SUBMIT:
                return {"ceiling_usd": claim.state.ceiling_usd}
            keys = job.finish(api, step.wait_s)
            claim.confirm()
            output.put(job.answers, one.part)
        except Failure as failure:
            if failure.code != "no_rows":
                raise
            keys, warnings = {"counts": dict.fromkeys(COUNTS, 0), "cost_usd": 0.0}, [failure.message]
            if step.what == SUBMIT:
                return {"ceiling_usd": 0.0}
        tries = tries_of(job.path, system) or [1, 0]
        record = _record(one.part, keys, version, tries, warnings)
        claim.save(record=record)
        job.clean(record["succeeded"] == record["rows"])
        return record


def _checked(
    step: Step, system: System, working: AbstractContextManager[Any], note: Callable[[str], None]
) -> dict[str, Any]:
    """Make the requests of a partition where they leave nothing behind."""
    one, disk = step.one, system.disk
    with disk.work_folder(None) as folder, disk.work_folder(None) as meanwhile:
        with working:
            file = Source(step.args["source"], disk).fetch(one, meanwhile)
        args, progress = _arguments(step, meanwhile, disk), _Quiet(system, note, one.part)
        job = PartJob(args, one, file, folder, step.name, step.base_url, system, progress, working)
        try:
            return {"total": job.asked(args.dry_run or args.max_cost is not None)}
        except Failure as failure:
            if failure.code != "no_rows":
                raise
            return {"total": None}


def _submitted(step: Step, claim: Claim, job: PartJob, api: Api) -> list[str]:
    """See to it that the batches exist, and that the state says what they can cost; what the user should know."""
    if step.what == FINISH and job.is_submitted:
        return []
    before = claim.state.ceiling_usd
    try:
        found, warnings = job.submit(api, claim.state.begun, step.limit, lambda: claim.save(begun=True))
    except Failure:
        if not job.is_known:  # nothing was taken
            claim.save(begun=False)
        raise
    claim.save(ceiling_usd=found if before is None else max(before, found or 0.0))
    return warnings


def _record(
    part: str, keys: Mapping[str, Any], version: str | None, tries: list[int], warnings: list[str]
) -> dict[str, Any]:
    """What is kept of a part that is over."""
    counts, failures = keys["counts"], keys.get("failures", [])
    return {
        "part": part,
        "rows": counts["total"],
        **{name: counts[name] for name in COUNTS[1:]},
        "cost_usd": keys["cost_usd"],
        "source": version,
        "tries": tries,
        "failures": [{name: one[name] for name in ("cause", "count")} for one in failures],
        "warnings": [*warnings, *keys.get("warnings", [])][:5],
    }


def was_retried(record: Mapping[str, Any], one: Partition, folder: Path, system: System) -> bool:
    """Whether requests of a part that is done were asked again since, by `retry_failed.py` on its job file."""
    if record["succeeded"] == record["rows"]:
        return False
    tries = tries_of(folder / f"{stem_of(one.part)}.job.json", system)
    return tries is not None and tries != record["tries"]


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


def said_once(note: Callable[[str], None]) -> Callable[[str], None]:
    """`note` for what partitions tell: what one of them has told already, no other tells again."""
    first: dict[str, str] = {}  # of each sentence, the text that told it; set in one step, as threads share it

    def once(text: str) -> None:
        if first.setdefault(text.partition(": ")[2] or text, text) is text:
            note(text)

    return once


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
