"""New attempts at the requests of batch files: each a batch file of its own, with a key of its own.

Promises: what is asked again is what was asked, but for what the user changes; none is made of a batch file that was
edited since, nor from a job file that is not the newest.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

from doubleword.answers.judgement import FLAWS, TRUNCATED
from doubleword.batch_files.reading import custom_ids, request_lines
from doubleword.batch_files.row_map import read_rows
from doubleword.cli import quoted, script
from doubleword.failure import Exit, Failure, plain
from doubleword.jobs.exactly_once import JOB_NAME, KEY_NAME
from doubleword.jobs.job_file import SUFFIX, Intended, JobFile, job_path
from doubleword.jobs.submission import checked, input_file, require_unchanged
from doubleword.output_file import WholeFile
from doubleword.quick_msgspec import Struct
from doubleword.request_lines.change import Change, asked_change
from doubleword.results.advice import GONE, Advice, is_lasting
from doubleword.results.result import Result
from doubleword.server.api import Api
from doubleword.server.errors import ApiError
from doubleword.system import Disk, System

UNANSWERED = ("failed", "missing")


def advice_of(store: JobFile | None, cut_at: int, unreadable: bool, schema: Path | None = None) -> Advice:
    """The steps for a job after its attempts, or for bare batches; `cut_at` is the most tokens that a request allowed
    whose answer was cut off, `unreadable` says that lines do not tell whose they are, `schema` is the file that answers
    were judged by, where it is not their requests' own.
    """
    changes = [one.change or {} for one in store.job.batches] if store is not None else []
    retry = f"{script('retry_failed.py')} {quoted(store.path)}" if store is not None else None
    most = max([cut_at, *(change.get("max_tokens") or 0 for change in changes)])
    noted = any("note" in change for change in changes)
    judged_by = f" --response-schema {quoted(schema)}" if schema is not None else ""
    return Advice(retry, script("list_models.py"), noted, most, unreadable, judged_by)


class Wanted(Struct, frozen=True):
    """Which requests are asked again, by what became of them, why, or by their custom_ids, and what is changed in them.

    Without `kinds` it is those that are unanswered, or whichever were chosen by `cause` or `ids`.
    """

    kinds: frozenset[str] | None
    change: Change
    cause: str = ""
    ids: frozenset[str] | None = None

    @property
    def is_chosen(self) -> bool:
        """Whether the user said which."""
        return bool(self.cause) or self.ids is not None

    @property
    def is_plain(self) -> bool:
        """Whether it is just what a server's own retry does."""
        return self.kinds in (None, frozenset(UNANSWERED)) and not self.change and not self.is_chosen

    def takes(self, result: Result) -> bool:
        """Whether the request that ended so is asked again, unless it would end so again (`leaves_out`)."""
        if self.ids is not None and result.custom_id not in self.ids:
            return False
        if self.cause.casefold() not in (result.cause or "").casefold():
            return False
        if self.kinds is None:
            return self.is_chosen or result.status in UNANSWERED
        return result.status in self.kinds or not self.kinds.isdisjoint(result.flaws)

    def leaves_out(self, result: Result) -> bool:
        """Whether the user has to choose a request before it is asked: it would fail again, or was paid already."""
        if self.is_chosen:
            return False
        if result.status == "missing" and self.kinds is None and result.cause == GONE:
            return True
        return not self.change and result.status in UNANSWERED and is_lasting(result.cause)


def asked_for(args: argparse.Namespace, disk: Disk) -> Wanted:
    """What the arguments of `retry_failed.py` ask for; raises Failure (2) for what makes no sense."""
    kinds = frozenset(word.strip() for word in args.only.split(",")) if args.only is not None else None
    unknown = sorted((kinds or frozenset()) - {*UNANSWERED, *FLAWS})
    if unknown:
        message = f"--only knows no {plain(unknown[0], 40) or 'empty word'}"
        raise Failure(Exit.BAD_INPUT, "bad_arguments", message, f"--only {','.join((*UNANSWERED, *FLAWS))}")
    if args.cause is not None and not args.cause.strip():
        raise Failure(Exit.BAD_INPUT, "bad_arguments", "--cause is empty", '--cause "HTTP 500"')
    ids = _ids(args.ids, disk) if args.ids is not None else None
    wanted = Wanted(kinds, asked_change(args), (args.cause or "").strip(), ids)
    if TRUNCATED in (kinds or ()) and not wanted.change:
        message = "the same request would be cut off at the same limit again, and paid again"
        raise Failure(Exit.BAD_INPUT, "same_request", message, "add --max-tokens N, --model ID or --note TEXT")
    return wanted


def _ids(given: str, disk: Disk) -> frozenset[str]:
    """The custom_ids that are listed, or stand in a file: one a line, or a column `custom_id` of a table.

    Where the table has a column `mark`, those that are marked wrong.
    """
    path = Path(given)
    if disk.size(path) is None:
        found = frozenset(filter(None, map(str.strip, given.split(","))))
    else:
        from doubleword.tables.relation import Settings
        from doubleword.tables.sources.source import opened_table

        with opened_table([given], Settings(), disk) as table:
            name = "custom_id" if "custom_id" in table.names else "text"
            if name not in table.names:
                message = f"{plain(path)} has no column custom_id; its columns are {plain(', '.join(table.names), 200)}"
                raise Failure(Exit.BAD_INPUT, "missing_column", message, "--ids a,b,c, or a file with one id a line")
            rows = [row.values for row in table.rows()]
        marked = [row for row in rows if row.get("mark", "wrong") == "wrong"]
        found = frozenset(str(row[name]).strip() for row in marked if row[name])
    if not found:
        raise Failure(Exit.BAD_INPUT, "bad_arguments", "--ids names no custom_id", "--ids a,b,c, or --ids FILE")
    return found


def of_requests(ids: frozenset[str], row_map: Path, files: Sequence[Path], disk: Disk) -> frozenset[str]:
    """The custom_ids of the requests that answer the rows with these `ids`; one that is no row's stays."""
    rows = ((number, custom_id) for number, custom_id in read_rows(row_map, disk) if custom_id in ids)
    asked = {custom_id: number for number, custom_id in rows if number > 0}  # others were not asked by this job
    numbers, every = frozenset(asked.values()), itertools.chain.from_iterable(custom_ids(path, disk) for path in files)
    return (ids - asked.keys()) | {one for number, one in enumerate(every, 1) if number in numbers}


class Owed(Struct, frozen=True):
    """The requests of a batch file that are asked again, and how many others are unanswered."""

    ids: set[str]
    left: int


class Attempts:
    """The attempts at the batch files of one job."""

    def __init__(self, store: JobFile, system: System) -> None:
        self._store = store
        self._system = system

    def draft(self, one: Intended, wanted: Owed, change: Change) -> Intended:
        """An attempt after `one`, its batch file written to `<stem>.attempt-N.jsonl` and checked."""
        original, disk = self._store.job.files[one.file], self._system.disk
        require_unchanged(self._store, original, disk)
        path = self.path(one.file, one.attempt + 1)
        with WholeFile(path, disk, force=True) as file:
            for line in self.lines(one, wanted, change):
                file.write(line + b"\n")
        require_unchanged(self._store, original, disk)
        part = input_file(checked([path], self._system).files[0], self._store.folder)
        key, recorded = self._system.new_key(), change.recorded
        return Intended(key, one.file, part, attempt=one.attempt + 1, left=wanted.left, change=recorded)

    def lines(self, one: Intended, wanted: Owed, change: Change) -> Iterator[bytes]:
        """The requests of an attempt after `one`."""
        return (change.applied(line) for custom_id, line in self._as_asked_last(one) if custom_id in wanted.ids)

    def _as_asked_last(self, one: Intended) -> Iterator[tuple[str, bytes]]:
        """Each request of a batch file, in its order, as the latest attempt asked it."""
        original = self._store.input_path(self._store.job.files[one.file])
        changed = []
        for other in self.of(one):
            if other.change is not None:  # other attempts hold what stands elsewhere already
                require_unchanged(self._store, other.input, self._system.disk)
                changed.append(request_lines(self._store.input_path(other.input), self._system.disk))
        heads = [next(lines, None) for lines in changed]  # an attempt stands in the order of the original
        for custom_id, first in request_lines(original, self._system.disk):
            line = first
            for at, head in enumerate(heads):
                if head is not None and head[0] == custom_id:
                    line = head[1]
                    heads[at] = next(changed[at], None)
            yield custom_id, line

    def of(self, one: Intended) -> list[Intended]:
        """All attempts at the batch file of `one`, in their order."""
        return [other for other in self._store.job.batches if other.file == one.file]

    def path(self, file: int, attempt: int) -> Path:
        """Where an attempt at a batch file is written; a job of another name than its batch file's puts its own in."""
        job, path = self._store.job, self._store.path
        usual = job_path(self._store.input_path(job.files[0])).absolute() == path.absolute()
        original = self._store.input_path(job.files[file])
        stem = original.stem if usual else f"{original.stem}.{path.name.removesuffix(SUFFIX)}"
        return original.with_name(f"{stem}.attempt-{attempt}{original.suffix}")

    def require_newest(self, api: Api, since: int) -> None:
        """Refuse where the server has an attempt that the job file does not know, since it would be paid again.

        An older copy of the file was put back, or the job was adopted and goes on in two places. Batches are listed
        newest first (dwctl batches.rs); one whose input file was deleted cannot be adopted, and is passed over.
        """
        job = self._store.job
        known = {one.key for one in job.batches}
        try:
            for batch in api.batches(job.id):
                if batch.created_at and batch.created_at < since:
                    return
                ours = batch.metadata.get(JOB_NAME) == job.id and batch.input_file_id
                if ours and batch.metadata.get(KEY_NAME) not in known:
                    message = f"{plain(self._store.path)} is not the newest: the server has {plain(batch.id, 60)} too"
                    command = f"{script('submit.py')} --adopt {quoted(job.id)} --job newest{SUFFIX}"
                    raise Failure(Exit.BAD_INPUT, "job_outdated", message, f"go on from the newer file, or {command}")
        except ApiError as error:
            raise error.failure("looking for other attempts") from error
