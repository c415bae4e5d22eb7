"""The job file: what was intended, what was done, and enough for another session to go on.

Promises: it is on disk, fsynced, before each call that costs money or creates something, and again with the
outcome; it is replaced whole, never written over; it never holds the API key; a damaged one or one of an
unknown version is refused, never guessed at, since guessing could pay twice. One process at a time works on it.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from doubleword.batch_files.row_map import RowMap
from doubleword.failure import Exit, Failure, plain
from doubleword.output_file import WholeFile
from doubleword.quick_msgspec import Meta, Struct, convert, field, to_builtins
from doubleword.system import Disk

if TYPE_CHECKING:
    from doubleword.batch_files.record import Record

VERSION = 1
SUFFIX = ".job.json"
OF_DATASET = "_work"  # the folder of the jobs of a dataset, in its output
# The states of an intended batch, in order. In "uploading" and "creating" a call may be under way or its
# reply lost: whoever finds one of them looks on the server before calling again.
STATES = ("planned", "uploading", "uploaded", "creating", "created")
LATER = {"left", "change", "models"}  # fields of a batch that older job files do not have

Count = Annotated[int, Meta(ge=0)]
Price = Annotated[str, Meta(pattern=r"^\d{1,9}(\.\d+)?$")]  # a text, which keeps its digits


class InputFile(Struct):
    """One batch file as it was when the job was made. `path` is relative to the job file's folder."""

    path: str
    bytes: Count
    sha256: str
    requests: Count
    endpoint: str


class Retry(Struct):
    """One call of the server's own retry; `before` holds the counts and times that the call changes.

    `state` is "asking" until the reply is known, then "asked"; `at` is when it came to be so, in epoch seconds.
    """

    at: float
    state: str
    before: dict[str, int | None]


class Intended(Struct):
    """One batch that this job means to have exactly once.

    `key` is unique to it: the uploaded file's name and the batch's metadata carry it, so that it can be found
    again when a reply is lost. `file` is the index of the batch file whose requests it answers; `attempt`
    counts from 1, and later ones hold requests that are asked again: `left` is how many of the others are still
    unanswered, `change` what was changed in the requests (`max_tokens`, `model`, `note`), None for nothing, empty where
    that is not known any more. `tries` is how often the call of the present state was made.
    """

    key: str
    file: Count
    input: InputFile
    attempt: Count = 1
    state: str = "planned"
    tries: Count = 0
    file_id: str | None = None
    batch_id: str | None = None
    retries: list[Retry] = field(default_factory=list)
    left: Count = 0
    change: dict[str, Any] | None = None
    models: list[str] | None = None

    @property
    def may_cost(self) -> bool:
        """Whether the batch exists, or may exist."""
        return self.state in ("creating", "created")


class Written(Struct):
    """Results that were written: where, by which arguments that shape them, and what they held.

    `others` are further files that were written with them or that they were made with, each with its SHA-256. `seen`
    has the counts of each batch as they were then, completed and failed; `answers` is how many requests were answered,
    `row_map` the SHA-256 of the row map, `before` that of the results which these replace.
    """

    output: str
    errors: str | None
    sha256: str
    errors_sha256: str | None
    answer: dict[str, Any]
    others: dict[str, str | None] = field(default_factory=dict)
    shape: dict[str, Any] = field(default_factory=dict)
    seen: dict[str, list[int]] = field(default_factory=dict)
    answers: int = 0
    row_map: str | None = None
    before: str | None = None


class Job(Struct):
    """A job: batch files, the batches intended for them on one server, and the results written so far.

    `base_url` is None for a job on the embedded engine, whose data stand in the folder `local`. `tariff` is what the
    server charges for models that the price table has not, or not right: by model and window, USD per million tokens in
    and out. `files_deleted` says that its files were deleted from the server. `row_map` says which rows its requests
    answer, with a path as the batch files have, None where each answers one. `update` says what the latest update was.
    """

    id: str
    created_at: float
    base_url: str | None
    local: str | None
    window: str
    metadata: dict[str, str]
    files: list[InputFile]
    batches: list[Intended]
    results: list[Written] = field(default_factory=list)
    tariff: dict[str, dict[str, tuple[Price, Price]]] = field(default_factory=dict)
    files_deleted: bool = False
    row_map: RowMap | None = None
    update: dict[str, Any] | None = None

    @property
    def rows(self) -> int:
        """How many rows of the table it answers, one for each request where nothing else is known."""
        return self.requests if self.row_map is None else self.row_map.rows

    @property
    def requests(self) -> int:
        """How many requests the job answers for."""
        return sum(one.requests for one in self.files)

    @property
    def map_sha256(self) -> str | None:
        """The SHA-256 of the row map, and of the answers it names; None where there is none."""
        return self.row_map.identity if self.row_map is not None else None

    @property
    def submitted(self) -> bool:
        """Whether every intended batch is known to exist."""
        return all(one.state == "created" for one in self.batches)

    @property
    def answer_tokens(self) -> float | None:
        """How many tokens its answers took on average; None where no results of it were written."""
        for one in reversed(self.results):
            counts, usage = one.answer.get("counts", {}), one.answer.get("usage", {})
            answers = one.answers or counts.get("succeeded", 0) + one.answer.get("answers", {}).get("invalid", 0)
            if answers and usage.get("completion_tokens"):
                return float(usage["completion_tokens"]) / int(answers)
        return None


class JobFile:
    """A job and the file it lives in; `save` after every change that matters."""

    def __init__(self, path: Path, job: Job, disk: Disk) -> None:
        self.path = path
        self.job = job
        self._disk = disk

    @property
    def folder(self) -> Path:
        """The folder that the job's own paths are relative to."""
        return self.path.parent

    def input_path(self, file: InputFile) -> Path:
        """Where a batch file of this job is."""
        return self.folder / file.path

    def record(self) -> Record | None:
        """How the requests of the job were made of a table, as that was last; None where nobody knows."""
        from doubleword.batch_files.record import common_record, record_beside  # which needs what a look does not

        job = self.job
        if job.row_map is not None and (job.update is not None or not job.files):
            return record_beside(self.folder / job.row_map.path, self._disk)
        return common_record([self.input_path(one) for one in job.files], self._disk)

    def save(self) -> None:
        """Replace the file and return when the new one would survive a power cut. Mode 0600 at most."""
        text = json.dumps({"version": VERSION, "kind": "doubleword job", **to_builtins(self.job)}, indent=1)
        with WholeFile(self.path, self._disk, force=True, mode=0o600) as file:
            file.write(text.encode() + b"\n")

    @classmethod
    def load(cls, path: Path, disk: Disk) -> JobFile:
        """Read a job file; raises Failure: 4 when there is none, 2 when it is damaged or of another version."""
        try:
            with disk.open(path) as file:
                value = json.loads(file.read(256 * 1024 * 1024))
        except FileNotFoundError:
            message = f"there is no job file {plain(path)}"
            raise Failure(Exit.NOT_FOUND, "no_job", message, "submit.py makes one") from None
        except (ValueError, RecursionError):
            raise _damaged(path, "it is not JSON") from None
        if not isinstance(value, dict) or value.get("kind") != "doubleword job":
            raise _damaged(path, 'it does not say "kind": "doubleword job"')
        if value.get("version") != VERSION:
            version = plain(value.get("version"), 20)
            message = f"{plain(path)} is of version {version}; this skill reads version {VERSION}"
            raise Failure(Exit.BAD_INPUT, "job_version", message, "use the release of the skill that wrote it")
        try:
            job = _job(value)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _damaged(path, f"{type(error).__name__}: {plain(error, 80)}") from None
        return cls(path, job, disk)


def job_path(batch_file: Path) -> Path:
    """`<stem>.job.json` beside the first batch file; `movies-0001.jsonl` belongs to `movies.job.json`."""
    stem = re.sub(r"-0001$", "", batch_file.stem)
    return batch_file.with_name(f"{stem}{SUFFIX}")


def named_job(given: str | None, usual: Path, disk: Disk) -> Path:
    """The job file that --job names, `usual` without; raises Failure (2) for one that could not be made, or found."""
    path = Path(given) if given else usual
    if not path.name.endswith(SUFFIX):
        raise Failure(Exit.BAD_INPUT, "bad_job_name", f"a job file ends in {SUFFIX}", f"--job {path.stem}{SUFFIX}")
    if not disk.is_folder(path.parent):
        folder = plain(path.parent)
        raise Failure(Exit.BAD_INPUT, "no_folder", f"there is no folder {folder}", f"mkdir -p {folder}")
    return path


@contextlib.contextmanager
def locked(path: Path, disk: Disk) -> Iterator[None]:
    """Be the only process that works on the job at `path`; raises Failure (7) when another one does."""
    lock = path.with_name(f".{path.name}.lock")
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(disk.lock(lock))
        except BlockingIOError:
            message, hint = f"another process works on the job {plain(path)}", "run this again when it has ended"
            raise Failure(Exit.NOT_FINISHED, "job_busy", message, hint) from None
        yield


def resolve(names: list[str], disk: Disk) -> tuple[JobFile | None, list[str]]:
    """What the user named: one job (by its job file or a batch file of it), or batch ids.

    Raises Failure 4 when a path leads to no job, 2 when jobs and ids are mixed.
    """
    if len(names) > 1 and any(name.endswith(SUFFIX) for name in names):
        message = f"{len(names)} names are given, and a job stands alone"
        raise Failure(Exit.BAD_INPUT, "bad_arguments", message, "name one job file, or batch ids; run it for each job")
    if len(names) == 1:
        path = Path(names[0])
        if names[0].endswith(SUFFIX):
            return JobFile.load(path, disk), []
        if disk.size(path) is not None:
            stem = re.sub(r"-\d{4}$", "", path.stem)
            beside = path.with_name(f"{stem}{SUFFIX}")
            if disk.size(beside) is None:
                beside = path.with_name(f"{path.stem}{SUFFIX}")
            return JobFile.load(beside, disk), []
        if path.suffix and disk.size(whole := path.with_name(f"{path.stem}{SUFFIX}")) is not None:
            return JobFile.load(whole, disk), []  # the batch file was split into numbered ones
    for name in names:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}", name):
            message = f"{plain(name, 100)} is neither a job file, nor a batch file of a job, nor a batch id"
            raise Failure(Exit.NOT_FOUND, "no_job", message, "name one job file, or one or more batch ids")
    if disk.is_folder(Path(names[0]) / OF_DATASET):
        message, hint = f"{names[0]} is the output of run_dataset.py", f"name a job in {names[0]}/{OF_DATASET}"
        raise Failure(Exit.NOT_FOUND, "no_job", message, hint)
    return None, names


def _damaged(path: Path, why: str) -> Failure:
    return Failure(
        Exit.BAD_INPUT,
        "job_damaged",
        f"the job file {plain(path)} is damaged ({why}); nothing was sent",
        "restore it from a copy; or find its batches with list_batches.py --all and fetch them by id",
    )


def _job(value: dict[str, Any]) -> Job:
    job: Job = convert(value, Job)
    if "results" not in value:  # which only a new job may leave out
        raise ValueError("it does not say what was written")
    if not (job.files or job.row_map) or {one.file for one in job.batches} != set(range(len(job.files))):
        raise ValueError("its files and batches do not match")
    if len({one.key for one in job.batches}) != len(job.batches):
        raise ValueError("two batches have one key")
    if (job.base_url is None) == (job.local is None):
        raise ValueError("exactly one of base_url and local is needed")
    for kept, one in zip(value["batches"], job.batches, strict=True):
        if lost := set(Intended.__struct_fields__) - LATER - set(kept):
            raise ValueError(f"a batch has no {min(lost)}")  # which has a default, but only for a new one
        if one.state not in STATES or not one.key:
            raise ValueError("a batch is not as it should be")
        if (one.state in ("uploaded", "creating", "created") and not one.file_id) or (
            one.state == "created" and not one.batch_id
        ):
            raise ValueError(f"a batch in the state {one.state} has no id")
    return job
