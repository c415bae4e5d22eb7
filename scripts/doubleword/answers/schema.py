"""Structured answers: whether an answer is the JSON that was asked for, and which columns that gives.

Promises: JSON is found in the wrappings that models and servers put around it, and nowhere else; all that breaks the
schema is told, by places and never by the answer's own words, so that equal flaws are counted together; no number
changes; a schema makes this machine fetch or open nothing, whatever it refers to.
"""

from __future__ import annotations

import functools
import itertools
import re
import urllib.parse
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from doubleword.answers.json_text import FENCE, candidates, read, refuse, sound
from doubleword.failure import plain

KINDS = {"string": "text", "integer": "integer", "number": "number", "boolean": "boolean"}
KINDS_OF_VALUES = {str: "text", bool: "boolean", int: "integer", float: "number"}
NO_JSON = "the answer is not JSON, as it was to be"
MOST_FLAWS = 6  # of one answer that are told


class Taken(NamedTuple):
    """The text of an answer, the JSON alone where that was `unwrapped`; `cause` says why it is not what was asked."""

    text: str
    unwrapped: tuple[str, ...] = ()
    cause: str | None = None


class Schema:
    """What an answer has to be: JSON that is valid by `document`, or any JSON object where that is None.

    `unusable` says why the document cannot judge anything; then JSON alone is asked for. `unjudged_formats` are those
    of its formats that nothing here can check.
    """

    def __init__(self, document: Any = None) -> None:
        self.document = document
        self.unusable: str | None = None
        self.unjudged_formats: tuple[str, ...] = ()
        self._breaks: Callable[[Any], str | None] = _no_object
        if document is not None:
            try:
                _refuse_foreign(document)
                self._breaks = _judge(document)
                self.unjudged_formats = _unknown_formats(document)
            except (ValueError, RecursionError) as error:
                self.unusable = plain(str(error).partition("\n")[0], 120)
                self._breaks = lambda _: None

    def take(self, text: str, alone: bool = False) -> Taken:
        """The JSON in `text`, and why it is not what was asked for.

        Of several fenced blocks it is the last that is. With `alone` there may be nothing beside a fence.
        """
        found = None
        for inner, unwrapped in candidates(text, alone):
            try:
                taken = Taken(inner, unwrapped, self._judged(read(inner)))
            except ValueError:
                continue
            if taken.cause is None or FENCE not in unwrapped:
                return taken
            found = found or taken
        return found or Taken(text, (), NO_JSON)

    def _judged(self, value: Any) -> str | None:
        try:
            return self._breaks(value)
        except UnicodeEncodeError:  # half of a surrogate pair, which the judge cannot take
            return self._breaks(sound(value))
        except (RecursionError, ValueError):
            return "the answer is nested too deep to be judged by its schema"

    def columns(self) -> dict[str, str]:
        """The top-level properties in their order, each with what it holds: text, integer, number or boolean."""
        root = _resolved(self.document, self.document)
        properties = root.get("properties")
        if not isinstance(properties, dict):
            return {}
        return {name: _kind(self.document, one) for name, one in properties.items()}


# Judging by a document


def _no_object(value: Any) -> str | None:
    return None if isinstance(value, dict) else "the answer is not a JSON object, as it was to be"


def _refuse_foreign(document: Any) -> None:
    """Raise ValueError for a reference out of the document: nothing is fetched to judge an answer."""
    for node in nodes(document):
        for name in ("$ref", "$dynamicRef", "$recursiveRef"):
            target = node.get(name)
            if isinstance(target, str) and not target.startswith("#"):
                raise ValueError(f"it refers to {plain(target, 60)}, and nothing is fetched")


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    """All objects in a JSON value."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield one
        if isinstance(one, (dict, list)):
            waiting.extend(one.values() if isinstance(one, dict) else one)


def _judge(document: Any) -> Callable[[Any], str | None]:
    import jsonschema_rs

    validator: Any = jsonschema_rs.validator_for(document, retriever=refuse, validate_formats=True)
    own = [node["properties"] for node in nodes(document) if isinstance(node.get("properties"), dict)]
    names = set(itertools.chain.from_iterable(own))

    def judge(value: Any) -> str | None:
        if validator.is_valid(value):
            return None
        errors = itertools.islice(validator.iter_errors(value), 100)
        told = sorted({_flaw(error, names) for error in errors})
        more = "; and more" if len(told) > MOST_FLAWS else ""
        return plain(f"the answer breaks its schema at {'; '.join(told[:MOST_FLAWS])}{more}", 400)

    return judge


def _flaw(error: Any, names: set[str]) -> str:
    """Where an answer breaks its schema, and which rule; of both only what the schema says, not the answer."""
    place = ["[]" if isinstance(part, int) else part if part in names else "*" for part in error.instance_path]
    broken = str(error.schema_path[-1]) if error.schema_path else "false"
    return f"{'.'.join(place) or 'the top'}: {error.message if broken == 'required' else broken}"


def _unknown_formats(document: Any) -> tuple[str, ...]:
    """The formats in a schema that nothing here can check, by the draft that it names; of numbers there are none."""
    named = dict.fromkeys(node["format"] for node in nodes(document) if isinstance(node.get("format"), str))
    draft = document.get("$schema") if isinstance(document, dict) else None
    return tuple(plain(name, 40) for name in named if not _is_format(name, draft))


@functools.cache
def _is_format(name: str, draft: Any) -> bool:
    import jsonschema_rs

    schema = {"format": name} if draft is None else {"$schema": draft, "format": name}
    try:
        jsonschema_rs.validator_for(schema, validate_formats=True, ignore_unknown_formats=False)
    except jsonschema_rs.ValidationError:
        return False
    return True


# Columns


def pointed(document: Any, reference: Any) -> Any:
    """What a `$ref` within `document` refers to, by a JSON pointer (RFC 6901) in a URI; None for nothing there."""
    found = document if isinstance(reference, str) and re.match("#(/|$)", reference) else None
    for part in urllib.parse.unquote(str(reference)).split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, list):
            found = dict(zip(map(str, range(len(found))), found, strict=True))
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _resolved(document: Any, node: Any) -> dict[str, Any]:
    """`node`, or what it refers to inside `document`; empty for what is no object."""
    for _ in range(16):
        if isinstance(node, dict) and isinstance(node.get("$ref"), str):
            node = pointed(document, node["$ref"])
    return node if isinstance(node, dict) else {}


def _kind(document: Any, node: Any) -> str:
    """What a property holds, null aside; text for what is nested or mixed."""
    return _common(_kinds(document, node, set()))


def _kinds(document: Any, node: Any, met: set[int]) -> set[str]:
    """What `node` and its options hold; nothing new for a node that was `met`, for they may lead in a circle."""
    node = _resolved(document, node)
    if id(node) in met:
        return set()
    met.add(id(node))
    named = node.get("type")
    names = [named] if isinstance(named, str) else named if isinstance(named, list) else []
    kinds = {KINDS.get(name, "text") if isinstance(name, str) else "text" for name in names if name != "null"}
    for option in node["anyOf"] if isinstance(node.get("anyOf"), list) else ():
        if _resolved(document, option).get("type") != "null":
            kinds |= _kinds(document, option, met)
    values = node.get("enum")
    if not kinds and isinstance(values, list):
        kinds = {KINDS_OF_VALUES.get(type(value), "text") for value in values if value is not None}
    return kinds or {"text"}


def _common(kinds: set[str]) -> str:
    if kinds == {"integer", "number"}:
        return "number"
    return kinds.pop() if len(kinds) == 1 else "text"


def properties_of(schemas: Iterable[Schema]) -> dict[str, str]:
    """The properties of all of several schemas, in order of first appearance, each with what it holds."""
    found: dict[str, set[str]] = {}
    for schema in schemas:
        for name, kind in schema.columns().items():
            found.setdefault(name, set()).add(kind)
    return {name: _common(kinds) for name, kinds in found.items()}
