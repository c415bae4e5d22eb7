"""What a run asks for: batch files made of a table, and where that is one, the update of a job that they are.

Promises: what was said of the requests is in every answer and in every Failure; what a dry run made is gone after it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from doubleword.cli import quoted
from doubleword.failure import Failure
from doubleword.jobs.cost_limit import prices_of
from doubleword.jobs.job_file import JobFile
from doubleword.jobs.updates.update import Update
from doubleword.pricing.estimate import Total, total_of
from doubleword.quick_msgspec import Struct, field, replace
from doubleword.system import System


class Requests(Struct):
    """The batch files that a table asks for, whether they were made now, and what was said of it; and the update that
    it is of a job which asked another. `whole` are the requests of all its rows, where the job has asked more.
    """

    paths: list[Path]
    warnings: list[str]
    made_now: bool = False
    update: Update | None = None
    whole: Total | None = None
    keys: dict[str, Any] = field(default_factory=dict)

    def said_of(self, store: JobFile, is_delivered: bool, system: System) -> None:
        """Say what the update of the job is: its latest, at first all rows, and none once they are delivered."""
        job = store.job
        if is_delivered:
            whole = self.whole or forecast_of(self.paths, store, system)
            saved = whole.estimate(job.window).cost_usd
            said = {"kept": job.rows, "asked": 0, "gone": 0, "saved_usd": None if saved is None else float(saved)}
        elif job.update is not None:
            said = {name: value for name, value in job.update.items() if name != "number"}
        else:
            said = {"kept": 0, "asked": job.rows, "gone": 0, "saved_usd": 0.0}
        self.keys = {"update": said}

    @contextlib.contextmanager
    def telling(self) -> Iterator[None]:
        """Add what is said of the requests to a Failure."""
        try:
            yield
        except Failure as failure:
            failure.keys = self.told(failure.keys)
            raise

    def told(self, answer: dict[str, Any]) -> dict[str, Any]:
        """An answer with what is said of the requests."""
        warnings = list(dict.fromkeys([*self.warnings, *answer.get("warnings", ())]))  # a table is read twice
        return {**answer, **self.keys, **({"warnings": warnings[:10]} if warnings else {})}


def updated(known: JobFile, update: Update, made: list[Path], warnings: list[str], system: System) -> Requests:
    """What an update asks for, none where all is as it was."""
    job, disk = known.job, system.disk
    paths = [known.input_path(one) for one in job.files]
    if update.is_nothing:
        update.remove(disk)
        return Requests(paths, warnings, whole=forecast_of(made, known, system))
    costs = [forecast_of(files, known, system).estimate(job.window).cost_usd for files in (made, update.files)]
    saved = None if None in costs else round(float(costs[0] or 0) - float(costs[1] or 0), 6)
    return Requests([*paths, *update.files], warnings, update=replace(update, saved_usd=saved))


def forecast_of(paths: Sequence[Path], store: JobFile, system: System) -> Total:
    """What asking batch files would cost."""
    prices, tokens = prices_of(store.job, system.disk), store.job.answer_tokens
    return total_of(paths, system.disk, prices, tokens) if paths else Total(prices, tokens)


def forecast(paths: Sequence[Path], store: JobFile, system: System) -> dict[str, Any]:
    """What a dry run answers: the job it would make, and what that would cost."""
    row_map = store.job.row_map
    mapped = {"rows": row_map.rows, "shared": row_map.shared} if row_map is not None else {}
    if row_map is not None and row_map.answers is not None:
        mapped["reused"] = row_map.reused
    return {"job": quoted(store.path), **mapped, **forecast_of(paths, store, system).forecast(store.job.window)}


def update_forecast(update: Update, store: JobFile, system: System) -> dict[str, Any]:
    """What a dry run of an update answers, which leaves nothing behind."""
    total = forecast_of(update.files, store, system)
    update.remove(system.disk)
    return {"job": quoted(store.path), "update": update.said, **total.forecast(store.job.window)}
