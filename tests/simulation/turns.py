"""The works that a command does at once, of which one runs at a time; the seed says which, at every step.

They are threads, so that the client's code is the real one; but each waits for its turn, so that a seed is always the
same life.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from types import TracebackType

SWITCHES = 0.3  # how often another has its turn after a step


class Turns:
    """The turns of some works, which begin in their order, `at_once` of them."""

    def __init__(self, works: Sequence[Callable[[], None]], at_once: int, chance: random.Random) -> None:
        self._works = list(enumerate(works))
        self._chance = chance
        self._raised: dict[int, BaseException] = {}
        self._calls = [threading.Event() for _ in range(min(at_once, len(works)))]
        self._running: list[int] = []
        self._at = 0
        self._over = threading.Event()

    def run(self) -> None:
        """Do all of them, or none further once one has raised; then raise what the first in order did."""
        threads = [threading.Thread(target=self._go_on, args=(number,)) for number in range(len(self._calls))]
        self._running = list(range(len(threads)))
        for thread in threads:
            thread.start()
        self._calls[0].set()
        self._over.wait()
        for thread in threads:
            thread.join()
        if self._raised:
            raise self._raised[min(self._raised)]

    def step(self) -> None:
        """Let another have its turn, now and then."""
        if len(self._running) > 1 and self._chance.random() < SWITCHES:
            self.switch()

    def switch(self) -> None:
        """Let another have its turn, if there is one."""
        me, others = self._at, [number for number in self._running if number != self._at]
        if others:
            self._hand_over(self._chance.choice(others))
            self._calls[me].wait()
            self._calls[me].clear()

    def _hand_over(self, number: int) -> None:
        self._at = number
        self._calls[number].set()

    def _go_on(self, number: int) -> None:
        self._calls[number].wait()
        self._calls[number].clear()
        while self._works and not self._raised:
            place, work = self._works.pop(0)
            try:
                work()
            except BaseException as error:  # raised again in the thread that waits
                self._raised[place] = error
        self._running.remove(number)
        if self._running:
            self._hand_over(self._chance.choice(self._running))
        else:
            self._over.set()


class TurnLock:
    """A lock between works: whoever wants it while another holds it lets others have their turns."""

    def __init__(self, turns: Callable[[], Turns | None]) -> None:
        self._turns = turns
        self._holder: int | None = None
        self._depth = 0

    def __enter__(self) -> None:
        while self._holder not in (None, threading.get_ident()):
            turns = self._turns()
            assert turns is not None, "a lock is held by a work that is over"
            turns.switch()
        self._holder = threading.get_ident()
        self._depth += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._depth -= 1
        if not self._depth:
            self._holder = None
