"""Batch files: request lines written in files of the right size, and read again in order.

Promises: a set of files appears whole or not at all and never mixes with an earlier set; memory does not grow with
the length of a file. What makes a file valid is for `file_check` to say.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from doubleword.batch_files.repaired_ids import RepairedIds, is_ids_file
from doubleword.failure import Exit, Failure, plain
from doubleword.request_lines.line import BLANK, MAX_LINE_BYTES
from doubleword.system import Disk, refuse_existing
from doubleword.tables.sources import blocks, open_input

# What the hosted service documents for one file; a self-hosted server may allow less (contract, section 1.1).
MAX_REQUESTS = 50_000
MAX_BYTES = 200_000_000
SIDECAR_VERSION = 1


# --- reading again --------------------------------------------------------------------------------------------


def request_lines(path: Path, disk: Disk) -> Iterator[tuple[str, bytes]]:
    """Yield (custom_id, line without white space around it) for each request of a checked file, in its order.

    Raises Failure (exit 2) for a file that is not there, or a line that is no request.
    """
    for number, line in numbered_lines(path, disk):
        yield _id_of(line, number, path), line


def _id_of(line: bytes, number: int, path: Path) -> str:
    try:
        custom_id = _loads()(line)["custom_id"]
    except (ValueError, KeyError, TypeError):
        custom_id = None
    if not isinstance(custom_id, str):
        message = f"line {number} of {plain(path)} is not a request with a custom_id"
        raise Failure(Exit.BAD_INPUT, "invalid_batch_file", message, "validate_batch_file.py says more")
    return custom_id


@functools.cache
def _loads() -> Callable[[bytes], Any]:
    try:
        import orjson
    except ImportError:
        return json.loads
    return orjson.loads


def custom_ids(path: Path, disk: Disk) -> Iterator[str]:
    """Yield the custom_id of each request of a checked file, in its order; raises as `request_lines`."""
    return itertools.chain.from_iterable(custom_id_blocks(path, disk))


def custom_id_blocks(path: Path, disk: Disk) -> Iterator[list[str]]:
    """As `custom_ids`, with those that stand close to each other taken together.

    A checked line has no key twice, so where it begins with a custom_id that is the one.
    """
    plain_start = re.compile(rb'\{"custom_id": ?"([ !#-\[\]-~]{1,64})",').match
    number = 0
    with open_input(path, disk) as file:
        for _, lines in blocks(file, MAX_LINE_BYTES):
            starts = list(map(plain_start, lines))
            if lines and all(starts):
                yield b"\n".join([start[1] for start in starts if start]).decode().split("\n")
            else:
                yield [_id_of(line, at, path) for at, raw in enumerate(lines, number + 1) if (line := raw.strip(BLANK))]
            number += len(lines)


def numbered_lines(path: Path, disk: Disk) -> Iterator[tuple[int, bytes]]:
    """The lines of `path` that are not blank, without white space around them, each with its physical number."""
    number = 0
    with open_input(path, disk) as file:
        for _, lines in blocks(file, MAX_LINE_BYTES):
            for raw in lines:
                number += 1
                line = raw.strip(BLANK)
                if line:
                    yield number, line


# --- where the rows came from ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """Where a batch file's rows came from, so that each row's custom_id can be computed again.

    `rows` is the number of rows read, from the first on; `path` is `-` for standard input; `repair_ids` says that
    ids which the server would refuse were repaired.
    """

    path: str
    format: str
    encoding: str
    id_template: str | None
    rows: int
    repair_ids: bool = False  # source files of earlier releases do not say


def source_path(batch_file: Path) -> Path:
    """Where the source of the batch file named to create_batch_file.py is written: `<stem>.source.json` beside it."""
    return batch_file.with_name(f"{batch_file.stem}.source.json")


def read_source(batch_file: Path, disk: Disk) -> Source | None:
    """The source of `batch_file`, which may be one of several (`<stem>-0001.jsonl`); None where it is not known.

    A relative path in it is taken from the batch file's folder. Raises Failure (exit 2) for a damaged or newer
    source file.
    """
    whole = re.sub(r"-\d{4}$", "", batch_file.stem)
    for place in dict.fromkeys([source_path(batch_file), batch_file.with_name(f"{whole}.source.json")]):
        content = _sidecar(place, disk)
        if content is not None and batch_file.name in content["files"]:
            fields = {
                name: content["source"][name] for name in Source.__dataclass_fields__ if name in content["source"]
            }
            if fields["path"] != "-":
                fields["path"] = str(batch_file.parent / fields["path"])
            return Source(**fields)
    return None


def _sidecar(place: Path, disk: Disk) -> dict[str, Any] | None:
    if disk.size(place) is None:
        return None
    with open_input(place, disk) as file:
        raw = file.read(1 << 20)
    try:
        content = json.loads(raw)
        version = content["version"]
        if version == SIDECAR_VERSION:
            source = content["source"]
            texts = (source["path"], source["format"], source["encoding"], source["id_template"] or "")
            if isinstance(source["rows"], int) and all(isinstance(one, str) for one in texts):
                return {"files": list(content["files"]), "source": source}
    except (ValueError, KeyError, TypeError, AttributeError):
        version = None
    said = "is damaged" if version in (None, SIDECAR_VERSION) else f"has the unknown version {plain(version, 20)}"
    hint = "use the version of this skill that wrote it, or create the batch file again with --force"
    raise Failure(Exit.BAD_INPUT, "bad_source_file", f"{plain(place)} {said}", hint)


# --- writing --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Written:
    """A batch file that was just written."""

    path: Path
    requests: int
    bytes: int


class Writer:
    """Writes request lines to `output`, or to `<stem>-0001.jsonl`, … where they exceed what one file may hold.

    Used as a context manager; the files and the source file appear when it is left, all of them or, after an
    exception, none. Existing ones are refused with exit 2; with `force` they are replaced, and files of an earlier,
    longer set removed. What is to be the source file is set as `source` meanwhile; `files` is filled at the end.
    Where ids are noted in `repaired`, the file of them appears with the others.
    """

    def __init__(self, output: Path, disk: Disk, force: bool = False) -> None:
        self.output = output
        self.source: Source | None = None
        self.files: list[Written] = []
        self.repaired = RepairedIds(output, disk)
        self._disk = disk
        self._force = force
        self._file: BinaryIO | None = None
        self._parts: list[tuple[int, int]] = []  # requests and bytes of each file so far
        self._earlier: list[Path] = []
        self._locked = contextlib.ExitStack()

    def __enter__(self) -> Writer:
        refuse_existing(self.output, self._disk, self._force)
        lock = self.output.with_name(f".{self.output.name}.lock")
        try:
            self._locked.enter_context(self._disk.lock(lock))
        except BlockingIOError:
            message = f"another run is writing {plain(self.output)}"
            raise Failure(Exit.BAD_INPUT, "output_in_use", message, "wait for it, or choose another name") from None
        try:
            self._earlier = self._find_earlier()
            for path in [] if self._force else self._earlier:
                refuse_existing(path, self._disk, force=False)
            if not self._force:
                _sidecar(source_path(self.output), self._disk)  # one that is left alone is replaced if it is ours
            self._next_file()
        except BaseException:
            self._locked.close()
            raise
        return self

    def write(self, line: bytes) -> None:
        """Append `line`, a checked request without its line end."""
        self.write_lines([line])

    def write_lines(self, lines: list[bytes]) -> None:
        """Append `lines`, as `write` does each of them."""
        assert self._file is not None, "writing belongs inside the with block"
        requests, size = self._parts[-1]
        more = sum(map(len, lines)) + len(lines)
        if requests + len(lines) > MAX_REQUESTS or size + more > MAX_BYTES:
            if len(lines) > 1:
                for line in lines:
                    self.write(line)
                return
            self._end_file()
            self._next_file()
            requests, size = 0, 0
        self._file.write(b"\n".join([*lines, b""]))
        self._parts[-1] = (requests + len(lines), size + more)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._locked:
            try:
                if kind is None:
                    self._end_file()
                    self._publish()
            finally:
                with contextlib.suppress(OSError):  # on a full disk closing fails too, and hides nothing new
                    if self._file is not None:
                        self._file.close()
                self.repaired.abandon()
                for number in range(len(self._parts) + 1):
                    with contextlib.suppress(OSError):
                        self._disk.remove(self._temporary(number))

    def _next_file(self) -> None:
        self._parts.append((0, 0))
        temporary = self._temporary(len(self._parts))
        self._disk.remove(temporary)  # it may be a second name of a finished file, after a kill
        self._file = self._disk.create(temporary)

    def _end_file(self) -> None:
        assert self._file is not None
        self._disk.sync(self._file)
        self._file.close()

    def _publish(self) -> None:
        """Put the finished files in their places, the first of them last: without it nobody takes the others."""
        count = len(self._parts)
        places = [self.output] if count == 1 else [numbered(self.output, number) for number in range(1, count + 1)]
        moves = [(self._temporary(number), place) for number, place in enumerate(places, 1)]
        if self.source is not None:
            moves.append((self._write_source(places), source_path(self.output)))
        if self.repaired.count:
            self.repaired.finish()
            moves.append((self.repaired.temporary, self.repaired.path))
        done: list[Path] = []
        try:
            self._remove_earlier(places)
            for temporary, place in reversed(moves):
                if self._force or self._is_left_alone(place):
                    self._disk.replace(temporary, place)
                else:
                    self._disk.add(temporary, place)
                    done.append(place)
        except FileExistsError:
            self._undo(done)
            refuse_existing(place, self._disk, force=False)
            raise
        except BaseException:
            self._undo(done)
            raise
        self.files = [Written(place, *part) for place, part in zip(places, self._parts, strict=True)]

    def _remove_earlier(self, places: list[Path]) -> None:
        """Make way for the new files, so that a run killed now leaves no mixture that looks whole.

        A single file is replaced in one step instead. Of several the first goes first, the others from the last
        on: what is left is without a gap, where there is no temporary file, and the next run finds all of it.
        """
        first = numbered(self.output, 1)
        going = [path for path in self._earlier if path not in places or path == first]
        for path in sorted(going, key=lambda path: (path in (first, self.output), path.name), reverse=True):
            self._disk.remove(path)
        if self.source is None:
            self._disk.remove(source_path(self.output))
        if self._force and not self.repaired.count and self._is_left_alone(self.repaired.path):
            self._disk.remove(self.repaired.path)

    def _is_left_alone(self, path: Path) -> bool:
        """Whether `path` is a source file, or a file of repaired ids, whose batch file is gone."""
        if path == self.repaired.path:
            return is_ids_file(path, self._disk)
        return path == source_path(self.output) and self._disk.size(path) is not None

    def _undo(self, done: list[Path]) -> None:
        for place in done:
            with contextlib.suppress(OSError):
                self._disk.remove(place)

    def _write_source(self, places: list[Path]) -> Path:
        assert self.source is not None
        fields = asdict(self.source)
        if self.source.path != "-":
            with contextlib.suppress(ValueError):  # no relative path between two drives
                fields["path"] = os.path.relpath(self.source.path, self.output.parent)
        content = {"version": SIDECAR_VERSION, "files": [place.name for place in places], "source": fields}
        temporary = self._temporary(0)
        with self._disk.create(temporary) as file:
            file.write(json.dumps(content, indent=2).encode() + b"\n")
            self._disk.sync(file)
        return temporary

    def _find_earlier(self) -> list[Path]:
        """The files of an earlier run: the output, and numbered ones as far as they go on without a gap.

        A run that was killed while it published left a temporary file in each gap; those are removed here.
        """
        size, paths, number = self._disk.size, [self.output], 1
        while True:
            place, temporary = numbered(self.output, number), self._temporary(number)
            if size(place) is None and size(temporary) is None:
                return [path for path in paths if size(path) is not None]
            self._disk.remove(temporary)
            paths.append(place)
            number += 1

    def _temporary(self, number: int) -> Path:
        """Where file `number` is written, 0 being the source file; fixed, so that a run after a kill reuses it."""
        return self.output.with_name(f".{self.output.name}.{number:04d}.part")


def numbered(output: Path, number: int) -> Path:
    """The name of file `number`, from 1, of those that together stand for `output`."""
    return output.with_name(f"{output.stem}-{number:04d}{output.suffix}")
