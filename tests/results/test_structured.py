"""Response schemas: read from the request lines, judged by either library, and turned into columns."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from doubleword.failure import Exit, Failure
from doubleword.results.structured import Schema, Schemas, properties_of, read_schema
from doubleword.system import Disk

DOCUMENT = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "rating": {"type": ["integer", "null"]},
        "share": {"anyOf": [{"type": "number"}, {"type": "null"}]},
        "good": {"$ref": "#/$defs/flag"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "size": {"enum": ["S", "M"]},
        "mixed": {"type": ["string", "integer"]},
    },
    "required": ["title", "rating"],
    "additionalProperties": False,
    "$defs": {"flag": {"type": "boolean"}},
}
BREACHES = [
    ({"title": "a", "rating": 1}, None),
    ({"title": "a", "rating": None, "good": True, "tags": ["x"]}, None),
    ({"rating": 1}, 'the answer breaks its schema at the top: "title" is a required property'),
    ({"title": "secret words", "rating": "two"}, "the answer breaks its schema at rating: type"),
    ({"title": "a", "rating": 1, "tags": ["x", 7]}, "the answer breaks its schema at tags.[]: type"),
    ({"title": "a", "rating": 1, "own": 1}, "the answer breaks its schema at the top: additionalProperties"),
    ([], "the answer breaks its schema at the top: type"),
]


@pytest.fixture(params=["jsonschema_rs", "jsonschema"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each of the two libraries that can judge; the fast one is taken away for the other's turn."""
    if request.param == "jsonschema":
        monkeypatch.setitem(sys.modules, "jsonschema_rs", None)
    return str(request.param)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(("value", "cause"), BREACHES)
def test_a_cause_names_the_place_and_not_the_answer(value: Any, cause: str | None) -> None:
    """Equal flaws get equal causes, whichever library judges, so that they are counted together."""
    found = Schema(DOCUMENT).breaks(json.dumps(value))
    assert found == cause or (cause is not None and found is not None and found.replace("'", '"') == cause)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(
    "document",
    [
        {"properties": {"a": {"$ref": "http://127.0.0.1:9/schema.json"}}},
        {"$ref": "file:///etc/passwd"},
        {"type": "no such type"},
    ],
)
def test_a_schema_that_is_none_or_lives_elsewhere_judges_nothing(document: Any) -> None:
    """Nothing is fetched or opened for it; what is wrong with it is said."""
    schema = Schema(document)
    assert schema.unusable
    assert schema.breaks("{}") is None
    assert schema.breaks("{") is not None


def test_any_object_will_do_without_a_schema() -> None:
    """response_format json_object asks for no more."""
    assert Schema().breaks('{"a": [1]}') is None
    assert Schema().breaks("[1]") == "the answer is not a JSON object, as it was to be"
    assert Schema().breaks("[" * 100_000) is not None


def test_properties_become_columns_of_their_types() -> None:
    """In the schema's order; nullable is the type itself, nested and mixed is text."""
    assert properties_of([Schema(DOCUMENT)]) == {
        "title": "text", "rating": "integer", "share": "number", "good": "boolean", "tags": "text", "size": "text",
        "mixed": "text",
    }  # fmt: skip
    other = Schema({"properties": {"new": {"type": "string"}, "rating": {"type": "number"}, "good": {}}})
    both = properties_of([Schema(DOCUMENT), other])
    assert list(both) == [*DOCUMENT["properties"], "new"]  # type: ignore[misc]
    assert (both["rating"], both["good"]) == ("number", "text")


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
    documents = {name: schema and schema.document for name in "abcd" if (schema := expected.of(name)) or True}
    assert documents == {"a": {"properties": {"x": {}}}, "b": DOCUMENT, "c": None, "d": None}
    assert expected.of("c") is None and expected.of("d") is not None
    assert [schema.document for schema in schemas.all_of([path])] == [{"properties": {"x": {}}}, DOCUMENT, None]


def test_a_file_whose_first_line_asks_for_no_json_is_not_read_further(tmp_path: Path) -> None:
    """Plain jobs pay nothing for the judging of others."""
    path = tmp_path / "a.jsonl"
    path.write_text(line("a") + "this would be an error\n")
    assert Schemas(Disk()).expected(path).of("a") is None


def test_a_schema_file_takes_the_place_of_all(tmp_path: Path) -> None:
    """Alone or inside a response_format; what is no schema is bad input that names the file."""
    path = tmp_path / "s.json"
    for content in (DOCUMENT, asks(DOCUMENT)["response_format"]):
        path.write_text(json.dumps(content))
        schema = read_schema(path, Disk())
        assert schema.document == DOCUMENT
        assert Schemas(Disk(), schema).expected(None).of("any") is schema
    for content in ("[1]", "{", '{"type": 7}'):
        path.write_text(content)
        with pytest.raises(Failure) as refused:
            read_schema(path, Disk())
        assert (refused.value.exit_code, refused.value.code) == (Exit.BAD_INPUT, "bad_schema")
        assert "s.json" in refused.value.message


@pytest.mark.usefixtures("library")
def test_a_schema_that_leads_in_a_circle_ends() -> None:
    """Columns and judgement are found all the same; an answer that follows the circle far is no good one."""
    circle = {"anyOf": [{"$ref": "#/$defs/x"}, {"$ref": "#/$defs/x"}, {"type": "integer"}, {"type": "null"}]}
    properties = {"a": {"$ref": "#/$defs/x"}, "b": {"$ref": "#/$defs/y"}, "c": {"$ref": "#"}}
    document = {"type": "object", "properties": properties, "$defs": {"x": circle, "y": {"$ref": "#/$defs/y"}}}
    found = Schema(document)
    assert found.columns() == {"a": "integer", "b": "text", "c": "text"}
    assert found.breaks('{"c": {"c": {}}}') is None
    assert found.breaks('{"c":' * 900 + "1" + "}" * 900) is not None
