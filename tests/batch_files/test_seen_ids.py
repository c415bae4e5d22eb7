"""Whether a custom_id was used before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from doubleword.batch_files.seen_ids import SeenIds


@given(st.lists(st.text(max_size=2)))
def test_what_is_used_twice_is_found_in_the_second_reading(ids: list[str]) -> None:
    """Exactly that, with the place of its first use; without any there is no second reading."""
    first = SeenIds[tuple[int]]()
    first.note(ids)
    suspects = first.repeated()
    assert bool(suspects) == (len(set(ids)) < len(ids))
    second = SeenIds[tuple[int]](suspects)
    found = [second.used_at(one, (at,)) for at, one in enumerate(ids)]
    assert found == [(ids.index(one),) if ids.index(one) < at else None for at, one in enumerate(ids)]
    assert not second.repeated()


def test_ids_that_only_look_alike_are_told_apart() -> None:
    """Only their hashes are kept at first."""
    seen = SeenIds[tuple[int]](frozenset({hash("a"), hash("b")}))
    assert [seen.used_at(one, (at,)) for at, one in enumerate(["a", "b", "c", "a"])] == [None, None, None, (0,)]
