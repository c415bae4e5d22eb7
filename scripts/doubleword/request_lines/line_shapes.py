"""Lines of one shape: alike byte for byte, but for their custom_ids and the texts that the model is asked about.

Promises: a line passes as one of a known shape only where the checker accepts it too. All its other bytes are those of
a line that was accepted, and each of its own texts was read as a JSON string with something in it, which is all that
the schema asks of them; a test holds both against random lines. A batch file is mostly lines of one shape, and is
read faster than a JSON parser alone would build a request of each line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from doubleword.request_lines.line import MAX_LINE_BYTES, Checker

KEPT = 4  # shapes known at a time; a file that one script made has one or two
TRIALS = 64  # so many lines are learnt from; then each further one must have been worth sixteen
# Custom_ids in lines, all of them printable ASCII as the schema asks, with nothing that JSON would escape.
are_plain_ids = re.compile(rb"(?:[!#-\[\]-~](?:[ !#-\[\]-~]{0,62}[!#-\[\]-~])?\n)+").fullmatch


class Shape(NamedTuple):
    """What stands around the custom_id and the texts of a line; the custom_id is number `id_at` of them."""

    first: bytes
    between: tuple[bytes, ...]
    last: bytes
    id_at: int
    url: str
    model: str


class Accepted(NamedTuple):
    """What the check of a file needs to know of accepted lines: the custom_id of each, and what they share."""

    custom_ids: list[str]
    url: str
    model: str


class Shapes:
    """Accepts the lines that `checker` accepts, most of them without asking it."""

    def __init__(self, checker: Checker) -> None:
        self._checker = checker
        self._shapes: list[Shape] = []
        self._learnt = self._passed = 0
        try:
            import orjson
        except ImportError:
            self._learnt = 1 << 62  # nothing is learnt
        else:
            self._loads, self._dumps = orjson.loads, orjson.dumps

    def accepts_all(self, lines: Sequence[bytes]) -> Accepted | None:
        """`lines`, if all are of the shape that was met last; None does not say that any of them is bad."""
        custom_ids = self._custom_ids(self._shapes[0], lines) if self._shapes and lines else None
        if custom_ids is None:
            return None
        self._passed += len(lines)
        return Accepted(custom_ids, self._shapes[0].url, self._shapes[0].model)

    def accepts(self, line: bytes) -> Accepted | None:
        """The request in `line`, which has no white space around it; None where the line is refused."""
        for shape in self._shapes:
            custom_ids = self._custom_ids(shape, [line])
            if custom_ids is not None:
                self._passed += 1
                if shape is not self._shapes[0]:
                    self._shapes.remove(shape)
                    self._shapes.insert(0, shape)
                return Accepted(custom_ids, shape.url, shape.model)
        request = self._checker.accepts(line)
        if request is None:
            return None
        accepted = Accepted([request["custom_id"]], request["url"], request["body"]["model"])
        if self._learnt < TRIALS + self._passed // 16:
            self._learnt += 1
            self._shapes = [*self._learn(line, request, accepted), *self._shapes][:KEPT]
        return accepted

    def _custom_ids(self, shape: Shape, lines: Sequence[bytes]) -> list[str] | None:
        """The custom_ids of `lines` if all of them are of `shape`."""
        first, between, last, id_at, _, _ = shape
        ids: list[bytes] = []
        texts: list[bytes] = []
        start, end_size = len(first), len(last)
        for line in lines:
            if not line.startswith(first) or not line.endswith(last):
                return None
            at = start
            for place, part in enumerate(between):
                # A plain custom_id ends at the next quote; a text, where what follows texts of this shape begins.
                end = line.find(b'"', at + 1) + 1 if place == id_at else line.find(part, at)
                if end < at or not line.startswith(part, end):
                    return None
                (ids if place == id_at else texts).append(line[at:end])
                at = end + len(part)
            (ids if len(between) == id_at else texts).append(line[at : len(line) - end_size])
        read = read_texts(texts)
        if read is None or not all(read) or len(max(lines, key=len)) > MAX_LINE_BYTES:
            return None
        return _texts_of(ids)

    def _learn(self, line: bytes, request: dict[str, Any], accepted: Accepted) -> list[Shape]:
        """The shape of an accepted line, if its texts can be told from all else; alters `request`.

        The proof is that the line with other texts in those places reads as the same request with those texts.
        """
        holders: list[tuple[dict[str, Any], str]] = [(request, "custom_id"), *_texts(request["body"])]
        spans: list[tuple[int, int, int]] = []
        after = line.find(b'"custom_id"') + len(b'"custom_id"')
        for number, (holder, key) in enumerate(holders):
            forms = (self._dumps(holder[key]), json.dumps(holder[key]).encode())
            found = [(start, start + len(form), number) for form in forms if (start := line.find(form, after)) >= 0]
            if not found:
                return []
            spans.append(min(found))
            after = spans[-1][1] if number else 0
            holder[key] = f"\x01{number}"
        spans.sort()
        starts, ends = [start for start, _, _ in spans], [end for _, end, _ in spans]
        parts = [line[end:start] for end, start in zip([0, *ends], [*starts, len(line)], strict=True)]
        marks = [self._dumps(f"\x01{number}") for _, _, number in spans]
        marked = b"".join(part for pair in zip(parts, [*marks, b""], strict=True) for part in pair)
        try:
            proven = len(spans) > 1 and self._loads(marked) == request
        except ValueError:
            proven = False
        if not proven:
            return []
        id_at = [number for _, _, number in spans].index(0)
        return [Shape(parts[0], tuple(parts[1:-1]), parts[-1], id_at, accepted.url, accepted.model)]


def read_texts(literals: Sequence[bytes]) -> list[str] | None:
    """What `literals` say, which hold no line feed, if each is one JSON string; they are read together, as one array.

    No JSON string holds a line feed, so none reaches into the next. Each literal is one value at least, or the array
    cannot be read; as many strings as literals are one for each. Needs orjson.
    """
    import orjson

    try:
        values: list[str] = orjson.loads(b"[%b]" % b",\n".join(literals))
    except ValueError:
        return None
    return values if len(values) == len(literals) and set(map(type, values)) <= {str} else None


def _texts_of(literals: list[bytes]) -> list[str] | None:
    """The custom_ids in JSON strings, if all are printable ASCII as the schema asks, with nothing escaped."""
    lines = b"\n".join([one[1:-1] for one in literals]) + b"\n"
    return lines.decode().split("\n")[:-1] if are_plain_ids(lines) else None


def _texts(body: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Where the texts stand that differ from line to line, in their order: user messages, the prompt, the input."""
    for name in ("messages", "input"):
        messages = body.get(name)
        for message in messages if isinstance(messages, list) else ():
            if isinstance(message, dict) and message.get("role") == "user" and _is_text(message.get("content")):
                yield message, "content"
    for name in ("prompt", "input"):
        if _is_text(body.get(name)):
            yield body, name


def _is_text(value: Any) -> bool:
    return type(value) is str and value != ""
