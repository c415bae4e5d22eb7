"""Which answers earlier jobs have: read from result files that are as they were recorded, else from their server.

Promises: nothing that costs is asked; what is named outright and gives nothing is refused, since asking it again would
cost; of a folder such jobs are passed over and told of; where a server stays away nothing is passed over.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
from array import array
from collections.abc import Iterator
from pathlib import Path

from doubleword.answers import judgement
from doubleword.answers import lines as result_lines
from doubleword.batch_files.reading import custom_ids, request_lines, request_of
from doubleword.batch_files.row_map import Reused, read_rows
from doubleword.cli import Progress, quoted, script
from doubleword.failure import Exit, Failure, plain
from doubleword.jobs.connection import connect
from doubleword.jobs.job_file import SUFFIX, InputFile, JobFile, Written, resolve
from doubleword.jobs.reuse.answers import EarlierAnswers
from doubleword.jobs.watching import Answering
from doubleword.output_file import sha256_of
from doubleword.quick_msgspec import replace
from doubleword.request_lines.line import digest_of
from doubleword.results.advice import GONE
from doubleword.results.expected import EVERY, Request, Schemas
from doubleword.results.reconciliation import Collector
from doubleword.results.result import Good, line_for
from doubleword.results.spool import Spool
from doubleword.server.api import Api
from doubleword.server.objects import Asked
from doubleword.system import Disk, System

SHOWN_JOBS = 3
NONE = -1  # where no answer is
PASSED_OVER = (Exit.BAD_INPUT, Exit.NOT_FOUND)  # what lasts; any other failure may be another one later


@contextlib.contextmanager
def earlier_answers(
    args: argparse.Namespace, output: Path, kept: Path | None, system: System, progress: Progress
) -> Iterator[EarlierAnswers | None]:
    """The answers that rows of the batch file `output` may have: those that were `kept` of an earlier making, else
    those of --reuse; None where nothing is to be reused.
    """
    if kept is None and not args.reuse:
        yield None
        return
    with EarlierAnswers(output.with_name(f".{output.name}.earlier"), system.disk) as earlier:
        if kept is not None:
            earlier.add_file(kept)
            earlier.settle()
        else:
            gather(earlier, args, output.with_name(f".{output.name}.rows"), system, progress)
        yield earlier


def gather(into: EarlierAnswers, args: argparse.Namespace, work: Path, system: System, progress: Progress) -> None:
    """Add the good answers of the jobs of --reuse, in their order; of a folder's, the newest first.

    What the user should know of it is added to the warnings; `work` is where lines are meanwhile. Raises Failure for a
    job that gives nothing: 2 where its files were changed, 4 where there is none; and those of reading a server.
    """
    for name in args.reuse:
        path = Path(name)
        if system.disk.is_folder(path):
            _gather_folder(into, path, args, work, system, progress)
            continue
        store, _ = resolve([name], system.disk)
        if store is None:
            message = f"{plain(name, 100)} is a batch id, which does not say what was asked"
            raise Failure(Exit.BAD_INPUT, "bad_arguments", message, "name the job file, or a folder of job files")
        source = Source(store, args, work, system, progress)
        if not source.read(into):
            _refuse(source)
        into.warnings += source.warnings
    into.settle()


def _gather_folder(
    into: EarlierAnswers, folder: Path, args: argparse.Namespace, work: Path, system: System, progress: Progress
) -> None:
    names = [name for name in system.disk.entries(folder) if name.endswith(SUFFIX) and not name.startswith(".")]
    if not names:
        message = f"there is no job file in {plain(folder)}"
        raise Failure(Exit.NOT_FOUND, "no_job", message, f"{script('list_batches.py')} --folder DIR shows the jobs")
    stores: list[JobFile] = []
    without: list[str] = []
    for path in (folder / name for name in sorted(names)):
        try:
            stores.append(JobFile.load(path, system.disk))
        except Failure as failure:
            without.append(f"{plain(path.name, 80)} ({failure.message})")
    for store in sorted(stores, key=lambda one: -one.job.created_at):
        source = Source(store, args, work, system, progress)
        try:
            found = source.read(into)
        except Failure as failure:
            if failure.exit_code not in PASSED_OVER:
                raise
            found, source.warnings = 0, [failure.message]
        if not found:
            why = "; ".join(source.warnings) or "it has no good answer"
            without.append(f"{plain(store.path.name, 80)} ({why})")
    if without:
        shown = ", ".join(without[:SHOWN_JOBS]) + (", …" if len(without) > SHOWN_JOBS else "")
        into.warnings.append(f"{len(without)} of {len(names)} jobs in {plain(folder, 80)} give no answer: {shown}")


def _refuse(source: Source) -> None:
    """Refuse a job that was named and gives nothing."""
    job = quoted(source.store.path)
    if source.warnings:
        message = f"nothing can be taken over from {plain(source.store.path)}: {'; '.join(source.warnings)}"
        hint = "restore what was changed, or leave the job out, and its rows are asked anew"
        raise Failure(Exit.BAD_INPUT, "nothing_to_reuse", message, hint)
    message = f"the job {plain(source.store.path)} has no good answer"
    hint = f"{script('poll.py')} {job} says how far it is; leave it out, and its rows are asked anew"
    raise Failure(Exit.BAD_INPUT, "nothing_to_reuse", message, hint)


class Source:
    """One earlier job. `warnings` say what of it cannot be used."""

    def __init__(
        self, store: JobFile, args: argparse.Namespace, work: Path, system: System, progress: Progress
    ) -> None:
        self.store = store
        self.warnings: list[str] = []
        self._args = args
        self._work = work
        self._system = system
        self._disk: Disk = system.disk
        self._progress = progress
        self._schemas = Schemas(system.disk)

    def read(self, into: EarlierAnswers) -> int:
        """Add its good answers, and those that it took over itself; how many it has."""
        job, count = self.store.job, self._taken_over(into)
        files = [one for one in job.files if self._is_unchanged(one)]
        if not files:
            return count
        # A later attempt may have asked something else, and a result file does not say which attempt answered.
        changed = any(one.change is not None for one in job.batches)
        delivered = self._delivered() if len(files) == len(job.files) and not changed else None
        found = self._of_file(delivered) if delivered is not None else self._of_server()
        try:
            for one in found:
                into.add(one)
                count += 1
                self._progress.show(f"answers of earlier jobs: {into.count:,}")
        except Failure as failure:
            if not count or failure.exit_code not in PASSED_OVER:
                raise
            self.warnings.append(failure.message)
        return count

    def _taken_over(self, into: EarlierAnswers) -> int:
        row_map = self.store.job.row_map
        path = row_map.answers_in(self.store.folder) if row_map is not None else None
        if row_map is None or path is None:
            return 0
        if sha256_of(path, self._disk) != row_map.answers_sha256:
            self.warnings.append(f"{plain(path, 120)} is gone or was changed, so that it is not used")
            return 0
        return into.add_file(path)

    def _is_unchanged(self, file: InputFile) -> bool:
        path = self.store.input_path(file)
        same = sha256_of(path, self._disk) == file.sha256
        if not same:
            self.warnings.append(f"the batch file {plain(path, 120)} is gone or was changed, so that it is not used")
        return same

    def _origin(self, custom_id: str) -> str:
        return f"{self.store.job.id}/{custom_id}"

    def _reused(self, custom_id: str, request: bytes, line: bytes) -> Reused:
        asked = request_of(request)
        says = request if any(word in request for word in EVERY) else b""
        digest = digest_of(asked["url"], asked["body"])
        return Reused(digest, asked["url"], self._origin(custom_id), line_for(line, custom_id), says)

    # Of a result file

    def _delivered(self) -> Written | None:
        """JSON lines on record that are as they were written; None where there are none."""
        job = self.store.job
        if job.row_map is not None:
            place = self.store.folder / job.row_map.path
            if sha256_of(place, self._disk) != job.row_map.sha256:
                return None
        for written in reversed(job.results):
            if written.shape.get("format") == "jsonl" and written.row_map == job.map_sha256:
                path = Path(written.output)
                found = sha256_of(path, self._disk)
                if found == written.sha256:
                    return written
                if found is not None:
                    said = f"{plain(path, 120)} was changed since it was written, so that it is not used"
                    self.warnings.append(said)
        return None

    def _of_file(self, written: Written) -> Iterator[Reused]:
        """The good answers among lines that stand in the order of the rows, of each request one."""
        store, disk = self.store, self._disk
        ids = itertools.chain.from_iterable(custom_ids(store.input_path(one), disk) for one in store.job.files)
        rows: Iterator[tuple[int, str]] = enumerate(ids, 1)
        if store.job.row_map is not None:
            rows = read_rows(store.folder / store.job.row_map.path, disk)
        with Spool(self._work, disk) as spool:
            places = array("q", [NONE]) * (store.job.requests + 1)
            for row_id, line in request_lines(Path(written.output), disk):
                number = next(number for number, custom_id in rows if custom_id == row_id)
                if number > 0:  # any other has the answer of an earlier job itself
                    places[number] = spool.add(line)
            spool.settle()
            numbers = itertools.count(1)
            for file in store.job.files:
                expected = self._schemas.expected(store.input_path(file))
                for custom_id, request in request_lines(store.input_path(file), disk):
                    place = places[next(numbers)]
                    line = spool.read_all([place])[0] if place != NONE else b""
                    if line and _is_good(line, file.endpoint, expected.request(custom_id)):
                        yield self._reused(custom_id, request, line)

    # Of a server

    def _of_server(self) -> Iterator[Reused]:
        """The good answers among those that the server has."""
        store, job, note = self.store, self.store.job, self._progress.note
        if job.files_deleted:
            self.warnings.append(f"the files of {plain(store.path, 120)} were deleted from the server")
            return
        here = job.local is not None  # what the flags say of a server is of others
        chosen = {"local": self._args.local and not here, "base_url": None if here else self._args.base_url}
        changed = {one.batch_id for one in job.batches if one.change is not None}
        with connect(argparse.Namespace(**chosen), self._system, note, store) as api:
            for asked in Answering(store, [], api, self._system, note).look():
                if asked.path is not None:
                    batches = tuple(one for one in asked.batches if one.id not in changed)
                    yield from self._of_batches(replace(asked, batches=batches), asked.path, api)

    def _of_batches(self, asked: Asked, path: Path, api: Api) -> Iterator[Reused]:
        partial = not all(batch.terminal for batch in asked.batches)
        requests = request_lines(path, self._disk)
        with Collector(api, self._system, self._work, lambda _: None, partial, self._schemas) as collector:
            for found in collector.collect_runs([asked]):
                if not isinstance(found, Good):
                    next(requests)
                    continue
                for line, (custom_id, request) in zip(found.kept, requests, strict=False):
                    yield self._reused(custom_id, request, line)
        if gone := collector.tally.failures[GONE]:
            self.warnings.append(f"the server has deleted {gone} results of {plain(self.store.path, 120)}")


def _is_good(line: bytes, endpoint: str, asked: Request) -> bool:
    """Whether a line holds an answer without a flaw."""
    said = result_lines.judge(line, endpoint)
    if said is None or said.cause is not None or said.body is None:
        return False
    found = judgement.judged(said.body, endpoint, asked.schema, asked.form)
    return found.cause is None and not found.flaws
