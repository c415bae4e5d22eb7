"""How long answers are taken to be: by their schema, as long as earlier ones, or by a rule, and which is said."""

from __future__ import annotations

import csv
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.pricing.test_pricing import CHAT, DISK, EXAMPLES, TABLE, SmolLM2, chat, cost

from doubleword.pricing.answer_tokens import BY_BOTH, BY_RULE, BY_SAMPLE, BY_SCHEMA, answer_length
from doubleword.pricing.estimate import Total
from doubleword.pricing.prices import load_prices

WORDS = {"type": "string", "enum": ["happy", "mixed", "unhappy", "angry", "calm"]}
CODE = json.loads((EXAMPLES / "code.schema.json").read_text())
RATING = {
    "type": "object",
    "properties": {
        "rating": {"type": "integer", "minimum": 1, "maximum": 5},
        "spam": {"type": "boolean"},
        "topic": {"enum": ["quality", "delivery", "service", "safety"]},
    },
}
ANSWERS: list[tuple[dict[str, Any], list[Any]]] = [
    ({"type": "object", "properties": {"mood": WORDS}}, [{"mood": word} for word in WORDS["enum"]]),
    (CODE, [{"code": word} for word in CODE["properties"]["code"]["enum"]]),
    (RATING, [{"rating": 3, "spam": False, "topic": word} for word in RATING["properties"]["topic"]["enum"]]),  # type: ignore[index]
    (
        {"$defs": {"tag": WORDS}, "type": "array", "items": {"$ref": "#/$defs/tag"}, "minItems": 3, "maxItems": 3},
        [["happy", "mixed", "calm"], ["unhappy", "angry", "happy"]],
    ),
    ({"anyOf": [{"const": "a longer constant text"}, {"type": "null"}]}, ["a longer constant text", None]),
]


def form(schema: Any) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}}


@pytest.fixture(scope="module")
def model() -> SmolLM2:
    return SmolLM2()


@pytest.mark.parametrize(("schema", "answers"), ANSWERS, ids=["enum", "code", "rating", "array", "const"])
def test_an_answer_that_a_schema_determines_is_counted_within_30_percent(
    model: SmolLM2, schema: dict[str, Any], answers: list[Any]
) -> None:
    """On average over its values, as JSON is mostly written, with the token that ends it."""
    tokens, source = answer_length(CHAT, form(schema), 1000.0)
    true = sum(model.tokens(json.dumps(one)) + 1 for one in answers) / len(answers)
    assert (source, abs(tokens / true - 1) < 0.3) == (BY_SCHEMA, True), f"{tokens:.1f}, {true:.1f}"


def test_what_the_bundled_model_writes_is_counted_within_30_percent(model: SmolLM2) -> None:
    """It spells structured answers nearly letter by letter, which the price table says of it."""
    with (EXAMPLES / "survey.csv").open(encoding="utf-8", newline="") as file:
        answers = [row["answer"] for row in csv.DictReader(file)]
    total, written = Total(load_prices(None, DISK)), 0
    for text in answers:
        body = {"messages": [{"role": "user", "content": text}], "max_tokens": 80, "temperature": 0, **form(CODE)}
        written += model.server.handle_chat_completions({"model": "m", **body})["usage"]["completion_tokens"]
        total.add({"url": CHAT, "body": {"model": "SmolLM2-135M-Instruct", **body}})
    estimated = total.estimate("24h").completion_tokens
    assert abs(estimated / written - 1) < 0.3, f"{estimated} estimated, {written} written"


def test_the_surest_thing_that_is_known_tells_the_length() -> None:
    """A schema that says all of an answer; else earlier answers; else what the schema says of it; else the rule."""
    free = form({"type": "object", "properties": {"mood": WORDS, "why": {"type": "string"}}})
    assert answer_length(CHAT, form(CODE), 100, 50)[1] == BY_SCHEMA
    assert answer_length(CHAT, free, 100, 50) == answer_length(CHAT, {}, 100, 50) == (50, BY_SAMPLE)
    tokens, source = answer_length(CHAT, free, 100)
    assert 20 < tokens < 40 and source == BY_BOTH
    assert answer_length(CHAT, {}, 100)[1] == BY_RULE
    for url, place in (("/v1/responses", "text"), ("/v1/messages", "output_config")):
        body = {place: {"format": {"type": "json_schema", "schema": CODE}}}
        assert answer_length(url, body, 100)[1] == BY_SCHEMA


@pytest.mark.parametrize(
    "schema",
    [
        None,
        3,
        {},
        {"$ref": "#"},
        {"$ref": "#/a"},
        {"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
        {"type": "object", "properties": 3},
        {"type": "array", "items": []},
        {"enum": []},
        {"anyOf": [{"type": []}]},
    ],
)
def test_a_strange_schema_is_no_crash_and_no_certainty(schema: Any) -> None:
    """Whether it can judge anything is not the question here."""
    tokens, source = answer_length(CHAT, form(schema), 100)
    assert source != BY_SCHEMA and tokens > 0


def test_the_estimate_says_which(tmp_path: Path) -> None:
    """In its method, the more frequent first; no answer is taken to be longer than its limit."""
    found = cost(tmp_path, chat(**form(CODE)), chat(**form(CODE)), chat("word " * 100, max_tokens=7))
    assert f"answers: assumed {BY_SCHEMA}, or {BY_RULE}, at most max_tokens" in found.method
    assert 7 < found.completion_tokens < 40


@pytest.mark.parametrize(
    ("ttl", "factor"), [({}, "1.25"), ({"ttl": "5m"}, "1.25"), ({"ttl": "1h"}, "2"), ({"ttl": "24h"}, "3")]
)
@pytest.mark.parametrize("place", ["message", "tool", "request"])
def test_the_ceiling_holds_what_writing_into_the_cache_costs(ttl: dict[str, str], factor: str, place: str) -> None:
    """Wherever the marker stands; the estimate stays as it is."""
    marker = {"cache_control": {"type": "ephemeral", **ttl}}
    part = {"type": "text", "text": "word " * 500}
    tool = {"type": "function", "function": {"name": "f"}}

    def total(marked: bool) -> Total:
        made, body = Total(TABLE), {"model": "cheap", "max_tokens": 0, "tools": [tool]}
        content = [{**part, **(marker if marked and place == "message" else {})}]
        body |= {"messages": [{"role": "user", "content": content}]}
        body |= {"tools": [{**tool, **marker}]} if marked and place == "tool" else {}
        made.add({"url": CHAT, "body": {**body, **(marker if marked and place == "request" else {})}})
        return made

    plain, marked = total(False).estimate("24h"), total(True).estimate("24h")
    assert plain.ceiling_usd is not None and marked.ceiling_usd is not None
    assert marked.ceiling_usd >= float(Decimal(factor)) * plain.ceiling_usd - 1e-6
    assert abs(marked.prompt_tokens - plain.prompt_tokens) < 30
