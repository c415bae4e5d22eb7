"""fetch_results.py and run_batch.py: tables in, tables out, with the values, types, names and looks of the source."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import python_calamine
from tests.door import SCRIPTS, Result, call_door, environment
from tests.engine_process import KEY, RunningEngine, engine_with_upstream

pytestmark = pytest.mark.usefixtures("quick_looks")
ASK = ["--model", "test-chat", "--prompt", "Country of {city}?"]
CITIES = "city,text\nRome,x\nOslo,y\nLima,z\n"
ANSWERS = {city: f"answer to: Country of {city}?" for city in ("Rome", "Oslo", "Lima")}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngine]:
    with engine_with_upstream(tmp_path_factory.mktemp("engine")) as engine:
        yield engine


@pytest.fixture
def engine(running: RunningEngine) -> RunningEngine:
    running.upstream.forget()
    return running


def door(engine: RunningEngine, name: str, *words: str | Path, cwd: Path, stdin: str | None = None) -> Result:
    env = {"DOUBLEWORD_API_KEY": KEY, "DOUBLEWORD_BASE_URL": engine.base_url}
    return call_door(name, *words, cwd=cwd, env=env, stdin=stdin)


def job(engine: RunningEngine, folder: Path, source: str, *flags: str, ask: list[str] = ASK) -> None:
    """Make the batch file `b.jsonl` of a table, and let it be answered."""
    made = door(engine, "create_batch_file", "b.jsonl", "--input", source, *ask, *flags, cwd=folder)
    assert made.code == 0, made.json
    files = [Path(one["path"]).name for one in made.json["files"]]
    assert door(engine, "submit", *files, "--job", "b.job.json", cwd=folder).code == 0
    assert door(engine, "poll", "b.job.json", "--wait", "60", cwd=folder).code in (0, 6)


def fetch(engine: RunningEngine, folder: Path, output: str, *words: str, code: int = 0) -> Result:
    """Fetch the results of that job into `output`, in the format that its name tells."""
    ran = door(engine, "fetch_results", "b.job.json", "--format", Path(output).suffix[1:], "--output", output, *words,
               cwd=folder)  # fmt: skip
    assert ran.code == code, (ran.json, ran.stderr)
    return ran


def rows(path: Path, delimiter: str = ",") -> list[dict[str, Any]]:
    """The rows of a table; of a sheet, numbers are floats."""
    if path.suffix == ".parquet":
        found: list[dict[str, Any]] = pq.read_table(path).to_pylist()
        return found
    if path.suffix == ".xlsx":
        header, *cells = python_calamine.load_workbook(str(path)).get_sheet_by_index(0).to_python()
        return [dict(zip(map(str, header), row, strict=True)) for row in cells]
    with path.open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file, delimiter=delimiter, strict=True))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Joined by what was asked (A1 to A3)


@pytest.mark.parametrize("flags", [[], ["--id", "{city}"]])
def test_a_table_sorted_in_a_spreadsheet_keeps_its_answers(
    engine: RunningEngine, tmp_path: Path, flags: list[str]
) -> None:
    """With the numbers of rows as ids, and with ids of a column; told, where it cannot be joined."""
    (tmp_path / "t.csv").write_text(CITIES)
    job(engine, tmp_path, "t.csv", *flags)
    (tmp_path / "t.csv").write_text("city,text\nLima,z\nOslo,y\nRome,x\n")
    fetch(engine, tmp_path, "o.csv", "--join", "t.csv")
    assert {row["city"]: row["answer"] for row in rows(tmp_path / "o.csv")} == ANSWERS
    (tmp_path / "t.csv").write_text("city,text\nLima,z\nOslo,y\nPisa,x\n")
    before = names(tmp_path)
    refused = fetch(engine, tmp_path, "p.csv", "--join", "t.csv", code=2)
    assert refused.json["error"]["code"] == "join_mismatch" and names(tmp_path) == before


def test_each_command_that_guards_cells_can_leave_them_alone(engine: RunningEngine, tmp_path: Path) -> None:
    """As its warning says."""
    (tmp_path / "t.csv").write_text("city\n@Rome\n")
    run = ["run_batch", "o.csv", "--input", "t.csv", *ASK]
    (said,) = door(engine, *run, cwd=tmp_path).json["warnings"]
    assert rows(tmp_path / "o.csv")[0]["city"] == "'@Rome" and "--raw-cells leaves them alone" in said
    again = door(engine, *run, "--raw-cells", "--force", cwd=tmp_path)
    assert again.code == 0 and "warnings" not in again.json, again.json
    assert rows(tmp_path / "o.csv")[0]["city"] == "@Rome"


def test_what_is_told_of_a_table_is_told_once(engine: RunningEngine, tmp_path: Path) -> None:
    """As only ten warnings are shown, none may take the place of another."""
    (tmp_path / "t.csv").write_text("Report,\ncity,text\nRome,x\n")
    done = door(engine, "run_batch", "o.csv", "--input", "t.csv", *ASK, cwd=tmp_path)
    assert done.json["warnings"] == ["t.csv: the header is line 2, the lines above are left out: Report"]


def test_what_hinders_a_join_by_keys_alone_is_told(engine: RunningEngine, tmp_path: Path) -> None:
    """With a step that is there: a bare batch has no record of how its table is read, and no flag for it."""
    (tmp_path / "t.csv").write_text("city\nKöln\n", encoding="utf-8")
    job(engine, tmp_path, "t.csv", "--id", "{city}")
    (batch,) = json.loads((tmp_path / "b.job.json").read_text())["batches"]
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "bytes.csv").write_bytes("city\nKöln\n".encode("cp1252"))
    (folder / "wide.csv").write_bytes("city\nKöln\n".encode("utf-16-le"))
    for name, said in (("bytes.csv", "row 1: holds the byte 0xf6, which is not utf-8;"), ("wide.csv", "NUL")):
        words = [batch["batch_id"], "--format", "csv", "--join", name, "--id", "{city}", "--output", "o.csv"]
        error = door(engine, "fetch_results", *words, cwd=folder).json["error"]
        assert said in error["message"] and "save the table as CSV in UTF-8" in error["hint"], error
        assert "--encoding" not in error["message"] + error["hint"], error


def test_a_table_on_standard_input_is_joined_by_what_it_asks(engine: RunningEngine, tmp_path: Path) -> None:
    """Nobody can tell whether it is the same again: it is compared each time, and a second run is no repetition."""
    table = json.dumps([{"city": city} for city in ANSWERS])
    for name, *words in (("create_batch_file", "b.jsonl", "--input", "-", *ASK), ("submit", "b.jsonl"),
                         ("poll", "b.job.json", "--wait", "60")):  # fmt: skip
        assert door(engine, name, *words, cwd=tmp_path, stdin=table).code == 0
    words = ["fetch_results", "b.job.json", "--format", "csv", "--output", "o.csv", "--join", "-"]
    assert door(engine, *words, cwd=tmp_path, stdin=table).code == 0
    assert {row["city"]: row["answer"] for row in rows(tmp_path / "o.csv")} == ANSWERS
    assert door(engine, *words, cwd=tmp_path, stdin=table).json["error"]["code"] == "output_exists"
    other = door(engine, *words, "--force", cwd=tmp_path, stdin=table.replace("Rome", "Pisa"))
    assert (other.code, other.json["error"]["code"]) == (2, "join_mismatch")
    assert {row["city"]: row["answer"] for row in rows(tmp_path / "o.csv")} == ANSWERS
    (tmp_path / "t.json").write_text(table)
    fetch(engine, tmp_path, "p.csv", "--join", "t.json")
    assert rows(tmp_path / "p.csv") == rows(tmp_path / "o.csv")


def test_columns_are_those_of_all_rows(engine: RunningEngine, tmp_path: Path) -> None:
    """Rows that are empty or bad are none, and keys that only later rows have are columns."""
    lines = ["{}", '{"id":"1","text":"a"}', "nonsense", '{"id":"2","text":"b","note":"important","score":5}']
    (tmp_path / "t.jsonl").write_text("\n".join(lines) + "\n")
    job(engine, tmp_path, "t.jsonl", "--skip-invalid", ask=["--model", "test-chat", "--prompt", "Say {text}"])
    for output in ("o.csv", "o.parquet", "o.xlsx"):
        fetch(engine, tmp_path, output, "--join", "t.jsonl")
        found = rows(tmp_path / output)
        assert list(found[0])[:5] == ["id", "text", "note", "score", "custom_id"]
        assert [[str(row[name] or "") for name in ("id", "text", "note")] for row in found] == [
            ["1", "a", ""], ["2", "b", "important"]
        ]  # fmt: skip
        assert float(found[1]["score"]) == 5 and not found[0]["score"]
        assert [row["answer"] for row in found] == ["answer to: Say a", "answer to: Say b"]


def test_answers_stand_in_the_order_of_the_requests(
    engine: RunningEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of several batch files, of which some rows were asked again; beside the table as it was, and in another order."""
    monkeypatch.setattr("doubleword.batch_files.writing.MAX_REQUESTS", 30)
    cities = [f"City {at:03d}" for at in range(100)]
    (tmp_path / "t.csv").write_text("city\n" + "".join(f"{city}\n" for city in cities))
    engine.upstream.fail("City 05", 409, times=10)
    job(engine, tmp_path, "t.csv")
    assert len(list(tmp_path.glob("b-*.jsonl"))) == 4
    assert door(engine, "retry_failed", "b.job.json", cwd=tmp_path).code == 0
    assert door(engine, "poll", "b.job.json", "--wait", "60", cwd=tmp_path).code in (0, 6)
    (tmp_path / "n.csv").write_text("city\n" + "".join(f"{city}\n" for city in sorted(cities, key=lambda c: c[::-1])))
    for source in ("t.csv", "n.csv"):
        for output in (f"o-{source}", f"o-{source}.parquet"):
            fetch(engine, tmp_path, output, "--join", source)
            found = rows(tmp_path / output)
            assert [row["city"] for row in found] == cities
            assert [row["answer"] for row in found] == [f"answer to: Country of {one}?" for one in cities]


# Numbers (A7)

TRACKING = {"type": "object", "properties": {"tracking": {"type": "integer"}, "parts": {"type": "array", "items": {
    "type": "integer"}}}, "required": ["tracking", "parts"], "additionalProperties": False}  # fmt: skip
BIG = 9400111899223197428490


@pytest.mark.parametrize("number", [BIG, 18446744073709551615, 7, -(10**37), 10**38])
def test_no_digit_of_an_answer_is_lost(engine: RunningEngine, tmp_path: Path, number: int) -> None:
    """A tracking number, alone and nested, in every format; where no number type holds it, a text, and told."""
    (tmp_path / "t.csv").write_text("city\nRome\n")
    (tmp_path / "s.json").write_text(json.dumps(TRACKING))
    engine.upstream.say("Rome", json.dumps({"tracking": number, "parts": [number]}))
    job(engine, tmp_path, "t.csv", "--response-schema", "s.json")
    for output in ("o.csv", "o.parquet", "o.xlsx"):
        said = fetch(engine, tmp_path, output, "--join", "t.csv").json.get("warnings", [])
        (row,) = rows(tmp_path / output)
        assert int(row["tracking"]) == number and json.loads(row["parts"]) == [number]
        assert any("tracking" in one and "digits" in one for one in said) == (number == 10**38 and "parq" in output)


def test_no_digit_of_a_source_is_lost(engine: RunningEngine, tmp_path: Path) -> None:
    """Long decimals, leading zeros, single precision, nested: from JSON and from Parquet, into every format."""
    digits = {"big": BIG, "zip": "01067", "n": {"a": [BIG, 0.1]}}
    long = '"pi": 3.14159265358979323846, "price": 19.90'
    (tmp_path / "t.jsonl").write_text(json.dumps({"city": "Rome", **digits})[:-1] + f", {long}}}\n")
    job(engine, tmp_path, "t.jsonl")
    wanted = {"big": str(BIG), "zip": "01067", "pi": "3.14159265358979323846", "price": "19.90"}
    for output in ("o.csv", "o.parquet", "o.xlsx"):
        said = fetch(engine, tmp_path, output, "--join", "t.jsonl").json.get("warnings", [])
        (row,) = rows(tmp_path / output)
        assert {name: str(row[name]) for name in ("big", "zip", "pi")} | {"price": wanted["price"]} == wanted
        assert float(row["price"]) == 19.9 and json.loads(row["n"], parse_float=str) == {"a": [BIG, "0.1"]}
        assert any("pi" in one and "digits" in one for one in said)


def test_single_precision_is_written_as_it_is_meant(engine: RunningEngine, tmp_path: Path) -> None:
    """19.99 in the prompt, in CSV and in a sheet, also nested; in Parquet the very bits."""
    price = pa.array([19.99], pa.float32())
    nested = pa.StructArray.from_arrays([price], ["price"])
    pq.write_table(pa.table({"city": ["Rome"], "price": price, "nested": nested}), tmp_path / "t.parquet")
    job(engine, tmp_path, "t.parquet", ask=["--model", "test-chat", "--prompt", "Country of {city} for {price}?"])
    for output in ("o.csv", "o.xlsx", "o.parquet"):
        fetch(engine, tmp_path, output, "--join", "t.parquet")
        (row,) = rows(tmp_path / output)
        assert row["answer"] == "answer to: Country of Rome for 19.99?"
        if output == "o.parquet":
            assert pq.read_table(tmp_path / output)["price"].to_pylist() == price.to_pylist()
        else:
            assert str(row["price"]) == "19.99" and json.loads(row["nested"]) == {"price": 19.99}


# Types (C12)

COLUMNS: dict[str, pa.Array] = {
    **{
        kind: pa.array([1, None, 2], getattr(pa, kind)())
        for kind in ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "float32", "float64")
    },
    "uint64": pa.array([2**64 - 1, None, 0], pa.uint64()),
    "bool": pa.array([True, None, False]),
    "text": pa.array(["a", None, ""]),
    "bytes": pa.array([b"\xff\x00", None, b""], pa.binary()),
    "date": pa.array([19000, None, -700000], pa.date32()),
    "time": pa.array([1, None, 2], pa.time64("us")),
    "time ns": pa.array([1, None, 2], pa.time64("ns")),
    "at ms": pa.array([1_700_000_000_123, None, -1], pa.timestamp("ms")),
    "at us": pa.array([1_700_000_000_123_456, None, -1], pa.timestamp("us")),
    "at ns": pa.array([1_700_000_000_123_456_789, None, -1], pa.timestamp("ns")),
    "at us UTC": pa.array([1_700_000_000_123_456, None, -1], pa.timestamp("us", "UTC")),
    "at ns UTC": pa.array([1_700_000_000_123_456_789, None, -1], pa.timestamp("ns", "UTC")),
    "year 9999": pa.array([253_402_300_799_000_000, None, 0], pa.timestamp("us", "UTC")),
    "decimal": pa.array([Decimal("1.25"), None, Decimal("-9.99")], pa.decimal128(5, 2)),
    "long decimal": pa.array([Decimal("1" * 28 + ".0000000001"), None, None], pa.decimal128(38, 10)),
    "list": pa.array([[1, None], None, []], pa.list_(pa.int32())),
    "struct": pa.array([{"a": 1, "b": "x"}, None, {"a": None, "b": "y"}]),
    "structs": pa.array([[{"at": 1, "d": Decimal("1.5")}], None, []]),
    "map": pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.int32())),
    "nothing": pa.nulls(3),
}  # fmt: skip


def test_types_and_nulls_of_parquet_are_kept(engine: RunningEngine, tmp_path: Path) -> None:
    """Each column as it came, whatever its type, and nothing where there was nothing."""
    table = pa.table({"city": ["Rome", "Oslo", "Lima"], **COLUMNS})
    pq.write_table(table, tmp_path / "t.parquet")
    job(engine, tmp_path, "t.parquet")
    pq.write_table(table.take([2, 0, 1]), tmp_path / "n.parquet")
    for source in ("t.parquet", "n.parquet"):
        fetch(engine, tmp_path, f"o-{source}", "--join", source)
        found = pq.read_table(tmp_path / f"o-{source}")
        assert found.schema.names[: len(table.schema)] == table.schema.names
        unlike = {one.name: str(found.schema.field(one.name).type) for one in table.schema
                  if found.schema.field(one.name).type != one.type}  # fmt: skip
        assert unlike == {}
        assert found.select(table.schema.names).equals(table)
        assert found["answer"].to_pylist() == list(ANSWERS.values())


def test_what_parquet_keeps_for_arrow_alone_comes_as_its_values(engine: RunningEngine, tmp_path: Path) -> None:
    """Dictionaries as the texts they stand for, a time zone as the instant, seconds as milliseconds, bytes as bytes."""
    columns = {
        "dictionary": pa.array(["x", None, "y"]).dictionary_encode(),
        "large": pa.array(["a", None, ""], pa.large_string()),
        "Tokyo": pa.array([1_700_000_000_000_000, None, -1], pa.timestamp("us", "Asia/Tokyo")),
        "seconds": pa.array([1_700_000_000, None, -1], pa.timestamp("s")),
        "fixed": pa.array([b"abc", None, b"xyz"], pa.binary(3)),
        "half": pa.array([1.5, None, 2], pa.float16()),
    }
    table = pa.table({"city": list(ANSWERS), **columns})
    pq.write_table(table, tmp_path / "t.parquet")
    job(engine, tmp_path, "t.parquet")
    fetch(engine, tmp_path, "o.parquet", "--join", "t.parquet")
    found = pq.read_table(tmp_path / "o.parquet")
    types = {name: str(found.schema.field(name).type) for name in columns}
    assert types == {"dictionary": "string", "large": "string", "Tokyo": "timestamp[us, tz=UTC]",
                     "seconds": "timestamp[ms]", "fixed": "binary", "half": "float"}  # fmt: skip
    assert [found[name].to_pylist() for name in columns] == [table[name].to_pylist() for name in columns]


def test_integers_of_128_bits_are_no_fractions(engine: RunningEngine, tmp_path: Path) -> None:
    """A sum in a query is wider than any integer of Parquet, and would be rounded."""
    (tmp_path / "q.sql").write_text(f"SELECT 'Rome' AS city, {BIG}::HUGEINT AS total, [{BIG}::HUGEINT] AS list")
    job(engine, tmp_path, "q.sql")
    fetch(engine, tmp_path, "o.parquet", "--join", "q.sql")
    (row,) = rows(tmp_path / "o.parquet")
    assert (row["total"], row["list"]) == (Decimal(BIG), [Decimal(BIG)])


# A second run (A15)

SHAPES = [
    ["--raw-cells"], ["--id", "{ city }"], ["--columns", "city, answer"], ["--delimiter", ";"], ["--bom"],
    ["--history", "h.jsonl"], ["--response-schema", "s.json"],
]  # fmt: skip


@pytest.mark.parametrize("more", SHAPES)
def test_a_run_that_would_write_something_else_is_no_repetition(
    engine: RunningEngine, tmp_path: Path, more: list[str]
) -> None:
    """The same arguments are done already; with one more, the file is there, and --force writes it anew."""
    (tmp_path / "t.csv").write_text(CITIES)
    (tmp_path / "s.json").write_text('{"type": "object"}')
    job(engine, tmp_path, "t.csv", "--id", "{city}")
    words = ["--join", "t.csv"]
    first = fetch(engine, tmp_path, "o.csv", *words)
    before = (tmp_path / "o.csv").read_bytes()
    assert fetch(engine, tmp_path, "o.csv", *words).json == first.json
    other = fetch(engine, tmp_path, "o.csv", *words, *more, code=2)
    assert other.json["error"]["code"] == "output_exists" and (tmp_path / "o.csv").read_bytes() == before
    anew = door(engine, "fetch_results", "b.job.json", "--format", "csv", "--output", "o.csv", *words, *more, "--force",
                cwd=tmp_path)  # fmt: skip
    assert anew.code in (0, 6)
    assert fetch(engine, tmp_path, "o.csv", *words, code=2).json["error"]["code"] == "output_exists"


def test_a_source_that_was_changed_is_no_repetition(engine: RunningEngine, tmp_path: Path) -> None:
    """The output would be another one, though every argument is the same."""
    (tmp_path / "t.csv").write_text(CITIES)
    job(engine, tmp_path, "t.csv")
    fetch(engine, tmp_path, "o.csv", "--join", "t.csv")
    (tmp_path / "t.csv").write_text(CITIES.replace(",x", ",changed"))
    assert fetch(engine, tmp_path, "o.csv", "--join", "t.csv", code=2).json["error"]["code"] == "output_exists"
    fetch(engine, tmp_path, "o.csv", "--join", "t.csv", "--force")
    assert rows(tmp_path / "o.csv")[0]["text"] == "changed"


# Names and columns (B3, D1)


@pytest.mark.parametrize("output", ["o.csv", "o.parquet", "o.xlsx"])
def test_names_are_unlike_and_never_empty(engine: RunningEngine, tmp_path: Path, output: str) -> None:
    """Each over its own cells, whatever the columns of the source are called."""
    header = ["city", "answer", "status", "result_answer", "custom_id", "", " "]
    (tmp_path / "t.csv").write_text(",".join(header) + "\n" + "".join(f"{one},1,2,3,4,5,6\n" for one in ANSWERS))
    job(engine, tmp_path, "t.csv")
    fetch(engine, tmp_path, output, "--join", "t.csv")
    first = rows(tmp_path / output)[0]
    assert list(first)[:10] == ["city", "answer", "status", "result_answer", "custom_id", "column6", "column7",
                                "result_custom_id", "result_status", "result_result_answer"]  # fmt: skip
    assert [int(first[name]) for name in list(first)[1:7]] == [1, 2, 3, 4, 5, 6]
    assert first["result_result_answer"] == ANSWERS["Rome"]


def test_names_that_differ_by_case_alone_are_two_columns(engine: RunningEngine, tmp_path: Path) -> None:
    """In CSV as they are; in Parquet, whose readers would take them for one, told apart."""
    (tmp_path / "t.json").write_text(json.dumps([{"city": "Rome", "Answer": "A", "answer": "a", "": "e", " ": "b"}]))
    job(engine, tmp_path, "t.json")
    for output, wanted in (
        ("o.csv", ["city", "Answer", "answer", "column4", "column5"]),
        ("o.parquet", ["city", "Answer", "answer_2", "column4", "column5"]),
    ):
        fetch(engine, tmp_path, output, "--join", "t.json")
        (row,) = rows(tmp_path / output)
        assert list(row)[:5] == wanted and list(row.values())[1:5] == ["A", "a", "e", "b"]
        assert row["result_answer"] == ANSWERS["Rome"]


SCHEMA = {"type": "object", "properties": {"country": {"type": "string"}, "size": {"type": "integer"}},
          "required": ["country", "size"], "additionalProperties": False}  # fmt: skip


@pytest.mark.parametrize("output", ["o.csv", "o.parquet", "o.xlsx"])
def test_columns_are_chosen_ordered_and_renamed(engine: RunningEngine, tmp_path: Path, output: str) -> None:
    """Those of the source, of the results and of a schema alike; names with commas and equals signs among them."""
    (tmp_path / "t.csv").write_text('city,"a,b",c=d\nRome,1,x\nOslo,2,y\n')
    (tmp_path / "s.json").write_text(json.dumps(SCHEMA))
    engine.upstream.say("Rome", '{"country": "Italy", "size": 3}')
    engine.upstream.say("Oslo", '{"country": "Norway", "size": 1}')
    job(engine, tmp_path, "t.csv", "--response-schema", "s.json")
    chosen = 'Land=country, "a,b", c=d, size, "n=a,b", city'
    fetch(engine, tmp_path, output, "--join", "t.csv", "--columns", chosen)
    found = rows(tmp_path / output)
    assert list(found[0]) == ["Land", "a,b", "c=d", "size", "n", "city"]
    assert [[str(cell).removesuffix(".0") for cell in row.values()] for row in found] == [
        ["Italy", "1", "x", "3", "1", "Rome"], ["Norway", "2", "y", "1", "2", "Oslo"]
    ]  # fmt: skip
    before = names(tmp_path)
    for wrong in ("nation", "city, city", "city, size=nation"):
        error = fetch(engine, tmp_path, f"p{output[1:]}", "--join", "t.csv", "--columns", wrong, code=2).json["error"]
        assert error["code"] == "bad_columns" and "city, a,b, c=d, custom_id" in error["message"]
        assert "country, size" in error["message"] and names(tmp_path) == before


@pytest.mark.parametrize("output", ["o.csv", "o.parquet", "o.xlsx"])
def test_columns_are_refused_before_anything_is_sent(engine: RunningEngine, tmp_path: Path, output: str) -> None:
    """By run_batch.py, which knows the properties of the schema already; then it is paid once."""
    (tmp_path / "t.csv").write_text(CITIES)
    (tmp_path / "s.json").write_text(json.dumps(SCHEMA))
    words = [output, "--input", "t.csv", *ASK, "--response-schema", "s.json", "--columns"]
    for wrong in ("city, nation", "size, size"):
        refused = door(engine, "run_batch", *words, wrong, cwd=tmp_path)
        assert (refused.code, refused.json["error"]["code"]) == (2, "bad_columns")
        assert names(tmp_path) == ["s.json", "t.csv"] and engine.upstream.count() == 0
    ran = door(engine, "run_batch", *words, "country, town=city", cwd=tmp_path)
    assert ran.code == 0, ran.json
    assert [list(row) for row in rows(tmp_path / output)] == [["country", "town"]] * 3
    assert engine.upstream.count() == 3


def test_columns_of_what_has_none_are_refused_before_anything_is_sent(engine: RunningEngine, tmp_path: Path) -> None:
    """JSON lines are the server's own, and a list of columns would be passed over."""
    (tmp_path / "t.csv").write_text(CITIES)
    refused = door(engine, "run_batch", "o.jsonl", "--input", "t.csv", *ASK, "--columns", "nation", cwd=tmp_path)
    assert (refused.code, refused.json["error"]["code"]) == (2, "bad_columns")
    assert names(tmp_path) == ["t.csv"] and engine.upstream.count() == 0
    job(engine, tmp_path, "t.csv")
    before = names(tmp_path)
    error = fetch(engine, tmp_path, "o.jsonl", "--columns", "answer", code=2).json["error"]
    assert error["code"] == "bad_columns" and "--format csv" in error["hint"] and names(tmp_path) == before


def test_of_very_many_columns_the_list_says_how_many_more(engine: RunningEngine, tmp_path: Path) -> None:
    """As every list does that is cut."""
    many = ",".join(f"c{number}" for number in range(100))
    (tmp_path / "t.csv").write_text(f"{many},city\n{many},Rome\n")
    refused = door(engine, "run_batch", "o.csv", "--input", "t.csv", *ASK, "--columns", "nation", cwd=tmp_path)
    assert refused.json["error"]["message"].endswith("c38, c39 and 68 more")


def test_a_sheet_that_is_too_small_is_refused_before_anything_is_sent(
    engine: RunningEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By run_batch.py, by its rows or its columns; otherwise a workbook comes out, numbers as numbers."""
    (tmp_path / "t.csv").write_text(CITIES)
    words = ["o.xlsx", "--input", "t.csv", *ASK]
    for limit, code in (("SHEET_ROWS", "too_many_rows"), ("SHEET_COLUMNS", "too_many_columns")):
        with monkeypatch.context() as patch:
            patch.setattr(f"doubleword.tables.outputs.workbooks.{limit}", 3)
            refused = door(engine, "run_batch", *words, cwd=tmp_path)
        assert (refused.code, refused.json["error"]["code"]) == (2, code)
        assert names(tmp_path) == ["t.csv"] and engine.upstream.count() == 0
    assert door(engine, "run_batch", *words, cwd=tmp_path).code == 0
    assert [(row["city"], row["answer"], row["prompt_tokens"]) for row in rows(tmp_path / "o.xlsx")] == [
        (city, answer, 3.0) for city, answer in ANSWERS.items()
    ]


# CSV as it came (C2, C15, C16)

DIALECTS = {
    "semicolons and a mark": (b"\xef\xbb\xbfcity;text\nRome;a;b\n".replace(b"a;b", b'"a;b"'), ";", True),
    "a first line for Excel": (b'sep=;\ncity;text\nRome;"a;b"\n', ";", False),
    "tabs": (b"city\ttext\nRome\ta;b\n", "\t", False),
    "bars": (b"city|text\nRome|a;b\n", "|", False),
    "commas": (b"city,text\nRome,a;b\n", ",", False),
    "UTF-16": ("\ufeffcity\ttext\nRome\ta;b\n".encode("utf-16-le"), "\t", True),
    "one column": (b"city\nRome\n", ",", False),
}


@pytest.mark.parametrize("kind", DIALECTS)
@pytest.mark.parametrize("script", ["fetch_results", "run_batch"])
def test_csv_comes_out_as_it_came(engine: RunningEngine, tmp_path: Path, kind: str, script: str) -> None:
    """Its delimiter and its byte order mark; flags say otherwise."""
    content, delimiter, marked = DIALECTS[kind]
    (tmp_path / "t.csv").write_bytes(content)
    if script == "run_batch":
        assert door(engine, script, "o.csv", "--input", "t.csv", *ASK, cwd=tmp_path).code == 0
        assert door(engine, script, "m.csv", "--input", "t.csv", *ASK, "--bom", cwd=tmp_path).code == 0
    else:
        job(engine, tmp_path, "t.csv")
        fetch(engine, tmp_path, "o.csv", "--join", "t.csv")
        fetch(engine, tmp_path, "m.csv", "--join", "t.csv", "--bom")
        fetch(engine, tmp_path, "d.csv", "--join", "t.csv", "--delimiter", "tab")
        assert rows(tmp_path / "d.csv", "\t") == rows(tmp_path / "o.csv", delimiter)
    written = (tmp_path / "o.csv").read_bytes()
    assert written.startswith(b"\xef\xbb\xbf") == marked
    assert (tmp_path / "m.csv").read_bytes() == b"\xef\xbb\xbf" + written.removeprefix(b"\xef\xbb\xbf")
    (row,) = rows(tmp_path / "o.csv", delimiter)
    assert (row["city"], row.get("text", "a;b"), row["answer"]) == ("Rome", "a;b", ANSWERS["Rome"])


def test_a_table_in_another_encoding_comes_out_in_utf8(engine: RunningEngine, tmp_path: Path) -> None:
    """With its own delimiter, and every letter as it was."""
    (tmp_path / "t.csv").write_bytes("city;text\nRome;Größe\n".encode("cp1252"))
    job(engine, tmp_path, "t.csv", "--encoding", "cp1252")
    fetch(engine, tmp_path, "o.csv", "--join", "t.csv")
    assert rows(tmp_path / "o.csv", ";")[0]["text"] == "Größe"


def test_only_what_a_spreadsheet_would_run_is_changed_and_counted(engine: RunningEngine, tmp_path: Path) -> None:
    """Amounts, telephone numbers and dashes stay, the keys in any case."""
    cells = ["-1.234,50 €", "+49 351 123", "-", "=1+1", "@x", "+cmd|' /C calc'!A0"]
    with (tmp_path / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [["key", "city", "cell"], *([f"@{at}", "Rome", one] for at, one in enumerate(cells))]
        )
    engine.upstream.say("Rome", "=2+2")
    job(engine, tmp_path, "t.csv", "--id", "{key}")
    (said,) = fetch(engine, tmp_path, "o.csv", "--join", "t.csv").json["warnings"]
    assert said.startswith("9 cells") and "--raw-cells" in said
    found = rows(tmp_path / "o.csv")
    assert [row["cell"] for row in found] == [*cells[:3], *(f"'{cell}" for cell in cells[3:])]
    assert all(row["key"] == row["custom_id"] == f"@{at}" for at, row in enumerate(found))
    assert {row["answer"] for row in found} == {"'=2+2"}
    assert "warnings" not in fetch(engine, tmp_path, "r.csv", "--join", "t.csv", "--raw-cells").json
    assert [row["cell"] for row in rows(tmp_path / "r.csv")] == cells
    for output in ("o.parquet", "o.xlsx"):
        assert "warnings" not in fetch(engine, tmp_path, output, "--join", "t.csv").json
        assert [row["cell"] for row in rows(tmp_path / output)] == cells


# Outputs that are links (B8)


@pytest.fixture
def linked(tmp_path: Path) -> tuple[Path, Path]:
    """A folder to work in, and another one that links lead to."""
    for name in ("work", "elsewhere"):
        (tmp_path / name).mkdir()
    return tmp_path / "work", tmp_path / "elsewhere"


@pytest.mark.parametrize("old", [b"old", None])
@pytest.mark.parametrize("output", ["o.jsonl", "o.csv", "o.parquet", "o.xlsx"])
def test_a_link_is_written_through(
    engine: RunningEngine, linked: tuple[Path, Path], output: str, old: bytes | None
) -> None:
    """Results, failures and history: what the link leads to is written, be it there or not, and the link stays."""
    folder, elsewhere = linked
    (folder / "t.csv").write_text(CITIES)
    engine.upstream.fail("Oslo", 409)
    job(engine, folder, "t.csv")
    written = [output, "o.errors.jsonl", "h.jsonl"]
    for name in written:
        (folder / name).symlink_to(Path("..") / "elsewhere" / name)
        if old is not None:
            (elsewhere / name).write_bytes(old)
    fetch(engine, folder, output, "--join", "t.csv", "--history", "h.jsonl", "--force", code=6)
    assert names(elsewhere) == sorted(written)
    for name in written:
        assert (folder / name).is_symlink() and (elsewhere / name).read_bytes() not in (b"", b"old")
    engine.upstream.forget()
    assert door(engine, "retry_failed", "b.job.json", cwd=folder).code == 0
    assert door(engine, "poll", "b.job.json", "--wait", "60", cwd=folder).code == 0
    fetch(engine, folder, output, "--join", "t.csv", "--force")
    assert (folder / "o.errors.jsonl").is_symlink() and names(elsewhere) == sorted([output, "h.jsonl"])


def test_links_of_a_matrix_and_of_a_batch_file_are_written_through(
    engine: RunningEngine, linked: tuple[Path, Path]
) -> None:
    """The matrix and its ids, the batch file and what stands beside it; a later step finds them by the links."""
    folder, elsewhere = linked
    (folder / "t.csv").write_text("city\nRome\nSão\n")
    for name in ("b.jsonl", "b.source.json", "b.ids.csv", "v.npy", "v.ids.txt"):
        (folder / name).symlink_to(elsewhere / name)
    ask = ["--model", "test-embedding", "--prompt", "{city}", "--endpoint", "/v1/embeddings"]
    job(engine, folder, "t.csv", "--id", "\n{city}", "--repair-ids", ask=ask)
    fetch(engine, folder, "v.npy")
    assert names(elsewhere) == ["b.ids.csv", "b.jsonl", "b.source.json", "v.ids.txt", "v.npy"]
    assert all((folder / name).is_symlink() and (elsewhere / name).stat().st_size for name in names(elsewhere))
    fetch(engine, folder, "o.csv", "--join", "t.csv")
    assert [row["city"] for row in rows(folder / "o.csv")] == ["Rome", "São"]
    made = door(engine, "create_batch_file", "b.jsonl", "--input", "t.csv", *ASK, "--force", cwd=folder)
    assert made.code == 0 and (folder / "b.jsonl").is_symlink() and b"Country" in (elsewhere / "b.jsonl").read_bytes()


@pytest.mark.parametrize("name", ["o.csv", "o.errors.jsonl"])
@pytest.mark.parametrize("target", ["nowhere/file", "a-folder", "itself"])
def test_a_link_that_cannot_be_written_is_refused_before_anything_is_paid(
    engine: RunningEngine, tmp_path: Path, name: str, target: str
) -> None:
    """Into a folder that is missing, to a folder, or to itself: the output, or where failures would go."""
    (tmp_path / "t.csv").write_text(CITIES)
    (tmp_path / "a-folder").mkdir()
    (tmp_path / name).symlink_to(name if target == "itself" else target)
    before = names(tmp_path)
    for force in ([], ["--force"]):
        refused = door(engine, "run_batch", "o.csv", "--input", "t.csv", *ASK, *force, cwd=tmp_path)
        assert refused.code == 2 and refused.json["error"]["hint"], refused.json
        assert names(tmp_path) == before and engine.upstream.count() == 0


def test_run_batch_writes_through_a_link(engine: RunningEngine, linked: tuple[Path, Path]) -> None:
    """A second run finds its results behind the link, and says that they are there."""
    folder, elsewhere = linked
    (folder / "t.csv").write_text(CITIES)
    (folder / "o.csv").symlink_to(elsewhere / "answers.csv")
    words = ["o.csv", "--input", "t.csv", *ASK]
    first = door(engine, "run_batch", *words, cwd=folder)
    assert first.code == 0 and (folder / "o.csv").is_symlink()
    assert {row["city"]: row["answer"] for row in rows(elsewhere / "answers.csv")} == ANSWERS
    assert door(engine, "run_batch", *words, cwd=folder).json == first.json


@pytest.mark.parametrize("output", ["t.csv", "sub/../t.csv", "link.csv", "parts/p1.csv"])
def test_results_never_replace_what_they_are_made_of(engine: RunningEngine, tmp_path: Path, output: str) -> None:
    """Not even with --force, under whatever name the source is given."""
    (tmp_path / "t.csv").write_text(CITIES)
    (tmp_path / "sub").mkdir()
    (tmp_path / "parts").mkdir()
    (tmp_path / "link.csv").symlink_to("t.csv")
    for number, line in enumerate(CITIES.splitlines()[1:]):
        (tmp_path / "parts" / f"p{number}.csv").write_text(f"city,text\n{line}\n")
    source = "parts/*.csv" if "parts" in output else "t.csv"
    job(engine, tmp_path, source)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.csv")}
    refused = fetch(engine, tmp_path, output, "--join", source, "--force", code=2)
    assert refused.json["error"]["code"] == "output_is_input"
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.csv")} == before


# What a run needs, and what it leaves


@pytest.mark.parametrize("output", ["o.csv", "o.parquet", "o.xlsx"])
def test_what_a_killed_run_left_is_gone_after_the_next(engine: RunningEngine, tmp_path: Path, output: str) -> None:
    """The folder and the files of the meantime have fixed names, and vanish."""
    (tmp_path / "t.csv").write_text(CITIES)
    job(engine, tmp_path, "t.csv")
    before = names(tmp_path)
    (tmp_path / f".{output}.work").mkdir()
    (tmp_path / f".{output}.work" / "staged_1").write_text("of another run")
    for name in (f".{output}.rows", f".{output}.part"):
        (tmp_path / name).write_text("of another run")
    fetch(engine, tmp_path, output, "--join", "t.csv")
    assert names(tmp_path) == sorted([*before, output])


HEAVY = {"dataclasses", "duckdb", "xlsxwriter", "python_calamine", "pyarrow", "numpy", "zstandard"}
LOADED = """
import runpy, sys
sys.argv = sys.argv[1:]
sys.path.insert(0, sys.argv[0].rpartition("/")[0])
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    print(*sorted(name for name in sys.modules if "." not in name), file=sys.stderr)
"""


def test_only_tables_load_what_makes_tables(engine: RunningEngine, tmp_path: Path) -> None:
    """Submitting, looking, cancelling and the server's own lines need none of it, and are as fast without."""
    (tmp_path / "t.csv").write_text(CITIES)
    assert door(engine, "create_batch_file", "b.jsonl", "--input", "t.csv", *ASK, cwd=tmp_path).code == 0
    env = environment({"DOUBLEWORD_API_KEY": KEY, "DOUBLEWORD_BASE_URL": engine.base_url})
    steps = [
        ["submit", "b.jsonl"], ["poll", "b.job.json", "--wait", "60"], ["cancel", "b.job.json", "--yes"],
        ["list_batches"], ["fetch_results", "b.job.json", "--output", "o.jsonl"],
        ["fetch_results", "b.job.json", "--format", "csv", "--output", "o.csv"],
    ]  # fmt: skip
    loaded = []
    for name, *words in steps:
        ran = subprocess.run([sys.executable, "-c", LOADED, str(SCRIPTS / f"{name}.py"), *words], cwd=tmp_path, env=env,
                             capture_output=True, text=True, timeout=120, check=False)  # fmt: skip
        assert json.loads(ran.stdout)["ok"] is True, ran
        loaded.append(HEAVY & set(ran.stderr.split()))
    assert loaded == [set()] * 5 + [{"dataclasses", "duckdb"}]


def test_a_disk_that_fills_up_is_told_and_leaves_nothing(engine: RunningEngine, tmp_path: Path) -> None:
    """Whoever writes, be it DuckDB: exit 5, as for any other disk, and the next run has the table."""
    resource = pytest.importorskip("resource")
    (tmp_path / "t.csv").write_text("city,text\n" + "".join(f"{city},{city * 20_000}\n" for city in ANSWERS))
    job(engine, tmp_path, "t.csv")
    before = names(tmp_path)
    env = environment({"DOUBLEWORD_API_KEY": KEY, "DOUBLEWORD_BASE_URL": engine.base_url})
    words = [sys.executable, str(SCRIPTS / "fetch_results.py"), "b.job.json", "--format", "csv", "--join", "t.csv"]
    limits = (100_000, 100_000)
    ran = subprocess.run([*words, "--output", "o.csv"], cwd=tmp_path, env=env, capture_output=True, text=True,
                         timeout=120, check=False,
                         preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits))  # fmt: skip
    assert ran.returncode == 5 and json.loads(ran.stdout)["error"]["code"] == "disk", ran
    assert names(tmp_path) == before
    fetch(engine, tmp_path, "o.csv", "--join", "t.csv")
    assert [len(row["text"]) for row in rows(tmp_path / "o.csv")] == [80_000] * 3


def test_nothing_but_the_table_is_left_in_the_systems_folder(
    engine: RunningEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What does not fit into memory stands beside the output, whose disk has room for it."""
    (tmp_path / "work").mkdir()
    (tmp_path / "system").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "system"))
    (tmp_path / "work" / "t.csv").write_text(CITIES)
    for output in ("o.csv", "o.xlsx"):
        assert door(engine, "run_batch", output, "--input", "t.csv", *ASK, cwd=tmp_path / "work").code == 0
    assert names(tmp_path / "system") == []
