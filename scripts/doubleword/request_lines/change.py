"""What is changed in requests that are asked again: a longer answer, another model, a note that mends.

Promises: only what was asked for is changed, and a change made twice is made once; what cannot be changed in a
request is an error before anything is sent.

Names of the limits and forms of the input: OpenAI's API reference for each endpoint.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from doubleword.failure import Exit, Failure, plain
from doubleword.quick_msgspec import Struct, to_builtins
from doubleword.request_lines.line import to_line
from doubleword.service import CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, TOKEN_LIMIT

CHAT_LIMITS = ("max_completion_tokens", "max_tokens")


class Change(Struct, frozen=True, omit_defaults=True):
    """The limit of tokens, the model and the note that requests get; None for what stays as it is."""

    max_tokens: int | None = None
    model: str | None = None
    note: str | None = None

    def __bool__(self) -> bool:
        return self != Change()

    @property
    def recorded(self) -> dict[str, Any] | None:
        """What the job file keeps; None where nothing is changed."""
        return to_builtins(self) or None

    def applied(self, line: bytes) -> bytes:
        """The changed request of a checked line; raises Failure (2) for one that cannot be changed so."""
        if not self:
            return line
        request = json.loads(line)
        url, body = request["url"], request["body"]
        if url == EMBEDDINGS and (self.max_tokens is not None or self.note is not None):
            raise _bad(request, "an embedding has no limit of tokens and heeds no note", "leave all but --model out")
        if self.model is not None:
            body["model"] = self.model
        if self.max_tokens is not None:
            names = [name for name in CHAT_LIMITS if name in body] if url == CHAT else []
            body.update(dict.fromkeys(names or [TOKEN_LIMIT[url]], self.max_tokens))
        if self.note is not None:
            self._add_note(request, url, body, self.note)
        try:
            return to_line(request)
        except ValueError as error:
            raise _bad(request, str(error), "write the note in plain text") from None

    def _add_note(self, request: dict[str, Any], url: str, body: dict[str, Any], note: str) -> None:
        if url == COMPLETIONS:
            prompt = body.get("prompt")
            texts = [prompt] if isinstance(prompt, str) else prompt
            if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
                raise _bad(request, "its prompt is no text, so no note can be added", "leave --note out")
            noted = [_noted(text, note) for text in texts]
            body["prompt"] = noted[0] if isinstance(prompt, str) else noted
        elif url in (CHAT, MESSAGES):
            _add_to_messages(body["messages"], note, "text")
        elif isinstance(body.get("input"), list):
            _add_to_messages(body["input"], note, "input_text")
        else:
            body["input"] = _noted(str(body.get("input") or ""), note)


def asked_change(args: argparse.Namespace) -> Change:
    """The change that the arguments of `retry_failed.py` name; raises Failure (2) for an empty one."""
    change = Change(args.max_tokens, args.model, args.note)
    for flag, text in (("--model", change.model), ("--note", change.note)):
        if text is not None and not text.strip():
            raise Failure(Exit.BAD_INPUT, "bad_arguments", f"{flag} is empty", f"leave {flag} out, or fill it")
    return change


def _add_to_messages(messages: list[Any], note: str, part: str) -> None:
    """Add the note to the last message of the user, or as one where there is none."""
    last = next((one for one in reversed(messages) if isinstance(one, dict) and one.get("role") == "user"), None)
    if last is None:
        messages.append({"role": "user", "content": note})
    elif isinstance(last.get("content"), list):
        if {"type": part, "text": note} not in last["content"]:
            last["content"].append({"type": part, "text": note})
    else:
        last["content"] = _noted(str(last.get("content") or ""), note)


def _noted(text: str, note: str) -> str:
    """`text` with the note as its last paragraph, where it does not stand already."""
    return text if text.endswith(note) else f"{text}\n\n{note}"


def _bad(request: dict[str, Any], why: str, hint: str) -> Failure:
    message = f"the request {plain(request['custom_id'], 64)} cannot be changed so: {plain(why, 120)}"
    return Failure(Exit.BAD_INPUT, "bad_change", message, hint)
