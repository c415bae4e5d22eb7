"""The dialect of a CSV or TSV table: what separates its cells, how they are quoted, where its header stands.

Promises: a dialect is chosen by how the standard library's reader takes the lines, those with quotes wherever they
stand in the file; lines are never merged where each of them is a whole row by itself.
"""

from __future__ import annotations

import collections
import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

BLOCK = 1 << 20
HEAD_LINES = 500
QUOTED_LINES = 2000
DELIMITERS = (",", ";", "\t", "|")
NOWHERE = "\x1f"  # what separates cells where each line is one
# A cell longer than this is a quote that was never closed.
LONGEST_CELL = 64 * 1024 * 1024


@dataclass(frozen=True)
class Dialect:
    """`quote` and `escape` are empty for none; `skipped` lines stand above the header, whose cells are `header`."""

    delimiter: str
    quote: str
    escape: str
    skipped: int
    header: list[str]
    titles: tuple[str, ...] = ()


@dataclass
class Seen:
    """What a look at a whole file showed: its first lines, of the others those with a quote or the first of them, the
    longest line in bytes, and how many kinds of line ends there are.
    """

    head: list[str]
    quoted: list[str]
    longest: int
    line_ends: int


def look(file: BinaryIO) -> Seen:
    """Look at every line of a file in UTF-8."""
    start = file.read(BLOCK)
    file.seek(0)
    feed = b"\r" if b"\r" in start and b"\n" not in start else b"\n"
    ends, quoted, longest, rest = set[bytes](), list[bytes](), 0, b""
    while block := file.read(BLOCK):
        pairs = block.count(b"\r\n")
        lone = (b"\n", block.count(b"\n")), (b"\r", block.count(b"\r") - block.endswith(b"\r"))
        ends |= {b"\r\n"} if pairs else set()
        ends |= {end for end, count in lone if count > pairs}
        *lines, rest = (rest + block).split(feed)
        longest = max(longest, len(rest), *map(len, lines))
        if len(quoted) < QUOTED_LINES:
            quoted += [line + feed for line in lines if b'"' in line]
    head = start.decode("utf-8-sig", "surrogateescape").splitlines(keepends=True)[:HEAD_LINES]
    shown, known = [line.decode("utf-8", "surrogateescape") for line in quoted[:QUOTED_LINES]], set(head)
    return Seen(head, [line for line in shown if line not in known], longest, len(ends))


def dialect(seen: Seen, usual: str, delimiter: str | None, header_row: int | None, quote: str | None) -> Dialect | None:
    """The dialect of a table that begins with `seen.head`; None where there is no line with anything in it.

    `usual` separates cells where others would do as well; `delimiter`, `header_row` (from 1) and `quote` (empty for
    none) are what the user says.
    """
    head = list(seen.head)
    skipped = 0
    if header_row is not None:
        skipped = header_row - 1
    elif head and (told := _told(head[0])):
        delimiter, skipped = delimiter or told, 1
    while skipped < len(head) and not head[skipped].strip():
        skipped += 1
    lines = head[skipped:]
    if not lines:
        return None
    found = _delimiter(lines, usual) if delimiter is None else delimiter
    titles = 0 if header_row is not None else _titles(lines, found)
    marks = _quoting([*lines[titles:], *seen.quoted], found) if quote is None else (quote, quote)
    header = next(iter(_read(lines[titles:], found, *marks)[0]), [])
    shown = tuple(line.strip(" \r\n\t,;|") for line in lines[:titles] if line.strip(" \r\n\t,;|"))
    return Dialect(found, *marks, skipped + titles, header, shown)


def _told(line: str) -> str | None:
    """The delimiter of a first line such as `sep=;`, which Excel writes and reads."""
    line = line.rstrip("\r\n").strip('"')
    return line[4:] if line[:4].lower() == "sep=" and len(line) == 5 else None


def _read(lines: Sequence[str], delimiter: str, quote: str, escape: str) -> tuple[list[list[str]], int]:
    """The rows in `lines`, as far as they can be read, and how many cannot."""
    csv.field_size_limit(LONGEST_CELL)
    reader = csv.reader(
        io.StringIO("".join(lines), newline=""),
        delimiter=delimiter,
        quotechar=quote or None,
        quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE,
        doublequote=quote == escape,
        escapechar=escape if escape and escape != quote else None,
        strict=True,
    )
    rows: list[list[str]] = []
    wrong = 0
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return rows, wrong
        except csv.Error:
            wrong += 1
            continue
        if row:
            rows.append(row)


def _delimiter(lines: Sequence[str], usual: str) -> str:
    """The delimiter by which most rows have as many cells as the header, the first row that has; or `NOWHERE`."""
    best, most = NOWHERE, 0.0
    for delimiter in (usual, *(one for one in DELIMITERS if one != usual)):
        widths = [len(row) for row in _read(lines, delimiter, '"', '"')[0]] or [0]
        (width, count), *_ = collections.Counter(widths).most_common(1)
        start = lines[_first_of(lines, delimiter, width)]
        share = count / len(widths)
        if width > 1 and len(_cells(start, delimiter)) == width and share > most:
            best, most = delimiter, share
    return best


def _first_of(lines: Sequence[str], delimiter: str, width: int) -> int:
    """The first line of `width` cells, 0 where none has."""
    return next((at for at, line in enumerate(lines[:50]) if len(_cells(line, delimiter)) == width), 0)


def _cells(line: str, delimiter: str) -> list[str]:
    return next(iter(_read([line], delimiter, '"', '"')[0]), [])


def _titles(lines: Sequence[str], delimiter: str) -> int:
    """How many lines stand above the header: shorter ones, or such with one cell filled where rows have several."""
    rows = [_cells(line, delimiter) for line in lines[:50]]
    widths = collections.Counter(len(row) for row in rows if row)
    width = widths.most_common(1)[0][0] if widths else 1
    if width < 2:
        return 0
    filled = [sum(bool(cell.strip()) for cell in row) for row in rows]
    header = next((at for at, row in enumerate(rows) if len(row) == width and filled[at] > 1), 0)
    above = rows[:header]
    # A first column without any other name is no title where the rows below have no more cells filled.
    return (
        header if all(filled[at] <= 1 and (len(row) < width or row[0].strip()) for at, row in enumerate(above)) else 0
    )


def _quoting(lines: Sequence[str], delimiter: str) -> tuple[str, str]:
    """How cells are quoted: quote and escape, both empty where quotes are part of the cells."""
    whole = [line for line in lines if line.strip()]
    if not any('"' in line for line in whole):
        return '"', '"'
    doubled, wrong = _read(whole, delimiter, '"', '"')
    escaped, wrong_escaped = _read(whole, delimiter, '"', "\\") if any('\\"' in line for line in whole) else ([], wrong)
    plain, _ = _read(whole, delimiter, "", "")
    each_is_a_row = len(plain) == len(whole) and len({len(row) for row in plain}) == 1
    cells = [cell for row in plain for cell in row if cell.startswith('"')]
    closed = sum(map(_is_quoted, cells))
    if each_is_a_row and 2 * closed <= len(cells):
        # Tables with tabs or bars mostly do not quote; others do, so there the cells have to be no quoted ones at all.
        unlike = len(doubled) < len(whole) if delimiter in "\t|" else wrong and wrong_escaped and not closed
        if unlike:
            return "", ""
    return ('"', "\\") if wrong_escaped < wrong and len(escaped) >= len(doubled) else ('"', '"')


def _is_quoted(cell: str) -> bool:
    """Whether a cell stands in quotes, each inner one doubled."""
    cell = cell.rstrip("\r\n")
    return len(cell) > 1 and cell.endswith('"') and '"' not in cell[1:-1].replace('""', "")
