"""Response schemas: answers judged by them, and the columns that they give."""

from __future__ import annotations

import json
from typing import Any

import pytest

from doubleword.answers.schema import Schema, properties_of

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
        "scores": {"type": "object", "additionalProperties": {"type": "integer"}},
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
    (
        {"rating": "two", "size": "XL", "tags": [7, 8], "own": 1},
        "the answer breaks its schema at rating: type; size: enum; tags.[]: type; "
        'the top: "title" is a required property; the top: additionalProperties',
    ),
    ({"title": "a", "rating": 1, "scores": {"secret words": "x"}}, "the answer breaks its schema at scores.*: type"),
]


@pytest.mark.parametrize(("value", "cause"), BREACHES)
def test_a_cause_names_the_place_and_not_the_answer(value: Any, cause: str | None) -> None:
    """Equal flaws get equal causes, so that they are counted together."""
    assert Schema(DOCUMENT).take(json.dumps(value)).cause == cause


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
    assert schema.take("{}").cause is None
    assert schema.take("{").cause is not None


def test_any_object_will_do_without_a_schema() -> None:
    """response_format json_object asks for no more."""
    assert Schema().take('{"a": [1]}').cause is None
    assert Schema().take("[1]").cause == "the answer is not a JSON object, as it was to be"
    assert Schema().take("[" * 100_000).cause is not None


def test_properties_become_columns_of_their_types() -> None:
    """In the schema's order; nullable is the type itself, nested and mixed is text."""
    assert properties_of([Schema(DOCUMENT)]) == {
        "title": "text", "rating": "integer", "share": "number", "good": "boolean", "tags": "text", "size": "text",
        "mixed": "text", "scores": "text",
    }  # fmt: skip
    other = Schema({"properties": {"new": {"type": "string"}, "rating": {"type": "number"}, "good": {}}})
    both = properties_of([Schema(DOCUMENT), other])
    assert list(both) == [*DOCUMENT["properties"], "new"]  # type: ignore[misc]
    assert (both["rating"], both["good"]) == ("number", "text")


def test_a_schema_that_leads_in_a_circle_ends() -> None:
    """Columns and judgement are found all the same; an answer that follows the circle far is no good one."""
    circle = {"anyOf": [{"$ref": "#/$defs/x"}, {"$ref": "#/$defs/x"}, {"type": "integer"}, {"type": "null"}]}
    properties = {"a": {"$ref": "#/$defs/x"}, "b": {"$ref": "#/$defs/y"}, "c": {"$ref": "#"}}
    document = {"type": "object", "properties": properties, "$defs": {"x": circle, "y": {"$ref": "#/$defs/y"}}}
    found = Schema(document)
    assert found.columns() == {"a": "integer", "b": "text", "c": "text"}
    assert found.take('{"c": {"c": {}}}').cause is None
    assert found.take('{"c":' * 900 + "1" + "}" * 900).cause is not None


BIG = 9400111899223197428490


@pytest.mark.parametrize(
    ("rule", "text", "fits"),
    [
        ({"type": "integer"}, str(BIG), True),
        ({"type": "integer", "maximum": BIG}, str(BIG), True),
        ({"type": "integer", "maximum": BIG - 1}, str(BIG), False),
        ({"const": BIG + 1}, str(BIG), False),
        ({"enum": [BIG]}, str(BIG), True),
        ({"multipleOf": 7}, str(BIG), False),
        ({"type": "integer"}, "9" * 5000, True),
        ({"type": "integer"}, "1.0", True),
        ({"type": "integer"}, "1.5", False),
        ({"type": "number", "maximum": 0.1}, "0.10000000000000000001", False),
        ({"type": "number"}, "1e400", True),
        ({"multipleOf": 0.01}, "19.99", True),
        ({"type": "number"}, "1e99999999999999999999", False),
        ({"type": "number"}, "NaN", False),
    ],
)
def test_numbers_of_any_size_are_judged_by_their_digits(rule: dict[str, Any], text: str, fits: bool) -> None:
    """Alone and nested."""
    assert (Schema(rule).take(text).cause is None) == fits
    nested = Schema({"type": "object", "properties": {"a": {"type": "array", "items": rule}}})
    assert (nested.take(f'{{"a": [{text}]}}').cause is None) == fits


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("date", "2024-02-29", "not a date"),
        ("date-time", "2024-01-01T00:00:00Z", "2024-01-01"),
        ("time", "12:00:00Z", "noon"),
        ("email", "a@b.co", "ab"),
        ("uuid", "123e4567-e89b-12d3-a456-426614174000", "x"),
        ("ipv4", "1.2.3.4", "1.2.3"),
        ("ipv6", "::1", "1"),
        ("uri", "http://a.test/b", "a b"),
        ("hostname", "a.test", "-a_"),
    ],
)
def test_formats_are_judged(name: str, good: str, bad: str) -> None:
    """A value of another form breaks the schema at its place."""
    schema = Schema({"properties": {"a": {"type": "string", "format": name}}})
    assert schema.take(json.dumps({"a": good})).cause is None
    assert schema.take(json.dumps({"a": bad})).cause == "the answer breaks its schema at a: format"
    assert schema.unjudged_formats == ()


def test_formats_that_nobody_can_check_are_told() -> None:
    """Once each; a property called format is none, and an older draft knows fewer."""
    properties = {"a": {"format": "phone"}, "format": {"type": "string"}, "b": {"items": {"format": "phone"}}}
    assert Schema({"properties": properties}).unjudged_formats == ("phone",)
    older = Schema({"$schema": "http://json-schema.org/draft-07/schema#", "format": "uuid"})
    assert (older.unjudged_formats, older.take('"x"').cause) == (("uuid",), None)


def test_more_flaws_than_can_be_told_are_cut() -> None:
    """However many there are, the cause is short and the same."""
    schema = Schema({"properties": {f"p{number}": {"type": "string"} for number in range(9)}})
    causes = {schema.take(json.dumps({f"p{number}": 1 for number in range(count)})).cause for count in (8, 9)}
    assert len(causes) == 1 and str(causes.pop()).endswith("p5: type; and more")


def test_half_a_surrogate_pair_is_judged_like_any_character() -> None:
    """A model may cut an emoji in two; that breaks no schema and no judge."""
    schema = Schema({"properties": {"a": {"type": "string", "maxLength": 1}, "b": {"type": "number"}}})
    assert schema.take('{"a": "\\ud83d"}').cause is None
    assert schema.take('{"a": "\ud83d"}').cause is None
    assert schema.take('{"a": "\\ud83d", "b": 1.5}').cause is None
    assert schema.take('{"a": "\\ud83d\\ud83d"}').cause == "the answer breaks its schema at a: maxLength"


@pytest.mark.parametrize("reference", ["#/$defs/Box%3CInt%3E", "#/properties/a/anyOf/0"])
def test_a_reference_is_a_pointer_in_a_uri(reference: str) -> None:
    """As TypeScript's generators write the names of generic types; and into a list."""
    properties = {"a": {"anyOf": [{"type": "integer"}, {"type": "null"}]}, "b": {"$ref": reference}}
    document = {"type": "object", "properties": properties, "$defs": {"Box<Int>": {"type": "integer"}}}
    assert Schema(document).columns() == {"a": "integer", "b": "integer"}
    assert Schema(document).take('{"b": "x"}').cause == "the answer breaks its schema at b: type"
