"""Table in, table out: create, submit, wait, fetch, as one command that goes on from wherever it stopped.

Promises: those of its parts. What is made again from the same table and arguments is compared with what was
submitted, so a second run continues the job; a changed table or prompt is never taken for the old one.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from doubleword.answers.schema import properties_of
from doubleword.batch_files.check import Check
from doubleword.batch_files.record import common_record, read_record, record_beside, record_path
from doubleword.batch_files.repaired_ids import ids_path
from doubleword.batch_files.row_map import RowMap, answers_path, map_path
from doubleword.batch_files.table_arguments import settings_of
from doubleword.batch_files.writing import numbered
from doubleword.cli import Progress, again
from doubleword.commands import create_batch_file as creation
from doubleword.commands.delete_files import delete_files
from doubleword.commands.fetch_results import Delivery, is_final
from doubleword.commands.submit import opened
from doubleword.failure import Exit, Failure, plain
from doubleword.jobs.connection import connect
from doubleword.jobs.job_file import JobFile, Written, job_path, locked, named_job
from doubleword.jobs.reuse.answers import require_answers
from doubleword.jobs.server_copies import require_files
from doubleword.jobs.submission import carry_out, checked, metadata_of, recorded_beside, refuse_written
from doubleword.jobs.updates.asking import Requests, forecast, update_forecast, updated
from doubleword.jobs.updates.update import Made, Update, applied, planned
from doubleword.jobs.watching import watch_job
from doubleword.output_file import refuse_existing, sha256_of
from doubleword.quick_msgspec import replace
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
    _refuse_arguments(args, output)
    requests = output.with_name(f"{output.stem}.requests.jsonl")
    progress, disk = Progress(system.monotonic), system.disk
    if not disk.is_folder(output.parent):
        refuse_existing(output, disk, args.force)
    job = named_job(args.job, job_path(requests), disk)
    with contextlib.ExitStack() as held:
        held.enter_context(locked(job, disk))
        known = JobFile.load(job, disk) if disk.size(job) is not None else None
        if known is None:
            refuse_written(output, args, disk, job if _set_of(requests, disk) else None)
        asked = made_requests(args, requests, known, system)
        if asked.update is not None and known is not None:
            if args.dry_run:
                return asked.told(update_forecast(asked.update, known, system))
            held.enter_context(applied(asked.update, known, system))
        try:
            store, resumed, delivery = _planned(args, output, requests, asked.paths, job, system, progress)
            former = delivery.former()
            nothing_new = args.update and former is not None and is_final(former)
            if args.update:
                asked.said_of(store, nothing_new, system)
            if args.dry_run:
                return asked.told(forecast([] if nothing_new else asked.paths, store, system))
            if args.report and store.job.results:  # it may be that nothing is watched any more
                reporting.once(store, args, system, progress)
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
                answer["deleted"] = len(delete_files(api, store, system))
            return asked.told(answer)


def _refuse_arguments(args: argparse.Namespace, output: Path) -> None:
    """Raise a Failure (exit 2) for what cannot be meant."""
    if output.suffix not in FORMATS:
        raise Failure(Exit.BAD_INPUT, "bad_output", f"OUTPUT ends in {', '.join(FORMATS)}", "such as answers.csv")
    if args.update and args.reuse:
        message = "--update keeps the answers of its own job, and --reuse takes those of others"
        hint = "leave --reuse out: what the job took over it keeps; or name another OUTPUT with --reuse JOB alone"
        raise Failure(Exit.BAD_INPUT, "bad_arguments", message, hint)


def _is_own(store: JobFile, output: Path, disk: Disk) -> bool:
    """Whether the output stands there as an earlier delivery of the job wrote it, wherever its folder was then."""
    known = {sha256 for one in store.job.results for sha256 in (one.sha256, one.before)}  # a kill may have left either
    return sha256_of(output, disk) in known - {None}


def _planned(
    args: argparse.Namespace,
    output: Path,
    place: Path,
    paths: list[Path],
    job: Path,
    system: System,
    progress: Progress,
) -> tuple[JobFile, bool, Delivery]:
    """The job of the batch files made at `place`, whether it was begun before, and what will deliver its results.

    What cannot be written in the end is refused here, before anything is sent.
    """
    check = checked(paths, system)
    store, resumed = opened(args, check, job, metadata_of(args.metadata), system)
    if not store.job.files and store.job.row_map is None:
        store.job.row_map = recorded_beside(place, store.folder, system.disk)
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
    those that the job has and those of what is new. A row map that was lost is made anew, and so are answers of earlier
    jobs; what those have now is asked only where nothing was made before.
    """
    disk, making = system.disk, argparse.Namespace(**vars(args))
    if known is None and not _set_of(place, disk):
        making.output, making.force = str(place), False
        return Requests(*_made(making, system, None), made_now=True)
    scratch, update = place.with_name(f".{place.name}.again.jsonl"), None
    making.output, making.force = str(scratch), True
    known_map = _recorded(known, place, disk)
    answers = known_map.answers_in(place.parent) if known_map is not None else None
    made: list[Path] = []
    try:
        if known is None or known.job.update is None:
            making.reuse = args.reuse if known is None or answers is not None else None
            kept = _kept(making, known_map, place.parent, disk)
            made, warnings = _made(making, system, kept)
            if kept is None and answers is not None and known_map is not None:
                if sha256_of(found := answers_path(scratch), disk) == known_map.answers_sha256:
                    disk.replace(found, disk.target(answers))
                require_answers(known_map, place.parent, disk)
            again = _to_be_made(made, scratch, place, known, disk)
            if again:
                making.output = str(place)
                _made(making, system, answers)
            if again is not None:
                return Requests(_set_of(place, disk), warnings)
        if known is not None:
            if answers is not None or not made:  # all requests are held against all that the job has
                _remove(made, scratch, disk)
                making.reuse = None
                made, warnings = _made(making, system, None)
            row_map = map_path(scratch) if args.dedupe else None
            update = _update(args, place, known, Made(made, row_map, read_record(made[0], disk)), system)
            if update is not None and (args.update or update.is_nothing):
                return updated(known, update, made, warnings, system)
    finally:
        _remove(made, scratch, disk)
    message = f"{plain(place)} holds other requests than these arguments make"
    hint = "name another OUTPUT for a new, paid job; or use the table and arguments of the first run"
    if update is not None:
        update.remove(disk)
        message += f"; --update would ask {update.asked} rows, keep {update.kept} and leave out {update.gone}"
        hint = "add --update to ask only what is new; or name another OUTPUT for a new, paid job"
    raise Failure(Exit.BAD_INPUT, "other_requests", message, hint)


def _made(making: argparse.Namespace, system: System, kept: Path | None) -> tuple[list[Path], list[str]]:
    """The batch files made now, none where earlier jobs answer every row, and what is said of it."""
    created = creation.create(making, system, kept, may_be_empty=True)
    warnings: list[str] = created["warnings"]
    if not created["files"]:
        warnings = [
            f"every one of {created['rows']:,} rows has the answer of an earlier job: nothing is asked",
            *warnings,
        ]
    return [Path(one["path"]) for one in created["files"]], warnings


def _recorded(known: JobFile | None, place: Path, disk: Disk) -> RowMap | None:
    """The row map on record of the job, or of the batch files at `place`, with a path as seen from there."""
    found = known.job.row_map if known is not None else None
    if found is None or known is None:
        record = record_beside(map_path(place), disk) if known is None else None
        return record.row_map if record is not None else None
    return replace(found, path=str((known.folder / found.path).absolute()))


def _kept(making: argparse.Namespace, row_map: RowMap | None, folder: Path, disk: Disk) -> Path | None:
    """The answers of earlier jobs that were taken when the requests were made first, None where there are none, or they
    are lost, and --reuse says where they are from.
    """
    try:
        return require_answers(row_map, folder, disk)
    except Failure:
        if not making.reuse:
            raise
    return None


def _to_be_made(made: list[Path], scratch: Path, place: Path, known: JobFile | None, disk: Disk) -> bool | None:
    """Whether the batch files at `place`, or their row map, are lost and have to be made anew, as they were `made` now
    at `scratch`; None where that makes others than there are, or were in the job.
    """
    earlier = _set_of(place, disk)
    were = [sha256_of(path, disk) for path in earlier]
    if not earlier and known is not None:
        were = [one.sha256 for one in known.job.files]
    if [sha256_of(path, disk) for path in made] != were:
        return None
    new, was = (sha256_of(map_path(one), disk) for one in (scratch, place))
    asked = known.job.row_map.sha256 if known is not None and known.job.row_map is not None else None
    if not were:  # every row has the answer of an earlier job
        return (new != was) if new == asked else None
    if asked not in (None, new):
        return None
    record = common_record(earlier, disk)
    recorded = record.row_map.sha256 if record is not None and record.row_map is not None else None
    if earlier and recorded == new == was:
        return False
    # Without a record nobody says what the map was, so that one which is there has to be this one.
    return True if not earlier or recorded == new or (record is None and new and was in (None, new)) else None


def _update(args: argparse.Namespace, place: Path, known: JobFile, made: Made, system: System) -> Update | None:
    """The update of the job that a table is; None where it is none, and was not asked for. The server's files have to
    be there only where there is something new.
    """
    update = None
    try:
        update = planned(known, made, place, system)
        if args.update and not update.is_nothing:
            require_files(known)
        return update
    except Failure:
        if update is not None:
            update.remove(system.disk)
        if args.update:
            raise
        return None


def _set_of(place: Path, disk: Disk) -> list[Path]:
    """The batch file at `place`, or the numbered ones that stand for it."""
    if disk.size(place) is not None:
        return [place]
    found: list[Path] = []
    while disk.size(path := numbered(place, len(found) + 1)) is not None:
        found.append(path)
    return found


def _remove(paths: list[Path], place: Path, disk: Disk) -> None:
    for path in (*paths, *(beside(place) for beside in (record_path, ids_path, map_path, answers_path))):
        disk.remove(path)


def _delivery_arguments(args: argparse.Namespace, output: Path) -> argparse.Namespace:
    """What `fetch_results.py` would be given: a table is joined to the table it was made of."""
    kind = FORMATS[output.suffix]
    joins = kind != "jsonl" and not args.example and args.input and STDIN not in args.input
    told = {"output": str(output), "format": kind, "join": args.input if joins else None}
    # --delimiter says how the input is read, and the output is written as the input is. A schema for the answers stands
    # in the requests, which say more surely than a file what was asked.
    left_out = {"partial": False, "history": None, "delimiter": None, "response_schema": None}
    return argparse.Namespace(**{**vars(args), **told, **left_out})


def _refuse_table(args: argparse.Namespace, delivery: Delivery, check: Check, rows: int, disk: Disk) -> None:
    """Raise a Failure (exit 2) for columns that there are not, and for a table that fits into no sheet."""
    names: tuple[str, ...] = ()
    if delivery.wanted.format == "xlsx":
        require_room(rows, 0)
    if delivery.joins:
        with opened_table(args.input, settings_of(args), disk, delivery.work) as table:
            names = table.names
    properties = properties_of(Schemas(disk).all_of([one.path for one in check.files], delivery.reused))
    found = names_of(delivery.wanted, names, delivery.endpoints(check.files), list(properties))
    if delivery.wanted.format == "xlsx":
        require_room(rows, len(found.chosen))
