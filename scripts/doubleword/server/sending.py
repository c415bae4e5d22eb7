"""Sending: one HTTP call at a time to one server with one key, and how long it is waited for.

Promises: the key goes only to https or a loopback address and never to another host; every wait ends; only calls
that change nothing are repeated. A call that creates something is made once: `ApiError` says whether the server may
have done it all the same, and the caller looks before it calls again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urljoin

from doubleword.failure import plain
from doubleword.server.errors import ApiError, error_from_answer
from doubleword.server.route import Route, is_safe, origin, route_to
from doubleword.server.transfers import Upload, content_of
from doubleword.system import System

if TYPE_CHECKING:
    import requests

CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 60.0
JSON_LIMIT = 16 * 1024 * 1024  # no object or page of the API comes near this
JSON_TIME_S = 120.0
LONGEST_RETRY_AFTER_S = 300.0
REFUSED_AGAIN_S = 0.5


class Sender:
    """The connection to the server at `base_url`, which `route.is_safe`.

    `patience_s` bounds how long a call is repeated while the network or the server fails; `until`, a time of
    `system.monotonic()`, bounds everything when it is set, `answer_by` all that is waited for before the first answer.
    """

    def __init__(self, base_url: str, key: str, system: System, patience_s: float = 120.0) -> None:
        self.base_url = base_url
        self.patience_s = patience_s
        self.until: float | None = None
        self.answer_by: float | None = None
        self._system = system
        self._key = key
        self._routes: dict[tuple[str, str, int], Route] = {}
        self._answered = False
        self._open: requests.Session | None = None
        self._opening = system.lock()

    def patiently(self, attempt: Callable[[], Any]) -> Any:
        """Call `attempt` until it answers, repeating what may pass (network, 408, 429, 5xx) with growing pauses.

        Only for calls that change nothing, or nothing more when repeated. Raises the last ApiError when patience or
        `until` has run out.
        """
        ends = self._no_later(self._system.monotonic() + self.patience_s)
        failures = 0
        while True:
            try:
                return attempt()
            except ApiError as error:
                failures += 1
                left = ends - self._system.monotonic()
                if not error.worth_waiting or left <= 0:
                    raise
                self._system.sleep(min(left, self.pause(failures, error)))

    def pause(self, failures: int, error: ApiError) -> float:
        """Seconds to wait after the n-th failure in a row: doubling to 30 s with jitter, or what the server asks."""
        backoff = min(30.0, 0.5 * 2.0 ** min(failures - 1, 10)) * (0.5 + 0.5 * self._system.random())
        return max(backoff, min(error.retry_after or 0.0, LONGEST_RETRY_AFTER_S))

    def get(self, path: str) -> dict[str, Any]:
        """The JSON object at `path`, asked for with patience."""
        answer: dict[str, Any] = self.patiently(lambda: self.json(self.once("GET", path)))
        return answer

    def found(self, path: str, search: str, query: dict[str, str]) -> Iterator[dict[str, Any]]:
        """Every object of a list, narrowed by `search`; a server that refuses to search gives the whole of it."""
        query = {name: value for name, value in query.items() if value}
        if search:
            try:
                yield from self._pages(path, {**query, "search": search})
            except ApiError as error:
                if error.status not in (400, 422):
                    raise
            else:
                return
        yield from self._pages(path, query)

    def _pages(self, path: str, query: dict[str, str]) -> Iterator[dict[str, Any]]:
        """Every object of a list; ends at a page seen before, since an unknown cursor gives page 1 for ever."""
        after = ""
        seen: set[str] = set()
        while True:
            page = self.get(f"{path}?{urlencode({**query, **({'after': after} if after else {})})}")
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

    def once(
        self, method: str, path: str, body: bytes | Upload | None = None, headers: dict[str, str] | None = None
    ) -> requests.Response:
        """One HTTP call; the answer has a 2xx status and an unread body, anything else raises ApiError.

        Where nothing listens on this very machine, a server may just be starting: one more try, a moment later. One
        that answered before may be starting anew, and is worth the patience that others get.
        """
        try:
            return self._followed(method, path, body, headers or {})
        except ApiError as error:
            error.at_once = error.at_once and not self._answered
            if not error.at_once:
                raise
        self._system.sleep(REFUSED_AGAIN_S)
        return self._followed(method, path, body, headers or {})

    def json(self, response: requests.Response) -> dict[str, Any]:
        """The JSON object of an answer; anything else raises ApiError, since then nobody knows what happened."""
        try:
            value = json.loads(self._body(response, JSON_LIMIT))
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            kind = plain(response.headers.get("Content-Type", "no content type"), 60)
            raise ApiError(response.status_code, f"the answer is not a JSON object ({kind})", garbled=True)
        return value

    def _followed(
        self, method: str, path: str, body: bytes | Upload | None, headers: dict[str, str]
    ) -> requests.Response:
        """The answer to one call, of a GET also where redirects lead."""
        url = self.base_url + path
        for _ in range(5):
            response = self._answer(method, url, body, headers)
            if response.status_code not in (301, 302, 303, 307, 308):
                break
            url = urljoin(url, response.headers.get("Location", ""))
            response.close()
            if method != "GET" or not is_safe(url):
                sentence = f"the server sends {method} elsewhere: {plain(url, 120)}"
                # Of all redirects only 303 says that something was done.
                raise ApiError(response.status_code, sentence, sent=response.status_code == 303, lasting=True)
        if not 200 <= response.status_code < 300:
            raise error_from_answer(response.status_code, response.headers, self._body(response, 64 * 1024))
        return response

    def _answer(self, method: str, url: str, body: bytes | Upload | None, headers: dict[str, str]) -> requests.Response:
        """What is answered to one request, whatever it is; ApiError where nothing is."""
        import requests

        route = self._route(url)
        sent_headers = {
            "Accept": "application/json, application/x-ndjson",
            "Accept-Encoding": "gzip",  # what `content_of` can read
            "User-Agent": "doubleword-api-skill",
        }
        if isinstance(body, bytes):
            sent_headers["Content-Type"] = "application/json"
        if self._key and origin(url) == origin(self.base_url):
            sent_headers["Authorization"] = f"Bearer {self._key}"
        try:
            response = self._session().request(
                method,
                url,
                data=body,
                headers={**sent_headers, **headers},
                timeout=self._timeouts(),
                stream=True,
                allow_redirects=False,
                **route.options,
            )
        except (requests.RequestException, OSError, ValueError) as error:
            raise route.error(error) from error
        self._answered = True
        return response

    def _route(self, url: str) -> Route:
        """The route to `url`; that to our own server is known to be usable."""
        place = origin(url)
        if place not in self._routes:
            route = route_to(url)
            if place == origin(self.base_url):
                route.require_usable()
            self._routes[place] = route
        return self._routes[place]

    def _body(self, response: requests.Response, limit: int) -> bytes:
        """At most `limit` bytes of a body; a longer, cut or dripping one raises ApiError."""
        ends = self._no_later(self._system.monotonic() + JSON_TIME_S)
        body = bytearray()
        for block in content_of(response, self._system.monotonic):
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
        now = self._system.monotonic()
        left = max(0.5, self._no_later(now + READ_TIMEOUT_S) - now)
        return min(CONNECT_TIMEOUT_S, left), left

    def _no_later(self, ends: float) -> float:
        """`ends`, or the end of all waiting where that comes before."""
        limits = (ends, self.until, None if self._answered else self.answer_by)
        return min(one for one in limits if one is not None)

    def _session(self) -> requests.Session:
        with self._opening:
            if self._open is None:
                import requests

                session = requests.Session()
                session.trust_env = False  # what the environment says is in the route
                adapter = self._system.adapter()
                session.mount("https://", adapter)
                session.mount("http://", adapter)
                self._open = session
            return self._open
