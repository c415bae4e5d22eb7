"""The job of one partition: its rows, its requests, its batches, its answers as a Parquet file.

Promises: what cannot be written in the end is refused before anything is sent; what an earlier run asked is found by
the job's identity, also where its job file is lost; the columns that the folders of a part tell do not stand in it.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import hashlib
import io
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from doubleword.answers.schema import properties_of
from doubleword.batch_files.making import settings_of
from doubleword.batch_files.record import record_path
from doubleword.batch_files.repaired_ids import ids_path
from doubleword.batch_files.row_map import map_path
from doubleword.cli import Progress
from doubleword.commands.fetch_results import Delivery
from doubleword.commands.run_batch import made_requests
from doubleword.dataset.partitions import Partition, stage
from doubleword.failure import Exit, Failure
from doubleword.jobs.cost_limit import spent_ceiling
from doubleword.jobs.exactly_once import take_up
from doubleword.jobs.job_file import SUFFIX, JobFile, locked
from doubleword.jobs.submission import WINDOWS, carry_out, checked, plan, require_same
from doubleword.jobs.watching import older_than_retry, watch
from doubleword.results.expected import Schemas
from doubleword.results.table_rows import Wanted, names_of
from doubleword.server.api import Api
from doubleword.server.errors import ApiError
from doubleword.system import System
from doubleword.tables.sources.source import opened_table

LONGEST_NAME = 100
ENGINE = "dataset.local"  # the embedded engine's data, beside the jobs


class PartJob:
    """The job of `one` partition, whose rows are in `file`, with all that belongs to it in `folder`.

    `args` are those of `run_dataset.py`, `name` that of the run. `base_url` is None on the embedded engine.
    """

    def __init__(
        self,
        args: argparse.Namespace,
        one: Partition,
        file: Path,
        folder: Path,
        name: str,
        base_url: str | None,
        system: System,
        progress: Progress,
    ) -> None:
        self._one = one
        self._folder = folder
        self._name = name
        self._base_url = base_url
        self._system = system
        self._progress = progress
        self._disk = system.disk
        stem = stem_of(one.part)
        self.path = folder / f"{stem}{SUFFIX}"
        self.requests = folder / f"{stem}.jsonl"
        self.answers = folder / f"{stem}.answers"
        self._staged = folder / f"{stem}.rows"
        self._args = self._rows(args, file)

    def _rows(self, args: argparse.Namespace, file: Path) -> argparse.Namespace:
        """The arguments by which the requests are made of the partition's rows."""
        if not self._one.is_staged:
            return argparse.Namespace(**{**vars(args), "input": [str(file)], "force": False, "update": False})
        settings = replace(settings_of(args), where=None)
        work = self._folder / f"{self._staged.name}.work"
        stage(self._one, file, self._staged, settings, self._disk, work)
        read = dict.fromkeys(("delimiter", "quote", "header_row", "sheet"))
        told = {
            "input": [str(self._staged)],
            "force": False,
            "update": False,
            "input_format": "parquet",
            "encoding": "utf-8",
            **read,
        }
        return argparse.Namespace(**{**vars(args), **told})

    def submit(
        self,
        api: Api,
        begun: bool,
        limit: float | None,
        confirm: Callable[[], None],
        working: AbstractContextManager[Any],
    ) -> tuple[float | None, list[str]]:
        """See to it that its batches exist; the most that they can cost, with a `limit`, and what the user should know.

        `begun` says that another run may have asked for them, `confirm` raises where they must not be asked for any
        more. Raises Failure as `run_batch.py`; with the code `no_rows` where there is nothing to ask.
        """
        with locked(self.path, self._disk):
            with working:
                store, known = self._planned()
            confirm()
            if not known:
                try:
                    take_up(store, api, self._system, begun)
                except ApiError as error:
                    raise error.failure("looking for what an earlier run asked") from error
            said = carry_out(store, api, self._system, self._progress, known, limit)
            # To count it reads all requests once more, and is done only where somebody asks for it.
            return spent_ceiling(store, self._system) if limit is not None else None, said.get("warnings", [])

    def made(self) -> list[Path]:
        """The batch files of its requests; raises Failure (2), `no_rows` where there is nothing to ask."""
        known = JobFile.load(self.path, self._disk) if self.is_known else None
        return made_requests(self._args, self.requests, known, self._system).paths

    def _planned(self) -> tuple[JobFile, bool]:
        """The job of the requests that are made now, and whether it was known here before."""
        known = JobFile.load(self.path, self._disk) if self.is_known else None
        check = checked(self.made(), self._system)
        store = known or plan(
            check,
            self.path,
            base_url=self._base_url,
            local=ENGINE if self._base_url is None else None,
            window=self._args.window or WINDOWS[0],
            metadata={},
            system=self._system,
            identity=f"{self._name} {self._one.part}",
        )
        require_same(store, check, self._args.window, {})
        self._require_server(store)
        self._delivery(store)  # which refuses what cannot be written
        return store, known is not None

    @property
    def is_known(self) -> bool:
        """Whether there is a job here."""
        return self._disk.size(self.path) is not None

    @property
    def is_submitted(self) -> bool:
        """Whether all its batches are known here to exist."""
        return self.is_known and JobFile.load(self.path, self._disk).job.submitted

    def finish(self, api: Api, wait_s: float) -> Callable[[], dict[str, Any]]:
        """Wait until its batches are over; what then writes the answers to `answers`, and tells their keys.

        Raises Failure (7) where the wait ends before.
        """
        with locked(self.path, self._disk):
            store = JobFile.load(self.path, self._disk)
            ids = [one.batch_id or "" for one in store.job.batches]
            is_old = older_than_retry(store.job, self._system)
            try:
                batches = watch(
                    api, ids, job_id=store.job.id, started=store.job.created_at, wait_s=wait_s,
                    system=self._system, progress=self._progress, is_old=is_old,
                )  # fmt: skip
            except ApiError as error:
                raise error.failure("watching the job") from error
        if not all(one.terminal for one in batches):
            raise Failure(Exit.NOT_FINISHED, "not_finished", "its batches still run", "run the same command again")
        api.until = None

        def deliver() -> dict[str, Any]:
            with locked(self.path, self._disk):
                try:
                    return self._delivery(JobFile.load(self.path, self._disk)).run(api)
                except Failure as failure:
                    if failure.exit_code != Exit.SOME_FAILED:
                        raise
                    return failure.keys

        return deliver

    @property
    def tries(self) -> list[int]:
        """How often its requests were asked: attempts, and retries of the server's own."""
        return tries_of(self.path, self._system) or [1, 0]

    def clean(self, succeeded: bool) -> None:
        """Remove what is needed no longer: the staged rows, and of a job that wholly succeeded its batch files."""
        self._disk.remove(self._staged)
        if succeeded:
            files = [self.requests, record_path(self.requests), ids_path(self.requests), map_path(self.requests)]
            with contextlib.suppress(Failure):
                store = JobFile.load(self.path, self._disk)
                files += [store.input_path(one.input) for one in store.job.batches]
            for path in files:
                self._disk.remove(path)

    def _require_server(self, store: JobFile) -> None:
        if store.job.base_url != self._base_url:
            theirs = store.job.base_url or "the embedded engine"
            message = f"the job of {self._one.part} was submitted to {theirs}"
            raise Failure(Exit.BAD_INPUT, "other_server", message, "choose that server again, or another OUTPUT_DIR")

    def _delivery(self, store: JobFile) -> Delivery:
        """What writes the answers; raises Failure (2) for columns that there are not."""
        schemas = Schemas(self._disk).all_of([path for one in store.job.files if (path := store.input_path(one))])
        endpoints, properties = {one.endpoint for one in store.job.files}, list(properties_of(schemas))
        with opened_table(self._args.input, settings_of(self._args), self._disk, self._work) as table:
            names = table.names
        columns, folders = self._args.columns, {called for called, _ in self._one.hive}
        found = names_of(Wanted("parquet", columns), names, endpoints, properties)
        if columns is None and folders:
            columns = _listed([new for new, _ in found.chosen if new not in folders])
        told = {
            "output": str(self.answers), "format": "parquet", "join": self._args.input, "columns": columns,
            "force": True, "raw_cells": False, "partial": False, "history": None, "delimiter": None, "bom": False,
            "response_schema": None,
        }  # fmt: skip
        given = argparse.Namespace(**{**vars(self._args), **told})
        return Delivery(given, store, [], self._system, self._progress)

    @property
    def _work(self) -> Path:
        return self._folder / f".{self.answers.name}.names"


def stem_of(part: str) -> str:
    """What the files of a part's job are called, in one folder with those of all others."""
    stem = quote(part.removesuffix(".parquet"), safe="= ")
    if len(stem) <= LONGEST_NAME:
        return stem
    return f"{stem[:LONGEST_NAME]}-{hashlib.sha256(part.encode()).hexdigest()[:12]}"


def tries_of(job: Path, system: System) -> list[int] | None:
    """How many batches a job has, and how many retries they had; None where there is no job file."""
    if system.disk.size(job) is None:
        return None
    batches = JobFile.load(job, system.disk).job.batches
    return [len(batches), sum(len(one.retries) for one in batches)]


def _listed(names: list[str]) -> str:
    """The names of columns as `--columns` takes them."""
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="").writerow(names)
    return text.getvalue()
