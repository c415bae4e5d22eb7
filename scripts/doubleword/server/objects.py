"""What the server answers with: file objects and batch objects, read tolerantly into typed values.

Facts: control-layer `dwctl/src/api/models/files.rs` and `batches.rs` (absent fields are omitted, ids are bare
UUIDs); OpenAI's documented batch object, where absent fields are null and ids carry prefixes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from doubleword.failure import plain
from doubleword.server.errors import ApiError

TERMINAL = frozenset({"completed", "failed", "expired", "cancelled"})
ENDED = ("completed_at", "failed_at", "cancelled_at")  # expired_at is no end (dwctl batches.rs)


@dataclass(frozen=True)
class RemoteFile:
    """A file object. `bytes` is exact for input files only (dwctl utils.rs estimates it for result files).

    `created_at` is in seconds since the epoch, by the server's clock.
    """

    id: str
    filename: str
    bytes: int
    purpose: str
    created_at: int | None


@dataclass(frozen=True)
class Batch:
    """A batch object; times in seconds since the epoch, absent ones None.

    `ended_at` is the latest end of any kind. `completed` and `failed` are the server's counts: cancelled requests
    are in neither (dwctl batches.rs).
    """

    id: str
    status: str
    endpoint: str
    input_file_id: str
    output_file_id: str | None
    error_file_id: str | None
    window: str
    created_at: int | None
    expires_at: int | None
    ended_at: int | None
    total: int
    completed: int
    failed: int
    metadata: dict[str, str] = field(default_factory=dict)
    errors: tuple[str, ...] = ()

    @property
    def terminal(self) -> bool:
        """Whether the server says that it will do no more, which a retry can undo."""
        return self.status in TERMINAL


def bare_id(identifier: str) -> str:
    """A UUID without the `batch_` or `file_` that webhooks put before it (dwctl events.rs); others unchanged."""
    match = re.fullmatch(r"(?:batch|file)[_-]([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})", identifier)
    return match.group(1) if match else identifier


def remote_file(value: dict[str, Any]) -> RemoteFile:
    """A file object; raises ApiError for anything else."""
    identifier = _id(value)
    if not identifier:
        raise ApiError(200, "the answer is not a file object", garbled=True)
    return RemoteFile(
        id=identifier,
        filename=str(value.get("filename") or ""),
        bytes=_whole(value.get("bytes")) or 0,
        purpose=str(value.get("purpose") or ""),
        created_at=_whole(value.get("created_at")),
    )


def batch(value: dict[str, Any]) -> Batch:
    """A batch object; raises ApiError for anything else."""
    identifier, status = _id(value), value.get("status")
    if not identifier or not isinstance(status, str):
        raise ApiError(200, "the answer is not a batch object", garbled=True)
    counts = value.get("request_counts")
    counts = counts if isinstance(counts, dict) else {}
    metadata = value.get("metadata")
    errors = value.get("errors")
    listed = errors.get("data") if isinstance(errors, dict) else None
    return Batch(
        id=identifier,
        status=plain(status, 40),
        endpoint=plain(value.get("endpoint") or "", 80),
        input_file_id=str(value.get("input_file_id") or ""),
        output_file_id=_text(value.get("output_file_id")),
        error_file_id=_text(value.get("error_file_id")),
        window=plain(value.get("completion_window") or "", 40),
        created_at=_whole(value.get("created_at")),
        expires_at=_whole(value.get("expires_at")),
        ended_at=max(filter(None, (_whole(value.get(name)) for name in ENDED)), default=None),
        total=_whole(counts.get("total")) or 0,
        completed=_whole(counts.get("completed")) or 0,
        failed=_whole(counts.get("failed")) or 0,
        metadata={str(name): str(item) for name, item in metadata.items()} if isinstance(metadata, dict) else {},
        errors=tuple(plain(one.get("message"), 200) for one in listed if isinstance(one, dict))
        if isinstance(listed, list)
        else (),
    )


def _id(value: dict[str, Any]) -> str:
    """The object's id; empty where it is none, since one that cannot be shown cannot be used either."""
    identifier = value.get("id")
    return identifier if isinstance(identifier, str) and plain(identifier, 200) == identifier else ""


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _whole(value: Any) -> int | None:
    return int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e15 else None
