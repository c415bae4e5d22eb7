"""What the server knows of a job: its batches, and its copies of their input files.

Promises: names come from this machine, never from the server; a copy that came short is fetched again, never taken.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from doubleword.answers import lines as result_lines
from doubleword.batch_files.reading import blocks, named_files, request_lines
from doubleword.cli import Progress, quoted, script
from doubleword.failure import Exit, Failure, plain
from doubleword.jobs.exactly_once import JOB_NAME, KEY_NAME
from doubleword.jobs.job_file import SUFFIX, JobFile
from doubleword.quick_msgspec import Struct
from doubleword.request_lines.line import DROPPED
from doubleword.server.api import Api
from doubleword.server.errors import ApiError
from doubleword.server.objects import Batch
from doubleword.system import Disk


def is_key(text: str) -> bool:
    """Whether `text` may be the id of a job or the key of a batch, as `System.new_key` draws them."""
    return re.fullmatch(r"[0-9a-f]{32}", text) is not None


def is_ours(batch: Batch) -> bool:
    """Whether this skill made the batch: it carries the id of a job and a key of its own."""
    return is_key(batch.metadata.get(JOB_NAME, "")) and is_key(batch.metadata.get(KEY_NAME, ""))


class Copy(Struct):
    """One batch of the job, and where the server's copy of its batch file was put for the time being."""

    batch: Batch
    scratch: Path
    name: str  # of the file on the server: to sort by, nothing else
    use: Path | None = None  # the user's own file that asks the same

    @property
    def path(self) -> Path:
        """Where its requests can be read."""
        return self.use or self.scratch


class ServerCopies:
    """Finds the batches of one job and fetches their input files into the folder of the job file `path`.

    `warnings` are what the user has to know of what was left out.
    """

    def __init__(self, job_id: str, path: Path, api: Api, disk: Disk, progress: Progress) -> None:
        self._job_id = job_id
        self._path = path
        self._api = api
        self._disk = disk
        self._progress = progress
        self.warnings: list[str] = []

    def batches(self) -> list[Batch]:
        """The batches of the job, oldest first; of two with one key, which a repeated call made, the older one."""
        found: list[Batch] = []
        for search in (self._job_id, ""):
            listed = filter(is_ours, self._api.batches(search))
            found = found or [batch for batch in listed if batch.metadata[JOB_NAME] == self._job_id]
        if not found:
            message = f"the server knows no batch of the job {self._job_id}"
            raise Failure(Exit.NOT_FOUND, "no_batch", message, f"{script('list_batches.py')} --all")
        kept: dict[str, Batch] = {}
        # Times are whole seconds; of two in one second, the one that asks less may be a later attempt of the other.
        for batch in sorted(found, key=lambda batch: (batch.created_at or 0, -batch.total, batch.id)):
            first = kept.setdefault(batch.metadata[KEY_NAME], batch)
            if first is not batch:
                self.warnings.append(f"{batch.id} was made twice of one file; {first.id} is adopted")
        return list(kept.values())

    def fetched(self, batch: Batch, scratches: contextlib.ExitStack) -> Copy | None:
        """The server's copy of the batch's input file, whole, on disk; None where the server has none any more."""
        scratch = self._path.with_name(f".{self._path.name}.{batch.metadata[KEY_NAME]}.part")
        scratches.callback(self._disk.remove, scratch)
        try:
            remote = self._api.file(batch.input_file_id) if batch.input_file_id else None
            if remote is None:
                raise ApiError(404, "the batch has no input file")
            self._api.patiently(functools.partial(self._download, remote.id, batch, scratch))
        except ApiError as error:
            if error.status not in (400, 404, 410):
                raise
            self.warnings.append(
                f"the input file of {batch.id} is gone from the server, so that batch is left out; fetch it by its id"
            )
            return None
        self._progress.show("batch files fetched")
        return Copy(batch, scratch, plain(remote.filename, 200))

    def _download(self, file_id: str, batch: Batch, scratch: Path) -> None:
        """One attempt at a whole copy. A body can end early without a word, so its requests are counted."""
        ended = True
        with self._disk.create(scratch, 0o600) as file:
            for block in self._api.content(file_id):
                file.write(block)
                ended = block.endswith(b"\n")
            if not ended:
                file.write(b"\n")
            self._disk.sync(file)
        with self._disk.open(scratch) as file:
            requests = sum(1 for _, lines in blocks(file) for line in lines if line.strip())
        if batch.total and requests != batch.total:
            raise ApiError(200, f"a batch file came with {requests} of {batch.total} requests", garbled=True)


def require_files(store: JobFile) -> None:
    """Raise Failure (4) where the job's files were deleted from the server, so that nothing can be read there."""
    if store.job.files_deleted:
        message = f"the files of the job {plain(store.path)} were deleted from the server: what was fetched is all"
        raise Failure(Exit.NOT_FOUND, "files_deleted", message, "asking the requests again is a new, paid job")


def asks_the_same(path: Path, copy: Path, disk: Disk) -> bool:
    """Whether two batch files ask the same in the same order, whatever the server changed in writing it anew."""
    try:
        return all(one == other for one, other in itertools.zip_longest(_requests(path, disk), _requests(copy, disk)))
    except Failure:
        return False


def _requests(path: Path, disk: Disk) -> Iterator[Any]:
    """The requests of a file, as the server keeps them: it sorts keys and drops some (dwctl files.rs, pg.rs)."""
    for custom_id, line in request_lines(path, disk):
        request = result_lines.parse(line) or {}
        body = request.get("body")
        kept = {name: value for name, value in body.items() if name not in DROPPED} if isinstance(body, dict) else body
        yield custom_id, request.get("url"), kept


def adopt_command(job_id: str, file_name: str | None, folder: Path, disk: Disk) -> str:
    """The command that adopts the job `job_id`, for hints.

    `file_name` is what the server calls its input file: where the batch files of that name are still in `folder`, they
    are named, and the job file is called after them in any case.
    """
    told = re.fullmatch(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,80}?)(-\d{4})?\.jsonl", file_name or "")
    if told is None:
        return f"{script('submit.py')} --adopt {quoted(job_id)}"
    kept = [path for path in named_files([folder / f"{told[1]}.jsonl"], disk) if disk.size(path) is not None]
    words = [
        *(quoted(path) for path in kept),
        "--adopt",
        quoted(job_id),
        "--job",
        quoted(folder / f"{told[1]}{SUFFIX}"),
    ]
    return f"{script('submit.py')} {' '.join(words)}"
