"""Whole jobs through random faults: after the faults have ended, every request is answered and paid once.

A `Schedule` says which server, which files, which requests fail the first time, what happens to which calls, and
where a run is stopped or its disk fails. `Trial.run` plays it over real HTTP before the engine, checks every run
for honesty while the faults last, lets the faults end, runs the scripts again and checks the end.
"""

from __future__ import annotations

import errno
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

from hypothesis import strategies
from tests.clock import Clocked
from tests.door import Result
from tests.engine_process import RunningEngine, engine_with_upstream
from tests.faults import gate as faults
from tests.faults.gate import Act, Gate, gate_before
from tests.faults.moods import MOODS
from tests.faults.rooms import Desk, Unsynced, batch_count, emptied, finished
from tests.faults.seam import Seam

READ_TIMEOUT_S = 0.2  # while faults last; what is slower is one more fault
EMPTY_AFTER = 4

EVERYWHERE: dict[str, Act] = {
    act.__name__: act
    for act in (
        faults.reset_before,
        faults.closed_unread,
        faults.stalled,
        faults.reply_lost,
        faults.reply_closed,
        faults.reply_stalled,
        faults.reply_cut,
        faults.garbage,
        faults.page_instead,
        faults.half_json,
        faults.gateway(500, acts=False),
        faults.gateway(502, acts=False),
        faults.gateway(503, acts=False, Retry_After="20"),
        faults.gateway(408, acts=False),
        faults.gateway(429, acts=False, body=b'{"message":"x","retry_after_seconds":30}', Retry_After="60"),
        faults.gateway(500, acts=True),
        faults.gateway(502, acts=True),
        faults.gateway(504, acts=True),
    )
}
LAGGING: dict[str, Act] = {"lag 4 s": faults.lag(4), "lag 9 s": faults.lag(9)}
CREATING: dict[str, Act] = {"reset_inside_request": faults.reset_inside_request, "later 5 s": faults.later(5)}
PAYING: dict[str, Act] = {"later 40 s": faults.later(40), "later 80 s": faults.later(80)}
READING: dict[str, Act] = {
    **{
        f"cut at {size}, {frame}": faults.content_cut(size, frame)
        for size in (0, 90, 400)
        for frame in ("chunked", "close")
    },
    "cut in gzip": faults.content_cut(60, compressed=True),
    "quietly empty": faults.quietly_short(lambda _: 0),
    "quietly one line": faults.quietly_short(lambda body: body.find(b"\n") + 1),
    "quietly half, gzip": faults.quietly_short(lambda body: len(body) // 2, compressed=True),
}
KINDS: dict[str, dict[str, Act]] = {
    "upload": {**EVERYWHERE, **CREATING},
    "create": {**EVERYWHERE, **CREATING, **PAYING},
    "retry": {**EVERYWHERE, **CREATING, **PAYING},
    "files": {**EVERYWHERE, **LAGGING},
    "batches": {**EVERYWHERE, **LAGGING},
    "batch": {**EVERYWHERE, **LAGGING},
    "content": {**EVERYWHERE, **READING},
    "any": EVERYWHERE,
}


@dataclass(frozen=True)
class Fault:
    """Calls `nth` to `nth + times - 1` of `route` meet the fault named `kind`."""

    route: str
    kind: str
    nth: int
    times: int


@dataclass(frozen=True)
class Stop:
    """Run number `run` is struck at its event number `at`: by Ctrl-C, or by a disk that is full from there on."""

    run: int
    at: int
    full: bool


@dataclass(frozen=True)
class Schedule:
    """One trial. `sizes` are the requests of each file, `failing` the (file, row) that fail the first time.

    While the faults last, all scripts are run in their order `rounds` times.
    """

    mood: int
    sizes: tuple[int, ...]
    failing: frozenset[tuple[int, int]]
    faults: tuple[Fault, ...]
    stops: tuple[Stop, ...]
    rounds: int


def _fault(route: str) -> strategies.SearchStrategy[Fault]:
    kinds, times = strategies.sampled_from(sorted(KINDS[route])), strategies.sampled_from([1, 1, 1, 2, 6])
    return strategies.builds(Fault, strategies.just(route), kinds, strategies.integers(1, 4), times)


SCHEDULES = strategies.builds(
    Schedule,
    mood=strategies.integers(0, len(MOODS) - 1),
    sizes=strategies.lists(strategies.integers(1, 4), min_size=1, max_size=3).map(tuple),
    failing=strategies.frozensets(strategies.tuples(strategies.integers(0, 2), strategies.integers(0, 3)), max_size=3),
    faults=strategies.lists(strategies.sampled_from(sorted(KINDS)).flatmap(_fault), min_size=1, max_size=9).map(tuple),
    stops=strategies.lists(
        strategies.builds(Stop, strategies.integers(0, 10), strategies.integers(1, 60), strategies.booleans()),
        max_size=3,
    ).map(tuple),
    rounds=strategies.integers(1, 2),
)


@dataclass
class Covered:
    """What trials came past."""

    trials: int = 0
    runs: int = 0
    calls: int = 0
    batches: int = 0
    requests: int = 0
    fired: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)


class Trials:
    """Plays schedules one after the other before one engine; `covered` counts."""

    def __init__(self, engine: RunningEngine, clock: Clocked, folder: Path) -> None:
        self._engine = engine
        self._clock = clock
        self._folder = folder
        self.covered = Covered()

    def play(self, schedule: Schedule) -> None:
        """Play one schedule; raises AssertionError where a promise does not hold."""
        number = self.covered.trials
        self.covered.trials += 1
        if number % EMPTY_AFTER == 0:
            emptied(self._engine)
        folder = self._folder / str(number)
        folder.mkdir(parents=True)
        with gate_before(self._engine.base_url, self._clock) as gate:
            try:
                _Trial(
                    schedule, number, self._engine, gate, Desk(folder, gate.base_url, self._clock), self.covered
                ).run()
            finally:
                self.covered.calls += len(gate.log)
                self.covered.fired.update(gate.fired)


@contextmanager
def trials(folder: Path) -> Iterator[Trials]:
    """Trials before an engine of their own."""
    clock = Clocked(Unsynced())
    with engine_with_upstream(folder / "engine", now=clock.now) as engine:
        yield Trials(engine, clock, folder / "desks")


class _Trial:
    def __init__(
        self, schedule: Schedule, number: int, engine: RunningEngine, gate: Gate, desk: Desk, covered: Covered
    ) -> None:
        self._schedule = schedule
        self._engine = engine
        self._gate = gate
        self._desk = desk
        self._covered = covered
        self._runs = 0
        self._texts = {
            f"f{file}-{row + 1}": f"{number}: file {file} row {row}."
            for file, size in enumerate(schedule.sizes)
            for row in range(size)
        }
        self._names = [f"a-{file + 1:04d}.jsonl" for file in range(len(schedule.sizes))]

    def run(self) -> None:
        engine, gate, schedule = self._engine, self._gate, self._schedule
        batches, asked = batch_count(engine), engine.upstream.count()
        mood = MOODS[schedule.mood](gate)
        gate.server = mood.reply
        for file, name in enumerate(self._names):
            own = [text for identifier, text in self._texts.items() if identifier.startswith(f"f{file}-")]
            self._desk.batch_file(name, own, stem=f"f{file}")
        failing = [text for text in (self._texts.get(f"f{file}-{row + 1}") for file, row in schedule.failing) if text]
        for text in failing:
            engine.upstream.fail(text, 409, times=1)
        for fault in schedule.faults:
            gate.on(fault.route, KINDS[fault.route][fault.kind], fault.nth, fault.times)

        with mock.patch("doubleword.server.sending.READ_TIMEOUT_S", READ_TIMEOUT_S):
            for _ in range(schedule.rounds):
                self._through()
        gate.calm()
        finished(engine)
        self._to_the_end()

        count = engine.upstream.count()
        self._covered.requests += count - asked
        self._covered.batches += batch_count(engine) - batches
        job = self._desk.job("a.job.json")
        assert batch_count(engine) - batches == len(job["batches"]), "batches on the server and in the job"
        assert len(job["batches"]) == len(schedule.sizes) or schedule.mood == 2, "batches that nobody needed"
        for text in self._texts.values():
            assert engine.upstream.count(text) == (2 if text in failing else 1), f"paid for: {text}"
        left = [name for name in self._desk.names() if name.startswith(".")]
        assert left == [], "files left behind"

    def _through(self) -> None:
        """The scripts in their order, whatever becomes of them, each held to what it says."""
        self._script("submit", *self._names)
        finished(self._engine)
        self._script("poll", "a.job.json", "--wait", "600")
        self._script("fetch_results", "a.job.json", "--output", "x.jsonl", "--force")
        self._script("retry_failed", "a.job.json")
        finished(self._engine)

    def _to_the_end(self) -> None:
        """What a user does once the server is well: go on until all is answered."""
        assert self._script("submit", *self._names).code == 0
        finished(self._engine)
        for _ in range(3):
            fetched = self._script("fetch_results", "a.job.json", "--output", "x.jsonl", "--force")
            assert fetched.code in (0, 6) and fetched.json["complete"] is True, fetched
            if fetched.code == 0:
                assert self._script("poll", "a.job.json").code == 0
                return
            assert self._script("retry_failed", "a.job.json").code == 0
            finished(self._engine)
        raise AssertionError("three retries did not bring every answer")

    def _script(self, name: str, *args: str) -> Result:
        stop = next((one for one in self._schedule.stops if one.run == self._runs), None)
        self._runs += 1
        calm = not self._gate.rules
        usual = self._desk.system
        if stop is not None and not calm:
            self._desk.system = _Struck(stop, usual)
        try:
            result = self._desk.run(name, *args)
        finally:
            self._desk.system = usual
        self._covered.runs += 1
        self._covered.codes[f"{name} {result.code}"] += 1
        self._honest(name, result)
        return result

    def _honest(self, name: str, result: Result) -> None:
        """What a script says of success is so."""
        if name == "submit" and result.code == 0:
            assert all(one["state"] == "created" for one in self._desk.job("a.job.json")["batches"])
        if name == "poll" and result.code == 0:
            assert all(self._answered(text) for text in self._texts.values()), "a poll that ended too early"
        if name == "fetch_results" and result.json.get("complete"):
            rows = self._desk.rows("x.jsonl") if (self._desk.folder / "x.jsonl").exists() else {}
            order = [identifier for identifier in self._texts if identifier in rows]
            assert list(rows) == order, "rows out of order, twice, or of strangers"
            assert rows == {one: f"answer to: {self._texts[one]}" for one in order}
            counts = result.json["counts"]
            assert counts["total"] == len(self._texts)
            assert counts["succeeded"] == len(rows)
            assert counts["failed"] + counts["missing"] == len(self._texts) - len(rows)
            assert (result.code == 0) == (len(rows) == len(self._texts))

    def _answered(self, text: str) -> bool:
        failing = {f"f{file}-{row + 1}" for file, row in self._schedule.failing}
        first_fails = any(self._texts[one] == text for one in failing if one in self._texts)
        return self._engine.upstream.count(text) >= (2 if first_fails else 1)


class _Struck(Seam):
    """The usual world until one event: Ctrl-C there, or a disk that is full from there on."""

    def __init__(self, stop: Stop, usual: object) -> None:
        assert isinstance(usual, Clocked)
        self._usual = usual
        super().__init__(_strike(stop), usual.time)

    def sleep(self, seconds: float) -> None:
        self._usual.sleep(seconds)

    def now(self) -> float:
        return self._usual.now()

    def monotonic(self) -> float:
        return self._usual.monotonic()


def _strike(stop: Stop) -> Callable[[str], None]:
    seen = 0

    def strike(event: str) -> None:
        nonlocal seen
        if stop.full and not event.startswith(("create", "write", "sync", "replace", "add", "lock")):
            return
        seen += 1
        if stop.full and seen >= stop.at:
            raise OSError(errno.ENOSPC, "No space left on device")
        if not stop.full and seen == stop.at:
            raise KeyboardInterrupt

    return strike


def said(schedule: Schedule) -> str:
    """The schedule as one line of JSON, to be read and compared."""
    stops = [[one.run, one.at, "full" if one.full else "stop"] for one in schedule.stops]
    found = [[one.route, one.kind, one.nth, one.times] for one in schedule.faults]
    whole = {
        "mood": MOODS[schedule.mood].__name__,
        "sizes": schedule.sizes,
        "failing": sorted(schedule.failing),
        "rounds": schedule.rounds,
    }
    return json.dumps({**whole, "faults": found, "stops": stops})
