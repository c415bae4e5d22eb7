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
from doubleword.batch_files.row_map import RowMapFile, map_path
from doubleword.batch_files.writing import Writer, numbered
from doubleword.cli import Progress
from doubleword.failure import Exit, Failure, plain
from doubleword.jobs.job_file import JobFile
from doubleword.output_file import sha256_of
from doubleword.request_lines.checker import Checker
from doubleword.request_lines.form_arguments import bad_arguments
from doubleword.system import Disk, System
from doubleword.tables.plain_copy import STDIN
from doubleword.tables.sources.source import opened_table

PROGRESS_ROWS = 1000


def create(args: argparse.Namespace, system: System) -> dict[str, Any]:
    """Write the requests of `args` to `args.output`; returns the output keys of create_batch_file.py.

    Raises Failure (exit 2) and leaves nothing behind for bad arguments, a bad row, a table without rows, or an
    output that exists.
    """
    output = Path(args.output)
    _refuse_input_as_output(args.input or (), output, system.disk)
    progress = Progress(system.monotonic)
    work = output.with_name(f".{output.name}.work")
    with (
        contextlib.closing(progress),
        making(args, system.disk, work if system.disk.is_folder(output.parent) else None) as made,
    ):
        doubtful = True
        while doubtful:
            with contextlib.suppress(_Doubtful), Writer(output, system.disk, args.force) as writer:
                for lines in made.lines():
                    writer.write(lines)
                    writer.repaired.note(made.repaired)
                    made.repaired.clear()
                    if args.dedupe:
                        writer.row_map.note(made.equals.taken())
                    if made.made >= PROGRESS_ROWS:
                        progress.show(f"{made.made:,} requests made")
                doubtful = made.is_doubtful()
                if doubtful:
                    raise _Doubtful
                writer.record = made.record()
        return {
            "files": [{"path": str(one.path), "requests": one.requests, "bytes": one.bytes} for one in writer.files],
            "requests": sum(one.requests for one in writer.files),
            "bytes": sum(one.bytes for one in writer.files),
            **({"rows": made.made, "shared": writer.row_map.recorded.shared} if args.dedupe else {}),
            "models": list(made.models),
            **({"ids": str(ids_path(output))} if writer.repaired.count else {}),
            "warnings": made.warnings(),
        }


def require_row_map(store: JobFile, disk: Disk) -> Path | None:
    """Where the row map of a job is, made anew from the table where it is lost; None where the job has none.

    Raises Failure (exit 2) where it is lost, and what the table gives now is another one.
    """
    known = store.job.row_map
    if known is None:
        return None
    place = store.folder / known.path
    if sha256_of(place, disk) == known.sha256:
        return place
    record = store.record() if store.job.update is None else None  # an update's says nothing of what was asked before
    if record is not None and STDIN not in record.inputs:
        with contextlib.closing(RowMapFile(place, disk)) as file:
            _map_again(record, file, disk)
            if file.recorded.sha256 == known.sha256:
                file.finish()
                disk.replace(file.temporary, disk.target(place))
                return place
    message = f"{plain(place)}, which says which rows each request answers, is gone or was changed"
    hint = "restore it, or the table as it was; or fetch the batches by their ids, a line for each request"
    if store.job.update is not None:
        hint = "the job's run_batch.py command with --update makes it anew of the table; nothing is paid twice"
    raise Failure(Exit.BAD_INPUT, "row_map_lost", message, hint)


def _map_again(record: Record, file: RowMapFile, disk: Disk) -> None:
    """Write the row map of the requests that the table of `record` gives now."""
    told = {"dedupe": True, "example": False, "limit": record.limit, "skip_invalid": True, "where": None}
    with opened_table(record.inputs, record.settings, disk) as table:
        made = Making(argparse.Namespace(**told), table, record.form, disk, Checker())
        with contextlib.suppress(Failure):  # a table without rows
            for _ in made.lines():
                file.note(made.equals.taken())


class _Doubtful(Exception):
    """Two requests may have the same custom_id: what was written goes, and the table is read again to see."""


def _refuse_input_as_output(inputs: Sequence[str], output: Path, disk: Disk) -> None:
    """The output must not replace, or with --force remove, the very table it is made from, nor become a row of it."""
    taken, number = [output, record_path(output), ids_path(output), map_path(output)], 1
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
