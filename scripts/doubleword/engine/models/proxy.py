"""The proxy: what every request passes on its way to a model, be it of a batch or in real time (onwards).

Promises: an account that may not spend is refused before a model is asked; /v1/responses and /v1/messages are turned
into a chat and back, as the server does; nothing is entered in the ledger here.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from doubleword.engine.models.answer import Answer, Responder, refusal
from doubleword.engine.models.messages import answer_messages
from doubleword.engine.models.responses import answer_responses
from doubleword.engine.models.streaming import answer_streamed
from doubleword.engine.storage.ledger import Ledger, Tokens

REWRITTEN = ("/v1/chat/completions", "/v1/responses")
CENTS = Decimal("0.01")


def respond(responder: Responder, ledger: Ledger, url: str, body: dict[str, Any], streamed: bool = False) -> Answer:
    """The answer to one request; `streamed` asks as batches are dispatched then. Raises `NoAnswer`."""
    barred = _barred(ledger)
    if barred is not None:
        return barred
    if url == "/v1/responses":
        return answer_responses(responder, body, streamed)
    if url == "/v1/messages":
        return answer_messages(responder, body, streamed)
    return answer_streamed(responder, url, body) if streamed else responder.answer(url, body)


def with_id(url: str, body: Any, request_id: str, streamed: bool = False) -> Any:
    """`body` with the id that the proxy gives to chats and responses (onwards/src/response_id.rs).

    A chat that was streamed keeps the id of the model server.
    """
    kept = streamed and url == "/v1/chat/completions"
    named = isinstance(body, dict) and "id" in body and url in REWRITTEN and not kept
    return {**body, "id": f"resp_{request_id}"} if named else body


def used_tokens(body: Any) -> Tokens:
    """What the answer's `usage` says, in the words of either API."""
    usage = body.get("usage") if isinstance(body, dict) else None
    if not isinstance(usage, dict):
        return Tokens()
    prompt_details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
    details = usage.get("completion_tokens_details") or usage.get("output_tokens_details")
    return Tokens(
        _count(usage.get("prompt_tokens", usage.get("input_tokens"))),
        _count(usage.get("completion_tokens", usage.get("output_tokens"))),
        _count(details.get("reasoning_tokens")) if isinstance(details, dict) else None,
        _count(prompt_details.get("cached_tokens")) if isinstance(prompt_details, dict) else None,
    )


def _barred(ledger: Ledger) -> Answer | None:
    """What the proxy says to an account that may not spend (error_enrichment.rs), None to one that may."""
    if ledger.balance() <= 0:
        return Answer(402, "Account balance too low. Please add credits to continue.")
    if ledger.left_of_cap() > 0:
        return None
    cap, spent = (amount.quantize(CENTS) for amount in (ledger.cap(), ledger.spent()))
    message = f"API key has reached its spending cap of ${cap} (spent ${spent} this period)."
    message += " Raise or remove the cap to resume."
    return refusal(402, message, "spend_cap_exceeded", "insufficient_quota")


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and 0 <= value < 1 << 53 else None
