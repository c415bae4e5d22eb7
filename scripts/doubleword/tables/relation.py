"""Relations: the rows of one file, or of many alike, as SQL; and what the user says of how a source is read."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from doubleword.failure import Exit, Failure, plain
from doubleword.quick_msgspec import Struct, field
from doubleword.tables.plain_copy import STDIN

SINGLE = re.compile(r"\bFLOAT\b")
FLOATING = re.compile(r"\b(FLOAT|DOUBLE)\b")
TEXT_OR_NOT = r'"(?:[^"\\]|\\.)*"|[^"]+'
WHOLE = re.compile(r"\bDECIMAL\([0-9]+,0\)")
FRACTION = re.compile(r"DECIMAL\(([0-9]+),\1\)")
NESTED = re.compile(r"\[\d*\]$|^(STRUCT|MAP|UNION)\b|^LIST\b")


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """The flags of a source; None where the source itself is to tell. `header_row` counts lines from 1."""

    format: str | None = None
    encoding: str = "utf-8"
    delimiter: str | None = None
    quote: str | None = None
    header_row: int | None = None
    sheet: str | None = None
    where: str | None = None

    def shown(self, path: Path) -> str:
        """What people call the source, for messages."""
        return "standard input" if str(path) == STDIN else plain(path, 120)


class Column(Struct, frozen=True):
    """A column: how users call it, its SQL in the relation, the type it is stored in, and the type of its values.

    The two types differ where values came as text and are known to be numbers.
    """

    name: str
    sql: str
    stored: str = "VARCHAR"
    type: str = "VARCHAR"

    @property
    def text(self) -> str:
        """SQL for the cell as people write it, null where there is nothing."""
        return as_text(self.sql, self.stored)

    @property
    def value(self) -> str:
        """SQL for the value in its own type."""
        return self.sql if self.stored == self.type else f"TRY_CAST({self.sql} AS {self.type})"


class Relation(Struct):
    """Rows in order: `sql` stands after FROM. `own` and `problem` are SQL for those of `Row`, null by default.

    In CSV, cells are separated by `delimiter`. `elsewhere` is where in a single object the rows may be that were meant.
    `warnings` are what the user should know of how the source was read.
    """

    sql: str
    columns: list[Column]
    own: str = "NULL"
    problem: str = "NULL"
    delimiter: str = ""
    byte_order_mark: bool = False
    elsewhere: str = ""
    warnings: list[str] = field(default_factory=list)


def as_text(sql: str, kind: str) -> str:
    """SQL for a value of a DuckDB type as people write it: 19.99, 2023-11-14 22:13:20.5, true; nested ones as JSON."""
    if kind == "VARCHAR":
        return sql
    if kind in ("FLOAT", "DOUBLE"):
        return f"CASE WHEN NOT isnan({sql}) THEN CAST({sql} AS VARCHAR) END"
    if kind == "BLOB":
        return f"coalesce(TRY(decode({sql})), CAST({sql} AS VARCHAR))"
    if FRACTION.fullmatch(kind):  # DuckDB writes .10
        return f"regexp_replace(CAST({sql} AS VARCHAR), '^(-?)[.]', '\\10.')"
    if NESTED.search(kind):
        json = f"CAST(to_json({_with_plain_numbers(sql, kind)}) AS VARCHAR)"
        return _without_nan(json) if FLOATING.search(kind) else json
    return f"CAST({sql} AS VARCHAR)"


def _without_nan(json: str) -> str:
    """JSON as DuckDB writes it, with null for what is no number in JSON; texts that say such words stay."""
    parts = f"regexp_extract_all({json}, '{TEXT_OR_NOT}')"
    mended = "CASE WHEN part[1] = '\"' THEN part ELSE regexp_replace(part, '-?(NaN|Infinity)', 'null', 'g') END"
    has_some = f"contains({json}, 'NaN') OR contains({json}, 'Infinity')"
    return f"CASE WHEN {has_some} THEN array_to_string([{mended} FOR part IN {parts}], '') ELSE {json} END"


def _with_plain_numbers(sql: str, kind: str) -> str:
    """`sql` with numbers inside in types whose JSON is as people write it: 19.99 of a FLOAT, to which a mere cast adds
    digits, and 100 of a DECIMAL without a fraction, to which JSON adds one.
    """
    meant = _retyped(_retyped(kind, SINGLE, "DOUBLE"), WHOLE, "HUGEINT")
    return sql if meant == kind else f"CAST(CAST({sql} AS {_retyped(kind, SINGLE, 'VARCHAR')}) AS {meant})"


def _retyped(kind: str, some: re.Pattern[str], other: str) -> str:
    parts = re.split(r'("(?:[^"]|"")*")', kind)  # names stand in quotes where they could be types
    return "".join(some.sub(other, part) if at % 2 == 0 else part for at, part in enumerate(parts))


# What editors and web pages leave in a name unseen: zero-width characters, marks of direction, soft hyphens.
UNSEEN = dict.fromkeys(map(ord, "\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"))


def bare_name(name: str) -> str:
    """A column's name as people read it: blanks around it are none, and those in it, line ends too, are one space;
    accents are part of their letters.
    """
    return " ".join(unicodedata.normalize("NFC", name.translate(UNSEEN)).split())


def column_at(wanted: str, names: Sequence[str]) -> int:
    """Which of `names` a user means: the one of that very name, else the only one but for blanks; -1 for none."""
    if wanted in names:
        return names.index(wanted)
    alike = [at for at, name in enumerate(names) if bare_name(name) == bare_name(wanted)]
    return alike[0] if len(alike) == 1 else -1


def unlike_names(header: list[str], shown: str) -> list[str]:
    """The names of columns: as they stand there, and `column3` for the third where it has none.

    Raises Failure (exit 2) where two columns have one name.
    """
    twice = sorted({one for one in header if one.strip() and header.count(one) > 1})
    if twice:
        message = f"{shown} names the column {plain(twice[0], 60)} twice"
        raise Failure(Exit.BAD_INPUT, "bad_table", message, "give columns unlike names")
    taken = {one.casefold() for one in header}
    found = []
    for at, one in enumerate(header, 1):
        free = one
        if not one.strip():
            free = f"column{at}"
            while free.casefold() in taken:
                free += "_"
            taken.add(free.casefold())
        found.append(free)
    return found
