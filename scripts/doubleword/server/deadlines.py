"""Connections that give up an answer whose head comes in drops.

Promises: the head of an answer is there within twice the time that one read may take, or the connection ends as
one that broke. A read's timeout alone does not promise that: it begins anew with each byte.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.response import HTTPResponse


def make_impatient(manager: PoolManager) -> None:
    """Let `manager` make such connections only."""
    manager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}


class _Connection(HTTPConnection):
    def getresponse(self) -> HTTPResponse:  # type: ignore[override]
        with _limited(self):
            return super().getresponse()


class _SecureConnection(HTTPSConnection):
    def getresponse(self) -> HTTPResponse:  # type: ignore[override]
        with _limited(self):
            return super().getresponse()


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


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
