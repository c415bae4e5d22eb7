"""The server: a method for each endpoint of files, batches and models, with typed answers.

Promises: a call that creates something is made once; one that changes nothing, or nothing more when it is repeated,
is repeated while the network or the server fails. A call that not every server has answers None where it is unknown.
How calls are sent, and where the key goes: `sending`.

Facts about the API are those of the open-source server (control-layer, dwctl; handlers `files.rs` and
`batches.rs`, error bodies `errors.rs`) and of OpenAI's documented batch API where that differs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Container, Iterator
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from doubleword.failure import Exit, Failure, plain
from doubleword.server import objects as api_objects
from doubleword.server.errors import ApiError
from doubleword.server.objects import Analytics, Batch, CostEstimate, RemoteFile, bare_id
from doubleword.server.route import is_safe
from doubleword.server.sending import Sender
from doubleword.server.transfers import Upload, content_of
from doubleword.system import System

DEFAULT_BASE_URL = "https://api.doubleword.ai/v1"
LAG_S = 15.0
PAGE = 100  # the server clamps a page to 101 (dwctl files.rs, batches.rs)

Answer = TypeVar("Answer")


class Api(Sender):
    """One server and one key. Every method raises ApiError where there is no answer.

    Ids of what is read or deleted are taken as webhooks send them too, `file_<uuid>` and `batch_<uuid>`, which the
    server refuses with 400: then the bare UUID is tried.
    """

    def __init__(self, base_url: str, key: str, system: System, patience_s: float = 120.0) -> None:
        super().__init__(checked_base_url(base_url), key, system, patience_s)

    # Files

    def upload(self, body: Upload) -> RemoteFile:
        """POST /files, once. Answers 201 with the file (dwctl files.rs; OpenAI answers 200)."""
        response = self.once("POST", "/files", body=body, headers={"Content-Type": body.content_type})
        return api_objects.remote_file(self.json(response))

    def file(self, file_id: str) -> RemoteFile:
        """GET /files/{id}."""
        return _by_id(file_id, lambda one: api_objects.remote_file(self.get(f"/files/{one}")))

    def files(self, search: str) -> Iterator[RemoteFile]:
        """GET /files page by page; `search` is a part of the name, which OpenAI ignores (dwctl files.rs)."""
        for item in self.found("/files", search, {"limit": str(PAGE), "purpose": "batch"}):
            yield api_objects.remote_file(item)

    def content(self, file_id: str, skip: int = 0) -> Iterator[bytes]:
        """GET /files/{id}/content from line `skip`, as `content_of` gives it; one attempt, ApiError when it is refused.

        The server reads `skip` (dwctl files.rs), its documentation says `offset`; both are sent, and a caller
        that skips must still expect lines it has seen.
        """
        query = f"?{urlencode({'skip': skip, 'offset': skip})}" if skip else ""
        response = _by_id(file_id, lambda one: self.once("GET", f"/files/{one}/content{query}"))
        return content_of(response, self._system.monotonic)

    def cost_estimate(self, file_id: str, window: str) -> CostEstimate | None:
        """GET /files/{id}/cost-estimate: an uploaded file at the live tariff of `window` (dwctl files.rs).

        None where the server has no such call, as OpenAI.
        """
        query = urlencode({"completion_window": window})
        return _where_known(
            file_id, lambda one: self.get(f"/files/{one}/cost-estimate?{query}"), api_objects.cost_estimate
        )

    def delete_file(self, file_id: str) -> None:
        """DELETE /files/{id}; a file that is gone already is deleted. `{"id", "deleted": true}` (dwctl files.rs).

        Deleting an input file cancels its batches that still run (dwctl files.rs).
        """
        try:
            answer = _by_id(
                file_id, lambda one: self.patiently(lambda: self.json(self.once("DELETE", f"/files/{one}")))
            )
        except ApiError as error:
            if not error.gone or error.status in (400, 422):
                raise
            return
        if answer.get("deleted") is False:
            raise ApiError(200, "the server says that it did not delete the file", garbled=True)

    # Batches

    def create_batch(self, file_id: str, endpoint: str, window: str, metadata: dict[str, str]) -> Batch:
        """POST /batches, once. Answers 201 with the batch; metadata is string to string (dwctl batches.rs)."""
        asked = {
            "input_file_id": file_id,
            "endpoint": endpoint,
            "completion_window": window,
            "metadata": metadata,
        }
        return api_objects.batch(self.json(self.once("POST", "/batches", body=json.dumps(asked).encode())))

    def batch(self, batch_id: str, known: bool = False) -> Batch:
        """GET /batches/{id}.

        Of one that is `known` to exist a 404 is asked again for a while: reads go to a replica, which may lag
        behind the creation (fusillade postgres.rs).
        """
        ends = self._system.monotonic() + LAG_S
        while True:
            try:
                return _by_id(batch_id, lambda one: api_objects.batch(self.get(f"/batches/{one}")), (400, 404))
            except ApiError as error:
                left = min(ends, self.until or ends) - self._system.monotonic()
                if not known or error.status != 404 or left <= 0:
                    raise
                self._system.sleep(min(5.0, left))

    def batches(self, search: str = "", status: str = "", analytics: bool = False) -> Iterator[Batch]:
        """GET /batches page by page, newest first; `search` looks into metadata (OpenAI ignores it).

        With `analytics` each batch brings its own, which only the list does (dwctl batches.rs).
        """
        query = {"limit": str(PAGE), "status": status, "include": "analytics" if analytics else ""}
        for item in self.found("/batches", search, query):
            yield api_objects.batch(item)

    def analytics(self, batch_id: str) -> Analytics | None:
        """GET /batches/{id}/analytics: what the server counted and billed so far (dwctl batches.rs).

        None where the server has no such call, as OpenAI.
        """
        return _where_known(batch_id, lambda one: self.get(f"/batches/{one}/analytics"), api_objects.analytics)

    def cancel(self, batch_id: str) -> Batch:
        """POST /batches/{id}/cancel, once; a second call changes nothing (dwctl batches.rs)."""
        return api_objects.batch(self.json(self.once("POST", f"/batches/{_segment(batch_id)}/cancel")))

    def retry(self, batch_id: str) -> Batch:
        """POST /batches/{id}/retry, once: failed and cancelled requests are pending again (dwctl batches.rs)."""
        return api_objects.batch(self.json(self.once("POST", f"/batches/{_segment(batch_id)}/retry")))

    # Models and single requests

    def models(self, realtime: bool | None = None, reasoning: bool = False) -> list[dict[str, Any]]:
        """GET /models: `{"data": [{"id", …}]}` (dwctl ai_models.rs); no prices, no pages.

        `realtime` keeps only the models that answer at once (True), or that only batches reach (False). With
        `reasoning`, those with a choice carry `supported_reasoning_efforts: {"chat_completions"?, "responses"?}`.
        A server that knows neither, as OpenAI, gives all its models without it.
        """
        query: dict[str, str] = {}
        if realtime is not None:
            query["available_for_realtime"] = str(realtime).lower()
        if reasoning:
            query["include_reasoning_capabilities"] = "true"
        data = self.get(f"/models?{urlencode(query)}" if query else "/models").get("data")
        if not isinstance(data, list):
            raise ApiError(200, "the list of models has no data")
        return [item for item in data if isinstance(item, dict) and isinstance(item.get("id"), str)]

    def realtime(self, endpoint: str, body: dict[str, Any]) -> dict[str, Any]:
        """POST one request body to its endpoint (`/v1/chat/completions`, …), once, and return the answer."""
        path = endpoint.removeprefix("/v1")
        return self.json(self.once("POST", path, body=json.dumps(body).encode()))


def results_deleted(api: Api, batch_id: str, failed: bool) -> bool:
    """Whether GET /batches/{id}/results says, by 410, that the file of its answers, or of its failures, was deleted.

    False where nothing says so: a server before dwctl 11.11.0, OpenAI, one that does not answer just now.
    """
    query = urlencode({"status": "failed" if failed else "completed", "limit": 1})
    try:
        with _by_id(batch_id, lambda one: api.once("GET", f"/batches/{one}/results?{query}")):
            return False
    except ApiError as error:
        return error.status == 410


def checked_base_url(base_url: str) -> str:
    """`base_url` without a final slash; raises Failure (2) unless it is https or a loopback address."""
    hint = f"give https and the name of a host, or http on 127.0.0.1; the hosted server is {DEFAULT_BASE_URL}"
    if not is_safe(base_url) or "?" in base_url or "#" in base_url:
        shown = re.sub("//.*@", "//…@", plain(base_url, 120))  # a password may stand there
        raise Failure(Exit.BAD_INPUT, "unsafe_base_url", f"the key is not sent to {shown}", hint)
    return base_url.rstrip("/")


def _by_id(identifier: str, call: Callable[[str], Answer], unknown: Container[int | None] = (400,)) -> Answer:
    """`call` with the id as a path segment, and again with a webhook's id made bare, where the first is `unknown`.

    A 404 is not for files: it may be about one that is gone, on a server whose own ids have such a form.
    """
    try:
        return call(_segment(identifier))
    except ApiError as error:
        bare = bare_id(identifier)
        if error.status not in unknown or bare == identifier:
            raise
        return call(_segment(bare))


def _where_known(
    identifier: str, call: Callable[[str], dict[str, Any]], read: Callable[[dict[str, Any]], Answer]
) -> Answer | None:
    """What `read` makes of the answer to a call that not every server has; None where this one has not."""
    try:
        return read(_by_id(identifier, call))
    except ApiError as error:
        if error.unknown_call:
            return None
        raise


def _segment(identifier: str) -> str:
    """One path segment; an id is never more than one, whatever it says."""
    if not identifier or identifier in (".", ".."):
        raise Failure(Exit.BAD_INPUT, "bad_id", "an id is empty", "python3 list_batches.py")
    return quote(identifier, safe="")
