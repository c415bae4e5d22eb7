"""Batch files read again, line by line, in memory that does not grow with the file."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from doubleword.failure import Exit, Failure, plain
from doubleword.quick_msgspec import Decoder, MsgspecError, Struct, decode
from doubleword.request_lines.line import BLANK
from doubleword.service import MAX_LINE_BYTES
from doubleword.system import Disk
from doubleword.tables.plain_copy import opened

BLOCK_BYTES = 1 << 16


def blocks(file: BinaryIO, limit: int = MAX_LINE_BYTES) -> Iterator[tuple[bytes, list[bytes]]]:
    """Yield each block of `file` with the lines that end in it, without their line feeds.

    Lines end at b"\\n" and nowhere else. Of a line longer than `limit` bytes only the beginning is kept, more
    than `limit` of it, so that the memory stays bounded and the reader sees that the line is too long.
    """
    rest = b""
    while block := file.read(BLOCK_BYTES):
        lines = block.split(b"\n")
        lines[0] = rest + lines[0] if len(rest) <= limit else rest
        rest = lines.pop()
        yield block, lines
    if rest:
        yield b"", [rest]


def named_files(names: Sequence[str | Path], disk: Disk) -> list[Path]:
    """The batch files that are named; a name under which there is no file stands for the numbered ones of its stem.

    `notes.jsonl` means `notes-0001.jsonl`, `notes-0002.jsonl`, … where a set of requests was split into these.
    """
    found: list[Path] = []
    for path in map(Path, names):
        parts: list[Path] = []
        if path.suffix and disk.size(path) is None:
            numbered = (path.with_name(f"{path.stem}-{number:04d}{path.suffix}") for number in itertools.count(1))
            parts.extend(itertools.takewhile(lambda part: disk.size(part) is not None, numbered))
        found += parts or [path]
    return found


def numbered_lines(path: Path, disk: Disk) -> Iterator[tuple[int, bytes]]:
    """The lines of `path` that are not blank, without white space around them, each with its physical number."""
    number = 0
    with opened(path, disk) as file:
        for _, lines in blocks(file):
            for raw in lines:
                number += 1
                line = raw.strip(BLANK)
                if line:
                    yield number, line


def request_lines(path: Path, disk: Disk) -> Iterator[tuple[str, bytes]]:
    """Yield (custom_id, line without white space around it) for each request of a checked file, in its order.

    Raises Failure (exit 2) for a file that is not there, or a line that is no request.
    """
    for number, line in numbered_lines(path, disk):
        yield _custom_id_of(line, number, path), line


# A checked line has no key twice, so where it begins with a custom_id that is the one.
_BEGINNING = re.compile(rb'\{"custom_id": ?"([ !#-\[\]-~]{1,64})",').match


def custom_ids(path: Path, disk: Disk) -> Iterator[str]:
    """Yield the custom_id of each request of a checked file, in its order; raises as `request_lines`."""
    return itertools.chain.from_iterable(custom_id_blocks(path, disk))


def custom_id_blocks(path: Path, disk: Disk) -> Iterator[list[str]]:
    """As `custom_ids`, with those that stand close to each other taken together."""
    number = 0
    with opened(path, disk) as file:
        for _, lines in blocks(file):
            starts = list(map(_BEGINNING, lines))
            if lines and None not in starts:
                yield b"\n".join([start[1] for start in starts if start]).decode().split("\n")
            else:
                stripped = ((at, raw.strip(BLANK)) for at, raw in enumerate(lines, number + 1))
                yield [_custom_id_of(line, at, path) for at, line in stripped if line]
            number += len(lines)


class _Line(Struct):
    custom_id: str


_decode_line = Decoder(_Line).decode


def _custom_id_of(line: bytes, number: int, path: Path) -> str:
    try:
        return _decode_line(line).custom_id
    except (MsgspecError, ValueError, RecursionError):
        message = f"line {number} of {plain(path)} is not a request with a custom_id"
    raise Failure(Exit.BAD_INPUT, "invalid_batch_file", message, "validate_batch_file.py says more")


def request_of(line: bytes) -> dict[str, Any]:
    """The request in a checked line."""
    request: dict[str, Any] = decode(line)
    return request
