"""What an upload is refused for, in the server's own words (dwctl files.rs:688-1300)."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from tests.contract.conftest import Server

URLS = "/v1/chat/completions, /v1/completions, /v1/embeddings, /v1/responses, /v1/messages"


def changed(server: Server, change: dict[str, Any]) -> str:
    """A valid line with some of its fields replaced, or removed where the new value is None."""
    line = {**server.line("a"), **change}
    return json.dumps({name: value for name, value in line.items() if value is not None})


@pytest.mark.parametrize(
    ("change", "status", "text"),
    [
        ({"custom_id": "x" * 65}, 400, "Line 1: custom_id exceeds maximum length of 64 characters (got 65)"),
        ({"custom_id": "\u00e9" * 33}, 400, "Line 1: custom_id exceeds maximum length of 64 characters (got 66)"),
        *(
            (
                {"custom_id": f"a{control}b"},
                400,
                "Line 1: custom_id contains invalid characters: must be valid ASCII without control characters",
            )
            for control in ("\n", "\0", "\x7f")
        ),
        ({"method": "GET"}, 400, "Line 1: Unsupported HTTP method 'GET'. Only POST is currently supported."),
        ({"url": "/v1/chat"}, 400, f"Line 1: Unsupported URL path '/v1/chat'. Allowed paths are: {URLS}"),
        ({"url": "/v1/embeddings/"}, 400, f"Line 1: Unsupported URL path '/v1/embeddings/'. Allowed paths are: {URLS}"),
        ({"body": {"messages": []}}, 400, "Line 1: Missing 'model' field in request body"),
        ({"body": {"model": 7}}, 400, "Line 1: Missing 'model' field in request body"),
        ({"body": "text"}, 400, "Line 1: Missing 'model' field in request body"),
        (
            {"body": {"model": "no-such-model"}},
            403,
            "Line 1: Model 'no-such-model' has not been configured or is not available to user",
        ),
    ],
)
def test_a_bad_line_is_refused_in_plain_text(server: Server, change: dict[str, Any], status: int, text: str) -> None:
    """The status and the sentence are the server's."""
    reply = server.send(changed(server, change))
    assert (reply.status_code, reply.text) == (status, text)
    assert reply.headers["Content-Type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize("name", ["custom_id", "method", "url", "body"])
def test_every_field_of_a_line_is_required(server: Server, name: str) -> None:
    """A missing field is told as a JSON error of that line."""
    reply = server.send(changed(server, {name: None}))
    assert reply.status_code == 400
    assert reply.text.startswith(f"Invalid JSON on line 1: missing field `{name}`")


@pytest.mark.parametrize(
    ("content", "begins"),
    [
        (b"{not json}\n", "Invalid JSON on line 1: "),
        (b"\xef\xbb\xbf{}\n", "Invalid JSON on line 1: expected value at line 1 column 1"),
        (
            b'{"custom_id": 1, "method": "POST", "url": "/x", "body": {}}',
            "Invalid JSON on line 1: invalid type: integer",
        ),
        (b'{"custom_id": "a", "custom_id": "b"}', "Invalid JSON on line 1: duplicate field `custom_id`"),
        (b'{"custom_id": NaN}', "Invalid JSON on line 1: "),
        (b'{"custom_id": "\xff"}\n', "File contains invalid UTF-8 on/near line 1"),
        (b"[]", "Invalid JSON on line 1: "),
    ],
)
def test_what_is_no_json_object_is_refused(server: Server, content: bytes, begins: str) -> None:
    """A byte order mark is no white space to the server; NaN and repeated fields are no JSON."""
    reply = server.send(content)
    assert (reply.status_code, reply.text[: len(begins)]) == (400, begins)


@pytest.mark.parametrize("content", ["", "\n \r\n\t\n"])
def test_a_file_without_requests_is_refused(server: Server, content: str) -> None:
    """Blank lines are no requests."""
    reply = server.send(content)
    assert (reply.status_code, reply.text) == (400, "File contains no valid request templates")


def test_line_numbers_count_only_lines_that_are_not_blank(server: Server) -> None:
    """ "Line 2" of the server is the fourth physical line here."""
    good = json.dumps(server.line("a"))
    reply = server.send(f"\n{good}\n\n{changed(server, {'method': 'PUT'})}\n")
    assert reply.text.startswith("Line 2: ")


def test_a_bad_line_stores_nothing(server: Server) -> None:
    """The upload is one transaction."""
    name = f"{uuid.uuid4().hex}.jsonl"
    reply = server.send(json.dumps(server.line("a")) + "\n{", name=name)
    assert reply.status_code == 400
    assert server.call("GET", "/files", params={"search": name}).json()["data"] == []


@pytest.mark.parametrize(
    ("url", "name", "instead"),
    [
        ("/v1/chat/completions", "chat_template_kwargs", "; use 'reasoning_effort'"),
        ("/v1/chat/completions", "reasoning", "; use 'reasoning_effort'"),
        ("/v1/chat/completions", "thinking", "; use 'reasoning_effort'"),
        ("/v1/responses", "reasoning_effort", "; use 'reasoning.effort'"),
    ],
)
def test_parameters_of_other_reasoning_dialects_are_refused(server: Server, url: str, name: str, instead: str) -> None:
    """The server wants its own word for how much a model thinks."""
    body = {"model": server.chat_model, "input": "hi", "messages": [], name: {}}
    reply = server.send(changed(server, {"url": url, "body": body}))
    assert (reply.status_code, reply.text) == (400, f"Line 1: Unsupported parameter '{name}'{instead}.")


@pytest.mark.parametrize("purpose", ["fine-tune", "batches", "batch_output"])
def test_only_the_purpose_batch_is_accepted(server: Server, purpose: str) -> None:
    """The text repeats what was sent."""
    reply = server.send(json.dumps(server.line("a")), purpose=purpose)
    assert (reply.status_code, reply.text) == (400, f"Invalid purpose '{purpose}'. Only 'batch' is supported.")


def test_an_upload_without_a_file_is_refused(server: Server) -> None:
    """A multipart body that only holds other fields."""
    reply = server.call("POST", "/files", files={"purpose": (None, "batch")})
    assert (reply.status_code, reply.text) == (400, "No file field found in multipart upload")


def test_an_upload_that_is_not_multipart_is_refused(server: Server) -> None:
    """JSON is not a way to upload."""
    reply = server.call("POST", "/files", json={"purpose": "batch"})
    assert (reply.status_code, reply.text[:26]) == (400, "Invalid multipart request:")


def test_a_multipart_body_that_ends_early_stores_nothing(server: Server) -> None:
    """A client that died half-way leaves no file."""
    name = f"{uuid.uuid4().hex}.jsonl"
    head = f'--b\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    reply = server.call(
        "POST",
        "/files",
        data=(head + json.dumps(server.line("a")) + "\n").encode(),
        headers={"Content-Type": "multipart/form-data; boundary=b"},
    )
    assert (reply.status_code, reply.text[:32]) == (400, "Failed to read multipart upload:")
    assert server.call("GET", "/files", params={"search": name}).json()["data"] == []


def test_what_is_silently_accepted(server: Server) -> None:
    """Empty and repeated ids, `post` in small letters, unknown keys: a careful client refuses these itself."""
    lines = [server.line(""), server.line("twin"), server.line("twin"), {**server.line("d"), "surplus": 1}]
    lines.append({**server.line("e"), "method": "post"})
    file = server.upload(lines)
    stored = server.rows(f"/files/{file['id']}/content")
    assert [row["custom_id"] for row in stored] == ["", "twin", "twin", "d", "e"]
    assert stored[4]["method"] == "post"
    assert "surplus" not in stored[3]
