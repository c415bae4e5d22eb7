"""JSON as the server reads it, and stricter: what it would drop or round without a word is refused.

Facts: serde_json, which reads the lines on the server, refuses the 128th level of arrays and objects; it keeps the
last of two equal keys, and integers beyond 64 bits become floats (control-layer, dwctl files.rs).
"""

from __future__ import annotations

import json
import math
from typing import Any

from doubleword.failure import plain

MAX_DEPTH = 127


def read(text: bytes) -> Any:
    """The JSON value in `text`, by the strict reference; raises ValueError with one sentence about the first flaw.

    Refused are, beside everything that is not JSON: a byte order mark, any encoding but UTF-8, NaN, infinity and
    numbers that are read as infinity, integers beyond 64 bits, a key that stands twice in one object, lone
    surrogates, and nesting deeper than `MAX_DEPTH`.
    """
    if text.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise ValueError("starts with a byte order mark; save the file as UTF-8 without one")
    try:
        decoded = text.decode("utf-8")
    except UnicodeDecodeError as bad:
        raise ValueError(f"byte {bad.start + 1} of the line is not UTF-8; save the file as UTF-8") from None
    try:
        value = _DECODER.decode(decoded)
    except json.JSONDecodeError as bad:
        raise ValueError(f"is not JSON: {bad.msg} at column {bad.colno}") from None
    except RecursionError:
        raise ValueError(f"is nested deeper than {MAX_DEPTH} levels") from None
    _refuse_depth(value)
    if "\\u" in decoded:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("holds half of a surrogate pair (\\ud800 to \\udfff), which is not text") from None
    return value


def _refuse_depth(value: Any) -> None:
    level, depth = [value], 0
    while holders := [one for one in level if isinstance(one, (dict, list))]:
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"is nested deeper than {MAX_DEPTH} levels")
        level = [inner for one in holders for inner in (one.values() if isinstance(one, dict) else one)]


def _unlike_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        for key, _ in reversed(pairs):  # each key of `value` once: the one that is gone already stands twice
            if value.pop(key, pairs) is pairs:
                raise ValueError(f"the key {plain(json.dumps(key, ensure_ascii=False), 40)} stands twice in one object")
    return value


def _integer(digits: str) -> int:
    if len(digits) <= 20:
        value = int(digits)
        if -(2**63) <= value < 2**64:
            return value
    raise ValueError("holds an integer that does not fit into 64 bits; the server would round it")


def _number(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"holds a number that is too large: {plain(digits, 40)}")
    return value


def _not_a_number(name: str) -> Any:
    raise ValueError(f"holds {name}, which is not JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unlike_keys, parse_int=_integer, parse_float=_number, parse_constant=_not_a_number
)
