"""Commands run one after the other and in turn, each measured by the kernel: wall time, CPU time, peak memory."""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Run:
    """One run of a command: seconds by the clock, seconds of CPU, and the most memory it held, in MB."""

    wall_s: float
    cpu_s: float
    rss_mb: float


def run(command: Sequence[str], folder: Path, environment: dict[str, str], says_s: bool = False) -> Run:
    """Run `command` to its end; raises RuntimeError with what it said when it fails.

    With `says_s` the last word of its output is how many seconds the part took that counts. The peak that Linux
    reports is never below that of the process which started the command, so that one stays small.
    """
    said = folder / "said.txt"
    with said.open("wb") as output:
        began = time.perf_counter()
        child = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output)
        _, status, used = os.wait4(child.pid, 0)
        wall = time.perf_counter() - began
    child.returncode = os.waitstatus_to_exitcode(status)
    text = said.read_text(errors="replace")
    if child.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit {child.returncode}: {text[-2000:]}")
    if says_s:
        wall = float(text.split()[-1])
    return Run(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


@contextlib.contextmanager
def peak_mb_of(name: str) -> Iterator[list[float]]:
    """The most memory that processes called `name…` held while the block ran, in MB, as a list that grows meanwhile."""
    over = threading.Event()
    held = [0.0]

    def look() -> None:
        while not over.wait(0.2):
            for place in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError, IndexError):  # which has ended meanwhile
                    if (place / "cmdline").read_bytes().startswith(name.encode()):
                        status = (place / "status").read_text()
                        held.append(int(status.partition("VmHWM:")[2].split()[0]) / 1024)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield held
    finally:
        over.set()
        looking.join()


@dataclass(frozen=True)
class Comparison:
    """The runs of a command beside those of its reference, pair by pair."""

    ours: list[Run]
    reference: list[Run]

    def ratios(self, of: Callable[[Run], float]) -> tuple[float, float, float]:
        """Least, median and greatest ratio of the pairs."""
        each = [of(one) / of(other) for one, other in zip(self.ours, self.reference, strict=True)]
        return min(each), statistics.median(each), max(each)

    @property
    def peak_mb(self) -> float:
        """The most memory that any of our runs held."""
        return max(one.rss_mb for one in self.ours)

    def median_s(self) -> tuple[float, float]:
        """Median wall seconds of ours and of the reference."""
        ours, reference = (statistics.median(one.wall_s for one in runs) for runs in (self.ours, self.reference))
        return ours, reference


def compare(ours: Callable[[], Run], reference: Callable[[], Run], times: int) -> Comparison:
    """Run both in turn, each first in every other pair, after one run of each that is thrown away."""
    ours(), reference()
    pairs = []
    for number in range(times):
        if number % 2:
            second, first = reference(), ours()
        else:
            first, second = ours(), reference()
        pairs.append((first, second))
    return Comparison([first for first, _ in pairs], [second for _, second in pairs])
