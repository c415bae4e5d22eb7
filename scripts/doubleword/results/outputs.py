"""The forms in which results are written: the server's own lines, a matrix of vectors, a table.

Promises: every form gets each request's result once, in the order of the input; what cannot be written in a form (a
column that does not exist, a source that was changed) is told before results are read.
"""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from doubleword.batch_files.matching import HINT, SAVED, Matching, reading_settings
from doubleword.batch_files.record import Record, hashes_of
from doubleword.batch_files.row_map import RowFiles
from doubleword.failure import Exit, Failure, plain
from doubleword.output_file import WholeFile
from doubleword.quick_msgspec import Struct, replace
from doubleword.request_lines import templates
from doubleword.results.result import Good, Pack, Result, error_line
from doubleword.results.table_rows import ResultRows, Wanted, names_of, vector_of
from doubleword.system import Disk
from doubleword.tables.database import Database
from doubleword.tables.formulas import may_run
from doubleword.tables.outputs.columns import OutputColumn, selected
from doubleword.tables.outputs.matrix import Matrix
from doubleword.tables.outputs.source_columns import columns_of
from doubleword.tables.outputs.workbooks import write_workbook
from doubleword.tables.outputs.writers import Dialect, Rows, write_csv, write_parquet
from doubleword.tables.relation import column_at
from doubleword.tables.sources.source import Table
from doubleword.tables.staged import Staged

SUFFIXES = {"jsonl": ".jsonl", "csv": ".csv", "parquet": ".parquet", "xlsx": ".xlsx", "npy": ".npy"}
TABLES = ("csv", "parquet", "xlsx")
# Requests whose ids nobody knows any more, which no row can have.
UNKNOWN = "results.custom_id LIKE '(unknown request %'"
NO_ROW = "no row of the table asks what was asked by the request "
LOST = f"error('{NO_ROW}' || coalesce(results.custom_id, ''))"


class Output(abc.ABC):
    """What results are written to. `pack` is what is kept of an answer until its turn comes, None for its line."""

    pack: Pack | None = None

    @abc.abstractmethod
    def add(self, found: Result | Good) -> None:
        """Append results."""

    def finish(self, _file: WholeFile) -> list[str]:
        """Write to the file what is left, once all results came; returns what the user should know."""
        return []


class Lines(Output):
    """The server's own lines of the requests that succeeded; failed ones belong to the errors file."""

    def __init__(self, file: WholeFile) -> None:
        self._file = file

    def add(self, found: Result | Good) -> None:
        """Append the lines of requests that succeeded."""
        if isinstance(found, Good):
            self._file.write(b"\n".join([*found.kept, b""]))
        elif found.kind == "succeeded" and found.line is not None:
            self._file.write(found.line + b"\n")


class Vectors(Output):
    """A matrix with a row for each of `rows` requests, and the file of their ids."""

    def __init__(self, file: WholeFile, ids: WholeFile, rows: int) -> None:
        self._matrix = Matrix(file, ids, rows)

    def add(self, found: Result | Good) -> None:
        """Append a vector for each, NaN where there is none."""
        for result in found.results():
            self._matrix.add(result.custom_id, vector_of(result))

    def finish(self, _file: WholeFile) -> list[str]:
        """Write what waits."""
        self._matrix.end()
        return []


class Source(Struct, frozen=True):
    """The source to be joined: paths, how its requests were made, the batch files, None where one is gone, and the map
    of rows to their requests, None where each has its own.
    """

    given: Sequence[str]
    record: Record | None
    files: Sequence[Path | None]
    row_map: RowFiles | None = None


class TableOutput(Output):
    """A table of results, joined to their source. What is needed meanwhile, in the folder `work`, is `held`."""

    def __init__(
        self,
        wanted: Wanted,
        source: Source | None,
        endpoints: set[str],
        properties: Mapping[str, str],
        disk: Disk,
        work: Path,
        held: contextlib.ExitStack,
    ) -> None:
        self._wanted = wanted
        self._source = source
        self._disk = disk
        self._table: Table | None = None
        self.sources: dict[Path, str] = {}  # the files of the source, and their SHA-256
        self.warnings: list[str] = []
        self._target = held.enter_context(Database(held.enter_context(disk.work_folder(work))))
        if source is not None:
            self._open_source(source)
        names = self._table.names if self._table is not None else ()
        self._names = names_of(wanted, names, endpoints, list(properties))
        self._staged = held.enter_context(Staged(self._target))
        several = wanted.format != "parquet"
        self.pack = self._rows = ResultRows(self._staged, endpoints, properties, several, wanted.reused)

    def add(self, found: Result | Good) -> None:
        """Append the rows of results."""
        self._rows.add(found)

    def finish(self, file: WholeFile) -> list[str]:
        """Write the table. Raises Failure (exit 2) where a request has no row in the source."""
        self._staged.finish()
        if self._table is None:
            return self._write(f"{self._rows.sql} AS results", file)
        if self._match.numbers is None and self._match.rows == self._staged.rows:
            try:
                return self._write(self._in_step(), file)
            except Failure as failure:
                if failure.code != "join_mismatch":
                    raise
        return self._write(self._placed(), file)

    def _write(self, sql: str, file: WholeFile) -> list[str]:
        """Write what `sql` gives."""
        columns = selected(self._names.chosen, [*self._source_columns(), *self._rows.columns(self._names.added)])
        target, rows = self._target, Rows(sql, self._may_run(), _refused)
        if self._wanted.format == "csv":
            said = write_csv(target, rows, columns, file, _dialect(self._wanted, self._table))
        elif self._wanted.format == "xlsx":
            said = write_workbook(target, rows, columns, file)
        else:
            write_parquet(target, rows, columns, file, self._row_bytes())
            inexact = ", ".join(plain(one, 60) for one in self._rows.inexact())
            said = (
                [f"numbers of {inexact} have more digits than a number type holds; they are texts"] if inexact else []
            )
        return self.warnings + said

    def _row_bytes(self) -> int:
        """About how long a row is."""
        size = self._staged.bytes + sum(self._disk.size(path) or 0 for path in self.sources)
        return size // max(self._staged.rows, 1)

    def _may_run(self) -> bool:
        """Whether a spreadsheet may take some cell for a formula, told by a swift look."""
        if self._wanted.format != "csv" or self._wanted.raw_cells:
            return False
        if self._rows.may_run or self._table is None:
            return self._rows.may_run
        tests = [f"bool_or({may_run(column.text)})" for column in self._source_columns() if not column.is_number]
        if not tests:
            return False
        (found,) = self._target.run(f"SELECT {', '.join(tests)} FROM {self._relation()} AS source", _refused)
        return any(found)

    # The source

    def _open_source(self, source: Source) -> None:
        settings = reading_settings(source.record, source.given, self._disk)
        try:
            self._table = Table(source.given, settings, self._disk, self._target)
        except Failure as failure:
            if source.record is None and "--encoding" in failure.hint:
                raise Failure(Exit.BAD_INPUT, failure.code, failure.message, SAVED.removeprefix("or ")) from None
            if failure.code != "bad_where":
                raise
            message = f"the table was changed since the batch file was made of it: {failure.message}"
            raise Failure(Exit.BAD_INPUT, "join_mismatch", message, HINT) from None
        files = self._table.files
        hashes = hashes_of(files, self._disk)
        self.sources = dict(zip(files, hashes, strict=False))  # none of standard input
        told = (self._table, hashes, settings, source.record, self._wanted.id, source.files, source.row_map)
        self._match = Matching(*told, self._disk, self._target).match(source.given)
        said = [*self._table.warnings, *self._match.warnings]
        if source.record is None:  # then there is no flag for it
            said = [one.replace("--sheet names another", "to join another, save it by itself") for one in said]
        self.warnings += said

    def _relation(self) -> str:
        assert self._table is not None
        return self._table.relation(raw=self._wanted.format == "parquet")

    def _source_columns(self) -> list[OutputColumn]:
        if self._table is None:
            return []
        raw, keys = self._wanted.format == "parquet", _keys(self._wanted, self._source, self._table.names)
        return columns_of(self._table, self._names.source, keys, raw, self._disk, self._target)

    # Each result beside the row that it was asked of, as SQL after FROM; an error where there is no such row. Both are
    # read in order and stand in step, so that no table has to be held to be sorted, but for a source in another order.

    def _in_step(self) -> str:
        """Where every row was asked, in the order of the rows; those below them were not."""
        same = self._match.same("source.number", "results.custom_id")
        step = f"CASE WHEN results.custom_id IS NULL THEN false WHEN {same} THEN true ELSE {LOST} END"
        return f"{self._rows.sql} AS results POSITIONAL JOIN {self._relation()} AS source WHERE {step}"

    def _placed(self) -> str:
        """Wherever the rows stand: they are put into the order of the results first."""
        target, match, placed = self._target, self._match, self._target.new_name("placed")
        number, joined = match.number_of("results.custom_id"), ""
        if match.numbers is not None:
            number, joined = "numbers.number", f" LEFT JOIN {match.numbers} AS numbers USING (custom_id)"
        select = f"SELECT results.place, results.custom_id, {number} AS number FROM {self._rows.sql} AS results{joined}"
        target.run(f"CREATE TEMP TABLE {placed} AS {select}", _refused)
        lost = f"SELECT {LOST} FROM {placed} AS results WHERE number IS NULL AND NOT {UNKNOWN} LIMIT 1"
        try:
            target.run(lost, _refused)
        except Failure as failure:
            if not match.by_keys:
                raise
            message = "; ".join([failure.message, *self.warnings])
            raise Failure(Exit.BAD_INPUT, failure.code, message, f"{failure.hint}; {SAVED}") from None
        if match.by_keys:
            self._tell_unasked(placed)
        before = f"SELECT number, lag(number, 1, 0) OVER (ORDER BY place) AS before FROM {placed}"
        ((in_order,),) = target.run(f"SELECT bool_and(coalesce(number > before, false)) FROM ({before})", _refused)
        kind, order = ("", "") if in_order else ("RIGHT ", " ORDER BY asked.place")
        # The right side of a join is the one that is held: of these rows the numbers alone, not what stands in them.
        target.run("SET disabled_optimizers = 'join_order,build_side_probe_side'")
        source = (
            f"SELECT asked.place AS place, source.* FROM {self._relation()} AS source"
            f" {kind}JOIN {placed} AS asked ON source.number = asked.number{order}"
        )
        same = f"results.place = source.place AND (source.number IS NOT NULL OR {UNKNOWN})"
        step = f"CASE WHEN {same} THEN true ELSE {LOST} END"
        return f"{self._rows.sql} AS results POSITIONAL JOIN ({source}) AS source WHERE {step}"

    def _tell_unasked(self, placed: str) -> None:
        """Rows that nobody asked, where keys alone are compared, may be meant, or the table may be another one."""
        numbers = f"SELECT DISTINCT number FROM {self._match.numbers} AS numbers"
        unasked = f"{numbers} WHERE number NOT IN (SELECT number FROM {placed} WHERE number IS NOT NULL)"
        ((count, first),) = self._target.run(f"SELECT count(*), min(number) FROM ({unasked})", _refused)
        if count:
            said = f"rows of the table that were not asked: {count:,}, such as row {first}"
            self.warnings.append(f"{said}; left out of the output")


def write_results(
    results: Iterator[Result | Good], output: Output, errors: Path, disk: Disk, files: contextlib.ExitStack
) -> WholeFile | None:
    """Give every result its place; the file of those that failed or are missing, where there are some."""
    file: WholeFile | None = None
    for result in results:
        output.add(result)
        if isinstance(result, Result) and result.kind in ("failed", "missing"):
            file = file or files.enter_context(WholeFile(errors, disk, force=True))
            file.write(error_line(result) + b"\n")
    return file


def _dialect(wanted: Wanted, table: Table | None) -> Dialect:
    """How CSV is written: as the user says, else as the source is."""
    own = Dialect(raw_cells=wanted.raw_cells, byte_order_mark=wanted.byte_order_mark)
    if table is not None:
        mark = table.byte_order_mark or own.byte_order_mark
        own = replace(own, delimiter=table.delimiter or own.delimiter, byte_order_mark=mark)
    return replace(own, delimiter=wanted.delimiter) if wanted.delimiter else own


def _keys(wanted: Wanted, source: Source | None, names: Sequence[str]) -> set[int]:
    """Which columns of the source custom_ids are made of."""
    record = source.record if source is not None else None
    template = wanted.id or (record.form.id if record is not None else None)
    places = templates.places(template or "")
    return {column_at(one, names) for place in places for one in (place, place.partition(".")[0])}


def _refused(said: str) -> Failure:
    """The Failure for what DuckDB has against a table that is written: nothing but a request without a row."""
    hint = HINT if NO_ROW in said else "choose another --format"
    code = "join_mismatch" if NO_ROW in said else "bad_table"
    return Failure(Exit.BAD_INPUT, code, said, hint)
