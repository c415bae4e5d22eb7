"""CSV and Parquet, written by DuckDB, each into a temporary file, which then becomes a whole."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

from doubleword.output_file import BLOCK, WholeFile
from doubleword.quick_msgspec import Struct
from doubleword.tables import formulas
from doubleword.tables.database import Database, Refusal, name, text
from doubleword.tables.outputs.columns import OutputColumn


class Dialect(Struct, frozen=True):
    """How a CSV output is written."""

    delimiter: str = ","
    byte_order_mark: bool = False
    raw_cells: bool = False


class Rows(Struct, frozen=True):
    """What is written: SQL after FROM, in order, whether some cell may be taken for a formula, and the failure to be
    raised for what DuckDB has against it.
    """

    sql: str
    may_run: bool
    refused: Refusal


def write_csv(
    target: Database, rows: Rows, columns: Sequence[OutputColumn], file: WholeFile, dialect: Dialect
) -> list[str]:
    """Write `rows`; returns what the user should know of changed cells."""
    # No reader of CSV takes a NUL; an empty text is written as nothing, like null, unless the line would be blank.
    nothing = "coalesce({}, '')" if len(columns) == 1 else "nullif({}, '')"
    cells = [nothing.format(f"replace({one.text}, chr(0), '')") for one in columns]
    guarded = [not (one.key or dialect.raw_cells) for one in columns]
    run = {
        cell: formulas.is_run(cell)
        for cell, guard, one in zip(cells, guarded, columns, strict=True)
        if guard and rows.may_run and not one.is_number
    }
    shown = [f"CASE WHEN {run[cell]} THEN '''' || {cell} ELSE {cell} END" if cell in run else cell for cell in cells]
    body = target.new_path("csv")
    options = f"FORMAT csv, HEADER false, DELIMITER {text(dialect.delimiter)}"
    target.copy(f"SELECT {_numbered(shown)} FROM {rows.sql}", body, options, rows.refused)
    names = [
        formulas.without_formula(one.name) if guard else one.name for one, guard in zip(columns, guarded, strict=True)
    ]
    header = io.StringIO()
    # A lone CR is quoted only where CR belongs to the line's end.
    csv.writer(header, delimiter=dialect.delimiter, lineterminator="\r\n").writerow(names)
    mark = "\ufeff" if dialect.byte_order_mark else ""
    file.write(f"{mark}{header.getvalue()[:-2]}\n".encode())
    copy_of(body, file)
    changed = sum(one.name != written for one, written in zip(columns, names, strict=True))
    if run:
        counts = ", ".join(f"count(*) FILTER ({one})" for one in run.values())
        changed += sum(target.run(f"SELECT {counts} FROM {rows.sql}", rows.refused)[0])
    if not changed:
        return []
    return [f"{changed:,} cells that a spreadsheet would run got a ' in front; --raw-cells leaves them alone"]


def write_parquet(
    target: Database, rows: Rows, columns: Sequence[OutputColumn], file: WholeFile, row_bytes: int
) -> list[str]:
    """As `write_csv`, each column in its own type; `row_bytes` is about how long rows are."""
    body = target.new_path("parquet")
    values = ", ".join(f"{_storable(column)} AS {name(column.name)}" for column in columns)
    # A row group is held in memory until it is whole.
    group = max(2048, min(122_880, (64 << 20) // max(row_bytes, 1)))
    options = f"FORMAT parquet, ROW_GROUP_SIZE {group}"
    target.copy(f"SELECT {values} FROM {rows.sql}", body, options, rows.refused)
    copy_of(body, file)
    return []


def _storable(column: OutputColumn) -> str:
    """SQL of a column's value in a type that Parquet has: integers of 128 bits would become fractions."""
    kind = re.sub(r"\bU?HUGEINT\b", "DECIMAL(38,0)", column.type)
    return column.value if kind == column.type else f"CAST({column.value} AS {kind})"


def _numbered(cells: Sequence[str]) -> str:
    return ", ".join(f'{cell} AS "{at}"' for at, cell in enumerate(cells))


def copy_of(body: Path, file: WholeFile) -> None:
    """Append what stands in `body`, which goes."""
    with body.open("rb") as source:
        while block := source.read(BLOCK):
            file.write(block)
    body.unlink()
