"""What there is: batches on the server, newest first, and the jobs of a folder beside them; models and their prices.

Promises: a batch of ours that no job file of the folder knows is marked as lost, with the command that finds its way
back; a job file that cannot be read is listed as damaged, not passed over; nothing is written.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from doubleword.cli import Progress, iso
from doubleword.failure import Exit, Failure, plain
from doubleword.jobs.connection import connect
from doubleword.jobs.exactly_once import JOB_NAME
from doubleword.jobs.job_file import OF_DATASET, SUFFIX, JobFile
from doubleword.jobs.server_copies import adopt_command, is_ours
from doubleword.jobs.watching import look, status_of
from doubleword.output_file import WholeFile, refuse_existing
from doubleword.pricing.live import all_live_prices
from doubleword.pricing.prices import REALTIME, WINDOWS, Prices, load_prices
from doubleword.server.api import Api
from doubleword.server.errors import ApiError
from doubleword.server.objects import Batch
from doubleword.system import Disk, System

FILES_LOOKED_AT = 300  # three pages: an input file is uploaded just before its batch is made


def list_batches(args: argparse.Namespace, system: System) -> dict[str, Any]:
    """The keys of `list_batches.py`: jobs of the folder, batches (with the id of the job that made one of ours),
    has_more, and a hint where a job is lost.
    """
    progress, folder = Progress(system.monotonic), Path(args.folder)
    most = None if args.all else args.limit
    stores = _jobs(folder, system.disk)
    if system.disk.is_folder(folder / OF_DATASET):
        stores += _jobs(folder / OF_DATASET, system.disk)
    ours = {store.job.id for _, store in stores if store is not None}
    with connect(args, system, progress.note) as api:
        try:
            every = (one for one in api.batches(status=args.status or "") if is_in(one, args.status, system.now()))
            found = list(itertools.islice(every, None if most is None else most + 1))
            shown = found[:most]
            names = _file_names(shown, api)
            jobs = [_job(path, store, api, args.local, found, system) for path, store in stores[:most]]
        except ApiError as error:
            known = {"jobs": [_job_row(path, store) for path, store in stores[:most]]}
            raise error.failure("listing batches", known) from error
    keys: dict[str, Any] = {"jobs": jobs}
    if len(stores) > len(jobs):
        keys["jobs_more"] = len(stores) - len(jobs)
    ways = {
        job: adopt_command(job, names.get(one.input_file_id), folder, system.disk)
        for one in shown
        if is_ours(one) and (job := one.metadata[JOB_NAME]) not in ours
    }
    keys["batches"] = [_batch(one, names.get(one.input_file_id), ways) for one in shown]
    keys["has_more"] = len(found) > len(shown)
    if ways:
        more = f"; {len(ways)} jobs are lost, and adopt has the command for each" if len(ways) > 1 else ""
        keys["hint"] = (
            f"{next(iter(ways.values()))} makes the lost job file anew; or name its folder with --folder{more}"
        )
    return keys


def is_in(batch: Batch, status: str | None, now: float) -> bool:
    """Whether `--status` asks for this batch, as the server reads it (dwctl batches.rs); OpenAI does not read it."""
    if status == "in_progress":
        return not batch.terminal
    if status == "cancelled":
        return batch.status in ("cancelled", "cancelling")
    if status == "expired" and batch.expires_at and (batch.ended_at or now) > batch.expires_at:
        return True
    return status is None or batch.status == status


def _jobs(folder: Path, disk: Disk) -> list[tuple[Path, JobFile | None]]:
    """The job files of `folder`, the newest job first; None for one that cannot be read."""
    try:
        names = [name for name in disk.entries(folder) if name.endswith(SUFFIX) and not name.startswith(".")]
    except OSError:
        raise Failure(
            Exit.BAD_INPUT, "no_folder", f"there is no folder {plain(folder)} to read", "name one with --folder"
        ) from None
    found: list[tuple[Path, JobFile | None]] = []
    for path in (folder / name for name in names):
        try:
            # A pipe of such a name would be waited for without end.
            found.append((path, JobFile.load(path, disk) if disk.size(path) is not None else None))
        except (Failure, OSError):
            found.append((path, None))
    return sorted(found, key=lambda one: -one[1].job.created_at if one[1] is not None else float("-inf"))


def _job(
    path: Path, store: JobFile | None, api: Api, local: bool, listed: Sequence[Batch], system: System
) -> dict[str, Any]:
    """One job of the folder; `listed` are batches that were just seen."""
    row = _job_row(path, store)
    if store is None:
        return row
    ids = [one.batch_id for one in store.job.batches if one.batch_id]
    if local or store.job.base_url != api.base_url:
        row["status"] = "elsewhere"
    elif store.job.submitted:
        seen = {batch.id: batch for batch in listed}
        try:
            row["status"] = status_of([seen[one] for one in ids] if seen.keys() >= {*ids} else look(api, ids, system))
        except ApiError as error:
            if error.status not in (400, 404):
                raise
            row["status"] = "not_found"
    return row


def _job_row(path: Path, store: JobFile | None) -> dict[str, Any]:
    """What a job file alone tells."""
    row: dict[str, Any] = {"job": str(path), "id": None, "batches": 0, "status": "damaged"}
    if store is None:
        return row
    job = store.job
    made = sum(one.batch_id is not None for one in job.batches)
    return {
        **row,
        "id": plain(job.id, 40),
        "batches": made,
        "status": "unknown" if made else "not_submitted",
        "created_at": iso(job.created_at),
        "window": plain(job.window, 20),
        "requests": job.requests,
        **({"rows": job.rows} if job.row_map is not None else {}),
    }


def _file_names(batches: Sequence[Batch], api: Api) -> dict[str, str]:
    """The names of the input files of these batches, by id; those that the newest files have."""
    wanted = {one.input_file_id for one in batches}
    newest = itertools.islice(api.files(""), FILES_LOOKED_AT) if wanted else ()
    key = re.compile(r"-[0-9a-f]{32}(?=\.jsonl$)")  # which `exactly_once` adds to the name
    return {file.id: key.sub("", plain(file.filename, 150)) for file in newest if file.id in wanted}


def _batch(one: Batch, name: str | None, ways: Mapping[str, str]) -> dict[str, Any]:
    job = one.metadata.get(JOB_NAME)
    return {
        "id": one.id,
        "status": plain(one.status, 40),
        "created_at": iso(one.created_at) if one.created_at is not None else None,
        **({"file": name} if name is not None else {}),
        "window": plain(one.window, 20),
        **({"model": plain(one.model, 80)} if one.model else {}),
        "counts": {"total": one.total, "completed": one.completed, "failed": one.failed},
        **({"job": plain(job, 40)} if job is not None else {}),
        **({"lost": True, "adopt": ways[job]} if job is not None and job in ways else {}),
    }


def _efforts(model: dict[str, Any]) -> list[str]:
    """What `reasoning_effort` of a chat may be for a model; empty for one that does not think, or does not say."""
    found = model.get("supported_reasoning_efforts")
    efforts = found.get("chat_completions") if isinstance(found, dict) else None
    return [plain(one, 20) for one in efforts[:10]] if isinstance(efforts, list) else []


def list_models(args: argparse.Namespace, system: System) -> dict[str, Any]:
    """The keys of `list_models.py`: models with prices and efforts where known, and where the prices were read.

    The embedded engine gets a folder only for the moment.
    """
    if args.output and not args.prices:
        raise Failure(Exit.BAD_INPUT, "bad_arguments", "--output is for the prices that --prices finds", "add --prices")
    output = Path(args.output) if args.output else None
    if output is not None:
        refuse_existing(output, system.disk, force=False)
    progress = Progress(system.monotonic)
    windows = (*WINDOWS, REALTIME)
    with tempfile.TemporaryDirectory() as folder, connect(args, system, progress.note, folder=Path(folder)) as api:
        try:
            listed = {str(model["id"]): model for model in api.models(reasoning=True)}
            models = list(listed)
            batch_only = {model["id"] for model in api.models(realtime=False)}
            table = load_prices(None, system.disk)
            if args.prices:
                progress.note("uploading two small files to learn the prices, and deleting them; nothing is paid")
                table = Prices({}).replaced(all_live_prices(api, system, models, windows))
        except ApiError as error:
            raise error.failure("listing models") from error
    rows: list[dict[str, Any]] = []
    sources: dict[tuple[str, str], None] = {}
    for model in models:
        known = [price for window in windows if (price := table.find(model, window)) is not None]
        sources.update(dict.fromkeys((price.source, price.date) for price in known))
        prices = {price.window: [float(price.input_usd), float(price.output_usd)] for price in known}
        rows.append({"id": plain(model, 120), "usd_per_million_tokens": prices or None})
        if efforts := _efforts(listed[model]):
            rows[-1]["reasoning_efforts"] = efforts
        if model in batch_only and len(batch_only) < len(models):  # a server that does not know the word lists all
            rows[-1]["batch_only"] = True
    keys: dict[str, Any] = {
        "models": rows,
        "price_sources": [{"source": source, "date": date} for source, date in sources],
    }
    if output is None:
        return keys
    page, date = next(iter(sources), (api.base_url, ""))
    priced = {row["id"]: row["usd_per_million_tokens"] for row in rows if row["usd_per_million_tokens"]}
    _write_prices(output, page, date, priced, system.disk)
    return {**keys, "output": str(output)}


def _write_prices(output: Path, page: str, date: str, priced: Mapping[str, Any], disk: Disk) -> None:
    """Write a price table as `load_prices` reads it."""
    models = {model: {"source": "live", **prices} for model, prices in priced.items()}
    table = {"format": 2, "sources": {"live": {"page": page, "date": date}}, "models": models}
    with WholeFile(output, disk, force=False) as file:
        file.write(json.dumps(table, indent=1).encode() + b"\n")
