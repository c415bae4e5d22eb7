"""--max-cost: nothing is asked unless all that a job may cost surely stays within the limit."""

from __future__ import annotations

from pathlib import Path

from doubleword.failure import Exit, Failure, plain
from doubleword.jobs.job_file import JobFile
from doubleword.system import System

ASKED = ("creating", "created")  # states of a batch that costs, or may


def require_cost(paths: list[Path], window: str, limit: float, system: System, spent_usd: float | None = 0.0) -> None:
    """Raise Failure (8) unless the requests in `paths`, and what the job has cost before, surely stay within `limit`
    USD; what is unknown is not sure. `spent_usd` is the most that it has cost before, see `spent_ceiling`.
    """
    from doubleword.pricing import estimate as pricing

    ceiling: float | None = 0.0
    why = "what the job has cost so far is not known" if spent_usd is None else ""
    if paths:
        found = pricing.estimate(paths, window, system.disk, pricing.load_prices(None, system.disk))
        ceiling = found.ceiling_usd
        if found.unknown_models:
            why = f"the price of {plain(found.unknown_models[0], 80)} is not known"
        elif ceiling is None:
            why = "a price or a limit of tokens is not known"
    if ceiling is None or spent_usd is None:
        message = f"--max-cost {limit:g} cannot be promised: {why}"
        hint = "set --max-tokens when the file is made, see estimate_cost.py, or leave --max-cost out"
        raise Failure(Exit.REFUSED, "cost_unknown", message, hint)
    if spent_usd + ceiling > limit:
        before = f" after up to USD {spent_usd:.4f} that the job has cost so far" if spent_usd else ""
        message = f"the requests may cost up to USD {ceiling:.4f}{before}, more than --max-cost {limit:g}"
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
        prices = pricing.load_prices(None, system.disk)
        return pricing.estimate(asked, store.job.window, system.disk, prices).ceiling_usd
    except Failure:  # a batch file of an earlier attempt is gone
        return None
