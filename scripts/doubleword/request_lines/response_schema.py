"""The JSON Schema that answers are to have: read from a file, checked, and put into the form that requests carry.

Promises: a schema is taken only when it is valid JSON Schema and within what structured outputs support; otherwise the
place in it is named, and what to write instead, before anything is sent.

What is supported is as OpenAI documents it in "Structured model outputs", section "Supported schemas", as of February
2026 (https://platform.openai.com/docs/guides/structured-outputs#supported-schemas), but for its sizes, which are each
server's own. Servers that support more are served as well by such a schema.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from doubleword.answers.schema import Schema, pointed
from doubleword.failure import Exit, Failure, plain
from doubleword.request_lines.checker import path_of
from doubleword.service import RESPONSES
from doubleword.strict_json import read as strict_json
from doubleword.system import Disk
from doubleword.tables import plain_copy

MAX_SCHEMA_BYTES = 1 << 20
MAX_NAME = 64
SHOWN_FLAWS = 8  # all of them in one answer, as far as it holds them

_FIXED = "write the properties out, each with its own schema"
_MANY = 'an array has one schema for all of its "items"'
UNSUPPORTED = {
    "allOf": "write what it says into this schema",
    "oneOf": "write anyOf",
    "not": "say what is allowed, for example by enum",
    "if": "write anyOf, or two schemas in two batches",
    "then": "write anyOf, or two schemas in two batches",
    "else": "write anyOf, or two schemas in two batches",
    "dependentRequired": "require all, and let values be null",
    "dependentSchemas": "write anyOf, or require all, and let values be null",
    "dependencies": "write anyOf, or require all, and let values be null",
    "patternProperties": _FIXED,
    "propertyNames": _FIXED,
    "minProperties": _FIXED,
    "maxProperties": _FIXED,
    "unevaluatedProperties": 'write "additionalProperties": false',
    "prefixItems": _MANY,
    "additionalItems": _MANY,
    "unevaluatedItems": _MANY,
    "contains": _MANY,
    "minContains": _MANY,
    "maxContains": _MANY,
    "uniqueItems": "leave it out, and take doubles out of the answers",
    "$dynamicRef": "write $ref to a place in this file",
    "default": "leave it out, as every property is required",
}


def load(path: Path, disk: Disk) -> dict[str, Any]:
    """The schema in the file `path`, checked. Raises Failure (exit 2) that names all places and what to write there."""
    if (disk.size(path) or 0) > MAX_SCHEMA_BYTES:
        raise _bad(path, f"is longer than {MAX_SCHEMA_BYTES:,} bytes", "only the schema belongs into the file")
    try:
        schema = strict_json(plain_copy.text_of(path, disk, MAX_SCHEMA_BYTES).encode())
    except ValueError as error:
        raise _bad(path, str(error), "the file holds one JSON Schema") from None
    require(path, schema)
    assert isinstance(schema, dict)
    return schema


def require(path: Path, schema: Any) -> None:
    """Raise Failure (exit 2) unless `schema`, which came from `path`, is one that the server and we can use."""
    flaws = list(_flaws(schema))
    if not flaws and (unusable := Schema(schema).unusable) is not None:  # such as a pattern too large to be used
        flaws = [("$", f"cannot judge answers: {unusable}", "write what it names in a simpler way")]
    if flaws:
        shown = "; ".join(f"{place} {said}" for place, said, _ in flaws[:SHOWN_FLAWS])
        more = f"; and {len(flaws) - SHOWN_FLAWS:,} more" if len(flaws) > SHOWN_FLAWS else ""
        advice = dict.fromkeys(advice for _, _, advice in flaws[:SHOWN_FLAWS])
        raise _bad(path, f"{shown}{more}", "; ".join(advice))


def parameters(path: Path, schema: Mapping[str, Any], endpoint: str) -> dict[str, Any]:
    """What asks for answers of this `schema` in the body of a chat or responses request; the name is the file's."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", path.stem)[:MAX_NAME].strip("_") or "answer"
    named = {"name": name, "strict": True, "schema": schema}
    if endpoint == RESPONSES:
        return {"text": {"format": {"type": "json_schema", **named}}}
    return {"response_format": {"type": "json_schema", "json_schema": named}}


def _flaws(schema: Any) -> Iterator[tuple[str, str, str]]:
    """(place, what is wrong there, what to write instead), the validity of the schema as such first."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    if not isinstance(schema, dict):
        yield "$", "is not a JSON object", 'write {"type": "object", "properties": {…}, …}'
        return
    try:
        Draft202012Validator.check_schema(schema)
    except RecursionError:
        yield "$", "is nested too deep", "make the answer flatter"
        return
    except SchemaError as error:
        place = path_of("$", *error.absolute_path)
        yield place, f"is not valid JSON Schema: {plain(error.message, 160)}", "mend the schema at this place"
        return
    if schema.get("type") != "object":
        inner = next((name for name in ("schema", "json_schema") if isinstance(schema.get(name), dict)), None)
        advice = "put the list or the value into an object with one property"
        if inner is not None:
            advice = f"name a file that holds only the schema, which is what stands here under {inner}"
        yield "$", 'must have "type": "object", as every answer is an object', advice
    if "anyOf" in schema:
        yield "$.anyOf", "is not supported at the top", "put it into a property"
    yield from _below(schema, schema, "$")


def _below(root: dict[str, Any], node: Any, place: str) -> Iterator[tuple[str, str, str]]:
    """The flaws of the schema `node` of `root`."""
    if not isinstance(node, dict):
        yield place, "allows anything, or nothing", 'write a schema with a "type"'
        return
    for name, advice in UNSUPPORTED.items():
        if name in node:
            yield f"{place}.{name}", "is not supported by structured outputs", advice
    if not node.keys() & {"type", "anyOf", "$ref", "enum", "const"}:
        yield place, "says no type", 'write "type", one of string, number, integer, boolean, object, array, null'
    if "$ref" in node and pointed(root, node["$ref"]) is None:
        said = f"is {plain(node['$ref'], 60)}, which leads nowhere in this file"
        yield f"{place}.$ref", said, "write the schema in place, or under $defs, and #/$defs/NAME here"
    kinds = node.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if "object" in kinds or "properties" in node:
        yield from _object(node, place)
    if "array" in kinds and "items" not in node:
        yield place, "is an array without items", 'write "items": {"type": …}'
    for name in ("$defs", "definitions", "properties"):
        for key, one in node.get(name, {}).items():
            yield from _below(root, one, path_of(place, name, key))
    for index, one in enumerate(node.get("anyOf", [])):
        yield from _below(root, one, path_of(place, "anyOf", index))
    if "items" in node:
        yield from _below(root, node["items"], path_of(place, "items"))


def _object(node: dict[str, Any], place: str) -> Iterator[tuple[str, str, str]]:
    if "properties" not in node:
        yield place, "is an object without properties", _FIXED
        return
    names, required = list(node["properties"]), node.get("required", [])
    if node.get("additionalProperties") is not False:
        yield place, "lets additional properties in", 'write "additionalProperties": false'
    for name in names:
        if name not in required:
            advice = 'put all into required; where there may be no value, let it be null: "type": ["string", "null"]'
            yield place, f"does not have the property {plain(name, 60)} in required", advice
    for name in required:
        if name not in names:
            yield f"{place}.required", f"names {plain(name, 60)}, which is no property", "put it under properties"


def _bad(path: Path, said: str, advice: str) -> Failure:
    return Failure(Exit.BAD_INPUT, "bad_schema", f"--response-schema {plain(path, 80)}: {said}", advice)
