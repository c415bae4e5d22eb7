"""submit.py: batch files to a job, checked, planned or taken up again, submitted and reported."""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path
from typing import Any

from doubleword.batch_files import check as file_check
from doubleword.batch_files.reading import named_files
from doubleword.cli import Progress, script
from doubleword.failure import Exit, Failure
from doubleword.jobs.adoption import adopt
from doubleword.jobs.connection import chosen_base_url, connect, local_folder
from doubleword.jobs.cost_limit import prices_of, require_limit
from doubleword.jobs.job_file import JobFile, job_path, locked, named_job
from doubleword.jobs.submission import WINDOWS, carry_out, checked, metadata_of, plan, report, require_same
from doubleword.pricing.estimate import total_of
from doubleword.server.key import read_key
from doubleword.system import System


def submit(args: argparse.Namespace, system: System) -> dict[str, Any]:
    """The work of `submit.py`: check, plan or resume, submit, or adopt; answers its output keys."""
    if args.adopt is not None:
        return adopt(args, system)
    answer, check = _submitted(args, system)
    warnings = [*check.warnings, *answer.get("warnings", ())]
    return {**answer, **({"warnings": warnings[:10]} if warnings else {})}


def _submitted(args: argparse.Namespace, system: System) -> tuple[dict[str, Any], file_check.Check]:
    paths = named_files(args.files, system.disk)
    if not paths:
        hint = f"{script('create_batch_file.py')} makes one"
        raise Failure(Exit.BAD_INPUT, "bad_arguments", "no batch file is named", hint)
    progress = Progress(system.monotonic)
    check = checked(paths, system)
    metadata = metadata_of(args.metadata)
    path = named_job(args.job, job_path(paths[0]), system.disk)
    with contextlib.ExitStack() as held:
        if not args.dry_run:
            held.enter_context(locked(path, system.disk))
        store, resumed = opened(args, check, path, metadata, system)
        if not args.dry_run:
            with connect(args, system, progress.note, store) as api:
                return carry_out(store, api, system, progress, resumed, args.max_cost), check
    total = total_of(paths, system.disk, prices_of(store.job, system.disk), store.job.answer_tokens)
    return {**report(store, {}, resumed), **total.forecast(store.job.window)}, check


def opened(
    args: argparse.Namespace,
    check: file_check.Check,
    path: Path,
    metadata: dict[str, str],
    system: System,
    local: str | None = None,
    identity: str | None = None,
) -> tuple[JobFile, bool]:
    """The job at `path`, taken up again (True) or planned anew; raises Failure 2 or 8 where it must not go on.

    `local` is the folder of the embedded engine, where that is not the job's own; `identity` as `plan` takes it.
    """
    resumed = system.disk.size(path) is not None
    if resumed:
        store = JobFile.load(path, system.disk)
        if args.window and not any(one.may_cost for one in store.job.batches):  # as one may be refused
            store.job.window = args.window
        require_same(store, check, args.window, metadata)
    else:
        store = plan(
            check,
            path,
            base_url=None if args.local else chosen_base_url(args),
            local=(local or local_folder(path)) if args.local else None,
            window=args.window or WINDOWS[0],
            metadata=metadata,
            system=system,
            identity=identity,
        )
    if args.max_cost is not None and not store.job.submitted:
        alone = args.dry_run or not read_key()  # then the server is not asked for its prices
        require_limit([store], args.max_cost, system, last_word=alone)
    return store, resumed
