"""validate_batch_file.py as a user runs it: valid files, and every kind of bad one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.door import Result, call_door, run_door
from tests.sample_requests import VALID, chat, line


def validate(folder: Path, *contents: bytes | list[Any]) -> Result:
    """Write each content to a file of its own and validate them as one job."""
    names = []
    for number, content in enumerate(contents):
        names.append(f"{'abc'[number]}.jsonl")
        raw = content if isinstance(content, bytes) else b"".join(json.dumps(one).encode() + b"\n" for one in content)
        (folder / names[-1]).write_bytes(raw)
    return call_door("validate_batch_file", *names, cwd=folder)


def test_valid_files_of_a_job(tmp_path: Path) -> None:
    """One file for each endpoint, every kind of request, exit 0."""
    files: dict[str, list[Any]] = {}
    for number, request in enumerate(VALID):
        files.setdefault(request["url"], []).append({**request, "custom_id": f"id {number}"})
    chats, *others = files.values()
    assert len(others) == 4
    assert validate(tmp_path, chats, *others[:2]).code == 0
    result = run_door("validate_batch_file", "a.jsonl", "b.jsonl", "c.jsonl", cwd=tmp_path)
    assert result.code == 0
    assert result.json == {
        "ok": True,
        "valid": True,
        "requests": sum(len(file) for file in (chats, *others[:2])),
        "error_count": 0,
        "errors": [],
    }


@pytest.mark.parametrize(
    ("third", "custom_id", "path", "part"),
    [
        (chat(), "row-0000001", "custom_id", "is used before, on line 1 of a.jsonl"),
        ({**chat(), "custom_id": ""}, "", "custom_id", "1 to 64"),
        ({**chat(), "custom_id": "x" * 65}, "x" * 63 + "…", "custom_id", "1 to 64"),
        ({**chat(), "custom_id": "é" * 33}, "é" * 33, "custom_id", "1 to 64 bytes"),
        (b"{not json}", None, "", "is not JSON"),
        ({**chat(), "custom_id": "c", "url": "/v1/chat"}, "c", "url", "/v1/chat/completions"),
        ({**chat(stream=True), "custom_id": "c"}, "c", "body.stream", "absent or false"),
        (line("/v1/embeddings", custom_id="c", input="x"), "c", "url", "one endpoint a file"),
        (b"\xef\xbb\xbf" + json.dumps(chat()).encode(), "row-0000001", "", "byte order mark"),
        (json.dumps(chat()).encode().replace(b"hello", b"\xff"), None, "", "not UTF-8"),
        (json.dumps(chat()).encode().replace(b"hello", b"\\ud800"), "row-0000001", "", "surrogate"),
        (json.dumps(chat(x=float("nan"))).encode(), "row-0000001", "", "NaN"),
    ],
    ids=range(12),
)
def test_each_kind_of_bad_line_is_named(
    tmp_path: Path, third: Any, custom_id: str | None, path: str, part: str
) -> None:
    """Exit 2 with file, physical line, custom_id, path and what was expected, and nothing written."""
    first, second = json.dumps(chat()).encode(), json.dumps({**chat(), "custom_id": "b"}).encode()
    bad = third if isinstance(third, bytes) else json.dumps(third).encode()
    result = validate(tmp_path, first + b"\n" + second + b"\n" + bad + b"\n")
    assert result.code == 2
    assert (result.json["valid"], result.json["requests"], result.json["error_count"]) == (False, 3, 1)
    (error,) = result.json["errors"]
    assert (error["file"], error["line"], error["custom_id"], error["path"]) == ("a.jsonl", 3, custom_id, path)
    assert part in error["message"]
    assert "a.jsonl line 3" in result.json["error"]["message"]
    assert result.json["error"]["hint"]
    assert [file.name for file in tmp_path.iterdir()] == ["a.jsonl"]


def test_thousands_of_errors_fit_into_one_small_answer(tmp_path: Path) -> None:
    """The list is cut, error_count is the true number, and errors_more says how many of the shown were cut."""
    bad = [{**chat(), "custom_id": f"{number:04d}" + "é" * 60} for number in range(3000)]
    result = validate(tmp_path, bad)
    assert result.json["error_count"] == 3000
    assert len(result.json["errors"]) + result.json["errors_more"] == 20


def test_prompts_and_terminal_codes_are_not_shown(tmp_path: Path) -> None:
    """A file is untrusted: what it holds appears short, without control characters, and no prompt at all."""
    request = {**chat(messages=[{"role": "\x1b[31mred", "content": "a prompt to keep"}]), "custom_id": "\x1b]0;x\x07"}
    result = validate(tmp_path, [request])
    shown = json.dumps(result.json, ensure_ascii=False)
    assert "\x1b" not in shown.replace("\\u001b", "\x1b")
    assert "a prompt to keep" not in shown + result.stderr


@pytest.mark.parametrize(("name", "part"), [("none.jsonl", "no file"), (".", "folder")])
def test_a_file_that_cannot_be_read_is_bad_input(tmp_path: Path, name: str, part: str) -> None:
    """Exit 2, not the exit of a failing disk."""
    result = run_door("validate_batch_file", name, cwd=tmp_path)
    assert result.code == 2
    assert part in result.json["error"]["message"]


def test_an_empty_file_is_not_valid(tmp_path: Path) -> None:
    """A file of blank lines holds no request."""
    result = validate(tmp_path, b"\n\n")
    assert result.code == 2
    assert result.json["errors"][0]["message"] == "the file holds no request"


def test_a_stem_stands_for_its_numbered_files(tmp_path: Path) -> None:
    """In order, as far as there is no gap; a file of that very name comes first."""
    for number in (1, 2, 4):
        (tmp_path / f"notes-000{number}.jsonl").write_bytes(
            json.dumps({**chat(), "custom_id": f"r{number}"}).encode() + b"\n"
        )
    found = call_door("validate_batch_file", "notes.jsonl", cwd=tmp_path)
    assert (found.code, found.json["requests"]) == (0, 2)
    estimated = call_door("estimate_cost", "notes.jsonl", cwd=tmp_path)
    assert (estimated.code, estimated.json["requests"]) == (0, 2)
    planned = call_door("submit", "notes.jsonl", "--dry-run", cwd=tmp_path)
    assert [Path(one["file"]).name for one in planned.json["batches"]] == ["notes-0001.jsonl", "notes-0002.jsonl"]
    assert call_door("validate_batch_file", "other.jsonl", cwd=tmp_path).json["error"]["code"] == "no_file"


def test_ids_beyond_ascii_are_told_before_they_are_sent(tmp_path: Path) -> None:
    """Also of files that were made elsewhere, and once for all of them."""
    body = {"model": "m", "messages": [{"role": "user", "content": "a"}]}
    ids = ["plain", "caf\u00e9", "\u6771\u4eac"]
    made = [{"custom_id": one, "method": "POST", "url": "/v1/chat/completions", "body": body} for one in ids]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(one, ensure_ascii=one is made[1]) + "\n" for one in made))
    told = ["custom_ids such as caf\u00e9 are not ASCII; older servers may refuse them"]
    assert call_door("validate_batch_file", "a.jsonl", cwd=tmp_path).json["warnings"] == told
    planned = call_door("submit", "a.jsonl", "--dry-run", "--local", cwd=tmp_path)
    assert (planned.code, planned.json["warnings"][:1]) == (0, told)
