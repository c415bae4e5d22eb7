"""The one seam to the machine and the network: clock, sleep, randomness, network and disk.

Promises: the client reaches none of them in any other way, so a test or a simulator that passes its own
`System` decides what time it is, what arrives, what is written and when the process dies.
"""

from __future__ import annotations

import collections
import contextlib
import errno
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from requests.adapters import BaseAdapter


class Folders:
    """Folders and names, as the client uses them; `Disk` has the files."""

    def entries(self, folder: Path) -> list[str]:
        """The names of what stands directly in `folder`, sorted; raises OSError where it cannot be read."""
        return sorted(path.name for path in folder.iterdir())

    def target(self, path: Path) -> Path:
        """Where writing to `path` ends up: itself, or for a link what it leads to, be it there or not.

        Raises OSError for a link that leads to itself.
        """
        if not path.is_symlink():
            return path
        end = Path(os.path.realpath(path))
        if end.is_symlink():
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
        return end

    def is_folder(self, path: Path) -> bool:
        """Whether `path` is a folder."""
        return path.is_dir()

    def make_folder(self, path: Path) -> None:
        """Make the folder `path`, and those around it, where they are not there."""
        path.mkdir(parents=True, exist_ok=True)

    def files(self, folder: Path) -> list[str]:
        """All files under `folder`, as sorted paths from there with /; raises OSError where a folder cannot be read.

        Left out are hidden files and folders, links to folders, links that lead out, and what is no regular file.
        """
        root = folder.resolve()
        found = []
        for place, folders, names in os.walk(root, onerror=_raise):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for path in (Path(place, name) for name in names if not name.startswith(".")):
                if path.is_file() and (not path.is_symlink() or root in path.resolve().parents):
                    found.append(path.relative_to(root).as_posix())
        return sorted(found)

    @contextlib.contextmanager
    def work_folder(self, path: Path | None) -> Iterator[Path]:
        """The folder `path`, empty, for files that are needed no longer than the `with` block; gone at its end.

        One that a killed run left is emptied; without a path it is one of the system's temporary folders. Its files
        are written by libraries, not through this seam.
        """
        import shutil
        import tempfile

        if path is None:
            with tempfile.TemporaryDirectory(prefix="doubleword-") as made:
                yield Path(made)
            return
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(mode=0o700)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def real(self, path: Path, _folder: Path) -> Path:
        """Where libraries that open files by themselves find `path`; `_folder` takes a copy where they could not."""
        return path


class Disk(Folders):
    """Files, as the client uses them. Paths are absolute or relative to the working directory."""

    def open(self, path: Path) -> BinaryIO:
        """Open `path` for reading bytes; raises OSError as `open` does."""
        return path.open("rb")

    def create(self, path: Path, mode: int = 0o666) -> BinaryIO:
        """Create or empty `path` for writing and reading bytes, with `mode` less the user's umask."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), mode)
        return os.fdopen(descriptor, "w+b")

    def append(self, path: Path) -> BinaryIO:
        """Open `path`, which is there or not, for writing bytes at its end."""
        return path.open("ab")

    def read_at(self, file: BinaryIO, start: int, length: int) -> bytes:
        """`length` bytes of what was written to `file` and flushed, from `start` on; where it stands is not touched."""
        if hasattr(os, "pread"):
            return os.pread(file.fileno(), length, start)
        file.seek(start)
        return file.read(length)

    def sync(self, file: BinaryIO) -> None:
        """Return when what was written to `file` would survive a power cut."""
        file.flush()
        os.fsync(file.fileno())

    def replace(self, source: Path, target: Path) -> None:
        """Rename `source` to `target`, and make the rename itself durable; it may lead to another file system."""
        _beside(source, target).replace(target)
        self._sync_folder(target.parent)

    def add(self, source: Path, target: Path) -> None:
        """As `replace`, unless `target` exists: then raise FileExistsError and change nothing."""
        if target.exists():
            raise FileExistsError(str(target))
        source = _beside(source, target)
        try:
            os.link(source, target)
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links: the check and the rename are two steps there
            if target.exists():
                raise FileExistsError(str(target)) from None
            source.replace(target)
        else:
            source.unlink()
        self._sync_folder(target.parent)

    def remove(self, path: Path) -> None:
        """Remove `path` if it is there."""
        path.unlink(missing_ok=True)

    def size(self, path: Path) -> int | None:
        """Size of the file in bytes, None where there is no such file."""
        try:
            return path.stat().st_size if path.is_file() else None
        except OSError:
            return None

    @contextlib.contextmanager
    def lock(self, path: Path) -> Iterator[None]:
        """Hold `path` as a lock that ends with the process at the latest; raises BlockingIOError if held.

        The lock file is removed at the end. Whoever got hold of a file that was removed meanwhile starts over,
        so two holders can never stand on two files of the same name.
        """
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                _lock_or_raise(descriptor)
                same = os.fstat(descriptor).st_ino == path.stat().st_ino
            except FileNotFoundError:
                same = False
            except BaseException:
                os.close(descriptor)
                raise
            if same:
                break
            os.close(descriptor)
        try:
            yield
        finally:
            if sys.platform != "win32":
                path.unlink(missing_ok=True)
            os.close(descriptor)

    def _sync_folder(self, folder: Path) -> None:
        if sys.platform == "win32":
            return
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError:
            pass  # some network file systems cannot; the rename stands all the same
        finally:
            os.close(descriptor)


def _beside(source: Path, target: Path) -> Path:
    """`source`, or its copy on the file system of `target`, where that is another."""
    if source.parent == target.parent or source.stat().st_dev == target.parent.stat().st_dev:
        return source
    import shutil

    copy = target.with_name(source.name)
    shutil.copyfile(source, copy)
    with copy.open("rb") as file:
        os.fsync(file.fileno())
    source.unlink()
    return copy


def _raise(error: OSError) -> None:
    raise error


def _lock_or_raise(descriptor: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError as held:
            raise BlockingIOError(str(held)) from held
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


class System:
    """The real world; a simulator overrides what it wants to decide."""

    def __init__(self, disk: Disk | None = None) -> None:
        self.disk = disk or Disk()

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""
        time.sleep(max(0.0, seconds))

    def random(self) -> float:
        """A number from 0 up to 1, for jitter."""
        import random

        return random.random()  # noqa: S311

    def new_key(self) -> str:
        """32 hexadecimal digits that nobody else will ever draw."""
        return os.urandom(16).hex()

    def lock(self) -> contextlib.AbstractContextManager[Any]:
        """A lock between the works of `together`; who holds it may take it again."""
        return threading.RLock()

    def together(self, works: Sequence[Callable[[], None]], at_once: int) -> None:
        """Do `works`, so many at once, and begin them in their order.

        Once one has raised, none is begun any more; those under way go on to their end. Then the first exception, in
        the order of `works`, is raised. Ctrl-C ends the waiting, not the works: the process may end under them.
        """
        left = collections.deque(enumerate(works))
        raised: dict[int, BaseException] = {}

        def go_on() -> None:
            while not raised:
                try:
                    number, work = left.popleft()
                except IndexError:
                    return
                try:
                    work()
                except BaseException as error:  # raised again below, in the thread that waits
                    raised[number] = error

        if len(works) < 2 or at_once < 2:
            go_on()
        else:
            threads = [threading.Thread(target=go_on, daemon=True) for _ in range(min(at_once, len(works)))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        try:
            if raised:
                raise raised[min(raised)]
        finally:
            raised.clear()  # or what was raised holds on to itself, and to its connections

    @contextlib.contextmanager
    def every(self, seconds: float, work: Callable[[], bool]) -> Iterator[None]:
        """Do `work` beside the block, again and again after `seconds`, until the block ends or it says False."""
        over = threading.Event()

        def go_on() -> None:
            while not over.wait(seconds) and work():
                pass

        thread = threading.Thread(target=go_on, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def adapter(self) -> BaseAdapter:
        """What carries HTTP requests; it never retries by itself."""
        from requests.adapters import HTTPAdapter
        from urllib3 import PoolManager

        from doubleword.deadlines import make_impatient

        class Impatient(HTTPAdapter):
            def init_poolmanager(self, *args: Any, **options: Any) -> None:
                super().init_poolmanager(*args, **options)
                make_impatient(self.poolmanager)

            def proxy_manager_for(self, proxy: str, **options: Any) -> PoolManager:
                manager: PoolManager = super().proxy_manager_for(proxy, **options)
                make_impatient(manager)
                return manager

        return Impatient()
