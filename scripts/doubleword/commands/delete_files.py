"""delete_files.py: the files of batches deleted from the server, so that it keeps them no longer than they are needed.

Promises: nothing is deleted of a batch that runs, since that would cancel it (dwctl files.rs); nor, unless confirmed,
where what the results are made of was not fetched whole; a second run changes nothing.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from doubleword.cli import Progress, quoted, script
from doubleword.failure import Exit, Failure
from doubleword.jobs.connection import connect
from doubleword.jobs.job_file import JobFile, locked, resolve
from doubleword.jobs.watching import look
from doubleword.output_file import sha256_of
from doubleword.server.api import Api
from doubleword.server.errors import ApiError
from doubleword.system import Disk, System


def delete_named(args: argparse.Namespace, system: System) -> dict[str, Any]:
    """The work of `delete_files.py`: for the batches of a job, or those with the given ids."""
    progress = Progress(system.monotonic)
    store, ids = resolve(args.names, system.disk)
    handle = quoted(store.path) if store is not None else " ".join(ids)
    with contextlib.ExitStack() as held:
        if store is not None:
            held.enter_context(locked(store.path, system.disk))
            store = JobFile.load(store.path, system.disk)
            if store.job.files_deleted:
                return _keys([])
        if not args.yes and (store is None or not _fetched(store, system.disk)):
            message = "the results are not fetched and complete, and could not be fetched any more"
            hint = f"{script('fetch_results.py')} {handle}; or {script('delete_files.py')} {handle} --yes"
            raise Failure(Exit.REFUSED, "not_fetched", message, hint)
        api = held.enter_context(connect(args, system, progress.note, store))
        return _keys(delete_files(api, store, system, ids))


def delete_files(api: Api, store: JobFile | None, system: System, ids: Sequence[str] = ()) -> list[str]:
    """Delete the files of a job, or of batches by their ids; their ids. Raises Failure (7) while a batch runs."""
    named = ids if store is None else [one.batch_id for one in store.job.batches if one.batch_id]
    try:
        batches = look(api, named, system, store.job if store is not None else None)
        running = [one for one in batches if not one.terminal]
        if running:
            message = f"{len(running)} batches still run, and would be cancelled"
            raise Failure(Exit.NOT_FINISHED, "not_finished", message, f"{script('cancel.py')} --help")
        # Input files go last: with one the server forgets whose results the others are (dwctl files.rs).
        found = [file for one in batches for file in (one.output_file_id, one.error_file_id)]
        found += [one.input_file_id for one in batches]
        found += [one.file_id for one in store.job.batches] if store is not None else []
        files = list(dict.fromkeys(filter(None, found)))
        for file in files:
            api.delete_file(file)
    except ApiError as error:
        raise error.failure("deleting files") from error
    if store is not None and store.job.batches:
        store.job.files_deleted = True
        store.save()
    return files


def _fetched(store: JobFile, disk: Disk) -> bool:
    """Whether complete results of the job were written, and stand there as they were written."""
    return any(
        one.answer.get("complete") and sha256_of(Path(one.output), disk) == one.sha256 for one in store.job.results
    )


def _keys(files: Sequence[str]) -> dict[str, Any]:
    return {"files": list(files), "deleted": len(files)}
