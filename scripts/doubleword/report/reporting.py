"""report.py: a page on jobs, written once, or anew after each look until they are over.

Promises: a page replaces nothing but an earlier page; while a job runs its progress is looked at each time, its results
are read again only as often as leaves nine tenths of the time free; a page that goes along with another work never ends
that work.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from doubleword.cli import Progress, again
from doubleword.failure import Exit, Failure, plain
from doubleword.jobs.connection import connect
from doubleword.jobs.job_file import OF_DATASET, SUFFIX, JobFile, resolve
from doubleword.jobs.server_copies import require_files
from doubleword.jobs.watching import PATIENCE_S, SHARE_OF_ELAPSED, Answering, Pace
from doubleword.output_file import WholeFile, refuse_existing
from doubleword.quick_msgspec import Struct
from doubleword.report.gathering import Subject, gather, subject
from doubleword.report.page import MARK, MOST_ROWS, page
from doubleword.server.api import Api
from doubleword.server.objects import Batch
from doubleword.system import Disk, System

SEED = 1
FREE = 9  # so many times as long as it took to read results of all jobs that run, they are not read again
RELOAD_S = (5, 300)


class Report(Struct):
    """A page on subjects at `path`: each is `read`, or has a problem, and then the page is written."""

    path: Path
    subjects: Sequence[Subject]
    system: System
    progress: Progress
    seed: int = SEED

    def read(self, one: Subject, api: Api, seen: Sequence[Batch] | None = None) -> None:
        """Look at a subject, whose batches may just have been `seen`, and read its results, or leave those for later.

        Raises Failure where the server or the disk fails, and (4) where the files with the results were deleted.
        """
        if one.store is not None:
            require_files(one.store)
        # A part of a dataset that is done keeps no batch file, so that there is nothing to note.
        note: Callable[[str], Any] = self.progress.note
        if one.store is not None and one.store.folder.name == OF_DATASET:
            note = str
        one.asked = Answering(one.store, one.ids, api, self.system, note).look(seen)
        began = self.system.monotonic()
        if one.over or not one.keys or began >= one.rests_until:
            most = max(MOST_ROWS // len({one.table for one in self.subjects}), 1)
            gather(one, api, self.system, self.path, self.seed, most, self.progress)
            ended = self.system.monotonic()
            one.rests_until = ended + FREE * max(len(self.running), 1) * (ended - began)

    @property
    def running(self) -> list[Subject]:
        """The subjects that are not over."""
        return [one for one in self.subjects if not (one.over or one.problem)]

    def write(self) -> dict[str, Any]:
        """Write the page; the keys of `report.py`."""
        found, now, reload_s = self.subjects, self.system.now(), 0
        if self.running:
            began = min((batch.created_at for one in found for batch in one.batches if batch.created_at), default=now)
            reload_s = round(min(max(SHARE_OF_ELAPSED * (now - began), RELOAD_S[0]), RELOAD_S[1]))
        content, rows = page(found, self.seed, now, reload_s, self.system.disk)
        with WholeFile(self.path, self.system.disk, force=True) as file:
            file.write(content)
        return {
            "output": str(self.path),
            "bytes": len(content),
            "rows": rows,
            "requests": sum(one.total for one in found),
            "jobs": [_job(one) for one in found],
        }


def _job(one: Subject) -> dict[str, Any]:
    told = {"job": str(one.store.path) if one.store is not None else None, "id": plain(one.id, 40)}
    if one.problem:
        return {**told, "status": "unknown", "problem": one.problem}
    return {**told, "status": one.status, "counts": one.keys["counts"], "cost_usd": one.keys["cost_usd"]}


def report(args: argparse.Namespace, system: System) -> dict[str, Any]:
    """The work of `report.py`: its keys; raises Failure 7 with them where a watch ends before the jobs."""
    progress, disk = Progress(system.monotonic), system.disk
    subjects = [one for name in args.names for one in _named(name, disk, progress.note)]
    path = Path(args.output) if args.output else _usual_path(subjects)
    refuse_other(path, disk)
    made = Report(path, subjects, system, progress, args.sample)
    ends = system.monotonic() + args.wait
    with contextlib.ExitStack() as held:
        apis: dict[str, Api] = {}
        for one in subjects:
            with contextlib.ExitStack() as own:
                try:
                    place = held if args.watch else own
                    apis[one.id] = place.enter_context(connect(args, system, progress.note, one.store))
                    made.read(one, apis[one.id])
                except Failure as failure:
                    if len(subjects) == 1:
                        raise
                    one.problem = failure.message
        keys = made.write()
        pace, began = Pace(system.random), system.monotonic()
        while args.watch and made.running and (left := ends - system.monotonic()) > 0:
            progress.show(f"{len(made.running)} jobs run; the page is written anew after each look")
            system.sleep(min(left, pace.wait(system.monotonic() - began, 0, 1)))
            for one in made.running:
                apis[one.id].patience_s = PATIENCE_S
                made.read(one, apis[one.id])
            keys = made.write()
    progress.close()
    if args.watch and made.running:
        message = f"{len(made.running)} of {len(subjects)} jobs still run; the page shows how far they are"
        raise Failure(Exit.NOT_FINISHED, "not_finished", message, again(), keys)
    return keys


def _named(name: str, disk: Disk, note: Callable[[str], None]) -> list[Subject]:
    """What a name stands for: a job, a bare batch, or a folder's jobs, which ask unlike things, the newest first."""
    folder = Path(name)
    if not disk.is_folder(folder):
        return [subject(*resolve([name], disk), disk)]
    if disk.is_folder(folder / OF_DATASET):  # the output of run_dataset.py
        folder = folder / OF_DATASET
    stores = list[JobFile]()
    for path in (folder / one for one in disk.entries(folder) if one.endswith(SUFFIX) and not one.startswith(".")):
        try:
            stores.append(JobFile.load(path, disk))
        except Failure as damage:
            note(f"{plain(path)} is left out: {damage.message}")
    if not stores:
        raise Failure(Exit.NOT_FOUND, "no_job", f"there is no job file in {plain(folder)}", "submit.py makes one")
    stores.sort(key=lambda one: -one.job.created_at)
    return [subject(one, [], disk, compared=False) for one in stores]


def _usual_path(subjects: Sequence[Subject]) -> Path:
    store = subjects[0].store
    if len(subjects) > 1 or store is None:
        return Path("report.html")
    return store.path.with_name(f"{store.path.name.removesuffix(SUFFIX)}.report.html")


def refuse_other(path: Path, disk: Disk) -> None:
    """Raise Failure (2) where something else than an earlier page stands at `path`, or none can be written there."""
    refuse_existing(path, disk, force=True)
    if disk.size(path) is not None:
        with disk.open(path) as file:
            if file.read(len(MARK)) != MARK:
                message = f"{plain(path)} exists already, and is no report"
                raise Failure(
                    Exit.BAD_INPUT, "output_exists", message, "choose another name; a report replaces reports"
                )


def along(
    path: str, store: JobFile | None, ids: Sequence[str], api: Api, system: System, progress: Progress
) -> Callable[[list[Batch]], None]:
    """What writes the page that `--report` names, after each look of a watch.

    It is given the batches that were seen, all of them and in order; where it is given none, it looks itself.

    Raises Failure (2) at once where something else stands there.
    """
    import duckdb  # noqa: F401  what is missing is told now, not once requests are paid
    import jinja2  # noqa: F401

    refuse_other(Path(path), system.disk)
    about = [subject(store, [one], system.disk) for one in ids] if store is None else [subject(store, [], system.disk)]
    made = Report(Path(path), about, system, progress)

    def seen(batches: list[Batch]) -> None:
        try:
            for number, one in enumerate(about):
                made.read(one, api, batches if store is not None or not batches else [batches[number]])
            made.write()
        except Exception as error:  # whatever it is, the job is worth more than a page on it
            progress.note(f"the report was not written: {error}")

    return seen


def once(store: JobFile, args: argparse.Namespace, system: System, progress: Progress) -> None:
    """Write the page that `--report` names on a job that nobody has to watch any more."""
    with connect(args, system, progress.note, store) as api:
        along(args.report, store, [], api, system, progress)([])
