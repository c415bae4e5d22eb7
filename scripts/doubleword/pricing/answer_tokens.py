"""How long the answer to a request will be, in tokens, before it was asked.

Promises: what an estimate rests on is told; a schema is believed where it says all of the answer, a sample where there
is one, and only else a rule is.

An answer of a schema is JSON as models write it, its fields all there: an enum is as long as its values are on
average, and what only the model knows (free text) is taken to be `FREE_TEXT` tokens long. Schemas of enums, numbers and
booleans over the tables of `examples`: within 30 % of what SmolLM2 wrote, whose `schema_factor` in the price table says
that it spells such answers nearly letter by letter; and of the JSON itself in its tokenizer.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

from doubleword.pricing.prompt_tokens import text_tokens
from doubleword.service import MESSAGES, RESPONSES

ANSWER_PER_PROMPT = 1.1  # as the server assumes where it has no history (dwctl files.rs, get_file_cost_estimate)
FREE_TEXT = 20.0
ITEMS = 3  # of an array without limits
END = 1.0  # the token that ends an answer
FIELD = 2.0  # quotes, colon and comma around a name and its value, beyond their own
BRACES = 1.0  # mostly one token with the quotes beside them
DEEPEST = 20
BY_SCHEMA, BY_SAMPLE, BY_RULE = "by their schema", "as long as earlier ones", "1.1 times the prompt"
BY_BOTH = f"by their schema, free texts {FREE_TEXT:.0f} tokens each"


def answer_length(
    url: str, body: Mapping[str, Any], prompt_tokens: float, sample: float | None = None, schema_factor: float = 1.0
) -> tuple[float, str]:
    """Expected tokens of the answer to one request, without the limit that it sets, and what they are taken from.

    `sample` is how many tokens such answers took on average, where that is known; `schema_factor` how many times the
    usual tokens a model takes for an answer that a schema determines.
    """
    schema = _schema(url, body)
    tokens, closed = _by_schema(json.dumps(schema)) if schema is not None else (0.0, False)
    if closed:
        return schema_factor * tokens, BY_SCHEMA
    if sample is not None:
        return sample, BY_SAMPLE
    return (tokens, BY_BOTH) if schema is not None else (ANSWER_PER_PROMPT * prompt_tokens, BY_RULE)


@functools.lru_cache(100)
def _by_schema(schema: str) -> tuple[float, bool]:
    """Tokens of an answer of `schema`, given as JSON, and whether that says all of it."""
    value = json.loads(schema)
    tokens, closed = _instance(value, value, 0)
    return tokens + END, closed


def _schema(url: str, body: Mapping[str, Any]) -> dict[str, Any] | None:
    """The JSON schema that a request asks for, where that is written in the places that the APIs document."""
    place = {RESPONSES: "text", MESSAGES: "output_config"}.get(url)
    form = body.get(place) if place else body
    form = form.get("format" if place else "response_format") if isinstance(form, dict) else None
    if not isinstance(form, dict) or form.get("type") != "json_schema":
        return None
    holder = form.get("json_schema", form)
    schema = holder.get("schema") if isinstance(holder, dict) else None
    return schema if isinstance(schema, dict) else None


def _instance(schema: Any, root: dict[str, Any], depth: int) -> tuple[float, bool]:
    """Tokens of a value of `schema`, a part of `root`, and whether all of the value follows from it."""
    if not isinstance(schema, dict) or depth > DEEPEST:
        return FREE_TEXT, False
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith("#/"):
        found: Any = root
        for part in reference[2:].split("/"):
            found = found.get(part) if isinstance(found, dict) else None
        return _instance(found, root, depth + 1)
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if isinstance(values, list) and values:
        return sum(text_tokens(json.dumps(one, ensure_ascii=False)) for one in values) / len(values), True
    for name in ("anyOf", "oneOf"):
        if isinstance(schema.get(name), list) and schema[name]:
            parts = [_instance(one, root, depth + 1) for one in schema[name]]
            return sum(tokens for tokens, _ in parts) / len(parts), all(closed for _, closed in parts)
    return _of_type(schema, root, depth)


def _of_type(schema: dict[str, Any], root: dict[str, Any], depth: int) -> tuple[float, bool]:
    kind = schema.get("type")
    kind = kind[0] if isinstance(kind, list) and kind else kind
    if kind == "object" or "properties" in schema:
        named = schema.get("properties")
        parts = (
            {name: _instance(one, root, depth + 1) for name, one in named.items()} if isinstance(named, dict) else {}
        )
        tokens = BRACES + sum(text_tokens(name) + FIELD + tokens for name, (tokens, _) in parts.items())
        return tokens, bool(parts) and all(closed for _, closed in parts.values())
    if kind == "array":
        least, most = schema.get("minItems", 0), schema.get("maxItems")
        count = (least + most) / 2 if isinstance(least, int) and isinstance(most, int) else ITEMS
        tokens, closed = _instance(schema.get("items"), root, depth + 1)
        return BRACES + count * (tokens + 1), closed and least == most
    if kind in ("integer", "number", "boolean", "null"):
        bounds = [abs(one) for name in ("minimum", "maximum") if isinstance(one := schema.get(name), (int, float))]
        return len(f"{max(bounds, default=100):.0f}") if kind in ("integer", "number") else 1.0, True
    longest = schema.get("maxLength")
    return min(FREE_TEXT, longest / 4) if isinstance(longest, int) else FREE_TEXT, False
