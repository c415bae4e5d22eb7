"""try_prompt.py judges what it shows: an answer that would fail in the batch fails here, before it is paid for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.door import Result, call_door
from tests.engine_process import RunningEngine, engine_with_upstream

from doubleword.commands.try_prompt import _prompt
from doubleword.pricing.prices import REALTIME, load_prices
from doubleword.system import Disk

MODEL = "Qwen/Qwen3.5-9B"
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[RunningEngine]:
    with engine_with_upstream(tmp_path / "engine") as running:
        yield running


def tried(engine: RunningEngine, folder: Path, *words: str) -> Result:
    settings = {"DOUBLEWORD_API_KEY": engine.key, "DOUBLEWORD_BASE_URL": engine.base_url}
    (folder / "t.csv").write_text("title\none\ntwo\n")
    (folder / "s.json").write_text(json.dumps(SCHEMA))
    ask = ["--input", "t.csv", "--model", "test-chat", "--prompt", "{title}"]
    return call_door("try_prompt", *ask, *words, cwd=folder, env=settings)


def say(engine: RunningEngine, text: str, content: str, reason: str = "stop") -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": reason}
    usage = {"prompt_tokens": 10, "completion_tokens": 5}
    engine.upstream.fail(text, 200, json.dumps({"model": "test-chat", "choices": [choice], "usage": usage}))


def test_an_answer_that_breaks_its_schema_fails_the_trial(engine: RunningEngine, tmp_path: Path) -> None:
    """Exit 6 with the cause in its row; JSON in a fence is taken out of it, as it will be later."""
    say(engine, "one", '```json\n{"n": 3}\n```')
    say(engine, "two", "three")
    found = tried(engine, tmp_path, "--response-schema", "s.json")
    assert found.code == 6
    good, bad = found.json["rows"]
    assert (good["answer"], "error" in good) == ('{"n": 3}', False)
    assert bad["flaws"] == ["invalid"] and "not JSON" in bad["error"] and bad["answer"] == "three"


def test_other_flaws_are_warnings(engine: RunningEngine, tmp_path: Path) -> None:
    """An answer that is cut off is one, and the step that mends it is named."""
    say(engine, "two", "thr", "length")
    found = tried(engine, tmp_path)
    assert (found.code, found.json["rows"][1]["flaws"]) == (0, ["truncated"])
    assert any("row-0000002" in one and "--max-tokens" in one for one in found.json["warnings"])


def test_a_trial_says_what_it_cost_and_keeps_its_limit(engine: RunningEngine, tmp_path: Path) -> None:
    """The answers' own tokens at the realtime price; where they may cost more than the limit, nothing is sent."""
    engine.upstream.models.append(MODEL)
    ask = ["--model", MODEL, "--max-tokens", "100"]
    price = load_prices(None, Disk()).find(MODEL, REALTIME)
    assert price is not None
    most = 200 * price.output_usd / 1_000_000
    refused = tried(engine, tmp_path, *ask, "--max-cost", f"{most}")
    assert (refused.code, refused.json["error"]["code"], engine.upstream.count()) == (8, "over_max_cost", 0)
    assert "about 1 of them fit" in refused.json["error"]["message"]
    uncapped = tried(engine, tmp_path, "--model", MODEL, "--max-cost", "9")
    assert (uncapped.code, uncapped.json["error"]["code"], engine.upstream.count()) == (8, "cost_unknown", 0)
    say(engine, "one", "uno")
    say(engine, "two", "dos")
    found = tried(engine, tmp_path, *ask, "--max-cost", f"{2 * most}")
    assert found.json["cost_usd"] == float(price.cost(20, 10) or 0) > 0
    assert tried(engine, tmp_path).json["cost_usd"] is None  # nobody knows the price of test-chat


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        ({"messages": [{"role": "user", "content": "a"}]}, "a"),
        ({"input": "a"}, "a"),
        ({"prompt": ["a"]}, ["a"]),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}, {"type": "text", "text": "a"}]}]},
            "[image_url] a",
        ),
        ({"input": [{"role": "user", "content": [{"type": "input_text", "text": "a"}]}]}, "a"),
    ],
)
def test_a_prompt_is_shown_as_people_know_it(body: dict[str, Any], shown: Any) -> None:
    """Pictures are named, not shown."""
    assert _prompt(body) == shown
