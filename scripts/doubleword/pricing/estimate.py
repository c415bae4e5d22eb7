"""Money, before anything is sent: what a batch file would cost, and what it can cost at most.

Promises: needs no network; a model without a known price makes the cost unknown, never guessed; the ceiling is
never below the bill for running each request once, or there is none; memory does not grow with the file.

Prompt tokens are counted as `prompt_tokens` says. Answers are counted as the server's own estimate does when it
has no history (dwctl files.rs, cost-estimate): 1.1 times the prompt, but never more than `max_tokens`. Models that
reason may write much more. Prices come from prices.json, which names the page and the date of each.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from doubleword.batch_files.reading import numbered_lines, request_of
from doubleword.failure import Exit, Failure, plain
from doubleword.pricing.prompt_tokens import Prompt, Template, texts_in
from doubleword.service import EMBEDDINGS
from doubleword.system import Disk
from doubleword.tables.plain_copy import opened

WINDOWS = ("24h", "1h")
# How the tokens are counted, and how far off that was (prompt_tokens says where it was measured).
METHOD = (
    "prompts: by kinds of characters, images by their size; off by up to 15 % over a table of English rows, by up to "
    "half in other scripts. answers: assumed 1.1 times the prompt, at most max_tokens. ceiling: a token for each byte"
)
BUNDLED = Path(__file__).with_name("prices.json")
ANSWER_PER_PROMPT = 1.1
LIMITS = ("max_completion_tokens", "max_tokens", "max_output_tokens")


@dataclass(frozen=True)
class Price:
    """USD per million tokens for one model and completion window; `date` is when `source` was read."""

    model: str
    window: str
    input_usd: float
    output_usd: float
    source: str
    date: str


@dataclass(frozen=True)
class Prices:
    """A price table: prices by model and window, and what models' chat templates add to a prompt."""

    prices: Mapping[tuple[str, str], Price]
    templates: Mapping[str, Template] = field(default_factory=dict)

    def find(self, model: str, window: str) -> Price | None:
        """The price of `model` in `window`, None where it is not known."""
        return self.prices.get((model, window))


@dataclass(frozen=True)
class Estimate:
    """What running the requests once would cost.

    `cost_usd` is None when a model's price is unknown (`unknown_models` names it). `ceiling_usd` is None for the
    same reason, or because `uncapped_requests` set no limit to their answer. Neither is ever a guess.
    `completion_tokens` is the assumption behind `cost_usd` (see the module).
    """

    requests: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    ceiling_usd: float | None
    unknown_models: tuple[str, ...]
    uncapped_requests: int
    prices: tuple[Price, ...]
    warnings: tuple[str, ...]


def estimate(paths: Sequence[Path], window: str, disk: Disk, prices: Prices) -> Estimate:
    """The cost of running every request of the batch files `paths` once in `window` ("24h" or "1h").

    Raises Failure (2) for a file that is missing, empty, or holds a line that is no request.
    """
    return estimates(paths, disk, prices)[window]


def estimates(paths: Sequence[Path], disk: Disk, prices: Prices) -> dict[str, Estimate]:
    """`estimate` for each of `WINDOWS`, from one reading of the files."""
    from doubleword import json_codec

    total = Total(prices)
    for path in paths:
        for number, line in numbered_lines(path, disk):
            try:
                total.add(request_of(line))
            except (KeyError, TypeError, ValueError, RecursionError, json_codec.MsgspecError):
                message = f"{plain(path)}, line {number}: not a request line whose `body` names its `model`"
                hint = "python3 validate_batch_file.py says what is wrong with it"
                raise Failure(Exit.BAD_INPUT, "bad_line", message, hint) from None
    if not total.requests:
        names = plain(", ".join(str(path) for path in paths))
        hint = "create_batch_file.py writes request lines"
        raise Failure(Exit.BAD_INPUT, "no_requests", f"there is no request in {names}", hint)
    return {window: total.estimate(window) for window in WINDOWS}


def load_prices(path: Path | None, disk: Disk) -> Prices:
    """The bundled table; with `path`, its prices replace the bundled ones of the same model and window.

    The file is JSON: {"sources": {NAME: {"page", "date"}}, "models": {ID: {"source": NAME, "24h": [IN, OUT],
    "1h": [IN, OUT]}}} in USD per million tokens. Raises Failure (2) if it is anything else.
    """
    table = _table(BUNDLED, disk)
    if path is None:
        return table
    own = _table(path, disk)
    return Prices({**table.prices, **own.prices}, {**table.templates, **own.templates})


@dataclass
class _Sums:
    """Tokens of all requests to one model."""

    prompt: float = 0
    most_prompt: int = 0
    answer: float = 0
    most_answer: int = 0


class Total:
    """Sums over requests, by model, and turns them into an Estimate at the end."""

    def __init__(self, prices: Prices) -> None:
        self.requests = 0
        self._prices = prices
        self._models: dict[str, _Sums] = {}
        self._uncapped = 0
        self._unseen_images = 0

    def add(self, line: Any) -> None:
        """Count one parsed request line; raises KeyError or TypeError when it is not one."""
        url, body = line["url"], line["body"]
        model = body["model"]
        if not isinstance(model, str) or not isinstance(url, str):
            raise TypeError(model)
        prompt = Prompt(url, body, self._prices.templates.get(model, Template()))
        most_answer = _most_answer(url, body)
        expected = ANSWER_PER_PROMPT * prompt.tokens
        sums = self._models.setdefault(model, _Sums())
        sums.prompt += prompt.tokens
        sums.most_prompt += prompt.most or 0
        sums.answer += expected if most_answer is None else min(most_answer, expected)
        sums.most_answer += most_answer or 0
        self._uncapped += most_answer is None or prompt.most is None
        self._unseen_images += prompt.unseen_images
        self.requests += 1

    def estimate(self, window: str) -> Estimate:
        """The sums as money in `window`."""
        known = {model: price for model in self._models if (price := self._prices.find(model, window))}
        unknown = tuple(sorted(model for model in self._models if model not in known))
        cost = most = 0.0
        for model, price in known.items():
            sums = self._models[model]
            cost += (sums.prompt * price.input_usd + sums.answer * price.output_usd) / 1e6
            most += (sums.most_prompt * price.input_usd + sums.most_answer * price.output_usd) / 1e6
        free = not any(price.input_usd or price.output_usd for price in known.values())
        bounded = not unknown and (free or not self._uncapped)
        return Estimate(
            requests=self.requests,
            prompt_tokens=round(sum(sums.prompt for sums in self._models.values())),
            completion_tokens=round(sum(sums.answer for sums in self._models.values())),
            cost_usd=None if unknown else round(cost, 6),
            ceiling_usd=math.ceil(most * 1e6) / 1e6 if bounded else None,
            unknown_models=unknown,
            uncapped_requests=self._uncapped,
            prices=tuple(known[model] for model in sorted(known)),
            warnings=tuple(self._warnings(unknown, window)),
        )

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


def _table(path: Path, disk: Disk) -> Prices:
    try:
        with opened(path, disk) as file:
            content = json.loads(file.read(1 << 22))
        sources = content["sources"]
        prices: dict[tuple[str, str], Price] = {}
        templates: dict[str, Template] = {}
        for model, entry in content["models"].items():
            source = sources[entry["source"]]
            for window in WINDOWS:
                if window in entry:
                    given, answered = (_amount(amount) for amount in entry[window])
                    prices[model, window] = Price(
                        model, window, given, answered, str(source["page"]), str(source["date"])
                    )
            if added := entry.get("template_tokens"):
                templates[model] = Template(int(added.get("always", 0)), int(added.get("without_system", 0)))
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        form = '{"sources": {"mine": {"page": "…", "date": "2026-11-22"}}, '
        form += '"models": {"MODEL": {"source": "mine", "24h": [0.05, 0.20]}}}'
        message = f"{plain(path)} is not a price table ({type(error).__name__}: {plain(error, 80)})"
        raise Failure(Exit.BAD_INPUT, "bad_prices", message, f"expected {form}, USD per million tokens") from None
    return Prices(prices, templates)


def _amount(value: Any) -> float:
    """A price; raises ValueError for what cannot be one."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e6:
        raise ValueError(f"{value!r} is not a price")
    return float(value)
