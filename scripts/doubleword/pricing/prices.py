"""The price table: USD per million tokens of each model, by completion window and at once, with source and date.

Promises: amounts are exact decimals; a price that is not known is named as such (null), never guessed; a table in which
a batch costs more than the same model at once is refused, since one of the two must be out of date.

A batch without a price of its own is charged at the realtime price (dwctl files.rs, get_file_cost_estimate), which is
therefore the most that it can cost.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from doubleword.failure import Exit, Failure, plain
from doubleword.pricing.prompt_tokens import Template
from doubleword.quick_msgspec import Struct, field
from doubleword.system import Disk
from doubleword.tables.plain_copy import opened

WINDOWS = ("24h", "1h")
REALTIME = "realtime"
BUNDLED = Path(__file__).with_name("prices.json")
MILLION = Decimal(1_000_000)


class Price(Struct, frozen=True):
    """USD per million tokens for one model in a completion window, or at once (`REALTIME`).

    `cached_usd` is for input that the prompt cache held, None where it is not known. `date` is when `source` was read.
    """

    model: str
    window: str
    input_usd: Decimal
    output_usd: Decimal
    source: str
    date: str
    cached_usd: Decimal | None = None

    def cost(self, prompt: Decimal | int, completion: Decimal | int, cached: int = 0) -> Decimal | None:
        """USD for so many tokens, `cached` of the `prompt` from the cache; None where their price is not known."""
        if cached and self.cached_usd is None:
            return None
        uncached = (prompt - cached) * self.input_usd + completion * self.output_usd
        return (uncached + cached * (self.cached_usd or 0)) / MILLION

    @property
    def told(self) -> dict[str, Any]:
        """The price as a script's answer has it."""
        usd = {"input": float(self.input_usd), "output": float(self.output_usd)}
        return {"model": self.model, "window": self.window, **usd, "date": self.date, "source": self.source}

    @property
    def said(self) -> str:
        """The price for a person."""
        return f"USD {self.input_usd:f} and {self.output_usd:f} per million tokens in and out"


class Prices(Struct, frozen=True):
    """A price table: prices by model and window, and what models' chat templates add to a prompt."""

    prices: Mapping[tuple[str, str], Price]
    templates: Mapping[str, Template] = field(default_factory=dict)

    def find(self, model: str, window: str) -> Price | None:
        """The price of `model` in `window`, None where it is not known."""
        return self.prices.get((model, window))

    def at_most(self, model: str, window: str) -> Price | None:
        """The price of `model` in `window`, or its realtime price where only that is known."""
        return self.find(model, window) or self.find(model, REALTIME)

    def replaced(self, others: Iterable[Price]) -> Prices:
        """This table with the prices of `others` in the place of its own."""
        return Prices({**self.prices, **{(one.model, one.window): one for one in others}}, self.templates)

    def without(self, models: Collection[str], window: str) -> Prices:
        """This table without the prices of `models` in `window`, nor what would stand in for them."""
        gone = {(model, one) for model in models for one in (window, REALTIME)}
        return Prices({name: price for name, price in self.prices.items() if name not in gone}, self.templates)


def load_prices(path: Path | None, disk: Disk) -> Prices:
    """The bundled table; with `path`, its prices replace the bundled ones of the same model and window.

    The file is JSON: {"sources": {NAME: {"page", "date"}}, "models": {ID: {"source": NAME, "24h": [IN, OUT, CACHED]}}}
    in USD per million tokens, the same for "1h" and "realtime". CACHED may be left out, and null is a price that is not
    known. "realtime" may be from a "realtime_source". Raises Failure (2) if it is anything else.
    """
    table = _table(BUNDLED, disk)
    if path is None:
        return table
    own = _table(path, disk)
    return Prices({**table.prices, **own.prices}, {**table.templates, **own.templates})


def _table(path: Path, disk: Disk) -> Prices:
    try:
        with opened(path, disk) as file:
            content = json.loads(file.read(1 << 22), parse_float=Decimal)
        sources, templates = content["sources"], dict[str, Template]()
        found: dict[tuple[str, str], Price] = {}
        for model, entry in content["models"].items():
            found.update({(model, price.window): price for price in _of_model(model, entry, sources)})
            if added := entry.get("template_tokens"):
                always, without_system = (int(added.get(name, 0)) for name in ("always", "without_system"))
                templates[model] = Template(always, without_system, float(added.get("schema_factor", 1)))
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        form = '{"sources": {"mine": {"page": "…", "date": "2026-11-22"}}, '
        form += '"models": {"MODEL": {"source": "mine", "24h": [0.05, 0.20]}}}'
        message = f"{plain(path)} is not a price table ({type(error).__name__}: {plain(error, 80)})"
        raise Failure(Exit.BAD_INPUT, "bad_prices", message, f"expected {form}, USD per million tokens") from None
    return Prices(found, templates)


def _of_model(model: str, entry: dict[str, Any], sources: dict[str, Any]) -> Iterator[Price]:
    """The prices of one model; raises ValueError where a batch is dearer than the same at once."""
    most: Price | None = None
    for window in (REALTIME, *WINDOWS):
        source = sources[entry.get("realtime_source", entry["source"]) if window == REALTIME else entry["source"]]
        if entry.get(window) is None:
            continue
        given, answered, *cached = (_amount(amount) for amount in entry[window])
        page, date = str(source["page"]), str(source["date"])
        price = Price(model, window, given, answered, page, date, cached[0] if cached else None)
        most = most or (price if window == REALTIME else None)
        if most is not None and (given > most.input_usd or answered > most.output_usd):
            raise ValueError(f"{model} is dearer at {window} than at once")
        yield price


def _amount(value: Any) -> Decimal:
    """A price; raises ValueError for what cannot be one."""
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)) or not 0 <= value < 1_000_000:
        raise ValueError(f"{value!r} is not a price")
    return Decimal(value)
