"""Who may work on a partition: claims, renewed, taken over from the dead alone, and lost with all that follows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.clock import Clocked

from doubleword.dataset import claims
from doubleword.dataset.claims import LEASE_S, LOOK_S, Claim, claimed, read_state, state_path
from doubleword.dataset.places import Folder
from doubleword.failure import Failure

PART = "lang=de/part-0.parquet"


class Waking(Clocked):
    """A system in whose pauses another holder gives a sign of life."""

    other: Claim | None = None

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        if self.other is not None:
            self.other.beat()


@pytest.fixture
def system() -> Waking:
    return Waking()


@pytest.fixture
def place(tmp_path: Path, system: Waking) -> Folder:
    return Folder(tmp_path, system)


def taken(place: Folder, system: Waking) -> Claim:
    """A claim of a process of which this machine has no lock."""
    claim = Claim(place, PART, system)
    claim.take()
    return claim


def test_a_claim_ends_with_its_block(place: Folder, system: Waking) -> None:
    """Also by an exception; what was noted stays."""
    with pytest.raises(KeyError), claimed(place, PART, system) as claim:
        claim.save(begun=True)
        raise KeyError
    state = read_state(place, PART)
    assert state is not None and (state.holder, state.begun) == (None, True)
    with claimed(place, PART, system) as claim:
        assert claim.state.begun
    assert system.slept == []


def test_who_lives_is_left_alone(place: Folder, system: Waking) -> None:
    """A sign of life is enough, however long ago the claim was made."""
    system.other = taken(place, system)
    with pytest.raises(Failure) as busy:
        Claim(place, PART, system).take()
    assert (busy.value.code, system.slept) == ("part_busy", [LOOK_S])


def test_who_gives_no_sign_is_taken_for_dead_in_the_end(place: Folder, system: Waking) -> None:
    """And not before; it then knows that it lost the claim, and writes nothing."""
    first = taken(place, system)
    second = taken(place, system)
    assert LEASE_S <= sum(system.slept) < LEASE_S + LOOK_S
    with pytest.raises(Failure) as lost:
        first.confirm()
    assert lost.value.code == "part_busy" and not first.beat()
    second.confirm()
    state = read_state(place, PART)
    assert state is not None and state.holder == second.state.holder


def test_a_holder_whose_lock_is_here_and_free_is_dead(place: Folder, system: Waking, tmp_path: Path) -> None:
    """Then nothing is waited for; while the lock is held, it is."""
    first = taken(place, system)
    lock = claims._lock(first.state.holder or "")
    with system.disk.lock(lock):
        assert not claims._is_dead(first.state.holder or "", system)
    lock.touch()
    taken(place, system)
    assert system.slept == [] and not lock.exists()


def test_of_two_that_take_over_one_does(place: Folder, system: Waking) -> None:
    """The other sees that somebody else holds it now."""
    taken(place, system)
    found = place.read(state_path(PART))
    assert found is not None
    assert place.replace(state_path(PART), b"{}", found.tag)
    assert not place.replace(state_path(PART), b"[]", found.tag)
    assert not place.create(state_path(PART), b"[]")
    again = place.read(state_path(PART))
    assert again is not None and again.content == b"{}"


@pytest.mark.parametrize("content", ["", "[]", '{"holder": null}', json.dumps({"holder": 1})])
def test_a_damaged_state_is_refused(content: str, place: Folder, system: Waking) -> None:
    """And never guessed at, since what was begun may have been paid."""
    place.write(state_path(PART), content.encode())
    with pytest.raises(Failure) as refused:
        Claim(place, PART, system).take()
    assert refused.value.code == "state_damaged"
