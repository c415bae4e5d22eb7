"""Lines kept on disk until their turn comes: written one after the other, read again in any order.

Promises: a line comes back as it was given; little of all this is in memory; the file goes at the end, also of a kill.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from doubleword.system import Disk

BLOCK = 1 << 20


class Spool:
    """A temporary file at `path`, there while the `with` block lasts."""

    def __init__(self, path: Path, disk: Disk) -> None:
        self._path = path
        self._disk = disk
        self._file: BinaryIO | None = None
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._end = 0

    def __enter__(self) -> Spool:
        # Of a run that was killed another process may still write there: it keeps the file, and loses the name.
        self._disk.remove(self._path)
        self._file = self._disk.create(self._path, 0o600)
        with contextlib.suppress(OSError):  # a file without a name goes with its process; Windows keeps the name
            self._disk.remove(self._path)
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # what was not written yet is not needed any more
            if self._file is not None:
                self._file.close()
        with contextlib.suppress(OSError):
            self._disk.remove(self._path)

    def clear(self) -> None:
        """Forget all lines."""
        assert self._file is not None, "a spool is used inside its with block"
        self._pending.clear()
        self._pending_bytes = self._end = 0
        self._file.seek(0)

    def add(self, line: bytes) -> int:
        """Keep `line`, and say where it starts."""
        return self.add_all([line])[0]

    def add_all(self, lines: Sequence[bytes]) -> list[int]:
        """Keep each of `lines`, and say where they start."""
        starts = list(itertools.accumulate(map(len, lines), initial=self._end))
        end = starts.pop()
        self._pending += lines
        self._pending_bytes += end - self._end
        self._end = end
        if self._pending_bytes >= BLOCK:
            self._write()
        return starts

    def settle(self) -> int:
        """Write what is pending, so that every line can be read, by a process that shares the file too; how many bytes
        there are.
        """
        assert self._file is not None, "a spool is used inside its with block"
        if self._pending:
            self._write()
        self._file.flush()
        return self._end

    def line(self, start: int, length: int) -> bytes:
        """The `length` bytes that were kept at `start`, before `settle`."""
        assert self._file is not None, "a spool is used inside its with block"
        return self._disk.read_at(self._file, start, length)

    def _write(self) -> None:
        assert self._file is not None, "a spool is used inside its with block"
        self._file.seek(self._end - self._pending_bytes)
        self._file.write(b"".join(self._pending))
        self._pending.clear()
        self._pending_bytes = 0
