"""A gate between client and server, on loopback sockets, that does to HTTP what networks and gateways do to it.

`Gate(base_url)` passes every request on to a real server until a rule says otherwise. A rule names a route
("upload", "create", "content", …), which call of that route it meets, and what happens to it: the connection
is reset before or after the server acted, the reply is lost, cut, replaced, held back, or never comes. What a
web server library cannot do (a reset, half a body, bytes that are no HTTP) is done here on the bare socket.
"""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import os
import re
import socket
import ssl
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from tests.clock import Clocked
from tests.engine_process import end_listening

ROUTES = (
    ("upload", "POST", r"/v1/files"),
    ("files", "GET", r"/v1/files"),
    ("content", "GET", r"/v1/files/[^/]+/content"),
    ("file", "GET", r"/v1/files/[^/]+"),
    ("create", "POST", r"/v1/batches"),
    ("batches", "GET", r"/v1/batches"),
    ("batch", "GET", r"/v1/batches/[^/]+"),
    ("cancel", "POST", r"/v1/batches/[^/]+/cancel"),
    ("retry", "POST", r"/v1/batches/[^/]+/retry"),
    ("models", "GET", r"/v1/models"),
)
# What a hop keeps to itself; the gate frames bodies anew.
HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}
PAGE = b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"


def route_of(method: str, path: str) -> str:
    """The route's name, "other" for what the client never calls."""
    return next((name for name, verb, form in ROUTES if verb == method and re.fullmatch(form, path)), "other")


@dataclass(frozen=True)
class Asked:
    """A request as it came; `body` is None while it is unread. `target` holds path and query."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes | None = None

    @property
    def route(self) -> str:
        """The route's name."""
        return route_of(self.method, self.target.partition("?")[0])

    def header(self, name: str) -> str:
        """A header's value, empty where there is none."""
        return next((value for key, value in self.headers if key.lower() == name), "")


@dataclass(frozen=True)
class Reply:
    """A whole answer: status, end-to-end headers, body."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    def with_json(self, value: Any) -> Reply:
        """The same answer with another JSON body."""
        return replace(self, body=json.dumps(value).encode())


def page(status: int, body: bytes = PAGE, kind: str = "text/html", **headers: str) -> Reply:
    """What a gateway answers by itself; `Retry_After="5"` becomes the header Retry-After."""
    named = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return Reply(status, (("Content-Type", kind), *named), body)


class Ended(Exception):
    """The connection is over."""


class Exchange:
    """One request on one client connection, and everything that can be done with it."""

    def __init__(self, gate: Gate, connection: socket.socket, asked: Asked, early: bytes) -> None:
        self.gate = gate
        self.asked = asked
        self._connection = connection
        self._early = early

    def read_body(self, share: float = 1.0) -> None:
        """Take `share` of the request's body off the connection; all of it before anything is passed on."""
        size = int(int(self.asked.header("content-length") or 0) * share)
        body = self._early
        while len(body) < size:
            block = self._connection.recv(1 << 18)
            if not block:
                raise Ended
            body += block
        self._early = body
        if share == 1.0:
            self.asked = replace(self.asked, body=body)

    def forward(self) -> Reply:
        """Let the server act, and keep its answer."""
        if self.asked.body is None:
            self.read_body()
        return self.gate.passed_on(self.asked)

    def send(self, reply: Reply, framing: str = "length", cut: int | None = None) -> None:
        """Send an answer framed by `length`, `chunked`, or the `close` of the connection.

        With `cut` only so many bytes of the body are sent, and the connection ends; `compressed` bodies come
        with a Content-Encoding header among the reply's own.
        """
        head = [f"HTTP/1.1 {reply.status} Answer", *(f"{name}: {value}" for name, value in reply.headers)]
        body = reply.body if cut is None else reply.body[:cut]
        if framing == "chunked":
            head.append("Transfer-Encoding: chunked")
            step = max(1, len(reply.body) // 3)
            parts = [reply.body[at : at + step] for at in range(0, len(reply.body), step)]
            whole = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
            body = whole if cut is None else whole[:cut]
        elif framing == "length":
            head.append(f"Content-Length: {len(reply.body)}")
        ends = cut is not None or framing == "close"
        if ends:
            head.append("Connection: close")
        self.send_raw("\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body)
        if ends:
            self.close()

    def send_raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        try:
            self._connection.sendall(data)
        except OSError:
            raise Ended from None

    @property
    def descriptor(self) -> int:
        """The socket itself, below any encryption."""
        return self._connection.fileno()

    def reset(self) -> None:
        """End the connection by RST: what was sent and not yet read may be lost too."""
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise Ended

    def close(self) -> None:
        """End the connection by FIN."""
        raise Ended

    def stall(self) -> None:
        """Keep the connection open and say nothing until the client leaves."""
        with contextlib.suppress(OSError):
            while self._connection.recv(1 << 16):
                pass
        raise Ended


Act = Callable[[Exchange], None]


@dataclass
class Rule:
    """What happens to calls `nth` to `nth + times - 1` of `route`, counted from when the rule was made."""

    route: str
    act: Act
    nth: int = 1
    times: int = 1
    seen: int = 0
    fired: int = 0

    def meets(self, asked: Asked) -> bool:
        """Count a call, and say whether this rule is for it."""
        if self.route not in (asked.route, "any"):
            return False
        self.seen += 1
        return self.nth <= self.seen < self.nth + self.times


@dataclass
class Deferred:
    """A request that a gateway gave up on and the server takes up later all the same."""

    asked: Asked
    due: float


@dataclass
class Gate:
    """The gate before the server at `target`, a base URL that ends in /v1. The time is that of `clock`.

    `log` holds every request that came, `passed` those the server heard of, with their bodies. `watch` is told of
    each request before anything happens; `server` answers instead of the real one.
    """

    target: str
    clock: Clocked
    log: list[Asked] = field(default_factory=list)
    passed: list[Asked] = field(default_factory=list)
    rules: list[Rule] = field(default_factory=list)
    deferred: list[Deferred] = field(default_factory=list)
    fired: Counter[str] = field(default_factory=Counter)
    watch: Callable[[Asked], None] | None = None
    server: Callable[[Asked], Reply] | None = None
    tls: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        self._host = urlsplit(self.target).netloc
        self._guard = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, name="gate", daemon=True).start()

    @property
    def port(self) -> int:
        """Where the gate listens."""
        return int(self._listener.getsockname()[1])

    @property
    def base_url(self) -> str:
        """What the client is given."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def idle(self) -> bool:
        """Whether every client has left, and all that they asked for is done."""
        return not self._open

    def on(self, route: str, act: Act, nth: int = 1, times: int = 1) -> Rule:
        """Add a rule; the first one that meets a call is carried out."""
        rule = Rule(route, act, nth, times)
        with self._guard:
            self.rules.append(rule)
        return rule

    def calm(self) -> None:
        """No more faults; what was held back reaches the server now."""
        with self._guard:
            self.rules.clear()
        self.catch_up(everything=True)

    def calls(self, route: str) -> int:
        """How many requests of `route` came."""
        return sum(1 for asked in list(self.log) if asked.route == route)

    def passed_on(self, asked: Asked) -> Reply:
        """The server's own answer."""
        self.passed.append(asked)
        return self.server(asked) if self.server is not None else self.real(asked)

    def real(self, asked: Asked) -> Reply:
        """The answer of the server at `target`, whoever else answers now."""
        connection = http.client.HTTPConnection(self._host, timeout=30)
        try:
            connection.putrequest(asked.method, asked.target, skip_host=True, skip_accept_encoding=True)
            for name, value in asked.headers:
                if name.lower() not in HOP:
                    connection.putheader(name, value)
            if asked.body or asked.method != "GET":
                connection.putheader("Content-Length", str(len(asked.body or b"")))
            connection.endheaders(asked.body or None)
            answer = connection.getresponse()
            body = answer.read()
            headers = tuple((name, value) for name, value in answer.getheaders() if name.lower() not in HOP)
            return Reply(answer.status, headers, body)
        finally:
            connection.close()

    def catch_up(self, everything: bool = False) -> None:
        """Pass on what was held back and is due."""
        with self._guard:
            due = [one for one in self.deferred if everything or one.due <= self.clock.now()]
            self.deferred = [one for one in self.deferred if one not in due]
        for one in due:
            self.passed_on(one.asked)

    def close(self) -> None:
        """Listen no more and drop every connection."""
        end_listening(self._listener)
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(connection,), name="gate-connection", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        self._open.add(connection)
        try:
            if self.tls is not None:
                self._open.discard(connection)
                connection = self.tls.wrap_socket(connection, server_side=True)
                self._open.add(connection)
            rest = b""
            while True:
                asked, rest = _head(connection, rest)
                exchange = Exchange(self, connection, asked, rest)
                self._one(exchange)
                rest = b""
        except (Ended, OSError, http.client.HTTPException):
            pass
        finally:
            self._open.discard(connection)
            connection.close()

    def _one(self, exchange: Exchange) -> None:
        self.catch_up()
        with self._guard:
            self.log.append(exchange.asked)
            met = [rule for rule in self.rules if rule.meets(exchange.asked)]
        if self.watch is not None:
            self.watch(exchange.asked)
        if met:
            met[0].fired += 1
            self.fired[getattr(met[0].act, "__name__", "act")] += 1
            met[0].act(exchange)
        else:
            exchange.send(exchange.forward())


@contextlib.contextmanager
def gate_before(target: str, clock: Clocked) -> Iterator[Gate]:
    """A gate that is closed when the block ends."""
    gate = Gate(target, clock)
    try:
        yield gate
    finally:
        gate.close()


def _head(connection: socket.socket, data: bytes) -> tuple[Asked, bytes]:
    while b"\r\n\r\n" not in data:
        block = connection.recv(1 << 16)
        if not block:
            raise Ended
        data += block
    head, _, rest = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ", 2)
    headers = tuple((name, value.strip()) for name, _, value in (line.partition(":") for line in lines))
    return Asked(method, target, headers), rest


# --- what can happen ------------------------------------------------------------------------------------------


def reset_before(exchange: Exchange) -> None:
    """The connection is reset once the request was read; the server never hears of it."""
    exchange.read_body()
    exchange.reset()


def reset_inside_request(exchange: Exchange) -> None:
    """The connection is reset while the request is being sent."""
    exchange.read_body(0.5)
    exchange.reset()


def closed_unread(exchange: Exchange) -> None:
    """The connection is closed as an idle one is, before the request is read."""
    exchange.close()


def reply_lost(exchange: Exchange) -> None:
    """The server acts; its answer is lost by a reset."""
    exchange.forward()
    exchange.reset()


def reply_closed(exchange: Exchange) -> None:
    """The server acts; the connection closes without an answer."""
    exchange.forward()
    exchange.close()


def reply_stalled(exchange: Exchange) -> None:
    """The server acts; the answer never comes."""
    exchange.forward()
    exchange.stall()


def stalled(exchange: Exchange) -> None:
    """Nothing is passed on, and no answer ever comes."""
    exchange.read_body()
    exchange.stall()


def garbage(exchange: Exchange) -> None:
    """The server acts; what comes back is not HTTP."""
    exchange.forward()
    exchange.send_raw(b"\x00\xff\x1b]0;owned\x07 not http at all\r\n\r\n")
    exchange.close()


def bad_record(exchange: Exchange) -> None:
    """The server acts; what comes back through the secure connection is no record of it."""
    exchange.forward()
    os.write(exchange.descriptor, b"HTTP/1.1 400 Bad Request\r\n\r\n")
    exchange.stall()


def page_instead(exchange: Exchange) -> None:
    """The server acts; a gateway answers 200 with a page of its own."""
    exchange.forward()
    exchange.send(page(200, b"<html>\n<title>Please sign in</title>\n</html>\n"))


def half_json(exchange: Exchange) -> None:
    """The server acts; its answer arrives halved, with a Content-Length that fits the half."""
    reply = exchange.forward()
    exchange.send(replace(reply, body=reply.body[: len(reply.body) // 2]))


def reply_cut(exchange: Exchange) -> None:
    """The server acts; the connection ends in the middle of its answer."""
    reply = exchange.forward()
    exchange.send(reply, cut=len(reply.body) // 2)


def gateway(status: int, acts: bool, body: bytes = PAGE, kind: str = "text/html", **headers: str) -> Act:
    """A gateway answers with `status`; the server has acted, or never heard of it."""

    def answered(exchange: Exchange) -> None:
        if acts:
            exchange.forward()
        else:
            exchange.read_body()
        exchange.send(page(status, body, kind, **headers))

    answered.__name__ = f"status_{status}_{'after' if acts else 'before'}"
    return answered


def later(seconds: float) -> Act:
    """A gateway gives up with 504, and the server takes the request up `seconds` later."""

    def late(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.gate.deferred.append(Deferred(exchange.asked, exchange.gate.clock.now() + seconds))
        exchange.send(page(504))

    return late


def lag(seconds: float) -> Act:
    """A read replica that has not yet seen what was created in the last `seconds`."""

    def lagging(exchange: Exchange) -> None:
        reply = exchange.forward()
        value = json.loads(reply.body) if reply.status == 200 else {}
        unseen = exchange.gate.clock.now() - seconds
        if "data" in value:
            value["data"] = [one for one in value["data"] if one["created_at"] < unseen]
            reply = reply.with_json(value)
        elif value.get("created_at", 0) >= unseen:
            reply = page(404, b"Batch with ID x not found", "text/plain")
        exchange.send(reply)

    return lagging


def content_cut(cut: int, framing: str = "length", compressed: bool = False) -> Act:
    """The body ends after `cut` bytes of what travels, by the end of the connection."""

    def cut_short(exchange: Exchange) -> None:
        reply = exchange.forward()
        if compressed:
            headers = (*reply.headers, ("Content-Encoding", "gzip"))
            reply = Reply(reply.status, headers, gzip.compress(reply.body, mtime=0))
        exchange.send(reply, framing, cut)

    return cut_short


def quietly_short(size: Callable[[bytes], int], compressed: bool = False) -> Act:
    """The body is short and its framing says that it is whole: only counting can tell."""

    def shortened(exchange: Exchange) -> None:
        reply = exchange.forward()
        if compressed:
            body = gzip.compress(reply.body, mtime=0)
            headers = (*reply.headers, ("Content-Encoding", "gzip"))
            exchange.send(Reply(reply.status, headers, body[: size(body)]))
        else:
            exchange.send(replace(reply, body=reply.body[: size(reply.body)]))

    return shortened
