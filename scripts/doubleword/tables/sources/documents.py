"""Plain texts and images as rows: the lines of a text file, or the files of a folder.

Promises: rows come in the order of the lines or paths, one file in memory at a time, an image never; a file that is
neither text nor an image, or not of the kind of the first one that is, is named and never silently left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from doubleword.failure import Exit, Failure, plain
from doubleword.images import KINDS, image_type
from doubleword.service import MAX_LINE_BYTES
from doubleword.system import Disk
from doubleword.tables import plain_copy
from doubleword.tables.database import Database
from doubleword.tables.relation import Column, Relation
from doubleword.tables.staged import Staged
from doubleword.text_encoding import MARK_BYTES, encoding_of, undecodable

COLUMN = "text"
LONGEST_LINE = 64 << 20
# The default id of a row: files that come or go later leave the other rows' ids as they are.
ID_TEMPLATE = "{path}"


def of_lines(path: Path, shown: str, encoding: str, target: Database) -> Relation:
    """The lines of a plain text file. Raises Failure (exit 2) for one that is no text."""
    whole, encoding = plain_copy.in_utf8(path, encoding, target)
    with whole.open("rb") as raw:
        start = raw.read(plain_copy.BLOCK)
    end = "\r" if b"\r" in start and b"\n" not in start else "\n"
    with Staged(target) as file, plain_copy.as_text(whole, newline=end) as lines:
        while line := lines.readline(LONGEST_LINE):
            if len(line) >= LONGEST_LINE:
                message = f"{shown} has a line longer than {LONGEST_LINE:,} characters"
                raise Failure(Exit.BAD_INPUT, "bad_table", message, "is it text?")
            bad = undecodable(line, encoding)
            if bad is not None:
                file.add({"problem": f"{bad}; name the encoding with --encoding, often cp1252"})
            else:
                file.add({COLUMN: line.rstrip("\r\n")})
    sql = file.sql({"problem": "VARCHAR", COLUMN: "VARCHAR"})
    return Relation(sql, [Column(COLUMN, COLUMN)], problem="problem")


def of_files(folder: Path, files: Sequence[str], encoding: str, disk: Disk, target: Database) -> Relation:
    """A row for each of `files`, which are paths from `folder` with /.

    Columns are `path` (from the folder), `name` (without folder and ending), and `text`, or for images `image`, which
    is the path again; the first file that is either decides.
    """
    first = ""
    with Staged(target) as staged:
        for path in files:
            try:
                kind, text = _content(folder / path, disk, encoding)
            except ValueError as error:
                staged.add({"problem": f"{plain(path, 120)} {error}"})
                continue
            first = first or kind
            if kind != first:
                words = {"text": "text", "image": "an image"}
                staged.add({"problem": f"{plain(path, 120)} is {words[kind]}, and the files before it are {first}s"})
            else:
                staged.add({"path": path, "name": PurePosixPath(path).stem, kind: path if text is None else text})
    names = ["path", "name", first or "text"]
    sql = staged.sql({"problem": "VARCHAR", **dict.fromkeys(names, "VARCHAR")})
    return Relation(sql, [Column(name, name) for name in names], problem="problem")


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
