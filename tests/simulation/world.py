"""What a seed decides: the time, what fails, and when a process dies. Everything that happens is on record."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tests.simulation.turns import TurnLock, Turns

from doubleword.system import System

if TYPE_CHECKING:
    from requests.adapters import BaseAdapter
    from tests.simulation.disk import SimulatedDisk

# What may happen at any step of a process: a call, a write, an fsync, a rename, a sleep.
STEP_FAULTS = (
    "kill",
    "power cut",
    "Ctrl-C",
    "second session",
    "clock step",
    "machine asleep",
    "batch file edited",
    "retried by others",
)
# What may happen to any call; "after" means that the server did what was asked.
CALL_FAULTS = (
    "connection refused",
    "DNS failure",
    "connect timeout",
    "reset before",
    "reset after",
    "timeout before",
    "timeout after",
    "5xx before",
    "5xx after",
    "HTML page",
    "429",
    "redirect",
    "reply cut",
    "reply stalls",
    "reply drips",
    "reply reset",
)
# A request that is still on its way behind a gateway when the client has its answer, or is dead.
POST_FAULTS = ("late after timeout", "late after 5xx", "late after kill", "request cut")
CONTENT_FAULTS = ("rows twice", "place ignored")
DISK_FAULTS = ("disk full", "disk broken", "read-only")
CONDITIONS = ("replica lag", "late rows", "balance below zero", "key refused", "input file deleted", "cancelled")
STEPS_OF_ONE_COMMAND = 5_000


class Killed(BaseException):
    """The process is dead; nothing that it still seems to do has an effect."""


class Finding(BaseException):
    """A promise of the client was broken."""


class Session:
    """One run of one command."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead = False
        self.over = False
        self.steps = 0
        self.calls = 0
        self.turns: Turns | None = None


class World:
    """One seed's course of events. `quiet` ends all faults, for the part where the client must reach its end."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.chance = random.Random(seed)
        self.time = 1_800_000_000.0 + self.chance.random() * 1e7
        self.quiet = False
        self.sessions: list[Session] = []
        self.fired: Counter[str] = Counter()
        self.reached: Counter[str] = Counter()
        self.trace: list[tuple[float, int, str, tuple[Any, ...]]] = []
        self.second_session: Callable[[], None] = lambda: None
        self.edit_batch_file: Callable[[], None] = lambda: None
        self.retry_by_others: Callable[[], None] = lambda: None
        self.disk: SimulatedDisk | None = None
        self._asleep = 0.0
        dice = self.chance
        self._wall = dice.choice((0.0, 0.0, 0.0, -900_000.0, 900_000.0))  # some clocks are days off
        # Each seed enables some kinds of faults only: rare combinations come together more often that way.
        share = dice.choice((0.0, 0.15, 0.4, 1.0))
        every = (*STEP_FAULTS, *CALL_FAULTS, *POST_FAULTS, *DISK_FAULTS, *CONDITIONS)
        self.enabled = frozenset((*CONTENT_FAULTS, *(kind for kind in every if dice.random() < share)))
        self.rates = {
            "step": dice.choice((0.0, 0.003, 0.01, 0.04)),
            "call": dice.choice((0.0, 0.03, 0.1, 0.3, 0.6)),
            "post": dice.choice((0.0, 0.1, 0.3, 0.6)),
            "content": dice.choice((0.0, 0.3, 0.8)),
            "disk": dice.choice((0.0, 0.01, 0.05)),
        }

    @property
    def session(self) -> Session:
        """The command that runs now; of two, the inner one."""
        return self.sessions[-1]

    def note(self, text: str, *values: Any) -> None:
        """Put a line on record; `values` are formatted only when the record is printed."""
        self.trace.append((self.time, len(self.sessions), text, values))

    def finding(self, text: str) -> Finding:
        """A broken promise, on record; to be raised."""
        self.note("FINDING %s", text)
        return Finding(text)

    def reach(self, state: str) -> None:
        """Count a state that was reached."""
        self.reached[state] += 1

    def fault(self, place: str, kinds: Sequence[str]) -> str | None:
        """Which of `kinds` happens now, if any."""
        rate = self.rates[place]
        if self.quiet or not rate or self.chance.random() >= rate:
            return None
        possible = [kind for kind in kinds if kind in self.enabled]
        if not possible:
            return None
        kind = self.chance.choice(possible)
        self.fired[kind] += 1
        self.note("! %s", kind)
        return kind

    def condition(self, kind: str, probability: float) -> bool:
        """Whether something that lasts, or that others do to the account, happens now."""
        if self.quiet or kind not in self.enabled or self.chance.random() >= probability:
            return False
        self.fired[kind] += 1
        return True

    def step(self, what: str) -> None:
        """Something the process does; it may die here, be interrupted, or not be alone."""
        session = self.session
        if session.dead:
            raise Killed
        session.steps += 1
        if session.steps > STEPS_OF_ONE_COMMAND:
            raise self.finding(f"{session.name} does not end: {STEPS_OF_ONE_COMMAND} steps")
        if session.turns is not None:
            session.turns.step()
            if session.dead:
                raise Killed
        kind = self.fault("step", STEP_FAULTS)
        if kind is None:
            return
        self.note("  at %s", what)
        if kind == "kill":
            self.kill()
        elif kind == "power cut":
            self.cut_power()
        elif kind == "Ctrl-C":
            raise KeyboardInterrupt
        elif kind == "second session":
            if len(self.sessions) == 1:
                self.second_session()
                if session.dead:
                    raise Killed
        elif kind == "clock step":
            self._wall += self.chance.choice((-86_400.0, -3_600.0, -30.0, 30.0, 3_600.0, 86_400.0))
        elif kind == "machine asleep":
            slept = self.chance.uniform(60.0, 40_000.0)
            self.time += slept
            self._asleep += slept
        elif kind == "batch file edited":
            self.edit_batch_file()
        elif kind == "retried by others":
            self.retry_by_others()

    def kill(self) -> None:
        """End the running process as SIGKILL does."""
        self.session.dead = True
        raise Killed

    def cut_power(self) -> None:
        """End every process, and lose what was not synced."""
        for session in self.sessions:
            session.dead = True
        if self.disk is not None:
            self.disk.lose_power()
        raise Killed

    def lag(self) -> float:
        """How many seconds behind a read replica is now; 8 at most."""
        return self.chance.uniform(0.0, 8.0) if self.condition("replica lag", 0.3) else 0.0

    def now(self) -> float:
        """What the wall clock of the client's machine shows."""
        return self.time + self._wall

    def set_clock(self, ahead: float) -> None:
        """Let the wall clock of the client's machine be so many seconds ahead of the true time."""
        self._wall = ahead

    def monotonic(self) -> float:
        """A clock that stands still while the machine is asleep."""
        return self.time - self._asleep


class SimulatedSystem(System):
    """Clock, sleep, randomness, network and disk of a `World`."""

    def __init__(self, world: World, disk: SimulatedDisk, network: BaseAdapter) -> None:
        super().__init__(disk)
        self._world = world
        self._network = network

    def now(self) -> float:
        return self._world.now()

    def monotonic(self) -> float:
        return self._world.monotonic()

    def sleep(self, seconds: float) -> None:
        self._world.note("sleep %.1f s", seconds)
        self._world.step("sleep")
        self._world.time += max(0.0, seconds) + 0.001

    def random(self) -> float:
        return self._world.chance.random()

    def new_key(self) -> str:
        return f"{self._world.chance.getrandbits(128):032x}"

    def lock(self) -> TurnLock:
        session = self._world.session
        return TurnLock(lambda: session.turns)

    def together(self, works: Sequence[Callable[[], None]], at_once: int) -> None:
        session = self._world.session
        if len(works) < 2:
            super().together(works, 1)
            return
        session.turns = Turns(works, at_once, self._world.chance)
        try:
            session.turns.run()
        finally:
            session.turns = None

    def adapter(self) -> BaseAdapter:
        return self._network
