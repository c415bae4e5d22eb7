"""The table of all results: what it counts is exact, and what it chooses is what went wrong, then what a seed draws."""

from __future__ import annotations

import json
import random
import statistics
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from doubleword.report.answer_table import GOOD, LONGEST, MOST_FIELDS, OPEN, WRONG, AnswerTable
from doubleword.results.result import Result
from doubleword.tables.database import Database

CHAT = "/v1/chat/completions"


@pytest.fixture
def table(tmp_path: Path) -> Iterator[AnswerTable]:
    with Database(tmp_path) as target:
        yield AnswerTable(target)


def answered(custom_id: str, text: str, tokens: int = 3, flaws: tuple[str, ...] = (), created: Any = 1000) -> Result:
    """A request that was answered with `text`."""
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 1, "completion_tokens": tokens}
    body = {"model": "m", "created": created, "choices": [choice], "usage": usage}
    line = json.dumps({"id": "x", "custom_id": custom_id, "response": {"status_code": 200, "body": body}}).encode()
    return Result(custom_id, "succeeded", line, None, CHAT, flaws)


def filled(table: AnswerTable, *results: Result) -> AnswerTable:
    """The table with these results in it."""
    for one in results:
        table.add(one)
    table.finish()
    return table


def test_a_histogram_holds_every_number_and_nothing_else(table: AnswerTable) -> None:
    """Its quantiles are nearest ranks; its bars add up, follow each other and hold what stands between their ends."""
    rng = random.Random(5)
    numbers = [rng.randint(3, 400) for _ in range(999)]
    found = filled(table, *(answered(f"r{n}", "x", n) for n in numbers)).numbers("completion_tokens")
    assert found is not None
    assert (found.count, found.low, found.high) == (999, min(numbers), max(numbers))
    assert (found.median, found.most) == (statistics.median(numbers), sorted(numbers)[949])
    assert [one.times for one in found.bars] == [sum(one.low <= n <= one.high for n in numbers) for one in found.bars]
    assert sum(one.times for one in found.bars) == 999 and 10 < len(found.bars) < 30
    assert all(after.low == before.high + 1 for before, after in zip(found.bars, found.bars[1:], strict=False))


def test_one_far_number_does_not_flatten_all_others(table: AnswerTable) -> None:
    """It has the last bar, which says how far it reaches."""
    few = [answered(f"r{n}", "x", 10 + n % 30) for n in range(300)]
    found = filled(table, *few, answered("far", "x", 50_000)).numbers("completion_tokens")
    assert found is not None and len(found.bars) > 10
    assert (found.bars[-1].high, found.high) == (50_000, 50_000)


@pytest.mark.parametrize("values", [[7] * 5, [1e300, -1e300], [0.1, 0.2, 0.3], [2**60, 2**60 + 5000], [-3, 0, 5]])
def test_numbers_of_any_size_have_a_few_bars(table: AnswerTable, values: list[float]) -> None:
    """One value alone, the largest there are, fractions, negative ones: each stands in a bar."""
    many = [answered(f"r{n}", json.dumps({"x": value + n * value / 1e6})) for n, value in enumerate(values * 7)]
    (found,) = filled(table, *many).fields()
    assert found.numbers is None or (1 <= len(found.numbers.bars) <= 30)
    counted = found.numbers.bars if found.numbers else found.bars
    assert sum(one.times for one in counted) <= len(many) and counted


def test_no_number_is_no_histogram(table: AnswerTable) -> None:
    """A time that is none is not drawn."""
    assert filled(table, answered("a", "x", created=0), answered("b", "x", created="soon")).numbers("created") is None


def test_fields_are_counted_over_all_answers(table: AnswerTable) -> None:
    """Words by frequency, few numbers in their order, lists item by item; nulls are counted, free text is told."""
    rng = random.Random(2)
    answers: list[dict[str, Any]] = [
        {
            "mood": rng.choice(["good", "bad"]), "stars": rng.randint(1, 5), "tags": rng.sample(["a", "b", "c"], 2),
            "why": f"because {n}", "ok": rng.choice([True, None]), "score": n / 7, "inner": {"x": 1},
        }
        for n in range(200)
    ]  # fmt: skip
    made = filled(
        table, *(answered(f"r{n}", json.dumps(one)) for n, one in enumerate(answers)), answered("t", "no JSON")
    )
    fields = {one.name: one for one in made.fields()}
    assert list(fields) == ["mood", "stars", "tags", "why", "ok", "score", "inner"]

    def bars(name: str) -> list[tuple[str, int]]:
        return [(one.value, one.times) for one in fields[name].bars]

    assert dict(bars("mood")) == Counter(one["mood"] for one in answers)
    assert bars("stars") == [(str(star), sum(one["stars"] == star for one in answers)) for star in range(1, 6)]
    assert dict(bars("tags")) == Counter(tag for one in answers for tag in one["tags"])
    assert dict(bars("ok")) == {
        "true": sum(one["ok"] is True for one in answers),
        "null": 200 - dict(bars("ok"))["true"],
    }
    assert fields["why"].is_free and not fields["why"].choices and fields["stars"].choices == ["1", "2", "3", "4", "5"]
    assert fields["score"].numbers is not None and fields["score"].numbers.high == pytest.approx(199 / 7)
    assert bars("inner") == []


@pytest.mark.parametrize("name", ["", "a/b", "~0", "$[0]", "it's", '"', "0", "a.b", "*", "é\x00"])
def test_a_field_may_have_any_name(table: AnswerTable, name: str) -> None:
    """None becomes SQL, a path or another field."""
    made = filled(table, *(answered(f"r{n}", json.dumps({name: "yes", "x": "no"})) for n in range(3)))
    first = next(made.fields())
    assert (first.name, [(one.value, one.times) for one in first.bars]) == (name, [("yes", 3)])


def test_of_very_many_fields_some_are_counted(table: AnswerTable) -> None:
    """The first ones."""
    wide = {f"f{n:03}": n for n in range(500)}
    assert [one.name for one in filled(table, answered("a", json.dumps(wide))).fields()] == list(wide)[:MOST_FIELDS]


def test_what_went_wrong_is_chosen_first_then_a_sample_then_what_is_open(table: AnswerTable) -> None:
    """A flawed answer went wrong too; the counts are of all requests, chosen or not."""
    good = [answered(f"g{n}", "x") for n in range(50)]
    bad = [Result("f", "failed", None, "HTTP 500", CHAT), answered("t", "x", flaws=("truncated", "empty"))]
    made = filled(table, *good[:30], Result("o", "pending", None, None, CHAT), *bad, *good[30:])
    chosen = made.choose(1, 20)
    assert {one.custom_id for one in chosen[:2]} == {"f", "t"} and {one.kind for one in chosen[2:]} == {GOOD}
    assert made.wrong() == 2
    assert [one.kind for one in chosen] == [WRONG] * 2 + [GOOD] * 18
    assert {one.custom_id: one.place for one in chosen}["f"] == 32
    assert OPEN not in {one.kind for one in chosen}


def test_a_seed_draws_the_same_ids_wherever_they_stand(tmp_path: Path) -> None:
    """So that jobs over the same rows show the same ones; another seed draws others."""

    def drawn(seed: int, order: list[int]) -> list[str]:
        with Database(tmp_path) as target:
            made = filled(AnswerTable(target), *(answered(f"r{n}", f"{n}") for n in order))
            return [one.custom_id for one in made.choose(seed, 20)]

    numbers = list(range(200))
    assert drawn(1, numbers) == drawn(1, numbers[::-1]) != drawn(2, numbers)
    assert len(set(drawn(1, numbers))) == 20 and drawn(1, numbers) != [f"r{n}" for n in range(20)]


def test_a_very_long_answer_says_how_much_of_it_is_left_out(table: AnswerTable) -> None:
    """In characters, not in bytes."""
    (only,) = filled(table, answered("a", "é" * (LONGEST + 7))).choose(1, 5)
    assert only.answer == "é" * LONGEST + " … [7 characters more]"


def test_half_an_emoji_is_no_end(table: AnswerTable) -> None:
    """Nor is NUL: an answer stands in the table whatever it holds."""
    (only,) = filled(table, answered("a", "\ud83d and \x00 and '); DROP TABLE answers; --")).choose(1, 5)
    assert only.answer == "? and \x00 and '); DROP TABLE answers; --"
