"""DuckDB: the engine under every table.

Promises: one database is one process's and lives in memory and in a folder for what does not fit there; nothing is
installed or fetched for it; what it says of a user's file or query is told as a failure of that file or query.

Facts about DuckDB: https://duckdb.org/docs, "Configuration" and "CSV Import".
"""

from __future__ import annotations

import errno
import os
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from doubleword.failure import Exit, Failure, plain

MEMORY = "300MB"
ROWS_AT_ONCE = 2048
INTERRUPT_S = 0.05  # between two attempts
# What the disk may say while a table is written; a user's file was opened before DuckDB reads it.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG, errno.EACCES)

T = TypeVar("T")
Refusal = Callable[[str], Failure]


class Database:
    """A database whose temporary files stand in `folder`; closed at the end of the `with` block."""

    def __init__(self, folder: Path) -> None:
        import duckdb

        self.folder = folder
        self._names = 0
        self._error = duckdb.Error
        self._disk_error = duckdb.IOException
        self._memory_error = duckdb.OutOfMemoryException
        settings: dict[str, Any] = {
            "memory_limit": MEMORY,
            "temp_directory": str(folder / "spilled"),
            "autoinstall_known_extensions": "false",
        }
        self._connection = duckdb.connect(config=settings)
        self._beside = ThreadPoolExecutor(1)
        self._idle = threading.Event()
        self._idle.set()
        self._over = False
        self._connection.execute("SET TimeZone = 'UTC'")

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        self._beside.shutdown(wait=False, cancel_futures=True)
        while not self._idle.wait(INTERRUPT_S):
            self._connection.interrupt()
        self._connection.close()

    def allow(self, megabytes: int) -> None:
        """Let so much memory be used, for what needs it at once."""
        self._connection.execute(f"SET memory_limit = '{megabytes}MB'")

    def new_name(self, kind: str) -> str:
        """A name that nothing in the database has."""
        self._names += 1
        return f"{kind}_{self._names}"

    def new_path(self, kind: str) -> Path:
        """A path in the folder that no file has."""
        return self.folder / self.new_name(kind)

    def run(self, sql: str, refused: Refusal | None = None) -> list[tuple[Any, ...]]:
        """All rows of a statement. What DuckDB has against it is raised as `refused` makes it of one sentence.

        Raises OSError where the disk fails, Failure (5) where the memory does not suffice.
        """
        return self._patiently(lambda: self._connection.execute(sql).fetchall(), refused)

    def blocks(self, sql: str, refused: Refusal | None = None) -> Iterator[list[tuple[Any, ...]]]:
        """As `run`, some thousand rows at a time; a reading ends where another statement is run."""
        try:
            found = self._interruptibly(lambda: self._connection.execute(sql))
            while rows := self._interruptibly(lambda: found.fetchmany(ROWS_AT_ONCE)):
                yield rows
        except self._error as error:
            raise self._told(error, refused) from error

    def copy(self, query: str, path: Path, options: str, refused: Refusal) -> None:
        """Write what `query` gives to a file; raises as `run`."""
        self.run(f"COPY ({query}) TO {text(str(path))} ({options})", refused)

    def _patiently(self, work: Callable[[], list[tuple[Any, ...]]], refused: Refusal | None) -> list[tuple[Any, ...]]:
        """Do `work`. To sort long rows may take more memory than usual: then again, slower, and with all there is."""
        for setting in ("SET threads = 1", "RESET memory_limit", None):
            try:
                return self._interruptibly(work)
            except self._error as error:
                if setting is None or not isinstance(error, self._memory_error):
                    raise self._told(error, refused) from error
            self._connection.execute(setting)
        raise AssertionError("the last attempt returns or raises")

    def _interruptibly(self, work: Callable[[], T]) -> T:
        """Do `work` beside, as DuckDB hears no signal while it works; `__exit__` ends it where one came."""

        def doing() -> T:
            self._idle.clear()
            try:
                if self._over:
                    raise KeyboardInterrupt
                return work()
            finally:
                self._idle.set()

        return self._beside.submit(doing).result()

    def columns(self, query: str, refused: Refusal | None = None) -> list[tuple[str, str]]:
        """The names and DuckDB's types of what `query` gives."""
        return [(str(row[0]), str(row[1])) for row in self.run(f"DESCRIBE {query}", refused)]

    def is_one_select(self, sql: str) -> bool:
        """Whether `sql` is one statement, and one that only reads."""
        import duckdb

        try:
            found = self._connection.extract_statements(sql)
        except self._error:
            return True  # what is wrong with it, running it will tell
        return len(found) == 1 and found[0].type == duckdb.StatementType.SELECT

    def _told(self, error: Exception, refused: Refusal | None) -> Exception:
        said = str(error)
        if isinstance(error, self._memory_error):
            message = f"a table needs more memory than there is: {plain(said.partition(chr(10))[0], 120)}"
            hint = "end other programs, or split the table; then run the same command again"
            return Failure(Exit.UNREACHABLE, "no_memory", message, hint)
        if isinstance(error, self._disk_error):
            known = (number for number in DISK_ERRORS if os.strerror(number) in said)
            number = next(known, errno.ENOSPC if "max_temp_directory_size" in said else None)
            if number is not None:
                return OSError(number, os.strerror(number), str(self.folder))
        first = plain(said.partition("\n")[0].partition(": ")[2] or said, 240)
        return refused(first) if refused is not None else error


def name(identifier: str) -> str:
    """`identifier` as a name in SQL, whatever it holds."""
    return '"' + identifier.replace('"', '""') + '"'


def text(value: str) -> str:
    """`value` as a text in SQL."""
    return "'" + value.replace("'", "''") + "'"


def place(path: Path) -> str:
    """SQL of the one file at `path`, whatever its name holds: DuckDB takes `*` for others, and `~` for a home."""
    return text(re.sub(r"[*?[]", r"[\g<0>]", str(path.absolute())))
