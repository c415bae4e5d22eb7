"""Tables of results: which columns, which types, and that nothing is dropped or changed on the way into them."""

from __future__ import annotations

import base64
import contextlib
import csv
import datetime
import json
import shutil
import struct
import subprocess
import zipfile
from decimal import Decimal
from pathlib import Path
from typing import Any
from xml.dom import minidom

import numpy
import pyarrow.parquet
import pytest
import python_calamine
from hypothesis import example, given, settings
from hypothesis import strategies as st

from doubleword.failure import Failure
from doubleword.output_file import WholeFile
from doubleword.results.outputs import Source, TableOutput, Vectors
from doubleword.results.result import Result
from doubleword.results.table_rows import Wanted, added_names
from doubleword.service import CHAT, EMBEDDINGS
from doubleword.system import Disk
from doubleword.tables import formulas
from doubleword.tables.database import Database, text
from doubleword.tables.outputs.columns import selection, source_names
from doubleword.tables.staged import Kind

PROPERTIES = {"n": "integer", "x": "number", "ok": "boolean", "status": "text", "tags": "text"}
ANSWER = {"n": 7, "x": 1, "ok": True, "status": "new", "tags": ["a", "é"]}


def result(body: Any, endpoint: str = CHAT, kind: str = "succeeded", **fields: Any) -> Result:
    """A result whose answer is `body`; its custom_id is r1 unless `fields` say otherwise."""
    line = json.dumps({"custom_id": "r1", "response": {"status_code": 200, "body": body}}).encode()
    return Result(**{"custom_id": "r1", "kind": kind, "line": line, "cause": None, "endpoint": endpoint, **fields})


def chat(*contents: str) -> dict[str, Any]:
    return {"choices": [{"message": {"content": text}, "finish_reason": "stop"} for text in contents]}


def vectors(*found: Any) -> dict[str, Any]:
    return {"data": [{"embedding": vector} for vector in found]}


STRUCTURED = [
    result(chat(json.dumps(ANSWER))),
    result(chat('{"n": 1'), kind="failed", cause="not JSON", flaws=("invalid",)),
    Result("r1", "missing", None, "no row", CHAT),
]


def write(
    path: Path,
    results: list[Result],
    properties: dict[str, str] | None = None,
    source: Path | None = None,
    **wanted: Any,
) -> list[str]:
    """Write results into a table at `path`, beside the rows of `source` whose `id` is theirs; what is said of it."""
    joined = Source([str(source)], None, []) if source is not None else None
    said = Wanted(path.suffix[1:], id="{id}" if source is not None else None, **wanted)
    with contextlib.ExitStack() as held, WholeFile(path, Disk(), force=True) as file:
        made = TableOutput(said, joined, {results[0].endpoint}, properties or {}, Disk(), path.with_name("work"), held)
        for one in results:
            made.add(one)
        return made.finish(file)


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read_parquet(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pyarrow.parquet.read_table(path).to_pylist()
    return rows


def read_sheet(path: Path) -> list[list[Any]]:
    """All cells of the first sheet, numbers as floats."""
    return python_calamine.load_workbook(str(path)).get_sheet_by_index(0).to_python(skip_empty_area=False)


def read_cells(path: Path) -> list[list[Any]]:
    """The header and the rows of a table of any format."""
    if path.suffix == ".xlsx":
        return read_sheet(path)
    rows: list[dict[str, Any]] = [*read_csv(path)] if path.suffix == ".csv" else read_parquet(path)
    return [list(rows[0]), *(list(row.values()) for row in rows)]


# Names


def test_properties_stand_after_the_answer_under_names_that_are_free() -> None:
    """A name of the source or of the results' own columns gets result_ in front, as often as that takes."""
    names = list(added_names(["Answer", "result_answer", "n"], {CHAT}, list(PROPERTIES)).values())
    assert names == [
        "custom_id", "status", "result_result_answer", "result_n", "x", "ok", "result_status", "tags",
        "finish_reason", "prompt_tokens", "completion_tokens", "error",
    ]  # fmt: skip
    assert added_names([], {EMBEDDINGS}, [])["answer"] == "embedding"


NAMES = st.lists(st.sampled_from(["a", "A", "a_2", "", " ", "\0", "\ud800", "column2", "answer", "Answer", "é", "É"]))


@given(NAMES, NAMES.map(lambda names: list(dict.fromkeys(names))), st.booleans())
def test_names_are_never_empty_and_never_alike(source: list[str], properties: list[str], any_case: bool) -> None:
    """Whatever the source and a schema call their columns; where readers fold case, also in another case of letters."""
    own = source_names(source, any_case)
    every = [*own, *added_names(own, {CHAT}, properties).values()]
    assert all(name.strip() for name in every)
    assert len({name.casefold() if any_case else name for name in every}) == len(every)
    kept = [name for name in source if name.strip("\0 ") and source.count(name) == 1 and "\ud800" not in name]
    assert any_case or set(kept) <= set(own)
    "".join(every).encode()


@pytest.mark.parametrize(
    ("wanted", "pairs"),
    [
        ("b, a", [("b", "b"), ("a", "a")]),
        ("new name = a", [("new name", "a")]),
        ("a=b,b=a", [("a", "b"), ("b", "a")]),
        ('"x,y", z="x,y"', None),
        ('"x,y"', [("x,y", "x,y")]),
        ('"z=x,y"', [("z", "x,y")]),
        ("p=q", [("p=q", "p=q")]),
        ("r=p=q", [("r", "p=q")]),
        ('text, " text"', None),
        ("text", [(" text", " text")]),
        ("a, c=a", [("a", "a"), ("c", "a")]),
        ("a, a", None),
        ("A=a, a=b", [("A", "a"), ("a", "b")]),
        ("unknown", None),
        ("=a", None),
        ("x=", None),
        (" , ", None),
        ("a\nb", None),
    ],
)
def test_columns_are_chosen_ordered_and_renamed(wanted: str, pairs: list[tuple[str, str]] | None) -> None:
    """Names with commas stand in quotes, and one with an equals sign is itself; what is unknown or twice is refused."""
    names = ["a", "b", "x,y", "p=q", " text"]
    if pairs is not None:
        assert selection(wanted, names) == pairs
        return
    with pytest.raises(Failure) as refused:
        selection(wanted, names)
    assert refused.value.code == "bad_columns" and "the columns are: a, b, x,y, p=q" in refused.value.message


# Structured answers


def test_structured_answers_in_csv(tmp_path: Path) -> None:
    """Nested values as JSON; an invalid answer keeps its text and cause, and its columns are empty."""
    write(tmp_path / "t.csv", STRUCTURED, PROPERTIES)
    good, invalid, missing = read_csv(tmp_path / "t.csv")
    assert (good["n"], good["x"], good["ok"], good["result_status"]) == ("7", "1", "true", "new")
    assert json.loads(good["tags"]) == ["a", "é"] and good["status"] == "succeeded"
    assert (invalid["status"], invalid["answer"], invalid["error"], invalid["n"]) == (
        "invalid",
        '{"n": 1',
        "not JSON",
        "",
    )
    assert (missing["status"], missing["error"]) == ("missing", "no row")


def test_structured_answers_in_parquet(tmp_path: Path) -> None:
    """Each column of its type, so that nobody has to parse again; where no value came, of the one that was declared."""
    write(tmp_path / "t.parquet", [*STRUCTURED, result(chat('{"x": 0.5}'))], {**PROPERTIES, "none": "integer"})
    table = pyarrow.parquet.read_table(tmp_path / "t.parquet")
    types = {name: str(table.schema.field(name).type) for name in ("n", "x", "ok", "tags", "none", "prompt_tokens")}
    assert types == {"n": "int64", "x": "double", "ok": "bool", "tags": "string", "none": "int64",
                     "prompt_tokens": "int64"}  # fmt: skip
    good, invalid, _, half = table.to_pylist()
    assert (good["n"], good["x"], good["ok"], json.loads(good["tags"])) == (7, 1.0, True, ["a", "é"])
    assert (invalid["status"], invalid["answer"], invalid["n"]) == ("invalid", '{"n": 1', None)
    assert (half["n"], half["x"]) == (None, 0.5)


def test_values_that_no_declared_type_holds_are_kept(tmp_path: Path) -> None:
    """A whole number beyond 64 bits in a wider type, a word among numbers as a text: nothing is lost or made null."""
    text = '{"n": 123456789012345678901234567890, "x": "much", "ok": 1, "status": 2}'
    said = write(tmp_path / "t.parquet", [result(chat(text)), result(chat('{"x": 1.5}'))], PROPERTIES)
    row, other = read_parquet(tmp_path / "t.parquet")
    assert (row["n"], row["x"], row["ok"]) == (Decimal("123456789012345678901234567890"), "much", 1)
    assert (row["result_status"], row["answer"], other["x"]) == (2, text, "1.5")
    assert said == []


@pytest.mark.parametrize(
    ("numbers", "kind", "inexact"),
    [
        (["1", "-9223372036854775807"], "DECIMAL(38, 0)", False),
        (["999999999999999999"], "BIGINT", False),
        (["18446744073709551615"], "DECIMAL(38, 0)", False),
        (["1" * 39], "VARCHAR", True),
        (["0.1", "3", "1e-7"], "DOUBLE", False),
        (["0.30000000000000004"], "DOUBLE", False),
        (["3.14159265358979323846"], "VARCHAR", True),
        (["1e400"], "VARCHAR", True),
        (["1e-9999999999999999999"], "VARCHAR", True),
        (["0.5", "9400111899223197428490"], "VARCHAR", True),
    ],
)
def test_a_type_holds_every_digit_of_its_numbers(numbers: list[str], kind: str, inexact: bool) -> None:
    """Or the numbers are texts, which is told."""
    seen = Kind()
    for number in numbers:
        seen.see(number.encode())
    assert (seen.type, seen.is_inexact) == (kind, inexact)


def test_numbers_that_no_type_holds_are_texts_and_told(tmp_path: Path) -> None:
    """With the name of their column; in CSV and in a sheet nothing has to be told, as their digits stand there."""
    answers = [result(chat(json.dumps({"id": 7}))), result(chat('{"id": ' + "9" * 40 + "}"))]
    (said,) = write(tmp_path / "t.parquet", answers, {"id": "integer"})
    assert "id" in said and "digits" in said
    assert [row["id"] for row in read_parquet(tmp_path / "t.parquet")] == ["7", "9" * 40]
    for name in ("t.csv", "t.xlsx"):
        assert write(tmp_path / name, answers, {"id": "integer"}) == []
    assert [row["id"] for row in read_csv(tmp_path / "t.csv")] == ["7", "9" * 40]
    assert [row[3] for row in read_sheet(tmp_path / "t.xlsx")[1:]] == ["7", "9" * 40]


@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "t.xlsx"])
def test_a_schema_may_call_its_properties_anything(tmp_path: Path, name: str) -> None:
    """Names that SQL, JSON or a reader would stumble over, with values that are half of a surrogate pair."""
    names = ["", " ", 'a"b', 'A"B', "x\0y", "line\nend", "\ud800", "place", "custom_id", "property 0"]
    answer = json.dumps({one: ["\ud800", at] for at, one in enumerate(names)})
    write(tmp_path / name, [result(chat(answer))], dict.fromkeys(names, "text"))
    header, cells = read_cells(tmp_path / name)
    assert [json.loads(cell) for cell in cells[3 : 3 + len(names)]] == [["\ud800", at] for at in range(len(names))]
    assert all(column.strip() for column in header)


def test_no_choice_and_no_tool_call_is_dropped(tmp_path: Path) -> None:
    """Several choices are a JSON list; tool calls read like calls, after what was said."""
    calls = [{"function": {"name": name, "arguments": '{"q": 1}'}} for name in ("look", "book")]
    said = {"choices": [{"message": {"content": "Wait.", "tool_calls": calls}}]}
    write(tmp_path / "t.csv", [result(chat("one", "two")), result(said)])
    answers = [row["answer"] for row in read_csv(tmp_path / "t.csv")]
    assert answers == ['["one", "two"]', 'Wait.\nlook({"q": 1})\nbook({"q": 1})']


# Vectors

ROWS = [
    Result("r1", "missing", None, "no row", EMBEDDINGS),
    result(vectors([0.5, -2.0, 1]), EMBEDDINGS, custom_id="r2"),
    Result("r3", "failed", None, "HTTP 500", EMBEDDINGS),
    result(vectors(base64.b64encode(struct.pack("<3f", 3, 4, 5)).decode()), EMBEDDINGS, custom_id="r4"),
]


def matrix(folder: Path, results: list[Result], rows: int) -> Any:
    with WholeFile(folder / "v.npy", Disk()) as file, WholeFile(folder / "v.ids.txt", Disk()) as ids:
        made = Vectors(file, ids, rows)
        for one in results:
            made.add(one)
        made.finish(file)
    return numpy.load(folder / "v.npy")


def test_vectors_become_a_matrix_that_numpy_reads(tmp_path: Path) -> None:
    """In the order of the requests, NaN where there is none, be it before the first vector; numbers or base64."""
    found = matrix(tmp_path, ROWS, 4)
    assert (found.dtype, found.shape) == (numpy.float32, (4, 3))
    assert found[1].tolist() == [0.5, -2.0, 1.0] and found[3].tolist() == [3.0, 4.0, 5.0]
    assert numpy.isnan(found[0]).all() and numpy.isnan(found[2]).all()
    assert (tmp_path / "v.ids.txt").read_text() == "r1\nr2\nr3\nr4\n"


def test_without_any_vector_the_matrix_has_no_width(tmp_path: Path) -> None:
    """As many rows as requests all the same."""
    assert matrix(tmp_path, [ROWS[0], ROWS[2]], 2).shape == (2, 0)


@pytest.mark.parametrize(
    ("results", "rows", "code"),
    [
        ([ROWS[1], result(vectors([1.0]), EMBEDDINGS)], 2, "unlike_vectors"),
        ([result(vectors([1.0], [2.0]), EMBEDDINGS)], 1, "several_vectors"),
        ([ROWS[1]], 2, "rows_unknown"),
        ([ROWS[1], ROWS[2]], 1, "rows_unknown"),
    ],
)
def test_what_is_no_matrix_is_refused_whole(tmp_path: Path, results: list[Result], rows: int, code: str) -> None:
    """Neither file appears."""
    with pytest.raises(Failure) as refused:
        matrix(tmp_path, results, rows)
    assert refused.value.code == code and "--format" in refused.value.hint
    assert list(tmp_path.iterdir()) == []


def test_vectors_in_parquet_are_lists_of_numbers(tmp_path: Path) -> None:
    """None where there is none; several vectors of one request have no place in a row, and are refused by name."""
    write(tmp_path / "t.parquet", ROWS)
    table = pyarrow.parquet.read_table(tmp_path / "t.parquet")
    assert str(table.schema.field("embedding").type.value_type) == "double"
    assert table["embedding"].to_pylist() == [None, [0.5, -2.0, 1.0], None, [3.0, 4.0, 5.0]]
    with pytest.raises(Failure, match="several vectors"):
        write(tmp_path / "u.parquet", [result(vectors([1.0], [2.0]), EMBEDDINGS)])
    assert [path.name for path in tmp_path.iterdir()] == ["t.parquet"]


def test_a_number_beyond_all_floats_is_no_vector_and_no_crash(tmp_path: Path) -> None:
    """A server may send any digits; the row has none then, and the others are written."""
    beyond = [result(vectors([10**400, 1, 2]), EMBEDDINGS), ROWS[1]]
    write(tmp_path / "t.parquet", beyond)
    assert pyarrow.parquet.read_table(tmp_path / "t.parquet")["embedding"].to_pylist() == [None, [0.5, -2.0, 1.0]]
    found = matrix(tmp_path, beyond, 2)
    assert numpy.isnan(found[0]).all() and found[1].tolist() == [0.5, -2.0, 1.0]


# Cells

CELLS = st.text(alphabet=",;\"'\r\n\t\0=+-@ aé東\U0001f600\u2028\ud800\uff1d5.", max_size=8)


def shown(cell: str, raw_cells: bool) -> str:
    """What a reader finds in the cell of a text."""
    cell = cell.replace("\0", "").encode("utf-8", "replace").decode()
    return cell if raw_cells else formulas.without_formula(cell)


@settings(max_examples=60, deadline=None)
@given(st.lists(CELLS.filter(bool), min_size=1, max_size=30), st.booleans(), st.sampled_from(",;\t|§"))
@example(["-\u2028"], False, ",")
def test_a_cell_is_read_as_it_was_written(answers: list[str], raw_cells: bool, delimiter: str) -> None:
    """By Python's reader, whatever stands in it; what a spreadsheet would run is changed, and counted."""
    results = [result(chat(answer)) for answer in answers]
    with pytest.MonkeyPatch.context() as patch:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            patch.chdir(folder)
            path = Path("t.csv")
            said = write(path, results, delimiter=delimiter, raw_cells=raw_cells, columns="answer, status, error")
            with path.open(newline="", encoding="utf-8") as file:
                header, *rows = csv.reader(file, delimiter=delimiter)
    assert header == ["answer", "status", "error"]
    assert rows == [[shown(answer, raw_cells), "succeeded", ""] for answer in answers]
    changed = sum(shown(answer, raw_cells) != shown(answer, True) for answer in answers)
    assert [int(one.split()[0]) for one in said] == ([changed] if changed else [])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(alphabet="=+-@\t\r\n\uff1d0123456789.,()/ '€$%EURkg\u2019e", max_size=12), min_size=50))
def test_sql_and_python_call_the_same_cells_formulas(cells: list[str]) -> None:
    """A table is written by the one, a map of repaired ids by the other."""
    with Disk().work_folder(None) as folder, Database(folder) as target:
        given = ", ".join(map(text, cells))
        rows = target.run(f"SELECT {formulas.is_run('cell')} FROM (SELECT unnest([{given}]) AS cell)")
    assert [bool(row[0]) for row in rows] == [formulas.without_formula(cell) != cell for cell in cells]


@pytest.mark.parametrize(
    "text",
    ["-1.234,50 €", "+49 351 123", "-", "-5", "+1", "-5.2e10", "-3 %", "-7 EUR", "+49 (351) 123-45/6", "-12'000"],
)
def test_amounts_telephone_numbers_and_dashes_stay(text: str) -> None:
    """A spreadsheet has nothing to run in them."""
    assert formulas.without_formula(text) == text


def test_an_empty_answer_in_the_only_column_is_a_row(tmp_path: Path) -> None:
    """A blank line would be none to most readers."""
    lost = Result("r1", "missing", None, "no row", CHAT)
    results = [lost, result(chat("a")), lost]
    write(tmp_path / "t.csv", results, columns="answer")
    assert (tmp_path / "t.csv").read_text() == 'answer\n""\na\n""\n'


# Workbooks

SHEET = {"n": "integer", "big": "integer", "share": "number", "zip": "text", "ok": "boolean"}


def test_numbers_of_answers_are_number_cells_and_texts_are_not(tmp_path: Path) -> None:
    """By the type of their column; a number that a sheet would round is a text with all its digits."""
    answers = [
        {"n": 7, "big": 9400111899223197428490, "share": 0.8333333333333334, "zip": "01067", "ok": True},
        {"n": -3, "big": 5, "share": 1e-7, "zip": "12345", "ok": False},
    ]
    write(tmp_path / "t.xlsx", [result(chat(json.dumps(one))) for one in answers], SHEET, columns=", ".join(SHEET))
    assert read_sheet(tmp_path / "t.xlsx") == [
        list(SHEET),
        [7.0, "9400111899223197428490", 0.8333333333333334, "01067", "true"],
        [-3.0, 5.0, 1e-7, "12345", "false"],
    ]


@pytest.mark.parametrize(
    ("cells", "are_numbers"),
    [
        (["1", "-2", "", "3.50", "0"], True),
        (["1.10", "1.20"], True),
        (["1.9", "1.10"], False),
        (["4.0", "12.25"], True),
        (["1", "007"], False),
        (["+49", "1"], False),
        (["2024-01-01", "1"], False),
        (["1e5", "1"], False),
        (["1,5", "2"], False),
        (["1234567890123456", "1"], False),
        (["3.14159265358979323846", "1"], False),
        (["-", "1"], False),
        (["", ""], False),
    ],
)
def test_a_csv_column_is_numbers_where_all_of_its_cells_are(
    tmp_path: Path, cells: list[str], are_numbers: bool
) -> None:
    """CSV has no types: a column with one cell that a sheet would change stays text."""
    (tmp_path / "s.csv").write_text("id,x\n" + "".join(f"r{at},{json.dumps(cell)}\n" for at, cell in enumerate(cells)))
    results = [result(chat("a"), custom_id=f"r{at}") for at in range(len(cells))]
    write(tmp_path / "t.xlsx", results, source=tmp_path / "s.csv", columns="x")
    found = [row[0] for row in read_sheet(tmp_path / "t.xlsx")[1:]]
    assert found + [""] * (len(cells) - len(found)) == [float(one) if one and are_numbers else one for one in cells]


def test_types_of_a_source_decide_in_a_sheet(tmp_path: Path) -> None:
    """A text of figures in JSON is text, a number beside words is a text as well; keys are never changed."""
    rows = [{"id": 1, "zip": "12345", "n": 2.5, "mixed": 7}, {"id": 2, "zip": "99", "n": 3, "mixed": "word"}]
    (tmp_path / "s.json").write_text(json.dumps(rows))
    results = [result(chat("5"), custom_id=name) for name in ("1", "2")]
    write(tmp_path / "t.xlsx", results, source=tmp_path / "s.json", columns="id, zip, n, mixed, answer, custom_id")
    assert read_sheet(tmp_path / "t.xlsx")[1:] == [
        [1.0, "12345", 2.5, "7", 5.0, "1"],
        [2.0, "99", 3.0, "word", 5.0, "2"],
    ]


TEXTS = [
    "=1+1", "=HYPERLINK(\"http://x\")", "http://example.com", "mailto:a@b.c", "<r>x</r>", "<r><t>in</t></r>",
    "<b>&amp;", "a\x01b", "a\rb", "a\r\nb", "\t=1", " x ", "\n", "_x0041_", "\x7f", "\x85", "'q", "true",
    "1e5", "é東😀", "{=1}",
]  # fmt: skip


def test_texts_of_a_sheet_are_texts(tmp_path: Path) -> None:
    """Never a formula, a link or markup, and read as they were; the header is frozen, the sheet well formed."""
    write(tmp_path / "t.xlsx", [result(chat(text)) for text in TEXTS], columns="answer, status")
    assert [row[0] for row in read_sheet(tmp_path / "t.xlsx")] == ["answer", *TEXTS]
    with zipfile.ZipFile(tmp_path / "t.xlsx") as packed:
        sheet = packed.read("xl/worksheets/sheet1.xml")
        assert not [name for name in packed.namelist() if "rels" in name and "sheet" in name]
    assert b"<f>" not in sheet and b'<pane ySplit="1"' in sheet and b'state="frozen"' in sheet
    minidom.parseString(sheet)


def test_what_a_sheet_forbids_goes_and_the_sheet_stays_whole(tmp_path: Path) -> None:
    """A NUL is left out, as in CSV; what is no character of XML is escaped."""
    write(tmp_path / "t.xlsx", [result(chat(text)) for text in ("\0a\0", "x\ufffey", "half\ud800")], columns="answer")
    found = [row[0] for row in read_sheet(tmp_path / "t.xlsx")[1:]]
    assert found[0] == "a" and found[1].startswith("x") and found[2] == "half?"
    with zipfile.ZipFile(tmp_path / "t.xlsx") as packed:
        minidom.parseString(packed.read("xl/worksheets/sheet1.xml"))


def test_long_cells_are_cut_and_counted(tmp_path: Path) -> None:
    """At the 32,767 characters of a sheet, of which an emoji takes two; the others are whole."""
    texts = ["x" * 40_000, "😀" * 20_000, "y" * 32_767]
    (said,) = write(tmp_path / "t.xlsx", [result(chat(text)) for text in texts], columns="answer")
    assert said.startswith("2 cells") and "32,767" in said
    found = [row[0] for row in read_sheet(tmp_path / "t.xlsx")[1:]]
    assert found == ["x" * 32_767, "😀" * 16_383, "y" * 32_767]


def test_a_table_that_fits_into_no_sheet_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its rows or its columns; nothing is written."""
    monkeypatch.setattr("doubleword.tables.outputs.workbooks.SHEET_ROWS", 3)
    results = [result(chat("a"))] * 3
    with pytest.raises(Failure) as refused:
        write(tmp_path / "t.xlsx", results)
    assert refused.value.code == "too_many_rows" and refused.value.exit_code == 2
    monkeypatch.setattr("doubleword.tables.outputs.workbooks.SHEET_COLUMNS", 6)
    with pytest.raises(Failure) as refused:
        write(tmp_path / "t.xlsx", results[:2])
    assert refused.value.code == "too_many_columns" and "--columns" in refused.value.hint
    write(tmp_path / "t.xlsx", results[:2], columns="custom_id, answer")
    assert [path.name for path in tmp_path.iterdir()] == ["t.xlsx"]


def test_an_office_program_reads_the_sheet(tmp_path: Path) -> None:
    """LibreOffice, where it is installed, turns it into the same CSV."""
    office = shutil.which("soffice") or shutil.which("libreoffice")
    if office is None:
        pytest.skip("LibreOffice is not installed")
    write(tmp_path / "t.xlsx", [result(chat(text)) for text in ("7", "007", "=1+1")], columns="answer, status")
    profile = f"-env:UserInstallation=file://{tmp_path}/profile"
    words = [office, profile, "--headless", "--convert-to", "csv", "--outdir", str(tmp_path / "out"), "t.xlsx"]
    subprocess.run(words, cwd=tmp_path, check=True, capture_output=True, timeout=300)
    assert [row["answer"] for row in read_csv(tmp_path / "out" / "t.csv")] == ["7", "007", "=1+1"]


# Order and memory


@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "t.xlsx"])
@pytest.mark.parametrize("order", ["as asked", "reversed", "shuffled"])
def test_rows_stand_in_the_order_of_the_requests(tmp_path: Path, name: str, order: str) -> None:
    """However the table stands: more rows than are read at once, by several threads, some of them asked by nobody."""
    count = 5000
    numbers = list(range(count))
    placed = {"as asked": numbers, "reversed": numbers[::-1], "shuffled": [at * 3001 % count for at in numbers]}[order]
    (tmp_path / "s.csv").write_text("id,x\n" + "".join(f"r{at},x{at}\n" for at in placed))
    asked = [at for at in numbers if at % 7]
    results = [result(chat(f"a{at}"), custom_id=f"r{at}") for at in asked]
    (said,) = write(tmp_path / name, results, source=tmp_path / "s.csv", columns="x, custom_id, answer")
    assert f"not asked: {count - len(asked)}, such as row" in said
    rows = read_cells(tmp_path / name)[1:]
    assert rows == [[f"x{at}", f"r{at}", f"a{at}"] for at in asked]
    assert not (tmp_path / "work").exists()


def test_a_request_without_a_row_ends_it(tmp_path: Path) -> None:
    """An answer is never left out, nor put beside another row: there is no table then."""
    (tmp_path / "s.csv").write_text("id,x\nr1,a\n")
    with pytest.raises(Failure) as refused:
        write(tmp_path / "t.csv", [result(chat("a")), result(chat("b"), custom_id="r9")], source=tmp_path / "s.csv")
    assert (refused.value.code, refused.value.exit_code) == ("join_mismatch", 2) and "r9" in refused.value.message
    assert [path.name for path in tmp_path.iterdir()] == ["s.csv"]


def test_dates_of_a_parquet_source_stay_what_they_are(tmp_path: Path) -> None:
    """As typed values in Parquet, as text in CSV and in a sheet, where a program would change how they look."""
    day = datetime.date(2023, 11, 14)
    pyarrow.parquet.write_table(pyarrow.table({"id": ["r1"], "day": [day]}), tmp_path / "s.parquet")
    for name in ("t.csv", "t.parquet", "t.xlsx"):
        write(tmp_path / name, [result(chat("a"))], source=tmp_path / "s.parquet", columns="day")
    assert read_parquet(tmp_path / "t.parquet") == [{"day": day}]
    assert read_csv(tmp_path / "t.csv") == [{"day": "2023-11-14"}]
    assert read_sheet(tmp_path / "t.xlsx")[1] == ["2023-11-14"]
