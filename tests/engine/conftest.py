"""What the engine's own tests share: request lines, and jobs run through HTTP."""

from __future__ import annotations

import json
from typing import Any

from tests.engine_process import RunningEngine, ServerProcess, wait_until
from tests.upstream import CHAT_MODEL

CHAT = "/v1/chat/completions"


def chat_line(custom_id: str, prompt: str = "hi", model: str = CHAT_MODEL, **body: Any) -> dict[str, Any]:
    """A chat request line."""
    asked = {"model": model, "messages": [{"role": "user", "content": prompt}], **body}
    return {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": asked}


def start_batch(engine: RunningEngine | ServerProcess, lines: list[dict[str, Any]], **fields: Any) -> str:
    """Upload the lines and create a batch of them; its id."""
    content = "".join(json.dumps(line) + "\n" for line in lines)
    file = engine.call("POST", "/files", files={"file": ("lines.jsonl", content)}, data={"purpose": "batch"})
    assert file.status_code == 201, file.text
    body = {"input_file_id": file.json()["id"], "endpoint": CHAT, "completion_window": "24h", **fields}
    batch = engine.call("POST", "/batches", json=body)
    assert batch.status_code == 201, batch.text
    return str(batch.json()["id"])


def look(engine: RunningEngine | ServerProcess, batch_id: str) -> dict[str, Any]:
    """The batch object as it stands."""
    shown: dict[str, Any] = engine.call("GET", f"/batches/{batch_id}").json()
    return shown


def wait_for(engine: RunningEngine | ServerProcess, batch_id: str, *statuses: str) -> dict[str, Any]:
    """The batch object once its status is one of `statuses` (default: completed)."""

    def reached() -> dict[str, Any] | None:
        batch = look(engine, batch_id)
        return batch if batch["status"] in (statuses or ("completed",)) else None

    found: dict[str, Any] = wait_until(reached, f"status {statuses}")
    return found


def rows(engine: RunningEngine | ServerProcess, file_id: str) -> list[dict[str, Any]]:
    """The JSON lines of a file."""
    content = engine.call("GET", f"/files/{file_id}/content").content
    return [json.loads(line) for line in content.split(b"\n") if line]


def causes(engine: RunningEngine | ServerProcess, batch_id: str) -> dict[str, dict[str, Any]]:
    """Why each failed request failed, by custom_id."""
    found = rows(engine, look(engine, batch_id)["error_file_id"])
    return {row["custom_id"]: json.loads(row["error"]["message"]) for row in found}
