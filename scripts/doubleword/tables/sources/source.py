"""A source: whatever holds the user's rows, opened as one table.

Promises: what a source is, is told by what it holds, not by its name; rows of several files stand one after the other,
merged by the names of their columns; rows and their numbers are the same each time they are read; a row that is wholly
empty is none, and is counted.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from doubleword.failure import Exit, Failure, plain
from doubleword.system import Disk
from doubleword.tables import where
from doubleword.tables.database import Database, text
from doubleword.tables.plain_copy import STDIN, opened, suffix, unpacked
from doubleword.tables.relation import Column, Relation, Settings
from doubleword.tables.rows import Row
from doubleword.tables.sources import csv_files, documents, json_files, parquet_files, parts, workbooks
from doubleword.tables.sources.parts import Part

FORMATS = ("csv", "tsv", "json", "jsonl", "parquet", "text", "workbook", "sql")
ENDINGS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".txt": "text",
    ".text": "text",
    ".sql": "sql",
    **dict.fromkeys((".xlsx", ".xlsm", ".xlsb", ".xls", ".ods"), "workbook"),
}
ZIP, OLE, PARQUET = b"PK\x03\x04", b"\xd0\xcf\x11\xe0", b"PAR1"
FOREIGN = {b"%PDF": "a PDF", b"\x89PNG": "an image", b"\xff\xd8\xff": "an image", b"SQLite": "an SQLite database"}


class Table:
    """An opened source: `names` of its columns, its rows, and its relation for outputs.

    `documents` is the folder whose files are the rows, None for any other source. Raises Failure (exit 2) on opening
    for what cannot be read as a table, and for settings that do not fit it.
    """

    def __init__(self, given: Sequence[str], settings: Settings, disk: Disk, target: Database) -> None:
        self._settings = settings
        self._disk = disk
        self._target = target
        self.documents: Path | None = None
        self.files: list[Path] = []
        relations = [one for path in given for one in self._relations(path)]
        self.columns = _merged(relations)
        self.names = tuple(column.name for column in self.columns)
        self.warnings = list(dict.fromkeys(said for one in relations for said in one.warnings))
        self.elsewhere = next((one.elsewhere for one in relations if one.elsewhere), "")
        self.delimiter = next((one.delimiter for one in relations), "")
        self.byte_order_mark = any(one.byte_order_mark for one in relations)
        self.blank = 0
        self._relations_read = relations
        self._has_more = any(one.own != "NULL" or one.problem != "NULL" for one in relations)
        self._sql = f"(SELECT row_number() OVER () AS number, * FROM ({' UNION ALL '.join(self._selects(relations))}))"
        if settings.where is not None:
            self._sql = where.filtered(self._sql, self.columns, settings.where, target)

    # Reading

    def blocks(self, limit: int | None = None) -> Iterator[list[tuple[Any, ...]]]:
        """At most `limit` rows in order, many at once and bare: the number and the cells, and for a row of JSON that
        was kept whole that JSON and its problem. `row` says what one is.
        """
        cells = "".join(f", {column.text}" for column in self.columns)
        more = ", own, problem" if self._has_more else ""
        most = "" if limit is None else f" LIMIT {limit}"
        yield from self._target.blocks(f"SELECT number{cells}{more} FROM {self._sql}{most}", self._refused)

    def row(self, bare: tuple[Any, ...]) -> Row | None:
        """The row that was bare in a block; None where there is nothing in it, which is counted in `blank`."""
        if self._has_more:
            number, *cells, own, problem = bare
        else:
            number, *cells = bare
            own = problem = None
        if problem is None and not any(cell and not cell.isspace() for cell in cells):
            self.blank += 1
            return None
        return Row(number, self.names, cells, own, problem)

    def rows(self, limit: int | None = None) -> Iterator[Row]:
        """As `blocks`, row by row, and after all others those that DuckDB could not read."""
        self.blank = 0
        given = lines = 0
        for block in self.blocks(limit):
            given += len(block)
            for bare in block:
                if limit is not None:
                    lines += 1 + sum(cell.count("\n") for cell in bare[1:] if cell is not None)
                row = self.row(bare)
                if row is not None:
                    yield row
        yield from self.rejected(None if limit is None or given < limit else lines)

    def rejected(self, lines: int | None = None) -> Iterator[Row]:
        """What the last reading left out: all of it, or of a single file only what is among the first `lines` lines."""
        empty = [None] * len(self.names)
        for one in self._relations_read:
            if lines is not None:  # what is wrong is known only where all was read
                self._target.run(f"SELECT {', '.join(f'count({column.sql})' for column in one.columns)} FROM {one.sql}")
            for found in one.rejected():
                if lines is not None:
                    if found.line > one.above + lines:
                        return
                    lines += 1
                yield Row(0, self.names, empty, None, found.problem, f"line {found.line}")

    def relation(self, raw: bool) -> str:
        """SQL of `number` and the columns, numbered from `"0"` on: as text, or with `raw` each in its own type."""
        cells = "".join(f', {column.value if raw else column.text} AS "{at}"' for at, column in enumerate(self.columns))
        return f"(SELECT number{cells} FROM {self._sql})"

    # Opening

    def _relations(self, given: str) -> list[Relation]:
        settings, disk, target = self._settings, self._disk, self._target
        found, folder = parts.expanded(given, disk)
        if folder is not None:
            if settings.format is not None:
                message = f"{plain(folder)} is a folder of documents, not {settings.format}"
                raise _bad(message, "leave --input-format out, or name a file in it")
            self.documents = folder
            names = parts.documents(folder, disk)
            self.files += [folder / one for one in names]
            return [documents.of_files(folder, names, settings.encoding, disk, target)]
        self.files += [part.path for part in found]
        kinds = {self._kind(part.path) for part in found}
        if kinds == {"parquet"}:
            hive = parts.names_of(found)
            shown = settings.shown(Path(given))
            paths = [disk.real(part.path, target.folder) for part in found]
            return [parquet_files.relation(paths, bool(hive), shown, target)]
        return [_with_folders(self._of(part), part, parts.names_of(found)) for part in found]

    def _kind(self, path: Path) -> str:
        """The format of a file: as the user says, else as its first bytes tell, else its ending."""
        if self._settings.format is not None or str(path) == STDIN:
            if self._settings.format == "parquet" and str(path) == STDIN:
                raise _bad("Parquet cannot be read from standard input", "name a file")
            return self._settings.format or "json"
        by_name = ENDINGS.get(suffix(path))
        with opened(path, self._disk) as file:
            start = file.read(8)
        if start.startswith((ZIP, OLE)):
            return "workbook"
        if start.startswith(PARQUET):
            return "parquet"
        foreign = next((said for mark, said in FOREIGN.items() if start.startswith(mark)), None)
        if foreign is not None:
            raise _bad(f"{plain(path)} is {foreign}, not a table", "name a table, or a folder of documents")
        if by_name is None or (by_name in ("workbook", "parquet") and start):
            message = f"{plain(path)}: neither its ending nor its beginning tells the format"
            hint = f"add --input-format with one of {', '.join(FORMATS)}"
            raise Failure(Exit.BAD_INPUT, "unknown_format", message, hint)
        return by_name

    def _of(self, part: Part) -> Relation:
        settings, disk, target = self._settings, self._disk, self._target
        path, kind = part.path, self._kind(part.path)
        if kind in ("csv", "tsv"):
            return csv_files.relation(path, kind == "tsv", settings, disk, target)
        if kind == "text":
            return documents.of_lines(path, settings, disk, target)
        if kind == "sql":
            return parquet_files.query(path, disk, target)
        if kind == "parquet":
            return parquet_files.relation(
                [disk.real(path, target.folder)], bool(part.hive), settings.shown(path), target
            )
        plain_file = unpacked(path, disk, target)
        if kind == "workbook":
            return workbooks.relation(plain_file, settings.shown(path), settings, target)
        return json_files.relation(plain_file, settings.shown(path), target)

    def _selects(self, relations: Sequence[Relation]) -> Iterator[str]:
        """Each relation under the merged columns, those that it has not being null."""
        for one in relations:
            own = {column.name: column for column in one.columns}
            cells = []
            for at, column in enumerate(self.columns):
                here = own.get(column.name)
                sql = "NULL" if here is None else here.sql if here.stored == column.stored else here.text
                cells.append(f', {sql} AS "{at}"')
            yield f"SELECT {one.own} AS own, {one.problem} AS problem{''.join(cells)} FROM {one.sql}"

    def _refused(self, said: str) -> Failure:
        if self._settings.where is not None:
            return where.refused(self._settings.where, self.names, said)
        shown = ", ".join(plain(path, 60) for path in self.files[:3])
        return Failure(Exit.BAD_INPUT, "bad_table", f"{shown} cannot be read: {said}", "check the file and its format")


@contextlib.contextmanager
def opened_table(given: Sequence[str], settings: Settings, disk: Disk, folder: Path | None = None) -> Iterator[Table]:
    """The source, for as long as the `with` block lasts; `folder` takes what does not fit into memory.

    Without one it stands in the system's folder for temporary files.
    """
    with disk.work_folder(folder) as work, Database(work) as target:
        yield Table(given, settings, disk, target)


def _merged(relations: Sequence[Relation]) -> list[Column]:
    """The columns of all relations, by name, in order of first appearance; of unlike types as text."""
    found: dict[str, Column] = {}
    for one in relations:
        for column in one.columns:
            known = found.get(column.name)
            if known is None:
                found[column.name] = column
            elif (known.stored, known.type) != (column.stored, column.type):
                found[column.name] = Column(column.name, "", "VARCHAR", "VARCHAR")
    return [Column(one.name, f'"{at}"', one.stored, one.type) for at, one in enumerate(found.values())]


def _with_folders(one: Relation, part: Part, names: Sequence[str]) -> Relation:
    """A relation with the columns that the folders of its file name."""
    told = dict(part.hive)
    for column in names:
        value = told.get(column)
        known = any(other.name == column for other in one.columns)
        if not known:
            null = value is None or value == "__HIVE_DEFAULT_PARTITION__"
            one.columns.append(Column(column, "CAST(NULL AS VARCHAR)" if null else text(value or "")))
    return one


def _bad(message: str, hint: str) -> Failure:
    return Failure(Exit.BAD_INPUT, "bad_arguments", message, hint)
