# /// script
# requires-python = ">=3.10"
# dependencies = [
#     "jsonschema>=4.23,<5",
#     "jsonschema-rs>=0.39,<1",
#     "msgspec>=0.19,<1",
# ]
# ///
"""Check batch files before anything is sent: every line, every custom_id over all files, the limits of a file."""

from __future__ import annotations

import argparse
from typing import Any

from doubleword import cli

EXAMPLES = """\
  validate_batch_file.py movies.jsonl
  validate_batch_file.py movies-0001.jsonl movies-0002.jsonl       the files of one job, together
exit 0 means that all lines are valid; otherwise exit 2, and errors holds the first of error_count errors"""


def parser() -> argparse.ArgumentParser:
    """The arguments of this script."""
    made = cli.Parser(__doc__ or "", EXAMPLES)
    made.add_argument("files", nargs="+", metavar="FILE", help="batch files of one job")
    return made


def work(args: argparse.Namespace) -> dict[str, Any]:
    """Check the files; returns the number of requests, or raises Failure (2) with the errors beside it."""
    from doubleword.batch_files import check as file_check
    from doubleword.batch_files.reading import named_files
    from doubleword.failure import Exit, Failure, plain
    from doubleword.quick_msgspec import to_builtins
    from doubleword.system import System

    system = System()
    progress = cli.Progress(system.monotonic)
    paths = named_files(args.files, system.disk)
    found = file_check.check(paths, system.disk, lambda done: progress.show(f"{done:,} requests checked"), False)
    progress.close()
    keys = {
        "valid": not found.error_count,
        "requests": found.requests,
        "error_count": found.error_count,
        "errors": to_builtins(found.errors),
        **({"warnings": found.warnings} if found.warnings else {}),
    }
    if found.error_count:
        first = found.errors[0]
        place = f"{plain(first.file, 120)} line {first.line}" + (f", {first.path}" if first.path else "")
        message = f"{found.error_count:,} of {found.requests:,} requests are not valid; {place}: {first.message}"
        hint = "mend the lines that errors names, or make the file with create_batch_file.py; then check again"
        raise Failure(Exit.BAD_INPUT, "invalid_batch_file", message, hint, keys)
    return keys


if __name__ == "__main__":
    cli.run(parser(), work)
