"""Which rows: an SQL condition over the columns of a source, as the user writes it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from doubleword.failure import Exit, Failure, plain
from doubleword.tables.database import Database, Refusal, name
from doubleword.tables.relation import Column, bare_name

# Texts that stand for no value in a column of numbers or dates.
NOTHING = ("", "-", "?", "n/a", "na", "nan", "nil", "none", "null")
# What all values of a column may look like, and what a value must not look like that DuckDB would take for such.
TYPES = {
    "BIGINT": "^[+-]?0[0-9]",
    "DOUBLE": "^[+-]?0[0-9]",
    "BOOLEAN": "^([01]|[tfyn]|yes|no|on|off)$",
    "DATE": "",
    "TIMESTAMP": "",
    "JSON": "^[^{\\[]",
}
# Before the names of what is not the user's, so that it is called like no column.
OURS = "\x01"


def filtered(sql: str, columns: Sequence[Column], condition: str, target: Database) -> str:
    """The rows of `sql` that meet `condition`, in which cells compare as what they look like; and those that could not
    be read, of which nobody can tell.

    A text column counts as numbers, truth values or dates where all that stands in it is such. Raises Failure (exit 2)
    for what is no condition over these columns.
    """
    names = [column.name for column in columns]

    def wrong(said: str) -> Failure:
        return refused(condition, names, said)

    if not condition.strip():
        raise wrong("it is empty")
    if not target.is_one_select(f"SELECT 1 WHERE ({condition}\n)"):
        raise wrong("it has to be one condition, without a semicolon")
    used = [column for column in columns if _may_be_in(column.name, condition)]
    # DuckDB tells no case of names apart: of several it is the one that stands there in its own.
    exact = {one.name: one.name.casefold() for one in used if re.search(rf"\b{re.escape(one.name)}\b", condition)}
    used = [one for one in used if one.name in exact or one.name.casefold() not in exact.values()]
    if len({one.name.casefold() for one in used}) < len(used):
        raise wrong("columns whose names differ in case only cannot stand in one condition")
    types = _types(sql, [column for column in used if column.type == "VARCHAR"], target, wrong)
    own = ["number", "own", "problem", *(column.sql.strip('"') for column in columns)]
    kept = ", ".join(f"{name(one)} AS {name(OURS + one)}" for one in own)
    typed = "".join(
        f", TRY_CAST({column.sql} AS {types[column.name]}) AS {name(called)}"
        if column.name in types
        else f", {column.value} AS {name(called)}"
        for called, column in _called(used).items()
    )
    given = ", ".join(f"{name(OURS + one)} AS {name(one)}" for one in own)
    unread = f"{name(OURS + 'problem')} IS NOT NULL"
    met = f"SELECT * FROM (SELECT {kept}{typed} FROM {sql}) WHERE {unread} OR ({condition}\n)"
    found = f"(SELECT {given} FROM ({met}))"
    target.columns(f"SELECT * FROM {found}", wrong)
    return found


def _may_be_in(called: str, condition: str) -> bool:
    return bare_name(called).casefold().replace('"', '""') in bare_name(condition).casefold()


def _called(columns: Sequence[Column]) -> dict[str, Column]:
    """The columns by the names that a condition may use: their own, and without the blanks around them."""
    found = {bare_name(column.name): column for column in columns}
    return {**found, **{column.name: column for column in columns}}


def _types(sql: str, columns: Sequence[Column], target: Database, wrong: Refusal) -> dict[str, str]:
    """The types that all values of text columns look like, by name; a text such as 007 looks like no number."""
    tests = []
    for column in columns:
        cell = f"nullif(trim({column.sql}), '')"
        present = f"{cell} IS NOT NULL AND lower({cell}) NOT IN {NOTHING}"
        tests.append(f"count(*) FILTER ({present})")
        for kind, unlike in TYPES.items():
            looks = f" AND NOT regexp_matches(lower({cell}), '{unlike}')" if unlike else ""
            tests.append(f"count(*) FILTER ({present}{looks} AND TRY_CAST({cell} AS {kind}) IS NOT NULL)")
    if not tests:
        return {}
    (counts,) = target.run(f"SELECT {', '.join(tests)} FROM {sql}", wrong)
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
    message = f"--where {plain(condition, 120)}: {said}; the columns are: {shown}"
    hint = "write it in SQL, like --where \"stars <= 2 and lang = 'de'\"; odd names, and words of SQL, in double quotes"
    return Failure(Exit.BAD_INPUT, "bad_where", message, hint)
