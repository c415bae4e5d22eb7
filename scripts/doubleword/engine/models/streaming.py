"""Streamed dispatch: the model server is asked for a stream, and its pieces are put together again.

Promises: what comes out has the form of an answer in one piece, with what the server loses on the way: `logprobs`,
fields of a message that are null, and the end of a stream that the model server cut, whose `finish_reason` and
`usage` are then null. What is no stream of events although its status is 200 is a failure that is tried again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import orjson

from doubleword.engine.models.answer import Answer, NoAnswer, Responder

STREAMED = ("/v1/chat/completions", "/v1/completions")
TOLD_ONCE = ("role", "id", "type", "name")  # what other strings of a delta are pieces of a longer one


def answer_streamed(responder: Responder, url: str, body: dict[str, Any]) -> Answer:
    """The answer to a POST of `body` to `url`, put together. Raises `NoAnswer` as the responder does."""
    if url not in STREAMED:
        return responder.answer(url, body)
    if not responder.streams:
        answer = responder.answer(url, body)
        return replace(answer, body=_without_nulls(answer.body)) if answer.status < 400 else answer
    answer = responder.answer(url, {**body, "stream": True, "stream_options": {"include_usage": True}})
    if answer.status >= 400:
        return answer
    events = list(_events(answer.body)) if isinstance(answer.body, str) else []
    for event in events:
        if isinstance(event.get("error"), dict):  # the status that the stream could not have any more
            code = event["error"].get("code")
            return replace(answer, status=code if isinstance(code, int) and 400 <= code < 600 else 500, body=event)
    if not events:
        raise NoAnswer("NetworkError", f"status {answer.status}, but the answer is no stream of events")
    return replace(answer, body=_whole(events))


def _events(text: str) -> Iterator[dict[str, Any]]:
    """The JSON objects of a stream of server-sent events; a last one that was cut is left out."""
    for line in text.split("\n"):  # no other line ends, for texts may hold them
        if line.startswith("data:"):
            try:
                event = orjson.loads(line.removeprefix("data:"))
            except orjson.JSONDecodeError:  # [DONE], or the place where it was cut
                continue
            if isinstance(event, dict):
                yield event


def _whole(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The answer whose pieces the events are."""
    choices: dict[int, dict[str, Any]] = {}
    usage = None
    for event in events:
        usage = event.get("usage") or usage
        for piece in event.get("choices") or []:
            number = piece.get("index", 0)
            choice = choices.setdefault(number, {"index": number, "finish_reason": None})
            choice["finish_reason"] = piece.get("finish_reason") or choice["finish_reason"]
            if "text" in piece:
                choice["text"] = choice.get("text", "") + (piece["text"] or "")
            else:
                _add(choice.setdefault("message", {}), piece.get("delta") or {})
    head = {name: value for name, value in events[0].items() if name not in ("choices", "usage")}
    kind = str(head.get("object", "")).removesuffix(".chunk")
    return {**head, "object": kind, "choices": [choices[number] for number in sorted(choices)], "usage": usage}


def _add(known: dict[str, Any], piece: dict[str, Any]) -> None:
    """Add a piece of a message, or of one of its tool calls, to what is known of it."""
    for name, value in piece.items():
        if value is None:
            continue
        if name == "tool_calls":
            calls = known.setdefault(name, [])
            for call in value:
                while len(calls) <= call.get("index", 0):
                    calls.append({})
                _add(calls[call.get("index", 0)], {key: part for key, part in call.items() if key != "index"})
        elif isinstance(value, dict):
            _add(known.setdefault(name, {}), value)
        elif isinstance(value, str) and name not in TOLD_ONCE:
            known[name] = known.get(name, "") + value
        else:
            known[name] = value


def _without_nulls(body: Any) -> Any:
    """An answer in one piece, without what a stream would have lost."""
    if not isinstance(body, dict):
        return body
    choices = []
    for choice in body.get("choices") or []:
        kept = {name: value for name, value in choice.items() if name != "logprobs"}
        if isinstance(kept.get("message"), dict):
            kept["message"] = {name: value for name, value in kept["message"].items() if value is not None}
        choices.append(kept)
    return {**body, "choices": choices}
