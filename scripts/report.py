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
#     "Jinja2>=3.1,<4",
# ]
# ///
"""Write a page on jobs: how they went, what failed and why, what they cost, and the answers to look through."""

from __future__ import annotations

from doubleword import cli

EXAMPLES = """\
  report.py movies.job.json                        writes movies.report.html, to be opened by a double click
  report.py movies.job.json --watch                anew after each look; the open page reloads itself
  report.py a.job.json b.job.json --output ab.html     jobs over the same rows stand side by side
  report.py .                                      all jobs of a folder
In the page answers are marked right, wrong or unsure, and saved as marks.csv for retry_failed.py --ids."""


def parser() -> cli.Parser:
    """The arguments of this script."""
    made = cli.Parser("Write one HTML file on jobs, which fetches nothing and needs no server.", EXAMPLES)
    made.add_argument("names", nargs="+", metavar="JOB", help="job files, batch files of jobs, batch ids, or a folder")
    output_help = "default: <job>.report.html beside the job file, or report.html for several"
    made.add_argument("--output", metavar="PATH", help=output_help)
    made.add_argument("--sample", type=int, default=1, metavar="SEED", help="draws the answers shown (default 1)")
    made.add_argument(
        "--watch", action="store_true", help="write it anew until the jobs are over, or --wait has passed"
    )
    cli.add_wait(made, 90_000)
    cli.add_server(made)
    return made


work = cli.command("doubleword.report.reporting", "report")

if __name__ == "__main__":
    cli.run(parser(), work)
