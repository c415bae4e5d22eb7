"""The file that says which custom_id was repaired of which original: `<stem>.ids.csv` beside the batch file.

Promises: it is written as the ids come and gets its name only with the batch files; nobody's table of the same name
is taken for it; as in every table here, no cell is a formula.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import BinaryIO

from doubleword.system import Disk
from doubleword.tables.formulas import without_formula

HEADER = b"custom_id,original\n"


def ids_path(batch_file: Path) -> Path:
    """Where the repaired ids of the batch file named to create_batch_file.py are written."""
    return batch_file.with_name(f"{batch_file.stem}.ids.csv")


class SideFile:
    """A file beside a batch file while it is written; there is none before something is. `count` says how much was."""

    def __init__(self, path: Path, header: bytes, disk: Disk) -> None:
        self.path = path
        self.temporary = path.with_name(f".{path.name}.part")
        self.count = 0
        self.digest = hashlib.sha256()
        self._header = header
        self._disk = disk
        self._file: BinaryIO | None = None

    def write(self, lines: Sequence[bytes]) -> None:
        """Append lines, each with its line end."""
        if self._file is None:
            self._disk.remove(self.temporary)  # it may be a second name of a finished file, after a kill
            self._file = self._disk.create(self.temporary)
            self._append(self._header)
        self._append(b"".join(lines))
        self.count += len(lines)

    def finish(self) -> None:
        """Make the temporary file durable, so that it only has to be renamed."""
        if self._file is not None:
            self._disk.sync(self._file)
            self._file.close()

    def close(self) -> None:
        """Remove the temporary file where it is still there."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            with contextlib.suppress(OSError):
                self._disk.remove(self.temporary)

    @property
    def is_there(self) -> bool:
        """Whether a file of this kind has its name already."""
        if self._disk.size(self.path) is None:
            return False
        with self._disk.open(self.path) as file:
            return file.read(len(self._header)) == self._header

    @property
    def is_begun(self) -> bool:
        """Whether there is a file."""
        return self._file is not None

    def _append(self, content: bytes) -> None:
        assert self._file is not None
        self.digest.update(content)
        self._file.write(content)


class RepairedIds(SideFile):
    """The file of repaired ids."""

    def __init__(self, batch_file: Path, disk: Disk) -> None:
        super().__init__(ids_path(batch_file), HEADER, disk)

    def note(self, ids: Sequence[tuple[str, str]]) -> None:
        """Append pairs of the id that stands in a line, and its original."""
        if not ids:
            return
        rows: list[str] = []
        # A bare CR in a cell is quoted only where CR belongs to the line's end, so that is \\r\\n at first.
        writer = csv.writer(SimpleNamespace(write=rows.append), lineterminator="\r\n")
        writer.writerows((custom_id, without_formula(original)) for custom_id, original in ids)
        self.write([f"{row[:-2]}\n".encode("utf-8", "backslashreplace") for row in rows])
