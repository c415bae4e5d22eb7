# /// script
# requires-python = ">=3.10"
# dependencies = [
#     "requests>=2.32,<3",
#     "jsonschema>=4.23,<5",
#     "jsonschema-rs>=0.39,<1",
#     "msgspec>=0.19,<1",
#     "duckdb>=1.4,<3",
#     "python-calamine>=0.4,<1",
#     "zstandard>=0.23,<1",
#     "Jinja2>=3.1,<4",
# ]
# ///
"""Look at a job's batches once, or watch them until they are over or a wait has passed."""

from __future__ import annotations

from doubleword import cli

EXAMPLES = """\
  poll.py movies.job.json                one look
  poll.py movies.job.json --wait 600     watch for up to ten minutes; exit 7 means: run it again
  poll.py 6f0c0e1e-0000-0000-0000-000000000000"""


def parser() -> cli.Parser:
    """The arguments of this script."""
    made = cli.Parser("Say how far a job's batches are, once or until they are over.", EXAMPLES)
    cli.add_names(made)
    cli.add_wait(made, 0)
    made.add_argument("--cost", action="store_true", help="say what was billed, also while batches run")
    cli.add_report(made)
    cli.add_server(made)
    return made


work = cli.command("doubleword.commands.poll", "poll")

if __name__ == "__main__":
    cli.run(parser(), work)
