"""Which request answers each row, where that is not one for each: `<stem>.rows.tsv` beside the batch file.

A line is the number of a request, from 1 over all batch files of the job, and the custom_id of a row that it answers;
lines stand in the order of the rows.

Promises: requests share an answer only where they ask the very same JSON of the same endpoint; every row has one line;
the file is known by its SHA-256, which its record and the job have.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from doubleword.batch_files.reading import blocks, request_of
from doubleword.batch_files.repaired_ids import SideFile
from doubleword.request_lines.line import canonical
from doubleword.system import Disk
from doubleword.tables.plain_copy import opened

ROW_MAP = ".rows.tsv"
HEADER = b"request\tcustom_id\n"
AFTER_ID = b',"method":'  # which no custom_id holds, whose quotes are escaped
PARTS = 16  # of the hashes, of which one is looked at in one go


@dataclass(frozen=True)
class RowMap:
    """A row map on record: where it is, its SHA-256, how many rows it has, and how many requests answer them."""

    path: str
    sha256: str
    rows: int
    requests: int

    @property
    def shared(self) -> int:
        """How many rows are answered by the request of another row."""
        return self.rows - self.requests


def map_path(batch_file: Path) -> Path:
    """Where the row map of the batch file named to create_batch_file.py is."""
    return batch_file.with_name(f"{batch_file.stem}{ROW_MAP}")


def is_row_map(path: Path, disk: Disk) -> bool:
    """Whether there is such a file at `path`."""
    if disk.size(path) is None:
        return False
    with disk.open(path) as file:
        return file.read(len(HEADER)) == HEADER


def read_rows(path: Path, disk: Disk) -> Iterator[tuple[int, str]]:
    """For each row, in order, the number of the request that answers it, and its custom_id."""
    with opened(path, disk) as file:
        file.read(len(HEADER))
        for _, lines in blocks(file):
            for line in lines:
                number, _, custom_id = line.partition(b"\t")
                yield int(number), custom_id.decode()


class RowMapFile(SideFile):
    """A row map while it is written."""

    def __init__(self, path: Path, disk: Disk) -> None:
        super().__init__(path, path.with_name(f".{path.name}.part"), HEADER, disk)
        self.requests = 0  # the number of the last

    def note(self, rows: Sequence[tuple[int, str]]) -> None:
        """Append rows as `read_rows` gives them."""
        self.write([b"%d\t%s\n" % (number, custom_id.encode()) for number, custom_id in rows])
        self.requests = max(self.requests, *(number for number, _ in rows)) if rows else self.requests

    @property
    def recorded(self) -> RowMap:
        """The map as it is put on record."""
        return RowMap(self.path.name, self.digest.hexdigest(), self.count, self.requests)


class Equals:
    """Tells which of the requests of a table ask the same, as they are made.

    `form_made` says that all were made by one form: then equal ones have equal bytes after their custom_id.
    """

    def __init__(self, form_made: bool) -> None:
        self._form_made = form_made
        self._numbers: dict[bytes, int] = {}
        self._hashes = tuple(array("q") for _ in range(PARTS))
        self.rows: list[tuple[int, str]] = []  # those that were numbered, until they are taken

    def count(self, lines: Sequence[bytes]) -> None:
        """Take note of lines that are all asked; some 8 bytes of memory for each."""
        parts = self._hashes
        asked = [line.partition(AFTER_ID)[2] for line in lines] if self._form_made else map(self._asked, lines)
        for found in map(hash, asked):
            parts[found % PARTS].append(found)

    @property
    def counted(self) -> int:
        """How many of the lines that were counted ask what one before them asks."""
        return sum(len(part) - len(set(part)) for part in self._hashes)

    def is_new(self, custom_id: str, line: bytes) -> bool:
        """Number a request, and say whether it is the first that asks this; about 150 bytes for each such."""
        number = len(self._numbers) + 1
        known = self._numbers.setdefault(hashlib.blake2b(self._asked(line), digest_size=16).digest(), number)
        self.rows.append((known, custom_id))
        return known == number

    def taken(self) -> list[tuple[int, str]]:
        """The rows since the last call."""
        rows, self.rows = self.rows, []
        return rows

    def _asked(self, line: bytes) -> bytes:
        if self._form_made:
            return line[line.index(AFTER_ID) :]
        request = request_of(line)
        return canonical(request["url"], request["body"])
