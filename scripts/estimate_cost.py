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

cost_usd       prompts counted from their text (about 10 % off for English), answers assumed to be 1.1 times their
               prompt, at most max_tokens; null when a price is not known (unknown_prices names the models)
ceiling_usd    the most that one run of every request can cost; null when a request sets no max_tokens
windows        both windows side by side, where --window names none
prices         USD per million tokens, each with its source and the date when that was read; they change: compare
               them with https://docs.doubleword.ai/inference-api/models, or give your own with --prices"""


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    made = cli.Parser("Say what batch files would cost. Needs neither a key nor the network.", EXAMPLES)
    made.add_argument("files", nargs="+", metavar="FILE", type=Path, help="batch file, as create_batch_file.py writes")
    made.add_argument("--window", choices=("24h", "1h"), help="completion window (default: 24h, and both compared)")
    made.add_argument("--prices", metavar="FILE", type=Path, help="price table whose prices replace the bundled ones")
    return made


def work(args: argparse.Namespace) -> dict[str, Any]:
    """The script's answer."""
    from doubleword.batch_files.reading import named_files
    from doubleword.pricing.estimate import METHOD, WINDOWS, estimates, load_prices
    from doubleword.system import Disk

    disk = Disk()
    both = estimates(named_files(args.files, disk), disk, load_prices(args.prices, disk))
    asked = [both[window] for window in ([args.window] if args.window else WINDOWS)]
    found = asked[0]
    compared = {window: {"cost_usd": one.cost_usd, "ceiling_usd": one.ceiling_usd} for window, one in both.items()}
    return {
        "requests": found.requests,
        "prompt_tokens": found.prompt_tokens,
        "assumed_completion_tokens": found.completion_tokens,
        "cost_usd": found.cost_usd,
        "ceiling_usd": found.ceiling_usd,
        **({} if args.window else {"windows": compared}),
        "method": METHOD,
        "unknown_prices": list(found.unknown_models),
        "prices": [
            {
                "model": price.model,
                "window": price.window,
                "input": price.input_usd,
                "output": price.output_usd,
                "date": price.date,
                "source": price.source,
            }
            for price in found.prices
        ],
        "warnings": list(dict.fromkeys(warning for one in asked for warning in one.warnings)),
    }


if __name__ == "__main__":
    cli.run(parser(), work)
