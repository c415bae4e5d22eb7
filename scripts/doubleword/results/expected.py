"""What the requests of a job say of their answers: the schema, the form of vectors, the most tokens.

Promises: what a request says stands in its own line and is read there; a job that says nothing pays nothing for it.

Places of the schema: `response_format` of chat and completions, `text.format` of responses, as OpenAI documents them;
`output_config.format` of `/v1/messages`, as Anthropic does.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from doubleword.answers.lines import parse
from doubleword.answers.schema import Schema
from doubleword.answers.vectors import FLOAT32, Form, asked_form
from doubleword.batch_files.reading import request_lines, request_of
from doubleword.batch_files.row_map import read_answers
from doubleword.failure import Exit, Failure, plain
from doubleword.service import EMBEDDINGS, MAX_LINE_BYTES, MESSAGES, RESPONSES
from doubleword.system import Disk
from doubleword.tables.plain_copy import opened, text_of


class Request(NamedTuple):
    """What a request says of its answer: the schema, None where it may be any text, the form of vectors, and how many
    tokens it may take at most, where only that tells whether it was cut off (`lines.used_all_tokens`).
    """

    schema: Schema | None = None
    form: Form = FLOAT32
    limit: int | None = None


ANY = Request()


class Expected(NamedTuple):
    """What the requests of one batch file say: `default`, or what `named` says of a custom_id."""

    default: Request = ANY
    named: Mapping[str, Request] = {}

    @property
    def nothing(self) -> bool:
        """Whether all answers may be any text."""
        return all(one.schema is None for one in (self.default, *self.named.values()))

    def request(self, custom_id: str) -> Request:
        """What one request says."""
        return self.named.get(custom_id, self.default)

    def form(self, custom_id: str) -> Form:
        """The form of the vectors of one request."""
        return self.request(custom_id).form


class Schemas:
    """The schemas of a job's requests. `everywhere`, where it is given, takes the place of all of them."""

    def __init__(self, disk: Disk, everywhere: Schema | None = None) -> None:
        self._disk = disk
        self._everywhere = everywhere
        self._known: dict[str, Schema] = {}
        self._requests: dict[Request, Request] = {}
        self.most_tokens = 0  # the limit that the first request of a batch file sets, as mostly all do

    def expected(self, path: Path | None) -> Expected:
        """What the requests in the batch file `path` say; nothing but `everywhere` where it is not known.

        Lines are looked at one by one only where the file has one that says anything, so that plain jobs pay nothing.
        """
        if path is None or not self._says_anything(path):
            return Expected(ANY._replace(schema=self._everywhere))
        return self.expected_in(request_lines(path, self._disk))

    def expected_in(self, lines: Iterable[tuple[str, bytes]]) -> Expected:
        """What requests say, each given by its custom_id and its line, such as those of the server's copy of a file."""
        default, named = ANY._replace(schema=self._everywhere), dict[str, Request]()
        for number, (custom_id, line) in enumerate(lines):
            if number == 0:
                self._see_limit(parse(line))
            found = self._said(line) if any(word in line for word in EVERY) else ANY
            if self._everywhere is not None:
                found = found._replace(schema=self._everywhere)
            found = self._requests.setdefault(found, found)
            if number == 0:
                default = found
            elif found is not default:
                named[custom_id] = found
        return Expected(default, named)

    def all_of(self, paths: Sequence[Path | None], answers: Path | None = None) -> list[Schema]:
        """Every schema in the batch files `paths`, and in the requests that `answers` of earlier jobs answer, in order
        of first appearance; one file at a time is in memory.
        """
        if self._everywhere is None:
            for path in paths:
                self.expected(path)
            self.expected_in((one.origin, one.request) for one in read_answers(answers, self._disk) if one.request)
        return self._judging()

    def unusable(self) -> list[str]:
        """Why schemas that were met can judge nothing."""
        return [why for schema in self._judging() if (why := schema.unusable) is not None][:3]

    def unjudged_formats(self) -> list[str]:
        """The formats in schemas that were met which nothing here can check, each once."""
        return list(dict.fromkeys(name for schema in self._judging() for name in schema.unjudged_formats))

    def _judging(self) -> list[Schema]:
        return [self._everywhere] if self._everywhere is not None else list(self._known.values())

    def _says_anything(self, path: Path) -> bool:
        """Whether a batch file, all of whose requests go to the endpoint of the first, says anything."""
        first = next((request_of(line) for _, line in request_lines(path, self._disk)), None)
        words = SAYING.get(first["url"], FORMATS) if first is not None else ()
        self._see_limit(first)
        before = b""
        with opened(path, self._disk) as file:
            while words and (block := file.read(1 << 20)):
                seen = before + block
                if any(word in seen for word in words):
                    return True
                before = block[-32:]
        return False

    def _see_limit(self, request: dict[str, Any] | None) -> None:
        body = (request or {}).get("body")
        limits = [body.get(name) for name in LIMITS] if isinstance(body, dict) else []
        self.most_tokens = max([self.most_tokens, *(one for one in limits if type(one) is int)])

    def _said(self, line: bytes) -> Request:
        request = json.loads(line)
        url, body = request["url"], request["body"]
        if url == EMBEDDINGS:
            return Request(form=asked_form(body))
        limit = body.get("max_output_tokens") if url == RESPONSES else None
        form, schema = _format(url, body), None
        if form is not None:
            holder = form.get("json_schema", form)
            document = holder.get("schema") if form["type"] == "json_schema" and isinstance(holder, dict) else None
            name = json.dumps(document)
            if name not in self._known:
                self._known[name] = Schema(document)
            schema = self._known[name]
        return Request(schema, limit=limit if type(limit) is int else None)


LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
# What a line has that says anything of its answer, by its endpoint.
FORMATS = (b'"json_schema"', b'"json_object"')
SAYING = {RESPONSES: (*FORMATS, b'"max_output_tokens"'), EMBEDDINGS: (b'"base64"', b'"input": [', b'"input":[')}
EVERY = (*SAYING[RESPONSES], *SAYING[EMBEDDINGS])


def _format(url: str, body: dict[str, Any]) -> dict[str, Any] | None:
    """The response format of a request that wants JSON; None of one that may be answered by any text."""
    if url in (RESPONSES, MESSAGES):
        holder = body.get("text" if url == RESPONSES else "output_config")
        form = holder.get("format") if isinstance(holder, dict) else body.get("output_format")
    else:
        form = body.get("response_format")
    return form if isinstance(form, dict) and form.get("type") in ("json_schema", "json_object") else None


def read_schema(path: Path, disk: Disk) -> Schema:
    """The schema in a file that the user names; raises Failure (2) where it is none.

    A whole `response_format` with the schema inside is taken as well.
    """
    text = text_of(path, disk, MAX_LINE_BYTES)
    try:
        document = json.loads(text)
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
