"""Which server, with which key: chosen from the flags, the environment and the job, in one place.

Promises: a job is only ever continued on the server it was made on; a job file cannot send the key to a
server that the user did not name; the embedded engine runs exactly as long as the script that needs it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from doubleword.failure import Exit, Failure, plain
from doubleword.jobs.job_file import JobFile
from doubleword.server.api import DEFAULT_BASE_URL, Api, checked_base_url
from doubleword.server.key import read_key
from doubleword.system import System

FIRST_ANSWER_S = 5.0  # the least that a server has for it, however short --wait is


def chosen_base_url(args: argparse.Namespace) -> str:
    """The server that the user named: --base-url, else DOUBLEWORD_BASE_URL, else the hosted one."""
    return checked_base_url(args.base_url or os.environ.get("DOUBLEWORD_BASE_URL", "").strip() or DEFAULT_BASE_URL)


def local_folder(job_path: Path) -> str:
    """Name of the embedded engine's data folder, beside the job file."""
    return job_path.name.removesuffix(".job.json") + ".local"


@contextlib.contextmanager
def connect(
    args: argparse.Namespace,
    system: System,
    note: Callable[[str], None],
    store: JobFile | None = None,
    folder: Path | None = None,
) -> Iterator[Api]:
    """The API of the job's server, or of the one that the flags name.

    `folder` is where the embedded engine keeps its data when there is no job. Raises Failure: 2 when the flags
    contradict the job, 3 when there is no key.
    """
    if args.local and args.base_url:
        raise Failure(Exit.BAD_INPUT, "two_servers", "--local and --base-url exclude each other", "give one of them")
    local = store.folder / store.job.local if store is not None and store.job.local is not None else None
    if store is not None and local is None and args.local:
        message = f"this job was submitted to {store.job.base_url}, not to the embedded engine"
        raise Failure(Exit.BAD_INPUT, "other_server", message, "leave --local out")
    if local is not None and args.base_url:
        message = "this job was submitted to the embedded engine"
        raise Failure(Exit.BAD_INPUT, "other_server", message, "leave --base-url out")
    if store is None and args.local:
        local = folder or Path("doubleword-local")
    if store is not None and not store.job.batches:  # it asked nothing, and nothing is asked of a server
        yield Api(store.job.base_url or DEFAULT_BASE_URL, "", system)
        return
    if local is not None:
        from doubleword.server.local_engine import engine

        with engine(local, system, note) as running:
            yield Api(running.base_url, running.key, system)
        return
    base_url = chosen_base_url(args)
    if store is not None and store.job.base_url != base_url:
        theirs = plain(store.job.base_url or "", 120)
        message = f"this job was submitted to {theirs}, and the server chosen now is {base_url}"
        raise Failure(Exit.BAD_INPUT, "other_server", message, f"add --base-url {theirs} if you trust that server")
    key = read_key()
    if not key:
        hint = "export DOUBLEWORD_API_KEY, or try everything without a key by --local"
        raise Failure(Exit.NO_KEY, "no_key", "there is no API key in DOUBLEWORD_API_KEY", hint)
    if not key.isascii() or any(character.isspace() or not character.isprintable() for character in key):
        hint = "copy the key again; it is one word of visible ASCII characters"
        raise Failure(Exit.NO_KEY, "bad_key", "DOUBLEWORD_API_KEY holds characters that no key has", hint)
    api = Api(base_url, key, system)
    if getattr(args, "wait", 0):  # a server that never answers is not worth more than the user's own patience
        api.answer_by = system.monotonic() + max(args.wait, FIRST_ANSWER_S)
    yield api
