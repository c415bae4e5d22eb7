"""What is wrong with a request line, in sentences for people.

Promises: each names the place and what was expected there, briefly, and none holds the text of a prompt.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from doubleword.failure import plain


@dataclass(frozen=True)
class Problem:
    """Why a line is refused: the place, like `body.messages[1].role`, empty for the line as a whole, and what
    was expected there, in one short sentence without the prompt."""

    path: str
    message: str


def sentences(error: Any) -> Iterable[Problem]:
    """What one error of `jsonschema` says, shorter, and without the text of a prompt."""
    path, wanted, got, keyword = (
        path_of("", *error.absolute_path),
        error.validator_value,
        error.instance,
        error.validator,
    )
    if keyword == "required":
        return [Problem(path_of(path, name), "is missing") for name in wanted if name not in got]
    if keyword == "additionalProperties":
        known = list(error.schema["properties"])
        return [
            Problem(path_of(path, name), f"is unknown here; expected only {', '.join(known)}")
            for name in got
            if name not in known
        ]
    if path == "custom_id" and not isinstance(got, str):
        text = json.dumps(str(got)) if type(got) in (int, float) else "a text"
        return [Problem(path, f"is {_a(_type_name(got))}: write {text}")]
    if "description" in error.schema:
        return [Problem(path, error.schema["description"])]
    if keyword == "type":
        names = [wanted] if isinstance(wanted, str) else wanted
        said = f"expected {' or '.join(names)}, got {_type_name(got)}"
    elif keyword in ("enum", "const"):
        choices = wanted if keyword == "enum" else [wanted]
        said = f"expected {' or '.join(shown(choice) for choice in choices)}, got {shown(got)}"
    elif keyword in ("minimum", "maximum"):
        said = f"expected at {'least' if keyword == 'minimum' else 'most'} {wanted}, got {shown(got)}"
    elif keyword in ("minLength", "minItems"):
        said = "must not be empty"
    else:
        said = f"does not meet the schema's {keyword}"
    return [Problem(path, said)]


def path_of(place: str, *parts: str | int) -> str:
    """The place of `parts` within `place`, as `body.messages[1].role`."""
    for part in parts:
        place += f"[{part}]" if isinstance(part, int) else f".{plain(part, 40)}"
    return place.removeprefix(".")


def _a(name: str) -> str:
    """A name of a type as a sentence has it: numbers are one kind to people."""
    return {"integer": "a number", "null": "null", "array": "an array", "object": "an object"}.get(name, f"a {name}")


def _type_name(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    names = {int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return names.get(type(value), type(value).__name__)


def shown(value: Any) -> str:
    """A short value as JSON; of anything long only its type, so that no prompt gets into a message."""
    if isinstance(value, (list, dict)):
        return _type_name(value)
    text = plain(json.dumps(value, ensure_ascii=False), 1000)
    return text if len(text) <= 40 else f"a {_type_name(value)} of {len(text):,} characters"
