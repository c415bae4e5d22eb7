"""Usual answers: lines of an output file as nearly all are, one text to a chat that came to its end.

Promises: what is called usual is what reading, judging and counting it part by part would find: an answer without a
flaw, with its tokens. A line that the typed reader refuses, or that is anything else, goes that longer way.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from doubleword.answers.json_text import says_something
from doubleword.answers.usage import MOST_TOKENS
from doubleword.quick_msgspec import Decoder, Meta, MsgspecError, Struct

_Count = Annotated[int, Meta(ge=0, lt=MOST_TOKENS)]
# What a usual answer has nothing of, whether the field is there or not.
_Nothing = Literal[0, ""] | Annotated[list[Any], Meta(max_length=0)] | None


class _Message(Struct, gc=False):
    content: str
    refusal: _Nothing = None
    tool_calls: _Nothing = None
    function_call: _Nothing = None


class _Choice(Struct, gc=False):
    message: _Message
    finish_reason: Literal["stop"]
    error: _Nothing = None


class _Details(Struct, gc=False):
    cached_tokens: _Count | None = None
    reasoning_tokens: _Count | None = None
    cache_write_tokens: _Nothing = None


class _Tokens(Struct, gc=False):
    prompt_tokens: _Count
    completion_tokens: _Count
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None
    cache_creation_input_tokens: _Nothing = None
    cache_read_input_tokens: _Nothing = None


class _Body(Struct, gc=False):
    choices: Annotated[list[_Choice], Meta(min_length=1, max_length=1)]
    model: str
    usage: _Tokens
    created: Any = None
    error: _Nothing = None


class _Response(Struct, gc=False):
    status_code: Annotated[int, Meta(lt=400)]
    body: _Body


class UsualLine(Struct, gc=False):
    """A line of an output file that holds an answer to a chat; `id` is the request's on the server."""

    id: str
    custom_id: str
    response: _Response
    error: _Nothing = None

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
    content = line.response.body.choices[0].message.content
    shows = content >= "!" and content[0] not in "<[◁" and content[0].isprintable()
    return line if shows or says_something(content) else None
