"""The bill after: tokens that the answers took, and what they cost, beside what was expected.

Promises: every answer that was given counts, also one that a later attempt replaced or that nobody can use; a cost
is said only where the price and the tokens of all of it are known.

The server bills requests by the model that was asked for, by prompt and completion tokens (`usage` of each answer).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from doubleword.answers import lines as result_lines
from doubleword.pricing import estimate as pricing
from doubleword.system import Disk

# An estimate reads the batch files once more. Beyond this size it would be felt beside the download.
ESTIMATED_BYTES = 64_000_000
MODELS = 1000
LONGEST_MODEL = 200


@dataclass
class Usage:
    """Tokens of prompts and completions by the model that an answer names; `unknown` answers name no tokens."""

    models: dict[str, list[int]] = field(default_factory=dict)
    unknown: int = 0

    def add(self, body: dict[str, Any]) -> None:
        """Count one answer, or one failure that has a body all the same and took tokens."""
        prompt, completion = result_lines.tokens(body)
        if prompt is None and completion is None:
            self.unknown += 1 if "error" not in body else 0
            return
        self.count(str(body.get("model") or "")[:LONGEST_MODEL], prompt or 0, completion or 0)

    def include(self, other: Usage) -> None:
        """Count what `other` counted."""
        self.unknown += other.unknown
        for model, (prompt, completion) in other.models.items():
            self.count(model, prompt, completion)

    def count(self, model: str, prompt: int, completion: int) -> None:
        """Count the tokens of one answer by `model`, or of many."""
        if not (model or prompt or completion):
            return
        name = model if model in self.models or len(self.models) < MODELS else ""
        sums = self.models.setdefault(name, [0, 0])
        sums[0] += prompt
        sums[1] += completion

    @property
    def tokens(self) -> dict[str, int]:
        """The sums over all models, by the names that the API gives them."""
        prompt, completion = (sum(sums[at] for sums in self.models.values()) for at in (0, 1))
        return {"prompt_tokens": prompt, "completion_tokens": completion}


class Estimated(NamedTuple):
    """What batch files were expected to cost in USD, None where a price is unknown; and the models they ask for."""

    cost_usd: float | None
    models: tuple[str, ...]


def estimated(files: Sequence[Path], window: str, disk: Disk) -> Estimated | None:
    """The estimate for `files`; None where to read them again would be felt beside the download."""
    if sum(disk.size(path) or 0 for path in files) > ESTIMATED_BYTES:
        return None
    found = pricing.estimate(files, window, disk, pricing.load_prices(None, disk))
    return Estimated(found.cost_usd, () if found.unknown_models else tuple(price.model for price in found.prices))


def bill(usage: Usage, window: str, expected: Estimated | None, disk: Disk) -> dict[str, Any]:
    """The keys `usage`, `cost_usd` and, where an estimate was made, `estimate_usd` for answers in `window`.

    `cost_usd` is None where a price or the tokens of an answer are not known.
    """
    prices = pricing.load_prices(None, disk)
    # Where all requests name one model that is the one which is paid for, whatever the answers call it.
    asked = expected.models if expected is not None else ()
    cost: float | None = 0.0 if not usage.unknown else None
    for model, (prompt, completion) in usage.models.items():
        price = prices.find(asked[0] if len(asked) == 1 else model, window)
        if price is None or cost is None:
            cost = None
            break
        cost += (prompt * price.input_usd + completion * price.output_usd) / 1e6
    keys = {"usage": usage.tokens, "cost_usd": None if cost is None else round(cost, 6)}
    return keys if expected is None else {**keys, "estimate_usd": expected.cost_usd}
