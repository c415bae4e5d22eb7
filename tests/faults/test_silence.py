"""A server that takes connections and never answers: what was given a few seconds of waiting ends within them."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.door import call_door

ASK = ["--model", "m", "--max-tokens", "5", "--prompt", "{text}?", "--wait", "1"]


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that listens, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/v1"


@pytest.mark.parametrize(
    ("door", "words"),
    [
        ("run_batch", ["out.csv", "--input", "t.csv", *ASK]),
        ("compare", ["out.csv", "--input", "t.csv", *ASK, "--model", "n"]),
        ("run_dataset", ["src", "out", *ASK]),
    ],
)
def test_a_wait_ends_where_nothing_is_ever_answered(silent: str, tmp_path: Path, door: str, words: list[str]) -> None:
    """Exit 5 within moments, and the same command can be run again; minutes of patience are for servers that answer."""
    (tmp_path / "src").mkdir()
    for place in (tmp_path / "t.csv", tmp_path / "src" / "p.csv"):
        place.write_text("text\na\nb\n")
    began = time.monotonic()
    env = {"DOUBLEWORD_API_KEY": "key-of-a-test", "DOUBLEWORD_BASE_URL": silent}
    ended = call_door(door, *words, cwd=tmp_path, env=env)
    assert (ended.code, ended.json["error"]["code"]) == (5, "server_unreachable"), ended.json
    assert time.monotonic() - began < 30
