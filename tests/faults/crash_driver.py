"""Runs scripts in children that kill themselves at a chosen event: `python -m tests.faults.crash_driver`.

A line of JSON on standard input is one run: script, args, folder, env, time, and `kill_at`, the number of the event
at which the child sends itself SIGKILL (null: never). A line of JSON on standard output is its end: the signal or
the exit code, the events it came past, and what the script printed. A child is forked from this process, which has
everything imported, so a run takes milliseconds; it must therefore stay without threads.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.door import SCRIPTS, call_door, environment
from tests.faults.rooms import ROOMS, Desk
from tests.faults.seam import Seam

ROOT = SCRIPTS.parent


@dataclass(frozen=True)
class End:
    """How a child ended: `killed` by itself, or with `code` and the script's JSON; `events` it announced."""

    killed: bool
    code: int
    events: list[str]
    json: dict[str, Any]


class Driver:
    """The handle of a driver process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(
        self, folder: Path, env: Mapping[str, str], time: float, kill_at: int | None, script: str, args: Sequence[str]
    ) -> End:
        """Run one script to its end, or to its event number `kill_at`, counted from 1."""
        asked = {"folder": str(folder), "env": dict(env), "time": time, "kill_at": kill_at}
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({**asked, "script": script, "args": list(args)}) + "\n")
        self._process.stdin.flush()
        return End(**json.loads(self._process.stdout.readline()))


@contextmanager
def driver() -> Iterator[Driver]:
    """A driver process, which ends with the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.crash_driver"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment({"PYTHONPATH": f"{ROOT / 'scripts'}{os.pathsep}{ROOT}"}),
    )
    with process:
        yield Driver(process)


def main() -> None:
    """Serve runs until standard input ends."""
    with tempfile.TemporaryDirectory() as folder:  # import and compile everything once, before the first child
        desk = Desk(Path(folder), "http://127.0.0.1:9/v1")
        desk.batch_file("a.jsonl", ["one"])
        for name, given in (("submit", "a.jsonl"), ("poll", "b1"), ("fetch_results", "b1")):
            desk.run(name, given)
    gc.freeze()  # a child then copies fewer pages of what it shares with this process
    for line in sys.stdin:
        sys.stdout.write(json.dumps(_run(json.loads(line))) + "\n")
        sys.stdout.flush()


def _run(asked: dict[str, Any]) -> dict[str, Any]:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            _work(asked, writing)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        lines = pipe.read().decode().splitlines()
    _, status = os.waitpid(child, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    end = json.loads(lines[-1]) if lines and not killed else {"code": -1, "json": {}}
    return {"killed": killed, "events": [json.loads(line) for line in lines if line.startswith('"')], **end}


def _work(asked: dict[str, Any], pipe: int) -> None:
    count = 0

    def strike(event: str) -> None:
        nonlocal count
        count += 1
        os.write(pipe, json.dumps(event).encode() + b"\n")
        if count == asked["kill_at"]:
            os.kill(os.getpid(), signal.SIGKILL)

    system = Seam(strike, asked["time"])
    room = ROOMS[asked["script"]]
    folder = Path(asked["folder"])
    result = call_door(
        asked["script"], *asked["args"], cwd=folder, env=asked["env"], work=lambda given: room(given, system)
    )
    os.write(pipe, json.dumps({"code": result.code, "json": result.json}).encode() + b"\n")


if __name__ == "__main__":
    main()
