"""A disk that fills up or may not be written: a clear error, never exit 1, and the last good file stays."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.engine_process import RunningEngine
from tests.faults.gate import Gate
from tests.faults.moods import OpenAi
from tests.faults.rooms import Desk, another_job, batch_count, finished
from tests.faults.seam import Seam

from doubleword.failure import Failure
from doubleword.jobs.job_file import JobFile
from doubleword.system import Disk

MOST_EVENTS = 400
NEEDS_SPACE = ("create", "write", "sync", "replace", "add", "lock")
ERRORS = {"full": errno.ENOSPC, "read-only": errno.EROFS, "not allowed": errno.EACCES, "over quota": errno.EDQUOT}


@dataclass
class Failing:
    """Raises `number` at the n-th event that needs the disk, and, when it `lasts`, at every one after it."""

    at: int
    number: int
    lasts: bool = True
    seen: int = 0
    events: list[str] = field(default_factory=list)

    def __call__(self, event: str) -> None:
        """Strike, or let it pass."""
        if not event.startswith(NEEDS_SPACE):
            return
        self.seen += 1
        if self.seen == self.at or (self.lasts and self.seen > self.at):
            self.events.append(event)
            raise OSError(self.number, os.strerror(self.number), event.partition(" ")[2] or None)


def fresh(desk: Desk, number: int) -> Desk:
    """A desk with a folder of its own."""
    folder = desk.folder / f"run-{number}"
    folder.mkdir()
    return Desk(folder, desk.base_url, desk.system)


def job_is_good(desk: Desk) -> bool:
    """Whether the job file is absent, or whole."""
    path = desk.folder / "a.job.json"
    try:
        return not path.exists() or bool(JobFile.load(path, Disk()).job.batches)
    except Failure:
        return False


def everywhere(
    desk: Desk,
    number: int,
    lasts: bool,
    prepare: Callable[[Desk, int], None],
    judge: Callable[[Desk], None],
    *words: str,
) -> list[str]:
    """Fail a script at each of its events in turn; after each, the same command again. Answers where it failed."""
    struck: list[str] = []
    for at in range(1, MOST_EVENTS):
        own = fresh(desk, at)
        prepare(own, at)
        kind, failing = type(own.system), Failing(at, number, lasts)
        good = own.system
        own.system = Seam(failing, good.now())
        result = own.run(*words)
        own.system = good
        assert kind is type(good)
        if not failing.events:
            break
        struck += failing.events[:1]
        assert (result.code, result.json["error"]["code"]) == (5, "disk"), (at, failing.events, result)
        assert os.strerror(number) in result.json["error"]["message"]
        assert result.json["error"]["hint"]
        assert job_is_good(own), (at, failing.events)
        assert not [name for name in own.names() if name.endswith(".part")], (at, failing.events)
        judge(own)
    assert len(struck) == at - 1 >= 5
    return struck


@pytest.mark.parametrize("error", ERRORS)
def test_submit_on_a_bad_disk_is_exit_5_and_pays_once(desk: Desk, engine: RunningEngine, error: str) -> None:
    """At whichever write it begins; run again with space, the file has one batch."""

    def prepare(own: Desk, at: int) -> None:
        own.batch_file("a.jsonl", [f"{error} {at}"])

    def judge(own: Desk) -> None:
        assert own.run("submit", "a.jsonl").code == 0
        finished(engine)
        assert batch_count(engine) == engine.upstream.count() == int(own.folder.name[4:])

    struck = everywhere(desk, ERRORS[error], True, prepare, judge, "submit", "a.jsonl")
    assert {"lock .a.job.json.lock", "create .a.job.json.part", "sync", "replace a.job.json"} <= set(struck)


def test_retry_on_a_bad_disk_is_exit_5_and_asks_once(desk: Desk, gate: Gate, engine: RunningEngine) -> None:
    """Where the attempt is a new batch file: what failed is asked once more, what succeeded never."""
    gate.server = OpenAi(gate).reply
    engine.upstream.fail("two", 409, times=1)
    desk.batch_file("a.jsonl", ["one", "two"])
    assert desk.run("submit", "a.jsonl").code == 0
    finished(engine)

    def prepare(own: Desk, at: int) -> None:
        for name in ("a.jsonl", "a.job.json"):
            (own.folder / name).write_bytes((desk.folder / name).read_bytes())
        another_job(own, at)

    def judge(own: Desk) -> None:
        assert own.run("retry_failed", "a.job.json").code == 0
        finished(engine)
        at = int(own.folder.name[4:])
        assert (engine.upstream.count("one"), engine.upstream.count("two")) == (1, 1 + at)

    struck = everywhere(desk, errno.ENOSPC, True, prepare, judge, "retry_failed", "a.job.json")
    assert {"create .a.job.json.rows", "create .a.attempt-2.jsonl.part", "replace a.attempt-2.jsonl"} <= set(struck)


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize("lasts", [True, False], ids=["for good", "once"])
def test_fetch_on_a_bad_disk_is_exit_5_and_keeps_the_older_output(
    desk: Desk, engine: RunningEngine, form: str, lasts: bool
) -> None:
    """The older output is there byte for byte until the new one is whole; then everything as if nothing had been."""
    engine.upstream.fail("two", 400)
    desk.batch_file("a.jsonl", ["one", "two"])
    desk.run("submit", "a.jsonl")
    finished(engine)
    job = {name: (desk.folder / name).read_bytes() for name in ("a.jsonl", "a.job.json")}
    words = ["fetch_results", "a.job.json", "--format", form, "--output", "x.out", "--force"]

    def prepare(own: Desk, _at: int) -> None:
        for name, content in {**job, "x.out": b"older"}.items():
            (own.folder / name).write_bytes(content)

    def judge(own: Desk) -> None:
        assert (own.folder / "x.out").read_bytes() == b"older"
        assert own.run(*words).code == 6
        assert own.names() == ["a.job.json", "a.jsonl", "x.errors.jsonl", "x.out"]

    struck = everywhere(desk, errno.ENOSPC, lasts, prepare, judge, *words)
    assert {"create .x.out.rows", "create .x.out.part", "sync", "replace x.out"} <= set(struck)


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_sent(desk: Desk, gate: Gate, clock: object) -> None:
    """Nothing reaches the server where the job could not be recorded."""
    desk.batch_file("a.jsonl", ["one"])
    desk.system = Seam(Failing(1, errno.EROFS), 1_800_000_000.0)
    result = desk.run("submit", "a.jsonl")
    assert (result.code, gate.log) == (5, [])
    assert "Read-only file system" in result.json["error"]["message"]
    assert desk.names() == ["a.jsonl"]


def test_a_batch_file_that_cannot_be_read_is_told(desk: Desk, gate: Gate) -> None:
    """No right to read it, a folder in its place, an error of the medium: exit 2 or 5, nothing sent."""

    class Unreadable(Disk):
        def open(self, path: Path) -> object:  # type: ignore[override]
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    desk.batch_file("a.jsonl", ["one"])
    desk.system.disk = Unreadable()
    try:
        result = desk.run("submit", "a.jsonl")
    finally:
        desk.system.disk = Disk()
    assert result.code in (2, 5) and gate.log == []
    (desk.folder / "b.jsonl").mkdir()
    assert desk.run("submit", "b.jsonl").code == 2
