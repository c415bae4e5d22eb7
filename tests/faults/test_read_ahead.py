"""A job of several large batch files: some are read by other processes while the rows of another are written."""

from __future__ import annotations

import contextlib
import csv
import json
import marshal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from benchmarks import inputs
from tests.clock import Clocked
from tests.door import run_door
from tests.engine_process import KEY, RunningEngine
from tests.faults.rooms import Desk, Unsynced, finished

from doubleword.pricing.bill import Usage
from doubleword.results import reconciliation as results
from doubleword.results.reading import FAILED, Block, Flawed, Reading
from doubleword.results.spool import Spool

ROOT = Path(__file__).resolve().parents[2]
ROWS = 6000


@contextlib.contextmanager
def line(folder: Path) -> Iterator[str]:
    """A server that has the results in `folder`, and its base URL."""
    command = [sys.executable, "-m", "benchmarks.line", str(folder), "0", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
        finally:
            server.kill()


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_two_processes_deliver_what_one_does(tmp_path: Path, form: str) -> None:
    """Three files by real processes: each answer with its own request, in the order of the input, no file left."""
    names = []
    for number in range(3):
        path = inputs.batch_file(tmp_path / f"a-{number + 1:04d}.jsonl", ROWS, 3, first=number * ROWS)
        inputs.results(path.with_name(f"{path.stem}.results.jsonl"), number * ROWS, ROWS, 4)
        names.append(path.name)
    assert results.WORTH_READING_AHEAD <= ROWS
    with line(tmp_path) as url:
        env = {"DOUBLEWORD_API_KEY": KEY, "DOUBLEWORD_BASE_URL": url}
        assert run_door("submit", *names, cwd=tmp_path, env=env).code == 0
        got = run_door("fetch_results", "a.job.json", "--format", form, "--output", f"o.{form}", cwd=tmp_path, env=env)
    assert (got.code, got.json["counts"]["succeeded"]) == (0, 3 * ROWS)
    asked = {
        one["custom_id"]: one["response"]["body"]["choices"][0]["message"]["content"]
        for path in sorted(tmp_path.glob("*.results.jsonl"))
        for one in map(json.loads, path.read_text().splitlines())
    }
    with (tmp_path / f"o.{form}").open(newline="", encoding="utf-8") as file:
        if form == "csv":
            told = [(row["custom_id"], row["answer"]) for row in csv.DictReader(file)]
        else:
            rows = map(json.loads, file)
            told = [(row["custom_id"], asked[row["custom_id"]]) for row in rows]
    assert told == [(f"row-{number:07d}", asked[f"row-{number:07d}"]) for number in range(1, 3 * ROWS + 1)]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


class Ahead(Unsynced):
    """A disk on which the second process is this one; with `lost` all that it would tell is lost."""

    def __init__(self, lost: bool) -> None:
        self.lost = lost
        self.begun = 0

    @contextlib.contextmanager
    def beside(self, work: Callable[[], Any]) -> Iterator[Callable[[], Any] | None]:
        self.begun += 1
        told = marshal.dumps(work())
        yield lambda: None if self.lost else marshal.loads(told)


@pytest.mark.parametrize("lost", [False, True])
def test_what_a_second_process_does_not_tell_is_read_again(
    tmp_path: Path, engine: RunningEngine, time_of_all: Clocked, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    """The same files come of it, failures among them."""
    monkeypatch.setattr(results, "WORTH_READING_AHEAD", 1)
    disk = Ahead(lost)
    clock = Clocked(disk)
    clock.time = time_of_all.time
    desk = Desk(tmp_path, engine.base_url, clock)
    engine.upstream.fail("three", 400, times=9)
    for number, texts in enumerate((["one", "two"], ["three", "four"], ["five"]), 1):
        desk.batch_file(f"a-{number:04d}.jsonl", texts, stem=f"f{number}")
    assert desk.run("submit", "a-0001.jsonl", "a-0002.jsonl", "a-0003.jsonl").code == 0
    finished(engine)
    got = desk.run("fetch_results", "a.job.json", "--output", "o.jsonl")
    assert (got.code, got.json["counts"]) == (6, {"total": 5, "succeeded": 4, "failed": 1, "missing": 0})
    assert list(desk.rows("o.jsonl")) == ["f1-1", "f1-2", "f2-2", "f3-1"]
    assert disk.begun >= 2


def test_all_that_was_found_is_told(tmp_path: Path) -> None:
    """Good rows, flawed and missing ones, what is no request's, what no line said, tokens, and where the rows stand."""
    blocks: list[Block] = [
        (["a", "b"], [7 << 32 | 3, None]),
        (["c"], [Flawed(FAILED, "HTTP 500: é\ud800", ("refused", "invalid"), 1 << 33)]),
        (["d"], [1 << 40]),
    ]
    spool = Spool(tmp_path / "spool", Unsynced())
    found = Reading(spool, {}, {}, False, 3, Usage({"m": [5, 6]}, 2), blocks, 4, 1 << 41, ["said"])
    again = Reading.of(marshal.loads(marshal.dumps(found.told())), spool)
    assert again == found
    assert isinstance(again.blocks[1][1][0], Flawed)
