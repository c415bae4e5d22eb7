"""Sheets of workbooks as rows: Excel (.xlsx, .xls) and OpenDocument (.ods), read by calamine.

Promises: a date is an ISO date, a whole number has no `.0`; the sheet that is read is said where there are several.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

from doubleword.failure import Exit, Failure, plain
from doubleword.tables.database import Database
from doubleword.tables.relation import Column, Relation, Settings, unlike_names
from doubleword.tables.staged import Kind, Staged

HINT = "save it as .xlsx or CSV, without a password"
TITLE_ROWS = 50


def relation(path: Path, shown: str, settings: Settings, target: Database) -> Relation:
    """The rows of one sheet. Raises Failure (exit 2) for a file that is no workbook, and for a sheet it has not."""
    import python_calamine

    try:
        with python_calamine.load_workbook(str(path)) as book:
            names = list(book.sheet_names)
            chosen = _chosen(names, settings.sheet, shown)
            sheet = book.get_sheet_by_name(chosen)
            rows = list(sheet.to_python(skip_empty_area=False))
    except (python_calamine.CalamineError, OSError, ValueError) as error:
        message = f"{shown} cannot be read as a workbook: {plain(error, 120)}"
        raise Failure(Exit.BAD_INPUT, "bad_table", message, HINT) from None
    above = settings.header_row - 1 if settings.header_row is not None else _above(rows)
    if len(rows) <= above:
        message = f"the sheet {plain(chosen, 60)} of {shown} is empty"
        raise Failure(Exit.BAD_INPUT, "no_rows", message, "name another with --sheet")
    rows = rows[above:]
    # A column without a name and without a cell is the empty margin of the sheet.
    used = [at for at in range(len(rows[0])) if any(as_cell(row[at]) is not None for row in rows)]
    columns = unlike_names([as_cell(rows[0][at]) or "" for at in used], f"{shown}, sheet {plain(chosen, 60)},")
    kinds = [Kind() for _ in columns]
    with Staged(target) as file:
        for row in rows[1:]:
            cells = [row[at] for at in used]
            for kind, cell in zip(kinds, cells, strict=True):
                kind.see(_seen(cell))
            file.add({str(at): as_cell(cell) for at, cell in enumerate(cells)})
    made = Relation(
        file.sql({str(at): "VARCHAR" for at in range(len(columns))}),
        [Column(one, f'"{at}"', type=kinds[at].type) for at, one in enumerate(columns)],
    )
    if len(names) > 1 and settings.sheet is None:
        others = ", ".join(plain(one, 40) for one in names if one != chosen)
        made.warnings.append(f"{shown}: the sheet {plain(chosen, 60)} is read; --sheet names another: {others}")
    if above and settings.header_row is None:
        made.warnings.append(f"{shown}: the header is row {above + 1}, the rows above it are left out")
    return made


def as_cell(value: Any) -> str | None:
    """A cell as people write it: 2, 3.5, true, 2023-11-14, 2023-11-14 22:13:20; None for an empty one."""
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, datetime.datetime):
        return value.isoformat(" ") if value.time() != datetime.time() else value.date().isoformat()
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    return str(value)


def _seen(value: Any) -> Any:
    """What `Kind` is told of a cell."""
    if value is None or value == "" or isinstance(value, bool):
        return value if isinstance(value, bool) else None
    return str(as_cell(value)).encode() if isinstance(value, (int, float)) else str(value)


def _chosen(names: list[str], wanted: str | None, shown: str) -> str:
    known = ", ".join(plain(one, 40) for one in names)
    if wanted is not None and wanted not in names:
        message = f"{shown} has no sheet {plain(wanted, 60)}; it has: {known}"
        raise Failure(Exit.BAD_INPUT, "bad_arguments", message, "--sheet NAME, one of them")
    if not names:
        raise Failure(Exit.BAD_INPUT, "no_rows", f"{shown} has no sheet", HINT)
    return wanted if wanted is not None else names[0]


def _above(rows: list[list[Any]]) -> int:
    """How many rows stand above the header: empty ones, and titles, which fill one cell where the header fills more."""
    filled = [sum(as_cell(cell) is not None for cell in row) for row in rows[:TITLE_ROWS]]
    first = next((at for at, count in enumerate(filled) if count), 0)
    header = next((at for at, count in enumerate(filled) if count > 1), first)
    titles = all(filled[at] <= 1 and (not filled[at] or as_cell(rows[at][0])) for at in range(first, header))
    return header if titles else first
