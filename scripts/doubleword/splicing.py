"""Request lines spliced: all but the custom_id and the prompt is the same in each, and is built and checked once.

Promises: a spliced line holds the very bytes that building, writing and checking it alone would give, and what that
would refuse is not spliced. It rests on the schema asking nothing of a prompt but that it is a text with something
in it, and taking every default id; a test holds both against random rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from doubleword.request_line import MAX_LINE_BYTES, Checker, to_line
from doubleword.templates import DEFAULT_ID

# What stands for the prompt while the one line is built; it is in no other text, or lines are not spliced.
PLACE = "\x00\x01 the prompt \x01\x00"


def splicer(
    build: Callable[[str, str], dict[str, Any]],
    fill: Callable[[list[list[str]]], list[str] | None],
    checker: Checker,
) -> Callable[[int, list[list[str]]], list[bytes] | None] | None:
    """A function from rows of cells, and the number of the first, to their lines; None where nothing can be spliced.

    `build` makes a request of a custom_id and a prompt; `fill` makes the rows' prompts, None when it refuses one.
    The function answers None when one of the rows has to be looked at alone.
    """
    try:
        import orjson

        line = to_line(build(DEFAULT_ID, PLACE))
    except (ImportError, ValueError):
        return None
    custom_id, prompt = orjson.dumps(DEFAULT_ID), orjson.dumps(PLACE)
    if not checker.accepts(line) or line.count(custom_id) != 1 or line.count(prompt) != 1:
        return None
    form = line.replace(b"%", b"%%").replace(prompt, b"%b").replace(custom_id.replace(b"%", b"%%"), custom_id)
    dumps = orjson.dumps

    def splice(first: int, rows: list[list[str]]) -> list[bytes] | None:
        prompts = fill(rows)
        if prompts is None:
            return None
        lines = [form % pair for pair in enumerate(map(dumps, prompts), first)]
        return lines if len(max(lines, key=len)) <= MAX_LINE_BYTES else None

    return splice
