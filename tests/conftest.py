"""Options of the test run."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the contract suite judge another server than the embedded engine."""
    group = parser.getgroup("contract", "the contract suite")
    group.addoption("--server", metavar="URL", help="run tests/contract on this server, with DOUBLEWORD_API_KEY")
    group.addoption("--chat-model", metavar="ID", help="a chat model of that server (default: its first model)")
    group.addoption("--embedding-model", metavar="ID", help="an embedding model of that server")
