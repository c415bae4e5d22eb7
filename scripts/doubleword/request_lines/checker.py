"""Checks of request lines, by one schema document.

Promises: a line is accepted exactly when the reference accepts it. The reference is `json`, made strict, and
`jsonschema` with `request_line.schema.json`; it also explains. `msgspec` and `jsonschema_rs` give the same verdict from
the same schema, tens of times faster. What is wrong is said with the place and what was expected there, briefly, and
never with the text of a prompt.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from doubleword.failure import plain
from doubleword.quick_msgspec import Decoder, MsgspecError, Struct
from doubleword.request_lines.line import fits_bytes
from doubleword.service import MAX_LINE_BYTES
from doubleword.strict_json import MAX_DEPTH, read

BYTES = "64-bytes"  # the format of a custom_id
_UNREADABLE = (MsgspecError, ValueError, RecursionError)
_SCHEMA = Path(__file__).with_name("request_line.schema.json")


class Checker:
    """Judges request lines; one instance serves any number of them, but only one thread.

    It does so by msgspec, which keeps the last of two equal keys, and nests deeper than the server. A key that was
    dropped shows in the colons: the line has at least one for each key, and one for each in a text. What stays in doubt
    is left to the reference.
    """

    def __init__(self) -> None:
        self._is_valid = _fast_validator()
        self._decode = Decoder().decode

    def accepts(self, line: bytes) -> dict[str, Any] | None:
        """The request in `line` (without its line end), or None where the line is refused."""
        try:
            value: dict[str, Any] = self._decode(line)
        except _UNREADABLE:
            return None
        if len(line) > MAX_LINE_BYTES or not self.accepts_value(value):
            return None
        return _with_all_keys(value, line)

    def accepts_each(self, lines: Sequence[bytes]) -> list[dict[str, Any] | None]:
        """As `accepts`, for many lines, and sooner than one by one."""
        try:
            values = list(map(self._decode, lines))
        except _UNREADABLE:
            return list(map(self.accepts, lines))
        if self.accepts_values(values) and max(map(len, lines), default=0) <= MAX_LINE_BYTES:
            return list(map(_with_all_keys, values, lines))
        return list(map(self.accepts, lines))

    def accepts_value(self, request: Any) -> bool:
        """Whether `request`, read or built already, stands as a request line."""
        return self._is_valid(request) or bool(_whole_validator().is_valid(request))

    def accepts_values(self, requests: Iterable[Any]) -> bool:
        """Whether each of `requests` surely stands; one of them may stand all the same where the answer is no."""
        return all(map(self._is_valid, requests))

    def explain(self, line: bytes) -> list[Problem]:
        """Everything the reference has against `line`; empty where it is good."""
        if len(line) > MAX_LINE_BYTES:
            return [Problem("", f"is {len(line):,} bytes long; the server takes at most {MAX_LINE_BYTES:,}")]
        try:
            return self.explain_value(read(line))
        except ValueError as refused:
            return [Problem("", str(refused))]

    def explain_value(self, request: Any) -> list[Problem]:
        """As `explain`, for a request that was read or built already."""
        problems = [problem for error in _reference().iter_errors(request) for problem in _sentences(error)]
        return list(dict.fromkeys(problems))


def accepts_by_reference(line: bytes) -> dict[str, Any] | None:
    """As `Checker.accepts`, by the reference alone."""
    if len(line) > MAX_LINE_BYTES:
        return None
    try:
        value = read(line)
    except ValueError:
        return None
    return value if _reference().is_valid(value) else None


def _with_all_keys(value: dict[str, Any], line: bytes) -> dict[str, Any] | None:
    colons, keys = line.count(b":"), _keys(value, MAX_DEPTH - 1)
    # A colon may be written as \u003a.
    if keys == colons or (keys >= 0 and b"\\u003" not in line and keys + _colons(value) == colons):
        return value
    return accepts_by_reference(line)


def _keys(value: Any, levels: int) -> int:
    """The number of all keys in `value`; negative where it nests more than `levels` below itself, or holds an integer
    beyond 64 bits.
    """
    count, holders = 0, [value]
    for holder in holders:  # which grows meanwhile: calls would take longer
        inner = holder
        if type(holder) is dict:
            count += len(holder)
            inner = holder.values()
        for one in inner:
            kind = type(one)
            if kind is str:
                continue
            if kind is dict or kind is list:
                holders.append(one)
            elif kind is int and not -(2**63) <= one < 2**64:
                return -1
    return -1 if len(holders) > levels and _nests_beyond(levels, value) else count


def _nests_beyond(levels: int, value: Any) -> bool:
    inner = value.values() if type(value) is dict else value
    return any(not levels or _nests_beyond(levels - 1, one) for one in inner if type(one) in (dict, list))


def _colons(value: Any) -> int:
    """The number of colons in all texts of `value`, keys among them."""
    if type(value) is str:
        return value.count(":")
    if type(value) is dict:
        return sum(map(_colons, value)) + sum(map(_colons, value.values()))
    return sum(map(_colons, value)) if type(value) is list else 0


def _fast_validator() -> Callable[[Any], bool]:
    """What accepts requests whose custom_id is ASCII, which most are: a format that is checked by Python takes time."""
    import jsonschema_rs

    document = schema()
    custom_id = document["properties"]["custom_id"]
    ascii_only = {**custom_id, "anyOf": custom_id["anyOf"][:1]}
    document = {**document, "properties": {**document["properties"], "custom_id": ascii_only}}
    validator: Any = jsonschema_rs.Draft202012Validator(document)
    return validator.is_valid  # type: ignore[no-any-return]


@functools.cache
def _whole_validator() -> Any:
    import jsonschema_rs

    formats = {BYTES: fits_bytes}
    return jsonschema_rs.Draft202012Validator(schema(), formats=formats, validate_formats=True)


@functools.cache
def schema() -> dict[str, Any]:
    """The schema document of a request line."""
    document: dict[str, Any] = json.loads(_SCHEMA.read_bytes())
    return document


@functools.cache
def _reference() -> Any:
    import jsonschema

    formats = jsonschema.FormatChecker(formats=())
    formats.checks(BYTES)(lambda value: not isinstance(value, str) or fits_bytes(value))
    return jsonschema.Draft202012Validator(schema(), format_checker=formats)


# What is wrong, in sentences


class Problem(Struct, frozen=True):
    """Why a line is refused: the place, like `body.messages[1].role`, empty for the line as a whole, and what
    was expected there, in one short sentence without the prompt."""

    path: str
    message: str


def _sentences(error: Any) -> Iterable[Problem]:
    """What one error of `jsonschema` says, shorter, and without the text of a prompt."""
    path, keyword = path_of("", *error.absolute_path), error.validator
    wanted, got = error.validator_value, error.instance
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
    names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return names.get(type(value), "null")


def shown(value: Any) -> str:
    """A short value as JSON; of anything long only its type, so that no prompt gets into a message."""
    if isinstance(value, (list, dict)):
        return _type_name(value)
    text = plain(json.dumps(value, ensure_ascii=False), 1000)
    return text if len(text) <= 40 else f"a {_type_name(value)} of {len(text):,} characters"
