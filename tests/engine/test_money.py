"""Prices, the ledger, and what an account may not do without money, in the shapes that were seen on the server."""

from __future__ import annotations

import json
import math
import sqlite3
import time
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.door import SCRIPTS, run_door
from tests.engine.conftest import causes, chat_line, look, rows, start_batch, wait_for
from tests.engine_process import (
    RunningEngine,
    ServerProcess,
    engine_with_upstream,
    priced,
    serve,
    server_process,
    wait_until,
)
from tests.upstream import ANSWER_ID, CHAT_MODEL, Upstream

from doubleword.engine.settings import read_prices
from doubleword.engine.storage.store import Store

PRICES = {CHAT_MODEL: {"24h": [40, 20, 4], "1h": [80, 40], "realtime": [100, 50]}}
TOO_LOW = "Account balance too low. Please add credits to continue."
NOTHING = {"total_requests": 0, "total_prompt_tokens": 0, "total_completion_tokens": 0, "total_tokens": 0}


def analytics(engine: RunningEngine | ServerProcess, batch_id: str) -> dict[str, Any]:
    """The analytics of a batch as they stand."""
    shown: dict[str, Any] = engine.call("GET", f"/batches/{batch_id}/analytics").json()
    return shown


def estimate(engine: RunningEngine, batch_id: str, window: str) -> dict[str, Any]:
    """The cost estimate of the batch's input file."""
    path = f"/files/{look(engine, batch_id)['input_file_id']}/cost-estimate"
    shown: dict[str, Any] = engine.call("GET", path, params={"completion_window": window}).json()
    return shown


def create_again(engine: RunningEngine, batch_id: str) -> tuple[int, str]:
    """Status and text of the answer to another batch over the same file."""
    known = look(engine, batch_id)
    body = {name: known[name] for name in ("input_file_id", "endpoint", "completion_window")}
    reply = engine.call("POST", "/batches", json=body)
    return reply.status_code, reply.text


def test_the_bill_is_after_cache_discounts_beside_the_list_price(tmp_path: Path) -> None:
    """Two answers of 3 tokens to prompts of 4, of which 3 were cached once: all amounts are exact texts."""
    with engine_with_upstream(tmp_path, settings=priced(PRICES)) as engine:
        engine.upstream.cache("cached", 3)
        lines = [chat_line("a", "this was cached before"), chat_line("b", "this was not before")]
        batch_id = wait_for(engine, start_batch(engine, lines))["id"]
        shown = analytics(engine, batch_id)
        ledger = sorted(engine.ledger(), key=lambda entry: entry.cached_tokens)
    assert min(shown.pop("avg_duration_ms"), shown.pop("avg_ttfb_ms")) > 0
    assert shown == {
        "total_requests": 2,
        "total_prompt_tokens": 8,
        "total_completion_tokens": 6,
        "total_tokens": 14,
        "total_cost": "0.000332000000000",
        "total_list_cost": "0.00044000",
    }
    assert [(entry.batch_id, entry.model, entry.completion_window) for entry in ledger] == [
        (batch_id, CHAT_MODEL, "24h"),
        (batch_id, CHAT_MODEL, "24h"),
    ]
    assert [(entry.cached_tokens, entry.cost_usd) for entry in ledger] == [
        (0, Decimal("2.2e-4")),
        (3, Decimal("1.12e-4")),
    ]


def test_only_answers_are_paid_for(tmp_path: Path) -> None:
    """Failed requests cost nothing and are in no analytics; a cancelled one is paid where its answer comes late."""
    with engine_with_upstream(tmp_path, settings=priced(PRICES), concurrency=2) as engine:
        engine.upstream.fail("bad", 400)
        mixed = wait_for(engine, start_batch(engine, [chat_line("a", "good"), chat_line("b", "bad")]))
        assert analytics(engine, mixed["id"])["total_requests"] == 1
        with engine.upstream.hold("late"):
            batch_id = start_batch(engine, [chat_line(str(n), "late") for n in range(9)])
            wait_until(lambda: engine.upstream.running == 2, "two questions")
            engine.call("POST", f"/batches/{batch_id}/cancel")
            assert analytics(engine, batch_id) == NOTHING
        wait_until(lambda: analytics(engine, batch_id)["total_requests"] == 2, "the two late answers")
        assert look(engine, batch_id)["request_counts"] == {"total": 9, "completed": 2, "failed": 0}
        assert len(engine.ledger()) == 3


def test_the_estimate_is_by_the_live_price_of_the_window(tmp_path: Path) -> None:
    """A prompt has a token for four bytes; a window without a price costs what the realtime endpoints do."""
    with engine_with_upstream(tmp_path, settings=priced(PRICES), works=False) as engine:
        batch_id = start_batch(engine, [chat_line("a", "x" * 400)])
        shown = estimate(engine, batch_id, "24h")
        model = shown["models"][0]
        assert (model["model"], model["request_count"]) == (CHAT_MODEL, 1)
        prompt, answer = model["estimated_input_tokens"], model["estimated_output_tokens"]
        assert prompt > 100 and answer == prompt * 11 // 10
        assert shown == {
            "file_id": look(engine, batch_id)["input_file_id"],
            "total_requests": 1,
            "total_estimated_input_tokens": prompt,
            "total_estimated_output_tokens": answer,
            "total_estimated_cost": model["estimated_cost"],
            "models": [model],
        }
        for window, (input_usd, output_usd) in {"24h": (40, 20), "1h": (80, 40), "9h": (100, 50)}.items():
            expected = Decimal(prompt * input_usd + answer * output_usd) / 1_000_000
            assert estimate(engine, batch_id, window)["total_estimated_cost"] == f"{expected:.8f}"
        engine.settings.account.prices = priced({}).account.prices
        assert estimate(engine, batch_id, "24h")["total_estimated_cost"] == "0"


def test_the_estimate_takes_answers_to_be_as_long_as_the_last_ones(tmp_path: Path) -> None:
    """Three tokens each here, whatever the prompt."""
    with engine_with_upstream(tmp_path, settings=priced(PRICES)) as engine:
        batch_id = wait_for(engine, start_batch(engine, [chat_line(str(n), "x" * 400) for n in range(5)]))["id"]
        assert estimate(engine, batch_id, "24h")["total_estimated_output_tokens"] == 15


def test_a_model_without_a_price_has_no_analytics(tmp_path: Path) -> None:
    """Beside another in one file, that one alone is counted, and estimated."""
    with engine_with_upstream(tmp_path, settings=priced(PRICES)) as engine:
        engine.upstream.models.append("unpriced")
        mixed = wait_for(engine, start_batch(engine, [chat_line("a"), chat_line("b", model="unpriced")]))["id"]
        alone = wait_for(engine, start_batch(engine, [chat_line("a", model="unpriced")]))["id"]
        assert analytics(engine, mixed)["total_requests"] == 1
        assert analytics(engine, alone) == NOTHING
        costs = {model["model"]: model["estimated_cost"] for model in estimate(engine, mixed, "24h")["models"]}
        assert costs["unpriced"] == "0"
        assert estimate(engine, mixed, "24h")["total_estimated_cost"] == costs[CHAT_MODEL] > "0.0000"


def test_analytics_may_come_late_or_never(tmp_path: Path) -> None:
    """They count what ended a while ago."""
    clock = [time.time()]
    settings = priced(PRICES, analytics_after_s=60)
    with engine_with_upstream(tmp_path, settings=settings, now=lambda: clock[0]) as engine:
        batch_id = wait_for(engine, start_batch(engine, [chat_line("a")]))["id"]
        assert analytics(engine, batch_id) == NOTHING
        clock[0] += 60
        assert analytics(engine, batch_id)["total_requests"] == 1
        engine.settings.account.analytics_after_s = math.inf
        assert analytics(engine, batch_id) == NOTHING


def test_answers_at_once_are_in_the_ledger_at_the_realtime_price(tmp_path: Path) -> None:
    """Every endpoint; a refusal is not."""
    with engine_with_upstream(tmp_path, settings=priced(PRICES)) as engine:
        engine.upstream.fail("bad", 400)
        for word in ("good", "bad"):
            engine.call("POST", "/chat/completions", json=chat_line("a", word)["body"])
        engine.call("POST", "/responses", json={"model": CHAT_MODEL, "input": "good"})
        found = [(entry.batch_id, entry.completion_window, entry.cost_usd) for entry in engine.ledger()]
    assert found == [(None, "realtime", Decimal("0.00025"))] * 2


def test_a_key_at_its_cap_spends_no_more(tmp_path: Path) -> None:
    """A new batch is refused in plain text, a request in JSON, and the rest of a running batch fails with that."""
    with engine_with_upstream(tmp_path, settings=priced(PRICES, cap_usd=Decimal("0.0001")), concurrency=1) as engine:
        batch_id = wait_for(engine, start_batch(engine, [chat_line("a"), chat_line("b")]))["id"]
        assert [row["custom_id"] for row in rows(engine, look(engine, batch_id)["output_file_id"])] == ["a"]
        cause = causes(engine, batch_id)["b"]
        assert (cause["type"], cause["details"]["status"]) == ("NonRetriableHttpStatus", 402)
        reply = engine.call("POST", "/chat/completions", json=chat_line("a")["body"])
        assert reply.status_code == 402
        for body in (json.loads(cause["details"]["body"]), reply.json()):
            assert (body["error"]["code"], body["error"]["type"]) == ("spend_cap_exceeded", "insufficient_quota")
        status, text = create_again(engine, batch_id)
        assert (status, text[:65]) == (402, "The API key used for this batch has reached its spending cap. Rai")


def test_a_retry_is_accepted_without_money_and_fails(tmp_path: Path) -> None:
    """A create would have said so: 402. After a top-up the same retry succeeds."""
    with engine_with_upstream(tmp_path, settings=priced(PRICES, credits_usd=Decimal(0))) as engine:
        batch_id = wait_for(engine, start_batch(engine, [chat_line("a")]), "failed")["id"]  # zero is not below zero
        engine.settings.account.credits_usd = Decimal("-0.01")
        assert create_again(engine, batch_id) == (402, TOO_LOW)
        assert engine.call("POST", f"/batches/{batch_id}/retry").status_code == 200
        wait_for(engine, batch_id, "failed")
        assert causes(engine, batch_id)["a"]["details"] == {"status": 402, "body": TOO_LOW}
        reply = engine.call("POST", "/chat/completions", json=chat_line("a")["body"])
        assert (reply.status_code, reply.text) == (402, TOO_LOW)
        engine.settings.account.credits_usd = Decimal(1)
        engine.call("POST", f"/batches/{batch_id}/retry")
        wait_for(engine, batch_id)


def test_a_background_batch_costs_what_realtime_does_where_it_has_no_price(tmp_path: Path) -> None:
    """It has no deadline, and only an engine that is told to takes it."""
    with engine_with_upstream(tmp_path, settings=replace(priced(PRICES), background=True)) as engine:
        batch = wait_for(engine, start_batch(engine, [chat_line("a")], completion_window="background"))
        assert "expires_at" not in batch and batch["completion_window"] == "background"
        assert [entry.cost_usd for entry in engine.ledger()] == [Decimal("0.00025")]
        engine.settings.background = False
        assert create_again(engine, batch["id"])[0] == 403


def test_a_folder_from_before_the_ledger_goes_on(tmp_path: Path) -> None:
    """The table is made where it is missing."""
    Store(tmp_path).close()
    with sqlite3.connect(tmp_path / "engine.sqlite3") as connection:
        connection.execute("DROP TABLE ledger")
    connection.close()
    with engine_with_upstream(tmp_path, settings=priced(PRICES)) as engine:
        wait_for(engine, start_batch(engine, [chat_line("a")]))
        assert len(engine.ledger()) == 1


def test_the_bundled_table_of_prices_can_be_named() -> None:
    """Its other keys are left out."""
    prices = read_prices(SCRIPTS / "doubleword" / "pricing" / "prices.json")
    found = prices.find("Qwen/Qwen3-14B-FP8", "1h")
    assert found is not None
    assert (found.input_usd, found.output_usd, found.cached_usd) == (Decimal("0.03"), Decimal("0.3"), Decimal("0.03"))
    assert prices.find("Qwen/Qwen3-14B-FP8", "9h") == prices.find("Qwen/Qwen3-14B-FP8", "realtime") != found
    assert prices.find("nobody/knows", "9h") is None


def test_the_flags_of_the_script_reach_the_engine(tmp_path: Path) -> None:
    """Prices, streams, and batches in the background, in one process."""
    path = tmp_path / "prices.json"
    path.write_text(json.dumps({"models": PRICES}))
    upstream = Upstream()
    with (
        serve(upstream.app) as url,
        server_process(
            tmp_path / "d", "--upstream", url, "--prices", str(path), "--streamed", "--background"
        ) as engine,
    ):
        batch = wait_for(engine, start_batch(engine, [chat_line("a")], completion_window="background"))
        (row,) = rows(engine, batch["output_file_id"])
        assert row["response"]["body"]["id"] == ANSWER_ID
        assert analytics(engine, batch["id"])["total_cost"] == "0.000250000000000"


@pytest.mark.parametrize(
    "table", ["", "[]", '{"models": {"m": 3}}', '{"models": {"m": {"24h": [1]}}}', '{"models": {"m": {"1h": [1, -1]}}}']
)
def test_a_table_of_another_form_is_refused(tmp_path: Path, table: str) -> None:
    """Exit 2, with the form."""
    path = tmp_path / "prices.json"
    path.write_text(table)
    upstream = ("--upstream", "http://127.0.0.1:9")
    refused = run_door("local_server", "--prices", path, "--data", tmp_path / "d", *upstream)
    assert (refused.code, refused.json["error"]["code"]) == (2, "bad_prices")
    assert "realtime" in refused.json["error"]["hint"]
