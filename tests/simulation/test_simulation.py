"""The simulation itself: many seeds keep every promise, a seed is always the same life, and a planted bug is found."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from tests.simulation.agent import live
from tests.simulation.disk import SimulatedDisk
from tests.simulation.survey import survey_of

from doubleword.output_file import WholeFile

SEEDS = 800  # each of the rare faults comes a dozen times and more in them
STATES = {
    "server: a call took effect after its client had given up",
    "server: cancelled",
    "server: expired",
    "server: failed",
    "job: attempt 2 creating",
    "job: retry asking",
    "error: submit batch_file_changed",
    "error: submit job_busy",
    "error: submit payment_required",
    "exit: fetch 0",
    "exit: fetch 6",
    "exit: submit killed",
}


def test_no_seed_breaks_a_promise() -> None:
    """Whole jobs under faults, kills and power cuts, on servers in three moods; and every fault really fired."""
    found = survey_of(0, SEEDS)
    assert found.findings == []
    assert found.missed == []
    assert {state for state in STATES if not found.reached[state]} == set()


def test_a_seed_is_always_the_same_life() -> None:
    """The whole record is equal in another process, where text hashes otherwise."""
    root = Path(__file__).parents[2]
    words = [sys.executable, "-m", "tests.simulation", "--seed", "7"]
    env = {**os.environ, "PYTHONHASHSEED": "1"}
    told = subprocess.run(words, cwd=root, env=env, capture_output=True, text=True, check=True).stdout
    assert told.splitlines()[:-1] == "\n".join(live(7, keep=True).trace).splitlines()


def no_fsync(self: SimulatedDisk, file: BinaryIO) -> None:
    file.flush()


def written_over(self: WholeFile) -> WholeFile:
    self._temporary = self.path
    self._file = self._disk.create(self.path, self._mode)
    return self


def nothing_found(*_: Any) -> None:
    return None


BUGS: list[tuple[str, Any, str]] = [
    ("doubleword.server.errors.ApiError.may_have_happened", property(lambda _: False), "paid twice"),
    ("doubleword.jobs.exactly_once.Traces._find_batch", nothing_found, "paid twice"),
    ("doubleword.jobs.exactly_once.SETTLE_S", 0.0, "paid twice"),
    ("doubleword.output_file.WholeFile.__enter__", written_over, "does not load"),
    ("doubleword.jobs.job_file.JobFile.save", nothing_found, ""),
    ("tests.simulation.disk.SimulatedDisk.sync", no_fsync, "does not load"),
]


@pytest.mark.parametrize(("place", "bug", "finding"), BUGS, ids=[place for place, _, _ in BUGS])
def test_a_planted_bug_is_found(monkeypatch: pytest.MonkeyPatch, place: str, bug: Any, finding: str) -> None:
    """A simulation that finds nothing in broken code proves nothing about good code."""
    monkeypatch.setattr(place, bug)
    found = (live(seed).finding for seed in range(400))
    assert any(one is not None and finding in one for one in found)
