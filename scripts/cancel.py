# /// script
# requires-python = ">=3.10"
# dependencies = [
#     "requests>=2.32,<3",
#     "msgspec>=0.19,<1",
# ]
# ///
"""Cancel the batches of a job that are not over; without --yes only say what would be cancelled."""

from __future__ import annotations

from doubleword import cli

EXAMPLES = """\
  cancel.py movies.job.json           what would be cancelled (exit 8)
  cancel.py movies.job.json --yes     cancel it; answers that exist are kept, fetch_results.py gets them"""


def parser() -> cli.Parser:
    """The arguments of this script."""
    made = cli.Parser("Cancel batches that are not over. A finished batch is left alone.", EXAMPLES)
    cli.add_names(made)
    made.add_argument("--yes", action="store_true", help="really cancel")
    cli.add_server(made)
    return made


work = cli.command("doubleword.commands.cancel", "cancel_named")

if __name__ == "__main__":
    cli.run(parser(), work)
