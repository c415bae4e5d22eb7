"""Which rows: an SQL condition over the columns of a source, as the user writes it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from doubleword.failure import Exit, Failure, plain
from doubleword.tables.database import Database, name
from doubleword.tables.relation import Column

# Texts that stand for no value in a column of numbers or dates.
NOTHING = ("", "-", "?", "n/a", "na", "nan", "nil", "none", "null")
TYPES = ("BIGINT", "DOUBLE", "BOOLEAN", "DATE", "TIMESTAMP")


def filtered(sql: str, columns: Sequence[Column], condition: str, target: Database) -> str:
    """The rows of `sql` that meet `condition`, in which cells compare as what they look like.

    A text column counts as numbers, truth values or dates where all that stands in it is such. Raises Failure (exit 2)
    for what is no condition over these columns.
    """
    names = [column.name for column in columns]

    def wrong(said: str) -> Failure:
        return refused(condition, names, said)

    if not target.is_one_select(f"SELECT 1 WHERE ({condition}\n)"):
        raise wrong("it has to be one condition, without a semicolon")
    used = [column for column in columns if column.name.casefold() in condition.casefold()]
    types = _types(sql, [column for column in used if column.type == "VARCHAR"], target)
    typed = ", ".join(
        f"TRY_CAST({column.sql} AS {types[column.name]}) AS {name(column.name)}"
        if column.name in types
        else f"{column.value} AS {name(column.name)}"
        for column in used
    )
    kept = ", ".join(["number", "own", "problem", *(column.sql for column in columns)])
    inner = f"SELECT {kept}{', ' + typed if typed else ''} FROM {sql}"
    found = f"(SELECT {kept} FROM ({inner}) WHERE ({condition}\n))"
    target.columns(f"SELECT * FROM {found}", wrong)
    return found


def _types(sql: str, columns: Sequence[Column], target: Database) -> dict[str, str]:
    """The types that all values of text columns look like, by name; a text such as 007 looks like no number."""
    tests = []
    for column in columns:
        cell = f"nullif(trim({column.sql}), '')"
        present = f"{cell} IS NOT NULL AND lower({cell}) NOT IN {NOTHING}"
        tests += [f"count(*) FILTER ({present})"]
        for kind in TYPES:
            padded = f" AND NOT regexp_matches({cell}, '^[+-]?0[0-9]')" if kind in ("BIGINT", "DOUBLE") else ""
            tests.append(f"count(*) FILTER ({present} AND TRY_CAST({cell} AS {kind}) IS NOT NULL{padded})")
    if not tests:
        return {}
    (counts,) = target.run(f"SELECT {', '.join(tests)} FROM {sql}")
    found = {}
    for at, column in enumerate(columns):
        present, *cast = counts[at * (1 + len(TYPES)) : (at + 1) * (1 + len(TYPES))]
        fitting = [kind for kind, count in zip(TYPES, cast, strict=True) if present and count == present]
        if fitting:
            found[column.name] = fitting[0]
    return found


def refused(condition: str, names: Sequence[str], said: str) -> Failure:
    """The Failure (exit 2) for a condition that cannot be evaluated."""
    shown = ", ".join(plain(one, 40) for one in names[:30])
    said = re.sub(r"^(Parser|Binder|Conversion|Catalog) Error: ", "", said)
    message = f"--where {plain(condition, 120)}: {said}; the columns are: {shown}"
    hint = "write it in SQL, like --where \"stars <= 2 and lang = 'de'\"; names with blanks in double quotes"
    return Failure(Exit.BAD_INPUT, "bad_where", message, hint)
