"""Servers for tests: any ASGI application, or the embedded engine before a test upstream, on loopback.

`serve(app)` runs an application in a thread. `engine_with_upstream(folder)` runs the embedded engine in this
process, with a programmable upstream that answers at once, so that whole jobs take milliseconds.
`server_process(folder)` runs `local_server.py` as a process of its own, to be stopped and killed.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
import uvicorn
from tests.door import SCRIPTS, environment
from tests.upstream import Upstream

from doubleword.engine.app import build
from doubleword.engine.models.upstream import Upstream as UpstreamResponder
from doubleword.engine.models.worker import Retries, Worker
from doubleword.engine.server import listen
from doubleword.engine.settings import Account, Prices, Settings
from doubleword.engine.storage.ledger import Entry, Ledger
from doubleword.engine.storage.store import Store

KEY = "test-key-0123456789"
QUICK = Retries(most=3, first_wait_s=0.01, longest_wait_s=0.02)
PATIENCE_S = 30.0


class _Server(uvicorn.Server):
    """One that sees within 10 ms that it is to stop, as many tests have an engine of their own."""

    async def main_loop(self) -> None:
        counter = 0
        while not await self.on_tick(counter):
            counter += 1
            await asyncio.sleep(0.01)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's own, which waits for the end of connections a tenth of a second at a time."""
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        ends = time.monotonic() + 1
        while (self.server_state.connections or self.server_state.tasks) and time.monotonic() < ends:
            await asyncio.sleep(0.005)
        for task in self.server_state.tasks:
            task.cancel()
        await self.lifespan.shutdown()


@contextmanager
def serve(app: Any, port: int = 0) -> Iterator[str]:
    """Run an ASGI application on a loopback port, a free one unless told; yields its base URL, `/v1` included."""
    listener = listen("127.0.0.1", port)
    config = uvicorn.Config(app, log_level="critical", lifespan="on", ws="none", timeout_graceful_shutdown=1)
    server = _Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="test-server", daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive(), "the server to start")
        assert server.started, "the server did not start"
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    finally:
        server.should_exit = True
        thread.join(PATIENCE_S)
        listener.close()


@dataclass(frozen=True)
class RunningEngine:
    """An embedded engine that runs: where it listens, the key it takes, and what stands behind it.

    What is changed in `settings` (prices, credits, a cap, lag of the analytics) counts from the next request on.
    """

    base_url: str
    key: str
    upstream: Upstream
    store: Store
    settings: Settings

    def ledger(self) -> list[Entry]:
        """What each answered request used and cost, oldest first."""
        return Ledger(self.store, self.settings.account).entries()

    def call(self, method: str, path: str, **options: Any) -> requests.Response:
        """One HTTP call with the key; `path` begins after /v1."""
        headers = {"Authorization": f"Bearer {self.key}", **options.pop("headers", {})}
        return requests.request(method, f"{self.base_url}{path}", headers=headers, timeout=PATIENCE_S, **options)


@contextmanager
def engine_with_upstream(
    folder: Path,
    *,
    key: str = KEY,
    settings: Settings | None = None,
    retries: Retries = QUICK,
    concurrency: int = 8,
    works: bool = True,
    now: Callable[[], float] = time.time,
    wrap: Callable[[Any], Any] = lambda app: app,
    upstream: Upstream | None = None,
) -> Iterator[RunningEngine]:
    """Run the embedded engine with its data in `folder`, before a test upstream.

    `wrap` may put ASGI middleware around the application, to inject faults; it must pass the lifespan on.
    `works=False` leaves every batch where its creation left it. `now` is the engine's clock.
    """
    told, run_by = upstream or Upstream(), settings or Settings()
    with serve(told.app) as upstream_url:
        store = Store(folder, now)
        responder = UpstreamResponder(upstream_url, concurrency)
        worker = Worker(store, responder, run_by, retries, idle_s=0.02) if works else None
        try:
            with serve(wrap(build(store, responder, run_by, worker, key))) as base_url:
                yield RunningEngine(base_url, key, told, store, run_by)
        finally:
            told.release()
            responder.close()
            store.close()


def priced(models: Mapping[str, Mapping[str, Sequence[float]]], **account: Any) -> Settings:
    """Settings of an engine whose models have prices, by window: [input, output, cached input] USD per million."""
    table = {model: {window: list(price) for window, price in windows.items()} for model, windows in models.items()}
    return Settings(account=Account(Prices.of({"models": table}), **account))


@dataclass(frozen=True)
class ServerProcess:
    """A `local_server.py` that listens: its address, its key, and its process."""

    base_url: str
    key: str
    process: subprocess.Popen[bytes]

    def call(self, method: str, path: str, **options: Any) -> requests.Response:
        """One HTTP call with the key; `path` begins after /v1."""
        headers = {"Authorization": f"Bearer {self.key}", **options.pop("headers", {})}
        return requests.request(method, f"{self.base_url}{path}", headers=headers, timeout=PATIENCE_S, **options)


@contextmanager
def server_process(folder: Path, *arguments: str) -> Iterator[ServerProcess]:
    """Run `local_server.py` on `folder` with a free port; at the end it is killed where it still runs."""
    process = subprocess.Popen(
        [sys.executable, str(SCRIPTS / "local_server.py"), "--data", str(folder), "--while-stdin-open", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment({"DOUBLEWORD_API_KEY": KEY}),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        announced = json.loads(process.stdout.readline())
        assert announced["ok"] is True, announced
        yield ServerProcess(announced["base_url"], KEY, process)
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def end_listening(listener: socket.socket) -> None:
    """Close a socket that a thread waits at, and let the thread go.

    A close alone leaves the thread in its call, which takes the connections of a later listener that got the same
    number as soon as something interrupts it, a stop and its end, say.
    """
    with suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def wait_until(condition: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> Any:
    """The first true value of `condition`; fails the test where it does not come."""
    deadline = time.monotonic() + patience_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {patience_s:g} s for {what}"
        time.sleep(0.01)
    return value
