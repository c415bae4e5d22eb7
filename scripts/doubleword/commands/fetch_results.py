"""fetch_results.py: from the batches of a job, or from bare batch ids, to files; recorded in the job.

Promises: nothing is written while a batch runs unless `--partial` asks for it; all files appear whole or not at all;
the exit code follows from the rows that were counted; a second run of a finished delivery writes nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from doubleword.answers import lines as result_lines
from doubleword.answers.json_text import written
from doubleword.answers.judgement import INVALID
from doubleword.answers.schema import properties_of
from doubleword.batch_files.record import read_record
from doubleword.cli import Progress, quoted, script
from doubleword.endpoints import EMBEDDINGS
from doubleword.failure import Exit, Failure, plain
from doubleword.jobs.connection import connect
from doubleword.jobs.cost_limit import behind, bill_of, prices_of
from doubleword.jobs.job_file import JobFile, Written, locked, resolve
from doubleword.jobs.server_copies import require_files
from doubleword.jobs.watching import look, older_than_retry
from doubleword.output_file import WholeFile, refuse_existing, sha256_of
from doubleword.pricing.estimate import Estimated, estimated
from doubleword.results.expected import Schemas, read_schema
from doubleword.results.outputs import SUFFIXES, TABLES, Lines, Output, Source, TableOutput, Vectors, Wanted
from doubleword.results.reading import Asked
from doubleword.results.reconciliation import Collector, error_line
from doubleword.results.result import Good, Result
from doubleword.results.summary import remarks, summary
from doubleword.server.api import Api
from doubleword.server.errors import ApiError
from doubleword.system import System


def fetch(args: argparse.Namespace, system: System) -> dict[str, Any]:
    """The work of `fetch_results.py`; answers its output keys, or raises Failure 6 or 7 with them."""
    progress = Progress(system.monotonic)
    store, ids = resolve(args.names, system.disk)
    with contextlib.ExitStack() as held:
        if store is not None:
            held.enter_context(locked(store.path, system.disk))
            store = JobFile.load(store.path, system.disk)
        delivery = Delivery(args, store, ids, system, progress)
        earlier = delivery.earlier()
        if earlier is not None:
            return earlier
        refuse_existing(delivery.output, system.disk, args.force)
        return delivery.run(held.enter_context(connect(args, system, progress.note, store)))


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
        self._retry = f"{script('retry_failed.py')} {self.handle}" if store is not None else None
        self.output = self._output_path()
        self.errors = self.output.with_name(f"{self.output.stem}.errors.jsonl")
        self.ids = self.output.with_name(f"{self.output.stem}.ids.txt") if args.format == "npy" else None
        self.history = Path(args.history) if args.history else None
        self._schema = Path(args.response_schema) if args.response_schema else None
        self._remarks: list[str] = []
        self._refuse_to_replace_input()

    def _output_path(self) -> Path:
        if self._args.output:
            return Path(self._args.output)
        name = f"results{SUFFIXES[self._args.format]}"
        if self._store is not None:
            return self._store.folder / f"{self._store.path.name.removesuffix('.job.json')}.{name}"
        return Path(f"{self._ids[0]}.{name}")

    def _refuse_to_replace_input(self) -> None:
        """--force replaces results, never what they are made of."""
        outputs = [path for path in (self.output, self.errors, self.ids, self.history) if path is not None]
        written = [self._system.disk.target(path).absolute() for path in outputs]
        if len(set(written)) < len(written):
            message = f"two of the outputs have the name {plain(self.history)}"
            raise Failure(Exit.BAD_INPUT, "output_is_input", message, "choose another name with --history")
        kept = [Path(one) for one in self._args.join or ()]
        kept += [self._schema] if self._schema is not None else []
        if self._store is not None:
            kept += [self._store.path, *(self._store.input_path(one.input) for one in self._store.job.batches)]
        for path in kept:
            if path.absolute() in written:
                message = f"the output would replace {plain(path)}, which the results are made of"
                raise Failure(Exit.BAD_INPUT, "output_is_input", message, "choose another name with --output")

    # What an earlier run wrote

    @property
    def _shape(self) -> dict[str, Any]:
        """Every argument that shapes what is written."""
        names = ("format", "join", "id", "columns", "delimiter", "bom", "raw_cells", "history", "response_schema")
        return {name: getattr(self._args, name) for name in names}

    def earlier(self) -> dict[str, Any] | None:
        """The answer of the run that wrote these very files, if it was complete and they are untouched.

        Raises Failure 6 again where that run did.
        """
        if self._store is None or self._args.force:
            return None
        disk = self._system.disk
        for former in reversed(self._store.job.results):
            if (former.output, former.shape) != (str(self.output.absolute()), self._shape):
                continue
            same = sha256_of(self.output, disk) == former.sha256
            if same and sha256_of(self.errors, disk) == former.errors_sha256 and self._others({}) == former.others:
                paths = {"output": str(self.output), "errors": str(self.errors) if former.errors else None}
                return self._judged({**former.answer, **paths})
        return None

    def _others(self, hashes: Mapping[Path, str]) -> dict[str, str | None]:
        """SHA-256 of the further files of this delivery: the ids and the history it writes, the schema it judges by.

        Those of files that are being written are in `hashes`.
        """
        paths = [path for path in (self.ids, self.history, self._schema) if path is not None]
        return {str(path.absolute()): hashes.get(path) or sha256_of(path, self._system.disk) for path in paths}

    def _record(self, files: list[WholeFile], answer: dict[str, Any]) -> None:
        """Before the files get their names: a kill in between is told by their hashes."""
        if self._store is None or not answer["complete"]:
            return
        hashes = {file.path: file.sha256 for file in files}
        delivered = Written(
            output=str(self.output.absolute()),
            errors=str(self.errors.absolute()) if self.errors in hashes else None,
            shape=self._shape,
            sha256=hashes[self.output],
            errors_sha256=hashes.get(self.errors),
            answer=answer,
            others=self._others(hashes),
        )
        self._store.job.results = [one for one in self._store.job.results if one.output != delivered.output] + [
            delivered
        ]
        self._store.save()

    # Fetching

    def run(self, api: Api) -> dict[str, Any]:
        """The keys of `fetch_results.py`; raises Failure 7 while batches run, 6 when requests failed or are missing.

        The list of failed requests is renamed into place before the table, so a table never stands without it;
        it is replaced without asking only where there is no table beside it.
        """
        disk, force = self._system.disk, self._args.force
        if self._store is not None:
            require_files(self._store)
            self._remarks += behind(self._store.job, disk)
        if self.history is not None:
            refuse_existing(self.history, disk, force)
        schemas = Schemas(disk, read_schema(self._schema, disk) if self._schema is not None else None)
        asked = self._asked(api)
        if not self._args.partial:
            self._require_over(asked)
        with contextlib.ExitStack() as files:
            expected = files.enter_context(ThreadPoolExecutor(1)).submit(self._estimate, asked)
            # The rows kept meanwhile are gone before the files get their names, so that a kill leaves none behind.
            with contextlib.ExitStack() as meanwhile:
                table = self._table(asked, schemas, meanwhile) if self._args.format in TABLES else None
                file = files.enter_context(WholeFile(self.output, disk, force))
                history = WholeFile(self.history, disk, force) if self.history is not None else None
                if history is not None:
                    files.enter_context(history)
                ids = files.enter_context(WholeFile(self.ids, disk, force=True)) if self.ids is not None else None
                rows = sum(one.requests or 0 for one in asked)
                output: Output = table or (Vectors(file, ids, rows) if ids is not None else Lines(file))
                collector = meanwhile.enter_context(self._collector(api, schemas, output))
                errors = self._collect(collector, asked, output, history, files)
                self._remarks += output.finish(file)
            written = [one for one in (file, history, ids, errors) if one is not None]
            for one in written:
                one.finish()
            batches = [batch for one in asked for batch in one.batches]
            told = (self._window(asked), self._system, expected.result(), collector.usage)
            bill = bill_of(api, self._store, batches, *told)
            answer = self._answer(collector, asked, errors is not None, schemas, bill)
            if not collector.unreadable:  # such lines may read better another time
                self._record(written, answer)
        if errors is None:
            disk.remove(self.errors)  # of an earlier run: nothing failed this time
        self._progress.close()
        return self._judged(answer)

    def _table(self, asked: list[Asked], schemas: Schemas, held: contextlib.ExitStack) -> TableOutput:
        args = self._args
        source = None
        if args.join:
            local = next((one.path for one in asked if one.path is not None), None)
            record = read_record(local, self._system.disk) if local is not None else None
            if record is None and self._store is not None:  # the batch file is gone, and its record may be left
                record = read_record(self._store.input_path(self._store.job.files[0]), self._system.disk)
            source = Source(args.join, record, [one.path for one in asked])
        wanted = Wanted(args.format, args.columns, args.delimiter, args.bom, args.raw_cells, args.id)
        properties = properties_of(schemas.all_of([one.path for one in asked]))
        endpoints = {one.endpoint for one in asked}
        work = self.output.with_name(f".{self.output.name}.work")
        return held.enter_context(TableOutput(wanted, source, endpoints, properties, self._system.disk, work))

    def _collector(self, api: Api, schemas: Schemas, output: Output) -> Collector:
        spool = self.output.with_name(f".{self.output.name}.rows")
        partial, remember = self._args.partial, self.history is not None
        return Collector(api, self._system, spool, self._count, partial, schemas, remember, output.pack)

    def _count(self, size: int) -> None:
        self._received += size
        self._progress.show(f"results received: {self._received / 1e6:,.1f} MB")

    def _collect(
        self,
        collector: Collector,
        asked: list[Asked],
        output: Output,
        history: WholeFile | None,
        files: contextlib.ExitStack,
    ) -> WholeFile | None:
        """Give every result its place; the file of those that failed or are missing, where there are some."""
        errors: WholeFile | None = None
        for result in collector.collect(asked) if history is not None else collector.collect_runs(asked):
            if isinstance(result, Good):
                output.add_good(result)
                continue
            output.add(result)
            if history is not None:
                self._remember(history, collector, result)
            if result.kind in ("failed", "missing"):
                errors = errors or files.enter_context(WholeFile(self.errors, self._system.disk, force=True))
                errors.write(error_line(result) + b"\n")
        return errors

    def _remember(self, history: WholeFile, collector: Collector, result: Result) -> None:
        """Write a line for each attempt at one request."""
        batches = self._store.job.batches if self._store is not None else []
        made = {one.batch_id: one for one in batches}
        for entry in collector.history(result):
            intended = made.get(entry.batch)
            line = entry.result.line
            said = {
                "custom_id": result.custom_id,
                "attempt": intended.attempt if intended is not None else None,
                "batch": entry.batch or None,
                "kind": entry.result.status,
                "flaws": entry.result.flaws,
                "cause": entry.result.cause,
                "change": intended.change if intended is not None else None,
                "line": None if line is None else result_lines.parse(line) or line.decode("utf-8", "replace"),
            }
            history.write(written(said).encode() + b"\n")

    # What was asked, and whether it is over

    def _asked(self, api: Api) -> list[Asked]:
        """One entry for each batch file of the job, or for each bare batch."""
        try:
            if self._store is None:
                batches = look(api, self._ids)
                return [Asked(None, one.total, one.endpoint, (one,)) for one in batches]
            job = self._store.job
            made = [one for one in job.batches if one.batch_id]
            seen = look(api, [one.batch_id or "" for one in made], job.id, older_than_retry(job, self._system))
        except ApiError as error:
            raise error.failure("looking at the batches") from error
        asked = []
        paths = [self._store.input_path(file) for file in job.files]
        for index, (file, found) in enumerate(zip(job.files, self._hashes(paths), strict=True)):
            path: Path | None = paths[index]
            if found != file.sha256:
                self._progress.note(f"{plain(path, 120)} is gone or was changed; the server's copy says what was asked")
                path = None
            answers = tuple(batch for one, batch in zip(made, seen, strict=True) if one.file == index)
            asked.append(Asked(path, file.requests, file.endpoint, answers))
        if self._args.format == "npy" and {one.endpoint for one in asked} != {EMBEDDINGS}:
            message = "only embeddings make a matrix, and this job asked for something else"
            raise Failure(Exit.BAD_INPUT, "no_embeddings", message, "choose another --format")
        return asked

    def _hashes(self, paths: list[Path]) -> list[str | None]:
        """The SHA-256 of each file, two at once."""
        found: dict[int, str | None] = {}

        def hash_one(number: int) -> None:
            found[number] = sha256_of(paths[number], self._system.disk)

        self._system.together([functools.partial(hash_one, number) for number in range(len(paths))], 2)
        return [found[number] for number in range(len(paths))]

    def _require_over(self, asked: list[Asked]) -> None:
        unsent = sum(1 for one in asked if not one.batches)
        if unsent:
            message = f"{unsent} of {len(asked)} batch files have no batch yet"
            hint = "run the submit.py command again: it goes on where it stopped"
            raise Failure(Exit.NOT_FINISHED, "not_submitted", message, hint)
        batches = [batch for one in asked for batch in one.batches]
        running = sum(1 for one in batches if not one.terminal)
        if running:
            done = sum(one.completed + one.failed for one in batches)
            message = f"{running} of {len(batches)} batches still run, {done} requests are done; nothing was written"
            hint = f"{script('poll.py')} {self.handle} --wait 600; or add --partial to take what is there"
            raise Failure(Exit.NOT_FINISHED, "not_finished", message, hint)

    # The answer

    def _answer(
        self, collector: Collector, asked: list[Asked], errors: bool, schemas: Schemas, bill: dict[str, Any]
    ) -> dict[str, Any]:
        total = self._store.job.requests if self._store is not None else collector.tally.total
        warnings = [*remarks(collector, schemas, self._retry), *self._remarks]
        return {
            "output": str(self.output),
            "errors": str(self.errors) if errors else None,
            **summary(collector, asked, total, self._retry),
            **bill,
            **({"warnings": warnings[:10]} if warnings else {}),
        }

    def _window(self, asked: list[Asked]) -> str:
        windows = {batch.window for one in asked for batch in one.batches}
        if self._store is not None:
            return self._store.job.window
        return windows.pop() if len(windows) == 1 else ""

    def _estimate(self, asked: list[Asked]) -> Estimated | None:
        """What the job's batch files were expected to cost; None where they are not known."""
        paths = [one.path for one in asked if one.path is not None]
        if not paths or len(paths) < len(asked):
            return None
        prices = prices_of(self._store.job if self._store is not None else None, self._system.disk)
        return estimated(paths, self._window(asked), self._system.disk, prices)

    def _judged(self, answer: dict[str, Any]) -> dict[str, Any]:
        """`answer` when everything succeeded; Failure 6 or 7 that carries it otherwise."""
        counts = answer["counts"]
        if not answer["complete"] and counts["total"]:
            done = counts["succeeded"] + counts["failed"]
            message = f"{done} of {counts['total']} requests are done; the output is partial"
            hint = f"{script('poll.py')} {self.handle} --wait 600, then fetch again with --force"
            raise Failure(Exit.NOT_FINISHED, "partial", message, hint, answer)
        if counts["succeeded"] != counts["total"] or not counts["total"]:
            lost = counts["failed"] + counts["missing"]
            message = f"{counts['succeeded']} of {counts['total']} requests succeeded; {lost} failed or are missing"
            hint = self._retry or "see the errors file"
            if lost and lost == answer.get("answers", {}).get(INVALID):
                hint = answer["failures"][0]["action"]  # a retry without more asks for what failed otherwise
            raise Failure(Exit.SOME_FAILED, "some_failed", message, hint, answer)
        return answer
