"""Killed at every write, fsync, rename and call, and run again: one batch for each file, identical results."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.clock import Clocked
from tests.engine_process import KEY, RunningEngine, wait_until
from tests.faults.crash_driver import Driver, End, driver
from tests.faults.gate import Gate
from tests.faults.moods import OpenAi
from tests.faults.rooms import Desk, another_job, batch_count, finished

MOST_EVENTS = 400


@pytest.fixture(scope="module")
def crasher() -> Iterator[Driver]:
    with driver() as running:
        yield running


@dataclass
class Crash:
    """One script, killed at one event after another."""

    crasher: Driver
    gate: Gate
    clock: Clocked

    def run(self, desk: Desk, kill_at: int, script: str, *args: str) -> End:
        """Run it to the kill, or to its end where it has fewer events; then until the server did what it was asked."""
        env = {"DOUBLEWORD_API_KEY": KEY, "DOUBLEWORD_BASE_URL": self.gate.base_url}
        end = self.crasher.run(desk.folder, env, self.clock.now(), kill_at, script, args)
        wait_until(lambda: self.gate.idle, "the killed process's requests to be served")
        return end


@pytest.fixture
def crash(crasher: Driver, gate: Gate, clock: Clocked) -> Crash:
    return Crash(crasher, gate, clock)


def fresh(desk: Desk, number: int) -> Desk:
    """A desk with a folder of its own."""
    folder = desk.folder / f"kill-{number}"
    folder.mkdir()
    return Desk(folder, desk.base_url, desk.system)


def test_submit_killed_anywhere_makes_one_batch_for_each_file(desk: Desk, crash: Crash, engine: RunningEngine) -> None:
    """Two files; the second run goes on, and every request is asked once."""
    killed: list[str] = []
    for number in range(1, MOST_EVENTS):
        own = fresh(desk, number)
        before, asked = batch_count(engine), engine.upstream.count()
        own.batch_file("a-0001.jsonl", [f"{number} one", f"{number} two"], stem="x")
        own.batch_file("a-0002.jsonl", [f"{number} three"], stem="y")
        end = crash.run(own, number, "submit", "a-0001.jsonl", "a-0002.jsonl")
        if not end.killed:
            break
        killed.append(end.events[-1])
        again = own.run("submit", "a-0001.jsonl", "a-0002.jsonl")
        assert again.code == 0, (number, end.events, again)
        assert batch_count(engine) - before == 2, (number, end.events)
        assert [name for name in own.names() if name.startswith(".")] == [], (number, end.events)
        finished(engine)
        assert engine.upstream.count() - asked == 3, (number, end.events)
    assert (end.killed, end.code) == (False, 0)
    assert {"call", "block of an upload", "sync", "write .a.job.json.part", "replace a.job.json"} <= set(killed)


def test_an_update_killed_on_the_way_asks_what_is_new_once(desk: Desk, crash: Crash, engine: RunningEngine) -> None:
    """One row is new, one gone, and two of the new rows are equal: the second run goes on, and the table is whole."""
    killed: list[str] = []
    ask = ["--input", "t.csv", "--model", "test-chat", "--prompt", "What of {text}?", "--dedupe", "--update"]
    for number in range(1, MOST_EVENTS, 7):
        own = fresh(desk, number)
        (own.folder / "t.csv").write_text(f"text\n{number} one\n{number} two\n")
        assert own.run("run_batch", "o.csv", *ask).code == 0
        (own.folder / "t.csv").write_text(f"text\n{number} new\n{number} two\n{number} new\n")
        end = crash.run(own, number, "run_batch", "o.csv", *ask)
        killed += end.events[-1:] if end.killed else []
        again = own.run("run_batch", "o.csv", *ask, "--force")
        assert (again.code, again.json["requests"], again.json["shared"]) == (0, 2, 1), (number, end.events, again)
        told = {name: again.json["update"][name] for name in ("kept", "asked", "gone")}
        assert told == {"kept": 1, "asked": 2, "gone": 1}, (number, end.events)
        asked = [engine.upstream.count(f"{number} {text}?") for text in ("one", "two", "new")]
        assert asked == [1, 1, 1], (number, end.events)
        answers = [line.split(",")[3] for line in (own.folder / "o.csv").read_text().splitlines()[1:]]
        assert answers == [f"answer to: What of {number} {text}?" for text in ("new", "two", "new")]
        assert [name for name in own.names() if name.startswith(".")] == [], (number, end.events)
        if not end.killed:
            break
    assert (end.killed, end.code) == (False, 0)
    assert {"call", "block of an upload"} & set(killed)


@pytest.mark.parametrize("new", [["new"], []], ids=["some", "none"])
def test_a_job_that_reuses_killed_on_the_way_asks_what_is_left_once(
    desk: Desk, crash: Crash, engine: RunningEngine, new: list[str]
) -> None:
    """Between the answers, the row map, the batch file and the job: the second run goes on, and the table is whole,
    also where the earlier job is lost once there is one of its own.
    """
    killed: list[str] = []
    ask = ["--input", "t.csv", "--model", "test-chat", "--prompt", "What of {text}?"]
    for number in range(1, MOST_EVENTS, 5):
        own = fresh(desk, number)
        (own.folder / "t.csv").write_text(f"text\n{number} one\n{number} two\n")
        assert own.run("run_batch", "first.csv", *ask).code == 0
        texts = ["two", *new, "one"]
        (own.folder / "t.csv").write_text("".join(["text\n", *(f"{number} {text}\n" for text in texts)]))
        reuse = ["--reuse", "first.requests.job.json"]
        end = crash.run(own, number, "run_batch", "o.csv", *ask, *reuse)
        killed += end.events[-1:] if end.killed else []
        if (own.folder / "o.requests.job.json").exists():
            (own.folder / "first.requests.job.json").unlink()
        again = own.run("run_batch", "o.csv", *ask, *reuse)
        assert (again.code, again.json["requests"], again.json["reused"]) == (0, len(new), 2), (number, end.events)
        asked = [engine.upstream.count(f"{number} {text}?") for text in texts]
        assert asked == [1] * len(texts), (number, end.events)
        rows = [line.split(",") for line in (own.folder / "o.csv").read_text().splitlines()[1:]]
        assert [row[3] for row in rows] == [f"answer to: What of {number} {text}?" for text in texts]
        assert [bool(row[-1]) for row in rows] == [text != "new" for text in texts]
        left = {name for name in own.names() if name.startswith(".")}
        assert left <= {".o.requests.jsonl.lock", ".o.requests.jsonl.work"}, (number, end.events)
        if not end.killed:
            break
    assert (end.killed, end.code) == (False, 0)
    assert any("rows.tsv" in one or "reused.jsonl" in one for one in killed), killed


def test_retry_killed_anywhere_asks_what_failed_once(desk: Desk, crash: Crash, engine: RunningEngine) -> None:
    """By the server's own retry: what failed is asked once more, what succeeded never."""
    killed: list[str] = []
    shapes: set[str] = set()
    for number in range(1, MOST_EVENTS):
        own = fresh(desk, number)
        texts = [f"{number} one", f"{number} two"]
        engine.upstream.fail(texts[1], 409, times=1)
        own.batch_file("a.jsonl", texts)
        assert own.run("submit", "a.jsonl").code == 0
        finished(engine)
        before = batch_count(engine)
        end = crash.run(own, number, "retry_failed", "a.job.json")
        finished(engine)
        if not end.killed:
            break
        killed.append(end.events[-1])
        again = own.run("retry_failed", "a.job.json")
        assert again.code == 0, (number, end.events, again)
        finished(engine)
        assert [engine.upstream.count(text) for text in texts] == [1, 2], (number, end.events)
        assert batch_count(engine) == before, (number, end.events)
        shapes.add(_shape(own))
    assert (end.killed, end.code) == (False, 0)
    assert {"call", "sync", "write .a.job.json.part", "replace a.job.json"} <= set(killed)
    _same_end(own, shapes)


@pytest.mark.parametrize("change", [[], ["--only", "failed", "--model", "test-chat"]], ids=["as it was", "changed"])
def test_a_retry_by_a_new_batch_killed_anywhere_makes_one(
    desk: Desk, crash: Crash, gate: Gate, engine: RunningEngine, change: list[str]
) -> None:
    """Where the server has no retry, or cannot make the change, what is owed becomes one batch file and one batch."""
    if not change:
        gate.server = OpenAi(gate).reply
    engine.upstream.fail("two", 409, times=1)
    desk.batch_file("a.jsonl", ["one", "two"])
    assert desk.run("submit", "a.jsonl").code == 0
    finished(engine)
    killed: list[str] = []
    shapes: set[str] = set()
    for number in range(1, MOST_EVENTS):
        own = fresh(desk, number)
        _copy(desk, own, [])
        another_job(own, number)
        end = crash.run(own, number, "retry_failed", "a.job.json", *change)
        finished(engine)
        if not end.killed:
            break
        killed.append(end.events[-1])
        again = own.run("retry_failed", "a.job.json", *change)
        assert again.code == 0, (number, end.events, again)
        finished(engine)
        assert (engine.upstream.count("two"), batch_count(engine)) == (1 + number, 1 + number), (number, end.events)
        shapes.add(_shape(own))
    assert (end.killed, end.code, engine.upstream.count("one")) == (False, 0, 1)
    assert {"call", "block of an upload", "write .a.attempt-2.jsonl.part", "replace a.attempt-2.jsonl"} <= set(killed)
    _same_end(own, shapes)


def _same_end(own: Desk, shapes: set[str]) -> None:
    """Every kill led to the job that no kill led to, and that job has every answer."""
    assert shapes == {_shape(own)}
    assert own.run("fetch_results", "a.job.json", "--output", "x.jsonl").code == 0
    answers = own.rows("x.jsonl").values()
    assert [answer.split()[-1] for answer in answers] == ["one", "two"]


def _shape(desk: Desk) -> str:
    """What a job file holds, but for what is drawn by lot or by the clock."""
    batches = desk.job()["batches"]
    kept = [(one["file"], one["attempt"], one["state"], one["input"]["path"], len(one["retries"])) for one in batches]
    return repr((kept, desk.names()))


@pytest.mark.parametrize("options", [[], ["--force"]], ids=["new", "over an older output"])
@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_fetch_killed_anywhere_gives_identical_results(
    desk: Desk, crash: Crash, engine: RunningEngine, form: str, options: list[str]
) -> None:
    """The output is the old one, none, or the whole new one; run again, it is byte for byte what it always was."""
    engine.upstream.fail("two", 400)
    desk.batch_file("a.jsonl", ["one", "two", "three"])
    assert desk.run("submit", "a.jsonl").code == 0
    finished(engine)
    words = ["fetch_results", "a.job.json", "--format", form, "--output", "x.out", *options]
    reference = fresh(desk, 0)
    _copy(desk, reference, options)
    assert reference.run(*words).code == 6
    whole = {name: (reference.folder / name).read_bytes() for name in ("x.out", "x.errors.jsonl")}
    allowed = {b"older", None, whole["x.out"]}
    killed: list[str] = []
    for number in range(1, MOST_EVENTS):
        own = fresh(desk, number)
        _copy(desk, own, options)
        end = crash.run(own, number, *words)
        if not end.killed:
            break
        killed.append(end.events[-1])
        output = own.folder / "x.out"
        assert (output.read_bytes() if output.exists() else None) in allowed, (number, end.events)
        again = own.run(*words)
        assert again.code == 6 and again.json["complete"] is True, (number, end.events, again)
        assert {name: (own.folder / name).read_bytes() for name in whole} == whole, (number, end.events)
        assert own.names() == sorted(["a.job.json", "a.jsonl", *whole]), (number, end.events)
    assert (end.killed, end.code) == (False, 6)
    assert {"call", "sync", "write .x.out.part", "replace a.job.json"} <= set(killed)


def _copy(desk: Desk, own: Desk, options: list[str]) -> None:
    for name in ("a.jsonl", "a.job.json"):
        shutil.copy(desk.folder / name, own.folder / name)
    if options:
        Path(own.folder / "x.out").write_bytes(b"older")
