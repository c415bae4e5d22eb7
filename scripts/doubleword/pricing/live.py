"""The live tariff: what the server itself would charge, learnt from its cost estimates before anything is paid.

Promises: nothing is paid; the small files that are uploaded to learn a price are deleted again; a server without cost
estimates, or without a tariff for a model, leaves the price table as it is.

An estimate is tokens by the tariff of the window, exactly; where a model has no such tariff its realtime price, or 0
(dwctl files.rs, get_file_cost_estimate). One file gives one equation for the two prices of a model; two small files of
unlike length, whose token numbers are in no constant proportion, give both.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from decimal import Decimal

from doubleword.pricing.prices import MILLION, REALTIME, Price, Prices
from doubleword.server.api import Api
from doubleword.server.errors import ApiError
from doubleword.server.objects import CostEstimate
from doubleword.server.transfers import Upload
from doubleword.service import CHAT, EMBEDDINGS
from doubleword.system import System

# Input tokens of the two files. An answer is taken to have 1.1 times as many, cut to a whole number, or the mean of
# earlier answers: either way the two equations do not say the same.
PROBES = (105, 1000)
SAME = Decimal("1e-8")  # to which the server gives its estimates
TOLD_FROM = Decimal("0.01")
NAMED = re.compile(r"Model '([^']+)'")


def unlike(quotes: Iterable[CostEstimate], prices: Prices, window: str) -> set[str]:
    """The models whose price in `prices` is not the one that the server reckoned with, or is not there."""
    found = set()
    for one in (model for quote in quotes for model in quote.models if model.cost_usd):
        price = prices.find(one.model, window)
        ours = price.cost(one.input_tokens, one.output_tokens) if price is not None else None
        if ours is None or abs(ours - (one.cost_usd or 0)) > SAME:
            found.add(one.model)
    return found


def behind(table: Prices, live: Iterable[Price]) -> Iterator[str]:
    """What to tell of a table that differs by more than 1 % from `live` prices of batches."""
    for price in (one for one in live if one.window != REALTIME):
        known = table.find(price.model, price.window)
        if known is None:
            yield f"{price.model} at {price.window} is not in the price table; the server charges {price.said}"
        elif any(
            abs(now - then) > TOLD_FROM * then
            for now, then in ((price.input_usd, known.input_usd), (price.output_usd, known.output_usd))
        ):
            yield (
                f"the price table is behind: the server charges {price.said} for {price.model} at {price.window}, the "
                f"table of {known.date} has {known.said}; estimate and ceiling go by the server's price"
            )


def live_prices(api: Api, system: System, models: Mapping[str, str], windows: Iterable[str]) -> list[Price]:
    """The server's own prices of `models`, each with an endpoint that it serves, in `windows`; only those it has.

    Uploads two small files and deletes them. Raises ApiError where the server refuses one or stays away.
    """
    found: dict[str, list[CostEstimate]] = {window: [] for window in windows}
    for tokens in PROBES:
        with _uploaded(api, system, b"\n".join(_line(*model, tokens) for model in models.items())) as file_id:
            for window, quotes in found.items():
                quote = api.cost_estimate(file_id, window)
                if quote is None:
                    return []
                quotes.append(quote)
    date = datetime.fromtimestamp(system.now(), timezone.utc).date().isoformat()
    pairs = ((model, window, _solved(model, quotes)) for model in models for window, quotes in found.items())
    return [Price(model, window, *pair, api.base_url, date) for model, window, pair in pairs if pair is not None]


def all_live_prices(api: Api, system: System, models: Iterable[str], windows: Iterable[str]) -> list[Price]:
    """As `live_prices`, of models whose endpoint nobody told: a refusal names the one that is served at another."""
    left = dict.fromkeys(models, CHAT)
    while left:
        try:
            return live_prices(api, system, left, windows)
        except ApiError as error:
            named = NAMED.search(error.sentence)
            if error.status not in (400, 403) or named is None or named[1] not in left:
                raise
            if left.pop(named[1]) == CHAT and error.status == 400:
                left[named[1]] = EMBEDDINGS
    return []


def _line(model: str, endpoint: str, tokens: int) -> bytes:
    """A request whose body has about `tokens` as the server counts them: four bytes each."""

    def body(text: str) -> dict[str, object]:
        if endpoint == EMBEDDINGS:
            return {"input": text, "model": model}
        return {"messages": [{"content": text, "role": "user"}], "model": model}

    around = len(json.dumps(body(""), separators=(",", ":")))
    request = {
        "custom_id": hashlib.sha256(model.encode("utf-8", "surrogatepass")).hexdigest(),
        "method": "POST",
        "url": endpoint,
    }
    return json.dumps({**request, "body": body("x" * max(1, 4 * tokens - around))}).encode()


@contextlib.contextmanager
def _uploaded(api: Api, system: System, content: bytes) -> Iterator[str]:
    """The id of a file with `content` on the server; gone at the end, also where the reply to the upload was lost."""
    key = system.new_key()
    body = Upload(
        io.BytesIO(content),
        len(content),
        hashlib.sha256(content).hexdigest(),
        f"price-{key}.jsonl",
        system.new_key(),
        lambda _: None,
    )
    made: list[str] = []
    try:
        made.append(api.upload(body).id)
        yield made[0]
    finally:
        with contextlib.suppress(ApiError):
            for file_id in made or [one.id for one in api.files(key) if key in one.filename]:
                api.delete_file(file_id)


def _solved(model: str, quotes: list[CostEstimate]) -> tuple[Decimal, Decimal] | None:
    """Both prices of a model per million tokens; None where it has no tariff, or these estimates do not tell."""
    first, second = (next((one for one in quote.models if one.model == model), None) for quote in quotes)
    if first is None or second is None or not (first.cost_usd and second.cost_usd):
        return None
    apart = first.input_tokens * second.output_tokens - second.input_tokens * first.output_tokens
    if not apart:
        return None
    given = (first.cost_usd * second.output_tokens - second.cost_usd * first.output_tokens) * MILLION / apart
    answered = (second.cost_usd * first.input_tokens - first.cost_usd * second.input_tokens) * MILLION / apart
    return (given.normalize(), answered.normalize()) if given >= 0 and answered >= 0 else None
