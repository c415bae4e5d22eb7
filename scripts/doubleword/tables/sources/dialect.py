"""The dialect of a CSV or TSV table: what separates its cells, how they are quoted, where its header stands.

Promises: a dialect is chosen by how many of the lines it makes rows of the header's width, those with quotes wherever
they stand in the file; lines above the header are passed over only where the header looks like names, and said.
"""

from __future__ import annotations

import collections
import io
import itertools
import re
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from doubleword.quick_msgspec import Struct, replace
from doubleword.tables.sources.csv_rows import LONGEST_CELL, Marks, Record, quoted_cells, records

BLOCK = 1 << 20
HEAD_LINES = 1000
RUN, RUNS = 64, 64  # lines with quotes that are looked at of a block of the file, and of how many blocks
TITLE_ROWS = 50
DELIMITERS = (",", ";", "\t", "|")
LITERAL = "\t|"
RARE = ("\x01", "^", "~", "\u00a6")  # Hive's own, and others that texts seldom hold: only where every row has them
NOWHERE = "\x1f"  # what separates cells where each line is one
YEAR = re.compile(r"(19|20)\d\d")
NUMBER = re.compile(r"[-+]?[$€£]?[\d.,:/]*\d[\d.,:/]*%?")


class Dialect(Struct, frozen=True):
    """`skipped` lines stand above the header, whose cells are `header`; `titles` are those with anything in them."""

    marks: Marks
    skipped: int
    header: list[str]
    titles: tuple[str, ...] = ()


class Seen(Struct):
    """What a look at a whole file showed: its first lines, and of the others some with a quote, from everywhere; the
    longest line in bytes, if it is longer than a block; the kinds of line ends. After a line that is too long nothing
    is looked at.
    """

    head: list[str]
    quoted: list[str]
    longest: int
    line_ends: set[bytes]


def look(file: BinaryIO) -> Seen:
    """Look at every line of a file in UTF-8, in no more time than it takes to count its line ends."""
    start = file.read(BLOCK)
    file.seek(0)
    feed = b"\r" if b"\r" in start and b"\n" not in start else b"\n"
    ends, runs, longest, rest, number, every = set[bytes](), list[list[bytes]](), 0, 0, 0, 1
    while longest <= LONGEST_CELL and (block := file.read(BLOCK)):
        ends |= _line_ends(block)
        first, last = block.find(feed), block.rfind(feed)
        longest = max(longest, rest + (len(block) if first < 0 else first))
        rest = rest + len(block) if first < 0 else len(block) - last
        if number % every == 0:
            runs.append(list(itertools.islice(_quoted(block, feed, first + 1), RUN if number else HEAD_LINES)))
        if len(runs) > RUNS:
            runs, every = runs[::2], 2 * every
        number += 1
    head = list(io.StringIO(start.decode("utf-8-sig", "surrogateescape"), newline=""))
    head = head[: -1 if len(start) == BLOCK and len(head) > 1 else None][:HEAD_LINES]  # the last may be cut off
    shown, known = [line.decode("utf-8", "surrogateescape") for run in runs for line in run], set(head)
    return Seen(head, [line for line in shown if line not in known], max(longest, rest), ends)


def _quoted(block: bytes, feed: bytes, start: int) -> Iterator[bytes]:
    """The lines with a quote that begin at `start` or later, and end in the block."""
    while (quote := block.find(b'"', start)) >= 0:
        begin, end = max(start, block.rfind(feed, start, quote) + 1), block.find(feed, quote)
        if end < 0:
            return
        yield block[begin : end + 1]
        start = end + 1


def _line_ends(block: bytes) -> set[bytes]:
    if b"\r" not in block:
        return {b"\n"} if b"\n" in block else set()
    pairs = block.count(b"\r\n")
    lone = {b"\n": block.count(b"\n"), b"\r": block.count(b"\r") - block.endswith(b"\r")}
    return {end for end, count in lone.items() if count > pairs} | ({b"\r\n"} if pairs else set())


def dialect(seen: Seen, usual: str, delimiter: str | None, header_row: int | None, quote: str | None) -> Dialect | None:
    """The dialect of a table that begins with `seen.head`; None where there is no line for a header.

    `usual` separates cells where others would do as well; `delimiter`, `header_row` (from 1) and `quote` (empty for
    none) are what the user says.
    """
    head, skipped = seen.head, 0
    if header_row is not None:
        skipped = header_row - 1
    elif head and (told := _told(head[0])) is not None:
        delimiter, skipped = delimiter or told or None, 1
    while skipped < len(head) and not head[skipped].strip():
        skipped += 1
    lines = head[skipped:]
    if not lines:
        return None
    marks = Marks(delimiter or _delimiter(lines, usual), '"' if quote is None else quote)
    titles = _titles(lines, marks) if header_row is None else 0
    if quote is None:
        marks = _quoting([*lines[titles:], *seen.quoted], marks)
    header = next((row.cells for row in records(lines[titles:], marks) if row.cells), [])
    above = lines[:titles] if header_row is None else [line for line in head[: header_row - 1] if _told(line) is None]
    shown = tuple(text for line in above if (text := line.strip(" \r\n\t,;|")))
    return Dialect(marks, skipped + titles, header, shown)


def _told(line: str) -> str | None:
    """The delimiter of a first line such as `sep=;`, which Excel writes and reads; empty where it names none."""
    told = re.fullmatch(r'"?sep=(\\t|[^"]?).{0,3}?"?', line.strip("\r\n"), re.IGNORECASE)
    return told and {"\\t": "\t"}.get(told[1], told[1])


def _rows(lines: Sequence[str], marks: Marks) -> list[Record]:
    """The rows in `lines` that have something in them, and those that cannot be read."""
    return [row for row in records(lines, marks) if row.cells is None or any(cell.strip() for cell in row.cells)]


def _delimiter(lines: Sequence[str], usual: str) -> str:
    """What makes the most rows of one width, below a header that looks like names; or `NOWHERE`."""
    found = []
    for delimiter in (usual, *(one for one in DELIMITERS if one != usual), *RARE):
        if any(delimiter in line for line in lines):
            # Quotes may be part of the texts; how cells are quoted is told when it is known what separates them.
            scores = [_score(_rows(lines, Marks(delimiter, quote)), delimiter) for quote in ('"', "")]
            found.append((*max(scores), delimiter))
    share, _, best = max(found, key=lambda one: one[:2], default=(0.0, 0, NOWHERE))
    first = next((line for line in lines if line.strip(" \t\r\n,;|")), "")
    return best if share and (best in first or not _is_prose(lines, best)) else NOWHERE


def _score(rows: Sequence[Record], delimiter: str) -> tuple[float, int]:
    """How much speaks for a delimiter, 0 for nothing, and how many cells most rows have by it."""
    width = _width(rows)
    above = next((at for at, row in enumerate(rows) if len(row.cells or ()) > 1), len(rows))
    body = rows[above:]
    at = next((at for at, row in enumerate(body) if row.cells is not None and len(row.cells) == width), 0)
    header = body[at].cells or [] if body else []
    share = sum(len(row.cells or ()) == width for row in body) / max(1, len(body))
    named = _are_names(header)
    # Some rows and titles look like a header: what really separates the cells stands in them, or they stand alone.
    others = "".join(one for one in DELIMITERS if one != delimiter)
    inner = any(re.search(rf"[{others}][^ {others}]", cell) for cell in header)
    alone = at + 1 < len(body) and len(body[at + 1].cells or ()) != width
    # Lines above the header may be rows of a single column: then not every line below is separated so.
    if width < 2 or (above and (not named or share < 0.9 or len(body) < 2)):
        return 0.0, 0
    if delimiter in RARE and (above or share < 1 or len(rows) < 2):
        return 0.0, 0
    return share * (1 if named and not inner else 0.6) * (0.9 if above else 1) * (0.8 if alone else 1), width


def _width(rows: Sequence[Record]) -> int:
    """How many cells most rows have, the more of two; titles in front, which have one, do not count."""
    widths = [len(row.cells) for row in rows if row.cells is not None]
    counts = collections.Counter(itertools.dropwhile(lambda width: width < 2, widths))
    return max(counts, key=lambda width: (counts[width], width), default=1)


def _is_prose(lines: Sequence[str], delimiter: str) -> bool:
    """Whether a blank follows each `delimiter`, as in sentences."""
    return not any(re.search(rf"{re.escape(delimiter)}(?! )", line.rstrip()) for line in lines)


def _are_names(cells: Sequence[str]) -> bool:
    """Whether a row looks like a header: unlike cells, filled but for the first, none of them a number but a year."""
    names = [cell.strip().casefold() for cell in cells]
    numbers = [name for name in names if NUMBER.fullmatch(name) and not YEAR.fullmatch(name)]
    return all(names[1:]) and any(names) and len(set(names)) == len(names) and not numbers


def _titles(lines: Sequence[str], marks: Marks) -> int:
    """How many lines stand above the header."""
    rows = _rows(lines[:TITLE_ROWS], marks)
    return rows[header_among(rows)].line - 1 if rows else 0


def header_among(rows: Sequence[Record]) -> int:
    """Which of the first rows that are not blank is the header; the first if no other is.

    It looks like names. Those above it have one cell filled, and fewer cells than it has, or most rows below it have
    several filled; or a blank line separates those above it, which have fewer filled than it has.
    """
    width = _width(rows)
    wide = [at for at, row in enumerate(rows) if row.cells is not None and len(row.cells) == width > 1]
    at = next((at for at in wide if _are_names(rows[at].cells or ())), 0)
    above = [row.cells or [] for row in rows[:at]]
    filled = [sum(bool(cell.strip()) for cell in row.cells or ()) for row in rows]
    alone = all(
        count == 1 and (len(cells) < width or cells[0].strip()) for count, cells in zip(filled, above, strict=False)
    )
    apart = rows[at].line - rows[at - 1].line > 1 and max(filled[:at]) < width if at else False
    narrow = all(len(cells) < width for cells in above)
    several = 2 * sum(count > 1 for count in filled[at + 1 :]) >= len(rows) - at - 1
    return at if apart or (alone and (narrow or several)) else 0


def _quoting(lines: Sequence[str], marks: Marks) -> Marks:
    """How cells are quoted: as most rows of the header's width come of it, and the fewest others, else with doubled
    quotes as usual.
    """
    delimiter = marks.delimiter
    width = next((len(row.cells) for row in records(lines, marks) if row.cells), 1)

    def good(tried: Marks) -> tuple[int, int, int]:
        rows = list(records(lines, tried))
        right = sum(len(row.cells or ()) == width for row in rows)
        return right, len(rows) - right, sum(row.cells is None for row in rows)

    usual, unlike, wrong = good(marks)
    if width < 2 and not wrong:  # then more rows are no better
        return marks
    counts = [quoted_cells(line, marks) for line in lines]
    begun, _, needed = (sum(some) for some in zip(*counts, strict=True))
    _, whole, _ = quoted_cells("".join(lines), marks)  # also cells of several lines
    others = [replace(marks, backslashes=True)] if any('\\"' in line for line in lines) else []
    if any(re.search(rf'{re.escape(delimiter)} +"', line) for line in lines):
        others.append(replace(marks, blanks=True))
    single, ended, _ = quoted_cells("".join(lines), Marks(delimiter, "'"))
    if not whole and 2 * ended > single:
        others.append(Marks(delimiter, "'"))
    best, most, least = marks, usual, unlike
    for other in others:
        right, left, _ = good(other)
        if right > most and left < least:
            best, most, least = other, right, left
    if best is not marks:
        return best
    # Tables with tabs or bars mostly do not quote, and those that do quote their headers, or only cells that need it;
    # of others no cell may be quoted as it should.
    if delimiter in LITERAL and not lines[0].startswith('"'):
        literal, best = 2 * needed <= begun or usual < 2, replace(marks, strays=True)
    else:
        literal = wrong > 0 and not whole
    return Marks(delimiter, "") if begun and literal and good(Marks(delimiter, ""))[0] > usual else best
