"""JSON as models write it: cells by their own digits, and what is written again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from doubleword.answers.json_text import candidates, fields_of, read, written
from doubleword.answers.lines import parse
from doubleword.answers.schema import Schema


@pytest.mark.parametrize(
    ("text", "cells"),
    [
        ('{"a": 9400111899223197428490}', {"a": "9400111899223197428490"}),
        ('{"a": 0.1234567890123456789, "b": 1E5, "c": -0, "d": 1.50}',
         {"a": "0.1234567890123456789", "b": "1E5", "c": "-0", "d": "1.50"}),
        ('{"a": {"b": [9400111899223197428490, 0.1234567890123456789, 1.50]}}',
         {"a": '{"b": [9400111899223197428490, 0.1234567890123456789, 1.50]}'}),
        ('{ "a" : "x\\u00e9\\n" , "b":true,"c":null, "d": false }',
         {"a": "xé\n", "b": "true", "c": None, "d": "false"}),
        ('{"a": [ "\\u00e9", null ]}', {"a": '["é", null]'}),
        ('{"a": "\\ud83d", "b" : {"c": 1.50} , "d": []}', {"a": "\ud83d", "b": '{"c": 1.50}', "d": "[]"}),
        ('{"a": "\ud83d"}', {"a": "\ud83d"}),
        ('{"a": ' + "7" * 5000 + "}", {"a": "7" * 5000}),
        ('{"a": [' + "7" * 5000 + "]}", {"a": "[" + "7" * 5000 + "]"}),
        ('{"a": ["\\ud83d"]}', {"a": '["\\ud83d"]'}),
        ("{}", {}),
        ("[1]", {}),
        ("{", {}),
        ('{"a": NaN}', {}),
        ("[" * 100_000, {}),
        ('{"a": "\\ud83d", }', {}),
    ],
)  # fmt: skip
def test_properties_become_cells_by_their_own_digits(text: str, cells: dict[str, str | None]) -> None:
    """Texts decoded, numbers as they were written, alone or nested; what is no JSON object has none."""
    assert fields_of(text) == cells


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": [1.5, 10**30, float("nan"), float("inf")]}, '{"a": [1.5, 1000000000000000000000000000000, null, null]}'),
        (["é", "\ud800", {"\ud800": 1}], '["é", "?", {"?": 1}]'),
        ([], "[]"),
    ],
)
def test_what_is_written_is_json(value: Any, text: str) -> None:
    """Without NaN and without half characters."""
    assert written(value) == text
    json.loads(text)


def test_numbers_of_a_line_know_their_digits() -> None:
    """In arguments that are no text; those of vectors are plain floats, as there are many."""
    value = parse(b'{"arguments": [0.1234567890123456789, 9400111899223197428490, 1.50]}')
    assert written(value) == '{"arguments": [0.1234567890123456789, 9400111899223197428490, 1.50]}'
    assert json.loads(json.dumps(value)) == {"arguments": [0.12345678901234568, 9400111899223197428490, 1.5]}
    odd = parse(b'{"input": "\\ud800", "b": 0.1234567890123456789, "c": -Infinity, "d": ' + b"7" * 5000 + b"}")
    assert odd is not None and written(odd["b"]) == "0.1234567890123456789" and written(odd["d"]) == "7" * 5000
    vectors = parse(b'{"input": "a", "embedding": [0.1234567890123456789, NaN]}')
    assert vectors is not None and [type(one) for one in vectors["embedding"]] == [float, float]


@pytest.mark.parametrize("text", ["NaN", "-Infinity", "{'a': 1}", "[1,]", "01", '"\n"', "", "\ufeff1", "[" * 100_000])
def test_what_is_no_json_is_not_read(text: str) -> None:
    """What other readers let through, too."""
    with pytest.raises(ValueError):
        read(text)


HOSTILE = [
    "```json\n{",
    "<think>",
    "</think>",
    "<think></think>",
    "`",
    "``` ",
    "```" + " " * 999,
    "<|x|>",
    "<answer>",
    "` ",
    "json ",
    "```json title=a\n",
    "assistantfinal`",
    "final",
    "final<|message|>",
    " ",
    "{",
    "x",
]


@pytest.mark.parametrize("part", HOSTILE)
def test_a_hostile_answer_costs_no_more_than_its_length(part: str) -> None:
    """Thousands of fences and thoughts, nested or not, and none of them the answer."""
    text = part * (1_000_000 // len(part)) + "x"
    assert len(list(candidates(text))) < 5
    assert Schema().take(text).cause == "the answer is not JSON, as it was to be"
