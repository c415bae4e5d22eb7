"""The network between client and server: calls that fail on the way there or back, answers that come in pieces.

An answer is bytes on a wire, read by Python's own HTTP parser and urllib3 as from a socket; so what a cut, a stall
or a reset does to chunks, gzip streams and characters happens in the code that really runs.
"""

from __future__ import annotations

import gzip
import http.client
import io
import json
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import BaseAdapter, HTTPAdapter
from tests.simulation.records import Reply, Request
from tests.simulation.server import LATEST_COMMIT_S, Server
from tests.simulation.world import CALL_FAULTS, POST_FAULTS, World
from urllib3.exceptions import (
    ConnectTimeoutError,
    MaxRetryError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
)

BASE_URL = "http://127.0.0.1:9/v1"  # loopback, so that no proxy settings are looked up; nothing is ever opened
KEY = "sk-simulated-key-that-must-stay-secret-0123"
GATEWAY_PAGE = b"<html><head><title>Bad gateway</title></head><body>\xe2\x80\xa8nginx</body></html>"
BUILD = HTTPAdapter().build_response


class Network(BaseAdapter):
    """Carries the requests of the client's sessions to a `Server`."""

    def __init__(self, world: World, server: Server) -> None:
        super().__init__()
        self._world = world
        self._server = server

    def close(self) -> None:
        """Nothing is open."""

    def send(self, request: requests.PreparedRequest, *_: Any, **options: Any) -> requests.Response:
        """One call, with whatever happens to it."""
        world = self._world
        parts = urlsplit(request.url or "")
        method, path = str(request.method), parts.path.removeprefix("/v1")
        if f"{parts.scheme}://{parts.netloc}/v1" != BASE_URL:
            if KEY in str(request.headers):
                raise world.finding(f"the key went to {request.url}")
            return self._response(request, self._gateway(503), None, 60.0)
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            raise world.finding("a call went without its key")
        connect_s, read_s = options["timeout"]
        world.session.calls += 1
        world.note("%s %s?%s", method, path, parts.query)
        world.step("call")
        fault = world.fault("call", CALL_FAULTS)
        if method == "POST" and fault is None:
            fault = world.fault("post", POST_FAULTS)
        world.time += world.chance.uniform(0.005, 0.3)
        self._fail_to_connect(fault, request, connect_s)
        whole = _read(request.body, cut=fault == "request cut", world=world)
        if fault == "request cut":
            raise _aborted(ConnectionResetError(104, "Connection reset by peer"), request)
        asked = Request(method, path, parts.query, str(request.headers.get("Content-Type", "")), whole)
        reply = self._answer(fault, asked)
        world.note("  -> %s, %s bytes", reply.status if reply else "no answer", len(reply.body) if reply else 0)
        world.step("reply")
        if reply is None:
            if fault is not None and "timeout" in fault:
                world.time += read_s
                raise requests.ReadTimeout(ReadTimeoutError(None, "", "Read timed out."), request=request)  # type: ignore[arg-type]
            raise _aborted(ConnectionResetError(104, "Connection reset by peer"), request)
        return self._response(request, reply, fault, read_s)

    def _fail_to_connect(self, fault: str | None, request: requests.PreparedRequest, connect_s: float) -> None:
        """Raise what requests raises when there is no connection."""
        url = str(request.url)
        pool: Any = None
        if fault == "connection refused":
            refused = NewConnectionError(pool, "Failed to establish a new connection: [Errno 111] Connection refused")
            raise requests.ConnectionError(MaxRetryError(pool, url, refused), request=request)
        if fault == "DNS failure":
            import socket

            unknown = NameResolutionError("api.test", pool, socket.gaierror(-2, "Name or service not known"))
            raise requests.ConnectionError(MaxRetryError(pool, url, unknown), request=request)
        if fault == "connect timeout":
            self._world.time += connect_s
            late = ConnectTimeoutError(pool, "Connection to api.test timed out.")
            raise requests.ConnectTimeout(MaxRetryError(pool, url, late), request=request)

    def _answer(self, fault: str | None, asked: Request) -> Reply | None:
        """What the server, or something before it, sends; None for silence."""
        world, server = self._world, self._server
        dice = world.chance
        if fault in ("reset before", "timeout before"):
            return None
        if fault == "5xx before":
            return self._gateway(dice.choice((500, 502, 503, 504)))
        if fault == "HTML page":
            return Reply(200, GATEWAY_PAGE, "text/html")
        if fault == "redirect":
            return Reply(307, b"", "location https://elsewhere.test/")
        if fault == "429":
            return Reply(
                429, json.dumps({"error": "too_many_requests", "message": "m", "retry_after_seconds": 3}).encode()
            )
        if fault in ("late after timeout", "late after 5xx", "late after kill"):
            server.later(asked, dice.uniform(0.0, LATEST_COMMIT_S))
            if fault == "late after kill":
                world.kill()
            return None if fault == "late after timeout" else self._gateway(504)
        reply = server.handle(asked)
        if fault in ("reset after", "timeout after"):
            return None
        if fault == "5xx after":
            return self._gateway(dice.choice((500, 502, 503, 504)))
        return reply

    def _gateway(self, status: int) -> Reply:
        """An error that says nothing about whether the server acted."""
        return self._world.chance.choice(
            (
                Reply(status, GATEWAY_PAGE, "text/html"),
                Reply(status, b"Internal server error", "text/plain"),
                Reply(status, b'{"error":"service_unavailable","message":"m","retry_after_seconds":3}'),
                Reply(status, b'{"error":{"message":"m","code":"x"}}'),
                Reply(status, b"", "text/plain"),
            )
        )

    def _response(
        self, request: requests.PreparedRequest, reply: Reply, fault: str | None, read_s: float
    ) -> requests.Response:
        """`reply` as it arrives: in chunks or not, compressed or not, and perhaps never to its end."""
        dice = self._world.chance
        answer = http.client.HTTPResponse(wire := _Wire(self._world, read_s), method=str(request.method))  # type: ignore[arg-type]
        headers = answer.headers = answer.msg = http.client.HTTPMessage()
        answer.version, answer.status, answer.reason = 11, reply.status, "Reason"
        answer.chunked, answer.length, answer.will_close = False, None, False
        if reply.content_type.startswith("location "):
            headers["Location"] = reply.content_type.removeprefix("location ")
        else:
            headers["Content-Type"] = reply.content_type
        if reply.status == 429 and dice.random() < 0.7:
            headers["Retry-After"] = dice.choice(("2", "40", "0", "soon", "Fri, 31 Dec 1999 23:59:59 GMT"))
        body = reply.body
        if dice.random() < 0.3:
            body = gzip.compress(body, 1, mtime=0)
            headers["Content-Encoding"] = "gzip"
        framing = dice.random()
        if framing < 0.4:
            headers["Transfer-Encoding"] = "chunked"
            answer.chunked, answer.chunk_left = True, None
            size = 1 + len(body) // dice.choice((1, 2, 9))
            pieces = [body[at : at + size] for at in range(0, len(body), size)]
            body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
        elif framing < 0.9 or not reply.rows:
            headers["Content-Length"] = str(len(body))
            answer.length = len(body)
        else:
            answer.will_close = True  # the end of the connection is the end of the body, cut or not
        wire.carry(body, fault, dice.randrange(len(body)) if body else 0)
        return BUILD(
            request,
            urllib3.HTTPResponse(
                body=answer,
                headers=urllib3.HTTPHeaderDict(headers.items()),
                status=answer.status,
                reason=answer.reason,
                preload_content=False,
                decode_content=False,
                request_method=str(request.method),
            ),
        )


class _Wire(io.RawIOBase):
    """What a socket would give for a body; it can end early, go silent, or give a few bytes at a time."""

    def __init__(self, world: World, read_s: float) -> None:
        self._world = world
        self._session = world.session
        self._read_s = read_s
        self._bytes = b""
        self._at = 0
        self._fault: str | None = None

    def carry(self, body: bytes, fault: str | None, until: int) -> None:
        """Bring `body`, or with some faults only its bytes `until` there."""
        self._fault = fault
        self._bytes = body[:until] if fault in ("reply cut", "reply stalls", "reply reset") else body

    def makefile(self, *_: Any) -> io.BufferedReader:
        """As a socket's."""
        return io.BufferedReader(self, 65_536)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._session.dead or self._session.over:
            return 0
        size = len(buffer)
        if self._fault == "reply drips":
            size = max(1, len(self._bytes) // 20)
            self._world.time += min(20.0, self._read_s * 0.9)
        piece = self._bytes[self._at : self._at + min(size, len(buffer))]
        if not piece and self._fault == "reply stalls":
            self._world.time += self._read_s
            raise TimeoutError("timed out")
        if not piece and self._fault == "reply reset":
            raise ConnectionResetError(104, "Connection reset by peer")
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)


def _read(body: Any, cut: bool, world: World) -> bytes:
    """The body of a request as urllib3 would send it; of one that is cut, only the beginning is asked for."""
    if body is None or isinstance(body, (bytes, str)):
        return body.encode() if isinstance(body, str) else body or b""
    sent = bytearray()
    for block in body:
        world.step("sending")
        sent += block
        if cut:
            break
    return bytes(sent)


def _aborted(error: OSError, request: requests.PreparedRequest) -> requests.ConnectionError:
    return requests.ConnectionError(ProtocolError("Connection aborted.", error), request=request)
