"""What answers a request: an answer with an HTTP status, or a failure to get one.

Promises: who answers (the bundled models, or a server named by --upstream) is known here alone by what it
can do, so that the worker and the routes treat all alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from doubleword.engine.storage.store import dumps


@dataclass(frozen=True)
class Answer:
    """An HTTP answer: `body` is a JSON value, or the text of what was not JSON.

    `first_byte_ms` is how long it took to begin, None where it came in one piece.
    """

    status: int
    body: Any
    first_byte_ms: float | None = None

    @property
    def text(self) -> str:
        """The body as the server keeps it: JSON text with sorted keys; text becomes a JSON string."""
        return dumps(self.body)

    @property
    def raw(self) -> str:
        """The body as it was sent."""
        return self.body if isinstance(self.body, str) else dumps(self.body)


class NoAnswer(Exception):
    """No answer came: `kind` is NetworkError, Timeout or RequestBuilderError (core/request/types.rs:219-255)."""

    def __init__(self, kind: str, error: str) -> None:
        super().__init__(error)
        self.kind = kind
        self.error = error


class Responder(Protocol):
    """Answers requests; its methods may be called from several threads at once."""

    concurrency: int
    streams: bool  # whether it answers `"stream": true` with a stream of events

    def model_kind(self, model: str) -> str | None:
        """CHAT or EMBEDDINGS; "" for a model whose kind is not known; None for an unknown model."""

    def models(self) -> list[str]:
        """The ids of the models that can be named, as far as they are known."""

    def answer(self, url: str, body: dict[str, Any]) -> Answer:
        """Answer the POST of `body` to `url`. Raises `NoAnswer`."""


def refusal(
    status: int, message: str, code: str | None = None, kind: str = "invalid_request_error", param: str | None = None
) -> Answer:
    """An error in the OpenAI envelope."""
    return Answer(status, {"error": {"message": message, "type": kind, "param": param, "code": code}})
