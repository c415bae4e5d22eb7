"""Bytes kept on disk until their turn comes: written one after the other, read again in any order.

Promises: what was kept comes back as it was given; the file has no name while it is used, so that it goes with the
process, also of a kill.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import BinaryIO

from doubleword.system import Disk


class Spool:
    """A temporary file at `path`, there while the `with` block lasts."""

    def __init__(self, path: Path, disk: Disk) -> None:
        self._path = path
        self._disk = disk
        self._file: BinaryIO | None = None
        self._end = 0

    def __enter__(self) -> Spool:
        # Of a run that was killed another process may still write there: it keeps the file, and loses the name.
        self._disk.remove(self._path)
        self._file = self._disk.create(self._path, 0o600)
        with contextlib.suppress(OSError):  # Windows keeps the name of an open file
            self._disk.remove(self._path)
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # what was not written yet is not needed any more
            if self._file is not None:
                self._file.close()
        with contextlib.suppress(OSError):
            self._disk.remove(self._path)

    def clear(self) -> None:
        """Forget everything."""
        assert self._file is not None, "a spool is used inside its with block"
        self._file.seek(0)
        self._end = 0

    def add(self, kept: bytes) -> int:
        """Keep bytes, and say where they start. Nothing is read before `settle`."""
        assert self._file is not None, "a spool is used inside its with block"
        self._file.write(kept)
        start, self._end = self._end, self._end + len(kept)
        return start

    def settle(self) -> None:
        """Write what is pending, so that it can be read."""
        assert self._file is not None, "a spool is used inside its with block"
        self._file.flush()

    def read(self, start: int, length: int) -> bytes:
        """The `length` bytes that were kept at `start`."""
        assert self._file is not None, "a spool is used inside its with block"
        return self._disk.read_at(self._file, start, length)
