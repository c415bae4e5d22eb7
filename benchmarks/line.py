"""A server on loopback behind a line of a given speed: takes batch files, and has every answer at once.

It stands for the network, not for the service: uploads are counted and dropped, results are read from
`<folder>/<stem>.results.jsonl`, where `<stem>` is that of the uploaded batch file.
"""

from __future__ import annotations

import functools
import json
import re
import socketserver
import sys
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

BLOCK = 1 << 18


class Line:
    """Lets bytes through at `rate` bytes a second; 0 is as fast as the machine can."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._began = time.perf_counter()
        self._bytes = 0

    def passed(self, size: int) -> None:
        """Return when `size` more bytes may have gone."""
        self._bytes += size
        if self._rate:
            ahead = self._bytes / self._rate - (time.perf_counter() - self._began)
            if ahead > 0:
                time.sleep(ahead)


class Server(socketserver.ThreadingTCPServer):
    """`rate` in bytes a second for each transfer, `delay_s` before each answer."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, folder: Path, rate: float, delay_s: float) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = folder
        self.rate = rate
        self.delay_s = delay_s
        self.batches: dict[str, dict[str, Any]] = {}


class Handler(BaseHTTPRequestHandler):
    """The few endpoints that a job needs, and /sink and /results for other clients."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer leaves in one piece, and does not wait for the client's acknowledgement of its head
    server: Server

    def do_POST(self) -> None:
        """Take an upload, or make a batch that is completed already."""
        length = int(self.headers["Content-Length"])
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.send_response_only(100)
            self.end_headers()
            self.wfile.flush()
        if self.path == "/v1/files":
            beginning = self._take(length)
            name = re.search(rb'filename="([^"]*)"', beginning)
            filename = name.group(1).decode() if name else ""
            self._answer({"id": f"file-{filename}", "object": "file", "bytes": 0, "filename": filename}, 201)
        else:
            asked = json.loads(self.rfile.read(length))
            stem = re.sub(r"^file-|-[0-9a-f]{32}\.jsonl$", "", asked["input_file_id"])
            rows = rows_of(self.server.folder / f"{stem}.results.jsonl")
            batch = {
                "id": f"batch-{len(self.server.batches)}",
                "object": "batch",
                "endpoint": asked["endpoint"],
                "input_file_id": asked["input_file_id"],
                "output_file_id": f"out-{stem}",
                "error_file_id": None,
                "completion_window": asked["completion_window"],
                "status": "completed",
                "created_at": int(time.time()),
                "completed_at": int(time.time()),
                "metadata": asked["metadata"],
                "request_counts": {"total": rows, "completed": rows, "failed": 0},
            }
            self.server.batches[batch["id"]] = batch
            self._answer(batch, 201)

    def do_GET(self) -> None:
        """Give the results of a batch file, a batch, or all batches of a job."""
        path, _, query = self.path.partition("?")
        content = re.fullmatch(r"/v1/files/out-(.*)/content", path)
        if content:
            self._give(self.server.folder / f"{content.group(1)}.results.jsonl")
            return
        name = path.rpartition("/")[2]
        if name in self.server.batches:
            self._answer(self.server.batches[name], 200)
            return
        wanted = re.search(r"search=([0-9a-f]+)", query)
        found = [one for one in self.server.batches.values() if not wanted or wanted.group(1) in json.dumps(one)]
        self._answer({"object": "list", "data": found[::-1][:100], "has_more": False}, 200)

    def log_message(self, *_: object) -> None:
        """Say nothing: the terminal is for the table."""

    def _take(self, length: int) -> bytes:
        line, block, beginning = Line(self.server.rate), memoryview(bytearray(BLOCK)), b""
        while length:
            size = self.rfile.readinto(block[: min(BLOCK, length)])
            if not size:
                raise ConnectionError("the upload ended early")
            beginning = beginning or bytes(block[: min(size, 2000)])
            length -= size
            line.passed(size)
        return beginning

    def _give(self, path: Path) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(path.stat().st_size))
        self.end_headers()
        line = Line(self.server.rate)
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                self.wfile.write(block)
                line.passed(len(block))

    def _answer(self, value: dict[str, Any], status: int) -> None:
        time.sleep(self.server.delay_s)
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()


@functools.cache
def rows_of(path: Path) -> int:
    """How many lines a file has; 0 where there is none."""
    if not path.exists():
        return 0
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(BLOCK), b""))


if __name__ == "__main__":
    served = Server(Path(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]))
    print(served.server_address[1], flush=True)
    served.serve_forever()
