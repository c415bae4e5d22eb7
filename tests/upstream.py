"""A small OpenAI-compatible server for tests: its answers depend on the question alone, and it obeys.

Where a request asks for answers of a schema, they are JSON that keeps to it.

`Upstream` is the handle: it can be told to fail, hold, cut or word the answer of every question that contains a
text, and it keeps the questions it was asked. `Upstream.app` is the ASGI application to serve.
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


@dataclass
class _Rule:
    """What happens to questions that contain `text`; `times` is how often, None for always."""

    text: str
    reply: Response | None = None
    answer: str | None = None
    gate: threading.Event | None = None
    below: int = 0
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
        self._rules.append(_Rule(text, answer=answer))

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
                    rule.gate.wait(60)
            if chosen is not None and chosen.reply is not None:
                return chosen.reply
            said = next((rule.answer for rule in rules if rule.answer is not None), None) or _by_schema(body)
            said = said or f"answer to: {asked}"
            answer = _answer(path, body, asked, said)
            if any(body.get("max_tokens", rule.below) < rule.below for rule in rules):
                answer["choices"][0]["finish_reason"] = "length"
                answer["choices"][0]["message"]["content"] = said[: len(said) // 2]
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


def _answer(path: str, body: dict[str, Any], asked: str, said: str) -> dict[str, Any]:
    tokens = len(asked.split())
    usage = {"prompt_tokens": tokens, "completion_tokens": 3, "total_tokens": tokens + 3}
    if path == "/v1/embeddings":
        given = body["input"]
        texts = [given] if isinstance(given, str) else given
        data = [{"object": "embedding", "index": n, "embedding": vector(text)} for n, text in enumerate(texts)]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return {"object": "list", "model": body["model"], "data": data, "usage": usage}
    if path == "/v1/completions":
        choice: dict[str, Any] = {"index": 0, "text": said, "finish_reason": "stop"}
        return {
            "id": "cmpl-1",
            "object": "text_completion",
            "model": body["model"],
            "choices": [choice],
            "usage": usage,
        }
    choice = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 0,
        "model": body["model"],
        "choices": [choice],
        "usage": usage,
    }
