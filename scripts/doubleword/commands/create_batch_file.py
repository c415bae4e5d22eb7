"""create_batch_file.py: from a table to batch files, one checked request for each row."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from doubleword.batch_files.making import Making, making
from doubleword.batch_files.record import Record, record_path
from doubleword.batch_files.repaired_ids import ids_path
from doubleword.batch_files.row_map import RowFiles, RowMapFile, answers_path, map_path
from doubleword.batch_files.writing import Writer, numbered
from doubleword.cli import Progress
from doubleword.failure import Exit, Failure, plain
from doubleword.jobs.job_file import JobFile
from doubleword.jobs.reuse.answers import EarlierAnswers, require_answers
from doubleword.jobs.reuse.gathering import earlier_answers
from doubleword.output_file import refuse_existing, sha256_of
from doubleword.request_lines.checker import Checker
from doubleword.request_lines.form_arguments import bad_arguments
from doubleword.system import Disk, System
from doubleword.tables.plain_copy import STDIN
from doubleword.tables.sources.source import opened_table

PROGRESS_ROWS = 1000


def create(
    args: argparse.Namespace, system: System, kept: Path | None = None, may_be_empty: bool = False
) -> dict[str, Any]:
    """Write the requests of `args` to `args.output`; returns the output keys of create_batch_file.py.

    `kept` are answers of earlier jobs that an earlier making took, and that take the place of --reuse. Raises Failure
    (exit 2) and leaves nothing behind for bad arguments, a bad row, a table without rows, an output that exists, or
    where nothing is left to ask, unless it `may_be_empty`.
    """
    output, disk = Path(args.output), system.disk
    if args.example and args.reuse:
        raise bad_arguments("--example makes its rows anew, and --reuse has no place", "leave one of them out")
    _refuse_input_as_output(args.input or (), output, disk)
    refuse_existing(output, disk, args.force)
    progress = Progress(system.monotonic)
    work = output.with_name(f".{output.name}.work")
    with (
        contextlib.closing(progress),
        earlier_answers(args, output, kept, system, progress) as earlier,
        making(args, disk, work if disk.is_folder(output.parent) else None, earlier) as made,
    ):
        doubtful = True
        while doubtful:
            with contextlib.suppress(_Doubtful), Writer(output, disk, args.force) as writer:
                _write(made, writer, progress)
                doubtful = made.is_doubtful()
                if doubtful:
                    raise _Doubtful
                if made.equals.reused == made.made and not may_be_empty:
                    raise _nothing_to_ask(made.made)
                writer.record = made.record()
        row_map = writer.row_map.recorded
        return {
            "files": [{"path": str(one.path), "requests": one.requests, "bytes": one.bytes} for one in writer.files],
            "requests": sum(one.requests for one in writer.files),
            "bytes": sum(one.bytes for one in writer.files),
            **({"rows": made.made, "shared": row_map.shared} if made.is_mapped else {}),
            **({"reused": row_map.reused} if earlier is not None else {}),
            "models": list(made.models),
            **({"ids": str(ids_path(output))} if writer.repaired.count else {}),
            "warnings": [*(earlier.warnings if earlier is not None else ()), *made.warnings()],
        }


def _write(made: Making, writer: Writer, progress: Progress) -> None:
    """Write every request, and what belongs beside them."""
    if made.earlier is not None:
        writer.answers.write([])
    for lines in made.lines():
        writer.write(lines)
        writer.repaired.note(made.repaired)
        made.repaired.clear()
        if made.is_mapped:
            writer.row_map.note(made.equals.rows)
            made.equals.rows.clear()
        if made.earlier is not None:
            writer.answers.write(made.earlier.lines(made.equals.answers))
            made.equals.answers.clear()
        if made.made >= PROGRESS_ROWS:
            progress.show(f"{made.made:,} requests made")


def _nothing_to_ask(rows: int) -> Failure:
    message = (
        f"nothing is left to ask: earlier jobs have a good answer for each of the {rows:,} rows; nothing was written"
    )
    hint = "run_batch.py OUTPUT with these arguments writes the table of their answers, and sends nothing"
    return Failure(Exit.BAD_INPUT, "nothing_to_ask", message, hint)


def require_row_map(store: JobFile, disk: Disk) -> RowFiles | None:
    """Where the row map of a job is, made anew from the table where it is lost, and the answers of earlier jobs that it
    names; None where the job has none.

    Raises Failure (exit 2) where it is lost, and what the table gives now is another one, or where answers are lost.
    """
    known = store.job.row_map
    if known is None:
        return None
    place = store.folder / known.path
    answers = require_answers(known, store.folder, disk)
    if sha256_of(place, disk) == known.sha256:
        return RowFiles(place, answers)
    record = store.record() if store.job.update is None else None  # an update's says nothing of what was asked before
    if record is not None and STDIN not in record.inputs:
        for once in (True, False) if answers is not None else (True,):
            with contextlib.closing(RowMapFile(place, disk)) as file:
                _map_again(record, file, answers, once, disk)
                if file.recorded.sha256 == known.sha256:
                    file.finish()
                    disk.replace(file.temporary, disk.target(place))
                    return RowFiles(place, answers)
    message = f"{plain(place)}, which says which rows each request answers, is gone or was changed"
    hint = "restore it, or the table as it was; or fetch the batches by their ids, a line for each request"
    if store.job.update is not None:
        hint = "the job's run_batch.py command with --update makes it anew of the table; nothing is paid twice"
    raise Failure(Exit.BAD_INPUT, "row_map_lost", message, hint)


def _map_again(record: Record, file: RowMapFile, answers: Path | None, once: bool, disk: Disk) -> None:
    """Write the row map of what the table of `record` asks now; with `once`, equal requests have one number."""
    told = {"dedupe": once, "example": False, "limit": record.limit, "skip_invalid": True, "where": None}
    with contextlib.ExitStack() as held:
        earlier = None
        if answers is not None:
            earlier = held.enter_context(EarlierAnswers(file.path.with_name(f".{file.path.name}.earlier"), disk))
            earlier.add_file(answers)
            earlier.settle()
        table = held.enter_context(opened_table(record.inputs, record.settings, disk))
        args = argparse.Namespace(**told)
        made = Making(args, table, record.form, disk, Checker(), earlier=earlier)
        with contextlib.suppress(Failure):  # a table without rows
            for _ in made.lines():
                file.note(made.equals.rows)
                made.equals.rows.clear()


class _Doubtful(Exception):
    """Two requests may have the same custom_id: what was written goes, and the table is read again to see."""


def _refuse_input_as_output(inputs: Sequence[str], output: Path, disk: Disk) -> None:
    """The output must not replace, or with --force remove, the very table it is made from, nor become a row of it."""
    beside = (record_path, ids_path, map_path, answers_path)
    taken, number = [output, *(path(output) for path in beside)], 1
    while numbered(output, number).exists():
        taken.append(numbered(output, number))
        number += 1
    places = {Path(os.path.realpath(path)) for path in taken}
    for source in (one for one in inputs if one != STDIN):
        table = Path(os.path.realpath(source))
        if disk.is_folder(table) and table in Path(os.path.realpath(output)).parents:
            message = f"the output {plain(output)} would become a file of the input folder {plain(source)}"
            raise bad_arguments(message, "write it to another folder")
        if table in places:
            message = f"the output {plain(output)} would take the place of the input"
            raise bad_arguments(message, "choose another name")
