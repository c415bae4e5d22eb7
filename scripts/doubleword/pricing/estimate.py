"""Money, before anything is sent: what a batch file would cost, and what it can cost at most.

Promises: needs no network; a model without a known price makes the cost unknown, never guessed; the ceiling is
never below the bill for running each request once, or there is none; memory does not grow with the file.

Prompt tokens are counted as `prompt_tokens` says, answers as `answer_tokens` does, but as `max_tokens` at most. Models
that reason may write much more. Where only a model's realtime price is known, that is what a batch costs at most.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from doubleword.batch_files.reading import numbered_lines, request_of
from doubleword.cli import script
from doubleword.failure import Exit, Failure, plain
from doubleword.pricing.answer_tokens import answer_length
from doubleword.pricing.prices import REALTIME, Price, Prices
from doubleword.pricing.prompt_tokens import Prompt, Template, texts_in
from doubleword.quick_msgspec import MsgspecError, Struct
from doubleword.service import EMBEDDINGS
from doubleword.system import Disk

# How the tokens are counted, and how far off that was (prompt_tokens and answer_tokens say where it was measured).
METHOD = (
    "prompts: by kinds of characters, images by their size; off by up to 15 % over a table of English rows, by up to "
    "half in other scripts. answers: assumed {}, at most max_tokens. ceiling: a token for each byte"
)
# An estimate reads the batch files once more. Beyond this size it would be felt beside the download.
ESTIMATED_BYTES = 64_000_000
LIMITS = ("max_completion_tokens", "max_tokens", "max_output_tokens")


class Estimate(Struct, frozen=True):
    """What running the requests once would cost, which ask for `models`.

    `cost_usd` is None when a model's price is unknown (`unknown_models` names it). `ceiling_usd` is None for the
    same reason, or because `uncapped_requests` set no limit to their answer. Neither is ever a guess.
    `completion_tokens` is the assumption behind `cost_usd`, `method` says how all were counted.
    """

    models: tuple[str, ...]
    requests: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    ceiling_usd: float | None
    unknown_models: tuple[str, ...]
    uncapped_requests: int
    prices: tuple[Price, ...]
    warnings: tuple[str, ...]
    method: str


def total_of(paths: Sequence[Path], disk: Disk, prices: Prices, answer_tokens: float | None = None) -> Total:
    """The sums over all requests of batch files; `answer_tokens` is how long such answers were, where that is known.

    Raises Failure (2) for a file that is missing, empty, or holds a line that is no request.
    """
    total = Total(prices, answer_tokens)
    for path in paths:
        total.add_file(path, disk)
    if not total.requests:
        names = plain(", ".join(str(path) for path in paths))
        hint = "create_batch_file.py writes request lines"
        raise Failure(Exit.BAD_INPUT, "no_requests", f"there is no request in {names}", hint)
    return total


def estimated(files: Sequence[Path], window: str, disk: Disk, prices: Prices) -> Estimate | None:
    """The estimate for `files`; None where to read them again would be felt beside the download."""
    if sum(disk.size(path) or 0 for path in files) > ESTIMATED_BYTES:
        return None
    return total_of(files, disk, prices).estimate(window)


class _Sums(Struct):
    """Tokens of all requests to one model."""

    prompt: float = 0
    most_prompt: Decimal = Decimal(0)  # each token as many times as it may cost
    answer: float = 0
    most_answer: int = 0


class Total:
    """Sums over requests, by model, and turns them into an Estimate at the end."""

    def __init__(self, prices: Prices, answer_tokens: float | None = None) -> None:
        self.requests = 0
        self._prices = prices
        self._answer_tokens = answer_tokens
        self._sources: Counter[str] = Counter()
        self._models: dict[str, _Sums] = {}
        self._uncapped = 0
        self._unseen_images = 0

    def add_file(self, path: Path, disk: Disk) -> None:
        """Count the requests of a batch file; raises Failure (2) where it is missing, or a line is no request."""
        for number, line in numbered_lines(path, disk):
            try:
                self.add(request_of(line))
            except (KeyError, TypeError, ValueError, RecursionError, MsgspecError):
                message = f"{plain(path)}, line {number}: not a request line whose `body` names its `model`"
                hint = f"{script('validate_batch_file.py')} says what is wrong with it"
                raise Failure(Exit.BAD_INPUT, "bad_line", message, hint) from None

    def add(self, line: Any) -> None:
        """Count one parsed request line; raises KeyError or TypeError when it is not one."""
        url, body = line["url"], line["body"]
        model = body["model"]
        if not isinstance(model, str) or not isinstance(url, str):
            raise TypeError(model)
        template = self._prices.templates.get(model, Template())
        prompt = Prompt(url, body, template)
        most_answer = _most_answer(url, body)
        expected, source = answer_length(url, body, prompt.tokens, self._answer_tokens, template.schema_factor)
        if url != EMBEDDINGS:
            self._sources[source] += 1
        sums = self._models.setdefault(model, _Sums())
        sums.prompt += prompt.tokens
        sums.most_prompt += (prompt.most or 0) * prompt.write_factor
        sums.answer += expected if most_answer is None else min(most_answer, expected)
        sums.most_answer += most_answer or 0
        self._uncapped += most_answer is None or prompt.most is None
        self._unseen_images += prompt.unseen_images
        self.requests += 1

    def include(self, other: Total) -> None:
        """Count all that another one has counted."""
        for model, more in other._models.items():
            sums = self._models.setdefault(model, _Sums())
            for name in _Sums.__struct_fields__:
                setattr(sums, name, getattr(sums, name) + getattr(more, name))
        self._sources.update(other._sources)
        self._uncapped += other._uncapped
        self._unseen_images += other._unseen_images
        self.requests += other.requests

    @property
    def models(self) -> list[str]:
        """The models that are asked."""
        return list(self._models)

    def estimate(self, window: str) -> Estimate:
        """The sums as money in `window`."""
        known = {model: price for model in self._models if (price := self._prices.at_most(model, window))}
        unknown = tuple(sorted(model for model in self._models if model not in known))
        cost = most = Decimal(0)
        for model, price in known.items():
            sums = self._models[model]
            cost += price.cost(Decimal(sums.prompt), Decimal(sums.answer)) or 0
            most += price.cost(sums.most_prompt, sums.most_answer) or 0
        free = not any(price.input_usd or price.output_usd for price in known.values())
        bounded = not unknown and (free or not self._uncapped)
        return Estimate(
            models=tuple(self._models),
            requests=self.requests,
            prompt_tokens=round(sum(sums.prompt for sums in self._models.values())),
            completion_tokens=round(sum(sums.answer for sums in self._models.values())),
            cost_usd=None if unknown else round(float(cost), 6),
            ceiling_usd=math.ceil(most * 1_000_000) / 1e6 if bounded else None,
            unknown_models=unknown,
            uncapped_requests=self._uncapped,
            prices=tuple(known[model] for model in sorted(known)),
            warnings=tuple(self._warnings(unknown, window)),
            method=self._method(window, known.values()),
        )

    def forecast(self, window: str) -> dict[str, Any]:
        """What a dry run says: requests, prompt_tokens, cost_usd, ceiling_usd, realtime_usd, method and warnings."""
        found = self.estimate(window)
        return {
            "requests": found.requests,
            "prompt_tokens": found.prompt_tokens,
            "cost_usd": found.cost_usd,
            "ceiling_usd": found.ceiling_usd,
            "realtime_usd": self.estimate(REALTIME).cost_usd,
            "method": found.method,
            "warnings": list(found.warnings)[:5],
        }

    def _method(self, window: str, prices: Iterable[Price]) -> str:
        """How the tokens were counted, and which prices only stand in for that of `window`."""
        method = METHOD.format(", or ".join(source for source, _ in self._sources.most_common()) or "none")
        stood_in = [price.model for price in prices if price.window != window]
        if stood_in:
            named = f"{plain(stood_in[0], 80)}{f' and {len(stood_in) - 1} more' if len(stood_in) > 1 else ''}"
            method += f". price of {named} at {window}: not known, the realtime price, which is the most it can be"
        return method

    def _warnings(self, unknown: tuple[str, ...], window: str) -> Iterator[str]:
        if unknown:
            yield f"the price of {len(unknown)} model(s) at {window} is not known, so neither is the cost"
        if self._uncapped:
            yield f"there is no ceiling: {self._uncapped:,} request(s) set no max_tokens, or hold audio, video or files"
        if self._unseen_images:
            yield f"{self._unseen_images:,} image(s) of unknown size are counted as one megapixel each"


def _most_answer(url: str, body: Mapping[str, Any]) -> int | None:
    """The most tokens that the answers to one request may have; None without a limit, 0 for embeddings."""
    if url == EMBEDDINGS:
        return 0
    limits = [body[name] for name in LIMITS if _is_count(body.get(name))]
    if not limits:
        return None
    answers = max([body[name] for name in ("n", "best_of") if _is_count(body.get(name))], default=1)
    return int(max(limits) * answers * texts_in(body.get("prompt")))


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
