"""JSON as the server reads it, and stricter: what it would drop or round without a word is refused.

Facts: serde_json, which reads the lines on the server, refuses the 128th level of arrays and objects; it keeps the
last of two equal keys, and integers beyond 64 bits become floats (control-layer, dwctl files.rs).
"""

from __future__ import annotations

import functools
import json
import math
from typing import Any

from doubleword.failure import plain

MAX_DEPTH = 127


class _Refused(ValueError):
    """Valid to the standard library's JSON reader, but not to ours."""


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


def _unlike_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        for key, _ in reversed(pairs):  # each key of `value` once: the one that is gone already stands twice
            if value.pop(key, pairs) is pairs:
                raise _Refused(f"the key {plain(json.dumps(key, ensure_ascii=False), 40)} stands twice in one object")
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
