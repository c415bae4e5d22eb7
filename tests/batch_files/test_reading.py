"""Batch files read again, line by line."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from tests.batch_files.lines import DISK, request, write
from tests.sample_requests import line

from doubleword.batch_files import reading
from doubleword.batch_files.reading import blocks, custom_ids, request_lines
from doubleword.failure import Exit, Failure
from doubleword.request_lines.line import to_line


def test_lines_are_read_again_in_file_order(tmp_path: Path) -> None:
    """The raw line, without white space around it, under its custom_id; torn at line feeds only."""
    odd = to_line(line("/v1/embeddings", custom_id="b", input="\u2028\u0085\r x"))
    path = write(tmp_path / "a.jsonl", b"\n" + request("c") + b"\r\n" + odd + b"\n\n" + request("a"))
    assert list(request_lines(path, DISK)) == [("c", request("c")), ("b", odd), ("a", request("a"))]
    assert list(custom_ids(path, DISK)) == ["c", "b", "a"]


@pytest.mark.parametrize("bad", [b"{", b"[]", b"{}", b'{"custom_id":1}'])
def test_a_line_that_is_no_request_ends_the_reading(tmp_path: Path, bad: bytes) -> None:
    """A file that changed since its check is not read as if it were good."""
    path = write(tmp_path / "a.jsonl", request("a") + b"\n\n" + bad)
    with pytest.raises(Failure, match="line 3") as caught:
        list(custom_ids(path, DISK))
    assert caught.value.exit_code == Exit.BAD_INPUT


@pytest.mark.parametrize("size", [1, 3, 1 << 20])
def test_blocks_give_every_line_whole(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However the blocks fall, the lines are those between line feeds, and the blocks are the file."""
    monkeypatch.setattr(reading, "BLOCK_BYTES", size)
    for content in (b"", b"\n", b"a", b"a\n", b"ab\n\n\ncd\re\xe2\x80\xa8f", b"\n\nxyz\n"):
        found = list(blocks(io.BytesIO(content), 100))
        assert b"".join(block for block, _ in found) == content
        lines = [line for _, lines in found for line in lines]
        assert lines == (content.split(b"\n")[:-1] if content.endswith(b"\n") or not content else content.split(b"\n"))


def test_of_a_line_too_long_only_the_beginning_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader sees more than the limit, and the line after it is whole again."""
    monkeypatch.setattr(reading, "BLOCK_BYTES", 10)
    lines = [line for _, some in blocks(io.BytesIO(b"x" * 1000 + b"\nshort\n"), 25) for line in some]
    assert 25 < len(lines[0]) <= 35
    assert lines[1:] == [b"short"]
