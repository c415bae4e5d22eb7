"""Whether a custom_id was used before, for millions of them.

Promises: what is used twice never passes, and what is called used was used. A first reading keeps eight bytes of each
id; only where two look alike is there need for a second one, which is told of them and is exact.
"""

from __future__ import annotations

import itertools
import operator
from array import array
from collections.abc import Iterable
from typing import Generic, TypeVar

Place = TypeVar("Place")


class SeenIds(Generic[Place]):
    """The ids of one reading. `suspects` are what the reading before called `repeated`, None in the first one."""

    def __init__(self, suspects: frozenset[int] | None = None) -> None:
        self.is_first = suspects is None
        self._suspects = suspects or frozenset()
        self._hashes = array("q")
        self._first: dict[str, Place] = {}

    def note(self, custom_ids: Iterable[str]) -> None:
        """Take note of ids in a first reading."""
        self._hashes.extend(map(hash, custom_ids))

    def used_at(self, custom_id: str, place: Place) -> Place | None:
        """Where an id was used before, in a second reading; None where it was not, and `place` is its first."""
        if hash(custom_id) not in self._suspects:
            return None
        first = self._first.setdefault(custom_id, place)
        return first if first is not place else None

    def repeated(self) -> frozenset[int]:
        """The hashes that more than one id of a first reading has; empty after a second one."""
        hashes = sorted(self._hashes)
        alike = map(operator.eq, hashes, itertools.islice(hashes, 1, None))
        return frozenset(itertools.compress(hashes, alike))
