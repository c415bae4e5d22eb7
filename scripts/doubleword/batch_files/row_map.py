"""Which request answers each row, where that is not one for each: `<stem>.rows.tsv` beside the batch file.

A line is the number of a request, from 1 over all batch files of the job, and the custom_id of a row that it answers;
lines stand in the order of the rows. A row that has the answer of an earlier job has a negative number, from -1: that
of the answer in `<stem>.reused.jsonl`.

Promises: rows share an answer only where they ask the very same JSON of the same endpoint; every row has one line;
both files are known by their SHA-256, which their record and the job have.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from doubleword.batch_files.reading import blocks, request_of
from doubleword.batch_files.repaired_ids import SideFile
from doubleword.quick_msgspec import Decoder, MsgspecError, Raw, Struct, decode, encode
from doubleword.request_lines.line import canonical, digest_of
from doubleword.system import Disk
from doubleword.tables.plain_copy import opened

ROW_MAP = ".rows.tsv"
HEADER = b"request\tcustom_id\n"
ANSWERS = ".reused.jsonl"
ANSWERS_HEADER = b'{"kind":"doubleword reused answers"}\n'
AFTER_ID = b',"method":'  # which no custom_id holds, whose quotes are escaped
LONGEST_ANSWER = 1 << 30
PARTS = 16  # of the hashes, of which one is looked at in one go


class RowMap(Struct, frozen=True, forbid_unknown_fields=True):
    """A row map on record: where it is, its SHA-256, how many rows it has, and how many requests answer them.

    `reused` of the rows have answers of earlier jobs; those stand in the file called `answers` beside it, which is
    there, and has a SHA-256, wherever answers were asked for.
    """

    path: str
    sha256: str
    rows: int
    requests: int
    reused: int = 0
    answers: str | None = None
    answers_sha256: str | None = None

    @property
    def shared(self) -> int:
        """How many rows are answered by the request of another row."""
        return self.rows - self.requests - self.reused

    def answers_in(self, folder: Path) -> Path | None:
        """Where the answers are, with a map whose path leads on from `folder`; None where there are none."""
        return None if self.answers is None else (folder / self.path).with_name(self.answers)

    @property
    def identity(self) -> str:
        """What tells it, and the answers that it names, from others."""
        return " ".join(filter(None, [self.sha256, self.answers_sha256]))


class RowFiles(NamedTuple):
    """Where a row map is, and the answers of earlier jobs that it names, None where there are none."""

    rows: Path
    answers: Path | None


def map_path(batch_file: Path) -> Path:
    """Where the row map of the batch file named to create_batch_file.py is."""
    return batch_file.with_name(f"{batch_file.stem}{ROW_MAP}")


def answers_path(batch_file: Path) -> Path:
    """Where the answers of earlier jobs are that rows of the batch file named to create_batch_file.py have."""
    return batch_file.with_name(f"{batch_file.stem}{ANSWERS}")


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
        super().__init__(path, HEADER, disk)
        self.requests = 0  # the number of the last
        self.reused = 0

    def note(self, rows: Sequence[tuple[int, str]]) -> None:
        """Append rows as `read_rows` gives them."""
        self.write([b"%d\t%s\n" % (number, custom_id.encode()) for number, custom_id in rows])
        self.requests = max([self.requests, *(number for number, _ in rows)])
        self.reused += sum(number < 0 for number, _ in rows)

    @property
    def recorded(self) -> RowMap:
        """The map as it is put on record."""
        return RowMap(self.path.name, self.digest.hexdigest(), self.count, self.requests, self.reused)


class Reused(NamedTuple):
    """An answer of an earlier job: the digest and endpoint of its request, the job and custom_id that it is from, and
    the server's line. `request` is the line of the request where that says what the answer has to be, else empty.
    """

    digest: str
    url: str
    origin: str
    line: bytes
    request: bytes = b""

    def written(self) -> bytes:
        """Its line in a file of such answers; raises ValueError where a line is no JSON."""
        found = {"digest": self.digest, "url": self.url, "reused_from": self.origin}
        head, request = encode(found)[:-1], b',"request":' + self.request if self.request else b""
        whole = head + request + b',"line":' + self.line + b"}\n"
        try:
            same = reused_of(whole) == self
        except MsgspecError:
            same = False
        if not same:
            raise ValueError("the answer cannot be kept")
        return whole


_decode_parts = Decoder(dict[str, Raw]).decode


def reused_of(line: bytes) -> Reused:
    """The answer that `Reused.written` wrote."""
    parts = _decode_parts(line)
    digest, url, origin = (decode(parts[name], type=str) for name in ("digest", "url", "reused_from"))
    return Reused(digest, url, origin, bytes(parts["line"]), bytes(parts.get("request", b"")))


def read_answers(path: Path | None, disk: Disk) -> Iterator[Reused]:
    """The answers of earlier jobs in a file of such, in order; none without a file."""
    if path is None:
        return
    with opened(path, disk) as file:
        file.read(len(ANSWERS_HEADER))
        for _, lines in blocks(file, LONGEST_ANSWER):
            yield from map(reused_of, lines)


class Earlier(Protocol):
    """Answers of earlier jobs, by what was asked."""

    def find(self, digest: str, after: int | None) -> int | None:
        """The number of the first answer to a request, or of the one `after` another; None where there is no more."""

    def lines(self, numbers: Sequence[int]) -> list[bytes]:
        """The answers with these numbers, as `Reused.written` wrote them."""


class Equals:
    """Tells which of the requests of a table ask the same, as they are made.

    `form_made` says that all were made by one form: then equal ones have equal bytes after their custom_id.
    """

    def __init__(self, form_made: bool) -> None:
        self._form_made = form_made
        self._numbers: dict[bytes, int] = {}
        self._hashes = tuple(array("q") for _ in range(PARTS))
        # What was numbered, and the numbers of earlier answers; whoever writes them down clears both.
        self.rows: list[tuple[int, str]] = []
        self.answers: list[int] = []
        self.reused = 0

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

    def _asked(self, line: bytes) -> bytes:
        if self._form_made:
            return line[line.index(AFTER_ID) :]
        request = request_of(line)
        return canonical(request["url"], request["body"])


class Reusing(Equals):
    """Numbers requests that answers of `earlier` jobs are taken for; with `once`, equal requests have one number.

    Otherwise each of them takes an answer of its own, and is asked where there is none left.
    """

    def __init__(self, form_made: bool, once: bool, earlier: Earlier) -> None:
        super().__init__(form_made)
        self._once = once
        self._earlier = earlier
        self._known: dict[str, int] = {}  # the numbers of requests that are to have one
        self._last: dict[str, int | None] = {}  # the earlier answers that were taken last
        self._sent = self._taken = 0

    def is_new(self, custom_id: str, line: bytes) -> bool:
        """Number a request, and say whether it has to be asked."""
        request = request_of(line)
        digest = digest_of(request["url"], request["body"])
        number = self._known.get(digest, 0)
        is_new = not number and not self._takes(digest)
        if is_new:
            self._sent += 1
            if not self._once:
                self.count([line])
        number = number or (self._sent if is_new else -self._taken)
        if self._once:
            self._known[digest] = number
        self.rows.append((number, custom_id))
        self.reused += number < 0
        return is_new

    def _takes(self, digest: str) -> bool:
        """Take the next answer to a request, if there is one."""
        found = self._earlier.find(digest, self._last.get(digest))
        if found is None:
            return False
        self._last[digest] = found
        self._taken += 1
        self.answers.append(found)
        return True
