"""Batch files written: request lines in files of the right size, which get their names together."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from doubleword.batch_files.record import Record, record_at, record_path, written
from doubleword.batch_files.repaired_ids import RepairedIds, SideFile
from doubleword.batch_files.row_map import ANSWERS_HEADER, RowMapFile, answers_path, map_path
from doubleword.failure import Exit, Failure, plain
from doubleword.output_file import refuse_existing
from doubleword.quick_msgspec import Struct, replace
from doubleword.service import MAX_BYTES, MAX_REQUESTS
from doubleword.system import Disk


class Written(Struct, frozen=True):
    """A batch file that was just written."""

    path: Path
    requests: int
    bytes: int


class Writer:
    """Writes request lines to `output`, or to `<stem>-0001.jsonl`, … where they exceed what one file may hold.

    Used as a context manager; the files and their record appear when it is left, all of them or, after an
    exception, none. Existing ones are refused with exit 2; with `force` they are replaced, and files of an earlier,
    longer set removed. The record is set as `record` meanwhile; `files` is filled at the end.
    Where ids are noted in `repaired`, rows in `row_map`, or answers of earlier jobs written to `answers`, the file of
    them appears with the others; where no line was written, and answers are there, without a batch file.
    """

    def __init__(self, output: Path, disk: Disk, force: bool = False) -> None:
        self.output = output
        self.record: Record | None = None
        self.files: list[Written] = []
        self.repaired = RepairedIds(output, disk)
        self.row_map = RowMapFile(map_path(output), disk)
        self.answers = SideFile(answers_path(output), ANSWERS_HEADER, disk)
        self._beside = (self.repaired, self.row_map, self.answers)
        self._disk = disk
        self._force = force
        self._file: BinaryIO | None = None
        self._parts: list[tuple[int, int]] = []  # requests and bytes of each file so far
        self._earlier: list[Path] = []
        self._locked = contextlib.ExitStack()

    def __enter__(self) -> Writer:
        refuse_existing(self.output, self._disk, self._force)
        lock = self.output.with_name(f".{self.output.name}.lock")
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(self._disk.lock(lock))
            except BlockingIOError:
                message = f"another run is writing {plain(self.output)}"
                hint = "wait for it, or choose another name"
                raise Failure(Exit.BAD_INPUT, "output_in_use", message, hint) from None
            self._earlier = self._find_earlier()
            if not self._force:
                for path in self._earlier:
                    refuse_existing(path, self._disk, force=False)
                record_at(record_path(self.output), self._disk)  # one left alone is replaced if it is ours
            self._next_file()
            self._locked = held.pop_all()
        return self

    def write(self, lines: Sequence[bytes]) -> None:
        """Append `lines`, checked requests without their line ends."""
        requests, size = self._parts[-1]
        more = sum(map(len, lines)) + len(lines)
        if requests + len(lines) > MAX_REQUESTS or size + more > MAX_BYTES:
            if len(lines) > 1:
                for line in lines:
                    self.write([line])
                return
            self._end_file()
            self._next_file()
            requests, size = 0, 0
        assert self._file is not None, "writing belongs inside the with block"
        self._file.write(b"\n".join([*lines, b""]))
        self._parts[-1] = (requests + len(lines), size + more)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._locked:
            try:
                if kind is None:
                    self._end_file()
                    self._publish()
            finally:
                with contextlib.suppress(OSError):  # on a full disk closing fails too, and hides nothing new
                    if self._file is not None:
                        self._file.close()
                for beside in self._beside:
                    beside.close()
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
        count = len(self._parts) if self._parts[0][0] or not self.answers.is_begun else 0
        places = [self.output] if count == 1 else [numbered(self.output, number) for number in range(1, count + 1)]
        moves = [(self._temporary(number), place) for number, place in enumerate(places, 1)]
        if self.record is not None:
            moves.append((self._write_record(places), record_path(self.output)))
        for beside in filter(lambda one: one.is_begun, self._beside):
            beside.finish()
            moves.append((beside.temporary, beside.path))
        done: list[Path] = []
        try:
            self._remove_earlier(places)
            for temporary, place in reversed(moves):
                target = self._disk.target(place)
                if self._force or self._is_left_alone(place):
                    self._disk.replace(temporary, target)
                else:
                    self._disk.add(temporary, target)
                    done.append(target)
        except BaseException as error:
            for target in done:
                with contextlib.suppress(OSError):
                    self._disk.remove(target)
            if isinstance(error, FileExistsError):
                refuse_existing(place, self._disk, force=False)
            raise
        self.files = [Written(place, *part) for place, part in zip(places, self._parts, strict=False)]

    def _remove_earlier(self, places: list[Path]) -> None:
        """Make way for the new files, so that a run killed now leaves no mixture that looks whole.

        A single file is replaced in one step instead. Of several the first goes first, the others from the last
        on: what is left is without a gap, where there is no temporary file, and the next run finds all of it.
        """
        first = numbered(self.output, 1)
        going = [path for path in self._earlier if path not in places or path == first]
        for path in sorted(going, key=lambda path: (path in (first, self.output), path.name), reverse=True):
            self._disk.remove(path)
        if self.record is None:
            self._disk.remove(record_path(self.output))
        for beside in self._beside:
            if self._force and not beside.is_begun and beside.is_there:
                self._disk.remove(beside.path)

    def _is_left_alone(self, path: Path) -> bool:
        """Whether `path` is a record, or another file beside a batch file, whose batch file is gone."""
        for beside in self._beside:
            if path == beside.path:
                return beside.is_there
        return path == record_path(self.output) and self._disk.size(path) is not None

    def _write_record(self, places: list[Path]) -> Path:
        assert self.record is not None
        temporary = self._temporary(0)
        row_map = self.row_map.recorded if self.row_map.is_begun else None
        if row_map is not None and self.answers.is_begun:
            named, sha256 = self.answers.path.name, self.answers.digest.hexdigest()
            row_map = replace(row_map, answers=named, answers_sha256=sha256)
        record = replace(self.record, row_map=row_map)
        with self._disk.create(temporary) as file:
            file.write(written(record, places, self.output.parent))
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
        """Where file `number` is written, 0 being the record; fixed, so that a run after a kill reuses it."""
        return self.output.with_name(f".{self.output.name}.{number:04d}.part")


def numbered(output: Path, number: int) -> Path:
    """The name of file `number`, from 1, of those that together stand for `output`."""
    return output.with_name(f"{output.stem}-{number:04d}{output.suffix}")
