"""What became of one request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from doubleword.answers import judgement
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
