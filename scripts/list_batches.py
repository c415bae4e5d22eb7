# /// script
# requires-python = ">=3.10"
# dependencies = [
#     "requests>=2.32,<3",
#     "msgspec>=0.19,<1",
# ]
# ///
"""List the account's batches, newest first, beside the jobs of a folder; say which job files are lost."""

from __future__ import annotations

from doubleword import cli

EXAMPLES = """\
  list_batches.py
  list_batches.py --status in_progress --limit 50
  list_batches.py --all
  list_batches.py --folder ~/campaign     with the jobs of another folder than this one"""


def parser() -> cli.Parser:
    """The arguments of this script."""
    made = cli.Parser("List batches, newest first, and the jobs of a folder beside them.", EXAMPLES)
    made.add_argument("--limit", type=cli.whole, default=10, metavar="N", help="how many (default 10)")
    made.add_argument("--status", metavar="S", help="only those in this state, such as in_progress or completed")
    made.add_argument("--all", action="store_true", help="every batch and job, whatever --limit says")
    made.add_argument("--folder", default=".", metavar="DIR", help="where job files are looked for (default .)")
    cli.add_server(made)
    return made


work = cli.command("doubleword.commands.list_batches", "list_batches")

if __name__ == "__main__":
    cli.run(parser(), work)
