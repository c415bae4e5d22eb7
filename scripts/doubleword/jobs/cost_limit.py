"""--max-cost: nothing is asked unless all that a job may cost surely stays within the limit, by the server's prices.

Promises: the last word on a price is the server's, where it has one; it is heard before anything is paid, and kept in
the job file for the bill.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from doubleword.cli import script
from doubleword.failure import Exit, Failure, plain
from doubleword.jobs.exactly_once import AT_ONCE
from doubleword.jobs.job_file import Intended, Job, JobFile, resolve
from doubleword.pricing import live
from doubleword.pricing.bill import Part, Usage, bill, counted, told, usd
from doubleword.pricing.estimate import Estimate, estimated, total_of
from doubleword.pricing.prices import REALTIME, Price, Prices, load_prices
from doubleword.server.api import Api
from doubleword.server.errors import ApiError
from doubleword.server.objects import MIXED, Analytics, Batch, CostEstimate
from doubleword.service import CHAT, EMBEDDINGS
from doubleword.system import Disk, System

ASK = "ask the user for a higher --max-cost"


def require_cost(paths: Sequence[Path], window: str, limit: float, system: System) -> None:
    """Raise Failure (8) unless the requests in `paths`, by the price table, surely cost at most `limit` USD; what is
    unknown is not sure.
    """
    require_within(limit, total_of(paths, system.disk, load_prices(None, system.disk)).estimate(window))


def require_limit(
    stores: Sequence[JobFile],
    limit: float | None,
    system: System,
    last_word: bool = True,
    unsure: Collection[str] = (),
    more: Sequence[Path] = (),
    rough_usd: Decimal | None = None,
) -> None:
    """Raise Failure (8) unless all that the jobs have asked and would ask, and the requests in the files `more`, surely
    cost at most `limit` USD, where there is a limit; the embedded engine costs nothing.

    Without the `last_word` what only a price refuses is let through, since the server's own may differ. Of `unsure`
    models the server does not tell the price; `rough_usd` is what it expects, where only that is known.
    """
    if limit is None or any(store.job.local is not None for store in stores):
        return
    window, disk, found = stores[0].job.window, system.disk, None
    paths = [store.input_path(one.input) for store in stores for one in store.job.batches if not one.may_cost]
    spent = [spent_ceiling(store, system) for store in stores]
    before = None if None in spent else sum(filter(None, spent))
    if paths or more:
        prices = joint_prices(stores, disk).without(unsure, window)
        found = total_of([*paths, *more], disk, prices).estimate(window)
        last_word = last_word or bool(found.uncapped_requests) or before is None
    if last_word:
        again = any(one.attempt > 1 for store in stores for one in store.job.batches)
        require_within(limit, found, before, rough_usd, again)


def require_within(
    limit: float,
    found: Estimate | None,
    spent_usd: float | None = 0.0,
    rough_usd: Decimal | None = None,
    again: bool = False,
) -> None:
    """Raise Failure (8) unless what is `found`, if anything is to be asked, surely stays within `limit` USD.

    What is asked `again` is not chosen by --limit.
    """
    ceiling = found.ceiling_usd if found is not None else 0.0
    if spent_usd is None or ceiling is None:
        message = f"--max-cost {limit:g} cannot be promised: {_unknown(found, spent_usd, rough_usd)}"
        hint = "leave --max-cost out"
        if found is not None and found.unknown_models:
            hint = f"{script('list_models.py')} --prices shows models whose price is known; or {hint}"
        elif spent_usd is not None:
            hint = f"set --max-tokens when the file is made, see estimate_cost.py, or {hint}"
        raise Failure(Exit.REFUSED, "cost_unknown", message, hint)
    if spent_usd + ceiling <= limit:
        return
    spent = f"up to USD {usd(spent_usd, 4)} that the job has cost so far"
    if found is None:
        raise Failure(Exit.REFUSED, "over_max_cost", f"{spent} are more than --max-cost {limit:g}", ASK)
    fit = max(0, math.floor(found.requests * (limit - spent_usd) / ceiling))
    named = "; ".join(f"{plain(one.model, 80)}: {one.said}" for one in found.prices[:3])
    message = (
        f"the {found.requests:,} requests are expected to cost USD {usd(found.cost_usd or 0.0, 4)}, and may cost up to"
        f" USD {usd(ceiling, 4)}{f' after {spent}' if spent_usd else ''}, more than --max-cost {limit:g};"
        f" {f'about {fit:,}' if fit else 'none'} of them fit ({named})"
    )
    fewer = f"fewer rows (--limit {fit}), " if fit and not again else ""
    raise Failure(Exit.REFUSED, "over_max_cost", message, f"{fewer}a smaller --max-tokens, or {ASK}")


def _unknown(found: Estimate | None, spent_usd: float | None, rough_usd: Decimal | None) -> str:
    """Why no ceiling is known."""
    if found is not None and found.unknown_models:
        rough = f", only the server's rough estimate of USD {usd(float(rough_usd), 4)}" if rough_usd is not None else ""
        return f"the price of {plain(found.unknown_models[0], 80)} is not known{rough}"
    return "what the job has cost so far is not known" if spent_usd is None else "some requests set no limit of tokens"


def spent_ceiling(store: JobFile, system: System) -> float | None:
    """The most that the job has cost so far, in USD: the ceilings of all batches that exist, or may exist.

    None where a price, a limit of tokens or the batch file of one of them is not known any more; 0 on the embedded
    engine. What the server's own retry runs again is in it already: only requests without an answer, which have no
    usage that could be charged.
    """
    asked = [store.input_path(one.input) for one in store.job.batches if one.may_cost]
    if not asked or store.job.local is not None:
        return 0.0
    try:
        return total_of(asked, system.disk, prices_of(store.job, system.disk)).estimate(store.job.window).ceiling_usd
    except Failure:  # a batch file of an earlier attempt is gone
        return None


def prices_of(job: Job | None, disk: Disk) -> Prices:
    """The price table, put right by what the server said of the job."""
    return load_prices(None, disk).replaced(_told(job) if job is not None else ())


def joint_prices(stores: Sequence[JobFile], disk: Disk) -> Prices:
    """The same by what it said of any of the jobs."""
    return load_prices(None, disk).replaced(price for store in stores for price in _told(store.job))


def _told(job: Job) -> Iterator[Price]:
    for model, windows in job.tariff.items():
        for window, (given, answered) in windows.items():
            yield Price(model, window, Decimal(given), Decimal(answered), "", "")


def like(name: str, disk: Disk) -> float:
    """How many tokens the answers of another job took on average; raises Failure (2) where it has none yet."""
    store, _ = resolve([name], disk)
    if store is None or store.job.answer_tokens is None:
        message = f"{plain(name)} is no job whose results were fetched, so its answers have no known length"
        raise Failure(Exit.BAD_INPUT, "no_sample", message, "fetch_results.py JOB first, or leave --like out")
    return store.job.answer_tokens


def behind(job: Job, disk: Disk) -> list[str]:
    """What to tell of a price table that is not what the server charges for the job."""
    return list(live.behind(load_prices(None, disk), prices_of(job, disk).prices.values())) if job.tariff else []


def bill_of(
    api: Api,
    store: JobFile | None,
    batches: Sequence[Batch],
    paths: Sequence[Path | None],
    system: System,
    usage: Mapping[str, Usage] | None = None,
    wait_s: float = 60.0,
) -> dict[str, Any]:
    """The keys of the bill, `estimate_usd` where all batch files are at hand (`paths`), and `bill`: all of it in one
    line.

    `usage` has the tokens of each batch's answers, None where those were not read. What the server has counted is
    waited for, at most `wait_s`, only where all batches are over; the embedded engine costs nothing and is not asked.
    """
    job = store.job if store is not None else None
    windows, prices = {one.window for one in batches} if job is None else {job.window}, prices_of(job, system.disk)
    window, known = windows.pop() if len(windows) == 1 else "", [path for path in paths if path is not None]
    expected: Estimate | None = None
    with contextlib.suppress(Failure):  # a batch file that cannot be read now
        expected = estimated(known, window, system.disk, prices) if known and len(known) == len(paths) else None
    tokens = dict(usage or {})
    for one in batches:  # whose answers are gone, but were charged
        if one.id in tokens and one.completed and not (tokens[one.id].answers or tokens[one.id].unknown):
            del tokens[one.id]
    answers = {one.id: tokens[one.id].answers if one.id in tokens else one.completed for one in batches}
    seen, late = dict[str, Analytics](), ""
    if job is None or job.local is None:
        seen, late = counted(api, job.id if job is not None else "", batches, answers, system, wait_s)
    models = _asked_models(job, batches, expected.models if expected is not None else ())
    parts = [Part(tokens.get(one.id), models[one.id], seen.get(one.id)) for one in batches]
    keys = bill(parts, window, prices, late)
    if expected is not None:
        keys["estimate_usd"] = expected.cost_usd
    given = sum(answers.values()) + sum(one.unknown for one in tokens.values())
    return {**keys, "bill": told(keys, given, sum(one.failed for one in batches))}


def _asked_models(job: Job | None, batches: Sequence[Batch], first: Sequence[str]) -> dict[str, str]:
    """For each batch the one model that all its requests ask for, empty where there are several or nobody knows.

    `first` are those of the job's batch files. Later attempts ask as was asked last, so after a change of model only
    the change itself tells.
    """
    made = {one.batch_id: one for one in job.batches} if job is not None else {}
    changed = any(one.change is not None and one.change.get("model", not one.change) for one in made.values())
    found = {}
    for batch in batches:
        one = made.get(batch.id)
        models = [batch.model] if batch.model not in ("", MIXED) else (one.models or []) if one is not None else []
        if not models and one is not None and one.change and one.change.get("model"):
            models = [one.change["model"]]
        elif not models and (one is None or one.attempt == 1 or not changed):
            models = list(first)
        found[batch.id] = models[0] if len(models) == 1 else ""
    return found


def learn(
    store: JobFile, api: Api, system: System, ones: Sequence[Intended], note: Callable[[str], None]
) -> tuple[set[str], Decimal | None]:
    """Keep what the server says of the prices of uploaded batch files in the job file, and refuse nothing: the models
    whose price it does not tell, and what it roughly expects of all, where it says so.
    """
    quotes = _quotes(store.job, api, system, ones)
    unsure = _learnt(store, api, system, quotes)
    for warning in behind(store.job, system.disk):
        note(warning)
    return unsure, sum((quote.cost_usd or Decimal(0) for _, quote in quotes), Decimal(0)) or None


def _quotes(job: Job, api: Api, system: System, ones: Sequence[Intended]) -> list[tuple[Intended, CostEstimate]]:
    """What the server expects each file to cost; nothing where it has no such call, or stays away."""
    found: dict[str, CostEstimate | None] = {}

    def ask(one: Intended) -> None:
        found[one.key] = api.cost_estimate(one.file_id or "", job.window)

    with contextlib.suppress(ApiError):  # then the table has to do
        ask(ones[0])
        if found[ones[0].key] is not None:
            system.together([functools.partial(ask, one) for one in ones[1:]], AT_ONCE)
    return [(one, quote) for one in ones if (quote := found.get(one.key)) is not None]


def _learnt(store: JobFile, api: Api, system: System, quotes: Sequence[tuple[Intended, CostEstimate]]) -> set[str]:
    """Keep the server's prices where they are others than ours; the models whose price it does not tell."""
    job, prices = store.job, prices_of(store.job, system.disk)
    unlike: dict[str, str] = {}
    for one, quote in quotes:
        one.models = sorted(model.model for model in quote.models)
        endpoint = EMBEDDINGS if one.input.endpoint == EMBEDDINGS else CHAT
        unlike.update(dict.fromkeys(live.unlike([quote], prices, job.window), endpoint))
    told = []
    with contextlib.suppress(ApiError):
        told = live.live_prices(api, system, unlike, (job.window, REALTIME)) if unlike else []
    for price in told:
        pair = f"{price.input_usd:f}", f"{price.output_usd:f}"
        job.tariff.setdefault(price.model, {})[price.window] = pair
    if quotes:
        store.save()
    return unlike.keys() - {price.model for price in told if price.window == job.window}
