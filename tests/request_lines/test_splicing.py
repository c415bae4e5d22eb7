"""Spliced request lines: the same bytes as lines that are built, written and checked one by one."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.door import call_door

from doubleword.cli import Parser
from doubleword.commands.create_batch_file import Making
from doubleword.failure import Failure
from doubleword.request_lines import splicing
from doubleword.request_lines.arguments import add_arguments
from doubleword.request_lines.line import ENDPOINTS, build, to_line
from doubleword.request_lines.checker import Checker
from doubleword.request_lines.templates import DEFAULT_ID, custom_id, fill, filler
from doubleword.system import Disk
from doubleword.tables.sources import Row

CHECKER = Checker(fast=False)
DISK = Disk()
AWKWARD = [
    "",
    " ",
    "\t\r\n",
    "\u2028",
    "\x85",
    "\0",
    "null",
    "%s",
    "%07d",
    DEFAULT_ID,
    '"',
    "\\",
    "é",
    "😀",
    "\x1f\x7f",
]
CELLS = st.one_of(st.sampled_from(AWKWARD), st.text(max_size=12))
LITERALS = st.one_of(st.sampled_from(["", "%", "%d%%", "{{", "}}", "\x00", "row-%07d", '"row-%07d"']), st.text("ab%é"))
HEADER = ["a", "b", "%s", ""]


@given(
    endpoint=st.sampled_from(ENDPOINTS),
    system=st.one_of(st.none(), st.text("abc%é", min_size=1)),
    parameters=st.dictionaries(st.sampled_from(["temperature", "seed", "user"]), st.none(), max_size=2),
    before=st.lists(st.builds(dict, role=st.just("user"), content=st.text("ab%é", min_size=1)), max_size=2),
    literals=st.lists(LITERALS, min_size=2, max_size=4),
    places=st.lists(st.sampled_from(HEADER), min_size=3, max_size=3),
    rows=st.lists(st.lists(CELLS, min_size=4, max_size=4), min_size=1, max_size=4),
    first=st.sampled_from([1, 9_999_999, 10_000_000]),
)
@settings(deadline=None)
def test_spliced_lines_are_those_that_are_made_one_by_one(
    endpoint: str,
    system: str | None,
    parameters: dict[str, Any],
    before: list[dict[str, Any]],
    literals: list[str],
    places: list[str],
    rows: list[list[str]],
    first: int,
) -> None:
    """Whatever is in a cell: the same bytes, which the reference accepts; or no splicing, where it is refused."""
    between = iter(places)
    template = literals[0] + "".join("{" + next(between) + "}" + literal for literal in literals[1:])
    maker = filler(template, HEADER)
    assert maker is not None

    def made(identifier: str, text: str) -> dict[str, Any]:
        shown = before if endpoint in ("/v1/chat/completions", "/v1/responses") else []
        told = system if endpoint != "/v1/embeddings" else None
        return build(identifier, endpoint, "m", text, told, parameters, shown)

    splice = splicing.splicer(made, maker, None, CHECKER)
    assert splice is not None
    expected: list[bytes] | None = []
    for number, cells in enumerate(rows, first):
        row = Row(number, dict(zip(HEADER, cells, strict=True)))
        try:
            line = to_line(made(custom_id(None, row), fill(template, row)))
        except Failure:
            expected = None
            break
        assert not CHECKER.explain(line)
        assert expected is not None
        expected.append(line)
    assert (splice(first, rows) or (None, None))[1] == expected


def test_lines_that_are_too_long_are_left_to_be_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt that makes a line longer than the server takes is not spliced, nor are those beside it."""
    monkeypatch.setattr(splicing, "MAX_LINE_BYTES", 200)
    maker = filler("{a}", ["a"])
    assert maker is not None
    splice = splicing.splicer(lambda id, text: build(id, "/v1/completions", "m", text), maker, None, CHECKER)
    assert splice is not None
    assert splice(1, [["short"]]) is not None
    assert splice(1, [["short"], ["x" * 200]]) is None


def test_a_request_that_is_refused_whatever_its_prompt_is_not_spliced() -> None:
    """What the flags made wrong is wrong in every row, and the row's own check says so."""
    maker = filler("{a}", ["a"])
    assert maker is not None
    assert splicing.splicer(lambda id, text: build(id, "/nowhere", "m", text), maker, None, CHECKER) is None
    assert splicing.splicer(lambda id, text: {"custom_id": id, "x": text, "y": text}, maker, None, CHECKER) is None


def test_what_stands_in_every_request_is_spliced_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Examples, a schema and tools come out the same either way, and are not looked at row by row."""
    (tmp_path / "t.csv").write_text("a,b\n" + "".join(f"{n},x\n" for n in range(300)))
    (tmp_path / "e.csv").write_text("a,b,answer\n1,2,3\n")
    (tmp_path / "f.json").write_text('{"type": "function", "function": {"name": "f"}}')
    schema = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
    (tmp_path / "s.json").write_text(json.dumps(schema))
    words = ["--examples", str(tmp_path / "e.csv"), "--tools", str(tmp_path / "f.json"), "--response-schema",
             str(tmp_path / "s.json"), "--system", "Be brief."]  # fmt: skip
    plain = lines_of(tmp_path / "t.csv", monkeypatch, True, *words)
    asked: list[Row] = []
    attempt = Making._attempt

    def watched(making: Making, row: Row) -> Any:
        asked.append(row)
        return attempt(making, row)

    monkeypatch.setattr(Making, "_attempt", watched)
    assert lines_of(tmp_path / "t.csv", monkeypatch, False, *words) == plain
    assert len(plain[0]) == 300 and len(asked) <= 100


def lines_of(table: Path, monkeypatch: pytest.MonkeyPatch, plain: bool, *words: str) -> tuple[Any, ...]:
    """All that making the requests of `table` gives, its failure too; `plain` without any splicing."""
    parser = Parser("", "")
    add_arguments(parser)
    args = parser.parse_args(["--input", str(table), "--model", "m", "--prompt", "{b} of {a}", *words])
    making = Making(args, DISK)
    with monkeypatch.context() as patched:
        if plain:
            patched.setattr("doubleword.tables.sources.read_cells", lambda *_: None)
        lines, failure = [], None
        try:
            for some in making.lines():
                lines += some
        except Failure as found:
            failure = (found.code, found.message, found.hint)
    if failure is not None and "--skip-invalid" not in words:
        lines = []  # how far it came before is nobody's business
    return lines, failure, making.made, making.warnings(), list(making.models), making.source()


@pytest.mark.parametrize("words", [(), ("--skip-invalid",), ("--limit", "150"), ("--skip-invalid", "--limit", "203")])
@pytest.mark.parametrize("bad", [None, "1,", "one,two,three", "\udcff,x", '"never closed,x'])
@pytest.mark.parametrize("at", [0, 99, 202, 299])
def test_tables_come_out_the_same_either_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], bad: str | None, at: int
) -> None:
    """Bad rows at the edges of what is read at once are named, skipped or not reached, just as one by one."""
    rows = [f'{number},"text, ""{number}""\nof two lines"' for number in range(300)]
    if bad is not None:
        rows[at] = bad
    table = tmp_path / "t.csv"
    table.write_bytes("\n".join(["a,b", *rows, ""]).encode("utf-8", "surrogateescape"))
    assert lines_of(table, monkeypatch, False, *words) == lines_of(table, monkeypatch, True, *words)


def test_line_ends_are_those_of_the_csv_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LF, CR LF and a bare CR end a row, inside quotes they stay, and U+2028 ends none; in blocks of any size."""
    content = 'a,b\r1,x\r\n2,"y\r\nz\rz\nz"\n3,\u2028é\r\r\n\n4,w\x85w\r5,v'
    table = tmp_path / "t.csv"
    table.write_text(content, encoding="utf-8", newline="")
    expected = [row for row in csv.reader(io.StringIO(content, newline="")) if row][1:]
    for size in range(1, len(content) + 2):
        monkeypatch.setattr("doubleword.tables.sources.BLOCK_CHARACTERS", size)
        lines, *_ = lines_of(table, monkeypatch, False)
        prompts = [json.loads(line)["body"]["messages"][0]["content"] for line in lines]
        assert prompts == [f"{b} of {a}" for a, b in expected]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text(alphabet='aZ0-_ {}%"\\\n\té\x7f,', max_size=5), min_size=1, max_size=4), st.booleans())
def test_ids_of_columns_are_spliced_or_looked_at(ids: list[str], long: bool) -> None:
    """The same bytes, which the reference accepts, for every id that is plain; no splicing for any other."""
    cells = [[name + ("x" * 60 if long else ""), "text"] for name in ids]
    fill, name = filler("{b}", ["a", "b"]), filler("%s-{a}", ["a", "b"])
    assert fill is not None and name is not None
    splice = splicing.splicer(lambda id, text: build(id, "/v1/completions", "m", text), fill, name, CHECKER)
    assert splice is not None
    spliced = splice(1, cells)
    names = [f"%s-{cell}" for cell, _ in cells]
    lines = [to_line(build(name, "/v1/completions", "m", "text")) for name in names]
    if spliced is not None:
        assert spliced == (names, lines)
        assert not any(map(CHECKER.explain, lines))
    else:
        plain = all(re.fullmatch(r"[a-zA-Z0-9_{}%, -]{1,64}", name) for name in names)
        assert not plain or any(
            not cell.strip() or name.endswith(" ") for (cell, _), name in zip(cells, names, strict=True)
        )


@pytest.mark.parametrize("double", [(), (3, 250), (120, 121), (250, 299), (0, 299)])
@pytest.mark.parametrize("words", [(), ("--skip-invalid",)])
def test_ids_used_twice_are_told_either_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, double: tuple[int, ...], words: tuple[str, ...]
) -> None:
    """By row, whether or not the rows around are spliced; without any, most are."""
    names = [f"n {number}" for number in range(300)]
    for at in double:
        names[at] = "the same"
    table = tmp_path / "t.csv"
    table.write_text("a,b\n" + "".join(f"{name},x\n" for name in names))
    output = tmp_path / "o.jsonl"
    told = []
    for plain in (True, False):
        with monkeypatch.context() as patched:
            if plain:
                patched.setattr("doubleword.tables.sources.read_cells", lambda *_: None)
            args = ["create_batch_file", str(output), "--input", str(table), "--model", "m", "--prompt", "{b}"]
            got = call_door(*args, "--id", "id {a}", "--force", *words, cwd=tmp_path)
            told.append((got.code, got.json, output.read_bytes() if output.exists() else None))
            output.unlink(missing_ok=True)
    assert told[0] == told[1]
    assert told[0][0] == (2 if double and not words else 0)
