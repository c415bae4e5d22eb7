"""Custom ids that were used before, told exactly in little memory."""

from __future__ import annotations

import errno
import functools
import io
import marshal
from collections.abc import Callable
from typing import Any, BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest import MonkeyPatch

from doubleword.batch_files import seen_ids
from doubleword.batch_files.seen_ids import SeenIds
from doubleword.system import Disk


def used(ids: list[str], scratch: Callable[[], BinaryIO] | None = None) -> list[bool]:
    """Which of `ids` are used before, by as many readings as it takes."""
    suspects: frozenset[int] = frozenset()
    while True:
        seen = SeenIds(suspects, scratch)
        found = [seen.is_used(one) for one in ids]
        repeated = seen.repeated()
        if repeated <= suspects:
            return found
        suspects |= repeated


def by_a_set(ids: list[str]) -> list[bool]:
    """The same by keeping all of them."""
    return [one in ids[:number] for number, one in enumerate(ids)]


@given(st.lists(st.sampled_from([f"row-{number}" for number in range(12)]), max_size=24))
def test_an_id_is_used_when_it_stood_before(ids: list[str]) -> None:
    """Neither too often nor too seldom, in whatever order they come."""
    assert used(ids) == by_a_set(ids)


def test_ids_that_look_the_same_are_told_apart(monkeypatch: MonkeyPatch) -> None:
    """Where different ids have equal hashes nothing is refused but what is used twice."""
    monkeypatch.setattr("doubleword.batch_files.seen_ids.hash", len, raising=False)
    ids = ["a", "b", "a", "cc", "dd", "e", "a", "dd"]
    assert used(ids) == by_a_set(ids)


def test_many_ids_take_one_reading() -> None:
    """Two hundred thousand different ids leave at most a stray suspect."""
    seen = SeenIds()
    assert not any(seen.is_used(f"row-{number:07d}") for number in range(200_000))
    assert len(seen.repeated()) <= 2


@given(st.lists(st.sampled_from([f"row-{number}" for number in range(12)]), max_size=24), st.integers(0, 5))
def test_hashes_that_wait_on_disk_count_too(ids: list[str], most: int) -> None:
    """However few fit into memory."""
    with MonkeyPatch.context() as patch:
        patch.setattr(seen_ids, "MOST", most)
        assert used(ids, Disk().scratch) == by_a_set(ids)


@given(st.lists(st.sampled_from([f"row-{number}" for number in range(40)]), max_size=24), st.integers(0, 24))
def test_what_two_noted_is_put_together(ids: list[str], half: int) -> None:
    """With files of their own or none."""
    with MonkeyPatch.context() as patch, Disk().scratch() as first, Disk().scratch() as second:
        patch.setattr(seen_ids, "MOST", 2)
        for files in ((first, second), (None, None)):
            both = SeenIds()
            for part, file in zip((ids[:half], ids[half:]), files, strict=True):
                one = SeenIds(scratch=None if file is None else functools.partial(lambda same: same, file))
                for name in part:
                    one.note([name])
                both.take(marshal.loads(marshal.dumps(one.kept())), file)
            assert bool(both.repeated()) == (len(set(ids)) < len(ids))


def test_a_full_disk_leaves_them_in_memory(monkeypatch: MonkeyPatch) -> None:
    """What was written before can still be read."""
    monkeypatch.setattr(seen_ids, "MOST", 1)
    ids = ["a", "b", "c", "d", "e", "a", "c", "x", "b"]
    for left in range(4):
        assert used(ids, functools.partial(_Full, left)) == by_a_set(ids)


def test_a_file_that_lost_something_is_an_error(monkeypatch: MonkeyPatch) -> None:
    """Or an id that is used twice would pass."""
    monkeypatch.setattr(seen_ids, "MOST", 1)
    file = io.BytesIO()
    seen = SeenIds(scratch=lambda: file)
    for name in ("a", "b", "c", "a", "d", "e"):
        assert not seen.is_used(name)
    file.truncate(8)
    with pytest.raises(OSError, match="lost"):
        seen.repeated()


class _Full(io.BytesIO):
    """Takes so many writes."""

    def __init__(self, left: int) -> None:
        super().__init__()
        self.left = left

    def write(self, data: Any) -> int:
        if self.left == 0:
            raise OSError(errno.ENOSPC, "no space")
        self.left -= 1
        return super().write(data)
