"""What streamed dispatch does to answers: the server's sample configuration, seen on a server that ran it."""

from __future__ import annotations

from typing import Any

import pytest
from tests.contract.conftest import Server
from tests.upstream import ANSWER_ID, Upstream

LONE = {"content": None, "reasoning_content": "I think about it"}
REFUSAL = {"content": None, "refusal": "I cannot help with that."}
CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at": "here"}'}}
LOGPROBS = {"content": [{"token": "yes", "logprob": -0.1, "bytes": None, "top_logprobs": []}]}


@pytest.fixture
def told(streamed: Server) -> Upstream:
    """What answers behind the server."""
    assert streamed.upstream is not None
    return streamed.upstream


def answer(server: Server, prompt: str, **body: Any) -> dict[str, Any]:
    """The body of the answer to one chat of a batch."""
    (row,) = server.outputs(server.run([server.line("a", prompt, **body)]))
    assert row["response"]["status_code"] == 200
    found: dict[str, Any] = row["response"]["body"]
    return found


def response(server: Server, prompt: str) -> dict[str, Any]:
    """The body of the answer to one request of /v1/responses in a batch."""
    body = {"model": server.chat_model, "input": prompt, "max_output_tokens": 3}
    line = {"custom_id": "r", "method": "POST", "url": "/v1/responses", "body": body}
    (row,) = server.outputs(server.run([line]))
    found: dict[str, Any] = row["response"]["body"]
    return found


def test_a_stream_is_put_together_to_one_answer(streamed: Server, told: Upstream) -> None:
    """Each choice is whole, all are counted, and the id is the model server's own."""
    whole = answer(streamed, "streamed \u2028 whole", n=2)
    assert told.calls[-1]["stream"] is True
    assert (whole["id"], whole["object"]) == (ANSWER_ID, "chat.completion")
    assert [choice["index"] for choice in whole["choices"]] == [0, 1]
    for choice in whole["choices"]:
        assert choice["message"] == {"role": "assistant", "content": "answer to: streamed \u2028 whole"}
        assert choice["finish_reason"] == "stop"
    assert whole["usage"]["completion_tokens"] == 6


@pytest.mark.parametrize(("text", "message"), [("lone reasoning", LONE), ("lone refusal", REFUSAL)])
def test_a_message_has_no_content_where_that_was_null(
    streamed: Server, told: Upstream, text: str, message: dict[str, Any]
) -> None:
    """The key is absent; what the message has instead is kept."""
    told.reply(text, message)
    kept = {name: value for name, value in message.items() if value is not None}
    assert answer(streamed, text)["choices"][0]["message"] == {"role": "assistant", **kept}


def test_tool_calls_are_put_together(streamed: Server, told: Upstream) -> None:
    """Their arguments come in pieces, of each call its own."""
    calls = [CALL, {**CALL, "id": "call_2"}]
    told.reply("use tools", {"content": None, "tool_calls": calls}, finish_reason="tool_calls")
    (choice,) = answer(streamed, "use tools")["choices"]
    found = [{name: call[name] for name in CALL} for call in choice["message"]["tool_calls"]]
    assert (found, choice["finish_reason"]) == (calls, "tool_calls")


def test_logprobs_are_lost(streamed: Server, told: Upstream) -> None:
    """Although they were asked for and given."""
    told.reply("how sure", {"content": "yes"}, logprobs=LOGPROBS)
    assert answer(streamed, "how sure", logprobs=True)["choices"][0].get("logprobs") is None


def test_a_stream_that_breaks_off_is_an_answer_without_an_end(streamed: Server, told: Upstream) -> None:
    """Its status is 200: only the null where the ending and the tokens belong tells it."""
    told.break_off("half of it")
    found = answer(streamed, "half of it")
    (choice,) = found["choices"]
    assert choice["message"]["content"] == "answer to:"
    assert (choice["finish_reason"], found["usage"]) == (None, None)


def test_what_is_no_stream_is_tried_again(streamed: Server, told: Upstream) -> None:
    """Two times plain words, then an answer: nobody sees the words."""
    told.fail("no stream", 200, body="just words", times=2)
    found = answer(streamed, "no stream")
    assert found["choices"][0]["message"]["content"] == "answer to: no stream"
    assert told.count("no stream") == 3


def test_a_cut_response_says_that_it_is_completed(streamed: Server, told: Upstream) -> None:
    """Nothing but the tokens tells that they were used up."""
    told.reply("a long story", {"content": "Once upon"}, finish_reason="length")
    found = response(streamed, "a long story")
    assert (found["status"], found["incomplete_details"]) == ("completed", None)
    assert found["usage"]["output_tokens"] == 3


def test_a_refusal_is_an_empty_response(streamed: Server, told: Upstream) -> None:
    """In plain dispatch too."""
    told.reply("refused response", REFUSAL)
    message = next(item for item in response(streamed, "refused response")["output"] if item["type"] == "message")
    assert [part.get("text") for part in message["content"]] == [""]


def test_the_realtime_endpoints_are_not_asked_for_a_stream(streamed: Server, told: Upstream) -> None:
    """What comes there is what the model server said, with its nulls."""
    told.reply("at once", LONE)
    reply = streamed.call("POST", "/chat/completions", json=streamed.line("a", "at once")["body"])
    assert reply.json()["choices"][0]["message"] == {"role": "assistant", **LONE}
    assert "stream" not in told.calls[-1]
