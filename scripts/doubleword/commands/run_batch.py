"""Table in, table out: create, submit, wait, fetch, as one command that goes on from wherever it stopped.

Promises: those of its parts. What is made again from the same table and arguments is compared with what was
submitted, so a second run continues the job; a changed table or prompt is never taken for the old one.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from doubleword.answers.schema import properties_of
from doubleword.batch_files.check import Check
from doubleword.batch_files.making import settings_of
from doubleword.batch_files.record import common_record, read_record, record_path
from doubleword.batch_files.repaired_ids import ids_path
from doubleword.batch_files.row_map import map_path
from doubleword.batch_files.writing import numbered
from doubleword.cli import Progress, again, quoted
from doubleword.commands import create_batch_file as creation
from doubleword.commands.delete_files import delete_files
from doubleword.commands.fetch_results import Delivery, is_final
from doubleword.commands.submit import opened
from doubleword.failure import Exit, Failure, plain
from doubleword.jobs.connection import connect
from doubleword.jobs.cost_limit import prices_of
from doubleword.jobs.job_file import JobFile, Written, job_path, locked
from doubleword.jobs.server_copies import require_files
from doubleword.jobs.submission import carry_out, checked, metadata_of
from doubleword.jobs.updates.update import Made, Update, applied, planned
from doubleword.jobs.watching import watch_job
from doubleword.output_file import refuse_existing, sha256_of
from doubleword.pricing.estimate import Total, total_of
from doubleword.report import reporting
from doubleword.results.expected import Schemas
from doubleword.results.table_rows import names_of
from doubleword.server.api import Api
from doubleword.server.objects import Batch
from doubleword.system import Disk, System
from doubleword.tables.outputs.workbooks import require_room
from doubleword.tables.plain_copy import STDIN
from doubleword.tables.sources.source import opened_table

FORMATS = {".csv": "csv", ".parquet": "parquet", ".xlsx": "xlsx", ".jsonl": "jsonl"}


def run(args: argparse.Namespace, system: System) -> dict[str, Any]:
    """The work of `run_batch.py`: the keys of `fetch_results.py`, and `job`. Raises their Failures, with `job`."""
    output = Path(args.output)
    if output.suffix not in FORMATS:
        raise Failure(Exit.BAD_INPUT, "bad_output", f"OUTPUT ends in {', '.join(FORMATS)}", "such as answers.csv")
    requests = output.with_name(f"{output.stem}.requests.jsonl")
    job = Path(args.job) if args.job else job_path(requests)
    progress, disk = Progress(system.monotonic), system.disk
    if not disk.is_folder(output.parent):
        refuse_existing(output, disk, args.force)
    with contextlib.ExitStack() as held:
        held.enter_context(locked(job, disk))
        known = JobFile.load(job, disk) if disk.size(job) is not None else None
        if known is None:
            refuse_existing(output, disk, args.force)
        asked = made_requests(args, requests, known, system)
        if asked.update is not None and known is not None:
            if args.dry_run:
                return asked.told(_update_forecast(asked, asked.update, known, system))
            held.enter_context(applied(asked.update, known, asked.saved_usd, system))
        try:
            store, resumed, delivery = _planned(args, output, asked.paths, job, system, progress)
            asked.said_of(store, args.update)
            if args.dry_run:
                return asked.told(_forecast(asked.paths, store, system))
            if args.report and store.job.results:  # it may be that nothing is watched any more
                reporting.once(store, args, system, progress)
            former = delivery.former()
            if former is not None and is_final(former):
                return asked.told({"job": str(job), **delivery.repeated(former)})
            delivery.replaces = args.update and _is_own(store, output, disk)
            refuse_existing(output, disk, args.force or delivery.replaces or former is not None)
            api = held.enter_context(connect(args, system, progress.note, store))
            seen = reporting.along(args.report, store, [], api, system, progress) if args.report else None
            carry_out(store, api, system, progress, resumed, args.max_cost)
        except BaseException as error:
            if asked.made_now and disk.size(job) is None:  # nothing was submitted: leave nothing behind
                _remove(asked.paths, requests, disk)
            if isinstance(error, Failure) and error.keys:  # what an earlier run delivered, with failures
                error.keys = asked.told({"job": str(job), **error.keys})
            raise
        finally:
            if asked.made_now and args.dry_run:
                _remove(asked.paths, requests, disk)
        with contextlib.closing(progress), asked.telling():
            answer = _delivered(delivery, former, store, api, args.wait, seen, system, progress)
            if args.delete_files:
                answer["deleted"] = len(delete_files(api, store))
            return asked.told(answer)


def _is_own(store: JobFile, output: Path, disk: Disk) -> bool:
    """Whether the output stands there as an earlier delivery of the job wrote it."""
    written = [one for one in store.job.results if one.output == str(output.absolute())]
    known = {sha256 for one in written for sha256 in (one.sha256, one.before)} - {None}  # a kill may have left either
    return bool(known) and sha256_of(output, disk) in known


@dataclass
class Requests:
    """The batch files that a table asks for, whether they were made now, and what was said of it; and the update that
    it is of a job which asked another, with what asking all of it would cost more.
    """

    paths: list[Path]
    made_now: bool
    warnings: list[str]
    update: Update | None = None
    saved_usd: float | None = None
    keys: dict[str, Any] = field(default_factory=dict)

    def said_of(self, store: JobFile, asked: bool) -> None:
        """Say, where that is asked, what the latest update of the job was."""
        if asked and store.job.update is not None:
            said = {name: value for name, value in store.job.update.items() if name != "number"}
            self.keys = {"update": said}

    @contextlib.contextmanager
    def telling(self) -> Iterator[None]:
        """Add what is said of the requests to a Failure."""
        try:
            yield
        except Failure as failure:
            failure.keys = self.told(failure.keys)
            raise

    def told(self, answer: dict[str, Any]) -> dict[str, Any]:
        """An answer with what is said of the requests."""
        warnings = [*self.warnings, *answer.get("warnings", ())]
        return {**answer, **self.keys, **({"warnings": warnings[:10]} if warnings else {})}


def _planned(
    args: argparse.Namespace, output: Path, paths: list[Path], job: Path, system: System, progress: Progress
) -> tuple[JobFile, bool, Delivery]:
    """The job of these batch files, whether it was begun before, and what will deliver its results.

    What cannot be written in the end is refused here, before anything is sent.
    """
    check = checked(paths, system)
    store, resumed = opened(args, check, job, metadata_of(args.metadata), system)
    delivery = Delivery(_delivery_arguments(args, output), store, [], system, progress)
    refuse_existing(delivery.errors, system.disk, force=True)
    if output.suffix != ".jsonl":
        _refuse_table(args, delivery, check, store.job.rows, system.disk)
    return store, resumed, delivery


def _delivered(
    delivery: Delivery,
    former: Written | None,
    store: JobFile,
    api: Api,
    wait_s: float,
    seen: Callable[[list[Batch]], None] | None,
    system: System,
    progress: Progress,
) -> dict[str, Any]:
    """The keys of the delivery, once the job is over; `seen` is told of each look at it."""
    job = str(store.path)
    try:
        watch_job(store.job, api, wait_s, system, progress, seen)
        return {"job": job, **delivery.run(api, former)}
    except Failure as failure:
        failure.keys = {"job": job, **failure.keys}
        if failure.exit_code == Exit.NOT_FINISHED:
            failure.hint = again()
        raise


def made_requests(args: argparse.Namespace, place: Path, known: JobFile | None, system: System) -> Requests:
    """The batch files of these arguments: made now, or those of an earlier run if they are the same, or with --update
    those that the job has and those of what is new. A row map that was lost is made anew.
    """
    disk = system.disk
    making = argparse.Namespace(**vars(args))
    if known is None and not _set_of(place, disk):
        making.output, making.force = str(place), False
        created = creation.create(making, system)
        return Requests([Path(one["path"]) for one in created["files"]], True, created["warnings"])
    scratch = place.with_name(f".{place.name}.again.jsonl")
    making.output, making.force = str(scratch), True
    created = creation.create(making, system)
    made, update = [Path(one["path"]) for one in created["files"]], None
    row_map = map_path(scratch) if args.dedupe else None
    try:
        if known is None or known.job.update is None:
            again = _to_be_made(made, row_map, place, known, disk)
            if again:
                making.output = str(place)
                creation.create(making, system)
            if again is not None:
                return Requests(_set_of(place, disk), False, created["warnings"])
        if known is not None:
            update = _update(args, place, known, Made(made, row_map, read_record(made[0], disk)), system)
            if update is not None and (args.update or update.is_nothing):
                return _updated(known, update, made, created["warnings"], system)
    finally:
        _remove(made, scratch, disk)
    message = f"{plain(place)} holds other requests than these arguments make"
    hint = "name another OUTPUT for a new, paid job; or use the table and arguments of the first run"
    if update is not None:
        update.remove(disk)
        message += f"; --update would ask {update.asked} rows, keep {update.kept} and leave out {update.gone}"
        hint = "add --update to ask only what is new; or name another OUTPUT for a new, paid job"
    raise Failure(Exit.BAD_INPUT, "other_requests", message, hint)


def _to_be_made(made: list[Path], row_map: Path | None, place: Path, known: JobFile | None, disk: Disk) -> bool | None:
    """Whether the batch files at `place`, or their row map, are lost and have to be made anew, as they were `made` now;
    None where that makes others than there are, or were in the job.
    """
    earlier = _set_of(place, disk)
    were = [sha256_of(path, disk) for path in earlier]
    if not earlier and known is not None:
        were = [one.sha256 for one in known.job.files]
    if [sha256_of(path, disk) for path in made] != were:
        return None
    record, new, was = common_record(earlier, disk), None, sha256_of(map_path(place), disk)
    if row_map is not None:
        new = sha256_of(row_map, disk)
    recorded = record.row_map.sha256 if record is not None and record.row_map is not None else None
    if earlier and recorded == new == was:
        return False
    # Without a record nobody says what the map was, so that one which is there has to be this one.
    return True if not earlier or recorded == new or (record is None and new and was in (None, new)) else None


def _update(args: argparse.Namespace, place: Path, known: JobFile, made: Made, system: System) -> Update | None:
    """The update of the job that a table is; None where it is none, and was not asked for."""
    try:
        if args.update:
            require_files(known)
        return planned(known, made, place, system)
    except Failure:
        if args.update:
            raise
        return None


def _updated(known: JobFile, update: Update, made: list[Path], warnings: list[str], system: System) -> Requests:
    """What an update asks for, none where all is as it was."""
    job, disk = known.job, system.disk
    paths = [known.input_path(one) for one in job.files]
    if update.is_nothing:
        update.remove(disk)
        return Requests(paths, False, warnings)
    costs = [_total(files, known, system).estimate(job.window).cost_usd for files in (made, update.files)]
    saved = None if None in costs else round(float(costs[0] or 0) - float(costs[1] or 0), 6)
    return Requests([*paths, *update.files], False, warnings, update, saved)


def _total(paths: Sequence[Path], store: JobFile, system: System) -> Total:
    prices, tokens = prices_of(store.job, system.disk), store.job.answer_tokens
    return total_of(paths, system.disk, prices, tokens) if paths else Total(prices, tokens)


def _update_forecast(asked: Requests, update: Update, store: JobFile, system: System) -> dict[str, Any]:
    """What a dry run of an update answers, which leaves nothing behind."""
    total = _total(update.files, store, system)
    update.remove(system.disk)
    said = {"kept": update.kept, "asked": update.asked, "gone": update.gone, "saved_usd": asked.saved_usd}
    return {"job": quoted(store.path), "update": said, **total.forecast(store.job.window)}


def _set_of(place: Path, disk: Disk) -> list[Path]:
    """The batch file at `place`, or the numbered ones that stand for it."""
    if disk.size(place) is not None:
        return [place]
    found: list[Path] = []
    while disk.size(path := numbered(place, len(found) + 1)) is not None:
        found.append(path)
    return found


def _remove(paths: list[Path], place: Path, disk: Disk) -> None:
    for path in (*paths, record_path(place), ids_path(place), map_path(place)):
        disk.remove(path)


def _delivery_arguments(args: argparse.Namespace, output: Path) -> argparse.Namespace:
    """What `fetch_results.py` would be given: a table is joined to the table it was made of."""
    kind = FORMATS[output.suffix]
    joins = kind != "jsonl" and not args.example and args.input and STDIN not in args.input
    told = {"output": str(output), "format": kind, "join": args.input if joins else None}
    # --delimiter says how the input is read, and the output is written as the input is. A schema for the answers stands
    # in the requests, which say more surely than a file what was asked.
    left_out = {"raw_cells": False, "partial": False, "history": None, "delimiter": None, "response_schema": None}
    return argparse.Namespace(**{**vars(args), **told, **left_out})


def _refuse_table(args: argparse.Namespace, delivery: Delivery, check: Check, rows: int, disk: Disk) -> None:
    """Raise a Failure (exit 2) for columns that there are not, and for a table that fits into no sheet."""
    names: tuple[str, ...] = ()
    if delivery.wanted.format == "xlsx":
        require_room(rows, 0)
    if delivery.joins:
        with opened_table(args.input, settings_of(args), disk, delivery.work) as table:
            names = table.names
    properties = properties_of(Schemas(disk).all_of([one.path for one in check.files]))
    found = names_of(delivery.wanted, names, {one.endpoint for one in check.files}, list(properties))
    if delivery.wanted.format == "xlsx":
        require_room(rows, len(found.chosen))


def _forecast(paths: list[Path], store: JobFile, system: System) -> dict[str, Any]:
    """What a dry run answers: the job it would make, and what that would cost."""
    return {"job": quoted(store.path), **_total(paths, store, system).forecast(store.job.window)}
