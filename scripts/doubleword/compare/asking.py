"""Asking: the requests of variants become answers, by jobs or at once.

Promises: with jobs, what `jobs` promises. At once, each answer is durable on disk before the next request is sent; one
that is there is not asked again, one that failed is, by the next run. What was begun one way is not paid the other way.
"""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from doubleword.answers import lines as result_lines
from doubleword.answers.schema import properties_of
from doubleword.cli import Progress, again
from doubleword.commands.try_prompt import answered
from doubleword.compare.answers import Answer, answered_in, answers_of, lines_in
from doubleword.compare.jobs import (
    VariantJob,
    delivered,
    planned,
    require_one_server,
    submit,
    wait_for,
)
from doubleword.compare.sample import Side, sampled
from doubleword.compare.variants import Variant
from doubleword.failure import Exit, Failure, plain
from doubleword.jobs.connection import connect
from doubleword.jobs.cost_limit import joint_prices, require_cost, require_limit
from doubleword.jobs.job_file import job_path
from doubleword.output_file import WholeFile
from doubleword.pricing.bill import Part, Usage, bill
from doubleword.pricing.prices import REALTIME, Prices, load_prices
from doubleword.results.expected import Schemas
from doubleword.server.api import Api
from doubleword.server.errors import ApiError
from doubleword.server.key import read_key
from doubleword.system import System


class Asking:
    """Asks variants, and keeps the server that it needs for this open in `held`; `sides` are all that it was to ask."""

    def __init__(
        self, args: argparse.Namespace, system: System, progress: Progress, held: contextlib.ExitStack
    ) -> None:
        self.sides: list[Side] = []
        self._args = args
        self._system = system
        self._disk = system.disk
        self._progress = progress
        self._held = held
        self._ends = system.monotonic() + args.wait
        self._schemas = Schemas(system.disk)
        self._jobs: list[VariantJob] = []
        self._api: Api | None = None
        held.callback(self._forget)

    def _forget(self) -> None:
        """Leave no batch file of this run behind where nothing was asked by it."""
        for one in self.sides:
            one.forget(self._disk)

    def sampled(self, variant: Variant, rows: int | None, seed: int | None) -> Side:
        """The requests of a variant, as `sample.sampled`."""
        found = sampled(variant, rows, seed, self._disk)
        self.sides.append(found)
        found.fields = list(properties_of(Schemas(self._disk).all_of([found.path])))
        return found

    def ask(self, every: Sequence[Side], later: Sequence[Path] = ()) -> None:
        """See to the answers of each. `later` are files of requests that may have to be asked once these are there.

        Raises Failure: 7 while answers are still to come, 8 where these, those asked before and those of `later` may
        together cost more than the limit.
        """
        (self._at_once if self._args.now else self._by_jobs)(every, later)

    @property
    def prices(self) -> Prices:
        """The price table, put right by what the server said of the jobs."""
        if not self._jobs:
            return load_prices(None, self._disk)
        return joint_prices([one.store for one in self._jobs], self._disk)

    # By jobs

    def _by_jobs(self, every: Sequence[Side], later: Sequence[Path]) -> None:
        system, progress, limit = self._system, self._progress, self._args.max_cost
        for one in every:
            self._refuse_mixed(one.realtime, "at once", "add --now")
        jobs = [planned(one, self._args, system, progress) for one in every]
        self._jobs += jobs
        require_one_server(self._jobs)
        keys = [delivered(one, None) for one in jobs]
        if None in keys:
            stores = [one.store for one in self._jobs]  # where there is a key, the server's prices have the last word
            require_limit(stores, limit, system, last_word=not read_key(), more=later)
            api = self._connected()
            submit(self._jobs, api, system, progress, limit, later)
            wait_for(jobs, api, self._ends, system, progress)
            keys = [delivered(one, api) for one in jobs]
        for job, told in zip(jobs, keys, strict=True):
            lines = [line for path in (job.delivery.output, job.delivery.errors) for line in lines_in(path, self._disk)]
            job.side.answers = self._read(job.side, lines)
            job.side.told = {"job": str(job.store.path), **(told or {})}

    # At once

    def _at_once(self, every: Sequence[Side], later: Sequence[Path]) -> None:
        limit = self._args.max_cost
        for one in every:
            self._refuse_mixed(job_path(one.path), "by jobs", "leave --now out")
        left = [self._unanswered(one) for one in every]
        if any(left):
            if limit is not None and not self._args.local:
                require_cost([*(one.path for one in self.sides), *later], REALTIME, limit, self._system)
            api = self._connected()
            _require_models(api, every)
            for one, waiting in zip(every, left, strict=True):
                self._ask_each(one, waiting, api)
        for one in every:
            lines = lines_in(one.realtime, self._disk)
            one.answers = self._read(one, lines)
            one.told = {**_bill(one, lines, self.prices), "failures": _failures(one)}

    def _unanswered(self, side: Side) -> list[dict[str, Any]]:
        """The requests that have no answer on disk."""
        there = {line.custom_id for line in answered_in(lines_in(side.realtime, self._disk), side.endpoint)}
        return [request for custom_id, request in side.requests if custom_id not in there]

    def _ask_each(self, side: Side, waiting: Sequence[dict[str, Any]], api: Api) -> None:
        """Ask what has no answer yet, and append what comes; raises Failure where the next would fail as well."""
        disk, path = self._disk, side.realtime
        if not waiting:
            return
        left = {request["custom_id"] for request in waiting}
        lines = [raw for raw in lines_in(path, disk) if (result_lines.parse(raw) or {}).get("custom_id") not in left]
        with WholeFile(path, disk, force=True) as file:  # without failures, which are asked again, and torn ends
            file.write(b"".join(raw + b"\n" for raw in lines))
        with disk.append(path) as kept:
            for number, request in enumerate(waiting):
                if self._system.monotonic() >= self._ends:
                    message = f"{len(waiting) - number} answers for {plain(side.path.name)} are still to come"
                    raise Failure(Exit.NOT_FINISHED, "not_finished", message, again())
                self._progress.show(f"{plain(side.path.stem, 60)}, answers:", number, len(waiting))
                kept.write(_line(api, request) + b"\n")
                disk.sync(kept)

    # What both share

    def _read(self, side: Side, lines: Sequence[bytes]) -> list[Answer]:
        return answers_of(side.requests, lines, self._schemas.expected(side.path))

    def _refuse_mixed(self, path: Path, how: str, hint: str) -> None:
        if self._disk.size(path) is not None:
            message = f"{plain(self._args.output)} was begun {how}, which may be paid already: {plain(path)}"
            raise Failure(Exit.BAD_INPUT, "other_options", message, f"{hint}, or name another OUTPUT")

    def _connected(self) -> Api:
        """The server, once it is needed."""
        if self._api is None:
            store = self._jobs[0].store if self._jobs else None
            folder = Path(self._args.output).with_suffix(".local")
            opened = connect(self._args, self._system, self._progress.note, store, folder)
            self._api = self._held.enter_context(opened)
        return self._api


def _line(api: Api, request: dict[str, Any]) -> bytes:
    try:
        return answered(api, request)
    except ApiError as error:
        told = {"code": "failed", "message": plain(error.sentence)}
        return json.dumps({"custom_id": request["custom_id"], "response": None, "error": told}).encode()


def _bill(side: Side, lines: Sequence[bytes], prices: Prices) -> dict[str, Any]:
    """The keys of the bill: the tokens of the answers at the realtime price."""
    usage = Usage()
    for line in answered_in(lines, side.endpoint):
        if line.body is not None:
            usage.add(line.body)
    return bill([Part(usage, side.model, None)], REALTIME, prices)


def _failures(side: Side) -> list[dict[str, Any]]:
    """The key `failures` as `fetch_results.py` has it."""
    found: dict[str, list[str]] = {}
    for (custom_id, _), answer in zip(side.requests, side.answers, strict=True):
        if answer.status != "succeeded":
            found.setdefault(answer.cause or "no explanation was given", []).append(custom_id)
    action = "the same command again asks once more what has no answer"
    return [
        {"cause": plain(cause, 200), "count": len(ids), "example": ids[0], "ids": ids[:10], "action": action}
        for cause, ids in sorted(found.items(), key=lambda one: -len(one[1]))
    ]


def _require_models(api: Api, every: Sequence[Side]) -> None:
    """Raise Failure (exit 2) for a model that the server does not list, before any of them is asked."""
    try:
        known = {one["id"] for one in api.models()}
    except ApiError as error:
        raise error.failure("listing the models") from error
    unknown = [model for one in every if (model := one.model) and model not in known]
    if unknown:
        message = f"the server lists no model {plain(unknown[0], 80)}; nothing was asked"
        raise Failure(Exit.BAD_INPUT, "unknown_model", message, "list_models.py shows which there are")
