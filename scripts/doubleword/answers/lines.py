"""One line of an output or error file: whose it is, whether it is an answer, and why not.

Promises: a line is an answer when it holds a message, however little of one, that did not end in a failure; every
other line is a failure with a cause in one sentence. No files, no network.

Shapes: control-layer `core/batch/mod.rs` (output and error lines), `core/request/types.rs` (FailureReason,
which stands JSON-encoded in `error.message`); OpenAI puts failed requests as status >= 400 into `response`.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from doubleword.answers.choices import FAILED, choices, likely, listed_choices, told
from doubleword.answers.json_text import Number, written
from doubleword.answers.vectors import FLOAT32, Form, by_index, vectors
from doubleword.failure import plain
from doubleword.quick_msgspec import Decoder, decode
from doubleword.service import EMBEDDINGS


class Line(NamedTuple):
    """`id` is the request's id on the server, `cause` None for an answer and a sentence for a failure.

    `body` is what the server answered with, where that is an object.
    """

    id: str
    custom_id: str
    cause: str | None
    body: dict[str, Any] | None = None

    @property
    def is_charged(self) -> bool:
        """Whether it may be charged, as all is but errors."""
        return not re.match("HTTP |the answer is an error", self.cause or "")


# What a line has where an object may stand in the place of a text, whose numbers are shown.
_SHOWN = (b'"arguments"', b'"input"', b'"content":{', b'"content": {')
_decode_digits = Decoder(float_hook=Number.of).decode


def parse(raw: bytes) -> dict[str, Any] | None:
    """The object of one line, or None. Lone surrogates, NaN and raw control characters inside strings are let through.

    Integers of any size stay what they are; other numbers know their digits (`json_text.Number`) where they may be
    shown. Vectors and log probabilities, which are many, are plain floats.
    """
    exact = any(name in raw for name in _SHOWN) and b'"embedding"' not in raw
    try:
        value = _decode_digits(raw) if exact else decode(raw)
    except (ValueError, RecursionError):
        try:
            value = json.loads(raw, strict=False, parse_float=Number.of if exact else float, parse_int=_integer)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, dict) else None


def _integer(digits: str) -> int | Number:
    """An integer of any length; Python reads no more than 4,300 digits of one."""
    return int(digits) if len(digits) <= 4000 else Number.of(digits)


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
    try:
        cause = _cause(value, endpoint)
    except RecursionError:
        cause = "the answer is nested too deep to be read"
    return Line(str(value.get("id") or ""), custom_id, cause, body if isinstance(body, dict) else None)


def _cause(value: dict[str, Any], endpoint: str) -> str | None:
    error, response = value.get("error"), value.get("response")
    if _is_said(error):
        return error_cause(error)
    if not isinstance(response, dict):
        return "the server gave neither an answer nor an error"
    status, body = response.get("status_code"), response.get("body")
    if isinstance(status, int) and status >= 400:
        return f"HTTP {status}: {_text_of(body)}"
    if not isinstance(body, dict):
        return "the answer is text, not the JSON object of this endpoint"
    if _is_said(body.get("error")):
        return f"the answer is an error: {_error_text(body['error'])}"
    if endpoint == EMBEDDINGS:
        data = body.get("data")
        return None if isinstance(data, list) and data else _shapeless(body, endpoint)
    found = choices(body)
    if found is None:
        return _shapeless(body, endpoint)
    return next((why for one in found if (why := _failed_ending(one.ending, one.error)) is not None), None)


def _is_said(error: Any) -> bool:
    """Whether there is an error; some servers write an empty one beside every answer."""
    every = error.values() if isinstance(error, dict) else (error,)
    return any(one and str(one).strip() for one in every)


def _shapeless(body: Mapping[str, Any], endpoint: str) -> str:
    """Why what is no answer is none, in its own words where it has some: vLLM's errors of old, FastAPI's `detail`."""
    told = body.get("message") or body.get("detail")
    if isinstance(told, (str, list)) and _is_said(told):
        return f"the answer is an error: {_error_text(body)}"
    return f"the answer has not the shape of {endpoint}"


def _failed_ending(word: str | None, error: Any) -> str | None:
    """Why a choice failed, by what the server says of it or by the word of its ending; None where it did not."""
    if _is_said(error):
        return _error_text(error)
    failed = word is not None and likely(word) == FAILED
    return f"the answer ended with {plain(word, 60)}" if failed else None


def _error_text(error: Any) -> str:
    """What an error inside an answer says, with its status where that says that something has to be mended first."""
    code = str(error.get("code")) if isinstance(error, dict) else ""
    return f"HTTP {code}: {_text_of(error)}" if re.fullmatch("4[0-9][0-9]", code) else _text_of(error)


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
        names = ("message", "detail", "code", "type")
        return _text_of(error or next((value[name] for name in names if value.get(name)), None))
    return (plain(value, 160) if value else "") or "no explanation was given"


# What an answer shows


def answer_text(body: Mapping[str, Any], endpoint: str, form: Form = FLOAT32) -> str:
    """The answer in one cell: its text, or its vector as JSON; a JSON list where a request asked for several."""
    if endpoint == EMBEDDINGS:
        found = vectors(body, form)
        return written(found[0] if len(found) == 1 else found) if any(found) else ""
    return one_text(answer_texts(body))


def one_text(texts: Sequence[str]) -> str:
    """The texts of all choices in one cell: the only one, or a JSON list of them."""
    return texts[0] if len(texts) == 1 else written(texts)


def answer_texts(body: Mapping[str, Any]) -> list[str]:
    """The text of each choice, as `Choice.shown`."""
    return [one.shown for one in choices(body) or ()]


def finish_reason(body: Mapping[str, Any]) -> str:
    """Why the first choice ended, in the server's word, or the status of a response; empty where it does not say."""
    listed = listed_choices(body)
    if listed:
        first = by_index(listed)[0]
        word = first.get("finish_reason") if isinstance(first, dict) else None
    else:
        word = body.get("stop_reason") or body.get("status")
    return _shown_word(told(word) or "")


@functools.lru_cache(maxsize=64)
def _shown_word(word: str) -> str:
    return plain(word, 40)
