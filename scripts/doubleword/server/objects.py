"""What the server answers with, read tolerantly into typed values: files, batches, and what they cost.

Promises: what is absent or of another kind than documented is None or empty, never a crash; an object that is none at
all is an ApiError. Amounts are exact decimals.

Facts: control-layer `dwctl/src/api/models/files.rs` and `batches.rs` (absent fields are omitted, ids are bare
UUIDs); OpenAI's documented batch object, where absent fields are null and ids carry prefixes.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from doubleword.failure import plain
from doubleword.quick_msgspec import Struct, field
from doubleword.server.errors import ApiError

TERMINAL = frozenset({"completed", "failed", "expired", "cancelled"})
MIXED = "mixed"  # the `model` of a batch that asks several
ENDED = ("completed_at", "failed_at", "cancelled_at")  # expired_at is no end (dwctl batches.rs)


class RemoteFile(Struct, frozen=True):
    """A file object. `bytes` is exact for input files only (dwctl utils.rs estimates it for result files).

    `created_at` is in seconds since the epoch, by the server's clock.
    """

    id: str
    filename: str
    bytes: int
    created_at: int | None


class BatchError(Struct, frozen=True):
    """Why a batch failed as a whole: OpenAI's `code` (`token_limit_exceeded`) and `message`; what is absent is empty.

    `line` counts the lines of the input file from 1, None where the error is about none of them.
    """

    code: str
    message: str
    line: int | None = None

    def __str__(self) -> str:
        said = [self.code] * bool(self.code) + [f"line {self.line}"] * (self.line is not None)
        return f"{self.message} ({', '.join(said)})" if self.message and said else self.message or ", ".join(said)


class Analytics(Struct, frozen=True):
    """What the server counted and billed of a batch so far (dwctl api/models/batches.rs, `BatchAnalytics`).

    `requests` are those with usage on record; failed ones are not among them. It follows the batch by seconds: the
    amounts are whole once it has reached the completed requests, and zero for ever for a model without a price.
    `cost_usd` is what was billed, after discounts for cached input, `list_cost_usd` without them; None where absent.
    """

    requests: int
    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int | None
    cost_usd: Decimal | None
    list_cost_usd: Decimal | None


class ModelCost(Struct, frozen=True):
    """One model's part of a `CostEstimate`, in tokens and USD."""

    model: str
    input_tokens: int
    output_tokens: int
    cost_usd: Decimal | None


class CostEstimate(Struct, frozen=True):
    """What the server expects a file to cost at its live tariff (dwctl files.rs, `get_file_cost_estimate`), in USD.

    Tokens are rough: input is the body's bytes / 4, output what the model answered lately, or 1.1 times the input.
    Prices are exact; a model without one costs 0 here, and an unknown window has the realtime price. The order of
    `models` means nothing.
    """

    cost_usd: Decimal | None
    models: tuple[ModelCost, ...]


class Batch(Struct, frozen=True):
    """A batch object; times in seconds since the epoch, absent ones None.

    `ended_at` is the latest end of any kind. `completed` and `failed` are the server's counts: cancelled requests
    are in neither (dwctl batches.rs). `errors` say why it failed as a whole. `model` is the one of all requests,
    `mixed` for several, empty where the server does not say (dwctl before 11.1.0, OpenAI). `analytics` come with
    the list alone, where they were asked for.
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
    errors: tuple[BatchError, ...] = ()
    model: str = ""
    analytics: Analytics | None = None

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
        created_at=_whole(value.get("created_at")),
    )


def batch(value: dict[str, Any]) -> Batch:
    """A batch object; raises ApiError for anything else."""
    identifier, status = _id(value), value.get("status")
    if not identifier or not isinstance(status, str):
        raise ApiError(200, "the answer is not a batch object", garbled=True)
    status = "cancelled" if status.lower() == "canceled" else status.lower()
    counts = value.get("request_counts")
    counts = counts if isinstance(counts, dict) else {}
    metadata = value.get("metadata")
    counted = value.get("analytics")
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
        errors=_errors(value.get("errors")),
        model=plain(value.get("model") or "", 120),
        analytics=analytics(counted) if isinstance(counted, dict) and "total_requests" in counted else None,
    )


def analytics(value: dict[str, Any]) -> Analytics:
    """The analytics of a batch; raises ApiError for anything else."""
    requests = _whole(value.get("total_requests"))
    if requests is None:
        raise ApiError(200, "the answer is not the analytics of a batch", garbled=True)
    return Analytics(
        requests=requests,
        prompt_tokens=_whole(value.get("total_prompt_tokens")) or 0,
        completion_tokens=_whole(value.get("total_completion_tokens")) or 0,
        reasoning_tokens=_whole(value.get("total_reasoning_tokens")),
        cost_usd=_amount(value.get("total_cost")),
        list_cost_usd=_amount(value.get("total_list_cost")),
    )


def cost_estimate(value: dict[str, Any]) -> CostEstimate:
    """The cost estimate of a file; raises ApiError for anything else."""
    if _whole(value.get("total_requests")) is None:
        raise ApiError(200, "the answer is not a cost estimate", garbled=True)
    models = value.get("models")
    return CostEstimate(
        cost_usd=_amount(value.get("total_estimated_cost")),
        models=tuple(
            ModelCost(
                model=plain(one.get("model") or "", 120),
                input_tokens=_whole(one.get("estimated_input_tokens")) or 0,
                output_tokens=_whole(one.get("estimated_output_tokens")) or 0,
                cost_usd=_amount(one.get("estimated_cost")),
            )
            for one in (models if isinstance(models, list) else ())
            if isinstance(one, dict)
        ),
    )


def _errors(errors: Any) -> tuple[BatchError, ...]:
    """`{"data": [{"code", "message", "line"}, …]}`; fusillade postgres.rs stores `{"message"}` alone, others a text."""
    listed = errors.get("data", [errors]) if isinstance(errors, dict) else errors
    every = listed if isinstance(listed, list) else [listed]
    found = [
        BatchError(plain(one.get("code") or "", 80), plain(one.get("message") or "", 200), _whole(one.get("line")))
        for one in ({"message": one} if isinstance(one, str) else one for one in every)
        if isinstance(one, dict)
    ]
    return tuple(one for one in found if one.message or one.code)


def _id(value: dict[str, Any]) -> str:
    """The object's id; empty where it is none, since one that cannot be shown cannot be used either."""
    identifier = value.get("id")
    return identifier if isinstance(identifier, str) and plain(identifier, 200) == identifier else ""


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _whole(value: Any) -> int | None:
    return int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e15 else None


def _amount(value: Any) -> Decimal | None:
    """An amount of USD, which the server sends as a text to keep its digits; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        return None
    return amount if amount.is_finite() and amount >= 0 else None


class Asked(Struct, frozen=True):
    """The requests of one batch file: where their ids can be read, how many, and the batches that answer them.

    `path` is the local batch file, None when only the server may still have it. Batches stand oldest first.
    """

    path: Path | None
    requests: int | None
    endpoint: str
    batches: tuple[Batch, ...]
