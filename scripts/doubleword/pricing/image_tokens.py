"""How many tokens a picture in a prompt costs, from its size in pixels, without decoding it.

The rule is Qwen's (`smart_resize` of QwenLM/Qwen3-VL, qwen_vl_utils): each side is rounded to whole tiles, one
tile is one token, the whole is scaled into 4 to 16,384 tokens. A tile is 32 pixels wide for Qwen3-VL and Qwen3.5,
28 for Qwen2.5-VL. Other vision models count in their own ways; no model with vision was at hand to measure.
"""

from __future__ import annotations

import base64
import binascii
import struct

TILE = 32
SMALLER_TILE = 28
FEWEST, MOST = 4, 16_384
UNSEEN = 1024  # a picture of one megapixel, assumed where only a URL is given


def image_tokens(url: str) -> tuple[int, int, bool]:
    """Expected tokens, most tokens, and whether the size was seen, of an image part's URL or data URI."""
    size = _size(_decoded(url)) if url.startswith("data:") else None
    if size is None:
        return UNSEEN, MOST, False
    width, height = size
    return _tiles(width, height, TILE), _tiles(width, height, SMALLER_TILE, up=True), True


def _tiles(width: int, height: int, tile: int, up: bool = False) -> int:
    extra = tile - 1 if up else tile // 2
    tokens = max(1, (width + extra) // tile) * max(1, (height + extra) // tile)
    return min(MOST, max(FEWEST, tokens))


def _decoded(uri: str) -> bytes:
    head, _, data = uri.partition(",")
    if not head.endswith(";base64"):
        return b""
    try:
        return base64.b64decode(data)
    except (binascii.Error, ValueError):
        return b""


def _size(image: bytes) -> tuple[int, int] | None:
    """Width and height of a PNG, GIF, WebP or JPEG image in pixels; None where they cannot be read."""
    try:
        if image.startswith(b"\x89PNG\r\n\x1a\n"):
            width, height = struct.unpack(">II", image[16:24])
        elif image.startswith(b"GIF8"):
            width, height = struct.unpack("<HH", image[6:10])
        elif image[:4] == b"RIFF" and image[8:12] == b"WEBP":
            width, height = _webp(image)
        elif image.startswith(b"\xff\xd8"):
            width, height = _jpeg(image)
        else:
            return None
    except (struct.error, IndexError):
        return None
    return (width, height) if width and height else None


def _webp(image: bytes) -> tuple[int, int]:
    kind = image[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(image[24:27], "little"), 1 + int.from_bytes(image[27:30], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(image[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack("<HH", image[26:30])
    return width & 0x3FFF, height & 0x3FFF


def _jpeg(image: bytes) -> tuple[int, int]:
    """Walks the segments to the frame header, which alone holds the size."""
    place = 2
    while True:
        while image[place] == 0xFF and image[place + 1] == 0xFF:
            place += 1  # fill bytes
        if image[place] != 0xFF:
            return 0, 0
        marker = image[place + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", image[place + 5 : place + 9])
            return width, height
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:
            place += 2
        else:
            place += 2 + struct.unpack(">H", image[place + 2 : place + 4])[0]
