"""One line of a result file: an answer, or a failure with its cause."""

from __future__ import annotations

import json
from typing import Any

import pytest

from doubleword.answers.lines import answer_text, error_cause, finish_reason, judge, parse
from doubleword.answers.usage import tokens

CHAT = "/v1/chat/completions"
ANSWER = {"choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 5}}


def line(body: Any = None, status: int = 200, error: Any = None, custom_id: str = "a") -> bytes:
    response = None if error else {"status_code": status, "request_id": None, "body": body}
    return json.dumps({"id": "batch_req_1", "custom_id": custom_id, "response": response, "error": error}).encode()


def test_an_answer_is_an_answer() -> None:
    """The server's shape of a chat completion."""
    judged = judge(line(ANSWER), CHAT)
    assert judged is not None
    assert (judged.id, judged.custom_id, judged.cause) == ("batch_req_1", "a", None)


@pytest.mark.parametrize(
    ("raw", "cause"),
    [
        (line({"error": {"message": "bad"}}, 400), "HTTP 400: bad"),
        (line("data: {sse}"), "text, not the JSON object"),
        (line({"error": {"message": "inside 200"}}), "inside 200"),
        (line({"choices": []}), "shape"),
        (line({"object": "list"}), "shape"),
        (b'{"id":"x","custom_id":"a","response":null,"error":null}', "neither"),
    ],
)
def test_what_only_looks_like_an_answer_is_a_failure(raw: bytes, cause: str) -> None:
    """A 4xx in the output file, SSE text, an error with status 200, and empty choices all count as failed."""
    judged = judge(raw, CHAT)
    assert judged is not None and judged.cause is not None
    assert cause in judged.cause


def reason(kind: str, **details: Any) -> dict[str, Any]:
    return {"code": None, "message": json.dumps({"type": kind, "details": details})}


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (
            reason("NonRetriableHttpStatus", status=400, body='{"error":{"message":"context too long"}}'),
            "HTTP 400: context too long",
        ),
        (
            reason("NonRetriableHttpStatus", status=402, body="Account balance too low."),
            "HTTP 402: Account balance too low.",
        ),
        (reason("Timeout", error="no reply"), "Timeout: no reply"),
        ({"code": None, "message": '{"type":"BatchTerminated"}'}, "BatchTerminated: no more is known"),
        ({"code": "batch_expired", "message": "This request expired."}, "batch_expired: This request expired."),
        ({"message": "plain \x1b[1mwords"}, "plain [1mwords"),
        ("only text", "only text"),
    ],
)
def test_the_cause_is_dug_out_of_its_wrappings(error: Any, cause: str) -> None:
    """The server puts JSON into a string into JSON; OpenAI sets a code."""
    assert error_cause(error) == cause


def test_a_line_nested_100000_deep_still_says_whose_it_is() -> None:
    """It cannot be parsed, so it is a failure of its request, not a crash and not a lost row."""
    raw = b'{"id":"x","custom_id":"row-7","response":' + b"[" * 100_000
    judged = judge(raw, CHAT)
    assert judged is not None
    assert judged.custom_id == "row-7" and judged.cause is not None


@pytest.mark.parametrize("text", ["\\ud800", "\\u0000", "\u2028\u2029\u0085", "\\r"])
def test_odd_characters_inside_an_answer_do_not_break_it(text: str) -> None:
    """Lone surrogates, NUL and Unicode's own line ends are part of an answer like any other character."""
    raw = line(ANSWER).replace(b'"yes"', f'"{text}"'.encode())
    judged = judge(raw, CHAT)
    assert judged is not None and judged.cause is None
    value = parse(raw)
    assert value is not None
    assert answer_text(value["response"]["body"], CHAT) == json.loads(f'"{text}"')


def test_a_line_that_says_not_whose_it_is_is_nobodys() -> None:
    """Then its request will be missing, which is said."""
    assert judge(b"[1]", CHAT) is None
    assert judge(b'{"custom_id": 7}', CHAT) is None
    assert judge(b"garbage", CHAT) is None


@pytest.mark.parametrize(
    ("body", "endpoint", "text"),
    [
        (ANSWER, CHAT, "yes"),
        ({"choices": [{"message": {"content": None, "tool_calls": [{"id": "t"}]}}]}, CHAT, '{"id": "t"}'),
        ({"choices": [{"message": {"content": [{"type": "text", "text": "a"}, {"text": "b"}]}}]}, CHAT, "ab"),
        ({"choices": [{"text": "done"}]}, "/v1/completions", "done"),
        ({"data": [{"embedding": [1.5, 2]}]}, "/v1/embeddings", "[1.5, 2]"),
        ({"output": [{"content": [{"type": "output_text", "text": "hi"}]}]}, "/v1/responses", "hi"),
        ({"output": [{"type": "reasoning", "content": None}]}, "/v1/responses", ""),
    ],
)
def test_the_answer_of_each_endpoint_as_text(body: dict[str, Any], endpoint: str, text: str) -> None:
    """Tool calls are shown where there is no text; parts are joined."""
    judged = judge(line(body), endpoint)
    assert judged is not None and judged.cause is None
    assert answer_text(body, endpoint) == text


def test_finish_reason_and_tokens() -> None:
    """Counts under either name; what is absent is None."""
    assert finish_reason(ANSWER) == "stop"
    assert tokens(ANSWER) == (5, None)
    assert tokens({"usage": {"input_tokens": 1, "output_tokens": 2}}) == (1, 2)
    assert tokens({}) == (None, None)
