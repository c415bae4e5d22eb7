"""The encoding of text that came as bytes: told by the user, or by a byte order mark; never guessed.

Promises: bytes that are not in the encoding are found and named, not replaced.
"""

from __future__ import annotations

import codecs

from doubleword.failure import plain

# The longer marks first: that of UTF-32 in little-endian begins with that of UTF-16. The Unicode Standard, 23.8.
MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
MARK_BYTES = 4


def encoding_of(given: str, start: bytes) -> str:
    """The encoding to read text with that begins with `start`; where UTF-8 is `given`, a mark may say another.

    Raises LookupError where there is no encoding of that name.
    """
    name = codecs.lookup(given).name
    if name not in ("utf-8", "utf-8-sig"):
        return name
    return next((marked for mark, marked in MARKS.items() if start.startswith(mark)), "utf-8")


def undecodable(text: str, encoding: str) -> str | None:
    """What is wrong with `text` that was decoded with `surrogateescape`; None for nothing."""
    if text.isascii():
        return None
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        byte = ord(text[error.start]) - 0xDC00
        return f"holds the byte 0x{byte & 0xFF:02x}, which is not {plain(encoding, 20)}"
    return None
