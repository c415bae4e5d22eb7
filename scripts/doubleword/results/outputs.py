"""The forms in which results are written: the server's own lines, a matrix of vectors, a table.

Promises: every form gets each request's result once, in the order of the input; what cannot be written in a form (a
column that does not exist, a source that was changed) is told before results are read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Protocol

from doubleword.batch_files.matching import HINT, Matching, reading_settings
from doubleword.batch_files.record import Record
from doubleword.failure import Exit, Failure, plain
from doubleword.output_file import WholeFile
from doubleword.results.reading import Pack
from doubleword.results.result import Good, Result
from doubleword.results.table_rows import ResultRows, added_names, vector_of
from doubleword.system import Disk
from doubleword.tables.database import Database
from doubleword.tables.formulas import may_run
from doubleword.tables.outputs.columns import OutputColumn, selected, selection
from doubleword.tables.outputs.matrix import Matrix
from doubleword.tables.outputs.writers import Dialect, Rows, write_csv, write_parquet, write_workbook
from doubleword.tables.sources.source import Table
from doubleword.tables.staged import Staged

SUFFIXES = {"jsonl": ".jsonl", "csv": ".csv", "parquet": ".parquet", "xlsx": ".xlsx", "npy": ".npy"}
TABLES = ("csv", "parquet", "xlsx")
# Requests whose ids nobody knows any more, which no row can have.
UNKNOWN = "(unknown request %"
LOST = "no row of the table asks what was asked by the request "


class Output(Protocol):
    """What results are written to."""

    @property
    def pack(self) -> Pack | None:
        """What is kept of an answer until its turn comes; None for its line."""

    def add(self, result: Result) -> None:
        """Append one request's result."""

    def add_good(self, good: Good) -> None:
        """Append good answers, as `add` does each."""

    def finish(self, file: WholeFile) -> list[str]:
        """Write to `file` what is left, once all results came; returns what the user should know."""


class Lines:
    """The server's own lines of the requests that succeeded; failed ones belong to the errors file."""

    pack: Pack | None = None

    def __init__(self, file: WholeFile) -> None:
        self._file = file

    def add(self, result: Result) -> None:
        """Append the line of a request that succeeded."""
        if result.kind == "succeeded" and result.line is not None:
            self._file.write(result.line + b"\n")

    def add_good(self, good: Good) -> None:
        """Append the lines of good answers."""
        self._file.write(b"\n".join([*good.kept, b""]))

    def finish(self, _file: WholeFile) -> list[str]:
        """Nothing is left."""
        return []


class Vectors:
    """A matrix with a row for each of `rows` requests, and the file of their ids."""

    pack: Pack | None = None

    def __init__(self, file: WholeFile, ids: WholeFile, rows: int) -> None:
        self._matrix = Matrix(file, ids, rows)

    def add(self, result: Result) -> None:
        """Append one vector, NaN where there is none."""
        self._matrix.add(result.custom_id, vector_of(result))

    def add_good(self, good: Good) -> None:
        """Append the vectors of good answers."""
        for result in good.results():
            self.add(result)

    def finish(self, _file: WholeFile) -> list[str]:
        """Write what waits."""
        self._matrix.end()
        return []


@dataclass(frozen=True)
class Wanted:
    """What the user says of a table: its format, the columns, and how CSV is written, None for as the source is."""

    format: str
    columns: str | None = None
    delimiter: str | None = None
    byte_order_mark: bool = False
    raw_cells: bool = False
    id: str | None = None


@dataclass(frozen=True)
class Source:
    """The source to be joined: paths, how its requests were made, and the batch files, None where one is gone."""

    given: Sequence[str]
    record: Record | None
    files: Sequence[Path | None]


class TableOutput:
    """A table of results, joined to their source; used as a context manager. `work` is a folder for the meantime."""

    def __init__(
        self,
        wanted: Wanted,
        source: Source | None,
        endpoints: set[str],
        properties: Mapping[str, str],
        disk: Disk,
        work: Path,
    ) -> None:
        self._wanted = wanted
        self._source = source
        self._endpoints = endpoints
        self._properties = properties
        self._disk = disk
        self._work = work
        self._held = contextlib.ExitStack()
        self._table: Table | None = None
        self.warnings: list[str] = []

    def __enter__(self) -> TableOutput:
        with contextlib.ExitStack() as held:
            folder = held.enter_context(self._disk.work_folder(self._work))
            self._target = held.enter_context(Database(folder))
            if self._source is not None:
                self._open_source(self._source)
            names = self._table.names if self._table is not None else ()
            self._names = added_names(names, self._endpoints, list(self._properties))
            self._pairs = selection(self._wanted.columns, [*names, *self._names.values()])
            self._staged = held.enter_context(Staged(self._target))
            several = self._wanted.format != "parquet"
            self._rows = ResultRows(self._staged, self._endpoints, self._properties, several)
            self.pack: Pack | None = self._rows
            self._held = held.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.__exit__(kind, error, trace)

    def add(self, result: Result) -> None:
        """Append one request's row."""
        self._rows.add(result)

    def add_good(self, good: Good) -> None:
        """Append the rows of good answers."""
        self._rows.add_good(good)

    def finish(self, file: WholeFile) -> list[str]:
        """Write the table."""
        self._staged.finish()
        columns = [*self._source_columns(), *self._rows.columns(self._names)]
        chosen = selected(self._pairs, columns)
        rows = Rows(*self._joined(), self._may_run(), _refused)
        if self._wanted.format == "csv":
            return self.warnings + write_csv(self._target, rows, chosen, file, self._dialect())
        write = write_parquet if self._wanted.format == "parquet" else write_workbook
        inexact = [plain(one, 60) for one in self._rows.inexact()] if self._wanted.format == "parquet" else []
        said = [f"numbers of {', '.join(inexact)} have more digits than a number type holds; they are texts"]
        return self.warnings + write(self._target, rows, chosen, file) + (said if inexact else [])

    def _may_run(self) -> bool:
        """Whether a spreadsheet may take some cell for a formula, told by a swift look."""
        if self._rows.may_run or self._table is None:
            return self._rows.may_run
        tests = [f"bool_or({may_run(column.text)})" for column in self._source_columns()]
        (found,) = self._target.run(f"SELECT {', '.join(tests)} FROM {self._table.relation(raw=False)} AS source")
        return any(found)

    def _open_source(self, source: Source) -> None:
        settings = reading_settings(source.record, Path(source.given[0]))
        self._table = Table(source.given, settings, self._disk, self._target)
        matching = Matching(self._table, source.record, self._wanted.id, source.files, self._disk, self._target)
        self._match = matching.match()
        self.warnings += self._table.warnings

    def _source_columns(self) -> list[OutputColumn]:
        if self._table is None:
            return []
        raw = self._wanted.format == "parquet"
        return [
            OutputColumn(
                column.name,
                f'source."{at}"' if not raw else f'CAST(source."{at}" AS VARCHAR)',
                f'source."{at}"',
                column.type,
                key=self._is_key(column.name),
            )
            for at, column in enumerate(self._table.columns)
        ]

    def _is_key(self, name: str) -> bool:
        """Whether a column of the source is what custom_ids are made of."""
        record = self._source.record if self._source is not None else None
        template = self._wanted.id or (record.form.id if record is not None else None)
        return template is not None and f"{{{name}}}" in template

    def _joined(self) -> tuple[str, str | None]:
        """SQL of all rows, after FROM, each beside the row that it was asked of, and SQL of their order; an error where
        there is no such row.
        """
        results = f"{self._rows.sql} AS results"
        if self._table is None:
            return results, "results.place"
        source = f"{self._table.relation(raw=self._wanted.format == 'parquet')} AS source"
        lost = f"error('{LOST}' || results.custom_id)"
        if self._match.numbers is None and self._match.rows == self._staged.rows:
            # Every row was asked, and both stand in the order of the rows: no table has to be held to be sorted.
            in_step = f"CASE WHEN {self._match.same('source.number', 'results.custom_id')} THEN true ELSE {lost} END"
            return f"{results} POSITIONAL JOIN {source} WHERE {in_step}", None
        has_row = f"source.number IS NOT NULL OR results.custom_id LIKE '{UNKNOWN}'"
        order = f"CASE WHEN {has_row} THEN results.place ELSE {lost} END"
        return f"{results} {self._match.join(source, 'results.custom_id')}", order

    def _dialect(self) -> Dialect:
        """How CSV is written: as the user says, else as the source is."""
        own = Dialect(raw_cells=self._wanted.raw_cells, byte_order_mark=self._wanted.byte_order_mark)
        if self._table is not None:
            mark = self._table.byte_order_mark or own.byte_order_mark
            own = replace(own, delimiter=self._table.delimiter or own.delimiter, byte_order_mark=mark)
        return replace(own, delimiter=self._wanted.delimiter) if self._wanted.delimiter else own


def _refused(said: str) -> Failure:
    """The Failure for what DuckDB has against a table that is written: nothing but a request without a row."""
    hint = HINT if LOST in said else "choose another --format"
    code = "join_mismatch" if LOST in said else "bad_table"
    return Failure(Exit.BAD_INPUT, code, said, hint)
