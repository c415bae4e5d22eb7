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
#     "XlsxWriter>=3.2,<4",
# ]
# ///
"""Ask the same rows under several models and prompts, and say which is better, where that can be said."""

from __future__ import annotations

from doubleword import cli
from doubleword.request_lines.arguments import add_arguments

EXAMPLES = """\
  compare.py models.csv --input t.csv --model A --model B --max-tokens 9 --prompt "Mood of {text}?" --expected mood
  compare.py models.csv … --prompt-file short.txt --prompt-file long.txt --sample 1 --max-cost 0.5 --dry-run
Each model with each prompt is a variant; the same command again goes on, and pays nothing twice."""


def parser() -> cli.Parser:
    """The arguments of this script."""
    made = cli.Parser("Compare models and prompts on the same rows.", EXAMPLES)
    made.add_argument("output", metavar="OUTPUT", help="all answers side by side: .csv, .xlsx or .parquet")
    add_arguments(made, several=True)
    made.usage = "%(prog)s OUTPUT [options]"  # argparse would list every option here as well
    add = made.add_argument
    add("--variants", metavar="FILE", help="JSON: name, model, prompt, system, parameters, schema of each")
    add("--rows", type=cli.whole, default=50, metavar="N", help="how many rows to ask (default 50)")
    add("--sample", type=int, metavar="SEED", help="rows drawn at random by this number, not the first")
    expected = "what is right, in a column of the table; FIELD=COLUMN; or marks.csv"
    add("--expected", action="append", metavar="COLUMN", help=expected)
    add("--judge", metavar="PROMPT", help="a rubric by which a model grades each {answer}")
    add("--judge-model", metavar="ID", help="the model that grades")
    add("--window", metavar="HOURS", choices=("24h", "1h", "background"), help="24h (default, cheap), 1h, background")
    add("--now", action="store_true", help="ask at once, at the realtime price, not in batches")
    cli.add_max_cost(made)
    add("--dry-run", action="store_true", help="check and estimate only; nothing is sent or kept")
    cli.add_wait(made, 90_000)
    cli.add_server(made)
    return made


work = cli.command("doubleword.compare.comparison", "compare")

if __name__ == "__main__":
    cli.run(parser(), work)
