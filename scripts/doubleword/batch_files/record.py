"""The record of a batch file: which table its requests were made of, and by which form.

Promises: by the record alone every request can be made again from its row; a damaged record, or one of an unknown
version, is refused and never guessed at.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

from doubleword.batch_files.row_map import ROW_MAP, RowMap
from doubleword.failure import Exit, Failure, plain
from doubleword.output_file import sha256_of
from doubleword.quick_msgspec import Struct, convert, replace, to_builtins
from doubleword.request_lines.form import RequestForm
from doubleword.system import Disk
from doubleword.tables.plain_copy import STDIN, opened
from doubleword.tables.relation import Settings

VERSION = 3
WITHOUT_MAP = 2  # the version of a record without a row map
FIRST_VERSION = 1
LONGEST = 64 << 20  # examples and a schema may be long, and stand in it


class Record(Struct, frozen=True, omit_defaults=True):
    """Where the requests of a batch file came from. `inputs` are paths as the user gave them, `-` for standard input;
    `hashes` are SHA-256 of the files that they stood for, in order, empty where that cannot be told again.

    `rows` is the number of the last row that was read, `limit` how many were asked for, None for all.
    """

    inputs: tuple[str, ...]
    hashes: tuple[str, ...]
    settings: Settings
    form: RequestForm
    rows: int
    limit: int | None = None
    row_map: RowMap | None = None
    files: tuple[str, ...] = ()  # the names of the batch files, where the record was read


def hashes_of(files: Sequence[Path], disk: Disk) -> tuple[str, ...]:
    """SHA-256 of each file; none at all where one cannot be read again, as standard input."""
    found = [sha256_of(path, disk) for path in files if str(path) != STDIN]
    return tuple(one for one in found if one is not None) if len(found) == len(files) and None not in found else ()


def record_path(batch_file: Path) -> Path:
    """Where the record of the batch file named to create_batch_file.py is: `<stem>.source.json` beside it."""
    return batch_file.with_name(f"{batch_file.stem}.source.json")


def read_record(batch_file: Path, disk: Disk) -> Record | None:
    """The record of `batch_file`, which may be one of several (`<stem>-0001.jsonl`); None where there is none.

    One of the first release is as none: it does not hold the form. Relative paths in it are taken from the batch file's
    folder. Raises Failure (exit 2) for a damaged or newer one.
    """
    whole = re.sub(r"-\d{4}$", "", batch_file.stem)
    for place in dict.fromkeys([record_path(batch_file), batch_file.with_name(f"{whole}.source.json")]):
        record = record_at(place, disk)
        if record is not None and batch_file.name in record.files:
            return record
    return None


def record_beside(row_map: Path, disk: Disk) -> Record | None:
    """The record that was written with a row map; raises as `read_record`."""
    return record_at(row_map.with_name(f"{row_map.name.removesuffix(ROW_MAP)}.source.json"), disk)


def record_at(place: Path, disk: Disk) -> Record | None:
    """The record at `place`, with paths that lead on from its folder; raises as `read_record`."""
    if disk.size(place) is None:
        return None
    with opened(place, disk) as file:
        raw = file.read(LONGEST)
    try:
        content = json.loads(raw)
        version = content["version"]
        if version == FIRST_VERSION:
            return None
        if version == (WITHOUT_MAP if content.get("row_map") is None else VERSION):
            return _from(place.parent, convert(content, Record))
        said = f"has the unknown version {plain(version, 20)}"
    except (ValueError, KeyError, TypeError):
        said = "is damaged"
    hint = "use the version of this skill that wrote it, or create the batch file again with --force"
    raise Failure(Exit.BAD_INPUT, "bad_source_file", f"{plain(place)} {said}", hint)


def _from(folder: Path, record: Record) -> Record:
    """A record whose paths lead on from where it stands, which is `folder`."""
    inputs = tuple(one if one == STDIN else str(folder / one) for one in record.inputs)
    form = replace(record.form, folder=str(folder / record.form.folder))
    row_map = None if record.row_map is None else replace(record.row_map, path=str(folder / record.row_map.path))
    return replace(record, inputs=inputs, form=form, row_map=row_map)


def written(record: Record, files: Sequence[Path], folder: Path) -> bytes:
    """The record of `files` as it is kept in their `folder`, with paths from there where there are such."""
    inputs = tuple(one if one == STDIN else _seen_from(folder, one) for one in record.inputs)
    form = replace(record.form, folder=_seen_from(folder, record.form.folder))
    names = tuple(place.name for place in files)
    content = to_builtins(replace(record, inputs=inputs, form=form, files=names))
    version = WITHOUT_MAP if record.row_map is None else VERSION
    return json.dumps({**content, "version": version}, indent=2).encode() + b"\n"


def _seen_from(folder: Path, path: str) -> str:
    try:
        return os.path.relpath(path, folder)
    except ValueError:  # no relative path between two drives
        return str(Path(path).absolute())


def common_record(files: Sequence[Path], disk: Disk) -> Record | None:
    """The record that all of these batch files have; None where there is none, or one has another.

    That of the last one is enough where it names all, as after an update.
    """
    records = [read_record(path, disk) for path in reversed(files)]
    if records and records[0] is not None and list(records[0].files) == [path.name for path in files]:
        return records[0]
    return records[0] if records and all(one == records[0] for one in records) else None


def row_map_of(files: Sequence[Path], disk: Disk) -> RowMap | None:
    """The row map of these batch files; None where each row has a request of its own.

    Raises Failure (exit 2) where they are not all of them, or not in their order: then the map would lead astray.
    """
    record = common_record(files, disk)
    if record is None or record.row_map is None:
        return None
    if [path.name for path in files] != list(record.files):
        message = f"rows of one table share the requests of {len(record.files)} batch files, and {len(files)} are named"
        hint = f"name them together, in this order: {plain(' '.join(record.files), 300)}"
        raise Failure(Exit.BAD_INPUT, "not_all_files", message, hint)
    return record.row_map
