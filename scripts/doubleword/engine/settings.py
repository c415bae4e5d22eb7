"""What an operator decides: limits of uploads, how requests are dispatched, prices, and the account behind the key.

A price table is JSON in the form of the bundled prices.json, so that file can be named too:

    {"models": {"ID": {"24h": [IN, OUT], "1h": [IN, OUT], "realtime": [IN, OUT, CACHED]}}}

USD per million tokens of input, of output and, where the model has a prompt cache, of input that was cached already.
`realtime` is the price of the endpoints that answer at once. Keys whose value is no list are left out.

Promises: amounts are exact decimals; a model without a price costs nothing and is never guessed. Everything here
may be changed while the engine runs, and counts from the next request on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from doubleword.failure import Exit, Failure, plain

REALTIME = "realtime"
MILLION = Decimal(1_000_000)


@dataclass(frozen=True)
class Limits:
    """What one file may hold: as documented, and for a body as in the server's code; no route tells them."""

    file_bytes: int = 200_000_000
    requests: int = 50_000
    body_bytes: int = 10 * 1024 * 1024


@dataclass(frozen=True)
class Price:
    """USD per million tokens; `cached_usd` is for input that the prompt cache held already."""

    input_usd: Decimal
    output_usd: Decimal
    cached_usd: Decimal

    def cost(self, prompt: int, completion: int, cached: int = 0) -> Decimal:
        """USD for one request; `cached` of its `prompt` tokens came from the cache."""
        uncached = prompt - cached
        return (uncached * self.input_usd + cached * self.cached_usd + completion * self.output_usd) / MILLION


@dataclass(frozen=True)
class Prices:
    """Prices by model, then by completion window."""

    models: Mapping[str, Mapping[str, Price]] = field(default_factory=dict)

    def find(self, model: str, window: str) -> Price | None:
        """The price of `model` in `window`; its realtime price where the window has none (files.rs, cost estimate)."""
        windows = self.models.get(model, {})
        return windows.get(window) or windows.get(REALTIME)

    @classmethod
    def of(cls, table: Any) -> Prices:
        """The prices of a table in the form above. Raises ValueError where it is another."""
        models = table.get("models") if isinstance(table, dict) else None
        if not isinstance(models, dict) or not all(isinstance(windows, dict) for windows in models.values()):
            raise ValueError('it has no object "models" of models and their windows')
        return cls(
            {
                model: {
                    window: _price(f"{model}, {window}", given)
                    for window, given in windows.items()
                    if type(given) is list
                }
                for model, windows in models.items()
            }
        )


def read_prices(path: Path) -> Prices:
    """The prices in the file `path`. Raises `Failure` (exit 2) where they cannot be read."""
    try:
        return Prices.of(json.loads(path.read_text(encoding="utf-8-sig"), parse_float=Decimal))
    except (OSError, ValueError) as problem:
        message = f"{plain(path)} is no table of prices: {plain(problem)}"
        hint = 'the form is {"models": {"MODEL": {"24h": [IN, OUT], "realtime": [IN, OUT]}}}, USD per million tokens'
        raise Failure(Exit.BAD_INPUT, "bad_prices", message, hint) from None


def _price(name: str, given: list[Any]) -> Price:
    amounts = [
        amount if isinstance(amount, Decimal) else Decimal(str(amount)) for amount in given if _is_amount(amount)
    ]
    if len(amounts) != len(given) or len(amounts) not in (2, 3):
        raise ValueError(f"{name} is not [input, output] or [input, output, cached input]")
    return Price(amounts[0], amounts[1], amounts[2] if len(amounts) == 3 else amounts[0])


def _is_amount(value: Any) -> bool:
    return isinstance(value, (int, float, Decimal)) and not isinstance(value, bool) and 0 <= value < 1_000_000


@dataclass
class Account:
    """The account of the one key. `credits_usd` is what it was topped up with, `cap_usd` what the key may spend.

    Without them (None) it may spend without end. What a request cost is seen in analytics `analytics_after_s` later;
    infinity is never.
    """

    prices: Prices = field(default_factory=Prices)
    credits_usd: Decimal | None = None
    cap_usd: Decimal | None = None
    analytics_after_s: float = 0.0


@dataclass
class Settings:
    """How this engine is run.

    `streamed` asks the upstream for streams and puts them together, as the server's sample configuration does.
    `background` lets batches in that have no deadline. `batch_only` names models that the realtime endpoints
    refuse, `reasoning_efforts` the efforts that a model takes, by endpoint (`chat_completions`, `responses`).
    """

    limits: Limits = field(default_factory=Limits)
    account: Account = field(default_factory=Account)
    streamed: bool = False
    background: bool = False
    batch_only: frozenset[str] = frozenset()
    reasoning_efforts: Mapping[str, Mapping[str, list[str]]] = field(default_factory=dict)
