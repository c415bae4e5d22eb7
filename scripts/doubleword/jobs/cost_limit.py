"""--max-cost: nothing is asked unless all that a job may cost surely stays within the limit, by the server's prices.

Promises: the last word on a price is the server's, where it has one; it is heard before anything is paid, and kept in
the job file for the bill.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from doubleword.endpoints import CHAT, EMBEDDINGS
from doubleword.failure import Exit, Failure, plain
from doubleword.jobs.job_file import Intended, Job, JobFile
from doubleword.server.api import Api
from doubleword.server.errors import ApiError
from doubleword.server.objects import MIXED, Batch, CostEstimate
from doubleword.system import Disk, System

if TYPE_CHECKING:
    from doubleword.pricing.prices import Prices

ASKED = ("creating", "created")  # states of a batch that costs, or may
AT_ONCE = 4


def require_cost(
    paths: Sequence[Path],
    window: str,
    limit: float,
    system: System,
    spent_usd: float | None = 0.0,
    prices: Prices | None = None,
    last_word: bool = True,
    rough_usd: Decimal | None = None,
) -> None:
    """Raise Failure (8) unless the requests in `paths`, and what the job has cost before, surely stay within `limit`
    USD; what is unknown is not sure. `spent_usd` is the most that it has cost before, see `spent_ceiling`.

    `prices` are those of the table unless others are given. Without the `last_word` what only a price refuses is let
    through, since the server's own may differ. `rough_usd` is what the server expects, where only that is known.
    """
    from doubleword.pricing import estimate as pricing
    from doubleword.pricing.prices import load_prices

    ceiling: float | None = 0.0
    why, named = "what the job has cost so far is not known" if spent_usd is None else "", ""
    if paths:
        found = pricing.estimate(paths, window, system.disk, prices or load_prices(None, system.disk))
        ceiling = found.ceiling_usd
        last_word = last_word or bool(found.uncapped_requests) or spent_usd is None
        if found.unknown_models:
            why = f"the price of {plain(found.unknown_models[0], 80)} is not known"
            if rough_usd is not None:
                why += f", only the server's rough estimate of USD {rough_usd:.4f}"
        elif ceiling is None:
            why = "a price or a limit of tokens is not known"
        named = "; ".join(f"{plain(one.model, 80)}: {one.said}" for one in found.prices[:3])
    if (ceiling is None or spent_usd is None) and last_word:
        message = f"--max-cost {limit:g} cannot be promised: {why}"
        hint = "set --max-tokens when the file is made, see estimate_cost.py, or leave --max-cost out"
        raise Failure(Exit.REFUSED, "cost_unknown", message, hint)
    if spent_usd is not None and ceiling is not None and spent_usd + ceiling > limit and last_word:
        before = f" after up to USD {spent_usd:.4f} that the job has cost so far" if spent_usd else ""
        message = f"the requests may cost up to USD {ceiling:.4f}{before}, more than --max-cost {limit:g}"
        message += f" ({named})" if named else ""
        raise Failure(Exit.REFUSED, "over_max_cost", message, "send fewer requests, or raise --max-cost")


def spent_ceiling(store: JobFile, system: System) -> float | None:
    """The most that the job has cost so far, in USD: the ceilings of all batches that exist, or may exist.

    None where a price, a limit of tokens or the batch file of one of them is not known any more; 0 on the embedded
    engine. What the server's own retry runs again is in it already: only requests without an answer, which have no
    usage that could be charged.
    """
    from doubleword.pricing import estimate as pricing

    asked = [store.input_path(one.input) for one in store.job.batches if one.state in ASKED]
    if not asked or store.job.local is not None:
        return 0.0
    try:
        return pricing.estimate(asked, store.job.window, system.disk, prices_of(store.job, system.disk)).ceiling_usd
    except Failure:  # a batch file of an earlier attempt is gone
        return None


def prices_of(job: Job | None, disk: Disk) -> Prices:
    """The price table, put right by what the server said of the job."""
    from doubleword.pricing.prices import Price, load_prices

    table = load_prices(None, disk)
    return (
        table
        if job is None
        else table.replaced(
            Price(model, window, Decimal(given), Decimal(answered), job.base_url or "", "")
            for model, windows in job.tariff.items()
            for window, (given, answered) in windows.items()
        )
    )


def behind(job: Job, disk: Disk) -> list[str]:
    """What to tell of a price table that is not what the server charges for the job."""
    from doubleword.pricing import live
    from doubleword.pricing.prices import load_prices

    return list(live.behind(load_prices(None, disk), prices_of(job, disk).prices.values())) if job.tariff else []


def asked_models(job: Job | None, batches: Sequence[Batch], first: Sequence[str]) -> dict[str, str]:
    """For each batch the one model that all its requests ask for, empty where there are several or nobody knows.

    `first` are those of the job's batch files.
    """
    made = {one.batch_id: one for one in job.batches} if job is not None else {}
    # Later attempts ask as was asked last, so after a change of model only the change itself tells.
    changed = any(one.change is not None and one.change.get("model", not one.change) for one in made.values())
    found = {}
    for batch in batches:
        one = made.get(batch.id)
        told = one.asked_model(batch.model) if one is not None else batch.model.replace(MIXED, "")
        if not told and len(first) == 1 and (one is None or one.attempt == 1 or not changed):
            told = first[0]
        found[batch.id] = told
    return found


class Approval:
    """Holds the price table against the server's own, once the batch files of a job are there and before it is paid.

    Raises Failure (8) where the job would not stay within `limit` USD by the server's prices.
    """

    def __init__(
        self, store: JobFile, api: Api, system: System, limit: float | None, note: Callable[[str], None]
    ) -> None:
        self._store = store
        self._api = api
        self._system = system
        self._limit = limit
        self._note = note

    def __call__(self, ones: Sequence[Intended]) -> None:
        job = self._store.job
        quotes = self._quotes(ones)
        unsure = self._learnt(quotes)
        for warning in behind(job, self._system.disk):
            self._note(warning)
        if self._limit is not None:
            prices = prices_of(job, self._system.disk).without(unsure, job.window)
            paths = [self._store.input_path(one.input) for one in ones]
            spent = spent_ceiling(self._store, self._system)
            rough = sum((quote.cost_usd or Decimal(0) for _, quote in quotes), Decimal(0)) or None
            require_cost(paths, job.window, self._limit, self._system, spent, prices, rough_usd=rough)

    def _quotes(self, ones: Sequence[Intended]) -> list[tuple[Intended, CostEstimate]]:
        """What the server expects each file to cost; nothing where it has no such call, or stays away."""
        found: dict[str, CostEstimate | None] = {}

        def ask(one: Intended) -> None:
            found[one.key] = self._api.cost_estimate(one.file_id or "", self._store.job.window)

        with contextlib.suppress(ApiError):  # then the table has to do
            ask(ones[0])
            if found[ones[0].key] is not None:
                self._system.together([functools.partial(ask, one) for one in ones[1:]], AT_ONCE)
        return [(one, quote) for one in ones if (quote := found.get(one.key)) is not None]

    def _learnt(self, quotes: Sequence[tuple[Intended, CostEstimate]]) -> set[str]:
        """Keep the server's prices where they are others than ours; the models whose price it does not tell."""
        from doubleword.pricing import live
        from doubleword.pricing.prices import REALTIME

        job, prices = self._store.job, prices_of(self._store.job, self._system.disk)
        unlike: dict[str, str] = {}
        for one, quote in quotes:
            one.models = sorted(model.model for model in quote.models)
            endpoint = EMBEDDINGS if one.input.endpoint == EMBEDDINGS else CHAT
            unlike.update(dict.fromkeys(live.unlike([quote], prices, job.window), endpoint))
        told = []
        with contextlib.suppress(ApiError):
            told = live.live_prices(self._api, self._system, unlike, (job.window, REALTIME)) if unlike else []
        for price in told:
            pair = [f"{price.input_usd:f}", f"{price.output_usd:f}"]
            job.tariff.setdefault(price.model, {})[price.window] = pair
        if quotes:
            self._store.save()
        return unlike.keys() - {price.model for price in told if price.window == job.window}
