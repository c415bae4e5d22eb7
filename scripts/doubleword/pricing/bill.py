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
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from doubleword.answers import lines as result_lines
from doubleword.failure import plain
from doubleword.pricing.estimate import Estimated
from doubleword.pricing.prices import REALTIME, Prices
from doubleword.server.api import PAGE, Api
from doubleword.server.errors import ApiError
from doubleword.server.objects import Analytics, Batch
from doubleword.system import System

MODELS = 1000
LONGEST_MODEL = 200
# Analytics follow a batch by seconds; the second look is soon, and none comes later than this.
ANALYTICS_S = 20.0
ANSWER_S = 10.0  # for the answers to one look


@dataclass
class Usage:
    """Tokens of answers by the model that each names, as `result_lines.Tokens`; `unknown` answers name none."""

    models: dict[str, list[int]] = field(default_factory=dict)
    answers: int = 0
    unknown: int = 0
    written: int = 0  # tokens that were written into the prompt cache, whose price depends on how long it keeps them

    def add(self, body: dict[str, Any]) -> None:
        """Count one answer, or one failure that has a body all the same and took tokens."""
        found = result_lines.usage(body)
        if found is None:
            self.unknown += 1 if "error" not in body else 0
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


@dataclass(frozen=True)
class Part:
    """One batch of a job: the tokens of its answers, None where those were not read, the model that all its requests
    ask for, empty where that is not one, and what the server counted, None where it has not counted all.
    """

    usage: Usage | None
    asked: str
    analytics: Analytics | None


@dataclass(frozen=True)
class Asking:
    """Asks the server what it has counted of the batches of a job, whose id may be empty, for `wait_s` at most."""

    api: Api
    job_id: str
    system: System
    wait_s: float = ANALYTICS_S

    def counted(self, batches: Sequence[Batch], answers: Mapping[str, int]) -> tuple[dict[str, Analytics], str]:
        """The analytics of those batches of which the server counted every one of `answers`; and why not of all.

        Once all are over it is looked at again, unless a model has no price there, so that it never comes.
        """
        over = all(one.terminal for one in batches)
        ends = self.system.monotonic() + (min(self.wait_s, ANALYTICS_S) if over else 0.0)
        found: dict[str, Analytics] = {}
        until = self.api.until
        try:
            for look in itertools.count(1):
                self.api.until = self.system.monotonic() + ANSWER_S
                for batch_id, seen in self._looked([one for one in batches if one.id not in found]).items():
                    if seen is None:
                        return found, "this server tells no costs"
                    if seen.requests >= answers[batch_id]:
                        found[batch_id] = seen
                left = [one for one in batches if one.id not in found]
                pause = min(float(look), ends - self.system.monotonic())
                if look == 1 and left and pause > 0 and self._unpriced(left):
                    return found, "the server has no price for a model"
                if not left or pause <= 0:
                    break
                self.system.sleep(pause)
        except ApiError as error:
            return found, f"asking for the bill: {plain(error.sentence, 120)}"
        finally:
            self.api.until = until
        return found, "the server has not counted all answers yet" if left else ""

    def _looked(self, batches: Sequence[Batch]) -> dict[str, Analytics | None]:
        """The analytics of batches; many of one job come with one list."""
        found: dict[str, Analytics | None] = {}
        if len(batches) > 1 and self.job_id:
            listed = itertools.islice(self.api.batches(self.job_id, analytics=True), max(PAGE, 2 * len(batches)))
            known = {one.id: one.analytics for one in listed if one.analytics is not None}
            found = {one.id: known[one.id] for one in batches if one.id in known}
        for one in batches:
            if one.id not in found:
                found[one.id] = self.api.analytics(one.id)
                if found[one.id] is None:
                    break
        return found

    def _unpriced(self, batches: Sequence[Batch]) -> bool:
        """Whether a batch has a model without a tariff: its answers are counted never (seen on the server)."""
        quotes = (self.api.cost_estimate(one.input_file_id, one.window) for one in batches if one.input_file_id)
        return any(not model.cost_usd for quote in quotes if quote is not None for model in quote.models)


def bill(parts: Sequence[Part], window: str, prices: Prices, reason: str = "") -> dict[str, Any]:
    """The keys `usage`, `cost_usd`, `cost_source`, `list_cost_usd`, `realtime_usd`, `saved_usd` and, where the cost is
    not billed, `cost_reason`; `reason` says why the server has not counted all.
    """
    costs = _sum(_either(_billed(part), _computed(part, window, prices)) for part in parts)
    lists = _sum(_either(_listed(part), _computed(part, window, prices, discounts=False)) for part in parts)
    realtime = _sum(_computed(part, REALTIME, prices) for part in parts)
    billed = all(_billed(part) is not None for part in parts)
    keys: dict[str, Any] = {
        "usage": _usage(parts),
        "cost_usd": _number(costs),
        "cost_source": None if costs is None else "billed" if billed else "computed",
        "list_cost_usd": _number(lists),
        "realtime_usd": _number(realtime),
        "saved_usd": None if realtime is None or costs is None else _number(realtime - costs),
    }
    reasons = [] if billed else [reason, "" if costs is not None else _unknown(parts, window, prices)]
    return {**keys, **({"cost_reason": "; ".join(filter(None, reasons))} if any(reasons) else {})}


def bill_of(
    batches: Sequence[Batch],
    usage: Mapping[str, Usage] | None,
    models: Mapping[str, str],
    window: str,
    prices: Prices,
    asking: Asking | None,
    expected: Estimated | None,
) -> dict[str, Any]:
    """The keys of `bill` for batches of a job, `estimate_usd` where there is one, and `bill`: all of it in one line.

    `usage` has the tokens of each batch's answers, None where those were not read; `models` the one that each asks for.
    What the server has counted is waited for only where all batches are over; without `asking` it is not asked.
    """
    answers = {one.id: one.completed if usage is None else usage[one.id].answers for one in batches}
    counted, why = asking.counted(batches, answers) if asking is not None else ({}, "")
    tokens = usage or dict[str, Usage]()
    parts = [Part(tokens.get(one.id), models[one.id], counted.get(one.id)) for one in batches]
    keys = bill(parts, window, prices, why)
    if expected is not None:
        keys["estimate_usd"] = expected.cost_usd
    given = sum(answers.values()) + sum(one.unknown for one in tokens.values())
    return {**keys, "bill": told(keys, given, sum(one.failed for one in batches))}


def told(keys: dict[str, Any], answers: int, failed: int) -> str:
    """One line on the bill for a person, from the keys of `bill` and `estimate_usd`."""
    named = (("estimated", "estimate_usd"), ("realtime", "realtime_usd"))
    beside = [f"{word} {_usd(keys[name])}" for word, name in named if keys.get(name) is not None]
    beside += [f"{failed:,} failed, not charged"] if failed else []
    amount = f"{keys['cost_source']} USD {_usd(keys['cost_usd'])}" if keys["cost_source"] else "cost not known"
    return f"{amount} for {answers:,} answers" + (f" ({'; '.join(beside)})" if beside else "")


def _either(first: Decimal | None, second: Decimal | None) -> Decimal | None:
    return second if first is None else first


def _billed(part: Part) -> Decimal | None:
    """What was charged for a batch, as the server says it; it says nothing of one without answers."""
    seen = part.analytics
    return None if seen is None else Decimal(0) if not seen.requests else seen.cost_usd


def _listed(part: Part) -> Decimal | None:
    seen = part.analytics
    return None if seen is None else Decimal(0) if not seen.requests else seen.list_cost_usd


def _computed(part: Part, window: str, prices: Prices, discounts: bool = True) -> Decimal | None:
    """What the tokens of a batch cost in `window`; None where a price or the tokens of an answer are not known."""
    usage = _known(part)
    if usage is None or usage.unknown or usage.written:
        return None
    total = Decimal(0)
    for model, (prompt, completion, cached, _) in usage.models.items():
        price = prices.find(part.asked or model, window)
        cost = price.cost(prompt, completion, min(cached, prompt) if discounts else 0) if price is not None else None
        if cost is None:
            return None
        total += cost
    return total


def _known(part: Part) -> Usage | None:
    """The tokens of a batch: as its answers say, or as the server counted them where none of its input was cached."""
    seen = part.analytics
    if part.usage is not None or seen is None or seen.cost_usd is None or seen.cost_usd != seen.list_cost_usd:
        return part.usage
    return Usage({part.asked: [seen.prompt_tokens, seen.completion_tokens, 0, seen.reasoning_tokens or 0]})


def _usage(parts: Sequence[Part]) -> dict[str, int | None]:
    if all(part.usage is not None for part in parts):
        total = Usage()
        for part in parts:
            total.include(part.usage or Usage())
        return total.tokens
    seen = [part.analytics for part in parts]
    return {
        "prompt_tokens": sum(one.prompt_tokens for one in seen if one is not None),
        "completion_tokens": sum(one.completion_tokens for one in seen if one is not None),
        "cached_tokens": None,
        "reasoning_tokens": sum(one.reasoning_tokens or 0 for one in seen if one is not None),
    }


def _unknown(parts: Sequence[Part], window: str, prices: Prices) -> str:
    """Why the cost of answers cannot be computed."""
    for usage, asked in ((one.usage, one.asked) for one in parts if one.usage is not None):
        if usage.unknown:
            return f"{usage.unknown} answers do not say their tokens"
        if usage.written:
            return "input was written into the prompt cache, at a price that only the server knows"
        for model, sums in usage.models.items():
            price = prices.find(asked or model, window)
            if price is None:
                return f"the price of {plain(asked or model or 'a model without a name', 80)} at {window} is not known"
            if sums[2] and price.cached_usd is None:
                return f"the price of cached input of {plain(price.model, 80)} at {window} is not known"
    return ""


def _sum(amounts: Iterable[Decimal | None]) -> Decimal | None:
    total = Decimal(0)
    for amount in amounts:
        if amount is None:
            return None
        total += amount
    return total


def _number(amount: Decimal | None) -> float | None:
    """An amount as a JSON number: all its digits, up to 15 of them."""
    return None if amount is None else float(amount)


def _usd(amount: float) -> str:
    """An amount for a person: cents, or two digits that are not zero."""
    return f"{amount:,.2f}" if amount >= 0.1 or not amount else f"{float(f'{amount:.1e}'):.10f}".rstrip("0")
