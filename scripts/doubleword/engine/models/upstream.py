"""Any OpenAI-compatible server as the one who answers: Ollama, vLLM, llama.cpp, a hosted API.

Promises: its key comes from DOUBLEWORD_UPSTREAM_API_KEY alone and goes nowhere but to it; no redirect is
followed; every wait has an end. What may be tried again is the worker's business, not this room's.
"""

from __future__ import annotations

import os
import threading
from typing import Any
from urllib.parse import urlsplit

import orjson
import requests
from requests.auth import AuthBase

from doubleword.engine.models.answer import Answer, NoAnswer
from doubleword.failure import Exit, Failure

CONCURRENCY = 8
CONNECT_S = 10.0
READ_S = 600.0
MODELS_S = 5.0


def read_upstream_key() -> str:
    """The upstream's key, empty where it needs none."""
    return os.environ.get("DOUBLEWORD_UPSTREAM_API_KEY", "").strip()


class Upstream:
    """Sends each request to the server at `url`, whose path may end in /v1 or not. Raises `Failure` for a bad URL."""

    def __init__(self, url: str, concurrency: int = CONCURRENCY) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Failure(
                Exit.BAD_INPUT, "bad_url", f"{url} is not the URL of a server", "--upstream http://127.0.0.1:11434/v1"
            )
        self.concurrency = concurrency
        self.streams = True
        self._root = url.rstrip("/").removesuffix("/v1")
        self._local = parts.hostname in ("localhost", "127.0.0.1", "::1")
        self._own = threading.local()
        self._sessions: list[requests.Session] = []

    def model_kind(self, model: str) -> str | None:
        """See `Responder`: the upstream does not tell kinds, and where it has no /models any model is taken."""
        names = self.models()
        return "" if not names or model in names else None

    def models(self) -> list[str]:
        """The ids in the upstream's /models; empty where it does not tell."""
        try:
            reply = self._session().get(f"{self._root}/v1/models", timeout=MODELS_S, allow_redirects=False)
            data = orjson.loads(reply.content)["data"] if reply.status_code == 200 else []
            return sorted(model["id"] for model in data)
        except (requests.RequestException, ValueError, KeyError, TypeError):
            return []

    def answer(self, url: str, body: dict[str, Any]) -> Answer:
        """See `Responder`."""
        try:
            reply = self._session().post(
                f"{self._root}{url}",
                data=orjson.dumps(body),
                headers={"Content-Type": "application/json"},
                timeout=(CONNECT_S, READ_S),
                allow_redirects=False,
                stream=bool(body.get("stream")),
            )
            content = _content(reply)
        except requests.Timeout as error:
            raise NoAnswer("Timeout", _cause(error)) from error
        except requests.RequestException as error:
            raise NoAnswer("NetworkError", _cause(error)) from error
        first_byte_ms = reply.elapsed.total_seconds() * 1000
        try:
            return Answer(reply.status_code, orjson.loads(content), first_byte_ms)
        except orjson.JSONDecodeError:
            return Answer(reply.status_code, content.decode(errors="replace"), first_byte_ms)

    def close(self) -> None:
        """Close the connections; what is still being asked then fails."""
        for session in self._sessions:
            session.close()

    def _session(self) -> requests.Session:
        """This thread's session: requests does not share one between threads."""
        session: requests.Session | None = getattr(self._own, "session", None)
        if session is None:
            session = self._own.session = requests.Session()
            session.auth = _Key()
            self._sessions.append(session)
            session.trust_env = not self._local  # a proxy does not know this machine's loopback
        return session


class _Key(AuthBase):
    """Sets the upstream's key, so that requests looks for none elsewhere."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        key = read_upstream_key()
        if key:
            request.headers["Authorization"] = f"Bearer {key}"
        return request


def _content(reply: requests.Response) -> bytes:
    """The reply's body. Of a stream that breaks, what had come until then: the server takes that for an answer."""
    parts: list[bytes] = []
    try:
        for part in reply.iter_content(1 << 16):
            parts.append(part)
    except requests.RequestException:
        if not any(b"data:" in part for part in parts):
            raise
    return b"".join(parts)


def _cause(error: requests.RequestException) -> str:
    return f"{type(error).__name__}: {str(error)[:300]}"
