"""fetch_results.py: from the batches of a job, or from bare batch ids, to files; recorded in the job.

Promises: nothing is written while a batch runs unless `--partial` asks for it; all files appear whole or not at all;
the exit code follows from the rows that were counted; a second run of a finished delivery writes nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from doubleword.answers.schema import properties_of
from doubleword.batch_files.check import BatchFile
from doubleword.batch_files.row_map import RowFiles, read_answers
from doubleword.cli import Progress, quoted, script
from doubleword.commands.create_batch_file import require_row_map
from doubleword.failure import Exit, Failure, plain
from doubleword.jobs.attempts import advice_of
from doubleword.jobs.connection import connect
from doubleword.jobs.cost_limit import behind, bill_of
from doubleword.jobs.job_file import JobFile, Written, locked, resolve
from doubleword.jobs.server_copies import require_files
from doubleword.jobs.watching import Answering, counts_of
from doubleword.output_file import WholeFile, refuse_existing, sha256_of
from doubleword.results.expected import Schemas, read_schema
from doubleword.results.outputs import SUFFIXES, TABLES, Lines, Output, Source, TableOutput, Vectors, write_results
from doubleword.results.reconciliation import Collector, Tally
from doubleword.results.result import Good, Result, history_line
from doubleword.results.rows import RowResults
from doubleword.results.summary import flawed, remarks, summary
from doubleword.results.table_rows import Wanted
from doubleword.server.api import Api
from doubleword.server.objects import Asked
from doubleword.service import EMBEDDINGS
from doubleword.system import Disk, System
from doubleword.tables.plain_copy import STDIN


def fetch(args: argparse.Namespace, system: System) -> dict[str, Any]:
    """The work of `fetch_results.py`; answers its output keys, or raises Failure 6 or 7 with them."""
    progress = Progress(system.monotonic)
    store, ids = resolve(args.names, system.disk)
    with contextlib.ExitStack() as held:
        if store is not None:
            held.enter_context(locked(store.path, system.disk))
            store = JobFile.load(store.path, system.disk)
        delivery = Delivery(args, store, ids, system, progress)
        former = delivery.former()
        if former is not None and is_final(former):
            return delivery.repeated(former)
        refuse_existing(delivery.output, system.disk, args.force or former is not None)
        return delivery.run(held.enter_context(connect(args, system, progress.note, store)), former)


class Delivery:
    """One run of `fetch_results.py`, whose arguments `args` are, or of what does the same."""

    def __init__(
        self, args: argparse.Namespace, store: JobFile | None, ids: list[str], system: System, progress: Progress
    ) -> None:
        self._args = args
        self._store = store
        self._ids = ids
        self._system = system
        self._progress = progress
        self._received = 0
        self.handle = quoted(store.path) if store is not None else " ".join(ids)
        self.output = _output_path(args, store, ids)
        self.errors = self.output.with_name(f"{self.output.stem}.errors.jsonl")
        self.work = self.output.with_name(f".{self.output.name}.work")
        self.joins: list[str] = args.join or []
        row_map = store.job.row_map if store is not None else None
        self.reused = row_map.answers_in(store.folder) if store is not None and row_map is not None else None
        told = (args.format, args.columns, args.delimiter, args.bom, args.raw_cells, args.id)
        self.wanted = Wanted(*told, reused=self.reused is not None)
        if args.columns is not None and args.format in ("jsonl", "npy"):
            message = f"--columns: there are no columns in the format {args.format}"
            raise Failure(
                Exit.BAD_INPUT, "bad_columns", message, "--format csv, parquet or xlsx; or leave --columns out"
            )
        self.ids = self.output.with_name(f"{self.output.stem}.ids.txt") if args.format == "npy" else None
        self.history = Path(args.history) if args.history else None
        self._schema = Path(args.response_schema) if args.response_schema else None
        self._remarks: list[str] = []
        self._sources: dict[str, str | None] = {}
        self._row_map: RowFiles | None = None
        self.replaces = False  # whether the output is an own one that may be replaced
        kept = [Path(one) for one in self.joins] + ([self._schema] if self._schema is not None else [])
        if store is not None:
            kept += [store.path, *(store.input_path(one.input) for one in store.job.batches)]
        self._refuse_to_replace(kept)

    def _refuse_to_replace(self, kept: Sequence[Path]) -> None:
        """--force replaces results, never what they are made of."""
        outputs = [path for path in (self.output, self.errors, self.ids, self.history) if path is not None]
        written = [os.path.realpath(path) for path in outputs]
        if len(set(written)) < len(written):
            message = f"two of the outputs have the name {plain(self.history)}"
            raise Failure(Exit.BAD_INPUT, "output_is_input", message, "choose another name with --history")
        for path in kept:
            if os.path.realpath(path) in written:
                message = f"the output would replace {plain(path)}, which the results are made of"
                raise Failure(Exit.BAD_INPUT, "output_is_input", message, "choose another name with --output")

    # What an earlier run wrote

    @property
    def _shape(self) -> dict[str, Any]:
        """Every argument that shapes what is written."""
        names = ("format", "join", "columns", "delimiter", "bom", "raw_cells", "history", "response_schema")
        shape = {name: getattr(self._args, name) for name in names}
        return {**shape, "id": self._args.id if self.joins else None}

    def former(self) -> Written | None:
        """What is on record of the run that wrote these very files, if it was complete and they are untouched."""
        if self._store is None or self._args.force or STDIN in self.joins:
            return None
        disk = self._system.disk
        for former in reversed(self._store.job.results):
            asked = (str(self.output.absolute()), self._shape, self._store.job.map_sha256)
            if (former.output, former.shape, former.row_map) != asked:
                continue
            same = sha256_of(self.output, disk) == former.sha256
            others = {path: sha256_of(Path(path), disk) for path in former.others}
            if same and sha256_of(self.errors, disk) == former.errors_sha256 and others == former.others:
                return former
        return None

    def repeated(self, former: Written) -> dict[str, Any]:
        """The answer of an earlier run; raises Failure 6 again where that run did."""
        paths = {"output": str(self.output), "errors": str(self.errors) if former.errors else None}
        return _judged({**former.answer, **paths}, self.handle)

    def _others(self, hashes: Mapping[Path, str]) -> dict[str, str | None]:
        """SHA-256 of the further files of this delivery: the ids and the history it writes, the schema it judges by.

        Those of files that are being written are in `hashes`.
        """
        paths = [path for path in (self.ids, self.history, self._schema) if path is not None]
        return {str(path.absolute()): hashes.get(path) or sha256_of(path, self._system.disk) for path in paths}

    def _record(self, files: list[WholeFile], asked: list[Asked], answer: dict[str, Any], answers: int) -> None:
        """Before the files get their names: a kill in between is told by their hashes."""
        if self._store is None or not answer["complete"]:
            return
        hashes, results = {file.path: file.sha256 for file in files}, self._store.job.results
        delivered = Written(
            output=str(self.output.absolute()),
            errors=str(self.errors.absolute()) if self.errors in hashes else None,
            shape=self._shape,
            sha256=hashes[self.output],
            errors_sha256=hashes.get(self.errors),
            answer=answer,
            others={**self._others(hashes), **self._sources},
            seen=counts_of(asked),
            answers=answers,
            row_map=self._store.job.map_sha256,
            before=next((one.sha256 for one in results if one.output == str(self.output.absolute())), None),
        )
        kept = [one for one in results if one.output != delivered.output]
        self._store.job.results = [*kept, delivered]
        self._store.save()

    # Fetching

    def run(self, api: Api, former: Written | None = None) -> dict[str, Any]:
        """The keys of `fetch_results.py`; raises Failure 7 while batches run, 6 when requests failed or are missing.

        Of what `former` says, requests may have been answered since; what it wrote is replaced then, and repeated
        otherwise. The list of failed requests is renamed into place before the table, so a table never stands without
        it; it is replaced without asking only where there is no table beside it.
        """
        disk, force = self._system.disk, self._args.force or self.replaces or former is not None
        if self._store is not None:
            require_files(self._store)
            self._row_map = require_row_map(self._store, disk)
            self._remarks += behind(self._store.job, disk)
        if self.history is not None:
            refuse_existing(self.history, disk, force)
        schemas = Schemas(disk, read_schema(self._schema, disk) if self._schema is not None else None)
        answering = Answering(self._store, self._ids, api, self._system, self._progress.note)
        asked = answering.look() if self._args.partial else answering.over(self.handle)
        if self._args.format == "npy" and self.endpoints(asked) != {EMBEDDINGS}:
            message = "only embeddings make a matrix, and this job asked for something else"
            raise Failure(Exit.BAD_INPUT, "no_embeddings", message, "choose another --format")
        if former is not None and former.seen == counts_of(asked):
            return self.repeated(former)
        return self._deliver(api, asked, schemas, force)

    def _deliver(self, api: Api, asked: list[Asked], schemas: Schemas, force: bool) -> dict[str, Any]:
        """Write all files; the keys of `fetch_results.py`."""
        disk, batches = self._system.disk, [batch for one in asked for batch in one.batches]
        with contextlib.ExitStack() as files:
            # The rows kept meanwhile are gone before the files get their names, so that a kill leaves none behind.
            with contextlib.ExitStack() as meanwhile:
                table = self._table(asked, schemas, meanwhile) if self._args.format in TABLES else None
                file = files.enter_context(WholeFile(self.output, disk, force))
                history = _opened(self.history, disk, force, files)
                ids = _opened(self.ids, disk, True, files)
                rows = self._store.job.rows if self._store is not None else sum(one.requests or 0 for one in asked)
                output: Output = table or (Vectors(file, ids, rows) if ids is not None else Lines(file))
                collector = meanwhile.enter_context(self._collector(api, schemas, output))
                results, tally = _told(collector, asked, history, self._store), collector.tally
                if self._row_map is not None:
                    of_rows = meanwhile.enter_context(RowResults(self.output, disk, output.pack, schemas))
                    results, tally = of_rows.of(self._row_map, results), of_rows.tally
                errors = write_results(results, output, self.errors, disk, files)
                self._remarks += output.finish(file)
            written = list(filter(None, (file, history, ids, errors)))
            for one in written:
                one.finish()
            paths = [one.path for one in asked]
            bill = bill_of(api, self._store, batches, paths, self._system, collector.usage)
            answer = self._answer(collector, tally, asked, errors is not None, schemas, bill)
            if not collector.unreadable:  # such lines may read better another time
                self._record(written, asked, answer, collector.tally.answers)
        if errors is None:
            disk.remove(disk.target(self.errors))  # of an earlier run: nothing failed this time
        self._progress.close()
        return _judged(answer, self.handle)

    def _table(self, asked: list[Asked], schemas: Schemas, held: contextlib.ExitStack) -> TableOutput:
        source = None
        if self.joins:
            record = self._store.record() if self._store is not None else None
            source = Source(self.joins, record, [one.path for one in asked], self._row_map)
        properties = properties_of(schemas.all_of([one.path for one in asked], self.reused))
        made = TableOutput(self.wanted, source, self.endpoints(asked), properties, self._system.disk, self.work, held)
        self._refuse_to_replace(list(made.sources))
        self._sources = {str(path.absolute()): sha256 for path, sha256 in made.sources.items()}
        return made

    def endpoints(self, asked: Sequence[Asked | BatchFile]) -> set[str]:
        """The endpoints that the answers are of."""
        reused = itertools.islice(read_answers(self.reused, self._system.disk), 1)  # of one table they have one
        return {one.endpoint for one in asked} or {one.url for one in reused}

    def _collector(self, api: Api, schemas: Schemas, output: Output) -> Collector:
        spool = self.output.with_name(f".{self.output.name}.rows")
        partial, remember = self._args.partial, self.history is not None
        in_order = self._row_map is not None
        return Collector(api, self._system, spool, self._count, partial, schemas, remember, output.pack, in_order)

    def _count(self, size: int) -> None:
        self._received += size
        self._progress.show(f"results received: {self._received / 1e6:,.1f} MB")

    # The answer

    def _answer(
        self,
        collector: Collector,
        tally: Tally,
        asked: list[Asked],
        errors: bool,
        schemas: Schemas,
        bill: dict[str, Any],
    ) -> dict[str, Any]:
        advice = advice_of(self._store, collector.remarks.cut_at, bool(collector.unreadable), self._schema)
        warnings = [*flawed(tally, advice), *remarks(collector, schemas), *self._remarks]
        job = self._store.job if self._store is not None else None
        row_map = job.row_map if job is not None else None
        rows = job.rows if job is not None else tally.total
        told = summary(tally, asked, rows, advice)
        if self.reused is not None:
            told["counts"]["reused"] = tally.reused
        return {
            "output": str(self.output),
            "errors": str(self.errors) if errors else None,
            **told,
            **({"rows": rows, "requests": row_map.requests, "shared": row_map.shared} if row_map is not None else {}),
            **({"reused": row_map.reused} if row_map is not None and self.reused is not None else {}),
            **bill,
            **({"warnings": warnings[:10]} if warnings else {}),
        }


def is_final(former: Written) -> bool:
    """Whether nothing can have come since: no request was missing then."""
    return not former.answer["counts"]["missing"]


def _output_path(args: argparse.Namespace, store: JobFile | None, ids: list[str]) -> Path:
    if args.output:
        return Path(args.output)
    name = f"results{SUFFIXES[args.format]}"
    if store is not None:
        return store.folder / f"{store.path.name.removesuffix('.job.json')}.{name}"
    return Path(f"{ids[0]}.{name}")


def _told(
    collector: Collector, asked: list[Asked], history: WholeFile | None, store: JobFile | None
) -> Iterator[Result | Good]:
    """The result of every request, whose past goes into the history meanwhile."""
    if history is None:
        yield from collector.collect_runs(asked)
        return
    for result in collector.collect(asked):
        history.write(b"".join(_past(collector, result, store)))
        yield result


def _past(collector: Collector, result: Result, store: JobFile | None) -> Iterator[bytes]:
    """A line for each attempt at one request."""
    made = {one.batch_id: one for one in store.job.batches} if store is not None else {}
    for entry in collector.history(result):
        intended = made.get(entry.batch)
        told = (None, None) if intended is None else (intended.attempt, intended.change)
        yield history_line(result.custom_id, entry, *told) + b"\n"


def _opened(path: Path | None, disk: Disk, force: bool, files: contextlib.ExitStack) -> WholeFile | None:
    return None if path is None else files.enter_context(WholeFile(path, disk, force))


def _judged(answer: dict[str, Any], handle: str) -> dict[str, Any]:
    """`answer` when everything succeeded; Failure 6 or 7 that carries it otherwise."""
    counts = answer["counts"]
    if not answer["complete"] and counts["total"]:
        done = counts["succeeded"] + counts["failed"]
        message = f"{done} of {counts['total']} requests are done; the output is partial"
        hint = f"{script('poll.py')} {handle} --wait 600, then fetch again with --force"
        raise Failure(Exit.NOT_FINISHED, "partial", message, hint, answer)
    if counts["succeeded"] != counts["total"] or not counts["total"]:
        lost = counts["failed"] + counts["missing"]
        message = f"{counts['succeeded']} of {counts['total']} requests succeeded; {lost} failed or are missing"
        steps: list[str] = [one["action"] for one in answer["failures"]]
        raise Failure(Exit.SOME_FAILED, "some_failed", message, steps[0] if steps else "", answer)
    return answer
