"""The routes of the API, as an ASGI application.

Promises: paths, status codes, bodies and headers are those of the server (dwctl 10.13.1, and what is known of
11), plain-text errors among them. What is here: files, batches, models, one account with its prices, credits and
cap, and the realtime chat/completions, completions, embeddings and responses. What is not: webhooks, the admin
API, rate limits, organisations, streams to the client, /v1/messages in real time, flex service, images by URL, and of
the list of batches `active_first` and `member_id`.
"""

from __future__ import annotations

import contextlib
import hmac
import re
import sqlite3
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from doubleword.engine.batch_routes import batch_routes
from doubleword.engine.file_routes import file_routes
from doubleword.engine.models.answer import Responder, refusal
from doubleword.engine.models.worker import Worker
from doubleword.engine.realtime_routes import URLS, as_response, no_model, realtime_routes
from doubleword.engine.settings import Settings
from doubleword.engine.storage.batches import Refused
from doubleword.engine.storage.store import Store


def build(
    store: Store, responder: Responder, settings: Settings, worker: Worker | None = None, key: str = ""
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
        *file_routes(store, responder, settings),
        *batch_routes(store, responder, settings, wake),
        *realtime_routes(store, responder, settings),
    ]
    app = Starlette(
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
    app.router.redirect_slashes = False
    return app


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
        return as_response(refusal(401, message, code))
    if path in URLS:  # the proxy's own answers (onwards/src/errors.rs)
        if has_key:
            return as_response(refusal(403, "Forbidden", "forbidden"))
        message = "Please supply an authentication token to access this resource"
        return as_response(refusal(401, message, "unauthenticated"))
    if re.fullmatch(r"/v1/(files|batches)(/.+)?", path):
        return PlainTextResponse("Authentication required", 401)
    return no_model()


async def _refused(_request: Request, refused: Exception) -> Response:
    assert isinstance(refused, Refused)
    return PlainTextResponse(refused.text, refused.status)


async def _gone(_request: Request, _error: Exception) -> Response:
    return Response(status_code=499)  # nobody is there to read it


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404 and request.url.path.startswith("/v1/"):
        return no_model()
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
