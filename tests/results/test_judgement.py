"""What an answer is worth: whole, cut off, refused, empty, or not what was asked for; and what to do about it."""

from __future__ import annotations

from typing import Any

import pytest

from doubleword.request_lines.line import CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES
from doubleword.results.advice import step
from doubleword.results.judgement import judged
from doubleword.results.structured import Schema

SCHEMA = Schema({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})
CALL = [{"type": "function", "function": {"name": "look", "arguments": "{}"}}]


def chat(content: Any = "yes", reason: str = "stop", **message: Any) -> dict[str, Any]:
    return {"choices": [{"message": {"content": content, **message}, "finish_reason": reason}]}


def response(*parts: dict[str, Any], **body: Any) -> dict[str, Any]:
    return {"output": [{"type": "message", "content": list(parts)}], "status": "completed", **body}


SAID = {"type": "output_text", "text": "yes"}


@pytest.mark.parametrize(
    ("body", "endpoint", "flaws"),
    [
        (chat(), CHAT, ()),
        (chat(reason="length"), CHAT, ("truncated",)),
        (chat("", "length"), CHAT, ("truncated", "empty")),
        (chat(" \n"), CHAT, ("empty",)),
        (chat(None, "content_filter"), CHAT, ("refused",)),
        (chat(None, refusal="I cannot."), CHAT, ("refused",)),
        (chat(None, tool_calls=CALL), CHAT, ()),
        (chat(None, function_call={"name": "look", "arguments": "{}"}), CHAT, ()),
        (chat([{"type": "text", "text": "yes"}]), CHAT, ()),
        ({"choices": [*chat()["choices"], *chat(reason="length")["choices"]]}, CHAT, ("truncated",)),
        ({"choices": [{"text": "done", "finish_reason": "length"}]}, COMPLETIONS, ("truncated",)),
        ({"choices": [{"text": "", "finish_reason": "stop"}]}, COMPLETIONS, ("empty",)),
        ({"data": [{"embedding": [0.5]}]}, EMBEDDINGS, ()),
        ({"data": [{"embedding": []}]}, EMBEDDINGS, ("empty",)),
        (response(SAID), RESPONSES, ()),
        (response(), RESPONSES, ("empty",)),
        (response(SAID, status="incomplete"), RESPONSES, ("truncated",)),
        (
            response(status="incomplete", incomplete_details={"reason": "content_filter"}),
            RESPONSES,
            ("refused",),
        ),
        (response({"type": "refusal", "refusal": "I cannot."}), RESPONSES, ("refused",)),
        ({"output": [{"type": "reasoning", "content": [{"text": "hm"}]}]}, RESPONSES, ("empty",)),
        ({"output": [{"type": "function_call", "name": "look", "arguments": "{}"}]}, RESPONSES, ()),
    ],
)
def test_each_endpoint_says_in_its_own_way_what_is_wrong(
    body: dict[str, Any], endpoint: str, flaws: tuple[str, ...]
) -> None:
    """A limit, a filter, a refusal, silence; thoughts are no answer, and a tool call is one."""
    assert judged(body, endpoint, None) == (flaws, None)


@pytest.mark.parametrize(
    ("body", "flaws", "cause"),
    [
        (chat('{"a": 1}'), (), None),
        (chat('{"a": "1"}'), ("invalid",), "at a: type"),
        (chat('{"a": 1', "length"), ("truncated", "invalid"), "cut off"),
        (chat('{"a": 1}', "length"), ("truncated",), None),
        (chat(None, refusal="I cannot."), ("refused", "invalid"), "refused"),
        (chat(""), ("empty", "invalid"), "empty"),
        (chat('```json\n{"a": 1}\n```'), ("invalid",), "not JSON"),
        (chat('{"a": NaN}'), ("invalid",), "not JSON"),
        (chat(None, tool_calls=CALL), (), None),
        ({"choices": [*chat('{"a": 1}')["choices"], *chat("no")["choices"]]}, ("invalid",), "not JSON"),
    ],
)
def test_an_answer_that_was_to_be_json_is_held_to_it(
    body: dict[str, Any], flaws: tuple[str, ...], cause: str | None
) -> None:
    """Valid or invalid, with the first reason that explains it; every choice counts, and a tool call is free."""
    found = judged(body, CHAT, SCHEMA)
    assert found.flaws == flaws
    assert found.cause is None if cause is None else cause in str(found.cause)


@pytest.mark.parametrize(
    ("cause", "flaws", "said"),
    [
        ("HTTP 402: Account balance too low.", (), "add credit to the account, then retry JOB"),
        ("HTTP 404: no such model", (), "list_models.py"),
        ("HTTP 400: too long", (), "will not help"),
        ("HTTP 503: overloaded", (), "later"),
        ("Timeout: no answer", (), "later"),
        ("no row: it was cancelled", (), "retry JOB"),
        ("the answer is cut off", ("truncated", "invalid"), "retry JOB --only truncated --max-tokens N"),
        ("the answer breaks its schema", ("invalid",), "retry JOB --only invalid --note TEXT"),
    ],
)
def test_each_cause_has_its_step(cause: str, flaws: tuple[str, ...], said: str) -> None:
    """What passes is asked again later, what money mends after paying, what is wrong not as it was."""
    assert said in step(cause, flaws, "retry JOB")
    assert "retry" not in step(cause, flaws, None)
