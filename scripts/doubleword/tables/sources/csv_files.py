"""CSV and TSV files as relations."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from doubleword.failure import Exit, Failure, plain
from doubleword.system import Disk
from doubleword.tables import plain_copy
from doubleword.tables.database import Database, text
from doubleword.tables.relation import Column, Rejected, Relation, Settings, unlike_names
from doubleword.tables.sources.dialect import NOWHERE, Dialect, Seen, dialect, look
from doubleword.text_encoding import undecodable

# Longer lines take more memory, which is asked for only where there are some.
USUAL_LINE = 1 << 20
LONGEST_LINE = 64 << 20
MARKED = ("utf-8-sig", "utf-16", "utf-32")  # encodings that a byte order mark told
MEMORY_FOR_LONG_LINES = 2048
OTHER = {
    "MISSING COLUMNS": "cells are missing",
    "TOO MANY COLUMNS": "there are too many cells",
    "UNQUOTED VALUE": "a quote is not closed, or not doubled inside a quoted cell; see --quote",
    "INVALID ENCODING": "bytes that are not in the encoding; name it with --encoding, often cp1252",
    "LINE SIZE OVER MAXIMUM": f"longer than {LONGEST_LINE:,} bytes",
}


def relation(path: Path, tabs: bool, settings: Settings, disk: Disk, target: Database) -> Relation:
    """The rows of a CSV file, or of a TSV file where there are `tabs`. Raises Failure (exit 2) for no table."""
    whole, encoding = plain_copy.in_utf8(plain_copy.unpacked(path, disk, target), settings.encoding, target)
    with whole.open("rb") as file:
        seen = look(file)
    found = dialect(seen, "\t" if tabs else ",", settings.delimiter, settings.header_row, settings.quote)
    shown = settings.shown(path)
    if found is None:
        raise _refused(f"{shown} is empty", "the first line must name the columns", "no_rows")
    if "\0" in "".join(found.header):
        raise _refused(f"{shown} has a header with NUL characters", "if it is UTF-16 add --encoding utf-16-le")
    if bad := undecodable("".join(found.header), encoding):
        raise _refused(f"{shown} has a header that {bad}", "add --encoding NAME, often cp1252")
    above = found.skipped
    if seen.line_ends > 1:
        whole, found = _with_one_line_end(whole, found, target), replace(found, quote='"', escape='"', skipped=0)
    if seen.longest > USUAL_LINE:
        target.allow(MEMORY_FOR_LONG_LINES)
    names = unlike_names(found.header, shown)
    rejects = target.new_name("rejects")
    made = Relation(
        _sql(whole, found, len(names), seen, rejects), [Column(one, f'"{at}"') for at, one in enumerate(names)]
    )
    made.rejected, made.above = lambda: _rejected(target, rejects, encoding, len(names)), found.skipped + 1
    made.delimiter, made.byte_order_mark = found.delimiter.replace(NOWHERE, ""), encoding in MARKED
    if found.titles:
        said = "; ".join(plain(one, 60) for one in found.titles[:3])
        made.warnings.append(f"{shown}: the header is line {above + 1}, the lines above are left out: {said}")
    return made


def _sql(path: Path, found: Dialect, columns: int, seen: Seen, rejects: str) -> str:
    types = ", ".join(f"'{at}': 'VARCHAR'" for at in range(columns))
    options = [
        "auto_detect=false, header=true, store_rejects=true, rejects_limit=0",
        f"delim={text(found.delimiter)}, quote={text(found.quote)}, escape={text(found.escape)}",
        f"skip={found.skipped}, columns={{{types}}}, rejects_table='{rejects}', rejects_scan='{rejects}_scan'",
    ]
    if seen.longest > USUAL_LINE:
        options.append(f"max_line_size={LONGEST_LINE}")
    return f"read_csv({text(str(path))}, {', '.join(options)})"


def _rejected(target: Database, rejects: str, encoding: str, columns: int) -> Iterator[Rejected]:
    """The rows that were left out of the last reading, in their order, each once."""
    sql = f"SELECT line, first(error_type), first(error_message) FROM {rejects} GROUP BY line ORDER BY line"
    for line, kind, message in target.run(sql):
        problem = OTHER.get(kind, plain(message, 120))
        if kind in ("MISSING COLUMNS", "TOO MANY COLUMNS"):
            cells = str(message).rpartition(" ")[2]
            problem = f"has {cells} cells, and the header {columns}"
        elif kind == "INVALID ENCODING":
            problem = f"holds bytes that are not {plain(encoding, 20)}; name the encoding with --encoding, often cp1252"
        yield Rejected(line, problem)


def _with_one_line_end(path: Path, found: Dialect, target: Database) -> Path:
    """A copy whose rows end alike and are quoted as usual; line ends inside of cells stay. The header comes first."""
    copy = target.new_path("rows")
    with (
        plain_copy.as_text(path, newline="") as lines,
        copy.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        for _ in range(found.skipped):
            lines.readline()
        reader = csv.reader(
            lines,
            delimiter=found.delimiter,
            quotechar=found.quote or None,
            quoting=csv.QUOTE_MINIMAL if found.quote else csv.QUOTE_NONE,
            doublequote=found.quote == found.escape,
            escapechar=found.escape if found.escape != found.quote else None,
            strict=True,
        )
        writer = csv.writer(file, delimiter=found.delimiter, lineterminator="\r\n")
        try:
            writer.writerows(row for row in reader if row)
        except csv.Error as error:
            message = f"{plain(path)} cannot be read at line {found.skipped + reader.line_num}: {error}"
            raise _refused(message, "look for a quote that is not closed or not doubled there") from None
    return copy


def _refused(message: str, hint: str, code: str = "bad_table") -> Failure:
    return Failure(Exit.BAD_INPUT, code, message, hint)
