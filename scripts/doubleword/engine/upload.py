"""An upload as it arrives: multipart, then lines, then the server's checks of each (dwctl files.rs:688-1071).

Promises: the body is never held in memory; the first bad line ends the upload with the server's own words;
what is accepted waits in an unnamed temporary file, so that nothing is stored before the last byte was good.
"""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import orjson
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from doubleword.engine.settings import Limits
from doubleword.engine.storage.batches import Refused
from doubleword.engine.storage.files import Line, Upload

MULTIPART_OVERHEAD = 10 * 1024
CHAT_URLS = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages")
URLS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/messages")
FIELDS = ("custom_id", "method", "url", "body")
STRIPPED = ("priority", "service_tier", "background")
REASONING = ("chat_template_kwargs", "thinking", "thinking_token_budget")
# Which parameters an endpoint refuses, and what the server names instead (onwards/src/reasoning.rs:406-476).
REFUSED_PARAMETERS = {
    "/v1/chat/completions": ((*REASONING, "reasoning"), "; use 'reasoning_effort'"),
    "/v1/responses": ((*REASONING, "reasoning_effort"), "; use 'reasoning.effort'"),
    "/v1/completions": ((*REASONING, "reasoning", "reasoning_effort"), ""),
}


class LineReader:
    """Takes the bytes of the `file` part, checks each line, and spools what the store will keep.

    `model_kind` tells of a model id whether it is known, and its kind: "CHAT", "EMBEDDINGS", or "" where
    nobody knows; None for an unknown model.
    """

    def __init__(self, limits: Limits, model_kind: Callable[[str], str | None], folder: Path) -> None:
        self.bytes = 0
        self.requests = 0
        self.models: set[str] = set()
        self._limits = limits
        self._model_kind = model_kind
        self._kinds: dict[str, str | None] = {}
        self._rest: list[bytes] = []
        self._rest_size = 0
        self._spool: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115

    def feed(self, data: bytes) -> None:
        """Take the next bytes; raises `Refused` for the first line that the server would refuse."""
        self.bytes += len(data)
        if self.bytes > self._limits.file_bytes:
            raise too_large(self._limits)
        *whole, rest = data.split(b"\n")
        for line in whole:
            self._take(b"".join((*self._rest, line)) if self._rest else line)
            self._rest.clear()
        if rest:
            self._rest.append(rest)
            self._rest_size = self._rest_size + len(rest) if not whole else len(rest)
            if self._rest_size > 2 * self._limits.body_bytes:
                # A line without an end must not fill the memory; twice the limit leaves room for white space.
                raise _body_too_large(self.requests + 1, self._rest_size, self._limits)

    def finish(self) -> Iterator[Line]:
        """Check the last line; return what was accepted, to be read once."""
        self._take(b"".join(self._rest))
        self._rest.clear()
        if not self.requests:
            raise Refused(400, "File contains no valid request templates")
        self._spool.seek(0)
        return (Line(*orjson.loads(record)) for record in self._spool)

    def close(self) -> None:
        """Drop the temporary file."""
        self._spool.close()

    def _take(self, raw: bytes) -> None:
        number = self.requests + 1
        try:
            text = raw.decode().strip()
        except UnicodeDecodeError as error:
            raise Refused(
                400, f"File contains invalid UTF-8 on/near line {number} at byte offset {error.start}: {error.reason}"
            ) from None
        if not text:
            return
        if number > self._limits.requests:
            raise Refused(400, f"File contains {number} requests, which exceeds the maximum of {self._limits.requests}")
        line = check_line(text, number, self._limits, self._kind)
        self.requests = number
        self.models.add(line.model)
        self._spool.write(orjson.dumps((line.custom_id, line.method, line.url, line.model, line.body)) + b"\n")

    def _kind(self, model: str) -> str | None:
        if model not in self._kinds:
            self._kinds[model] = self._model_kind(model)
        return self._kinds[model]


def check_line(text: str, number: int, limits: Limits, model_kind: Callable[[str], str | None]) -> Line:
    """The line as the server stores it. Raises `Refused` with the server's text, in the server's order of checks."""
    line = _fields(text, number)
    custom_id, url, body = line["custom_id"], line["url"], line["body"]
    size = len(custom_id.encode())
    if size > 64:
        raise Refused(400, f"Line {number}: custom_id exceeds maximum length of 64 characters (got {size})")
    # Letters of any language pass, although the text says otherwise: HeaderValue::from_str takes their bytes.
    if re.search(r"[\x00-\x08\x0a-\x1f\x7f]", custom_id):
        raise Refused(
            400,
            f"Line {number}: custom_id contains invalid characters: must be valid ASCII without control characters",
        )
    if line["method"].upper() != "POST":
        raise Refused(
            400, f"Line {number}: Unsupported HTTP method '{line['method']}'. Only POST is currently supported."
        )
    if url not in URLS:
        raise Refused(400, f"Line {number}: Unsupported URL path '{url}'. Allowed paths are: {', '.join(URLS)}")
    model = body.get("model") if isinstance(body, dict) else None
    if not isinstance(model, str):
        raise Refused(400, f"Line {number}: Missing 'model' field in request body")
    kind = model_kind(model)
    if kind is None:
        raise Refused(403, f"Line {number}: Model '{model}' has not been configured or is not available to user")
    needed = "CHAT" if url in CHAT_URLS else "EMBEDDINGS"
    if kind and kind != needed:
        raise Refused(
            400, f"Line {number}: Model '{model}' is a {kind} model but endpoint '{url}' requires a {needed} model"
        )
    refused, instead = REFUSED_PARAMETERS.get(url, ((), ""))
    for name in refused:
        if name in body:
            raise Refused(400, f"Line {number}: Unsupported parameter '{name}'{instead}.")
    stored = orjson.dumps(
        {name: value for name, value in body.items() if name not in STRIPPED}, option=orjson.OPT_SORT_KEYS
    )
    if len(stored) > limits.body_bytes:
        raise _body_too_large(number, len(stored), limits)
    return Line(custom_id, line["method"], url, model, stored.decode())


def _fields(text: str, number: int) -> dict[str, Any]:
    """The four fields of a line; other keys are dropped, as the server drops them."""

    def refuse(problem: str) -> Refused:
        return Refused(400, f"Invalid JSON on line {number}: {problem}")

    try:
        line = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        problem = "expected value" if error.pos == 0 else error.msg.split(": line")[0]
        raise refuse(f"{problem} at line 1 column {error.pos + 1}") from None
    end = f"at line 1 column {len(text)}"
    if not isinstance(line, dict):
        raise refuse(f"invalid type: {_serde_type(line)}, expected struct OpenAIBatchRequest {end}")
    # orjson keeps the last of two equal keys, where the server refuses a repeated field.
    if any(text.count(f'"{name}"') > 1 for name in FIELDS):
        for name in FIELDS:
            pairs: list[tuple[str, Any]] = json.loads(text, object_pairs_hook=list)
            if sum(1 for key, _value in pairs if key == name) > 1:
                raise refuse(f"duplicate field `{name}` {end}")
    for name in FIELDS:
        if name not in line:
            raise refuse(f"missing field `{name}` {end}")
        if name != "body" and not isinstance(line[name], str):
            raise refuse(f"invalid type: {_serde_type(line[name])}, expected a string {end}")
    return line


def _serde_type(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"boolean `{str(value).lower()}`"
    if isinstance(value, int):
        return f"integer `{value}`"
    if isinstance(value, float):
        return f"floating point `{value}`"
    if isinstance(value, str):
        return f'string "{value}"'
    return "sequence" if isinstance(value, list) else "map"


def _body_too_large(number: int, size: int, limits: Limits) -> Refused:
    return Refused(
        400,
        f"Line {number}: Request body is {size} bytes, which exceeds the maximum allowed size of"
        f" {limits.body_bytes} bytes",
    )


def too_large(limits: Limits) -> Refused:
    """What the server answers to a file over the limit."""
    return Refused(413, f"File exceeds the maximum allowed size of {limits.file_bytes} bytes")


class _Part:
    """The headers of the multipart part that is being read, and the value of a small field."""

    def __init__(self) -> None:
        self.header = bytearray()
        self.header_value = bytearray()
        self.disposition: dict[bytes, bytes] = {}
        self.text = bytearray()

    @property
    def name(self) -> str:
        return self.disposition.get(b"name", b"").decode(errors="replace")


class UploadReader:
    """A multipart/form-data body, fed as it arrives. Fields may come in any order; unknown ones are ignored."""

    def __init__(self, content_type: str, lines: LineReader) -> None:
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data" or b"boundary" not in options:
            raise Refused(400, "Invalid multipart request: Invalid `boundary` for `multipart/form-data` request")
        self._lines = lines
        self._fields: dict[str, str] = {}
        self._part = _Part()
        self._has_file = False
        self._filename: str | None = None
        self._ended = False
        self._parser = MultipartParser(
            options[b"boundary"],
            {
                "on_part_begin": self._begin,
                "on_header_field": lambda data, start, end: self._part.header.extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._part.header_value.extend(data[start:end]),
                "on_header_end": self._header,
                "on_headers_finished": self._headers,
                "on_part_data": self._data,
                "on_part_end": self._end,
                "on_end": self._finish,
            },
        )

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the request's body."""
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise Refused(400, f"Invalid multipart request: {error}") from None

    def finish(self) -> Upload:
        """The accepted upload. Raises `Refused` where something was missing or wrong."""
        if not self._ended:
            raise Refused(400, "Failed to read multipart upload: incomplete multipart stream")
        if not self._has_file:
            raise Refused(400, "No file field found in multipart upload")
        purpose = self._fields.get("purpose")
        if purpose is not None and purpose.lower() != "batch":
            raise Refused(400, f"Invalid purpose '{purpose}'. Only 'batch' is supported.")
        lifetime = None
        with contextlib.suppress(ValueError):  # the server ignores what is not a number
            lifetime = int(self._fields.get("expires_after[seconds]", ""))
        lines = self._lines.finish()
        return Upload(
            filename=self._filename,
            purpose=None if purpose is None else "batch",
            expires_after_s=lifetime,
            bytes=self._lines.bytes,
            requests=self._lines.requests,
            models=frozenset(self._lines.models),
            lines=lines,
        )

    def _begin(self) -> None:
        self._part = _Part()

    def _header(self) -> None:
        if bytes(self._part.header).lower() == b"content-disposition":
            self._part.disposition = parse_options_header(bytes(self._part.header_value))[1]
        self._part.header.clear()
        self._part.header_value.clear()

    def _headers(self) -> None:
        if self._part.name == "file":
            self._has_file = True
            name = self._part.disposition.get(b"filename")
            self._filename = None if name is None else name.decode(errors="replace")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._part.name == "file":
            self._lines.feed(data[start:end])
        elif len(self._part.text) < 1024:
            self._part.text.extend(data[start:end])

    def _end(self) -> None:
        if self._part.name != "file":
            self._fields[self._part.name] = self._part.text.decode(errors="replace").strip()

    def _finish(self) -> None:
        self._ended = True
