"""What the fault tests share: an engine on the clients' clock, a gate before it, a desk before the gate.

One engine serves all tests of a module, since starting one takes longer than a whole job; each test finds it empty.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.clock import Clocked
from tests.engine_process import RunningEngine, engine_with_upstream
from tests.faults.gate import Gate, gate_before
from tests.faults.rooms import Desk, Unsynced, emptied


@pytest.fixture(scope="package")
def time_of_all() -> Clocked:
    return Clocked(Unsynced())


@pytest.fixture(scope="package")
def running(tmp_path_factory: pytest.TempPathFactory, time_of_all: Clocked) -> Iterator[RunningEngine]:
    with engine_with_upstream(tmp_path_factory.mktemp("engine"), now=time_of_all.now) as engine:
        yield engine


@pytest.fixture
def clock(time_of_all: Clocked) -> Clocked:
    time_of_all.slept.clear()
    return time_of_all


@pytest.fixture
def engine(running: RunningEngine) -> RunningEngine:
    emptied(running)
    return running


@pytest.fixture
def gate(engine: RunningEngine, clock: Clocked) -> Iterator[Gate]:
    with gate_before(engine.base_url, clock) as opened:
        yield opened


@pytest.fixture
def desk(tmp_path: Path, gate: Gate, clock: Clocked) -> Desk:
    folder = tmp_path / "desk"
    folder.mkdir()
    return Desk(folder, gate.base_url, clock)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A read times out after half a second instead of sixty; sockets know no other clock."""
    monkeypatch.setattr("doubleword.server.sending.READ_TIMEOUT_S", 0.5)
