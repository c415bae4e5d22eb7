"""Templates: what is filled from a row, what is refused, and the ids that are made of rows."""

from __future__ import annotations

import json
from typing import Any

import pytest

from doubleword.failure import Exit, Failure
from doubleword.request_lines.templates import custom_id, fill, filler
from doubleword.tables.rows import BadRow, Row


def row(number: int, values: dict[str, Any], problem: str | None = None) -> Row:
    """A row of these values, as a source of JSON gives it."""
    cells = [one if one is None or isinstance(one, str) else json.dumps(one) for one in values.values()]
    return Row(number, tuple(values), cells, None, problem)


ROW = row(
    7, {"Title": "Up", "US Gross": 293004164, "Rating": 8.5, "Tags": ["a", {"b": None}], "Won": True, "None": None}
)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{Title}", "Up"),
        ("{Title}/{Title} of {US Gross} ({Rating})", "Up/Up of 293004164 (8.5)"),
        ('Answer as {{"film": "{Title}"}}', 'Answer as {"film": "Up"}'),
        ("{{{Title}}}", "{Up}"),
        ("100 % of {Title} %s", "100 % of Up %s"),
        ("{Tags} {Won}", '["a", {"b": null}] true'),
        ("{ Title}", "Up"),
        ("no place", "no place"),
        ("", ""),
    ],
)
def test_a_template_is_filled_from_the_row(template: str, text: str) -> None:
    """Texts stand as they are, other values as JSON, doubled braces as one; the fast way gives the same."""
    assert fill(template, ROW) == text
    quick = filler(template, ROW.names)
    assert quick is None if "{" not in template else quick is not None and quick([ROW.number, *ROW.cells]) == text


NESTED = row(
    3,
    {"author": {"name": "Kim", "first.name": "x"}, "tags": ["a", {"b": 2}], "a.b": "dot", "a": {"b": 1}, "none": None},
)


@pytest.mark.parametrize(
    ("template", "text"),
    [("{author.name}", "Kim"), ("{tags.0}{tags.1.b}", "a2"), ("{a.b}", "dot"), ("{tags.1}", '{"b":2}')],
)
def test_dots_lead_into_nested_values(template: str, text: str) -> None:
    """By name or by number from 0; a column of that very name comes first."""
    assert fill(template, NESTED) == text


@pytest.mark.parametrize(
    ("template", "code"),
    [
        ("{author.age}", "missing_column"),
        ("{author.name.x}", "missing_column"),
        ("{tags.x}", "missing_column"),
        ("{nobody.name}", "missing_column"),
        ("{tags.2}", "empty_value"),
        ("{none.name}", "empty_value"),
    ],
)
def test_dots_that_lead_nowhere_are_refused(template: str, code: str) -> None:
    """A null on the way, or a list that ends before, is an empty value; a name that is not there a missing column."""
    with pytest.raises(BadRow) as caught:
        fill(template, NESTED)
    assert (caught.value.row.number, caught.value.code) == (3, code)
    assert fill(template, NESTED, {template[1:-1]: "?"}) == "?"


def test_a_value_is_never_read_as_a_template() -> None:
    """Braces in a cell stay as they are, or a table could pull in other columns."""
    assert fill("{a}", row(1, {"a": "{b} {{ %s", "b": "secret"})) == "{b} {{ %s"


def test_of_many_columns_some_are_named_and_the_others_counted() -> None:
    """A message that says what there is does not leave columns out without a word."""
    with pytest.raises(BadRow, match=r"there are only: c0, c1, .* c29 and 10 more"):
        fill("{d}", row(1, {f"c{number}": "x" for number in range(40)}))


def test_a_missing_column_names_template_column_and_what_there_is() -> None:
    """Everything needed to mend the command stands in the message."""
    with pytest.raises(BadRow) as caught:
        fill("The {Titel}", ROW)
    assert caught.value.exit_code == Exit.BAD_INPUT
    assert caught.value.code == "missing_column"
    for part in ("The {Titel}", "column Titel", "Title, US Gross"):
        assert part in caught.value.message
    assert "{{ and }}" in caught.value.hint


@pytest.mark.parametrize("value", [None, "", "  \n"])
def test_an_empty_value_names_its_row(value: object) -> None:
    """Null, and nothing but white space, would make a prompt with a hole in it."""
    with pytest.raises(BadRow) as caught:
        fill("{a}", row(12, {"a": value}))
    assert (caught.value.row.number, caught.value.cause) == (12, "the column a is empty")
    quick = filler("{a}", ("a",))
    assert quick is not None and quick([12, value]) is None


@pytest.mark.parametrize("template", ["{", "a } b", "{a", "{{a}", "{a}}"])
def test_a_lone_brace_is_no_template(template: str) -> None:
    """Whether a column or a brace was meant is not guessed."""
    with pytest.raises(Failure, match="lone") as caught:
        fill(template, ROW)
    assert not isinstance(caught.value, BadRow)


def test_a_row_that_could_not_be_read_fills_nothing() -> None:
    """Its problem is what the caller gets to hear, under its number."""
    with pytest.raises(BadRow, match="row 3: has 1 cells"):
        fill("constant", row(3, {}, "has 1 cells"))


def test_ids_keep_the_order_of_the_table() -> None:
    """The default sorts as text the way the rows stand; a template takes columns."""
    ids = [custom_id(None, row(number, {})) for number in (1, 2, 10, 99_999, 1_000_000)]
    assert ids == sorted(ids)
    assert ids[0] == "row-0000001"
    assert custom_id("film-{Title}", ROW) == "film-Up"
