"""Images of a table: what a cell names becomes what a request line holds, a URL or a data URI.

Promises: only a file whose first bytes are those of an image is ever read whole and sent, whatever a table names;
a file that is too large is refused by its size, before it is read; one image is in memory at a time.
"""

from __future__ import annotations

import binascii
import re
from pathlib import Path

from doubleword.failure import plain
from doubleword.service import MAX_LINE_BYTES
from doubleword.system import Disk

# Base64 makes four characters of three bytes, and all of it has to fit into one line.
MAX_IMAGE_BYTES = MAX_LINE_BYTES // 4 * 3
KINDS = "png, jpeg, gif or webp"
_DATA = re.compile(r"data:image/(png|jpeg|gif|webp);base64,[A-Za-z0-9+/]+={0,2}")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")  # of two letters or more: C:\ is a drive


def image_type(start: bytes) -> str | None:
    """The media type of an image by its first 12 bytes; None for anything else.

    The signatures are those of the formats' specifications: PNG 5.2, JPEG (ITU T.81) B.1.1.3, GIF89a 17, RFC 9649.
    """
    if start.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if start.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if start.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    return "image/webp" if start[:4] == b"RIFF" and start[8:12] == b"WEBP" else None


def image_url(value: str, folder: Path, disk: Disk) -> str:
    """The URL under which a request names the image `value`: a web address or a data URI as it is, else a file's.

    A path is taken from `folder`. Raises ValueError with one sentence for what is no image or cannot be sent.
    """
    value = value.strip()
    shown = plain(value, 120)
    if re.match(r"https?://\S+$", value, re.IGNORECASE):
        return value
    if value[:5].lower() == "data:":
        if not _DATA.fullmatch(value):
            raise ValueError(f"{plain(value, 40)} is no data URI of an image ({KINDS}) in base64")
        return value
    if _SCHEME.match(value):
        raise ValueError(f"{shown} is neither a path nor an http or https URL")
    path = folder / value
    try:
        size = disk.size(path)
        if size is None:
            raise ValueError(f"there is no file {shown} in {plain(folder, 120)}")
        if size > MAX_IMAGE_BYTES:
            said = f"{shown} has {size:,} bytes, and an image in a request line may have {MAX_IMAGE_BYTES:,}"
            raise ValueError(f"{said}; make it smaller, or name it by an https URL")
        with disk.open(path) as file:
            start = file.read(12)
            kind = image_type(start)
            if kind is None:
                raise ValueError(f"{shown} is not a {KINDS} image")
            data = start + file.read(MAX_IMAGE_BYTES)
    except OSError as error:
        raise ValueError(f"{shown} cannot be read: {plain(error.strerror)}") from None
    return f"data:{kind};base64,{binascii.b2a_base64(data, newline=False).decode()}"
