"""The /batches routes (dwctl batches.rs).

Promises: the checks stand in the server's order; a batch is created once for each accepted POST, never twice.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from doubleword.engine.file_routes import stream
from doubleword.engine.models.answer import Responder
from doubleword.engine.settings import Settings
from doubleword.engine.storage.batches import BACKGROUND, STATUS_FILTERS, WINDOWS_S, Batches, Refused, Search
from doubleword.engine.storage.contents import Contents
from doubleword.engine.storage.files import Files
from doubleword.engine.storage.ledger import Ledger
from doubleword.engine.storage.store import Store, is_id
from doubleword.engine.upload import URLS
from doubleword.engine.web import content_page, json_object, list_limit, list_object, path_id, text_field, unfit


def batch_routes(store: Store, responder: Responder, settings: Settings, wake: Callable[[], None]) -> list[Route]:
    """The routes over `store`; `wake` is called when there may be new work."""
    ledger = Ledger(store, settings.account)
    batches, contents, files = Batches(store, ledger), Contents(store), Files(store, ledger)

    def make(asked: tuple[str, str, str], metadata: dict[str, str]) -> dict[str, Any]:
        if ledger.balance() < 0:
            raise Refused(402, "Account balance too low. Please add credits to continue.")
        gone = [model for model in files.models(asked[0]) if responder.model_kind(model) is None]
        if gone:
            raise Refused(400, f"The following model(s) are no longer available: {', '.join(gone)}")
        if ledger.left_of_cap() <= 0:
            raise Refused(402, "The API key used for this batch has reached its spending cap. Raise or remove the cap.")
        return batches.create(*asked, metadata)

    async def create(request: Request) -> Response:
        body = await json_object(request)
        shown = await run_in_threadpool(make, _checked(body, settings.background), _metadata(body))
        wake()
        return JSONResponse(shown, 201)

    return [
        Route("/v1/batches", create, methods=["POST"]),
        *_reading(batches, contents),
        *_changing(batches, wake),
    ]


def _reading(batches: Batches, contents: Contents) -> list[Route]:
    def page(request: Request) -> Response:
        wants_analytics = "analytics" in request.query_params.get("include", "").split(",")
        return JSONResponse(list_object(*batches.page(_search(request), wants_analytics)))

    def get(request: Request) -> Response:
        return JSONResponse(batches.get(path_id(request, "batch")))

    def results(request: Request) -> Response:
        status = request.query_params.get("status") or None
        return stream(contents.of_batch(path_id(request, "batch"), content_page(request), status))

    def analytics(request: Request) -> Response:
        return JSONResponse(batches.analytics(path_id(request, "batch")))

    return [
        Route("/v1/batches", page),
        Route("/v1/batches/{id}", get),
        Route("/v1/batches/{id}/results", results),
        Route("/v1/batches/{id}/analytics", analytics),
    ]


def _changing(batches: Batches, wake: Callable[[], None]) -> list[Route]:
    def cancel(request: Request) -> Response:
        return JSONResponse(batches.cancel(path_id(request, "batch")))

    def retry(request: Request) -> Response:
        shown = batches.retry(path_id(request, "batch"))
        wake()
        return JSONResponse(shown)

    async def retry_requests(request: Request) -> Response:
        batch_id = path_id(request, "batch")
        ids = (await json_object(request)).get("request_ids")
        if not isinstance(ids, list) or not all(isinstance(one, str) for one in ids):
            raise unfit("missing field `request_ids`")
        valid = [one for one in ids if is_id(one)]
        if not valid:
            raise Refused(400, "No valid request IDs provided")
        shown = await run_in_threadpool(batches.retry_requests, batch_id, valid)
        wake()
        return JSONResponse(shown)

    def delete(request: Request) -> Response:
        batches.delete(path_id(request, "batch"))
        return Response(status_code=204)

    return [
        Route("/v1/batches/{id}", delete, methods=["DELETE"]),
        Route("/v1/batches/{id}/cancel", cancel, methods=["POST"]),
        Route("/v1/batches/{id}/retry", retry, methods=["POST"]),
        Route("/v1/batches/{id}/retry-requests", retry_requests, methods=["POST"]),
    ]


def _checked(body: dict[str, Any], background: bool) -> tuple[str, str, str]:
    """input_file_id, endpoint and window of a request to create a batch (batches.rs:523-950, checks 1 to 4)."""
    file_id, endpoint, window = (text_field(body, name) for name in ("input_file_id", "endpoint", "completion_window"))
    _metadata(body)
    if window == BACKGROUND and not background:
        raise Refused(403, "Insufficient permissions to Create background batches")
    if window not in (*WINDOWS_S, BACKGROUND):
        raise Refused(400, f"Unsupported completion_window. Allowed values: {', '.join(WINDOWS_S)}")
    if endpoint not in URLS:
        raise Refused(400, f"Unsupported endpoint '{endpoint}'. Supported: {', '.join(URLS)}")
    if not is_id(file_id):
        raise Refused(400, "Invalid input_file_id format")
    return file_id.lower(), endpoint, window


def _metadata(body: dict[str, Any]) -> dict[str, str]:
    given = body.get("metadata")
    if given is None:
        return {}
    if not isinstance(given, dict) or not all(isinstance(value, str) for value in given.values()):
        raise unfit("metadata: invalid type, expected a map of strings")
    return given


def _search(request: Request) -> Search:
    query = request.query_params
    status = query.get("status") or None
    if status is not None and status not in STATUS_FILTERS:
        valid = ", ".join(STATUS_FILTERS)
        raise Refused(400, f"Unknown batch status filter: '{status}'. Valid values: {valid}")
    return Search(
        after=query.get("after"),
        limit=list_limit(request),
        status=status,
        text=query.get("search") or None,
        created_after=_moment(request, "created_after"),
        created_before=_moment(request, "created_before"),
        windows=tuple(filter(None, query.get("completion_window", "").split(","))),
    )


def _moment(request: Request, name: str) -> float | None:
    given = request.query_params.get(name)
    if given is None:
        return None
    try:
        moment = datetime.fromisoformat(given.replace("Z", "+00:00"))
    except ValueError:
        raise Refused(400, f"Failed to deserialize query string: {name}: input contains invalid characters") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
