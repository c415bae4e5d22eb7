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
#     "Jinja2>=3.1,<4",
# ]
# ///
"""Create, submit, wait and fetch in one: table in, table out. Run again, it goes on from wherever it stopped."""

from __future__ import annotations

from doubleword import cli
from doubleword.request_lines.arguments import add_arguments, add_reuse

EXAMPLES = """\
  run_batch.py genres.csv --input movies.csv --model MODEL --max-tokens 8 --prompt 'One word: the genre of {Title}?'"""


def parser() -> cli.Parser:
    """The arguments of this script."""
    made = cli.Parser("Create, submit, wait and fetch in one command that can be run again.", EXAMPLES)
    made.add_argument("output", metavar="OUTPUT", help="results: .csv, .xlsx or .parquet, joined, or .jsonl")
    add_arguments(made)
    add_reuse(made)
    made.usage = "%(prog)s OUTPUT [options]"  # argparse would list every option here as well
    cli.add_table_output(made)
    made.add_argument(
        "--window", metavar="HOURS", choices=("24h", "1h", "background"), help="24h (default, cheap), 1h, background"
    )
    made.add_argument("--job", metavar="PATH", help="job file (default: <stem>.requests.job.json)")
    made.add_argument("--metadata", action="append", default=[], metavar="K=V", help="noted on each batch")
    cli.add_max_cost(made)
    made.add_argument("--dry-run", action="store_true", help="check and estimate only; nothing is sent or kept")
    made.add_argument("--update", action="store_true", help="the table changed: ask only what is new, keep the answers")
    made.add_argument("--delete-files", action="store_true", help="when all succeeded, delete the files on the server")
    cli.add_wait(made, 90_000)
    cli.add_report(made)
    cli.add_server(made)
    return made


work = cli.command("doubleword.commands.run_batch", "run")

if __name__ == "__main__":
    cli.run(parser(), work)
