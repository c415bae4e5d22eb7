"""The engine as a process: it listens, tells where, and ends at once when it is told to or when its parent is gone.

Promises: nothing is announced before it is listened to; no end waits for a model, whose request is run again
by the next engine; the only address listened to is the one that was asked for.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import uvicorn

from doubleword.engine.app import build
from doubleword.engine.models.answer import Responder
from doubleword.engine.models.model import BundledModels
from doubleword.engine.models.openmp import ensure_openmp
from doubleword.engine.models.upstream import Upstream
from doubleword.engine.models.worker import Worker
from doubleword.engine.settings import REALTIME, Prices, Settings
from doubleword.engine.storage.store import Store
from doubleword.failure import Exit, Failure
from doubleword.server.key import read_key

LOOPBACK = ("127.0.0.1", "::1", "localhost")
GRACE_S = 1


def serve(
    data: Path,
    host: str,
    port: int,
    upstream: str | None,
    settings: Settings,
    while_stdin_open: bool,
    listening: Callable[[dict[str, Any]], None],
) -> NoReturn:
    """Serve the API from `data`, call `listening` with the base URL, and end the process with code 0 when stopped.

    Raises `Failure`: exit 2 for what cannot be listened to or used, exit 3 for an open door without a key.
    """
    key = read_key()
    if not key and host not in LOOPBACK:
        hint = "set DOUBLEWORD_API_KEY to the key that clients must send"
        raise Failure(Exit.NO_KEY, "no_key", f"listening on {host} lets other machines in, so it needs a key", hint)
    if upstream is None:
        ensure_openmp(data.resolve())
    responder: Responder = BundledModels() if upstream is None else Upstream(upstream)
    if upstream is None and not settings.account.prices.models:  # what runs on this machine costs nothing
        settings.account.prices = Prices.of({"models": {name: {REALTIME: [0, 0]} for name in responder.models()}})
    store = Store(data)
    app = build(store, responder, settings, Worker(store, responder, settings), key)
    listener = listen(host, port)
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, lifespan="on", ws="none", timeout_graceful_shutdown=GRACE_S
    )
    shown_host = f"[{host}]" if ":" in host else host
    server = _Server(config, lambda: listening({"base_url": f"http://{shown_host}:{listener.getsockname()[1]}/v1"}))
    if while_stdin_open:
        threading.Thread(target=_until_stdin_ends, args=(server,), name="parent-watch", daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn repeats the signal that stopped it
        server.run(sockets=[listener])
    raise Failure(Exit.NOT_FINISHED, "stopped", "stopped before it listened")


class _Server(uvicorn.Server):
    """Tells once it listens, and ends the process once it has shut down."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._announce()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let no thread hold up the end: a model cannot be interrupted, and its request is run again later."""
        await super().shutdown(sockets)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        os._exit(0)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on `host`; port 0 takes a free one. Raises `Failure` (exit 2) where that cannot be.

    The protocol is named because asyncio sends small answers at once only on sockets that name it; the others
    wait 40 ms for an acknowledgement.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(128)
    except (OSError, OverflowError) as error:
        listener.close()
        message = f"cannot listen on {host} port {port}: {error}"
        raise Failure(Exit.BAD_INPUT, "cannot_listen", message, "choose another --port, or 0 for a free one") from None
    return listener


def _until_stdin_ends(server: uvicorn.Server) -> None:
    with contextlib.suppress(OSError):  # an input that was closed from the start has ended too
        while os.read(0, 1024):
            pass
    server.should_exit = True
