"""Whether a custom_id was used before, for millions of them, in about five bytes each.

Promises: what is called used was used, exactly; what is used twice never passes. In a first reading only the hashes
of ids are kept, so that two ids may look the same; a second reading, told which, settles it.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator

BUCKETS = 1024


class SeenIds:
    """The ids of one reading. `suspects` are hashes, as `repeated` of an earlier reading gave them.

    None stands for all of them: for what can be read only once, at the price of keeping every id.
    """

    def __init__(self, suspects: frozenset[int] | None = frozenset()) -> None:
        # A hash of 42 bits: its bucket and what is kept there. Equal hashes are rare; they cost a reading, no more.
        self._buckets = [array("I") for _ in range(BUCKETS)]
        self._suspects = suspects
        self._known: set[str] = set()

    def is_used(self, custom_id: str) -> bool:
        """Note `custom_id`; whether it was noted before, so far as it is one of the suspects."""
        if self._suspects is not None:
            hashed = hash(custom_id)
            self._buckets[hashed & (BUCKETS - 1)].append((hashed >> 10) & 0xFFFFFFFF)
            if not self._suspects or hashed & 0x3FFFFFFFFFF not in self._suspects:
                return False
        if custom_id in self._known:
            return True
        self._known.add(custom_id)
        return False

    def repeated(self) -> frozenset[int]:
        """The hashes that were noted more than once: of every id that was, and perhaps of a few others."""
        return frozenset(self._twice())

    def _twice(self) -> Iterator[int]:
        for number, bucket in enumerate(self._buckets):
            seen: set[int] = set()
            if len(set(bucket)) < len(bucket):
                for kept in bucket:
                    if kept in seen:
                        yield kept << 10 | number
                    seen.add(kept)
