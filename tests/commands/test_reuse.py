"""--reuse: good answers of earlier jobs are taken over for the very same request, and only what is left is asked."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.door import Result, call_door
from tests.engine_process import KEY, RunningEngine, engine_with_upstream, priced

from doubleword.jobs.job_file import JobFile
from doubleword.system import Disk

pytestmark = pytest.mark.usefixtures("quick_looks")
MODEL, OTHER = "Qwen/Qwen3.5-9B", "Qwen/Qwen3.5-4B"
FIRST = "first.requests.job.json"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[RunningEngine]:
    settings = priced({name: {"24h": [1.0, 1.0]} for name in (MODEL, OTHER)})
    with engine_with_upstream(tmp_path / "engine", concurrency=32, settings=settings) as running:
        running.upstream.models += [MODEL, OTHER]
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "work"
    made.mkdir()
    return made


def write_table(folder: Path, titles: list[str]) -> None:
    (folder / "t.csv").write_text("id,title\n" + "".join(f"{at},{title}\n" for at, title in enumerate(titles, 1)))


def door(engine: RunningEngine, folder: Path, name: str, *words: str) -> Result:
    env = {"DOUBLEWORD_API_KEY": KEY, "DOUBLEWORD_BASE_URL": engine.base_url}
    return call_door(name, *words, cwd=folder, env=env)


def ask(model: str = MODEL, *more: str) -> list[str]:
    return ["--input", "t.csv", "--model", model, "--max-tokens", "8", "--prompt", "Genre of {title}?", *more]


def run(engine: RunningEngine, folder: Path, output: str, *more: str, model: str = MODEL) -> Result:
    return door(engine, folder, "run_batch", output, *ask(model), *more)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def text_of(line: dict[str, Any]) -> str:
    return str(line["response"]["body"]["choices"][0]["message"]["content"])


def asked(title: str) -> str:
    return f"answer to: Genre of {title}?"


def job_of(folder: Path, name: str = FIRST) -> str:
    return JobFile.load(folder / name, Disk()).job.id


@pytest.mark.parametrize("once", [[], ["--dedupe"]], ids=["each", "dedupe"])
def test_a_grown_table_is_asked_only_for_new_rows(engine: RunningEngine, folder: Path, once: list[str]) -> None:
    """Rows were added and sorted; each has the answer of its own request, and says where it is from. Run again, no
    request is sent, though the earlier job is gone.
    """
    old = [f"film {number}" for number in range(60)]
    write_table(folder, old)
    assert run(engine, folder, "first.csv").code == 0
    grown = sorted([*old, *(f"new {number}" for number in range(10))], reverse=True)
    write_table(folder, grown)
    dry = run(engine, folder, "second.csv", *once, "--reuse", FIRST, "--dry-run")
    assert (dry.code, dry.json["requests"]) == (0, 10)
    second = run(engine, folder, "second.csv", *once, "--reuse", FIRST)
    assert second.code == 0, second.json
    told = [second.json[name] for name in ("requests", "shared", "reused")]
    assert told == [10, 0, 60] and second.json["counts"]["total"] == 70 == second.json["counts"]["succeeded"]
    assert second.json["counts"]["reused"] == 60
    assert len(engine.ledger()) == 70
    found = rows(folder / "second.csv")
    assert [(row["title"], row["answer"]) for row in found] == [(title, asked(title)) for title in grown]
    job = job_of(folder)
    origins = [f"{job}/row-{old.index(title) + 1:07d}" if title in old else "" for title in grown]
    assert [row["reused_from"] for row in found] == origins
    tokens = sum(int(row["completion_tokens"]) for row in found if not row["reused_from"])
    assert second.json["usage"]["completion_tokens"] == tokens
    (folder / FIRST).unlink()
    again = run(engine, folder, "second.csv", *once, "--reuse", FIRST)
    assert again.json == second.json
    assert run(engine, folder, "second.csv", *once, "--reuse", FIRST, "--force").code == 0
    assert [row["answer"] for row in rows(folder / "second.csv")] == list(map(asked, grown))
    assert len(engine.ledger()) == 70


def test_the_three_steps_reuse_too(engine: RunningEngine, folder: Path) -> None:
    """Created, submitted and fetched as JSON lines and as a table with chosen columns, of a table in another order."""
    write_table(folder, ["Heat", "Up"])
    assert run(engine, folder, "first.jsonl").code == 0
    write_table(folder, ["Alien", "Up", "Heat"])
    made = door(engine, folder, "create_batch_file", "a.jsonl", *ask(), "--reuse", "first.requests.jsonl")
    assert [made.json[name] for name in ("requests", "rows", "shared", "reused")] == [1, 3, 0, 2]
    assert door(engine, folder, "submit", "a.jsonl").code == 0
    assert door(engine, folder, "poll", "a.job.json", "--wait", "60").code == 0
    fetched = door(engine, folder, "fetch_results", "a.job.json")
    assert (fetched.code, fetched.json["counts"]["reused"]) == (0, 2)
    found = lines(folder / "a.results.jsonl")
    assert [(one["custom_id"], text_of(one)) for one in found] == [
        (f"row-{at:07d}", asked(title)) for at, title in enumerate(["Alien", "Up", "Heat"], 1)
    ]
    job = job_of(folder)
    assert [one.get("reused_from") for one in found] == [None, f"{job}/row-0000002", f"{job}/row-0000001"]
    (folder / "sorted.csv").write_text("id,title\n3,Heat\n1,Alien\n2,Up\n")
    words = ("a.job.json", "--format", "csv", "--join", "sorted.csv", "--columns", "title,answer,from=reused_from")
    assert door(engine, folder, "fetch_results", *words).code == 0
    assert [(row["title"], row["answer"], bool(row["from"])) for row in rows(folder / "a.results.csv")] == [
        ("Alien", asked("Alien"), False),
        ("Up", asked("Up"), True),
        ("Heat", asked("Heat"), True),
    ]
    assert len(engine.ledger()) == 3


@pytest.mark.parametrize("output", ["second.csv", "second.jsonl"])
def test_where_every_row_is_answered_nothing_is_sent(engine: RunningEngine, folder: Path, output: str) -> None:
    """The table is written all the same, needs no key then, and can be fetched again; no batch file is made."""
    write_table(folder, ["Heat", "Up", "Alien"])
    assert run(engine, folder, "first.jsonl").code == 0
    write_table(folder, ["Alien", "Heat"])
    made = door(engine, folder, "create_batch_file", "a.jsonl", *ask(), "--reuse", FIRST)
    assert (made.code, made.json["error"]["code"]) == (2, "nothing_to_ask")
    assert not [path for path in folder.iterdir() if path.name.startswith(("a.", ".a"))]
    first = call_door("run_batch", output, *ask(), "--reuse", FIRST, cwd=folder, env={})
    assert first.code == 0, first.json
    assert first.json["counts"] == {"total": 2, "succeeded": 2, "failed": 0, "missing": 0, "reused": 2}
    assert (first.json["requests"], first.json["complete"]) == (0, True)
    assert first.json["warnings"] == ["every one of 2 rows has the answer of an earlier job: nothing is asked"]
    again = call_door("run_batch", output, *ask(), "--reuse", FIRST, cwd=folder, env={})
    assert again.json == first.json
    forced = call_door("run_batch", output, *ask(), "--force", cwd=folder, env={})
    assert forced.json == first.json
    if output == "second.csv":
        assert [row["answer"] for row in rows(folder / output)] == [asked("Alien"), asked("Heat")]
    else:
        assert list(map(text_of, lines(folder / output))) == [asked("Alien"), asked("Heat")]
    job = "second.requests.job.json"
    assert door(engine, folder, "fetch_results", job, "--format", "parquet").code == 0
    assert door(engine, folder, "poll", job).json["counts"] == {"total": 0, "completed": 0, "failed": 0}
    assert door(engine, folder, "retry_failed", job).json["batches"] == []
    assert door(engine, folder, "list_batches").code == 0
    assert door(engine, folder, "report", job).code == 0
    assert door(engine, folder, "delete_files", job).code == 0
    assert door(engine, folder, "cancel", job, "--yes").json["error"]["code"] == "no_batch"
    write_table(folder, ["Alien", "Heat", "New"])
    assert run(engine, folder, output).json["error"]["code"] == "other_requests"
    assert len(engine.ledger()) == 3
    updated = run(engine, folder, output, "--update")
    assert (updated.code, updated.json["counts"]["reused"], len(engine.ledger())) == (0, 2, 4)
