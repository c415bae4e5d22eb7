"""CSV and Parquet, written by DuckDB; workbooks, by XlsxWriter. Each into a temporary file, which then becomes a whole.

Facts: a sheet has 1,048,576 rows and a cell 32,767 characters (Microsoft, "Excel specifications and limits").
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from doubleword.failure import Exit, Failure
from doubleword.output_file import BLOCK, WholeFile
from doubleword.tables import formulas
from doubleword.tables.database import Database, Refusal, name, text
from doubleword.tables.outputs.columns import OutputColumn

SHEET_ROWS = 1_048_576
CELL_CHARACTERS = 32_767
# What a sheet shows as it was: a double has fifteen digits that are sure.
SHEET_NUMBER = r"-?(0|[1-9][0-9]{0,14})|-?(0|[1-9][0-9]{0,9})\.[0-9]{1,5}"


@dataclass(frozen=True)
class Dialect:
    """How a CSV output is written."""

    delimiter: str = ","
    byte_order_mark: bool = False
    raw_cells: bool = False


@dataclass(frozen=True)
class Rows:
    """What is written: SQL after FROM, by which SQL it is ordered (None where it stands in order), whether some cell
    may be taken for a formula, and the failure to be raised for what DuckDB has against it.
    """

    sql: str
    order: str | None
    may_run: bool
    refused: Refusal

    @property
    def in_order(self) -> str:
        """The clause that orders them."""
        return f" ORDER BY {self.order}" if self.order is not None else ""


def write_csv(
    target: Database, rows: Rows, columns: Sequence[OutputColumn], file: WholeFile, dialect: Dialect
) -> list[str]:
    """Write `rows`; returns what the user should know of changed cells."""
    # No reader of CSV takes a NUL; an empty text is written as nothing, like null.
    cells = ", ".join(f"nullif(replace({one.text}, chr(0), ''), '') AS \"{at}\"" for at, one in enumerate(columns))
    inner = f"(SELECT {cells}, {rows.order or 'NULL'} AS place FROM {rows.sql})"
    guarded = [at for at, one in enumerate(columns) if rows.may_run and not (one.key or dialect.raw_cells)]
    run = {at: formulas.is_run(name(str(at))) for at in guarded}
    shown = ", ".join(
        f"CASE WHEN {run[at]} THEN '''' || {name(str(at))} ELSE {name(str(at))} END" if at in run else name(str(at))
        for at in range(len(columns))
    )
    body = target.new_path("csv")
    options = f"FORMAT csv, HEADER false, DELIMITER {text(dialect.delimiter)}"
    order = " ORDER BY place" if rows.order is not None else ""
    target.copy(f"SELECT {shown} FROM {inner}{order}", body, options, rows.refused)
    header = io.StringIO()
    # A lone CR is quoted only where CR belongs to the line's end.
    names = [one.name if one.key or dialect.raw_cells else formulas.without_formula(one.name) for one in columns]
    csv.writer(header, delimiter=dialect.delimiter, lineterminator="\r\n").writerow(names)
    mark = "\ufeff" if dialect.byte_order_mark else ""
    file.write(f"{mark}{header.getvalue()[:-2]}\n".encode("utf-8", "replace"))
    _copy(body, file)
    counts = ", ".join(f"count(*) FILTER ({one})" for one in run.values())
    changed = sum(target.run(f"SELECT {counts} FROM {inner}")[0]) if guarded else 0
    if not changed:
        return []
    return [f"{changed:,} cells that a spreadsheet would run got a ' in front; --raw-cells leaves them alone"]


def write_parquet(target: Database, rows: Rows, columns: Sequence[OutputColumn], file: WholeFile) -> list[str]:
    """As `write_csv`, each column in its own type."""
    body = target.new_path("parquet")
    values = ", ".join(f"{column.value} AS {name(column.name)}" for column in columns)
    target.copy(f"SELECT {values} FROM {rows.sql}{rows.in_order}", body, "FORMAT parquet", rows.refused)
    _copy(body, file)
    return []


def write_workbook(target: Database, rows: Rows, columns: Sequence[OutputColumn], file: WholeFile) -> list[str]:
    """As `write_csv`, as one sheet: numbers as numbers, texts as texts whatever they begin with, the header frozen.

    Raises Failure (exit 2) for more rows than a sheet has.
    """
    import xlsxwriter

    ((count,),) = target.run(f"SELECT count(*) FROM {rows.sql}")
    if count >= SHEET_ROWS:
        raise too_many_rows(count)
    numbers = _numbers(target, rows, columns)
    body, cut = target.new_path("xlsx"), 0
    texts = ", ".join(column.text for column in columns)
    with xlsxwriter.Workbook(str(body), {"constant_memory": True, "tmpdir": str(target.folder)}) as book:
        sheet = book.add_worksheet()
        sheet.freeze_panes(1, 0)
        bold = book.add_format({"bold": True})
        for at, column in enumerate(columns):
            sheet.write_string(0, at, column.name[:CELL_CHARACTERS], bold)
        number = 0
        for block in target.blocks(f"SELECT {texts} FROM {rows.sql}{rows.in_order}", rows.refused):
            for row in block:
                number += 1
                for at, cell in enumerate(row):
                    if cell is None or cell == "":
                        continue
                    if at in numbers:
                        sheet.write_number(number, at, float(cell))
                    else:
                        cut += len(cell) > CELL_CHARACTERS
                        sheet.write_string(number, at, cell[:CELL_CHARACTERS])
    _copy(body, file)
    said = f"{cut:,} cells are longer than the {CELL_CHARACTERS:,} characters that a sheet takes, and were cut"
    return [f"{said}; --format csv has all of them"] if cut else []


def too_many_rows(count: int) -> Failure:
    """The Failure (exit 2) for more rows than a sheet has."""
    message = f"{count:,} rows do not fit into a sheet, which has {SHEET_ROWS:,} with the header"
    return Failure(Exit.BAD_INPUT, "too_many_rows", message, "choose CSV or Parquet")


def _numbers(target: Database, rows: Rows, columns: Sequence[OutputColumn]) -> set[int]:
    """Which columns hold numbers alone, all of them such as a sheet shows unchanged; 007 and +49 are texts."""
    tests = ", ".join(
        f"bool_and(regexp_full_match({column.text}, '{SHEET_NUMBER}')) FILTER (nullif({column.text}, '') IS NOT NULL)"
        for column in columns
    )
    (found,) = target.run(f"SELECT {tests} FROM {rows.sql}")
    return {at for at, is_number in enumerate(found) if is_number and not columns[at].key}


def _copy(body: Path, file: WholeFile) -> None:
    with body.open("rb") as source:
        while block := source.read(BLOCK):
            file.write(block)
    body.unlink()
