"""CSV and TSV files as relations: read by DuckDB where all their rows are good, else row by row with care."""

from __future__ import annotations

import itertools
from pathlib import Path

from doubleword.failure import Exit, Failure, plain
from doubleword.tables import plain_copy
from doubleword.tables.database import Database, place, text
from doubleword.tables.relation import Column, Relation, Settings, unlike_names
from doubleword.tables.sources.csv_rows import LONGEST_CELL, may_be_several, records
from doubleword.tables.sources.dialect import NOWHERE, Dialect, Seen, dialect, look
from doubleword.tables.staged import Staged
from doubleword.text_encoding import undecodable

USUAL_LINE = 1 << 20  # DuckDB takes much memory for longer ones
MANY = 100  # columns, beyond which it takes too long to look into each cell
SHOWN_ROWS = 5
MARK = "\ufeff"
MARKED = ("utf-8-sig", "utf-16", "utf-32")  # encodings that a byte order mark told


def relation(path: Path, shown: str, tabs: bool, settings: Settings, target: Database) -> Relation:
    """The rows of a plain CSV file, or of a TSV file where there are `tabs`. Raises Failure (exit 2) for no table."""
    whole, encoding = plain_copy.in_utf8(path, settings.encoding, target)
    with whole.open("rb") as file:
        seen = look(file)
    if seen.longest > LONGEST_CELL:
        raise _refused(f"{shown} has a line longer than {LONGEST_CELL:,} bytes", "is it a CSV file?")
    found = dialect(seen, "\t" if tabs else ",", settings.delimiter, settings.header_row, settings.quote)
    if found is None:
        if settings.header_row is not None and any(line.strip() for line in seen.head):
            said = f"{shown} has only {len(seen.head):,} lines, and nothing in or below line {settings.header_row:,}"
            raise _refused(said, "--header-row counts lines from 1")
        raise _refused(f"{shown} is empty", "the first line must name the columns", "no_rows")
    if "\0" in "".join(found.header):
        order = "be" if found.header[0].startswith("\0") else "le"
        raise _refused(f"{shown} has a header with NUL characters", f"if it is UTF-16 add --encoding utf-16-{order}")
    if bad := undecodable("".join(found.header), encoding):
        raise _refused(f"{shown} has a header that {bad}", "add --encoding NAME, often cp1252")
    names = unlike_names(found.header, shown)
    warnings = _titles(found, shown)
    sql, problem = _sql(whole, found, len(names)), "NULL"
    told = _told(sql, found, len(names), seen, target) if _is_plain(seen, found) else None
    if told is None:
        sql, told = _staged(whole, found, len(names), encoding, target)
        problem = "problem"
    several, again = told
    if again and len(names) > 1:
        one = next((one for one in reversed(names) if one.isidentifier()), None)
        out = f'--where "\\"{one}\\" is distinct from \'{one}\'" leaves it out' if one else "delete it"
        warnings.append(f"{shown}: the header stands again among the rows: row {', '.join(map(str, again))}; {out}")
    if several:
        said = f"{shown}: {several:,} rows hold line ends in quotes, and each of their lines would be a row by itself"
        warnings.append(f"{said}; where quotes are part of the texts, add --quote none")
    made = Relation(sql, [Column(one, f'"{at}"') for at, one in enumerate(names)], problem=problem, warnings=warnings)
    made.delimiter, made.byte_order_mark = found.marks.delimiter.replace(NOWHERE, ""), encoding in MARKED
    return made


def _sql(path: Path, found: Dialect, columns: int) -> str:
    types = ", ".join(f"'{at}': 'VARCHAR'" for at in range(columns))
    marks = found.marks
    return (
        f"read_csv({place(path)}, compression='none', auto_detect=false, header=true, skip={found.skipped},"
        f" columns={{{types}}}, delim={text(marks.delimiter)}, quote={text(marks.quote)}, escape={text(marks.quote)})"
    )


def _is_plain(seen: Seen, found: Dialect) -> bool:
    """Whether DuckDB may read a table alone."""
    marks = found.marks
    above = any(marks.quote in line for line in seen.head[: found.skipped]) if marks.quote else False
    return len(seen.line_ends) < 2 and seen.longest <= USUAL_LINE and not (marks.blanks or marks.backslashes or above)


def _told(sql: str, found: Dialect, columns: int, seen: Seen, target: Database) -> tuple[int, list[int]] | None:
    """How many rows `may_be_several`, and the numbers of some that are the header again; None where DuckDB cannot read
    all rows.

    What is wrong with a row shows only where all of its cells are read.
    """
    end = "chr(13)" if seen.line_ends == {b"\r"} else "chr(10)"
    marks, tests = found.marks, []
    begins = [
        f'"0" IN ({text(found.header[0])}, {text(MARK + found.header[0])})'
    ]  # a joined file may have its own mark
    header = " AND ".join(
        begins + [f"coalesce(\"{at}\", '') = {text(one)}" for at, one in enumerate(found.header[1:MANY], 1)]
    )
    for at in range(columns):
        cell = f'"{at}"'
        lines = (
            f"[length(one) - length(replace(one, {text(marks.delimiter)}, '')) FOR one IN string_split({cell}, {end})]"
        )
        inner = f"len([one FOR one IN ({lines})[2:-2] IF one <> {columns - 1}]) = 0"
        alike = f"({lines})[1] = {columns - 1 - at} AND ({lines})[-1] = {at} AND {inner}"
        tests.append(f"count(CASE WHEN contains({cell}, {end}) THEN CASE WHEN {alike} THEN 1 END END)")
    if columns > MANY:
        tests = [f'count("{at}")' for at in range(columns)]
    rejects = target.new_name("rejects")
    options = f", store_rejects=true, rejects_limit=1, rejects_table='{rejects}', rejects_scan='{rejects}_scan')"
    ((*counts, again),) = target.run(
        f"SELECT {', '.join(tests)}, count(CASE WHEN {header} THEN 1 END) FROM {sql.removesuffix(')')}{options}"
    )
    ((wrong,),) = target.run(f"SELECT count(*) FROM {rejects}")
    if wrong:
        return None
    numbered = f"(SELECT row_number() OVER () AS number, * FROM {sql}) WHERE {header} LIMIT {SHOWN_ROWS}"
    rows = target.run(f"SELECT number FROM {numbered}") if again else []
    return sum(counts) if 1 < columns <= MANY else 0, [number for (number,) in rows]


def _staged(
    path: Path, found: Dialect, columns: int, encoding: str, target: Database
) -> tuple[str, tuple[int, list[int]]]:
    """The rows, read one by one, with what is wrong with those that cannot be read; and what `_told` gives."""
    several, again = 0, list[int]()
    with Staged(target) as staged, plain_copy.as_text(path, newline="") as lines:
        for _ in range(found.skipped):
            lines.readline()
        unnamed = len(list(itertools.takewhile(lambda name: not name.strip(), reversed(found.header))))
        rows = records(lines, found.marks, columns, unnamed)
        next(rows)  # the header
        for row in rows:
            bad = undecodable("".join(row.cells or ()), encoding)
            if row.cells is None or bad:
                said = row.problem or f"{bad}; name the encoding with --encoding, often cp1252"
                staged.add({"problem": said})
            else:
                several += may_be_several(row.cells, found.marks)
                if row.cells[0].removeprefix(MARK) == found.header[0] and row.cells[1:] == found.header[1:]:
                    again = [*again, staged.rows + 1][:SHOWN_ROWS]
                staged.add({str(at): cell or None for at, cell in enumerate(row.cells)})
    return staged.sql({"problem": "VARCHAR", **{str(at): "VARCHAR" for at in range(columns)}}), (several, again)


def _titles(found: Dialect, shown: str) -> list[str]:
    if not found.titles:
        return []
    said = "; ".join(plain(one, 60) for one in found.titles[:3])
    return [f"{shown}: the header is line {found.skipped + 1}, the lines above are left out: {said}"]


def _refused(message: str, hint: str, code: str = "bad_table") -> Failure:
    return Failure(Exit.BAD_INPUT, code, message, hint)
