"""What an answer says, whichever endpoint and server it came from: its texts, tool calls, thoughts and endings.

Promises: a message is read by what it has, so a key that is missing is an empty one; whatever carries an index
stands by it; thoughts are never said; no number of an answer loses a digit; a word for an ending means the same in
any case of letters, and one that nobody knows is never taken for known.

Shapes: chat, completions and responses as OpenAI documents them, `/v1/messages` as Anthropic does; where other
servers differ, and whose word each ending is, stands in `references/answers.md`, which tests hold against this.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from doubleword.answers.json_text import written
from doubleword.answers.vectors import by_index

THOUGHTS = ("thinking", "redacted_thinking", "reasoning", "reasoning_text", "thought", "summary_text")
MEDIA = ("audio", "output_audio", "image", "image_url", "output_image", "file")
PARTS = ("text", "output_text", "refusal", "tool_use", *THOUGHTS, *MEDIA)
THOUGHT_KEYS = ("reasoning_content", "reasoning", "reasoning_details", "thinking")
CALLS = ("function_call", "custom_tool_call", "computer_call", "local_shell_call", "mcp_approval_request")


# How an answer ended

GOOD, TRUNCATED, REFUSED, FAILED, UNFINISHED = "good", "truncated", "refused", "failed", "unfinished"
WORDS = {
    GOOD: """
        stop end_turn eos eos_token end_of_text endoftext stop_sequence stop_sequence_reached stop_criteria_met
        tool_calls tool_call tool_use function_call complete completed finished normal
        """,
    TRUNCATED: """
        length max_tokens max_output_tokens maximum_tokens token_limit limit model_length
        model_context_window_exceeded error_limit incomplete
        """,
    REFUSED: """
        content_filter content_filtered safety recitation refusal blocklist prohibited_content spii language
        sensitive guardrail_intervened error_toxic model_armor image_safety image_prohibited_content
        image_recitation
        """,
    FAILED: """
        error failed abort aborted cancelled canceled user_cancel timeout time_limit insufficient_system_resource
        network_error malformed_function_call malformed_response malformed_model_output malformed_tool_use
        unexpected_tool_call too_many_tool_calls missing_thought_signature no_image image_other
        """,
    UNFINISHED: "not_finished in_progress queued pause_turn compaction",
}
# What a word that is not in the table seems to say, the first that fits.
STEMS = {
    FAILED: """
        error fail cancel abort timeout timelimit malformed unavailable overload ratelimit quota resource network
        preempt interrupt disconnect expire
        """,
    REFUSED: "filter safety refus block prohibit policy moderat sensitive guardrail toxic harm",
    TRUNCATED: "length maxtoken maxoutput maxnew maxcompletion tokenlimit contextwindow truncat",
    UNFINISHED: "progress queued pending pause notfinish unfinish",
}


def _letters(word: str) -> str:
    return re.sub(r"[^a-z0-9]", "", word.lower())


KNOWN = {_letters(word): meaning for meaning, words in WORDS.items() for word in words.split()}


def told(value: Any) -> str | None:
    """The word in a field that says how an answer ended; None where it says nothing, as `null`, the text too, does."""
    if isinstance(value, dict):
        value = value.get("type")  # SGLang: {"type": "length", "length": 16}
    word = "" if value is None else str(value)
    return None if word.strip().lower() in ("", "null", "none") else word


@functools.lru_cache(maxsize=256)
def meaning(word: str) -> str | None:
    """What `word` means, one of the keys of `WORDS`; None for one that is not in the table."""
    parts = [word, *reversed(re.split(r"[:./]", word))]
    return next((KNOWN[name] for part in parts if (name := _letters(part).removeprefix("finishreason")) in KNOWN), None)


@functools.lru_cache(maxsize=256)
def likely(word: str) -> str | None:
    """What `word` means or, where nobody knows it, seems to mean; None where it does not even seem so."""
    name = _letters(word)
    return meaning(word) or next((one for one, stems in STEMS.items() if any(s in name for s in stems.split())), None)


# What it says


class Choice(NamedTuple):
    """One choice of an answer: what it says, refuses and calls, and the server's word for its ending, if it has one.

    `thought` is there only where nothing is said. `drafts` are the texts of several messages in one response, of
    which `said` is the one that seems to be the answer. `error` is what the server says went wrong with the choice.
    """

    said: str = ""
    refusal: str = ""
    calls: tuple[str, ...] = ()
    thought: str = ""
    ending: str | None = None
    error: Any = None
    drafts: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        """The choice as text: what was said, or the refusal; tool calls as `name(arguments)`, one a line."""
        said = self.said or self.refusal
        return "\n".join(filter(None, (said, *self.calls))) if self.calls else said


# Where a choice names its ending; OpenAI's first models for pictures used the second, OpenRouter adds the third.
ENDINGS = ("finish_reason", "finish_details", "native_finish_reason")
_OF_CHOICE = ("message", "delta", "text", "finish_reason", "error")


def listed_choices(body: Mapping[str, Any]) -> list[Any] | None:
    """The `choices` of an answer, also where they stand in an object; None where there are none."""
    found = body.get("choices")
    if isinstance(found, dict):
        return list(found.values()) if found.keys().isdisjoint(_OF_CHOICE) else [found]
    return found if isinstance(found, list) else None


def choices(body: Mapping[str, Any]) -> list[Choice] | None:
    """The choices of an answer, in the order of their index; None for what holds no message at all."""
    listed = listed_choices(body)
    if listed is not None:
        known = any(isinstance(one, dict) and not one.keys().isdisjoint(_OF_CHOICE) for one in listed)
        return [_choice(one) for one in by_index(listed)] if known else None
    if isinstance(body.get("output"), list) or body.get("object") == "response" or "incomplete_details" in body:
        return [_response(body)]
    if body.get("type") == "message" or "stop_reason" in body:
        return [_Read(body.get("content")).choice(told(body.get("stop_reason")))]
    return None


def _choice(one: Any) -> Choice:
    """A choice of chat or completions."""
    if not isinstance(one, dict):
        return Choice()
    message, error = one.get("message", one.get("delta")), one.get("error")
    ending = next(filter(None, (told(one.get(name)) for name in ENDINGS)), None)
    if not isinstance(message, dict):
        message = {"content": message}
    content, listed, older = message.get("content"), message.get("tool_calls"), message.get("function_call")
    if type(content) is str and content and not (content.isspace() or message.get("refusal") or listed or older):
        return Choice(content, ending=ending, error=error)
    read = _Read(one.get("text") if content is None else content)
    read.refusal += _text(message.get("refusal"))
    if isinstance(listed, list):
        read.calls += by_index(listed)
    read.calls.append({"function": older})
    read.media += [message[name] for name in ("audio", "images") if message.get(name)]
    read.thoughts += [message[name] for name in THOUGHT_KEYS if message.get(name)][:1]
    return read.choice(ending, error)


def _response(body: Mapping[str, Any]) -> Choice:
    """The answer of `/v1/responses`: of several messages the final one, or the last that is whole.

    `phase` says which is final. One that only comments is the answer where there is no other.
    """
    output = body.get("output")
    items = [item for item in output if isinstance(item, dict)] if isinstance(output, list) else []
    # Some servers repeat what was asked.
    said = [item for item in items if item.get("role") not in ("user", "system", "developer", "tool")]
    messages = [item for item in said if item.get("type") in (None, "message")]
    final = [item for item in messages if str(item.get("phase")).lower().startswith("final")]
    unnamed = [item for item in messages if not item.get("phase")]
    read = [(item, _Read(item.get("content"))) for item in final or unnamed or messages]
    saying = [one for one in read if one[1].said or one[1].refusal]
    whole = [one for one in saying if _is_whole(one[0])]
    item, chosen = (whole or saying or read or [({}, _Read(body.get("output_text")))])[-1]
    called = [one for one in items if one.get("type") in CALLS]
    chosen.calls += called
    chosen.thoughts += [one for one in items if one.get("type") == "reasoning"]
    drafts = tuple(one.said for _, one in read if one.said) if len(read) > 1 else ()
    return chosen.choice(_status(body, [item, *called]))._replace(drafts=drafts)


def _is_whole(item: Mapping[str, Any]) -> bool:
    status = told(item.get("status"))
    return status is None or likely(status) == GOOD


def _status(body: Mapping[str, Any], items: Iterable[Mapping[str, Any]]) -> str | None:
    """The word for the end of a response: why it is incomplete, where that is told, or its status.

    A status that is missing says nothing; one that is null says that there was no end. What stands in a completed
    response may be incomplete all the same.
    """
    status, details = told(body.get("status", "completed")), body.get("incomplete_details")
    reason = told(details.get("reason")) if isinstance(details, dict) else None
    kind = likely(status) if status is not None else None
    if kind != FAILED and reason is not None and likely(reason) is not None:
        return reason
    unwhole = [str(told(item["status"])) for item in items if not _is_whole(item)]
    return unwhole[0] if kind == GOOD and unwhole else status


class _Read:
    """A message's content taken apart: texts, refusals, thoughts, calls and media."""

    def __init__(self, content: Any) -> None:
        self.said = self.refusal = ""
        self.thoughts: list[Any] = []
        self.calls: list[Any] = []
        self.media: list[Any] = []
        if isinstance(content, list) or (isinstance(content, dict) and content.get("type") in PARTS):
            self._add(content)
        else:
            self.said = _text(content)

    def _add(self, part: Any) -> None:
        kind = part.get("type") if isinstance(part, dict) else None
        if isinstance(part, list):
            for one in by_index(part):
                self._add(one)
        elif not isinstance(part, dict):
            self.said += _text(part)
        elif kind in THOUGHTS:
            self.thoughts.append(part)
        elif kind == "tool_use":
            self.calls.append(part)
        elif kind in MEDIA:
            self.media.append(part.get(kind) or part)
        elif part.get("refusal"):
            self.refusal += _text(part["refusal"])
        else:
            text = part.get("text")
            self.said += _text(text.get("value", text) if isinstance(text, dict) else text)

    def choice(self, ending: str | None, error: Any = None) -> Choice:
        """The choice that says this; sound or pictures alone by their transcript, their URL, or as they are."""
        said = self.said if self.said.strip() else _shown_media(self.media) or self.said
        thought = "" if said.strip() else "".join(map(_thought, self.thoughts))
        calls = [call for call in self.calls if isinstance(call, dict) and not _is_hollow(call)]
        return Choice(said, self.refusal, tuple(map(_call, calls)), thought, ending, error)


def _text(value: Any) -> str:
    """A text, or another value that stands in its place as JSON."""
    if isinstance(value, str):
        return value
    return "" if _is_hollow(value) else written(value)


def _thought(value: Any) -> str:
    if isinstance(value, list):
        return "".join(map(_thought, value))
    if isinstance(value, dict):
        return _thought(next((value[name] for name in _IN_THOUGHT if value.get(name)), None))
    return value if isinstance(value, str) else ""


_IN_THOUGHT = ("thinking", "text", "reasoning", "content", "summary")


def _shown_media(value: Any) -> str:
    if isinstance(value, list):
        return "\n".join(filter(None, map(_shown_media, value)))
    if not isinstance(value, dict):
        return _text(value)
    inner = value.get("image_url")
    found = value.get("transcript") or value.get("url") or (inner.get("url") if isinstance(inner, dict) else inner)
    return _text(found) or ("" if _is_hollow(value) else written(value))


def _is_hollow(value: Any) -> bool:
    """Whether a value holds nothing but names and kinds."""
    if isinstance(value, dict):
        return all(name in ("type", "index", "status") or _is_hollow(one) for name, one in value.items())
    if isinstance(value, list):
        return all(map(_is_hollow, value))
    return value is None or (isinstance(value, str) and not value.strip())


def _call(item: Any) -> str:
    """A tool call of any endpoint as `name(arguments)`, or as JSON where it names no tool."""
    for called in (item.get("function"), item.get("custom"), item) if isinstance(item, dict) else ():
        if isinstance(called, dict) and isinstance(called.get("name"), str):
            given = called.get("arguments", called.get("input", ""))
            return f"{called['name']}({given if isinstance(given, str) else written(given)})"
    return written(item)
