"""Request lines spliced: all but the custom_id and the prompt is the same in each, and is built and checked once.

Promises: a spliced line holds the very bytes that building, writing and checking it alone would give, and what that
would refuse is not spliced. It rests on the schema asking nothing of a prompt but that it is a text with something
in it, and taking every default id and every plain one; a test holds all of it against random rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from doubleword.request_lines.line import MAX_LINE_BYTES, Checker, to_line
from doubleword.request_lines.line_shapes import are_plain_ids
from doubleword.request_lines.templates import DEFAULT_ID

# What stands for the prompt while the one line is built; it is in no other text, or lines are not spliced.
PLACE = "\x00\x01 the prompt \x01\x00"


class Spliced(NamedTuple):
    """Lines, and their custom_ids, which are left out where they are the default ones."""

    custom_ids: list[str]
    lines: list[bytes]


Fill = Callable[[list[list[str]]], list[str] | None]


def splicer(
    build: Callable[[str, str], dict[str, Any]], fill: Fill, name: Fill | None, checker: Checker
) -> Callable[[int, list[list[str]]], Spliced | None] | None:
    """A function from rows of cells, and the number of the first, to their lines; None where nothing can be spliced.

    `build` makes a request of a custom_id and a prompt; `fill` makes the rows' prompts, None when it refuses one, and
    `name` their custom_ids, where they are not the default ones. The function answers None when one of the rows has to
    be looked at alone.
    """
    try:
        import orjson

        line = to_line(build(DEFAULT_ID, PLACE))
    except (ImportError, ValueError):
        return None
    custom_id, prompt = orjson.dumps(DEFAULT_ID), orjson.dumps(PLACE)
    if not checker.accepts(line) or line.count(custom_id) != 1 or line.count(prompt) != 1:
        return None
    place = custom_id if name is None else b'"%b"'
    form = line.replace(b"%", b"%%").replace(prompt, b"%b").replace(custom_id.replace(b"%", b"%%"), place)
    dumps = orjson.dumps

    def splice(first: int, rows: list[list[str]]) -> Spliced | None:
        prompts = fill(rows)
        custom_ids = [] if name is None else name(rows)
        names = range(first, first + len(rows)) if name is None else _plain(custom_ids or [])
        if prompts is None or custom_ids is None or names is None:
            return None
        lines = [form % pair for pair in zip(names, map(dumps, prompts), strict=True)]
        return Spliced(custom_ids, lines) if len(max(lines, key=len)) <= MAX_LINE_BYTES else None

    return splice


def _plain(custom_ids: list[str]) -> list[bytes] | None:
    """`custom_ids` as they stand between quotes, if all are printable ASCII as the schema asks, and nothing escaped."""
    try:
        lines = "\n".join([*custom_ids, ""]).encode("ascii")
    except UnicodeEncodeError:
        return None
    return lines.split(b"\n")[:-1] if are_plain_ids(lines) and lines.count(b"\n") == len(custom_ids) else None
