# /// script
# requires-python = ">=3.10"
# dependencies = [
#     "requests>=2.32,<3",
#     "jsonschema>=4.23,<5",
#     "jsonschema-rs>=0.39,<1",
#     "msgspec>=0.19,<1",
# ]
# ///
"""Check batch files, upload them, and create one batch for each, exactly once."""

from __future__ import annotations

from doubleword import cli

EXAMPLES = """\
  submit.py movies.jsonl                         the cheap window of 24 hours
  submit.py movies.jsonl --window 1h --max-cost 2.50
  submit.py movies.jsonl --local                 on the embedded engine: no key, no network, no cost
  submit.py movies.jsonl --dry-run               what would be sent; nothing is
  submit.py --adopt JOB_ID                       make a lost job file anew; list_batches.py shows the id
Run again after any interruption, it goes on where it stopped and never pays twice."""


def parser() -> cli.Parser:
    """The arguments of this script."""
    made = cli.Parser("Check batch files, upload them and create a batch for each, exactly once.", EXAMPLES)
    made.add_argument("files", nargs="*", metavar="FILE", help="the batch files of one job")
    made.add_argument(
        "--window", metavar="HOURS", choices=("24h", "1h", "background"), help="24h (default, cheap), 1h, background"
    )
    made.add_argument("--job", metavar="PATH", help="job file (default: <stem>.job.json beside the first FILE)")
    made.add_argument("--metadata", action="append", default=[], metavar="K=V", help="noted on each batch; repeatable")
    made.add_argument("--adopt", metavar="JOB_ID", help="make the lost job file of these batches anew; sends nothing")
    cli.add_max_cost(made)
    made.add_argument("--dry-run", action="store_true", help="check and plan only: no network, no job file")
    cli.add_server(made)
    return made


work = cli.command("doubleword.commands.submit", "submit")

if __name__ == "__main__":
    cli.run(parser(), work)
