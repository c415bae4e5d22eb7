"""Custom ids that were used before, told exactly in little memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from pytest import MonkeyPatch

from doubleword.seen_ids import SeenIds


def used(ids: list[str]) -> list[bool]:
    """Which of `ids` are used before, by as many readings as it takes."""
    suspects: frozenset[int] = frozenset()
    while True:
        seen = SeenIds(suspects)
        found = [seen.is_used(one) for one in ids]
        if seen.repeated() <= suspects:
            return found
        suspects |= seen.repeated()


def by_a_set(ids: list[str]) -> list[bool]:
    """The same by keeping all of them."""
    return [one in ids[:number] for number, one in enumerate(ids)]


@given(st.lists(st.sampled_from([f"row-{number}" for number in range(12)]), max_size=24))
def test_an_id_is_used_when_it_stood_before(ids: list[str]) -> None:
    """Neither too often nor too seldom, in whatever order they come."""
    assert used(ids) == by_a_set(ids)


def test_ids_that_look_the_same_are_told_apart(monkeypatch: MonkeyPatch) -> None:
    """Where different ids have equal hashes nothing is refused but what is used twice."""
    monkeypatch.setattr("doubleword.seen_ids.hash", len, raising=False)
    ids = ["a", "b", "a", "cc", "dd", "e", "a", "dd"]
    assert used(ids) == by_a_set(ids)


def test_many_ids_take_one_reading() -> None:
    """Two hundred thousand different ids leave at most a stray suspect."""
    seen = SeenIds()
    assert not any(seen.is_used(f"row-{number:07d}") for number in range(200_000))
    assert len(seen.repeated()) <= 2
