"""The job file: what it keeps, what it refuses, and that only one process works on it."""

from __future__ import annotations

import json
import multiprocessing
import stat
from pathlib import Path
from typing import Any

import pytest
from tests.door import call_door

from doubleword.failure import Exit, Failure
from doubleword.jobs.job_file import InputFile, Intended, Job, JobFile, Retry, Written, job_path, locked, resolve
from doubleword.quick_msgspec import replace
from doubleword.system import Disk

FILE = InputFile("a.jsonl", 10, "00" * 32, 3, "/v1/chat/completions")


def make(folder: Path) -> JobFile:
    one = Intended("key-1", 0, FILE, state="created", file_id="f", batch_id="b")
    one.retries.append(Retry(2.5, "asked", {"completed": 1, "failed": 2, "ended_at": None}))
    answer: dict[str, Any] = {"complete": True}
    written = Written("out.csv", None, "11" * 32, None, answer, shape={"format": "csv", "join": ["a.csv"]})
    job = Job("job-1", 1.5, "https://server.test/v1", None, "24h", {"team": "x"}, [FILE], [one], [written])
    return JobFile(folder / "a.job.json", job, Disk())


def test_a_job_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    """Every field survives, and only the owner may read the file."""
    store = make(tmp_path)
    store.save()
    assert JobFile.load(store.path, Disk()).job == store.job
    assert stat.S_IMODE(store.path.stat().st_mode) & 0o077 == 0
    assert [one.name for one in tmp_path.iterdir()] == ["a.job.json"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda value: value.update(version=2), "job_version"),
        (lambda value: value.update(version="1"), "job_version"),
        (lambda value: value.pop("version"), "job_version"),
        (lambda value: value.update(kind="recipe"), "job_damaged"),
        (lambda value: value.pop("batches"), "job_damaged"),
        (lambda value: value.update(batches=[]), "job_damaged"),
        (lambda value: value["batches"][0].pop("key"), "job_damaged"),
        (lambda value: value["batches"][0].update(state="done"), "job_damaged"),
        (lambda value: value["batches"][0].update(batch_id=None), "job_damaged"),
        (lambda value: value["batches"][0].update(file=1), "job_damaged"),
        (lambda value: value["batches"].append(value["batches"][0]), "job_damaged"),
        (lambda value: value["files"][0].update(requests=-1), "job_damaged"),
        (lambda value: value.update(local="a.local"), "job_damaged"),
        (lambda value: value.update(tariff=[]), "job_damaged"),
        (lambda value: value.update(tariff={"m": {"24h": ["0.1", "nan"]}}), "job_damaged"),
        (lambda value: value.update(tariff={"m": {"24h": ["0.1"]}}), "job_damaged"),
        (lambda value: value.update(results=[{}]), "job_damaged"),
        (lambda value: value.pop("results"), "job_damaged"),
        (lambda value: value["batches"][0].pop("state"), "job_damaged"),
        (lambda value: value["batches"][0].pop("batch_id"), "job_damaged"),
        (lambda value: value["batches"][0].pop("attempt"), "job_damaged"),
        (lambda value: value["batches"][0].update(tries=True), "job_damaged"),
        (lambda value: value["files"][0].update(requests="3"), "job_damaged"),
    ],
)
def test_a_damaged_or_newer_job_file_is_refused(tmp_path: Path, change: Any, code: str) -> None:
    """Guessing what a job was could pay for it twice."""
    store = make(tmp_path)
    store.save()
    value = json.loads(store.path.read_text())
    change(value)
    store.path.write_text(json.dumps(value))
    with pytest.raises(Failure) as raised:
        JobFile.load(store.path, Disk())
    assert (raised.value.exit_code, raised.value.code) == (Exit.BAD_INPUT, code)
    assert raised.value.hint


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, "\udcff"])
def test_what_is_no_json_is_no_job(tmp_path: Path, text: str) -> None:
    """Half a file, another kind of file, a hostile file."""
    path = tmp_path / "a.job.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(Failure) as raised:
        JobFile.load(path, Disk())
    assert raised.value.code == "job_damaged"


def test_a_failed_save_leaves_the_last_job(tmp_path: Path) -> None:
    """A disk that fills up while the job is saved takes nothing away."""

    class Full(Disk):
        def sync(self, file: Any) -> None:
            raise OSError(28, "No space left on device")

    store = make(tmp_path)
    store.save()
    before = store.path.read_bytes()
    full = JobFile(store.path, replace(store.job, window="1h"), Full())
    with pytest.raises(OSError, match="No space"):
        full.save()
    assert store.path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["a.job.json"]


def _try(path: Path, answers: Any) -> None:
    try:
        with locked(path, Disk()):
            answers.put("held")
    except Failure as failure:
        answers.put(failure.code)


def test_one_process_at_a_time(tmp_path: Path) -> None:
    """The second one says so, and gets the lock once the first has ended; no lock file stays."""
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    path = tmp_path / "a.job.json"
    with locked(path, Disk()):
        second = context.Process(target=_try, args=(path, answers))
        second.start()
        assert answers.get(timeout=60) == "job_busy"
        second.join()
    with locked(path, Disk()):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_job_is_found_by_its_batch_file(tmp_path: Path) -> None:
    """By any of its files, split or not; what leads nowhere is not found."""
    make(tmp_path).save()
    for name in ("a.jsonl", "a-0002.jsonl"):
        (tmp_path / name).write_text("{}")
        store, ids = resolve([str(tmp_path / name)], Disk())
        assert store is not None and store.job.id == "job-1" and ids == []
    assert resolve(["b1", "b2"], Disk()) == (None, ["b1", "b2"])
    (tmp_path / "other.jsonl").write_text("{}")
    for name in ("missing.job.json", "other.jsonl", "no such/thing", "../b"):
        with pytest.raises(Failure) as raised:
            resolve([str(tmp_path / name) if name.endswith("l") else name], Disk())
        assert raised.value.exit_code == Exit.NOT_FOUND


def test_the_job_file_stands_beside_the_first_batch_file() -> None:
    """Split files share one job."""
    assert job_path(Path("d/movies.jsonl")) == Path("d/movies.job.json")
    assert job_path(Path("d/movies-0001.jsonl")) == Path("d/movies.job.json")


@pytest.mark.parametrize(("job", "code"), [("other.json", "bad_job_name"), ("nowhere/other.job.json", "no_folder")])
@pytest.mark.parametrize("name", ["submit", "run_batch"])
def test_a_job_file_that_no_script_would_find_is_refused(tmp_path: Path, name: str, job: str, code: str) -> None:
    """By its name it is told from batch files and ids; before anything is made or sent."""
    (tmp_path / "a.jsonl").write_text(to_request("a"))
    (tmp_path / "t.csv").write_text("text\nx\n")
    words = {"submit": ["a.jsonl"], "run_batch": ["o.csv", "--input", "t.csv", "--model", "m", "--prompt", "{text}"]}
    refused = call_door(name, *words[name], "--job", job, "--base-url", "http://127.0.0.1:9/v1", cwd=tmp_path)
    assert (refused.code, refused.json["error"]["code"]) == (2, code)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "t.csv"]


def to_request(custom_id: str) -> str:
    """The line of a batch file."""
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}) + "\n"
