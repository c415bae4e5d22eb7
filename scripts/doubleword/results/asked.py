"""What was asked, and by which batches: all that a look at a job tells, before any result is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from doubleword.server.objects import Batch


@dataclass(frozen=True)
class Asked:
    """The requests of one batch file: where their ids can be read, how many, and the batches that answer them.

    `path` is the local batch file, None when only the server may still have it. Batches stand oldest first.
    """

    path: Path | None
    requests: int | None
    endpoint: str
    batches: tuple[Batch, ...]
