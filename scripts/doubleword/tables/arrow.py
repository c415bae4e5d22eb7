"""Cells as Arrow arrays, laid out here.

Promises: an array holds just what the cells are; what a column cannot hold becomes null, never an error.

pyarrow.array() would do, but imports pandas where that is installed, which takes 55 MB of memory. The layout of the
buffers is that of the Arrow columnar format, version 1: validity bits, offsets of 32 bits, values.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import Any


def types() -> dict[str, Any]:
    """The Arrow type for each kind of column; needs pyarrow."""
    import pyarrow

    return {
        "text": pyarrow.string(),
        "integer": pyarrow.int64(),
        "number": pyarrow.float64(),
        "boolean": pyarrow.bool_(),
        "vector": pyarrow.list_(pyarrow.float32()),
    }


def column(kind: str, cells: Sequence[Any]) -> Any:
    """The Arrow array of a column of `kind`; text takes anything, JSON for what is nested."""
    import pyarrow

    values = [FITTING[kind](cell) for cell in cells]
    missing = None in values
    valid = pyarrow.py_buffer(_bits(value is not None for value in values)) if missing else None
    buffers: list[Any] = [valid]
    children = None
    if kind == "boolean":
        buffers.append(pyarrow.py_buffer(_bits(value is True for value in values)))
    elif kind in ("integer", "number"):
        buffers.append(pyarrow.py_buffer(array("q" if kind == "integer" else "d", [one or 0 for one in values])))
    elif kind == "text":
        texts = [one or b"" for one in values]
        buffers += [pyarrow.py_buffer(_offsets(texts)), pyarrow.py_buffer(b"".join(texts))]
    else:
        vectors = [array("f") if one is None else one for one in values]
        numbers = array("f")
        for vector in vectors:
            numbers.extend(vector)
        buffers.append(pyarrow.py_buffer(_offsets(vectors)))
        children = [pyarrow.Array.from_buffers(pyarrow.float32(), len(numbers), [None, pyarrow.py_buffer(numbers)])]
    return pyarrow.Array.from_buffers(types()[kind], len(values), buffers, children=children)


def _offsets(parts: Iterable[Sequence[Any]]) -> array[int]:
    return array("i", accumulate(map(len, parts), initial=0))


def _bits(flags: Iterable[bool]) -> bytes:
    """One bit for each flag, the first the lowest of its byte."""
    text = "".join("1" if flag else "0" for flag in flags)
    return int(text[::-1] or "0", 2).to_bytes(len(text) // 8 + 1, "little")


def _text(value: Any) -> bytes | None:
    """Anything as text; half of a surrogate pair becomes a question mark."""
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.encode("utf-8", "replace")


def _integer(value: Any) -> int | None:
    """A whole number that 64 bits hold."""
    whole = type(value) is int or (type(value) is float and value.is_integer())
    return int(value) if whole and -(1 << 63) <= value < 1 << 63 else None


def _number(value: Any) -> float | None:
    try:
        return float(value) if type(value) in (int, float) else None
    except OverflowError:
        return None


def floats(value: Any) -> array[float] | None:
    """A vector in 32 bits; None for what is none, such as one with a whole number beyond all of them."""
    try:
        return array("f", value) if isinstance(value, list) else None
    except (OverflowError, TypeError):
        return None


# What a cell becomes in a column of its kind; only an answer that no schema judged can fail to fit, or a whole
# number beyond 64 bits, and the answer's text stands beside it.
FITTING: dict[str, Callable[[Any], Any]] = {
    "text": _text,
    "integer": _integer,
    "number": _number,
    "boolean": lambda value: value if type(value) is bool else None,
    "vector": floats,
}
