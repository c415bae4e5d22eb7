"""Usual answers: lines of an output file as nearly all are, one text to a chat that came to its end.

Promises: what is called usual is what reading, judging and counting it part by part would find: an answer without a
flaw, with its tokens. A line that the typed reader refuses, or that is anything else, goes that longer way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from msgspec import MsgspecError, Struct
from msgspec.json import Decoder

from doubleword.request_lines.line import CHAT

MOST_TOKENS = 1 << 53


class Usual(NamedTuple):
    """A usual answer: the request's id on the server and in the batch file, the text, tokens, the model named."""

    id: str
    custom_id: str
    text: str
    prompt_tokens: int
    completion_tokens: int
    model: str


def usual(endpoint: str) -> Callable[[bytes], Usual | None] | None:
    """What tells a usual answer of `endpoint` from others; None where there is no such shorter way."""
    return _of_chat if endpoint == CHAT else None


class _Message(Struct):
    content: str
    refusal: Any = None
    tool_calls: Any = None
    function_call: Any = None


class _Choice(Struct):
    message: _Message
    finish_reason: str


class _Tokens(Struct):
    prompt_tokens: int
    completion_tokens: int


class _Body(Struct):
    choices: list[_Choice]
    model: str
    usage: _Tokens
    error: Any = None


class _Response(Struct):
    status_code: int
    body: _Body


class _Line(Struct):
    id: str
    custom_id: str
    response: _Response
    error: Any = None


_decode = Decoder(_Line).decode


def _of_chat(raw: bytes) -> Usual | None:
    try:
        line = _decode(raw)
    except (MsgspecError, ValueError, RecursionError):
        return None
    body = line.response.body
    if len(body.choices) != 1 or line.error or body.error or line.response.status_code >= 400:
        return None
    choice, tokens = body.choices[0], body.usage
    message, text = choice.message, choice.message.content
    if choice.finish_reason != "stop" or not text or text.isspace():
        return None
    if message.refusal or message.tool_calls or message.function_call:
        return None
    if not (0 <= tokens.prompt_tokens < MOST_TOKENS and 0 <= tokens.completion_tokens < MOST_TOKENS):
        return None
    return Usual(line.id, line.custom_id, text, tokens.prompt_tokens, tokens.completion_tokens, body.model)
