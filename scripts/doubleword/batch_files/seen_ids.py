"""Whether a custom_id was used before, for millions of them.

Promises: what is used twice never passes, and what is called used was used. A first reading keeps eight bytes of each
id; only where two look alike is there need for a second one, which is told of them and is exact.
"""

from __future__ import annotations

from array import array
from typing import Generic, TypeVar

BUCKETS = 64
_BITS = (1 << 64) - 1

Place = TypeVar("Place")


class SeenIds(Generic[Place]):
    """The ids of one reading. `suspects` are what the reading before called `repeated`, None in the first one."""

    def __init__(self, suspects: frozenset[int] | None = None) -> None:
        self._suspects = suspects
        self._hashes = [array("Q") for _ in range(BUCKETS)]
        self._first: dict[str, Place] = {}

    def used_at(self, custom_id: str, place: Place) -> Place | None:
        """Take note of an id at `place`; where it was used before, in a second reading, None where it was not."""
        number = hash(custom_id) & _BITS
        if self._suspects is None:
            self._hashes[number % BUCKETS].append(number)
            return None
        if number not in self._suspects:
            return None
        first = self._first.setdefault(custom_id, place)
        return first if first is not place else None

    def repeated(self) -> frozenset[int]:
        """The hashes that more than one id of a first reading has; empty after a second one."""
        found: set[int] = set()
        for hashes in self._hashes:
            unlike = set(hashes)
            if len(unlike) < len(hashes):
                for number in hashes:
                    if number in unlike:
                        unlike.remove(number)
                    else:
                        found.add(number)
        return frozenset(found)
