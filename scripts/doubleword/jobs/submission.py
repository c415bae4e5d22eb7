"""From batch files to a job: checked, planned or taken up again, submitted, reported.

Promises: every file is checked whole before anything is sent; a batch file that was edited after it was
submitted is never taken for the old one; a finished submission run again changes nothing and says so.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from doubleword.batch_files import check as file_check
from doubleword.batch_files.record import record_beside, row_map_of
from doubleword.batch_files.row_map import RowMap, map_path
from doubleword.cli import Progress, quoted, script
from doubleword.failure import Exit, Failure, plain
from doubleword.jobs.cost_limit import behind, learn, require_limit
from doubleword.jobs.exactly_once import JOB_NAME, KEY_NAME, Submission
from doubleword.jobs.job_file import InputFile, Intended, Job, JobFile
from doubleword.jobs.reuse.answers import require_answers
from doubleword.jobs.watching import look
from doubleword.output_file import refuse_existing, sha256_of
from doubleword.quick_msgspec import replace
from doubleword.server.api import Api
from doubleword.server.errors import ApiError
from doubleword.system import Disk, System

WINDOWS = ("24h", "1h")
BACKGROUND = "background"  # no deadline, on spare capacity, where the operator allows it


def checked(paths: list[Path], system: System) -> file_check.Check:
    """The batch files of one job, all of them valid; raises Failure (2) that names the first error."""
    check = file_check.check(paths, system.disk)
    if check.error_count:
        first = check.errors[0]
        place = f"{plain(first.file, 120)}, line {first.line}{', ' if first.path else ''}{first.path}"
        message = f"{check.error_count} errors, nothing was sent; the first: {place}: {first.message}"
        files = " ".join(quoted(path) for path in paths)
        raise Failure(Exit.BAD_INPUT, "invalid_batch_file", message, f"{script('validate_batch_file.py')} {files}")
    return check


def metadata_of(pairs: list[str]) -> dict[str, str]:
    """`K=V` words as metadata; raises Failure (2) for other words and for names that the job needs itself."""
    metadata: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name or name in (KEY_NAME, JOB_NAME):
            raise Failure(Exit.BAD_INPUT, "bad_metadata", f"--metadata {plain(pair, 80)} is not K=V", "--metadata k=v")
        metadata[name] = value
    return metadata


def plan(
    check: file_check.Check,
    job_path: Path,
    *,
    base_url: str | None,
    local: str | None,
    window: str,
    metadata: dict[str, str],
    system: System,
    identity: str | None = None,
) -> JobFile:
    """A new job for checked batch files: one intended batch for each, with a key of its own. Nothing is sent.

    The id of the job and its keys are drawn, or follow from `identity`, its files' contents and its window.
    """
    files = [input_file(one, job_path.parent) for one in check.files]
    keys = [system.new_key() for _ in range(len(files) + 1)]
    if identity is not None:
        asked = [identity, window, *(f"{one.endpoint} {one.sha256}" for one in files)]
        told = (json.dumps([*asked, str(number)]) for number in range(len(keys)))
        keys = [hashlib.sha256(one.encode()).hexdigest()[:32] for one in told]  # as `System.new_key` draws them
    job = Job(
        id=keys[0],
        created_at=system.now(),
        base_url=base_url,
        local=local,
        window=window,
        metadata=metadata,
        files=files,
        batches=[Intended(keys[index + 1], index, one) for index, one in enumerate(files)],
        row_map=recorded_map([one.path for one in check.files], job_path.parent, system.disk),
    )
    require_answers(job.row_map, job_path.parent, system.disk)
    return JobFile(job_path, job, system.disk)


def recorded_map(files: list[Path], folder: Path, disk: Disk) -> RowMap | None:
    """The row map of batch files as a job in `folder` records it."""
    found = row_map_of(files, disk)
    return None if found is None else replace(found, path=relative(Path(found.path), folder))


def recorded_beside(place: Path, folder: Path, disk: Disk) -> RowMap | None:
    """The same where earlier jobs answer every row, so that there is no batch file at `place`."""
    record = record_beside(map_path(place), disk)
    found = record.row_map if record is not None else None
    return None if found is None else replace(found, path=relative(Path(found.path), folder))


def input_file(made: file_check.BatchFile, folder: Path) -> InputFile:
    """A checked batch file as a job in `folder` records it."""
    return InputFile(relative(made.path, folder), made.bytes, made.sha256, made.requests, made.endpoint)


def relative(path: Path, folder: Path) -> str:
    """`path` as seen from `folder` where it lies below it, otherwise absolute."""
    whole = path.absolute()
    try:
        return whole.relative_to(folder.absolute()).as_posix()
    except ValueError:
        return str(whole)


def require_same(store: JobFile, check: file_check.Check, window: str | None, metadata: dict[str, str]) -> None:
    """Raise Failure (2) unless the job in `store` is the one that these files and options ask for."""
    job = store.job
    asked = [(relative(one.path, store.folder), one.sha256) for one in check.files]
    known = [(one.path, one.sha256) for one in job.files]
    choose = "restore the files as they were, or give --job another-name.job.json to submit them as a new, paid job"
    if [path for path, _ in asked] != [path for path, _ in known]:
        message = f"the job {plain(store.path)} was made for other batch files ({_named(job.files)})"
        raise Failure(Exit.BAD_INPUT, "other_files", message, choose)
    for (path, now), (_, then) in zip(asked, known, strict=True):
        if now != then:
            message = f"{plain(path)} was changed after the job {plain(store.path)} was made from it"
            raise Failure(Exit.BAD_INPUT, "batch_file_changed", message, choose)
    if (window or job.window) != job.window or (metadata or job.metadata) != job.metadata:
        message = f"the job {plain(store.path)} was made with --window {job.window} and other options"
        raise Failure(Exit.BAD_INPUT, "other_options", message, "leave the options out, or give another --job")


def refuse_written(output: Path, args: argparse.Namespace, disk: Disk, lost: Path | None) -> None:
    """Raise a Failure (exit 2) for an output that is there while no job is; `lost` is the job file that its batch file
    had, None where there is no such file either.
    """
    try:
        refuse_existing(output, disk, args.force)
    except Failure as failure:
        if failure.code == "output_exists" and lost is not None:
            server = " --local" if args.local else f" --base-url {quoted(args.base_url)}" if args.base_url else ""
            failure.message += f"; its batch file is there and its job file {plain(lost)} is not"
            find = f"{script('list_batches.py')} --folder {quoted(lost.parent)}{server}"
            failure.hint = f"{find} tells how to make a lost job file anew; --force would ask, and pay, all rows again"
        raise


def require_unchanged(store: JobFile, file: InputFile, disk: Disk) -> None:
    """Raise Failure (2) unless a batch file of the job is as it was asked."""
    path = store.input_path(file)
    if sha256_of(path, disk) != file.sha256:
        message = f"{plain(path)} is gone or was changed after it was submitted; nothing was sent"
        raise Failure(Exit.BAD_INPUT, "batch_file_changed", message, "restore the file as it was, then run again")


def carry_out(
    store: JobFile, api: Api, system: System, progress: Progress, resumed: bool, max_cost: float | None = None
) -> dict[str, Any]:
    """Submit what is not submitted yet, and report every batch with its present status. A job that asks nothing, since
    every row has the answer of an earlier one, is put on record.

    Raises Failure (8), with nothing left on the server, where by its prices the job may cost more than `max_cost` USD.
    """
    if not store.job.batches:
        store.save()
        return report(store, {}, resumed)

    def approve(ones: Sequence[Intended]) -> None:
        unsure, rough = learn(store, api, system, ones, progress.note)
        require_limit([store], max_cost, system, unsure=unsure, rough_usd=rough)

    bring(store, api, system, progress, resumed, approve if store.job.local is None else None)
    progress.close()
    statuses: dict[str, str] = {}
    with contextlib.suppress(ApiError):  # every batch exists and is on record; its status is only a courtesy
        seen = look(api, [one.batch_id or "" for one in store.job.batches], system, store.job)
        statuses = {batch.id: batch.status for batch in seen}
    warnings = behind(store.job, system.disk)
    return {**report(store, statuses, resumed), **({"warnings": warnings[:10]} if warnings else {})}


def bring(
    store: JobFile,
    api: Api,
    system: System,
    progress: Progress,
    resumed: bool,
    approve: Callable[[Sequence[Intended]], None] | None,
) -> None:
    """Submit what is not submitted yet, once `approve` lets it (`exactly_once.Submission`).

    Where nothing was taken, the file of a job that was not `resumed` goes.
    """
    total = sum(one.input.bytes for one in store.job.batches if one.file_id is None)
    sent = 0

    def count(size: int) -> None:
        nonlocal sent
        sent += size
        progress.show("uploading, bytes:", sent, total)

    try:
        Submission(store, api, system, progress.note, count, approve).run()
    except Failure as failure:
        refused = failure.exit_code not in (Exit.UNREACHABLE, Exit.NOT_FINISHED)
        if refused and not resumed and all(one.state == "planned" for one in store.job.batches):
            system.disk.remove(store.path)  # nothing was taken, so there is nothing to go on with
        raise


def is_refused(failure: Failure) -> bool:
    """Whether it says that batches cannot be submitted as they are planned, such as by a model that does not exist, or
    at the server's price. What an account without credit refuses can be submitted later.
    """
    too_dear = failure.code in ("over_max_cost", "cost_unknown")
    return too_dear or failure.exit_code in (Exit.BAD_INPUT, Exit.NO_KEY, Exit.NOT_FOUND)


def report(store: JobFile, statuses: dict[str, str], resumed: bool) -> dict[str, Any]:
    """The keys of `submit.py`."""
    batches = [
        {
            "id": one.batch_id,
            "file": str(store.input_path(one.input)),
            "file_id": one.file_id,
            "requests": one.input.requests,
            "status": plain(statuses.get(one.batch_id or "", "submitted" if one.batch_id else one.state), 40),
        }
        for one in store.job.batches
    ]
    return {"job": str(store.path), "batches": batches, "resumed": resumed}


def _named(files: list[InputFile]) -> str:
    names = ", ".join(plain(one.path, 60) for one in files[:3])
    return names if len(files) <= 3 else f"{names} and {len(files) - 3} more"
