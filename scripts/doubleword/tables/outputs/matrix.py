"""Embeddings as one NumPy matrix: a float32 `.npy` file with a row for each request, and their ids beside it.

Promises: rows stand in the order of the requests, in the file of ids as in the matrix; a request without a vector
has a row of NaN; everything is written as it comes, in memory that does not grow with the number of rows. NumPy
itself is not needed to write one.

The format is version 1.0 of NumPy's own description (numpy.lib.format).
"""

from __future__ import annotations

import array
import sys
from collections.abc import Sequence

from doubleword.failure import Exit, Failure, plain
from doubleword.output_file import WholeFile

ALIGNED = 64


class Matrix:
    """A matrix of `rows` rows, and the custom_id of each on a line of `ids`.

    How wide it is the first vector says; nothing is written before it. Raises Failure (2) for vectors of unlike length.
    """

    def __init__(self, file: WholeFile, ids: WholeFile, rows: int) -> None:
        self._file = file
        self._ids = ids
        self._rows = rows
        self._added = 0
        self._width: int | None = None

    def add(self, custom_id: str, vector: Sequence[float] | None) -> None:
        """Append one row; None, and what no float32 holds, becomes NaN."""
        self._ids.write(" ".join(custom_id.splitlines()).encode("utf-8", "replace") + b"\n")
        numbers = _floats(vector) if vector else None
        if numbers is not None and self._width is None:
            self._open(len(numbers))
        if numbers is not None and len(numbers) != self._width:
            message = f"the vector of {plain(custom_id, 64)} has {len(numbers)} numbers, others {self._width}"
            hint = "a matrix needs vectors of one length; fetch them with --format parquet or jsonl"
            raise Failure(Exit.BAD_INPUT, "unlike_vectors", message, hint)
        self._write(numbers)
        self._added += 1

    def end(self) -> None:
        """Write what waits, where no vector came at all; raises Failure (2) for another number of rows than said."""
        if self._width is None:
            self._open(0)
        if self._added != self._rows:
            message = f"there are {self._added} rows, and the batches say {self._rows}"
            raise Failure(Exit.BAD_INPUT, "rows_unknown", message, "fetch them with --format parquet or jsonl")

    def _open(self, width: int) -> None:
        self._width = width
        self._file.write(header(self._rows, width))
        for _ in range(self._added):
            self._write(None)

    def _write(self, numbers: array.array[float] | None) -> None:
        if self._width is None:
            return
        if numbers is None:
            numbers = array.array("f", [float("nan")] * self._width)
        if sys.byteorder == "big":
            numbers.byteswap()
        self._file.write(numbers.tobytes())


def _floats(vector: Sequence[float]) -> array.array[float] | None:
    try:
        return array.array("f", vector)
    except (OverflowError, TypeError):
        return None


def header(rows: int, width: int) -> bytes:
    """What stands before the numbers of a float32 matrix, little end first, in the order of C."""
    described = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {width}), }}".encode()
    start = b"\x93NUMPY\x01\x00"
    length = -(-(len(start) + 2 + len(described) + 1) // ALIGNED) * ALIGNED - len(start) - 2
    return start + length.to_bytes(2, "little") + described.ljust(length - 1) + b"\n"
