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
from doubleword.tables.database import Database, name, text
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


def write_csv(
    target: Database, rows: str, order: str, columns: Sequence[OutputColumn], file: WholeFile, dialect: Dialect
) -> list[str]:
    """Write `rows`, SQL after FROM, in their `order`; returns what the user should know of changed cells."""
    guarded = [column for column in columns if not (column.key or dialect.raw_cells)]
    # No reader of CSV takes a NUL; an empty text is written as nothing, like null.
    cells = {column.name: f"nullif(replace({column.text}, chr(0), ''), '')" for column in columns}
    shown = [
        f"CASE WHEN {formulas.is_run(cells[one.name])} THEN '''' || {cells[one.name]} ELSE {cells[one.name]} END"
        if one in guarded
        else cells[one.name]
        for one in columns
    ]
    aliased = ", ".join(f'{sql} AS "{at}"' for at, sql in enumerate(shown))
    body = target.new_path("csv")
    options = f"FORMAT csv, HEADER false, DELIMITER {text(dialect.delimiter)}"
    target.run(f"COPY (SELECT {aliased} FROM {rows} ORDER BY {order}) TO {text(str(body))} ({options})")
    header = io.StringIO()
    # A lone CR is quoted only where CR belongs to the line's end.
    csv.writer(header, delimiter=dialect.delimiter, lineterminator="\r\n").writerow([one.name for one in columns])
    mark = "\ufeff" if dialect.byte_order_mark else ""
    file.write(f"{mark}{header.getvalue()[:-2]}\n".encode("utf-8", "replace"))
    _copy(body, file)
    counts = ", ".join(f"count(*) FILTER ({formulas.is_run(cells[one.name])})" for one in guarded)
    changed = sum(target.run(f"SELECT {counts} FROM {rows}")[0]) if guarded else 0
    if not changed:
        return []
    return [f"{changed:,} cells that a spreadsheet would run got a ' in front; --raw-cells leaves them alone"]


def write_parquet(
    target: Database, rows: str, order: str, columns: Sequence[OutputColumn], file: WholeFile
) -> list[str]:
    """As `write_csv`, each column in its own type."""
    body = target.new_path("parquet")
    values = ", ".join(f"{column.value} AS {name(column.name)}" for column in columns)
    target.run(f"COPY (SELECT {values} FROM {rows} ORDER BY {order}) TO {text(str(body))} (FORMAT parquet)")
    _copy(body, file)
    return []


def write_workbook(
    target: Database, rows: str, order: str, columns: Sequence[OutputColumn], file: WholeFile
) -> list[str]:
    """As `write_csv`, as one sheet: numbers as numbers, texts as texts whatever they begin with, the header frozen.

    Raises Failure (exit 2) for more rows than a sheet has.
    """
    import xlsxwriter

    ((count,),) = target.run(f"SELECT count(*) FROM {rows}")
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
        for block in target.blocks(f"SELECT {texts} FROM {rows} ORDER BY {order}"):
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


def _numbers(target: Database, rows: str, columns: Sequence[OutputColumn]) -> set[int]:
    """Which columns hold numbers alone, all of them such as a sheet shows unchanged; 007 and +49 are texts."""
    tests = ", ".join(
        f"bool_and(regexp_full_match({column.text}, '{SHEET_NUMBER}')) FILTER (nullif({column.text}, '') IS NOT NULL)"
        for column in columns
    )
    (found,) = target.run(f"SELECT {tests} FROM {rows}")
    return {at for at, is_number in enumerate(found) if is_number and not columns[at].key}


def _copy(body: Path, file: WholeFile) -> None:
    with body.open("rb") as source:
        while block := source.read(BLOCK):
            file.write(block)
    body.unlink()
