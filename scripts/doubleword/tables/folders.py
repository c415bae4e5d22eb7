"""A folder as a table: one row for each file in it, of text or of images.

Promises: rows come in the order of the paths, one file in memory at a time, an image never; a file that is neither
text nor an image, or not of the kind of the first one that is, is named and never silently left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from doubleword.failure import Exit, Failure, plain
from doubleword.request_lines.line import MAX_LINE_BYTES
from doubleword.system import Disk
from doubleword.tables.images import KINDS, image_type
from doubleword.tables.text_encoding import MARK_BYTES, encoding_of

# The default id of a row: files that come or go later leave the other rows' ids as they are.
ID_TEMPLATE = "{path}"


def entries(folder: Path, disk: Disk, encoding: str) -> Iterator[tuple[dict[str, Any], str | None]]:
    """For each file of `folder` its values, and None or what is wrong with it.

    Values are `path` (from the folder, with /), `name` (without folder and ending), and `text`, or for an image
    `image`, which is its path again. Hidden files, and links that lead out of the folder, do not count.
    Raises Failure (exit 2) for a folder that cannot be read.
    """
    first: str | None = None
    for path in _files(folder, disk):
        values: dict[str, Any] = {"path": path, "name": PurePosixPath(path).stem}
        try:
            kind, text = _content(folder / path, disk, encoding)
        except ValueError as error:
            yield values, f"{plain(path, 120)} {error}"
            continue
        first = first or kind
        if kind != first:
            words = {"text": "text", "image": "an image"}
            yield values, f"{plain(path, 120)} is {words[kind]}, and the files before it are {first}s"
        else:
            yield {**values, kind: path if text is None else text}, None


def columns(folder: Path, disk: Disk, encoding: str) -> list[str]:
    """The columns of the rows: the last is `text` or `image`, as the first file that is either tells."""
    kind = next((list(values)[-1] for values, problem in entries(folder, disk, encoding) if problem is None), "text")
    return ["path", "name", kind]


def _files(folder: Path, disk: Disk) -> list[str]:
    try:
        found = disk.files(folder)
    except OSError as error:
        message = f"{plain(error.filename or folder, 120)} cannot be read: {plain(error.strerror)}"
        raise Failure(Exit.BAD_INPUT, "no_file", message, "check the folder's permissions") from None
    if not found:
        message = f"the folder {plain(folder, 120)} holds no file that is not hidden"
        raise Failure(Exit.BAD_INPUT, "no_rows", message, "name a folder with text files or images in it")
    return found


def _content(path: Path, disk: Disk, encoding: str) -> tuple[str, str | None]:
    """("text", the text) or ("image", None); raises ValueError with what else the file is."""
    try:
        size = disk.size(path) or 0
        with disk.open(path) as file:
            start = file.read(12)
            if image_type(start) is not None:
                return "image", None
            if size > MAX_LINE_BYTES:
                raise ValueError(f"has {size:,} bytes, and a request may have {MAX_LINE_BYTES:,}")
            data = start + file.read(MAX_LINE_BYTES)
    except OSError as error:
        raise ValueError(f"cannot be read: {plain(error.strerror)}") from None
    name = encoding_of(encoding, start[:MARK_BYTES])
    try:
        text = data.decode(name)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        byte = f"byte 0x{data[error.start]:02x} in line {line}"
        raise ValueError(f"is no image ({KINDS}), and no text in {name}: {byte}; see --encoding") from None
    if "\0" in text:
        raise ValueError(f"is neither text nor an image ({KINDS})")
    return "text", text
