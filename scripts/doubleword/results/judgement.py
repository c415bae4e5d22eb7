"""What an answer is worth: whole, or cut off, refused, empty, or not what its request asked for.

Promises: every answer is judged, and by the same four words; one that was to be JSON is called good only when it
is, and obeys its schema; what is wrong with an answer never hides the answer itself.

An answer can have several flaws: one that was cut off is mostly no valid JSON either. Facts: finish_reason
`length` and `content_filter`, `message.refusal`, and for responses `status`, `incomplete_details.reason` and
refusal parts, as OpenAI documents them; control-layer passes them on from the model's server.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from doubleword.request_lines.line import CHAT, EMBEDDINGS, RESPONSES
from doubleword.results.lines import answer_texts, calls, vectors
from doubleword.results.structured import Schema

TRUNCATED, REFUSED, EMPTY, INVALID = FLAWS = ("truncated", "refused", "empty", "invalid")


class Judgement(NamedTuple):
    """The flaws of an answer, in the order of `FLAWS`; `cause` says why it is invalid, None where it is not."""

    flaws: tuple[str, ...] = ()
    cause: str | None = None


GOOD = Judgement()


def judged(body: dict[str, Any], endpoint: str, schema: Schema | None) -> Judgement:
    """What the answer `body`, which has the shape of `endpoint`, is worth to a request that asked for `schema`."""
    if endpoint == EMBEDDINGS:
        return GOOD if all(vectors(body)) else Judgement((EMPTY,))
    if schema is None and endpoint == CHAT and _is_usual(body):
        return GOOD
    texts = answer_texts(body, endpoint)
    found = _ends(body, endpoint)
    if REFUSED not in found and not all(map(str.strip, texts)):
        found.add(EMPTY)
    cause = None
    if schema is not None and not _calls_tools(body, endpoint):
        cause = next((why for text in texts if (why := schema.breaks(text)) is not None), None)
    if cause is None:
        return Judgement(tuple(name for name in FLAWS if name in found)) if found else GOOD
    if TRUNCATED in found:
        cause = "the answer is cut off at its limit of tokens, so it is not the JSON that was asked for"
    elif REFUSED in found:
        cause = "the model refused, so there is not the JSON that was asked for"
    elif EMPTY in found:
        cause = "the answer is empty, so it is not the JSON that was asked for"
    return Judgement((*(name for name in FLAWS if name in found), INVALID), cause)


def _is_usual(body: dict[str, Any]) -> bool:
    """Whether a chat answer is what nearly all are, one text that came to its end; told without looking further."""
    choices = body["choices"]
    first, message = choices[0], choices[0]["message"]
    said = message.get("content")
    return (
        len(choices) == 1
        and first.get("finish_reason") == "stop"
        and type(said) is str
        and bool(said.strip())
        and not message.get("refusal")
    )


def _ends(body: dict[str, Any], endpoint: str) -> set[str]:
    """Truncated or refused, as the answer itself says; of several choices, whether any is."""
    if endpoint == RESPONSES:
        return _ends_of_response(body)
    found = set()
    for choice in body["choices"]:
        if not isinstance(choice, dict):
            continue
        reason, message = choice.get("finish_reason"), choice.get("message")
        if reason == "length":
            found.add(TRUNCATED)
        if reason == "content_filter" or (endpoint == CHAT and isinstance(message, dict) and message.get("refusal")):
            found.add(REFUSED)
    return found


def _ends_of_response(body: dict[str, Any]) -> set[str]:
    details = body.get("incomplete_details")
    reason = details.get("reason") if isinstance(details, dict) else None
    found = set()
    if body.get("status") == "incomplete":
        found.add(REFUSED if reason == "content_filter" else TRUNCATED)
    contents = [item.get("content") for item in body["output"] if isinstance(item, dict)]
    parts = [part for content in contents if isinstance(content, list) for part in content]
    if any(isinstance(part, dict) and part.get("type") == "refusal" for part in parts):
        found.add(REFUSED)
    return found


def _calls_tools(body: dict[str, Any], endpoint: str) -> bool:
    """Whether the model calls a tool instead of answering, to which no response format applies."""
    if endpoint == RESPONSES:
        return any(isinstance(item, dict) and item.get("type") == "function_call" for item in body["output"])
    messages = [choice.get("message") for choice in body["choices"] if isinstance(choice, dict)]
    return any(isinstance(message, dict) and calls(message) for message in messages)
