"""The main job on the embedded engine with its real models, on a real table: the airports that vega-datasets ships."""

from __future__ import annotations

import csv
import json
from pathlib import Path

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
