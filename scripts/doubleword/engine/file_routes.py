"""The /files routes (dwctl files.rs).

Promises: an upload is read as it arrives and answered at the first line that is bad, while the client may
still be sending, as the server does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from doubleword.engine.models.answer import Responder
from doubleword.engine.settings import Limits, Settings
from doubleword.engine.storage.batches import Refused
from doubleword.engine.storage.contents import Content, Contents
from doubleword.engine.storage.files import Files
from doubleword.engine.storage.ledger import Ledger
from doubleword.engine.storage.store import Store
from doubleword.engine.upload import MULTIPART_OVERHEAD, LineReader, UploadReader, too_large
from doubleword.engine.web import content_page, list_limit, list_object, path_id


def file_routes(store: Store, responder: Responder, settings: Settings) -> list[Route]:
    """The routes over `store`; `responder` says which models a line may name."""
    files, contents = Files(store, Ledger(store, settings.account)), Contents(store)

    def page(request: Request) -> Response:
        query = request.query_params
        order = query.get("order", "desc")
        if order not in ("asc", "desc"):
            raise Refused(400, "Order must be 'asc' or 'desc'")
        shown = files.page(
            query.get("after"), list_limit(request), order == "asc", query.get("purpose"), query.get("search")
        )
        return JSONResponse(list_object(*shown))

    def get(request: Request) -> Response:
        file_id = path_id(request, "file")
        return JSONResponse(_found(files.get(file_id), file_id))

    def content(request: Request) -> Response:
        file_id = path_id(request, "file")
        return stream(_found(contents.of_file(file_id, content_page(request)), file_id))

    def delete(request: Request) -> Response:
        file_id = path_id(request, "file")
        _found(files.delete(file_id) or None, file_id)
        return JSONResponse({"id": file_id, "object": "file", "deleted": True})

    def cost_estimate(request: Request) -> Response:
        file_id = path_id(request, "file")
        window = request.query_params.get("completion_window", "24h")
        return JSONResponse(_found(files.estimate(file_id, window), file_id))

    return [
        Route("/v1/files", _upload(store, files, responder, settings.limits), methods=["POST"]),
        Route("/v1/files", page),
        Route("/v1/files/{id}", get),
        Route("/v1/files/{id}", delete, methods=["DELETE"]),
        Route("/v1/files/{id}/content", content),
        Route("/v1/files/{id}/cost-estimate", cost_estimate),
    ]


def _upload(
    store: Store, files: Files, responder: Responder, limits: Limits
) -> Callable[[Request], Awaitable[Response]]:
    async def upload(request: Request) -> Response:
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > limits.file_bytes + MULTIPART_OVERHEAD:
            raise too_large(limits)
        lines = LineReader(limits, responder.model_kind, store.folder)
        try:
            reader = UploadReader(request.headers.get("content-type", ""), lines)
            block, size = [], 0
            async for part in request.stream():
                block.append(part)
                size += len(part)
                if size >= 1 << 18:
                    await run_in_threadpool(reader.feed, b"".join(block))
                    block, size = [], 0
            await run_in_threadpool(reader.feed, b"".join(block))
            return JSONResponse(await run_in_threadpool(lambda: files.add(reader.finish())), 201)
        except ClientDisconnect:
            return PlainTextResponse("Failed to read multipart upload: connection lost", 400)
        finally:
            lines.close()

    return upload


def stream(content: Content) -> Response:
    """JSON lines, sent while they are read."""
    return StreamingResponse(content.blocks(), headers=content.headers, media_type="application/x-ndjson")


def _found(value: Any, file_id: str) -> Any:
    if value is None:
        raise Refused(404, f"File with ID {file_id} not found")
    return value
