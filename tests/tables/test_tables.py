"""Tables of results: which columns, which types, and that nothing is dropped on the way into them."""

from __future__ import annotations

import base64
import csv
import io
import json
import struct
from pathlib import Path
from typing import Any, cast

import numpy
import pyarrow.parquet
import pytest
from doubleword.tables.matrix import Matrix
from doubleword.tables.output import Column, Csv, Parquet, SourceCells, Table, _rows, columns_of, without_formula
from hypothesis import given, settings
from hypothesis import strategies as st

from doubleword.failure import Failure
from doubleword.output_file import WholeFile
from doubleword.results.result import Result
from doubleword.service import CHAT, EMBEDDINGS
from doubleword.system import Disk

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


def write(path: Path, table: type[Table], results: list[Result], *arguments: Any) -> None:
    """Write results, without a source table, into a table of that form at `path`."""
    with WholeFile(path, Disk()) as file, table(file, *arguments) as made:
        for one in results:
            made.add(one, [])


def test_properties_stand_after_the_answer_under_names_that_are_free() -> None:
    """A name of the source or of the results' own columns gets result_ in front, as often as that takes."""
    names = [column.name for column in columns_of(["answer", "result_answer", "n"], {CHAT}, PROPERTIES)]
    assert names == [
        "answer", "result_answer", "n", "custom_id", "status", "result_result_answer", "result_n", "x", "ok",
        "result_status", "tags", "finish_reason", "prompt_tokens", "completion_tokens", "error",
    ]  # fmt: skip
    assert columns_of([], {EMBEDDINGS}, {})[2] == Column("embedding", "vector")


def test_structured_answers_in_csv(tmp_path: Path) -> None:
    """Nested values as JSON; an invalid answer keeps its text and cause, and its columns are empty."""
    write(tmp_path / "t.csv", Csv, STRUCTURED, columns_of([], {CHAT}, PROPERTIES), list(PROPERTIES))
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        good, invalid, missing = csv.DictReader(file)
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
    """Each column of its type, so that nobody has to parse again."""
    write(tmp_path / "t.parquet", Parquet, STRUCTURED, columns_of([], {CHAT}, PROPERTIES), list(PROPERTIES))
    table = pyarrow.parquet.read_table(tmp_path / "t.parquet")
    types = {name: str(table.schema.field(name).type) for name in ("n", "x", "ok", "tags")}
    assert types == {"n": "int64", "x": "double", "ok": "bool", "tags": "string"}
    good, invalid, _ = table.to_pylist()
    assert (good["n"], good["x"], good["ok"], json.loads(good["tags"])) == (7, 1.0, True, ["a", "é"])
    assert (invalid["status"], invalid["answer"], invalid["n"]) == ("invalid", '{"n": 1', None)


def test_values_that_fit_no_cell_leave_it_empty(tmp_path: Path) -> None:
    """A whole number beyond 64 bits ends no table; the answer's text beside it has it all."""
    text = '{"n": 123456789012345678901234567890, "x": "much", "ok": 1, "status": 2}'
    write(tmp_path / "t.parquet", Parquet, [result(chat(text))], columns_of([], {CHAT}, PROPERTIES), list(PROPERTIES))
    (row,) = pyarrow.parquet.read_table(tmp_path / "t.parquet").to_pylist()
    assert (row["n"], row["x"], row["ok"], row["result_status"], row["answer"]) == (None, None, None, "2", text)


def test_no_choice_and_no_tool_call_is_dropped(tmp_path: Path) -> None:
    """Several choices are a JSON list; tool calls read like calls, after what was said."""
    calls = [{"function": {"name": name, "arguments": '{"q": 1}'}} for name in ("look", "book")]
    said = {"choices": [{"message": {"content": "Wait.", "tool_calls": calls}}]}
    write(tmp_path / "t.csv", Csv, [result(chat("one", "two")), result(said)], columns_of([], {CHAT}, {}))
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        answers = [row["answer"] for row in csv.DictReader(file)]
    assert answers == ['["one", "two"]', 'Wait.\nlook({"q": 1})\nbook({"q": 1})']


ROWS = [
    Result("r1", "missing", None, "no row", EMBEDDINGS),
    result(vectors([0.5, -2.0, 1]), EMBEDDINGS, custom_id="r2"),
    Result("r3", "failed", None, "HTTP 500", EMBEDDINGS),
    result(vectors(base64.b64encode(struct.pack("<3f", 3, 4, 5)).decode()), EMBEDDINGS, custom_id="r4"),
]


def matrix(folder: Path, results: list[Result], rows: int) -> Any:
    with (
        WholeFile(folder / "v.npy", Disk()) as file,
        WholeFile(folder / "v.ids.txt", Disk()) as ids,
        Matrix(file, ids, rows) as made,
    ):
        for one in results:
            made.add(one, [])
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


def test_parquet_has_a_list_for_one_vector_and_refuses_several(tmp_path: Path) -> None:
    """Base64 is decoded; what has no place in a row is an error, not a crash."""
    columns = columns_of([], {EMBEDDINGS}, {})
    write(tmp_path / "t.parquet", Parquet, ROWS, columns)
    found = pyarrow.parquet.read_table(tmp_path / "t.parquet")["embedding"].to_pylist()
    assert found == [None, [0.5, -2.0, 1.0], None, [3.0, 4.0, 5.0]]
    with pytest.raises(Failure, match="several vectors"):
        write(tmp_path / "u.parquet", Parquet, [result(vectors([1.0], [2.0]), EMBEDDINGS)], columns)
    assert not (tmp_path / "u.parquet").exists()


def test_a_number_beyond_all_floats_is_no_vector_and_no_crash(tmp_path: Path) -> None:
    """A server may send any digits; the row has none then, and the others are written."""
    beyond = [result(vectors([10**400, 1, 2]), EMBEDDINGS), ROWS[1]]
    write(tmp_path / "t.parquet", Parquet, beyond, columns_of([], {EMBEDDINGS}, {}))
    assert pyarrow.parquet.read_table(tmp_path / "t.parquet")["embedding"].to_pylist() == [None, [0.5, -2.0, 1.0]]
    found = matrix(tmp_path, beyond, 2)
    assert numpy.isnan(found[0]).all() and found[1].tolist() == [0.5, -2.0, 1.0]


CELLS = st.text(alphabet=",\"'\r\n\t\0=+-@ aé東\U0001f600\u2028\ud800", max_size=6) | st.sampled_from(
    [None, 7, 1.5, [1]]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=6), st.booleans())
def test_rows_are_what_the_library_would_write(rows: list[tuple[Any, ...]], raw_cells: bool) -> None:
    """csv.writer, of cells without formulas and NUL: row by row, and many rows at once."""
    table = Csv(cast(WholeFile, None), [], raw_cells=raw_cells)
    one_by_one = [table._written(row) for row in rows]
    assert _rows(*map(table._column, zip(*rows, strict=True))) == one_by_one
    expected = []
    for row in rows:
        cells = ["" if cell is None else cell if isinstance(cell, str) else json.dumps(cell) for cell in row]
        cells = [cell.replace("\0", "") for cell in cells]
        file = io.StringIO(newline="")
        csv.writer(file, lineterminator="\r\n").writerow(cells if raw_cells else map(without_formula, cells))
        expected.append(file.getvalue().removesuffix("\r\n").encode("utf-8", "replace"))
    assert one_by_one == expected


def test_cells_of_a_source_are_found_many_at_once_as_one_by_one() -> None:
    """Past rows that no request was made of, wherever blocks end; what is not there is an error either way."""
    blocks = [(["a", "b", "c"], [[1], [2], [3]]), (["d"], [[4]]), (["e", "f", "g"], [[5], [6], [7]])]
    wanted = ["b", "c", "d", "f"]
    expected = [[2], [3], [4], [6]]
    one = SourceCells(iter(blocks), "t.csv")
    assert [one.of(name) for name in wanted] == expected
    for cut in range(len(wanted) + 1):
        many = SourceCells(iter(blocks), "t.csv")
        assert [*many.of_all(wanted[:cut]), *many.of_all(wanted[cut:])] == expected
    with pytest.raises(Failure) as refused:
        SourceCells(iter(blocks), "t.csv").of_all(["b", "a"])
    assert refused.value.code == "join_mismatch"
