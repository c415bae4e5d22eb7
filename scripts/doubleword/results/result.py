"""What became of one request, and the lines in which files tell it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from doubleword.answers import judgement
from doubleword.answers import lines as result_lines
from doubleword.answers.json_text import written
from doubleword.answers.usual import UsualLine
from doubleword.answers.vectors import FLOAT32, Form
from doubleword.quick_msgspec import Decoder, MsgspecError, Raw, encode

REUSED_FROM = "reused_from"  # where a line says which job and custom_id its answer was taken over from


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

    def answer(self) -> dict[str, Any] | None:
        """The body of an answer, be it only an invalid one; None where there is none."""
        if self.line is None or (self.kind != "succeeded" and self.status != judgement.INVALID):
            return None
        body: dict[str, Any] = self.body or (result_lines.parse(self.line) or {})["response"]["body"]
        return body

    def results(self) -> Iterator[Result]:
        """Itself, as `Good.results` gives many."""
        yield self

    def packed_by(self, pack: Pack) -> Sequence[bytes]:
        """What `pack` keeps of it."""
        return [pack.pack(self) if self.packed is None else self.packed]


class Pack(Protocol):
    """What keeps less of an answer than its line: as many bytes as its table needs when the answer's turn comes."""

    def pack(self, result: Result, /) -> bytes:
        """What is kept of any answer."""

    def pack_usual(self, answer: UsualLine, /) -> bytes:
        """The same of a usual one."""


class Good(NamedTuple):
    """Requests in a row whose answers have no flaw, and what is kept of each: its line, or what was packed of it.

    What was packed is followed by a newline and the line where that is remembered. `form` is that of all their vectors.
    """

    custom_ids: Sequence[str]
    kept: Sequence[bytes]
    endpoint: str
    packed: bool
    form: Form = FLOAT32

    def results(self) -> Iterator[Result]:
        """The result of each."""
        for custom_id, kept in zip(self.custom_ids, self.kept, strict=True):
            packed, _, line = kept.partition(b"\n") if self.packed else (None, b"", kept)
            yield Result(custom_id, "succeeded", line or None, None, self.endpoint, form=self.form, packed=packed)

    def packed_by(self, pack: Pack) -> Sequence[bytes]:
        """What `pack` keeps of each."""
        return self.kept if self.packed else [pack.pack(one) for one in self.results()]


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
    return _with(line, "custom_id", custom_id)


def line_from(line: bytes, origin: str) -> bytes:
    """The server's line of another job, with its origin."""
    return _with(line, REUSED_FROM, origin)


def origin_of(line: bytes) -> str | None:
    """The origin that a line has; None where it has none."""
    value = result_lines.parse(line) if f'"{REUSED_FROM}"'.encode() in line else None
    origin = value.get(REUSED_FROM) if value is not None else None
    return origin if isinstance(origin, str) else None


_decode_parts = Decoder(dict[str, Raw]).decode


def _with(line: bytes, name: str, value: str) -> bytes:
    """A line with a text under a name; as it is where that is there."""
    try:
        parts = _decode_parts(line)
        own = encode(value)
        return line if bytes(parts.get(name, b"")) == own else encode({**parts, name: value})
    except (MsgspecError, UnicodeError, RecursionError):
        whole = result_lines.parse(line)  # with half of a surrogate pair, say, which stays as it is
        if whole is None or whole.get(name) == value:
            return line
        return json.dumps({**whole, name: value}).encode()


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
