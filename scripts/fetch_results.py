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
"""Fetch the results of a job or of batches: every request accounted for, in the order of the input."""

from __future__ import annotations

from doubleword import cli

EXAMPLES = """\
  fetch_results.py movies.job.json
  fetch_results.py movies.job.json --format csv --join movies.csv --output answers.csv
  fetch_results.py vectors.job.json --format npy --output vectors.npy
  fetch_results.py movies.job.json --partial --output so-far.jsonl
Requests that failed or are missing go to <stem>.errors.jsonl; in tables they stand as rows with their cause."""


def parser() -> cli.Parser:
    """The arguments of this script."""
    made = cli.Parser("Fetch results: one row for each request, in the order of the input.", EXAMPLES)
    cli.add_names(made)
    made.add_argument("--output", metavar="PATH", help="default: <job>.results.<format> beside the job file")
    made.add_argument(
        "--format", choices=("jsonl", "csv", "parquet", "xlsx", "npy"), default="jsonl", help="default: jsonl"
    )
    join_help = "the table the batch was made of: its columns come first"
    made.add_argument("--join", action="append", metavar="SOURCE", help=join_help)
    made.add_argument("--id", metavar="TEMPLATE", help="how --join finds a row's custom_id (default: as created)")
    cli.add_table_output(made)
    made.add_argument("--delimiter", type=cli.delimiter, metavar="D", help="CSV: between cells (default: as SOURCE)")
    schema_help = "judge answers by this JSON schema, not by that of the requests"
    made.add_argument("--response-schema", metavar="FILE", help=schema_help)
    made.add_argument("--history", metavar="PATH", help="also write every attempt at each request, as JSON lines")
    made.add_argument("--partial", action="store_true", help="take what is there while batches run (exit 7)")
    made.add_argument("--force", action="store_true", help="replace an existing output")
    cli.add_server(made)
    return made


work = cli.command("doubleword.commands.fetch_results", "fetch")

if __name__ == "__main__":
    cli.run(parser(), work)
