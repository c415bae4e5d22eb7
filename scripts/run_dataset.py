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
"""A dataset in, a dataset out: each part a job of its own, its answers a Parquet part of the same name."""

from __future__ import annotations

from doubleword import cli
from doubleword.request_lines.arguments import add_arguments

EXAMPLES = """\
  run_dataset.py reviews/ labels/ --model MODEL --max-tokens 8 --prompt "One word: the mood of {review}?"
  run_dataset.py s3://b/reviews s3://b/labels … --ray auto     on a cluster, whose workers have the key
  run_dataset.py reviews/ labels/ … --dry-run      what it would ask and cost; nothing is sent"""


def parser() -> cli.Parser:
    """The arguments of this script."""
    made = cli.Parser("Ask for each row of a dataset, part by part; run again, it goes on.", EXAMPLES)
    made.add_argument("source", metavar="SOURCE", help="folder or 'glob' of Parquet, CSV, JSON lines; or s3://…")
    made.add_argument("output", metavar="OUTPUT_DIR", help="folder of Parquet parts, or s3://…")
    add_arguments(made)
    made.usage = "%(prog)s SOURCE OUTPUT_DIR [options]"
    made.add_argument("--rows-per-part", type=cli.whole, metavar="N", help="parts of N rows instead of whole files")
    made.add_argument("--at-once", type=cli.whole, default=4, metavar="N", help="partitions under way (default 4)")
    made.add_argument("--name", metavar="TEXT", help="of the run: what it asks is paid once (default: OUTPUT_DIR)")
    made.add_argument("--columns", metavar="LIST", help='choose, order and rename: "sku, french=answer"')
    made.add_argument(
        "--window", metavar="HOURS", choices=("24h", "1h", "background"), help="24h (default, cheap), 1h, background"
    )
    cli.add_max_cost(made)
    made.add_argument("--dry-run", action="store_true", help="check and estimate only; nothing is sent or kept")
    made.add_argument("--ray", metavar="ADDRESS", help="run on a Ray cluster; auto, or local for one of our own")
    cli.add_wait(made, 90_000)
    cli.add_server(made)
    return made


work = cli.command("doubleword.dataset.running", "run")

if __name__ == "__main__":
    cli.run(parser(), work)
