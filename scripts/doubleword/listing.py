"""What there is on the server: batches, newest first, and models."""

from __future__ import annotations

import argparse
import itertools
import tempfile
from pathlib import Path
from typing import Any

from doubleword.api_error import ApiError
from doubleword.command import Progress
from doubleword.connection import connect
from doubleword.exactly_once import JOB_NAME
from doubleword.failure import Exit, Failure, plain
from doubleword.outside import Outside


def list_batches(args: argparse.Namespace, outside: Outside) -> dict[str, Any]:
    """The keys of `list_batches.py`: batches (with the id of the job that made one of ours), has_more."""
    if args.limit < 1:
        raise Failure(Exit.BAD_INPUT, "bad_arguments", "--limit is a number from 1 up", "--limit 10")
    progress = Progress(outside.monotonic)
    limit = None if args.all else args.limit + 1
    with connect(args, outside, progress.note) as api:
        try:
            found = list(itertools.islice(api.batches(status=args.status or ""), limit))
        except ApiError as error:
            raise error.failure("listing batches") from error
    shown = found if args.all else found[: args.limit]
    batches = [
        {
            "id": one.id,
            "status": plain(one.status, 40),
            "created_at": one.created_at,
            "window": plain(one.window, 20),
            "counts": {"total": one.total, "completed": one.completed, "failed": one.failed},
            **({"job": plain(one.metadata[JOB_NAME], 40)} if JOB_NAME in one.metadata else {}),
        }
        for one in shown
    ]
    return {"batches": batches, "has_more": len(found) > len(shown)}


def list_models(args: argparse.Namespace, outside: Outside) -> dict[str, Any]:
    """The key of `list_models.py`: models, by id. The embedded engine gets a folder only for the moment."""
    progress = Progress(outside.monotonic)
    with tempfile.TemporaryDirectory() as folder, connect(args, outside, progress.note, folder=Path(folder)) as api:
        try:
            models = api.models()
        except ApiError as error:
            raise error.failure("listing models") from error
    return {"models": [plain(one["id"], 120) for one in models]}
