"""Options of the test run, and what it needs of the process it runs in."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# The many scripts that tests start share their bytecode, also where whoever runs the tests keeps none.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
SIMULATION = Path(__file__).parent / "simulation"
# How long an example takes says how busy the machine is, not whether the code is right.
settings.register_profile("patient", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def pytest_configure(config: pytest.Config) -> None:
    """Scripts under test hear Ctrl-C even where a shell started the run in the background, deaf to it.

    Servers of tests are on this machine, which a proxy of the environment does not reach.
    """
    if config.getoption("--server") is None:
        for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
            del os.environ[name]
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The simulation, which takes longest, comes first, so that no core waits for it in the end."""
    items.sort(key=lambda item: not item.path.is_relative_to(SIMULATION))


@pytest.fixture
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripts in this process look again at once at a batch that the engine answers in milliseconds."""
    monkeypatch.setattr("doubleword.jobs.watching.FIRST_WAIT_S", 0.02)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the contract suite judge another server than the embedded engine."""
    group = parser.getgroup("contract", "the contract suite")
    group.addoption("--server", metavar="URL", help="run tests/contract on this server, with DOUBLEWORD_API_KEY")
    group.addoption("--chat-model", metavar="ID", help="a chat model of that server (default: its first model)")
    group.addoption("--embedding-model", metavar="ID", help="an embedding model of that server")
    group.addoption(
        "--upstream-port", metavar="N", type=int, help="where that server asks its models: let tests answer"
    )
    group.addoption("--streamed", action="store_true", help="judge the embedded engine with streamed dispatch")
