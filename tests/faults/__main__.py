"""`python -m tests.faults --schedules 2000`: random fault schedules over whole jobs, and what they covered."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from tests.faults.schedules import SCHEDULES, Schedule, said, trials


def main() -> None:
    """Play schedules drawn from a seed; the smallest one that breaks a promise is printed, and the exit code is 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schedules", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, trials(Path(folder)) as played:
        worst: list[Schedule] = []

        @seed(args.seed)
        @settings(
            max_examples=args.schedules,
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        @given(SCHEDULES)
        def play(schedule: Schedule) -> None:
            worst[:] = [schedule]
            played.play(schedule)
            if played.covered.trials % 100 == 0:
                print(f"{played.covered.trials} schedules, {time.monotonic() - began:.0f} s", flush=True)

        failure: Exception | None = None
        try:
            play()
        except Exception as found:
            failure = found
        covered = played.covered
        print(f"schedules {covered.trials}, script runs {covered.runs}, HTTP calls {covered.calls}")
        print(
            f"batches {covered.batches}, requests answered {covered.requests}, seconds {time.monotonic() - began:.0f}"
        )
        print("faults fired:", ", ".join(f"{name} {count}" for name, count in sorted(covered.fired.items())))
        print("exit codes:", ", ".join(f"{name}: {count}" for name, count in sorted(covered.codes.items())))
        if failure is not None:
            print(f"broken by {said(worst[0])}")
            raise failure
        print("nothing lost, nothing paid twice, nothing called done that was not")


if __name__ == "__main__":
    main()
