"""Schemas for structured answers: what is taken, what is refused where, and what requests carry."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.door import call_door

from doubleword.failure import Exit, Failure
from doubleword.request_lines.response_schema import UNSUPPORTED, load
from doubleword.system import Disk

CLOSED: dict[str, Any] = {"type": "object", "additionalProperties": False}


class InMemory(Disk):
    """A disk that holds only these files."""

    def __init__(self, files: dict[Path, bytes]) -> None:
        self._files = files

    def open(self, path: Path) -> BinaryIO:
        return io.BytesIO(self._files[path])


def closed(**properties: Any) -> dict[str, Any]:
    """An object with these properties and no others, all of them required."""
    return {**CLOSED, "properties": properties, "required": list(properties)}


def nested(levels: int) -> dict[str, Any]:
    """Objects within objects, `levels` of them."""
    return closed(a=nested(levels - 1) if levels > 1 else {"type": "string"})


GOOD = closed(
    about={"type": "string", "enum": ["quality", "delivery"], "description": "what it is about"},
    cause={"anyOf": [{"type": "null"}, {"$ref": "#/$defs/cause"}]},
    marks={"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 5}, "maxItems": 3},
    never={"type": ["string", "null"], "pattern": "^x"},
    parts={"type": "array", "items": {"$ref": "#"}},
    version={"const": 1},
) | {"$defs": {"cause": closed(why={"type": "string"})}}


@pytest.fixture
def schema(tmp_path: Path) -> Callable[[Any], Path]:
    """Writes a schema and gives its path."""

    def write(content: Any) -> Path:
        path = tmp_path / "a review.v1.json"
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return path

    return write


def test_a_schema_within_what_is_supported_is_taken_as_it_is(schema: Callable[[Any], Path]) -> None:
    """Enums, nullable values, anyOf, references within the file, recursion, limits of numbers and arrays."""
    assert load(schema(GOOD), Disk()) == GOOD
    assert load(schema(nested(30)), Disk()) == nested(30)


@pytest.mark.parametrize(
    ("content", "place", "advice"),
    [
        (b"{", "is not JSON", "one JSON Schema"),
        (b'{"type": "object", "type": "object"}', "twice", "one JSON Schema"),
        (b" " * 2_000_000, "longer than", "only the schema"),
        ([], "$ is not a JSON object", '"type": "object"'),
        ({"type": "array", "items": {"type": "string"}}, '$ must have "type": "object"', "into an object"),
        ({"name": "x", "schema": GOOD}, '$ must have "type": "object"', "under schema"),
        ({**GOOD, "anyOf": [GOOD]}, "$.anyOf is not supported at the top", "property"),
        (closed(a={"type": "strin"}), "$.properties.a.type is not valid JSON Schema", "mend"),
        (closed(a={"type": "array", "items": {}}), "$.properties.a.items says no type", "string, number"),
        (closed(a={"type": "array"}), "$.properties.a is an array without items", '"items"'),
        (closed(a=True), "$.properties.a allows anything", "type"),
        (closed(a={"type": "object"}), "$.properties.a is an object without properties", "write the properties out"),
        (closed(a={"properties": {}, "type": "object"}), "$.properties.a lets additional", '"additionalProperties": f'),
        (closed(a={**closed(b={"type": "null"}), "required": []}), "$.properties.a does not have the property", "null"),
        ({**closed(), "required": ["b"]}, "$.required names b, which is no property", "properties"),
        (closed(a={"$ref": "other.json"}), "$.properties.a.$ref is other.json", "#/$defs/NAME"),
        (closed(a={"$ref": "#/$defs/none"}), "$.properties.a.$ref is #/$defs/none", "#/$defs/NAME"),
        ({**closed(), "$defs": {"x": {"type": "object"}}}, "$.$defs.x is an object without properties", "write"),
        (closed(a={"anyOf": [{"type": "null"}, {"type": "array"}]}), "$.properties.a.anyOf[1] is an array", '"items"'),
    ],
    ids=range(19),
)  # fmt: skip
def test_what_cannot_be_asked_for_is_named_by_its_place(
    schema: Callable[[Any], Path], content: Any, place: str, advice: str
) -> None:
    """Where it stands in the schema, and what to write there instead."""
    with pytest.raises(Failure) as caught:
        load(schema(content), Disk())
    assert (caught.value.exit_code, caught.value.code) == (Exit.BAD_INPUT, "bad_schema")
    assert place in caught.value.message
    assert advice in caught.value.hint


def test_all_flaws_are_told_at_once(schema: Callable[[Any], Path]) -> None:
    """As pydantic writes a class with a nested one, an optional field and defaults: each with its place."""
    inner = {"properties": {"x": {"default": 3, "title": "X", "type": "integer"}}, "title": "Inner", "type": "object"}
    note = {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None, "title": "Note"}
    content = {
        "$defs": {"Inner": inner}, "properties": {"inner": {"$ref": "#/$defs/Inner"}, "note": note},
        "required": ["inner"], "title": "M", "type": "object",
    }  # fmt: skip
    with pytest.raises(Failure) as caught:
        load(schema(content), Disk())
    for place in (
        "$ lets additional", "$ does not have the property note", "$.$defs.Inner lets", "$.$defs.Inner does not have",
        "$.$defs.Inner.properties.x.default is not", "$.properties.note.default is not",
    ):  # fmt: skip
        assert place in caught.value.message
    assert len(caught.value.message) < 600 and "leave it out" in caught.value.hint
    with pytest.raises(Failure, match="and 992 more"):
        load(schema(closed(**{f"p{number}": {"type": "array"} for number in range(1000)})), Disk())


# What JSON Schema itself asks of the values of keywords, so that the schema as such is valid.
VALUES: dict[str, Any] = {
    "allOf": [{}], "oneOf": [{}], "prefixItems": [{}], "uniqueItems": True, "dependentRequired": {},
    "dependentSchemas": {}, "dependencies": {}, "patternProperties": {}, "$dynamicRef": "#x",
    **dict.fromkeys(("minProperties", "maxProperties", "minContains", "maxContains"), 1),
}  # fmt: skip


@pytest.mark.parametrize("keyword", UNSUPPORTED)
def test_every_unsupported_keyword_is_refused_deep_inside(schema: Callable[[Any], Path], keyword: str) -> None:
    """With advice, wherever it stands; a property of that name is no keyword."""
    inner = {"type": "array", "items": {"type": "string", keyword: VALUES.get(keyword, {})}}
    with pytest.raises(Failure) as caught:
        load(schema(closed(a=inner)), Disk())
    assert f"$.properties.a.items.{keyword} is not supported" in caught.value.message
    assert caught.value.hint == UNSUPPORTED[keyword]
    assert load(schema(closed(**{keyword: {"type": "string"}})), Disk())


@pytest.mark.parametrize("endpoint", ["/v1/chat/completions", "/v1/responses"])
def test_requests_carry_the_schema_in_the_form_of_their_endpoint(
    schema: Callable[[Any], Path], tmp_path: Path, endpoint: str
) -> None:
    """Strict, under a safe name made of the file's; a caution where the server's sorting changes the order."""
    asked = closed(b={"type": "string"}, a={"type": "string"})
    flags: list[str | Path] = [
        "--model",
        "m",
        "--prompt",
        "{x}",
        "--endpoint",
        endpoint,
        "--response-schema",
        schema(asked),
    ]
    made = call_door("create_batch_file", "o.jsonl", "--input", "-", *flags, cwd=tmp_path, stdin='{"x": "1"}')
    assert made.code == 0, made.json
    assert "writes a, b instead of b, a" in made.json["warnings"][0]
    body = json.loads((tmp_path / "o.jsonl").read_text())["body"]
    named = {"name": "a_review_v1", "strict": True, "schema": asked}
    if endpoint == "/v1/responses":
        assert body["text"] == {"format": {"type": "json_schema", **named}}
    else:
        assert body["response_format"] == {"type": "json_schema", "json_schema": named}


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        (["--endpoint", "/v1/embeddings"], "/v1/embeddings takes no --response-schema"),
        (["--endpoint", "/v1/completions"], "/v1/completions takes no --response-schema"),
        (["--body", '{"response_format": null}'], "response_format, which a flag sets already"),
    ],
)
def test_a_schema_where_none_has_a_place_is_refused(
    schema: Callable[[Any], Path], tmp_path: Path, flags: list[str], part: str
) -> None:
    """Other endpoints have no structured answers, and --body may not say it again."""
    words: list[str | Path] = [
        "--input",
        "-",
        "--model",
        "m",
        "--prompt",
        "{x}",
        "--response-schema",
        schema(GOOD),
        *flags,
    ]
    made = call_door("create_batch_file", "o.jsonl", *words, cwd=tmp_path, stdin='{"x": "1"}')
    assert (made.code, made.json["error"]["code"]) == (2, "bad_arguments")
    assert part in made.json["error"]["message"]
    assert not (tmp_path / "o.jsonl").exists()


KEYWORDS = [*UNSUPPORTED, "type", "properties", "required", "items", "anyOf", "$ref", "$defs", "definitions", "enum",
            "const", "additionalProperties", "a"]  # fmt: skip
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.sampled_from(["object", "array", "string", "a", "#", "#/a"])
)
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(KEYWORDS), inner, max_size=4)),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(KEYWORDS), ANYTHING, max_size=4))
@settings(deadline=None)
def test_any_json_is_a_schema_or_a_bad_one(content: dict[str, Any]) -> None:
    """Whatever the file holds, the check ends with a verdict."""
    for whole in (content, closed(a=content)):
        path = Path("s.json")
        try:
            assert load(path, InMemory({path: json.dumps(whole).encode()})) == whole
        except Failure as failure:
            assert failure.code == "bad_schema" and failure.hint


@pytest.mark.parametrize(
    "content",
    [
        closed(a={"type": "string", "pattern": "((((a{100}){100}){100}){100})"}),
        {**closed(a={"type": "string"}), "$schema": "http://127.0.0.1:9/own-rules"},
        b'{"a":' + b'{"type": "array", "items": ' * 120 + b"1" + b"}" * 121,
    ],
    ids=["pattern", "metaschema", "deep"],
)
def test_what_could_judge_no_answer_is_refused_before_anything_is_sent(
    schema: Callable[[Any], Path], content: Any
) -> None:
    """A schema that only the check of the answers would find unusable leaves all of them unjudged, and paid."""
    with pytest.raises(Failure) as caught:
        load(schema(content), Disk())
    assert (caught.value.exit_code, caught.value.code) == (Exit.BAD_INPUT, "bad_schema")
