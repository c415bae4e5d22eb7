"""Two validators, one verdict: what the fast path accepts is exactly what the reference accepts.

More examples than in CI: AGREEMENT_EXAMPLES=20000 pytest tests/request_lines/test_request_line_agreement.py
"""

from __future__ import annotations

import copy
import json
import os
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.sample_requests import VALID, nested

from doubleword.request_lines.checker import Checker, accepts_by_reference

EXAMPLES = int(os.environ.get("AGREEMENT_EXAMPLES", "300"))
thorough = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))

FAST = Checker()

# Tokens that stand for themselves in the text of a line, where a JSON library would never write them.
RAW = [
    "NaN", "Infinity", "-Infinity", "1e400", "-1e400", "1e-400", "1E5", "0.10", "-0", "01", "+1", ".5", "1.",
    "18446744073709551615", "18446744073709551616", "-9223372036854775808", "-9223372036854775809", "1" * 400,
    "0.1234567890123456789", "1e19", "123456789012345678901234567890.5", "'x'", "undefined", "",
    '"\\ud800"', '"\\udc00\\ud800"', '"\\ud83d\\ude00"', '"\\u003a"', '"\\u0000"', '"\\x"', '"\t"', '"\x7f"', '":"',
    '{"a":1,"a":2}', '{"a":":","a":"\\u003a"}', '{"a":1,"\\u0061":2}', '{"a":{"b":1,"b":1}}', '{"a":"","a":1e10}',
    '[{"":1,"":1}]', '{"a":1,"b":{"a":1}}', nested(100), nested(123), nested(124), nested(125), nested(126),
    nested(400), nested(2000), '"1234567890123456789"', '"' + "9" * 40 + '"', "[1,]", "{,}", "/* */ 1",
]  # fmt: skip

names = st.sampled_from(
    ["custom_id", "method", "url", "body", "model", "messages", "input", "prompt", "role", "content", "type", "text",
     "stream", "temperature", "top_p", "max_tokens", "n", "stop", "seed", "logprobs", "tools", "tool_choice",
     "response_format", "reasoning", "reasoning_effort", "thinking", "chat_template_kwargs", "name", "strict", "x"]
)  # fmt: skip
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.integers(-3, 200)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["é" * 32, "日" * 22, "a\x85", " a"])
    | st.sampled_from(["user", "tool", "text", "auto", "json_schema", "function", "POST", "/v1/responses", "", "a\n"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4) | names, inner, max_size=3),
    max_leaves=6,
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every container of `value` with each of its keys or indexes."""
    found: list[tuple[Any, Any]] = []
    if isinstance(value, (dict, list)):
        for key in value if isinstance(value, dict) else range(len(value)):
            found.append((value, key))
            found.extend(places(value[key]))
    return found


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    """A valid line, then mutated as a value, as text and as bytes, each or not at all."""
    value = copy.deepcopy(draw(st.sampled_from(VALID)))
    raw: dict[str, str] = {}
    for _ in range(draw(st.integers(0, 2))):
        spots = places(value)
        if not spots:
            break
        holder, key = draw(st.sampled_from(spots))
        change = draw(st.sampled_from(["replace", "raw", "remove", "add", "key"]))
        if change == "replace":
            holder[key] = draw(json_values)
        elif change == "raw":
            holder[key] = mark = f"@raw{len(raw)}@"
            raw[json.dumps(mark)] = draw(st.sampled_from(RAW))
        elif change == "remove":
            del holder[key]
        elif isinstance(holder, dict):
            holder[draw(names | st.text(max_size=3))] = draw(json_values) if change == "add" else holder.pop(key)
        else:
            holder.insert(key, draw(json_values))
    style: dict[str, Any] = draw(
        st.sampled_from(
            [{"separators": (",", ":"), "ensure_ascii": False}, {}, {"indent": 1}, {"separators": (" , ", " : ")}]
        )
    )
    text = json.dumps(value, **style).replace("\n", draw(st.sampled_from(["", " ", "\r", "\t"])))
    for mark, token in raw.items():
        text = text.replace(mark, token)
    line = text.encode("utf-8", "surrogatepass")
    if draw(st.integers(0, 9)) == 0 and line:
        at = draw(st.integers(0, len(line) - 1))
        line = line[:at] + draw(st.binary(max_size=2)) + line[at + draw(st.integers(0, 2)) :]
    around = draw(
        st.sampled_from([b"%s"] * 12 + [b" %s\r", b"\xef\xbb\xbf%s", b"%s %s", b"[%s]", b"\x0b%s", b"\xc2\xa0%s"])
    )
    return around.replace(b"%s", line)


GOOD = json.dumps(VALID[0]).encode()


def agree(line: bytes) -> None:
    accepted, problems = FAST.accepts(line), FAST.explain(line)
    assert (accepts_by_reference(line) is None) == bool(problems)
    together = FAST.accepts_each([GOOD, line, GOOD])
    assert together[1] == accepted, f"among others: {together[1]!r}, line: {line[:500]!r}"
    assert None not in together[::2], "the lines beside it"
    assert (accepted is None) == bool(problems), f"fast: {accepted!r}, reference: {problems!r}, line: {line[:500]!r}"
    if accepted is not None:
        assert accepted == json.loads(line), f"read differently: {line[:500]!r}"


@thorough
@given(lines())
def test_mutated_lines_get_one_verdict(line: bytes) -> None:
    """A valid line changed as a value, as text or as bytes is accepted by both or by neither."""
    agree(line)


@thorough
@given(json_values | st.builds(dict, custom_id=json_values, method=json_values, url=json_values, body=json_values))
@example("\ud800")
def test_random_json_gets_one_verdict(value: Any) -> None:
    """JSON of any shape is accepted by both or by neither."""
    agree(json.dumps(value).encode())


@pytest.mark.parametrize("token", RAW, ids=range(len(RAW)))
@pytest.mark.parametrize("place", ["body", "value", "key", "line"])
def test_odd_tokens_get_one_verdict(token: str, place: str) -> None:
    """What JSON readers disagree on is decided the same way wherever it stands."""
    frame = {
        "body": '{"custom_id":"a","method":"POST","url":"/v1/embeddings","body":%s}',
        "value": '{"custom_id":"a","method":"POST","url":"/v1/embeddings","body":{"model":"m","input":"x:","more":%s}}',
        "key": '{"custom_id":"a","method":"POST","url":"/v1/embeddings","body":{"model":"m","input":"x","%s":1}}',
        "line": "%s",
    }[place]
    agree((frame % token).encode("utf-8", "surrogatepass"))


@thorough
@given(st.data())
def test_a_key_that_stands_twice_is_always_seen(data: st.DataObject) -> None:
    """A member written a second time into any object of a valid line is refused, however it is spelled."""
    value = data.draw(st.sampled_from(VALID))
    separators = data.draw(st.sampled_from([(",", ":"), (", ", ": ")]))
    text = json.dumps(value, separators=separators)
    holder, key = data.draw(st.sampled_from([place for place in places(value) if isinstance(place[0], dict)]))
    whole = json.dumps(holder, separators=separators)
    spelled = "".join(f"\\u{ord(letter):04x}" for letter in key) if data.draw(st.booleans()) else key
    again = data.draw(st.sampled_from(['""', '":::"', '"\\u003a\\u003A"', "1e10", "null", json.dumps(holder[key])]))
    doubled = text.replace(whole, f'{{"{spelled}":{again},{whole[1:]}', 1)
    assert doubled != text
    assert FAST.accepts(text.encode()) is not None
    assert FAST.accepts(doubled.encode()) is None, doubled
