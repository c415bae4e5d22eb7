"""What requests say of their answers: schemas, forms of vectors and limits, read from their lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from doubleword.answers.schema import Schema
from doubleword.answers.vectors import Form
from doubleword.failure import Exit, Failure
from doubleword.results.expected import Request, Schemas, read_schema
from doubleword.system import Disk

DOCUMENT = {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]}


def line(custom_id: str, url: str = "/v1/chat/completions", **body: Any) -> str:
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": url, "body": {"model": "m", **body}}) + "\n"


def asks(document: Any) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": document}}}


def test_each_request_has_the_schema_of_its_line(tmp_path: Path) -> None:
    """Chat and responses, unlike ones in one file, and lines that ask for no JSON at all."""
    path = tmp_path / "a.jsonl"
    form = {"type": "json_schema", "name": "n", "schema": DOCUMENT}
    path.write_text(
        line("a", **asks({"properties": {"x": {}}}))
        + line("b", "/v1/responses", text={"format": form})
        + line("c")
        + line("d", response_format={"type": "json_object"})
    )
    schemas = Schemas(Disk())
    expected = schemas.expected(path)
    documents = {
        name: schema and schema.document for name in "abcd" if (schema := expected.request(name).schema) or True
    }
    assert documents == {"a": {"properties": {"x": {}}}, "b": DOCUMENT, "c": None, "d": None}
    assert expected.request("c").schema is None and expected.request("d").schema is not None
    assert [schema.document for schema in schemas.all_of([path])] == [{"properties": {"x": {}}}, DOCUMENT, None]


def test_a_file_that_asks_for_no_json_is_not_read_line_by_line(tmp_path: Path) -> None:
    """Plain jobs pay nothing for the judging of others."""
    path = tmp_path / "a.jsonl"
    path.write_text(line("a", messages=['"json_schema"']) + "this would be an error\n")
    expected = Schemas(Disk()).expected(path)
    assert expected.request("a").schema is None and expected.nothing


def test_a_schema_on_a_later_line_is_found(tmp_path: Path) -> None:
    """Whatever the first line asks for; also where it stands at the edge of what is read at once."""
    for length in (1, (1 << 20) - 150, (1 << 20) - 130):
        path = tmp_path / "a.jsonl"
        path.write_text(line("a", messages=["x" * length]) + line("b", **asks(DOCUMENT)))
        expected = Schemas(Disk()).expected(path)
        assert expected.request("a").schema is None and not expected.nothing
        assert expected.request("b").schema is not None


def test_each_endpoint_has_its_place_for_a_schema(tmp_path: Path) -> None:
    """Completions as chat, and messages as Anthropic has it."""
    form = {"type": "json_schema", "schema": DOCUMENT}
    path = tmp_path / "a.jsonl"
    path.write_text(
        line("a", "/v1/completions", **asks(DOCUMENT)) + line("b", "/v1/messages", output_config={"format": form})
    )
    expected = Schemas(Disk()).expected(path)
    assert [one.schema and one.schema.document for one in map(expected.request, "ab")] == [DOCUMENT, DOCUMENT]


def test_vectors_and_limits_are_known_by_request(tmp_path: Path) -> None:
    """The form of base64, how many texts were given, and how many tokens a response may take."""
    path = tmp_path / "a.jsonl"
    path.write_text(
        line("a", "/v1/embeddings", input="x", encoding_format="base64", embed_dtype="float16")
        + line("b", "/v1/embeddings", input=["x", "y"])
        + line("c", "/v1/embeddings", input=[1, 2, 3])
        + line("d", "/v1/responses", max_output_tokens=9)
        + line("e")
    )
    for everywhere in (None, Schema()):
        expected = Schemas(Disk(), everywhere).expected(path)
        assert [expected.request(name) for name in "abcde"] == [
            Request(everywhere, Form("float16", False, 1)),
            Request(everywhere, Form("float32", False, 2)),
            Request(everywhere, Form("float32", False, 1)),
            Request(everywhere, limit=9),
            Request(everywhere),
        ]


def test_formats_that_nobody_can_check_are_told_once(tmp_path: Path) -> None:
    """For all schemas of a job."""
    path = tmp_path / "a.jsonl"
    path.write_text(line("a", **asks({"format": "phone"})) + line("b", **asks({"format": "phone", "type": "string"})))
    schemas = Schemas(Disk())
    schemas.all_of([path])
    assert schemas.unjudged_formats() == ["phone"]


def test_a_schema_file_takes_the_place_of_all(tmp_path: Path) -> None:
    """Alone or inside a response_format; what is no schema is bad input that names the file."""
    path = tmp_path / "s.json"
    for content in (DOCUMENT, asks(DOCUMENT)["response_format"]):
        path.write_text(json.dumps(content))
        schema = read_schema(path, Disk())
        assert schema.document == DOCUMENT
        assert Schemas(Disk(), schema).expected(None).request("any").schema is schema
    for content in ("[1]", "{", '{"type": 7}'):
        path.write_text(content)
        with pytest.raises(Failure) as refused:
            read_schema(path, Disk())
        assert (refused.value.exit_code, refused.value.code) == (Exit.BAD_INPUT, "bad_schema")
        assert "s.json" in refused.value.message
