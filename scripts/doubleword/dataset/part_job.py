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
from pathlib import Path
from typing import Any
from urllib.parse import quote

from doubleword.answers.schema import properties_of
from doubleword.batch_files.record import record_path
from doubleword.batch_files.repaired_ids import ids_path
from doubleword.batch_files.row_map import map_path
from doubleword.batch_files.table_arguments import settings_of
from doubleword.cli import Progress
from doubleword.commands.fetch_results import Delivery
from doubleword.commands.run_batch import made_requests
from doubleword.commands.submit import opened
from doubleword.dataset.partitions import Partition, stage
from doubleword.failure import Exit, Failure
from doubleword.jobs.cost_limit import spent_ceiling
from doubleword.jobs.exactly_once import take_up
from doubleword.jobs.job_file import SUFFIX, JobFile, locked
from doubleword.jobs.submission import carry_out, checked
from doubleword.jobs.watching import watch_job
from doubleword.pricing.estimate import Total, total_of
from doubleword.pricing.prices import load_prices
from doubleword.quick_msgspec import replace
from doubleword.results.expected import Schemas
from doubleword.results.table_rows import ANSWER, Wanted, names_of
from doubleword.server.api import Api
from doubleword.server.errors import ApiError
from doubleword.system import System
from doubleword.tables.sources.source import opened_table

LONGEST_NAME = 100
ENGINE = "dataset.local"  # the embedded engine's data, beside the jobs
# How the rows of a partition are read once they were staged: as the Parquet file that they are.
STAGED = {
    **dict.fromkeys(("delimiter", "quote", "header_row", "sheet")),
    "input_format": "parquet",
    "encoding": "utf-8",
}


class PartJob:
    """The job of `one` partition, whose rows are in `file`, with all that belongs to it in `folder`.

    `args` are those of `run_dataset.py`, `name` that of the run. `base_url` is None on the embedded engine. `working`
    is held while tables are read and written.
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
        working: AbstractContextManager[Any] | None = None,
    ) -> None:
        self._one = one
        self._folder = folder
        self._name = name
        self._base_url = base_url
        self._system = system
        self._progress = progress
        self._working = working or contextlib.nullcontext()
        self._disk = system.disk
        stem = stem_of(one.part)
        self.path = folder / f"{stem}{SUFFIX}"
        self.requests = folder / f"{stem}.jsonl"
        self.answers = folder / f"{stem}.answers"
        self._staged = folder / f"{stem}.rows"
        told = {"input": [str(file)], "force": False, "update": False, "max_cost": None}
        if one.is_staged:
            settings, work = replace(settings_of(args), where=None), folder / f"{self._staged.name}.work"
            with self._working:
                stage(one, file, self._staged, settings, self._disk, work)
            told |= {**STAGED, "input": [str(self._staged)], "beside": str(file)}
        self._args = argparse.Namespace(**{**vars(args), **told, "base_url": base_url, "local": base_url is None})

    def submit(
        self, api: Api, begun: bool, limit: float | None, confirm: Callable[[], None]
    ) -> tuple[float | None, list[str]]:
        """See to it that its batches exist; the most that they can cost, with a `limit`, and what the user should know.

        `begun` says that another run may have asked for them, `confirm` raises where they must not be asked for any
        more. Raises Failure as `run_batch.py`; with the code `no_rows` where there is nothing to ask.
        """
        with locked(self.path, self._disk):
            with self._working:
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

    def asked(self, count: bool) -> Total | None:
        """What it asks, where that is to be counted; nothing is sent. Raises Failure (2) for all that would be refused
        later, with the code `no_rows` where there is nothing to ask.
        """
        with self._working:
            store, _ = self._planned()
            files = [store.input_path(one) for one in store.job.files]
            return total_of(files, self._disk, load_prices(None, self._disk)) if count else None

    def _planned(self) -> tuple[JobFile, bool]:
        """The job of the requests that are made now, and whether it was known here before."""
        before = JobFile.load(self.path, self._disk) if self.is_known else None
        made = made_requests(self._args, self.requests, before, self._system).paths
        check, identity = checked(made, self._system), f"{self._name} {self._one.part}"
        store, known = opened(self._args, check, self.path, {}, self._system, ENGINE, identity)
        if store.job.base_url != self._base_url:
            message = f"the job of {self._one.part} was submitted to {store.job.base_url or 'the embedded engine'}"
            raise Failure(Exit.BAD_INPUT, "other_server", message, "choose that server again, or another OUTPUT_DIR")
        self._delivery(store)  # which refuses what cannot be written
        return store, known

    @property
    def is_known(self) -> bool:
        """Whether there is a job here."""
        return self._disk.size(self.path) is not None

    @property
    def is_submitted(self) -> bool:
        """Whether all its batches are known here to exist."""
        return self.is_known and JobFile.load(self.path, self._disk).job.submitted

    def finish(self, api: Api, wait_s: float) -> dict[str, Any]:
        """Wait until its batches are over, and write the answers to `answers`; the keys of `fetch_results.py`.

        Raises Failure (7) where the wait ends before.
        """
        with locked(self.path, self._disk):
            store = JobFile.load(self.path, self._disk)
            batches = watch_job(store.job, api, wait_s, self._system, self._progress)
        if not all(one.terminal for one in batches):
            raise Failure(Exit.NOT_FINISHED, "not_finished", "its batches still run", "run the same command again")
        with self._working, locked(self.path, self._disk):
            try:
                return self._delivery(JobFile.load(self.path, self._disk)).run(api)
            except Failure as failure:
                if failure.exit_code != Exit.SOME_FAILED:
                    raise
                return failure.keys

    def clean(self, succeeded: bool) -> None:
        """Remove what is needed no longer: the staged rows, and of a job that wholly succeeded its batch files."""
        files = [self._staged]
        if succeeded:
            files += [path_of(self.requests) for path_of in (Path, record_path, ids_path, map_path)]
            with contextlib.suppress(Failure):
                store = JobFile.load(self.path, self._disk)
                files += [store.input_path(one.input) for one in store.job.batches]
        for path in files:
            self._disk.remove(path)

    def _delivery(self, store: JobFile) -> Delivery:
        """What writes the answers; raises Failure (2) for columns that there are not."""
        schemas = Schemas(self._disk).all_of([path for one in store.job.files if (path := store.input_path(one))])
        endpoints, properties = {one.endpoint for one in store.job.files}, list(properties_of(schemas))
        work = self._folder / f".{self.answers.name}.names"
        with opened_table(self._args.input, settings_of(self._args), self._disk, work) as table:
            names = table.names
        columns, folders = self._args.columns, {called for called, _ in self._one.hive}
        found = names_of(Wanted("parquet", columns), names, endpoints, properties)
        if columns is None:
            first = [found.added[what] for what in (ANSWER, "status", "error")]
            added = [*first, *(one for one in found.added.values() if one not in first)]
            columns = _listed([*(one for one in found.source if one not in folders), *added])
        told = {
            **dict.fromkeys(("delimiter", "history", "response_schema")),
            **dict.fromkeys(("bom", "raw_cells", "partial"), False),
            "join": self._args.input,
            "id": self._args.id,
            "columns": columns,
            "force": True,
        }
        given = argparse.Namespace(output=str(self.answers), format="parquet", **told)
        return Delivery(given, store, [], self._system, self._progress)


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
