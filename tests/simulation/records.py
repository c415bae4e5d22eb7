"""What a server keeps: files, batches and rows, each with what becomes of it and when."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

NEVER = float("inf")
TERMINAL = ("completed", "failed", "expired", "cancelled")


class Request(NamedTuple):
    """One HTTP request as it reaches the server; `path` without the base URL's."""

    method: str
    path: str
    query: str
    content_type: str
    body: bytes


class Reply(NamedTuple):
    """One HTTP answer; `rows` says that the body is lines of a file."""

    status: int
    body: bytes
    content_type: str = "application/json"
    rows: bool = False


class Step(NamedTuple):
    """What a row is from `time` on. `stamp` orders it in its file, where it is seen from `shown` on."""

    time: float
    kind: str
    stamp: float = 0.0
    shown: float = 0.0
    line: bytes = b""
    usable: bool = False


class Row:
    """One request of a batch, and its steps in order of time. Rows with equal `asks` ask the same."""

    def __init__(self, custom_id: str, identifier: str, created: float, asks: str = "") -> None:
        self.custom_id = custom_id
        self.asks = asks or custom_id
        self.id = identifier
        self.steps = [Step(created, "pending")]

    def at(self, time: float) -> Step:
        """The step that holds at `time`."""
        return next((step for step in reversed(self.steps) if step.time <= time), self.steps[0])

    def change(self, time: float, *steps: Step) -> None:
        """Forget what was to happen after `time`; lay down `steps` instead."""
        self.steps = [step for step in self.steps if step.time <= time] + list(steps)


@dataclass
class File:
    """An uploaded file, or the noise of other users; `lines` are its requests as they were sent."""

    id: str
    filename: str
    size: int
    created: float
    lines: list[bytes]
    deleted: float = NEVER


@dataclass
class Batch:
    """One batch. `marks` are (time, what, end) of each cancel and retry, `late` counts results that came after one."""

    id: str
    file: File
    endpoint: str
    window: str
    metadata: dict[str, str]
    created: float
    populated: float
    broken: bool
    rows: list[Row]
    marks: list[tuple[float, str, float]] = field(default_factory=list)
    late: int = 0

    @property
    def expires(self) -> float:
        return self.created + (3600.0 if self.window == "1h" else 86_400.0)


class View(NamedTuple):
    """A batch as of one moment; `ended` is when it came to its end."""

    status: str
    ended: float | None
    steps: list[Step]

    def count(self, *kinds: str) -> int:
        """Rows of these kinds."""
        return sum(1 for step in self.steps if step.kind in kinds)
