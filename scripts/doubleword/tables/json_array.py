"""The objects of one JSON array, decoded one at a time while it is read.

Promises: memory for one object and one block; what is no array of objects ends with the row at which it is not.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from doubleword.failure import Failure, plain
from doubleword.request_lines.line import refuse_flaws, strict_decoder

BLOCK_BYTES = 1 << 20


def objects(
    file: BinaryIO, longest: int, failure: Callable[[str, str, str], Failure]
) -> Iterator[tuple[dict[str, Any], str | None]]:
    """Yield each object with None, or with what is wrong with it alone.

    `failure` makes, of a message, a hint and a code, the Failure that ends the reading; `longest` is how many
    characters one object may have.
    """
    decode, utf8 = strict_decoder().raw_decode, codecs.getincrementaldecoder("utf-8-sig")()
    text, at, number, ended = "", 0, 0, False

    def more() -> bool:
        """Read on, twice as much as is pending; whether there was anything."""
        nonlocal text, at, ended
        block = b"" if ended else file.read(max(BLOCK_BYTES, len(text) - at))
        ended = not block
        try:
            text, at = text[at:] + utf8.decode(block, ended), 0
        except UnicodeDecodeError as error:
            said = f"cannot be read after row {number}: {plain(error)}"
            raise failure(said, "save the file as UTF-8", "bad_table") from None
        if len(text) > longest + BLOCK_BYTES:
            raise failure(f"has a row {number + 1} longer than {longest:,} characters", "", "bad_table")
        return not ended

    def peek() -> str:
        """The next character that is no white space, empty at the end."""
        nonlocal at
        while True:
            while at < len(text) and text[at] in " \t\r\n":
                at += 1
            if at < len(text) or not more():
                return text[at : at + 1]

    if peek() != "[":
        hint = "rows are a JSON array [{…}, {…}], or one {…} a line"
        raise failure("is not a JSON array" if peek() else "is empty", hint, "bad_table" if peek() else "no_rows")
    at += 1
    if peek() == "]":
        return
    while True:
        number += 1
        if peek() != "{":
            said = f"has a row {number} that is not a JSON object"
            raise failure(said, "every row must be {column: value, …}", "bad_table")
        while True:
            try:
                value, end = decode(text, at)
            except json.JSONDecodeError as error:
                if more():
                    continue
                said = f"has a row {number} that is not JSON: {error.msg}"
                raise failure(said, "mend the file", "bad_table") from None
            except (ValueError, RecursionError) as error:
                cause = "is nested too deep" if isinstance(error, RecursionError) else str(error)
                raise failure(f"has a row {number} that {cause}", "mend the file", "bad_table") from None
            break
        at = end
        try:
            refuse_flaws(value)
        except ValueError as error:
            yield {}, str(error)
        else:
            yield value, None
        mark = peek()
        at += 1
        if mark == "]":
            if peek():
                raise failure(f"goes on after the array of {number} rows", "one array a file", "bad_table")
            return
        if mark != ",":
            raise failure(f"has neither , nor ] after row {number}", "the file may be cut short", "bad_table")
