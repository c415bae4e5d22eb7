"""Rows on their way to DuckDB: written as JSON lines to a temporary file, read again as a relation.

Promises: a text arrives as it was, with its NULs, line ends and blanks; half of a surrogate pair, which is no text,
arrives as a question mark; of a column's values it is known whether a type holds every digit of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from doubleword.quick_msgspec import encode
from doubleword.tables import database
from doubleword.tables.database import Database

BLOCK = 1 << 20
# DuckDB's default for the longest object it reads.
LONGEST = 16 << 20
WHOLE_DIGITS = 18  # of a BIGINT, whatever they are
DECIMAL_DIGITS = 38
EXACT_DIGITS = 15  # of a DOUBLE, whatever they are where there is no exponent


class Staged:
    """Rows written one after the other; used as a context manager, and read by `sql` once they are finished."""

    def __init__(self, target: Database) -> None:
        self.path = target.new_path("staged")
        self.rows = self.bytes = 0
        self._longest = 0
        self._file = self.path.open("wb", BLOCK)

    def __enter__(self) -> Staged:
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()

    def finish(self) -> None:
        """Write what is left; from then on the rows can be read."""
        self._file.close()

    def add(self, values: Mapping[str, str | int | None]) -> None:
        """Append a row of named values; names that are left out are null."""
        self.add_lines([self.line(values)])

    def line(self, values: Mapping[str, str | int | None]) -> bytes:
        """The line that `add` would append, for `add_lines` another time."""
        try:
            return encode(values)
        except UnicodeEncodeError:
            return encode({key: as_unicode(one) if isinstance(one, str) else one for key, one in values.items()})

    def add_lines(self, lines: Sequence[bytes]) -> None:
        """Append rows as `line` made them."""
        sizes = list(map(len, lines))
        self.bytes += sum(sizes)
        self._longest = max(self._longest, *sizes, 0)
        self.rows += len(lines)
        self._file.write(b"\n".join([*lines, b""]))

    def sql(self, types: Mapping[str, str]) -> str:
        """What reads the rows in their order, with columns of these names and DuckDB types."""
        columns = ", ".join(f"{database.text(name)}: {database.text(kind)}" for name, kind in types.items())
        longest = f", maximum_object_size={2 * self._longest}" if self._longest > LONGEST // 2 else ""
        return f"read_json({database.place(self.path)}, format='newline_delimited', columns={{{columns}}}{longest})"


def as_unicode(text: str) -> str:
    """`text` with question marks for halves of surrogate pairs."""
    return text.encode("utf-8", "replace").decode()


class Kind:
    """What the values of one column are, told as they come, and the type that holds all of them."""

    def __init__(self) -> None:
        self._kinds: set[str] = set()
        self._digits = 0  # of integers
        self._is_double = True

    def see(self, value: Any) -> None:
        """Take note of a value as it is written in JSON: of a number its digits as bytes, of others any such value."""
        if isinstance(value, str):
            self._kinds.add("text")
        elif isinstance(value, bytes):
            self._kinds.add("integer" if value.lstrip(b"-").isdigit() else "number")
            self._digits = max(self._digits, len(value.lstrip(b"-")))
            self._is_double = self._is_double and _is_double(value)
        elif isinstance(value, bool):
            self._kinds.add("boolean")
        elif value is not None:
            self._kinds.add("nested")

    @property
    def type(self) -> str:
        """The DuckDB type that holds every value as it is: VARCHAR where no other does."""
        if self._kinds == {"boolean"}:
            return "BOOLEAN"
        if self._kinds == {"integer"}:
            if self._digits <= WHOLE_DIGITS:
                return "BIGINT"
            return f"DECIMAL({DECIMAL_DIGITS}, 0)" if self._digits <= DECIMAL_DIGITS else "VARCHAR"
        are_numbers = bool(self._kinds) and self._kinds <= {"integer", "number"}
        return "DOUBLE" if are_numbers and self._is_double else "VARCHAR"

    @property
    def is_unseen(self) -> bool:
        """Whether no value came that says what the column holds."""
        return not self._kinds

    @property
    def is_inexact(self) -> bool:
        """Whether all values are numbers and no type but text holds their digits."""
        return bool(self._kinds) and self._kinds <= {"integer", "number"} and self.type == "VARCHAR"


def _is_double(number: bytes) -> bool:
    """Whether a DOUBLE, written as short as it can be, is that very number."""
    if len(number) <= EXACT_DIGITS and not set(number) & set(b"eE"):
        return True
    value = float(number)
    try:
        return not math.isinf(value) and Decimal(repr(value)) == Decimal(number.decode())
    except ArithmeticError:  # an exponent beyond all decimals
        return False
