"""Structured answers: which schema the answer to each request has to obey, and which columns that gives.

Promises: the schema is the one that stands in the request line itself; an answer that breaks it is told by a
cause that names the place and never the answer's own words, so that equal flaws are counted together; a schema
makes this machine fetch or open nothing, whatever it refers to.

Places of the schema: `response_format` of chat and `text.format` of responses, as OpenAI documents them.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from doubleword.batch_files.reading import request_lines
from doubleword.failure import Exit, Failure, plain
from doubleword.limits import MAX_LINE_BYTES
from doubleword.request_lines.line import CHAT, RESPONSES
from doubleword.system import Disk
from doubleword.tables.plain_copy import opened

KINDS = {"string": "text", "integer": "integer", "number": "number", "boolean": "boolean"}
KINDS_OF_VALUES = {str: "text", bool: "boolean", int: "integer", float: "number"}


class Schema:
    """What an answer has to be: JSON that is valid by `document`, or any JSON object where that is None.

    `unusable` says why the document cannot judge anything; then JSON alone is asked for.
    """

    def __init__(self, document: Any = None) -> None:
        self.document = document
        self.unusable: str | None = None
        self._breaks: Callable[[Any], str | None] = _no_object
        if document is not None:
            try:
                _refuse_foreign(document)
                self._breaks = _fast_judge(document) or _judge(document)
            except (ValueError, RecursionError) as error:
                self.unusable = plain(str(error).partition("\n")[0], 120)
                self._breaks = lambda _: None

    def breaks(self, text: str) -> str | None:
        """Why `text` is not what was asked for, in a few words; None where it is."""
        try:
            value = read(text)
        except ValueError:
            return "the answer is not JSON, as it was to be"
        try:
            return self._breaks(value)
        except RecursionError:
            return "the answer is nested too deep to be judged by its schema"

    def columns(self) -> dict[str, str]:
        """The top-level properties in their order, each with what it holds: text, integer, number or boolean."""
        root = _resolved(self.document, self.document)
        properties = root.get("properties")
        if not isinstance(properties, dict):
            return {}
        return {name: _kind(self.document, one) for name, one in properties.items()}


def read(text: str) -> Any:
    """The JSON value in an answer; raises ValueError for anything else, NaN and infinity among it."""
    try:
        return _loads()(text)
    except ValueError:
        pass
    try:
        return json.loads(text, parse_constant=_refuse)  # takes what orjson does not: half of a surrogate pair
    except RecursionError:
        raise ValueError("nested too deep") from None


@functools.cache
def _loads() -> Callable[[str], Any]:
    try:
        import orjson
    except ImportError:
        return functools.partial(json.loads, parse_constant=_refuse)
    return orjson.loads


def _refuse(what: str) -> NoReturn:
    raise ValueError(f"{plain(what, 60)} is not taken")


def _no_object(value: Any) -> str | None:
    return None if isinstance(value, dict) else "the answer is not a JSON object, as it was to be"


# Judging by a document


def _refuse_foreign(document: Any) -> None:
    """Raise ValueError for a reference out of the document: nothing is fetched to judge an answer."""
    for node in _nodes(document):
        for name in ("$ref", "$dynamicRef", "$recursiveRef"):
            target = node.get(name)
            if isinstance(target, str) and not target.startswith("#"):
                raise ValueError(f"it refers to {plain(target, 60)}, and nothing is fetched")


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield one
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)


def _fast_judge(document: Any) -> Callable[[Any], str | None] | None:
    try:
        import jsonschema_rs
    except ImportError:
        return None
    validator: Any = jsonschema_rs.validator_for(document, retriever=_refuse)

    def judge(value: Any) -> str | None:
        if validator.is_valid(value):
            return None
        error = next(validator.iter_errors(value))
        return _sentence(list(error.instance_path), list(error.schema_path), error.message)

    return judge


def _judge(document: Any) -> Callable[[Any], str | None]:
    import jsonschema
    import referencing
    import referencing.exceptions

    kind = jsonschema.validators.validator_for(document, default=jsonschema.Draft202012Validator)
    try:
        kind.check_schema(document)
    except jsonschema.SchemaError as error:
        raise ValueError(error.message) from None
    validator = kind(document, registry=referencing.Registry())

    def judge(value: Any) -> str | None:
        try:
            error = next(iter(validator.iter_errors(value)), None)
        except referencing.exceptions.Unresolvable:
            return "the schema refers to a place that it does not hold"
        return None if error is None else _sentence(list(error.path), list(error.schema_path), error.message)

    return judge


def _sentence(place: list[Any], rule: list[Any], message: str) -> str:
    """The cause for the errors of either library. Only `required` names what the schema, not the answer, says."""
    where = ".".join("[]" if isinstance(part, int) else str(part) for part in place) or "the top"
    broken = str(rule[-1]) if rule else "false"
    said = message if broken == "required" else broken
    return plain(f"the answer breaks its schema at {where}: {said}", 160)


# Columns


def _resolved(document: Any, node: Any) -> dict[str, Any]:
    """`node`, or what it refers to inside `document`; empty for what is no object."""
    for _ in range(16):
        target = node.get("$ref") if isinstance(node, dict) else None
        if not isinstance(target, str) or not target.startswith("#/"):
            break
        node = document
        for part in target[2:].split("/"):
            name = part.replace("~1", "/").replace("~0", "~")
            node = node.get(name) if isinstance(node, dict) else None
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


# Which request asked for what


class Expected:
    """What the answers to the requests of one batch file have to be: `default`, or what `named` says of a custom_id."""

    def __init__(self, default: Schema | None = None, named: dict[str, Schema | None] | None = None) -> None:
        self._default = default
        self._named = named or {}

    @property
    def nothing(self) -> bool:
        """Whether all answers may be any text."""
        return self._default is None and not self._named

    def of(self, custom_id: str) -> Schema | None:
        """The schema for one request; None where its answer may be any text."""
        return self._named.get(custom_id, self._default) if self._named else self._default


class Schemas:
    """The schemas of a job's requests. `everywhere`, where it is given, takes the place of all of them."""

    def __init__(self, disk: Disk, everywhere: Schema | None = None) -> None:
        self._disk = disk
        self._everywhere = everywhere
        self._known: dict[str, Schema] = {}

    def expected(self, path: Path | None) -> Expected:
        """What the requests in the batch file `path` ask for; nothing where it is not known.

        The lines are read only where the first of them has a schema, so that plain jobs pay nothing.
        """
        if self._everywhere is not None or path is None:
            return Expected(self._everywhere)
        first = next(request_lines(path, self._disk), None)
        if first is None or self._asked_for(first[1]) is None:
            return Expected()
        named = {custom_id: self._asked_for(line) for custom_id, line in request_lines(path, self._disk)}
        kinds = set(named.values())
        return Expected(kinds.pop()) if len(kinds) == 1 else Expected(None, named)

    def all_of(self, paths: Sequence[Path | None]) -> list[Schema]:
        """Every schema in the batch files `paths`, in order of first appearance; one file at a time is in memory."""
        if self._everywhere is not None:
            return [self._everywhere]
        for path in paths:
            self.expected(path)
        return list(self._known.values())

    def unusable(self) -> list[str]:
        """Why schemas that were met can judge nothing."""
        return [why for schema in self._known.values() if (why := schema.unusable) is not None][:3]

    def _asked_for(self, line: bytes) -> Schema | None:
        request = json.loads(line)
        form = _format(request["url"], request["body"])
        if form is None:
            return None
        holder = form.get("json_schema", form)
        document = holder.get("schema") if form["type"] == "json_schema" and isinstance(holder, dict) else None
        name = json.dumps(document)
        if name not in self._known:
            self._known[name] = Schema(document)
        return self._known[name]


def _format(url: str, body: dict[str, Any]) -> dict[str, Any] | None:
    """The response format of a request that wants JSON; None of one that may be answered by any text."""
    text = body.get("text")
    form = body.get("response_format") if url == CHAT else None
    if url == RESPONSES and isinstance(text, dict):
        form = text.get("format")
    return form if isinstance(form, dict) and form.get("type") in ("json_schema", "json_object") else None


def read_schema(path: Path, disk: Disk) -> Schema:
    """The schema in a file that the user names; raises Failure (2) where it is none.

    A whole `response_format` with the schema inside is taken as well.
    """
    with opened(path, disk) as file:
        raw = file.read(MAX_LINE_BYTES)
    try:
        document = json.loads(raw)
        for name in ("json_schema", "schema"):
            inner = document.get(name)
            document = inner if isinstance(inner, dict) else document
        made = Schema(document)
    except (ValueError, AttributeError, RecursionError):
        raise _bad_schema(path, "it is not a JSON object") from None
    if made.unusable is not None:
        raise _bad_schema(path, made.unusable)
    return made


def _bad_schema(path: Path, why: str) -> Failure:
    message = f"{plain(path)} is not a usable JSON schema: {why}"
    return Failure(Exit.BAD_INPUT, "bad_schema", message, 'expected {"type": "object", "properties": {…}}')
