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
"""Ask again for the requests of a job that failed or are missing; for flawed answers only where they are named."""

from __future__ import annotations

from doubleword import cli

EXAMPLES = """\
  retry_failed.py movies.job.json --dry-run     what would be asked again; nothing is
  retry_failed.py movies.job.json
  retry_failed.py movies.job.json --only truncated --max-tokens 800
  retry_failed.py movies.job.json --cause "HTTP 404" --model ID
  retry_failed.py movies.job.json --only invalid,refused --note "Answer in JSON, with all fields."
Then poll.py and fetch_results.py --force as before."""


def parser() -> cli.Parser:
    """The arguments of this script."""
    made = cli.Parser("Ask again for what failed, is missing or is flawed in a job that is over.", EXAMPLES)
    made.add_argument("job", metavar="JOB", help="a job file, or a batch file of a job")
    only_help = "failed, missing, truncated, refused, empty, unfinished, invalid (default: failed,missing)"
    made.add_argument("--only", metavar="KINDS", help=only_help)
    made.add_argument("--cause", metavar="TEXT", help="only those whose cause has this in it, such as 'HTTP 500'")
    made.add_argument("--ids", metavar="IDS", help="only these custom_ids: a,b,c, or a file that lists them")
    schema_help = "judge answers by this JSON Schema, as fetch_results.py does, for --only invalid"
    made.add_argument("--response-schema", metavar="FILE", help=schema_help)
    made.add_argument("--max-tokens", type=cli.whole, metavar="N", help="ask with this limit of the answer's length")
    made.add_argument("--model", metavar="ID", help="ask this model instead")
    made.add_argument("--note", metavar="TEXT", help="ask with this added to the prompt, as its last paragraph")
    made.add_argument("--dry-run", action="store_true", help="say what would be retried; change nothing")
    cli.add_max_cost(made)
    cli.add_server(made)
    return made


work = cli.command("doubleword.commands.retry_failed", "retry")

if __name__ == "__main__":
    cli.run(parser(), work)
