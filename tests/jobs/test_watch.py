"""Watching: how often it looks, when it finds the end, and what it says is done."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from tests.clock import Clocked

from doubleword.cli import Progress
from doubleword.commands.delete_files import delete_files
from doubleword.commands.list_batches import is_in
from doubleword.commands.poll import report
from doubleword.failure import Exit, Failure
from doubleword.jobs.exactly_once import SETTLE_S
from doubleword.jobs.job_file import InputFile, Intended, Job, JobFile, Retry
from doubleword.jobs.watching import Answering, look, remarks, status_of, watch
from doubleword.server.api import Api
from doubleword.server.objects import Batch


def batch(status: str = "in_progress", total: int = 100, completed: int = 0, failed: int = 0, **more: Any) -> Batch:
    given: dict[str, Any] = {
        "id": "b1",
        "endpoint": "/v1/chat/completions",
        "input_file_id": "f",
        "output_file_id": "o",
    }
    given |= {"error_file_id": "e", "window": "24h", "created_at": None, "expires_at": None, "ended_at": None} | more
    return Batch(status=status, total=total, completed=completed, failed=failed, **given)


class Server:
    """Stands in for `Api`: one batch whose progress is a function of the seconds since it began."""

    def __init__(self, system: Clocked, progress: Callable[[float], float], lasts_s: float) -> None:
        self.system = system
        self.began = system.now()
        self.progress = progress
        self.lasts_s = lasts_s
        self.calls = 0
        self.patience_s = 0.0
        self.until: float | None = None

    def batch(self, _id: str, known: bool = False) -> Batch:
        self.calls += 1
        age = self.system.now() - self.began
        if age >= self.lasts_s:
            return batch("completed", 10_000, 10_000)
        return batch("in_progress", 10_000, int(10_000 * self.progress(age / self.lasts_s)))


def watched(server: Server, wait_s: float = 2e6) -> float:
    """Seconds from the end of the batch to the look that found it."""
    progress = Progress(server.system.monotonic, io.StringIO())
    (seen,) = watch(cast(Api, server), ["b1"], None, wait_s, server.system, progress)
    assert seen.terminal
    return server.system.now() - server.began - server.lasts_s


@pytest.mark.parametrize("dice", [0.0, 0.999])
@pytest.mark.parametrize("hours", [0.1, 1, 5, 24])
@pytest.mark.parametrize(
    "progress",
    [lambda _: 0.0, lambda x: x, lambda x: x**4, lambda x: 1 - (1 - x) ** 4, lambda x: min(x * 2, 0.9999)],
    ids=["none", "steady", "late", "early", "stuck"],
)
def test_the_end_is_found_within_two_percent_by_at_most_400_looks(
    progress: Callable[[float], float], hours: float, dice: float
) -> None:
    """Whatever shape the progress has, a day costs at most 400 looks and the end is seen in time."""
    server = Server(Clocked(dice=dice), progress, hours * 3600)
    late = watched(server)
    assert late <= 0.02 * server.lasts_s + 0.01
    assert server.calls <= 400


def test_a_wait_ends_when_it_was_asked_to() -> None:
    """A batch that never ends holds nobody longer than --wait, and one look costs no pause."""
    server = Server(Clocked(), lambda _: 0.0, 1e9)
    progress = Progress(server.system.monotonic, io.StringIO())
    for wait_s in (0.0, 60.0):
        began = server.system.now()
        (seen,) = watch(cast(Api, server), ["b1"], None, wait_s, server.system, progress)
        assert not seen.terminal
        assert server.system.now() - began == pytest.approx(wait_s)


class Listing:
    """Stands in for `Api`: a list of batches, and single ones."""

    def __init__(self, listed: list[Batch]) -> None:
        self.listed = listed
        self.singles: list[str] = []

    def batches(self, search: str) -> Iterator[Batch]:
        yield from self.listed

    def batch(self, batch_id: str, known: bool = False) -> Batch:
        self.singles.append(batch_id)
        return batch(id=batch_id)


def test_many_batches_come_by_one_list_call_in_their_order() -> None:
    """Those that the list does not hold are asked for one by one."""
    server = Listing([batch(id="b3"), batch(id="foreign"), batch(id="b1")])
    job = Job("j", 1.0, "https://server.test/v1", None, "24h", {}, [], [])
    assert [one.id for one in look(cast(Api, server), ["b1", "b2", "b3"], Clocked(), job)] == ["b1", "b2", "b3"]
    assert server.singles == ["b2"]


@pytest.mark.parametrize(
    ("status", "kept"),
    [
        (None, ["validating", "completed", "late", "cancelling", "cancelled", "expired"]),
        ("in_progress", ["validating", "cancelling"]),
        ("completed", ["completed", "late"]),
        ("cancelled", ["cancelling", "cancelled"]),
        ("expired", ["late", "expired"]),
        ("failed", []),
    ],
)
def test_a_list_is_filtered_where_the_server_does_not(status: str | None, kept: list[str]) -> None:
    """By the meaning that the control layer gives to each word; OpenAI lists all whatever is asked."""
    states = ["validating", "completed", "cancelling", "cancelled", "expired"]
    every = [batch(state, id=state, expires_at=100, ended_at=50 if state == "completed" else None) for state in states]
    every.insert(2, batch("completed", id="late", expires_at=100, ended_at=200))
    assert [one.id for one in every if is_in(one, status, now=60.0)] == kept


@pytest.mark.parametrize(
    ("states", "word"),
    [
        (["completed", "completed"], "completed"),
        (["completed", "in_progress"], "in_progress"),
        (["validating"], "validating"),
        (["completed", "expired", "cancelled"], "expired"),
    ],
)
def test_one_word_for_many_batches(states: list[str], word: str) -> None:
    """The worst end is named, and no end while anything runs."""
    assert status_of([batch(state) for state in states]) == word


@pytest.mark.parametrize(
    ("seen", "exit_code"),
    [
        (batch("in_progress"), Exit.NOT_FINISHED),
        (batch("cancelling"), Exit.NOT_FINISHED),
        (batch("completed", 100, 80, 20), Exit.SOME_FAILED),
        (batch("completed", 100, 80, 0), Exit.SOME_FAILED),
        (batch("expired", 100, 80, 0), Exit.SOME_FAILED),
        (batch("cancelled", 100, 80, 0), Exit.SOME_FAILED),
        (batch("failed", 100, 0, 100), Exit.SOME_FAILED),
        (batch("completed", 0, 0, 0), Exit.SOME_FAILED),
    ],
)
def test_nothing_is_called_done_that_is_not(seen: Batch, exit_code: Exit) -> None:
    """A status word alone never makes a success: the counts have to add up, and to more than nothing."""
    with pytest.raises(Failure) as raised:
        report([seen], None, Clocked(), "b1")
    assert raised.value.exit_code == exit_code
    assert raised.value.keys["counts"]["total"] == seen.total


def test_a_batch_that_is_done_says_so() -> None:
    """All requests succeeded: exit 0, with the age of the batch."""
    system = Clocked()
    keys = report([batch("completed", 3, 3, created_at=int(system.now()) - 60)], None, system, "b1")
    assert keys["done"] is True
    assert keys["counts"] == {"total": 3, "completed": 3, "failed": 0}
    assert keys["elapsed_s"] == 60


def test_states_that_never_end_are_told() -> None:
    """Cancelling or validating for long, or running past the window: the facts stand in the warnings."""
    now = 1_000_000.0
    assert remarks(batch("cancelling", created_at=1), now)
    assert remarks(batch("validating", created_at=1), now)
    assert remarks(batch("in_progress", created_at=1, expires_at=500_000), now)
    assert not remarks(batch("in_progress", created_at=999_990, expires_at=2_000_000), now)


class Set(Clocked):
    """Whose time of day is set another way, by `step_s`, after its first pause."""

    step_s = 0.0

    def now(self) -> float:
        return super().now() + (self.step_s if self.slept else 0.0)


@pytest.mark.parametrize("step_s", [-86_400.0, 0.0, 86_400.0])
def test_a_clock_that_is_set_changes_no_wait_for_late_answers(step_s: float) -> None:
    """Those of a batch that was cancelled just now are waited for as long as they may take, and no longer."""
    system = Set()
    system.step_s = step_s
    cancelled = batch("cancelled", 2, 1, ended_at=int(system.now()))

    class Cancelled(Listing):
        def batch(self, batch_id: str, known: bool = False) -> Batch:
            assert len(system.slept) < 20
            return cancelled

    (asked,) = Answering(None, ["b1"], cast(Api, Cancelled([])), system, lambda _: None).over("b1")
    assert asked.batches == (cancelled,)
    assert sum(system.slept) == pytest.approx(SETTLE_S)


def test_a_batch_that_the_server_retries_keeps_its_files(tmp_path: Path) -> None:
    """A replica that lags shows the end before the retry; without its input file the retry would be cancelled."""
    system = Clocked()
    before: dict[str, int | None] = {"completed": 1, "failed": 1, "ended_at": 5}
    file = InputFile("a.jsonl", 1, "", 2, "/v1/x")
    one = Intended("k", 0, file, state="created", file_id="f", batch_id="b1")
    one.retries.append(Retry(system.now(), "asked", before))
    job = Job("j", 1.0, "https://server.test/v1", None, "24h", {}, [file], [one])
    store = JobFile(tmp_path / "a.job.json", job, system.disk)

    class Lagging(Listing):
        def batch(self, batch_id: str, known: bool = False) -> Batch:
            return batch("completed", 2, 1, 1, ended_at=5)

        def delete_file(self, file_id: str) -> None:
            raise AssertionError(f"{file_id} was deleted")

    with pytest.raises(Failure) as raised:
        delete_files(cast(Api, Lagging([])), store, system)
    assert raised.value.exit_code == Exit.NOT_FINISHED
