"""run_dataset.py: parts in, parts out, each of them paid once."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from tests.dataset.sources import ASK, flat, hive, manifest, parts_of, rows, write
from tests.door import Result, call_door, run_door
from tests.engine_process import KEY, RunningEngine, engine_with_upstream, priced

from doubleword.dataset.places import Bucket

pytestmark = pytest.mark.usefixtures("quick_looks")
MODEL = "test-chat"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[RunningEngine]:
    with engine_with_upstream(tmp_path / "engine") as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "work"
    made.mkdir()
    return made


def dataset(engine: RunningEngine, folder: Path, *args: str, ask: list[str] = ASK, source: str = "src") -> Result:
    env = {"DOUBLEWORD_API_KEY": KEY, "DOUBLEWORD_BASE_URL": engine.base_url}
    return call_door("run_dataset", source, "out", *ask, *args, cwd=folder, env=env)


def batches(engine: RunningEngine) -> int:
    return len(engine.call("GET", "/batches?limit=100").json()["data"])


def test_parts_become_parts_of_the_same_names(engine: RunningEngine, folder: Path) -> None:
    """In the folders of their partitions, whose column can be asked with and is not written twice; types are kept."""
    hive(folder / "src")
    env = {"DOUBLEWORD_API_KEY": KEY, "DOUBLEWORD_BASE_URL": engine.base_url}
    ask = [*ASK[:-1], "{word} in {lang}?"]
    first = run_door("run_dataset", "src", "out", *ask, cwd=folder, env=env)
    assert (first.code, first.json["parts"]["done"], first.json["counts"]["succeeded"]) == (0, 4, 12), first.json
    assert parts_of(folder / "out") == parts_of(folder / "src")
    read = ds.dataset(folder / "out", partitioning="hive").to_table().sort_by([("lang", "ascending")])
    assert read.schema.names[:6] == ["id", "word", "when", "answer", "status", "error"], read.schema.names
    assert str(read.schema.field("id").type) == "int32" and str(read.schema.field("when").type) == "timestamp[ms]"
    assert read.column("answer").to_pylist() == [
        f"answer to: {row['word']} in {row['lang']}?" for row in read.to_pylist()
    ]
    found = duckdb.execute(f"SELECT count(*), count(DISTINCT lang) FROM '{folder}/out/**/*.parquet'")
    assert found.fetchall() == [(12, 2)]
    told = manifest(folder / "out")
    assert [one["state"] for one in told["parts"]] == ["done"] * 4 and (told["rows"], told["succeeded"]) == (12, 12)
    before = {path: (folder / "out" / path).stat().st_mtime_ns for path in parts_of(folder / "out")}
    second = dataset(engine, folder, ask=ask)
    assert second.json == first.json
    assert {path: (folder / "out" / path).stat().st_mtime_ns for path in before} == before
    assert (batches(engine), engine.upstream.count()) == (4, 12)


@pytest.mark.parametrize("lost", [("_work",), ("_work", "_state"), ("_work", "_state", "_run.json", "_manifest.json")])
def test_a_run_whose_folders_are_lost_finds_what_it_paid(
    engine: RunningEngine, folder: Path, lost: tuple[str, ...]
) -> None:
    """By the keys that follow from what is asked: the parts come again, and nothing is paid again."""
    flat(folder / "src", 2)
    assert dataset(engine, folder).code == 0
    before = rows(folder / "out")
    for name in (*lost, *parts_of(folder / "out")):
        place = folder / "out" / name
        shutil.rmtree(place) if place.is_dir() else place.unlink()
    if "_state" not in lost:
        shutil.rmtree(folder / "out" / "_state")
    assert dataset(engine, folder).code == 0
    assert rows(folder / "out") == before
    assert (batches(engine), engine.upstream.count()) == (2, 6)


def test_another_name_is_another_run(engine: RunningEngine, folder: Path) -> None:
    """Which asks and pays again, as it was told to; so does another output."""
    flat(folder / "src", 1)
    assert dataset(engine, folder, "--name", "a").code == 0
    shutil.rmtree(folder / "out")
    assert dataset(engine, folder, "--name", "a").code == 0
    assert batches(engine) == 1
    shutil.rmtree(folder / "out")
    assert dataset(engine, folder, "--name", "b").code == 0
    assert batches(engine) == 2


def test_equal_partitions_are_jobs_of_their_own(engine: RunningEngine, folder: Path) -> None:
    """Two files that ask the same are two parts, two batches."""
    for name in ("a", "b"):
        write(folder / "src" / f"{name}.parquet", ["same"])
    assert dataset(engine, folder).json["parts"]["done"] == 2
    assert batches(engine) == 2


def test_what_failed_stands_in_the_parts_and_can_be_asked_again(engine: RunningEngine, folder: Path) -> None:
    """Exit 6; after retry_failed.py on the job the same command writes that part anew, and no other."""
    flat(folder / "src", 2)
    engine.upstream.fail("p1-2", 400)
    first = dataset(engine, folder)
    assert (first.code, first.json["counts"]) == (6, {"total": 6, "succeeded": 5, "failed": 1, "missing": 0})
    assert first.json["failures"][0]["part"] == "part-001.parquet"
    assert [one["state"] for one in manifest(folder / "out")["parts"]] == ["done", "done"]
    assert [one["failed"] for one in manifest(folder / "out")["parts"]] == [0, 1]
    bad = rows(folder / "out")[-1]
    assert (bad["status"], bad["answer"]) == ("failed", None) and "told to fail" in bad["error"]
    assert dataset(engine, folder).json == first.json
    engine.upstream.forget()
    env = {"DOUBLEWORD_API_KEY": KEY, "DOUBLEWORD_BASE_URL": engine.base_url}
    job = folder / "out" / "_work" / "part-001.job.json"
    assert call_door("retry_failed", job, "--ids", "row-0000003", cwd=folder, env=env).code == 0
    last = dataset(engine, folder)
    assert (last.code, last.json["counts"]["succeeded"]) == (0, 6), last.json
    assert [row["answer"] for row in rows(folder / "out")] == [
        f"answer to: {row['word']}?" for row in rows(folder / "src")
    ]


def test_so_many_are_under_way_and_the_next_run_goes_on(engine: RunningEngine, folder: Path) -> None:
    """A wait that ran out is exit 7; no more batches than --at-once were made, and none is made twice."""
    flat(folder / "src", 5)
    with engine.upstream.hold("p"):
        stopped = dataset(engine, folder, "--wait", "0", "--at-once", "2")
        assert (stopped.code, stopped.json["parts"]["open"], batches(engine)) == (7, 5, 2), stopped.json
        assert parts_of(folder / "out") == []
        assert [one["state"] for one in manifest(folder / "out")["parts"]] == ["open"] * 5
    done = dataset(engine, folder)
    assert (done.code, done.json["counts"]["succeeded"]) == (0, 15), done.json
    assert (batches(engine), engine.upstream.count()) == (5, 15)


def test_other_arguments_or_rows_are_another_run(engine: RunningEngine, folder: Path) -> None:
    """A changed prompt, and a changed part, are never taken for the old ones; a new part is asked."""
    flat(folder / "src", 1)
    assert dataset(engine, folder).code == 0
    refused = dataset(engine, folder, ask=[*ASK[:-1], "Not {word}?"])
    assert (refused.code, refused.json["error"]["code"]) == (2, "other_requests")
    write(folder / "src" / "part-001.parquet", ["new"])
    assert dataset(engine, folder).json["counts"]["succeeded"] == 4
    write(folder / "src" / "part-000.parquet", ["other"])
    refused = dataset(engine, folder)
    assert (refused.code, refused.json["error"]["code"]) == (2, "source_changed")
    assert batches(engine) == 2


def test_rows_per_part_cuts_files(engine: RunningEngine, folder: Path) -> None:
    """Numbered parts in order; a CSV becomes Parquet; a file without rows becomes no part and is no failure."""
    (folder / "src").mkdir()
    (folder / "src" / "a.csv").write_text("word\n" + "".join(f"w{number}\n" for number in range(5)))
    (folder / "src" / "b.csv").write_text("word\n")
    done = dataset(engine, folder, "--rows-per-part", "2")
    assert (done.code, done.json["parts"]["empty"]) == (0, 1), done.json
    assert parts_of(folder / "out") == ["a-0001.parquet", "a-0002.parquet", "a-0003.parquet"]
    assert [row["answer"] for row in rows(folder / "out")] == [f"answer to: w{number}?" for number in range(5)]


@pytest.mark.parametrize("more", [[], ["--rows-per-part", "1"]])
def test_images_stand_beside_the_file_that_names_them(engine: RunningEngine, folder: Path, more: list[str]) -> None:
    """Also where its rows are cut into partitions, or its folders name columns."""
    (place := folder / "src" / "lang=de").mkdir(parents=True)
    (place / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (place / "a.csv").write_text("word,photo\nw,x.png\nv,x.png\n")
    done = dataset(engine, folder, "--image", "{photo}", *more, source="src/*/*.csv")
    assert (done.code, done.json["counts"]["succeeded"]) == (0, 2), done.json
    assert [len(call["messages"][0]["content"]) for call in engine.upstream.calls] == [2, 2]


def test_parts_of_one_name_are_refused(engine: RunningEngine, folder: Path) -> None:
    """Before anything is sent; a glob says which are meant."""
    (folder / "src").mkdir()
    for name in ("a.csv", "a.jsonl"):
        (folder / "src" / name).write_text("word\nx\n" if name == "a.csv" else json.dumps({"word": "x"}))
    refused = dataset(engine, folder)
    assert (refused.code, refused.json["error"]["code"], batches(engine)) == (2, "bad_source", 0)
    assert dataset(engine, folder, source="src/*.csv").code == 0


@pytest.mark.parametrize("source", [".", "out", "out/*.parquet"])
def test_an_output_within_its_source_is_refused(source: str, engine: RunningEngine, folder: Path) -> None:
    """The next run would ask the answers."""
    flat(folder / "out", 1)
    refused = dataset(engine, folder, source=source)
    assert (refused.code, refused.json["error"]["code"], batches(engine)) == (2, "output_is_input", 0)


@pytest.mark.parametrize("more", [["--input", "x.csv"], ["--example"], ["--force"], ["--local", "--ray", "local"]])
def test_arguments_that_have_no_place_are_refused(engine: RunningEngine, folder: Path, more: list[str]) -> None:
    """The rows are those of the source, and parts are never replaced."""
    flat(folder / "src", 1)
    refused = dataset(engine, folder, *more)
    assert (refused.code, refused.json["error"]["code"]) == (2, "bad_arguments")


def test_columns_that_there_are_not_are_refused_before_anything_is_paid(engine: RunningEngine, folder: Path) -> None:
    flat(folder / "src", 1)
    refused = dataset(engine, folder, "--columns", "id, nothing")
    assert (refused.code, refused.json["error"]["code"], batches(engine)) == (2, "bad_columns", 0)


@pytest.fixture
def dear(tmp_path: Path) -> Iterator[RunningEngine]:
    """An engine whose model costs ten cents a token, in and out."""
    with engine_with_upstream(
        tmp_path / "dear", settings=priced({MODEL: {"24h": [1e5, 1e5], "realtime": [1e5, 1e5]}})
    ) as running:
        yield running


def test_what_all_parts_would_say_is_said_once(dear: RunningEngine, folder: Path) -> None:
    """Here that the model is in no price table: by the first part that comes to it, with its name."""
    flat(folder / "src", 3)
    found = dataset(dear, folder)
    said = found.stderr
    assert said.count("is not in the price table") == said.count(f".parquet: {MODEL}") == 1, said
    told = [word for word in found.json["warnings"] if "is not in the price table" in word]
    assert len(told) == 1 and told[0].endswith("(as of 2 more parts)"), told


def test_one_limit_is_judged_for_all_parts_before_the_first_is_sent(dear: RunningEngine, folder: Path) -> None:
    """A part can cost USD 12.10 and costs 0.40: three of them do not fit into 36, and fit into 36.30."""
    flat(folder / "src", 3, rows=1)
    refused = dataset(dear, folder, "--max-cost", "36")
    assert (refused.code, refused.json["error"]["code"], batches(dear)) == (8, "over_max_cost", 0), refused.json
    assert "the 3 requests" in refused.json["error"]["message"] and "36.3" in refused.json["error"]["message"]
    assert not (folder / "out").exists() and dear.call("GET", "/files").json()["data"] == []
    done = dataset(dear, folder, "--max-cost", "36.3")
    assert (done.code, done.json["parts"]["done"], done.json["cost_usd"]) == (0, 3, 1.2), done.json
    assert (batches(dear), dear.upstream.count()) == (3, 3)
    assert [float(entry.cost_usd or 0) for entry in dear.ledger()] == pytest.approx([0.4] * 3)


def test_a_dry_run_is_held_against_the_limit_too(dear: RunningEngine, folder: Path) -> None:
    """It refuses what the run itself would refuse, by the price table; here that has no price of the model."""
    flat(folder / "src", 2, rows=1)
    ask = ["--model", "Qwen/Qwen3.5-9B", *ASK[2:]]
    free = dataset(dear, folder, "--dry-run", ask=ask).json
    assert dataset(dear, folder, "--dry-run", "--max-cost", f"{free['ceiling_usd']:.6f}", ask=ask).code == 0
    refused = dataset(dear, folder, "--dry-run", "--max-cost", f"{free['ceiling_usd'] * 0.9:.6f}", ask=ask)
    assert (refused.code, refused.json["error"]["code"]) == (8, "over_max_cost"), refused.json
    unknown = dataset(dear, folder, "--dry-run", "--max-cost", "1")
    assert (unknown.code, unknown.json["error"]["code"]) == (8, "cost_unknown"), unknown.json


def test_a_part_that_was_retried_counts_once_against_the_limit(dear: RunningEngine, folder: Path) -> None:
    """To write it anew asks nothing, so a limit that what was asked keeps is kept."""
    flat(folder / "src", 1, rows=2)
    dear.upstream.fail("p0-1", 400)
    assert dataset(dear, folder, "--max-cost", "24.2").code == 6
    dear.upstream.forget()
    env = {"DOUBLEWORD_API_KEY": KEY, "DOUBLEWORD_BASE_URL": dear.base_url}
    job = folder / "out" / "_work" / "part-000.job.json"
    assert call_door("retry_failed", job, "--ids", "row-0000002", cwd=folder, env=env).code == 0
    done = dataset(dear, folder, "--max-cost", "24.2")
    assert (done.code, done.json["counts"]["succeeded"]) == (0, 2), done.json


def test_parts_that_come_later_are_judged_with_what_was_asked_before(dear: RunningEngine, folder: Path) -> None:
    """What the first parts really cost counts, and what those under way can cost at most."""
    flat(folder / "src", 2, rows=1)
    assert dataset(dear, folder, "--max-cost", "24.2").code == 0
    write(folder / "src" / "part-002.parquet", ["p2-0"])
    refused = dataset(dear, folder, "--max-cost", "12.5")
    assert (refused.code, refused.json["error"]["code"], batches(dear)) == (8, "over_max_cost", 2), refused.json
    with dear.upstream.hold("p2-0"):
        assert dataset(dear, folder, "--max-cost", "12.95", "--wait", "0").code == 7
    write(folder / "src" / "part-003.parquet", ["p3-0"])
    refused = dataset(dear, folder, "--max-cost", "12.95", "--at-once", "1")
    assert (refused.code, refused.json["error"]["code"], batches(dear)) == (8, "over_max_cost", 3), refused.json
    assert dataset(dear, folder, "--max-cost", "60").code == 0
    assert (batches(dear), dear.upstream.count()) == (4, 4)


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_all_parts_are_checked_before_the_first_is_sent(engine: RunningEngine, folder: Path, more: list[str]) -> None:
    """A part whose rows lack what the prompt asks for is told by its name, and leaves no run behind that has to go."""
    flat(folder / "src", 3)
    write(folder / "src" / "part-001.parquet", [None])
    refused = dataset(engine, folder, *more)
    assert (refused.code, batches(engine), engine.upstream.count()) == (2, 0, 0), refused.json
    assert "part-001.parquet" in refused.json["error"]["message"]
    assert not (folder / "out").exists()
    assert dataset(engine, folder, *more, ask=[*ASK, "--default", "word=none"]).code == 0


def test_a_part_without_rows_costs_nothing_of_a_limit(dear: RunningEngine, folder: Path) -> None:
    """It is empty, and the others are asked."""
    flat(folder / "src", 2, rows=1)
    where = "word = 'p1-0'"
    found = dataset(dear, folder, "--max-cost", "14", "--where", where)
    assert (found.code, found.json["parts"]["empty"], found.json["parts"]["done"]) == (0, 1, 1), found.json
    assert dataset(dear, folder, "--max-cost", "14", "--where", where).json == found.json


def test_a_dry_run_says_what_all_parts_would_cost(engine: RunningEngine, folder: Path) -> None:
    """And leaves nothing."""
    hive(folder / "src")
    told = dataset(engine, folder, "--dry-run", ask=[*ASK[:-1], "{word} {lang}"])
    assert (told.code, told.json["requests"], told.json["parts"]["total"]) == (0, 12, 4), told.json
    assert not (folder / "out").exists() and batches(engine) == 0


def test_a_report_is_made_of_the_jobs_of_a_dataset(engine: RunningEngine, folder: Path) -> None:
    """`report.py OUTPUT_DIR` finds them in the work folder."""
    flat(folder / "src", 2)
    assert dataset(engine, folder).code == 0
    env = {"DOUBLEWORD_API_KEY": KEY, "DOUBLEWORD_BASE_URL": engine.base_url}
    told = call_door("report", "out", cwd=folder, env=env)
    assert "gone or was changed" not in told.stderr  # batch files that were taken away with their parts
    assert (told.code, told.json["requests"], len(told.json["jobs"])) == (0, 6, 2), told.json


def test_the_folder_of_a_dataset_stands_for_no_job_and_its_jobs_are_listed(engine: RunningEngine, folder: Path) -> None:
    """Its batches are not lost, and a script of one job says where they are, not that an id is malformed."""
    flat(folder / "src", 2)
    assert dataset(engine, folder).code == 0
    env = {"DOUBLEWORD_API_KEY": KEY, "DOUBLEWORD_BASE_URL": engine.base_url}
    listed = call_door("list_batches", "--folder", "out", cwd=folder, env=env).json
    assert len(listed["jobs"]) == len(listed["batches"]) == 2
    assert not any("lost" in one for one in listed["batches"]) and "hint" not in listed
    for name in ("poll", "cancel", "delete_files", "fetch_results", "retry_failed"):
        found = call_door(name, "out", cwd=folder, env=env)
        assert (found.code, found.json["error"]["code"]) == (4, "no_job") and "out/_work" in found.json["error"]["hint"]


def test_structured_answers_have_columns(engine: RunningEngine, folder: Path) -> None:
    """The properties of a response schema stand in each part, under their types."""
    flat(folder / "src", 2)
    schema = {"type": "object", "properties": {"stars": {"type": "integer"}}, "required": ["stars"]}
    (folder / "schema.json").write_text(json.dumps({**schema, "additionalProperties": False}))
    done = dataset(engine, folder, "--response-schema", "schema.json")
    assert done.code == 0, done.json
    read = ds.dataset(folder / "out", exclude_invalid_files=False).to_table()
    assert read.schema.field("stars").type == pa.int64() and None not in read.column("stars").to_pylist()


def test_two_servers_and_a_lost_key_are_said(engine: RunningEngine, folder: Path) -> None:
    """Nothing is sent."""
    flat(folder / "src", 1)
    both = dataset(engine, folder, "--local", "--base-url", engine.base_url)
    assert (both.code, both.json["error"]["code"]) == (2, "two_servers")
    keyless = call_door("run_dataset", "src", "out", *ASK, cwd=folder, env={"DOUBLEWORD_BASE_URL": engine.base_url})
    assert (keyless.code, keyless.json["error"]["code"], batches(engine)) == (3, "no_key", 0)


def test_the_bundled_model_answers_a_dataset(folder: Path) -> None:
    """On the embedded engine, one for all partitions; the second run needs none."""
    flat(folder / "src", 2, rows=1)
    words = ["--model", "SmolLM2-135M-Instruct", "--max-tokens", "3", "--prompt", "{word}?", "--local"]
    for _ in range(2):
        done = run_door("run_dataset", "src", "out", *words, cwd=folder, timeout=300)
        assert (done.code, done.json["counts"]["succeeded"], done.json["cost_usd"]) == (0, 2, 0.0), done.json
    assert all(row["answer"] for row in rows(folder / "out"))
    assert (folder / "out" / "_work" / "dataset.local").is_dir()


@pytest.mark.parametrize(("words", "package"), [(["s3://bucket/out"], "s3fs"), (["out", "--ray", "local"], "ray")])
def test_packages_that_are_needed_only_here_are_named(
    words: list[str], package: str, engine: RunningEngine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the command that installs them; nothing was sent."""
    flat(folder / "src", 1)
    monkeypatch.setitem(sys.modules, package, None)
    env = {"DOUBLEWORD_API_KEY": KEY, "DOUBLEWORD_BASE_URL": engine.base_url}
    refused = call_door("run_dataset", "src", *words, *ASK, cwd=folder, env=env)
    assert (refused.code, refused.json["error"]["code"], batches(engine)) == (2, "missing_package", 0)
    assert package in refused.json["error"]["hint"]


def test_equal_rows_of_a_partition_are_asked_once(engine: RunningEngine, folder: Path) -> None:
    """With --dedupe; each row has its answer all the same, and a second run changes nothing."""
    write(folder / "src" / "a.parquet", ["same", "other", "same"])
    first = dataset(engine, folder, "--dedupe")
    assert (first.code, first.json["counts"]["succeeded"], engine.upstream.count()) == (0, 3, 2), first.json
    assert [row["answer"] for row in rows(folder / "out")] == [f"answer to: {w}?" for w in ("same", "other", "same")]
    assert dataset(engine, folder, "--dedupe").json == first.json
    shutil.rmtree(folder / "out")
    assert dataset(engine, folder, "--dedupe").json == first.json
    assert engine.upstream.count() == 2


class Mirror:
    """What fsspec gives of a bucket: the objects of `data/src` are the files of a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, root: str) -> list[str]:
        paths = (path for path in self._folder.rglob("*") if path.is_file())
        return [f"{root}/{path.relative_to(self._folder).as_posix()}" for path in paths]

    def get_file(self, path: str, local: str) -> None:
        shutil.copy(self._folder / path.removeprefix("data/src/"), local)

    def info(self, path: str, refresh: bool) -> dict[str, str]:
        assert refresh
        return {"ETag": path}


def test_files_of_one_name_in_a_bucket_are_not_mixed(
    engine: RunningEngine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Brought to this machine at one time, into a local output: each part answers its own rows, and no copy stays."""
    hive(folder / "src", parts=1)
    for plain in ("en", "it"):  # folders that name no column
        write(folder / "src" / plain / "part-0.parquet", [f"{plain}-{row}" for row in range(3)])
    monkeypatch.setattr("doubleword.dataset.partitions.bucket", lambda _: Bucket(Mirror(folder / "src"), "data/src"))
    with engine.upstream.hold("-"):
        assert dataset(engine, folder, "--wait", "0", source="s3://data/src").code == 7
    done = dataset(engine, folder, source="s3://data/src")
    assert (done.code, batches(engine)) == (0, 4), done.json
    assert parts_of(folder / "out") == parts_of(folder / "src")
    assert [row["word"] for row in rows(folder / "out")] == [row["word"] for row in rows(folder / "src")]
    assert not list((folder / "out" / "_work").rglob("part-0.parquet"))


def test_a_file_of_a_bucket_is_never_taken_for_its_requests(
    engine: RunningEngine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JSON lines, as requests are: both are called a.jsonl, in a dry run too."""
    (folder / "src").mkdir()
    (folder / "src" / "a.jsonl").write_text('{"word": "x"}\n{"word": "y"}\n')
    monkeypatch.setattr("doubleword.dataset.partitions.bucket", lambda _: Bucket(Mirror(folder / "src"), "data/src"))
    told = dataset(engine, folder, "--dry-run", source="s3://data/src")
    assert (told.code, told.json.get("requests"), batches(engine)) == (0, 2, 0), told.json
    assert dataset(engine, folder, source="s3://data/src").json["counts"]["succeeded"] == 2
