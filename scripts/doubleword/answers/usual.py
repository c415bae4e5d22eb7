"""Usual answers: lines of an output file as nearly all are, one text to a chat that came to its end.

Promises: what is called usual is what reading, judging and counting it part by part would find: an answer without a
flaw, with its tokens. A line that the typed reader refuses, or that is anything else, goes that longer way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from doubleword.json_codec import Decoder, MsgspecError, Struct
from doubleword.service import CHAT

MOST_TOKENS = 1 << 53


class _Message(Struct, gc=False):
    content: str
    refusal: Any = None
    tool_calls: Any = None
    function_call: Any = None


class _Choice(Struct, gc=False):
    message: _Message
    finish_reason: str


class _OfPrompt(Struct, gc=False):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class _OfCompletion(Struct, gc=False):
    reasoning_tokens: int | None = None


class _Tokens(Struct, gc=False):
    prompt_tokens: int
    completion_tokens: int
    prompt_tokens_details: _OfPrompt | None = None
    completion_tokens_details: _OfCompletion | None = None


class _Body(Struct, gc=False):
    choices: list[_Choice]
    model: str
    usage: _Tokens
    created: Any = None
    error: Any = None


class _Response(Struct, gc=False):
    status_code: int
    body: _Body


class UsualLine(Struct, gc=False):
    """A line of an output file that holds an answer to a chat; `id` is the request's on the server."""

    id: str
    custom_id: str
    response: _Response
    error: Any = None

    @property
    def text(self) -> str:
        """The answer."""
        return self.response.body.choices[0].message.content


_decode = Decoder(UsualLine).decode


def usual(endpoint: str) -> Callable[[bytes], UsualLine | None] | None:
    """What tells a usual answer of `endpoint` from others; None where there is no such shorter way."""
    return _of_chat if endpoint == CHAT else None


def _of_chat(raw: bytes) -> UsualLine | None:
    try:
        line = _decode(raw)
    except (MsgspecError, ValueError, RecursionError):
        return None
    response = line.response
    body = response.body
    if len(body.choices) != 1 or line.error or body.error or response.status_code >= 400:
        return None
    choice, tokens = body.choices[0], body.usage
    message = choice.message
    text = message.content
    if choice.finish_reason != "stop" or not text or text.isspace():
        return None
    if message.refusal or message.tool_calls or message.function_call:
        return None
    if not (0 <= tokens.prompt_tokens < MOST_TOKENS and 0 <= tokens.completion_tokens < MOST_TOKENS):
        return None
    given, made = tokens.prompt_tokens_details, tokens.completion_tokens_details
    if given is not None and (given.cache_write_tokens or not 0 <= (given.cached_tokens or 0) < MOST_TOKENS):
        return None
    if made is not None and not 0 <= (made.reasoning_tokens or 0) < MOST_TOKENS:
        return None
    return line
