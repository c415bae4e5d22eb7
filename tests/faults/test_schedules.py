"""Random faults over whole jobs, over real HTTP; `python -m tests.faults` plays many more."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, note, settings
from tests.faults.schedules import SCHEDULES, Schedule, Trials, said, trials


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trials]:
    with trials(tmp_path_factory.mktemp("schedules")) as running:
        yield running


@settings(max_examples=100, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(SCHEDULES)
def test_whatever_happens_every_request_is_answered_and_paid_once(played: Trials, schedule: Schedule) -> None:
    """Faults, stops and full disks; when they have ended, the scripts reach the end and the counts are as intended."""
    note(said(schedule))
    played.play(schedule)


def test_the_schedules_meet_what_they_are_made_of(played: Trials) -> None:
    """A hundred schedules in which nothing happens would prove nothing."""
    covered = played.covered
    assert covered.trials >= 100
    assert sum(covered.fired.values()) > 100 and len(covered.fired) > 15
    assert {"submit 0", "submit 7", "poll 0", "poll 6", "fetch_results 0", "fetch_results 6"} <= set(covered.codes)
