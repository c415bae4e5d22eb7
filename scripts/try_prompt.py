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
# ]
# ///
"""Ask a few rows at once, to see whether the prompt is right before the whole table is paid for."""

from __future__ import annotations

from doubleword import cli
from doubleword.request_lines.arguments import add_arguments

EXAMPLES = """\
  try_prompt.py --input movies.csv --model MODEL --max-tokens 8 --prompt "One word: the genre of {Title}?"
  try_prompt.py --input movies.csv … --rows 5 --sample 1     five rows from anywhere in the table, the same each time
  try_prompt.py --input movies.csv … --local
  try_prompt.py --input movies.csv … --max-cost 0.01
The rows are asked through the realtime endpoint, at its price; projected_cost_usd is for all rows in the 24h window,
and projection compares both windows."""


def parser() -> cli.Parser:
    """The arguments of this script."""
    made = cli.Parser("Ask a few rows at once, and project the cost of all.", EXAMPLES)
    add_arguments(made)
    made.usage = "%(prog)s [options]"  # argparse would list every option here as well
    made.add_argument("--rows", type=cli.whole, default=3, metavar="N", help="how many rows to ask (default 3)")
    made.add_argument("--sample", type=int, metavar="SEED", help="rows drawn at random by this number, not the first")
    cli.add_max_cost(made)
    cli.add_server(made)
    return made


work = cli.command("doubleword.commands.try_prompt", "try_prompt")

if __name__ == "__main__":
    cli.run(parser(), work)
