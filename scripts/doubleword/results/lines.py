"""One line of an output or error file: whose it is, whether it is an answer, and why not.

Promises: a line is an answer only when it has the shape that its endpoint's users rely on; every other line
is a failure with a cause in one sentence. No files, no network.

Shapes: control-layer `core/batch/mod.rs` (output and error lines), `core/request/types.rs` (FailureReason,
which stands JSON-encoded in `error.message`); OpenAI puts failed requests as status >= 400 into `response`.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from doubleword.failure import plain


class Line(NamedTuple):
    """`id` is the request's id on the server, `cause` None for an answer and a sentence for a failure.

    `body` is what the server answered with, where that is an object.
    """

    id: str
    custom_id: str
    cause: str | None
    body: dict[str, Any] | None = None


def parse(raw: bytes) -> dict[str, Any] | None:
    """The object of one line, or None. Lone surrogates and raw control characters inside strings are let through."""
    try:
        value = _loads()(raw)
    except ValueError:
        try:
            value = json.loads(raw, strict=False)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, dict) else None


@functools.cache
def _loads() -> Callable[[bytes], Any]:
    try:
        import orjson
    except ImportError:
        return functools.partial(json.loads, strict=False)
    return orjson.loads


def judge(raw: bytes, endpoint: str) -> Line | None:
    """What a line says; None when it does not even say whose answer it is."""
    return judge_read(raw, parse(raw), endpoint)


def judge_read(raw: bytes, value: dict[str, Any] | None, endpoint: str) -> Line | None:
    """As `judge`, of a line whose object, or None, is `value`."""
    if value is None:
        # Too deep or broken for a parser; the request it belongs to can still be told, so it is not lost.
        match = re.search(rb'"custom_id"\s*:\s*"([\x20-\x21\x23-\x5b\x5d-\x7e]{1,64})"', raw[:4096])
        return Line("", match.group(1).decode(), "the answer's line cannot be read as JSON") if match else None
    custom_id = value.get("custom_id")
    if not isinstance(custom_id, str):
        return None
    response = value.get("response")
    body = response.get("body") if isinstance(response, dict) else None
    cause = _cause(value, endpoint)
    return Line(str(value.get("id") or ""), custom_id, cause, body if isinstance(body, dict) else None)


def _cause(value: dict[str, Any], endpoint: str) -> str | None:
    error, response = value.get("error"), value.get("response")
    if error:
        return error_cause(error)
    if not isinstance(response, dict):
        return "the server gave neither an answer nor an error"
    status, body = response.get("status_code"), response.get("body")
    if isinstance(status, int) and status >= 400:
        return f"HTTP {status}: {_text_of(body)}"
    if not isinstance(body, dict):
        return "the answer is text, not the JSON object of this endpoint"
    if isinstance(body.get("error"), dict):
        return f"the answer is an error: {_text_of(body)}"
    return None if _has_shape(body, endpoint) else f"the answer has not the shape of {endpoint}"


def _has_shape(body: dict[str, Any], endpoint: str) -> bool:
    if endpoint == "/v1/embeddings":
        data = body.get("data")
        return isinstance(data, list) and bool(data) and all(map(_is_embedding, data))
    if endpoint == "/v1/responses":
        return isinstance(body.get("output"), list)
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return False
    if endpoint == "/v1/chat/completions":
        message = choices[0].get("message")
        return isinstance(message, dict) and ("content" in message or "tool_calls" in message)
    return endpoint != "/v1/completions" or "text" in choices[0]


def _is_embedding(item: Any) -> bool:
    """Whether an item of `data` holds a vector: numbers, or float32 in base64 (`encoding_format`)."""
    vector = item.get("embedding") if isinstance(item, dict) else None
    if isinstance(vector, list):
        return set(map(type, vector)) <= {float, int}
    return isinstance(vector, str)


def error_cause(error: Any) -> str:
    """The sentence in an error line: FailureReason JSON inside `message`, itself often around upstream JSON."""
    message = error.get("message") if isinstance(error, dict) else error
    reason = _decoded(message)
    if isinstance(reason, dict) and isinstance(reason.get("type"), str):
        details = reason.get("details")
        details = details if isinstance(details, dict) else {}
        if "status" in details:
            return f"HTTP {plain(details['status'], 10)}: {_text_of(_decoded(details.get('body')))}"
        return f"{plain(reason['type'], 60)}: {_text_of(details.get('error') or 'no more is known')}"
    code = error.get("code") if isinstance(error, dict) else None
    return f"{plain(code, 60)}: {_text_of(reason)}" if code else _text_of(reason)


def _decoded(value: Any) -> Any:
    """JSON inside a string, else the value itself."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _text_of(value: Any) -> str:
    if isinstance(value, dict):
        error = value.get("error")
        if isinstance(error, dict):
            return _text_of(error.get("message") or error.get("code"))
        return _text_of(error or value.get("message") or value.get("detail"))
    return plain(value, 160) if value else "no explanation was given"


def answer_text(body: dict[str, Any], endpoint: str) -> str:
    """The answer as text; a JSON list of texts where a request asked for several (`n`), an embedding as JSON."""
    if endpoint == "/v1/embeddings":
        found = vectors(body)
        return json.dumps(found[0] if len(found) == 1 else found)
    texts = answer_texts(body, endpoint)
    return texts[0] if len(texts) == 1 else json.dumps(texts, ensure_ascii=False)


def answer_texts(body: dict[str, Any], endpoint: str) -> list[str]:
    """The text of each choice: what was said, or the refusal; tool calls as `name(arguments)`, one a line."""
    if endpoint == "/v1/responses":
        items = [item for item in body["output"] if isinstance(item, dict)]
        said = [_joined(item.get("content")) for item in items if item.get("type") in (None, "message")]
        called = [item for item in items if item.get("type") in ("function_call", "custom_tool_call")]
        return ["\n".join(filter(None, ["".join(said), *map(_call, called)]))]
    choices = [choice for choice in body["choices"] if isinstance(choice, dict)]
    if endpoint == "/v1/completions":
        return [str(choice.get("text") or "") for choice in choices]
    return [_message_text(choice.get("message")) for choice in choices]


def _message_text(message: Any) -> str:
    if not isinstance(message, dict):
        return ""
    content = message.get("content")
    if type(content) is str and content and not message.get("tool_calls"):
        return content
    said = _joined(content) or str(message.get("refusal") or "")
    return "\n".join(filter(None, [said, *map(_call, calls(message))]))


def calls(message: dict[str, Any]) -> list[Any]:
    """The tool calls of a chat message, the one of the older `function_call` among them."""
    listed = message.get("tool_calls")
    older = message.get("function_call")
    return [*(listed if isinstance(listed, list) else ()), *([{"function": older}] if older else ())]


def _joined(content: Any) -> str:
    """The text of a message's content, which is a text or a list of parts."""
    if isinstance(content, list):
        parts = [part for part in content if isinstance(part, dict)]
        return "".join(str(part.get("text") or part.get("refusal") or "") for part in parts)
    return str(content) if content else ""


def _call(item: Any) -> str:
    """A tool call of either endpoint as `name(arguments)`, or as JSON where it names no tool."""
    for called in (item.get("function"), item.get("custom"), item) if isinstance(item, dict) else ():
        if isinstance(called, dict) and isinstance(called.get("name"), str):
            given = called.get("arguments", called.get("input", ""))
            return f"{called['name']}({given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)})"
    return json.dumps(item, ensure_ascii=False)


def vectors(body: dict[str, Any]) -> list[list[float]]:
    """The vectors of an embeddings answer, those in base64 decoded; an empty one where that does not work."""
    return [_decoded_vector(one["embedding"]) for one in body["data"]]


def _decoded_vector(vector: Any) -> list[float]:
    if isinstance(vector, list):
        return vector
    import array
    import base64
    import sys

    numbers = array.array("f")
    try:
        numbers.frombytes(base64.b64decode(vector, validate=True))
    except ValueError:
        return []
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tolist()


def finish_reason(body: dict[str, Any], endpoint: str) -> str:
    """Why the answer ended: `stop`, `length`, …; the status for /v1/responses; empty for embeddings."""
    if endpoint == "/v1/embeddings":
        return ""
    reason = body.get("status") if endpoint == "/v1/responses" else body["choices"][0].get("finish_reason")
    return _shown(reason) if isinstance(reason, str) else plain(reason or "", 40)


@functools.lru_cache(maxsize=64)
def _shown(reason: str) -> str:
    return plain(reason, 40)


def tokens(body: dict[str, Any]) -> tuple[int | None, int | None]:
    """Prompt and completion tokens of `usage`, under either of their names."""
    usage = body.get("usage")
    usage = usage if isinstance(usage, dict) else {}

    return _count(usage, "prompt_tokens", "input_tokens"), _count(usage, "completion_tokens", "output_tokens")


def _count(usage: dict[str, Any], name: str, other: str) -> int | None:
    for found in (usage.get(name), usage.get(other)):
        if isinstance(found, int) and not isinstance(found, bool) and 0 <= found < 1 << 53:
            return found
    return None
