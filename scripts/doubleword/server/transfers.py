"""The bodies of large calls: an upload as it is read from disk, an answer as it arrives.

Promises: neither is ever in memory as a whole, whatever it swells to when unpacked; what was sent is what was checked;
a body that stalls, drips, breaks or is cut is an error, never a short answer.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from doubleword.failure import Exit, plain
from doubleword.server.errors import Advice, ApiError, error_from_exception

if TYPE_CHECKING:
    import requests

# A body that brings less than this in such a time will not end; a line of one keystroke a minute never times out.
PACE_BYTES = 64 * 1024
PACE_S = 180.0
BLOCK = 1 << 18
SENT_BLOCK = 1 << 20  # several times faster than the 16 KiB that are usual
# A longer line is no answer; of it only the beginning is kept, which says whose it is. A line that goes on for
# ever is no line.
LONGEST_LINE = 64 * 1024 * 1024
ENDLESS_LINE = 4 * 1024 * 1024 * 1024
BEGINNING = 4096


class TooSlow(ApiError):
    """A body that came, but at no pace at which it would end."""


def content_of(response: requests.Response, monotonic: Callable[[], float]) -> Iterator[bytes]:
    """An answer's bytes as they arrive, decoded, in blocks of at most 256 KiB.

    Raises ApiError when the body stalls, drips, breaks or is cut. Whether all rows came is for the reader to count: the
    server's X-Last-Line and X-Incomplete are absent or ambiguous too often (dwctl files.rs).
    """
    import zlib

    import urllib3

    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    try:
        if encoding in ("", "identity"):
            yield from _received(response, monotonic)
        elif encoding in ("gzip", "x-gzip", "deflate"):
            yield from _inflated(_received(response, monotonic))
        else:
            raise ApiError(None, f"the answer came as {plain(encoding, 20)}, which was not asked for")
    except (urllib3.exceptions.HTTPError, OSError, ValueError, zlib.error) as error:
        raise error_from_exception(error) from error
    finally:
        response.close()


def _received(response: requests.Response, monotonic: Callable[[], float]) -> Iterator[bytes]:
    """What arrives, as it arrives: nothing waits here for more than came, so that no drip goes unnoticed."""
    read = getattr(response.raw, "read1", response.raw.read)
    waited, got = 0.0, 0
    while True:
        asked = monotonic()
        block = read(BLOCK, decode_content=False)
        waited, got = waited + monotonic() - asked, got + len(block)
        if not block:
            return
        yield block
        if got >= PACE_BYTES:
            waited, got = 0.0, 0
        elif waited > PACE_S:
            raise TooSlow(None, "the answer came too slowly")


def _inflated(received: Iterator[bytes]) -> Iterator[bytes]:
    """The content of a gzip or zlib stream, never more than a block at a time, whatever it swells to.

    An empty block is yielded where one came that holds nothing whole yet. Raises zlib.error or ApiError where the
    stream is broken or cut.
    """
    import zlib

    ended, inflate = True, zlib.decompressobj(wbits=47)  # the head says which of the two it is
    for piece in received:
        left = piece
        while True:
            block = inflate.decompress(left, BLOCK)
            yield block
            ended, left = inflate.eof, inflate.unconsumed_tail
            if ended:
                left, inflate = inflate.unused_data, zlib.decompressobj(wbits=47)
            if not left and len(block) < BLOCK:
                break
    if not ended:
        raise ApiError(None, "the connection broke before the answer was whole")


class FileChanged(ApiError):
    """The file on disk is no longer the one that was to be sent; the server took nothing."""

    def __init__(self) -> None:
        hint = "restore the file as it was, then run the same command again"
        advice = Advice(Exit.BAD_INPUT, "batch_file_changed", hint)
        sentence = "the file was changed while it was sent, and no batch was made of it"
        super().__init__(None, sentence, sent=False, lasting=True, advice=advice)


class Upload:
    """A multipart body with one `file` part of `size` bytes, read from disk as it is sent, and hashed on the way.

    A file without the given SHA-256 raises FileChanged before the body is whole, so that the server takes nothing:
    what is found on it under our name later is the file that was checked, whoever sent it.
    """

    def __init__(
        self, file: BinaryIO, size: int, sha256: str, filename: str, boundary: str, sent: Callable[[int], None]
    ) -> None:
        name = re.sub(r"[^A-Za-z0-9._-]", "_", filename)
        self.content_type = f"multipart/form-data; boundary={boundary}"
        self._head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
            "Content-Type: application/jsonl\r\n\r\n"
        ).encode()
        self._tail = f"\r\n--{boundary}--\r\n".encode()
        self._file = file
        self._size = size
        self._sha256 = sha256
        self._sent = sent

    def __len__(self) -> int:
        return len(self._head) + self._size + len(self._tail)

    def __iter__(self) -> Iterator[bytes]:
        """The body, once; that it can be iterated tells requests to stream it."""
        yield self._head
        left, digest = self._size, hashlib.sha256()
        while left:
            block = self._file.read(min(left, SENT_BLOCK))
            if not block:
                raise FileChanged
            left -= len(block)
            # hashlib lets go of the interpreter, so much of a block is hashed while it is sent
            hashing = threading.Thread(target=digest.update, args=(block,))
            hashing.start()
            self._sent(len(block))
            yield block
            hashing.join()
        if digest.hexdigest() != self._sha256:
            raise FileChanged
        yield self._tail


class Lines(NamedTuple):
    """Lines without their line feeds, some of them blank; `cut` when only the beginning of one was kept.

    `ended` is False for a last line that no newline ends.
    """

    raws: list[bytes]
    cut: bool = False
    ended: bool = True


def lines_of(content: Iterator[bytes], progress: Callable[[int], None]) -> Iterator[Lines]:
    """The lines of a body, as they come, in bounded memory. Lines end at the byte \\n only, whatever Unicode thinks.

    Raises ApiError, too, where a gateway's page came in their place.
    """
    rest: list[bytes] = []
    length = 0
    begun = False
    for block in content:
        progress(len(block))
        if not begun and (beginning := block[:BEGINNING].lstrip(b" \t\r\n\xef\xbb\xbf")):
            begun = True
            if beginning.startswith(b"<"):
                raise ApiError(200, "a gateway answered with an HTML page", garbled=True, page=True)
        first, *others = block.split(b"\n")
        length += len(first)
        if length <= LONGEST_LINE:
            rest.append(first)
        elif len(rest) > 1 or len(rest[0]) > BEGINNING:
            rest = [b"".join(rest)[:BEGINNING]]
        if length > ENDLESS_LINE:
            raise ApiError(200, "a result line has no end", lasting=True)
        if others:
            first, cut = b"".join(rest), length > LONGEST_LINE
            if cut:
                yield Lines([first], cut)
            *lines, tail = others
            yield Lines(lines if cut else [first, *lines])
            rest, length = [tail], len(tail)
    if last := b"".join(rest).strip():
        yield Lines([last], length > LONGEST_LINE, ended=False)
