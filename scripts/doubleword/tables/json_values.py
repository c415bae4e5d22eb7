"""The values of a JSON file, one by one, in memory that does not grow with the file.

Promises: what is wrong with one value costs that one alone, wherever its end can be told; values may stand in an array,
each on a line of its own, or one after the other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple, TextIO

from doubleword.failure import plain

BLOCK = 1 << 20
LONGEST = 64 << 20
CUT = 16  # how far from the end of what was read a flaw may only be that the rest is missing: that of -Infinity
BETWEEN = re.compile(r"[\s,]*")
LINE = re.compile(r"([^\r\n]*)[\r\n]\s*(\S)")  # up to what the next one begins with
# What a line has after its value, which is another value or nothing; it matches once that line is there whole.
REST = re.compile(r"(?:[^\S\r\n]|,)*(?:[\r\n{\[]|([^\s,{\[][^\r\n]*)[\r\n])")
WORD = re.compile(r"[^\s,\[\]{}]*")
MARK = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]]', re.DOTALL)


class Found(NamedTuple):
    """A value as it stands in the file, and what it is; or what is wrong with it."""

    own: str | None
    value: Any = None
    problem: str = ""


class Values:
    """The values in `file`, which is open as text; `decoder` reads them. Where a file is none of JSON, or ends too
    early, ValueError is raised with one sentence.
    """

    def __init__(self, file: TextIO, decoder: json.JSONDecoder) -> None:
        self._file = file
        self._decoder = decoder
        self._held = file.read(BLOCK)  # what was read; from `_at` on it has not been given yet
        self._at = 0
        self._given = 0
        self._in_lines = False  # whether the last value that could be read stood on one line
        self.in_array = self._next() == "["

    def __iter__(self) -> Iterator[Found]:
        inside = False
        while mark := self._next():
            if self.in_array and mark == ("]" if inside else "["):
                self._at, inside = self._at + 1, not inside
            else:
                yield self._value()
        if inside:
            raise ValueError(f"ends within its array, after row {self._given:,}")

    def _value(self) -> Found:
        """The value that begins here."""
        self._given += 1
        while True:
            try:
                value, end = self._decoder.raw_decode(self._held, self._at)
                rest, length = REST.match(self._held, end), end - self._at
                if rest is None and (end == len(self._held) or not self.in_array) and self._more():
                    continue  # a number may go on, and so may a line
                own, end = self._held[self._at : self._at + length], self._at + length
                self._in_lines = "\n" not in own and "\r" not in own
                more = "" if self.in_array else rest[1] if rest else self._held[end:].strip(", \t\r\n")
                self._at = self._held.index(more, end) + len(more) if more else end
                if more:
                    return Found(None, problem=f"is not JSON: more than a value stands there: {plain(more, 20)}")
                return Found(own, value)
            except json.JSONDecodeError as error:
                may_be_cut = error.pos > len(self._held) - CUT or error.msg.startswith("Unterminated")
                if may_be_cut and self._more():
                    continue
                problem = said_of(error, self._at)
            except RecursionError as error:
                problem = said_of(error)
            self._at = self._end_of_wrong(problem)
            return Found(None, problem=problem)

    def _end_of_wrong(self, problem: str) -> int:
        """Where a value ends that cannot be read: with its line, where values stand in lines, else by its brackets."""
        bracket = self._held[self._at] in "{["
        if not self.in_array:
            while not (line := LINE.match(self._held, self._at)) and self._more():
                pass
            if line is None or self._in_lines or not bracket or line[2] in "{[":
                return line.end(1) if line else len(self._held)
        elif not bracket:
            word = WORD.match(self._held, self._at)
            return max(self._at + 1, word.end() if word else 0)
        while True:
            depth = 0
            for mark in MARK.finditer(self._held, self._at):
                depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(mark[0], 0)
                if depth == 0:
                    return mark.end()
            if not self._more():
                raise ValueError(f"{problem}, in row {self._given:,}, which has no end")

    def _next(self) -> str:
        """What the next value begins with, past blanks and commas; empty at the end of the file."""
        while True:
            between = BETWEEN.match(self._held, self._at)
            self._at = between.end() if between else self._at
            if self._at < len(self._held):
                return self._held[self._at]
            if not self._more():
                return ""

    def _more(self) -> bool:
        """Read on, as much again as waits; whether there was more."""
        waiting = self._held[self._at :]
        if len(waiting) > LONGEST:
            raise ValueError(f"has a row longer than {LONGEST:,} characters")
        more = self._file.read(max(BLOCK, len(waiting)))
        self._held, self._at = waiting + more, 0
        return bool(more)


def said_of(error: ValueError | RecursionError, start: int = 0) -> str:
    """One sentence of what a decoder raised on a text that begins at `start`."""
    if isinstance(error, json.JSONDecodeError):
        return f"is not JSON: {error.msg} at character {error.pos - start + 1}"
    return "is nested too deep" if isinstance(error, RecursionError) else str(error)
