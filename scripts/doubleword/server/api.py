"""The server: a method for each endpoint of files, batches and models, typed answers, errors, what may be repeated.

Promises: the key goes only to https or a loopback address and never to another host; every wait ends; only
calls that change nothing (GET) are repeated here. A call that creates something is made once: `ApiError`
says whether the server may have done it all the same, and the caller looks before it calls again.

Facts about the API are those of the open-source server (control-layer, dwctl; handlers `files.rs` and
`batches.rs`, error bodies `errors.rs`) and of OpenAI's documented batch API where that differs.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urljoin, urlsplit

from doubleword.failure import Exit, Failure, plain
from doubleword.server import objects as api_objects
from doubleword.server.errors import ApiError, error_from_answer, error_from_exception
from doubleword.server.objects import Batch, RemoteFile, bare_id
from doubleword.server.transfers import Content, Upload
from doubleword.system import System

if TYPE_CHECKING:
    import requests

DEFAULT_BASE_URL = "https://api.doubleword.ai/v1"
CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 60.0
JSON_LIMIT = 16 * 1024 * 1024  # no object or page of the API comes near this
JSON_TIME_S = 120.0
LONGEST_RETRY_AFTER_S = 300.0
LAG_S = 15.0
PAGE = 100  # the server clamps a page to 101 (dwctl files.rs, batches.rs)


class Api:
    """One server and one key.

    `patience_s` bounds how long a GET is repeated while the network or the server fails; `until`, a time of
    `system.monotonic()`, bounds everything when it is set.
    """

    def __init__(self, base_url: str, key: str, system: System, patience_s: float = 120.0) -> None:
        self.base_url = checked_base_url(base_url)
        self.patience_s = patience_s
        self.until: float | None = None
        self._system = system
        self._key = key
        self._open: requests.Session | None = None
        self._opening = system.lock()

    def disconnect(self) -> None:
        """Leave all connections as they are, to the process that this one was split off from, and make new ones."""
        self._open = None

    # Files

    def upload(self, body: Upload) -> RemoteFile:
        """POST /files, once. Answers 201 with the file (dwctl files.rs; OpenAI answers 200)."""
        response = self._once("POST", "/files", body=body, headers={"Content-Type": body.content_type})
        return api_objects.remote_file(self._json(response))

    def file(self, file_id: str) -> RemoteFile:
        """GET /files/{id}."""
        return api_objects.remote_file(self._get(f"/files/{_segment(file_id)}"))

    def files(self, search: str) -> Iterator[RemoteFile]:
        """GET /files page by page; `search` is a part of the name, which OpenAI ignores (dwctl files.rs)."""
        for item in self._pages("/files", {"search": search, "purpose": "batch"}):
            yield api_objects.remote_file(item)

    def content(self, file_id: str, skip: int = 0) -> Content:
        """GET /files/{id}/content from line `skip`, as one stream; one attempt, ApiError when it is refused.

        The server reads `skip` (dwctl files.rs), its documentation says `offset`; both are sent, and a caller
        that skips must still expect lines it has seen.
        """
        query = f"?{urlencode({'skip': skip, 'offset': skip})}" if skip else ""
        return Content(self._once("GET", f"/files/{_segment(file_id)}/content{query}"), self._system.monotonic)

    # Batches

    def create_batch(self, file_id: str, endpoint: str, window: str, metadata: dict[str, str]) -> Batch:
        """POST /batches, once. Answers 201 with the batch; metadata is string to string (dwctl batches.rs)."""
        asked = {
            "input_file_id": file_id,
            "endpoint": endpoint,
            "completion_window": window,
            "metadata": metadata,
        }
        return api_objects.batch(self._json(self._once("POST", "/batches", body=json.dumps(asked).encode())))

    def batch(self, batch_id: str, known: bool = False) -> Batch:
        """GET /batches/{id}. An id as webhooks send it, `batch_<uuid>`, is tried without its prefix too.

        Of one that is `known` to exist a 404 is asked again for a while: reads go to a replica, which may lag
        behind the creation (fusillade postgres.rs).
        """
        ends = self._system.monotonic() + LAG_S
        while True:
            try:
                return self._batch(batch_id)
            except ApiError as error:
                left = min(ends, self.until or ends) - self._system.monotonic()
                if not known or error.status != 404 or left <= 0:
                    raise
                self._system.sleep(min(5.0, left))

    def _batch(self, batch_id: str) -> Batch:
        try:
            return api_objects.batch(self._get(f"/batches/{_segment(batch_id)}"))
        except ApiError as error:
            bare = bare_id(batch_id)
            if error.status not in (400, 404) or bare == batch_id:
                raise
            return api_objects.batch(self._get(f"/batches/{_segment(bare)}"))

    def batches(self, search: str = "", status: str = "") -> Iterator[Batch]:
        """GET /batches page by page, newest first; `search` looks into metadata (OpenAI ignores it)."""
        query = {name: value for name, value in (("search", search), ("status", status)) if value}
        for item in self._pages("/batches", query):
            yield api_objects.batch(item)

    def cancel(self, batch_id: str) -> Batch:
        """POST /batches/{id}/cancel, once; a second call changes nothing (dwctl batches.rs)."""
        return api_objects.batch(self._json(self._once("POST", f"/batches/{_segment(batch_id)}/cancel")))

    def retry(self, batch_id: str) -> Batch:
        """POST /batches/{id}/retry, once: failed and cancelled requests are pending again (dwctl batches.rs)."""
        return api_objects.batch(self._json(self._once("POST", f"/batches/{_segment(batch_id)}/retry")))

    # Models and single requests

    def models(self) -> list[dict[str, Any]]:
        """GET /models: `{"data": [{"id", …}]}` (dwctl ai_models.rs); no prices, no pages."""
        data = self._get("/models").get("data")
        if not isinstance(data, list):
            raise ApiError(200, "the list of models has no data")
        return [item for item in data if isinstance(item, dict) and isinstance(item.get("id"), str)]

    def realtime(self, endpoint: str, body: dict[str, Any]) -> dict[str, Any]:
        """POST one request body to its endpoint (`/v1/chat/completions`, …), once, and return the answer."""
        path = endpoint.removeprefix("/v1")
        return self._json(self._once("POST", path, body=json.dumps(body).encode()))

    # What all of them share

    def patiently(self, attempt: Callable[[], Any]) -> Any:
        """Call `attempt` until it answers, repeating what may pass (network, 408, 429, 5xx) with growing pauses.

        Only for calls that change nothing. Raises the last ApiError when patience or `until` has run out.
        """
        ends = self._system.monotonic() + self.patience_s
        if self.until is not None:
            ends = min(ends, self.until)
        failures = 0
        while True:
            try:
                return attempt()
            except ApiError as error:
                failures += 1
                left = ends - self._system.monotonic()
                if not error.may_pass or left <= 0:
                    raise
                self._system.sleep(min(left, self.pause(failures, error)))

    def pause(self, failures: int, error: ApiError) -> float:
        """Seconds to wait after the n-th failure in a row: doubling to 30 s with jitter, or what the server asks."""
        backoff = min(30.0, 0.5 * 2.0 ** min(failures - 1, 10)) * (0.5 + 0.5 * self._system.random())
        return max(backoff, min(error.retry_after or 0.0, LONGEST_RETRY_AFTER_S))

    def _get(self, path: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.patiently(lambda: self._json(self._once("GET", path)))
        return answer

    def _pages(self, path: str, query: dict[str, str]) -> Iterator[dict[str, Any]]:
        """Every object of a list; ends at a page seen before, since an unknown cursor gives page 1 for ever."""
        after = ""
        seen: set[str] = set()
        while True:
            asked = {"limit": str(PAGE), **query, **({"after": after} if after else {})}
            page = self._get(f"{path}?{urlencode(asked)}")
            data = page.get("data")
            if not isinstance(data, list):
                raise ApiError(200, "a list of the server has no data")
            items = [item for item in data if isinstance(item, dict) and isinstance(item.get("id"), str)]
            fresh = [item for item in items if item["id"] not in seen]
            yield from fresh
            seen.update(item["id"] for item in fresh)
            if not fresh or not page.get("has_more"):
                return
            after = items[-1]["id"]

    def _once(
        self, method: str, path: str, body: bytes | Upload | None = None, headers: dict[str, str] | None = None
    ) -> requests.Response:
        """One HTTP call; the answer has a 2xx status and an unread body, anything else raises ApiError."""
        import requests

        url = self.base_url + path
        sent_headers = {
            "Accept": "application/json, application/x-ndjson",
            "Accept-Encoding": "gzip",  # what `Content` can read
            "User-Agent": "doubleword-api-skill",
        }
        if isinstance(body, bytes):
            sent_headers["Content-Type"] = "application/json"
        sent_headers.update(headers or {})
        for _ in range(5):
            try:
                response = self._session().request(
                    method,
                    url,
                    data=body,
                    headers=sent_headers,
                    auth=_Bearer(self._key if _origin(url) == _origin(self.base_url) else ""),
                    timeout=self._timeouts(),
                    stream=True,
                    allow_redirects=False,
                )
            except (requests.RequestException, OSError, ValueError) as error:
                raise error_from_exception(error) from error
            if response.status_code not in (301, 302, 303, 307, 308):
                break
            url = urljoin(url, response.headers.get("Location", ""))
            response.close()
            if method != "GET" or not _is_safe(url):
                sentence = f"the server sends {method} elsewhere: {plain(url, 120)}"
                # Of all redirects only 303 says that something was done.
                raise ApiError(response.status_code, sentence, sent=response.status_code == 303, lasting=True)
        if not 200 <= response.status_code < 300:
            raise error_from_answer(response.status_code, response.headers, self._body(response, 64 * 1024))
        return response

    def _json(self, response: requests.Response) -> dict[str, Any]:
        """The JSON object of an answer; anything else raises ApiError, since then nobody knows what happened."""
        try:
            value = json.loads(self._body(response, JSON_LIMIT))
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            kind = plain(response.headers.get("Content-Type", "no content type"), 60)
            raise ApiError(response.status_code, f"the answer is not a JSON object ({kind})", garbled=True)
        return value

    def _body(self, response: requests.Response, limit: int) -> bytes:
        """At most `limit` bytes of a body; a longer, cut or dripping one raises ApiError."""
        ends = self._system.monotonic() + JSON_TIME_S
        if self.until is not None:
            ends = min(ends, self.until)
        body = bytearray()
        for block in Content(response, self._system.monotonic).blocks():
            body += block
            if len(body) > limit:
                response.close()
                if response.status_code >= 400:
                    break  # enough of an error page
                raise ApiError(response.status_code, f"the answer is longer than {limit} bytes", garbled=True)
            if self._system.monotonic() > ends:
                response.close()
                raise ApiError(None, "the answer did not arrive in time")
        return bytes(body)

    def _timeouts(self) -> tuple[float, float]:
        left = READ_TIMEOUT_S if self.until is None else max(0.5, self.until - self._system.monotonic())
        return min(CONNECT_TIMEOUT_S, left), min(READ_TIMEOUT_S, left)

    def _session(self) -> requests.Session:
        with self._opening:
            if self._open is None:
                import requests

                session = requests.Session()
                # A proxy of the environment has no business between this process and its own machine.
                session.trust_env = not _is_loopback(urlsplit(self.base_url).hostname or "")
                adapter = self._system.adapter()
                session.mount("https://", adapter)
                session.mount("http://", adapter)
                self._open = session
            return self._open


class _Bearer:
    """Puts the key on one request. Being the request's `auth`, it also keeps requests from looking for another."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._key:
            request.headers["Authorization"] = f"Bearer {self._key}"
        return request


def checked_base_url(base_url: str) -> str:
    """`base_url` without a final slash; raises Failure (2) unless it is https or a loopback address."""
    hint = f"give https, or http on 127.0.0.1; the hosted server is {DEFAULT_BASE_URL}"
    if not _is_safe(base_url) or "?" in base_url or "#" in base_url:
        raise Failure(Exit.BAD_INPUT, "unsafe_base_url", f"the key is not sent to {plain(base_url, 120)}", hint)
    return base_url.rstrip("/")


def _is_safe(url: str) -> bool:
    """Whether the key may travel to `url`: https, or plain http that stays on this machine."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    host = parts.hostname or ""
    if not host or parts.username is not None or parts.password is not None:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host))


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _segment(identifier: str) -> str:
    """One path segment; an id is never more than one, whatever it says."""
    if not identifier or identifier in (".", ".."):
        raise Failure(Exit.BAD_INPUT, "bad_id", "an id is empty", "python3 list_batches.py")
    return quote(identifier, safe="")
