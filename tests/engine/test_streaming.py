"""Streams that end badly: what the upstream says inside one, and connections that break."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.engine.conftest import CHAT, causes, chat_line, start_batch, wait_for
from tests.engine_process import engine_with_upstream, serve

from doubleword.engine.models.answer import NoAnswer
from doubleword.engine.models.streaming import answer_streamed
from doubleword.engine.models.upstream import Upstream as UpstreamResponder
from doubleword.engine.settings import Settings

PIECE = (
    b'data: {"id": "x", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "half"}}]}\n\n'
)


@pytest.mark.parametrize(("said", "asked"), [(429, 2), ("nonsense", 2), (400, 1)])
def test_an_error_inside_a_stream_counts_as_its_status(tmp_path: Path, said: Any, asked: int) -> None:
    """500 where it names none: those that pass are tried again."""
    with engine_with_upstream(tmp_path, settings=Settings(streamed=True)) as engine:
        content = PIECE.decode() + 'data: {"error": {"code": %s}}\n\n' % (
            said if isinstance(said, int) else f'"{said}"'
        )
        engine.upstream.fail("overloaded", 200, body=content, times=1)
        batch_id = start_batch(engine, [chat_line("a", "overloaded")])
        wait_for(engine, batch_id, "completed" if asked == 2 else "failed")
        assert engine.upstream.count("overloaded") == asked
        assert asked == 2 or causes(engine, batch_id)["a"]["details"]["status"] == 400


def test_what_never_becomes_a_stream_fails_when_the_retries_end(tmp_path: Path) -> None:
    """As a connection would that never answers."""
    with engine_with_upstream(tmp_path, settings=Settings(streamed=True)) as engine:
        engine.upstream.fail("words", 200, body="just words")
        batch_id = start_batch(engine, [chat_line("a", "words")])
        wait_for(engine, batch_id, "failed")
        assert causes(engine, batch_id)["a"]["type"] == "NetworkError"
        assert engine.upstream.count("words") == 4


@pytest.mark.parametrize("first", [PIECE, b""])
def test_a_connection_that_breaks_in_a_stream_ends_the_answer(first: bytes) -> None:
    """What had come is taken for the answer, as on the server; where nothing had come, there is none."""

    async def breaking(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            headers = [(b"content-type", b"text/event-stream")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": first, "more_body": True})
            raise RuntimeError("the model server stopped")

    with serve(breaking) as url:
        responder = UpstreamResponder(url)
        if first:
            body = answer_streamed(responder, CHAT, {}).body
            assert body["choices"] == [{"index": 0, "finish_reason": None, "message": {"content": "half"}}]
            assert body["usage"] is None
        else:
            with pytest.raises(NoAnswer):
                answer_streamed(responder, CHAT, {})
        responder.close()
