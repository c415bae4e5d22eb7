"""A system whose clock only moves when somebody sleeps, so that hours pass in no time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from doubleword.system import Disk, System


class Clocked(System):
    """`slept` holds every pause asked for, in seconds; `random` always gives `dice`."""

    def __init__(self, disk: Disk | None = None, dice: float = 0.5) -> None:
        super().__init__(disk)
        self.time = 1_800_000_000.0
        self.slept: list[float] = []
        self.dice = dice

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time - 1_700_000_000.0

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += max(0.0, seconds)

    def together(self, works: Sequence[Callable[[], None]], at_once: int) -> None:
        """One after the other, so that a run is always the same."""
        super().together(works, 1)

    def random(self) -> float:
        return self.dice
