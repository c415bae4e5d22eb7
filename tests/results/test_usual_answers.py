"""Usual answers: the short way gives what the long way gives, for lines of all kinds."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.request_lines.test_request_line_agreement import json_values, places

from doubleword.request_lines.line import CHAT
from doubleword.results import lines as result_lines
from doubleword.results import reading as result_reading
from doubleword.results.reading import LENGTH, Lines, Reading, Result, _Into, _Shown
from doubleword.results.spool import Spool
from doubleword.results.structured import Expected
from doubleword.results.usual_answers import UsualAnswers, UsualLines, usual
from doubleword.output_file import WholeFile
from doubleword.system import Disk
from doubleword.tables.output import Csv, columns_of

ANSWER: dict[str, Any] = {
    "id": "batch_req_1",
    "custom_id": "row-1",
    "response": {
        "status_code": 200,
        "request_id": None,
        "body": {
            "id": "x",
            "model": "m",
            "choices": [
                {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": '=1, "yes"'}}
            ],
            "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9},
        },
    },
    "error": None,
}
EDGES = st.sampled_from(
    [None, "", " ", "stop", "length", True, False, 0, 1, -1, 1.0, 1 << 53, (1 << 53) - 1, 200, 201, 400, [], {}, "\r",
     "\0", "a\ud800", "m" * 201, [{"a": 1}], {"message": "x"}, "\u2028", "a,b\nc"]
)  # fmt: skip
NAMES = st.sampled_from(
    ["error", "refusal", "tool_calls", "function_call", "content", "choices", "model", "usage", "x"]
)


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    """A usual answer with up to three things changed, removed or added anywhere."""
    value = copy.deepcopy(ANSWER)
    for _ in range(draw(st.integers(0, 3))):
        holder, key = draw(st.sampled_from(places(value)))
        kind = draw(st.integers(0, 3))
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder, dict):
            holder[draw(NAMES)] = copy.deepcopy(draw(EDGES | json_values))
        elif kind == 2 and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]))
        else:
            holder[key] = copy.deepcopy(draw(EDGES | json_values))
        if not places(value):
            break
    return json.dumps(value).encode()


WAYS = ("long", "short", "many")


def kept(raws: list[bytes], folder: Path, way: str, packed: bool) -> Any:
    """All that is kept of `raws`: rows with what the spool has for them, what was seen, and tokens."""
    table = Csv(WholeFile(folder / "t.csv", Disk()), columns_of([], {CHAT}, {})) if packed else None
    with pytest.MonkeyPatch.context() as patch, Spool(folder / "spool", Disk()) as spool:
        if way == "long":
            patch.setattr(result_reading, "usual", lambda _: None)
        into, shown, seen = _Into(spool, CHAT, Expected(), table), _Shown(), set[tuple[str, str]]()
        # The shape is learnt from the first line.
        for some in [raws[:1], raws[1:]] if way == "many" else [[raw] for raw in raws]:
            into.keep(Lines(some), shown, seen)
            if way == "short":
                into = _Into(spool, CHAT, Expected(), table)
        reading = Reading(spool, shown.rows, size=spool.settle())
        rows = {
            name: (row, reading.kept([row]))
            if isinstance(row, int)
            else (row[:3], row.place & LENGTH, reading.kept([row.place]))
            for name, row in shown.rows.items()
        }
        return rows, seen, shown.unreadable, shown.usage


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(lines(), min_size=1, max_size=4), st.booleans())
def test_the_short_ways_keep_what_the_long_way_keeps(
    tmp_path_factory: pytest.TempPathFactory, raws: list[bytes], packed: bool
) -> None:
    """Rows, their order of preference, the bytes kept for a table, doubles, tokens: all the same."""
    folder = tmp_path_factory.mktemp("kept")
    long, short, many = (kept(raws, folder, way, packed) for way in WAYS)
    assert short == long
    assert many == long


# What may stand in place of any value of a line, raw: JSON or not.
PIECES = [
    b'""', b'" "', b'"stop"', b'"a\\nb"', b'"\\u0000"', b'"\\ud800"', b'"\xc3\xa9"', b'"\xff"', b'"a"b"', b'"\\"',
    b'"a\\"', b'"x","y"', b"0", b"00", b"007", b"-1", b"1.5", b"1e400", b"1e5", b"9" * 15, b"9" * 16, b"9" * 40,
    b"true", b"null", b"{}", b'["a"]', b'"a\r"', b'"=1"', b'"a, b"', b'"\x01"', b"", b'"row-2"',
    b'"%b"' % (b"m" * 300),
]  # fmt: skip
OTHER: dict[str, Any] = {
    "id": "a 1",
    "custom_id": "row 1",
    "response": {
        "status_code": 200,
        "request_id": "r",
        "body": {
            "choices": [
                {
                    "message": {"content": "y", "reasoning_content": 'say "é"', "refusal": None, "tool_calls": []},
                    "finish_reason": "stop",
                    "logprobs": None,
                }
            ],
            "created": 1790000000,
            "model": "m",
            "usage": {"prompt_tokens": 7, "completion_tokens": 2, "cost": 0.25, "details": {"cached_tokens": 0}},
            "system_fingerprint": "fp",
        },
    },
}


_VALUES = re.compile(rb': ?("(?:[^"\\]|\\.)*"|[0-9.]+|null)')


@st.composite
def alike(draw: st.DrawFn) -> list[bytes]:
    """Lines that differ from the first in the raw bytes of up to two values."""
    first = json.dumps(draw(st.sampled_from([ANSWER, OTHER])), ensure_ascii=draw(st.booleans())).encode()
    every = [first]
    for number in range(draw(st.integers(1, 4))):
        raw = first.replace(b"row-1", b"row-%d" % (number + 3)).replace(b"row 1", b"row-%d" % (number + 3))
        spans = [match.span(1) for match in _VALUES.finditer(raw)]
        for at in sorted(draw(st.sets(st.integers(0, len(spans) - 1), max_size=2)), reverse=True):
            start, end = spans[at]
            raw = raw[:start] + draw(st.sampled_from(PIECES)) + raw[end:]
        every.append(raw)
    return every


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(alike(), st.booleans())
def test_lines_of_one_shape_are_kept_as_each_would_be(
    tmp_path_factory: pytest.TempPathFactory, raws: list[bytes], packed: bool
) -> None:
    """Also among others, doubles and broken ones."""
    folder = tmp_path_factory.mktemp("alike")
    assert kept(raws, folder, "many", packed) == kept(raws, folder, "long", packed)


@pytest.mark.parametrize("spaced", [True, False])
@pytest.mark.parametrize("answer", [ANSWER, OTHER], ids=["plain", "with more"])
def test_a_line_that_passes_by_its_shape_is_usual(answer: dict[str, Any], spaced: bool) -> None:
    """Whatever stands in the place of any value: no JSON, another type, an empty text, a number that is none."""
    first = json.dumps(answer, ensure_ascii=spaced, separators=None if spaced else (",", ":")).encode()
    lines_, passed = UsualLines(), 0
    lines_.learn(first)
    shape = lines_._shape
    assert shape is not None
    for match in _VALUES.finditer(first):
        for piece in PIECES:
            raw = first[: match.start(1)] + piece + first[match.end(1) :]
            (matched,) = shape.find([raw])
            answers = None if matched[-1] else shape.answers([matched])
            if answers is not None:
                found = usual(result_lines.parse(raw))
                assert found is not None, raw
                assert answers == UsualAnswers.of(found), raw
                passed += 1
    assert passed > 40


@pytest.mark.parametrize("answer", [ANSWER, OTHER], ids=["plain", "with more"])
def test_lines_of_one_shape_are_known_as_such(answer: dict[str, Any]) -> None:
    """Or each would be looked at alone, and the tests above hold nothing."""
    found, again = UsualLines(), copy.deepcopy(answer)
    found.learn(json.dumps(answer).encode())
    again.update(id="a 2", custom_id="other")
    body = again["response"]["body"]
    body["choices"][0]["message"]["content"] = 'a longer "text", \n with all'
    body["usage"].update(prompt_tokens=123456, completion_tokens=0)
    ((raws, answers),) = found.runs([json.dumps(again).encode()])
    assert len(raws) == 1
    assert answers == UsualAnswers(["a 2"], ["other"], ['a longer "text", \n with all'], ["123456"], ["0"], "m")


def test_a_shape_that_is_learnt_meanwhile_changes_nothing(tmp_path: Path) -> None:
    """Lines that were matched by one shape are read by it, though a strange one among them taught another."""

    def line(number: int, **usage: int) -> bytes:
        value = copy.deepcopy(ANSWER)
        value.update(id=f"b{number}", custom_id=f"row-{number}")
        value["response"]["body"]["usage"] = usage
        return json.dumps(value).encode()

    one = [line(number, prompt_tokens=7, completion_tokens=2) for number in range(8)]
    strange, cut = (line(number, completion_tokens=2, prompt_tokens=7) for number in (8, 9))
    cut = cut.replace(b'"stop"', b'"length"')  # it makes a shape wanted, and cannot teach one
    blocks = [[one[0]], [cut], [*one[1:4], strange, *one[4:]]]
    told = []
    for many in (True, False):
        with Spool(tmp_path / "spool", Disk()) as spool:
            table = Csv(WholeFile(tmp_path / "t.csv", Disk()), columns_of([], {CHAT}, {}))
            into, shown = _Into(spool, CHAT, Expected(), table), _Shown()
            seen: set[tuple[str, str]] = set()
            for some in blocks if many else [[raw] for block in blocks for raw in block]:
                into.keep(Lines(some), shown, seen)
            reading = Reading(spool, shown.rows, size=spool.settle())
            places = [row if isinstance(row, int) else row.place for row in shown.rows.values()]
            told.append((list(shown.rows), reading.kept(places), shown.usage))
    assert told[0] == told[1]


def test_a_mixture_of_shapes_costs_few_trials() -> None:
    """Of many blocks of strange lines few are tried, and of those few ask for a shape; what is alike is found again."""
    first = json.dumps(ANSWER).encode()
    found, wanted, tried = UsualLines(), 0, 0
    found.learn(first)
    assert found._shape is not None
    findall = found._shape.findall

    def counted(block: bytes) -> list[tuple[bytes, ...]]:
        nonlocal tried
        tried += 1
        return findall(block)

    found._shape = found._shape._replace(findall=counted)
    for _ in range(1000):
        assert list(found.runs([b"{}"] * 3)) == [([b"{}"] * 3, None)]
        wanted += found.learning
        found.learning = False
    assert (tried, wanted) == (11, 4)
    for _ in range(24):  # the next trial is the one after 1,024 in vain
        list(found.runs([b"{}"] * 3))
    for _ in range(2):
        ((_, answers),) = found.runs([first])
        assert answers is not None


def test_a_usual_answer_is_known_as_one() -> None:
    """Or the short way would never be taken, and the test above hold nothing."""
    found = usual(ANSWER)
    assert found is not None
    assert (found.custom_id, found.text, found.prompt_tokens, found.completion_tokens) == ("row-1", '=1, "yes"', 7, 2)


def test_what_is_packed_is_the_row_that_would_have_been_written(tmp_path: Path) -> None:
    """With a source row before it or none, with a formula, quotes and line ends in the cells."""
    raw = json.dumps(ANSWER).encode()
    result = Result("row-1", "succeeded", raw, None, CHAT)
    answer = usual(ANSWER)
    assert answer is not None
    for source in (["a,b", "", "=1"], [""], []):
        written = []
        for packs in (False, True):
            path = tmp_path / f"{len(source)}{packs}.csv"
            columns = columns_of([f"c{number}" for number in range(len(source))], {CHAT}, {})
            with WholeFile(path, Disk()) as file, (table := Csv(file, columns)):
                packed = table.pack_usual(UsualAnswers.of(answer))[0] if packs else None
                table.add(result._replace(line=None, packed=packed) if packs else result, source)
            written.append(path.read_bytes())
        assert written[0] == written[1]
