"""Whether a custom_id was used before, for millions of them, in about five bytes each.

Promises: what is called used was used, exactly; what is used twice never passes. In a first reading only the hashes
of ids are kept, so that two ids may look the same; a second reading, told which, settles it.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator

BUCKETS = 1024
HASHED = 0x3FFFFFFFFFF  # 42 bits: the bucket, and what is kept there


class SeenIds:
    """The ids of one reading. `suspects` are hashes, as `repeated` of an earlier reading gave them.

    None stands for all of them: for what can be read only once, at the price of keeping every id.
    """

    def __init__(self, suspects: frozenset[int] | None = frozenset()) -> None:
        # Equal hashes are rare; they cost a reading, no more.
        self._buckets = [array("I") for _ in range(BUCKETS)]
        self._suspects = suspects
        self._known: set[str] = set()

    def is_used(self, custom_id: str) -> bool:
        """Note `custom_id`; whether it was noted before, so far as it is one of the suspects."""
        if self._suspects is not None:
            self.note([custom_id])
            if not self._suspects or hash(custom_id) & HASHED not in self._suspects:
                return False
        if custom_id in self._known:
            return True
        self._known.add(custom_id)
        return False

    def note(self, custom_ids: Iterable[str]) -> None:
        """Note many, whichever were noted before; `repeated` tells."""
        buckets = self._buckets
        for hashed in map(hash, custom_ids):
            buckets[hashed & (BUCKETS - 1)].append((hashed >> 10) & 0xFFFFFFFF)

    def suspected(self, custom_ids: Iterable[str]) -> list[str]:
        """Those of `custom_ids` that are among the suspects."""
        suspects = self._suspects
        return [one for one in custom_ids if hash(one) & HASHED in suspects] if suspects else []

    def kept(self) -> list[bytes]:
        """What is kept of all ids, for another instance in a process of the same origin to `take`."""
        return [bucket.tobytes() for bucket in self._buckets]

    def take(self, kept: list[bytes]) -> None:
        """Note what another instance noted."""
        for bucket, more in zip(self._buckets, kept, strict=True):
            bucket.frombytes(more)

    def repeated(self) -> frozenset[int]:
        """The hashes that were noted more than once: of every id that was, and perhaps of a few others."""
        return frozenset(self._twice())

    def _twice(self) -> Iterator[int]:
        for number, bucket in enumerate(self._buckets):
            seen: set[int] = set()
            if len(bucket) > 1 and len(set(bucket)) < len(bucket):
                for kept in bucket:
                    if kept in seen:
                        yield kept << 10 | number
                    seen.add(kept)
