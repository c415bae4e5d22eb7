"""Sheets of workbooks as rows: Excel (.xlsx, .xls) and OpenDocument (.ods), read by calamine.

Promises: a date is an ISO date, a whole number has no `.0`; the sheet that is read is said where there are several, and
so are rows above the header.
"""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doubleword.failure import Exit, Failure, plain
from doubleword.tables.database import Database
from doubleword.tables.relation import Column, Relation, Settings, unlike_names
from doubleword.tables.sources.csv_rows import Record
from doubleword.tables.sources.dialect import TITLE_ROWS, header_among
from doubleword.tables.staged import Kind, Staged

if TYPE_CHECKING:
    from python_calamine import CalamineSheet, CalamineWorkbook

HINT = "save it as .xlsx or CSV, without a password"
ENCRYPTED = "EncryptedPackage".encode("utf-16-le")  # the stream that holds such a workbook: [MS-OFFCRYPTO] 2.3.4.4
EXACT = 2**53  # whole numbers up to here are exact in a workbook, whose numbers are doubles


def relation(path: Path, shown: str, settings: Settings, target: Database) -> Relation:
    """The rows of one sheet. Raises Failure (exit 2) for a file that is no workbook, and for a sheet it has not."""
    import python_calamine

    try:
        with path.open("rb") as file, python_calamine.load_workbook(file) as book:
            sheet, warnings = _sheet(book, settings.sheet, shown)
            return _of_sheet(sheet, f"the sheet {plain(sheet.name, 60)} of {shown}", settings, warnings, target)
    except (python_calamine.CalamineError, ValueError) as error:
        message = f"{shown} cannot be read as a workbook: {plain(error, 120)}"
        if isinstance(error, python_calamine.PasswordError) or ENCRYPTED in path.read_bytes():
            message = f"{shown} is protected by a password"
        raise Failure(Exit.BAD_INPUT, "bad_table", message, HINT) from None


def _sheet(book: CalamineWorkbook, wanted: str | None, shown: str) -> tuple[CalamineSheet, list[str]]:
    """The sheet `wanted`, else the first that people see, and a warning that names others."""
    tables = [one for one in book.sheets_metadata if str(one.typ).endswith("WorkSheet")]
    seen = [one.name for one in tables if str(one.visible).endswith(".Visible")] or [one.name for one in tables]
    names = [one.name for one in tables]
    known = ", ".join(plain(one, 40) for one in names)
    if not names:
        raise Failure(Exit.BAD_INPUT, "no_rows", f"{shown} has no sheet of cells", HINT)
    if wanted is not None and wanted not in names:
        message = f"{shown} has no sheet {plain(wanted, 60)}; it has: {known}"
        raise Failure(Exit.BAD_INPUT, "bad_arguments", message, "--sheet NAME, one of them")
    chosen = wanted if wanted is not None else seen[0]
    others = ", ".join(plain(one, 40) for one in names if one != chosen)
    said = f"{shown}: the sheet {plain(chosen, 60)} is read; --sheet names another: {others}"
    return book.get_sheet_by_name(chosen), [said] if others and wanted is None else []


def _of_sheet(sheet: CalamineSheet, shown: str, settings: Settings, warnings: list[str], target: Database) -> Relation:
    first = [[as_cell(cell) for cell in row] for row in itertools.islice(sheet.iter_rows(), TITLE_ROWS)]
    above = _above(first) if settings.header_row is None else settings.header_row - 1
    header = next(itertools.islice(sheet.iter_rows(), above, None), None)
    if header is None:
        rows = f"has only {sheet.end[0] + 1:,} rows" if sheet.end else "is empty"
        raise Failure(Exit.BAD_INPUT, "no_rows", f"{shown} {rows}", "name another with --sheet, or --header-row N")
    names = [as_cell(cell) or "" for cell in header]
    kinds = [Kind() for _ in names]
    with Staged(target) as file:
        for row in itertools.islice(sheet.iter_rows(), above + 1, None):
            for kind, cell in zip(kinds, row, strict=True):
                kind.see(_seen(cell))
            file.add({str(at): cell for at, cell in enumerate(map(as_cell, row)) if cell is not None})
    # A column without a name and without a cell is the empty margin of the sheet.
    used = [at for at, kind in enumerate(kinds) if names[at] or not kind.is_unseen]
    made = Relation(
        file.sql({str(at): "VARCHAR" for at in used} or {"0": "VARCHAR"}),
        [
            Column(one, f'"{at}"', type=kinds[at].type)
            for at, one in zip(used, unlike_names([names[at] for at in used], shown), strict=True)
        ],
        warnings=warnings,
    )
    titles = [cell for row in first[:above] for cell in row if cell]
    if titles:
        said = "; ".join(plain(one, 60) for one in titles[:3])
        made.warnings.append(f"{shown}: the header is row {above + 1}, the rows above it are left out: {said}")
    return made


def as_cell(value: Any) -> str | None:
    """A cell as people write it: 2, 3.5, true, 2023-11-14, 2023-11-14 22:13:20, 30:05:00; None for an empty one."""
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) <= EXACT:
        return str(int(value))
    if isinstance(value, datetime.timedelta):
        minutes, rest = divmod(abs(value), datetime.timedelta(minutes=1))
        sign = "-" if value < datetime.timedelta() else ""
        text = f"{sign}{minutes // 60:02d}:{minutes % 60:02d}:{rest.seconds:02d}.{rest.microseconds:06d}"
        return text.rstrip("0").removesuffix(".")
    if isinstance(value, (datetime.date, datetime.time)):
        text = value.isoformat(" ") if isinstance(value, datetime.datetime) else value.isoformat()
        return text.rstrip("0") if "." in text else text.removesuffix(" 00:00:00")
    return str(value)


def _seen(value: Any) -> Any:
    """What `Kind` is told of a cell."""
    if value is None or value == "" or isinstance(value, bool):
        return value if isinstance(value, bool) else None
    return str(as_cell(value)).encode() if isinstance(value, (int, float)) else str(value)


def _above(rows: Sequence[Sequence[str | None]]) -> int:
    """How many rows stand above the header; an empty margin on the left does not count."""
    margin = min((at for row in rows for at, cell in enumerate(row) if cell is not None), default=0)
    cells = [Record(line, [cell or "" for cell in row[margin:]]) for line, row in enumerate(rows, 1) if any(row)]
    return cells[header_among(cells)].line - 1 if cells else 0
