# /// script
# requires-python = ">=3.10"
# dependencies = [
#     "requests>=2.32,<3",
#     "jsonschema>=4.23,<5",
#     "jsonschema-rs>=0.39,<1",
#     "orjson>=3.10,<4",
# ]
# ///
"""Ask again for the requests of a job that failed, were cancelled or are missing; never for those that succeeded."""

from __future__ import annotations

import argparse
from typing import Any

from doubleword import command

EXAMPLES = """\
  retry_failed.py movies.job.json --dry-run     what would be asked again; nothing is
  retry_failed.py movies.job.json
Then poll.py and fetch_results.py --force as before."""


def parser() -> command.Parser:
    """The arguments of this script."""
    made = command.Parser("Ask again for what failed or is missing in a job whose batches are over.", EXAMPLES)
    made.add_argument("job", metavar="JOB", help="a job file, or a batch file of a job")
    made.add_argument("--dry-run", action="store_true", help="say what would be retried; change nothing")
    command.add_max_cost(made)
    command.add_server(made)
    return made


def work(args: argparse.Namespace) -> dict[str, Any]:
    """Retry; the keys are job, batches, resumed."""
    from doubleword.outside import Outside
    from doubleword.retrial import retry

    return retry(args, Outside())


if __name__ == "__main__":
    command.run(parser(), work)
