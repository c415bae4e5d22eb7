# /// script
# requires-python = ">=3.10"
# dependencies = [
#     "requests>=2.32,<3",
#     "msgspec>=0.19,<1",
# ]
# ///
"""List the models that the key may use, with their prices where known."""

from __future__ import annotations

from doubleword import cli

EXAMPLES = """\
  list_models.py
  list_models.py --local     the models of the embedded engine
  list_models.py --prices --output prices.json
Prices are USD per million tokens, [input, output] for each completion window and at once; null where not known."""


def parser() -> cli.Parser:
    """The arguments of this script."""
    made = cli.Parser("List the models that the key may use, with their prices where known.", EXAMPLES)
    prices_help = "the server's prices of now, by two small files that are uploaded and deleted; costs nothing"
    made.add_argument("--prices", action="store_true", help=prices_help)
    made.add_argument("--output", metavar="PATH", help="with --prices: also write them as a price table")
    cli.add_server(made)
    return made


work = cli.command("doubleword.commands.list_batches", "list_models")

if __name__ == "__main__":
    cli.run(parser(), work)
