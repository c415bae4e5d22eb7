"""Batches: their rows, their status, and what cancel, retry and delete do to them.

Promises: a batch and its stamps change in the same transaction as the rows they speak of, so a status never
says more than the rows do. The state machine is the server's (dwctl batches.rs:345-392, postgres.rs), but
for two of its bugs: a batch cancelled before its rows exist ends as cancelled instead of hanging in
`cancelling`, and `retry-requests` touches only rows of its own batch.
"""

from __future__ import annotations

import math
import sqlite3
from dataclasses import dataclass
from typing import Any

import orjson

from doubleword.engine.storage.ledger import Ledger
from doubleword.engine.storage.store import Store, dumps, new_id

WINDOWS_S = {"24h": 86400, "1h": 3600}
BACKGROUND = "background"
RESERVED = {"created_by_email", "context_name", "context_type", "request_source", "created_by", "dw_user_agent"}
HIDDEN = {"dw_source_id", "dw_source_name", "dw_sync_id", "dw_external_key"}
OWNER = "local@localhost"
UNFINISHED = "completed_at IS NULL AND failed_at IS NULL AND cancelling_at IS NULL"
STATUS_FILTERS = {
    "in_progress": f"batches.{UNFINISHED.replace('AND ', 'AND batches.')}",
    "completed": "batches.completed_at IS NOT NULL AND batches.cancelling_at IS NULL",
    "failed": "batches.failed_at IS NOT NULL AND batches.cancelling_at IS NULL",
    "cancelled": "batches.cancelling_at IS NOT NULL",
    "expired": "batches.expires_at < :now AND coalesce(batches.completed_at, :now) > batches.expires_at",
}
REPEND = (
    "UPDATE requests SET state = 'pending', attempts = 0, not_before = 0, finished = NULL, size = NULL, status = NULL,"
    " outcome = NULL WHERE batch_no = ? AND "
)


class Refused(Exception):
    """The server would answer with `status` and `text`, and change nothing."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


@dataclass(frozen=True)
class Search:
    """Which batches a list asks for; None or empty where it does not say. Times are seconds since the epoch."""

    after: str | None = None
    limit: int = 20
    status: str | None = None
    text: str | None = None
    created_after: float | None = None
    created_before: float | None = None
    windows: tuple[str, ...] = ()


class Batches:
    """What the /batches routes do to the store. Methods that take an id raise `Refused` (404) for an unknown one."""

    def __init__(self, store: Store, ledger: Ledger) -> None:
        self._store = store
        self._ledger = ledger

    def create(self, input_file_id: str, endpoint: str, window: str, metadata: dict[str, str]) -> dict[str, Any]:
        """Record a batch in state `validating`; the worker gives it its rows. One in the background has no deadline.

        Both result files exist from the start, and stay empty where there is nothing to hold (pg.rs:437-520).
        """
        now = self._store.now()
        batch_id = new_id()
        results = {"batch_output": new_id(), "batch_error": new_id()}
        kept = {key: value for key, value in metadata.items() if key.lower().replace("-", "_") not in RESERVED}
        with self._store.writing() as connection:
            file = connection.execute(
                "SELECT no, requests FROM files WHERE id = ? AND deleted_at IS NULL", (input_file_id,)
            ).fetchone()
            if file is None:
                raise Refused(404, f"File with ID {input_file_id} not found")
            batch_no = connection.execute(
                "INSERT INTO batches (id, file_no, input_file_id, endpoint, completion_window, metadata, total,"
                " output_file_id, error_file_id, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    batch_id,
                    file["no"],
                    input_file_id,
                    endpoint,
                    window,
                    dumps(kept),
                    file["requests"],
                    results["batch_output"],
                    results["batch_error"],
                    now,
                    now + WINDOWS_S.get(window, math.inf),
                ),
            ).lastrowid
            for purpose, file_id in results.items():
                connection.execute(
                    "INSERT INTO files (id, purpose, filename, bytes, requests, models, created_at, batch_no)"
                    " VALUES (?, ?, ?, 0, 0, '[]', ?, ?)",
                    (file_id, purpose, f"{purpose.replace('batch', f'batch-{batch_id}')}.jsonl", now, batch_no),
                )
            return _batch_object(connection, _row(connection, batch_id), now)

    def get(self, batch_id: str) -> dict[str, Any]:
        """The batch object as it stands."""
        with self._store.reading() as connection:
            return _shown(connection, _row(connection, batch_id), self._store.now())

    def page(self, search: Search, analytics: bool = False) -> tuple[list[dict[str, Any]], bool]:
        """Up to `search.limit` batch objects, newest first, and whether there are more.

        An unknown `after` is ignored, as the server ignores it. `analytics` adds them to each.
        """
        values: dict[str, Any] = {"now": self._store.now(), "more": search.limit + 1}
        where = ["batches.deleted_at IS NULL"]
        if search.status:
            where.append(STATUS_FILTERS[search.status])
        if search.text:
            searched = "batches.metadata || char(10) || files.filename || char(10) || batches.id"
            where.append(f"instr(lower({searched}), lower(:text)) > 0")
            values["text"] = search.text
        if search.created_after is not None:
            where.append("batches.created_at >= :created_after")
            values["created_after"] = search.created_after
        if search.created_before is not None:
            where.append("batches.created_at <= :created_before")
            values["created_before"] = search.created_before
        if search.windows:
            where.append(f"batches.completion_window IN ({', '.join(f':w{n}' for n in range(len(search.windows)))})")
            values.update({f"w{n}": window for n, window in enumerate(search.windows)})
        with self._store.reading() as connection:
            cursor = connection.execute("SELECT created_at, id FROM batches WHERE id = ?", (search.after,)).fetchone()
            if cursor:
                where.append("(batches.created_at, batches.id) < (:cursor_time, :cursor_id)")
                values.update(cursor_time=cursor["created_at"], cursor_id=cursor["id"])
            rows = connection.execute(
                "SELECT batches.* FROM batches JOIN files ON files.no = batches.file_no"  # noqa: S608
                f" WHERE {' AND '.join(where)} ORDER BY batches.created_at DESC, batches.id DESC LIMIT :more",
                values,
            ).fetchall()
            page = [_shown(connection, row, values["now"]) for row in rows[: search.limit]]
            for shown in page if analytics else ():
                shown["analytics"] = self._ledger.analytics(connection, shown["id"])
        return page, len(rows) > search.limit

    def cancel(self, batch_id: str) -> dict[str, Any]:
        """Cancel what is not finished. A batch that was completed reports `cancelled` from then on (pg.rs:5125)."""
        now = self._store.now()
        with self._store.writing() as connection:
            row = _row(connection, batch_id)
            if row["cancelling_at"] is None:
                cancel_rows(connection, row["no"], now)
            return _shown(connection, _row(connection, batch_id), now)

    def retry(self, batch_id: str) -> dict[str, Any]:
        """Make failed and cancelled rows pending again; completed ones are never run again."""
        with self._store.writing() as connection:
            row = _row(connection, batch_id)
            changed = self._repend(connection, row, "state IN ('failed', 'cancelled')", ())
            if not changed and row["cancelling_at"] is None:
                raise Refused(400, "Nothing to retry: no failed or canceled requests, and the batch is not cancelled")
            return self._reopen(connection, row)

    def retry_requests(self, batch_id: str, request_ids: list[str]) -> dict[str, Any]:
        """Make the failed rows among `request_ids` pending again; others are skipped in silence."""
        with self._store.writing() as connection:
            row = _row(connection, batch_id)
            changed = self._repend(
                connection,
                row,
                "state = 'failed' AND id IN (SELECT value FROM json_each(?))",
                (dumps([one.lower() for one in request_ids]),),
            )
            return self._reopen(connection, row) if changed else _shown(connection, row, self._store.now())

    def delete(self, batch_id: str) -> None:
        """Delete the batch, cancelling it where it is live; its result files stay readable until they are purged."""
        now = self._store.now()
        with self._store.writing() as connection:
            row = _row(connection, batch_id)
            if row["completed_at"] is None and row["failed_at"] is None and row["cancelling_at"] is None:
                cancel_rows(connection, row["no"], now)
            connection.execute("UPDATE batches SET deleted_at = ? WHERE no = ?", (now, row["no"]))

    def analytics(self, batch_id: str) -> dict[str, Any]:
        """Tokens and costs of what completed so far, see `Ledger`."""
        with self._store.reading() as connection:
            return self._ledger.analytics(connection, str(_row(connection, batch_id)["id"]))

    def _repend(self, connection: sqlite3.Connection, row: Any, condition: str, values: tuple[Any, ...]) -> int:
        changed = connection.execute(REPEND + condition, (row["no"], *values)).rowcount
        if changed and row["input_file_id"] is None:
            raise Refused(400, "The input file of this batch was deleted; its requests cannot be run again")
        return changed

    def _reopen(self, connection: sqlite3.Connection, row: Any) -> dict[str, Any]:
        now = self._store.now()
        connection.execute(
            "UPDATE batches SET completed_at = NULL, failed_at = NULL, cancelling_at = NULL, cancelled_at = NULL"
            " WHERE no = ?",
            (row["no"],),
        )
        settle(connection, row["no"], now)
        return _shown(connection, _row(connection, row["id"]), now)


def cancel_rows(connection: sqlite3.Connection, batch_no: int, now: float) -> None:
    """Stamp the batch as cancelled and take its unfinished rows out of the queue."""
    connection.execute(
        "UPDATE requests SET state = 'cancelled' WHERE batch_no = ? AND state IN ('pending', 'processing')", (batch_no,)
    )
    connection.execute(
        "UPDATE batches SET cancelling_at = ?, cancelled_at = iif(populated_at IS NULL, NULL, ?) WHERE no = ?",
        (now, now, batch_no),
    )


def drop_lines(connection: sqlite3.Connection, file_no: int) -> None:
    """Where the input file is deleted: remove its lines, but what batches must still tell of them."""
    gone = "file_no = ? AND (SELECT deleted_at FROM files WHERE no = file_no) IS NOT NULL"
    if connection.execute("SELECT 1 FROM batches WHERE file_no = ?", (file_no,)).fetchone():
        connection.execute(f"UPDATE lines SET body = 'null' WHERE {gone}", (file_no,))  # noqa: S608
    else:
        connection.execute(f"DELETE FROM lines WHERE {gone}", (file_no,))  # noqa: S608


def settle(connection: sqlite3.Connection, batch_no: int, now: float) -> None:
    """Stamp the batch's end if its last row has ended: `failed` only if every row failed (pg.rs:6730-7010)."""
    counts = count_states(connection, batch_no)
    if counts.get("pending", 0) + counts.get("processing", 0) > 0:
        return
    column = "completed_at" if counts.get("completed", 0) else "failed_at"
    connection.execute(
        f"UPDATE batches SET {column} = ? WHERE no = ? AND populated_at IS NOT NULL AND {UNFINISHED}",  # noqa: S608
        (now, batch_no),
    )


def count_states(connection: sqlite3.Connection, batch_no: int) -> dict[str, int]:
    """How many rows of the batch stand in each state: pending, processing, completed, failed, cancelled."""
    rows = connection.execute("SELECT state, count(*) FROM requests WHERE batch_no = ? GROUP BY state", (batch_no,))
    return {state: count for state, count in rows}  # noqa: C416


def _row(connection: sqlite3.Connection, batch_id: str) -> Any:
    row = connection.execute("SELECT * FROM batches WHERE id = ? AND deleted_at IS NULL", (batch_id,)).fetchone()
    if row is None:
        raise Refused(404, f"Batch with ID {batch_id} not found")
    return row


def _status(row: Any) -> str:
    if row["cancelling_at"] is not None:
        return "cancelling" if row["cancelled_at"] is None else "cancelled"
    if row["populated_at"] is None:
        return "validating"
    if row["completed_at"] is not None:
        return "completed"
    return "in_progress" if row["failed_at"] is None else "failed"


def _batch_object(connection: sqlite3.Connection, row: Any, now: float) -> dict[str, Any]:
    """The batch object (dwctl api/models/batches.rs:118-186); what is null is left out."""
    counts = count_states(connection, row["no"])
    input_file = connection.execute("SELECT models FROM files WHERE no = ?", (row["file_no"],)).fetchone()
    models = orjson.loads(input_file["models"])
    metadata = {key: value for key, value in orjson.loads(row["metadata"]).items() if key not in HIDDEN}
    stamps = {
        "in_progress_at": row["populated_at"],
        "expires_at": row["expires_at"] if math.isfinite(row["expires_at"]) else None,
        "finalizing_at": row["completed_at"] or row["failed_at"],
        "completed_at": row["completed_at"],
        "failed_at": row["failed_at"],
        "expired_at": row["expires_at"] if now > row["expires_at"] else None,
        "cancelling_at": row["cancelling_at"],
        "cancelled_at": row["cancelled_at"],
    }
    shown = {
        "id": row["id"],
        "object": "batch",
        "endpoint": row["endpoint"],
        "input_file_id": row["input_file_id"] or "",
        "completion_window": row["completion_window"],
        "model": models[0] if len(models) == 1 else "mixed",
        "status": _status(row),
        "output_file_id": row["output_file_id"],
        "error_file_id": row["error_file_id"],
        "created_at": int(row["created_at"]),
        **{name: None if stamp is None else int(stamp) for name, stamp in stamps.items()},
        "request_counts": {
            "total": row["total"],
            "completed": counts.get("completed", 0),
            "failed": counts.get("failed", 0),
        },
        "metadata": {**metadata, "request_source": "api", "created_by_email": OWNER},
    }
    return {name: value for name, value in shown.items() if value is not None}


def _shown(connection: sqlite3.Connection, row: Any, now: float) -> dict[str, Any]:
    shown = _batch_object(connection, row, now)
    shown["metadata"].update(context_name="Personal", context_type="personal")
    return shown
