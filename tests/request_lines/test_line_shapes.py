"""Lines of a known shape, and files looked over by two processes: never another verdict than the check line by line."""

from __future__ import annotations

import contextlib
import json
import marshal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.door import run_door
from tests.sample_requests import VALID, chat, line

from doubleword.batch_files import check as file_check
from doubleword.batch_files import seen_ids, swift_check
from doubleword.batch_files.check import check
from doubleword.request_lines.checker import Checker
from doubleword.request_lines.line import to_line
from doubleword.request_lines.line_shapes import Shapes
from doubleword.system import Disk

REFERENCE = Checker(fast=False)
thorough = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))

# What may stand in a line where its shape has a text: JSON strings, half ones, several, none.
LITERALS = st.sampled_from(
    [b'"a"', b'""', b'" "', b'"\\""', b'"\\\\"', b'"a\\"', b'"', b'"a","b"', b'"a":"b"', b"1", b"null", b"[]",
     b"", b" ", b' "a" ', b'"\\ud800"', b'"\\ud83d\\ude00"', b'"\x01"', b'"\t"', b'"\xff"', b'"\xe6\x9d\xb1"', b'["a"',
     b'"b"]', b'"\\u0041"', b'"x"}', b'{"a":"b"}', b'"a"/**/', b'"row-1"', b'"content"', b'"user"', b'"\x7f"']
)  # fmt: skip
IDS = st.sampled_from(
    [b'"r2"', b'""', b'" r"', b'"r "', b'"' + b"x" * 65 + b'"', b'"\xc3\xa9"', b'"\\u0041"', b"7", b'"a"b"', b'"r\\"']
)
WRITERS: list[Callable[[Any], bytes]] = [orjson.dumps, lambda value: json.dumps(value).encode()]


def facts(request: dict[str, Any] | None) -> tuple[str, str, str] | None:
    """What the reference knows of a line, as Shapes tells it."""
    return None if request is None else (request["custom_id"], request["url"], request["body"]["model"])


def told(shapes: Shapes, raw: bytes) -> tuple[str, str, str] | None:
    accepted = shapes.accepts(raw)
    return None if accepted is None else (accepted.custom_ids[0], accepted.url, accepted.model)


@thorough
@given(st.sampled_from(VALID), st.sampled_from(WRITERS), st.data())
def test_a_line_of_a_shape_is_accepted_exactly_when_the_reference_accepts_it(
    request: dict[str, Any], write: Callable[[Any], bytes], data: st.DataObject
) -> None:
    """Texts and custom_ids are replaced by all kinds of things, and bytes put anywhere."""
    shapes = Shapes(Checker())
    first = write(request)
    assert told(shapes, first) == facts(REFERENCE.accepts(first))
    for _ in range(3):
        raw = first
        for literal in (b'"Say hello."', b'"Once"', b'"query: rice"', b'"A chair."'):
            raw = raw.replace(literal, data.draw(LITERALS))
        if data.draw(st.booleans()):
            raw = raw.replace(b'"row-0000001"', data.draw(IDS))
        if data.draw(st.integers(0, 3)) == 0:
            at = data.draw(st.integers(0, len(raw)))
            raw = raw[:at] + data.draw(LITERALS) + raw[at + data.draw(st.integers(0, 2)) :]
        if b"\n" not in raw:
            assert told(shapes, raw) == facts(REFERENCE.accepts(raw))


@thorough
@given(st.lists(LITERALS, min_size=2, max_size=6))
@example([b'"a\\"', b'"b"'])
@example([b'"a","b"', b""])
@example([b'["a"', b'"b"]'])
@example([b'"a" ', b' "b"'])
def test_texts_that_are_read_together_are_each_a_text(literals: list[bytes]) -> None:
    """No two bad lines make a good pair."""
    shapes, empty = Shapes(Checker()), to_line(chat())
    assert shapes.accepts(empty) is not None
    lines = [
        empty.replace(b"row-0000001", b"row-%d" % number).replace(b'"Say hello."', literal)
        for number, literal in enumerate(literals)
    ]
    accepted = shapes.accepts_all(lines)
    each = [facts(REFERENCE.accepts(raw)) for raw in lines]
    if accepted is not None:
        assert each == [(custom_id, accepted.url, accepted.model) for custom_id in accepted.custom_ids]
    if all(isinstance(read(literal), str) and read(literal) for literal in literals):
        assert accepted is not None


def read(literal: bytes) -> Any:
    with contextlib.suppress(ValueError):
        return orjson.loads(literal)
    return None


class AtOnce(Disk):
    """A disk on which what another process would do is done by this one, and told as that one would tell it."""

    @contextlib.contextmanager
    def beside(self, work: Callable[[], Any]) -> Iterator[Callable[[], Any] | None]:
        yield lambda: marshal.loads(marshal.dumps(work()))


LINES = st.sampled_from(
    [to_line(chat()), to_line(chat(model="other")), to_line(chat(messages=[{"role": "user", "content": "Hi " * 40}])),
     to_line(line("/v1/embeddings", input="x")), b"", b"  ", b"\r", b"{}", b'{"custom_id": "a"',
     to_line(chat()) + b"\r"]
)  # fmt: skip


@thorough
@given(st.lists(st.lists(LINES, max_size=12), min_size=1, max_size=3), st.booleans(), st.integers(1, 400))
def test_two_halves_tell_what_the_whole_does(
    tmp_path_factory: pytest.TempPathFactory, files: list[list[bytes]], ended: bool, block: int
) -> None:
    """Wherever the middle falls, and however little is read at once: the same files, or the check line by line."""
    folder = tmp_path_factory.mktemp("halves")
    paths: list[Path] = []
    number = 0
    for content in files:
        named = []
        for raw in content:
            number += 1
            named.append(raw.replace(b"row-0000001", b"row-%d" % (number % 40)))
        path = folder / f"{len(paths)}.jsonl"
        path.write_bytes(b"\n".join(named) + (b"\n" if ended else b""))
        paths.append(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file_check, "WORTH_TWO_PROCESSES", 1 << 40)
        whole = check(paths, Disk())
        patch.setattr(file_check, "WORTH_TWO_PROCESSES", -1)
        patch.setattr(swift_check, "BLOCK_BYTES", block)
        assert check(paths, AtOnce()) == whole
        if not whole.error_count:
            assert swift_check.look(paths, AtOnce(), True) is not None


class NoScratch(AtOnce):
    """Where no temporary folder can be written."""

    def scratch(self) -> BinaryIO:
        raise FileNotFoundError("no usable temporary folder")


@pytest.mark.parametrize("disk", [AtOnce(), NoScratch()], ids=["on disk", "in memory"])
@pytest.mark.parametrize("twice", [False, True])
def test_very_many_custom_ids_are_told_apart_wherever_their_hashes_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, disk: Disk, twice: bool
) -> None:
    """Two halves that noted the same one are not taken for well."""
    monkeypatch.setattr(swift_check, "LARGE_BYTES", 0)
    monkeypatch.setattr(seen_ids, "MOST", 7)
    names = [b"row-%d" % number for number in range(100)]
    names[90] = names[5] if twice else names[90]
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"".join(to_line(chat()).replace(b"row-0000001", name) + b"\n" for name in names))
    assert (swift_check.look([path], disk, False) is None) is twice
    monkeypatch.setattr(file_check, "WORTH_TWO_PROCESSES", -1)
    assert check([path], disk).error_count == int(twice)


@pytest.mark.parametrize(("ids", "same"), [(("a1", "b2", "c3"), False), (("a1", "b2", "a1"), True)])
def test_custom_ids_that_only_look_the_same_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ids: tuple[str, ...], same: bool
) -> None:
    """All of one length have one hash here; only an id that really stands twice needs the check line by line."""
    monkeypatch.setattr(seen_ids, "hash", len, raising=False)
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"".join(to_line(chat()).replace(b"row-0000001", one.encode()) + b"\n" for one in ids))
    assert (swift_check.look([path], AtOnce(), True) is None) is same


def test_a_file_that_changes_under_the_look_is_read_again(tmp_path: Path) -> None:
    """What one process read and what the other read would not be the same file."""

    class Editing(AtOnce):
        @contextlib.contextmanager
        def beside(self, work: Callable[[], Any]) -> Iterator[Callable[[], Any] | None]:
            result = work()
            path.write_bytes(to_line(chat(model="other")) + b"\n")
            yield lambda: result

    path = tmp_path / "a.jsonl"
    path.write_bytes(to_line(chat()) + b"\n")
    assert swift_check.look([path], Editing(), True) is None


@pytest.mark.parametrize("flaw", [b"", b'{"custom_id": "a"}\n'])
def test_a_large_file_is_checked_by_two_processes_as_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flaw: bytes
) -> None:
    """As a user runs it, with real processes: the same counts, or the same flaw on the same line."""
    one = to_line(chat(messages=[{"role": "user", "content": "word " * 300}]))
    lines = [one.replace(b"row-0000001", b"row-%07d" % number) + b"\n" for number in range(2500)]
    path = tmp_path / "large.jsonl"
    path.write_bytes(b"".join([*lines, flaw]))
    assert path.stat().st_size > file_check.WORTH_TWO_PROCESSES
    told = run_door("validate_batch_file", path)
    monkeypatch.setattr(file_check, "WORTH_TWO_PROCESSES", 1 << 40)
    found = check([path], Disk())
    assert (told.json["requests"], told.json["error_count"]) == (found.requests, found.error_count)
    assert [error["line"] for error in told.json["errors"]] == [error.line for error in found.errors]
