"""A disk that tells written from synced: a power cut loses or tears what was not synced, a full one refuses."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from tests.simulation.world import Session, World

from doubleword.system import Disk

ERRORS = {"disk full": errno.ENOSPC, "disk broken": errno.EIO, "read-only": errno.EROFS}


class Inode:
    """One file's bytes: as every process sees them, and as they surely survive."""

    __slots__ = ("data", "mode", "synced")

    def __init__(self, data: bytes = b"", mode: int = 0o666) -> None:
        self.data = bytearray(data)
        self.mode = mode
        self.synced: bytes | None = None


class SimulatedDisk(Disk):
    """Folders and files in memory. `names` is what processes see, `_durable` which names survive a power cut.

    `kill_at` names a step and a file at which the process dies.
    """

    def __init__(self, world: World, folders: list[Path]) -> None:
        self.names: dict[Path, Inode] = {}
        self.recorded: set[str] = set()  # SHA-256 of every output that a job file ever recorded
        self.kill_at: tuple[str, str] | None = None
        self._world = world
        self._durable: dict[Path, Inode] = {}
        self._folders = set(folders)
        self._locks: dict[Path, Session] = {}
        world.disk = self

    # What the simulation itself does

    def put(self, path: Path, data: bytes) -> None:
        """Place a file that is durable already."""
        self.names[path] = self._durable[path] = inode = Inode(data)
        inode.synced = data

    def read(self, path: Path) -> bytes | None:
        """The bytes of a file, None where there is none."""
        inode = self.names.get(path)
        return None if inode is None else bytes(inode.data)

    def lose_power(self) -> None:
        """Each rename and each write that was not synced survives or not, or a part of it does."""
        choice = self._world.chance.choice
        kept: dict[Path, Inode] = {}
        for path in dict.fromkeys((*self._durable, *self.names)):
            inode = choice((self.names.get(path), self._durable.get(path)))
            if inode is not None:
                kept[path] = inode
        for inode in dict.fromkeys(kept.values()):
            if inode.synced is None or inode.data != inode.synced:
                whole = bytes(inode.data)
                torn = (inode.synced or b"", whole[: len(whole) // 2], b"\0" * len(whole), whole)
                inode.data[:] = choice(torn)
                inode.synced = bytes(inode.data)
        self.names, self._durable = dict(kept), kept
        self._locks.clear()

    # What the client does

    def open(self, path: Path) -> BinaryIO:
        self._step("open", path)
        if path in self._folders:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        self._present(path)
        return io.BytesIO(self.names[path].data)

    def create(self, path: Path, mode: int = 0o666) -> BinaryIO:
        self._step("create", path)
        self._fail(path)
        if path.parent not in self._folders:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        inode = self.names.get(path)
        if inode is None:
            inode = self.names[path] = Inode(mode=mode)
        inode.data.clear()
        return io.BufferedRandom(_Open(self, inode, path, self._world))

    def read_at(self, file: BinaryIO, start: int, length: int) -> bytes:
        file.seek(start)
        return file.read(length)

    @contextlib.contextmanager
    def work_folder(self, path: Path | None) -> Iterator[Path]:
        """A real one, for the library that makes tables; what it does there is no step of the process."""
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)

    def real(self, path: Path, folder: Path) -> Path:
        """A copy, since nothing but the simulation knows these files."""
        copy = folder / f"{len(list(folder.iterdir()))}-{path.name}"
        with self.open(path) as file:
            copy.write_bytes(file.read())
        return copy

    def sync(self, file: BinaryIO) -> None:
        file.flush()
        raw: _Open = file.raw  # type: ignore[attr-defined]
        self._step("fsync", raw.path)
        self._fail(raw.path)
        raw.inode.synced = bytes(raw.inode.data)

    def replace(self, source: Path, target: Path) -> None:
        self._step("rename", target)
        self._fail(target)
        self._present(source)
        self.names[target] = self.names.pop(source)
        self._sync_names(source, target)

    def add(self, source: Path, target: Path) -> None:
        self._step("link", target)
        self._fail(target)
        if target in self.names or target in self._folders:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
        self._present(source)
        self.names[target] = self.names[source]
        self._step("unlink", source)
        del self.names[source]
        self._sync_names(source, target)

    def remove(self, path: Path) -> None:
        self._step("remove", path)
        self.names.pop(path, None)

    def size(self, path: Path) -> int | None:
        inode = self.names.get(path)
        return None if inode is None else len(inode.data)

    def is_folder(self, path: Path) -> bool:
        return path in self._folders

    @contextlib.contextmanager
    def lock(self, path: Path) -> Iterator[None]:
        self._step("lock", path)
        self._fail(path)
        holder = self._locks.get(path)
        if holder is not None and not holder.dead:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), str(path))
        session = self._locks[path] = self._world.session
        self.names.setdefault(path, Inode())
        try:
            yield
        finally:
            if not session.dead:
                self.names.pop(path, None)
                self._locks.pop(path, None)

    # How it fails

    def _step(self, what: str, path: Path) -> None:
        self._world.note("%s %s", what, path.name)
        if self.kill_at == (what, path.name):
            self._world.kill()
        self._world.step(what)

    def _fail(self, path: Path) -> None:
        kind = self._world.fault("disk", tuple(ERRORS))
        if kind is not None:
            raise OSError(ERRORS[kind], os.strerror(ERRORS[kind]), str(path))

    def _present(self, path: Path) -> None:
        if path not in self.names:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))

    def _sync_names(self, *paths: Path) -> None:
        self._observe(paths[-1])
        self._step("fsync folder of", paths[-1])
        for path in paths:
            if path in self.names:
                self._durable[path] = self.names[path]
            else:
                self._durable.pop(path, None)

    def _observe(self, path: Path) -> None:
        """Count the states that a job file goes through, and keep what it says of results."""
        if path.name.endswith(".job.json"):
            value: dict[str, Any] = json.loads(self.names[path].data)
            for one in value["batches"]:
                self._world.reach(f"job: attempt {min(one['attempt'], 3)} {one['state']}")
                for retry in one["retries"][-1:]:
                    self._world.reach(f"job: retry {retry['state']}")
            self.recorded.update(written["sha256"] for written in value["results"])


class _Open(io.RawIOBase):
    """An open file below Python's own buffer, so that a killed process loses what it had not flushed."""

    def __init__(self, disk: SimulatedDisk, inode: Inode, path: Path, world: World) -> None:
        self.inode = inode
        self.path = path
        self._disk = disk
        self._world = world
        self._session = world.session
        self._at = 0

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self.inode.data[self._at : self._at + len(buffer)]
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)

    def write(self, data: Any) -> int:
        size = len(data)
        if self._session.dead or self._session.over:
            return size  # nobody is there any more to write it
        self._world.note("write %s, %s bytes", self.path.name, size)
        self._world.step("write")
        kind = self._world.fault("disk", tuple(ERRORS))
        if kind is not None:
            self.inode.data[self._at : self._at + size // 2] = data[: size // 2]
            raise OSError(ERRORS[kind], os.strerror(ERRORS[kind]), str(self.path))
        self.inode.data[self._at : self._at + size] = data
        self._at += size
        return size

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: len(self.inode.data)}[whence]
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at
