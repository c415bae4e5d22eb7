"""Lines in Anthropic's form: checked, sent, judged and retried as all others are."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from tests.door import Result, call_door
from tests.engine_process import KEY, engine_with_upstream

MODEL = "test-chat"


def line(custom_id: str, content: Any, **body: Any) -> dict[str, Any]:
    asked = {"model": MODEL, "max_tokens": 8, "messages": [{"role": "user", "content": content}], **body}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/messages", "body": asked}


def test_such_lines_come_from_file_to_table(tmp_path: Path) -> None:
    """Texts, blocks, a picture and a tool's result are asked; what was cut off is asked again with more room."""
    png = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}
    used = [
        {"role": "user", "content": "Look."},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "look", "input": {"at": 1}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "A chair."}]},
    ]
    tools = [{"name": "look", "input_schema": {"type": "object"}}]
    given = [
        line("plain", "Hi?", system="Be brief."),
        line("cut", "short of room, this one?"),
        line("blocks", [{"type": "text", "text": "What is it?"}, png]),
        line("tool", "", messages=used, tools=tools, tool_choice={"type": "any"}),
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(one) + "\n" for one in given))
    with engine_with_upstream(tmp_path / "engine") as engine:

        def run(door: str, *words: str) -> Result:
            env = {"DOUBLEWORD_API_KEY": KEY, "DOUBLEWORD_BASE_URL": engine.base_url}
            return call_door(door, *words, cwd=tmp_path, env=env)

        made = run("create_batch_file", "m.jsonl", "--input", "rows.jsonl")
        assert (made.code, made.json["requests"]) == (0, 4), made.json
        assert run("validate_batch_file", "m.jsonl").code == 0
        estimate = run("estimate_cost", "m.jsonl").json
        assert (estimate["requests"], estimate["unknown_prices"]) == (4, [MODEL]) and estimate["prompt_tokens"] > 20
        engine.upstream.cut("short of room", 20)
        assert run("submit", "m.jsonl").code == 0
        assert run("poll", "m.job.json", "--wait", "60").code == 0
        fetched = run("fetch_results", "m.job.json", "--output", "first.csv", "--format", "csv")
        assert (fetched.code, fetched.json["answers"]["truncated"]) == (0, 1), fetched.json
        assert run("retry_failed", "m.job.json", "--only", "truncated", "--max-tokens", "40").code == 0
        assert run("poll", "m.job.json", "--wait", "60").code == 0
        fetched = run("fetch_results", "m.job.json", "--output", "a.csv", "--format", "csv")
        assert (fetched.code, fetched.json["counts"]["succeeded"]) == (0, 4), fetched.json
        calls = engine.upstream.calls
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as file:
        rows = {row["custom_id"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["plain", "cut", "blocks", "tool"]
    assert (
        rows["plain"]["answer"] == "answer to: Hi?" and rows["cut"]["answer"] == "answer to: short of room, this one?"
    )
    assert int(rows["plain"]["prompt_tokens"]) > 0 and rows["plain"]["finish_reason"] == "end_turn"
    plain = next(call["messages"] for call in calls if call["messages"][-1]["content"] == "Hi?")
    assert {"role": "system", "content": "Be brief."} in plain
    assert any("data:image/png;base64,iVBORw0KGgo=" in json.dumps(call) for call in calls)
    chat = next(call for call in calls if call.get("tools"))
    assert [one["role"] for one in chat["messages"]] == ["user", "assistant", "tool"]
    assert chat["tool_choice"] == "required" and chat["tools"][0]["function"]["name"] == "look"


def test_what_the_form_requires_is_told_before_anything_is_sent(tmp_path: Path) -> None:
    """Without `max_tokens` it is refused, and so is a system message among the others."""
    wrong = [line("a", "Hi"), line("b", "Hi", messages=[{"role": "system", "content": "x"}])]
    del wrong[0]["body"]["max_tokens"]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(one) + "\n" for one in wrong))
    found = call_door("validate_batch_file", "m.jsonl", cwd=tmp_path)
    assert (found.code, found.json["error_count"]) == (2, 2), found.json
    assert [one["path"] for one in found.json["errors"]] == ["body.max_tokens", "body.messages[0].role"]
