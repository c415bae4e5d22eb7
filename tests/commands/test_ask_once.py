"""--dedupe: equal requests are sent once, and every row has the answer to its own text."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from tests.door import Result, call_door
from tests.engine_process import KEY, RunningEngine, engine_with_upstream, wait_until

from doubleword.jobs.job_file import JobFile
from doubleword.system import Disk

pytestmark = pytest.mark.usefixtures("quick_looks")
ASK = ["--input", "t.csv", "--model", "test-chat", "--max-tokens", "8", "--prompt", "Genre of {title}?", "--dedupe"]
TITLES = ["Heat", "Alien", "Heat", "Up", "Alien", "Heat"]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[RunningEngine]:
    with engine_with_upstream(tmp_path / "engine", concurrency=32) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "work"
    made.mkdir()
    write_table(made, TITLES)
    return made


def write_table(folder: Path, titles: list[str]) -> None:
    lines = [f"{number},{title}\n" for number, title in enumerate(titles, 1)]
    (folder / "t.csv").write_text(f"id,title\n{''.join(lines)}")


def door(engine: RunningEngine, folder: Path, name: str, *args: str) -> Result:
    env = {"DOUBLEWORD_API_KEY": KEY, "DOUBLEWORD_BASE_URL": engine.base_url}
    return call_door(name, *args, cwd=folder, env=env)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def answers(path: Path) -> dict[str, Any]:
    """The answer of each line of an output of JSON lines, by custom_id, in order."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return {one["custom_id"]: one["response"]["body"]["choices"][0]["message"]["content"] for one in lines}


def asked(title: str) -> str:
    return f"answer to: Genre of {title}?"


@pytest.mark.parametrize("fails", [False, True])
def test_ten_thousand_rows_of_which_four_thousand_are_equal(engine: RunningEngine, folder: Path, fails: bool) -> None:
    """6,000 requests are billed and 10,000 rows answered; a request that fails fails for each of its rows, and is
    asked again once.
    """
    titles = [f"film {number:04d}" for number in range(6000)]
    dice = random.Random(7)
    titles += [dice.choice(titles) for _ in range(4000)]
    dice.shuffle(titles)
    write_table(folder, titles)
    failing = {title for title in titles if title.endswith("77")} if fails else set[str]()
    if fails:
        engine.upstream.fail("77?", 500)
    first = door(engine, folder, "run_batch", "out.csv", *ASK)
    lost = sum(title in failing for title in titles)
    assert first.json["counts"] == {"total": 10_000, "succeeded": 10_000 - lost, "failed": lost, "missing": 0}
    told = [first.json[name] for name in ("rows", "requests", "shared")]
    assert (told, first.code) == ([10_000, 6000, 4000], 6 if fails else 0)
    assert len(engine.ledger()) == 6000 - len(failing)
    if fails:
        assert first.json["failures"][0]["count"] == lost
        engine.upstream.forget()
        assert door(engine, folder, "retry_failed", "out.requests.job.json").code == 0
        again = door(engine, folder, "run_batch", "out.csv", *ASK, "--force")
        assert (again.code, again.json["counts"]["succeeded"]) == (0, 10_000)
    assert len(engine.ledger()) == 6000
    found = rows(folder / "out.csv")
    assert [row["title"] for row in found] == titles
    assert [row["answer"] for row in found] == list(map(asked, titles))
    assert [row["custom_id"] for row in found] == [f"row-{number:07d}" for number in range(1, 10_001)]


@pytest.mark.parametrize("output", ["out.csv", "out.parquet", "out.jsonl"])
def test_every_form_has_a_row_for_each_row(engine: RunningEngine, folder: Path, output: str) -> None:
    """In their order, under their own ids; run again, nothing changes."""
    first = door(engine, folder, "run_batch", output, *ASK, "--id", "film-{id}")
    assert (first.code, first.json["counts"]["total"], first.json["shared"]) == (0, 6, 3)
    before = (folder / output).read_bytes()
    if output == "out.jsonl":
        found = list(answers(folder / output).items())
    else:
        table = (
            rows(folder / output) if output == "out.csv" else pyarrow.parquet.read_table(folder / output).to_pylist()
        )
        found = [(str(row["custom_id"]), str(row["answer"])) for row in table]
    assert found == [(f"film-{number}", asked(title)) for number, title in enumerate(TITLES, 1)]
    assert door(engine, folder, "run_batch", output, *ASK, "--id", "film-{id}").json == first.json
    assert (folder / output).read_bytes() == before
    assert len(engine.ledger()) == 3


def test_failures_truncation_and_chosen_ids_work_through_it(engine: RunningEngine, folder: Path) -> None:
    """Counts are of rows; a row that shares is retried by its own id; what was cut off is asked once more."""
    engine.upstream.fail("Heat", 400)
    engine.upstream.cut("Alien", below=20)
    first = door(engine, folder, "run_batch", "out.jsonl", *ASK)
    assert first.json["counts"] == {"total": 6, "succeeded": 3, "failed": 3, "missing": 0}
    assert first.json["answers"]["truncated"] == 2
    failed = [json.loads(line)["custom_id"] for line in (folder / "out.errors.jsonl").read_text().splitlines()]
    assert failed == ["row-0000001", "row-0000003", "row-0000006"] == first.json["failures"][0]["ids"]
    assert len(engine.ledger()) == 2
    engine.upstream._rules = [rule for rule in engine.upstream._rules if rule.text != "Heat"]
    job = "out.requests.job.json"
    assert door(engine, folder, "retry_failed", job, "--ids", "row-0000006,row-0000003").code == 0
    assert door(engine, folder, "poll", job, "--wait", "60").code == 0
    assert door(engine, folder, "retry_failed", job, "--only", "truncated", "--max-tokens", "30").code == 0
    second = door(engine, folder, "run_batch", "out.jsonl", *ASK, "--force")
    assert (second.code, second.json["counts"]["succeeded"], second.json.get("answers")) == (0, 6, None)
    assert list(answers(folder / "out.jsonl").values()) == list(map(asked, TITLES))
    assert len(engine.ledger()) == 4  # two at first, then Heat, then Alien
    assert door(engine, folder, "retry_failed", job, "--ids", "row-0000099").json["error"]["code"] == "bad_arguments"


def test_rows_whose_request_is_not_answered_yet_are_pending(engine: RunningEngine, folder: Path) -> None:
    """All three of them; a row that is answered already is there."""
    with engine.upstream.hold("Heat"):
        assert door(engine, folder, "run_batch", "out.csv", *ASK, "--wait", "3").code == 7
        wait_until(lambda: len(engine.ledger()) == 2, "the others' answers")
        words = ("out.requests.job.json", "--partial", "--format", "csv", "--join", "t.csv", "--output", "p.csv")
        partial = door(engine, folder, "fetch_results", *words)
    assert (partial.code, partial.json["counts"]["pending"], partial.json["counts"]["succeeded"]) == (7, 3, 3)
    found = [(row["custom_id"], row["status"]) for row in rows(folder / "p.csv") if row["title"] == "Heat"]
    assert found == [(f"row-{number:07d}", "pending") for number in (1, 3, 6)]


def test_equal_requests_are_told_of(engine: RunningEngine, folder: Path) -> None:
    """Without --dedupe all are asked, and what it would save is said."""
    made = door(engine, folder, "create_batch_file", "a.jsonl", *ASK[:-1])
    said = "3 of 6 requests ask what another row's asks; --dedupe would send 3, 50.0% less"
    assert (made.json["requests"], made.json["warnings"], "shared" in made.json) == (6, [said], False)
    ran = door(engine, folder, "run_batch", "out.csv", *ASK[:-1])
    assert (ran.json["warnings"], len(engine.ledger())) == ([said], 6)
    once = door(engine, folder, "create_batch_file", "b.jsonl", *ASK)
    told = [once.json[name] for name in ("requests", "rows", "shared", "warnings")]
    assert told == [3, 6, 3, []]


def test_the_same_json_is_equal_whatever_its_form(engine: RunningEngine, folder: Path) -> None:
    """Order of keys and forms of numbers aside; another number, model or method of sampling is another request."""
    body = '"model": "m", "messages": [{"role": "user", "content": "1.0"}]'
    bodies = [
        f'{{{body}, "temperature": 1, "top_p": 0.50}}',
        f'{{"top_p": 5e-1, "temperature": 1.0, {body}}}',
        f'{{{body}, "temperature": 1, "top_p": 0.51}}',
        f'{{{body.replace("1.0", "1")}, "temperature": 1, "top_p": 0.5}}',
    ]
    lines = [
        f'{{"custom_id": "{number}", "method": "POST", "url": "/v1/chat/completions", "body": {one}}}\n'
        for number, one in enumerate(bodies)
    ]
    (folder / "r.jsonl").write_text("".join(lines))
    made = door(engine, folder, "create_batch_file", "a.jsonl", "--input", "r.jsonl", "--dedupe")
    assert (made.json["requests"], made.json["shared"]) == (3, 1)
    assert (folder / "a.rows.tsv").read_text() == "request\tcustom_id\n1\t0\n1\t1\n2\t2\n3\t3\n"


def test_a_lost_map_is_made_anew_of_the_table_or_nothing_is_written(engine: RunningEngine, folder: Path) -> None:
    """Also where rows were left out as bad; of a table that was changed since no row is guessed."""
    (folder / "t.csv").write_text((folder / "t.csv").read_text().replace("4,Up", "4,"))
    assert door(engine, folder, "run_batch", "out.csv", *ASK, "--skip-invalid").code == 0
    before = (folder / "out.requests.rows.tsv").read_bytes()
    for lost in (None, before.replace(b"\n1\t", b"\n2\t")):
        (folder / "out.requests.rows.tsv").unlink()
        if lost is not None:
            (folder / "out.requests.rows.tsv").write_bytes(lost)
        words = ("out.requests.job.json", "--format", "csv", "--join", "t.csv", "--output", "o.csv", "--force")
        assert door(engine, folder, "fetch_results", *words).code == 0
        assert (folder / "out.requests.rows.tsv").read_bytes() == before
        assert [row["answer"] for row in rows(folder / "o.csv")] == [asked(one) for one in TITLES if one != "Up"]
    (folder / "out.requests.rows.tsv").unlink()
    assert door(engine, folder, "run_batch", "out.csv", *ASK, "--skip-invalid").code == 0
    assert (folder / "out.requests.rows.tsv").read_bytes() == before
    (folder / "out.requests.rows.tsv").unlink()
    write_table(folder, TITLES[1:])
    refused = door(engine, folder, "fetch_results", "out.requests.job.json", "--output", "p.jsonl")
    assert (refused.code, refused.json["error"]["code"]) == (2, "row_map_lost")
    assert not (folder / "p.jsonl").exists()


def test_a_table_in_another_order_is_joined_by_what_was_asked(engine: RunningEngine, folder: Path) -> None:
    """Each row beside the answer to its text, though most have no request of their own."""
    assert door(engine, folder, "run_batch", "out.csv", *ASK, "--id", "{id}").code == 0
    lines = (folder / "t.csv").read_text().splitlines(keepends=True)
    (folder / "sorted.csv").write_text(lines[0] + "".join(reversed(lines[1:])))
    words = ("out.requests.job.json", "--format", "csv", "--join", "sorted.csv", "--output", "o.csv")
    assert door(engine, folder, "fetch_results", *words).code == 0
    found = [(row["id"], row["custom_id"], row["answer"]) for row in rows(folder / "o.csv")]
    assert found == [(str(number), str(number), asked(title)) for number, title in enumerate(TITLES, 1)]


def test_an_adopted_job_answers_rows_again(engine: RunningEngine, folder: Path) -> None:
    """The job file is lost; its record beside the batch file says what rows there were. Prices and lists go on, too."""
    assert door(engine, folder, "run_batch", "out.csv", *ASK).code == 0
    path = folder / "out.requests.job.json"
    job = JobFile.load(path, Disk()).job
    assert job.answer_tokens == 3.0
    path.unlink()
    words = ("out.requests.jsonl", "--adopt", job.id, "--job", "out.requests.job.json")
    assert door(engine, folder, "submit", *words).code == 0
    assert JobFile.load(path, Disk()).job.row_map == job.row_map
    assert door(engine, folder, "run_batch", "out.csv", *ASK, "--force").json["counts"]["succeeded"] == 6
    (listed,) = door(engine, folder, "list_batches").json["jobs"]
    assert (listed["requests"], listed["rows"]) == (3, 6)
    assert len(engine.ledger()) == 3


def test_the_most_it_may_cost_is_that_of_the_requests(engine: RunningEngine, folder: Path) -> None:
    """A limit that three requests keep and six would not."""
    base = [*ASK[:3], "Qwen/Qwen3.5-9B", *ASK[4:]]
    once = door(engine, folder, "run_batch", "out.csv", *base, "--dry-run").json
    every = door(engine, folder, "run_batch", "out.csv", *base[:-1], "--dry-run").json
    assert once["rows"] == once["requests"] + once["shared"] > once["requests"] and "rows" not in every
    assert every["ceiling_usd"] == pytest.approx(2 * once["ceiling_usd"], rel=0.1)


def test_files_that_share_are_submitted_together(
    engine: RunningEngine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row of the second file may be answered by a request of the first."""
    monkeypatch.setattr("doubleword.batch_files.writing.MAX_REQUESTS", 2)
    assert len(door(engine, folder, "create_batch_file", "a.jsonl", *ASK).json["files"]) == 2
    for names in (["a-0001.jsonl"], ["a-0002.jsonl", "a-0001.jsonl"]):
        refused = door(engine, folder, "submit", *names)
        assert (refused.code, refused.json["error"]["code"]) == (2, "not_all_files")
    assert door(engine, folder, "submit", "a.jsonl").code == 0
    assert door(engine, folder, "poll", "a.job.json", "--wait", "60").code == 0
    assert door(engine, folder, "fetch_results", "a.job.json", "--history", "h.jsonl").json["shared"] == 3
    assert list(answers(folder / "a.results.jsonl").values()) == list(map(asked, TITLES))
    assert len((folder / "h.jsonl").read_text().splitlines()) == 3  # of requests, since they were asked
