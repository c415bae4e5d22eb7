"""The files that an --input stands for: one file, a glob, or a folder of parts or documents.

Promises: parts come in the order of their names; what an operating system, an office program or a table engine leaves
beside them is no part; a folder that only its own engine can read, such as a Delta table, is refused by name.

Facts: Spark writes `_SUCCESS` and `part-00000-….parquet`, Hive folders `column=value`; names that begin with `_` or `.`
are no data to either (Hadoop FileInputFormat). Delta has `_delta_log`, Iceberg `metadata` with `*.metadata.json`, Hudi
`.hoodie`.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from doubleword.failure import Exit, Failure, plain
from doubleword.system import Disk
from doubleword.tables.plain_copy import STDIN, suffix

SYSTEM_FILES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "$recycle.bin", "folder.htt"})
TABLE_ENDINGS = frozenset({".csv", ".tsv", ".tab", ".json", ".jsonl", ".ndjson", ".parquet", ".pq"})
MANAGED = {"_delta_log": "a Delta table", ".hoodie": "a Hudi table"}
GLOB = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Part:
    """A file, and the columns that the folders around it name, as in `lang=de/part-0.parquet`."""

    path: Path
    hive: tuple[tuple[str, str], ...] = ()


def is_left_behind(name: str) -> bool:
    """Whether a file of this name is what a system or an office program leaves in a folder: no row to anybody."""
    low = name.casefold()
    return low in SYSTEM_FILES or low.startswith(("~$", "._", ".~lock", ".ds_store"))


def expanded(given: str, disk: Disk) -> tuple[list[Part], Path | None]:
    """The parts that `given` stands for, or the folder of documents that it is, whose files `documents` gives.

    Raises Failure (exit 2) for a glob or a folder without such a file, and for a folder that an engine manages.
    """
    path = Path(given)
    if given == STDIN or not (disk.is_folder(path) or (GLOB.search(given) and disk.size(path) is None)):
        return [Part(path)], None
    if disk.is_folder(path):
        names = _files(path, disk)
        data = [name for name in names if not any(one.startswith("_") for one in name.split("/"))]
        tables = [name for name in data if suffix(Path(name)) in TABLE_ENDINGS]
        if not tables:
            return [], path
        other = next((name for name in data if name not in tables), None)
        if other is not None:
            message = f"{plain(given, 120)} holds tables and other files, such as {plain(other, 80)}"
            raise Failure(Exit.BAD_INPUT, "bad_table", message, f"name what is meant: --input '{plain(given)}/*.csv'")
        return [Part(path / name, _hive(name)) for name in tables], None
    matching = glob.glob(given, recursive=True)  # noqa: PTH207  the pattern may be absolute
    found = sorted(one for one in matching if not is_left_behind(Path(one).name))
    root = Path(given[: GLOB.search(given).start()]) if GLOB.search(given) else path  # type: ignore[union-attr]
    parts = [
        Part(Path(one), _hive(one)) for one in found if not disk.is_folder(Path(one)) and not _is_marker(one, root)
    ]
    if not parts:
        message = f"no file is called like {plain(given, 120)}"
        raise Failure(Exit.BAD_INPUT, "no_file", message, "put the pattern into quotes, and check its folder")
    return parts, None


def documents(folder: Path, disk: Disk) -> list[str]:
    """The files of a folder of texts or images, as paths from it; raises Failure (exit 2) where there is none."""
    found = [name for name in _files(folder, disk) if not is_left_behind(name.rpartition("/")[2])]
    if not found:
        message = f"the folder {plain(folder, 120)} holds no file that is not hidden"
        raise Failure(Exit.BAD_INPUT, "no_rows", message, "name a folder with tables, text files or images in it")
    return found


def _files(folder: Path, disk: Disk) -> list[str]:
    try:
        names = {name.partition("/")[0] for name in disk.entries(folder)}
        found = [name for name in disk.files(folder) if not is_left_behind(name.rpartition("/")[2])]
    except OSError as error:
        message = f"{plain(error.filename or folder, 120)} cannot be read: {plain(error.strerror)}"
        raise Failure(Exit.BAD_INPUT, "no_file", message, "check the folder's permissions") from None
    kind = next((said for name, said in MANAGED.items() if name in names), None)
    if kind is None and any(re.fullmatch(r"metadata/.*\.metadata\.json", name) for name in found):
        kind = "an Iceberg table"
    if kind is not None:
        message = f"{plain(folder, 120)} is {kind}: which of its files count, only its log says"
        hint = "export the rows that count as Parquet, or name single files of it"
        raise Failure(Exit.BAD_INPUT, "bad_table", message, hint)
    return found


def _is_marker(path: str, root: Path) -> bool:
    """Whether a path below `root` is beside the data: it, or a folder on the way, begins with `_` or `.`."""
    try:
        parts = Path(path).relative_to(root).parts
    except ValueError:
        parts = (Path(path).name,)
    return any(part.startswith(("_", ".")) for part in parts)


def _hive(path: str) -> tuple[tuple[str, str], ...]:
    """The columns that the folders of a path name; Hive writes a null as `__HIVE_DEFAULT_PARTITION__`."""
    pairs = [part.partition("=") for part in Path(path).parts[:-1] if "=" in part]
    return tuple((name, unquote(value)) for name, _, value in pairs if name)


def names_of(parts: Sequence[Part]) -> list[str]:
    """The columns that the folders of any of `parts` name, in order of first appearance."""
    return list(dict.fromkeys(name for part in parts for name, _ in part.hive))
