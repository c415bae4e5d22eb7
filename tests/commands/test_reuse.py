"""--reuse: good answers of earlier jobs are taken over for the very same request, and only what is left is asked."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pyarrow.parquet
import pytest
import python_calamine
from tests.door import SCRIPTS, Result, call_door
from tests.engine_process import KEY, RunningEngine, engine_with_upstream, priced, wait_until

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
    assert (dry.code, dry.json["requests"], dry.json["reused"]) == (0, 10, 60)
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
    keyless = {"DOUBLEWORD_BASE_URL": engine.base_url}
    first = call_door("run_batch", output, *ask(), "--reuse", FIRST, cwd=folder, env=keyless)
    assert first.code == 0, first.json
    assert first.json["counts"] == {"total": 2, "succeeded": 2, "failed": 0, "missing": 0, "reused": 2}
    assert (first.json["requests"], first.json["complete"]) == (0, True)
    assert first.json["warnings"] == ["every one of 2 rows has the answer of an earlier job: nothing is asked"]
    again = call_door("run_batch", output, *ask(), "--reuse", FIRST, cwd=folder, env=keyless)
    assert again.json == first.json
    forced = call_door("run_batch", output, *ask(), "--force", cwd=folder, env=keyless)
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


def test_flawed_and_failed_answers_are_asked_anew(engine: RunningEngine, folder: Path) -> None:
    """Neither a failure nor an answer that was cut off is taken over; what a retry with a larger limit answered was
    another request.
    """
    engine.upstream.fail("bad", 400)
    engine.upstream.cut("Alien", below=20)
    write_table(folder, ["Heat", "bad one", "Alien"])
    assert run(engine, folder, "first.jsonl").code == 6
    assert door(engine, folder, "retry_failed", FIRST, "--only", "truncated", "--max-tokens", "30").code == 0
    assert door(engine, folder, "poll", FIRST, "--wait", "60").code == 6
    paid = len(engine.ledger())
    for name in ("kept", "local"):  # the results as they are on the server, then in a file of all attempts
        made = door(engine, folder, "create_batch_file", f"{name}.jsonl", *ask(), "--reuse", FIRST)
        assert (made.json["requests"], made.json["reused"]) == (2, 1)
        assert door(engine, folder, "fetch_results", FIRST, "--force").code == 6
    engine.upstream.forget()
    second = run(engine, folder, "second.csv", "--reuse", FIRST)
    assert (second.code, second.json["counts"]["reused"], len(engine.ledger())) == (0, 1, paid + 2)
    assert [row["answer"] for row in rows(folder / "second.csv")] == list(map(asked, ["Heat", "bad one", "Alien"]))


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_never_across_models_or_parameters(engine: RunningEngine, folder: Path, form: str) -> None:
    """Another model, temperature, limit or system text is another request, and so is a text at another endpoint."""
    write_table(folder, ["Heat", "Up"])
    assert run(engine, folder, f"first.{form}").code == 0
    other = ["/v1/completions", "/v1/responses"]
    variants = [["--temperature", "0.5"], ["--top-p", "0.9"], ["--system", "Be brief."], ["--body", '{"seed": 7}']]
    variants += [["--max-tokens", "9"], ["--model", OTHER], *(["--endpoint", one] for one in other)]
    for number, changed in enumerate(variants):
        words = [*ask(), *changed, "--reuse", FIRST]
        made = door(engine, folder, "create_batch_file", f"v{number}.jsonl", *words)
        assert (made.code, made.json.get("requests"), made.json.get("reused")) == (0, 2, 0), changed
    asked_too = run(engine, folder, "second.csv", "--reuse", FIRST, model=OTHER)
    assert asked_too.json["counts"]["reused"] == 0
    assert [row["reused_from"] for row in rows(folder / "second.csv")] == ["", ""]
    assert sorted(model for model in (one.model for one in engine.ledger())) == [OTHER] * 2 + [MODEL] * 2


def test_a_result_file_that_was_changed_is_never_used(engine: RunningEngine, folder: Path) -> None:
    """The server's own lines are read instead, and it is said; where it has them no more, the job is refused."""
    write_table(folder, ["Heat", "Up"])
    assert run(engine, folder, "first.jsonl").code == 0
    whole = (folder / "first.jsonl").read_bytes()
    (folder / "first.jsonl").write_bytes(whole.replace(b"answer to", b"forged to"))
    second = run(engine, folder, "second.csv", "--reuse", FIRST)
    assert (second.code, second.json["counts"]["reused"], len(engine.ledger())) == (0, 2, 2)
    assert [row["answer"] for row in rows(folder / "second.csv")] == [asked("Heat"), asked("Up")]
    assert any("first.jsonl was changed since it was written" in one for one in second.json["warnings"])
    assert door(engine, folder, "delete_files", FIRST, "--yes").code == 0
    for words in (("create_batch_file", "a.jsonl"), ("run_batch", "third.csv")):
        refused = door(engine, folder, *words, *ask(), "--reuse", FIRST)
        assert (refused.code, refused.json["error"]["code"]) == (2, "nothing_to_reuse")
        assert "first.jsonl was changed" in refused.json["error"]["message"]
    (folder / "first.jsonl").write_bytes(whole)
    third = run(engine, folder, "third.csv", "--reuse", FIRST)
    assert (third.code, third.json["counts"]["reused"], len(engine.ledger())) == (0, 2, 2)
    (folder / "first.requests.jsonl").write_text("{}\n")
    refused = run(engine, folder, "fourth.csv", "--reuse", FIRST)
    assert (refused.code, refused.json["error"]["code"]) == (2, "nothing_to_reuse")
    missing = run(engine, folder, "fourth.csv", "--reuse", "nowhere.job.json")
    assert (missing.code, missing.json["error"]["code"]) == (4, "no_job")
    assert len(engine.ledger()) == 2


def test_a_folder_of_jobs(engine: RunningEngine, folder: Path) -> None:
    """The newest first; what cannot be used is passed over and told, but not where the server stays away."""
    for number, titles in enumerate((["Heat", "Up"], ["Up", "Alien"], ["Jaws"])):
        write_table(folder, titles)
        assert run(engine, folder, f"week{number}.csv").code == 0
    (folder / "week2.requests.jsonl").unlink()
    (folder / "broken.job.json").write_text("{")
    newer = job_of(folder, "week1.requests.job.json")
    write_table(folder, ["Heat", "Up", "Alien", "Jaws"])
    last = run(engine, folder, "last.csv", "--reuse", ".")
    assert (last.code, last.json["counts"]["reused"], len(engine.ledger())) == (0, 3, 6)
    said = next(one for one in last.json["warnings"] if "give no answer" in one)
    assert said.startswith("2 of 4 jobs in . give no answer: broken.job.json") and "week2.requests.job.json" in said
    found = rows(folder / "last.csv")
    assert [row["answer"] for row in found] == list(map(asked, ["Heat", "Up", "Alien", "Jaws"]))
    assert [row["reused_from"] for row in found][1:] == [f"{newer}/row-0000001", f"{newer}/row-0000002", ""]
    env = {"DOUBLEWORD_API_KEY": KEY, "DOUBLEWORD_BASE_URL": "http://127.0.0.1:9/v1"}
    away = call_door("create_batch_file", "b.jsonl", *ask(), "--reuse", ".", cwd=folder, env=env)
    assert away.json["warnings"][0].startswith("4 of 5 jobs in . give no answer")  # they are on another server
    (folder / "empty").mkdir()
    nothing = run(engine, folder, "no.csv", "--reuse", "empty")
    assert (nothing.code, nothing.json["error"]["code"]) == (4, "no_job")


def test_drafts_take_an_answer_each(engine: RunningEngine, folder: Path) -> None:
    """Of equal rows as many as there are earlier answers; the others are asked, or with --dedupe have the first."""
    write_table(folder, ["Up", "Up"])
    assert run(engine, folder, "first.csv").code == 0
    write_table(folder, ["Up"] * 3)
    each = run(engine, folder, "each.csv", "--reuse", FIRST)
    assert (each.json["requests"], each.json["counts"]["reused"], len(engine.ledger())) == (1, 2, 3)
    job = job_of(folder)
    origins = [f"{job}/row-0000001", f"{job}/row-0000002", ""]
    assert [row["reused_from"] for row in rows(folder / "each.csv")] == origins
    once = run(engine, folder, "once.csv", "--reuse", FIRST, "--dedupe")
    assert (once.json["requests"], once.json["shared"], once.json["counts"]["reused"]) == (0, 0, 3)
    assert {row["reused_from"] for row in rows(folder / "once.csv")} == {origins[0]}
    chain = run(engine, folder, "chain.csv", "--reuse", "each.requests.job.json", FIRST)
    second = job_of(folder, "each.requests.job.json")
    origins[2] = f"{second}/row-0000003"
    assert (chain.json["counts"]["reused"], [row["reused_from"] for row in rows(folder / "chain.csv")]) == (3, origins)
    assert len(engine.ledger()) == 3


def test_lost_files_are_made_anew_or_refused(engine: RunningEngine, folder: Path) -> None:
    """The row map of the table, the answers of the earlier job; where that cannot be, nothing is written or paid."""
    write_table(folder, ["Heat", "Up"])
    assert run(engine, folder, "first.csv").code == 0
    write_table(folder, ["Alien", "Up", "Heat"])
    assert run(engine, folder, "second.csv", "--reuse", FIRST).code == 0
    job, row_map, answers = (folder / f"second.requests.{one}" for one in ("job.json", "rows.tsv", "reused.jsonl"))
    before = {path: path.read_bytes() for path in (row_map, answers)}
    again = ("fetch_results", job.name, "--output", "again.csv", "--format", "csv", "--join", "t.csv", "--force")
    row_map.unlink()
    assert door(engine, folder, *again).code == 0 and row_map.read_bytes() == before[row_map]
    for lost in (None, before[answers].replace(b"answer to", b"forged to")):
        answers.unlink()
        if lost is not None:
            answers.write_bytes(lost)
        refused = door(engine, folder, *again)
        assert (refused.code, refused.json["error"]["code"]) == (2, "reused_answers_lost")
        assert "run_batch.py" in refused.json["error"]["hint"]
        plain = run(engine, folder, "second.csv", "--force")
        assert (plain.code, plain.json["error"]["code"]) == (2, "reused_answers_lost")
        assert run(engine, folder, "second.csv", "--reuse", FIRST, "--force").code == 0
        assert {path: path.read_bytes() for path in before} == before
        assert door(engine, folder, *again).code == 0
    assert [row["answer"] for row in rows(folder / "again.csv")] == list(map(asked, ["Alien", "Up", "Heat"]))
    answers.unlink()
    (folder / "first.requests.jsonl").unlink()
    assert run(engine, folder, "second.csv", "--reuse", FIRST, "--force").code == 2
    assert run(engine, folder, "second.csv", "--update").json["error"]["code"] == "reused_answers_lost"
    assert len(engine.ledger()) == 3


def test_an_update_of_a_job_that_reuses(engine: RunningEngine, folder: Path) -> None:
    """Rows keep what they have, be it their own answer or an earlier one; only new ones are asked, twice over."""
    write_table(folder, ["Heat", "Up"])
    assert run(engine, folder, "first.csv").code == 0
    write_table(folder, ["Alien", "Up", "Heat"])
    words = ("--id", "{title}")
    assert run(engine, folder, "second.csv", *words, "--reuse", FIRST).code == 0
    both = run(engine, folder, "second.csv", *words, "--reuse", FIRST, "--update")
    assert (both.code, both.json["error"]["code"]) == (2, "bad_arguments")
    paid = 3
    for titles, gone in ((["Jaws", "Heat", "Alien"], 1), (["Up", "Tron", "Alien", "Heat"], 1)):
        write_table(folder, titles)
        done = run(engine, folder, "second.csv", *words, "--update")
        assert done.code == 0, done.json
        del done.json["update"]["saved_usd"]
        paid += 1
        kept = len(titles) - 1 - (titles[0] == "Up")
        assert len(engine.ledger()) == paid
        assert done.json["update"]["gone"] == gone and done.json["update"]["kept"] in (kept, kept + 1)
        found = rows(folder / "second.csv")
        assert [(row["title"], row["answer"]) for row in found] == [(one, asked(one)) for one in titles]
        origins = {row["title"]: row["reused_from"] for row in found}
        assert [one for one in titles if origins[one]] == [one for one in titles if one in ("Heat", "Up")]
        assert run(engine, folder, "second.csv", *words).json["counts"] == done.json["counts"]
    again = run(engine, folder, "third.csv", *words, "--reuse", "second.requests.job.json")
    assert (again.json["counts"]["reused"], again.json["requests"], len(engine.ledger())) == (4, 0, paid)


def test_failures_retries_and_adoption_of_a_job_that_reuses(engine: RunningEngine, folder: Path) -> None:
    """A retry asks what was asked, never what was taken over; the job made anew of its batches has all rows."""
    write_table(folder, ["Heat", "Up"])
    assert run(engine, folder, "first.csv").code == 0
    engine.upstream.fail("bad", 500)
    titles = ["bad one", "Up", "bad two", "Heat"]
    write_table(folder, titles)
    second = run(engine, folder, "second.csv", "--reuse", FIRST)
    assert (second.code, second.json["counts"]["failed"], second.json["counts"]["reused"]) == (6, 2, 2)
    engine.upstream.forget()
    job = "second.requests.job.json"
    own = door(engine, folder, "retry_failed", job, "--ids", "row-0000002")
    assert (own.code, own.json["error"]["code"]) == (2, "bad_arguments")
    assert door(engine, folder, "retry_failed", job, "--ids", "row-0000001").code == 0
    assert door(engine, folder, "poll", job, "--wait", "60").code == 6
    ident = job_of(folder, job)
    (folder / job).unlink()
    words = ("second.requests.jsonl", "--adopt", ident, "--job", job)
    assert door(engine, folder, "submit", *words).code == 0
    assert door(engine, folder, "retry_failed", job).code == 0
    again = run(engine, folder, "second.csv", "--reuse", FIRST, "--force")
    assert (again.code, again.json["counts"]["reused"], len(engine.ledger())) == (0, 2, 4)
    assert [row["answer"] for row in rows(folder / "second.csv")] == list(map(asked, titles))
    (listed,) = (one for one in door(engine, folder, "list_batches").json["jobs"] if one["id"] == ident)
    assert (listed["requests"], listed["rows"]) == (2, 4)


def test_a_job_of_the_embedded_engine(engine: RunningEngine, folder: Path) -> None:
    """It is read through its own engine, whatever server is asked then; with --local no other server is."""
    model = "SmolLM2-135M-Instruct"
    engine.upstream.models.append(model)
    shown = ["--examples", str(SCRIPTS.parent / "examples" / "capitals.examples.json"), "--temperature", "0"]
    words = [*ask(model), *shown, "--max-tokens", "12", "--prompt", "What is the capital of {title}?"]
    write_table(folder, ["France", "Italy"])
    first = call_door("run_batch", "first.csv", *words, "--local", cwd=folder, env={})
    good = first.json["counts"]["succeeded"] - sum(first.json.get("answers", {}).values())
    assert good > 0
    write_table(folder, ["France", "Italy", "Spain"])
    second = door(engine, folder, "run_batch", "second.csv", *words, "--reuse", FIRST)
    assert (second.code, second.json["counts"]["reused"], len(engine.ledger())) == (0, good, 3 - good)
    there = "second.requests.job.json"
    (folder / "second.requests.reused.jsonl").unlink()
    third = call_door("run_batch", "a.csv", *words, "--reuse", there, "--local", cwd=folder, env={})
    assert (third.code, third.json["error"]["code"]) == (2, "other_server")
    example = door(engine, folder, "create_batch_file", "a.jsonl", "--example", "--reuse", FIRST)
    assert (example.code, example.json["error"]["code"]) == (2, "bad_arguments")


SCHEMA = {
    "type": "object",
    "properties": {"mood": {"type": "string"}, "line": {"type": "integer"}},
    "required": ["mood", "line"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("endpoint", ["/v1/chat/completions", "/v1/embeddings"])
@pytest.mark.parametrize("titles", [["Up", "Heat"], ["Up", "New", "Heat"]], ids=["all", "some"])
def test_structured_answers_and_vectors_in_every_form(
    engine: RunningEngine, folder: Path, endpoint: str, titles: list[str]
) -> None:
    """Each table is as that of a job which asked all itself, but for origins and ids, also where nothing was asked."""
    (folder / "s.json").write_text(json.dumps(SCHEMA))
    for title in ("Heat", "Up", "New"):
        engine.upstream.say(title, json.dumps({"mood": f"={title}", "line": len(title)}))
    base = ["--input", "t.csv", "--model", MODEL, "--prompt", "Mood of {title}?", "--endpoint", endpoint]
    base += ["--response-schema", "s.json"] if endpoint != "/v1/embeddings" else []
    write_table(folder, ["Heat", "Up"])
    assert door(engine, folder, "run_batch", "first.jsonl", *base).code == 0
    write_table(folder, titles)
    for suffix in ("csv", "parquet", "xlsx"):
        assert door(engine, folder, "run_batch", f"whole-{suffix}.{suffix}", *base).code == 0
        words = (f"some-{suffix}.{suffix}", *base, "--reuse", FIRST)
        some = door(engine, folder, "run_batch", *words)
        assert (some.code, some.json["counts"]["reused"]) == (0, 2), some.json
        whole, found = (table(folder / f"{one}-{suffix}.{suffix}") for one in ("whole", "some"))
        origins = [row.pop("reused_from") for row in found]
        assert [bool(one) for one in origins] == [title != "New" for title in titles]
        assert found == whole
    if endpoint == "/v1/embeddings":
        job = "some-csv.requests.job.json"
        fetched = door(engine, folder, "fetch_results", job, "--format", "npy", "--output", "v.npy")
        assert (fetched.code, numpy.load(folder / "v.npy").shape[0]) == (0, len(titles))


def table(path: Path) -> list[dict[str, Any]]:
    """The rows of a table in any format."""
    if path.suffix == ".csv":
        return list(rows(path))
    if path.suffix == ".parquet":
        found: list[dict[str, Any]] = pyarrow.parquet.read_table(path).to_pylist()
        return found
    names, *values = python_calamine.CalamineWorkbook.from_path(path).get_sheet_by_index(0).to_python()
    return [dict(zip(map(str, names), one, strict=True)) for one in values]


def test_nothing_is_submitted_whose_answers_are_lost(engine: RunningEngine, folder: Path) -> None:
    """The same requests made under another name write them anew."""
    write_table(folder, ["Heat", "Up"])
    assert run(engine, folder, "first.csv").code == 0
    write_table(folder, ["Alien", "Up"])
    for name in ("a", "b"):
        assert door(engine, folder, "create_batch_file", f"{name}.jsonl", *ask(), "--reuse", FIRST).code == 0
        (folder / "a.reused.jsonl").unlink(missing_ok=True)
    refused = door(engine, folder, "submit", "a.jsonl")
    assert (refused.code, refused.json["error"]["code"], len(engine.ledger())) == (2, "reused_answers_lost", 2)
    (folder / "b.reused.jsonl").rename(folder / "a.reused.jsonl")
    assert door(engine, folder, "submit", "a.jsonl").code == 0
    assert door(engine, folder, "poll", "a.job.json", "--wait", "60").code == 0
    history = ("--format", "csv", "--history", "h.jsonl", "--output", "a.csv")
    assert door(engine, folder, "fetch_results", "a.job.json", *history).code == 0
    assert [row["answer"] for row in rows(folder / "a.csv")] == [asked("Alien"), asked("Up")]
    assert len(lines(folder / "h.jsonl")) == 1 and len(engine.ledger()) == 3


def test_a_dry_run_and_a_job_that_runs(engine: RunningEngine, folder: Path) -> None:
    """Of a job that still runs what is there is taken; a dry run leaves nothing behind, also with nothing to ask."""
    write_table(folder, ["Heat", "Up"])
    with engine.upstream.hold("Heat"):
        assert run(engine, folder, "first.csv", "--wait", "3").code == 7
        wait_until(lambda: len(engine.ledger()) == 1, "the other's answer")
        before = sorted(folder.iterdir())
        dry = run(engine, folder, "second.csv", "--reuse", FIRST, "--dry-run")
        assert (dry.code, dry.json["requests"], sorted(folder.iterdir())) == (0, 1, before)
    assert run(engine, folder, "first.csv").code == 0
    before = sorted(folder.iterdir())
    dry = run(engine, folder, "second.csv", "--reuse", FIRST, "--dry-run")
    assert (dry.code, dry.json["requests"], dry.json["cost_usd"], sorted(folder.iterdir())) == (0, 0, 0, before)
    assert run(engine, folder, "second.csv", "--reuse", FIRST, "--max-cost", "0.000001").code == 0
    assert len(engine.ledger()) == 2


def test_a_page_and_the_end_of_files_where_nothing_is_asked(engine: RunningEngine, folder: Path) -> None:
    """The flags that act along the way have nothing to do, and say so."""
    write_table(folder, ["Heat", "Up"])
    assert run(engine, folder, "first.csv").code == 0
    done = run(engine, folder, "second.csv", "--reuse", FIRST, "--report", "p.html", "--delete-files", "--window", "1h")
    assert (done.code, done.json["deleted"], len(engine.ledger())) == (0, 0, 2)
    assert (folder / "p.html").stat().st_size > 1000
    assert run(engine, folder, "second.csv", "--force").json["counts"] == done.json["counts"]


def test_a_reused_answer_has_its_json_taken_out_as_it_was_the_first_time(engine: RunningEngine, folder: Path) -> None:
    """What a model put around the JSON hides no field, whichever job the answer is from."""
    schema = {"type": "object", "properties": {"mood": {"type": "string"}}, "required": ["mood"]}
    (folder / "s.json").write_text(json.dumps({**schema, "additionalProperties": False}))
    engine.upstream.say("Genre of", '```json\n{"mood": "good"}\n```')
    write_table(folder, ["Heat", "Up"])
    assert run(engine, folder, "first.csv", "--response-schema", "s.json").code == 0
    write_table(folder, ["Up", "Alien", "Heat"])
    assert run(engine, folder, "second.csv", "--response-schema", "s.json", "--reuse", FIRST).json["reused"] == 2
    assert [row["mood"] for row in rows(folder / "first.csv")] == ["good"] * 2
    assert [(row["mood"], row["answer"]) for row in rows(folder / "second.csv")] == [("good", '{"mood": "good"}')] * 3
