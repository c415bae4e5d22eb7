"""The rows of a CSV or TSV table, read with care: what is wrong with one costs that one alone.

Promises: a quote that is not closed, or not doubled, never takes other rows with it; a row with too few or too many
cells has none; lines may end in any way, and each in another.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from doubleword.quick_msgspec import Struct

# A cell longer than this is a quote that was never closed.
LONGEST_CELL = 64 << 20
NOTHING = "\0\x1a"  # what old systems leave at the end of a file
# Stands for a quote after a backslash while a line is read: no text holds this half of a surrogate pair alone.
ESCAPED = "\ud800"
BACKSLASHED = re.compile(r'\\(["\\])')


class Marks(Struct, frozen=True):
    """How cells are told apart. `quote` is empty for none; quotes in a quoted cell are doubled, or with `backslashes`
    have one in front. With `blanks`, blanks before a quote are no part of the cell. With `strays`, a row that cannot be
    read so has quotes in its texts.
    """

    delimiter: str
    quote: str = '"'
    backslashes: bool = False
    blanks: bool = False
    strays: bool = False

    def cells(self, line: str) -> list[str]:
        """The cells of one line as if nothing in it were quoted."""
        return line.rstrip("\r\n").split(self.delimiter)


class Record(NamedTuple):
    """A row as it stands in the table: the number of its first line, from 1, its cells, or what is wrong with it."""

    line: int
    cells: list[str] | None
    problem: str = ""


def records(lines: Iterable[str], marks: Marks, width: int | None = None, may_lack: int = 0) -> Iterator[Record]:
    """The rows of `lines`, blank lines left out; with `width`, only those of so many cells are good.

    A row `may_lack` so many of its last cells: those of columns without a name.
    """
    csv.field_size_limit(LONGEST_CELL)
    source = _Again(map(_hidden, lines) if marks.backslashes else iter(lines))
    reader = csv.reader(
        source,
        delimiter=marks.delimiter,
        quotechar=marks.quote or None,
        quoting=csv.QUOTE_MINIMAL if marks.quote else csv.QUOTE_NONE,
        skipinitialspace=marks.blanks,
        strict=True,
    )
    while True:
        source.begin()
        problem = ""
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error:
            if source.retry(marks):
                continue
            row = []
            problem = f"a quote in line {source.line} is not closed, or not doubled within a cell; see --quote"
        if not row and not problem:
            if width == 1:  # the one cell may be empty
                yield Record(source.line, [""])
            continue
        if marks.backslashes:
            row = [cell.replace(ESCAPED, '"') for cell in row]
        if width is not None and not problem and len(row) != width:
            row, problem = _fitted(row, width, may_lack, marks)
        if problem:
            literal = marks.cells(source.taken[0]) if marks.strays else []
            if len(literal) == width:
                row, problem = literal, ""
                source.give_back()
            elif not row or may_be_several(row, marks):
                source.give_back()
        yield Record(source.line, None if problem else row, problem)


def _fitted(row: list[str], width: int, may_lack: int, marks: Marks) -> tuple[list[str], str]:
    """A row of another width than the header's, made fit where nothing is lost by it; or what is wrong with it."""
    if len(row) > width and not any(row[width:]):  # what spreadsheets add to the right
        return row[:width], ""
    if width - may_lack <= len(row) < width:
        return [*row, *[""] * (width - len(row))], ""
    if not any(cell.strip().strip(NOTHING) for cell in row):
        return [""] * width, ""
    shown = {"\t": "a tab"}.get(marks.delimiter, marks.delimiter if marks.delimiter.isprintable() else "nothing")
    said = f"has {len(row):,} cells, and the header {width:,}; {shown} separates them"
    return row, f"{said}, or see --delimiter, --quote and --header-row"


def _hidden(line: str) -> str:
    """A line with each quote after a backslash hidden; other backslashes say nothing, not even pairs of them."""
    return BACKSLASHED.sub(lambda found: ESCAPED if found[1] == '"' else found[0], line)


def may_be_several(cells: list[str], marks: Marks) -> bool:
    """Whether a row is of several lines each of which would be a row of as many cells, if no quote were there."""
    for at, cell in enumerate(cells):
        first, *inner = [line.count(marks.delimiter) for line in re.split("\r\n|\r|\n", cell)]
        if inner and first == len(cells) - 1 - at and inner.pop() == at and set(inner) <= {len(cells) - 1}:
            return len(cells) > 1
    return False


class _Again(Iterator[str]):
    """Lines, of which those of the row that is being read can be given back. `line` is where that row begins."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self._waiting: list[str] = []  # in reverse
        self.taken: list[str] = []
        self.line = 1

    def __next__(self) -> str:
        line = self._waiting.pop() if self._waiting else next(self._lines)
        self.taken.append(line)
        return line

    def begin(self) -> None:
        """A row begins."""
        self.line += len(self.taken)
        self.taken.clear()

    def retry(self, marks: Marks) -> bool:
        """Give back what was taken without the blanks after quotes that may end a cell; whether there were any."""
        end = rf"{re.escape(marks.quote)} +(?={re.escape(marks.delimiter)}|[\r\n]|$)"
        tried = [re.sub(end, marks.quote, line) for line in self.taken] if marks.quote else self.taken
        changed = tried != self.taken
        if changed:
            self._waiting += reversed(tried)
            self.taken.clear()
        return changed

    def give_back(self) -> None:
        """Of what was taken only the first line counts."""
        self._waiting += reversed(self.taken[1:])
        del self.taken[1:]


def quoted_cells(text: str, marks: Marks) -> tuple[int, int, int]:
    """How many cells in `text` begin with a quote, how many of these end with one as they should, and how many of those
    have to be quoted for what they hold.
    """
    quote, delimiter = re.escape(marks.quote), re.escape(marks.delimiter)
    start = rf"(?:^|{delimiter}) *{quote}"
    whole = re.compile(rf"{start}((?:[^{quote}]|{quote}{quote})*){quote}(?= *(?:{delimiter}|[\r\n]|$))", re.MULTILINE)
    closed = whole.findall(text)
    special = {marks.delimiter, marks.quote, "\r", "\n"}
    return (
        len(re.findall(start, text, re.MULTILINE)),
        len(closed),
        sum(not special.isdisjoint(cell) for cell in closed),
    )
