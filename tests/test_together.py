"""Works done at once: so many and no more, none begun after a failure, and the first failure told."""

from __future__ import annotations

import threading

import pytest

from doubleword.system import System


@pytest.mark.parametrize("at_once", [1, 3, 20])
def test_so_many_are_done_at_once_and_all_in_the_end(at_once: int) -> None:
    """A work ends only when as many as may be under way have met, so fewer would never end."""
    most = min(at_once, 9)
    meeting = threading.Barrier(most, timeout=20.0)
    counting, now, peak, done = threading.Lock(), 0, 0, []

    def work(number: int) -> None:
        nonlocal now, peak
        with counting:
            now += 1
            peak = max(peak, now)
        if number < most:
            meeting.wait()
        with counting:
            now -= 1
            done.append(number)

    System().together([lambda number=number: work(number) for number in range(9)], at_once)  # type: ignore[misc]
    assert (sorted(done), peak) == (list(range(9)), most)


@pytest.mark.parametrize("at_once", [1, 2])
def test_after_a_failure_none_is_begun(at_once: int) -> None:
    """The two that were under way end; the earlier one's failure is raised, though it came later."""
    begun, failed = [], threading.Event()

    def work(number: int) -> None:
        begun.append(number)
        if number == 1:
            failed.set()
            raise ValueError("the second")
        if number == 0 and at_once == 2:
            assert failed.wait(20.0)
        raise ValueError("the first")

    with pytest.raises(ValueError, match="the first"):
        System().together([lambda number=number: work(number) for number in range(5)], at_once)  # type: ignore[misc]
    assert sorted(begun) == list(range(at_once))
