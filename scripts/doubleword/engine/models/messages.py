"""Anthropic's Messages API over chat completions: a request translated there, its answer translated back.

Promises: as the server does it (texts, images, client tools), and no more: what a chat cannot express is refused with a
400 instead of being dropped in silence. Forms: docs.claude.com, api/messages.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from doubleword.engine.models.answer import Answer, Responder, refusal
from doubleword.engine.models.streaming import answer_streamed

CHAT = "/v1/chat/completions"
SAME = {"model": "model", "max_tokens": "max_tokens", "temperature": "temperature", "top_p": "top_p"}
CHOICES = {"auto": "auto", "any": "required", "none": "none"}
ENDINGS = {"length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}


def answer_messages(responder: Responder, body: dict[str, Any], streamed: bool = False) -> Answer:
    """The answer to a POST of `body` to /v1/messages. Raises `NoAnswer` as the responder does."""
    try:
        chat = _chat_request(body)
    except (ValueError, TypeError, KeyError, AttributeError) as problem:
        return refusal(400, str(problem))
    answer = answer_streamed(responder, CHAT, chat) if streamed else responder.answer(CHAT, chat)
    if answer.status >= 400 or not isinstance(answer.body, dict):
        return answer
    return replace(answer, body=_message(body, answer.body))


def _chat_request(body: dict[str, Any]) -> dict[str, Any]:
    if body.get("stream"):
        raise ValueError("the embedded engine does not stream")
    chat = {name: body[given] for given, name in SAME.items() if body.get(given) is not None}
    if body.get("stop_sequences"):
        chat["stop"] = body["stop_sequences"]
    system = body.get("system")
    before = [{"role": "system", "content": _text(system)}] if system else []
    chat["messages"] = before + [one for message in body["messages"] for one in _turns(message)]
    form = (body.get("output_config") or {}).get("format")
    if form is not None:
        schema = {"name": "answer", "schema": form["schema"], "strict": True}
        chat["response_format"] = {"type": "json_schema", "json_schema": schema}
    if body.get("tools"):
        chat["tools"] = [_function(tool) for tool in body["tools"]]
        choice = body.get("tool_choice")
        if choice is not None:
            named = {"type": "function", "function": {"name": choice.get("name")}}
            chat["tool_choice"] = named if choice["type"] == "tool" else CHOICES[choice["type"]]
    return chat


def _function(tool: dict[str, Any]) -> dict[str, Any]:
    if tool.get("type", "custom") != "custom":
        raise ValueError("the embedded engine knows no tools but the client's own")
    told = {"name": tool["name"], "parameters": tool["input_schema"]}
    return {"type": "function", "function": {**told, "description": tool.get("description")}}


def _text(content: Any) -> str:
    """A text, also where it comes as blocks of text."""
    return content if isinstance(content, str) else "".join(block["text"] for block in content or ())


def _turns(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The messages of a chat that say what one of this API says: results of tools are messages of their own there."""
    role, content = message["role"], message["content"]
    if role not in ("user", "assistant"):
        raise ValueError(f"messages: Unexpected role '{role}'")
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    results = [block for block in blocks if block["type"] == "tool_result"]
    for block in results:
        yield {"role": "tool", "tool_call_id": block["tool_use_id"], "content": _text(block.get("content"))}
    calls = [
        {
            "id": block["id"],
            "type": "function",
            "function": {"name": block["name"], "arguments": json.dumps(block["input"])},
        }
        for block in blocks
        if block["type"] == "tool_use"
    ]
    parts = [_part(block) for block in blocks if block["type"] not in ("tool_result", "tool_use", "thinking")]
    only_text = all(part["type"] == "text" for part in parts)
    if parts or calls or not results:
        said = "".join(part["text"] for part in parts) if only_text else parts
        yield {"role": role, "content": said, **({"tool_calls": calls} if calls else {})}


def _part(block: dict[str, Any]) -> dict[str, Any]:
    if block["type"] == "text":
        return {"type": "text", "text": block["text"]}
    if block["type"] == "image":
        source = block["source"]
        data = source["type"] == "base64"
        url = f"data:{source['media_type']};base64,{source['data']}" if data else source["url"]
        return {"type": "image_url", "image_url": {"url": url}}
    raise ValueError(f"the embedded engine does not read content of type {block['type']}")


def _message(body: dict[str, Any], chat: dict[str, Any]) -> dict[str, Any]:
    """The message of a chat's answer."""
    choice = (chat.get("choices") or [{}])[0]
    message, usage = choice.get("message") or {}, chat.get("usage") or {}
    content: list[dict[str, Any]] = []
    if message.get("content"):
        content.append({"type": "text", "text": message["content"]})
    for call in message.get("tool_calls") or []:
        function = call["function"]
        given = json.loads(function["arguments"] or "{}")
        content.append({"type": "tool_use", "id": call["id"], "name": function["name"], "input": given})
    return {
        "id": chat.get("id", "msg"),
        "type": "message",
        "role": "assistant",
        "model": chat.get("model", body.get("model")),
        "content": content,
        "stop_reason": ENDINGS.get(choice.get("finish_reason"), "end_turn"),
        "stop_sequence": None,
        "usage": {"input_tokens": usage.get("prompt_tokens", 0), "output_tokens": usage.get("completion_tokens", 0)},
    }
