"""New attempts at the requests of batch files: each a batch file of its own, with a key of its own.

Promises: what is asked again is what was asked, but for what the user changes; none is made of a batch file that was
edited since, nor from a job file that is not the newest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from doubleword.batch_files.reading import request_lines
from doubleword.cli import quoted, script
from doubleword.failure import Exit, Failure, plain
from doubleword.jobs.exactly_once import JOB_NAME, KEY_NAME
from doubleword.jobs.job_file import SUFFIX, InputFile, Intended, JobFile, job_path
from doubleword.jobs.submission import checked, relative
from doubleword.output_file import WholeFile, sha256_of
from doubleword.request_lines.change import Change
from doubleword.server.api import Api
from doubleword.server.errors import ApiError
from doubleword.system import System


@dataclass(frozen=True)
class Owed:
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
        job, disk = self._store.job, self._system.disk
        original = self._store.input_path(job.files[one.file])
        self.require_unchanged(original, job.files[one.file])
        path = self.path(one.file, one.attempt + 1)
        with WholeFile(path, disk, force=True) as file:
            for line in self.lines(one, wanted, change):
                file.write(line + b"\n")
        self.require_unchanged(original, job.files[one.file])
        made = checked([path], self._system).files[0]
        part = InputFile(relative(path, self._store.folder), made.bytes, made.sha256, made.requests, made.endpoint)
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
                path = self._store.input_path(other.input)
                self.require_unchanged(path, other.input)
                changed.append(request_lines(path, self._system.disk))
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

    def require_unchanged(self, path: Path, file: InputFile) -> None:
        """What is asked again must be what was asked."""
        if sha256_of(path, self._system.disk) != file.sha256:
            message = f"{plain(path)} is gone or was changed after it was submitted; nothing was sent"
            raise Failure(Exit.BAD_INPUT, "batch_file_changed", message, "restore the file as it was, then run again")

    def require_newest(self, api: Api, since: int) -> None:
        """Refuse where the server has an attempt that the job file does not know, since it would be paid again.

        An older copy of the file was put back, or the job was adopted and goes on in two places. Batches are listed
        newest first (dwctl batches.rs); one whose input file was deleted cannot be adopted, and is passed over.
        """
        job = self._store.job
        known = {one.key for one in job.batches}
        for search in (job.id, ""):
            try:
                for batch in api.batches(search):
                    if batch.created_at and batch.created_at < since:
                        break
                    ours = batch.metadata.get(JOB_NAME) == job.id and batch.input_file_id
                    if ours and batch.metadata.get(KEY_NAME) not in known:
                        message = (
                            f"{plain(self._store.path)} is not the newest: the server has {plain(batch.id, 60)} too"
                        )
                        command = f"{script('submit.py')} --adopt {quoted(job.id)} --job newest{SUFFIX}"
                        raise Failure(
                            Exit.BAD_INPUT, "job_outdated", message, f"go on from the newer file, or {command}"
                        )
                return
            except ApiError as error:
                if search == "" or error.status not in (400, 422):  # a server without search gives the whole list
                    raise error.failure("looking for other attempts") from error
