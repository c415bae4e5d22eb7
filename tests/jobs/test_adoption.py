"""A job file made anew after its disk was lost, on the embedded engine; and the batches that no job file knows."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.clock import Clocked
from tests.door import Result, call_door
from tests.engine_process import KEY, RunningEngine, engine_with_upstream
from tests.faults.rooms import CHAT, Unsynced, emptied, finished, request
from tests.upstream import CHAT_MODEL

from doubleword.commands.fetch_results import fetch
from doubleword.commands.list_batches import list_batches
from doubleword.commands.poll import poll
from doubleword.commands.retry_failed import retry
from doubleword.commands.submit import submit
from doubleword.jobs.adoption import adopt
from doubleword.server.api import Api
from doubleword.server.errors import ApiError

ROOMS = {
    "adopt": ("submit", adopt),
    "submit": ("submit", submit),
    "poll": ("poll", poll),
    "fetch_results": ("fetch_results", fetch),
    "retry_failed": ("retry_failed", retry),
    "list_batches": ("list_batches", list_batches),
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngine]:
    with engine_with_upstream(tmp_path_factory.mktemp("engine")) as engine:
        yield engine


@pytest.fixture
def engine(running: RunningEngine) -> RunningEngine:
    emptied(running)
    return running


class User:
    """Somebody with a folder, before one server."""

    def __init__(self, folder: Path, engine: RunningEngine) -> None:
        folder.mkdir()
        self.folder = folder
        self.engine = engine

    def run(self, name: str, *args: str | Path, exit_code: int = 0) -> dict[str, Any]:
        settings = {"DOUBLEWORD_API_KEY": KEY, "DOUBLEWORD_BASE_URL": self.engine.base_url}
        door, room = ROOMS[name]
        system = Clocked(Unsynced())
        result: Result = call_door(door, *args, cwd=self.folder, env=settings, work=lambda given: room(given, system))
        assert result.code == exit_code, result
        return result.json

    def write(self, name: str, texts: list[str], stem: str = "row") -> Path:
        path = self.folder / name
        path.write_text("".join(json.dumps(request(f"{stem}-{n}", text)) + "\n" for n, text in enumerate(texts, 1)))
        return path

    def job(self, name: str = "a.job.json") -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / name).read_text())
        return found

    def names(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())

    def lose(self, *kept: str) -> None:
        """The disk is gone, but for `kept`."""
        for path in self.folder.iterdir():
            if path.name not in kept:
                path.unlink()


@pytest.fixture
def user(tmp_path: Path, engine: RunningEngine) -> User:
    return User(tmp_path / "a folder", engine)


def batch_count(engine: RunningEngine) -> int:
    return len(engine.call("GET", "/batches?limit=100").json()["data"])


def test_a_lost_job_is_found_adopted_and_goes_on(user: User, engine: RunningEngine) -> None:
    """List names the command; poll, fetch and retry then work as before, and no request is asked twice."""
    engine.upstream.fail("two", 409, times=1)
    user.write("a.jsonl", ["one", "two", "three"])
    user.run("submit", "a.jsonl", "--metadata", "campaign=spring", "--window", "1h")
    before = user.job()
    finished(engine)
    user.lose()

    listed = user.run("list_batches")
    assert listed["jobs"] == []
    assert [(one["job"], one["lost"], one["model"]) for one in listed["batches"]] == [(before["id"], True, CHAT_MODEL)]
    assert f"submit.py --adopt {before['id']}" in listed["hint"]

    adopted = user.run("adopt", "--adopt", before["id"], "--job", "a.job.json")
    assert (adopted["job"], adopted["resumed"], "warnings" in adopted) == ("a.job.json", True, False)
    assert user.names() == ["a.job.json", "a.jsonl"]
    after = user.job()
    kept = ("id", "base_url", "local", "window", "metadata")
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    for name in ("key", "file", "attempt", "state", "file_id", "batch_id"):
        assert after["batches"][0][name] == before["batches"][0][name]

    assert user.run("poll", "a.job.json", exit_code=6)["counts"] == {"total": 3, "completed": 2, "failed": 1}
    user.run("retry_failed", "a.job.json")
    finished(engine)
    fetched = user.run("fetch_results", "a.job.json")
    assert (fetched["complete"], fetched["counts"]["succeeded"]) == (True, 3)
    assert batch_count(engine) == 1 and [engine.upstream.count(text) for text in ("one", "two", "three")] == [1, 2, 1]
    assert user.run("submit", "a.jsonl")["resumed"] is True
    listed = user.run("list_batches")
    (row,) = listed["jobs"]
    assert (row["job"], row["id"], row["batches"], row["status"]) == ("a.job.json", before["id"], 1, "completed")
    assert (row["window"], row["requests"]) == ("1h", 3) and row["created_at"].endswith("Z")
    assert "lost" not in listed["batches"][0] and "hint" not in listed


def test_several_files_come_back_in_their_order(user: User, engine: RunningEngine) -> None:
    """One batch file each, numbered; results stand in the order of the first submission."""
    for number in (1, 2, 3):
        user.write(f"a-000{number}.jsonl", ["x", "y"], stem=f"f{number}")
    user.run("submit", "a-0001.jsonl", "a-0002.jsonl", "a-0003.jsonl")
    before = user.job()
    finished(engine)
    user.lose()
    user.run("adopt", "--adopt", before["id"], "--job", "b.job.json")
    assert user.names() == ["b-0001.jsonl", "b-0002.jsonl", "b-0003.jsonl", "b.job.json"]
    after = user.job("b.job.json")
    assert [one["batch_id"] for one in after["batches"]] == [one["batch_id"] for one in before["batches"]]
    user.run("fetch_results", "b.job.json", "--output", "x.jsonl")
    rows = [json.loads(line)["custom_id"] for line in (user.folder / "x.jsonl").read_text().splitlines()]
    assert rows == ["f1-1", "f1-2", "f2-1", "f2-2", "f3-1", "f3-2"]


def test_the_own_batch_file_is_used_where_it_asks_the_same(user: User, engine: RunningEngine) -> None:
    """It keeps its bytes, and the job file stands beside it; the server's copy has its keys sorted."""
    path = user.write("a.jsonl", ["one", "two"])
    user.run("submit", "a.jsonl")
    before, content = user.job(), path.read_bytes()
    user.lose("a.jsonl")
    adopted = user.run("adopt", "a.jsonl", "--adopt", before["id"])
    assert adopted["job"] == "a.job.json" and user.names() == ["a.job.json", "a.jsonl"]
    assert path.read_bytes() == content
    assert user.job()["files"] == before["files"]
    assert user.run("submit", "a.jsonl")["resumed"] is True
    assert batch_count(engine) == 1


def test_an_edited_batch_file_is_not_taken_for_the_old_one(user: User, engine: RunningEngine) -> None:
    """Nor replaced: of the same size and name, it is refused; under another job name it stays out of the way."""
    path = user.write("a.jsonl", ["one", "two"])
    user.run("submit", "a.jsonl")
    job_id = user.job()["id"]
    path.write_text(path.read_text().replace("two", "six"))
    edited = path.read_bytes()
    user.lose("a.jsonl")
    refused = user.run("adopt", "a.jsonl", "--adopt", job_id, exit_code=2)
    assert refused["error"]["code"] == "batch_file_changed" and "--job" in refused["error"]["hint"]
    assert user.names() == ["a.jsonl"]
    adopted = user.run("adopt", "a.jsonl", "--adopt", job_id, "--job", "b.job.json")
    assert "a.jsonl is the file of no batch" in adopted["warnings"][0]
    assert user.names() == ["a.jsonl", "b.job.json", "b.jsonl"] and path.read_bytes() == edited
    assert batch_count(engine) == 1


def test_later_attempts_are_told_by_what_they_ask(
    user: User, engine: RunningEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the file on the server is called: a batch that asks a row again is the second attempt of its file."""

    def refuse(self: Api, batch_id: str) -> None:
        raise ApiError(404, "this server has no retry")

    monkeypatch.setattr(Api, "retry", refuse)
    engine.upstream.fail("two", 409, times=1)
    user.write("a" * 70 + ".jsonl", ["one", "two"])
    user.run("submit", "a" * 70 + ".jsonl", "--job", "a.job.json")
    finished(engine)
    user.run("retry_failed", "a.job.json")
    finished(engine)
    before = user.job()
    assert [one["attempt"] for one in before["batches"]] == [1, 2]
    user.lose()
    user.run("adopt", "--adopt", before["id"], "--job", "a.job.json")
    assert user.names() == ["a.attempt-2.jsonl", "a.job.json", "a.jsonl"]
    after = user.job()
    told = ("key", "file", "attempt", "batch_id", "file_id")
    assert [[one[name] for name in told] for one in after["batches"]] == [
        [one[name] for name in told] for one in before["batches"]
    ]
    assert len(after["files"]) == 1
    fetched = user.run("fetch_results", "a.job.json")
    assert fetched["counts"] == {"total": 2, "succeeded": 2, "failed": 0, "missing": 0}


def test_what_an_attempt_left_out_is_open_in_the_adopted_job_too(
    user: User, engine: RunningEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cut answer was asked again, a failed request was not: poll says so, and a retry asks that one alone."""

    def refuse(self: Api, batch_id: str) -> None:
        raise ApiError(404, "this server has no retry")

    monkeypatch.setattr(Api, "retry", refuse)
    cut = {"index": 0, "message": {"role": "assistant", "content": "cut o"}, "finish_reason": "length"}
    engine.upstream.fail("one", 200, json.dumps({"model": "test-chat", "choices": [cut]}), times=1)
    engine.upstream.fail("two", 409, times=1)
    user.write("a.jsonl", ["one", "two", "three"])
    user.run("submit", "a.jsonl")
    finished(engine)
    user.run("retry_failed", "a.job.json", "--only", "truncated", "--note", "Please.")
    finished(engine)
    before = user.job()
    user.lose()
    assert "warnings" not in user.run("adopt", "--adopt", before["id"], "--job", "a.job.json")
    assert [one["left"] for one in user.job()["batches"]] == [one["left"] for one in before["batches"]] == [0, 1]
    assert user.run("poll", "a.job.json", exit_code=6)["counts"] == {"total": 3, "completed": 2, "failed": 1}
    user.run("retry_failed", "a.job.json")
    finished(engine)
    user.run("poll", "a.job.json")
    assert user.run("fetch_results", "a.job.json")["counts"]["succeeded"] == 3
    assert [engine.upstream.count(text) for text in ("one", "two", "three")] == [2, 1 + 1, 1]
    assert not any(name.startswith(".") for name in user.names())


def test_an_adopted_attempt_is_asked_as_it_was_asked_last(
    user: User, engine: RunningEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows any more what was changed in it, but the server's copy holds it."""
    monkeypatch.setattr(Api, "retry", lambda self, batch_id: (_ for _ in ()).throw(ApiError(404, "no retry")))
    engine.upstream.fail("two", 409, times=2)
    user.write("a.jsonl", ["one", "two"])
    user.run("submit", "a.jsonl")
    finished(engine)
    user.run("retry_failed", "a.job.json", "--only", "failed", "--note", "Please.")
    finished(engine)
    job_id = user.job()["id"]
    user.lose()
    user.run("adopt", "--adopt", job_id, "--job", "a.job.json")
    user.run("retry_failed", "a.job.json")
    finished(engine)
    asked = [json.dumps(call) for call in engine.upstream.calls if "two" in json.dumps(call)]
    assert ["Please." in one for one in asked] == [False, True, True]


def test_what_was_never_asked_is_said(user: User, engine: RunningEngine) -> None:
    """A batch file between others that has no batch, and one that the user names."""
    for number in (1, 2, 3):
        user.write(f"a-000{number}.jsonl", ["x"], stem=f"f{number}")
    user.run("submit", "a-0001.jsonl", "a-0002.jsonl", "a-0003.jsonl")
    before = user.job()
    finished(engine)
    engine.call("DELETE", f"/batches/{before['batches'][1]['batch_id']}")
    user.lose("a-0002.jsonl")
    adopted = user.run("adopt", "a-0002.jsonl", "--adopt", before["id"], "--job", "b.job.json")
    assert len(adopted["batches"]) == 2
    assert any("a-0002.jsonl is the file of no batch" in one for one in adopted["warnings"])
    assert any("0002" in one and "no batch was found" in one for one in adopted["warnings"])


def test_a_batch_whose_input_file_is_gone_is_left_out_and_named(user: User, engine: RunningEngine) -> None:
    """Its requests cannot be told; with no other batch nothing is adopted and nothing is written."""
    user.write("a.jsonl", ["one"])
    user.run("submit", "a.jsonl")
    before = user.job()
    finished(engine)
    engine.call("DELETE", f"/files/{before['batches'][0]['file_id']}")
    user.lose()
    refused = user.run("adopt", "--adopt", before["id"], exit_code=4)
    assert before["batches"][0]["batch_id"] in refused["error"]["hint"]
    assert user.names() == []


def test_adopting_again_changes_nothing(user: User, engine: RunningEngine) -> None:
    """The job file is the same job: it is reported, not written; files that a cut-off run left are taken."""
    user.write("a.jsonl", ["one"])
    user.run("submit", "a.jsonl")
    finished(engine)
    job_id = user.job()["id"]
    user.lose()
    first = user.run("adopt", "--adopt", job_id, "--job", "a.job.json")
    content = (user.folder / "a.job.json").read_bytes()
    assert user.run("adopt", "--adopt", job_id, "--job", "a.job.json") == first
    assert (user.folder / "a.job.json").read_bytes() == content
    (user.folder / "a.job.json").unlink()
    assert user.run("adopt", "--adopt", job_id, "--job", "a.job.json") == first
    assert (user.folder / "a.job.json").read_bytes() == content


def test_the_file_of_another_job_is_left_alone(user: User, engine: RunningEngine) -> None:
    """Also a damaged one: it may be the only trace of something paid."""
    for name in ("a", "b"):
        user.write(f"{name}.jsonl", ["one"])
        user.run("submit", f"{name}.jsonl")
    other = user.job("b.job.json")["id"]
    before = {path: path.read_bytes() for path in user.folder.iterdir()}
    refused = user.run("adopt", "--adopt", other, "--job", "a.job.json", exit_code=2)
    assert refused["error"]["code"] == "other_files"
    assert {path: path.read_bytes() for path in user.folder.iterdir()} == before
    (user.folder / "a.job.json").write_text("{")
    assert user.run("adopt", "--adopt", other, "--job", "a.job.json", exit_code=2)["error"]["code"] == "job_damaged"


def test_a_file_in_the_way_is_not_replaced(user: User, engine: RunningEngine) -> None:
    """Nothing is left behind either."""
    user.write("a.jsonl", ["one"])
    user.run("submit", "a.jsonl")
    job_id = user.job()["id"]
    (user.folder / "a.job.json").unlink()
    (user.folder / "a.jsonl").write_text("notes\n")
    refused = user.run("adopt", "--adopt", job_id, "--job", "a.job.json", exit_code=2)
    assert refused["error"]["code"] == "output_exists"
    assert user.names() == ["a.jsonl"] and (user.folder / "a.jsonl").read_text() == "notes\n"


def test_names_on_the_server_lead_nowhere(user: User, engine: RunningEngine) -> None:
    """A file name or a job id that is a path is only text."""
    job_id, key = "a" * 32, "b" * 32
    line = json.dumps(request("x", "hello")) + "\n"
    files = {"file": (f"../../escape-{key}.jsonl", line), "purpose": (None, "batch")}
    file_id = engine.call("POST", "/files", files=files).json()["id"]
    asked = {"input_file_id": file_id, "endpoint": CHAT, "completion_window": "24h"}
    for name in (job_id, "../../elsewhere"):
        metadata = {"doubleword_job": name, "doubleword_batch_key": key, "request_source": "x", "a": "../b"}
        engine.call("POST", "/batches", json={**asked, "metadata": metadata})
    adopted = user.run("adopt", "--adopt", job_id)
    assert adopted["job"] == "adopted-aaaaaaaa.job.json"
    assert "a new, paid job" in adopted["warnings"][0]
    assert user.names() == ["adopted-aaaaaaaa.job.json", "adopted-aaaaaaaa.jsonl"]
    assert sorted(path.name for path in user.folder.parent.iterdir()) == ["a folder"]
    assert user.job(adopted["job"])["metadata"] == {"a": "../b"}
    refused = user.run("adopt", "--adopt", "../../elsewhere", exit_code=2)
    assert refused["error"]["code"] == "bad_arguments"


@pytest.mark.parametrize(
    ("args", "code", "error"),
    [
        (["--adopt", "c" * 32], 4, "no_batch"),
        (["--adopt", ""], 2, "bad_arguments"),
        (["--adopt", "c" * 32, "--dry-run"], 2, "bad_arguments"),
        (["--adopt", "c" * 32, "--window", "1h"], 2, "bad_arguments"),
        (["--adopt", "c" * 32, "--job", "x.json"], 2, "bad_job_name"),
        (["--adopt", "c" * 32, "--job", "no/x.job.json"], 2, "no_folder"),
        (["--adopt", "c" * 32, "gone.jsonl"], 2, "no_file"),
        (["--adopt", "c" * 32, "--local"], 4, "no_job"),
    ],
)
def test_what_cannot_be_adopted_leaves_nothing(user: User, args: list[str], code: int, error: str) -> None:
    """An unknown job, flags that have no place, names that lead nowhere."""
    assert user.run("adopt", *args, exit_code=code)["error"]["code"] == error
    assert user.names() == []


def test_submit_without_a_file_says_so(user: User) -> None:
    """Only --adopt needs none."""
    assert user.run("submit", exit_code=2)["error"]["code"] == "bad_arguments"


def test_a_copy_that_comes_short_is_not_adopted(
    user: User, engine: RunningEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body may end early without a word; what is missing then would never be missed."""
    user.write("a.jsonl", ["one", "two"])
    user.run("submit", "a.jsonl")
    job_id = user.job()["id"]
    user.lose()
    content = Api.content

    def short(api: Api, file_id: str) -> Iterator[bytes]:
        whole = b"".join(content(api, file_id))
        yield whole[: whole.index(b"\n")]

    monkeypatch.setattr(Api, "content", short)
    refused = user.run("adopt", "--adopt", job_id, exit_code=5)
    assert "1 of 2 requests" in refused["error"]["message"] and user.names() == []


def test_job_files_of_a_folder_are_listed_whatever_state_they_are_in(user: User, engine: RunningEngine) -> None:
    """Damaged ones, and those of other servers, are told from what runs here; the newest come first."""
    for name in ("a", "b"):
        user.write(f"{name}.jsonl", ["one"])
        user.run("submit", f"{name}.jsonl")
    finished(engine)
    folder = user.folder / "more"
    folder.mkdir()
    shutil.copy(user.folder / "a.job.json", folder / "a.job.json")
    for name, change in (("there", {"base_url": "https://example.org/v1"}), ("here", {"base_url": None, "local": "x"})):
        text = json.dumps({**user.job("b.job.json"), **change, "id": f"{name[0]}" * 32, "created_at": 5.0})
        (folder / f"{name}.job.json").write_text(text)
    (folder / "bad.job.json").write_text("{")
    os.mkfifo(folder / "pipe.job.json")
    listed = user.run("list_batches", "--folder", "more")
    assert {one["job"]: one["status"] for one in listed["jobs"]} == {
        "more/a.job.json": "completed",
        "more/there.job.json": "elsewhere",
        "more/here.job.json": "elsewhere",
        "more/bad.job.json": "damaged",
        "more/pipe.job.json": "damaged",
    }
    assert [one.get("lost", False) for one in listed["batches"]] == [True, False]
    assert user.run("list_batches", "--folder", "nowhere", exit_code=2)["error"]["code"] == "no_folder"


def test_a_list_tells_names_and_times_and_the_whole_command(user: User, engine: RunningEngine) -> None:
    """Of a job whose batch file is still there; as it is named, it adopts the job with that very file."""
    user.write("reviews.jsonl", ["one"])
    user.run("submit", "reviews.jsonl")
    finished(engine)
    (user.folder / "reviews.job.json").unlink()
    listed = user.run("list_batches")
    (batch,) = listed["batches"]
    assert batch["file"] == "reviews.jsonl" and re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", batch["created_at"])
    command = f"submit.py reviews.jsonl --adopt {batch['job']} --job reviews.job.json"
    assert batch["adopt"].endswith(command) and command in listed["hint"]
    assert user.run("adopt", *command.split()[1:])["job"] == "reviews.job.json"
    assert user.names() == ["reviews.job.json", "reviews.jsonl"]


def test_an_attempt_that_still_stands_beside_its_batch_file_is_taken(user: User, engine: RunningEngine) -> None:
    """The job's own file, written before the job file was lost: used where it asks the same, else in the way."""
    engine.upstream.fail("two", 409, times=1)
    user.write("t.jsonl", ["one", "two"])
    job_id = user.run("submit", "t.jsonl")["batches"] and user.job("t.job.json")["id"]
    finished(engine)
    user.run("retry_failed", "t.job.json", "--only", "failed", "--model", "test-chat")
    finished(engine)
    (user.folder / "t.job.json").unlink()
    attempt = user.folder / "t.attempt-2.jsonl"
    whole = attempt.read_bytes()
    attempt.write_bytes(whole.replace(b"two", b"2"))
    assert user.run("adopt", "t.jsonl", "--adopt", job_id, exit_code=2)["error"]["code"] == "output_exists"
    attempt.write_bytes(whole)
    adopted = user.run("adopt", "t.jsonl", "--adopt", job_id)
    assert (len(adopted["batches"]), attempt.read_bytes()) == (2, whole)
    assert user.run("fetch_results", "t.job.json")["counts"]["succeeded"] == 2
