"""Batch files checked: every line, every custom_id of the job, and the limits of the service.

Promises: a file counts as valid only when every line does, each custom_id is used once over all files of the job, and
the limits are kept; memory does not grow with the length of a line or a file. Files are read once, or, where two
custom_ids may be the same, again to see.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from doubleword.batch_files.reading import blocks
from doubleword.batch_files.seen_ids import SeenIds
from doubleword.failure import Exit, Failure, plain
from doubleword.quick_msgspec import Struct, field
from doubleword.request_lines.checker import Checker, Problem
from doubleword.request_lines.line import BLANK
from doubleword.service import MAX_BYTES, MAX_LINE_BYTES, MAX_REQUESTS
from doubleword.system import Disk
from doubleword.tables.plain_copy import opened

SHOWN_ERRORS = 20


class BatchFile(Struct, frozen=True):
    """A batch file as it was checked; `models` in the order of their first use."""

    path: Path
    requests: int
    bytes: int
    sha256: str  # empty where it was not asked for
    endpoint: str
    models: tuple[str, ...]


class LineError(Struct, frozen=True):
    """Why a line is refused. `line` counts physical lines from 1; `path` is empty for the line as a whole."""

    file: str
    line: int
    custom_id: str | None
    path: str
    message: str


class Check(Struct):
    """What was found in all files of a job; `errors` holds the first 20, `error_count` counts them all. `beyond_ascii`
    is the first custom_id that is not ASCII, empty where all are.
    """

    files: list[BatchFile]
    requests: int
    error_count: int
    errors: list[LineError]
    beyond_ascii: str = ""

    @property
    def warnings(self) -> list[str]:
        """What is to be said of files that are valid all the same."""
        return [beyond_ascii(self.beyond_ascii)] if self.beyond_ascii else []


def beyond_ascii(custom_id: str) -> str:
    """What is said of custom_ids such as this one."""
    return f"custom_ids such as {plain(custom_id, 64)} are not ASCII; older servers may refuse them"


def check(
    paths: Sequence[Path], disk: Disk, progress: Callable[[int], None] | None = None, hashed: bool = True
) -> Check:
    """Check the files of one job, and hash them unless `hashed` is False; `progress` is told the requests so far.

    Every refused line counts as one error. Raises Failure (exit 2) for a file that cannot be read or is given twice.
    """
    if len({os.path.realpath(path) for path in paths}) < len(paths):
        raise Failure(Exit.BAD_INPUT, "bad_arguments", "the same file is given twice", "name each batch file once")
    checker, suspects = Checker(), None
    while True:
        found, ids = Check([], 0, 0, []), SeenIds[tuple[int, Path]](suspects)
        for path in paths:
            found.files.append(_FileCheck(path, checker, ids, found, hashed).run(disk, progress))
        suspects = ids.repeated()
        if not suspects:
            return found


class _FileCheck(Struct):
    """Checks one file; `ids` and `found` are shared by all files of the job."""

    path: Path
    checker: Checker
    ids: SeenIds[tuple[int, Path]]
    found: Check
    hashed: bool
    requests: int = 0
    size: int = 0
    line: int = 0
    endpoint: str = ""
    models: dict[str, None] = field(default_factory=dict)

    def run(self, disk: Disk, progress: Callable[[int], None] | None) -> BatchFile:
        import hashlib

        digest = hashlib.sha256()
        before = self.found.requests
        with opened(self.path, disk) as file:
            for block, lines in blocks(file):
                if self.hashed:
                    digest.update(block)
                self._check(lines)
                self.size += len(block)
                self.found.requests = before + self.requests
                if progress is not None:
                    progress(self.found.requests)
        self._check_limits()
        sha256 = digest.hexdigest() if self.hashed else ""
        return BatchFile(self.path, self.requests, self.size, sha256, self.endpoint, tuple(self.models))

    def _check(self, lines: list[bytes]) -> None:
        """Check the next lines of the file, together as long as nothing is wrong with them."""
        requests = self.checker.accepts_each(lines)  # white space around JSON is no part of it
        if all(requests) and self.ids.is_first:
            found = cast("list[dict[str, Any]]", requests)
            if {one["url"] for one in found} <= {self.endpoint}:
                self._note([one["custom_id"] for one in found])
                self.models.update(dict.fromkeys(one["body"]["model"] for one in found))
                self.requests += len(lines)
                self.line += len(lines)
                return
        for raw, request in zip(lines, requests, strict=True):
            self.line += 1
            line = raw.strip(BLANK)
            if line:  # the server passes over blank lines, and counts its lines without them
                self.requests += 1
                self._check_one(line, request)

    def _check_one(self, line: bytes, request: dict[str, Any] | None) -> None:
        if request is None:
            self._explain(line)
            return
        custom_id, url = request["custom_id"], request["url"]
        if self.endpoint and url != self.endpoint:
            said = f"is {url}, but the first request of the file goes to {self.endpoint}; one endpoint a file"
            self._refuse(custom_id, Problem("url", said))
        self.endpoint = self.endpoint or url
        self.models[request["body"]["model"]] = None
        if self.ids.is_first:
            self._note([custom_id])
        elif (first := self.ids.used_at(custom_id, (self.line, self.path))) is not None:
            said = f"is used before, on line {first[0]} of {plain(first[1].name, 60)}"
            self._refuse(custom_id, Problem("custom_id", said))

    def _note(self, custom_ids: list[str]) -> None:
        self.ids.note(custom_ids)
        if not "".join(custom_ids).isascii() and not self.found.beyond_ascii:
            self.found.beyond_ascii = next(one for one in custom_ids if not one.isascii())

    def _check_limits(self) -> None:
        if not self.requests:
            self.line = 1
            self._refuse(None, Problem("", "the file holds no request"))
        if self.requests > MAX_REQUESTS:
            said = f"the file holds {self.requests:,} requests, and may hold {MAX_REQUESTS:,}; split it"
            self._refuse(None, Problem("", said))
        if self.size > MAX_BYTES:
            said = f"the file has {self.size:,} bytes, and may have {MAX_BYTES:,}; create_batch_file.py splits it"
            self._refuse(None, Problem("", said))

    def _explain(self, line: bytes) -> None:
        if len(self.found.errors) >= SHOWN_ERRORS:
            self.found.error_count += 1
            return
        problems = self.checker.explain(line) or [Problem("", "is refused")]
        first, others = problems[0], len(problems) - 1
        if others:
            first = Problem(first.path, f"{first.message} (and {others} more in this line)")
        self._refuse(_custom_id_of(line), first)

    def _refuse(self, custom_id: str | None, problem: Problem) -> None:
        self.found.error_count += 1
        if len(self.found.errors) < SHOWN_ERRORS:
            error = LineError(str(self.path), self.line, custom_id, problem.path, problem.message)
            self.found.errors.append(error)


def _custom_id_of(line: bytes) -> str | None:
    """The custom_id of a refused line as far as it can be read, to find the line again."""
    try:
        custom_id = json.loads(line)["custom_id"] if len(line) <= MAX_LINE_BYTES else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return plain(custom_id, 64) if isinstance(custom_id, str) else None
