"""The partitions of a source: its files, or so many rows of each, under the names of the parts that answer them.

Promises: partitions come in the order of their names, which are the same each time; a part stands in the folders of its
partition, whose columns its rows can ask with; two of one name are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from doubleword.dataset.places import Bucket, bucket, is_url
from doubleword.failure import Exit, Failure, plain
from doubleword.output_file import sha256_of
from doubleword.quick_msgspec import Struct
from doubleword.system import Disk
from doubleword.tables.database import Database, name, text
from doubleword.tables.outputs.source_columns import in_milliseconds
from doubleword.tables.plain_copy import PACKED, suffix
from doubleword.tables.relation import Settings
from doubleword.tables.sources.parts import (
    GLOB,
    MANAGED,
    PART,
    TABLE_ENDINGS,
    expanded,
    hive_of,
    is_beside,
    is_left_behind,
)
from doubleword.tables.sources.source import Table


class Partition(Struct, frozen=True):
    """A file of the source, given by its path there, or its rows from `first` (counted from 1) to `last`.

    `part` is the path of the answers in the output; `hive` are the columns that folders name.
    """

    part: str
    file: str
    hive: tuple[tuple[str, str | None], ...] = ()
    first: int = 1
    last: int | None = None

    @property
    def is_staged(self) -> bool:
        """Whether its rows are not simply those of the file."""
        return bool(self.hive) or self.first > 1 or self.last is not None


class Source:
    """A folder, a file or a glob, on this machine or in a bucket of S3."""

    def __init__(self, given: str, disk: Disk) -> None:
        self.given = given
        self._disk = disk
        self._bucket: Bucket | None = None
        if is_url(given):
            magic = GLOB.search(given)
            root = given[: magic.start()].rpartition("/")[0] if magic else given
            pattern = given[len(root) + 1 :] if magic else None
            if magic is None and suffix(Path(given)) in TABLE_ENDINGS:
                root, _, pattern = given.rpartition("/")
            self._bucket, self._pattern = bucket(root), pattern

    def partitions(self) -> list[Partition]:
        """A partition for each file. Raises Failure (exit 2) where there is none, or two parts had one name."""
        found = self._elsewhere(self._bucket) if self._bucket is not None else self._here()
        return _unlike(found)

    def fetch(self, one: Partition, folder: Path) -> Path:
        """Its file on this machine, in `folder` where it has to be brought."""
        if self._bucket is None:
            return Path(one.file)
        return self._bucket.fetch(one.file, folder / Path(one.file).name)

    def version(self, one: Partition) -> str | None:
        """What changes when its file does; None where that is gone."""
        if self._bucket is None:
            return sha256_of(Path(one.file), self._disk)
        return self._bucket.version(one.file)

    def _here(self) -> list[Partition]:
        parts, documents = expanded(self.given, None, self._disk)
        if documents is not None:
            message = f"{plain(documents, 120)} holds no tables"
            raise Failure(Exit.BAD_INPUT, "bad_source", message, "name a folder of Parquet, CSV or JSON lines")
        missing = next((one.path for one in parts if self._disk.size(one.path) is None), None)
        if missing is not None:
            raise Failure(Exit.BAD_INPUT, "no_file", f"there is no file {plain(missing)}", "check the path")
        root = Path(self.given) if self._disk.is_folder(Path(self.given)) else self._root()
        return [Partition(_part(one.path.relative_to(root).as_posix()), str(one.path), one.hive) for one in parts]

    def _root(self) -> Path:
        magic = None if self._disk.size(Path(self.given)) is not None else GLOB.search(self.given)
        return Path(self.given[: magic.start()] + "-").parent if magic else Path(self.given).parent

    def _elsewhere(self, place: Bucket) -> list[Partition]:
        paths = place.names(self._pattern)
        managed = next((said for path in paths for mark, said in MANAGED.items() if f"/{mark}/" in f"/{path}"), None)
        if managed is not None:
            message = f"{plain(self.given, 120)} is {managed}: which of its files count, only its log says"
            raise Failure(Exit.BAD_INPUT, "bad_table", message, "export the rows that count as Parquet")
        kept = [path for path in paths if not is_left_behind(path) and not is_beside(path)]
        tables = [path for path in kept if suffix(Path(path)) in TABLE_ENDINGS or PART.fullmatch(Path(path).name)]
        if not tables:
            message = f"there is no table in {plain(self.given, 120)}"
            raise Failure(Exit.BAD_INPUT, "no_file", message, "name a folder of Parquet, CSV or JSON lines")
        return [Partition(_part(path), path, hive_of(path)) for path in tables]


def sliced(parts: Iterable[Partition], rows: int, source: Source, settings: Settings, disk: Disk) -> list[Partition]:
    """Partitions of at most so many rows, `-0001` and on; each file is read once to count them."""
    found: list[Partition] = []
    for one in parts:
        with disk.work_folder(None) as folder, Database(folder) as target:
            table = Table([str(source.fetch(one, folder))], settings, disk, target)
            ((count,),) = target.run(f"SELECT count(*) FROM {table.relation(raw=True)}")
        found += list(_slices(one, rows, int(count)))
    return _unlike(found)


def _slices(one: Partition, rows: int, count: int) -> Iterator[Partition]:
    if count <= rows:
        yield one
        return
    for number, first in enumerate(range(1, count + 1, rows), 1):
        part = f"{one.part.removesuffix('.parquet')}-{number:04d}.parquet"
        yield Partition(part, one.file, one.hive, first, min(first + rows - 1, count))


def stage(one: Partition, file: Path, to: Path, settings: Settings, disk: Disk, folder: Path) -> None:
    """Write the rows of a partition as a Parquet file of their own, with the columns that its folders name."""
    with disk.work_folder(folder) as work, Database(work) as target:
        table = Table([str(file)], settings, disk, target)
        times = in_milliseconds(table.files, disk, target)
        named = dict(one.hive)
        cells = []
        for at, column in enumerate(table.columns):
            cell = f'CAST("{at}" AS TIMESTAMP_MS)' if column.name in times and column.type == "TIMESTAMP" else f'"{at}"'
            cells += [f"{cell} AS {name(column.name)}"] if column.name not in named else []
        for called, value in named.items():
            cells.append(f"{'CAST(NULL AS VARCHAR)' if value is None else text(value)} AS {name(called)}")
        last = "" if one.last is None else f" AND number <= {one.last}"
        query = f"SELECT {', '.join(cells)} FROM {table.relation(raw=True)} WHERE number >= {one.first}{last}"

        def refused(said: str) -> Failure:
            message = f"{settings.shown(Path(one.file))} cannot be read: {said}"
            return Failure(Exit.BAD_INPUT, "bad_table", message, "check the file and its format")

        target.copy(f"{query} ORDER BY number", to, "FORMAT parquet, COMPRESSION zstd", refused)


def _part(path: str) -> str:
    """The path of the answers to the rows of a file: it is Parquet, whatever the file was."""
    folder, _, last = path.rpartition("/")
    for ending in PACKED:
        last = last.removesuffix(ending)
    last = re.sub(r"\.(parquet|pq|csv|tsv|tab|jsonl|ndjson|json|txt)$", "", last, flags=re.IGNORECASE)
    return f"{folder}/{last}.parquet".lstrip("/")


def _unlike(parts: Sequence[Partition]) -> list[Partition]:
    seen: dict[str, Partition] = {}
    for one in parts:
        other = seen.setdefault(one.part, one)
        if other is not one:
            message = f"{plain(other.file, 120)} and {plain(one.file, 120)} would have one part, {plain(one.part, 120)}"
            raise Failure(Exit.BAD_INPUT, "bad_source", message, "name the files of one format by a glob: '….csv'")
    return list(seen.values())
