"""Batch files checked: each line, each custom_id of the job, the limits of the service."""

from __future__ import annotations

import hashlib
import io
import tracemalloc
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from tests.batch_files.lines import DISK, lines_of, request, write
from tests.sample_requests import chat

from doubleword import service
from doubleword.batch_files import check as checking
from doubleword.batch_files.check import BatchFile, check
from doubleword.failure import Exit, Failure
from doubleword.request_lines.line import to_line
from doubleword.system import Disk


def test_a_good_file_is_described(tmp_path: Path) -> None:
    """Requests, bytes, SHA-256, endpoint and models in the order of their first use."""
    content = (
        b"\r\n" + request("a", model="z") + b"\r\n\n" + request("b", model="y") + b"\n  \n" + request("c", model="z")
    )
    path = write(tmp_path / "a.jsonl", content)
    found = check([path], DISK)
    assert (found.error_count, found.errors, found.requests) == (0, [], 3)
    digest = hashlib.sha256(content).hexdigest()
    assert found.files == [BatchFile(path, 3, len(content), digest, "/v1/embeddings", ("z", "y"))]


def test_errors_name_file_physical_line_custom_id_and_path(tmp_path: Path) -> None:
    """Blank lines are passed over but counted, so that an editor finds the line."""
    content = request("a") + b"\n\n" + to_line(chat(temperature=9)) + b"\n{broken\n" + b"\xff\n"
    found = check([write(tmp_path / "a.jsonl", content)], DISK)
    assert [(error.line, error.custom_id, error.path) for error in found.errors] == [
        (3, "row-0000001", "body.temperature"),
        (4, None, ""),
        (5, None, ""),
    ]
    assert {error.file for error in found.errors} == {str(tmp_path / "a.jsonl")}
    assert found.requests == 4


def test_an_id_that_is_a_number_is_told_how_to_be_written(tmp_path: Path) -> None:
    """In the words that creating uses."""
    content = request("a").replace(b'"a"', b"7") + b"\n" + request("é") + b"\n"
    (error,) = check([write(tmp_path / "a.jsonl", content)], DISK).errors
    assert (error.line, error.path, error.message) == (1, "custom_id", 'is a number: write "7"')


def test_a_line_with_several_problems_is_one_error(tmp_path: Path) -> None:
    """error_count counts lines, and says how many more problems the line has."""
    found = check([write(tmp_path / "a.jsonl", b'{"custom_id":"a"}\n')], DISK)
    assert found.error_count == 1
    assert found.errors[0].message == "is missing (and 2 more in this line)"


def test_a_custom_id_is_used_once_over_all_files_of_the_job(tmp_path: Path) -> None:
    """The server accepts duplicates, and their answers could not be told apart; the first use is named."""
    first = write(tmp_path / "a.jsonl", b"\n" + lines_of("x", "y"))
    second = write(tmp_path / "b.jsonl", lines_of("z", "y", "z"))
    found = check([first, second], DISK)
    assert [(error.file, error.line, error.custom_id, error.message) for error in found.errors] == [
        (str(second), 2, "y", "is used before, on line 3 of a.jsonl"),
        (str(second), 3, "z", "is used before, on line 1 of b.jsonl"),
    ]


def test_a_file_has_one_endpoint_and_a_job_may_have_several(tmp_path: Path) -> None:
    """A batch is created for one endpoint; what is for another belongs into another file."""
    mixed = write(tmp_path / "a.jsonl", request("a") + b"\n" + to_line(chat()) + b"\n")
    (error,) = check([mixed], DISK).errors
    assert (error.line, error.path) == (2, "url")
    assert "first request of the file goes to /v1/embeddings" in error.message
    other = write(tmp_path / "b.jsonl", to_line(chat()))
    assert check([write(mixed, request("a")), other], DISK).error_count == 0


@pytest.mark.parametrize("content", [b"", b"\n", b" \r\n\n"])
def test_a_file_without_requests_is_refused(tmp_path: Path, content: bytes) -> None:
    """The server would refuse it too, after the upload."""
    (error,) = check([write(tmp_path / "a.jsonl", content)], DISK).errors
    assert error.message == "the file holds no request"
    assert error.line == 1


def test_too_many_requests_or_bytes_are_one_error_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limits of one file are exact: what reaches them is good, one more is not."""
    path = write(tmp_path / "a.jsonl", lines_of("a", "b", "c"))
    monkeypatch.setattr(checking, "MAX_REQUESTS", 3)
    monkeypatch.setattr(checking, "MAX_BYTES", path.stat().st_size)
    assert check([path], DISK).error_count == 0
    monkeypatch.setattr(checking, "MAX_REQUESTS", 2)
    (error,) = check([path], DISK).errors
    assert (error.line, error.message) == (3, "the file holds 3 requests, and may hold 2; split it")
    monkeypatch.setattr(checking, "MAX_REQUESTS", 3)
    monkeypatch.setattr(checking, "MAX_BYTES", path.stat().st_size - 1)
    (error,) = check([path], DISK).errors
    assert "bytes" in error.message


def test_the_limits_are_those_of_the_service() -> None:
    """50,000 requests and 200 MB a file."""
    assert (service.MAX_REQUESTS, service.MAX_BYTES) == (50_000, 200_000_000)


def test_shown_errors_are_capped_and_all_are_counted(tmp_path: Path) -> None:
    """A file of nothing but bad lines is not explained line by line."""
    found = check([write(tmp_path / "a.jsonl", b"x\n" * 500)], DISK)
    assert (len(found.errors), found.error_count) == (20, 500)


def test_a_file_given_twice_or_missing_is_bad_input(tmp_path: Path) -> None:
    """Exit 2 with the cause, rather than an error for each line."""
    path = write(tmp_path / "a.jsonl", lines_of("a"))
    (tmp_path / "same.jsonl").symlink_to(path)
    for paths, part in (([path, tmp_path / "same.jsonl"], "twice"), ([tmp_path / "none.jsonl"], "no file")):
        with pytest.raises(Failure, match=part) as caught:
            check(paths, DISK)
        assert caught.value.exit_code == Exit.BAD_INPUT


def test_progress_is_told_the_requests_so_far(tmp_path: Path) -> None:
    """Over all files, never backwards."""
    paths = [write(tmp_path / f"{name}.jsonl", lines_of(name, name * 2)) for name in "ab"]
    told: list[int] = []
    check(paths, DISK, told.append)
    assert told == [2, 4]


class _OneLine(io.RawIOBase):
    """A file of 300 MB that is one JSON string without end."""

    left = 300_000_000

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = min(len(buffer), self.left)
        buffer[:count] = b"[" * count
        self.left -= count
        return count


def test_a_line_of_300_mb_is_an_error_not_a_full_memory(tmp_path: Path) -> None:
    """No more of a line is kept than a line may have."""

    class Huge(Disk):
        def open(self, path: Path) -> BinaryIO:
            return io.BufferedReader(_OneLine())

    tracemalloc.start()
    try:
        found = check([tmp_path / "a.jsonl"], Huge())
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()
    assert "the server takes at most 10,485,760" in found.errors[0].message
