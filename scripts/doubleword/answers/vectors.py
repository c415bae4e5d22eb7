"""The vectors of an embeddings answer, read in the form that its request asked for.

Promises: what carries an index stands by it; a vector that cannot be read, or holds what is no number, is told by a
cause and never given; a server that answers in lists of numbers is understood, whatever form was asked for.

Forms: `encoding_format`, base64 of float32 with the little end first, as OpenAI documents it; `embed_dtype` and
`endianness` of vLLM (`vllm/entrypoints/pooling`); `output_dtype` of Mistral and Voyage, where `binary` and `ubinary`
are eight dimensions in one int8 or uint8.
"""

from __future__ import annotations

import array
import base64
import functools
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from doubleword.failure import plain

CODES = {
    "float32": "f", "float": "f", "float64": "d", "int8": "b", "uint8": "B", "binary": "b", "ubinary": "B",
}  # fmt: skip
# Of the narrow types: the bits of a number, and how many of them are its exponent and its fraction.
NARROW = {"float16": (16, 5, 10), "bfloat16": (16, 8, 7), "fp8_e4m3": (8, 4, 3), "fp8_e5m2": (8, 5, 2)}


class Form(NamedTuple):
    """How a request wanted its vectors, where they come as base64: the type of a number, and which end is first.

    `inputs` is how many texts it gave, None where that is not known.
    """

    dtype: str = "float32"
    big_endian: bool = False
    inputs: int | None = None


FLOAT32 = Form()


def asked_form(body: Mapping[str, Any]) -> Form:
    """The form that the `body` of an embeddings request asks for."""
    named = next((body[name] for name in ("embed_dtype", "output_dtype", "dtype") if body.get(name)), "float32")
    given = body.get("input")
    inputs = 1 if given else None
    if isinstance(given, list) and not all(type(token) is int for token in given):
        inputs = len(given)
    return Form(str(named).lower(), body.get("endianness") == "big", inputs)


def by_index(items: Sequence[Any]) -> Sequence[Any]:
    """`items` by the index that each carries, be it a number or the text of one; one without takes a free place."""
    if len(items) < 2:
        return items
    places = [_index(item) for item in items]
    free = iter(sorted(set(range(len(items))).difference(places)))
    order = [next(free) if place is None else place for place in places]
    return [items[at] for at in sorted(range(len(items)), key=order.__getitem__)]


def _index(item: Any) -> int | None:
    found = item.get("index") if isinstance(item, dict) else None
    if isinstance(found, str) and found.strip().isdecimal() and len(found) < 10:
        found = int(found)
    if type(found) is int or (isinstance(found, float) and found.is_integer()):
        return int(found) if found >= 0 else None
    return None


def read_vectors(body: Mapping[str, Any], form: Form = FLOAT32) -> list[list[float] | str]:
    """The vectors of an answer in the order of their index; in the place of one that is none, why it is none."""
    data = body.get("data")
    items = by_index(data) if isinstance(data, list) else []
    return [_vector(item.get("embedding") if isinstance(item, dict) else None, form) for item in items]


def vectors(body: Mapping[str, Any], form: Form = FLOAT32) -> list[list[float]]:
    """The vectors of an answer; an empty one in the place of what is none."""
    return [found if isinstance(found, list) else [] for found in read_vectors(body, form)]


def flaw_of(found: Sequence[list[float] | str], form: Form = FLOAT32) -> str | None:
    """Why the vectors of one answer, as `read_vectors` gave them, are not what was asked for; empty ones aside."""
    cause = next((one for one in found if isinstance(one, str)), None)
    if cause is None and form.inputs not in (None, len(found)):
        return f"the answer has {len(found)} vectors for {form.inputs} texts"
    lengths = sorted({len(one) for one in found} - {0})
    if cause is None and len(lengths) > 1:
        return f"the vectors of the answer are of unlike lengths, {lengths[0]} and {lengths[-1]}"
    return cause


def _vector(value: Any, form: Form) -> list[float] | str:
    if value is None or value == "":
        return []
    found = _decoded(value, form) if isinstance(value, str) else value
    if isinstance(found, str):
        return found
    if not isinstance(found, list):
        return "the vector is no list of numbers"
    if not set(map(type, found)) <= {float, int}:
        return "the vector holds what is no number"
    try:
        finite = math.isfinite(sum(found)) or all(map(math.isfinite, found))
    except OverflowError:  # an integer beyond all floats
        finite = False
    return found if finite else "the vector holds NaN or infinity"


def _decoded(text: str, form: Form) -> list[float] | str:
    dtype = form.dtype
    if dtype not in CODES and dtype not in NARROW:
        return f"the vector came as {plain(dtype, 20)}, which is not read here"
    try:
        raw = base64.b64decode("".join(text.split()), validate=True)
    except ValueError:
        return "the vector is neither a list of numbers nor base64"
    numbers: array.array[Any] = array.array(CODES.get(dtype) or ("H" if NARROW[dtype][0] == 16 else "B"))
    if len(raw) % numbers.itemsize:
        return f"the vector has {len(raw)} bytes, which hold no whole number of {plain(dtype, 20)}"
    numbers.frombytes(raw)
    if form.big_endian != (sys.byteorder == "big"):
        numbers.byteswap()
    return list(map(_narrow(dtype).__getitem__, numbers)) if dtype in NARROW else numbers.tolist()


@functools.cache
def _narrow(dtype: str) -> array.array[float]:
    """What each pattern of bits says in a floating-point type of so few: IEEE 754, but e4m3 has no infinity (OCP)."""
    bits, exponents, fractions = NARROW[dtype]
    bias, top = (1 << exponents - 1) - 1, (1 << exponents) - 1
    found = array.array("d")
    for pattern in range(1 << bits - 1):
        exponent, fraction = pattern >> fractions, pattern & (1 << fractions) - 1
        if dtype == "fp8_e4m3":
            special = math.nan if pattern == 0x7F else None
        else:
            special = (math.nan if fraction else math.inf) if exponent == top else None
        value = math.ldexp(fraction + (1 << fractions if exponent else 0), (exponent or 1) - bias - fractions)
        found.append(value if special is None else special)
    return found + array.array("d", [-one for one in found])
