"""run_batch.py and try_prompt.py: table in, table out, and a look before paying."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.door import Result, call_door, run_door
from tests.engine_process import KEY, RunningEngine, engine_with_upstream

from doubleword.commands.try_prompt import Table, chosen
from doubleword.pricing.prices import load_prices
from doubleword.system import Disk

pytestmark = pytest.mark.usefixtures("quick_looks")
ASK = ["--input", "t.csv", "--model", "test-chat", "--max-tokens", "8", "--prompt", "Genre of {title}?"]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[RunningEngine]:
    with engine_with_upstream(tmp_path / "engine") as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "work"
    made.mkdir()
    (made / "t.csv").write_text('id,title\n1,Toy Story\n2,"Alien, the first"\n3,Heat\n')
    return made


def door(engine: RunningEngine, name: str, *args: str, cwd: Path) -> Result:
    return call_door(name, *args, cwd=cwd, env=settings(engine))


def settings(engine: RunningEngine) -> dict[str, str]:
    return {"DOUBLEWORD_API_KEY": KEY, "DOUBLEWORD_BASE_URL": engine.base_url}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_table_becomes_a_table(engine: RunningEngine, folder: Path) -> None:
    """The input's columns, then the answers, in order; one batch; a second run changes nothing."""
    first = run_door("run_batch", "out.csv", *ASK, cwd=folder, env=settings(engine))
    assert (first.code, first.json["complete"], first.json["job"]) == (0, True, "out.requests.job.json")
    answers = rows(folder / "out.csv")
    assert [row["title"] for row in answers] == ["Toy Story", "Alien, the first", "Heat"]
    assert all(row["status"] == "succeeded" and row["answer"] for row in answers)
    before = (folder / "out.csv").read_bytes()
    second = door(engine, "run_batch", "out.csv", *ASK, cwd=folder)
    assert second.json == first.json
    assert (folder / "out.csv").read_bytes() == before
    assert len(engine.call("GET", "/batches").json()["data"]) == 1
    assert engine.upstream.count() == 3


def test_a_folder_that_was_moved_is_updated_as_before(engine: RunningEngine, folder: Path) -> None:
    """The output is known by what stands in it, not by where it stood."""
    assert door(engine, "run_batch", "out.csv", *ASK, cwd=folder).code == 0
    moved = folder.rename(folder.with_name("moved"))
    with (moved / "t.csv").open("a") as file:
        file.write("4,Fargo\n")
    found = door(engine, "run_batch", "out.csv", *ASK, "--update", cwd=moved)
    assert found.code == 0 and found.json["update"]["asked"] == 1, found.json
    assert len(rows(moved / "out.csv")) == engine.upstream.count() == 4


def test_a_lost_job_is_found_again_before_anybody_pays_anew(engine: RunningEngine, folder: Path) -> None:
    """The output and the batch file say that there was one: the hint, run as it stands, leads to its batches."""
    assert door(engine, "run_batch", "out.csv", *ASK, cwd=folder).code == 0
    (folder / "out.requests.job.json").unlink()
    refused = door(engine, "run_batch", "out.csv", *ASK, cwd=folder)
    assert (refused.code, refused.json["error"]["code"]) == (2, "output_exists"), refused.json
    assert "list_batches.py" in refused.json["error"]["hint"]
    found = door(engine, "list_batches", cwd=folder)
    (lost,) = {one["job"] for one in found.json["batches"] if one.get("lost")}
    adopt = ["out.requests.jsonl", "--adopt", lost, "--job", "out.requests.job.json"]
    assert door(engine, "submit", *adopt, cwd=folder).code == 0
    assert door(engine, "run_batch", "out.csv", *ASK, "--force", cwd=folder).code == 0
    assert (len(engine.call("GET", "/batches").json()["data"]), engine.upstream.count()) == (1, 3)


def test_lines_that_somebody_fetched_anew_are_its_own(engine: RunningEngine, folder: Path) -> None:
    """How ids were made shapes no JSON lines, so a fetch that does not say it delivers the same."""
    ask = ["out.jsonl", *ASK, "--id", "{id}"]
    assert door(engine, "run_batch", *ask, cwd=folder).code == 0
    fetch = ["out.requests.job.json", "--output", "out.jsonl", "--force"]
    assert door(engine, "fetch_results", *fetch, cwd=folder).code == 0
    again = door(engine, "run_batch", *ask, cwd=folder)
    assert (again.code, engine.upstream.count()) == (0, 3), again.json


def test_a_folder_becomes_a_table(engine: RunningEngine, folder: Path) -> None:
    """Under ids made of its paths, with their map; run again it goes on, and leaves nothing beside."""
    (folder / "notes").mkdir()
    long = "Ä" * 40 + ".txt"  # more bytes than an id may have
    for name in (long, "b.txt"):
        (folder / "notes" / name).write_text(f"I am {name[0]}.")
    ask = ["--input", "notes", "--model", "test-chat", "--max-tokens", "8", "--prompt", "Who? {text}"]
    first = call_door("run_batch", "out.csv", *ask, cwd=folder, env=settings(engine))
    assert first.code == 0, first.json
    found = rows(folder / "out.csv")
    assert [(row["path"], row["answer"]) for row in found] == [
        ("b.txt", "answer to: Who? I am b."), (long, "answer to: Who? I am Ä.")
    ]  # fmt: skip
    with (folder / "out.requests.ids.csv").open(encoding="utf-8", newline="") as file:
        (only,) = csv.DictReader(file)
    assert (only["original"], only["custom_id"]) == (long, found[1]["custom_id"])
    before = sorted(folder.iterdir())
    assert call_door("run_batch", "out.csv", *ask, cwd=folder, env=settings(engine)).json == first.json
    assert sorted(folder.iterdir()) == before
    assert engine.upstream.count() == 2


def test_it_goes_on_where_it_stopped(engine: RunningEngine, folder: Path) -> None:
    """A wait that ran out is exit 7 with the same command as the way on; the next run fetches, and pays nothing."""
    with engine.upstream.hold("Heat"):
        stopped = door(engine, "run_batch", "out.csv", *ASK, "--wait", "3", cwd=folder)
        assert stopped.code == 7
        assert "run_batch.py out.csv" in stopped.json["error"]["hint"]
        assert not (folder / "out.csv").exists()
    assert door(engine, "run_batch", "out.csv", *ASK, cwd=folder).code == 0
    assert engine.upstream.count() == 3


def test_other_arguments_are_another_job(engine: RunningEngine, folder: Path) -> None:
    """A changed prompt is never taken for the old one, and nothing is sent."""
    door(engine, "run_batch", "out.csv", *ASK, cwd=folder)
    before = sorted(folder.iterdir())
    refused = door(engine, "run_batch", "out.csv", *ASK[:-1], "Year of {title}?", cwd=folder)
    assert (refused.code, refused.json["error"]["code"]) == (2, "other_requests")
    assert sorted(folder.iterdir()) == before
    assert len(engine.call("GET", "/batches").json()["data"]) == 1


@pytest.mark.parametrize("more", [["--bom"], ["--columns", "title, genre=answer"]])
def test_another_look_of_the_output_is_no_repetition(engine: RunningEngine, folder: Path, more: list[str]) -> None:
    """The output is there already; with --force it is written anew, and nothing is paid twice."""
    assert door(engine, "run_batch", "out.csv", *ASK, cwd=folder).code == 0
    before = (folder / "out.csv").read_bytes()
    refused = door(engine, "run_batch", "out.csv", *ASK, *more, cwd=folder)
    assert (refused.code, refused.json["error"]["code"]) == (2, "output_exists")
    assert (folder / "out.csv").read_bytes() == before
    assert door(engine, "run_batch", "out.csv", *ASK, *more, "--force", cwd=folder).code == 0
    assert (folder / "out.csv").read_bytes() != before
    assert engine.upstream.count() == 3


@pytest.mark.parametrize("source", ["t.csv", "parts", "parts/*.csv", "t.json", "t.xlsx"])
@pytest.mark.parametrize("output", ["out.csv", "out.parquet", "out.xlsx"])
def test_any_table_becomes_any_table(engine: RunningEngine, folder: Path, source: str, output: str) -> None:
    """One row for each of the input, in its order, whatever it is made of."""
    import pyarrow.parquet
    import python_calamine
    import xlsxwriter

    titles = ["Toy Story", "Alien, the first", "Heat"]
    (folder / "parts").mkdir()
    for title in titles:
        (folder / "parts" / f"{titles.index(title)}.csv").write_text(f'id,title\n1,"{title}"\n')
    (folder / "t.json").write_text(json.dumps([{"id": 1, "title": title} for title in titles]))
    with xlsxwriter.Workbook(str(folder / "t.xlsx")) as book:
        sheet = book.add_worksheet()
        for number, title in enumerate(["title", *titles]):
            sheet.write_row(number, 0, ["id" if title == "title" else number, title])
    ask = ["--input", source, *ASK[2:]]
    assert door(engine, "run_batch", output, *ask, "--columns", "title, answer", cwd=folder).code == 0
    if output == "out.csv":
        found: list[list[Any]] = [list(row.values()) for row in rows(folder / output)]
    elif output == "out.parquet":
        found = [list(row.values()) for row in pyarrow.parquet.read_table(folder / output).to_pylist()]
    else:
        found = python_calamine.load_workbook(str(folder / output)).get_sheet_by_index(0).to_python()[1:]
    assert found == [[title, f"answer to: Genre of {title}?"] for title in titles]


def test_failures_are_in_the_table_with_their_cause(engine: RunningEngine, folder: Path) -> None:
    """Exit 6; nothing is dropped."""
    engine.upstream.fail("Heat", 400)
    failed = door(engine, "run_batch", "out.csv", *ASK, cwd=folder)
    assert failed.code == 6 and failed.json["job"]
    assert [row["status"] for row in rows(folder / "out.csv")] == ["succeeded", "succeeded", "failed"]
    assert "told to fail" in rows(folder / "out.csv")[2]["error"]


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["out.csv", *ASK, "--dry-run"], 0),
        (["out.csv", *ASK, "--dry-run", "--id", "é{id}", "--repair-ids"], 0),
        (["out.csv", *ASK, "--max-cost", "1"], 8),
        (["out.csv", *ASK, "--max-cost", "nan"], 2),
        (["out.txt", *ASK], 2),
        (["out.csv", *ASK[:-1], "Genre of {name}?"], 2),
        (["out.csv", *ASK, "--model", "no-such-model"], 3),
        (["no/such/out.csv", *ASK], 2),
        (["t.csv", *ASK], 2),
    ],
)
def test_what_sends_nothing_leaves_nothing(engine: RunningEngine, folder: Path, args: list[str], code: int) -> None:
    """A dry run, a limit that cannot be promised, bad arguments and a model that is refused: no file, no batch."""
    before = {path: path.read_bytes() for path in folder.iterdir()}
    result = door(engine, "run_batch", *args, cwd=folder)
    assert result.code == code
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert engine.call("GET", "/batches").json()["data"] == []


def test_a_prompt_is_tried_on_a_few_rows(engine: RunningEngine, folder: Path) -> None:
    """Prompt, answer and tokens of the first rows; the rest is only counted."""
    tried = door(engine, "try_prompt", *ASK, "--rows", "2", cwd=folder)
    assert (tried.code, tried.json["requests"], len(tried.json["rows"])) == (0, 3, 2)
    assert tried.json["rows"][0]["prompt"] == "Genre of Toy Story?"
    assert tried.json["rows"][0]["answer"] and tried.json["rows"][0]["tokens"]["prompt"]
    assert tried.json["projected_cost_usd"] is None
    assert engine.upstream.count() == 2
    assert [path.name for path in folder.iterdir()] == ["t.csv"]


def test_a_trial_projects_both_windows_from_what_the_rows_took(engine: RunningEngine, folder: Path) -> None:
    """Long rows further down are counted too: the first three do not stand for the table."""
    engine.upstream.models.append("Qwen/Qwen3-14B-FP8")
    engine.upstream.say("word", "long answer")
    texts = ["word"] * 3 + ["word " * 400] * 7
    (folder / "t.csv").write_text("title\n" + "".join(f"{text}\n" for text in texts))
    ask = ["--input", "t.csv", "--model", "Qwen/Qwen3-14B-FP8", "--max-tokens", "8", "--prompt", "{title}"]
    tried = door(engine, "try_prompt", *ask, cwd=folder)
    projection = tried.json["projection"]
    assert projection["completion_tokens"] == 3 * 10  # this upstream counts three for every answer, and one a word
    assert 3 < projection["prompt_tokens"] < 7 * 400 + 3
    assert projection["prompt_tokens"] > 10 * sum(row["tokens"]["prompt"] for row in tried.json["rows"])
    assert tried.json["projected_cost_usd"] == projection["24h"] < projection["1h"]
    assert "realtime" in tried.json["note"]


def test_a_sample_comes_from_the_whole_table_and_is_the_same_again(engine: RunningEngine, folder: Path) -> None:
    """By its number; in the order of the table; other numbers draw other rows."""
    (folder / "t.csv").write_text("title\n" + "".join(f"film {number}\n" for number in range(200)))
    drawn = []
    for seed in ("1", "1", "2"):
        tried = door(engine, "try_prompt", *ASK, "--rows", "4", "--sample", seed, cwd=folder)
        drawn.append([row["custom_id"] for row in tried.json["rows"]])
    assert drawn[0] == drawn[1] != drawn[2]
    assert (
        drawn[0] == sorted(drawn[0])
        and len(set(drawn[0])) == 4
        and drawn[0] != [f"row-000000{number}" for number in range(1, 5)]
    )


def test_every_row_is_drawn_equally_often() -> None:
    """Over many seeds each of ten rows is among the three about as often; the first are no favourites."""
    requests = [(str(number), {"n": number}) for number in range(10)]
    drawn = Counter(name for seed in range(2000) for name, _ in chosen(iter(requests), 3, seed))
    assert set(drawn) == {str(number) for number in range(10)}
    assert all(480 < count < 720 for count in drawn.values())
    assert chosen(iter(requests), 3, None) == requests[:3]
    assert chosen(iter(requests), 30, 1) == requests


def test_all_rows_of_a_trial_are_shown(engine: RunningEngine, folder: Path) -> None:
    """Cut short rather than left out, also in a script whose letters take six signs each in the output."""
    (folder / "t.csv").write_text("title\n" + "長い題名" * 100 + "\n" + "題名\n" * 11)
    tried = door(engine, "try_prompt", *ASK, "--rows", "12", cwd=folder)
    assert tried.code == 0 and len(tried.json["rows"]) == 12 and "rows_more" not in tried.json
    assert all("題" in row["prompt"] + row["answer"] or "長" in row["prompt"] for row in tried.json["rows"])


def test_rows_that_were_left_out_are_named_in_a_trial(engine: RunningEngine, folder: Path) -> None:
    """As `create_batch_file.py` would name them."""
    (folder / "t.csv").write_text("id,title\n1,Heat\n2,\n")
    tried = door(engine, "try_prompt", *ASK, "--skip-invalid", cwd=folder)
    assert tried.code == 0 and any("row 2" in one for one in tried.json["warnings"])


def test_a_trial_that_fails_shows_why(engine: RunningEngine, folder: Path) -> None:
    """Each row is asked once; the cause stands in the row."""
    engine.upstream.fail("Alien", 400)
    tried = door(engine, "try_prompt", *ASK, cwd=folder)
    assert tried.code == 6
    assert ["error" in row for row in tried.json["rows"]] == [False, True, False]
    assert engine.upstream.count("Alien") == 1
    assert json.dumps(tried.json).count("told to fail") >= 1


def test_a_prompt_without_weight_has_a_projection() -> None:
    """Control characters count as nothing in the estimate; a trial of them is not divided by it."""
    table = Table(load_prices(None, Disk()))
    asked = {"url": "/v1/completions", "body": {"model": "m", "prompt": "\x01"}}
    table.add(asked)
    projected = table.projection([asked], [{"prompt": 1, "completion": 2}])
    assert (projected["prompt_tokens"], projected["completion_tokens"]) == (0, 2)
