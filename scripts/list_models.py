# /// script
# requires-python = ">=3.10"
# dependencies = [
#     "requests>=2.32,<3",
# ]
# ///
"""List the models that the key may use."""

from __future__ import annotations

import argparse
from typing import Any

from doubleword import command

EXAMPLES = """\
  list_models.py
  list_models.py --local     the models of the embedded engine"""


def parser() -> command.Parser:
    """The arguments of this script."""
    made = command.Parser("List the models that the key may use.", EXAMPLES)
    command.add_server(made)
    return made


def work(args: argparse.Namespace) -> dict[str, Any]:
    """List; the key is models."""
    from doubleword.listing import list_models
    from doubleword.outside import Outside

    return list_models(args, Outside())


if __name__ == "__main__":
    command.run(parser(), work)
