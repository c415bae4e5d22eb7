"""What became of one request."""

from __future__ import annotations

from typing import Any, NamedTuple

from doubleword.results import judgement
from doubleword.results.usual import Usual


class Result(NamedTuple):
    """One request's end. `line` is the server's own line, without newline; None when there is none.

    `kind` is succeeded, failed, missing (the batch is over and has no row), or pending (it may still come). An
    answer may have `flaws` (`judgement.FLAWS`); one that is invalid has failed, and its `cause` says why. `body`, or
    `usual`, is the answer where it was just read. `packed` takes the place of the line where that is not needed any
    more.
    """

    custom_id: str
    kind: str
    line: bytes | None
    cause: str | None
    endpoint: str
    flaws: tuple[str, ...] = ()
    body: dict[str, Any] | None = None
    usual: Usual | None = None
    packed: bytes | None = None

    @property
    def status(self) -> str:
        """`kind`, but invalid for an answer that failed only because it is not what was asked for."""
        return judgement.INVALID if judgement.INVALID in self.flaws else self.kind
