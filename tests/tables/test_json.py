"""JSON tables: arrays, lines, objects one after the other, and what programs write instead."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.tables.asking import ask, refusal
from vega_datasets import data

from doubleword.tables import json_values

CARS = Path(data.cars.filepath)  # a JSON array, 406 rows

# Where values stand


@pytest.mark.parametrize(
    "content",
    [
        '[{"text":"a"},{"text":"b"}]',
        '\n [{"text":"a"},\n {"text":"b"},\n]',
        '[\n  {\n    "text": "a"\n  },\n  {"text": "b"}\n]\n',
        '{"text":"a"}\n{"text":"b"}\n',
        '{"text":"a"}\r\n\n  \n{"text":"b"}',
        '{"text":"a"},\n{"text":"b"},\n',
        '{"text":"a"}{"text":"b"}',
        '{"text":"a"}\r{"text":"b"}\r',
        '{\n "text": "a"\n}\n{\n "text":\n "b"\n}\n',
        '[{"text":"a"}]\n[{"text":"b"}]\n',
    ],
)
@pytest.mark.parametrize("name", ["t.json", "t.jsonl", "t.csv", "t.dat"])
def test_rows_are_found_however_the_file_is_laid_out(tmp_path: Path, content: str, name: str) -> None:
    """An array, lines or objects over several lines, told by what is there, not by the name."""
    assert ask(tmp_path, {name: content}).prompts == ["a", "b"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("content", ['[{"text":"é"}]', '{"text":"é"}\n'])
def test_a_byte_order_mark_tells_the_encoding_of_json(tmp_path: Path, encoding: str, content: str) -> None:
    """As editors save it; another encoding can be named."""
    mark = "\ufeff" if encoding.endswith("be") else ""
    assert ask(tmp_path, {"t.json": (mark + content).encode(encoding)}).prompts == ["é"]
    assert ask(tmp_path, {"t.json": content.encode("cp1252")}, "--encoding", "cp1252").prompts == ["é"]


@pytest.mark.parametrize("block", [1, 7, 64])
def test_values_are_read_the_same_in_small_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    """Where a piece ends, inside a number, a text, an escape or a word, makes no difference."""
    monkeypatch.setattr(json_values, "BLOCK", block)
    rows = [{"a": 123456, "b": 'é日\U0001f600 "\\ \n', "c": [1.5e3, {"d": None, "e": True}]}, {"a": "]"}, {"b": "x"}]
    prompts = ['123456 é日\U0001f600 "\\ \n [1500.0,{"d":null,"e":true}]', "] ? ?", "? x ?"]
    flags = [word for name in "abc" for word in ("--default", f"{name}=?")]
    for content in (json.dumps(rows, ensure_ascii=False, indent=1), "".join(map(json.dumps, rows))):
        assert ask(tmp_path, {"t.json": content}, *flags, prompt="{a} {b} {c}").prompts == prompts


@pytest.mark.parametrize("block", [1, 7, json_values.BLOCK])
@pytest.mark.parametrize(
    "line", ['{"text":"x"} junk', '{"text":"x"}}', '{"text":"x"}, null', '[{"text":"x"}] ; {"a":1}']
)
def test_a_line_with_more_than_its_value_is_one_bad_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, line: str
) -> None:
    """Not a good row and a bad one: the rows after it keep the numbers of their lines."""
    monkeypatch.setattr(json_values, "BLOCK", block)
    for content in (f'{{"text":"a"}}\n{line}\n{{"text":"b"}}\n', f'{{"text":"a"}}\r\n{line}\r\n{{"text":"b"}}'):
        found = ask(tmp_path, {"t.jsonl": content}, "--skip-invalid")
        assert (found.prompts, found.ids) == (["a", "b"], ["row-0000001", "row-0000003"])
    assert ask(tmp_path, {"t.jsonl": f'{{"text":"a"}}\n{line}'}, "--skip-invalid").prompts == ["a"]


# What is in them


def test_the_columns_are_those_of_all_rows_however_late(tmp_path: Path) -> None:
    """Sparse JSON: a column that only a later row has, and rows without it."""
    table = {"t.jsonl": '{"id":"1","text":"a"}\n{"id":"2","text":"b","note":"important","score":5}\n'}
    found = ask(tmp_path, table, "--default", "note=-", "--default", "score=-", prompt="{text} {note} {score}")
    assert found.prompts == ["a - -", "b important 5"]
    late = "".join(f'{{"id":{number}}}\n' for number in range(5000)) + '{"id":5000,"text":"late"}\n'
    assert ask(tmp_path, {"t.jsonl": late}, "--skip-invalid").prompts == ["late"]


@pytest.mark.parametrize("first", ["{}", '{"id":null,"text":""}', "{bad}", "[1]", "null", '{"a":1,"a":2}', '{"a":1,'])
def test_a_table_may_begin_with_a_row_that_is_none(tmp_path: Path, first: str) -> None:
    """Empty, or bad: with --skip-invalid the others are asked, under their own numbers."""
    rows = '{"id":"1","text":"a"}\n{"id":"2","text":"b"}\n'
    for content in (f"{first}\n{rows}", f"[{first},{rows.replace(chr(10), ',')}]")[: 2 if first[-1] in "]}l" else 1]:
        found = ask(tmp_path, {"t.json": content}, "--skip-invalid")
        assert (found.prompts, found.ids) == (["a", "b"], ["row-0000002", "row-0000003"])
        assert len(found.warnings) == (1 if first in ("{}", '{"id":null,"text":""}') else 2)


def test_unused_cells_of_programs_are_empty(tmp_path: Path) -> None:
    """NaN and infinities, as Python, pandas and JavaScript write them, alone or nested."""
    table = {"t.json": '[{"id":1,"review":"good","score":NaN},{"id":2,"review":"bad","score":1.5}]'}
    found = ask(tmp_path, table, "--default", "score=?", prompt="{review} {score}")
    assert found.prompts == ["good ?", "bad 1.5"]
    table = {"t.jsonl": '{"review":"a","s":-Infinity}\n{"review":"b","s":{"x":[NaN,1]}}\n'}
    assert ask(tmp_path, table, "--default", "s=?", prompt="{review}{s}").prompts == ["a?", 'b{"x":[null,1]}']


def test_numbers_keep_their_digits(tmp_path: Path) -> None:
    """Of any size, alone and nested, also as an id."""
    digits = ["9400111899223197428490", "18446744073709551615", "0.1234567890123456789012", "1.10", "1e5", "-0"]
    row = ",".join(f'"n{at}":{number}' for at, number in enumerate(digits))
    table = {"t.json": f'[{{{row},"deep":{{"list":[{",".join(digits)}]}}}},{{"n0":1}}]'}
    prompt = " ".join(f"{{n{at}}} {{deep.list.{at}}}" for at in range(len(digits)))
    found = ask(tmp_path, table, "--skip-invalid", prompt=prompt)
    assert found.prompts == [" ".join(f"{number} {number}" for number in digits)]
    table = {"t.json": '[{"id":12345678901234567890123,"review":"good"},{"id":2,"review":"bad"}]'}
    assert ask(tmp_path, table, "--id", "{id}", prompt="{review}").ids == ["12345678901234567890123", "2"]


def test_any_key_is_a_column(tmp_path: Path) -> None:
    """Names that differ in case, are empty, hold quotes, or are called as we call our own."""
    row = {"A": 1, "a": 2, "": 3, 'q"x': 4, "own": 5, "problem": 6, "number": 7, "0": 8}
    prompt = '{A}{a}{column3}{}{q"x}{own}{problem}{number}{0}'.replace("{column3}", "")
    assert ask(tmp_path, {"t.json": json.dumps([row])}, prompt=prompt).prompts == ["12345678"]


def test_a_real_array_is_read_whole(tmp_path: Path) -> None:
    """The cars that vega-datasets ships."""
    found = ask(tmp_path, {}, "--input", str(CARS), prompt="{Name}")
    assert found.prompts == [row["Name"] for row in json.loads(CARS.read_bytes())]


# One object


@pytest.mark.parametrize(
    "content",
    [
        '{"id":{"0":1,"1":2,"2":3},"review":{"0":"good","1":"bad","2":"so so"}}',
        '{"0":{"id":1,"review":"good"},"1":{"id":2,"review":"bad"},"2":{"id":3,"review":"so so"}}',
        '{"columns":["id","review"],"index":[0,1,2],"data":[[1,"good"],[2,"bad"],[3,"so so"]]}',
        '{"schema":{"fields":[{"name":"id"},{"name":"review"},{"name":"x"},{"name":"y"}]},"data":'
        '[{"id":1,"review":"good"},{"id":2,"review":"bad"},{"id":3,"review":"so so"}]}',
        '{"id":[1,2,3],"review":["good","bad","so so"]}',
        '{"data": [\n {"id": 1, "review": "good"},\n {"id": 2, "review": "bad"},\n {"id": 3, "review": "so so"}\n] }',
        '{"result":{"rows":[{"review":"good"},{"review":"bad"},{"review":"so so"}]}}',
    ],
)
def test_a_table_in_one_object_is_turned_into_rows(tmp_path: Path, content: str) -> None:
    """Each form of pandas' to_json, and rows under a key; that is said."""
    found = ask(tmp_path, {"t.json": content}, prompt="{review}")
    assert found.prompts == ["good", "bad", "so so"]
    assert "one JSON object" in found.warnings[0]


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ('{"data": [ {"id": 1, "review": "good"} ], "count": 1}', "rows seem to be under data"),
        ('{"status": "ok", "page": {"items": [ {"review": "good"} ]}}', "rows seem to be under page.items"),
        ('{"review": ["good", "bad"]}', "one JSON object and no row"),
        ('{"good": {"text": "a"}, "bad": {"text": "b"}}', "one JSON object and no row"),
    ],
)
def test_one_object_that_is_no_row_is_refused(tmp_path: Path, content: str, part: str) -> None:
    """With where its rows seem to be; a default does not stand for all of them."""
    said = refusal(tmp_path, {"t.json": content}, "--default", "review=?", prompt="{review}")
    assert said.startswith("bad_table: ") and part in said


@pytest.mark.parametrize("content", ['{"id":1,"review":"good"}', '{\n "id":1,\n "review":"good", "tags": [{"a":1}]\n}'])
def test_one_object_of_cells_is_one_row(tmp_path: Path, content: str) -> None:
    """However it is laid out, also with something nested."""
    assert ask(tmp_path, {"t.json": content}, prompt="{review}").prompts == ["good"]


# What is wrong


@pytest.mark.parametrize(
    ("bad", "part"),
    [
        (b'{"a":undefined}', "is not JSON: Expecting value at character 6"),
        (b"{'a':1}", "is not JSON"),
        (b'{"a":01}', "is not JSON"),
        (b"[1]", "is not a JSON object"),
        (b'"x"', "is not a JSON object"),
        (b'{"a":1,"a":2}', "the key a stands twice"),
        (b'{"a":"\xff"}', "not utf-8; name the encoding with --encoding"),
        (b'{"a":"\\ud800"}', "half of a surrogate pair"),
        (b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}", "nested too deep"),
    ],
)
def test_a_bad_value_is_a_bad_row(tmp_path: Path, bad: bytes, part: str) -> None:
    """Alone, on its line or in its array."""
    for content in (b'{"text":"a"}\n%s\n{"text":"b"}\n', b'[{"text":"a"},%s,\n{"text":"b"}]'):
        table = {"t.json": content.replace(b"%s", bad)}
        said = refusal(tmp_path, table)
        assert said.startswith("bad_row: row 2: ") and part in said
        assert ask(tmp_path, table, "--skip-invalid").prompts == ["a", "b"]


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ('[{"a":1},', "ends within its array, after row 1"),
        ('[{"a":1},{"b":"x', "in row 2, which has no end"),
        ('[{"a":' + "[" * 100_000, "has no end"),
    ],
)
def test_an_array_without_an_end_is_refused(tmp_path: Path, content: str, part: str) -> None:
    """Rows are lost where a file was cut off; that is told, also with --skip-invalid."""
    said = refusal(tmp_path, {"t.json": content}, "--skip-invalid", prompt="{a}")
    assert said.startswith("bad_table: t.json ") and part in said
