"""Where parts stand: a folder, or a bucket of S3 by way of fsspec and s3fs, which are imported only then.

Promises: what is put appears whole or not at all; of two that create one object at a time, one does; what is replaced
is what was read before, or nothing.

Facts: S3 refuses a conditional write with 412, `If-None-Match: *` where the object exists, `If-Match` where it is
another, and with 409 where two come at one time
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html). What s3fs reads it holds against the
ETag of the beginning, and raises OSError (EBUSY) where the object was replaced meanwhile.
"""

from __future__ import annotations

import errno
import hashlib
from pathlib import Path
from typing import Any, NamedTuple

from doubleword.failure import Exit, Failure, plain
from doubleword.system import Disk, System

TRIES = 100
PAUSE_S = 0.05
REFUSED = ("PreconditionFailed", "ConditionalRequestConflict")


class Object(NamedTuple):
    """What stood under a name, and the tag that tells it from what stands there later."""

    content: bytes
    tag: str


class Folder:
    """A tree of files, named by paths with / from its root: a folder of this machine."""

    def __init__(self, root: Path, system: System) -> None:
        self._root = root
        self._system = system
        self._disk: Disk = system.disk

    def read(self, path: str) -> Object | None:
        """A small file; None where there is none."""
        try:
            with self._disk.open(self._root / path) as file:
                content = file.read()
        except FileNotFoundError:
            return None
        return Object(content, hashlib.sha256(content).hexdigest())

    def create(self, path: str, content: bytes) -> bool:
        """Write a file unless there is one, which False tells: by a link, which exists whole or not."""
        temporary, target = self._written(path, content)
        try:
            self._disk.add(temporary, target)
        except FileExistsError:
            self._disk.remove(temporary)
            return False
        return True

    def replace(self, path: str, content: bytes, tag: str) -> bool:
        """Write a file in the place of the one that was read with this tag; False where that is another now.

        Under a lock, so that nobody else replaces it meanwhile.
        """
        target = self._root / path
        for left in reversed(range(TRIES)):
            try:
                with self._disk.lock(target.with_name(f".{target.name}.lock")):
                    now = self.read(path)
                    if now is None or now.tag != tag:
                        return False
                    self.write(path, content)
                    return True
            except BlockingIOError:
                if not left:
                    raise
                self._system.sleep(PAUSE_S)
        return False

    def write(self, path: str, content: bytes) -> None:
        """Write a small file, whatever stood there: by a rename."""
        temporary, target = self._written(path, content)
        self._disk.replace(temporary, target)

    def put(self, local: Path, path: str) -> None:
        """Make a file of this machine the one under this name, by a rename."""
        target = self._root / path
        self._disk.make_folder(target.parent)
        self._disk.replace(local, target)

    def _written(self, path: str, content: bytes) -> tuple[Path, Path]:
        target = self._root / path
        self._disk.make_folder(target.parent)
        temporary = target.with_name(f".{target.name}.{self._system.new_key()[:12]}.part")
        with self._disk.create(temporary) as file:
            file.write(content)
            self._disk.sync(file)
        return temporary, target


class Bucket:
    """The same in a bucket, or in a folder of one."""

    def __init__(self, files: Any, root: str) -> None:
        self._files = files
        self._root = root

    def read(self, path: str) -> Object | None:
        """The object, and its ETag as it was read by; again where it was replaced meanwhile."""
        for _ in range(TRIES):
            try:
                with self._files.open(self._at(path), "rb") as file:
                    return Object(file.read(), str(file.details["ETag"]))
            except FileNotFoundError:
                return None
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
        raise OSError(errno.EBUSY, "the object is replaced again and again", self._at(path))

    def create(self, path: str, content: bytes) -> bool:
        """By a conditional write."""
        return self._written(path, content, mode="create")

    def replace(self, path: str, content: bytes, tag: str) -> bool:
        """By a conditional write."""
        return self._written(path, content, IfMatch=tag)

    def _written(self, path: str, content: bytes, **condition: str) -> bool:
        try:
            self._files.pipe_file(self._at(path), content, **condition)
        except FileNotFoundError:
            return False
        except OSError as error:
            said = getattr(error.__cause__, "response", {}).get("Error", {}).get("Code")
            if said not in REFUSED:
                raise
            return self._is_ours(path, content)
        return True

    def _is_ours(self, path: str, content: bytes) -> bool:
        """Whether a refused write was done all the same: its first reply may have been lost, and it asked again."""
        now = self.read(path)
        return now is not None and now.content == content

    def write(self, path: str, content: bytes) -> None:
        """In one request, which does all of it or nothing."""
        self._files.pipe_file(self._at(path), content)

    def put(self, local: Path, path: str) -> None:
        """In one request, or in several that become an object by the last of them."""
        self._files.put_file(str(local), self._at(path))

    def fetch(self, path: str, local: Path) -> Path:
        """A copy at `local`."""
        self._files.get_file(self._at(path), str(local))
        return local

    def version(self, path: str) -> str | None:
        """Its ETag, which changes when it does; None where there is none."""
        try:
            found = self._files.info(self._at(path), refresh=True)
        except FileNotFoundError:
            return None
        return str(found.get("ETag") or found["size"])

    def names(self, pattern: str | None = None) -> list[str]:
        """The paths of all objects, or of those that a glob names, sorted."""
        found = self._files.find(self._root) if pattern is None else self._files.glob(self._at(pattern))
        return sorted(str(one)[len(self._root) + 1 :] for one in found)

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}"


Place = Folder | Bucket


def is_url(given: str) -> bool:
    """Whether `given` names an object elsewhere."""
    return "://" in given


def bucket(url: str) -> Bucket:
    """The bucket, or folder in it, that an s3:// URL names; raises Failure (exit 2) for any other."""
    if not url.startswith("s3://") or not url.removeprefix("s3://").strip("/"):
        message = f"{plain(url, 120)} is neither a folder nor an s3:// URL"
        raise Failure(Exit.BAD_INPUT, "bad_url", message, "name a local folder, or s3://BUCKET/FOLDER")
    try:
        import fsspec
        import s3fs  # noqa: F401  fsspec would say less of it
    except ModuleNotFoundError as missing:
        message = f"s3:// needs the Python package s3fs, which is not installed ({missing.name})"
        raise Failure(
            Exit.BAD_INPUT, "missing_package", message, 'python3 -m pip install "s3fs>=2026.2"; or uv run --with s3fs …'
        ) from None
    files, root = fsspec.core.url_to_fs(url.rstrip("/"), use_listings_cache=False)
    return Bucket(files, root)


def place(given: str, system: System) -> Place:
    """The place that an output names."""
    return bucket(given) if is_url(given) else Folder(Path(given), system)
