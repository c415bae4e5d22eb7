"""run_batch.py --update: a table that grows is asked only for what is new, and every row keeps its own answer."""

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
MODEL = "Qwen/Qwen3.5-9B"
ASK = ["--input", "t.csv", "--model", MODEL, "--max-tokens", "8", "--prompt", "Genre of {title}?"]
JOB = "out.requests.job.json"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[RunningEngine]:
    settings = priced({MODEL: {"24h": [1.0, 1.0]}})
    with engine_with_upstream(tmp_path / "engine", concurrency=32, settings=settings) as running:
        running.upstream.models.append(MODEL)
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "work"
    made.mkdir()
    return made


def write_table(folder: Path, titles: dict[int, str]) -> None:
    (folder / "t.csv").write_text("id,title\n" + "".join(f"{number},{title}\n" for number, title in titles.items()))


def run(engine: RunningEngine, folder: Path, *more: str, name: str = "run_batch", output: str = "out.csv") -> Result:
    env = {"DOUBLEWORD_API_KEY": KEY, "DOUBLEWORD_BASE_URL": engine.base_url}
    words = [output, *ASK] if name == "run_batch" else [JOB]
    return call_door(name, *words, *more, cwd=folder, env=env)


def rows(folder: Path) -> list[tuple[str, str]]:
    with (folder / "out.csv").open(newline="") as file:
        return [(row["title"], row["answer"]) for row in csv.DictReader(file)]


def asked(title: str) -> str:
    return f"answer to: Genre of {title}?"


def is_right(folder: Path, titles: dict[int, str]) -> bool:
    return rows(folder) == [(title, asked(title)) for title in titles.values()]


@pytest.mark.parametrize("by", [[], ["--id", "{id}"], ["--dedupe"]], ids=["numbers", "ids", "dedupe"])
def test_three_weeks_of_a_table(engine: RunningEngine, folder: Path, by: list[str]) -> None:
    """Rows are added, changed, removed and sorted: what is new is billed once, and the table is right each week."""
    week = {number: f"film {number}" for number in range(200)}
    write_table(folder, week)
    assert run(engine, folder, *by, "--update").code == 0
    weeks = []
    grown = {**week, **{number: f"film {number}" for number in range(200, 250)}}
    weeks.append((grown, 50, {"kept": 200, "asked": 50, "gone": 0}))
    changed = {number: f"new {number}" if number % 10 == 0 else title for number, title in grown.items()}
    weeks.append((changed, 25, {"kept": 225, "asked": 25, "gone": 25}))
    fewer = dict(sorted(((n, t) for n, t in grown.items() if n % 3), reverse=True))  # old titles are back, too
    weeks.append((fewer, 0, {"kept": len(fewer), "asked": 0, "gone": 250 - len([n for n in fewer if n % 10])}))
    paid = 200
    for titles, new, update in weeks:
        write_table(folder, titles)
        refused = run(engine, folder, *by)
        assert (refused.code, refused.json["error"]["code"]) == (2, "other_requests")
        said = f"--update would ask {update['asked']} rows, keep {update['kept']} and leave out {update['gone']}"
        assert said in refused.json["error"]["message"]
        before = sorted(folder.iterdir())
        dry = run(engine, folder, *by, "--update", "--dry-run")
        assert (dry.code, dry.json["requests"], sorted(folder.iterdir())) == (0, new, before)
        done = run(engine, folder, *by, "--update")
        assert done.code == 0, done.json
        for answer in (dry.json, done.json):
            saved = answer["update"].pop("saved_usd")
            assert answer["update"] == update and saved > 0
        paid += new
        assert len(engine.ledger()) == paid
        assert is_right(folder, titles)
        assert done.json["counts"]["total"] == len(titles) == done.json["requests"] + done.json["shared"]
        again = run(engine, folder, *by, "--update")
        assert again.json["update"].pop("saved_usd") > 0
        nothing = {"kept": len(titles), "asked": 0, "gone": 0}  # for all of it is delivered
        assert again.json == {**done.json, "update": nothing} and run(engine, folder, *by).code == 0
    assert len(engine.ledger()) == paid


def test_an_update_says_its_counts_also_where_all_or_nothing_is_new(engine: RunningEngine, folder: Path) -> None:
    """At first every row is asked, then none; in dry runs too, which say that nothing would be sent."""
    write_table(folder, {1: "Heat", 2: "Up"})
    first = {"kept": 0, "asked": 2, "gone": 0, "saved_usd": 0.0}
    dry = run(engine, folder, "--update", "--dry-run")
    assert (dry.code, dry.json["update"], dry.json["requests"]) == (0, first, 2)
    assert run(engine, folder, "--update").json["update"] == first
    for titles in ({1: "Heat", 2: "Up"}, {1: "Heat", 2: "Up", 3: "Jaws"}):
        write_table(folder, titles)
        assert run(engine, folder, "--update").code == 0
        dry = run(engine, folder, "--update", "--dry-run")
        assert (dry.code, dry.json["requests"], dry.json["cost_usd"], dry.json["ceiling_usd"]) == (0, 0, 0, 0)
        assert dry.json["update"].pop("saved_usd") > 0
        assert dry.json["update"] == {"kept": len(titles), "asked": 0, "gone": 0}
    write_table(folder, {1: "Heat"})
    assert run(engine, folder, output="other.csv").code == 0
    again = run(engine, folder, "--update", output="other.csv").json["update"]
    assert again.pop("saved_usd") > 0 and again == {"kept": 1, "asked": 0, "gone": 0}
    assert len(engine.ledger()) == 4


def test_an_update_of_nothing_needs_no_files_of_the_server(engine: RunningEngine, folder: Path) -> None:
    """They are needed to keep answers beside new ones; where the table is as it was, all is written already."""
    write_table(folder, {1: "Heat"})
    assert run(engine, folder).code == 0
    write_table(folder, {1: "Heat", 2: "Up"})
    done = run(engine, folder, "--update", "--delete-files")
    assert (done.code, done.json["deleted"]) == (0, 6)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert run(engine, folder, "--update").code == 0
    write_table(folder, {1: "Heat", 3: "Jaws"})
    refused = run(engine, folder, "--update")
    assert (refused.code, refused.json["error"]["code"], len(engine.ledger())) == (4, "files_deleted", 2)
    write_table(folder, {1: "Heat", 2: "Up"})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_drafts_of_one_text_keep_their_rows(engine: RunningEngine, folder: Path) -> None:
    """Equal requests that are all asked have answers of their own, which stay with their rows in another order."""
    write_table(folder, {1: "Up", 2: "Up", 3: "Up"})
    assert run(engine, folder, "--id", "{id}").code == 0
    job = JobFile.load(folder / JOB, Disk())
    write_table(folder, {3: "Up", 1: "Up", 4: "Up", 2: "Up"})
    assert run(engine, folder, "--id", "{id}", "--update").json["update"]["asked"] == 1
    row_map = JobFile.load(folder / JOB, Disk()).job.row_map
    assert row_map is not None and job.job.row_map is None
    assert (folder / row_map.path).read_text().splitlines()[1:] == ["3\t3", "1\t1", "4\t4", "2\t2"]
    assert len(engine.ledger()) == 4


def test_failures_and_retries_of_an_updated_job(engine: RunningEngine, folder: Path) -> None:
    """What failed is not asked by an update, but by a retry, which takes the ids of rows; then all is there."""
    engine.upstream.fail("bad", 400)
    write_table(folder, {1: "Heat", 2: "bad one"})
    assert run(engine, folder).code == 6
    write_table(folder, {0: "bad two", 2: "bad one", 1: "Heat", 3: "Up"})
    done = run(engine, folder, "--update")
    assert (done.code, done.json["counts"]["failed"], done.json["update"]["asked"]) == (6, 2, 2)
    engine.upstream.forget()
    ids = done.json["failures"][0]["ids"]
    assert ids == ["row-0000001", "row-0000002"]
    assert run(engine, folder, "--ids", ",".join(ids), name="retry_failed").code == 0
    again = run(engine, folder, "--update", "--force")
    assert (again.code, len(engine.ledger())) == (0, 4)
    assert is_right(folder, {0: "bad two", 2: "bad one", 1: "Heat", 3: "Up"})


def test_a_refused_update_leaves_the_job_as_it_was(engine: RunningEngine, folder: Path) -> None:
    """A limit of cost, or a model that is not there: nothing is sent, nothing stays, and the old table can go on."""
    write_table(folder, {1: "Heat"})
    assert run(engine, folder).code == 0
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    write_table(folder, {1: "Heat", 2: "Up"})
    refused = run(engine, folder, "--update", "--max-cost", "0.0000001")
    assert (refused.code, refused.json["error"]["code"]) == (8, "over_max_cost")
    write_table(folder, {1: "Heat"})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert run(engine, folder).code == 0
    assert len(engine.ledger()) == 1


def test_an_output_that_somebody_edited_is_not_replaced(engine: RunningEngine, folder: Path) -> None:
    """Only what the job wrote itself; and nothing is asked before that is seen."""
    write_table(folder, {1: "Heat"})
    assert run(engine, folder).code == 0
    (folder / "out.csv").write_text("mine")
    write_table(folder, {1: "Heat", 2: "Up"})
    refused = run(engine, folder, "--update")
    assert (refused.code, refused.json["error"]["code"], (folder / "out.csv").read_text()) == (
        2,
        "output_exists",
        "mine",
    )
    assert len(engine.ledger()) == 1
    assert run(engine, folder, "--update", "--force").code == 0
    assert is_right(folder, {1: "Heat", 2: "Up"})


def test_an_updated_job_is_adopted_and_its_lost_map_made_anew(engine: RunningEngine, folder: Path) -> None:
    """From its batch files and the table; nothing is paid again."""
    write_table(folder, {1: "Heat", 2: "Up"})
    assert run(engine, folder).code == 0
    write_table(folder, {3: "Alien", 2: "Up", 1: "Hot"})
    assert run(engine, folder, "--update").code == 0
    job = JobFile.load(folder / JOB, Disk()).job
    assert job.row_map is not None
    (folder / job.row_map.path).unlink()
    env = {"DOUBLEWORD_API_KEY": KEY, "DOUBLEWORD_BASE_URL": engine.base_url}
    lost = call_door("fetch_results", JOB, "--output", "again.csv", "--format", "csv", cwd=folder, env=env)
    assert (lost.code, lost.json["error"]["code"]) == (2, "row_map_lost") and "--update" in lost.json["error"]["hint"]
    assert run(engine, folder).json["error"]["code"] == "other_requests"
    assert run(engine, folder, "--update").code == 0
    (folder / JOB).unlink()
    words = ("out.requests.jsonl", "out.requests.update-2.jsonl", "--adopt", job.id, "--job", JOB)
    assert call_door("submit", *words, cwd=folder, env=env).code == 0
    assert run(engine, folder, "--update", "--force").code == 0
    assert is_right(folder, {3: "Alien", 2: "Up", 1: "Hot"})
    assert len(engine.ledger()) == 4


def test_a_lost_batch_file_is_not_made_anew_of_other_rows(engine: RunningEngine, folder: Path) -> None:
    """Their requests may be the same ones while other rows ask them: the row map would be that of another table."""
    write_table(folder, {1: "a", 2: "b", 3: "a"})
    assert run(engine, folder, "--dedupe").code == 0
    write_table(folder, {1: "a", 2: "b", 3: "b"})
    kept = (folder / "out.requests.jsonl").read_bytes()
    for name in ("out.requests.jsonl", "out.requests.rows.tsv"):
        (folder / name).unlink()
    refused = [run(engine, folder, "--dedupe", *more) for more in ([], ["--update"])]
    assert [one.json["error"]["code"] for one in refused] == ["other_requests", "batch_file_changed"]
    assert not (folder / "out.requests.jsonl").exists() and not (folder / "out.requests.rows.tsv").exists()
    (folder / "out.requests.jsonl").write_bytes(kept)
    done = run(engine, folder, "--dedupe", "--update")
    assert (done.code, done.json["update"]["asked"]) == (0, 0), done
    assert is_right(folder, {1: "a", 2: "b", 3: "b"}) and engine.upstream.count() == 2


def test_json_lines_are_updated_too(engine: RunningEngine, folder: Path) -> None:
    """Under the ids that rows have now, whatever the requests were called."""
    write_table(folder, {1: "Heat", 2: "Up"})
    assert run(engine, folder, output="out.jsonl").code == 0
    write_table(folder, {3: "Alien", 1: "Heat"})
    assert run(engine, folder, "--update", output="out.jsonl").code == 0
    lines: list[dict[str, Any]] = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    found = [(one["custom_id"], one["response"]["body"]["choices"][0]["message"]["content"]) for one in lines]
    assert found == [("row-0000001", asked("Alien")), ("row-0000002", asked("Heat"))]
    assert len(engine.ledger()) == 3
