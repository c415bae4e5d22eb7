"""The data folder: one SQLite file in WAL mode that holds files, batches, requests and their outcomes.

Promises: every change is one transaction that is on disk when it returns, so a kill or a power cut loses
nothing that was acknowledged; several processes and threads may share the folder; no lock is held while a
client sends or reads.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson

from doubleword.failure import Exit, Failure

VERSION = 1
BUSY_S = 60.0
SCHEMA = """
CREATE TABLE files (
    no INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, purpose TEXT, filename TEXT NOT NULL,
    bytes INTEGER NOT NULL, requests INTEGER NOT NULL, models TEXT NOT NULL,
    created_at REAL NOT NULL, expires_at INTEGER, deleted_at REAL, batch_no INTEGER
);
CREATE TABLE lines (
    file_no INTEGER NOT NULL, line_no INTEGER NOT NULL, custom_id TEXT NOT NULL, method TEXT NOT NULL,
    url TEXT NOT NULL, model TEXT NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (file_no, line_no)
);
CREATE TABLE batches (
    no INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, file_no INTEGER NOT NULL, input_file_id TEXT,
    endpoint TEXT NOT NULL, completion_window TEXT NOT NULL, metadata TEXT NOT NULL, total INTEGER NOT NULL,
    output_file_id TEXT, error_file_id TEXT, created_at REAL NOT NULL, expires_at REAL NOT NULL,
    populated_at REAL, completed_at REAL, failed_at REAL, cancelling_at REAL, cancelled_at REAL, deleted_at REAL
);
CREATE TABLE requests (
    no INTEGER PRIMARY KEY, id TEXT NOT NULL, batch_no INTEGER NOT NULL, line_no INTEGER NOT NULL,
    custom_id TEXT NOT NULL, state TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
    not_before REAL NOT NULL DEFAULT 0, finished INTEGER, size INTEGER, status INTEGER, outcome TEXT
);
-- The third column is the order of completion. For pending rows it is null, and the row number follows.
CREATE INDEX requests_by_state ON requests (batch_no, state, finished, size);
CREATE UNIQUE INDEX requests_by_line ON requests (batch_no, line_no);
CREATE TABLE completions (last INTEGER NOT NULL);
INSERT INTO completions VALUES (0);
"""
# Made wherever it is missing: a folder of an engine that kept no ledger is used as it is.
LEDGER = """
CREATE TABLE IF NOT EXISTS ledger (
    no INTEGER PRIMARY KEY, at REAL NOT NULL, batch_id TEXT, model TEXT NOT NULL, completion_window TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, reasoning_tokens INTEGER,
    cached_tokens INTEGER NOT NULL, duration_ms REAL NOT NULL, first_byte_ms REAL NOT NULL,
    cost_usd TEXT, list_cost_usd TEXT
);
CREATE INDEX IF NOT EXISTS ledger_by_batch ON ledger (batch_id);
CREATE INDEX IF NOT EXISTS ledger_by_model ON ledger (model)
"""


class Store:
    """Connections to the SQLite file in `folder`, which is made with mode 0700 where it is missing.

    `now` gives seconds since the epoch. Raises `Failure` (exit 2) for a folder written by another version.
    """

    def __init__(self, folder: Path, now: Callable[[], float] = time.time) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder = folder
        self.now = now
        self._path = folder / "engine.sqlite3"
        self._idle: list[sqlite3.Connection] = []
        self._idle_guard = threading.Lock()
        self._one_writer = threading.Lock()
        self._closed = False
        self._prepare()

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection that sees one state of the store until the block ends."""
        with self._connection() as connection:
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.execute("ROLLBACK")

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A connection whose changes are kept when the block ends, and undone when it raises."""
        with self._one_writer, self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    def close(self) -> None:
        """Close what is idle now, and the rest as it comes back."""
        with self._idle_guard:
            self._closed = True
            while self._idle:
                self._idle.pop().close()

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with self._idle_guard:
            connection = self._idle.pop() if self._idle else None
        connection = connection or self._connect()
        try:
            yield connection
        finally:
            with self._idle_guard:
                if self._closed:
                    connection.close()
                else:
                    self._idle.append(connection)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA journal_size_limit=67108864")
        connection.create_function("new_id", 0, new_id)
        return connection

    def _prepare(self) -> None:
        with self._connection() as connection:
            _until_free(lambda: connection.execute("PRAGMA journal_mode=WAL"))
        with self.writing() as connection:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, VERSION):
                raise Failure(
                    Exit.BAD_INPUT,
                    "unknown_version",
                    f"{self.folder} was written by another version of the engine ({version}; this one knows {VERSION})",
                    "name another folder with --data",
                )
            if version == 0:
                for statement in SCHEMA.split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version={VERSION}")
            for statement in LEDGER.split(";"):
                connection.execute(statement)


def new_id() -> str:
    """A bare UUID, the form of every id of the server."""
    return str(uuid.uuid4())


def is_id(text: str) -> bool:
    """Whether the server would read `text` as an id: a UUID, without any prefix."""
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return not text.startswith(("{", "urn:"))


def dumps(value: Any) -> str:
    """`value` as the server writes JSON: keys sorted, no spaces."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def _until_free(change: Callable[[], object]) -> None:
    """SQLite does not wait when two processes switch a new file to WAL at once, so this does."""
    for _ in range(200):
        try:
            change()
            return
        except sqlite3.OperationalError as busy:
            if "locked" not in str(busy):
                raise
            time.sleep(0.05)
    change()
