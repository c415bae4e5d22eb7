"""create_batch_file.py as a user runs it: tables in, batch files out, and nothing left behind where it fails."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.door import Result, call_door, run_door
from tests.sample_requests import chat, line
from vega_datasets import data

from doubleword.batch_files.check import check
from doubleword.batch_files.making import making
from doubleword.batch_files.record import Record, read_record
from doubleword.cli import Parser
from doubleword.request_lines.arguments import add_arguments
from doubleword.request_lines.templates import repaired
from doubleword.system import Disk

AIRPORTS = Path(data.airports.filepath)  # CSV, 3,376 rows
CARS = Path(data.cars.filepath)  # a JSON array of 406 rows, 8 of them without Miles_per_Gallon


def create(folder: Path, *args: str | Path, stdin: str | bytes | None = None, output: str = "out.jsonl") -> Result:
    """Run the script in `folder`, within this process."""
    return call_door("create_batch_file", output, *args, cwd=folder, stdin=stdin)


def table(folder: Path, *flags: str | Path) -> Result:
    """Run the script on the first airports, with a prompt and a model."""
    return create(folder, "--input", AIRPORTS, "--model", "m", "--prompt", "Where is {name}?", "--limit", "3", *flags)


def requests(folder: Path, name: str = "out.jsonl") -> list[dict[str, Any]]:
    """The requests in a batch file, which must be valid."""
    assert check([folder / name], Disk()).error_count == 0
    return [json.loads(text) for text in (folder / name).read_bytes().splitlines()]


def record_of(folder: Path) -> Record:
    """The record beside the batch file."""
    found = read_record(folder / "out.jsonl", Disk())
    assert found is not None
    return found


def refused(result: Result, code: str, part: str) -> None:
    """Exit 2, with a cause and a way out."""
    assert result.code == 2
    assert result.json["error"]["code"] == code
    assert part in result.json["error"]["message"]
    assert result.json["error"]["hint"]


# What comes out


def test_a_real_table_becomes_a_valid_batch_file(tmp_path: Path) -> None:
    """Every row of the airports table is one chat request, in the table's order, under its default id."""
    flags: list[str | Path] = ["--input", AIRPORTS, "--model", "some/model", "--prompt", "Where is {name}, {state}?"]
    result = run_door("create_batch_file", "out.jsonl", *flags, cwd=tmp_path)
    assert result.code == 0
    size = (tmp_path / "out.jsonl").stat().st_size
    assert result.json == {
        "ok": True,
        "files": [{"path": "out.jsonl", "requests": 3376, "bytes": size}],
        "requests": 3376,
        "bytes": size,
        "models": ["some/model"],
        "warnings": ["3 of 3,376 requests ask what another row's asks; --dedupe would send 3,373, 0.1% less"],
    }
    assert result.stderr == "" or result.stderr.endswith(" requests made\n")  # not written: nothing is, before the end
    found = requests(tmp_path)
    assert len(found) == 3376
    assert found[0] == {
        "custom_id": "row-0000001",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": "some/model", "messages": [{"role": "user", "content": "Where is Thigpen, MS?"}]},
    }
    assert {path.name for path in tmp_path.iterdir()} == {"out.jsonl", "out.source.json"}


def test_the_flags_land_in_the_body(tmp_path: Path) -> None:
    """Each under the name that the chat endpoint knows."""
    flags = [
        "--system",
        "You know {state}.",
        "--max-tokens",
        "5",
        "--temperature",
        "0.5",
        "--top-p",
        "1",
        "--stop",
        "a",
    ]
    assert table(tmp_path, *flags, "--stop", "b", "--body", '{"seed": 7, "tools": null}').code == 0
    assert requests(tmp_path)[0]["body"] == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "You know MS."},
            {"role": "user", "content": "Where is Thigpen?"},
        ],
        "max_tokens": 5,
        "temperature": 0.5,
        "top_p": 1.0,
        "stop": ["a", "b"],
        "seed": 7,
        "tools": None,
    }


@pytest.mark.parametrize(
    ("endpoint", "flags", "body"),
    [
        ("/v1/embeddings", [], {"input": "Where is Thigpen?"}),
        (
            "/v1/completions",
            ["--max-tokens", "5", "--stop", "x"],
            {"prompt": "Where is Thigpen?", "max_tokens": 5, "stop": "x"},
        ),
        (
            "/v1/responses",
            ["--max-tokens", "5", "--system", "Be brief."],
            {"input": "Where is Thigpen?", "instructions": "Be brief.", "max_output_tokens": 5},
        ),
    ],
)
def test_every_endpoint_gets_what_it_takes(
    tmp_path: Path, endpoint: str, flags: list[str], body: dict[str, Any]
) -> None:
    """The prompt becomes input or prompt, the longest answer has the endpoint's own name."""
    assert table(tmp_path, "--endpoint", endpoint, *flags).code == 0
    found = requests(tmp_path)[0]
    assert (found["url"], found["body"]) == (endpoint, {"model": "m", **body})


def test_ids_come_from_columns_where_asked(tmp_path: Path) -> None:
    """The source file remembers how, so that results can be joined again."""
    assert table(tmp_path, "--id", "{iata}/{state}").code == 0
    assert [request["custom_id"] for request in requests(tmp_path)] == ["00M/MS", "00R/TX", "00V/CO"]
    record = record_of(tmp_path)
    assert (record.form.id, record.rows, record.limit) == ("{iata}/{state}", 3, 3)
    assert [Path(one).resolve() for one in record.inputs] == [AIRPORTS.resolve()]


def test_the_same_table_gives_the_same_bytes_in_every_format(tmp_path: Path) -> None:
    """CSV, TSV, JSON, JSON lines, Parquet and standard input are only ways to say the same."""
    rows = [{"a": 'é \u2028\n"x"', "b": "1"}, {"a": "y", "b": "2"}]
    (tmp_path / "t.json").write_text(json.dumps(rows))
    (tmp_path / "t.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    (tmp_path / "t.csv").write_text('a,b\n"é \u2028\n""x""",1\ny,2\n', encoding="utf-8")
    (tmp_path / "t.tsv").write_text('a\tb\n"é \u2028\n""x"""\t1\ny\t2\n', encoding="utf-8")
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    flags = ["--model", "m", "--prompt", "{a} {b}"]
    made = []
    for name in ("t.json", "t.jsonl", "t.csv", "t.tsv", "t.parquet"):
        assert create(tmp_path, "--input", name, *flags, output=f"{name}.out").code == 0
        made.append((tmp_path / f"{name}.out").read_bytes())
    for text in (json.dumps(rows), "\n".join(json.dumps(row) for row in rows)):
        assert create(tmp_path, "--input", "-", *flags, "--force", stdin=text, output="stdin.out").code == 0
        made.append((tmp_path / "stdin.out").read_bytes())
    assert made == [made[0]] * 7
    assert requests(tmp_path, "t.json.out")[0]["body"]["messages"][0]["content"] == 'é \u2028\n"x" 1'


def test_the_prompt_may_come_from_a_file(tmp_path: Path) -> None:
    """Without its byte order mark and without the line end that editors add."""
    (tmp_path / "p.txt").write_bytes("\ufeffWhere is\n{name}?\n".encode())
    result = create(tmp_path, "--input", AIRPORTS, "--model", "m", "--prompt-file", "p.txt", "--limit", "1")
    assert result.code == 0
    assert requests(tmp_path)[0]["body"]["messages"][0]["content"] == "Where is\nThigpen?"


def test_the_example_needs_no_input(tmp_path: Path) -> None:
    """A few short requests for the model of the embedded engine."""
    result = create(tmp_path, "--example")
    assert result.code == 0
    assert result.json["models"] == ["SmolLM2-135M-Instruct"]
    assert result.json["requests"] == len(requests(tmp_path)) == 3
    assert {path.name for path in tmp_path.iterdir()} == {"out.jsonl"}


def test_request_lines_pass_through_checked(tmp_path: Path) -> None:
    """Rows that are requests already keep their id and body; what is joined later goes by their id."""
    rows = [chat(temperature=0.1), line("/v1/chat/completions", custom_id="b", messages=chat()["body"]["messages"])]
    result = create(tmp_path, "--input", "-", stdin="\n".join(json.dumps(row) for row in rows))
    assert result.code == 0
    assert requests(tmp_path) == rows
    record = record_of(tmp_path)
    assert (record.inputs, record.form.id, record.rows) == (("-",), "{custom_id}", 2)


def test_files_get_the_users_umask(tmp_path: Path) -> None:
    """A prompt is no more readable than the user's other files."""
    before = os.umask(0o077)
    try:
        assert table(tmp_path).code == 0
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out.jsonl").stat().st_mode) == 0o600


# Bad rows


def test_a_bad_row_ends_the_run_by_its_number(tmp_path: Path) -> None:
    """Row 11 of the cars has no Miles_per_Gallon; a prompt with a hole in it is not sent."""
    result = create(tmp_path, "--input", CARS, "--model", "m", "--prompt", "{Name}: {Miles_per_Gallon}")
    refused(result, "empty_value", "row 11: the column Miles_per_Gallon is empty")
    assert "--skip-invalid" in result.json["error"]["hint"]
    assert list(tmp_path.iterdir()) == []


def test_bad_rows_are_left_out_only_by_name_and_number(tmp_path: Path) -> None:
    """With --skip-invalid every row is a request or a warning, and the ids still say which row is which."""
    flags: list[str | Path] = [
        "--input",
        CARS,
        "--model",
        "m",
        "--prompt",
        "{Name}: {Miles_per_Gallon}",
        "--skip-invalid",
    ]
    result = create(tmp_path, *flags)
    assert result.code == 0
    assert result.json["requests"] == 398
    assert result.json["warnings"][:2] == ["skipped 8 of 406 rows", "row 11: the column Miles_per_Gallon is empty"]
    assert len(result.json["warnings"]) == 10
    ids = [request["custom_id"] for request in requests(tmp_path)]
    assert "row-0000011" not in ids
    assert ids[10] == "row-0000016"


def test_many_bad_rows_are_counted_and_the_first_are_named(tmp_path: Path) -> None:
    """However many there are, the answer stays small."""
    (tmp_path / "t.csv").write_text("a,b\n" + "1,2,3\n" * 5000 + "1,2\n")
    result = create(tmp_path, "--input", "t.csv", "--model", "m", "--prompt", "{a}", "--skip-invalid")
    assert result.json["warnings"][0] == "skipped 5,000 of 5,001 rows"
    assert result.json["warnings"][1].startswith("row 1: has 3 cells, and the header 2; , separates them")
    assert result.json["warnings"][-1] == "and 4,980 more skipped rows"
    assert [request["custom_id"] for request in requests(tmp_path)] == ["row-0005001"]


def test_an_id_used_twice_is_a_bad_row(tmp_path: Path) -> None:
    """Two answers under one id could not be told apart; all such pairs are counted, and the first ones named."""
    flags: list[str | Path] = ["--input", CARS, "--model", "m", "--prompt", "{Name}", "--id", "{Origin}"]
    refused(
        create(tmp_path, *flags), "duplicate_custom_id", "row 2: the custom_id USA is used before, in row 1; there are"
    )
    refused(
        create(tmp_path, *flags), "duplicate_custom_id", "there are 403 such pairs, also row 3 repeats row 1, row 4"
    )
    result = create(tmp_path, *flags, "--skip-invalid")
    assert result.json["requests"] == 3 and result.json["warnings"][0] == "skipped 403 of 406 rows"
    long = "é" * 40
    (tmp_path / "t.csv").write_text(f"a\nx\n{long}\n{repaired(long)}\n")
    flags = ["--input", "t.csv", "--model", "m", "--prompt", "{a}", "--id", "{a}", "--repair-ids", "--force"]
    said = f"row 3: the custom_id {repaired(long)} is used before, in row 2"
    refused(create(tmp_path, *flags), "duplicate_custom_id", said)


@pytest.mark.parametrize("name", ["id", "ID", "customer_id", "customerId", "Order ID", "sku", "uuid", "product key"])
def test_a_column_that_looks_like_an_id_and_repeats_is_told(tmp_path: Path, name: str) -> None:
    """Where no --id uses it: some rows may be there twice; not where another column tells the rows apart."""
    words = ["--input", "t.csv", "--model", "m", "--prompt", "{text}", "--force"]
    (tmp_path / "t.csv").write_text(f"{name},text\nA,a\nB,b\nA,c\n,d\n,e\n")
    (said,) = create(tmp_path, *words).json["warnings"]
    assert f"the column {name} looks like an id, but values come again (1, such as A)" in said
    assert create(tmp_path, *words, "--limit", "2").json["warnings"] == []
    for table in (f"{name},key,text\nA,1,a\nA,2,b\n", "paid,monkey,text\n1,1,a\n1,1,b\n", f"{name},text\n,a\n,b\n"):
        (tmp_path / "t.csv").write_text(table)
        assert create(tmp_path, *words).json["warnings"] == []


def test_an_id_that_the_server_refuses_is_a_bad_row(tmp_path: Path) -> None:
    """65 bytes, or a control character."""
    for value in ("x" * 65, "é" * 33, "a\tb"):
        flags = ["--input", "-", "--model", "m", "--prompt", "{a}", "--id", "{a}"]
        refused(
            create(tmp_path, *flags, stdin=json.dumps([{"a": value}])), "bad_row", "row 1: custom_id: must be 1 to 64"
        )
    assert list(tmp_path.iterdir()) == []


def test_a_request_too_large_for_the_server_is_a_bad_row(tmp_path: Path) -> None:
    """A body may have 10 MiB."""
    rows = json.dumps([{"a": "x" * 11_000_000}])
    refused(
        create(tmp_path, "--input", "-", "--model", "m", "--prompt", "{a}", stdin=rows),
        "bad_row",
        "may have 10,485,760",
    )


@pytest.mark.parametrize(
    ("row", "part"),
    [
        ('{"custom_id":"a","method":"post","url":"/v1/embeddings","body":{"model":"m","input":"x"}}', "row 1: method"),
        (
            '{"custom_id":"a","method":"POST","url":"/v1/embeddings","body":{"model":"m"}}',
            "row 1: body.input: is missing",
        ),
        ('{"custom_id":"a","method":"POST","url":"/v1/embeddings","body":{"model":"m","input":NaN}}', "NaN"),
        ('{"custom_id":"a","method":"POST","url":"/v1/embeddings","body":{"model":"m","model":"n"}}', "twice"),
        ('{"custom_id":"a","method":"POST","url":"/v1/embeddings","body":{"input":"\\ud800"}}', "surrogate"),
        ('{"custom_id":"a","method":"POST","url":"/v1/embeddings","body":{},"x":1}', "row 1"),
        (
            '{"custom_id":"a","method":"POST","url":"/v1/embeddings","body":{"model":"m","input":"x","seed":99999999999999999999}}',
            "64 bits",
        ),
        ('{"custom_id":7,"method":"POST","url":"/v1/embeddings","body":{"model":"m","input":"x"}}', 'write "7"'),
    ],
)
def test_request_lines_are_not_taken_on_trust(tmp_path: Path, row: str, part: str) -> None:
    """A row that came as a request is refused as any line would be."""
    refused(create(tmp_path, "--input", "-", stdin=row), "bad_row", part)
    assert list(tmp_path.iterdir()) == []


def test_request_lines_of_two_endpoints_are_not_mixed(tmp_path: Path) -> None:
    """A batch has one endpoint."""
    rows = [chat(), line("/v1/embeddings", custom_id="b", input="x")]
    refused(create(tmp_path, "--input", "-", stdin=json.dumps(rows)), "bad_row", "one endpoint a file")


# Bad input as a whole


@pytest.mark.parametrize(
    ("flags", "code", "part"),
    [
        (["--prompt", "{nme}"], "missing_column", "only: iata, name, city"),
        (["--prompt", "{name"], "bad_template", "lone {"),
        (["--prompt", '{"a": {name}}'], "bad_template", "lone } at character 13"),
        (["--prompt", " "], "bad_arguments", "--prompt is empty"),
        (["--temperature", "9"], "bad_arguments", "body.temperature: expected at most 2"),
        (["--temperature", "nan"], "bad_arguments", "expected a number"),
        (["--max-tokens", "0"], "bad_arguments", "whole number from 1"),
        (["--limit", "-1"], "bad_arguments", "whole number from 1"),
        (["--model", ""], "bad_arguments", "body.model: must not be empty"),
        (["--body", "{"], "bad_arguments", "--body is not JSON"),
        (["--body", "[]"], "bad_arguments", "not a JSON object"),
        (["--body", '{"temperature": NaN}'], "bad_arguments", "NaN"),
        (["--body", '{"n": 1, "n": 2}'], "bad_arguments", "twice"),
        (["--body", '{"stream": true}'], "bad_arguments", "body.stream: must be absent or false"),
        (["--body", '{"thinking": true}'], "bad_arguments", "use reasoning_effort"),
        (["--body", '{"messages": []}'], "bad_arguments", "which a flag sets already"),
        (["--body", '{"model": "n"}'], "bad_arguments", "which a flag sets already"),
        (["--endpoint", "/v1/chat"], "bad_arguments", "choose from"),
        (["--endpoint", "/v1/embeddings", "--max-tokens", "1"], "bad_arguments", "takes no --max-tokens"),
        (["--endpoint", "/v1/completions", "--system", "x"], "bad_arguments", "takes no --system"),
        (["--prompt-file", "p.txt"], "bad_arguments", "exclude each other"),
        (["--input-format", "doc"], "bad_arguments", "expected one of csv,"),
        (["--example"], "bad_arguments", "--example takes no --input"),
        (["--input", "none.csv"], "no_file", "no file none.csv"),
        (["--no-such-flag"], "bad_arguments", "--no-such-flag"),
    ],
    ids=range(25),
)
def test_bad_arguments_are_named_and_nothing_is_written(tmp_path: Path, flags: list[str], code: str, part: str) -> None:
    """Exit 2 before the first row, with the flag at fault."""
    refused(table(tmp_path, *flags), code, part)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        ([], "there are no rows"),
        (["--input", AIRPORTS, "--prompt", "{name}"], "--model is missing"),
        (["--input", AIRPORTS, "--model", "m"], "--prompt is missing"),
        (["--input", "-", "--model", "m"], "rows are request lines already, so --model has no place"),
        (["--input", "-", "--endpoint", "/v1/embeddings"], "so --endpoint has no place"),
    ],
)
def test_missing_and_misplaced_flags_are_named(tmp_path: Path, flags: list[str | Path], part: str) -> None:
    """A table needs a prompt and a model, and request lines take neither."""
    refused(create(tmp_path, *flags, stdin=json.dumps(chat())), "bad_arguments", part)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "content"), [("t.csv", "a,b\n"), ("t.csv", ""), ("t.json", "[]"), ("t.jsonl", "\n"), ("t.txt", "")]
)
def test_a_table_without_rows_is_refused(tmp_path: Path, name: str, content: str) -> None:
    """Zero requests is never a success."""
    (tmp_path / name).write_text(content)
    refused(create(tmp_path, "--input", name, "--model", "m", "--prompt", "x"), "no_rows", "")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_table_without_a_valid_row_is_refused(tmp_path: Path) -> None:
    """Also with --skip-invalid, and with the first cause."""
    flags: list[str | Path] = ["--input", CARS, "--model", "m", "--prompt", "{Nme}", "--skip-invalid"]
    refused(create(tmp_path, *flags), "no_rows", "none of 406 rows is valid; row 1: the template")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_output_is_kept(tmp_path: Path) -> None:
    """Unless --force asks for its replacement."""
    (tmp_path / "out.jsonl").write_text("mine")
    refused(table(tmp_path), "output_exists", "out.jsonl exists")
    assert (tmp_path / "out.jsonl").read_text() == "mine"
    assert table(tmp_path, "--force").code == 0
    assert len(requests(tmp_path)) == 3


@pytest.mark.parametrize("name", ["out.jsonl", "out-0001.jsonl"])
def test_the_output_never_takes_the_place_of_its_input(tmp_path: Path, name: str) -> None:
    """Not even with --force, and not by being a stale part of an earlier set."""
    (tmp_path / name).write_text(json.dumps(chat()))
    refused(create(tmp_path, "--input", f"./{name}", "--force"), "bad_arguments", "take the place of the input")
    assert (tmp_path / name).read_text() == json.dumps(chat())


def test_an_output_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    """With the command that makes it."""
    result = create(tmp_path, "--example", output="none/out.jsonl")
    refused(result, "no_folder", "no folder none")
    assert result.json["error"]["hint"] == "mkdir -p none"


# Warnings


def test_what_the_server_changes_silently_is_warned_of(tmp_path: Path) -> None:
    """Sorted schema properties, dropped parameters, and a prompt that asks the same of every row."""
    schema = {"type": "object", "properties": {"why": {}, "answer": {}}}
    body = {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}, "priority": 1}
    result = table(tmp_path, "--body", json.dumps(body))
    assert result.code == 0
    dropped, ordered = result.json["warnings"]
    assert "drops priority" in dropped
    assert "writes answer, why instead of why, answer" in ordered
    result = create(tmp_path, "--input", CARS, "--model", "m", "--prompt", "Hello.", "--force")
    assert result.json["warnings"] == ["the prompt has no {column}, so every row asks the same"]


def test_a_column_in_double_braces_is_warned_of(tmp_path: Path) -> None:
    """As Jinja writes a place; what names no column is text that was meant."""
    (tmp_path / "t.csv").write_text("text,lang\nhello,de\n")
    prompt, system = "Read {{ text }} and answer {{json}}. {text}", "You speak {{lang}}."
    result = create(
        tmp_path, "--input", str(tmp_path / "t.csv"), "--model", "m", "--prompt", prompt, "--system", system
    )
    assert result.code == 0
    assert result.json["warnings"] == [
        "{{lang}} is sent as the text {lang}; write {lang} for the column",
        "{{text}} is sent as the text {text}; write {text} for the column",
    ]


# As a process of its own


def test_a_process_ends_with_its_exit_code_and_one_object(tmp_path: Path) -> None:
    """Standard input in, exit codes and one JSON object out, also where stdin is empty or a row is bad."""
    flags = ["out.jsonl", "--input", "-", "--model", "m", "--prompt", "{a}"]
    assert run_door("create_batch_file", *flags, cwd=tmp_path, stdin='{"a": "\u00e9"}\n').code == 0
    assert requests(tmp_path)[0]["body"]["messages"][0]["content"] == "é"
    refused(run_door("create_batch_file", *flags, "--force", cwd=tmp_path), "no_rows", "standard input is empty")
    refused(
        run_door("create_batch_file", *flags, "--force", cwd=tmp_path, stdin='[{"b":1}]'), "missing_column", "row 1"
    )
    assert len(requests(tmp_path)) == 1


def test_help_is_short_and_shows_examples(tmp_path: Path) -> None:
    """At most 60 lines, the exit codes among them."""
    for name in ("create_batch_file", "validate_batch_file"):
        script = Path(__file__).parents[2] / "scripts" / f"{name}.py"
        done = subprocess.run([sys.executable, "-S", script, "--help"], capture_output=True, check=True, cwd=tmp_path)
        text = done.stdout.decode()
        assert len(text.splitlines()) <= 60
        assert "examples:" in text
        assert "exit codes:" in text


# For other scripts


def test_the_same_arguments_give_the_same_requests_without_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """try_prompt.py sends what create_batch_file.py would write."""
    flags = ["--input", str(CARS), "--model", "m", "--prompt", "{Name} {Miles_per_Gallon}", "--skip-invalid"]
    parser = Parser("", "")
    add_arguments(parser)
    with making(parser.parse_args([*flags, "--limit", "20"]), Disk()) as made:
        found = list(made.requests())
        assert not made.is_doubtful()
        warnings = made.warnings()
    assert list(tmp_path.iterdir()) == []
    written = create(tmp_path, *flags, "--limit", "20")
    assert [one.request for one in found] == requests(tmp_path)
    assert warnings == written.json["warnings"]
    assert all(one.request["custom_id"] == f"row-{one.row.number:07d}" for one in found)
