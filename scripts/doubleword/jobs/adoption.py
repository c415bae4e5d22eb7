"""A job file made anew from what the server knows, after the disk that held it was lost.

Promises: nothing that costs is asked; nothing on disk is replaced; the job file appears last, when every batch
file of the job stands beside it, checked; names come from this machine, never from the server; a local batch file
is taken only when the server's copy, request by request, asks the same.

Every batch carries the id of its job and its own key as metadata (`exactly_once`). Attempts are told by their
requests: a batch that asks for something that an earlier one of the job asked for already is a later attempt of it.
"""

from __future__ import annotations

import argparse
import contextlib
import re
from pathlib import Path
from typing import Any

from doubleword.answers.judgement import INVALID
from doubleword.batch_files import check as file_check
from doubleword.batch_files.reading import custom_ids, named_files
from doubleword.batch_files.row_map import RowMap
from doubleword.cli import Progress, script
from doubleword.failure import Exit, Failure, plain
from doubleword.jobs.connection import chosen_base_url, connect, local_folder
from doubleword.jobs.exactly_once import JOB_NAME, KEY_NAME
from doubleword.jobs.job_file import SUFFIX, InputFile, Intended, Job, JobFile, job_path, locked, named_job
from doubleword.jobs.server_copies import Copy, ServerCopies, asks_the_same, is_key
from doubleword.jobs.submission import BACKGROUND, WINDOWS, input_file, recorded_map, report
from doubleword.jobs.watching import look
from doubleword.output_file import sha256_of
from doubleword.quick_msgspec import replace
from doubleword.results.reconciliation import Collector
from doubleword.server.api import Api
from doubleword.server.errors import ApiError
from doubleword.server.objects import Asked
from doubleword.system import Disk, System

# What the server adds to the metadata of a batch by itself (dwctl batches.rs).
SERVER_METADATA = frozenset(
    {"created_by_email", "context_name", "context_type", "request_source", "created_by", "dw_user_agent"}
)
ADOPTED = "adopted-"  # how the job file is called where neither --job nor a batch file names it


def adopt(args: argparse.Namespace, system: System) -> dict[str, Any]:
    """The work of `submit.py --adopt JOB_ID`; answers the keys of `submit.py`, and what is left out as `warnings`.

    Raises Failure: 2 for bad arguments, another job in the job file's place, or a file in the way; 4 when the server
    knows no batch of this job; 5 when it stays away or its copy of a batch file comes short.
    """
    job_id = args.adopt
    if not is_key(job_id):
        message = f"{plain(job_id, 60)} is no job id, which is 32 hexadecimal digits"
        raise Failure(Exit.BAD_INPUT, "bad_arguments", message, f"{script('list_batches.py')} shows them as job")
    if args.window or args.metadata or args.max_cost is not None or args.dry_run:
        message = "--adopt takes no --window, --metadata, --max-cost or --dry-run: it sends nothing"
        raise Failure(Exit.BAD_INPUT, "bad_arguments", message, "leave them out")
    disk = system.disk
    given = named_files(args.files, disk)
    path = named_job(args.job, job_path(given[0]) if given else Path(f"{ADOPTED}{job_id[:8]}{SUFFIX}"), disk)
    engine = path.parent / local_folder(path)
    if args.local and not disk.is_folder(engine):
        message = f"there is no data of the embedded engine in {plain(engine)}"
        raise Failure(Exit.NOT_FOUND, "no_job", message, "--job NAME.job.json beside the folder NAME.local")
    progress = Progress(system.monotonic)
    with contextlib.ExitStack() as held:
        held.enter_context(locked(path, disk))
        known = JobFile.load(path, disk) if disk.size(path) is not None else None
        if known is not None and known.job.id != job_id:
            message = f"{plain(path)} is the file of another job, {plain(known.job.id, 40)}"
            raise Failure(Exit.BAD_INPUT, "other_files", message, "choose another name with --job")
        for missing in (one for one in given if disk.size(one) is None):
            raise Failure(Exit.BAD_INPUT, "no_file", f"there is no file {plain(missing)}", "check the path")
        api = held.enter_context(connect(args, system, progress.note, known, folder=engine))
        try:
            if known is not None:
                seen = look(api, [one.batch_id for one in known.job.batches if one.batch_id], system, known.job)
                return report(known, {batch.id: batch.status for batch in seen}, resumed=True)
            made = Adoption(job_id, path, given, api, system, progress).run(
                base_url=None if args.local else chosen_base_url(args), local=engine.name if args.local else None
            )
        except ApiError as error:
            raise error.failure("adopting the job") from error
        finally:
            progress.close()
    return made


class Adoption:
    """Finds the batches of one job, fetches their batch files, and writes the job file."""

    def __init__(
        self, job_id: str, path: Path, given: list[Path], api: Api, system: System, progress: Progress
    ) -> None:
        self._job_id = job_id
        self._path = path
        self._given = given
        self._api = api
        self._system = system
        self._disk: Disk = system.disk
        self._server = ServerCopies(job_id, path, api, system.disk, progress)
        self._warnings = self._server.warnings

    def run(self, base_url: str | None, local: str | None) -> dict[str, Any]:
        """The keys of `submit.py` for the job made anew."""
        batches = self._server.batches()
        with contextlib.ExitStack() as scratches:
            copies = [copy for batch in batches if (copy := self._server.fetched(batch, scratches)) is not None]
            if not copies:
                message = "the server has no input file of this job any more, so its requests cannot be told"
                hint = f"{script('fetch_results.py')} {' '.join(batch.id for batch in batches[:5])}"
                raise Failure(Exit.NOT_FOUND, "not_found", message, hint)
            self._take_given(copies)
            groups = self._ordered(self._grouped(copies))
            job = self._job(groups, base_url, local)
        store = JobFile(self._path, job, self._disk)
        store.save()
        if not self._given and self._path.name.startswith(ADOPTED):
            self._warnings.append(
                f"the job goes on by {plain(self._path)} alone; submit.py with the batch file it was made of would "
                "be a new, paid job. Where you still have that file, adopt with it named instead"
            )
        keys = report(store, {batch.id: batch.status for batch in batches}, resumed=True)
        return {**keys, **({"warnings": list(dict.fromkeys(self._warnings))[:10]} if self._warnings else {})}

    # What stands on this disk

    def _take_given(self, copies: list[Copy]) -> None:
        """Use the user's own files where the server's copies ask the same."""
        for path in self._given:
            unused = (one for one in copies if one.use is None)
            same = next((one for one in unused if asks_the_same(path, one.scratch, self._disk)), None)
            if same is not None:
                same.use = path
            else:
                self._warnings.append(
                    f"{plain(path, 120)} is the file of no batch of this job: it was changed since, or its batch was "
                    "never made; submit.py with this file alone would be a new, paid job"
                )

    def _grouped(self, copies: list[Copy]) -> list[list[Copy]]:
        """The batch files, each with its later attempts after it: they ask again what a batch file asks."""
        beginning: dict[str, list[int]] = {}  # which copies begin with a request
        for at, copy in enumerate(copies):
            beginning.setdefault(next(custom_ids(copy.path, self._disk), ""), []).append(at)
        groups: list[list[Copy]] = []
        taken: set[int] = set()
        for at, copy in enumerate(copies):
            if at not in taken:
                ids = custom_ids(copy.path, self._disk)
                group = {other for asked in ids for other in beginning.get(asked, ()) if other >= at} - taken
                groups.append([copies[other] for other in sorted(group | {at})])
                taken |= group
        return groups

    def _ordered(self, groups: list[list[Copy]]) -> list[list[Copy]]:
        """As the user named the files; else numbered ones by their numbers, or as their batches were made."""
        stems = [re.sub(r"-[0-9a-f]{32}\.jsonl$", "", group[0].name) for group in groups]
        numbers = [re.fullmatch(r"(.*)-(\d{4})", stem) for stem in stems]
        numbered = None not in numbers and len({match[1] for match in numbers if match}) == 1
        if numbered:
            present = {int(match[2]) for match in numbers if match}
            gaps = [f"{number:04d}" for number in range(1, max(present)) if number not in present]
            if gaps:
                self._warnings.append(f"no batch was found of the batch files numbered {', '.join(gaps[:5])}")

        def place(index: int) -> tuple[int, int, str]:
            original = groups[index][0]
            told = self._given.index(original.use) if original.use is not None else len(self._given)
            return told, 0 if numbered else original.batch.created_at or 0, stems[index]

        return [groups[index] for index in sorted(range(len(groups)), key=place)]

    # The job

    def _job(self, groups: list[list[Copy]], base_url: str | None, local: str | None) -> Job:
        """The job of these batch files, whose copies are put in their places."""
        first = min((copy.batch for group in groups for copy in group), key=lambda one: one.created_at or 0)
        check = self._checked([group[0] for group in groups])
        batches = []
        for index, (group, original) in enumerate(zip(groups, check, strict=True)):
            left = self._left(group, original.endpoint)  # while the copies are where they were put
            for attempt, copy in enumerate(group, 1):
                made = original if attempt == 1 else self._checked([copy])[0]
                part = self._kept(copy, self._place(index, len(groups), attempt), made)
                one = Intended(copy.batch.metadata[KEY_NAME], index, part, attempt, "created")
                one.file_id, one.batch_id = copy.batch.input_file_id, copy.batch.id
                one.change = {} if attempt > 1 else None
                batches.append(one)
            batches[-1].left = left
        metadata = {
            name: value
            for name, value in first.metadata.items()
            if name not in (JOB_NAME, KEY_NAME, *SERVER_METADATA) and not name.startswith("dw_")
        }
        return Job(
            id=self._job_id,
            created_at=first.created_at or self._system.now(),
            base_url=base_url,
            local=local,
            window=first.window if first.window in (*WINDOWS, BACKGROUND) else WINDOWS[0],
            metadata=metadata,
            files=[one.input for one in batches if one.attempt == 1],
            batches=sorted(batches, key=lambda one: one.attempt),
            row_map=self._row_map([self._path.parent / one.input.path for one in batches if one.attempt == 1]),
        )

    def _row_map(self, files: list[Path]) -> RowMap | None:
        """The row map of the job, where its record stands beside the batch files."""
        try:
            return recorded_map(files, self._path.parent, self._disk)
        except Failure as failure:
            self._warnings.append(f"{failure.message}; the job answers requests, not rows")
            return None

    def _left(self, group: list[Copy], endpoint: str) -> int:
        """How many requests of a batch file no attempt answered before the last one, which does not ask them either."""
        *earlier, last = group
        if not earlier:
            return 0
        again = set(custom_ids(last.path, self._disk))
        asked = Asked(group[0].path, None, endpoint, tuple(copy.batch for copy in earlier))
        spool = self._path.with_name(f".{self._path.name}.rows")
        with Collector(self._api, self._system, spool, lambda _: None, partial=True) as collector:
            return sum(
                one.status not in ("succeeded", INVALID) and one.custom_id not in again
                for one in collector.collect([asked])
            )

    def _checked(self, copies: list[Copy]) -> list[file_check.BatchFile]:
        """What stands in batch files of one attempt; raises Failure (2) where that is not valid."""
        check = file_check.check([one.path for one in copies], self._disk)
        if check.error_count:
            message = f"the server's copy is no valid batch file: {check.errors[0].message}"
            hint = f"{script('fetch_results.py')} {' '.join(one.batch.id for one in copies[:5])}"
            raise Failure(Exit.BAD_INPUT, "invalid_batch_file", message, hint)
        return check.files

    def _place(self, index: int, files: int, attempt: int) -> Path:
        """Where the server's copy is kept: beside the job file, under its name."""
        stem = self._path.name.removesuffix(SUFFIX)
        number = f"-{index + 1:04d}" if files > 1 else ""
        later = f".attempt-{attempt}" if attempt > 1 else ""
        return self._path.with_name(f"{stem}{number}{later}.jsonl")

    def _kept(self, copy: Copy, place: Path, made: file_check.BatchFile) -> InputFile:
        """The batch file as the job records it: the user's own, or the server's copy, put in its place."""
        if copy.use is None:
            try:
                self._disk.add(copy.scratch, self._disk.target(place))
            except FileExistsError:
                if sha256_of(place, self._disk) != made.sha256:  # else a run that was cut off left it
                    if not asks_the_same(place, copy.scratch, self._disk):
                        raise self._in_the_way(place) from None
                    copy.use = place  # the job's own, from before its job file was lost
                    (made,) = self._checked([copy])
        return input_file(replace(made, path=copy.use or place), self._path.parent)

    def _in_the_way(self, place: Path) -> Failure:
        other = f"give another name, --job other{SUFFIX}"
        if place in self._given:
            message = f"{plain(place)} was changed after it was submitted: the server's copy asks something else"
            return Failure(Exit.BAD_INPUT, "batch_file_changed", message, f"restore it as it was, or {other}")
        message = f"{plain(place)} is in the way of the batch file that is fetched from the server"
        return Failure(
            Exit.BAD_INPUT, "output_exists", message, f"name it as FILE if it is that batch file, or {other}"
        )
