"""The bill after: what was charged, as the server says it, or as tokens and prices make it; beside what was expected.

Promises: every answer that was given counts, also one that a later attempt replaced or that nobody can use; an amount
is called billed only where the server has counted every answer of every batch; what is not known is null, with the
reason. Amounts are exact decimals until they are printed.

The server bills requests by the model that was asked for, by prompt and completion tokens (`usage` of each answer);
failed requests are not charged (dwctl api/models/batches.rs, `BatchAnalytics`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from doubleword.answers import usage as usage_of
from doubleword.failure import plain
from doubleword.pricing.prices import REALTIME, Prices
from doubleword.quick_msgspec import Struct, field
from doubleword.server.api import PAGE, Api
from doubleword.server.errors import ApiError
from doubleword.server.objects import Analytics, Batch
from doubleword.system import System

MODELS = 1000
LONGEST_MODEL = 200
# Analytics follow a batch by seconds; the second look is soon, and none comes later than this.
ANALYTICS_S = 20.0
ANSWER_S = 6.0  # for the answers to one look; one that drips, chunk by chunk, takes a few times as long


class Usage(Struct):
    """Tokens of answers by the model that each names, as `result_lines.Tokens`; `unknown` answers name none."""

    models: dict[str, list[int]] = field(default_factory=dict)
    answers: int = 0
    unknown: int = 0
    written: int = 0  # tokens that were written into the prompt cache, whose price depends on how long it keeps them

    def add(self, body: dict[str, Any], charged: bool = True) -> None:
        """Count one answer, or what is not `charged` unless it took tokens all the same."""
        found = usage_of.usage(body)
        if found is None:
            self.unknown += charged
            return
        self.written += found.written
        self.count(str(body.get("model") or "")[:LONGEST_MODEL], 1, *found[:4])

    def include(self, other: Usage) -> None:
        """Count what `other` counted."""
        self.answers += other.answers
        self.unknown += other.unknown
        self.written += other.written
        for model, sums in other.models.items():
            self.count(model, 0, *sums)

    def count(
        self, model: str, answers: int, prompt: int, completion: int, cached: int = 0, reasoning: int = 0
    ) -> None:
        """Count the tokens of answers by `model`."""
        self.answers += answers
        if not (model or prompt or completion):
            return
        name = model if model in self.models or len(self.models) < MODELS else ""
        sums = self.models.setdefault(name, [0, 0, 0, 0])
        for at, tokens in enumerate((prompt, completion, cached, reasoning)):
            sums[at] += tokens

    @property
    def tokens(self) -> dict[str, int | None]:
        """The sums over all models, by the names that the API gives them."""
        names = ("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens")
        return {name: sum(sums[at] for sums in self.models.values()) for at, name in enumerate(names)}


class Part(Struct, frozen=True):
    """One batch of a job: the tokens of its answers, None where those were not read; the one model that it asks, empty
    for several; and what the server counted, None where it has not counted all.
    """

    usage: Usage | None
    asked: str
    seen: Analytics | None

    def charged(self, listed: bool = False) -> Decimal | None:
        """What the server says that it cost, `listed` without discounts; it says nothing of one without answers."""
        if self.seen is None:
            return None
        return (self.seen.list_cost_usd if listed else self.seen.cost_usd) if self.seen.requests else Decimal(0)

    @property
    def tokens(self) -> Usage:
        """The tokens of its answers, or what the server counted, which does not tell how much input was cached."""
        if self.usage is not None or self.seen is None:
            return self.usage or Usage(unknown=1)
        sums = [self.seen.prompt_tokens, self.seen.completion_tokens, 0, self.seen.reasoning_tokens or 0]
        return Usage({self.asked: sums}, unknown=int(self.charged() != self.charged(listed=True)))


def counted(
    api: Api, job_id: str, batches: Sequence[Batch], answers: Mapping[str, int], system: System, wait_s: float
) -> tuple[dict[str, Analytics], str]:
    """The analytics of those batches of a job of which the server counted every one of `answers`; and why not of all.

    Once all are over it is looked at again, for `wait_s` at most, unless a model has no price there, so that it
    never comes. The id of the job may be empty.
    """
    over = all(one.terminal for one in batches)
    ends = system.monotonic() + (min(wait_s, ANALYTICS_S) if over else 0.0)
    found: dict[str, Analytics] = {}
    until = api.until
    try:
        for look in itertools.count(1):
            api.until = system.monotonic() + ANSWER_S
            for batch_id, seen in _looked(api, job_id, [one for one in batches if one.id not in found]).items():
                if seen is None:
                    return found, "this server tells no costs"
                if seen.requests >= answers[batch_id]:
                    found[batch_id] = seen
            left = [one for one in batches if one.id not in found]
            pause = min(float(look), ends - system.monotonic())
            if look == 1 and left and pause > 0 and _unpriced(api, left):
                return found, "the server has no price for a model"
            if not left or pause <= 0:
                break
            system.sleep(pause)
    except ApiError as error:
        return found, f"asking for the bill: {plain(error.sentence, 120)}"
    finally:
        api.until = until
    return found, "the server has not counted all answers yet" if left else ""


def _looked(api: Api, job_id: str, batches: Sequence[Batch]) -> dict[str, Analytics | None]:
    """The analytics of batches; many of one job come with one list."""
    found: dict[str, Analytics | None] = {}
    if len(batches) > 1 and job_id:
        listed = itertools.islice(api.batches(job_id, analytics=True), max(PAGE, 2 * len(batches)))
        known = {one.id: one.analytics for one in listed if one.analytics is not None}
        found = {one.id: known[one.id] for one in batches if one.id in known}
    for one in batches:
        if one.id not in found:
            found[one.id] = api.analytics(one.id)
            if found[one.id] is None:
                break
    return found


def _unpriced(api: Api, batches: Sequence[Batch]) -> bool:
    """Whether a batch has a model without a tariff: its answers are counted never (seen on the server)."""
    quotes = (api.cost_estimate(one.input_file_id, one.window) for one in batches if one.input_file_id)
    return any(not model.cost_usd for quote in quotes if quote is not None for model in quote.models)


def bill(parts: Sequence[Part], window: str, prices: Prices, late: str = "") -> dict[str, Any]:
    """The keys `usage`, `cost_usd`, `cost_source`, `list_cost_usd`, `realtime_usd`, `saved_usd` and, where the cost is
    not billed, `cost_reason`; `late` says why the server has not counted all.
    """
    costs = [_cost(part, window, prices) for part in parts]
    cost = _sum(amount for amount, _ in costs)
    at_once = _sum(_computed(part, REALTIME, prices)[0] for part in parts)
    is_billed = all(part.charged() is not None for part in parts)
    why = "" if is_billed else "; ".join(dict.fromkeys(filter(None, (late, *(why for _, why in costs)))))
    usage = Usage()
    for part in parts:
        usage.include(part.tokens)
    return {
        "usage": {**usage.tokens, **dict.fromkeys(_untold(parts, usage.tokens))},
        "cost_usd": _number(cost),
        "cost_source": None if cost is None else "billed" if is_billed else "computed",
        **({"cost_reason": why} if why else {}),
        "list_cost_usd": _number(_sum(_cost(part, window, prices, listed=True)[0] for part in parts)),
        "realtime_usd": _number(at_once),
        "saved_usd": None if at_once is None or cost is None else _number(at_once - cost),
    }


def _untold(parts: Sequence[Part], names: Iterable[str]) -> Iterable[str]:
    """Which tokens nobody knows: all where a batch was neither read nor counted, the cached ones where not read."""
    if any(part.usage is None and part.seen is None for part in parts):
        return names
    return ["cached_tokens"] if any(part.usage is None for part in parts) else []


def told(keys: dict[str, Any], answers: int, failed: int) -> str:
    """One line on the bill for a person, from the keys of `bill` and `estimate_usd`."""
    named = (("estimated", "estimate_usd"), ("realtime", "realtime_usd"))
    beside = [f"{word} {usd(keys[name])}" for word, name in named if keys.get(name) is not None]
    beside += [f"{failed:,} failed, not charged"] if failed else []
    amount = f"{keys['cost_source']} USD {usd(keys['cost_usd'])}" if keys["cost_source"] else "cost not known"
    return f"{amount} for {answers:,} answers" + (f" ({'; '.join(beside)})" if beside else "")


def _cost(part: Part, window: str, prices: Prices, listed: bool = False) -> tuple[Decimal | None, str]:
    """What the server charged for a batch, `listed` without discounts, or as `_computed`."""
    charged = part.charged(listed)
    return (charged, "") if charged is not None else _computed(part, window, prices, discounts=not listed)


def _computed(part: Part, window: str, prices: Prices, discounts: bool = True) -> tuple[Decimal | None, str]:
    """What the tokens of a batch cost in `window`; else None, and which price or tokens are not known."""
    usage, total = part.tokens, Decimal(0)
    if usage.unknown:
        return None, f"{usage.unknown} answers do not say their tokens" if part.usage is not None else ""
    if usage.written:
        return None, "input was written into the prompt cache, at a price that only the server knows"
    for model, (prompt, completion, cached, _) in usage.models.items():
        price = prices.find(part.asked or model, window)
        named = plain(part.asked or model or "a model without a name", 80)
        if price is None:
            return None, f"the price of {named} at {window} is not known"
        cost = price.cost(prompt, completion, min(cached, prompt) if discounts else 0)
        if cost is None:
            return None, f"the price of cached input of {named} at {window} is not known"
        total += cost
    return total, ""


def _sum(amounts: Iterable[Decimal | None]) -> Decimal | None:
    known = list(amounts)
    return None if None in known else sum((one for one in known if one is not None), Decimal(0))


def _number(amount: Decimal | None) -> float | None:
    """An amount as a JSON number: all its digits, up to 15 of them."""
    return None if amount is None else float(amount)


def usd(amount: float, decimals: int = 2) -> str:
    """An amount for a person: so many decimals, or two digits that are not zero."""
    return f"{amount:,.{decimals}f}" if amount >= 0.1 or not amount else f"{float(f'{amount:.1e}'):.10f}".rstrip("0")
