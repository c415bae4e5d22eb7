"""The engine in three moods: as its source, as its documentation, and as OpenAI's batch API.

A mood stands in a gate (`Gate.server`) and translates requests on their way to the engine and answers on their way
back. Where documentation and source differ: `references/api_reference.md`, section 13; OpenAI's API: section 14.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl, urlencode

from tests.faults.gate import Asked, Gate, Reply, page

JSON = (("Content-Type", "application/json"),)
NULLABLE = (
    "errors", "output_file_id", "error_file_id", "in_progress_at", "expires_at", "finalizing_at", "completed_at",
    "failed_at", "expired_at", "cancelling_at", "cancelled_at", "metadata",
)  # fmt: skip
OVER = ("completed", "failed", "cancelled", "expired")


@dataclass
class Source:
    """The server as its source has it: bare UUIDs, 201, plain-text errors, `skip`, absent fields left out."""

    gate: Gate
    expires: bool = False

    def reply(self, asked: Asked) -> Reply:
        """The engine's own answer."""
        return self.gate.real(asked)


@dataclass
class Documentation(Source):
    """The server as documented: ids with prefixes, 200, `offset`, nulls, errors in an envelope, `expired`."""

    place: str = "offset"
    searches: bool = True

    def reply(self, asked: Asked) -> Reply:
        """The engine's answer to the request in its own words, said in this mood's."""
        target, body = _bare(asked.target), asked.body
        path, _, query = target.partition("?")
        words = dict(parse_qsl(query))
        place = words.pop(self.place, None) if self.place else None
        words = {name: word for name, word in words.items() if name not in ("skip", "offset")}
        if not self.searches:
            words.pop("search", None)
        if place is not None:
            words["skip"] = place
        if asked.route == "create" and body is not None:
            body = _bare(body.decode()).encode()
        answer = self.gate.real(replace(asked, target=f"{path}?{urlencode(words)}" if words else path, body=body))
        return self._said(asked, answer)

    def _said(self, asked: Asked, answer: Reply) -> Reply:
        if answer.status >= 400:
            message = answer.body.decode("utf-8", "replace")
            error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
            return Reply(answer.status, JSON).with_json({"error": error})
        if asked.route == "content":
            return replace(answer, headers=tuple(one for one in answer.headers if not one[0].lower().startswith("x-")))
        value = json.loads(answer.body)
        if asked.route in ("files", "batches"):
            shown = [self._object(one) for one in value["data"]]
            ends = {"first_id": shown[0]["id"], "last_id": shown[-1]["id"]} if shown else {}
            return Reply(200, JSON).with_json({**value, **ends, "data": shown})
        return Reply(200, JSON).with_json(self._object(value))

    def _object(self, value: dict[str, Any]) -> dict[str, Any]:
        """A file, a batch, or anything else, as this mood shows it."""
        if value.get("object") == "file":
            return {**value, "id": self.file_id(value["id"]), "status": "processed"}
        if value.get("object") != "batch":
            return value
        shown = {**dict.fromkeys(NULLABLE), **value, "id": self.batch_id(value["id"])}
        for name in ("input_file_id", "output_file_id", "error_file_id"):
            shown[name] = self.file_id(shown[name]) if shown[name] else None
        if self.expires and shown["status"] == "cancelled":
            shown["status"] = "expired"
        return shown

    def file_id(self, identifier: str) -> str:
        """A file's id as this mood gives it out."""
        return f"file-{uuid.UUID(identifier).hex}"

    def batch_id(self, identifier: str) -> str:
        """A batch's id as this mood gives it out."""
        return f"batch_{uuid.UUID(identifier).hex}"


@dataclass
class OpenAi(Documentation):
    """OpenAI's batch API: no search, no retry, nowhere to go on from, result files only at the end and where needed.

    A batch whose requests all failed is `completed`; requests that did not run have a row in the error file; rows
    of failed requests carry the status in `response`.
    """

    place: str = ""
    searches: bool = False
    _batch_of: dict[str, str] = field(default_factory=dict)

    def reply(self, asked: Asked) -> Reply:
        """As OpenAI answers."""
        path, _, query = asked.target.partition("?")
        if asked.route == "retry":
            return self._refused(404, f"Invalid URL (POST {path})")
        if int(dict(parse_qsl(query)).get("limit", "20")) > 100:
            return self._refused(400, "Invalid 'limit': integer above maximum value.")
        if asked.route == "upload" and b'name="purpose"\r\n\r\nbatch\r\n' not in (asked.body or b""):
            return self._refused(400, "'purpose' is a required property")
        answer = super().reply(asked)
        if asked.route != "content" or answer.status >= 400:
            return answer
        lines = [_openai_line(json.loads(line)) for line in answer.body.split(b"\n") if line]
        batch = self._batch_of.get(_bare(path.split("/")[3]))
        if batch is not None:
            lines += [_unrun(one, self.expires) for one in self._never_run(asked, batch)]
        headers = (("Content-Type", "application/octet-stream"),)
        return Reply(200, headers, b"".join(json.dumps(line).encode() + b"\n" for line in lines))

    def _object(self, value: dict[str, Any]) -> dict[str, Any]:
        if value.get("object") == "batch":
            counts, over = value["request_counts"], value["status"] in OVER
            unrun = counts["total"] - counts["completed"] - counts["failed"]
            self._batch_of[value["error_file_id"]] = value["id"]
            value = {
                **value,
                "status": "completed" if value["status"] == "failed" else value["status"],
                "output_file_id": value["output_file_id"] if over and counts["completed"] else None,
                "error_file_id": value["error_file_id"] if over and (counts["failed"] or unrun) else None,
                "request_counts": {**counts, "failed": counts["failed"] + (unrun if over else 0)},
            }
        return super()._object(value)

    def _never_run(self, asked: Asked, batch: str) -> list[str]:
        """custom_ids of requests that were cancelled."""
        target = f"/v1/batches/{batch}/results?status=cancelled"
        rows = self.gate.real(replace(asked, target=target, body=b"")).body
        return [json.loads(line)["custom_id"] for line in rows.split(b"\n") if line]

    def _refused(self, status: int, message: str) -> Reply:
        error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
        return page(status).with_json({"error": error})


def _bare(text: str) -> str:
    """`text` with each prefixed id as the engine's UUID."""
    return re.sub(r"(?:file-|batch_)([0-9a-f]{32})", lambda found: str(uuid.UUID(found.group(1))), text)


def _openai_line(value: dict[str, Any]) -> dict[str, Any]:
    if value.get("error") is None:
        return value
    details = json.loads(value["error"]["message"]).get("details", {})
    if "status" not in details:
        return {**value, "error": {"code": "request_timeout", "message": "This request could not be executed."}}
    try:
        body = json.loads(details["body"])
    except ValueError:
        body = {"error": {"message": details["body"]}}
    return {**value, "response": {"status_code": details["status"], "request_id": "req_1", "body": body}, "error": None}


def _unrun(custom_id: str, expired: bool) -> dict[str, Any]:
    code = "batch_expired" if expired else "batch_cancelled"
    error = {"code": code, "message": "This request could not be executed before the end of its batch."}
    return {"id": f"batch_req_unrun_{custom_id}", "custom_id": custom_id, "response": None, "error": error}


MOODS: tuple[Callable[[Gate], Source], ...] = (Source, Documentation, OpenAi)
