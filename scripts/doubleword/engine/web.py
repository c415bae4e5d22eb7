"""What the routes share: how the server's framework (axum) reads ids, queries and bodies, and what it refuses.

Promises: the status codes and the beginnings of the texts are the framework's; only its line and column
numbers are not always the same.
"""

from __future__ import annotations

import re
from typing import Any

import orjson
from starlette.requests import Request

from doubleword.engine.storage.batches import Refused
from doubleword.engine.storage.contents import Page
from doubleword.engine.storage.store import is_id

JSON_BODY_BYTES = 2 * 1024 * 1024
MOST_ROWS = 101


def path_id(request: Request, kind: str) -> str:
    """The id in the path: a bare UUID, anything else is a 400 (also `file-…` and `batch_…` ids)."""
    given = str(request.path_params["id"])
    if not is_id(given):
        raise Refused(400, f"Invalid {kind} ID format")
    return given.lower()


def query_number(request: Request, name: str) -> int | None:
    """A whole number in the query, None where it is absent."""
    given = request.query_params.get(name)
    if given is None:
        return None
    if not re.fullmatch(r"[+-]?\d{1,18}", given):
        raise Refused(400, f"Failed to deserialize query string: {name}: invalid digit found in string")
    return int(given)


def list_limit(request: Request) -> int:
    """How many objects a list shows: 20 unless told, at most 101."""
    limit = query_number(request, "limit")
    return 20 if limit is None else max(1, min(limit, MOST_ROWS))


def content_page(request: Request) -> Page:
    """skip, limit and search of a content route; `offset` is not known and changes nothing."""
    limit = query_number(request, "limit")
    return Page(
        skip=max(query_number(request, "skip") or 0, 0),
        limit=None if limit is None else max(1, min(limit, MOST_ROWS)),
        search=request.query_params.get("search") or None,
    )


def list_object(page: list[dict[str, Any]], has_more: bool) -> dict[str, Any]:
    """A list as the server sends it: the ids at its ends are left out where it is empty."""
    ends = {"first_id": page[0]["id"], "last_id": page[-1]["id"]} if page else {}
    return {"object": "list", "data": page, **ends, "has_more": has_more}


async def read_body(request: Request, limit: int) -> bytes | None:
    """The request's body; None where it is longer than `limit` bytes."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            return None
        parts.append(part)
    return b"".join(parts)


async def json_object(request: Request) -> dict[str, Any]:
    """The body as a JSON object. Raises `Refused` as axum rejects: 415, 413, 400, 422."""
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise Refused(415, "Expected request with `Content-Type: application/json`")
    content = await read_body(request, JSON_BODY_BYTES)
    if content is None:
        raise Refused(413, "Failed to buffer the request body: length limit exceeded")
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise Refused(400, f"Failed to parse the request body as JSON: {error}") from None
    if not isinstance(body, dict):
        raise unfit("invalid type, expected a map")
    return body


def text_field(body: dict[str, Any], name: str) -> str:
    """A required text of a JSON body."""
    if name not in body:
        raise unfit(f"missing field `{name}`")
    if not isinstance(body[name], str):
        raise unfit(f"{name}: invalid type, expected a string")
    return str(body[name])


def unfit(problem: str) -> Refused:
    """The framework's refusal of a JSON body of the wrong shape."""
    return Refused(422, f"Failed to deserialize the JSON body into the target type: {problem} at line 1 column 1")
