"""The files that an --input stands for: one file, a glob, or a folder of parts or documents.

Promises: parts come in the order of their names; what an operating system, an office program or a table engine leaves
beside them is no part; a folder that only its own engine can read, such as a Delta table, is refused by name.

Facts: Spark writes `_SUCCESS` and `part-00000-….parquet`, dask `part.0.parquet`, Hive `000000_0` and folders
`column=value`; names that begin with `_` or `.` are no data to any of them (Hadoop FileInputFormat). Delta has
`_delta_log`, Iceberg `metadata` with `*.metadata.json`, Hudi `.hoodie`, Lance `_versions`.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote

from doubleword.failure import Exit, Failure, plain
from doubleword.quick_msgspec import Struct
from doubleword.system import Disk
from doubleword.tables.plain_copy import STDIN, suffix
from doubleword.tables.sources.kinds import ENDINGS

# Files and folders that systems make by themselves; Icon ends in a carriage return.
LEFT_BEHIND = frozenset(
    {"thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r", "folder.htt", "$recycle.bin", "recycler",
     "system volume information", "lost+found", "__macosx", "@eadir", "#recycle", "network trash folder",
     "temporary items", "thumbs.db:encryptable"}
)  # fmt: skip
TABLE_ENDINGS = frozenset(ending for ending, kind in ENDINGS.items() if kind not in ("text", "sql"))
MANAGED = {"_delta_log": "a Delta table", ".hoodie": "a Hudi table", "_versions": "a Lance table"}
ICEBERG = re.compile(r"(version-hint\.text|.*\.metadata\.json(\.gz)?)")
MARKERS = re.compile(r"_(success|metadata|common_metadata|(committed|started)_.*)", re.IGNORECASE)
PART = re.compile(r"(part(-[rm])?-\d{5}|\d{6}_\d+)\b.*")
INNER = re.compile(r".+=.*|data|\d+")  # folders of data within a table
GLOB = re.compile(r"[*?\[]")
NULL = "__HIVE_DEFAULT_PARTITION__"


class Part(Struct, frozen=True):
    """A file, and the columns that the folders around it name, as in `lang=de/part-0.parquet`; None is a null."""

    path: Path
    hive: tuple[tuple[str, str | None], ...] = ()


def is_left_behind(path: str) -> bool:
    """Whether a file, given by its path with /, is what a system or an office program leaves: no row to anybody."""
    names = path.casefold().split("/")
    last = names[-1]
    return (
        any(name in LEFT_BEHIND for name in names)
        or last.startswith(("~$", "._", ".~lock", ".ds_store"))
        or last.endswith(("~", ":zone.identifier"))
        or (last.startswith("~") and last.endswith(".tmp"))
    )


def expanded(given: str, said: str | None, disk: Disk) -> tuple[list[Part], Path | None]:
    """The parts that `given` stands for, and the folder where it is one of documents.

    `said` is the format that the user names, in which all files of a folder are then read. Raises Failure (exit 2) for
    a glob or a folder without such a file, and for a folder that an engine manages.
    """
    path = Path(given)
    if given != STDIN and disk.is_folder(path):
        return _in_folder(path, said, disk)
    magic = GLOB.search(given)
    if given == STDIN or magic is None or disk.size(path) is not None:
        return [Part(path)], None
    root = Path(given[: magic.start()] + "-").parent
    names = sorted(glob.glob(given, recursive=True))  # noqa: PTH207  the pattern may be absolute
    below = {name: Path(name).relative_to(root).as_posix() for name in names if not disk.is_folder(Path(name))}
    kept = [name for name, inner in below.items() if not is_left_behind(inner) and not is_beside(inner)]
    if not kept:
        message = f"no file is called like {plain(given, 120)}"
        raise Failure(Exit.BAD_INPUT, "no_file", message, "put the pattern into quotes, and check its folder")
    _refuse_managed({Path(name).parent for name in kept}, disk)
    return [Part(Path(name), hive_of(below[name])) for name in kept], None


def _in_folder(path: Path, said: str | None, disk: Disk) -> tuple[list[Part], Path | None]:
    names = _files(path, disk)
    data = [name for name in names if not is_beside(name)]
    _refuse_managed({path, *((path / name).parent for name in data)}, disk)
    tables = [name for name in data if suffix(Path(name)) in TABLE_ENDINGS]
    last = [name.rpartition("/")[2] for name in names]
    written = bool(data) and (
        any(map(MARKERS.fullmatch, last)) or all(PART.fullmatch(Path(name).name) for name in data)
    )
    if said is None and not tables and not written:
        return [Part(path / name) for name in names], path
    other = next((name for name in data if name not in tables), None)
    if said is None and not written and other is not None:
        message = f"{plain(path, 120)} holds tables and other files, such as {plain(other, 80)}"
        raise Failure(Exit.BAD_INPUT, "bad_table", message, f"name what is meant: --input '{plain(path)}/*.csv'")
    return [Part(path / name, hive_of(name)) for name in data], None


def _files(folder: Path, disk: Disk) -> list[str]:
    try:
        return [name for name in disk.files(folder) if not is_left_behind(name)]
    except OSError as error:
        message = f"{plain(error.filename or folder, 120)} cannot be read: {plain(error.strerror)}"
        raise Failure(Exit.BAD_INPUT, "no_file", message, "check the folder's permissions") from None


def _refuse_managed(folders: Iterable[Path], disk: Disk) -> None:
    """Refuse folders of data whose engine says in a log beside them, or beside the folders around them, what counts."""
    places = set(folders)
    for place in folders:
        around = place.absolute()
        while INNER.fullmatch(around.name):
            around = around.parent
            places.add(around)
    for place in sorted(places):
        kind = next((said for name, said in MANAGED.items() if disk.is_folder(place / name)), None)
        if kind is None and disk.is_folder(place / "metadata"):
            kind = "an Iceberg table" if any(map(ICEBERG.fullmatch, disk.entries(place / "metadata"))) else None
        if kind is not None:
            message = f"{plain(place, 120)} is {kind}: which of its files count, only its log says"
            hint = "export the rows that count as Parquet, or name single files of it"
            raise Failure(Exit.BAD_INPUT, "bad_table", message, hint)


def is_beside(path: str) -> bool:
    """Whether a file is beside the data: it, or a folder on the way, begins with `_` or `.`."""
    return any(name.startswith(("_", ".")) for name in path.split("/"))


def hive_of(path: str) -> tuple[tuple[str, str | None], ...]:
    """The columns that the folders of a path name, with / and from the folder that was given."""
    pairs = [name.partition("=") for name in path.split("/")[:-1] if "=" in name]
    return tuple((unquote(name), None if value == NULL else unquote(value)) for name, _, value in pairs if name)
