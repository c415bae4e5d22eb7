"""Whether a custom_id was used before, for any number of them, in memory that does not grow with it.

Promises: what is called used was used, exactly; what is used twice never passes. In a first reading only the hashes
of ids are kept, so that two ids may look the same; a second reading, told which, settles it. Of very many the hashes
wait on disk.
"""

from __future__ import annotations

import contextlib
import errno
import os
from array import array
from collections.abc import Callable, Collection, Iterator
from typing import BinaryIO

BUCKETS = 1024
MOST = 1 << 19  # so many are in memory, in eight bytes each

# Hashes in a file: where they begin, and how many bytes each bucket has.
Written = tuple[int, list[int]]


class SeenIds:
    """The ids of one reading. `suspects` are hashes, as `repeated` of an earlier reading gave them.

    None stands for all of them: for what can be read only once, at the price of keeping every id. `scratch` makes a
    file for hashes; without one, or where it cannot be written, all are in memory.
    """

    def __init__(
        self, suspects: frozenset[int] | None = frozenset(), scratch: Callable[[], BinaryIO] | None = None
    ) -> None:
        # Equal hashes are rare; they cost a reading, no more.
        self._buckets = _empty()
        self._noted = 0
        self._suspects = suspects
        self._known: set[str] = set()
        self._scratch = scratch
        self._file: BinaryIO | None = None
        self._written: list[tuple[BinaryIO, Written]] = []

    def is_used(self, custom_id: str) -> bool:
        """Note `custom_id`; whether it was noted before, so far as it is one of the suspects."""
        if self._suspects is not None:
            self.note([custom_id])
            if not self._suspects or hash(custom_id) not in self._suspects:
                return False
        if custom_id in self._known:
            return True
        self._known.add(custom_id)
        return False

    def note(self, custom_ids: Collection[str]) -> None:
        """Note many, whichever were noted before; `repeated` tells."""
        buckets = self._buckets
        for hashed in map(hash, custom_ids):
            buckets[hashed & (BUCKETS - 1)].append(hashed)
        self._noted += len(custom_ids)
        if self._noted > MOST and self._scratch is not None:
            try:
                self._write()
            except OSError:  # a full disk; what is there already can still be read
                self._scratch = None

    def _write(self) -> None:
        """Move what is in memory to the file."""
        if self._file is None and self._scratch is not None:
            self._file = self._scratch()
        assert self._file is not None, "only what has a file is written"
        start = self._file.seek(0, os.SEEK_END)
        lengths = [self._file.write(bucket.tobytes()) for bucket in self._buckets]
        self._file.flush()
        self._written.append((self._file, (start, lengths)))
        self._buckets, self._noted = _empty(), 0

    def suspected(self, custom_ids: Collection[str]) -> list[str]:
        """Those of `custom_ids` that are among the suspects."""
        suspects = self._suspects
        return [one for one in custom_ids if hash(one) in suspects] if suspects else []

    def kept(self) -> tuple[list[bytes], list[Written]]:
        """What is kept of all ids, in memory and in the file, for another instance in a process of the same origin to
        `take`; raises OSError where what began to be written cannot be.
        """
        if self._written:
            self._write()
        return [bucket.tobytes() for bucket in self._buckets], [written for _, written in self._written]

    def take(self, kept: tuple[list[bytes], list[Written]], file: BinaryIO | None) -> None:
        """Note what another instance noted, whose scratch was `file`."""
        inside, written = kept
        for bucket, more in zip(self._buckets, inside, strict=True):
            bucket.frombytes(more)
        if file is not None:
            self._written += [(file, one) for one in written]

    def repeated(self) -> frozenset[int]:
        """The hashes that were noted more than once: of every id that was, and perhaps of a few others.

        Asked once, in the end: all is forgotten then. Raises OSError where hashes cannot be read again.
        """
        try:
            return frozenset(self._twice())
        finally:
            with contextlib.suppress(OSError):
                if self._file is not None:
                    self._file.close()

    def _twice(self) -> Iterator[int]:
        starts = [start for _, (start, _) in self._written]
        for number, bucket in enumerate(self._buckets):
            for at, (file, (_, lengths)) in enumerate(self._written):
                file.seek(starts[at])
                kept = file.read(lengths[number])
                if len(kept) < lengths[number]:
                    raise OSError(errno.EIO, "a temporary file lost what was written to it")
                bucket.frombytes(kept)
                starts[at] += lengths[number]
            seen: set[int] = set()
            if len(bucket) > 1 and len(set(bucket)) < len(bucket):
                for hashed in bucket:
                    if hashed in seen:
                        yield hashed
                    seen.add(hashed)
            self._buckets[number] = array("q")


def _empty() -> list[array[int]]:
    return [array("q") for _ in range(BUCKETS)]
