"""How a script says that it could not do, or not finish, what it was asked.

Promises: every failure carries one exit code of the interface, a stable code word, one sentence, and where
there is one the exact next command; text that came from elsewhere is made harmless before it is shown.
"""

from __future__ import annotations

import unicodedata
from enum import IntEnum
from typing import Any


class Exit(IntEnum):
    """The exit codes of every script."""

    DONE = 0
    BUG = 1
    BAD_INPUT = 2
    NO_KEY = 3
    NOT_FOUND = 4
    UNREACHABLE = 5
    SOME_FAILED = 6
    NOT_FINISHED = 7
    REFUSED = 8


class Failure(Exception):
    """Ends a script with `exit_code` and one JSON error.

    `keys` are the script's usual output keys, which exits 6 and 7 carry beside the error.
    """

    def __init__(
        self, exit_code: Exit, code: str, message: str, hint: str = "", keys: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.code = code
        self.message = message
        self.hint = hint
        self.keys = keys or {}


def plain(text: object, limit: int = 300) -> str:
    """`text` on one line of at most `limit` characters, without anything a terminal would act upon.

    For text from servers, models, files and file names: control, format (bidirectional and zero-width)
    and surrogate characters go, runs of white space become one space.
    """
    kept = []
    # A little more than is shown is looked at, so that a hostile megabyte costs nothing.
    for character in str(text)[: limit * 4]:
        category = unicodedata.category(character)
        if character.isspace():
            kept.append(" ")
        elif category not in ("Cc", "Cf", "Cs", "Co", "Cn"):
            kept.append(character)
    line = " ".join("".join(kept).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
