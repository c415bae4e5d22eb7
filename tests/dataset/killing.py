"""Kills whoever sends a chosen request, and a server of S3 in whose requests that can be done.

A `Point` is a kind of request, the number of its occurrence at which the client is killed, and whether that is before
the server does what was asked, or after it, so that only the reply is lost.
"""

from __future__ import annotations

import os
import re
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

KINDS = {
    "upload": ("POST", r"/v1/files$"),
    "create": ("POST", r"/v1/batches$"),
    "fetch": ("GET", r"/v1/(batches/[^/]+/results|files/[^/]+/content)$"),
    "write": ("PUT", r"/out/[^_][^/]*\.parquet$"),
}


@dataclass(frozen=True)
class Point:
    """Where somebody is killed."""

    kind: str
    number: int
    after: bool


@dataclass
class Killer:
    """Counts requests by their kind, and kills at `points`; `killed` has those that were come past, and whom."""

    points: list[Point]
    killed: dict[Point, int] = field(default_factory=dict)
    _seen: Counter[str] = field(default_factory=Counter)
    _guard: Any = field(default_factory=threading.Lock)

    def point(self, method: str, path: str) -> Point | None:
        """The point that this request is, if any."""
        kind = next((one for one, (of, like) in KINDS.items() if of == method and re.search(like, path)), None)
        if kind is None:
            return None
        with self._guard:
            self._seen[kind] += 1
            return next((one for one in self.points if (one.kind, one.number) == (kind, self._seen[kind])), None)

    def kill(self, point: Point, port: int) -> None:
        """Send SIGKILL to the process at the other end."""
        for process in holders(port):
            if process != os.getpid():
                os.kill(process, signal.SIGKILL)
                self.killed[point] = process

    def asgi(self, app: Any) -> Any:
        """Around the embedded engine."""

        async def answer(scope: Any, receive: Any, send: Any) -> None:
            point = self.point(scope["method"], scope["path"]) if scope["type"] == "http" else None
            if point is None:
                await app(scope, receive, send)
                return
            if not point.after:
                self.kill(point, scope["client"][1])
                return

            async def unheard(_: Any) -> None:
                if point not in self.killed:
                    self.kill(point, scope["client"][1])

            await app(scope, receive, unheard)

        return answer

    def wsgi(self, app: Any) -> Any:
        """Around a server of S3."""

        def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
            point = self.point(environ["REQUEST_METHOD"], environ["PATH_INFO"])
            if point is not None and not point.after:
                self.kill(point, int(environ["REMOTE_PORT"]))
                start("503 Service Unavailable", [])
                return [b""]
            said: Iterable[bytes] = app(environ, start)
            if point is not None:
                self.kill(point, int(environ["REMOTE_PORT"]))
            return said

        return answer


def holders(port: int) -> list[int]:
    """The processes of this machine that hold a connection from a local port."""
    sockets = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        if int(words[1].rpartition(":")[2], 16) == port:
            sockets.add(f"socket:[{words[9]}]")
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if any(str(one.readlink()) in sockets for one in (place / "fd").iterdir()):
                found.append(int(place.name))
    return found


@contextmanager
def s3_server(killer: Killer | None = None) -> Iterator[dict[str, str]]:
    """A server of S3 on loopback, with an empty bucket `data`; yields the environment that finds it."""
    import boto3
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    app: Any = DomainDispatcherApplication(create_backend_app)
    server = make_server("127.0.0.1", 0, killer.wsgi(app) if killer is not None else app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    known = {"aws_access_key_id": "k", "aws_secret_access_key": "s", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=url, **known)
    try:
        client.create_bucket(Bucket="data")
        yield {
            "AWS_ENDPOINT_URL_S3": url, "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s",
            "AWS_DEFAULT_REGION": "us-east-1",
        }  # fmt: skip
    finally:
        for one in client.list_objects_v2(Bucket="data").get("Contents", []):
            client.delete_object(Bucket="data", Key=one["Key"])
        server.shutdown()
        thread.join()
