"""Workbooks of one sheet, written by XlsxWriter into a temporary file, which then becomes a whole.

Promises: a number is a number cell where a sheet keeps it, any other cell is text: 007, +49 351 123, a date, a formula,
a link; what a sheet cannot hold is refused before anything is written, or said.

Facts: a sheet has 1,048,576 rows and 16,384 columns, a cell 32,767 characters of UTF-16, a number fifteen digits that
are sure (Microsoft, "Excel specifications and limits").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from doubleword.failure import Exit, Failure
from doubleword.output_file import WholeFile
from doubleword.tables.database import Database
from doubleword.tables.outputs.columns import OutputColumn
from doubleword.tables.outputs.writers import Rows, copy_of

SHEET_ROWS = 1_048_576
SHEET_COLUMNS = 16_384
CELL_CHARACTERS = 32_767
SURE_DIGITS = 15
MOST_DIGITS = 17  # of the shortest text that tells a double from all others
# What looks like a number in a text: no 007, no +49, no 1e5.
NUMBER = r"0|-?[1-9][0-9]{0,14}|-?(0|[1-9][0-9]{0,14})\.[0-9]+"
# Texts such as 1.10 beside 1.9, a version; amounts have as many decimals everywhere.
PADDED = r"\.[0-9]+0$"


def write_workbook(target: Database, rows: Rows, columns: Sequence[OutputColumn], file: WholeFile) -> list[str]:
    """Write `rows` as a sheet with a frozen header; returns what the user should know.

    Raises Failure (exit 2) for more rows or columns than a sheet has.
    """
    import xlsxwriter
    from xlsxwriter.exceptions import FileCreateError

    ((count,),) = target.run(f"SELECT count(*) FROM {rows.sql}", rows.refused)
    require_room(count, len(columns))
    numbers = _numbers(target, rows, columns)
    body = target.new_path("xlsx")
    try:
        with xlsxwriter.Workbook(str(body), {"constant_memory": True, "tmpdir": str(target.folder)}) as book:
            book.use_zip64()
            sheet = book.add_worksheet()
            sheet.freeze_panes(1, 0)
            cut = _fill(sheet, book.add_format({"bold": True}), target, rows, columns, numbers)
    except FileCreateError as error:
        raise error.args[0] from None  # the OSError that it wraps
    copy_of(body, file)
    said = f"{cut:,} cells are longer than the {CELL_CHARACTERS:,} characters that a sheet takes, and were cut"
    return [f"{said}; --format csv has all of them"] if cut else []


def require_room(rows: int, columns: int) -> None:
    """Raise a Failure (exit 2) for a table that does not fit into a sheet."""
    hint = "choose CSV or Parquet"
    if rows >= SHEET_ROWS:
        message = f"{rows:,} rows do not fit into a sheet, which has {SHEET_ROWS:,} with the header"
        raise Failure(Exit.BAD_INPUT, "too_many_rows", message, hint)
    if columns > SHEET_COLUMNS:
        message = f"{columns:,} columns do not fit into a sheet, which has {SHEET_COLUMNS:,}"
        raise Failure(Exit.BAD_INPUT, "too_many_columns", message, f"{hint}; or fewer of them with --columns")


def _fill(
    sheet: Any, bold: Any, target: Database, rows: Rows, columns: Sequence[OutputColumn], numbers: set[int]
) -> int:
    """Write header and cells; how many were cut."""
    cut = 0
    for at, column in enumerate(columns):
        cut += _write_text(sheet, 0, at, column.name, bold)
    number = 0
    texts = ", ".join(f'{column.text} AS "{at}"' for at, column in enumerate(columns))
    for block in target.blocks(f"SELECT {texts} FROM {rows.sql}", rows.refused):
        for row in block:
            number += 1
            for at, cell in enumerate(row):
                if not cell:
                    continue
                if at in numbers and _is_kept(cell):
                    sheet.write_number(number, at, float(cell))
                else:
                    cut += _write_text(sheet, number, at, cell)
    return cut


def _write_text(sheet: Any, row: int, column: int, text: str, form: Any = None) -> bool:
    """Write a text as it is; whether it had to be cut."""
    text = text.replace("\0", "")
    kept = text
    if len(text) > CELL_CHARACTERS // 2:  # a character beyond 16 bits counts as two
        kept = text.encode("utf-16-le")[: 2 * CELL_CHARACTERS].decode("utf-16-le", "ignore")
    if kept.startswith("<r>") and kept.endswith("</r>"):  # XlsxWriter takes such a text for its own markup
        sheet.write_rich_string(row, column, kept[:1], kept[1:2], kept[2:])
    else:
        sheet.write_string(row, column, kept, form)
    return len(kept) < len(text)


def _is_kept(number: str) -> bool:
    """Whether a sheet keeps a number: every digit of what is whole, of a fraction as many as a double has."""
    whole, _, fraction = number.partition("e")[0].lstrip("-").partition(".")
    return whole.isdecimal() and len(whole) <= SURE_DIGITS and len((whole + fraction).lstrip("0")) <= MOST_DIGITS


def _numbers(target: Database, rows: Rows, columns: Sequence[OutputColumn]) -> set[int]:
    """Which columns hold numbers: by their type, or where they have none by all of their texts."""
    found = {at for at, column in enumerate(columns) if column.is_number}
    doubtful = [at for at, column in enumerate(columns) if column.may_be_numbers and not column.key]
    if not doubtful:
        return found
    tests = []
    for at in doubtful:
        cell = f"nullif({columns[at].text}, '')"
        looks = f"bool_and(regexp_full_match({cell}, '{NUMBER}') AND length({cell}) < {MOST_DIGITS})"
        decimals = f"nullif(strpos(reverse({cell}), '.'), 0)"
        padded = f"bool_or(regexp_matches({cell}, '{PADDED}')) AND min({decimals}) < max({decimals})"
        tests.append(f"{looks} AND NOT coalesce({padded}, false)")
    (answers,) = target.run(f"SELECT {', '.join(tests)} FROM {rows.sql}", rows.refused)
    return found | {at for at, is_number in zip(doubtful, answers, strict=True) if is_number}
