"""A page of a report as a browser reads it: its elements, its words, and what its script is given."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any


class WrittenPage(HTMLParser):
    """`elements` are all tags with their attributes, `words` all text outside of scripts and styles, `inside` the text
    of each script and style, `data` what the script is given.
    """

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.content = content
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inside: list[tuple[str, str]] = []
        self._open = ""
        self._words: list[str] = []
        self.feed(content.decode())
        self.close()
        self.words = " ".join("".join(self._words).split())
        self.data: dict[str, Any] = json.loads(next(text for tag, text in self.inside if tag == "script"))

    @classmethod
    def at(cls, path: Path) -> WrittenPage:
        """The page in a file."""
        return cls(path.read_bytes())

    @property
    def ids(self) -> list[str]:
        """The custom_ids of its rows, in their order."""
        return [row["answers"][0]["custom_id"] for row in self.data["rows"]]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._words.append(" ")
        self._open = tag if tag in ("script", "style") else ""
        if self._open:
            self.inside.append((tag, ""))

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open:
            self.inside[-1] = (self._open, self.inside[-1][1] + data)
        else:
            self._words.append(data)
