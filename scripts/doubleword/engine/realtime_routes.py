"""The list of models, and the endpoints that answer at once: chat/completions, completions, embeddings, responses.

Promises: refusals come in OpenAI's error envelope where the server's proxy sends them so (onwards/src/errors.rs);
each answer that is paid for is in the ledger, at the realtime price, before the client has it.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from doubleword.engine.models.answer import Answer, NoAnswer, Responder, refusal
from doubleword.engine.models.proxy import respond, used_tokens
from doubleword.engine.settings import REALTIME, Settings
from doubleword.engine.storage.ledger import Ledger, Used
from doubleword.engine.storage.store import Store
from doubleword.engine.web import read_body

URLS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses")
NO_MODEL = (
    "Could not parse onwards model from request. 'model' parameter must be supplied in either the body or in the"
    " Model-Override header."
)


def realtime_routes(store: Store, responder: Responder, settings: Settings) -> list[Route]:
    """The routes; `responder` answers what they are asked."""
    routes = [Route(url, _realtime(store, responder, url, settings), methods=["POST"]) for url in URLS]
    return [Route("/v1/models", _models(responder, settings)), *routes]


def no_model() -> Response:
    """What the proxy answers to a request that names no model: it takes every path that no other route takes."""
    return as_response(refusal(400, NO_MODEL, "bad_request", param="model"))


def as_response(answer: Answer) -> Response:
    """The answer as a response of its own."""
    if isinstance(answer.body, str):
        return PlainTextResponse(answer.body, answer.status)
    return Response(answer.text, answer.status, media_type="application/json")


def _models(responder: Responder, settings: Settings) -> Callable[[Request], Response]:
    def models(request: Request) -> Response:
        try:
            realtime = _flag(request, "available_for_realtime")
            efforts = settings.reasoning_efforts if _flag(request, "include_reasoning_capabilities") else {}
        except ValueError as problem:
            return as_response(refusal(400, str(problem), "invalid_query_parameter"))
        data = []
        for name in responder.models():
            if realtime is None or realtime is (name not in settings.batch_only):
                model: dict[str, Any] = {"id": name, "object": "model", "created": 0, "owned_by": "None"}
                data.append({**model, "supported_reasoning_efforts": efforts[name]} if name in efforts else model)
        return JSONResponse({"object": "list", "data": data})

    return models


def _flag(request: Request, name: str) -> bool | None:
    """True or false in the query, None where it is absent (ai_models.rs)."""
    given = request.query_params.get(name)
    if given is None:
        return None
    if given.strip().lower() not in ("true", "false"):
        raise ValueError(f"Invalid {name} query parameter. Expected true or false.")
    return given.strip().lower() == "true"


def _realtime(
    store: Store, responder: Responder, url: str, settings: Settings
) -> Callable[[Request], Awaitable[Response]]:
    ledger = Ledger(store, settings.account)

    def ask(asked: dict[str, Any]) -> Answer:
        started = time.monotonic()
        model = asked["model"]
        if responder.model_kind(model) is None:
            message = f"The model `{model}` does not exist or you do not have access to it."
            return refusal(404, message, "model_not_found")
        if model in settings.batch_only:
            blocked = f"Real-time access to '{model}' is blocked by a routing rule."
            return Answer(403, f"{blocked} Please contact your administrator to request access.")
        answer = respond(responder, ledger, url, asked)
        if 200 <= answer.status < 300:
            took_ms = (time.monotonic() - started) * 1000
            tokens = used_tokens(answer.body)
            used = Used(store.now(), None, model, REALTIME, tokens, took_ms, answer.first_byte_ms or took_ms)
            with store.writing() as connection:
                ledger.charge(connection, used)
        return answer

    async def realtime(request: Request) -> Response:
        body = await read_body(request, settings.limits.body_bytes)
        if body is None:
            message = f"Request body too large: the maximum allowed size is {settings.limits.body_bytes} bytes."
            return as_response(refusal(413, message, "payload_too_large"))
        try:
            asked = orjson.loads(body)
        except orjson.JSONDecodeError:
            return no_model()
        if not isinstance(asked, dict) or not isinstance(asked.get("model"), str):
            return no_model()
        try:
            return as_response(await run_in_threadpool(ask, asked))
        except NoAnswer as failure:
            status, code = (504, "gateway_timeout") if failure.kind == "Timeout" else (502, "internal_error")
            return as_response(refusal(status, failure.error, code, "server_error"))

    return realtime
