"""The API key: read from the environment, and from nowhere else; kept out of everything that is printed."""

from __future__ import annotations

import os


def read_key() -> str:
    """The key in DOUBLEWORD_API_KEY, without surrounding white space; empty where there is none."""
    return os.environ.get("DOUBLEWORD_API_KEY", "").strip()


def without_key(text: str) -> str:
    """`text` with the key blotted out, should a library ever have put it into a message."""
    key = read_key()
    return text.replace(key, "***") if len(key) >= 8 else text
