"""A source: whatever holds the user's rows, opened as one table.

Promises: what a source is, is told by what it holds, not by its name; rows of several files stand one after the other,
merged by the names of their columns; rows and their numbers are the same each time they are read; a row that is wholly
empty is none, and is counted.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from doubleword.failure import Exit, Failure, plain
from doubleword.system import Disk
from doubleword.tables import where
from doubleword.tables.database import Database, text
from doubleword.tables.plain_copy import unpacked
from doubleword.tables.relation import Column, Relation, Settings, bare_name
from doubleword.tables.rows import Row
from doubleword.tables.sources import csv_files, documents, json_files, parquet_files, workbooks
from doubleword.tables.sources.kinds import kind_of
from doubleword.tables.sources.parts import Part, expanded

SHOWN_VALUES = 3


class _File(NamedTuple):
    """A file of a source: `content` holds what is in it, unpacked, and `shown` is what people call it."""

    part: Part
    content: Path
    shown: str


class Table:
    """An opened source: `names` of its columns, its rows, and its relation for outputs.

    `documents` is the folder whose files are the rows, None for any other source; `kinds` are the formats of the files.
    Raises Failure (exit 2) on opening for what cannot be read as a table, and for settings that do not fit it.
    """

    def __init__(self, given: Sequence[str], settings: Settings, disk: Disk, target: Database) -> None:
        self._settings = settings
        self._disk = disk
        self._target = target
        self.documents: Path | None = None
        self.kinds: set[str] = set()
        self.files: list[Path] = []
        self._places: set[str] = set()
        relations = [one for path in given for one in self._relations(path, len(given) == 1)]
        self.columns, merged = _merged(relations)
        self.names = tuple(column.name for column in self.columns)
        self.warnings = list(dict.fromkeys(said for one in relations for said in one.warnings))
        self.elsewhere = next((one.elsewhere for one in relations if one.elsewhere), "")
        self.delimiter = next((one.delimiter for one in relations), "")
        self.byte_order_mark = any(one.byte_order_mark for one in relations)
        self.blank = 0
        self._has_more = any(one.own != "NULL" or one.problem != "NULL" for one in relations)
        self._sql = f"(SELECT row_number() OVER () AS number, * FROM ({merged}))"
        if settings.where is not None:
            self._sql = where.filtered(self._sql, self.columns, settings.where, target)

    # Reading

    def blocks(self) -> Iterator[list[tuple[Any, ...]]]:
        """All rows in order, many at once and bare: the number and the cells, and for rows of which more was kept their
        JSON and their problem. `row` says what one is.
        """
        self.blank = 0
        cells = "".join(f", {column.text}" for column in self.columns)
        more = ", own, problem" if self._has_more else ""
        yield from self._target.blocks(f"SELECT number{cells}{more} FROM {self._sql}", self._refused)

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
        """At most `limit` rows, in order."""
        rows = (row for block in self.blocks() for row in map(self.row, block) if row is not None)
        return itertools.islice(rows, limit)

    def relation(self, raw: bool) -> str:
        """SQL of `number` and the columns, numbered from `"0"` on: as text, or with `raw` each in its own type."""
        cells = "".join(f', {column.value if raw else column.text} AS "{at}"' for at, column in enumerate(self.columns))
        return f"(SELECT number{cells} FROM {self._sql})"

    def repeated(self, name: str, limit: int | None) -> tuple[int, int, list[str]]:
        """How many of the first `limit` rows have a value in a column, how many of these one of a row before, and some
        of those values.
        """
        column = next(one for one in self.columns if one.name == name)
        most = "" if limit is None else f" LIMIT {limit}"
        cells = f"(SELECT nullif(trim({column.text}), '') AS cell FROM {self._sql}{most})"
        counts = f"SELECT count(cell), count(cell) - count(DISTINCT cell) FROM {cells}"
        ((values, repeats),) = self._target.run(counts, self._refused)
        some = f"SELECT cell FROM {cells} WHERE cell IS NOT NULL GROUP BY cell HAVING count(*) > 1 ORDER BY cell"
        found = self._target.run(f"{some} LIMIT {SHOWN_VALUES}", self._refused) if repeats else []
        return values, repeats, [str(row[0]) for row in found]

    # Opening

    def _relations(self, given: str, alone: bool) -> list[Relation]:
        """What `given` stands for, in the order of its parts; `alone` where nothing else is given."""
        settings, disk, target = self._settings, self._disk, self._target
        found, folder = expanded(given, settings.format, disk)
        if folder is not None:
            if not alone:
                message = f"{plain(folder, 120)} is a folder of documents, and cannot stand beside another --input"
                raise _bad(message, "name a folder that holds all of them, or make a table")
            self.documents = folder
            if not found:
                message = f"the folder {plain(folder, 120)} holds no file that is not hidden"
                hint = "name a folder with tables, text files or images in it"
                raise Failure(Exit.BAD_INPUT, "no_rows", message, hint)
            self.files = [one.path for one in found]
            names = [path.relative_to(folder).as_posix() for path in self.files]
            return [documents.of_files(folder, names, settings.encoding, disk, target)]
        files = [one for one in map(self._file, found) if one.content.stat().st_size or len(found) == 1]
        if not files:
            message = f"all files of {settings.shown(Path(given))} are empty"
            raise Failure(Exit.BAD_INPUT, "no_rows", message, "name a table with rows in it")
        relations: list[Relation] = []
        for (kind, hive), group in itertools.groupby(files, key=lambda one: (self._kind(one), one.part.hive)):
            if kind == "parquet":
                of_kind = parquet_files.relations([one.content for one in group], settings.shown(Path(given)), target)
            else:
                of_kind = [self._of(kind, one) for one in group]
            relations += [_with_folders(one, hive) for one in of_kind]
        return relations

    def _file(self, part: Part) -> _File:
        place = os.path.realpath(part.path)
        shown = self._settings.shown(part.path)
        if place in self._places:
            raise _bad(f"{shown} is given twice", "its rows would be asked twice: name it once")
        self._places.add(place)
        self.files.append(part.path)
        return _File(part, unpacked(part.path, self._disk, self._target), shown)

    def _kind(self, file: _File) -> str:
        kind = kind_of(file.part.path, file.content, self._settings.format, file.shown)
        self.kinds.add(kind)
        return kind

    def _of(self, kind: str, file: _File) -> Relation:
        settings, target, content, shown = self._settings, self._target, file.content, file.shown
        if kind in ("csv", "tsv"):
            return csv_files.relation(content, shown, kind == "tsv", settings, target)
        if kind == "text":
            return documents.of_lines(content, shown, settings.encoding, target)
        if kind == "sql":
            return parquet_files.query(content, shown, target)
        if kind == "workbook":
            return workbooks.relation(content, shown, settings, target)
        return json_files.relation(content, shown, settings.encoding, target)

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


def _merged(relations: Sequence[Relation]) -> tuple[list[Column], str]:
    """The columns of all relations, by name, in order of first appearance, of unlike types as text; and SQL that gives
    all their rows under them. Blanks around names do not count where they tell no columns of one file apart.
    """
    found: list[Column] = []
    known: dict[str, int] = {}
    own: list[dict[int, Column]] = []
    for one in relations:
        names = {column.name for column in one.columns}
        alike = {bare_name(found[at].name): at for at in known.values() if found[at].name not in names}
        own.append({})
        for column in one.columns:
            at = known.get(column.name, alike.pop(bare_name(column.name), len(found)))
            own[-1][at] = column
            if at == len(found):
                known[column.name] = at
                found.append(column)
            elif (found[at].stored, found[at].type) != (column.stored, column.type):
                found[at] = Column(found[at].name, "", "VARCHAR", "VARCHAR")
    selects = []
    for one, columns in zip(relations, own, strict=True):
        cells = "".join(
            f', {here.sql if here.stored == found[at].stored else here.text} AS "{at}"' for at, here in columns.items()
        )
        selects.append(f"SELECT {one.own} AS own, {one.problem} AS problem{cells} FROM {one.sql}")
    numbered = [Column(one.name, f'"{at}"', one.stored, one.type) for at, one in enumerate(found)]
    return numbered, " UNION ALL BY NAME ".join(selects)


def _with_folders(one: Relation, folders: Sequence[tuple[str, str | None]]) -> Relation:
    """A relation with the columns that the folders of its files name, as the engines that write such folders read them:
    in the place of a column of that name in the files.
    """
    for name, value in folders:
        column = Column(name, "CAST(NULL AS VARCHAR)" if value is None else text(value))
        one.columns = [column if own.name == name else own for own in one.columns]
        if column not in one.columns:
            one.columns.append(column)
    return one


def _bad(message: str, hint: str) -> Failure:
    return Failure(Exit.BAD_INPUT, "bad_arguments", message, hint)
