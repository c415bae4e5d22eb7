"""Connections that give up an answer whose head comes in drops.

Promises: the head of an answer is there within twice the time that one read may take, or the connection ends as
one that broke. A read's timeout alone does not promise that: it begins anew with each byte.
"""

from __future__ import annotations

import contextlib
import functools
import socket
import threading
from collections.abc import Iterator
from typing import Any

from urllib3 import HTTPConnectionPool, PoolManager
from urllib3.connection import HTTPConnection
from urllib3.response import HTTPResponse


def make_impatient(manager: PoolManager) -> None:
    """Let `manager` make such connections only, each of the kind that it made before (plain, TLS, SOCKS)."""
    pools = manager.pool_classes_by_scheme
    manager.pool_classes_by_scheme = {scheme: _impatient(pool) for scheme, pool in pools.items()}


@functools.cache
def _impatient(pool: type[HTTPConnectionPool]) -> type[HTTPConnectionPool]:
    kind: Any = pool.ConnectionCls

    class Connection(kind):  # type: ignore[misc]
        def getresponse(self) -> HTTPResponse:
            with _limited(self):
                answer: HTTPResponse = super().getresponse()
                return answer

    return type(pool.__name__, (pool,), {"ConnectionCls": Connection})


@contextlib.contextmanager
def _limited(connection: HTTPConnection) -> Iterator[None]:
    """End the connection's socket after twice its timeout, unless the block ends before."""
    if connection.sock is None or not isinstance(connection.timeout, (int, float)):
        yield
        return
    timer = threading.Timer(2 * connection.timeout, _end, [connection.sock])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _end(plain_or_secure: socket.socket) -> None:
    with contextlib.suppress(OSError):
        socket.socket.shutdown(plain_or_secure, socket.SHUT_RDWR)  # below any encryption, whose state is not ours
