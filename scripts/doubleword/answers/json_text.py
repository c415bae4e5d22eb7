"""JSON as servers and models write it: read without losing a digit, found in its wrappings, and written.

Promises: numbers keep their digits, of whatever size; JSON is found in the wrappings that models put around it, and
nowhere else; what is written is JSON, without NaN.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple, NoReturn

from doubleword.failure import plain
from doubleword.quick_msgspec import Decoder, Raw, encode, format_json

# What the JSON of an answer is taken out of: a byte order mark or a model's own tokens, thoughts, a code fence; and the
# field for thoughts, where nothing else is said.
MARK, THINK, FENCE, REASONING = WRAPPINGS = ("mark", "think", "fence", "reasoning")
MOST_FENCES = 64  # of one answer that are looked into
LONGEST_INT = 4000  # digits; Python reads no more than 4,300


class Number(float):
    """A float that knows its digits."""

    text: str

    @classmethod
    def of(cls, text: str) -> Number:
        """The number that `text` writes."""
        made = cls(text)
        made.text = text
        return made


def written(value: Any) -> str:
    """`value` as JSON on one line, numbers by their digits, NaN and infinity as null, half a surrogate pair as `?`."""
    try:
        encoded = encode(value, enc_hook=_digits)
    except UnicodeEncodeError:
        encoded = encode(sound(value), enc_hook=_digits)
    return format_json(encoded, indent=0).decode()


def _digits(value: Number) -> Raw:
    return Raw(value.text.encode())


def sound(value: Any) -> Any:
    """`value` with `?` for each half of a surrogate pair, which is no text."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {sound(key): sound(one) for key, one in value.items()}
    return list(map(sound, value)) if isinstance(value, (list, tuple)) else value


def _number(digits: str) -> Decimal:
    try:
        return Decimal(digits)
    except InvalidOperation:
        raise ValueError(f"{plain(digits, 60)} is beyond all numbers") from None


def _integer(digits: str) -> int | Decimal:
    return int(digits) if len(digits) <= LONGEST_INT else _number(digits)


_decode = Decoder(float_hook=_number).decode
_decode_fields = Decoder(dict[str, Raw]).decode
_decode_nested = Decoder(float_hook=Number.of).decode


def read(text: str) -> Any:
    """The JSON value in an answer, its numbers int and Decimal; raises ValueError for all else, NaN among it."""
    try:
        return _decode(text)
    except (ValueError, RecursionError):
        pass
    try:  # takes what is JSON as well: half of a surrogate pair, an integer of 5,000 digits
        return json.loads(text, parse_constant=refuse, parse_float=_number, parse_int=_integer)
    except RecursionError:
        raise ValueError("nested too deep") from None


def refuse(what: str) -> NoReturn:
    """Raise ValueError for what is not taken."""
    raise ValueError(f"{plain(what, 60)} is not taken")


def fields_of(text: str) -> dict[str, str | None]:
    """The top-level properties of a JSON object, each as a table shows it; empty for a text that is none.

    Strings stand without quotes and escapes, numbers by their own digits, `true` and `false` so, and nested values as
    JSON; null is None.
    """
    return {name: cell_of(raw) for name, raw in raw_fields_of(text).items()}


def raw_fields_of(text: str) -> dict[str, str]:
    """As `fields_of`, each as it is written in the JSON."""
    try:
        return {name: bytes(raw).decode() for name, raw in _decode_fields(text).items()}
    except (ValueError, RecursionError):
        pass
    try:
        return dict(_raw_fields(text))
    except (ValueError, RecursionError):
        return {}


def cell_of(raw: str) -> str | None:
    """The cell of a value that is written so in JSON."""
    if raw[0] == '"':
        return str(json.loads(raw))
    if raw[0] in "{[":
        try:
            return written(_decode_nested(raw))
        except (ValueError, RecursionError):
            return raw
    return None if raw == "null" else raw


_scan = json.JSONDecoder(parse_constant=refuse, parse_float=Number.of, parse_int=_integer).raw_decode


def _raw_fields(text: str) -> Iterator[tuple[str, str]]:
    """As `_decode_fields`, of an object with half of a surrogate pair or a very long integer."""
    if not isinstance(read(text), dict):
        return
    at = _solid(text, _solid(text, 0) + 1)
    while text[at] != "}":
        name, at = _scan(text, at)
        start = _solid(text, _solid(text, at) + 1)
        _, end = _scan(text, start)
        yield name, text[start:end]
        at = _solid(text, end)
        at = at if text[at] == "}" else _solid(text, at + 1)


def _solid(text: str, at: int) -> int:
    """Where the white space at `at` ends."""
    while text[at] in " \t\r\n":
        at += 1
    return at


# Wrappings


class _Fence(NamedTuple):
    """JSON in a code fence: where it begins and ends, and where its fence does."""

    outer: int
    start: int
    end: int
    outer_end: int


_THOUGHT = r"(?:seed:)?(?:think|thinking|thoughts?|reasoning|reflection|analysis|scratchpad)"
_OPENED = re.compile(rf"<{_THOUGHT}>|\[{_THOUGHT}\]|◁{_THOUGHT}▷", re.IGNORECASE)
# Where gpt-oss begins its answer, after all channels of thought (OpenAI's harmony format).
_FINAL = r"(?:<\|channel\|>)?final ?(?:<\|constrain\|> ?\w{1,20})?<\|message\|>|assistantfinal(?=\s{0,9}[{\[`])"
_CLOSED = re.compile(rf"</{_THOUGHT}>|\[/{_THOUGHT}\]|◁/{_THOUGHT}▷|<\|end_of_thought\|>|{_FINAL}", re.IGNORECASE)
# How thoughts begin in an answer that was to have none, or was cut off in them.
_THINKS = re.compile(r"\s*(?:<think>|\[THINK\]|◁think▷)", re.IGNORECASE)
# What a text has that shows: no white space, and no sign without width.
SHOWS = re.compile(r"[^\s\0\xad\u200b-\u200f\u2060\ufeff]")
# No more than a few ways to match what may be very long: an answer may be hostile.
_FENCED = re.compile(
    r"(?<![`~])(?:`{3,}|~{3,})[ \t\r\n]{0,4}[\w+.-]{0,20}(?:[ \t][^\n`{\[]{1,40}\n)?[ \t\r\n]*(?=[\[{\"0-9tfn-])"
)
_FENCE_END = re.compile(r"[ \t\r\n]*(?:`{3,}|~{3,}|\Z)")
# What stands around an answer: a model's own tokens, tags that say that it is one, a word or ticks left of a fence.
_SIGN = (
    r"<[|\uff5c][\w \u2581]{1,40}[|\uff5c]>|</?s>|<(?:bos|eos|pad|start_of_turn|end_of_turn)>|\[/?INST\]|"
    r"</?(?:answer|final_answer|response|output|result|json)>|(?<!`)`{1,2}(?!`)"
)
_ROLE = r"<(?:\|im_start\||\|start_header_id\||start_of_turn)>(?:assistant|model)\b"
_FIRST_SIGN = re.compile(rf"{_ROLE}|{_SIGN}|json(?=\s{{0,9}}[{{\[])", re.IGNORECASE)
_LAST_SIGN = re.compile(rf"(?:{_SIGN})\Z", re.IGNORECASE)
_BLANKS = " \t\r\n\0\xa0\u3000\ufeff\u200b\u200e\u200f\u2060"


def says_something(text: str) -> bool:
    """Whether an answer has anything that shows, beside thoughts that it begins with."""
    said = _without_thoughts(text, ()) if _THINKS.match(text) else [(0, len(text))]
    return any(SHOWS.search(text, start, end) for start, end in said)


def candidates(text: str, alone: bool = False) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What may be the JSON in an answer, the likelier first, each with what it was taken out of.

    That is the text itself; without marks at its ends; without thoughts; and inside each code fence, the last first.
    With `alone` there may be nothing beside a fence.
    """
    yield text, ()
    bare = _without_marks(text)
    unwrapped: tuple[str, ...] = (MARK,) if bare != text.strip(" \t\r\n") else ()
    if unwrapped:
        yield bare, unwrapped
    fences = list(_fences(bare))
    kept = _without_thoughts(bare, fences)
    said = _without_marks("".join(bare[start:end] for start, end in kept)).strip()
    if said != bare:
        unwrapped = (*unwrapped, THINK)
        yield said, unwrapped
    for fence in reversed(fences):
        inside = any(start <= fence.outer < end for start, end in kept)
        if inside and not (alone and bare[fence.outer : fence.outer_end].strip() != said):
            yield bare[fence.start : fence.end], (*unwrapped, FENCE)


def _without_marks(text: str) -> str:
    """`text` without white space, byte order marks and a model's own tokens at its ends."""
    start, end = 0, len(text)
    while start < end and (text[start] in _BLANKS or (token := _FIRST_SIGN.match(text, start))):
        start = start + 1 if text[start] in _BLANKS else token.end()  # type: ignore[union-attr]
    while start < end and (text[end - 1] in _BLANKS or (token := _LAST_SIGN.search(text, max(start, end - 44), end))):
        end = end - 1 if text[end - 1] in _BLANKS else token.start()  # type: ignore[union-attr]
    return text[start:end]


def _fences(text: str) -> Iterator[_Fence]:
    """The code fences that hold JSON and nothing else; the last may lack its end."""
    at = 0
    for _ in range(MOST_FENCES):
        opened = _FENCED.search(text, at)
        if opened is None:
            return
        at = opened.end()
        try:
            end = _scan(text, at)[1]
        except (ValueError, RecursionError):
            continue
        closed = _FENCE_END.match(text, end)
        if closed is not None:
            yield _Fence(opened.start(), at, end, closed.end())
            at = closed.end()


def _without_thoughts(text: str, fences: Sequence[_Fence]) -> list[tuple[int, int]]:
    """The parts of `text` that are said: what stands in thoughts is never the answer, also in some that have no end.

    Those without a beginning began before the text, in the prompt. Inside the JSON of a fence nothing opens or closes.
    """

    def marks(pattern: re.Pattern[str]) -> list[re.Match[str]]:
        return [one for one in pattern.finditer(text) if not any(f.start <= one.start() < f.end for f in fences)]

    kept: list[tuple[int, int]] = []
    at, inside = 0, False
    for mark in sorted([*marks(_OPENED), *marks(_CLOSED)], key=re.Match.start):
        if mark.re is _CLOSED:
            kept = kept if inside else []
            at, inside = mark.end(), False
        elif not inside:
            kept.append((at, mark.start()))
            inside = True
    return kept if inside else [*kept, (at, len(text))]
