"""Bytes kept on disk until their turn comes: written one after the other, read again in any order.

Promises: what was kept comes back as it was given; the file has no name while it is used, so that it goes with the
process, also of a kill.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from doubleword.system import Disk

BLOCK = 1 << 20
SMALL = 1 << 24  # so much is read at once
# A place is where something starts and, in 32 bits, its length.
LENGTH_BITS = 32
LENGTH = (1 << LENGTH_BITS) - 1


class Spool:
    """A temporary file at `path`, there while the `with` block lasts."""

    _file: BinaryIO

    def __init__(self, path: Path, disk: Disk) -> None:
        self._path = path
        self._disk = disk
        self._pending: list[bytes] = []
        self._pending_bytes = self._end = 0
        self._whole = b""

    def __enter__(self) -> Spool:
        # Of a run that was killed another process may still write there: it keeps the file, and loses the name.
        self._disk.remove(self._path)
        self._file = self._disk.create(self._path, 0o600)
        with contextlib.suppress(OSError):  # Windows keeps the name of an open file
            self._disk.remove(self._path)
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # what was not written yet is not needed any more
            self._file.close()
        with contextlib.suppress(OSError):
            self._disk.remove(self._path)

    def clear(self) -> None:
        """Forget everything."""
        self._file.seek(0)
        self._pending.clear()
        self._pending_bytes = self._end = 0
        self._whole = b""

    def add(self, kept: bytes) -> int:
        """Keep bytes, and say in which place, a number. Nothing is read before `settle`."""
        size = len(kept)
        self._pending.append(kept)
        self._pending_bytes += size
        place = self._end << LENGTH_BITS | size
        self._end += size
        if self._pending_bytes > BLOCK:
            self._write()
        return place

    def settle(self) -> None:
        """Write what is pending, so that all can be read; a little is held in memory from then on."""
        self._write()
        self._file.flush()
        self._whole = self._disk.read_at(self._file, 0, self._end) if self._end <= SMALL else b""

    def read_all(self, places: Sequence[int]) -> list[bytes]:
        """What was kept in each of `places`."""
        whole, file = self._whole, self._file
        if whole:
            return [whole[(start := place >> LENGTH_BITS) : start + (place & LENGTH)] for place in places]
        return [self._disk.read_at(file, place >> LENGTH_BITS, place & LENGTH) for place in places]

    def _write(self) -> None:
        self._file.write(b"".join(self._pending))
        self._pending.clear()
        self._pending_bytes = 0
