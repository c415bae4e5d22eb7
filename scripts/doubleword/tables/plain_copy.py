"""Files as DuckDB and the parsers take them: unpacked, in UTF-8.

Promises: a file that is plain already is used where it is; of any other a copy is made that lasts as long as the
database; bytes that are not in the encoding stay as they are, so that whoever reads the copy finds and names them.
"""

from __future__ import annotations

import functools
import importlib
import io
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from doubleword.failure import Exit, Failure, plain
from doubleword.system import Disk
from doubleword.text_encoding import MARK_BYTES, encoding_of

if TYPE_CHECKING:
    from doubleword.tables.database import Database

STDIN = "-"
PACKED = (".gz", ".bz2", ".xz", ".zst", ".zstd")
BLOCK = 1 << 20
PACKED_BLOCK = 1 << 14  # which may hold a thousand times as much


def suffix(path: Path) -> str:
    """The ending that tells the format, in lower case: `.csv` of `sales.csv.gz`."""
    whole = path.name.lower()
    for ending in PACKED:
        whole = whole.removesuffix(ending)
    return Path(whole).suffix


def opened(path: Path, disk: Disk) -> BinaryIO:
    """`path` open for reading; raises Failure (exit 2) where it is missing, a folder or not readable."""
    try:
        return disk.open(path)
    except FileNotFoundError:
        message, hint = f"there is no file {plain(path)}", "check the path; it is relative to the working directory"
    except IsADirectoryError:
        message, hint = f"{plain(path)} is a folder", "name a file in it"
    except PermissionError:
        message, hint = f"{plain(path)} may not be read", "check the file's permissions"
    raise Failure(Exit.BAD_INPUT, "no_file", message, hint)


def text_of(path: Path, disk: Disk, limit: int) -> str:
    """The text of a small file, as editors save it: UTF-8, or what its byte order mark tells.

    Raises Failure (exit 2) for a file that is missing, longer than `limit` bytes, or no such text.
    """
    with opened(path, disk) as file:
        raw = file.read(limit + 1)
    if len(raw) > limit:
        message = f"{plain(path, 120)} is longer than {limit:,} bytes"
        raise Failure(Exit.BAD_INPUT, "bad_arguments", message, "name the file that is meant")
    try:
        return raw.decode(encoding_of("utf-8", raw[:MARK_BYTES]))
    except UnicodeDecodeError as error:
        message = f"{plain(path, 120)}: byte {error.start + 1} is not UTF-8"
        raise Failure(Exit.BAD_INPUT, "bad_arguments", message, "save it as UTF-8") from None


def unpacked(path: Path, disk: Disk, target: Database) -> Path:
    """`path` itself, or a copy of what is packed in it, or of standard input, which is read to its end.

    Raises Failure (exit 2) for what cannot be opened or unpacked.
    """
    if str(path) == STDIN:
        if sys.stdin is None:
            raise Failure(Exit.BAD_INPUT, "no_input", "standard input is closed", "name a file: --input PATH")
        real = _copied(iter(lambda: sys.stdin.buffer.read(BLOCK), b""), path, target)
    else:
        opened(path, disk).close()
        real = disk.real(path, target.folder)
    with real.open("rb") as file:
        start = file.read(6)
        file.seek(0)
        packing = next((how for mark, how in PACKINGS.items() if start.startswith(mark)), None)
        return real if packing is None else _copied(packing(file), path, target)


def _by_library(name: str, file: BinaryIO) -> Iterator[bytes]:
    """As the module of the standard library unpacks it that is called so, piece after piece where there are several."""
    library = importlib.import_module(name)
    try:
        with library.open(file) as reader:
            yield from iter(lambda: reader.read(BLOCK), b"")
    except (zlib.error, getattr(library, "LZMAError", zlib.error)) as error:
        raise ValueError(str(error)) from None


def _zstandard(file: BinaryIO) -> Iterator[bytes]:
    """Frame by frame: the package's own reader takes a file that was cut off for a whole one."""
    import zstandard

    frame = zstandard.ZstdDecompressor().decompressobj()
    while block := file.read(PACKED_BLOCK):
        while block:
            if frame.eof:
                frame = zstandard.ZstdDecompressor().decompressobj()
            try:
                yield frame.decompress(block)
            except zstandard.ZstdError as error:
                raise ValueError(str(error)) from None
            block = frame.unused_data if frame.eof else b""
    if not frame.eof:
        raise EOFError("it ends within a frame")


# Each by what its files begin with: RFC 1952 2.3.1, the bzip2 manual, the .xz file format 2.1.1.1, RFC 8878 3.1.1.
PACKINGS: Mapping[bytes, Callable[[BinaryIO], Iterator[bytes]]] = {
    b"\x1f\x8b": functools.partial(_by_library, "gzip"),
    b"BZh": functools.partial(_by_library, "bz2"),
    b"\xfd7zXZ\0": functools.partial(_by_library, "lzma"),
    b"\x28\xb5\x2f\xfd": _zstandard,
}


def _copied(blocks: Iterator[bytes], path: Path, target: Database) -> Path:
    copy = target.new_path("unpacked")
    try:
        with copy.open("wb") as file:
            file.writelines(blocks)
    except (EOFError, ValueError, OSError) as error:
        if getattr(error, "errno", None) is not None:  # of the disk; what gzip and bzip2 say of a broken file has none
            raise
        message = f"{plain(path)} cannot be unpacked: {plain(error, 120)}"
        raise Failure(Exit.BAD_INPUT, "bad_table", message, "pack it anew") from None
    return copy


def in_utf8(path: Path, encoding: str, target: Database) -> tuple[Path, str]:
    """`path` itself where it is UTF-8, else a copy in UTF-8; and the encoding it came in.

    A byte order mark tells the encoding where `encoding` is UTF-8. Raises Failure (exit 2) for an unknown encoding.
    """
    with path.open("rb") as file:
        found = encoding_of(encoding, file.read(MARK_BYTES))
    if found in ("utf-8", "utf-8-sig"):
        return path, found
    copy = target.new_path("decoded")
    with path.open(encoding=found, errors="surrogateescape", newline="") as text, copy.open("wb") as file:
        try:
            while block := text.read(BLOCK):
                file.write(block.encode("utf-8", "surrogateescape"))
        except UnicodeError as error:
            message = f"{plain(path)} cannot be read as {plain(found, 20)}: {plain(error, 120)}"
            raise Failure(Exit.BAD_INPUT, "bad_table", message, "add --encoding NAME") from None
    return copy, found


def as_text(path: Path, newline: str | None = None) -> io.TextIOWrapper:
    """A plain file as text, without a byte order mark; bytes that are not UTF-8 become lone surrogates."""
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline=newline)
