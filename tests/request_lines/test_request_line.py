"""A request line: how it is built, what is refused, and how the refusal reads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.sample_requests import FORMAT, VALID, chat, line, nested

from doubleword.request_lines.checker import Checker, Problem, accepts_by_reference
from doubleword.request_lines.line import build, cautions, to_line
from doubleword.service import CHAT, COMPLETIONS, EMBEDDINGS, MAX_LINE_BYTES, RESPONSES

SECRET = "the prompt nobody may see in a message, however it is wrong"
FAST = Checker()


def problems(request: Any) -> list[Problem]:
    """What both checkers say of `request`, as a value or as raw bytes; they must agree."""
    raw = request if isinstance(request, bytes) else json.dumps(request).encode()
    found = FAST.explain(raw)
    assert (FAST.accepts(raw) is None) == (accepts_by_reference(raw) is None) == bool(found)
    assert SECRET not in str(found)
    return found


@pytest.mark.parametrize("request_", VALID, ids=range(len(VALID)))
def test_what_the_documentation_describes_is_accepted(request_: dict[str, Any]) -> None:
    """Every endpoint, role, content part and parameter passes, compact or with spaces, as the same value."""
    for raw in (json.dumps(request_).encode(), to_line(request_)):
        assert problems(raw) == []
        assert FAST.accepts(raw) == request_


@pytest.mark.parametrize(
    ("change", "path", "part"),
    [
        ({"custom_id": ""}, "custom_id", "1 to 64 bytes"),
        ({"custom_id": "x" * 65}, "custom_id", "1 to 64 bytes"),
        ({"custom_id": "é" * 33}, "custom_id", "1 to 64 bytes"),
        ({"custom_id": "日" * 22}, "custom_id", "1 to 64 bytes"),
        ({"custom_id": "a\tb"}, "custom_id", "without control characters"),
        ({"custom_id": "a\n"}, "custom_id", "without control characters"),
        ({"custom_id": "é\x85"}, "custom_id", "without control characters"),
        ({"custom_id": "\x7f"}, "custom_id", "without control characters"),
        ({"custom_id": " a"}, "custom_id", "no space at either end"),
        ({"custom_id": "é "}, "custom_id", "no space at either end"),
        ({"custom_id": 7}, "custom_id", 'is a number: write "7"'),
        ({"custom_id": 7.5}, "custom_id", 'is a number: write "7.5"'),
        ({"custom_id": True}, "custom_id", "is a boolean: write a text"),
        ({"custom_id": None}, "custom_id", "is null: write a text"),
        ({"custom_id": ["7"]}, "custom_id", "is an array: write a text"),
        ({"method": "post"}, "method", 'expected "POST", got "post"'),
        ({"url": "/v1/chat/completions/"}, "url", 'expected "/v1/chat/completions" or'),
        ({"url": "/v1/rerank"}, "url", 'got "/v1/rerank"'),
        ({"body": [SECRET]}, "body", "expected object, got array"),
        ({"priority": 1}, "priority", "unknown here; expected only custom_id, method, url, body"),
    ],
)
def test_a_wrong_frame_is_refused_by_its_key(change: dict[str, Any], path: str, part: str) -> None:
    """custom_id, method, url and unknown keys are refused even where the server is lenient."""
    (problem,) = problems({**chat(), **change})
    assert problem.path == path
    assert part in problem.message


@pytest.mark.parametrize("custom_id", ["order 17/" + "x" * 55, "café", "é" * 32, "日本", "\U0001f600" * 16, "a\u2028b"])
def test_a_custom_id_may_hold_64_bytes(custom_id: str) -> None:
    """The limit is inclusive and counts bytes; a space inside, and letters beyond ASCII, are taken by the server."""
    assert problems({**chat(), "custom_id": custom_id}) == []


@pytest.mark.parametrize("missing", ["custom_id", "method", "url", "body"])
def test_each_of_the_four_keys_is_required(missing: str) -> None:
    """A line without one of them names it."""
    request = chat()
    del request[missing]
    assert Problem(missing, "is missing") in problems(request)


@pytest.mark.parametrize(
    ("body", "path", "part"),
    [
        ({"stream": True}, "body.stream", "cannot stream"),
        ({"stream": 0}, "body.stream", "cannot stream"),
        ({"temperature": 2.1}, "body.temperature", "at most 2, got 2.1"),
        ({"temperature": "1"}, "body.temperature", "expected number or null, got string"),
        ({"top_p": -0.1}, "body.top_p", "at least 0"),
        ({"max_tokens": 0}, "body.max_tokens", "at least 1, got 0"),
        ({"max_tokens": 1.5}, "body.max_tokens", "expected integer or null, got number"),
        ({"n": True}, "body.n", "got boolean"),
        ({"seed": "7"}, "body.seed", "got string"),
        ({"stop": ["a", 1]}, "body.stop[1]", "expected string, got integer"),
        ({"model": ""}, "body.model", "must not be empty"),
        ({"model": None}, "body.model", "expected string, got null"),
        ({"messages": []}, "body.messages", "must not be empty"),
        ({"messages": SECRET}, "body.messages", "expected array, got string"),
        ({"messages": [SECRET]}, "body.messages[0]", "expected object, got string"),
        ({"messages": [{"role": "usr", "content": SECRET}]}, "body.messages[0].role", 'got "usr"'),
        ({"messages": [{"role": SECRET}]}, "body.messages[0].role", "got a string of 6"),
        ({"messages": [{"content": SECRET}]}, "body.messages[0].role", "is missing"),
        ({"messages": [{"role": "user"}]}, "body.messages[0].content", "is missing"),
        ({"messages": [{"role": "user", "content": None}]}, "body.messages[0].content", "got null"),
        ({"messages": [{"role": "assistant"}]}, "body.messages[0].content", "is missing"),
        ({"messages": [{"role": "tool", "content": SECRET}]}, "body.messages[0].tool_call_id", "is missing"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": SECRET}]}]},
            "body.messages[0].content[0].image_url",
            "expected object, got string",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "picture"}]}]},
            "body.messages[0].content[0].type",
            'got "picture"',
        ),
        ({"tools": [{"type": "function"}]}, "body.tools[0].function", "is missing"),
        ({"tool_choice": "any"}, "body.tool_choice", '"none" or "auto" or "required"'),
        ({"response_format": {"type": "json"}}, "body.response_format.type", 'got "json"'),
        ({"response_format": {"type": "json_schema"}}, "body.response_format.json_schema", "is missing"),
        ({"reasoning_effort": "huge"}, "body.reasoning_effort", 'got "huge"'),
        ({"reasoning": {"effort": "low"}}, "body.reasoning", "use reasoning_effort"),
        ({"thinking": None}, "body.thinking", "use reasoning_effort"),
        ({"thinking_token_budget": 1}, "body.thinking_token_budget", "use reasoning_effort"),
        ({"chat_template_kwargs": {}}, "body.chat_template_kwargs", "use reasoning_effort"),
    ],
)
def test_a_wrong_chat_body_is_refused_by_its_path(body: dict[str, Any], path: str, part: str) -> None:
    """The first error names the exact place and what was expected, and never shows a prompt."""
    problem = problems(chat(**body))[0]
    assert problem.path == path
    assert part in problem.message


@pytest.mark.parametrize(
    ("request_", "path"),
    [
        (line(COMPLETIONS), "body.prompt"),
        (line(COMPLETIONS, prompt="x", reasoning_effort="low"), "body.reasoning_effort"),
        (line(COMPLETIONS, prompt="x", max_tokens=0), "body.max_tokens"),
        (line(EMBEDDINGS, prompt="x"), "body.input"),
        (line(EMBEDDINGS, input=""), "body.input"),
        (line(EMBEDDINGS, input=["a", ""]), "body.input[1]"),
        (line(EMBEDDINGS, input="x", dimensions=0), "body.dimensions"),
        (line(EMBEDDINGS, input="x", encoding_format="int8"), "body.encoding_format"),
        (line(RESPONSES, messages=[]), "body.input"),
        (line(RESPONSES, input="x", reasoning_effort="low"), "body.reasoning_effort"),
        (line(RESPONSES, input="x", reasoning={"effort": "huge"}), "body.reasoning.effort"),
        (line(RESPONSES, input=[{"content": "x"}]), "body.input[0].type"),
        (line(RESPONSES, input=[{"role": "tool", "content": "x"}]), "body.input[0].role"),
        (line(RESPONSES, input="x", text={"format": {"type": "json_schema", "name": "a"}}), "body.text.format.schema"),
    ],
)
def test_the_other_endpoints_are_held_to_their_own_parameters(request_: dict[str, Any], path: str) -> None:
    """Each endpoint has its own required input and its own refused parameters."""
    assert problems(request_)[0].path == path


@pytest.mark.parametrize(
    ("raw", "part"),
    [
        (b"\xef\xbb\xbf{}", "byte order mark"),
        ("{}".encode("utf-16"), "byte order mark"),
        ("{}".encode("utf-16-le"), "is not JSON"),
        (b'{"a":"\xe9"}', "byte 7 of the line is not UTF-8"),
        (b'{"a":"\xed\xa0\x80"}', "byte 7 of the line is not UTF-8"),
        (b'{"a":"\\ud800"}', "surrogate"),
        (b'{"\\udc00":1}', "surrogate"),
        (b'{"a":NaN}', "NaN"),
        (b'{"a":-Infinity}', "-Infinity"),
        (b'{"a":1e400}', "too large: 1e400"),
        (b'{"a":18446744073709551616}', "64 bits"),
        (b'{"a":-9223372036854775809}', "64 bits"),
        (b'{"a":' + b"9" * 5000 + b"}", "64 bits"),
        (b'{"a":1,"b":2,"a":1}', 'the key "a" stands twice'),
        (b'{"a":{"b":1,"\\u0062":1}}', 'the key "b" stands twice'),
        (b'{"a":1,}', "is not JSON"),
        (b"{'a':1}", "is not JSON"),
        (b"{} {}", "is not JSON"),
        (b"", "is not JSON"),
        (nested(128).encode(), "deeper than 127"),
        (b"[" * 100_000, "deeper than 127"),
        (b" " * (MAX_LINE_BYTES + 1), "10,485,761 bytes long"),
    ],
    ids=range(22),
)
def test_what_lenient_readers_let_pass_is_refused(raw: bytes, part: str) -> None:
    """Each trap of JSON readers is one problem of the whole line, with a sentence of its own."""
    (problem,) = problems(raw)
    assert problem.path == ""
    assert part in problem.message


def test_nesting_is_counted_from_the_line_itself() -> None:
    """serde_json on the server reads 127 levels: the line, the body, and 125 below it."""
    frame = '{"custom_id":"a","method":"POST","url":"/v1/embeddings","body":{"model":"m","input":"x","more":%s}}'
    assert problems((frame % nested(125)).encode()) == []
    assert problems((frame % nested(126)).encode())[0].message.startswith("is nested deeper")


def test_a_key_repeated_in_a_wide_object_is_found_in_reasonable_time() -> None:
    """A hundred thousand keys are no reason to compare each with each."""
    wide = ",".join(f'"k{number}":0' for number in range(100_000))
    raw = b'{"custom_id":"a","method":"POST","url":"/v1/embeddings","body":{"model":"m","input":"x",' + wide.encode()
    assert problems(raw + b"}}") == []
    assert "k99999" in problems(raw + b',"k99999":1}}')[0].message


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        (
            CHAT,
            {
                "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
                "max_tokens": 5,
            },
        ),
        (RESPONSES, {"input": "Hi", "instructions": "Be brief.", "max_tokens": 5}),
        (COMPLETIONS, {"prompt": "Hi", "max_tokens": 5}),
        (EMBEDDINGS, {"input": "Hi", "max_tokens": 5}),
    ],
)
def test_the_prompt_goes_where_the_endpoint_wants_it(endpoint: str, body: dict[str, Any]) -> None:
    """Message, prompt or input, with the system text as message or instructions where there is a place for it."""
    request = build("a", endpoint, "m", "Hi", "Be brief.", {"max_tokens": 5})
    assert request == {"custom_id": "a", "method": "POST", "url": endpoint, "body": {"model": "m", **body}}
    assert problems(request) == []


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), "\ud800", {"\udc00": 1}, object()], ids=range(5))
def test_what_json_cannot_carry_is_never_written(value: object) -> None:
    """The writer turns no NaN into null, and no surrogate into bytes that no server reads."""
    with pytest.raises(ValueError):
        to_line({"a": [value], "b": None})


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    """The modules themselves cost a script only the standard library, and what reads JSON."""
    ours = ("request_lines.line", "batch_files.check", "tables.sources.source", "commands.create_batch_file")
    heavy = {"jsonschema", "jsonschema_rs", "duckdb", "python_calamine", "zstandard", "requests"}
    imports = ", ".join(f"doubleword.{one}" for one in ours)
    script = f"import sys; sys.path.insert(0, 'scripts'); import {imports}; print([*{heavy} & sys.modules.keys()])"
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, cwd=Path(__file__).parents[2]
    )
    assert done.stdout.strip() == b"[]"


def test_silent_changes_by_the_server_are_told() -> None:
    """Dropped keys and schema properties that would be generated in another order are worth a warning."""
    ordered = {"type": "object", "properties": {"answer": {}, "reason": {}}}
    reversed_ = {"type": "object", "properties": {"reason": {}, "answer": {}}}
    assert cautions(chat(response_format=FORMAT)["body"]) == []
    assert cautions({"response_format": {"json_schema": {"schema": ordered}}}) == []
    (said,) = cautions({"response_format": {"json_schema": {"schema": {"items": [reversed_]}}}})
    assert "answer, reason instead of reason, answer" in said
    (said,) = cautions({"text": {"format": {"schema": reversed_}}})
    assert said.startswith("text.format.schema")
    assert cautions({"service_tier": "flex"}) == ["the server drops service_tier from a batch request"]
