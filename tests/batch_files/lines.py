"""Batch files for tests: small valid lines."""

from __future__ import annotations

from pathlib import Path

from tests.sample_requests import line

from doubleword.request_lines.line import to_line
from doubleword.system import Disk

DISK = Disk()


def request(custom_id: str, url: str = "/v1/embeddings", model: str = "m") -> bytes:
    """One small valid line."""
    return to_line(line(url, custom_id=custom_id, input="x", model=model))


def lines_of(*ids: str) -> bytes:
    """A batch file of requests with `ids`."""
    return b"".join(request(custom_id) + b"\n" for custom_id in ids)


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
