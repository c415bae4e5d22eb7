"""Usual answers: lines of an output file as nearly all are, one text to a chat that came to its end.

Promises: what is called usual is what reading, judging and counting it part by part would find: an answer without a
flaw, with its tokens. It is a shorter way to the same verdict, never another one, be it taken for one line or for
hundreds of one shape; tests hold all three against lines of all kinds.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from doubleword.request_lines.line_shapes import read_texts

MOST_TOKENS = 1 << 53
LONGEST_MODEL = 200
# Lines are read one by one where more than one in so many has another shape than the rest.
ODD = 4
MOST_BYTES = 1 << 20  # of lines that are looked at together, since parts of them are in memory several times

# What may stand in the place of a value, if the rest of the line stays as it is: JSON, whatever of it that is. A text
# that is captured with its quotes is read before the line passes.
_PLAIN = rb'"[ !#-\[\]-~]*"'
_ID = rb'"([ !#-\[\]-~]{1,200})"'
_TEXT = rb'("[^"\\\n]*(?:\\.[^"\\\n]*)*")'
_ANSWER = rb'(".*")'  # far swifter for long texts; where more than the text was taken it cannot be read as one
_TOKENS = rb"(0|[1-9][0-9]{0,14})"
_WHOLE = rb"(?:0|[1-9][0-9]{0,14})"
_NUMBER = rb"-?(?:0|[1-9][0-9]{0,15})(?:\.[0-9]{1,20})?(?:[eE][+-]?[0-9]{1,2})?"
_SCALAR = re.compile(rb'("[^"\\]*(?:\\.[^"\\]*)*")(\s*:)?|-?[0-9][0-9.eE+-]*|true|false|null', re.DOTALL)
_ASCII = ("id", "custom_id", "prompt_tokens", "completion_tokens")
_LAST = operator.itemgetter(-1)
_is_plain = re.compile(_PLAIN).fullmatch


class Usual(NamedTuple):
    """A usual answer: the request's id on the server and in the batch file, the text, tokens, the model named."""

    id: str
    custom_id: str
    text: str
    prompt_tokens: int
    completion_tokens: int
    model: str


class UsualAnswers(NamedTuple):
    """Usual answers of one model, column by column; tokens as digits."""

    ids: Sequence[str]
    custom_ids: Sequence[str]
    texts: Sequence[str]
    prompt_tokens: Sequence[str]
    completion_tokens: Sequence[str]
    model: str

    @classmethod
    def of(cls, one: Usual) -> UsualAnswers:
        """The column of each field of one answer."""
        tokens = ([str(one.prompt_tokens)], [str(one.completion_tokens)])
        return cls([one.id], [one.custom_id], [one.text], *tokens, one.model)


def usual(value: Any) -> Usual | None:
    """The usual answer in the object of a line; None for all that has to be looked at part by part."""
    try:
        response = value["response"]
        body = response["body"]
        (choice,) = body["choices"]
        message, usage = choice["message"], body["usage"]
        text, model = message["content"], body["model"]
        prompt, completion = usage["prompt_tokens"], usage["completion_tokens"]
        found = Usual(value["id"], value["custom_id"], text, prompt, completion, model)
        plain = (
            value.get("error") is None
            and response["status_code"] == 200
            and choice["finish_reason"] == "stop"
            and "error" not in body
            and not message.get("refusal")
            and not message.get("tool_calls")
            and not message.get("function_call")
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    typed = type(text) is type(model) is type(found.id) is type(found.custom_id) is str
    counted = type(prompt) is type(completion) is int
    if not (plain and typed and counted and type(body["choices"]) is list):
        return None
    small = 0 <= prompt < MOST_TOKENS and 0 <= completion < MOST_TOKENS and len(model) <= LONGEST_MODEL
    return found if small and found.id and text and not text.isspace() else None


class UsualLines:
    """Finds the usual answers among lines, hundreds at a time: those that have the shape of one `learn` was shown.

    `learning` says that a shape is wanted, as lines come that have none, or another one.
    """

    def __init__(self) -> None:
        self._shape: _Shape | None = None
        self._strange = self._in_vain = 0
        self.learning = False
        try:
            import orjson
        except ImportError:
            self._loads = None
        else:
            self._loads = orjson.loads

    def runs(self, lines: list[bytes]) -> Iterator[tuple[list[bytes], UsualAnswers | None]]:
        """`lines` in their order, in runs: of usual answers, or of lines that have to be looked at one by one.

        No line holds a line feed.
        """
        # After 1, 2, 4, 8 … blocks in vain: a mixture of shapes costs no more than a few trials.
        tried = _is_power(self._in_vain) and sum(map(len, lines)) <= MOST_BYTES
        shape = self._shape if tried else None  # it may be replaced meanwhile
        found = shape.find(lines) if shape is not None else []
        odd = [number for number, groups in enumerate(found) if groups[-1]] if any(map(_LAST, found)) else []
        if shape is None or len(found) != len(lines) or len(odd) * ODD > len(lines):
            self._in_vain += 1
            if tried:
                self._strange += 1
                self.learning = self._loads is not None and _is_power(self._strange)
            yield lines, None
            return
        self._in_vain = 0
        start = 0
        for end in [*odd, len(lines)]:
            if start < end:
                yield lines[start:end], shape.answers(found[start:end])
            if end < len(lines):
                yield [lines[end]], None
            start = end + 1

    def learn(self, line: bytes) -> None:
        """Take the shape of `line`, which is usual, unless what may differ in it cannot be told from the rest."""
        self.learning = False
        shape = _shape_of(line, self._loads) if self._loads is not None else None
        if shape is not None:
            self._shape, self._in_vain = shape, 0


def _is_power(number: int) -> bool:
    """Whether `number` is a power of two, or 0."""
    return number & (number - 1) == 0


class _Shape(NamedTuple):
    """`findall` matches each line that is alike; the last group of others is the line. `fields` says what the groups
    hold: fields of `Usual`, or "" for texts that only have to be texts.
    """

    findall: Callable[[bytes], list[tuple[bytes, ...]]]
    fields: tuple[str, ...]
    model: str

    def find(self, lines: list[bytes]) -> list[tuple[bytes, ...]]:
        """What the groups match in each line."""
        return self.findall(b"\n".join(lines))

    def answers(self, found: list[tuple[bytes, ...]]) -> UsualAnswers | None:
        """The answers in lines that matched, None where one of their texts is none, or is empty."""
        columns = dict[str, tuple[bytes, ...]]()
        for field, column in zip(self.fields, zip(*found, strict=True), strict=False):
            if field:
                columns[field] = column
            elif read_texts(column) is None:
                return None
        texts = read_texts(columns["text"])
        if texts is None or not all(texts) or any(map(str.isspace, texts)):
            return None
        ascii_ = (b"\n".join(columns[name]).decode().split("\n") for name in _ASCII)
        ids, custom_ids, prompts, completions = ascii_
        return UsualAnswers(ids, custom_ids, texts, prompts, completions, self.model)


def _shape_of(line: bytes, loads: Callable[[bytes], Any]) -> _Shape | None:
    """The shape of a usual line: what may differ in lines that `usual` calls usual just as well.

    That is asked of `usual` itself: a value may differ where, with another in its place, it says the same, or shows
    that other one in a field. The proof for the line's bytes is that they read as the object with all those values.
    """
    try:
        value = loads(line)
    except ValueError:  # another parser may have read it
        return None
    told, leaves = usual(value), list(_leaves(value))
    scalars = [match for match in _SCALAR.finditer(line) if match[2] is None]
    if told is None or len(scalars) != len(leaves):
        return None
    pattern, marked, fields, at = [], [], list[str](), 0
    for number, (scalar, (holder, key)) in enumerate(zip(scalars, leaves, strict=True)):
        known, marker = holder[key], _marker(holder[key], number)
        if marker is None:
            continue
        holder[key] = marker
        now = usual(value)
        changed = [name for name in Usual._fields if getattr(now, name) != getattr(told, name)] if now else ["model"]
        if changed and (len(changed) > 1 or "model" in changed or getattr(now, changed[0]) != marker):
            holder[key] = known
            continue
        told = now or told
        kind = _kind(changed[0] if changed else "", scalar[0])
        if kind in (_ID, _ANSWER, _TOKENS, _TEXT):
            fields.append(changed[0] if changed else "")
        pattern += [re.escape(line[at : scalar.start()]), kind]
        marked += [line[at : scalar.start()], _written(marker)]
        at = scalar.end()
    try:
        proven = loads(b"".join([*marked, line[at:]])) == value
    except ValueError:
        proven = False
    if not proven or sorted(filter(None, fields)) != sorted(Usual._fields[:-1]):
        return None
    alike = b"".join([*pattern, re.escape(line[at:])])
    return _Shape(re.compile(b"^(?:%b)$|^(.+)$" % alike, re.MULTILINE).findall, tuple(fields), told.model)


def _kind(field: str, scalar: bytes) -> bytes:
    """The pattern for what may stand where `scalar` stands, which is in `field` of the answer or in none."""
    if field in ("id", "custom_id"):
        return _ID
    if field == "text":
        return _ANSWER
    if field:
        return _TOKENS
    if not scalar.startswith(b'"'):
        return _WHOLE if scalar.isdigit() else _NUMBER
    return _PLAIN if _is_plain(scalar) else _TEXT


def _marker(value: Any, number: int) -> str | int | float | None:
    """Another value of the same type, which stands nowhere else; None for what never differs."""
    if type(value) is str:
        return f"\x01{number}"
    return (1 << 40) + number if type(value) is int else number + 0.5 if type(value) is float else None


def _written(marker: str | float) -> bytes:
    return b'"\\u0001%b"' % marker[1:].encode() if isinstance(marker, str) else repr(marker).encode()


def _leaves(value: Any) -> Iterator[tuple[Any, Any]]:
    """Each value in `value` that holds no others, as what holds it and its key there, in the order of the line."""
    left: list[tuple[Any, Any]] = [([value], 0)]
    while left:
        holder, key = left.pop()
        inner = holder[key]
        if isinstance(inner, (dict, list)):
            keys: Any = inner if isinstance(inner, dict) else range(len(inner))
            left += [(inner, one) for one in keys][::-1]
        else:
            yield holder, key
