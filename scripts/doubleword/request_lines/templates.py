"""Texts with `{column}` places, filled from rows: prompts, system texts and custom_ids.

Promises: every place is filled or the row is refused, and filling many rows at once gives what filling each would;
a repaired id follows from the original alone.
"""

from __future__ import annotations

import functools
import itertools
import json
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from doubleword.failure import Exit, Failure, plain
from doubleword.request_lines.line import MAX_ID, is_id
from doubleword.tables.sources import BadRow, Row

DEFAULT_ID = "row-%07d"
EMPTY_HINT = "fill it, or say with --default COLUMN=TEXT what stands for it"
NO_DEFAULTS: Mapping[str, str] = MappingProxyType({})


def custom_id(template: str | None, row: Row, repair: bool = False) -> str:
    """The custom_id of `row`: `template` filled, or without one `row-0000001`, which sorts as the table stands.

    With `repair` an id that the server would refuse is `repaired`; otherwise that is for the request line's check to
    say. Raises BadRow as `fill` does.
    """
    if template is None:
        return default_id(row.number)
    try:
        filled = fill(template, row)
    except BadRow as bad:
        raise BadRow(bad.number, bad.cause, bad.code, "mend the row, or make --id of other columns") from None
    return repaired(filled) if repair else filled


def default_id(number: int) -> str:
    """The custom_id of row `number` where no template says otherwise."""
    return DEFAULT_ID % number


def ids_of(
    template: str | None, header: Sequence[str]
) -> Callable[[int, list[list[str]]], Sequence[str] | None] | None:
    """`custom_id` for many rows of cells under `header` at once, given the number of the first.

    None where the template is not as plain as that needs; the function answers None where a row has to be looked at.
    """
    if template is None:
        return lambda first, rows: list(map(DEFAULT_ID.__mod__, range(first, first + len(rows))))
    fill_all = filler(template, header)
    return None if fill_all is None else lambda _, rows: fill_all(rows)


def repaired(original: str) -> str:
    """`original` where the server would take it, else a readable id: its beginning in the letters that an id may
    have, and 12 hexadecimal digits of its SHA-256, so that unlike originals get unlike ids.
    """
    if is_id(original):
        return original
    import hashlib
    import unicodedata

    digest = hashlib.sha256(original.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    # A little more than is kept is looked at, so that an original of megabytes costs no more than its hash.
    letters = unicodedata.normalize("NFKD", original[: 4 * MAX_ID]).encode("ascii", "ignore").decode()
    start = re.sub(r"[^A-Za-z0-9._]+", "-", letters)[: MAX_ID - len(digest) - 1].strip("-")
    return f"{start or 'id'}-{digest}"


def fill(template: str, row: Row, defaults: Mapping[str, str] = NO_DEFAULTS) -> str:
    """`template` with every `{column}` replaced by the row's value, `{{` and `}}` by single braces.

    A place may lead into a nested value by dots, such as `{author.name}` or `{tags.0}`, unless there is a column of
    that very name. Texts stand as they are, other values as JSON. What is missing or empty is taken from `defaults`,
    by the place's name. Raises BadRow for a row without values, without such a column, or with nothing in it;
    Failure (exit 2) for a template with a lone brace.
    """
    if row.problem is not None:
        raise BadRow(row.number, row.problem)
    parts = []
    for literal, column in _parts(template):
        parts.append(literal)
        if column is not None:
            parts.append(_cell(template, column, row, defaults))
    return "".join(parts)


def filler(template: str, header: Sequence[str]) -> Callable[[list[list[str]]], list[str] | None] | None:
    """`fill` for many rows of cells under `header` at once; None where the template names no column, or a wrong one.

    The function answers what `fill` does for each row, None when it refuses one of them.
    """
    columns = places(template)
    if not columns or any(header.count(name) != 1 for name in columns):
        return None
    form = "".join(
        literal.replace("%", "%%") + ("" if column is None else "%s") for literal, column in _parts(template)
    )
    strip, pick, flat = str.strip, operator.itemgetter(*map(header.index, columns)), itertools.chain.from_iterable

    def fill_all(rows: list[list[str]]) -> list[str] | None:
        picked = list(map(pick, rows))
        if not all(map(strip, picked if len(columns) == 1 else flat(picked))):
            return None
        return [form % one for one in picked]

    return fill_all


def places(template: str) -> list[str]:
    """The columns that `template` names; raises Failure (exit 2) for a template with a lone brace."""
    return [column for _, column in _parts(template) if column is not None]


def as_text(value: Any) -> str:
    """`value` as it stands in a text: empty for what means that there is no value, JSON for what is no text."""
    if isinstance(value, str):
        return value
    if value is None or value != value:  # noqa: PLR0124  a NaN is how tables say that there is no value
        return ""
    if isinstance(value, (bool, int, float, list, dict)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _cell(template: str, column: str, row: Row, defaults: Mapping[str, str]) -> str:
    try:
        value = row.values[column] if column in row.values else _nested(row.values, column)
    except LookupError:
        if column in defaults:
            return defaults[column]
        known = ", ".join(plain(name, 40) for name in list(row.values)[:30])
        shown = plain(template, 60)
        cause = f"the template {shown!r} names the column {plain(column, 60)}, but there are only: {known}"
        hint = "name one of these columns, or give a --default; write {{ and }} for braces that are part of the text"
        raise BadRow(row.number, cause, "missing_column", hint) from None
    text = as_text(value)
    if not text or text.isspace():
        if column in defaults:
            return defaults[column]
        raise BadRow(row.number, f"the column {plain(column, 60)} is empty", "empty_value", EMPTY_HINT)
    return text


def _nested(values: Any, path: str) -> Any:
    """What `path` leads to within `values`, None where a value on the way is null; raises LookupError for nowhere."""
    for name in path.split("."):
        if values is None:
            return None
        if isinstance(values, list) and name.isdecimal() and len(name) < 10:
            values = values[int(name)] if int(name) < len(values) else None
        elif isinstance(values, Mapping):
            values = values[name]
        else:
            raise LookupError(name)
    return values


@functools.lru_cache(maxsize=64)
def _parts(template: str) -> tuple[tuple[str, str | None], ...]:
    """The template as pairs of literal text and the column after it."""
    parts: list[tuple[str, str | None]] = []
    literal, at = "", 0
    while at < len(template):
        character = template[at]
        if character not in "{}":
            end = min((found for mark in "{}" if (found := template.find(mark, at)) >= 0), default=len(template))
            literal, at = literal + template[at:end], end
        elif template[at + 1 : at + 2] == character:
            literal, at = literal + character, at + 2
        else:
            end = template.find("}", at)
            if character == "}" or end < 0:
                message = f"the template has a lone {character} at character {at + 1}: {plain(template[at:], 60)}"
                hint = "write {{ and }} for braces that are part of the text, {column} for a column"
                raise Failure(Exit.BAD_INPUT, "bad_template", message, hint)
            parts.append((literal, template[at + 1 : end]))
            literal, at = "", end + 1
    return (*parts, (literal, None))
