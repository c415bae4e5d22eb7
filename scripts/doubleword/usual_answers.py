"""Usual answers: lines of an output file as nearly all are, one text to a chat that came to its end.

Promises: what is called usual is what reading, judging and counting it part by part would find: an answer without a
flaw, with its tokens. It is a shorter way to the same verdict, never another one; a test holds both against lines of
all kinds.
"""

from __future__ import annotations

from typing import Any, NamedTuple

MOST_TOKENS = 1 << 53
LONGEST_MODEL = 200


class Usual(NamedTuple):
    """A usual answer: the request's id on the server and in the batch file, the text, tokens, the model named."""

    id: str
    custom_id: str
    text: str
    prompt_tokens: int
    completion_tokens: int
    model: str


def usual(value: Any) -> Usual | None:
    """The usual answer in the object of a line; None for all that has to be looked at part by part."""
    try:
        response = value["response"]
        body = response["body"]
        (choice,) = body["choices"]
        message, usage = choice["message"], body["usage"]
        text, model = message["content"], body["model"]
        prompt, completion = usage["prompt_tokens"], usage["completion_tokens"]
        found = Usual(value["id"], value["custom_id"], text, prompt, completion, model)
        plain = (
            value.get("error") is None
            and response["status_code"] == 200
            and choice["finish_reason"] == "stop"
            and "error" not in body
            and not message.get("refusal")
            and not message.get("tool_calls")
            and not message.get("function_call")
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    typed = type(text) is type(model) is type(found.id) is type(found.custom_id) is str
    counted = type(prompt) is type(completion) is int
    if not (plain and typed and counted and type(body["choices"]) is list):
        return None
    small = 0 <= prompt < MOST_TOKENS and 0 <= completion < MOST_TOKENS and len(model) <= LONGEST_MODEL
    return found if small and found.id and text and not text.isspace() else None
