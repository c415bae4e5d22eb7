"""From batch files to a job: checked, planned or taken up again, submitted, reported.

Promises: every file is checked whole before anything is sent; a batch file that was edited after it was
submitted is never taken for the old one; a finished submission run again changes nothing and says so.
"""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path
from typing import Any

from doubleword.batch_files import check as file_check
from doubleword.cli import Progress, quoted, script
from doubleword.failure import Exit, Failure, plain
from doubleword.jobs.connection import chosen_base_url, connect, local_folder
from doubleword.jobs.exactly_once import JOB_NAME, KEY_NAME, Submission
from doubleword.jobs.job_file import SUFFIX, InputFile, Intended, Job, JobFile, job_path, locked
from doubleword.jobs.watching import look
from doubleword.server.api import Api
from doubleword.server.errors import ApiError
from doubleword.system import System

WINDOWS = ("24h", "1h")
ASKED = ("creating", "created")  # states of a batch that costs, or may


def submit(args: argparse.Namespace, system: System) -> dict[str, Any]:
    """The work of `submit.py`: check, plan or resume, submit; answers its output keys."""
    paths = [Path(name) for name in args.files]
    if not paths:
        hint = f"{script('create_batch_file.py')} makes one"
        raise Failure(Exit.BAD_INPUT, "bad_arguments", "no batch file is named", hint)
    progress = Progress(system.monotonic)
    check = checked(paths, system)
    metadata = metadata_of(args.metadata)
    path = Path(args.job) if args.job else job_path(paths[0])
    if not path.name.endswith(SUFFIX):
        raise Failure(Exit.BAD_INPUT, "bad_job_name", f"a job file ends in {SUFFIX}", f"--job {path.stem}{SUFFIX}")
    with contextlib.ExitStack() as held:
        if not args.dry_run:
            held.enter_context(locked(path, system.disk))
        store, resumed = opened(args, check, path, metadata, system)
        if not args.dry_run:
            with connect(args, system, progress.note, store) as api:
                return carry_out(store, api, system, progress, resumed)
    return report(store, {}, resumed)


def opened(
    args: argparse.Namespace, check: file_check.Check, path: Path, metadata: dict[str, str], system: System
) -> tuple[JobFile, bool]:
    """The job at `path`, taken up again (True) or planned anew; raises Failure 2 or 8 where it must not go on."""
    resumed = system.disk.size(path) is not None
    if resumed:
        store = JobFile.load(path, system.disk)
        require_same(store, check, args.window, metadata)
    else:
        store = plan(
            check,
            path,
            base_url=None if args.local else chosen_base_url(args),
            local=local_folder(path) if args.local else None,
            window=args.window or WINDOWS[0],
            metadata=metadata,
            system=system,
        )
    if args.max_cost is not None and store.job.local is None and not store.job.submitted:
        unasked = [store.input_path(one.input) for one in store.job.batches if one.state not in ASKED]
        require_cost(unasked, store.job.window, args.max_cost, system, spent_ceiling(store, system))
    return store, resumed


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


def require_cost(paths: list[Path], window: str, limit: float, system: System, spent_usd: float | None = 0.0) -> None:
    """Raise Failure (8) unless the requests in `paths`, and what the job has cost before, surely stay within `limit`
    USD; what is unknown is not sure. `spent_usd` is the most that it has cost before, see `spent_ceiling`.
    """
    from doubleword.pricing import estimate as pricing

    ceiling: float | None = 0.0
    why = "what the job has cost so far is not known" if spent_usd is None else ""
    if paths:
        found = pricing.estimate(paths, window, system.disk, pricing.load_prices(None, system.disk))
        ceiling = found.ceiling_usd
        if found.unknown_models:
            why = f"the price of {plain(found.unknown_models[0], 80)} is not known"
        elif ceiling is None:
            why = "a price or a limit of tokens is not known"
    if ceiling is None or spent_usd is None:
        message = f"--max-cost {limit:g} cannot be promised: {why}"
        hint = "set --max-tokens when the file is made, see estimate_cost.py, or leave --max-cost out"
        raise Failure(Exit.REFUSED, "cost_unknown", message, hint)
    if spent_usd + ceiling > limit:
        before = f" after up to USD {spent_usd:.4f} that the job has cost so far" if spent_usd else ""
        message = f"the requests may cost up to USD {ceiling:.4f}{before}, more than --max-cost {limit:g}"
        raise Failure(Exit.REFUSED, "over_max_cost", message, "send fewer requests, or raise --max-cost")


def spent_ceiling(store: JobFile, system: System) -> float | None:
    """The most that the job has cost so far, in USD: the ceilings of all batches that exist, or may exist.

    None where a price, a limit of tokens or the batch file of one of them is not known any more; 0 on the embedded
    engine. What the server's own retry runs again is in it already: only requests without an answer, which have no
    usage that could be charged.
    """
    from doubleword.pricing import estimate as pricing

    asked = [store.input_path(one.input) for one in store.job.batches if one.state in ASKED]
    if not asked or store.job.local is not None:
        return 0.0
    try:
        prices = pricing.load_prices(None, system.disk)
        return pricing.estimate(asked, store.job.window, system.disk, prices).ceiling_usd
    except Failure:  # a batch file of an earlier attempt is gone
        return None


def plan(
    check: file_check.Check,
    job_path: Path,
    *,
    base_url: str | None,
    local: str | None,
    window: str,
    metadata: dict[str, str],
    system: System,
) -> JobFile:
    """A new job for checked batch files: one intended batch for each, with a key of its own. Nothing is sent."""
    files = [
        InputFile(relative(one.path, job_path.parent), one.bytes, one.sha256, one.requests, one.endpoint)
        for one in check.files
    ]
    job = Job(
        id=system.new_key(),
        created_at=system.now(),
        base_url=base_url,
        local=local,
        window=window,
        metadata=metadata,
        files=files,
        batches=[Intended(system.new_key(), index, one) for index, one in enumerate(files)],
    )
    return JobFile(job_path, job, system.disk)


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


def carry_out(store: JobFile, api: Api, system: System, progress: Progress, resumed: bool) -> dict[str, Any]:
    """Submit what is not submitted yet, and report every batch with its present status."""
    total = sum(one.input.bytes for one in store.job.batches if one.file_id is None)
    sent = 0

    def count(size: int) -> None:
        nonlocal sent
        sent += size
        progress.show("uploading, bytes:", sent, total)

    try:
        Submission(store, api, system, progress.note, count).run()
    except Failure as failure:
        refused = failure.exit_code not in (Exit.UNREACHABLE, Exit.NOT_FINISHED)
        if refused and not resumed and all(one.state == "planned" for one in store.job.batches):
            system.disk.remove(store.path)  # nothing was taken, so there is nothing to go on with
        raise
    progress.close()
    statuses: dict[str, str] = {}
    with contextlib.suppress(ApiError):  # every batch exists and is on record; its status is only a courtesy
        seen = look(api, [one.batch_id or "" for one in store.job.batches], store.job.id)
        statuses = {batch.id: batch.status for batch in seen}
    return report(store, statuses, resumed)


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
