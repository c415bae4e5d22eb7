"""The answers of earlier jobs by what was asked: on disk, with some 250 bytes of memory for each.

Promises: an answer that several jobs have, since one took it over from the other, counts once.
"""

from __future__ import annotations

import bisect
from array import array
from collections.abc import Sequence
from pathlib import Path

from doubleword.batch_files.row_map import Reused, RowMap, read_answers
from doubleword.failure import Exit, Failure, plain
from doubleword.output_file import sha256_of
from doubleword.results.spool import Spool
from doubleword.system import Disk


def require_answers(row_map: RowMap | None, folder: Path, disk: Disk) -> Path | None:
    """Where the answers are that a row map, whose path leads on from `folder`, names; None where it names none.

    Raises Failure (2) where they are not as they were.
    """
    path = row_map.answers_in(folder) if row_map is not None else None
    if row_map is not None and path is not None and sha256_of(path, disk) != row_map.answers_sha256:
        message = f"{plain(path)}, which holds the answers of earlier jobs, is gone or was changed"
        hint = "restore it; or run_batch.py again, or create_batch_file.py under another name, with --reuse as at first"
        raise Failure(Exit.BAD_INPUT, "reused_answers_lost", message, f"{hint}: it is made anew, and nothing is paid")
    return path


class EarlierAnswers:
    """Answers, added first and found then; used as a context manager. `spool` is where they are kept meanwhile."""

    def __init__(self, spool: Path, disk: Disk) -> None:
        self.warnings: list[str] = []
        self._disk = disk
        self._spool = Spool(spool, disk)
        self._first: dict[bytes, int] = {}  # the number of the first answer to each digest
        self._others: dict[bytes, list[int]] = {}  # and of those after it, where there are some
        self._places = array("q")  # of each answer
        self._origins: set[int] = set()

    def __enter__(self) -> EarlierAnswers:
        self._spool.__enter__()
        return self

    def __exit__(self, *failed: object) -> None:
        self._spool.__exit__(*failed)

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._places)

    def add(self, found: Reused) -> bool:
        """Take an answer; False where it is there already, or cannot be kept."""
        origin = hash(found.origin)
        if origin in self._origins:
            return False
        try:
            line = found.written()
        except ValueError:
            return False
        self._origins.add(origin)
        number, digest = len(self._places), bytes.fromhex(found.digest)
        if self._first.setdefault(digest, number) != number:
            self._others.setdefault(digest, []).append(number)
        self._places.append(self._spool.add(line))
        return True

    def add_file(self, path: Path) -> int:
        """Take the answers in a file of such; how many there are in it."""
        count = 0
        for found in read_answers(path, self._disk):
            self.add(found)
            count += 1
        return count

    def settle(self) -> None:
        """All are added; from now on they are found."""
        self._spool.settle()

    def find(self, digest: str, after: int | None) -> int | None:
        """The number of the first answer to a request, or of the one `after` another; None where there is no more."""
        key = bytes.fromhex(digest)
        if after is None:
            return self._first.get(key)
        others = self._others.get(key, ())
        at = bisect.bisect(others, after)
        return others[at] if at < len(others) else None

    def lines(self, numbers: Sequence[int]) -> list[bytes]:
        """The answers with these numbers, as `Reused.written` wrote them."""
        return self._spool.read_all([self._places[number] for number in numbers])
