"""A server whose every byte is written by the test: one batch that is over, with the result files it is given."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from tests.faults.gate import Asked, Reply, page

BATCH_ID = "6f0c0e1e-0000-4000-8000-000000000001"
JSON = (("Content-Type", "application/json"),)
JSON_LINES = (("Content-Type", "application/x-ndjson"),)


def row(custom_id: str, text: str = "yes", identifier: str = "") -> bytes:
    """An output line as the server sends it, keys and all, with `text` as the answer; without its newline."""
    body = {"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}
    value = {
        "id": identifier or f"batch_req_{custom_id}",
        "custom_id": custom_id,
        "response": {"status_code": 200, "body": body},
        "error": None,
    }
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def failed_row(custom_id: str, message: str = "told to fail") -> bytes:
    """An error line as the server sends it."""
    reason = {"type": "NonRetriableHttpStatus", "details": {"status": 400, "body": message}}
    error = {"code": None, "message": json.dumps(reason)}
    return json.dumps(
        {"id": f"batch_req_{custom_id}", "custom_id": custom_id, "response": None, "error": error}
    ).encode()


@dataclass
class Canned:
    """Answers instead of the server behind a gate: give its `reply` to `Gate.server`.

    `batch` overrides fields of the batch object, None takes one away; the batch has whatever id is asked for.
    `files` holds each file's lines; a file that is absent is a 404. `skips` is whether `skip` is honoured.
    """

    total: int
    batch: dict[str, Any] = field(default_factory=dict)
    files: dict[str, list[bytes]] = field(default_factory=dict)
    skips: bool = True
    headers: tuple[tuple[str, str], ...] = ()

    def reply(self, asked: Asked) -> Reply:
        """The answer to a GET."""
        path, _, query = asked.target.partition("?")
        last = path.rpartition("/")[2]
        if asked.route == "batch":
            return Reply(200, JSON).with_json(self._object(last))
        if asked.route == "batches":
            return Reply(200, JSON).with_json({"object": "list", "data": [], "has_more": False})
        lines = self.files.get(path.split("/")[3]) if asked.route == "content" else None
        if lines is None:
            return page(404, b"File with ID x not found", "text/plain")
        words = dict(part.split("=") for part in query.split("&") if part)
        skipped = lines[int(words.get("skip", 0)) :] if self.skips else lines
        return Reply(200, (*JSON_LINES, *self.headers), b"".join(line + b"\n" for line in skipped))

    def _object(self, identifier: str) -> dict[str, Any]:
        good, bad = len(self.files.get("output", [])), len(self.files.get("error", []))
        value = {
            "id": identifier,
            "object": "batch",
            "endpoint": "/v1/chat/completions",
            "status": "completed",
            "input_file_id": "input",
            "output_file_id": "output",
            "error_file_id": "error",
            "completion_window": "24h",
            "created_at": 1_800_000_000,
            "request_counts": {"total": self.total, "completed": good, "failed": bad},
            **self.batch,
        }
        return {name: item for name, item in value.items() if item is not None}
