"""run_dataset.py killed at every write, fsync, rename, lock and call, and run again: each partition is paid once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from tests.clock import Clocked
from tests.dataset.sources import ASK, flat, parts_of, rows
from tests.engine_process import KEY, RunningEngine, wait_until
from tests.faults.crash_driver import Driver, driver
from tests.faults.gate import Gate
from tests.faults.rooms import Desk, batch_count, emptied, finished

MOST_EVENTS = 400
STRIDE = 17


@pytest.fixture(scope="module")
def crasher() -> Iterator[Driver]:
    with driver() as running:
        yield running


def enumerate_kills(
    numbers: Iterator[int] | range,
    lose: bool,
    crasher: Driver,
    gate: Gate,
    clock: Clocked,
    desk: Desk,
    engine: RunningEngine,
) -> set[str]:
    """Kill at each event that `numbers` give, run again with the work folder kept or lost; the events died at."""
    killed: set[str] = set()
    env = {"DOUBLEWORD_API_KEY": KEY, "DOUBLEWORD_BASE_URL": gate.base_url}
    for number in numbers:
        emptied(engine)
        own = Desk(desk.folder / f"kill-{number}", desk.base_url, desk.system)
        shutil.rmtree(own.folder, ignore_errors=True)
        flat(own.folder / "src", 1, rows=2)
        end = crasher.run(own.folder, env, clock.now(), number, "run_dataset", ["src", "out", *ASK])
        wait_until(lambda: gate.idle, "the killed process's requests to be served")
        if not end.killed:
            assert end.code == 0
            break
        killed.add(end.events[-1])
        if lose:
            shutil.rmtree(own.folder / "out" / "_work", ignore_errors=True)
        again = own.run("run_dataset", "src", "out", *ASK)
        assert (again.code, again.json["counts"]["succeeded"]) == (0, 2), (number, end.events, again)
        finished(engine)
        assert (batch_count(engine), engine.upstream.count()) == (1, 2), (number, end.events)
        assert parts_of(own.folder / "out") == ["part-000.parquet"], (number, end.events)
        assert [row["answer"] for row in rows(own.folder / "out")] == ["answer to: p0-0?", "answer to: p0-1?"]
    else:
        assert numbers.step > 1 if isinstance(numbers, range) else True
    return killed


@pytest.mark.parametrize("lose", [False, True], ids=["kept", "lost"])
def test_killed_at_some_events(
    lose: bool, crasher: Driver, gate: Gate, clock: Clocked, desk: Desk, engine: RunningEngine
) -> None:
    """One batch, each row once, whether the work folder is there again or not."""
    killed = enumerate_kills(range(3 + lose, MOST_EVENTS, STRIDE), lose, crasher, gate, clock, desk, engine)
    assert len(killed) > 3


@pytest.mark.cluster
@pytest.mark.parametrize("lose", [False, True], ids=["kept", "lost"])
def test_killed_at_every_event(
    lose: bool, crasher: Driver, gate: Gate, clock: Clocked, desk: Desk, engine: RunningEngine
) -> None:
    """The same, at each of them."""
    events = {"call", "block of an upload", "replace part-000.parquet", "replace part-000.job.json"}
    killed = enumerate_kills(range(1, MOST_EVENTS), lose, crasher, gate, clock, desk, engine)
    if not events <= killed:  # a batch that was done one look sooner moved all later events, one of them past its kill
        killed |= enumerate_kills(range(1, MOST_EVENTS), lose, crasher, gate, clock, desk, engine)
    assert events <= killed
