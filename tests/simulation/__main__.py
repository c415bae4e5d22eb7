"""Run seeds: `python -m tests.simulation --seeds 100000`, or one of them on record: `--seed 17`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))


def main() -> int:
    """Do what the arguments ask for; 1 when a promise was broken."""
    from tests.simulation.agent import live
    from tests.simulation.survey import Progress, survey

    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this seed and print all that happened")
    parser.add_argument("--seeds", type=int, default=2000, help="run so many (default 2000) and say what they covered")
    parser.add_argument("--first", type=int, default=0, help="the first of them (default 0)")
    parser.add_argument("--processes", type=int, default=1, help="at once (default 1)")
    args = parser.parse_args()
    if args.seed is not None:
        report = live(args.seed, keep=True)
        print("\n".join(report.trace))
        print(f"seed {report.seed}, a server as {report.mood}: {report.finding or 'every promise was kept'}")
        return int(report.finding is not None)
    found = survey(args.first, args.seeds, args.processes, Progress().show)
    print(found.text())
    return int(bool(found.findings))


if __name__ == "__main__":
    sys.exit(main())
