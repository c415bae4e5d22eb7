"""How the worker treats what answers badly: the server's retry rules (fusillade daemon/config.rs:12-25)."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from tests.engine.conftest import causes, chat_line, look, rows, start_batch, wait_for
from tests.engine_process import QUICK, engine_with_upstream, serve, wait_until
from tests.upstream import Upstream

from doubleword.engine.models.upstream import Upstream as UpstreamResponder
from doubleword.engine.models.worker import Retries


def test_waits_double_from_one_second_up_to_ten() -> None:
    """A thousand retries at most, and ten seconds between them."""
    retries = Retries()
    assert [retries.wait_s(attempts) for attempts in (1, 2, 3, 4, 5, 6, 1000)] == [1, 2, 4, 8, 10, 10, 10]
    assert retries.most == 1000


@pytest.mark.parametrize("status", [404, 408, 429, 499, 500, 503])
def test_a_passing_trouble_is_tried_again_until_it_succeeds(tmp_path: Path, status: int) -> None:
    """Two failures, then an answer: nobody sees the failures."""
    with engine_with_upstream(tmp_path) as engine:
        engine.upstream.fail("flaky", status, times=2)
        batch = wait_for(engine, start_batch(engine, [chat_line("a", "flaky")]))
        assert batch["request_counts"] == {"total": 1, "completed": 1, "failed": 0}
        assert engine.upstream.count("flaky") == 3


@pytest.mark.parametrize("status", [400, 401, 402, 403, 409, 413, 422])
def test_a_refusal_is_final(tmp_path: Path, status: int) -> None:
    """Asked once; the cause holds what was answered."""
    with engine_with_upstream(tmp_path) as engine:
        engine.upstream.fail("refused", status, body="no")
        batch_id = start_batch(engine, [chat_line("a", "refused")])
        wait_for(engine, batch_id, "failed")
        details = {"status": status, "body": "no"}
        assert causes(engine, batch_id)["a"] == {"type": "NonRetriableHttpStatus", "details": details}
        assert engine.upstream.count("refused") == 1


def test_a_lasting_trouble_ends_after_the_last_retry(tmp_path: Path) -> None:
    """Three retries are four tries; the cause says that another try might have helped."""
    with engine_with_upstream(tmp_path, retries=QUICK) as engine:
        engine.upstream.fail("broken", 503, body="busy")
        batch_id = start_batch(engine, [chat_line("a", "broken")])
        wait_for(engine, batch_id, "failed")
        details = {"status": 503, "body": "busy"}
        assert causes(engine, batch_id)["a"] == {"type": "RetriableHttpStatus", "details": details}
        assert engine.upstream.count("broken") == 4


def test_no_retry_begins_past_the_deadline(tmp_path: Path) -> None:
    """The window's end stops retries, not the work."""
    clock = [time.time()]
    with engine_with_upstream(tmp_path, retries=Retries(1000, 10, 10), now=lambda: clock[0]) as engine:
        engine.upstream.fail("late", 500)
        with engine.upstream.hold("late"):
            batch_id = start_batch(engine, [chat_line("a", "late"), chat_line("b")], completion_window="1h")
            wait_until(lambda: engine.upstream.count("late"), "the question")
            clock[0] += 3595
        batch = wait_for(engine, batch_id)
        assert batch["request_counts"] == {"total": 2, "completed": 1, "failed": 1}
        assert engine.upstream.count("late") == 1


def test_work_goes_on_past_the_deadline(tmp_path: Path) -> None:
    """There is no status expired: expired_at is shown beside completed."""
    clock = [time.time()]
    with engine_with_upstream(tmp_path, now=lambda: clock[0]) as engine, engine.upstream.hold("slow"):
        batch_id = start_batch(engine, [chat_line("a", "slow")], completion_window="1h")
        wait_for(engine, batch_id, "in_progress")
        clock[0] += 7200
        shown = look(engine, batch_id)
        assert (shown["status"], shown["expired_at"]) == ("in_progress", shown["expires_at"])
        listed = engine.call("GET", "/batches", params={"status": "expired"}).json()["data"]
        assert [batch["id"] for batch in listed] == [batch_id]
        engine.upstream.release()
        assert "expired_at" in wait_for(engine, batch_id)


def test_an_upstream_that_is_not_there_is_a_network_error(tmp_path: Path) -> None:
    """Tried again as the other passing troubles are."""
    with engine_with_upstream(tmp_path) as engine:
        batch_id = start_batch(engine, [chat_line("a", "x" * 10)])
        wait_for(engine, batch_id)
        engine.upstream.fail("cut", 0)  # a status that no HTTP server can send: the connection breaks
        broken = start_batch(engine, [chat_line("a", "cut")])
        wait_for(engine, broken, "failed")
        assert causes(engine, broken)["a"]["type"] == "NetworkError"
        assert engine.upstream.count("cut") == 4


def test_requests_run_side_by_side_within_the_bound(tmp_path: Path) -> None:
    """Three at a time here, never four."""
    with engine_with_upstream(tmp_path, concurrency=3) as engine:
        with engine.upstream.hold("together"):
            batch_id = start_batch(engine, [chat_line(str(n), "together") for n in range(9)])
            wait_until(lambda: engine.upstream.running == 3, "three at once")
        wait_for(engine, batch_id)
        assert engine.upstream.most_running == 3
        assert engine.upstream.count("together") == 9


def test_a_second_batch_does_not_wait_for_the_first_to_end(tmp_path: Path) -> None:
    """Open batches share the places."""
    with engine_with_upstream(tmp_path, concurrency=2) as engine, engine.upstream.hold("long"):
        first = start_batch(engine, [chat_line(str(n), "long" if n == 0 else "quick") for n in range(200)])
        second = start_batch(engine, [chat_line("only", "quick too")])
        wait_for(engine, second)
        assert look(engine, first)["status"] == "in_progress"


def test_the_upstream_gets_its_own_key_and_never_the_engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key stands in an environment setting of its own; where there is none, none is sent."""
    with engine_with_upstream(tmp_path) as engine:
        wait_for(engine, start_batch(engine, [chat_line("a")]))
        monkeypatch.setenv("DOUBLEWORD_UPSTREAM_API_KEY", "upstream-key")
        wait_for(engine, start_batch(engine, [chat_line("a")]))
        assert engine.upstream.keys == [None, "Bearer upstream-key"]


def test_an_upstream_on_this_machine_is_reached_past_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy does not know this machine's loopback."""
    told = Upstream()
    with serve(told.app) as url:
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        responder = UpstreamResponder(url)
        assert responder.models() == told.models
        responder.close()


def test_the_upstream_is_asked_with_the_body_of_the_line(tmp_path: Path) -> None:
    """Nothing is added; what the server strips is stripped."""
    with engine_with_upstream(tmp_path) as engine:
        line = chat_line("a", "exact", seed=1, tools=[], priority=3)
        wait_for(engine, start_batch(engine, [line]))
        del line["body"]["priority"]
        assert engine.upstream.calls == [line["body"]]


def test_any_model_is_taken_where_the_upstream_lists_none(tmp_path: Path) -> None:
    """Some servers have no /models."""
    told = Upstream()
    told.models = []
    with engine_with_upstream(tmp_path, upstream=told) as engine:
        batch = wait_for(engine, start_batch(engine, [chat_line("a", model="whatever")]))
        assert rows(engine, batch["output_file_id"])[0]["response"]["body"]["model"] == "whatever"


def test_responses_are_translated_to_a_chat_and_back(tmp_path: Path) -> None:
    """Instructions become the system's message, the schema a response_format, the answer an output item."""
    form = {"type": "json_schema", "name": "one", "schema": {"type": "object"}, "strict": True}
    body = {
        "model": "test-chat",
        "instructions": "Be brief.",
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "hello"}]}],
        "max_output_tokens": 9,
        "text": {"format": form},
    }
    line = {"custom_id": "r", "method": "POST", "url": "/v1/responses", "body": body}
    with engine_with_upstream(tmp_path) as engine:
        batch = wait_for(engine, start_batch(engine, [line], endpoint="/v1/responses"))
        (row,) = rows(engine, batch["output_file_id"])
        (asked,) = engine.upstream.calls
    assert asked["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}]
    assert asked["max_tokens"] == 9
    assert asked["response_format"]["json_schema"] == {"name": "one", "schema": {"type": "object"}, "strict": True}
    answer = row["response"]["body"]
    assert answer["id"].startswith("resp_")
    assert answer["output"][0]["content"][0]["text"] == "{}"  # what the upstream answers by this schema
    assert answer["usage"]["output_tokens"] == 3


def test_responses_that_need_memory_are_refused_in_words(tmp_path: Path) -> None:
    """What a chat cannot express is not dropped in silence."""
    body = {"model": "test-chat", "input": "more", "previous_response_id": "resp_1"}
    line = {"custom_id": "r", "method": "POST", "url": "/v1/responses", "body": body}
    with engine_with_upstream(tmp_path) as engine:
        batch_id = start_batch(engine, [line])
        wait_for(engine, batch_id, "failed")
        cause = causes(engine, batch_id)["r"]
        assert cause["details"]["status"] == 400
        assert "previous_response_id" in cause["details"]["body"]
        assert engine.upstream.calls == []
