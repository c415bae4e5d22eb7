"""Whole jobs through the scripts on the embedded engine over HTTP, the first and those that are killed as processes."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.clock import Clocked
from tests.door import SCRIPTS, Result, call_door, environment, run_door
from tests.engine_process import KEY, RunningEngine, engine_with_upstream, wait_until

from doubleword.commands.fetch_results import fetch
from doubleword.engine.settings import Settings

ENDPOINT = "/v1/chat/completions"
pytestmark = pytest.mark.usefixtures("quick_looks")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[RunningEngine]:
    with engine_with_upstream(tmp_path / "engine") as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "a folder"
    made.mkdir()
    return made


def batch_file(path: Path, texts: list[str], model: str = "test-chat") -> Path:
    lines = [
        {
            "custom_id": f"row-{number}",
            "method": "POST",
            "url": ENDPOINT,
            "body": {"model": model, "messages": [{"role": "user", "content": text}]},
        }
        for number, text in enumerate(texts, start=1)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def settings(engine: RunningEngine, key: str = KEY) -> dict[str, str]:
    return {"DOUBLEWORD_API_KEY": key, "DOUBLEWORD_BASE_URL": engine.base_url}


def door(engine: RunningEngine, name: str, *args: str | Path, cwd: Path, key: str = KEY) -> Result:
    result = call_door(name, *args, cwd=cwd, env=settings(engine, key))
    assert KEY not in json.dumps(result.json) + result.stderr
    return result


def batches(engine: RunningEngine) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = engine.call("GET", "/batches").json()["data"]
    return found


def test_a_job_from_submit_to_results(engine: RunningEngine, folder: Path) -> None:
    """Submit, poll and fetch as three processes: every request answered, in the order of the input."""
    batch_file(folder / "a.jsonl", [f"question {number}" for number in range(30)])
    submitted = run_door("submit", "a.jsonl", cwd=folder, env=settings(engine))
    assert (submitted.code, submitted.json["resumed"]) == (0, False)
    assert submitted.json["job"] == "a.job.json"
    (batch,) = submitted.json["batches"]
    assert batch["requests"] == 30

    polled = run_door("poll", "a.job.json", "--wait", "30", cwd=folder, env=settings(engine))
    assert (polled.code, polled.json["done"]) == (0, True)
    assert polled.json["counts"] == {"total": 30, "completed": 30, "failed": 0}

    output = ["--output", "answers.jsonl"]
    fetched = run_door("fetch_results", "a.job.json", *output, cwd=folder, env=settings(engine))
    assert (fetched.code, fetched.json["complete"]) == (0, True)
    assert fetched.json["counts"] == {"total": 30, "succeeded": 30, "failed": 0, "missing": 0}
    rows = [json.loads(line) for line in (folder / "answers.jsonl").read_text().split("\n") if line]
    assert [row["custom_id"] for row in rows] == [f"row-{number}" for number in range(1, 31)]
    assert all(row["response"]["body"]["choices"][0]["message"]["content"] for row in rows)
    assert sorted(one.name for one in folder.iterdir()) == ["a.job.json", "a.jsonl", "answers.jsonl"]
    assert len(batches(engine)) == 1


def test_every_script_run_again_changes_nothing(engine: RunningEngine, folder: Path) -> None:
    """A second submit resumes, a second fetch says the same, a retry of a finished job asks nothing."""
    batch_file(folder / "a.jsonl", ["one", "two"])
    door(engine, "submit", "a.jsonl", cwd=folder)
    again = door(engine, "submit", "a.jsonl", cwd=folder)
    assert (again.code, again.json["resumed"]) == (0, True)
    door(engine, "poll", "a.job.json", "--wait", "30", cwd=folder)
    first = door(engine, "fetch_results", "a.job.json", "--output", "x.csv", "--format", "csv", cwd=folder)
    before = (folder / "x.csv").read_bytes()
    second = door(engine, "fetch_results", "a.job.json", "--output", "x.csv", "--format", "csv", cwd=folder)
    assert second.json == first.json and second.code == 0
    assert (folder / "x.csv").read_bytes() == before
    retried = door(engine, "retry_failed", "a.job.json", cwd=folder)
    assert (retried.code, retried.json["resumed"]) == (0, True)
    assert len(batches(engine)) == 1
    assert engine.upstream.count() == 2


def test_failed_requests_are_told_and_retried(engine: RunningEngine, folder: Path) -> None:
    """Exit 6 with causes; the errors file holds what failed; a retry asks only that again, and fetch then is whole."""
    engine.upstream.fail("two", 409, times=1)
    batch_file(folder / "a.jsonl", ["one", "two", "three"])
    door(engine, "submit", "a.jsonl", cwd=folder)
    polled = door(engine, "poll", "a.job.json", "--wait", "30", cwd=folder)
    assert (polled.code, polled.json["done"]) == (6, True)
    fetched = door(engine, "fetch_results", "a.job.json", "--output", "x.jsonl", cwd=folder)
    assert (fetched.code, fetched.json["complete"]) == (6, True)
    assert fetched.json["counts"] == {"total": 3, "succeeded": 2, "failed": 1, "missing": 0}
    (cause,) = fetched.json["failures"]
    assert (cause["count"], cause["example"]) == (1, "row-2") and "told to fail" in cause["cause"]
    errors = [json.loads(line) for line in (folder / "x.errors.jsonl").read_text().splitlines()]
    assert [row["custom_id"] for row in errors] == ["row-2"]

    dry = door(engine, "retry_failed", "a.job.json", "--dry-run", cwd=folder)
    assert dry.code == 0 and dry.json["batches"][0]["status"] == "1 to retry"
    retried = door(engine, "retry_failed", "a.job.json", cwd=folder)
    assert (retried.code, retried.json["resumed"]) == (0, False)
    assert door(engine, "poll", "a.job.json", "--wait", "30", cwd=folder).code == 0
    refused = door(engine, "fetch_results", "a.job.json", "--output", "x.jsonl", cwd=folder)
    assert (refused.code, refused.json["error"]["code"]) == (2, "output_exists")
    whole = door(engine, "fetch_results", "a.job.json", "--output", "x.jsonl", "--force", cwd=folder)
    assert (whole.code, whole.json["errors"]) == (0, None)
    assert not (folder / "x.errors.jsonl").exists()
    assert len(batches(engine)) == 1
    assert [engine.upstream.count(text) for text in ("one", "two", "three")] == [1, 2, 1]


def test_an_unfinished_batch_is_not_done(engine: RunningEngine, folder: Path) -> None:
    """Poll and fetch give 7 and write nothing; --partial gives what is there, and still says 7."""
    batch_file(folder / "a.jsonl", ["quick", "slow"])
    with engine.upstream.hold("slow"):
        door(engine, "submit", "a.jsonl", cwd=folder)
        wait_until(lambda: batches(engine)[0]["request_counts"]["completed"] == 1, "the quick one")
        polled = door(engine, "poll", "a.job.json", "--wait", "1", cwd=folder)
        assert (polled.code, polled.json["done"], polled.json["counts"]["completed"]) == (7, False, 1)
        fetched = door(engine, "fetch_results", "a.job.json", cwd=folder)
        assert (fetched.code, fetched.json["error"]["code"]) == (7, "not_finished")
        assert sorted(one.name for one in folder.iterdir()) == ["a.job.json", "a.jsonl"]
        partial = door(engine, "fetch_results", "a.job.json", "--partial", "--output", "p.jsonl", cwd=folder)
        assert (partial.code, partial.json["complete"]) == (7, False)
        assert partial.json["counts"] == {"total": 2, "succeeded": 1, "failed": 0, "missing": 0, "pending": 1}
        assert len((folder / "p.jsonl").read_text().splitlines()) == 1


def test_embeddings_become_a_list_column_in_parquet(engine: RunningEngine, folder: Path) -> None:
    """The table's columns, then custom_id, status, the vector and the tokens, each of its own type."""
    import pyarrow.parquet

    (folder / "t.csv").write_text("name,status\nRome,open\nParis,\n")
    made = run_door(
        "create_batch_file", "v.jsonl", "--input", "t.csv", "--model", "test-embedding", "--prompt", "{name}",
        "--endpoint", "/v1/embeddings", cwd=folder,
    )  # fmt: skip
    assert made.code == 0
    door(engine, "submit", "v.jsonl", cwd=folder)
    door(engine, "poll", "v.job.json", "--wait", "30", cwd=folder)
    words = ["v.job.json", "--format", "parquet", "--join", "t.csv", "--output", "v.parquet"]
    assert door(engine, "fetch_results", *words, cwd=folder).code == 0
    table = pyarrow.parquet.read_table(folder / "v.parquet")
    assert table.column_names[:4] == ["name", "status", "custom_id", "result_status"]
    rows = table.to_pylist()
    assert [(row["name"], row["status"], row["result_status"]) for row in rows] == [
        ("Rome", "open", "succeeded"),
        ("Paris", None, "succeeded"),
    ]
    assert pyarrow.types.is_list(table.schema.field("embedding").type)
    assert len(rows[0]["embedding"]) > 1 and isinstance(rows[0]["prompt_tokens"], int)


def test_rows_that_were_left_out_do_not_disturb_the_join(engine: RunningEngine, folder: Path) -> None:
    """Rows left out by --skip-invalid, a format told by --input-format: answers stay with their rows."""
    (folder / "t.data").write_text("id,text\na,one\n,two\nc,\nd,four\n")
    made = run_door(
        "create_batch_file", "m.jsonl", "--input", "t.data", "--input-format", "csv", "--id", "{id}", "--skip-invalid",
        "--model", "test-chat", "--prompt", "{text}", cwd=folder,
    )  # fmt: skip
    assert (made.code, made.json["requests"]) == (0, 2)
    door(engine, "submit", "m.jsonl", cwd=folder)
    door(engine, "poll", "m.job.json", "--wait", "30", cwd=folder)
    words = ["m.job.json", "--format", "csv", "--join", "t.data", "--output", "x.csv"]
    assert door(engine, "fetch_results", *words, cwd=folder).code == 0
    with (folder / "x.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["id"], row["text"], row["custom_id"]) for row in rows] == [("a", "one", "a"), ("d", "four", "d")]


@pytest.mark.parametrize("output", ["a.jsonl", "a.job.json", "t.csv"])
def test_results_never_replace_what_they_are_made_of(engine: RunningEngine, folder: Path, output: str) -> None:
    """Not even by --force: the batch file, the job file and the table stay as they are."""
    batch_file(folder / "a.jsonl", ["one"])
    (folder / "t.csv").write_text("id\n1\n")
    door(engine, "submit", "a.jsonl", cwd=folder)
    door(engine, "poll", "a.job.json", "--wait", "30", cwd=folder)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    refused = door(engine, "fetch_results", "a.job.json", "--force", "--join", "t.csv", "--output", output, cwd=folder)
    assert (refused.code, refused.json["error"]["code"]) == (2, "output_is_input")
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("wait", ["nan", "inf", "-1", "soon"])
def test_a_wait_is_a_number_that_ends(folder: Path, wait: str) -> None:
    """Nothing waits for ever."""
    assert run_door("poll", "b1", "--wait", wait, cwd=folder).code == 2


def test_a_cancelled_batch_gives_what_it_has(engine: RunningEngine, folder: Path) -> None:
    """Cancel asks for --yes first, waits for the server's word; rows in no file are missing with that cause."""
    batch_file(folder / "a.jsonl", ["quick", "slow 1", "slow 2"])
    with engine.upstream.hold("slow"):
        door(engine, "submit", "a.jsonl", cwd=folder)
        wait_until(lambda: batches(engine)[0]["request_counts"]["completed"] == 1, "the quick one")
        asked = door(engine, "cancel", "a.job.json", cwd=folder)
        assert (asked.code, asked.json["batches"][0]["not_run"]) == (8, 2)
        assert (asked.json["kept"], asked.json["not_run"]) == (1, 2)
        assert batches(engine)[0]["status"] == "in_progress"
        cancelled = door(engine, "cancel", "a.job.json", "--yes", cwd=folder)
        assert (cancelled.code, cancelled.json["batches"][0]["status"]) == (0, "cancelled")
        assert (cancelled.json["kept"], cancelled.json["failed"], cancelled.json["not_run"]) == (1, 0, 2)
        assert "fetch_results.py a.job.json" in cancelled.json["hint"]
        words = ["a.job.json", "--output", "x.csv", "--format", "csv"]
        early = door(engine, "fetch_results", *words, "--partial", cwd=folder)
        assert (early.code, early.json["complete"], early.json["counts"]["pending"]) == (7, False, 2)
        waiting = Clocked()
        waiting.time = time.time()
        fetched = call_door(
            "fetch_results", *words, "--force", cwd=folder, env=settings(engine), work=lambda args: fetch(args, waiting)
        )
        assert sum(waiting.slept) >= 80
    assert (fetched.code, fetched.json["complete"]) == (6, True)
    assert fetched.json["counts"] == {"total": 3, "succeeded": 1, "failed": 0, "missing": 2}
    with (folder / "x.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["succeeded", "missing", "missing"]
    assert "cancelled" in rows[1]["error"]


def test_cancel_leaves_a_finished_batch_alone(engine: RunningEngine, folder: Path) -> None:
    """The server would relabel it; the script does not even ask."""
    batch_file(folder / "a.jsonl", ["one"])
    door(engine, "submit", "a.jsonl", cwd=folder)
    door(engine, "poll", "a.job.json", "--wait", "30", cwd=folder)
    assert door(engine, "cancel", "a.job.json", "--yes", cwd=folder).code == 0
    assert batches(engine)[0]["status"] == "completed"


def test_several_files_are_one_job(engine: RunningEngine, folder: Path) -> None:
    """One batch each, polled together, fetched in the order of the files."""
    for number in (1, 2, 3):
        path = batch_file(folder / f"a-000{number}.jsonl", ["x", "y"])
        path.write_text(path.read_text().replace('"row-', f'"f{number}-'))
    submitted = door(engine, "submit", *sorted(path.name for path in folder.glob("*.jsonl")), cwd=folder)
    assert (submitted.code, len(submitted.json["batches"])) == (0, 3)
    assert door(engine, "poll", "a-0002.jsonl", "--wait", "30", cwd=folder).code == 0
    fetched = door(engine, "fetch_results", "a.job.json", "--output", "x.jsonl", cwd=folder)
    assert fetched.json["counts"]["succeeded"] == 6
    rows = [json.loads(line)["custom_id"] for line in (folder / "x.jsonl").read_text().splitlines()]
    assert rows == ["f1-1", "f1-2", "f2-1", "f2-2", "f3-1", "f3-2"]


def test_batches_are_fetched_by_id_alone(engine: RunningEngine, folder: Path) -> None:
    """Without a job file the server's copy of the input says which requests there are."""
    batch_file(folder / "a.jsonl", ["one", "two"])
    identifier = door(engine, "submit", "a.jsonl", cwd=folder).json["batches"][0]["id"]
    door(engine, "poll", identifier, "--wait", "30", cwd=folder)
    for name in ("a.job.json", "a.jsonl"):
        (folder / name).unlink()
    fetched = door(engine, "fetch_results", identifier, cwd=folder)
    assert (fetched.code, fetched.json["output"]) == (0, f"{identifier}.results.jsonl")
    assert len((folder / fetched.json["output"]).read_text().splitlines()) == 2


def test_an_edited_batch_file_is_never_taken_for_the_old_one(engine: RunningEngine, folder: Path) -> None:
    """Submit refuses and says what can be chosen; a job file of its own makes it a new job."""
    batch_file(folder / "a.jsonl", ["one"])
    door(engine, "submit", "a.jsonl", cwd=folder)
    batch_file(folder / "a.jsonl", ["one, edited"])
    refused = door(engine, "submit", "a.jsonl", cwd=folder)
    assert (refused.code, refused.json["error"]["code"]) == (2, "batch_file_changed")
    assert "--job" in refused.json["error"]["hint"]
    assert len(batches(engine)) == 1
    new = door(engine, "submit", "a.jsonl", "--job", "b.job.json", cwd=folder)
    assert (new.code, new.json["resumed"]) == (0, False)
    assert len(batches(engine)) == 2


def test_a_dry_run_touches_nothing(folder: Path) -> None:
    """No key, no network, no job file."""
    batch_file(folder / "a.jsonl", ["one", "two"])
    dry = run_door("submit", "a.jsonl", "--dry-run", cwd=folder, env={"DOUBLEWORD_BASE_URL": "http://127.0.0.1:9/v1"})
    assert dry.code == 0 and dry.json["batches"][0]["requests"] == 2
    assert [one.name for one in folder.iterdir()] == ["a.jsonl"]


@pytest.mark.parametrize(
    ("name", "args", "key", "code"),
    [
        ("submit", ["a.jsonl"], "", 3),
        ("submit", ["a.jsonl"], "wrong-key-0123456789", 3),
        ("submit", ["none.jsonl"], KEY, 2),
        ("submit", ["bad.jsonl"], KEY, 2),
        ("submit", ["a.jsonl", "--metadata", "x"], KEY, 2),
        ("submit", ["a.jsonl", "--base-url", "http://example.com/v1"], KEY, 2),
        ("submit", ["a.jsonl", "--job", "a.json"], KEY, 2),
        ("poll", ["01234567-89ab-cdef-0123-456789abcdef"], KEY, 4),
        ("poll", ["missing.job.json"], KEY, 4),
        ("fetch_results", ["01234567-89ab-cdef-0123-456789abcdef"], KEY, 4),
        ("fetch_results", ["a.jsonl"], KEY, 4),
        ("cancel", ["01234567-89ab-cdef-0123-456789abcdef", "--yes"], KEY, 4),
        ("retry_failed", ["missing.job.json"], KEY, 4),
        ("list_batches", ["--limit", "0"], KEY, 2),
        ("list_batches", ["--status", "nonsense"], KEY, 2),
        ("list_models", [], "", 3),
    ],
)
def test_bad_input_is_explained_and_leaves_nothing(
    engine: RunningEngine, folder: Path, name: str, args: list[str], key: str, code: int
) -> None:
    """Each gives its exit code, one JSON error with a hint, and no file, upload or batch."""
    batch_file(folder / "a.jsonl", ["one"])
    (folder / "bad.jsonl").write_text('{"custom_id": "a"}\n')
    before = sorted(folder.iterdir())
    result = door(engine, name, *args, cwd=folder, key=key)
    assert result.code == code
    assert result.json["error"]["message"] and result.json["error"]["hint"]
    assert sorted(folder.iterdir()) == before
    assert batches(engine) == []
    assert engine.call("GET", "/files").json()["data"] == []


def test_batches_and_models_are_listed(engine: RunningEngine, folder: Path) -> None:
    """Newest first, with the job that made them; has_more when the limit cut."""
    for name in ("a", "b"):
        batch_file(folder / f"{name}.jsonl", ["one"])
        door(engine, "submit", f"{name}.jsonl", cwd=folder)
    listed = door(engine, "list_batches", "--limit", "1", cwd=folder)
    assert listed.json["has_more"] is True
    assert listed.json["batches"][0]["job"] == json.loads((folder / "b.job.json").read_text())["id"]
    assert len(door(engine, "list_batches", "--all", cwd=folder).json["batches"]) == 2
    engine.upstream.models.append("Qwen/Qwen3-14B-FP8")
    models = door(engine, "list_models", cwd=folder).json
    assert [one["id"] for one in models["models"]] == ["Qwen/Qwen3-14B-FP8", "test-chat", "test-embedding"]
    prices = {"24h": [0.02, 0.2], "1h": [0.03, 0.3], "realtime": [0.05, 0.6]}
    assert [one["usd_per_million_tokens"] for one in models["models"]] == [prices, None, None]
    assert [one["date"] for one in models["price_sources"]] == ["2026-11-22", "2026-11-27"]


def test_models_say_how_they_think_and_which_only_batches_reach(tmp_path: Path) -> None:
    """As the server tells it; of others nothing is said."""
    efforts = {"test-chat": {"chat_completions": ["none", "low"], "responses": ["low"]}}
    settings_ = Settings(batch_only=frozenset({"test-embedding"}), reasoning_efforts=efforts)
    with engine_with_upstream(tmp_path, settings=settings_) as running:
        chat, embedding = door(running, "list_models", cwd=tmp_path).json["models"]
    assert (chat["reasoning_efforts"], "batch_only" in chat) == (["none", "low"], False)
    assert (embedding["batch_only"], "reasoning_efforts" in embedding) == (True, False)


def test_a_job_does_not_send_the_key_to_a_server_nobody_named(engine: RunningEngine, folder: Path) -> None:
    """A job file that came from elsewhere names its server; the user has to name it too."""
    batch_file(folder / "a.jsonl", ["one"])
    door(engine, "submit", "a.jsonl", cwd=folder)
    result = run_door("poll", "a.job.json", cwd=folder, env={"DOUBLEWORD_API_KEY": KEY})
    assert (result.code, result.json["error"]["code"]) == (2, "other_server")
    assert engine.base_url in result.json["error"]["hint"]


def test_a_poll_that_is_killed_is_simply_run_again(engine: RunningEngine, folder: Path) -> None:
    """SIGKILL leaves nothing to mend; SIGINT ends as exit 7 with the command that goes on."""
    batch_file(folder / "a.jsonl", ["slow"])
    with engine.upstream.hold("slow"):
        door(engine, "submit", "a.jsonl", cwd=folder)
        env = environment(settings(engine))
        words = [sys.executable, str(SCRIPTS / "poll.py"), "a.job.json", "--wait", "60"]
        for stop, code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 7)):
            running = subprocess.Popen(
                words, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            assert running.stderr is not None
            assert "requests done" in running.stderr.readline()
            os.kill(running.pid, stop)
            out, _ = running.communicate(timeout=30)
            assert running.returncode == code
        answer = json.loads(out)
        assert answer["error"]["code"] == "interrupted" and "poll.py a.job.json --wait 60" in answer["error"]["hint"]
    assert door(engine, "poll", "a.job.json", "--wait", "30", cwd=folder).code == 0
