"""Usual answers: lines of an output file as nearly all are, one text to a chat that came to its end.

Promises: what is called usual is what reading, judging and counting it part by part would find: an answer without a
flaw, with its tokens. A line that the typed reader refuses, or that is anything else, goes that longer way.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from doubleword.answers.choices import SHOWS
from doubleword.answers.usage import MOST_TOKENS
from doubleword.quick_msgspec import Decoder, Meta, MsgspecError, Struct

_Count = Annotated[int, Meta(ge=0, lt=MOST_TOKENS)]


class _Message(Struct, gc=False):
    content: str
    refusal: Any = None
    tool_calls: Any = None
    function_call: Any = None


class _Choice(Struct, gc=False):
    message: _Message
    finish_reason: Literal["stop"]
    error: Any = None


class _Details(Struct, gc=False):
    cached_tokens: _Count | None = None
    reasoning_tokens: _Count | None = None
    cache_write_tokens: int | None = None


class _Tokens(Struct, gc=False):
    prompt_tokens: _Count
    completion_tokens: _Count
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None


class _Body(Struct, gc=False):
    choices: Annotated[list[_Choice], Meta(min_length=1, max_length=1)]
    model: str
    usage: _Tokens
    created: Any = None
    error: Any = None


class _Response(Struct, gc=False):
    status_code: Annotated[int, Meta(lt=400)]
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


def usual(raw: bytes) -> UsualLine | None:
    """The usual answer to a chat that a line holds; None for any other line."""
    try:
        line = _decode(raw)
    except (MsgspecError, ValueError, RecursionError):
        return None
    body = line.response.body
    choice, details = body.choices[0], body.usage.prompt_tokens_details
    message = choice.message
    if line.error or body.error or choice.error or message.refusal or message.tool_calls or message.function_call:
        return None
    told = body.usage.cache_creation_input_tokens or body.usage.cache_read_input_tokens
    if not SHOWS.search(message.content) or told or (details and details.cache_write_tokens):
        return None
    return line
