# /// script
# requires-python = ">=3.10"
# dependencies = [
#     "jsonschema>=4.23,<5",
#     "jsonschema-rs>=0.39,<1",
#     "msgspec>=0.19,<1",
#     "duckdb>=1.4,<3",
#     "python-calamine>=0.4,<1",
#     "zstandard>=0.23,<1",
# ]
# ///
"""Make a batch file from a table: one request for each row, all of them checked."""

from __future__ import annotations

from doubleword import cli
from doubleword.request_lines.arguments import add_arguments, add_reuse

EXAMPLES = """\
  create_batch_file.py movies.jsonl --input movies.csv --model MODEL --prompt "In one word, the genre of {Title}?"
  create_batch_file.py vectors.jsonl --input docs.parquet --model MODEL --endpoint /v1/embeddings --prompt "{text}"
  create_batch_file.py checked.jsonl --input requests.jsonl        rows that are request lines already
  create_batch_file.py example.jsonl --example                     three requests for the embedded engine
more than 50,000 requests or 200 MB become OUTPUT-0001.jsonl, OUTPUT-0002.jsonl, …"""


def parser() -> cli.Parser:
    """The arguments of this script."""
    made = cli.Parser(__doc__ or "", EXAMPLES)
    made.add_argument("output", metavar="OUTPUT", help="batch file to write, for example movies.jsonl")
    add_arguments(made)
    add_reuse(made)
    made.add_argument("--base-url", metavar="URL", help="server of the jobs to --reuse, as submit.py takes it")
    made.set_defaults(local=False)
    made.usage = "%(prog)s OUTPUT [options]"  # argparse would list every option here as well
    return made


work = cli.command("doubleword.commands.create_batch_file", "create")

if __name__ == "__main__":
    cli.run(parser(), work)
