"""The encoding of text that came as bytes: told by the user, or by a byte order mark; never guessed.

Promises: bytes that are not in the encoding are found and named, not replaced.
"""

from __future__ import annotations

import codecs

from doubleword.failure import Exit, Failure, plain

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

    Raises Failure (exit 2) where there is no encoding of text of that name that tells good bytes from bad.
    """
    try:
        b"\0\0\0\0".decode(given, "surrogateescape")
        name = codecs.lookup(given).name
    except (LookupError, ValueError):
        hint = "for example --encoding utf-8, cp1252, latin-1 or utf-16"
        message = f"there is no encoding {plain(given, 40) or 'without a name'} to read text in"
        raise Failure(Exit.BAD_INPUT, "bad_arguments", message, hint) from None
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
