"""One request of a batch: build its line, check its line. No files are opened here but the schema, and no network.

Promises: a line is accepted exactly when the reference accepts it. The reference is `json`, made strict, and
`jsonschema` with `request_line.schema.json`; it also explains. Where `orjson` and `jsonschema_rs` can be imported
they give the same verdict from the same schema, tens of times faster. Both are stricter than the server, which
drops unknown keys, keeps the last of two equal keys and rounds large integers without a word.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from doubleword.failure import plain
from doubleword.request_lines.problems import Problem, sentences, shown

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
EMBEDDINGS = "/v1/embeddings"
RESPONSES = "/v1/responses"
ENDPOINTS = (CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES)

# dwctl config.rs, limits.requests.max_body_size: 10 MiB for the body of one line. Held against the whole line.
MAX_LINE_BYTES = 10_485_760
# serde_json, which reads the lines on the server, refuses the 128th level of arrays and objects.
MAX_DEPTH = 127
# The server drops these from the body without a word: files.rs:223-231, pg.rs:76-96.
DROPPED = ("priority", "service_tier", "background")

TOKEN_LIMIT = {CHAT: "max_tokens", COMPLETIONS: "max_tokens", RESPONSES: "max_output_tokens"}
BLANK = b" \t\r\n"
# As the schema says it of a custom_id.
MAX_ID = 64
_NO_ID = re.compile(r"[^ -~]|^ | $")

_SCHEMA = Path(__file__).with_name("request_line.schema.json")


class _Refused(ValueError):
    """Valid to the standard library's JSON reader, but not to ours."""


# --- building -------------------------------------------------------------------------------------------------


def is_id(custom_id: str) -> bool:
    """Whether the server takes `custom_id`."""
    return 1 <= len(custom_id) <= MAX_ID and not _NO_ID.search(custom_id)


def build(
    custom_id: str,
    endpoint: str,
    model: str,
    prompt: str | None,
    system: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    before: Sequence[Mapping[str, Any]] = (),
    images: Sequence[str] = (),
) -> dict[str, Any]:
    """The request line that asks `model` for `prompt` at `endpoint`, with `parameters` beside it in the body.

    The prompt becomes a user message (chat), `prompt` (completions) or `input` (embeddings, responses); the
    system text a system message (chat) or `instructions` (responses), and there is no other place for one. `images`
    are URLs that stand in the user message after the prompt, `before` messages that stand between it and the system
    text, or without a prompt at the end; only chat and responses take them.
    """
    body: dict[str, Any] = {"model": model}
    asked: list[Mapping[str, Any]] = [*before]
    if prompt is not None:
        asked.append({"role": "user", "content": _parts(endpoint, prompt, images) if images else prompt})
    if endpoint == CHAT:
        messages = [] if system is None else [{"role": "system", "content": system}]
        body["messages"] = [*messages, *asked]
    elif endpoint == COMPLETIONS:
        body["prompt"] = prompt
    else:
        body["input"] = asked if before or images else prompt
        if endpoint == RESPONSES and system is not None:
            body["instructions"] = system
    body.update(parameters or {})
    return {"custom_id": custom_id, "method": "POST", "url": endpoint, "body": body}


def _parts(endpoint: str, prompt: str, images: Sequence[str]) -> list[dict[str, Any]]:
    if endpoint == RESPONSES:
        return [{"type": "input_text", "text": prompt}, *({"type": "input_image", "image_url": url} for url in images)]
    return [{"type": "text", "text": prompt}, *({"type": "image_url", "image_url": {"url": url}} for url in images)]


def to_line(request: Mapping[str, Any]) -> bytes:
    """`request` as compact JSON in UTF-8, without a line end.

    Raises ValueError for what JSON cannot carry: NaN, infinity, integers beyond 64 bits, lone surrogates.
    """
    line: bytes
    try:
        orjson = _orjson()
        if orjson is None:
            read(line := _written(request))
            return line
        line = orjson.dumps(request)
        # orjson writes NaN and infinity as null; the standard library refuses them.
        return _written(request) if b"null" in line else line
    except (TypeError, RecursionError) as refused:
        raise ValueError(plain(refused)) from None


def cautions(body: Mapping[str, Any]) -> list[str]:
    """What the server does to a valid body without saying so: keys it drops, schema properties it re-orders."""
    found = [f"the server drops {name} from a batch request" for name in DROPPED if name in body]
    for place in (("response_format", "json_schema", "schema"), ("text", "format", "schema")):
        schema: Any = body
        for name in place:
            schema = schema.get(name) if isinstance(schema, Mapping) else None
        for names in _property_orders(schema):
            if names != sorted(names):
                given, sent = plain(", ".join(names), 80), plain(", ".join(sorted(names)), 80)
                found.append(
                    f"{'.'.join(place)}: the server sorts keys, so the model writes {sent} instead of {given};"
                    " name the properties so that their alphabetical order is the one you want"
                )
                break
    return found


# --- checking -------------------------------------------------------------------------------------------------


class Checker:
    """Judges request lines; one instance serves any number of them, but only one thread.

    `fast=None` uses `orjson` and `jsonschema_rs` where both can be imported, `False` the reference alone.
    """

    def __init__(self, fast: bool | None = None) -> None:
        self._read: Callable[[bytes], Any] = read
        self._is_valid: Callable[[Any], bool] = _is_valid
        if fast is not False:
            self._read, self._is_valid = _fast_reader() or read, _fast_validator() or _is_valid

    def accepts(self, line: bytes) -> dict[str, Any] | None:
        """The request in `line` (without its line end), or None where the line is refused."""
        if len(line) > MAX_LINE_BYTES:
            return None
        try:
            value = self._read(line)
        except ValueError:
            return None
        return value if self._is_valid(value) else None

    def accepts_value(self, request: Any) -> bool:
        """Whether `request`, read or built already, stands as a request line."""
        return self._is_valid(request)

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
        problems = [problem for error in _reference().iter_errors(request) for problem in sentences(error)]
        return list(dict.fromkeys(problems))


def read(text: bytes) -> Any:
    """The JSON value in `text`, by the strict reference; raises ValueError with one sentence about the first flaw.

    Refused are, beside everything that is not JSON: a byte order mark, any encoding but UTF-8, NaN, infinity and
    numbers that are read as infinity, integers beyond 64 bits, a key that stands twice in one object, lone
    surrogates, and nesting deeper than `MAX_DEPTH`.
    """
    if text.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise _Refused("starts with a byte order mark; save the file as UTF-8 without one")
    try:
        decoded = text.decode("utf-8")
    except UnicodeDecodeError as bad:
        raise _Refused(f"byte {bad.start + 1} of the line is not UTF-8; save the file as UTF-8") from None
    try:
        value = strict_decoder().decode(decoded)
    except json.JSONDecodeError as bad:
        raise _Refused(f"is not JSON: {bad.msg} at column {bad.colno}") from None
    except RecursionError:
        raise _Refused(f"is nested deeper than {MAX_DEPTH} levels") from None
    refuse_flaws(value)
    return value


@functools.cache
def strict_decoder() -> json.JSONDecoder:
    """A JSON decoder for text that raises ValueError for NaN, infinity, large integers and equal keys."""
    return json.JSONDecoder(
        object_pairs_hook=_unlike_keys, parse_int=_integer, parse_float=_number, parse_constant=_not_a_number
    )


def refuse_flaws(value: Any) -> None:
    """Raise ValueError where a decoded `value` is nested too deep or holds half of a surrogate pair."""
    level, deeper = [value], 0
    while level:
        below: list[Any] = []
        for one in level:
            if isinstance(one, str):
                _refuse_surrogates(one)
            elif isinstance(one, dict):
                for key in one:
                    _refuse_surrogates(key)
                below.extend(one.values())
            elif isinstance(one, list):
                below.extend(one)
        deeper += any(isinstance(one, (dict, list)) for one in level)
        if deeper > MAX_DEPTH:
            raise _Refused(f"is nested deeper than {MAX_DEPTH} levels")
        level = below


# --- the fast path --------------------------------------------------------------------------------------------


def _fast_reader() -> Callable[[bytes], Any] | None:
    """`read` by orjson, or None where it cannot be imported.

    orjson keeps the last of two equal keys, reads large integers as floats, and nests deeper than the server. A key
    that was dropped shows in the colons: the line has at least one for each key, and one for each in a text. What
    stays in doubt is left to the reference.
    """
    orjson = _orjson()
    if orjson is None:
        return None
    loads, refused = orjson.loads, orjson.JSONDecodeError

    def fast(line: bytes) -> Any:
        try:
            value = loads(line)
        except refused:
            return read(line)  # which refuses it too, with a better sentence
        colons = line.count(b":")
        if type(value) is dict and (keys := _keys(value, MAX_DEPTH - 1)) >= 0:
            if keys == colons:
                return value
            if b"\\u003" not in line and keys + _colons(value) == colons:  # a colon may be written as \u003a
                return value
        return read(line)

    return fast


def _keys(value: Any, levels: int) -> int:
    """The number of all keys in `value`; negative where it nests more than `levels` below itself, or holds a float
    that an integer beyond 64 bits may have become.
    """
    count, inner = 0, value
    if type(value) is dict:
        count, inner = len(value), value.values()
    for one in inner:
        kind = type(one)
        if kind is str:
            continue
        if kind is dict or kind is list:
            below = _keys(one, levels - 1) if levels else -1
            if below < 0:
                return -1
            count += below
        elif kind is float and not -9e18 < one < 9e18:
            return -1
    return count


def _colons(value: Any) -> int:
    """The number of colons in all texts of `value`, keys among them."""
    if type(value) is str:
        return value.count(":")
    if type(value) is dict:
        return sum(map(_colons, value)) + sum(map(_colons, value.values()))
    return sum(map(_colons, value)) if type(value) is list else 0


def _fast_validator() -> Callable[[Any], bool] | None:
    try:
        import jsonschema_rs
    except ImportError:
        return None
    validator: Any = jsonschema_rs.Draft202012Validator(schema())
    return validator.is_valid  # type: ignore[no-any-return]


@functools.cache
def _orjson() -> Any:
    try:
        import orjson
    except ImportError:
        return None
    return orjson


# --- the reference --------------------------------------------------------------------------------------------


@functools.cache
def schema() -> dict[str, Any]:
    """The schema document of a request line."""
    document: dict[str, Any] = json.loads(_SCHEMA.read_bytes())
    return document


@functools.cache
def _reference() -> Any:
    import jsonschema

    return jsonschema.Draft202012Validator(schema())


def _is_valid(request: Any) -> bool:
    return bool(_reference().is_valid(request))


@functools.cache
def _writer() -> json.JSONEncoder:
    return json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_unwritable)


def _written(value: Any) -> bytes:
    return _writer().encode(value).encode("utf-8")


def _unwritable(value: Any) -> Any:
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def _unlike_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        for key, _ in reversed(pairs):  # each key of `value` once: the one that is gone already stands twice
            if value.pop(key, pairs) is pairs:
                raise _Refused(f"the key {shown(key)} stands twice in one object")
    return value


def _integer(digits: str) -> int:
    if len(digits) <= 20:
        value = int(digits)
        if -(2**63) <= value < 2**64:
            return value
    raise _Refused("holds an integer that does not fit into 64 bits; the server would round it")


def _number(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise _Refused(f"holds a number that is too large: {plain(digits, 40)}")
    return value


def _not_a_number(name: str) -> Any:
    raise _Refused(f"holds {name}, which is not JSON")


def _refuse_surrogates(text: str) -> None:
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise _Refused("holds half of a surrogate pair (\\ud800 to \\udfff), which is not text") from None


def _property_orders(schema: Any) -> Iterator[list[str]]:
    """The property names of each object in a JSON Schema, in their written order."""
    if isinstance(schema, Mapping):
        if isinstance(schema.get("properties"), Mapping):
            yield list(schema["properties"])
        for part in schema.values():
            yield from _property_orders(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from _property_orders(part)
