"""Texts with `{column}` places, filled from rows: prompts, system texts and custom_ids.

Promises: every place is filled or the row is refused; a value is never read as a template; a repaired id follows from
the original alone.
"""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from doubleword.failure import Exit, Failure, plain
from doubleword.request_lines.line import MAX_ID, is_id
from doubleword.tables.relation import bare_name, column_at
from doubleword.tables.rows import BadRow, Row
from doubleword.tables.sources.json_files import Object, as_cell, read

DEFAULT_ID = "row-%07d"
EMPTY_HINT = "fill it, or say with --default COLUMN=TEXT what stands for it"
NO_DEFAULTS: Mapping[str, str] = MappingProxyType({})


def custom_id(template: str | None, row: Row, repair: bool = False) -> str:
    """The custom_id of `row`: `template` filled, or without one `row-0000001`, which sorts as the table stands.

    With `repair` an id that the server would refuse is `repaired`; otherwise that is for the request line's check to
    say. Raises BadRow as `fill` does.
    """
    if template is None:
        return DEFAULT_ID % row.number
    try:
        filled = fill(template, row)
    except BadRow as bad:
        raise BadRow(row, bad.cause, bad.code, "mend the row, or make --id of other columns") from None
    return repaired(filled) if repair else filled


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
    """`template` with every `{column}` replaced by the row's cell, `{{` and `}}` by single braces.

    A place may lead into a nested value by dots, such as `{author.name}` or `{tags.0}`, unless there is a column of
    that very name. What is missing or empty is taken from `defaults`, by the place's name. Raises BadRow for a row
    without cells, without such a column, or with nothing in it; Failure (exit 2) for a template with a lone brace.
    """
    if row.problem is not None:
        raise BadRow(row, row.problem)
    cells, filled = row.cells, []
    for literal, place, at in _bound(template, row.names):
        filled.append(literal)
        if place is not None:
            text = cells[at] if at >= 0 else _nested(template, place, row, defaults)
            if not text or text.isspace():
                if place not in defaults:
                    raise BadRow(
                        row, f"the column {plain(place, 60)} is empty{_alike(place, row)}", "empty_value", EMPTY_HINT
                    )
                text = defaults[place]
            filled.append(text)
    return "".join(filled)


def filler(template: str, names: tuple[str, ...]) -> Callable[[Sequence[Any]], str | None] | None:
    """`fill` for bare rows, a number and cells under `names`; None where the template names none of them, or others.

    The function answers None for a row that has to be looked at, which `fill` does.
    """
    bound = [one for one in _bound(template, names) if one[1] is not None]
    if not bound or any(at < 0 for _, _, at in bound):
        return None
    text = "".join(f"{one[0].replace('%', '%%')}{'' if one[1] is None else '%s'}" for one in _bound(template, names))
    pick = operator.itemgetter(*(1 + at for _, _, at in bound)) if len(bound) > 1 else None
    only = 1 + bound[0][2]

    def fill_one(bare: Sequence[Any]) -> str | None:
        picked = (bare[only],) if pick is None else pick(bare)
        for cell in picked:
            if not cell or cell.isspace():
                return None
        return text % picked

    return fill_one


def places(template: str) -> list[str]:
    """The columns that `template` names; raises Failure (exit 2) for a template with a lone brace."""
    return [column for _, column in _parts(template) if column is not None]


def doubled(template: str, names: tuple[str, ...]) -> list[str]:
    """The columns among `names` that `template` has in double braces, as other template languages write a place."""
    found = re.findall(r"\{\{\s*([^{}]+?)\s*\}\}", template)
    return [one for one in dict.fromkeys(found) if column_at(one, names) >= 0]


@functools.lru_cache(maxsize=256)
def _bound(template: str, names: tuple[str, ...]) -> tuple[tuple[str, str | None, int], ...]:
    """The template as literal text, the place after it, and which cell fills that; -1 for none of them."""
    return tuple(
        (literal, place, -1 if place is None else column_at(place, names)) for literal, place in _parts(template)
    )


def _alike(place: str, row: Row) -> str:
    """Says where another column is called as an empty one, but for the case of letters, as of another file."""
    others = [name for name in row.names if name != place and bare_name(name).casefold() == place.casefold()]
    return f", and {plain(others[0], 60)} is another column" if others else ""


def _nested(template: str, place: str, row: Row, defaults: Mapping[str, str]) -> str | None:
    """The cell that a place with dots leads to; None where a value on the way, or the last, is null."""
    first, _, rest = place.partition(".")
    at = column_at(first, row.names) if rest else -1
    cell = row.cells[at] if at >= 0 else None
    if at >= 0 and not cell:
        return None
    try:
        return as_cell(_inner(read(cell or ""), rest))
    except (LookupError, ValueError):
        if place in defaults:
            return defaults[place]
    known = ", ".join(repr(name) if name != name.strip() else plain(name, 40) for name in row.names[:30])
    known += f" and {len(row.names) - 30} more" if len(row.names) > 30 else ""
    cause = f"the template {plain(template, 60)!r} names the column {plain(place, 60)}, but there are only: {known}"
    hint = "name one of these columns, or give a --default; write {{ and }} for braces that are part of the text"
    raise BadRow(row, cause, "missing_column", hint)


def _inner(value: object, path: str) -> object:
    """What `path` leads to within `value`; raises LookupError for nowhere."""
    for name in path.split("."):
        if value is None:
            return None
        if isinstance(value, list) and name.isdecimal() and len(name) < 10:
            value = value[int(name)] if int(name) < len(value) else None
        elif isinstance(value, Object):
            value = value[name]
        else:
            raise LookupError(name)
    return value


_PIECE = re.compile(r"\{\{|\}\}|\{(?P<column>[^}]*)\}|[{}]|[^{}]+")


@functools.lru_cache(maxsize=64)
def _parts(template: str) -> tuple[tuple[str, str | None], ...]:
    """The template as pairs of literal text and the column after it."""
    parts: list[tuple[str, str | None]] = []
    literal = ""
    for piece in _PIECE.finditer(template):
        if piece["column"] is not None:
            parts.append((literal, piece["column"]))
            literal = ""
        elif piece[0] in ("{", "}"):
            at = piece.start()
            message = f"the template has a lone {piece[0]} at character {at + 1}: {plain(template[at:], 60)}"
            hint = "write {{ and }} for braces that are part of the text, {column} for a column"
            raise Failure(Exit.BAD_INPUT, "bad_template", message, hint)
        else:
            literal += piece[0][0] if piece[0] in ("{{", "}}") else piece[0]
    return (*parts, (literal, None))
