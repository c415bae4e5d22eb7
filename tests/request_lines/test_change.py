"""A request that is asked again with a change: only that is changed, and only once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from doubleword.failure import Failure
from doubleword.request_lines.change import Change
from doubleword.request_lines.checker import Checker
from doubleword.service import CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, RESPONSES

NOTE = "In JSON."


def line(url: str, body: dict[str, Any]) -> bytes:
    return json.dumps({"custom_id": "a", "method": "POST", "url": url, "body": {"model": "m", **body}}).encode()


def user(content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}, {"role": "assistant", "content": "Yes?"}]


@pytest.mark.parametrize(
    ("change", "url", "before", "after"),
    [
        (Change(max_tokens=9), CHAT, {"messages": user("x")}, {"messages": user("x"), "max_tokens": 9}),
        (
            Change(max_tokens=9),
            CHAT,
            {"messages": user("x"), "max_completion_tokens": 5},
            {"messages": user("x"), "max_completion_tokens": 9},
        ),
        (Change(max_tokens=9), COMPLETIONS, {"prompt": "x", "max_tokens": 5}, {"prompt": "x", "max_tokens": 9}),
        (Change(max_tokens=9), RESPONSES, {"input": "x"}, {"input": "x", "max_output_tokens": 9}),
        (
            Change(max_tokens=9, note=NOTE),
            MESSAGES,
            {"messages": user("x"), "max_tokens": 5},
            {"messages": user(f"x\n\n{NOTE}"), "max_tokens": 9},
        ),
        (Change(model="m"), EMBEDDINGS, {"input": ["x"]}, {"input": ["x"]}),
        (Change(note=NOTE), CHAT, {"messages": user("x")}, {"messages": user(f"x\n\n{NOTE}")}),
        (
            Change(note=NOTE),
            CHAT,
            {"messages": user([{"type": "text", "text": "x"}])},
            {"messages": user([{"type": "text", "text": "x"}, {"type": "text", "text": NOTE}])},
        ),
        (
            Change(note=NOTE),
            CHAT,
            {"messages": [{"role": "system", "content": "x"}]},
            {"messages": [{"role": "system", "content": "x"}, {"role": "user", "content": NOTE}]},
        ),
        (Change(note=NOTE), COMPLETIONS, {"prompt": ["x", "y"]}, {"prompt": [f"x\n\n{NOTE}", f"y\n\n{NOTE}"]}),
        (Change(note=NOTE), RESPONSES, {"input": "x"}, {"input": f"x\n\n{NOTE}"}),
        (
            Change(note=NOTE),
            RESPONSES,
            {"input": user([{"type": "input_text", "text": "x"}])},
            {"input": user([{"type": "input_text", "text": "x"}, {"type": "input_text", "text": NOTE}])},
        ),
    ],
)
def test_only_what_was_asked_for_is_changed_and_only_once(
    change: Change, url: str, before: dict[str, Any], after: dict[str, Any]
) -> None:
    """Made twice it is made once; what comes out is a request line like any other."""
    changed = change.applied(line(url, before))
    assert json.loads(changed) == json.loads(line(url, after))
    assert change.applied(changed) == changed
    assert Checker().accepts(changed) is not None


@pytest.mark.parametrize(
    ("change", "url", "body"),
    [
        (Change(max_tokens=9), EMBEDDINGS, {"input": "x"}),
        (Change(note=NOTE), EMBEDDINGS, {"input": "x"}),
        (Change(note=NOTE), COMPLETIONS, {"prompt": [1, 2]}),
        (Change(note="\ud800"), CHAT, {"messages": user("x")}),
    ],
)
def test_what_cannot_be_changed_is_refused(change: Change, url: str, body: dict[str, Any]) -> None:
    """By name of the request, before anything is sent."""
    with pytest.raises(Failure) as refused:
        change.applied(line(url, body))
    assert refused.value.code == "bad_change" and "request a" in refused.value.message


def test_no_change_leaves_the_line_as_it_is() -> None:
    """Byte for byte, and nothing stands in the job file."""
    raw = b'{"custom_id": "a",  "odd":  "spaces"}'
    assert Change().applied(raw) == raw and Change().recorded is None
    assert Change(model="x").recorded == {"model": "x"}
