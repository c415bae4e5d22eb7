"""Batch files checked: every line, every custom_id of the job, and the limits of the service.

Promises: a file counts as valid only when every line does, each custom_id is used once over all files of the job, and
the limits are kept; memory grows neither with the length of a line or a file, nor with the number of custom_ids.

Large files are looked over by processes at once, which only ever say that all is well; whatever they doubt is read
again from the beginning, line by line, and explained.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from doubleword.batch_files import batch_file, swift_check
from doubleword.batch_files.seen_ids import SeenIds
from doubleword.failure import Exit, Failure, plain
from doubleword.request_lines.line import BLANK, MAX_LINE_BYTES, Checker
from doubleword.request_lines.line_shapes import Shapes
from doubleword.request_lines.problems import Problem
from doubleword.system import Disk
from doubleword.tables.sources import blocks, open_input

SHOWN_ERRORS = 20
WORTH_TWO_PROCESSES = 2 << 20  # bytes; less is checked before a second process has begun


@dataclass(frozen=True)
class BatchFile:
    """A batch file as it was checked; `models` in the order of their first use."""

    path: Path
    requests: int
    bytes: int
    sha256: str  # empty where it was not asked for
    endpoint: str
    models: tuple[str, ...]


@dataclass(frozen=True)
class LineError:
    """Why a line is refused. `line` counts physical lines from 1; `path` is empty for the line as a whole."""

    file: str
    line: int
    custom_id: str | None
    path: str
    message: str


@dataclass
class Check:
    """What was found in all files of a job; `errors` holds the first 20, `error_count` counts them all."""

    files: list[BatchFile]
    requests: int
    error_count: int
    errors: list[LineError]


def check(
    paths: Sequence[Path],
    disk: Disk,
    progress: Callable[[int], None] | None = None,
    hashed: bool = True,
    meanwhile: Callable[[], None] = lambda: None,
) -> Check:
    """Check the files of one job, and hash them unless `hashed` is False; `progress` is told the requests so far.

    Where other processes check, this one does `meanwhile`.

    Every refused line counts as one error. Raises Failure (exit 2) for a file that cannot be read or is given
    twice. Files are read once, or, where something seems to be wrong with them, again to see.
    """
    if len({os.path.realpath(path) for path in paths}) < len(paths):
        raise Failure(Exit.BAD_INPUT, "bad_arguments", "the same file is given twice", "name each batch file once")
    if sum(disk.size(path) or 0 for path in paths) > WORTH_TWO_PROCESSES:
        seen = swift_check.look(paths, disk, hashed, meanwhile)
        if seen is not None and all(
            0 < one.requests <= batch_file.MAX_REQUESTS and one.bytes <= batch_file.MAX_BYTES for one in seen
        ):
            files = [
                BatchFile(path, one.requests, one.bytes, one.sha256, one.endpoint, tuple(one.models))
                for path, one in zip(paths, seen, strict=True)
            ]
            return Check(files, sum(one.requests for one in seen), 0, [])
    checker, suspects = Checker(), frozenset[int]()
    while True:
        found, ids = Check([], 0, 0, []), SeenIds(suspects, disk.scratch)
        for path in paths:
            found.files.append(_FileCheck(path, checker, ids, found, hashed).run(disk, progress))
        repeated = ids.repeated()
        if repeated <= suspects:
            break
        suspects |= repeated
    _name_first_uses(found, paths, disk)
    return found


class _FileCheck:
    """Checks one file; `ids` and `found` are shared by all files of the job."""

    def __init__(self, path: Path, checker: Checker, ids: SeenIds, found: Check, hashed: bool) -> None:
        self.path = path
        self._checker = checker
        self._ids = ids
        self._found = found
        self._hashed = hashed
        self._shapes = Shapes(checker)
        self._requests = 0
        self._bytes = 0
        self._line = 0
        self._endpoint = ""
        self._models: dict[str, None] = {}

    def run(self, disk: Disk, progress: Callable[[int], None] | None) -> BatchFile:
        import hashlib
        import threading

        digest = hashlib.sha256()
        with open_input(self.path, disk) as file:
            for block, lines in blocks(file, MAX_LINE_BYTES):
                # hashlib lets go of the interpreter, so the block is hashed while its lines are checked.
                hashing = threading.Thread(target=digest.update, args=(block if self._hashed else b"",))
                hashing.start()
                try:
                    self._check(lines)
                finally:
                    hashing.join()
                self._bytes += len(block)
                if progress is not None:
                    progress(self._found.requests)
        self._check_limits()
        models = tuple(self._models)
        return BatchFile(
            self.path, self._requests, self._bytes, digest.hexdigest() if self._hashed else "", self._endpoint, models
        )

    def _check(self, lines: list[bytes]) -> None:
        for raw in lines:
            self._line += 1
            line = raw.strip(BLANK)
            if not line:
                continue  # the server passes over blank lines, and counts its lines without them
            self._requests += 1
            self._found.requests += 1
            most = batch_file.MAX_REQUESTS
            if self._requests == most + 1:
                self._refuse(None, Problem("", f"is request {most + 1:,} of its file, which may hold {most:,}"))
            accepted = self._shapes.accepts(line)
            if accepted is None:
                self._explain(line)
                continue
            custom_id, url = accepted.custom_ids[0], accepted.url
            if url != self._endpoint:
                if self._endpoint:
                    said = f"is {url}, but the first request of the file goes to {self._endpoint}; one endpoint a file"
                    self._refuse(custom_id, Problem("url", said))
                else:
                    self._endpoint = url
            if self._ids.is_used(custom_id):
                self._refuse(custom_id, Problem("custom_id", _USED_BEFORE))
            else:
                self._models[accepted.model] = None

    def _check_limits(self) -> None:
        if not self._requests:
            self._refuse(None, Problem("", "the file holds no request"), line=1)
        most = batch_file.MAX_BYTES
        if self._bytes > most:
            said = f"the file has {self._bytes:,} bytes, and may have {most:,}; create_batch_file.py splits it"
            self._refuse(None, Problem("", said))

    def _explain(self, line: bytes) -> None:
        if len(self._found.errors) >= SHOWN_ERRORS:
            self._found.error_count += 1
            return
        problems = self._checker.explain(line) or [Problem("", "is refused")]
        first, others = problems[0], len(problems) - 1
        if others:
            first = Problem(first.path, f"{first.message} (and {others} more in this line)")
        self._refuse(_custom_id_of(line), first)

    def _refuse(self, custom_id: str | None, problem: Problem, line: int | None = None) -> None:
        self._found.error_count += 1
        if len(self._found.errors) < SHOWN_ERRORS:
            error = LineError(str(self.path), line or self._line, custom_id, problem.path, problem.message)
            self._found.errors.append(error)


_USED_BEFORE = "is used before"


def _custom_id_of(line: bytes) -> str | None:
    """The custom_id of a refused line as far as it can be read, to find the line again."""
    try:
        custom_id = json.loads(line)["custom_id"] if len(line) <= MAX_LINE_BYTES else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return plain(custom_id, 64) if isinstance(custom_id, str) else None


def _name_first_uses(found: Check, paths: Sequence[Path], disk: Disk) -> None:
    """Say in the errors about a custom_id used twice where it stands first; only then are the files read again."""
    wanted = {error.custom_id for error in found.errors if error.message == _USED_BEFORE}
    places: dict[str | None, str] = {}
    for path in paths:
        for number, line in batch_file.numbered_lines(path, disk) if len(places) < len(wanted) else ():
            custom_id = _custom_id_of(line)
            if custom_id in wanted:
                places.setdefault(custom_id, f"{_USED_BEFORE}, on line {number} of {plain(path.name, 60)}")
                if len(places) == len(wanted):
                    break
    for at, error in enumerate(found.errors):
        if error.message == _USED_BEFORE:
            said = places.get(error.custom_id, _USED_BEFORE)
            found.errors[at] = LineError(error.file, error.line, error.custom_id, error.path, said)
