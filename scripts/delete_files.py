# /// script
# requires-python = ">=3.10"
# dependencies = [
#     "requests>=2.32,<3",
#     "msgspec>=0.19,<1",
# ]
# ///
"""Delete the files of a job from the server, once its results are fetched: input, output and error files."""

from __future__ import annotations

from doubleword import cli

EXAMPLES = """\
  delete_files.py movies.job.json           after fetch_results.py; refused (exit 8) before
  delete_files.py movies.job.json --yes     whatever was fetched
The batches themselves stay in the list, with their counts and their cost."""


def parser() -> cli.Parser:
    """The arguments of this script."""
    made = cli.Parser("Delete the files of batches that are over from the server.", EXAMPLES)
    cli.add_names(made)
    made.add_argument("--yes", action="store_true", help="also where results were not fetched and complete")
    cli.add_server(made)
    return made


work = cli.command("doubleword.commands.delete_files", "delete_named")

if __name__ == "__main__":
    cli.run(parser(), work)
