"""Work in a second process: its result, its failure, and its end with the block or with the process that began it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.engine_process import wait_until

from doubleword.system import Disk

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system splits no process off")

RESULTS = """
from doubleword.system import Disk
def fails(): raise ValueError("no")
with Disk().beside(lambda: [1, "two", b"three", (4.0, None)]) as told, Disk().beside(fails) as failed:
    print([told(), failed()])
with Disk().beside(lambda: __import__("time").sleep(600)) as told:
    pass
print("left")
"""
HOLDING = """
import os, sys, time
from pathlib import Path
from doubleword.system import Disk
def work():
    Path(sys.argv[2]).write_text(str(os.getpid()))
    time.sleep(600)
disk = Disk()
with disk.lock(Path(sys.argv[1])), disk.beside(work) as told:
    told()
"""


def started(code: str, *words: str | Path) -> subprocess.Popen[str]:
    """A Python process that runs `code`."""
    env = {**os.environ, "PYTHONPATH": str(ROOT / "scripts")}
    return subprocess.Popen([sys.executable, "-c", code, *map(str, words)], env=env, stdout=subprocess.PIPE, text=True)


def test_what_it_returns_is_told_and_leaving_the_block_ends_it() -> None:
    """Plain values as they are, None for a failure, and no waiting for what is not wanted any more."""
    with started(RESULTS) as process:
        told, _ = process.communicate(timeout=60)
    assert told.splitlines() == ["[[1, 'two', b'three', (4.0, None)], None]", "left"]


def test_a_lock_ends_with_the_process_that_holds_it(tmp_path: Path) -> None:
    """It is killed; the process that it split off still works, and holds nothing."""
    lock, working = tmp_path / "lock", tmp_path / "working"
    with started(HOLDING, lock, working) as process:
        wait_until(lambda: working.exists() and working.read_text(), "the work to begin")
        with pytest.raises(BlockingIOError), Disk().lock(lock):
            pass
        process.kill()
        process.wait()
    child = int(working.read_text())
    try:
        os.kill(child, 0)
        with Disk().lock(lock):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
