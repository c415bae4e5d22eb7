"""The seam `system.py`, counted: every write, fsync, rename, removal and call is an event that may be the last.

`Seam(strike)` calls `strike(event)` before each event; a strike may raise, or end the process. A write that is
struck has written half of its bytes, an upload that is struck half of its blocks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import requests
from tests.clock import Clocked
from tests.faults.rooms import Unsynced

from doubleword.system import Disk

if TYPE_CHECKING:
    from requests.adapters import BaseAdapter

Strike = Callable[[str], None]


class Seam(Clocked):
    """A system whose clock moves on sleep, and whose every event is announced to `strike`."""

    def __init__(self, strike: Strike, time: float) -> None:
        super().__init__(StruckDisk(strike))
        self.time = time
        self._strike = strike

    def adapter(self) -> BaseAdapter:
        """The real adapter; before each call, and before each block of an upload, comes a strike."""
        strike, real = self._strike, super().adapter()

        class Struck(type(real)):  # type: ignore[misc]
            def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
                strike("call")
                if hasattr(request.body, "__iter__") and not isinstance(request.body, (bytes, str)):
                    request.body = cast(Any, _StruckBody(request.body, strike))
                answer: requests.Response = super().send(request, *args, **options)
                return answer

        return cast("BaseAdapter", Struck(max_retries=0))


class _StruckBody:
    def __init__(self, body: Any, strike: Strike) -> None:
        self._body = body
        self._strike = strike

    def __len__(self) -> int:
        return len(self._body)

    def __iter__(self) -> Iterator[bytes]:
        for block in self._body:
            self._strike("block of an upload")
            yield block


class StruckDisk(Unsynced):
    """A disk that announces what changes it."""

    def __init__(self, strike: Strike) -> None:
        self._strike = strike

    def create(self, path: Path, mode: int = 0o666) -> BinaryIO:
        self._strike(f"create {path.name}")
        return cast(BinaryIO, _StruckFile(super().create(path, mode), path.name, self._strike))

    def sync(self, file: BinaryIO) -> None:
        self._strike("sync")
        super().sync(file)

    def replace(self, source: Path, target: Path) -> None:
        self._strike(f"replace {target.name}")
        super().replace(source, target)

    def add(self, source: Path, target: Path) -> None:
        self._strike(f"add {target.name}")
        super().add(source, target)

    def remove(self, path: Path) -> None:
        self._strike(f"remove {path.name}")
        super().remove(path)

    @contextlib.contextmanager
    def lock(self, path: Path) -> Iterator[None]:
        self._strike(f"lock {path.name}")
        with Disk.lock(self, path):
            yield


class _StruckFile:
    def __init__(self, file: BinaryIO, name: str, strike: Strike) -> None:
        self._file = file
        self._name = name
        self._strike = strike

    def write(self, data: bytes) -> int:
        half = len(data) // 2
        written = self._file.write(data[:half])
        self._file.flush()
        self._strike(f"write {self._name}")
        return written + self._file.write(data[half:])

    def __enter__(self) -> _StruckFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
