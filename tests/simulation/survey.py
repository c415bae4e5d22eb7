"""Many seeds at once: what they found, and what they covered."""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

from tests.simulation.agent import live
from tests.simulation.moods import MOODS
from tests.simulation.world import CALL_FAULTS, CONDITIONS, CONTENT_FAULTS, DISK_FAULTS, POST_FAULTS, STEP_FAULTS

EVERY_FAULT = (*STEP_FAULTS, *CALL_FAULTS, *POST_FAULTS, *CONTENT_FAULTS, *DISK_FAULTS, *CONDITIONS)
AT_ONCE = 50


@dataclass
class Survey:
    """What a range of seeds came to; `findings` are (seed, what was broken)."""

    seeds: int = 0
    findings: list[tuple[int, str]] = field(default_factory=list)
    moods: Counter[str] = field(default_factory=Counter)
    fired: Counter[str] = field(default_factory=Counter)
    reached: Counter[str] = field(default_factory=Counter)

    def add(self, other: Survey) -> None:
        """Take in what other seeds came to."""
        self.seeds += other.seeds
        self.findings += other.findings
        self.moods += other.moods
        self.fired += other.fired
        self.reached += other.reached

    @property
    def missed(self) -> list[str]:
        """Faults that never fired and moods that never came: what is not covered is not tested."""
        moods = [f"a server as {mood.name}" for mood in MOODS if not self.moods[mood.name]]
        return moods + [kind for kind in EVERY_FAULT if not self.fired[kind]]

    def text(self) -> str:
        """All of it, for people."""
        lines = [f"{self.seeds:,} seeds, {len(self.findings)} findings"]
        for title, counter in (("servers", self.moods), ("faults fired", self.fired), ("states reached", self.reached)):
            lines.append(f"\n{title}:")
            lines += [f"{count:12,}  {name}" for name, count in sorted(counter.items())]
        if self.missed:
            lines.append(f"\nnot covered: {', '.join(self.missed)}")
        for seed, finding in sorted(self.findings):
            lines.append(f"\nseed {seed}: {finding}\n  python -m tests.simulation --seed {seed}")
        return "\n".join(lines)


def survey_of(first: int, count: int) -> Survey:
    """Run `count` seeds from `first` on, here."""
    found = Survey(count)
    for seed in range(first, first + count):
        report = live(seed)
        found.moods[report.mood] += 1
        found.fired += report.fired
        found.reached += report.reached
        if report.finding is not None:
            found.findings.append((seed, report.finding))
    return found


def survey(first: int, count: int, processes: int = 1, progress: Callable[[Survey], None] = lambda _: None) -> Survey:
    """Run `count` seeds from `first` on in so many processes; `progress` sees the sum so far."""
    starts = range(first, first + count, AT_ONCE)
    sizes = [min(AT_ONCE, first + count - start) for start in starts]
    whole = Survey()
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        for part in pool.map(survey_of, starts, sizes):
            whole.add(part)
            progress(whole)
    return whole


class Progress:
    """One line on stderr every ten seconds."""

    def __init__(self) -> None:
        self._began = self._last = time.monotonic()

    def show(self, whole: Survey) -> None:
        """Say how far it is."""
        import sys

        now = time.monotonic()
        if now - self._last >= 10:
            self._last = now
            rate = whole.seeds / (now - self._began)
            sys.stderr.write(f"{whole.seeds:,} seeds, {rate:.0f} a second, {len(whole.findings)} findings\n")
