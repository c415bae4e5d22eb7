"""What became of one request, and the lines in which files tell it."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from doubleword.answers import judgement
from doubleword.answers import lines as result_lines
from doubleword.answers.json_text import written
from doubleword.answers.vectors import FLOAT32, Form


class Result(NamedTuple):
    """One request's end. `line` is the server's own line, without newline; None when there is none.

    `kind` is succeeded, failed, missing (the batch is over and has no row), or pending (it may still come). An
    answer may have `flaws` (`judgement.FLAWS`); one that is invalid has failed, and its `cause` says why. `body` is
    the answer where it was just read, `texts` the text of each of its choices as it was taken, `form` that of its
    vectors. `packed` takes the place of the line where that is not needed any more.
    """

    custom_id: str
    kind: str
    line: bytes | None
    cause: str | None
    endpoint: str
    flaws: tuple[str, ...] = ()
    body: dict[str, Any] | None = None
    texts: tuple[str, ...] = ()
    form: Form = FLOAT32
    packed: bytes | None = None

    @property
    def status(self) -> str:
        """`kind`, but invalid for an answer that failed only because it is not what was asked for."""
        return judgement.INVALID if judgement.INVALID in self.flaws else self.kind


class Good(NamedTuple):
    """Requests in a row whose answers have no flaw, and what is kept of each: its line, or what was packed of it.

    What was packed is followed by a newline and the line where that is remembered.
    """

    custom_ids: Sequence[str]
    kept: Sequence[bytes]
    endpoint: str
    packed: bool

    def results(self) -> Iterator[Result]:
        """The result of each."""
        for custom_id, kept in zip(self.custom_ids, self.kept, strict=True):
            packed, _, line = kept.partition(b"\n") if self.packed else (None, b"", kept)
            yield Result(custom_id, "succeeded", line or None, None, self.endpoint, packed=packed)


class Entry(NamedTuple):
    """What one batch said of a request, for the history."""

    batch: str
    result: Result


def error_line(result: Result) -> bytes:
    """The line of a failed or missing request for the errors file: the server's own, or one in the same form.

    An invalid answer was paid for, so its line stands there whole, with the error added that it is.
    """
    value = result_lines.parse(result.line) if result.line is not None else None
    if judgement.INVALID in result.flaws and value is not None:
        return written({**value, "error": {"code": "invalid_answer", "message": result.cause}}).encode()
    if result.line is not None and value is not None:
        return result.line
    error = {"code": result.kind, "message": result.cause}
    return json.dumps({"id": None, "custom_id": result.custom_id, "response": None, "error": error}).encode()


def line_for(line: bytes, custom_id: str) -> bytes:
    """The server's line of a request as the line of a row that it answers; as it is where they have one id."""
    decode, encode, error = _raw_codec()
    try:
        parts = decode(line)
        own = encode(custom_id)
        return line if bytes(parts["custom_id"]) == own else encode({**parts, "custom_id": custom_id})
    except (error, KeyError, UnicodeError, RecursionError):
        value = result_lines.parse(line)  # with half of a surrogate pair, say, which stays as it is
        if value is None or value.get("custom_id") == custom_id:
            return line
        return json.dumps({**value, "custom_id": custom_id}).encode()


@functools.cache
def _raw_codec() -> tuple[Callable[[bytes], dict[str, Any]], Callable[[Any], bytes], type[Exception]]:
    from doubleword import json_codec

    return json_codec.Decoder(dict[str, json_codec.Raw]).decode, json_codec.Encoder().encode, json_codec.MsgspecError


def history_line(custom_id: str, entry: Entry, attempt: int | None, change: dict[str, Any] | None) -> bytes:
    """The line for one attempt at a request, of which the job says what number it had and what it changed."""
    line = entry.result.line
    said = {
        "custom_id": custom_id,
        "attempt": attempt,
        "batch": entry.batch or None,
        "kind": entry.result.status,
        "flaws": entry.result.flaws,
        "cause": entry.result.cause,
        "change": change,
        "line": None if line is None else result_lines.parse(line) or line.decode("utf-8", "replace"),
    }
    return written(said).encode()
