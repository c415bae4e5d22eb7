"""Uploads that are answered before they are sent: what a client meets that only reads when it has written all."""

from __future__ import annotations

import http.client
import json
import socket
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from tests.engine.conftest import chat_line
from tests.engine_process import RunningEngine, engine_with_upstream

BOUNDARY = "cut"
HEAD = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'.encode()


def begin(engine: RunningEngine, length: int, first: bytes) -> socket.socket:
    """Announce an upload of `length` bytes and send only the `first` of them."""
    address = urlsplit(engine.base_url)
    connection = socket.create_connection((str(address.hostname), int(address.port or 0)), 20)
    headers = (
        f"POST /v1/files HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: Bearer {engine.key}\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\nContent-Length: {length}\r\n\r\n"
    )
    connection.sendall(headers.encode() + first)
    return connection


def answer_to(engine: RunningEngine, length: int, first: bytes) -> tuple[int, str]:
    """Status and text of the answer that comes before the rest is sent."""
    with closing(begin(engine, length, first)) as connection:
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return answer.status, answer.read().decode()


def test_a_bad_first_line_is_answered_while_the_client_still_sends(tmp_path: Path) -> None:
    """The rest of the body is never asked for."""
    with engine_with_upstream(tmp_path) as engine:
        status, text = answer_to(engine, 50_000_000, HEAD + b"{\n" + b" " * 400_000)
    assert (status, text[:22]) == (400, "Invalid JSON on line 1")


def test_a_length_over_the_limit_is_answered_before_the_body(tmp_path: Path) -> None:
    """A client that waits for 100-continue sends nothing in vain."""
    with engine_with_upstream(tmp_path) as engine:
        refused = answer_to(engine, 200_010_241, b"")
    assert refused == (413, "File exceeds the maximum allowed size of 200000000 bytes")


def test_an_upload_that_breaks_off_stores_nothing(tmp_path: Path) -> None:
    """The connection ends in the middle of a good file; the engine goes on."""
    line = json.dumps(chat_line("a")).encode() + b"\n"
    with engine_with_upstream(tmp_path) as engine:
        begin(engine, 9_999_999, HEAD + line * 100).close()
        assert engine.call("GET", "/files").json()["data"] == []
        assert [path.name for path in tmp_path.iterdir() if path.name.startswith("tmp")] == []


def test_a_store_that_cannot_be_written_asks_to_retry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """503 with Retry-After, in the server's JSON of that case."""
    with engine_with_upstream(tmp_path, works=False) as engine:

        def broken(*_arguments: object) -> None:
            raise sqlite3.OperationalError("database or disk is full")

        monkeypatch.setattr(engine.store, "writing", broken)
        content = json.dumps(chat_line("a"))
        reply: requests.Response = engine.call("POST", "/files", files={"file": ("f", content)})
        assert (reply.status_code, reply.headers["Retry-After"]) == (503, "30")
        assert reply.json()["error"] == "service_unavailable"
