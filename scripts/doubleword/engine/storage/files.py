"""Files: uploaded batch files, and the output and error files that stand for a batch's outcomes.

Promises: an uploaded file is there whole or not at all; a deleted file takes what its lines asked with it and
cancels the batches that still read them. What the server does is described where it is done, by its source file.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import orjson

from doubleword.engine.storage.batches import cancel_rows, drop_lines
from doubleword.engine.storage.ledger import Ledger
from doubleword.engine.storage.store import Store, dumps, new_id

DEFAULT_LIFETIME_S = 30 * 86400
SIZE_OF = "SELECT coalesce(sum(size), 0) FROM requests WHERE batch_no = ? AND state = ?"


@dataclass(frozen=True)
class Line:
    """One request line as it is stored: `body` is JSON text with sorted keys."""

    custom_id: str
    method: str
    url: str
    model: str
    body: str


@dataclass(frozen=True)
class Upload:
    """An accepted upload: `bytes` is its size as it was sent, `lines` can be read once."""

    filename: str | None
    purpose: str | None
    expires_after_s: int | None
    bytes: int
    requests: int
    models: frozenset[str]
    lines: Iterable[Line]


class Files:
    """What the /files routes do to the store."""

    def __init__(self, store: Store, ledger: Ledger) -> None:
        self._store = store
        self._ledger = ledger

    def add(self, upload: Upload) -> dict[str, Any]:
        """Store the upload in one transaction; return its file object."""
        now = self._store.now()
        file_id = new_id()
        expires_at = int(now) + (DEFAULT_LIFETIME_S if upload.expires_after_s is None else upload.expires_after_s)
        with self._store.writing() as connection:
            file_no = connection.execute(
                "INSERT INTO files (id, purpose, filename, bytes, requests, models, created_at, expires_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    file_id,
                    upload.purpose,
                    upload.filename or f"upload-{file_id}",
                    upload.bytes,
                    upload.requests,
                    dumps(sorted(upload.models)),
                    now,
                    expires_at,
                ),
            ).lastrowid
            connection.executemany(
                "INSERT INTO lines (file_no, line_no, custom_id, method, url, model, body)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    (file_no, number, line.custom_id, line.method, line.url, line.model, line.body)
                    for number, line in enumerate(upload.lines, start=1)
                ),
            )
            row = connection.execute("SELECT * FROM files WHERE no = ?", (file_no,)).fetchone()
        return _file_object(row, row["bytes"])

    def get(self, file_id: str) -> dict[str, Any] | None:
        """The file object, None where there is no such file."""
        with self._store.reading() as connection:
            row = connection.execute("SELECT * FROM files WHERE id = ? AND deleted_at IS NULL", (file_id,)).fetchone()
            return row and _file_object(row, _size(connection, row))

    def page(
        self, after: str | None, limit: int, ascending: bool, purpose: str | None, search: str | None
    ) -> tuple[list[dict[str, Any]], bool]:
        """Up to `limit` file objects by age, and whether there are more (dwctl files.rs).

        An unknown `after` is ignored, as the server ignores it. Files uploaded without a purpose are not found
        by `purpose=batch`, although they are shown with it.
        """
        order, beyond = ("ASC", ">") if ascending else ("DESC", "<")
        where, values = ["deleted_at IS NULL"], []
        if purpose is not None:
            where.append("purpose = ?")
            values.append(purpose)
        if search:
            where.append("instr(lower(filename), lower(?)) > 0")
            values.append(search)
        with self._store.reading() as connection:
            cursor = connection.execute("SELECT created_at, id FROM files WHERE id = ?", (after,)).fetchone()
            if cursor:
                where.append(f"(created_at, id) {beyond} (?, ?)")
                values.extend(cursor)
            rows = connection.execute(
                f"SELECT * FROM files WHERE {' AND '.join(where)} ORDER BY created_at {order}, id {order} LIMIT ?",  # noqa: S608
                (*values, limit + 1),
            ).fetchall()
            page = [_file_object(row, _size(connection, row)) for row in rows[:limit]]
        return page, len(rows) > limit

    def models(self, file_id: str) -> list[str]:
        """The models that the file's lines name; empty for an unknown file."""
        with self._store.reading() as connection:
            row = connection.execute("SELECT models FROM files WHERE id = ?", (file_id,)).fetchone()
        return list(orjson.loads(row["models"])) if row else []

    def estimate(self, file_id: str, window: str) -> dict[str, Any] | None:
        """The cost estimate of an input file in a completion window, None where there is no such file."""
        with self._store.reading() as connection:
            file = connection.execute("SELECT no FROM files WHERE id = ? AND deleted_at IS NULL", (file_id,)).fetchone()
            if file is None:
                return None
            models = self._ledger.estimate(connection, file["no"], window)
        costs = [Decimal(model["estimated_cost"]) for model in models if model["estimated_cost"] != "0"]
        return {
            "file_id": file_id,
            "total_requests": sum(model["request_count"] for model in models),
            "total_estimated_input_tokens": sum(model["estimated_input_tokens"] for model in models),
            "total_estimated_output_tokens": sum(model["estimated_output_tokens"] for model in models),
            "total_estimated_cost": f"{sum(costs):f}" if costs else "0",
            "models": models,
        }

    def delete(self, file_id: str) -> bool:
        """Delete the file; False where there is none. Live batches of an input file are cancelled.

        Batches keep standing without the id of the deleted file (pg.rs:4206).
        """
        now = self._store.now()
        with self._store.writing() as connection:
            row = connection.execute("SELECT * FROM files WHERE id = ? AND deleted_at IS NULL", (file_id,)).fetchone()
            if row is None:
                return False
            connection.execute("UPDATE files SET deleted_at = ? WHERE no = ?", (now, row["no"]))
            if row["batch_no"] is not None:
                column = "output_file_id" if row["purpose"] == "batch_output" else "error_file_id"
                connection.execute(f"UPDATE batches SET {column} = NULL WHERE no = ?", (row["batch_no"],))  # noqa: S608
                return True
            live = connection.execute(
                "SELECT no FROM batches WHERE file_no = ? AND completed_at IS NULL AND failed_at IS NULL"
                " AND cancelling_at IS NULL AND deleted_at IS NULL",
                (row["no"],),
            ).fetchall()
            for batch in live:
                cancel_rows(connection, batch["no"], now)
            connection.execute("UPDATE batches SET input_file_id = NULL WHERE file_no = ?", (row["no"],))
            drop_lines(connection, row["no"])
        return True


def _size(connection: Any, row: Any) -> int:
    """Size in bytes; that of output and error files is an estimate, as on the server (utils.rs:133)."""
    if row["batch_no"] is None:
        return int(row["bytes"])
    state = "completed" if row["purpose"] == "batch_output" else "failed"
    return int(connection.execute(SIZE_OF, (row["batch_no"], state)).fetchone()[0])


def _file_object(row: Any, size: int) -> dict[str, Any]:
    """The file object (dwctl api/models/files.rs:62-105); what is null is left out."""
    shown = {
        "id": row["id"],
        "object": "file",
        "bytes": size,
        "created_at": int(row["created_at"]),
        "filename": row["filename"],
        "purpose": row["purpose"] or "batch",
    }
    return shown if row["expires_at"] is None else {**shown, "expires_at": row["expires_at"]}
