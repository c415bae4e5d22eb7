"""The bill after: what all answers took, at the price of the model that was asked for, as far as it is known."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from doubleword.answers.lines import judge_read
from doubleword.pricing import estimate as estimates
from doubleword.pricing.bill import Part, Usage, bill, told
from doubleword.pricing.estimate import estimated
from doubleword.pricing.prices import load_prices
from doubleword.server.objects import Analytics
from doubleword.service import RESPONSES
from doubleword.system import Disk

MODEL = "Qwen/Qwen3-14B-FP8"  # 0.02 and 0.20 in the 24h window, 0.05 and 0.60 at once
PRICES = load_prices(None, Disk())


def usage(*answers: dict[str, Any]) -> Usage:
    found = Usage()
    for body in answers:
        found.add(body)
    return found


def answer(model: str | None = MODEL, **tokens: Any) -> dict[str, Any]:
    return {"model": model, "usage": tokens}


def cost(counted: Usage, window: str = "24h", asked: str = "", analytics: Analytics | None = None) -> dict[str, Any]:
    return bill([Part(counted, asked, analytics)], window, PRICES)


def batch_file(path: Path, *models: str) -> Path:
    body = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 5}
    lines = [
        {"custom_id": str(number), "method": "POST", "url": "/v1/chat/completions", "body": {"model": model, **body}}
        for number, model in enumerate(models)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_tokens_and_cost_are_summed_over_answers() -> None:
    """Under either name of the counts; embeddings have no completion."""
    counted = usage(answer(prompt_tokens=1_000_000, completion_tokens=2_000_000), answer(input_tokens=1_000_000))
    tokens = {"prompt_tokens": 2_000_000, "completion_tokens": 2_000_000, "cached_tokens": 0, "reasoning_tokens": 0}
    assert cost(counted) == {
        "usage": tokens,
        "cost_usd": 0.44,
        "cost_source": "computed",
        "list_cost_usd": 0.44,
        "realtime_usd": 1.3,
        "saved_usd": 0.86,
    }
    assert cost(counted, "1h")["cost_usd"] == 0.66


@pytest.mark.parametrize(
    ("counted", "reason"),
    [
        (usage(answer(prompt_tokens=1), answer("unheard-of", prompt_tokens=1)), "unheard-of"),
        (usage(answer(prompt_tokens=1), {"model": MODEL, "choices": []}), "1 answers do not say"),
        (usage(answer(None, prompt_tokens=1)), "without a name"),
        (usage(answer(prompt_tokens=9, prompt_tokens_details={"cached_tokens": 8})), "cached input"),
        (usage(answer(prompt_tokens=9, prompt_tokens_details={"cache_write_tokens": 8})), "written into the prompt"),
    ],
)
def test_what_is_not_known_is_not_guessed(counted: Usage, reason: str) -> None:
    """A price, or the tokens of an answer: the tokens that are known are told all the same, and the reason."""
    found = cost(counted)
    assert (found["cost_usd"], found["cost_source"], found["saved_usd"]) == (None, None, None)
    assert found["usage"]["prompt_tokens"] >= 1 and reason in found["cost_reason"]


def test_cached_and_reasoning_tokens_are_read_at_every_endpoint() -> None:
    """As OpenAI's two APIs and Anthropic's count them, whose input leaves out what the cache held."""
    counted = usage(
        answer(prompt_tokens=9, prompt_tokens_details={"cached_tokens": 8}, completion_tokens=5,
               completion_tokens_details={"reasoning_tokens": 4}),
        answer(input_tokens=9, input_tokens_details={"cached_tokens": 8}, output_tokens=5,
               output_tokens_details={"reasoning_tokens": 4}),
        answer(input_tokens=1, cache_read_input_tokens=8, output_tokens=5),
        answer(prompt_tokens=9, prompt_tokens_details=None, completion_tokens_details={"reasoning_tokens": "x"}),
    )  # fmt: skip
    assert list(counted.tokens.values()) == [36, 15, 24, 8]


def test_the_model_that_was_asked_for_is_paid_for(tmp_path: Path) -> None:
    """Servers may call it otherwise in their answers; with several models asked for only their names tell."""
    counted = usage(answer("qwen-3-alias", prompt_tokens=1_000_000))
    assert cost(counted, asked=MODEL)["cost_usd"] == 0.02
    assert cost(counted)["cost_usd"] is None
    one = estimated([batch_file(tmp_path / "a.jsonl", MODEL, MODEL)], "24h", Disk(), PRICES)
    assert one is not None and one.models == (MODEL,) and one.cost_usd and one.cost_usd > 0


def test_a_sum_is_called_billed_only_where_every_batch_is() -> None:
    """One without any answer owes nothing, whatever the server says of it."""
    counted = usage(answer(prompt_tokens=1_000_000))
    seen = Analytics(1, 1_000_000, 0, None, Decimal("0.019"), Decimal("0.02"))
    none = Analytics(0, 0, 0, None, None, None)
    billed = [Part(counted, "", seen), Part(Usage(), "", none)]
    found = bill(billed, "24h", PRICES)
    assert (found["cost_usd"], found["cost_source"], found["list_cost_usd"]) == (0.019, "billed", 0.02)
    mixed = bill([*billed, Part(counted, "", None)], "24h", PRICES, "late")
    assert (mixed["cost_usd"], mixed["cost_source"], mixed["cost_reason"]) == (0.039, "computed", "late")


def test_large_files_are_not_read_again_for_an_estimate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would double the time of a large fetch; the cost is told without it."""
    path = batch_file(tmp_path / "a.jsonl", MODEL)
    monkeypatch.setattr(estimates, "ESTIMATED_BYTES", path.stat().st_size - 1)
    assert estimated([path], "24h", Disk(), PRICES) is None


def test_a_failure_without_tokens_costs_nothing() -> None:
    """A refusal by the server has a body as well, and was not answered."""
    counted = Usage()
    for status, body in ((400, {"error": {"message": "bad"}}), (422, {"detail": "bad"}), (200, {"error": "busy"})):
        line = judge_read(b"", {"custom_id": "a", "response": {"status_code": status, "body": body}}, RESPONSES)
        assert line is not None
        counted.add(body, line.is_charged)
    assert cost(counted)["cost_usd"] == 0.0


def test_an_answer_with_no_error_and_no_tokens_is_not_free() -> None:
    """A response always has the key `error`, null in an answer."""
    assert cost(usage({"error": None, "output": [], "usage": None}))["cost_usd"] is None


@pytest.mark.parametrize(
    ("keys", "failed", "line"),
    [
        ({"cost_source": "billed", "cost_usd": 1.12, "estimate_usd": 1.3, "realtime_usd": 2.31}, 20,
         "billed USD 1.12 for 4,980 answers (estimated 1.30; realtime 2.31; 20 failed, not charged)"),
        ({"cost_source": "computed", "cost_usd": 0.000332}, 0, "computed USD 0.00033 for 4,980 answers"),
        ({"cost_source": None, "cost_usd": None, "estimate_usd": None}, 0, "cost not known for 4,980 answers"),
        ({"cost_source": "billed", "cost_usd": 0.0}, 0, "billed USD 0.00 for 4,980 answers"),
    ],
)  # fmt: skip
def test_the_bill_reads_as_one_line(keys: dict[str, Any], failed: int, line: str) -> None:
    """For a person: cents, or as many digits as a small amount needs."""
    assert told(keys, 4980, failed) == line


def test_tokens_that_nobody_counted_are_null() -> None:
    """Of a batch whose answers were not read, on a server that tells no costs; one that is known does not hide it."""
    names = ("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens")
    unknown = Part(None, MODEL, None)
    for parts in ([unknown], [Part(usage(answer(prompt_tokens=1)), MODEL, None), unknown]):
        assert bill(parts, "24h", PRICES)["usage"] == dict.fromkeys(names)
    counted = Part(None, MODEL, Analytics(1, 5, 2, None, None, None))
    assert bill([counted], "24h", PRICES)["usage"] == {
        **dict.fromkeys(names, 0),
        "prompt_tokens": 5,
        "completion_tokens": 2,
        "cached_tokens": None,
    }
