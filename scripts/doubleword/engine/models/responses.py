"""The Responses API over chat completions: a request translated there, its answer translated back.

Promises: as the server does it (texts, function tools, structured output), and no more: what a chat cannot
express is refused with a 400 instead of being dropped in silence.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from doubleword.engine.models.answer import Answer, Responder, refusal
from doubleword.engine.models.streaming import answer_streamed

CHAT = "/v1/chat/completions"
SAME = ("model", "temperature", "top_p", "seed", "stop", "user", "parallel_tool_calls", "top_logprobs")
REFUSED = ("previous_response_id", "conversation", "prompt")


def answer_responses(responder: Responder, body: dict[str, Any], streamed: bool = False) -> Answer:
    """The answer to a POST of `body` to /v1/responses. Raises `NoAnswer` as the responder does.

    Where the chat is `streamed`, the server says of every response that it is completed.
    """
    try:
        chat = _chat_request(body)
    except (ValueError, TypeError, KeyError) as problem:
        return refusal(400, str(problem))
    answer = answer_streamed(responder, CHAT, chat) if streamed else responder.answer(CHAT, chat)
    if answer.status >= 400 or not isinstance(answer.body, dict):
        return answer
    return replace(answer, body=_response(body, answer.body, tells_cuts=not streamed))


def _chat_request(body: dict[str, Any]) -> dict[str, Any]:
    for name in REFUSED:
        if body.get(name) is not None:
            raise ValueError(f"'{name}' needs a server that keeps responses, which the embedded engine does not")
    if body.get("stream"):
        raise ValueError("the embedded engine does not stream")
    chat = {name: body[name] for name in SAME if body.get(name) is not None}
    chat["messages"] = _messages(body)
    if body.get("max_output_tokens") is not None:
        chat["max_tokens"] = body["max_output_tokens"]
    effort = (body.get("reasoning") or {}).get("effort")
    if effort is not None:
        chat["reasoning_effort"] = effort
    form = (body.get("text") or {}).get("format") or {"type": "text"}
    if form["type"] == "json_schema":
        schema = {name: form[name] for name in ("name", "schema", "strict", "description") if name in form}
        chat["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif form["type"] == "json_object":
        chat["response_format"] = {"type": "json_object"}
    tools = body.get("tools") or []
    functions = [tool for tool in tools if tool.get("type") == "function"]
    if len(functions) < len(tools):
        raise ValueError("the embedded engine knows no tools but functions")
    if functions:
        chat["tools"] = [
            {"type": "function", "function": {name: tool[name] for name in tool if name != "type"}}
            for tool in functions
        ]
        choice = body.get("tool_choice")
        if choice is not None:
            named = isinstance(choice, dict)
            chat["tool_choice"] = {"type": "function", "function": {"name": choice["name"]}} if named else choice
    return chat


def _messages(body: dict[str, Any]) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    if body.get("instructions"):
        messages.append({"role": "system", "content": body["instructions"]})
    given = body.get("input")
    if isinstance(given, str):
        return [*messages, {"role": "user", "content": given}]
    if not isinstance(given, list) or not given:
        raise ValueError("'input' must be a text or a list of items")
    return messages + [_message(item) for item in given]


def _message(item: Any) -> dict[str, Any]:
    kind = item.get("type", "message") if isinstance(item, dict) else None
    if kind == "function_call":
        function = {"name": item["name"], "arguments": item["arguments"]}
        calls = [{"id": item["call_id"], "type": "function", "function": function}]
        return {"role": "assistant", "content": None, "tool_calls": calls}
    if kind == "function_call_output":
        return {"role": "tool", "tool_call_id": item["call_id"], "content": item["output"]}
    if kind != "message":
        raise ValueError(f"the embedded engine does not read input items of type {kind}")
    content = item["content"]
    if isinstance(content, list):
        parts = [_content_part(part) for part in content]
        only_text = all(part["type"] == "text" for part in parts)
        content = "".join(part["text"] for part in parts) if only_text else parts
    role = item["role"]
    return {"role": "system" if role == "developer" else role, "content": content}


def _content_part(part: dict[str, Any]) -> dict[str, Any]:
    if part["type"] in ("input_text", "output_text", "text"):
        return {"type": "text", "text": part["text"]}
    if part["type"] == "input_image" and part.get("image_url"):
        return {"type": "image_url", "image_url": {"url": part["image_url"], "detail": part.get("detail", "auto")}}
    raise ValueError(f"the embedded engine does not read content of type {part['type']}")


def _response(body: dict[str, Any], chat: dict[str, Any], tells_cuts: bool) -> dict[str, Any]:
    """The response of a chat. A refusal is lost, as on the server: its text is empty."""
    choice = (chat.get("choices") or [{}])[0]
    message = choice.get("message") or {}
    cut = tells_cuts and choice.get("finish_reason") == "length"
    status = "incomplete" if cut else "completed"
    output: list[dict[str, Any]] = []
    if message.get("content") or not message.get("tool_calls"):
        content: dict[str, Any] = {"type": "output_text", "text": message.get("content") or "", "annotations": []}
        output.append({"id": "msg_0", "type": "message", "role": "assistant", "status": status, "content": [content]})
    for number, call in enumerate(message.get("tool_calls") or []):
        output.append(
            {
                "id": f"fc_{number}",
                "type": "function_call",
                "status": "completed",
                "call_id": call["id"],
                "name": call["function"]["name"],
                "arguments": call["function"]["arguments"],
            }
        )
    usage = chat.get("usage") or {}
    details = usage.get("completion_tokens_details") or {}
    prompt_details = usage.get("prompt_tokens_details") or {}
    return {
        "id": chat.get("id", "resp"),
        "object": "response",
        "created_at": chat.get("created", 0),
        "status": status,
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "error": None,
        "model": chat.get("model", body.get("model")),
        "instructions": body.get("instructions"),
        "output": output,
        "parallel_tool_calls": body.get("parallel_tool_calls", True),
        "temperature": body.get("temperature"),
        "top_p": body.get("top_p"),
        "tool_choice": body.get("tool_choice", "auto"),
        "tools": body.get("tools") or [],
        "usage": {
            "input_tokens": usage.get("prompt_tokens", 0),
            "input_tokens_details": {"cached_tokens": prompt_details.get("cached_tokens", 0)},
            "output_tokens": usage.get("completion_tokens", 0),
            "output_tokens_details": {"reasoning_tokens": details.get("reasoning_tokens", 0)},
            "total_tokens": usage.get("total_tokens", 0),
        },
    }
