"""What is used of msgspec (JSON read and written, values with named fields), loaded as fast as it can be.

It looks for `typing_extensions` and does without where there is none; loading that takes longer than everything else
that a short command loads.
"""

from __future__ import annotations

import sys

_ABSENT = "typing_extensions" not in sys.modules
if _ABSENT:
    sys.modules["typing_extensions"] = None  # type: ignore[assignment]
try:
    from msgspec import Meta, MsgspecError, Raw, Struct, convert, field, to_builtins
    from msgspec.json import Decoder, Encoder, decode, encode
    from msgspec.json import format as format_json
    from msgspec.structs import replace
finally:
    if _ABSENT:
        del sys.modules["typing_extensions"]

__all__ = [
    "Decoder",
    "Encoder",
    "Meta",
    "MsgspecError",
    "Raw",
    "Struct",
    "convert",
    "decode",
    "encode",
    "field",
    "format_json",
    "replace",
    "to_builtins",
]
