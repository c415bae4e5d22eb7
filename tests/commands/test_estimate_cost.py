"""The script that says the cost, run as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.door import run_door


def batch(folder: Path, count: int = 3, **body: Any) -> Path:
    path = folder / "batch.jsonl"
    body = {"model": "Qwen/Qwen3-14B-FP8", "messages": [{"role": "user", "content": "Say hello."}]} | body
    line = {"method": "POST", "url": "/v1/chat/completions", "body": body}
    path.write_text("".join(json.dumps({"custom_id": f"r{n}"} | line) + "\n" for n in range(count)))
    return path


def test_the_cost_is_said_with_its_prices_and_their_date(tmp_path: Path) -> None:
    """Needs neither key nor network; each price brings window, source and date."""
    found = run_door("estimate_cost", batch(tmp_path, max_tokens=50), env={"DOUBLEWORD_BASE_URL": "http://127.0.0.1:1"})
    assert found.code == 0
    answer = found.json
    assert answer["requests"] == 3
    assert answer["prompt_tokens"] > 0
    assert 0 < answer["cost_usd"] < answer["ceiling_usd"]
    assert answer["unknown_prices"] == []
    (price,) = answer["prices"]
    assert (price["model"], price["window"], price["input"], price["output"]) == (
        "Qwen/Qwen3-14B-FP8",
        "24h",
        0.02,
        0.20,
    )
    assert price["date"] == "2026-11-22"
    assert price["source"].startswith("https://")


def test_the_window_chooses_the_price(tmp_path: Path) -> None:
    """1h is dearer than 24h."""
    path = batch(tmp_path, 1000, max_tokens=50)
    slow, fast = (run_door("estimate_cost", path, "--window", window).json for window in ("24h", "1h"))
    assert fast["cost_usd"] > slow["cost_usd"]
    assert fast["ceiling_usd"] > slow["ceiling_usd"]


def test_both_windows_are_compared_where_none_is_named(tmp_path: Path) -> None:
    """Side by side, each as `--window` alone would say it; the first keys stay those of 24h."""
    path = batch(tmp_path, 1000, max_tokens=50)
    both = run_door("estimate_cost", path).json
    for window in ("24h", "1h"):
        one = run_door("estimate_cost", path, "--window", window).json
        assert "windows" not in one
        assert both["windows"][window] == {name: one[name] for name in ("cost_usd", "ceiling_usd")}
    assert both["cost_usd"] == both["windows"]["24h"]["cost_usd"]
    assert "15 %" in both["method"]


def test_a_price_that_only_one_window_has_is_said(tmp_path: Path) -> None:
    """The other window's cost is null, with the reason."""
    prices = tmp_path / "prices.json"
    table = {"sources": {"me": {"page": "https://example.org", "date": "2026-11-22"}}}
    prices.write_text(json.dumps(table | {"models": {"nobody/knows": {"source": "me", "24h": [1000, 1000]}}}))
    found = run_door("estimate_cost", batch(tmp_path, model="nobody/knows", max_tokens=5), "--prices", prices).json
    assert found["windows"]["1h"] == {"cost_usd": None, "ceiling_usd": None}
    assert found["windows"]["24h"]["cost_usd"] > 0
    assert found["warnings"] == ["the price of 1 model(s) at 1h is not known, so neither is the cost"]


def test_an_unknown_price_and_a_missing_limit_are_told_apart(tmp_path: Path) -> None:
    """Null for the cost only where the price is not known; null for the ceiling in both cases, with a reason."""
    unlimited = run_door("estimate_cost", batch(tmp_path)).json
    assert unlimited["cost_usd"] > 0
    assert unlimited["ceiling_usd"] is None
    assert "max_tokens" in unlimited["warnings"][0]
    unknown = run_door("estimate_cost", batch(tmp_path, model="nobody/knows", max_tokens=5)).json
    assert (unknown["cost_usd"], unknown["ceiling_usd"]) == (None, None)
    assert unknown["unknown_prices"] == ["nobody/knows"]


def test_own_prices_can_be_given(tmp_path: Path) -> None:
    """--prices makes an unknown model known."""
    prices = tmp_path / "prices.json"
    table = {"sources": {"me": {"page": "https://example.org", "date": "2026-11-22"}}}
    prices.write_text(json.dumps(table | {"models": {"nobody/knows": {"source": "me", "24h": [1000, 1000]}}}))
    path = batch(tmp_path, model="nobody/knows", max_tokens=5)
    found = run_door("estimate_cost", path, "--prices", prices).json
    assert found["cost_usd"] > 0
    assert found["prices"][0]["input"] == 1000


def test_the_answer_stays_small_however_many_models_a_file_asks(tmp_path: Path) -> None:
    """The one JSON object has at most 4 KB; what is cut is counted."""
    path = tmp_path / "many.jsonl"
    lines = (batch(tmp_path, 1, model=f"somebody/model-{n:04d}", max_tokens=5).read_text() for n in range(400))
    path.write_text("".join(lines))
    found = run_door("estimate_cost", path).json
    assert len(found["unknown_prices"]) + found["unknown_prices_more"] == 400


@pytest.mark.parametrize(
    ("args", "code"),
    [([], "bad_arguments"), (["gone.jsonl"], "no_file"), (["."], "no_file"), (["empty.jsonl"], "no_requests")],
)
def test_bad_input_is_exit_2_with_a_hint(tmp_path: Path, args: list[str], code: str) -> None:
    """Nothing to estimate is never a cost of zero."""
    (tmp_path / "empty.jsonl").touch()
    found = run_door("estimate_cost", *args, cwd=tmp_path)
    assert found.code == 2
    assert found.json["error"]["code"] == code
    assert found.json["error"]["hint"]


def test_a_bad_line_is_named(tmp_path: Path) -> None:
    """By file and physical line."""
    path = batch(tmp_path)
    path.write_text(path.read_text() + "{]\n")
    error = run_door("estimate_cost", path).json["error"]
    assert error["code"] == "bad_line"
    assert "line 4" in error["message"]
