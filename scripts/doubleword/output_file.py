"""Output files that appear whole or not at all.

Promises: what was under the name before stays until the new file is whole and durable; an existing output is refused
unless it may be replaced; a link is written through, never replaced; the hash of what was written is known when it
gets its name.
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from doubleword.failure import Exit, Failure, plain
from doubleword.system import Disk

BLOCK = 1 << 20


class WholeFile:
    """An output file that appears whole or not at all: a temporary file beside it, fsync, rename.

    Used as a context manager; leaving it by an exception removes the temporary file. An existing `path` is
    refused with exit 2 unless `force`. The temporary name is fixed, so that a run after a kill reuses it.
    """

    def __init__(self, path: Path, disk: Disk, force: bool = False, mode: int = 0o666) -> None:
        self.path = path
        self.bytes = 0
        self._disk = disk
        self._force = force
        self._mode = mode
        self._target = disk.target(path)
        self._temporary = self._target.with_name(f".{self._target.name}.part")
        self._file: BinaryIO | None = None
        self._hash = hashlib.sha256()
        self._pending: list[bytes] = []
        self._pending_bytes = 0

    def __enter__(self) -> WholeFile:
        refuse_existing(self.path, self._disk, self._force)
        # A run killed between link and unlink left both names on one file: emptying it would empty the output.
        self._disk.remove(self._temporary)
        self._file = self._disk.create(self._temporary, self._mode)
        return self

    def write(self, data: bytes) -> None:
        """Append `data`."""
        self._pending.append(data)
        self._pending_bytes += len(data)
        self.bytes += len(data)
        if self._pending_bytes >= BLOCK:
            self._flush()

    def _flush(self) -> None:
        assert self._file is not None, "write() belongs inside the with block"
        block = b"".join(self._pending)
        self._pending.clear()
        self._pending_bytes = 0
        self._hash.update(block)
        self._file.write(block)

    @property
    def sha256(self) -> str:
        """Hexadecimal SHA-256 of what was written so far."""
        digest = self._hash.copy()
        digest.update(b"".join(self._pending))
        return digest.hexdigest()

    def finish(self) -> None:
        """Make the temporary file durable; leaving the block then only renames it."""
        if self._file is not None and not self._file.closed:
            self._flush()
            self._disk.sync(self._file)
            self._file.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._file is not None
        try:
            if kind is None:
                self.finish()
                if self._force:
                    self._disk.replace(self._temporary, self._target)
                else:
                    self._disk.add(self._temporary, self._target)
        except FileExistsError:
            raise _exists(self.path) from None
        finally:
            with contextlib.suppress(OSError):
                self._file.close()
            with contextlib.suppress(OSError):
                self._disk.remove(self._temporary)


def refuse_existing(path: Path, disk: Disk, force: bool) -> None:
    """Raise the failure for an output that exists, before any work is done for it."""
    if disk.is_folder(path):
        raise Failure(Exit.BAD_INPUT, "output_is_folder", f"{plain(path)} is a folder", "name a file as the output")
    if not force and disk.size(path) is not None:
        raise _exists(path)
    try:
        folder = disk.target(path).parent
    except OSError as error:
        message = f"{plain(path)} cannot be written: {plain(error.strerror)}"
        raise Failure(Exit.BAD_INPUT, "bad_output", message, "name a file as the output") from None
    if not disk.is_folder(folder):
        raise Failure(Exit.BAD_INPUT, "no_folder", f"there is no folder {plain(folder)}", f"mkdir -p {plain(folder)}")


def _exists(path: Path) -> Failure:
    hint = "choose another name, or add --force to replace it"
    return Failure(Exit.BAD_INPUT, "output_exists", f"{plain(path)} exists already", hint)


def sha256_of(path: Path, disk: Disk) -> str | None:
    """Hexadecimal SHA-256 of a file; None when there is none."""
    try:
        file = disk.open(path)
    except OSError:
        return None
    with file:
        digest = hashlib.sha256()
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
