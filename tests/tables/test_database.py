"""DuckDB under every table: what it lacks, what it says, and that it stops when it is told to."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from tests.door import SCRIPTS

from doubleword.failure import Exit, Failure
from doubleword.tables.database import DISK_ERRORS, Database

LONG_ROWS = "SELECT repeat('x', 2000) || range AS cell, hash(range) AS place FROM range(40000)"


def bad(said: str) -> Failure:
    return Failure(Exit.BAD_INPUT, "bad", said)


def test_a_sort_that_does_not_fit_is_done_again_with_what_there_is(tmp_path: Path) -> None:
    """Of the memory that a table may take, first slower, then with all of it."""
    with Database(tmp_path) as target:
        for limit in (100, 20):
            target.allow(limit)
            target.copy(f"SELECT cell FROM ({LONG_ROWS}) ORDER BY place", tmp_path / "t.csv", "FORMAT csv", bad)
            assert (tmp_path / "t.csv").stat().st_size > 40_000 * 2000


def test_what_is_wrong_with_a_statement_is_told_in_one_sentence(tmp_path: Path) -> None:
    """As a failure of whoever wrote it; a query that is read block by block no less."""
    with Database(tmp_path) as target:
        for work in (target.run, lambda sql, refused: list(target.blocks(sql, refused))):
            with pytest.raises(Failure) as failure:
                work("SELECT no_such_column", bad)
            assert "no_such_column" in failure.value.message and "\n" not in failure.value.message
            with pytest.raises(Failure, match="too late"):
                work("SELECT CASE WHEN range < 9000 THEN range ELSE error('too late') END FROM range(10000)", bad)


@pytest.mark.parametrize("number", DISK_ERRORS)
def test_a_disk_that_fails_is_no_fault_of_a_table(tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What DuckDB says of the disk is the error of the disk, which another run may not meet."""
    with Database(tmp_path) as target:

        def fail() -> list[tuple[object, ...]]:
            raise duckdb.IOException(f'Could not write file "x": {os.strerror(number)}')

        with pytest.raises(OSError, match=os.strerror(number)) as failure:
            target._patiently(fail, bad)
        assert failure.value.errno == number

        def full() -> list[tuple[object, ...]]:
            raise duckdb.OutOfMemoryException("failed to offload data block (max_temp_directory_size)")

        with pytest.raises(Failure) as memory:
            target._patiently(full, bad)
        assert (memory.value.exit_code, memory.value.code) == (Exit.UNREACHABLE, "no_memory")
    assert errno.ENOSPC in DISK_ERRORS


ENDLESS = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path.insert(0, SCRIPTS)
from pathlib import Path
from doubleword import cli
from doubleword.system import Disk
from doubleword.tables.database import Database

def work(args):
    with Disk().work_folder(Path("work")) as folder, Database(folder) as target:
        sql = "SELECT hash(a.range) AS h, a.range FROM range(1000000) AS a, range(1000000)"
        print("begun", file=sys.stderr, flush=True)
        WORK
    return {}

cli.run(cli.Parser("", ""), work)
"""
WORKS = {
    "a file": "target.copy(sql, folder / 'x.csv', 'FORMAT csv', None)",
    "a statement": "target.run(f'SELECT sum(h) FROM ({sql})')",
    "blocks": "list(target.blocks(f'SELECT sum(h) FROM ({sql})'))",
}


@pytest.mark.skipif(sys.platform == "win32", reason="signals are those of POSIX")
@pytest.mark.parametrize("work", WORKS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_query_at_once(tmp_path: Path, work: str, number: signal.Signals) -> None:
    """One that would go on for hours: exit 7, as for any other work, and nothing is left."""
    code = ENDLESS.replace("SCRIPTS", repr(str(SCRIPTS))).replace("WORK", WORKS[work])
    words = [sys.executable, "-c", code]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, cwd=tmp_path, text=True, stdout=pipe, stderr=pipe) as process:
        assert process.stderr is not None
        while (line := process.stderr.readline()) and line != "begun\n":
            pass
        process.send_signal(number)
        try:
            said, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 7 and '"interrupted"' in said
    assert list(tmp_path.iterdir()) == []
