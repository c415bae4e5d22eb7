"""Rows out of tables, and what templates make of them."""

from __future__ import annotations

import datetime
import decimal
import io
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from vega_datasets import data

from doubleword.failure import Exit, Failure
from doubleword.request_lines.templates import custom_id, fill
from doubleword.system import Disk
from doubleword.tables import json_array, sources
from doubleword.tables.sources import BadRow, Row, blocks, columns, read

DISK = Disk()
AIRPORTS = Path(data.airports.filepath)  # CSV, 3,376 rows
CARS = Path(data.cars.filepath)  # a JSON array, 406 rows


@pytest.fixture
def table(tmp_path: Path) -> Any:
    """Writes bytes under a name and gives the path."""

    def write(name: str, content: bytes | str) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def rows(path: Path, **options: Any) -> list[dict[str, Any]]:
    """The values of all rows, which must be good and numbered from 1."""
    found = list(read(path, DISK, **options))
    assert [row.number for row in found] == list(range(1, len(found) + 1))
    assert [row.problem for row in found] == [None] * len(found)
    return [dict(row.values) for row in found]


def refused(path: Path, **options: Any) -> Failure:
    """The failure with which reading `path` ends."""
    with pytest.raises(Failure) as caught:
        list(read(path, DISK, **options))
    assert caught.value.exit_code == Exit.BAD_INPUT
    return caught.value


# Formats


def test_a_real_csv_table_is_read_whole() -> None:
    """The airports table that vega-datasets ships: every row, every column, in order."""
    found = rows(AIRPORTS)
    assert len(found) == 3376
    assert found[0]["name"] == "Thigpen"
    assert (
        columns(AIRPORTS, DISK)
        == list(found[-1])
        == ["iata", "name", "city", "state", "country", "latitude", "longitude"]
    )


def test_a_real_json_array_is_read_whole() -> None:
    """The cars table that vega-datasets ships: the same as the json module reads, nulls included."""
    assert rows(CARS) == json.loads(CARS.read_bytes())
    assert columns(CARS, DISK)[0] == "Name"


@pytest.mark.parametrize("block", [1, 7, 64])
def test_a_json_array_is_read_the_same_in_small_pieces(table: Any, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    """Where a piece ends, inside a number, a string, an escape or a character, makes no difference."""
    monkeypatch.setattr(json_array, "BLOCK_BYTES", block)
    content = [{"a": 123456, "b": 'é日\U0001f600 "\\ \n', "c": [1.5e3, {"d": None}]}, {}, {"a": "]"}]
    assert rows(table("t.json", " \n" + json.dumps(content, ensure_ascii=False, indent=1) + "\n ")) == content
    assert rows(table("u.json", json.dumps(content))) == content
    assert rows(table("v.json", "[ ]")) == []


def test_csv_keeps_quoted_newlines_quotes_and_long_cells(table: Any) -> None:
    """A cell may hold line breaks, doubled quotes, separators and far more than csv's own limit."""
    long = "x" * 300_000
    found = rows(table("t.csv", f'a,b\r\n"1\n""2"", 3","{long}"\r\n\r\n"\u2028",\n'))
    assert found == [{"a": '1\n"2", 3', "b": long}, {"a": "\u2028", "b": ""}]


def test_a_byte_order_mark_is_no_part_of_the_first_column(table: Any) -> None:
    """Spreadsheets write one; it must not become part of a name, nor break JSON."""
    assert rows(table("t.csv", b"\xef\xbb\xbfa,b\n1,2\n")) == [{"a": "1", "b": "2"}]
    assert rows(table("t.jsonl", b'\xef\xbb\xbf{"a":1}\n')) == [{"a": 1}]
    assert rows(table("t.json", b'\xef\xbb\xbf[{"a":1}]')) == [{"a": 1}]
    assert rows(table("t.txt", b"\xef\xbb\xbfa\n")) == [{"text": "a"}]


def test_tsv_json_lines_and_text(table: Any) -> None:
    """Each ending has its reader; text is one row a line, split at line feeds only."""
    assert rows(table("t.tsv", 'a\tb\n"x\ty"\t2\n')) == [{"a": "x\ty", "b": "2"}]
    assert rows(table("t.jsonl", '{"a":"\u2028"}\r\n\n  \n{"b":[2]}')) == [{"a": "\u2028"}, {"b": [2]}]
    assert rows(table("t.txt", "one\u2028\r\n\ntwo\rthree")) == [
        {"text": "one\u2028"},
        {"text": ""},
        {"text": "two\rthree"},
    ]
    assert columns(table("u.txt", "one\n"), DISK) == ["text"]
    assert columns(table("u.jsonl", '{"a":1,"b":2}\n'), DISK) == ["a", "b"]


def test_json_is_told_by_its_first_character(table: Any) -> None:
    """Lines in .json and an array in .jsonl are both common, and both are read."""
    assert rows(table("t.json", '{"a":1}\n{"a":2}\n')) == [{"a": 1}, {"a": 2}]
    assert rows(table("t.jsonl", '\n [{"a":1},\n {"a":2}]')) == [{"a": 1}, {"a": 2}]


def test_parquet_is_read_row_by_row(tmp_path: Path) -> None:
    """Values keep their types; the columns come from the schema."""
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"n": list(range(3000)), "s": [None, "é", "x"] * 1000}), path)
    found = rows(path)
    assert found[2999] == {"n": 2999, "s": "x"}
    assert columns(path, DISK) == ["n", "s"]
    assert fill("{n}", Row(1, found[0])) == "0"


def test_the_format_flag_overrides_the_ending(table: Any) -> None:
    """A table whose name says nothing, or the wrong thing, can be told."""
    path = table("t.dat", "a;b\n")
    assert refused(path).code == "unknown_format"
    assert rows(path, format="text") == [{"text": "a;b"}]


def test_other_encodings_can_be_told(table: Any) -> None:
    """cp1252 and UTF-16 tables come out as the same text."""
    for encoding in ("cp1252", "utf-16"):
        assert rows(table("t.csv", "a\nAmélie\n".encode(encoding)), encoding=encoding) == [{"a": "Amélie"}]


def test_a_column_of_parquet_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    """As in CSV: a prompt would silently name the last of them."""
    twice = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    pq.write_table(twice, tmp_path / "t.parquet")
    assert "names the column a twice" in refused(tmp_path / "t.parquet").message


def test_what_parquet_holds_and_json_does_not_is_text(tmp_path: Path) -> None:
    """Dates, decimals and bytes, nested too: a prompt names them, and a joined table of any form writes them."""
    at = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)
    one = {"at": at, "day": at.date(), "cost": decimal.Decimal("1.50"), "raw": "é".encode(), "n": 7, "none": None}
    nested = {"list": [{"day": at.date()}], "struct": {"raw": b"\xff"}}
    pq.write_table(pa.Table.from_pylist([{**one, **nested}]), tmp_path / "t.pq")
    said = {"at": "2026-01-02 03:04:05+00:00", "day": "2026-01-02", "cost": "1.50", "raw": "é", "n": 7, "none": None}
    assert rows(tmp_path / "t.pq") == [{**said, "list": [{"day": "2026-01-02"}], "struct": {"raw": "\ufffd"}}]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_a_byte_order_mark_tells_the_encoding(table: Any, encoding: str) -> None:
    """What spreadsheets save as "Unicode text" is read without being told; however it is read."""
    path = table("t.csv", "a;b\nAmélie;\u20ac\n".encode(encoding))
    assert rows(path) == [{"a": "Amélie", "b": "€"}]
    assert columns(path, DISK) == ["a", "b"]
    cells = sources.read_cells(path, DISK)
    assert cells is not None and [block.cells for block in cells] == [[["a", "b"]], [["Amélie", "€"]]]
    assert rows(table("t.txt", "é\nx".encode(encoding))) == [{"text": "é"}, {"text": "x"}]
    assert rows(table("t.tsv", "a\tb\né\tx".encode(encoding))) == [{"a": "é", "b": "x"}]


@pytest.mark.parametrize(
    ("content", "header", "cells"),
    [
        ("a;b\n1,5;2\n", ["a", "b"], ["1,5", "2"]),
        ('\r\n"a,x";b\r\n1;"2;3"\r\n', ["a,x", "b"], ["1", "2;3"]),
        ('"a\n,";b\n1;2\n', ["a\n,", "b"], ["1", "2"]),
        ("a,b;c\n1,2;3\n", ["a", "b;c"], ["1", "2;3"]),
        ('"a;b"\n1\n', ["a;b"], ["1"]),
        ("a\n1;2\n", ["a"], ["1;2"]),
    ],
)
def test_semicolons_separate_where_the_header_has_no_comma(
    table: Any, content: str, header: list[str], cells: list[str]
) -> None:
    """As spreadsheets write CSV where the comma is the decimal sign; what is in quotes does not count."""
    assert rows(table("t.csv", content)) == [dict(zip(header, cells, strict=True))]


def test_a_folder_is_read_as_a_table(tmp_path: Path) -> None:
    """With its kind in the columns; a format that is given for it is refused."""
    (tmp_path / "b.txt").write_text("two")
    (tmp_path / "a.txt").write_text("one")
    assert rows(tmp_path) == [{"path": f"{n}.txt", "name": n, "text": text} for n, text in (("a", "one"), ("b", "two"))]
    assert columns(tmp_path, DISK) == ["path", "name", "text"]
    assert sources.format_of(tmp_path, DISK) == "folder"
    assert sources.read_cells(tmp_path, DISK) is None
    assert refused(tmp_path, format="csv").code == "bad_arguments"
    assert rows(tmp_path, format="folder") == rows(tmp_path)


# What is wrong with a table


def test_undecodable_bytes_name_their_row_and_leave_the_others(table: Any) -> None:
    """A cp1252 cell in a UTF-8 table is one bad row with a way out, not the end of the table."""
    found = list(read(table("t.csv", b"a,b\n1,2\n3,Am\xe9lie\n5,6\n"), DISK))
    assert [row.problem is None for row in found] == [True, False, True]
    assert "0xe9" in str(found[1].problem)
    assert "--encoding" in str(found[1].problem)
    (line,) = read(table("t.txt", b"\xff\n"), DISK)
    assert "0xff" in str(line.problem)


def test_a_row_with_too_few_or_many_cells_is_named(table: Any) -> None:
    """A cell too many or few shifts values into wrong columns; such a row has no values."""
    found = list(read(table("t.csv", "a,b\n1\n1,2\n1,2,3\n"), DISK))
    assert [row.problem for row in found] == ["has 1 cells, and the header 2", None, "has 3 cells, and the header 2"]


def test_a_quote_that_never_closes_does_not_swallow_the_table(table: Any) -> None:
    """The csv module would give the rest of the file as one cell."""
    failure = refused(table("t.csv", 'a,b\n1,"2\n3,4\n'))
    assert "line 3" in failure.message
    assert "quote" in failure.hint


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("t.csv", b"", "is empty"),
        ("t.csv", b"a,b,a\n1,2,3\n", "names the column a twice"),
        ("t.csv", b"a,\xff\n", "header"),
        ("t.csv", "a\n1\n".encode("utf-16-le"), "NUL"),
        ("t.json", '[{"a": 1}]'.encode("utf-16"), "is UTF-16, and JSON is always UTF-8"),
        ("t.jsonl", '{"a": 1}'.encode("utf-32"), "is UTF-32, and JSON is always UTF-8"),
        ("t.json", b"", "is empty"),
        ("t.json", b'"x"', "not a JSON array"),
        ("t.json", b"[1]", "row 1 that is not a JSON object"),
        ("t.json", b'[{"a":1},', "row 2 that is not a JSON object"),
        ("t.json", b'[{"a":1} {"a":2}]', "neither , nor ] after row 1"),
        ("t.json", b'[{"a":1}] [', "goes on after the array"),
        ("t.json", b'[{"a":1,"a":2}]', "stands twice"),
        ("t.json", b'[{"a":NaN}]', "NaN"),
        ("t.json", b'[{"a":"\xff"}]', "after row 0"),
        ("t.json", b'[{"a":' + b"[" * 100_000, "nested too deep"),
        ("t.parquet", b"PAR1 no", "not Parquet"),
    ],
    ids=range(17),
)
def test_what_is_no_table_ends_with_its_cause(table: Any, name: str, content: bytes, part: str) -> None:
    """Exit 2, the name of the file and what is wrong with it."""
    failure = refused(table(name, content))
    assert part in failure.message
    assert name in failure.message


def test_bad_json_lines_are_bad_rows(table: Any) -> None:
    """Each line stands for itself, so one bad line is one bad row."""
    content = b'{"a":1}\n{\n[1]\n{"a":1,"a":2}\n{"a":"\xff"}\n{"a":"\\ud800"}\n' + b'{"a":' + b"[" * 99_999
    found = list(read(table("t.jsonl", content), DISK))
    parts = [None, "not JSON", "not a JSON object", "twice", "not UTF-8", "surrogate", "deeper"]
    assert len(found) == len(parts)
    for row, part in zip(found, parts, strict=True):
        assert row.problem is None if part is None else part in str(row.problem), row


@pytest.mark.parametrize("name", ["utf-99", "hex", "rot13", "idna", "undefined", "", "u\0", "é\udc80"])
@pytest.mark.parametrize("table_name", ["t.csv", "t.txt", "t.jsonl", "folder"])
def test_what_is_no_encoding_of_text_is_bad_input(table: Any, tmp_path: Path, table_name: str, name: str) -> None:
    """Python knows codecs that read no text, and others that cannot tell what they cannot read."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.txt").write_text("a")
    path = tmp_path / "folder" if table_name == "folder" else table(table_name, "{}\n")
    assert refused(path, encoding=name).code == "bad_arguments"


def test_a_missing_file_an_empty_folder_and_an_unknown_encoding_are_bad_input(table: Any, tmp_path: Path) -> None:
    """Exit 2, as nothing was sent; a disk error would say that running again may help."""
    assert refused(tmp_path / "none.csv").code == "no_file"
    (tmp_path / "folder.csv").mkdir()
    assert refused(tmp_path / "folder.csv").code == "no_rows"
    assert "no encoding" in refused(table("t.csv", "a\n"), encoding="utf-99").message
    assert "always UTF-8" in refused(table("t.jsonl", "{}"), encoding="cp1252").message


class _Endless(io.RawIOBase):
    """A file of `size` bytes that all are `byte`."""

    def __init__(self, start: bytes, byte: bytes, size: int) -> None:
        self._start, self._byte, self._left = start, byte, size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = min(len(buffer), self._left)
        data = (self._start + self._byte * count)[:count]
        self._start = self._start[count:]
        buffer[:count] = data
        self._left -= count
        return count


class _EndlessDisk(Disk):
    def __init__(self, start: bytes) -> None:
        self._start = start

    def open(self, path: Path) -> BinaryIO:
        return io.BufferedReader(_Endless(self._start, b"x", 400_000_000))


@pytest.mark.parametrize(("name", "start"), [("t.jsonl", b'{"a":"'), ("t.csv", b'a\n"'), ("t.txt", b"")])
def test_a_line_without_end_does_not_fill_the_memory(name: str, start: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """400 MB without a line end are refused after a small part of them was held."""
    monkeypatch.setattr(sources, "MAX_ROW_BYTES", 1_000_000)
    tracemalloc.start()
    try:
        found = None
        try:
            found = list(read(Path(name), _EndlessDisk(start)))
        except Failure as failure:
            assert failure.exit_code == Exit.BAD_INPUT
        else:
            assert "longer" in str(found[0].problem)
        assert tracemalloc.get_traced_memory()[1] < 40_000_000
    finally:
        tracemalloc.stop()


def test_rows_come_one_at_a_time(table: Any) -> None:
    """A million rows take no more memory than a few: the reader is a generator."""
    path = table("t.csv", "a,b\n" + "1,2\n" * 20_000)
    tracemalloc.start()
    try:
        assert sum(1 for _ in read(path, DISK)) == 20_000
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


# Lines


@pytest.mark.parametrize("size", [1, 3, 1 << 20])
def test_blocks_give_every_line_whole(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However the blocks fall, the lines are those between line feeds, and the blocks are the file."""
    monkeypatch.setattr(sources, "BLOCK_BYTES", size)
    for content in (b"", b"\n", b"a", b"a\n", b"ab\n\n\ncd\re\xe2\x80\xa8f", b"\n\nxyz\n"):
        found = list(blocks(io.BytesIO(content), 100))
        assert b"".join(block for block, _ in found) == content
        lines = [line for _, lines in found for line in lines]
        assert lines == (content.split(b"\n")[:-1] if content.endswith(b"\n") or not content else content.split(b"\n"))


def test_of_a_line_too_long_only_the_beginning_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader sees more than the limit, and the line after it is whole again."""
    monkeypatch.setattr(sources, "BLOCK_BYTES", 10)
    lines = [line for _, some in blocks(io.BytesIO(b"x" * 1000 + b"\nshort\n"), 25) for line in some]
    assert 25 < len(lines[0]) <= 35
    assert lines[1:] == [b"short"]


# Templates


ROW = Row(
    7, {"Title": "Up", "US Gross": 293004164, "Rating": 8.5, "Tags": ["a", {"b": None}], "Won": True, "None": None}
)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{Title}", "Up"),
        ("{Title}/{Title} of {US Gross} ({Rating})", "Up/Up of 293004164 (8.5)"),
        ('Answer as {{"film": "{Title}"}}', 'Answer as {"film": "Up"}'),
        ("{{{Title}}}", "{Up}"),
        ("{Tags} {Won}", '["a", {"b": null}] true'),
        ("no place", "no place"),
        ("", ""),
    ],
)
def test_a_template_is_filled_from_the_row(template: str, text: str) -> None:
    """Texts stand as they are, other values as JSON, doubled braces as one."""
    assert fill(template, ROW) == text


NESTED = Row(
    3,
    {"author": {"name": "Kim", "first.name": "x"}, "tags": ["a", {"b": 2}], "a.b": "dot", "a": {"b": 1}, "none": None},
)


@pytest.mark.parametrize(
    ("template", "text"),
    [("{author.name}", "Kim"), ("{tags.0}{tags.1.b}", "a2"), ("{a.b}", "dot"), ("{tags.1}", '{"b": 2}')],
)
def test_dots_lead_into_nested_values(template: str, text: str) -> None:
    """By name or by number from 0; a column of that very name comes first."""
    assert fill(template, NESTED) == text


@pytest.mark.parametrize(
    ("template", "code"),
    [
        ("{author.age}", "missing_column"),
        ("{author.name.x}", "missing_column"),
        ("{tags.x}", "missing_column"),
        ("{nobody.name}", "missing_column"),
        ("{tags.2}", "empty_value"),
        ("{none.name}", "empty_value"),
    ],
)
def test_dots_that_lead_nowhere_are_refused(template: str, code: str) -> None:
    """A null on the way, or a list that ends before, is an empty value; a name that is not there a missing column."""
    with pytest.raises(BadRow) as caught:
        fill(template, NESTED)
    assert (caught.value.number, caught.value.code) == (3, code)
    assert fill(template, NESTED, {template[1:-1]: "?"}) == "?"


def test_a_value_is_never_read_as_a_template() -> None:
    """Braces in a cell stay as they are, or a table could pull in other columns."""
    assert fill("{a}", Row(1, {"a": "{b} {{", "b": "secret"})) == "{b} {{"


def test_a_missing_column_names_template_column_and_what_there_is() -> None:
    """Everything needed to mend the command stands in the message."""
    with pytest.raises(BadRow) as caught:
        fill("The {Titel}", ROW)
    assert caught.value.exit_code == Exit.BAD_INPUT
    assert caught.value.code == "missing_column"
    for part in ("The {Titel}", "column Titel", "Title, US Gross"):
        assert part in caught.value.message
    assert "{{ and }}" in caught.value.hint


@pytest.mark.parametrize("value", [None, "", "  \n", float("nan"), b""])
def test_an_empty_value_names_its_row(value: object) -> None:
    """Null, NaN, and nothing but white space would make a prompt with a hole in it."""
    with pytest.raises(BadRow) as caught:
        fill("{a}", Row(12, {"a": value}))
    assert (caught.value.number, caught.value.cause) == (12, "the column a is empty")


@pytest.mark.parametrize("template", ["{", "a } b", "{a", "{{a}", "{a}}"])
def test_a_lone_brace_is_no_template(template: str) -> None:
    """Whether a column or a brace was meant is not guessed."""
    with pytest.raises(Failure, match="lone") as caught:
        fill(template, ROW)
    assert not isinstance(caught.value, BadRow)


def test_a_row_that_could_not_be_read_fills_nothing() -> None:
    """Its problem is what the caller gets to hear, under its number."""
    with pytest.raises(BadRow, match="row 3: has 1 cells"):
        fill("constant", Row(3, {}, "has 1 cells"))


def test_ids_keep_the_order_of_the_table() -> None:
    """The default sorts as text the way the rows stand; a template takes columns."""
    ids = [custom_id(None, Row(number, {})) for number in (1, 2, 10, 99_999, 1_000_000)]
    assert ids == sorted(ids)
    assert ids[0] == "row-0000001"
    assert custom_id("film-{Title}", ROW) == "film-Up"


def test_standard_input_is_read_once_as_array_or_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """JSON lines or an array by the first character; closed or empty input is an error, not a hang."""
    for content in (b'{"a":1}\n{"a":2}\n', b' [{"a":1},{"a":2}]'):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(content))))
        assert rows(Path("-")) == [{"a": 1}, {"a": 2}]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(b""))))
    assert refused(Path("-")).message == "standard input is empty"
    monkeypatch.setattr("sys.stdin", None)
    assert "closed" in refused(Path("-")).message


def test_a_reader_closes_its_file(table: Any) -> None:
    """A reader that is left early, as --limit does, leaves no open file behind."""
    opened: list[BinaryIO] = []

    class Watching(Disk):
        def open(self, path: Path) -> BinaryIO:
            opened.append(super().open(path))
            return opened[-1]

    for name, content in (("t.csv", "a\n1\n2\n"), ("t.jsonl", "{}\n{}\n"), ("t.json", "[{},{}]"), ("t.txt", "a\nb\n")):
        reader = read(table(name, content), Watching())
        assert isinstance(reader, Iterator)
        next(reader)
        reader.close()  # type: ignore[attr-defined]
        assert opened[-1].closed, name
