"""The content of files, and a batch's results: JSON lines, read out of the store in small steps.

Promises: memory stays flat whatever the size; no lock and no snapshot is held while a client reads; rows of
output and error files keep the order in which they ended, so that what was read once stays where it was
until a retry takes failed rows back. Paging and the X- headers are those of dwctl files.rs:1684-1872.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from doubleword.engine.storage.batches import Refused, count_states
from doubleword.engine.storage.store import Store, dumps

STEP_BYTES = 1 << 18
MATCHES = "(:pattern IS NULL OR custom_id LIKE :pattern)"  # LIKE: letters alike, % and _ are wildcards
RESULT_STATES: dict[str, tuple[str, ...]] = {
    "completed": ("completed",),
    "failed": ("failed",),
    "in_progress": ("processing",),
    "pending": ("pending", "cancelled"),  # the server reports cancelled rows as pending (pg.rs:7775)
}


@dataclass(frozen=True)
class Page:
    """Where to start, how many lines at most (None: all), and a LIKE pattern for custom_id."""

    skip: int = 0
    limit: int | None = None
    search: str | None = None


@dataclass(frozen=True)
class Content:
    """JSON lines and the headers that belong to them. `lines` reads from the store as it is iterated."""

    headers: dict[str, str]
    lines: Iterator[str]

    def blocks(self) -> Iterator[bytes]:
        """The lines, each ended by a newline, in blocks of about 256 KiB."""
        block: list[str] = []
        size = 0
        for line in self.lines:
            block.append(line)
            size += len(line)
            if size >= STEP_BYTES:
                yield "".join(f"{one}\n" for one in block).encode()
                block, size = [], 0
        if block:
            yield "".join(f"{one}\n" for one in block).encode()


class Contents:
    """What the content and results routes read from the store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def of_file(self, file_id: str, page: Page) -> Content | None:
        """The content of a file, None where there is no such file. Raises `Refused` (410) for deleted results."""
        with self._store.reading() as connection:
            file = connection.execute("SELECT * FROM files WHERE id = ?", (file_id,)).fetchone()
            if file is None or (file["deleted_at"] is not None and file["batch_no"] is None):
                return None
            if file["deleted_at"] is not None:
                raise Refused(410, f"File with ID {file_id} has been deleted")
            if file["batch_no"] is not None:
                state = "completed" if file["purpose"] == "batch_output" else "failed"
                return self._of_outcomes(connection, file["batch_no"], state, page)
        return self._of_input(file, page)

    def of_batch(self, batch_id: str, page: Page, status: str | None) -> Content:
        """A batch's rows in the order of its input; what was asked is null where the input was deleted.

        Raises `Refused`: 404, and 410 where the output or error file of the rows was deleted (pull request 1741).
        """
        with self._store.reading() as connection:
            batch = connection.execute(
                "SELECT * FROM batches WHERE id = ? AND deleted_at IS NULL", (batch_id,)
            ).fetchone()
            if batch is None:
                raise Refused(404, f"Batch with ID {batch_id} not found")
            counts = count_states(connection, batch["no"])
        states = RESULT_STATES.get(status, (status,)) if status else tuple(counts)
        for state, name in (("completed", "output"), ("failed", "error")):
            if batch[f"{name}_file_id"] is None and (status is None or state in states):
                raise Refused(410, f"The {name} file of batch {batch_id} has been deleted")
        unfinished = counts.get("pending", 0) + counts.get("processing", 0) > 0
        total = sum(counts.get(state, 0) for state in states)

        marks = ", ".join(f":state{n}" for n in range(len(states)))
        query = (
            "SELECT requests.line_no AS place, requests.*, lines.model, coalesce(lines.body, 'null') AS body"  # noqa: S608
            " FROM requests LEFT JOIN lines ON lines.file_no = :file_no AND lines.line_no = requests.line_no"
            f" WHERE requests.batch_no = :batch_no AND requests.line_no > :after AND requests.state IN ({marks})"
            f" AND {MATCHES.replace('custom_id', 'requests.custom_id')} ORDER BY requests.line_no"
        )
        values = {"file_no": batch["file_no"], "batch_no": batch["no"]}
        values.update({f"state{n}": state for n, state in enumerate(states)})
        return self._content(query, values, page, total, unfinished, _result_line)

    def _of_outcomes(self, connection: sqlite3.Connection, batch_no: int, state: str, page: Page) -> Content:
        counts = count_states(connection, batch_no)
        total = connection.execute("SELECT total FROM batches WHERE no = ?", (batch_no,)).fetchone()[0]
        ended = sum(counts.get(one, 0) for one in ("completed", "failed", "cancelled"))
        line = _output_line if state == "completed" else _error_line

        query = (
            "SELECT finished AS place, id, custom_id, status, outcome FROM requests"  # noqa: S608
            f" WHERE batch_no = :batch_no AND state = :state AND finished > :after AND {MATCHES} ORDER BY finished"
        )
        values = {"batch_no": batch_no, "state": state}
        return self._content(query, values, page, counts.get(state, 0), ended != total, line)

    def _of_input(self, file: Any, page: Page) -> Content:
        query = (
            "SELECT line_no AS place, custom_id, method, url, body FROM lines"  # noqa: S608
            f" WHERE file_no = :file_no AND line_no > :after AND {MATCHES} ORDER BY line_no"
        )
        content = self._content(query, {"file_no": file["no"]}, page, file["requests"], False, _input_line)
        if page.limit is None:
            content.headers.pop("X-Last-Line", None)
        return content

    def _content(
        self,
        query: str,
        values: dict[str, Any],
        page: Page,
        total: int,
        unfinished: bool,
        line: Callable[[Any], str],
    ) -> Content:
        """The lines of `page` and their headers; of the whole file, no more than the `total` that are there now."""
        values = {**values, "pattern": None if page.search is None else f"%{page.search}%"}
        if page.limit is not None:
            found = list(self._rows(query, values, page.skip, page.limit + 1))
            shown = found[: page.limit]
            headers = {"X-Incomplete": _flag(unfinished or len(found) > page.limit)}
            headers["X-Last-Line"] = str(page.skip + len(shown))
            return Content(headers, map(line, shown))
        headers = {"X-Incomplete": _flag(unfinished)}
        most = -1
        if page.search is None:
            most = max(total - page.skip, 0)
            headers["X-Last-Line"] = str(max(page.skip, total))
        return Content(headers, map(line, self._rows(query, values, page.skip, most)))

    def _rows(self, query: str, values: dict[str, Any], skip: int, most: int) -> Iterator[Any]:
        """Up to `most` rows (-1: all) after the first `skip`; each step is a read of its own, of bounded size."""
        after = 0
        while most != 0:
            step, size = [], 0
            with self._store.reading() as connection:
                here = {**values, "after": after, "most": most, "skip": skip}
                for row in connection.execute(f"{query} LIMIT :most OFFSET :skip", here):
                    step.append(row)
                    size += sum(len(value) for value in row if isinstance(value, str))
                    if size >= STEP_BYTES:
                        break
            if not step:
                return
            yield from step
            after, skip = step[-1]["place"], 0
            most = most - len(step) if most > 0 else most


def _flag(value: bool) -> str:
    return "true" if value else "false"


def _input_line(row: Any) -> str:
    head = dumps({"custom_id": row["custom_id"], "method": row["method"], "url": row["url"]})
    return f'{{"body":{row["body"]},{head[1:]}'


def _output_line(row: Any) -> str:
    return (
        f'{{"id":"batch_req_{row["id"]}","custom_id":{dumps(row["custom_id"])},"response":{{"status_code":'
        f'{row["status"]},"request_id":null,"body":{row["outcome"]}}},"error":null}}'
    )


def _error_line(row: Any) -> str:
    return (
        f'{{"id":"batch_req_{row["id"]}","custom_id":{dumps(row["custom_id"])},"response":null,'
        f'"error":{{"code":null,"message":{dumps(row["outcome"])}}}}}'
    )


def _result_line(row: Any) -> str:
    answer = row["outcome"] if row["state"] == "completed" else "null"
    error = dumps(row["outcome"]) if row["state"] == "failed" else "null"
    status = {"processing": "in_progress", "cancelled": "pending"}.get(row["state"], row["state"])
    return (
        f'{{"id":"{row["id"]}","custom_id":{dumps(row["custom_id"])},"model":{dumps(row["model"])},'
        f'"input_body":{row["body"]},"response_body":{answer},"error":{error},"status":"{status}"}}'
    )
