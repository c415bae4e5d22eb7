"""Run seeds: `python -m tests.simulation --seeds 100000`, or one of them on record: `--seed 17`."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))


def main() -> int:
    """Run what the arguments ask for; 1 when a promise was broken."""
    from tests.simulation.agent import Life, live

    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this seed and print all that happened")
    parser.add_argument("--seeds", type=int, default=2000, help="run so many seeds (default 2000)")
    parser.add_argument("--first", type=int, default=0, help="the first of them (default 0)")
    parser.add_argument("--stop-after", type=int, default=10, help="stop after so many findings (default 10)")
    args = parser.parse_args()
    if args.seed is not None:
        report = live(args.seed, keep=True)
        print("\n".join(report.trace))
        print(f"seed {report.seed}, a server as {report.mood}: {report.finding or 'every promise was kept'}")
        return int(report.finding is not None)
    return 0


if __name__ == "__main__":
    sys.exit(main())
