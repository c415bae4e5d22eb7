"""Sources of rows, whatever their format: encodings, line ends, empty rows, bad ones, and bounded memory."""

from __future__ import annotations

import csv
import tracemalloc
from pathlib import Path
from typing import BinaryIO

import pytest
from tests.tables.asking import Content, ask, put, refusal
from tests.tables.test_parquet import parquet
from tests.tables.test_workbooks import one
from vega_datasets import data

from doubleword.failure import Failure
from doubleword.system import Disk
from doubleword.tables import json_values
from doubleword.tables.relation import Settings
from doubleword.tables.rows import Row
from doubleword.tables.sources import csv_files, dialect, documents
from doubleword.tables.sources.source import opened_table

AIRPORTS = Path(data.airports.filepath)  # CSV, 3,376 rows


def rows_of(path: Path, encoding: str = "utf-8") -> list[Row]:
    """All rows of a table, which are the same when they are read again."""
    with opened_table([str(path)], Settings(encoding=encoding), Disk()) as table:
        found = list(table.rows())
        assert list(table.rows()) == found
        assert all(row.names == table.names for row in found)
    return found


# What is in cells


def test_a_real_table_is_read_whole() -> None:
    """The airports that vega-datasets ships: every row, every column, in order."""
    with AIRPORTS.open(encoding="utf-8", newline="") as file:
        expected = list(csv.DictReader(file))
    found = rows_of(AIRPORTS)
    assert [dict(row.values) for row in found] == expected and len(found) == 3376
    assert [row.number for row in found] == list(range(1, 3377))


def test_many_rows_stand_in_their_order(tmp_path: Path) -> None:
    """Also where several threads read a file, with line ends in cells."""
    put(tmp_path, {"t.csv": "n,text\n" + "".join(f'{number},"a\nb, {number}"\n' for number in range(1, 100_001))})
    with opened_table([str(tmp_path / "t.csv")], Settings(), Disk()) as table:
        assert all(row.cells == [str(row.number), f"a\nb, {row.number}"] for row in table.rows())


def test_cells_come_as_they_are(tmp_path: Path) -> None:
    """Leading zeros, NUL, blanks, line ends of every system, separators of Unicode, and 300 KB in one cell."""
    long = "x" * 300_000
    cells = ["01067", "19.990", "a\0b", "  x ", "a\rb\nc\r\nd", "a\u2028\x85\x0b\x1e", '"', "\\", long, "-", "=1+1"]
    table = "n,text\r\n" + "".join(f'{at},"{cell.replace(chr(34), chr(34) * 2)}"\r\n' for at, cell in enumerate(cells))
    for content in (table, table + "bad\r\n"):  # by DuckDB, and row by row
        assert ask(tmp_path, {"t.csv": content}, "--skip-invalid").prompts == cells


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("other", ["\n", "\r\n", "\r"])
def test_lines_end_in_any_way(tmp_path: Path, end: str, other: str) -> None:
    """Alike, or each in another way, with others in quotes."""
    table = f'id,text{end}1,a{other}2,"b{end}c"{end}{other}3,d'
    assert ask(tmp_path, {"t.csv": table}).prompts == ["a", f"b{end}c", "d"]
    assert ask(tmp_path, {"t.txt": f"a{end}b{end}{end}"}).prompts == ["a", "b"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_tells_the_encoding(tmp_path: Path, encoding: str) -> None:
    """What spreadsheets save as "Unicode text" is read without being told, and the mark is part of no name."""
    for name, content in {"t.csv": "text;b\né€;1\nx;2", "t.tsv": "text\tb\né€\t1\nx\t2", "t.txt": "é€\nx"}.items():
        assert ask(tmp_path, {name: content.encode(encoding)}).prompts == ["é€", "x"]


def test_other_encodings_can_be_told(tmp_path: Path) -> None:
    """A table of cp1252 is refused by its first byte that is not UTF-8, and the row; named, it is read."""
    table: dict[str, Content] = {"t.csv": "id,text\n1,a\n2,Amélie\n3,b\n".encode("cp1252")}
    said = refusal(tmp_path, table)
    assert said.startswith("bad_row: row 2: holds the byte 0xe9, which is not utf-8; name the encoding with --encoding")
    assert ask(tmp_path, table, "--skip-invalid").prompts == ["a", "b"]
    assert ask(tmp_path, table, "--encoding", "cp1252").prompts == ["a", "Amélie", "b"]
    assert "row 1: holds the byte 0xff" in refusal(tmp_path, {"t.txt": b"\xff\n"})
    assert "header that holds the byte 0xff" in refusal(tmp_path, {"t.csv": b"text,\xff\n1,2\n"})
    wide = "text\na\n".encode("utf-16-le")
    assert "add --encoding utf-16-le" in refusal(tmp_path, {"t.csv": wide})
    assert ask(tmp_path, {"t.csv": wide}, "--encoding", "utf-16-le").prompts == ["a"]
    assert "add --encoding utf-16-be" in refusal(tmp_path, {"t.csv": "text\na\n".encode("utf-16-be")})


@pytest.mark.parametrize("name", ["utf-99", "hex", "rot13", "idna", "undefined", "", "u\0", "é\udc80"])
@pytest.mark.parametrize("table", ["t.csv", "t.txt", "t.jsonl", "folder"])
def test_what_is_no_encoding_of_text_is_bad_input(tmp_path: Path, table: str, name: str) -> None:
    """Python knows codecs that read no text, and others that cannot tell what they cannot read."""
    put(tmp_path, {f"{table}/a.txt" if table == "folder" else table: "{}\n"})
    with pytest.raises(Failure) as refused:
        rows_of(tmp_path / table, encoding=name)
    assert refused.value.code == "bad_arguments"


# Rows that are none


EMPTY: dict[str, tuple[Content, list[str]]] = {
    "t.csv": ("id,text,,\n1,a,,\n,,,\n\n2,b\n , \n\n", ["row-0000001", "row-0000003"]),
    "t.tsv": ('id\ttext\n1\ta\n\t\n""\t""\n2\tb\n\t\n', ["row-0000001", "row-0000004"]),
    "column.csv": ("text\na\n\nb\n\n", ["row-0000001", "row-0000003"]),
    "t.jsonl": ('{"text":"a"}\n{"text":" "}\n{}\n\n{"text":"b"}\n{"text":null}', ["row-0000001", "row-0000004"]),
    "t.json": ('[{"text":"a"},{"text":null},{"text":"b"},{}]', ["row-0000001", "row-0000003"]),
    "t.txt": ("a\r\n\r\n \r\nb\r\n\r\n\r\n", ["row-0000001", "row-0000004"]),
    "t.parquet": (parquet({"id": [1, None, 2], "text": ["a", None, "b"]}), ["row-0000001", "row-0000003"]),
    "t.xlsx": (one([["id", "text"], [1, "a"], [None, None], [2, "b"]]), ["row-0000001", "row-0000003"]),
}


@pytest.mark.parametrize("name", EMPTY)
def test_a_row_that_is_wholly_empty_is_no_row(tmp_path: Path, name: str) -> None:
    """In every format, at the end or between; the others keep their numbers, and --limit counts them."""
    content, ids = EMPTY[name]
    found = ask(tmp_path, {name: content})
    assert (found.prompts, found.ids) == (["a", "b"], ids)
    assert "empty row" in found.warnings[0]
    assert ask(tmp_path, {name: content}, "--limit", "2").prompts == ["a", "b"]
    assert ask(tmp_path, {name: content}, "--limit", "1").prompts == ["a"]


def test_an_empty_cell_is_no_empty_row(tmp_path: Path) -> None:
    """It is told, with the way out."""
    assert "row 1: the column text is empty | fill it, or say with --default" in refusal(
        tmp_path, {"t.csv": "id,text\n1,\n"}
    )


def test_a_limit_ends_the_reading(tmp_path: Path) -> None:
    """Bad rows within it count, those behind it are nobody's business."""
    table = {"t.csv": "id,text\n1,a\n2,b,c\n3,d\n4\n"}
    assert ask(tmp_path, table, "--limit", "1").prompts == ["a"]
    assert refusal(tmp_path, table, "--limit", "2").startswith("bad_row: row 2")
    found = ask(tmp_path, table, "--limit", "3", "--skip-invalid")
    assert (found.ids, found.warnings[0]) == (["row-0000001", "row-0000003"], "skipped 1 of 3 rows")


# What is no table


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("t.csv", "", "no_rows: t.csv is empty"),
        ("t.csv", "\ufeff\n\n", "no_rows: t.csv is empty"),
        ("t.csv", ",,\n,,\n", "missing_column: "),
        ("t.csv", '"', "no_rows: "),
        ("t.json", "", "no_rows: t.json is empty"),
        ("t.csv", "a,b,a\n1,2,3\n", "bad_table: t.csv names the column a twice"),
        ("t.dat", "a;b\n", "unknown_format: t.dat: neither its ending nor its beginning tells the format"),
        ("t.pdf", "%PDF-1.4", "bad_arguments: t.pdf is a PDF, not a table"),
        ("t.feather", b"ARROW1\0\0", "is an Arrow (Feather) file"),
        ("t.csv", "<!DOCTYPE html><html>", "is a web page"),
    ],
)
def test_what_is_no_table_is_told(tmp_path: Path, name: str, content: Content, part: str) -> None:
    """By its name and its kind."""
    assert part in refusal(tmp_path, {name: content})


def test_a_format_can_be_told(tmp_path: Path) -> None:
    """A name that says nothing, or the wrong thing; flags that fit no file are refused."""
    assert ask(tmp_path, {"t.dat": "text;b\na;1\n"}, "--input-format", "csv").prompts == ["a"]
    assert ask(tmp_path, {"t.csv": "a;b\n"}, "--input-format", "text").prompts == ["a;b"]
    for flags in (["--sheet", "x"], ["--delimiter", ";"], ["--quote", "none"], ["--header-row", "2"]):
        table = "t.csv" if "--sheet" in flags else "t.txt"
        assert f"{flags[0]} has no place" in refusal(tmp_path, {table: "text\na\n"}, *flags)
    assert "--input-format csv" in refusal(tmp_path, {"t.txt": "id\ttext\n1\ta\n"}, prompt="{id}")


TABLES = ["id\ttext\n1\ta\n", '"text";"n"\n"a";"1"\n', "id,Text\r\n1,a\r\n", 'text|n\na|1\n', '{"text": "a"}\n',
          '{"id":1,"text":"a"}\n']  # fmt: skip


@pytest.mark.parametrize("table", TABLES)
def test_a_table_is_not_asked_line_by_line(tmp_path: Path, table: str) -> None:
    """Saved as .txt, with a column that is called as lines are; unless that is what the user says."""
    assert refusal(tmp_path, {"t.txt": table}).startswith("unknown_format: t.txt looks like a table")
    assert ask(tmp_path, {"t.txt": table}, "--input-format", "text").prompts == table.splitlines()


@pytest.mark.parametrize("line", ["text", "Text, and more", "images, text, sound", "a text", "the text; then {text}"])
def test_sentences_are_lines(tmp_path: Path, line: str) -> None:
    """Whatever words stand in them."""
    assert ask(tmp_path, {"t.txt": f"{line}\nb\n"}).prompts == [line, "b"]


def test_a_missing_file_and_an_empty_folder_are_bad_input(tmp_path: Path) -> None:
    """Exit 2, as nothing was sent; a disk error would say that running again may help."""
    assert "no_file: there is no file none.csv" in refusal(tmp_path, {}, "--input", "none.csv")
    put(tmp_path, {"folder.csv/.hidden": "x"})
    assert "no_rows: the folder folder.csv holds no file" in refusal(tmp_path, {}, "--input", "folder.csv")


def test_standard_input_may_hold_any_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """JSON is told by its beginning; closed or empty input is an error, not a hang."""
    for content in ('{"text":"a"}\n{"text":"b"}\n', ' [{"text":"a"},{"text":"b"}]'):
        assert ask(tmp_path, {}, "--input", "-", stdin=content).prompts == ["a", "b"]
    table = "id,text\n1,a\n2,b\n"
    assert ask(tmp_path, {}, "--input", "-", "--input-format", "csv", stdin=table).prompts == ["a", "b"]
    assert "standard input: neither" in refusal(tmp_path, {}, "--input", "-", stdin=table)
    put(tmp_path, {"p.parquet": parquet({"text": ["a", "b"]})})
    assert ask(tmp_path, {}, "--input", "-", stdin=(tmp_path / "p.parquet").read_bytes()).prompts == ["a", "b"]
    assert "standard input is empty" in refusal(tmp_path, {}, "--input", "-", stdin="")
    assert "standard input is given twice" in refusal(tmp_path, {}, "--input", "-", "--input", "-", stdin="{}")
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(Failure, match="closed"):
        rows_of(Path("-"))


# Memory


@pytest.mark.parametrize(
    ("name", "start"), [("t.jsonl", b'{"a":"'), ("t.json", b'[{"a":"'), ("t.csv", b'a\n"'), ("t.txt", b"")]
)
def test_a_line_without_end_does_not_fill_the_memory(
    tmp_path: Path, name: str, start: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """400 MB without a line end are refused after a small part of them was held."""
    for module, limit in (
        (json_values, "LONGEST"),
        (csv_files, "LONGEST_CELL"),
        (dialect, "LONGEST_CELL"),
        (documents, "LONGEST_LINE"),
    ):
        monkeypatch.setattr(module, limit, 1_000_000)
    with (tmp_path / name).open("wb") as file:
        file.write(start)
        file.truncate(400_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(Failure, match="longer than 1,000,000"):
            rows_of(tmp_path / name)
        assert tracemalloc.get_traced_memory()[1] < 40_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["t.csv", "bad.csv", "t.jsonl", "t.json", "t.txt"])
def test_memory_does_not_grow_with_the_rows(tmp_path: Path, name: str) -> None:
    """Rows come some thousands at a time, also from what is read row by row."""
    count = 30_000
    written = {
        "csv": "a,b\n" + "1,2\n" * count,
        "jsonl": '{"a":1,"b":2}\n' * count,
        "json": "[" + ",".join(['{"a":1,"b":2}'] * count) + "]",
        "txt": "a\n" * count,
    }
    put(tmp_path, {name: written[name.rpartition(".")[2]] + ("bad\n" if name == "bad.csv" else "")})
    rows_of(AIRPORTS)  # what is loaded once does not count
    tracemalloc.start()
    try:
        with opened_table([str(tmp_path / name)], Settings(), Disk()) as table:
            assert sum(row.problem is None for row in table.rows()) == count
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()


def test_files_are_closed_again(tmp_path: Path) -> None:
    """Also by a reading that is left early, as --limit leaves it."""
    opened: list[BinaryIO] = []

    class Watching(Disk):
        def open(self, path: Path) -> BinaryIO:
            opened.append(super().open(path))
            return opened[-1]

    for name, content in {"t.csv": "a\n1\n2\n", "t.json": '[{"a":1}]', "t.txt": "a\nb\n", "d/a.txt": "x"}.items():
        put(tmp_path, {name: content})
        with opened_table([str(tmp_path / name.partition("/")[0])], Settings(), Watching()) as table:
            next(iter(table.rows(1)))
        assert opened and all(file.closed for file in opened), name
