"""The state of a partition: who holds it, whether it was begun, what became of it.

Promises: of two that take a partition at one time, one gets it; a holder is taken for dead where the lock that its
process held is free on this very machine, or where it gave no sign for `LEASE_S` by the clock of whoever waits; who
lost a claim writes nothing any more.

A holder that was stopped for longer than that, and goes on, may do what another does too, until it looks at its claim:
before each paid call and before its part is written.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from doubleword.dataset.places import Place
from doubleword.failure import Exit, Failure, plain
from doubleword.quick_msgspec import MsgspecError, Struct, decode, encode, replace
from doubleword.system import System

BEAT_S = 20.0
LEASE_S = 90.0
LOOK_S = 5.0
HINT = "run the same command again when the other run has ended"


class State(Struct, frozen=True):
    """What is known of a partition. `holder` is who works on it, None for nobody, and `beat` counts its signs of life.

    `begun` says that something of it may be on the server. `ceiling_usd` is the most that its job can cost, once that
    exists. `record` is what became of it, in the end.
    """

    holder: str | None
    beat: int
    begun: bool
    ceiling_usd: float | None
    record: dict[str, Any] | None


UNTOUCHED = State(None, 0, False, None, None)


def state_path(part: str) -> str:
    """Where the state of a part is."""
    return f"_state/{part}.json"


def read_state(place: Place, part: str) -> State | None:
    """The state of a part; None where nobody ever took it."""
    found = place.read(state_path(part))
    return _state(found.content, part) if found is not None else None


def _state(content: bytes, part: str) -> State:
    try:
        return decode(content, type=State)
    except MsgspecError:
        message = f"the state of {plain(part, 120)} is damaged; nothing was sent for it"
        hint = f"remove {state_path(plain(part, 120))} in the output: what it asked is found on the server"
        raise Failure(Exit.BAD_INPUT, "state_damaged", message, hint) from None


class Claim:
    """A partition that this process holds, in a `state`."""

    def __init__(self, place: Place, part: str, system: System) -> None:
        self._place = place
        self._part = part
        self._system = system
        self._token = system.new_key()
        self._lost = False
        self._tag = ""
        self._saving = system.lock()
        self.state = UNTOUCHED

    def take(self) -> None:
        """Take the partition; raises Failure (7, `part_busy`) where another one holds it and lives."""
        path = state_path(self._part)
        watched: State | None = None
        ends = 0.0
        while True:
            found, now = self._place.read(path), self._system.monotonic()
            state = _state(found.content, self._part) if found is not None else UNTOUCHED
            if state.holder is None or _is_dead(state.holder, self._system) or (state == watched and now >= ends):
                held = replace(state, holder=self._token, beat=0)
                content, tag = encode(held), found.tag if found is not None else None
                if self._place.create(path, content) if tag is None else self._place.replace(path, content, tag):
                    self.state = held
                    return self._note_tag()
                continue
            if watched is None:
                watched, ends = state, now + LEASE_S
            elif state != watched:
                message = f"another run is working on {plain(self._part, 120)}"
                raise Failure(Exit.NOT_FINISHED, "part_busy", message, HINT)
            self._system.sleep(LOOK_S)

    def save(self, **changes: Any) -> None:
        """Change the state; raises Failure (7) where the claim was lost."""
        with self._saving:
            state = replace(self.state, **changes)
            if self._lost or not self._place.replace(state_path(self._part), encode(state), self._tag):
                self._lost = True
                message = f"another run took {plain(self._part, 120)} over, as this one gave no sign for long"
                raise Failure(Exit.NOT_FINISHED, "part_busy", message, HINT)
            self.state = state
            self._note_tag()

    def confirm(self) -> None:
        """Raise Failure (7) where the claim is not held any more, as the place itself says."""
        self.save(beat=self.state.beat + 1)

    def beat(self) -> bool:
        """Give a sign of life; False once there is no claim any more."""
        with contextlib.suppress(Failure, OSError):  # a place that is away for a moment takes the next one
            self.confirm()
        return not self._lost

    def _note_tag(self) -> None:
        found = self._place.read(state_path(self._part))
        if found is None or _state(found.content, self._part).holder not in (self._token, None):
            self._lost = True
        else:
            self._tag = found.tag


@contextlib.contextmanager
def claimed(place: Place, part: str, system: System) -> Iterator[Claim]:
    """Hold a partition for as long as the `with` block lasts, and give it back; raises Failure (7) as `Claim.take`."""
    claim = Claim(place, part, system)
    with system.disk.lock(_lock(claim._token)):
        claim.take()
        try:
            with system.every(BEAT_S, claim.beat):
                yield claim
        finally:
            with contextlib.suppress(Failure, OSError):
                claim.save(holder=None)


def _lock(token: str) -> Path:
    """The lock of a holder. Its name is drawn, so only on the holder's own machine such a file can stand."""
    return Path(tempfile.gettempdir()) / f"doubleword-{token}.lock"


def _is_dead(token: str, system: System) -> bool:
    """Whether the process of a holder surely is gone: its lock is here, and free."""
    lock = _lock(token)
    if not token.isalnum() or system.disk.size(lock) is None:
        return False
    try:
        with system.disk.lock(lock):
            return True
    except BlockingIOError:
        return False
