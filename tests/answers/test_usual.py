"""The shorter way to a usual answer: it finds what the longer one does, or nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from doubleword.answers.judgement import judged
from doubleword.answers.lines import judge
from doubleword.answers.usage import usage
from doubleword.answers.usual import usual
from doubleword.service import CHAT

ERROR = {"code": 502, "message": "Upstream idle timeout"}


def answer(choice: dict[str, Any], tokens: dict[str, Any]) -> bytes:
    whole = {"message": {"role": "assistant", "content": "partial tex"}, "finish_reason": "stop", **choice}
    body = {"model": "m", "choices": [whole], "usage": {"prompt_tokens": 100, "completion_tokens": 2, **tokens}}
    return json.dumps({"id": "r", "custom_id": "a", "response": {"status_code": 200, "body": body}}).encode()


@pytest.mark.parametrize("choice", [{}, {"error": None}, {"error": {}}, {"error": ERROR}, {"error": "idle"}])
@pytest.mark.parametrize(
    "tokens",
    [
        {},
        {"prompt_tokens_details": {"cached_tokens": 60}},
        {"cache_read_input_tokens": 60, "prompt_tokens_details": {"cached_tokens": 60}},
        {"cache_read_input_tokens": 60},
        {"cache_creation_input_tokens": 40, "cache_read_input_tokens": 0},
        {"prompt_tokens_details": {"cache_write_tokens": 40}},
    ],
)
def test_a_usual_answer_is_what_the_longer_way_makes_of_it(choice: dict[str, Any], tokens: dict[str, Any]) -> None:
    """A choice with an error has failed, whatever its ending; gateways repeat Anthropic's counts beside the sums."""
    raw = answer(choice, tokens)
    line, found = judge(raw, CHAT), usual(raw)
    assert line is not None and line.body is not None
    counted = usage(line.body)
    assert counted is not None and counted.prompt == 100
    if line.cause is not None or counted.written:
        assert found is None
    if found is not None:
        assert judged(line.body, CHAT).texts == (found.text,)
        details = found.response.body.usage.prompt_tokens_details
        assert counted.cached == (details.cached_tokens or 0 if details is not None else 0)


@pytest.mark.parametrize("text", ["", " \n", "\ufeff", "\u200b \u2060", "\0"])
def test_what_shows_nothing_is_no_usual_answer(text: str) -> None:
    """The longer way calls it empty."""
    assert usual(answer({"message": {"content": text}}, {})) is None
    assert usual(answer({"message": {"content": f"{text}."}}, {})) is not None
