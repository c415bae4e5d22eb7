"""The same promises before three servers: as the source has it, as it is documented, and OpenAI's batch API."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.engine_process import RunningEngine, wait_until
from tests.faults import gate as faults
from tests.faults.gate import Act, Gate
from tests.faults.moods import MOODS, Documentation, OpenAi, Source
from tests.faults.rooms import Desk, batch_count, finished

TEXTS = ["one", "two", "three", "four"]
IDS = [f"row-{n}" for n in range(1, 5)]
ANSWERS = {identifier: f"answer to: {text}" for identifier, text in zip(IDS, TEXTS, strict=True)}


@pytest.fixture(params=MOODS, ids=lambda mood: mood.__name__)
def mood(request: pytest.FixtureRequest, gate: Gate) -> Source:
    made: Source = request.param(gate)
    gate.server = made.reply
    return made


@pytest.mark.usefixtures("mood")
def test_a_whole_job_with_failures_and_a_retry(desk: Desk, engine: RunningEngine, mood: Source) -> None:
    """Exit codes, rows and payments are the same; where there is no retry, a second batch asks what is owed alone."""
    engine.upstream.fail("two", 409, times=1)
    desk.batch_file("a.jsonl", TEXTS)
    assert desk.run("submit", "a.jsonl").code == 0
    assert desk.run("submit", "a.jsonl").json["resumed"] is True
    finished(engine)
    assert desk.run("poll", "a.job.json", "--wait", "60").code == 6
    first = desk.run("fetch_results", "a.job.json", "--output", "x.jsonl")
    assert (first.code, first.json["complete"]) == (6, True)
    assert first.json["counts"] == {"total": 4, "succeeded": 3, "failed": 1, "missing": 0}
    assert "told to fail" in first.json["failures"][0]["cause"]
    assert desk.run("retry_failed", "a.job.json").code == 0
    finished(engine)
    assert desk.run("poll", "a.job.json", "--wait", "60").code == 0
    assert desk.run("fetch_results", "a.job.json", "--output", "x.jsonl", "--force").code == 0
    assert desk.rows("x.jsonl") == ANSWERS
    assert [engine.upstream.count(text) for text in TEXTS] == [1, 2, 1, 1]
    assert batch_count(engine) == (2 if isinstance(mood, OpenAi) else 1)
    assert desk.run("retry_failed", "a.job.json").json["resumed"] is True


@pytest.mark.usefixtures("mood")
def test_a_flawed_answer_that_was_asked_again_in_vain_is_open(desk: Desk, engine: RunningEngine) -> None:
    """The retry that poll names asks it once more, with or without a retry of the server; then all is done."""
    cut = {"index": 0, "message": {"role": "assistant", "content": "cut o"}, "finish_reason": "length"}
    engine.upstream.fail("two", 200, json.dumps({"model": "test-chat", "choices": [cut]}), times=1)
    engine.upstream.fail("two", 409, times=1)
    desk.batch_file("a.jsonl", TEXTS)
    assert desk.run("submit", "a.jsonl").code == 0
    finished(engine)
    assert desk.run("retry_failed", "a.job.json", "--only", "truncated", "--max-tokens", "50").code == 0
    finished(engine)
    polled = desk.run("poll", "a.job.json")
    assert (polled.code, polled.json["counts"]) == (6, {"total": 4, "completed": 3, "failed": 1})
    assert desk.run("fetch_results", "a.job.json", "--output", "x.jsonl").code == 0  # the flawed answer stands
    assert desk.run("retry_failed", "a.job.json").code == 0
    finished(engine)
    assert desk.run("poll", "a.job.json").code == 0
    assert engine.upstream.calls[-1]["max_tokens"] == 50
    assert [engine.upstream.count(text) for text in TEXTS] == [1, 3, 1, 1]


@pytest.mark.usefixtures("mood")
@pytest.mark.parametrize("route", ["upload", "create"])
@pytest.mark.parametrize(
    "act", [faults.reply_lost, faults.reset_before, faults.gateway(504, acts=True)], ids=lambda act: act.__name__
)
def test_a_lost_reply_is_found_again(desk: Desk, gate: Gate, engine: RunningEngine, route: str, act: Act) -> None:
    """By search where there is one, else by reading the whole list."""
    desk.batch_file("a.jsonl", TEXTS)
    gate.on(route, act)
    assert desk.run("submit", "a.jsonl").code == 0
    finished(engine)
    assert batch_count(engine) == 1
    assert [engine.upstream.count(text) for text in TEXTS] == [1, 1, 1, 1]


@pytest.mark.usefixtures("mood")
@pytest.mark.parametrize("route", ["upload", "create"])
def test_a_lost_reply_is_found_behind_pages_of_others(
    desk: Desk, gate: Gate, engine: RunningEngine, route: str
) -> None:
    """Other users of the account made 120 newer files and batches before anybody looked."""
    desk.batch_file("a.jsonl", TEXTS)

    def others(exchange: faults.Exchange) -> None:
        exchange.forward()
        exchange.gate.clock.sleep(5)
        content = b'{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"model":"test-chat"}}'
        remote = engine.call("POST", "/files", files={"file": ("other.jsonl", content)}, data={"purpose": "batch"})
        made = {"input_file_id": remote.json()["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        for _ in range(120):
            if route == "create":
                assert engine.call("POST", "/batches", json=made).status_code == 201
            else:
                content_of = {"file": ("other.jsonl", content)}
                assert engine.call("POST", "/files", files=content_of, data={"purpose": "batch"}).status_code == 201
        exchange.reset()

    gate.on(route, others)
    assert desk.run("submit", "a.jsonl").code == 0
    assert gate.calls(route) == 1


@pytest.mark.usefixtures("mood")
@pytest.mark.parametrize("cut", [0, 100, 300, 700])
def test_results_survive_cuts(desk: Desk, gate: Gate, engine: RunningEngine, cut: int) -> None:
    """Going on by `skip`, by `offset`, or from the beginning."""
    desk.batch_file("a.jsonl", TEXTS)
    desk.run("submit", "a.jsonl")
    finished(engine)
    gate.on("content", faults.content_cut(cut, "chunked"), times=2)
    assert desk.run("fetch_results", "a.job.json", "--output", "x.jsonl").code == 0
    assert desk.rows("x.jsonl") == ANSWERS


@pytest.mark.usefixtures("mood")
@pytest.mark.parametrize("expires", [False, True], ids=["cancelled", "expired"])
def test_a_batch_that_ends_before_its_requests(
    desk: Desk, gate: Gate, engine: RunningEngine, mood: Source, expires: bool
) -> None:
    """Partial results and 6; with rows for what never ran or without; then only that is asked again."""
    if expires and not isinstance(mood, Documentation):
        pytest.skip("the server's source has no such status")
    mood.expires = expires
    desk.batch_file("a.jsonl", TEXTS)
    with engine.upstream.hold("four"):
        identifier = desk.run("submit", "a.jsonl").json["batches"][0]["id"]
        _until(engine, 3)
        assert desk.run("cancel", "a.job.json", "--yes").code == 0
        assert identifier
        polled = desk.run("poll", "a.job.json", "--wait", "60")
        assert (polled.code, polled.json["status"]) == (6, "expired" if expires else "cancelled")
        result = desk.run("fetch_results", "a.job.json", "--output", "x.jsonl")
    assert (result.code, result.json["complete"]) == (6, True)
    counts = result.json["counts"]
    assert counts["succeeded"] == 3 and counts["failed"] + counts["missing"] == 1
    errors = [json.loads(line) for line in (desk.folder / "x.errors.jsonl").read_text().splitlines()]
    assert [one["custom_id"] for one in errors] == ["row-4"]
    mood.expires = False
    assert desk.run("retry_failed", "a.job.json").code == 0
    finished(engine)
    assert desk.run("fetch_results", "a.job.json", "--output", "x.jsonl", "--force").code == 0
    assert desk.rows("x.jsonl") == ANSWERS
    assert [engine.upstream.count(text) for text in TEXTS[:3]] == [1, 1, 1]


def _until(engine: RunningEngine, ended: int) -> None:
    def there() -> bool:
        (batch,) = engine.call("GET", "/batches").json()["data"]
        return bool(batch["request_counts"]["completed"] == ended)

    wait_until(there, f"{ended} requests to end")


@pytest.mark.usefixtures("mood")
@pytest.mark.parametrize(
    "ask", [lambda desk: desk.run("poll", _id(desk)), lambda desk: desk.run("fetch_results", _id(desk))]
)
def test_ids_as_the_server_gives_them_are_taken(desk: Desk, engine: RunningEngine, ask: Callable[[Desk], Any]) -> None:
    """With prefix or without, in the job file and on the command line."""
    desk.batch_file("a.jsonl", TEXTS)
    desk.run("submit", "a.jsonl")
    finished(engine)
    assert ask(desk).code == 0


def _id(desk: Desk) -> str:
    return str(desk.job()["batches"][0]["batch_id"])


@pytest.mark.usefixtures("mood")
def test_an_error_in_this_servers_words_is_a_sentence(desk: Desk, engine: RunningEngine) -> None:
    """A model that is not there: plain text or envelope, exit 3 (403), nothing made."""
    path = desk.batch_file("a.jsonl", TEXTS)
    path.write_text(path.read_text().replace("test-chat", "no-such-model"))
    result = desk.run("submit", "a.jsonl")
    assert (result.code, batch_count(engine)) == (3, 0)
    assert "no-such-model" in result.json["error"]["message"]
    assert not result.json["error"]["message"].count("{")
