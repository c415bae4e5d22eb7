"""The bill after: what all answers took, at the price of the model that was asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from doubleword.pricing import bill as bills
from doubleword.pricing.bill import Usage, bill, estimated
from doubleword.system import Disk

MODEL = "Qwen/Qwen3.5-9B"  # 0.03 and 0.29 in the 24h window


def usage(*answers: dict[str, Any]) -> Usage:
    found = Usage()
    for body in answers:
        found.add(body)
    return found


def answer(model: str | None = MODEL, **tokens: int) -> dict[str, Any]:
    return {"model": model, "usage": tokens}


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
    assert bill(counted, "24h", None, Disk()) == {
        "usage": {"prompt_tokens": 2_000_000, "completion_tokens": 2_000_000},
        "cost_usd": 0.64,
    }
    assert bill(counted, "1h", None, Disk())["cost_usd"] == 0.78


@pytest.mark.parametrize(
    "counted",
    [
        usage(answer(prompt_tokens=1), answer("unheard-of", prompt_tokens=1)),
        usage(answer(prompt_tokens=1), {"model": MODEL, "choices": []}),
        usage(answer(None, prompt_tokens=1)),
    ],
)
def test_what_is_not_known_is_not_guessed(counted: Usage) -> None:
    """A price, or the tokens of an answer: the tokens that are known are told all the same."""
    found = bill(counted, "24h", None, Disk())
    assert found["cost_usd"] is None and found["usage"]["prompt_tokens"] >= 1


def test_the_model_that_was_asked_for_is_paid_for(tmp_path: Path) -> None:
    """Servers may call it otherwise in their answers; with several models asked for only their names tell."""
    counted = usage(answer("qwen-3.5-alias", prompt_tokens=1_000_000))
    one = batch_file(tmp_path / "a.jsonl", MODEL, MODEL)
    two = batch_file(tmp_path / "b.jsonl", MODEL, "openai/gpt-oss-20b")
    assert bill(counted, "24h", estimated([one], "24h", Disk()), Disk())["cost_usd"] == 0.03
    assert bill(counted, "24h", estimated([two], "24h", Disk()), Disk())["cost_usd"] is None
    assert bill(counted, "24h", estimated([one], "24h", Disk()), Disk())["estimate_usd"] > 0


def test_large_files_are_not_read_again_for_an_estimate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would double the time of a large fetch; the cost is told without it."""
    path = batch_file(tmp_path / "a.jsonl", MODEL)
    monkeypatch.setattr(bills, "ESTIMATED_BYTES", path.stat().st_size - 1)
    assert "estimate_usd" not in bill(usage(answer(prompt_tokens=1)), "24h", estimated([path], "24h", Disk()), Disk())


def test_a_failure_without_tokens_costs_nothing() -> None:
    """A refusal by the server has a body as well, and was not answered."""
    assert bill(usage({"error": {"message": "bad"}}), "24h", None, Disk())["cost_usd"] == 0.0
