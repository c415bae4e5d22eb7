"""A swift look over large batch files, by processes at once: two read one half of all bytes each, one hashes.

Promises: what it answers is what the check line by line would find in files without a flaw; wherever there may be one
(a line refused, two custom_ids that may be the same, a limit, a file that changed meanwhile) it answers nothing.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from doubleword.batch_files.seen_ids import SeenIds, Written
from doubleword.request_lines.line import BLANK, MAX_LINE_BYTES, Checker
from doubleword.request_lines.line_shapes import Shapes
from doubleword.system import Disk
from doubleword.tables.sources import open_input

BLOCK_BYTES = 1 << 18  # of which several forms are in memory at a time
LARGE_BYTES = 1 << 28  # in so many there may be millions of custom_ids


class Part(NamedTuple):
    """The lines of file number `file` that begin from byte `start` on and before byte `end`."""

    file: int
    start: int
    end: int


class _Doubt(Exception):
    """There may be something wrong; the check line by line will say what."""


@dataclass
class Seen:
    """What is known of one file after a look; `endpoint` is empty until its first request."""

    bytes: int
    requests: int = 0
    sha256: str = ""
    endpoint: str = ""
    models: dict[str, None] = field(default_factory=dict)

    def add(self, requests: int, endpoint: str, models: Sequence[str]) -> None:
        """Count requests that follow those counted so far."""
        self.requests += requests
        self.endpoint = self.endpoint or endpoint
        if requests and endpoint != self.endpoint:
            raise _Doubt
        self.models.update(dict.fromkeys(models))


def look(
    paths: Sequence[Path], disk: Disk, hashed: bool, meanwhile: Callable[[], None] = lambda: None
) -> list[Seen] | None:
    """Each file as it was seen, in the order of `paths`; None where the files have to be checked line by line.

    This process only waits, and does `meanwhile` first: what checking takes is not in its memory.
    """
    versions = [disk.version(path) for path in paths]
    sizes = [disk.size(path) or 0 for path in paths]
    with contextlib.suppress(_Doubt):
        seen, digests, repeated, _ = _look_once(paths, sizes, disk, hashed, frozenset(), meanwhile)
        if repeated:  # used twice, or unlike ids with the same hash; a second look tells
            _, _, _, named = _look_once(paths, sizes, disk, False, repeated, lambda: None)
            if len(set(named)) < len(named):
                return None
        if versions != [disk.version(path) for path in paths]:
            return None
        for one, digest in zip(seen, digests, strict=True):
            one.sha256 = digest
        return seen
    return None


def _look_once(
    paths: Sequence[Path],
    sizes: Sequence[int],
    disk: Disk,
    hashed: bool,
    suspects: frozenset[int],
    meanwhile: Callable[[], None],
) -> tuple[list[Seen], list[str], frozenset[int], list[str]]:
    """The files, their SHA-256, the hashes of custom_ids that may stand twice, and the custom_ids with `suspects`."""
    with contextlib.ExitStack() as ends:
        # Made here, they are there for both; hashes of ids wait in them if there are very many.
        large = sum(sizes) > LARGE_BYTES
        files = [ends.enter_context(file) if large and (file := _scratch(disk)) else None for _ in range(2)]
        works: list[Callable[[], Any]] = [
            functools.partial(_look_at, part, paths, disk, suspects, file)
            for part, file in zip(halves(sizes), files, strict=True)
        ]
        if hashed:
            works.append(lambda: [_sha256(path, disk) for path in paths])
        told = [ends.enter_context(disk.beside(work)) for work in works]
        meanwhile()
        found: list[Any] = [one() if one is not None else None for one in told]
        if None in found:
            raise _Doubt
        seen, ids, named = [Seen(size) for size in sizes], SeenIds(), []
        for (counted, kept, suspected), file in zip(found[:2], files, strict=True):
            for number, *facts in counted:
                seen[number].add(*facts)
            ids.take(kept, file)
            named += suspected
        return seen, found[2] if hashed else [""] * len(paths), ids.repeated(), named


def _scratch(disk: Disk) -> BinaryIO | None:
    try:
        return disk.scratch()
    except OSError:  # no temporary folder can be written; memory has to do
        return None


def halves(sizes: Sequence[int]) -> tuple[list[Part], list[Part]]:
    """The bytes of all files, in two parts of the same size."""
    parts: tuple[list[Part], list[Part]] = [], []
    middle, before = sum(sizes) // 2, 0
    for number, size in enumerate(sizes):
        cut = min(max(middle - before, 0), size)
        for part, start, end in ((parts[0], 0, cut), (parts[1], cut, size)):
            if start < end:
                part.append(Part(number, start, end))
        before += size
    return parts


_Found = tuple[list[tuple[int, int, str, list[str]]], tuple[list[bytes], list[Written]], list[str]]


def _look_at(
    parts: Sequence[Part], paths: Sequence[Path], disk: Disk, suspects: frozenset[int], scratch: BinaryIO | None
) -> _Found | None:
    """The requests of `parts`, as (file, requests, endpoint, models), and their custom_ids as SeenIds keeps them; then
    the custom_ids that are `suspects`.
    """
    ids = SeenIds(suspects, None if scratch is None else lambda: scratch)
    shapes, named = Shapes(Checker()), list[str]()
    counted: list[tuple[int, int, str, list[str]]] = []
    with contextlib.suppress(_Doubt):
        for part in parts:
            one = Seen(0)
            with open_input(paths[part.file], disk) as file:
                for lines in lines_in(file, part):
                    _count(lines, shapes, ids, one, named)
            counted.append((part.file, one.requests, one.endpoint, list(one.models)))
        return counted, ids.kept(), named
    return None


def _count(lines: list[bytes], shapes: Shapes, ids: SeenIds, one: Seen, named: list[str]) -> None:
    """Count the requests in `lines`; the first of all is looked at alone, since it shows the shape of the others."""
    if not one.requests and lines:
        _count_each(lines[:1], shapes, ids, one, named)
        lines = lines[1:]
    accepted = shapes.accepts_all(lines)
    if accepted is None:
        _count_each(lines, shapes, ids, one, named)
    else:
        one.add(len(lines), accepted.url, [accepted.model])
        ids.note(accepted.custom_ids)
        named += ids.suspected(accepted.custom_ids)


def _count_each(lines: list[bytes], shapes: Shapes, ids: SeenIds, one: Seen, named: list[str]) -> None:
    for raw in lines:
        line = raw.strip(BLANK)
        if line:
            accepted = shapes.accepts(line)
            if accepted is None:
                raise _Doubt
            one.add(1, accepted.url, [accepted.model])
            ids.note(accepted.custom_ids)
            named += ids.suspected(accepted.custom_ids)


def lines_in(file: BinaryIO, part: Part) -> Iterator[list[bytes]]:
    """The lines of `part`, without their line feeds, many at a time; raises _Doubt where one may be too long."""
    at = part.start
    if at:  # a line that began before is not of this part
        file.seek(at - 1)
        at += len(file.readline(MAX_LINE_BYTES + 2)) - 1
    rest = b""
    while at < part.end:
        block = file.read(min(BLOCK_BYTES, part.end - at))
        at += len(block)
        lines = block.split(b"\n")
        lines[0] = rest + lines[0]
        rest = lines.pop()
        if not block or len(rest) > MAX_LINE_BYTES:
            raise _Doubt
        yield lines
    if rest:
        yield [(rest + file.readline(MAX_LINE_BYTES + 2)).removesuffix(b"\n")]


def _sha256(path: Path, disk: Disk) -> str:
    import hashlib

    digest = hashlib.sha256()
    with open_input(path, disk) as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
