"""The main job on the embedded engine with its real models, on a real table: the airports that vega-datasets ships."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy
import pyarrow.parquet
import pytest
from tests.door import run_door
from vega_datasets import data

ROWS = 12


@pytest.fixture(scope="module")
def airports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first rows of a real table of 3,376."""
    whole = Path(data.airports.filepath).read_text(encoding="utf-8").splitlines(keepends=True)
    assert len(whole) == 3377
    table = tmp_path_factory.mktemp("airports") / "airports.csv"
    table.write_text("".join(whole[: ROWS + 1]), encoding="utf-8")
    return table


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_chat_batch_from_table_to_table(airports: Path, tmp_path: Path) -> None:
    """Create, submit, poll and fetch as separate processes that share one job: one real answer per row, in order."""
    prompt = "In one word, which country is {city}, {state} in?"
    made = run_door(
        "create_batch_file", "m.jsonl", "--input", airports, "--prompt", prompt, "--model", "SmolLM2-135M-Instruct",
        "--max-tokens", "6", cwd=tmp_path,
    )  # fmt: skip
    assert (made.code, made.json["requests"]) == (0, ROWS)
    assert run_door("submit", "m.jsonl", "--local", cwd=tmp_path).code == 0
    polled = run_door("poll", "m.job.json", "--wait", "200", cwd=tmp_path, timeout=300)
    assert (polled.code, polled.json["counts"]["completed"]) == (0, ROWS)
    fetched = run_door(
        "fetch_results", "m.job.json", "--format", "csv", "--join", airports, "--output", "a.csv", cwd=tmp_path
    )
    assert (fetched.code, fetched.json["complete"]) == (0, True)
    answers = rows(tmp_path / "a.csv")
    assert [row["name"] for row in answers] == [row["name"] for row in rows(airports)]
    assert all(row["answer"] and int(row["completion_tokens"]) <= 6 for row in answers)
    assert (tmp_path / "m.local").stat().st_mode & 0o077 == 0


def test_embeddings_from_table_to_table(airports: Path, tmp_path: Path) -> None:
    """Each row gets a vector of 384 numbers of length one; the same text gets the same vector."""
    done = run_door(
        "run_batch", "v.csv", "--input", airports, "--prompt", "{name}, {city}", "--model", "multilingual-e5-small",
        "--endpoint", "/v1/embeddings", "--local", cwd=tmp_path, timeout=300,
    )  # fmt: skip
    assert (done.code, done.json["counts"]["succeeded"]) == (0, ROWS)
    vectors = [json.loads(row["embedding"]) for row in rows(tmp_path / "v.csv")]
    assert all(len(vector) == 384 for vector in vectors)
    assert all(abs(sum(number**2 for number in vector) - 1) < 0.02 for vector in vectors)
    assert len({json.dumps(vector) for vector in vectors}) == ROWS
    words = ["v.requests.job.json", "--format", "npy", "--output", "v.npy"]
    assert run_door("fetch_results", *words, cwd=tmp_path).code == 0
    matrix = numpy.load(tmp_path / "v.npy")
    assert matrix.shape == (ROWS, 384) and numpy.allclose(matrix, vectors)
    assert (tmp_path / "v.ids.txt").read_text().split() == [row["custom_id"] for row in rows(tmp_path / "v.csv")]


SCHEMA = {
    "type": "object",
    "properties": {"a_size": {"type": "string", "enum": ["large", "small"]}, "b_open": {"type": "boolean"}},
    "required": ["a_size", "b_open"],
    "additionalProperties": False,
}


def test_structured_answers_from_table_to_table(airports: Path, tmp_path: Path) -> None:
    """The model obeys the schema; where it is cut off the row has failed, until it is asked again with more room."""
    form = {"type": "json_schema", "json_schema": {"name": "airport", "strict": True, "schema": SCHEMA}}
    made = run_door(
        "create_batch_file", "s.jsonl", "--input", airports, "--limit", "3", "--prompt", "Is {name} large, is it open?",
        "--model", "SmolLM2-135M-Instruct", "--max-tokens", "60", "--body", json.dumps({"response_format": form}),
        cwd=tmp_path,
    )  # fmt: skip
    assert made.code == 0
    first, *others = (tmp_path / "s.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "s.jsonl").write_text("".join([first.replace('"max_tokens":60', '"max_tokens":2'), *others]))
    assert run_door("submit", "s.jsonl", "--local", cwd=tmp_path).code == 0
    assert run_door("poll", "s.job.json", "--wait", "200", cwd=tmp_path, timeout=300).code == 0
    fetched = run_door("fetch_results", "s.job.json", "--output", "s1.jsonl", cwd=tmp_path)
    assert (fetched.code, fetched.json["counts"]["failed"]) == (6, 1)
    assert fetched.json["answers"] == {"truncated": 1, "refused": 0, "empty": 0, "unfinished": 0, "invalid": 1}
    retried = run_door("retry_failed", "s.job.json", "--only", "truncated", "--max-tokens", "60", cwd=tmp_path)
    assert (retried.code, retried.json["batches"][1]["requests"]) == (0, 1)
    assert run_door("poll", "s.job.json", "--wait", "200", cwd=tmp_path, timeout=300).code == 0
    words: list[str | Path] = [
        "s.job.json",
        "--format",
        "parquet",
        "--join",
        airports,
        "--output",
        "s.parquet",
        "--history",
        "h.jsonl",
    ]
    fetched = run_door("fetch_results", *words, cwd=tmp_path)
    assert (fetched.code, fetched.json["cost_usd"], fetched.json["estimate_usd"]) == (0, 0.0, 0.0)
    table = pyarrow.parquet.read_table(tmp_path / "s.parquet")
    assert str(table.schema.field("b_open").type) == "bool"
    answers = table.to_pylist()
    assert [row["name"] for row in answers] == [row["name"] for row in rows(airports)[:3]]
    for row in answers:
        assert {"a_size": row["a_size"], "b_open": row["b_open"]} == json.loads(row["answer"])
        assert row["a_size"] in ("large", "small")
    tried = [json.loads(line)["attempt"] for line in (tmp_path / "h.jsonl").read_text().splitlines()]
    assert tried == [1, 2, 1, 1]
