"""Results delivered: which batches, into which files, in which form; recorded in the job.

Promises: nothing is written while a batch runs unless `--partial` asks for it; both files appear whole or not
at all; the exit code follows from the rows that were counted; a second run of a finished delivery writes nothing.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from doubleword import batch_file, sources, templates
from doubleword.api import Api
from doubleword.api_error import ApiError
from doubleword.command import Progress, quoted, script
from doubleword.connection import connect
from doubleword.failure import Exit, Failure, plain
from doubleword.job import JobFile, Written, locked, resolve
from doubleword.outside import Outside, WholeFile, refuse_existing
from doubleword.results import Asked, Collector, error_line
from doubleword.tables import Csv, Lines, Parquet, Table, joined, result_columns, sha256_of
from doubleword.watch import look, older_than_retry

SUFFIXES = {"jsonl": ".jsonl", "csv": ".csv", "parquet": ".parquet"}


def fetch(args: argparse.Namespace, outside: Outside) -> dict[str, Any]:
    """The work of `fetch_results.py`; answers its output keys, or raises Failure 6 or 7 with them."""
    progress = Progress(outside.monotonic)
    store, ids = resolve(args.names, outside.disk)
    with contextlib.ExitStack() as held:
        if store is not None:
            held.enter_context(locked(store.path, outside.disk))
            store = JobFile.load(store.path, outside.disk)
        delivery = Delivery(args, store, ids, outside, progress)
        earlier = delivery.earlier()
        if earlier is not None:
            return earlier
        refuse_existing(delivery.output, outside.disk, args.force)
        return delivery.run(held.enter_context(connect(args, outside, progress.note, store)))


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
        self, args: argparse.Namespace, store: JobFile | None, ids: list[str], outside: Outside, progress: Progress
    ) -> None:
        self._args = args
        self._store = store
        self._ids = ids
        self._outside = outside
        self._progress = progress
        self.handle = quoted(store.path) if store is not None else " ".join(ids)
        self.output = self._output_path()
        self.errors = self.output.with_name(f"{self.output.stem}.errors.jsonl")
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
        kept = [Path(self._args.join)] if self._args.join else []
        if self._store is not None:
            kept += [self._store.path, *(self._store.input_path(one.input) for one in self._store.job.batches)]
        for path in kept:
            if path.absolute() in (self.output.absolute(), self.errors.absolute()):
                message = f"{plain(self.output)} would replace {plain(path)}, which the results are made of"
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
            disk = self._outside.disk
            same = sha256_of(self.output, disk) == written.sha256
            if same and sha256_of(self.errors, disk) == written.errors_sha256:
                paths = {"output": str(self.output), "errors": str(self.errors) if written.errors else None}
                return self._judged({**written.answer, **paths})
        return None

    def run(self, api: Api) -> dict[str, Any]:
        """The keys of `fetch_results.py`; raises Failure 7 while batches run, 6 when requests failed or are missing.

        The list of failed requests is renamed into place before the table, so a table never stands without it;
        it is replaced without asking only where there is no table beside it.
        """
        disk, force = self._outside.disk, self._args.force
        asked = self._asked(api)
        if not self._args.partial:
            self._require_over(asked)
        cells, columns, types = self._source(asked)
        spool = self.output.with_name(f".{self.output.name}.rows")
        received = Received(self._progress)
        with contextlib.ExitStack() as files:
            file = files.enter_context(WholeFile(self.output, disk, force))
            errors: WholeFile | None = None
            # The rows kept meanwhile are gone before the files get their names, so that a kill leaves none behind.
            with (
                Collector(api, self._outside, spool, received.add, self._args.partial) as collector,
                self._table(file, columns, types, asked) as table,
            ):
                for result in (result for one in asked for result in collector.collect(one)):
                    table.add(result, cells(result.custom_id))
                    if result.kind in ("failed", "missing"):
                        errors = errors or files.enter_context(WholeFile(self.errors, disk, force=True))
                        errors.write(error_line(result) + b"\n")
            file.finish()
            if errors is not None:
                errors.finish()
            answer = self._answer(collector, asked, errors is not None)
            if not collector.unreadable:  # such lines may read better another time
                self._record(file, errors, answer)
        if errors is None:
            disk.remove(self.errors)  # of an earlier run: nothing failed this time
        self._progress.close()
        return self._judged(answer)

    # What was asked, and whether it is over

    def _asked(self, api: Api) -> list[Asked]:
        """One entry for each batch file of the job, or for each bare batch."""
        try:
            if self._store is None:
                batches = look(api, self._ids)
                return [Asked(None, one.total, one.endpoint, (one,)) for one in batches]
            job = self._store.job
            made = [one for one in job.batches if one.batch_id]
            seen = look(api, [one.batch_id or "" for one in made], job.id, older_than_retry(job, self._outside))
        except ApiError as error:
            raise error.failure("looking at the batches") from error
        asked = []
        for index, file in enumerate(job.files):
            path: Path | None = self._store.input_path(file)
            if path is not None and sha256_of(path, self._outside.disk) != file.sha256:
                self._progress.note(
                    f"{plain(path)} is gone or was changed; the server's copy says which requests there are"
                )
                path = None
            answers = tuple(batch for one, batch in zip(made, seen, strict=True) if one.file == index)
            asked.append(Asked(path, file.requests, file.endpoint, answers))
        return asked

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

    def _source(self, asked: list[Asked]) -> tuple[Callable[[str], list[Any]], list[str], dict[str, Any]]:
        """What gives the source cells of a custom_id, the source's columns, and their Arrow types."""
        if not self._args.join:
            return lambda _: [], [], {}
        path, disk = Path(self._args.join), self._outside.disk
        local = next((one.path for one in asked if one.path is not None), None)
        known = batch_file.read_source(local, disk) if local is not None else None
        template = self._args.id or (known.id_template if known is not None else None)
        same = known is not None and Path(known.path).suffix == path.suffix
        kind, encoding = (known.format, known.encoding) if known is not None and same else (None, "utf-8")
        columns = sources.columns(path, disk, kind, encoding)

        def rows() -> Iterator[tuple[str, list[Any]]]:
            for row in sources.read(path, disk, kind, encoding):
                try:
                    custom_id = templates.custom_id(template, row, known is not None and known.repair_ids)
                except sources.BadRow:
                    continue  # no request was made of it: --skip-invalid left it out
                yield custom_id, [row.values.get(name) for name in columns]

        return joined(rows(), plain(path)), columns, {}

    def _table(self, file: WholeFile, columns: list[str], types: dict[str, Any], asked: list[Asked]) -> Table:
        if self._args.format == "jsonl":
            return Lines(file)
        every = [*columns, *result_columns({one.endpoint for one in asked}, columns)]
        if self._args.format == "parquet":
            return Parquet(file, every, types)
        return Csv(file, every, self._args.raw_cells)

    # The answer

    def _answer(self, collector: Collector, asked: list[Asked], errors: bool) -> dict[str, Any]:
        tally = collector.tally
        total = self._store.job.requests if self._store is not None else tally.total
        warnings = list(collector.warnings)
        if collector.unreadable:
            warnings.append(f"{collector.unreadable} result lines do not say whose answer they are")
        over = all(one.batches and all(batch.terminal for batch in one.batches) for one in asked)
        adds_up = tally.succeeded + tally.failed + tally.missing == total
        counts = {"total": total, "succeeded": tally.succeeded, "failed": tally.failed, "missing": tally.missing}
        if tally.pending:
            counts["pending"] = tally.pending
        return {
            "output": str(self.output),
            "errors": str(self.errors) if errors else None,
            "complete": over and adds_up and total > 0,
            "counts": counts,
            "failures": tally.causes(),
            **({"warnings": warnings[:10]} if warnings else {}),
        }

    @property
    def _recorded(self) -> str:
        return str(self.output.absolute())

    def _record(self, file: WholeFile, errors: WholeFile | None, answer: dict[str, Any]) -> None:
        """Before the files get their names: a kill in between is told by their hashes."""
        if self._store is None or not answer["complete"]:
            return
        written = Written(
            output=self._recorded,
            errors=str(self.errors.absolute()) if errors is not None else None,
            format=self._args.format,
            join=self._args.join,
            sha256=file.sha256,
            errors_sha256=errors.sha256 if errors is not None else None,
            answer=answer,
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
            raise Failure(Exit.SOME_FAILED, "some_failed", message, hint, answer)
        return answer
