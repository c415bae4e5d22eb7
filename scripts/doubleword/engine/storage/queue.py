"""The queue of requests: rows for a new batch, pending requests out, outcomes in.

Promises: a request whose outcome was recorded is never run again; one that was being run when the process
died is; its outcome, what it cost and the end of its batch become visible in the same transaction.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from doubleword.engine.storage.batches import drop_lines, settle
from doubleword.engine.storage.ledger import Ledger, Tokens, Used
from doubleword.engine.storage.store import Store

PURGE_AFTER_S = 600
NO_TOKENS = Tokens()
OPEN_BATCHES = (
    "SELECT no FROM batches WHERE populated_at IS NOT NULL AND completed_at IS NULL AND failed_at IS NULL"
    " AND cancelling_at IS NULL AND deleted_at IS NULL ORDER BY no"
)


@dataclass(frozen=True)
class Claim:
    """A request that its taker must answer: `body` is JSON text, `expires_at` seconds since the epoch."""

    no: int
    id: str
    batch_no: int
    batch_id: str
    window: str
    model: str
    url: str
    body: str
    attempts: int
    expires_at: float


@dataclass(frozen=True)
class Ended:
    """A request's final outcome: the answer's HTTP `status` and JSON text, or the failure's JSON text.

    `first_byte_ms` is how long the answer took to begin, `duration_ms` to end.
    """

    claim: Claim
    succeeded: bool
    status: int | None
    text: str
    duration_ms: float
    first_byte_ms: float = 0.0
    tokens: Tokens = NO_TOKENS


@dataclass(frozen=True)
class Again:
    """A request to be tried again, not before `not_before` (seconds since the epoch)."""

    claim: Claim
    not_before: float


class Queue:
    """What the worker does to the store. Only the holder of the worker lock may call it."""

    def __init__(self, store: Store, ledger: Ledger) -> None:
        self._store = store
        self._ledger = ledger

    def recover(self) -> None:
        """Return to the queue what a worker that is gone had taken."""
        with self._store.writing() as connection:
            for batch_no in _numbers(connection, "SELECT no FROM batches"):
                connection.execute(
                    "UPDATE requests SET state = 'pending' WHERE batch_no = ? AND state = 'processing'", (batch_no,)
                )

    def populate(self) -> None:
        """Give each new batch its rows; those of a batch cancelled meanwhile are cancelled from the start."""
        new = "SELECT no FROM batches WHERE populated_at IS NULL"
        with self._store.reading() as connection:
            waiting = _numbers(connection, new)
        for batch_no in waiting:
            now = self._store.now()
            with self._store.writing() as connection:
                connection.execute(
                    "INSERT INTO requests (id, batch_no, line_no, custom_id, state)"
                    " SELECT new_id(), batches.no, line_no, custom_id,"
                    " iif(cancelling_at IS NULL, 'pending', 'cancelled')"
                    " FROM batches JOIN lines ON lines.file_no = batches.file_no WHERE batches.no = ? ORDER BY line_no",
                    (batch_no,),
                )
                connection.execute(
                    "UPDATE batches SET populated_at = ?, cancelled_at = iif(cancelling_at IS NULL, NULL, ?)"
                    " WHERE no = ?",
                    (now, now, batch_no),
                )
                settle(connection, batch_no, now)

    def exchange(self, outcomes: Sequence[Ended | Again], most: int) -> list[Claim]:
        """Write outcomes, and take up to `most` pending requests, in one transaction.

        Batches end when their last request ends. A result that arrives after a cancel stands, as on the server
        (pg.rs:3088); the first result of a request wins. All open batches are served alike, each in the order of
        its lines.
        """
        now = self._store.now()
        if not outcomes:
            with self._store.reading() as connection:
                if not _choose(connection, now, most):
                    return []
        with self._store.writing() as connection:
            for outcome in outcomes:
                if _write(connection, outcome) and isinstance(outcome, Ended):
                    self._charge(connection, outcome, now)
            for batch_no in {outcome.claim.batch_no for outcome in outcomes if isinstance(outcome, Ended)}:
                settle(connection, batch_no, now)
            return [_take(connection, number) for number in _choose(connection, now, most)]

    def _charge(self, connection: sqlite3.Connection, ended: Ended, now: float) -> None:
        """Enter what is paid for: answers of status 2xx and no others."""
        if ended.status is not None and 200 <= ended.status < 300:
            claim = ended.claim
            used = Used(
                now, claim.batch_id, claim.model, claim.window, ended.tokens, ended.duration_ms, ended.first_byte_ms
            )
            self._ledger.charge(connection, used)

    def purge(self) -> None:
        """Remove the rows of batches that were deleted ten minutes ago or more, as the server's purge job does."""
        before = self._store.now() - PURGE_AFTER_S
        with self._store.reading() as connection:
            gone = connection.execute("SELECT no, file_no FROM batches WHERE deleted_at < ?", (before,)).fetchall()
        for row in gone:
            with self._store.writing() as connection:
                connection.execute("DELETE FROM requests WHERE batch_no = ?", (row["no"],))
                connection.execute("DELETE FROM files WHERE batch_no = ?", (row["no"],))
                connection.execute("DELETE FROM batches WHERE no = ?", (row["no"],))
                drop_lines(connection, row["file_no"])


def _choose(connection: sqlite3.Connection, now: float, most: int) -> list[int]:
    """Up to `most` pending requests that may be tried now, a few of each open batch."""
    if not most:
        return []
    pending = (
        "SELECT no FROM requests WHERE batch_no = ? AND state = 'pending' AND not_before <= ?"
        " ORDER BY finished, size, no LIMIT ?"
    )
    batches = _numbers(connection, OPEN_BATCHES)
    found = [_numbers(connection, pending, (batch_no, now, most)) for batch_no in batches]
    rounds = itertools.chain.from_iterable(itertools.zip_longest(*found))
    return list(itertools.islice((number for number in rounds if number is not None), most))


def _take(connection: sqlite3.Connection, number: int) -> Claim:
    connection.execute("UPDATE requests SET state = 'processing' WHERE no = ?", (number,))
    row = connection.execute(
        "SELECT requests.no, requests.id, requests.batch_no, batches.id, batches.completion_window, lines.model,"
        " lines.url, lines.body, requests.attempts, batches.expires_at FROM requests"
        " JOIN batches ON batches.no = requests.batch_no"
        " JOIN lines ON lines.file_no = batches.file_no AND lines.line_no = requests.line_no WHERE requests.no = ?",
        (number,),
    ).fetchone()
    return Claim(*row)


def _write(connection: sqlite3.Connection, outcome: Ended | Again) -> bool:
    """Write it; False where the request had ended before."""
    if isinstance(outcome, Again):
        again = connection.execute(
            "UPDATE requests SET state = 'pending', attempts = attempts + 1, not_before = ?"
            " WHERE no = ? AND state = 'processing'",
            (outcome.not_before, outcome.claim.no),
        )
        return again.rowcount == 1
    connection.execute("UPDATE completions SET last = last + 1")
    ended = connection.execute(
        "UPDATE requests SET state = ?, finished = (SELECT last FROM completions), size = ?, attempts = attempts + 1,"
        " status = ?, outcome = ? WHERE no = ? AND state IN ('pending', 'processing', 'cancelled')",
        (
            "completed" if outcome.succeeded else "failed",
            len(outcome.text),
            outcome.status,
            outcome.text,
            outcome.claim.no,
        ),
    )
    return ended.rowcount == 1


def _numbers(connection: sqlite3.Connection, query: str, values: Sequence[Any] = ()) -> list[int]:
    return [row[0] for row in connection.execute(query, values)]
