"""The routes of the API, as an ASGI application.

Promises: paths, status codes, bodies and headers are those of the server (dwctl 10.13.1), plain-text errors
among them. What is here: files, batches, models, and the realtime chat/completions, completions, embeddings
and responses. What is not: webhooks, the admin API, accounts with their balances, prices and rate limits,
organisations, streaming, /v1/messages, flex and background service, images by URL, and of the list of batches
`active_first` and `member_id`. Of the cost estimate, tokens and counts are here and every cost is "0".
"""

from __future__ import annotations

import contextlib
import hmac
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable

import orjson
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from doubleword.engine.batch_routes import batch_routes
from doubleword.engine.file_routes import file_routes
from doubleword.engine.models.answer import Answer, NoAnswer, Responder, refusal
from doubleword.engine.models.worker import Worker, respond
from doubleword.engine.storage.batches import Refused
from doubleword.engine.storage.store import Store
from doubleword.engine.upload import Limits

REALTIME = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses")


def build(
    store: Store, responder: Responder, worker: Worker | None = None, key: str = "", limits: Limits | None = None
) -> Starlette:
    """The application over `store`. `key` is the one bearer key that is let in; empty lets any in.

    Where a `worker` is given it runs as long as the application does (ASGI lifespan).
    """

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        if worker is not None:
            worker.start()
        try:
            yield
        finally:
            if worker is not None:
                await run_in_threadpool(worker.stop)

    wake = worker.wake if worker is not None else _nothing
    routes = [
        *file_routes(store, responder, limits or Limits()),
        *batch_routes(store, responder, wake),
        Route("/v1/models", _models(responder)),
        *(Route(url, _realtime(responder, url, limits or Limits()), methods=["POST"]) for url in REALTIME),
    ]
    return Starlette(
        routes=routes,
        lifespan=lifespan,
        middleware=[Middleware(_OnlyWithKey, key=key)],
        exception_handlers={
            Refused: _refused,
            ClientDisconnect: _gone,
            HTTPException: _no_route,
            sqlite3.OperationalError: _overloaded,
            Exception: _failed,
        },
    )


class _OnlyWithKey:
    """Lets a request pass that carries the key; the reason of a refusal is not told (current_user.rs:711-723)."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        self._app = app
        self._key = key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        token = given.removeprefix(b"Bearer ").strip() if given.startswith(b"Bearer ") else b""
        if token and (not self._key or hmac.compare_digest(token, self._key)):
            await self._app(scope, receive, send)
        else:
            await _denied(scope["path"], bool(token))(scope, receive, send)


def _denied(path: str, has_key: bool) -> Response:
    if path == "/v1/models":
        message, code = ("Invalid API key", "invalid_api_key") if has_key else ("Missing key", "missing_authorization")
        return as_json(refusal(401, message, code))
    if path in REALTIME:  # the proxy's own answers (onwards/src/errors.rs)
        if has_key:
            return as_json(refusal(403, "Forbidden", "forbidden"))
        return as_json(refusal(401, "Authentication required", "unauthenticated"))
    return PlainTextResponse("Authentication required", 401)


def _models(responder: Responder) -> Callable[[Request], Response]:
    def models(_request: Request) -> Response:
        data = [{"id": name, "object": "model", "created": 0, "owned_by": "None"} for name in responder.models()]
        return JSONResponse({"object": "list", "data": data})

    return models


def _realtime(responder: Responder, url: str, limits: Limits) -> Callable[[Request], Awaitable[Response]]:
    async def realtime(request: Request) -> Response:
        body = await read_body(request, limits.body_bytes)
        if body is None:
            return as_json(refusal(413, "Request body too large", "payload_too_large"))
        try:
            asked = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            return as_json(refusal(400, f"Could not parse the request body as JSON: {error}", "bad_request"))
        model = asked.get("model") if isinstance(asked, dict) else None
        if not isinstance(model, str):
            return as_json(refusal(400, "The request names no model", "bad_request"))
        if await run_in_threadpool(responder.model_kind, model) is None:
            return as_json(refusal(404, f"The model `{model}` does not exist", "model_not_found"))
        try:
            answer = await run_in_threadpool(respond, responder, url, asked)
        except NoAnswer as failure:
            status, code = (504, "gateway_timeout") if failure.kind == "Timeout" else (502, "internal_error")
            answer = refusal(status, failure.error, code, "server_error")
        return as_json(answer)

    return realtime


def as_json(answer: Answer) -> Response:
    """The answer as a response of its own."""
    return Response(answer.text, answer.status, media_type="application/json")


async def read_body(request: Request, limit: int) -> bytes | None:
    """The request's body; None where it is longer than `limit` bytes."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            return None
        parts.append(part)
    return b"".join(parts)


async def _refused(_request: Request, refused: Exception) -> Response:
    assert isinstance(refused, Refused)
    return PlainTextResponse(refused.text, refused.status)


async def _gone(_request: Request, _error: Exception) -> Response:
    return Response(status_code=499)  # nobody is there to read it


async def _no_route(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return Response(status_code=error.status_code, headers=error.headers)


async def _overloaded(_request: Request, _error: Exception) -> Response:
    """The store is locked or its disk full: the server's answer when its database has no place (errors.rs)."""
    message = "Service temporarily overloaded, please retry"
    body = {"error": "service_unavailable", "message": message, "retry_after_seconds": 30}
    return JSONResponse(body, 503, headers={"Retry-After": "30"})


async def _failed(_request: Request, _error: Exception) -> Response:
    return PlainTextResponse("Internal server error", 500)


def _nothing() -> None:
    """What is woken where no worker runs."""
