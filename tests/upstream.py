"""A small OpenAI-compatible server for tests: its answers depend on the question alone, and it obeys.

Where a request asks for answers of a schema, they are JSON that keeps to it; where it asks for a stream, they come
as one, in pieces.

`Upstream` is the handle: it can be told to fail, hold, delay, cut, break off or word the answer of every question
that contains a text, and it keeps the questions it was asked. `Upstream.app` is the ASGI application to serve.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

CHAT_MODEL = "test-chat"
EMBEDDING_MODEL = "test-embedding"
ANSWER_ID = "chatcmpl-1"


@dataclass
class _Rule:
    """What happens to questions that contain `text`; `times` is how often, None for always."""

    text: str
    reply: Response | None = None
    message: dict[str, Any] | None = None
    choice: dict[str, Any] | None = None
    gate: threading.Event | None = None
    patience_s: float = 60.0
    below: int = 0
    cached: int = 0
    breaks: bool = False
    times: int | None = None


class Upstream:
    """The handle of a test upstream: program it before or while it is asked."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.running = 0
        self.most_running = 0
        self.models = [CHAT_MODEL, EMBEDDING_MODEL]
        self._rules: list[_Rule] = []
        self._guard = threading.Lock()
        self.app = Starlette(
            routes=[
                Route("/v1/models", self._models),
                Route("/v1/chat/completions", self._serve, methods=["POST"]),
                Route("/v1/completions", self._serve, methods=["POST"]),
                Route("/v1/embeddings", self._serve, methods=["POST"]),
            ]
        )

    def fail(self, text: str, status: int, body: str | None = None, times: int | None = None) -> None:
        """Answer questions that contain `text` with `status`, `times` times or always; `body` is sent as it is."""
        said = json.dumps({"error": {"message": f"told to fail: {text}"}}) if body is None else body
        self._rules.append(_Rule(text, reply=Response(said, status, media_type="application/json"), times=times))

    def say(self, text: str, answer: str) -> None:
        """Answer questions that contain `text` with `answer`."""
        self._rules.append(_Rule(text, message={"content": answer}))

    def reply(self, text: str, message: dict[str, Any], **choice: Any) -> None:
        """Answer chats that contain `text` with this `message`, in a choice that has the keys `choice` too."""
        self._rules.append(_Rule(text, message=message, choice=choice))

    def cache(self, text: str, tokens: int) -> None:
        """Say of questions that contain `text` that `tokens` of their prompt were in the cache."""
        self._rules.append(_Rule(text, cached=tokens))

    def break_off(self, text: str) -> None:
        """End the stream of every answer to a question that contains `text` half-way, as when a model server stops."""
        self._rules.append(_Rule(text, breaks=True))

    def delay(self, text: str, seconds: float) -> None:
        """Answer questions that contain `text` that long after they came: also those of a batch cancelled meanwhile."""
        self._rules.append(_Rule(text, gate=threading.Event(), patience_s=seconds))

    def cut(self, text: str, below: int) -> None:
        """Cut the answer in half, as for its length, where `max_tokens` is smaller than `below`."""
        self._rules.append(_Rule(text, below=below))

    @contextmanager
    def hold(self, text: str) -> Iterator[None]:
        """Keep questions that contain `text` waiting until the block ends."""
        gate = threading.Event()
        rule = _Rule(text, gate=gate)
        self._rules.append(rule)
        try:
            yield
        finally:
            with self._guard:  # others go through the list
                self._rules.remove(rule)
            gate.set()

    def release(self) -> None:
        """Let everything go that is held."""
        for rule in self._rules:
            if rule.gate is not None:
                rule.gate.set()

    def forget(self) -> None:
        """Let everything go, and be as new."""
        self.release()
        self._rules.clear()
        self.calls.clear()
        self.keys.clear()

    def count(self, text: str = "") -> int:
        """How many questions that contain `text` came so far."""
        return sum(1 for call in list(self.calls) if text in question(call))

    def _models(self, _request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [{"id": name, "object": "model"} for name in self.models]})

    async def _serve(self, request: Request) -> Response:
        body = json.loads(await request.body())
        self.keys.append(request.headers.get("authorization"))
        return await run_in_threadpool(self._reply, request.url.path, body)

    def _reply(self, path: str, body: dict[str, Any]) -> Response:
        asked = question(body)
        with self._guard:
            self.calls.append(body)
            self.running += 1
            self.most_running = max(self.most_running, self.running)
            rules = [rule for rule in self._rules if rule.text in asked and rule.times != 0]
            chosen = next((rule for rule in rules if rule.reply is not None), None)
            if chosen is not None and chosen.times is not None:
                chosen.times -= 1
        try:
            for rule in rules:
                if rule.gate is not None:
                    rule.gate.wait(rule.patience_s)
            if chosen is not None and chosen.reply is not None:
                return chosen.reply
            told = next((rule for rule in rules if rule.message is not None), _Rule("", message={}))
            said = {"role": "assistant", "content": _by_schema(body) or f"answer to: {asked}", **(told.message or {})}
            answer = _answer(path, body, asked, said)
            for choice in answer.get("choices", ()):
                choice.update(told.choice or {})
            for rule in rules:
                if body.get("max_tokens", rule.below) < rule.below:
                    content = answer["choices"][0]["message"]["content"]
                    answer["choices"][0]["finish_reason"] = "length"
                    answer["choices"][0]["message"]["content"] = content[: len(content) // 2]
                if rule.cached:
                    answer["usage"]["prompt_tokens_details"] = {"cached_tokens": rule.cached}
            if body.get("stream"):
                return _stream(answer, body, any(rule.breaks for rule in rules))
            return JSONResponse(answer)
        finally:
            with self._guard:
                self.running -= 1


def question(body: dict[str, Any]) -> str:
    """The text that a request asks about: its last message, its prompt, or its input."""
    if "messages" in body:
        content = body["messages"][-1].get("content")
        return content if isinstance(content, str) else json.dumps(content)
    asked = body.get("prompt", body.get("input", ""))
    return asked if isinstance(asked, str) else json.dumps(asked)


def _by_schema(body: dict[str, Any]) -> str | None:
    """An answer of the schema that the request brings, None where it brings none."""
    asked = body.get("response_format") or {}
    schema = (asked.get("json_schema") or {}).get("schema") if isinstance(asked, dict) else None
    return json.dumps(_instance(schema)) if schema else None


def _instance(schema: dict[str, Any]) -> Any:
    """The plainest value that keeps to `schema`, as far as structured outputs go."""
    if "enum" in schema:
        return schema["enum"][0]
    if "anyOf" in schema:
        return _instance(schema["anyOf"][0])
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = kind[0]
    if kind == "object":
        return {name: _instance(inner) for name, inner in schema.get("properties", {}).items()}
    if kind == "array":
        return [_instance(schema["items"])] if "items" in schema else []
    return {
        "integer": schema.get("minimum", 1),
        "number": schema.get("minimum", 1.5),
        "boolean": True,
        "null": None,
    }.get(str(kind), "some text")


def vector(text: str) -> list[float]:
    """Eight numbers that depend on `text` alone."""
    return [byte / 256 for byte in hashlib.sha256(text.encode()).digest()[:8]]


def _answer(path: str, body: dict[str, Any], asked: str, message: dict[str, Any]) -> dict[str, Any]:
    tokens, count = len(asked.split()), body.get("n") or 1
    usage: dict[str, Any] = {
        "prompt_tokens": tokens,
        "completion_tokens": 3 * count,
        "total_tokens": tokens + 3 * count,
    }
    if path == "/v1/embeddings":
        given = body["input"]
        texts = [given] if isinstance(given, str) else given
        data = [{"object": "embedding", "index": n, "embedding": vector(text)} for n, text in enumerate(texts)]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return {"object": "list", "model": body["model"], "data": data, "usage": usage}
    if path == "/v1/completions":
        choices = [{"index": n, "text": message["content"], "finish_reason": "stop"} for n in range(count)]
        return {"id": "cmpl-1", "object": "text_completion", "model": body["model"], "choices": choices, "usage": usage}
    choices = [{"index": n, "message": dict(message), "finish_reason": "stop"} for n in range(count)]
    head = {"id": ANSWER_ID, "object": "chat.completion", "created": 0, "model": body["model"]}
    return {**head, "choices": choices, "usage": usage}


def _stream(answer: dict[str, Any], body: dict[str, Any], breaks: bool) -> Response:
    """The answer as server-sent events, in the form of vLLM; where it `breaks`, without its second half."""
    head = {name: value for name, value in answer.items() if name not in ("choices", "usage")}
    head["object"] = "chat.completion.chunk" if head["object"] == "chat.completion" else head["object"]
    first, second = [], []
    for choice in answer["choices"]:
        plain = {"index": choice["index"], "logprobs": choice.get("logprobs"), "finish_reason": None}
        one, other = _halves(choice["message"] if "message" in choice else {"text": choice["text"]})
        if "message" in choice:
            first.append({**plain, "delta": {"role": "assistant", "content": None}})
            one, other = {"delta": one}, {"delta": other}
        first.append({**plain, **one})
        second += [{**plain, **other, "finish_reason": choice["finish_reason"]}]
    events = [{**head, "choices": [piece]} for piece in first]
    if not breaks:
        events += [{**head, "choices": [piece]} for piece in second]
        if (body.get("stream_options") or {}).get("include_usage"):
            events.append({**head, "choices": [], "usage": answer["usage"]})
    ends = "" if breaks else "data: [DONE]\n\n"
    content = "".join(f"data: {json.dumps(event, ensure_ascii=False)}\n\n" for event in events) + ends
    return Response(content, media_type="text/event-stream")


def _halves(value: Any) -> tuple[Any, Any]:
    """Two pieces of a message: each of its texts cut in the middle, and what names a thing in the first alone."""
    if isinstance(value, str):
        return value[: len(value) // 2], value[len(value) // 2 :]
    if isinstance(value, list):
        numbered = [({"index": n, **one}, {"index": n, **other}) for n, (one, other) in enumerate(map(_halves, value))]
        return [one for one, _other in numbered], [other for _one, other in numbered]
    if isinstance(value, dict):
        names = ("role", "id", "type", "name")
        cut = {name: _halves(inner) for name, inner in value.items() if name not in names}
        told = {name: inner for name, inner in value.items() if name in names}
        return told | {name: one for name, (one, _) in cut.items()}, {name: other for name, (_, other) in cut.items()}
    return value, None
