# /// script
# requires-python = ">=3.10"
# dependencies = [
#     "msgspec>=0.19,<1",
# ]
# ///
"""Say what batch files would cost, before anything is sent. Needs neither a key nor the network."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from doubleword import cli

EXAMPLES = """\
  python3 estimate_cost.py reviews.jsonl
  python3 estimate_cost.py job-0001.jsonl job-0002.jsonl --window 1h     that window alone
  python3 estimate_cost.py reviews.jsonl --prices my_prices.json

cost_usd       prompts counted from their text (about 10 % off for English), answers as long as their schema or
               the answers of --like say, else 1.1 times their prompt, at most max_tokens; method says which;
               null when a price is not known (unknown_prices names the models)
ceiling_usd    the most that one run of every request can cost; null when a request sets no max_tokens
realtime_usd   the same requests at the price of the endpoints that answer at once
windows        both windows side by side, where --window names none
prices         USD per million tokens, each with its source and the date when that was read; they change: compare
               them with https://docs.doubleword.ai/inference-api/models, or give your own with --prices"""


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    made = cli.Parser("Say what batch files would cost. Needs neither a key nor the network.", EXAMPLES)
    made.add_argument("files", nargs="+", metavar="FILE", type=Path, help="batch file, as create_batch_file.py writes")
    made.add_argument(
        "--window",
        metavar="HOURS",
        choices=("24h", "1h", "background"),
        help="24h, 1h, background (default: 24h, and both compared)",
    )
    made.add_argument("--prices", metavar="FILE", type=Path, help="price table whose prices replace the bundled ones")
    made.add_argument("--like", metavar="JOB", help="answers as long as those of this job, whose results were fetched")
    return made


def work(args: argparse.Namespace) -> dict[str, Any]:
    """The script's answer."""
    from doubleword.batch_files.reading import named_files
    from doubleword.jobs.cost_limit import like
    from doubleword.pricing.estimate import total_of
    from doubleword.pricing.prices import REALTIME, WINDOWS, load_prices
    from doubleword.system import Disk

    disk = Disk()
    sample = like(args.like, disk) if args.like else None
    total = total_of(named_files(args.files, disk), disk, load_prices(args.prices, disk), sample)
    both = {window: total.estimate(window) for window in WINDOWS}
    found, *others = [total.estimate(args.window)] if args.window else both.values()
    compared = {window: {"cost_usd": one.cost_usd, "ceiling_usd": one.ceiling_usd} for window, one in both.items()}
    return {
        "requests": found.requests,
        "prompt_tokens": found.prompt_tokens,
        "assumed_completion_tokens": found.completion_tokens,
        "cost_usd": found.cost_usd,
        "ceiling_usd": found.ceiling_usd,
        "realtime_usd": total.estimate(REALTIME).cost_usd,
        **({} if args.window else {"windows": compared}),
        "method": found.method,
        "unknown_prices": list(found.unknown_models),
        "prices": [price.told for price in found.prices],
        "warnings": list(dict.fromkeys(warning for one in (found, *others) for warning in one.warnings)),
    }


if __name__ == "__main__":
    cli.run(parser(), work)
