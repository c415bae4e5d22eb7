"""Results delivered: which batches, into which files, in which form; recorded in the job.

Promises: nothing is written while a batch runs unless `--partial` asks for it; both files appear whole or not
at all; the exit code follows from the rows that were counted; a second run of a finished delivery writes nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from doubleword.batch_files import batch_file
from doubleword.cli import Progress, quoted, script
from doubleword.failure import Exit, Failure, plain
from doubleword.jobs.connection import connect
from doubleword.jobs.job_file import JobFile, Written, locked, resolve
from doubleword.jobs.watching import look, older_than_retry
from doubleword.pricing.bill import Estimated, bill, estimated
from doubleword.request_lines import templates
from doubleword.request_lines.line import EMBEDDINGS
from doubleword.results import advice
from doubleword.results import lines as result_lines
from doubleword.results.judgement import FLAWS, INVALID
from doubleword.results.reading import Asked, Good, Result
from doubleword.results.reconciliation import WORTH_READING_AHEAD, Collector, error_line
from doubleword.results.structured import Schemas, properties_of, read_schema
from doubleword.server.api import Api
from doubleword.server.errors import ApiError
from doubleword.system import System, WholeFile, refuse_existing
from doubleword.tables import sources
from doubleword.tables.matrix import Matrix
from doubleword.tables.output import Csv, Lines, Parquet, SourceCells, Table, columns_of, sha256_of

SUFFIXES = {"jsonl": ".jsonl", "csv": ".csv", "parquet": ".parquet", "npy": ".npy"}


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


class Received:
    """Counts bytes for the progress line."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bytes = 0

    def add(self, size: int) -> None:
        """Count `size` bytes more."""
        self._bytes += size
        self._progress.show(f"results received: {self._bytes / 1e6:,.1f} MB")


class Delivery:
    """One run of `fetch_results.py`: from the batches of a job, or from bare batch ids, to files."""

    def __init__(
        self, args: argparse.Namespace, store: JobFile | None, ids: list[str], system: System, progress: Progress
    ) -> None:
        self._args = args
        self._store = store
        self._ids = ids
        self._system = system
        self._progress = progress
        self.handle = quoted(store.path) if store is not None else " ".join(ids)
        self.output = self._output_path()
        self.errors = self.output.with_name(f"{self.output.stem}.errors.jsonl")
        self.ids = self.output.with_name(f"{self.output.stem}.ids.txt") if args.format == "npy" else None
        # run_batch.py has neither of these two.
        history, schema = args.history, args.response_schema
        self.history = Path(history) if history else None
        self._schema = Path(schema) if schema else None
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
        written = [path.absolute() for path in (self.output, self.errors, self.ids, self.history) if path is not None]
        if len(set(written)) < len(written):
            message = f"two of the outputs have the name {plain(self.history)}"
            raise Failure(Exit.BAD_INPUT, "output_is_input", message, "choose another name with --history")
        kept = [Path(self._args.join)] if self._args.join else []
        kept += [self._schema] if self._schema is not None else []
        if self._store is not None:
            kept += [self._store.path, *(self._store.input_path(one.input) for one in self._store.job.batches)]
        for path in kept:
            if path.absolute() in written:
                message = f"the output would replace {plain(path)}, which the results are made of"
                raise Failure(Exit.BAD_INPUT, "output_is_input", message, "choose another name with --output")

    def earlier(self) -> dict[str, Any] | None:
        """The answer of the run that wrote these very files, if it was complete and they are untouched.

        Raises Failure 6 again where that run did.
        """
        if self._store is None or self._args.force:
            return None
        for written in reversed(self._store.job.results):
            if (written.output, written.format, written.join) != (self._recorded, self._args.format, self._args.join):
                continue
            disk = self._system.disk
            same = sha256_of(self.output, disk) == written.sha256
            if same and sha256_of(self.errors, disk) == written.errors_sha256 and self._others({}) == written.others:
                paths = {"output": str(self.output), "errors": str(self.errors) if written.errors else None}
                return self._judged({**written.answer, **paths})
        return None

    def _others(self, hashes: Mapping[Path, str]) -> dict[str, str | None]:
        """SHA-256 of the further files of this delivery: the ids and the history it writes, the schema it judges by.

        Those of files that are being written are in `hashes`.
        """
        paths = [path for path in (self.ids, self.history, self._schema) if path is not None]
        return {str(path.absolute()): hashes.get(path) or sha256_of(path, self._system.disk) for path in paths}

    def run(self, api: Api) -> dict[str, Any]:
        """The keys of `fetch_results.py`; raises Failure 7 while batches run, 6 when requests failed or are missing.

        The list of failed requests is renamed into place before the table, so a table never stands without it;
        it is replaced without asking only where there is no table beside it.
        """
        disk, force = self._system.disk, self._args.force
        if self.history is not None:
            refuse_existing(self.history, disk, force)
        schemas = Schemas(disk, read_schema(self._schema, disk) if self._schema is not None else None)
        asked = self._asked(api)
        if not self._args.partial:
            self._require_over(asked)
        source, columns = self._source(asked)
        spool = self.output.with_name(f".{self.output.name}.rows")
        received = Received(self._progress)
        with contextlib.ExitStack() as files:
            expected = self._estimating(asked, files)
            file = files.enter_context(WholeFile(self.output, disk, force))
            others = [files.enter_context(WholeFile(path, disk, force)) for path in [self.history] if path is not None]
            history = others[0] if others else None
            ids = files.enter_context(WholeFile(self.ids, disk, force=True)) if self.ids is not None else None
            errors: WholeFile | None = None
            # The rows kept meanwhile are gone before the files get their names, so that a kill leaves none behind.
            with (
                self._table(file, ids, columns, asked, schemas) as table,
                Collector(
                    api,
                    self._system,
                    spool,
                    received.add,
                    self._args.partial,
                    schemas,
                    history is not None,
                    table if isinstance(table, Csv) else None,
                ) as collector,
            ):
                for result in collector.collect(asked) if history is not None else collector.collect_runs(asked):
                    if isinstance(result, Good):
                        table.add_all(result, source.of_all(result.custom_ids) if source is not None else ())
                        continue
                    table.add(result, source.of(result.custom_id) if source is not None else ())
                    if history is not None:
                        self._remember(history, collector, result)
                    if result.kind in ("failed", "missing"):
                        errors = errors or files.enter_context(WholeFile(self.errors, disk, force=True))
                        errors.write(error_line(result) + b"\n")
            written = [one for one in (file, history, ids, errors) if one is not None]
            for one in written:
                one.finish()
            answer = self._answer(collector, asked, errors is not None, schemas, expected)
            if not collector.unreadable:  # such lines may read better another time
                self._record(written, answer)
        if errors is None:
            disk.remove(self.errors)  # of an earlier run: nothing failed this time
        self._progress.close()
        return self._judged(answer)

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
            history.write(json.dumps(said).encode() + b"\n")

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
                said = f"{plain(path, 120)} is gone or was changed; the server's copy says which requests there are"
                self._progress.note(said)
                if self._schema is None:
                    self._remarks.append(f"{said}, and only --response-schema what structured answers have to be")
                path = None
            answers = tuple(batch for one, batch in zip(made, seen, strict=True) if one.file == index)
            asked.append(Asked(path, file.requests, file.endpoint, answers))
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

    # The source table

    def _source(self, asked: list[Asked]) -> tuple[SourceCells | None, list[str]]:
        """What gives the source cells of a custom_id, and the source's columns; None where nothing is joined."""
        if not self._args.join:
            return None, []
        path, disk = Path(self._args.join), self._system.disk
        local = next((one.path for one in asked if one.path is not None), None)
        known = batch_file.read_source(local, disk) if local is not None else None
        template = self._args.id or (known.id_template if known is not None else None)
        same = known is not None and Path(known.path).suffix == path.suffix
        kind, encoding = (known.format, known.encoding) if known is not None and same else (None, "utf-8")
        columns = sources.columns(path, disk, kind, encoding)

        repair = known is not None and known.repair_ids
        blocks = sources.read_cells(path, disk, kind, encoding)
        ids = templates.ids_of(template, columns) if blocks is not None and not repair else None

        def each(read: Iterable[sources.Row]) -> Iterator[tuple[list[str], list[list[Any]]]]:
            for row in read:
                with contextlib.suppress(sources.BadRow):  # no request was made of it: --skip-invalid left it out
                    yield [templates.custom_id(template, row, repair)], [[row.values.get(name) for name in columns]]

        def rows() -> Iterator[tuple[Sequence[str], Sequence[Sequence[Any]]]]:
            if blocks is None or ids is None:
                yield from each(sources.read(path, disk, kind, encoding))
                return
            for block in itertools.islice(blocks, 1, None):  # the header comes first
                found = ids(block.first, block.cells) if block.sound else None
                yield from [(found, block.cells)] if found is not None else each(block.rows())

        return SourceCells(rows(), plain(path)), columns

    def _table(
        self, file: WholeFile, ids: WholeFile | None, source: list[str], asked: list[Asked], schemas: Schemas
    ) -> Table:
        if self._args.format == "jsonl":
            return Lines(file)
        endpoints = {one.endpoint for one in asked}
        if ids is not None:
            if endpoints != {EMBEDDINGS}:
                message = "only embeddings make a matrix, and this job asked for something else"
                raise Failure(Exit.BAD_INPUT, "no_embeddings", message, "choose another --format")
            return Matrix(file, ids, sum(one.requests or 0 for one in asked))
        properties = properties_of(schemas.all_of([one.path for one in asked]))
        columns = columns_of(source, endpoints, properties)
        if self._args.format == "parquet":
            return Parquet(file, columns, list(properties))
        return Csv(file, columns, list(properties), self._args.raw_cells)

    # The answer

    def _answer(
        self,
        collector: Collector,
        asked: list[Asked],
        errors: bool,
        schemas: Schemas,
        expected: Callable[[], Estimated | None],
    ) -> dict[str, Any]:
        tally = collector.tally
        total = self._store.job.requests if self._store is not None else tally.total
        retry = f"{script('retry_failed.py')} {self.handle}" if self._store is not None else None
        warnings = [*self._flawed(collector, retry), *self._remarks, *collector.warnings]
        warnings += [f"a response schema judges nothing: {why}" for why in schemas.unusable()]
        if collector.unreadable:
            warnings.append(f"{collector.unreadable} result lines do not say whose answer they are")
        over = all(one.batches and all(batch.terminal for batch in one.batches) for one in asked)
        adds_up = tally.succeeded + tally.failed + tally.missing == total
        counts = {"total": total, "succeeded": tally.succeeded, "failed": tally.failed, "missing": tally.missing}
        if tally.pending:
            counts["pending"] = tally.pending
        failures = [
            {
                "cause": plain(cause, 200),
                "count": count,
                "example": plain(example.custom_id, 64),
                "action": advice.step(cause, example.flaws, retry),
            }
            for cause, count, example in tally.causes()
        ]
        return {
            "output": str(self.output),
            "errors": str(self.errors) if errors else None,
            "complete": over and adds_up and total > 0,
            "counts": counts,
            **({"answers": {flaw: tally.flaws[flaw] for flaw in FLAWS}} if tally.flaws else {}),
            **bill(collector.usage, self._window(asked), expected(), self._system.disk),
            "failures": failures,
            **({"warnings": warnings[:10]} if warnings else {}),
        }

    def _flawed(self, collector: Collector, retry: str | None) -> Iterator[str]:
        """What is wrong with answers that succeeded all the same."""
        tally = collector.tally
        for flaw in FLAWS:
            if flaw != INVALID and tally.flaws[flaw]:
                example, mended = plain(tally.flawed[flaw], 64), advice.step("", (flaw,), retry)
                yield f"{tally.flaws[flaw]} answers are {flaw}, such as {example}: {mended}"

    def _window(self, asked: list[Asked]) -> str:
        windows = {batch.window for one in asked for batch in one.batches}
        if self._store is not None:
            return self._store.job.window
        return windows.pop() if len(windows) == 1 else ""

    def _estimating(self, asked: list[Asked], held: contextlib.ExitStack) -> Callable[[], Estimated | None]:
        """What tells the estimate for the job's batch files in the end, made by another process meanwhile."""
        paths = [one.path for one in asked if one.path is not None]
        if not paths or len(paths) < len(asked):
            return lambda: None
        window, disk = self._window(asked), self._system.disk
        large = sum(one.requests or 0 for one in asked) >= WORTH_READING_AHEAD
        told = held.enter_context(disk.beside(lambda: tuple(estimated(paths, window, disk) or ()))) if large else None

        def estimate() -> Estimated | None:
            found = told() if told is not None else None
            return estimated(paths, window, disk) if found is None else Estimated(*found) if found else None

        return estimate

    @property
    def _recorded(self) -> str:
        return str(self.output.absolute())

    def _record(self, files: list[WholeFile], answer: dict[str, Any]) -> None:
        """Before the files get their names: a kill in between is told by their hashes."""
        if self._store is None or not answer["complete"]:
            return
        hashes = {file.path: file.sha256 for file in files}
        written = Written(
            output=self._recorded,
            errors=str(self.errors.absolute()) if self.errors in hashes else None,
            format=self._args.format,
            join=self._args.join,
            sha256=hashes[self.output],
            errors_sha256=hashes.get(self.errors),
            answer=answer,
            others=self._others(hashes),
        )
        self._store.job.results = [one for one in self._store.job.results if one.output != written.output] + [written]
        self._store.save()

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
            hint = f"{script('retry_failed.py')} {self.handle}" if self._store is not None else "see the errors file"
            if lost and lost == answer.get("answers", {}).get(INVALID):
                hint = answer["failures"][0]["action"]  # a retry without more asks for what failed otherwise
            raise Failure(Exit.SOME_FAILED, "some_failed", message, hint, answer)
        return answer
