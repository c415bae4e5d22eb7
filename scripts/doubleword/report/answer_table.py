"""All results of a job as a table of DuckDB: counted, drawn as histograms and bars, and chosen from.

Promises: every number is of all answers, and exact; the same seed chooses the same custom_ids in whatever job they
stand, so that jobs over the same rows show the same ones; no text of an answer becomes SQL.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from doubleword.answers import lines as result_lines
from doubleword.answers import usage as usage_of
from doubleword.answers.usual import UsualLine
from doubleword.quick_msgspec import Struct, encode
from doubleword.results.result import Good, Result
from doubleword.service import EMBEDDINGS
from doubleword.tables.database import Database, text
from doubleword.tables.staged import Staged

MEGABYTES = 160  # for the table; reading and judging a million results takes as much again
WRONG, GOOD, OPEN = range(3)  # in this order requests have a place in the page
LONGEST = 50_000  # characters of a text in the page
VECTOR = 400  # characters of a vector
BINS, BARS = 24, 12
FAR = 4  # where the highest hundredth takes so many times the room of all others, it has one bar
MOST_FIELDS = 24
LONGEST_CHOICE = 40
LOOKED_AT = 1000  # answers that tell which fields there are


class Bar(NamedTuple):
    """A bar: from where to where, or which value; and how often."""

    low: float
    high: float
    times: int
    value: str = ""


class Numbers(Struct, frozen=True):
    """A distribution of numbers: quantiles are nearest ranks; the last bar ends with the highest of all."""

    count: int
    low: float
    median: float
    most: float  # which 95 of 100 do not exceed
    high: float
    bars: list[Bar]


class Field(Struct, frozen=True):
    """What stands in one field of structured answers: its most frequent words, of `words` unlike ones in `total`
    places, those in lists counted one by one. Many unlike numbers are no words.
    """

    name: str
    bars: list[Bar]
    words: int
    total: int
    numbers: Numbers | None

    @property
    def is_free(self) -> bool:
        """Whether nearly every text is another, so that bars say nothing."""
        return self.words > BARS and 2 * self.words > self.total

    @property
    def choices(self) -> list[str]:
        """Its values, where they are so few and short that answers can be chosen by them; else none."""
        few = [bar.value for bar in self.bars]
        repeat = 1 < self.words <= BARS and 2 * self.words <= self.total
        return few if repeat and max(map(len, few)) <= LONGEST_CHOICE else []


class Shown(NamedTuple):
    """A request in the page, with its `place` among all of its job, from 1."""

    place: int
    custom_id: str
    kind: int
    status: str
    flaws: str | None
    cause: str | None
    answer: str | None
    finish: str | None
    model: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    created: int | None


NAMES = Shown._fields[1:]
TYPES = {name: "BIGINT" if "int" in str(Shown.__annotations__[name]) else "VARCHAR" for name in NAMES}


def _told(*cells: Any) -> dict[str, Any]:
    """A row as it is staged."""
    return dict(zip(NAMES, cells, strict=False))


class AnswerTable:
    """The results of one job, added in their order, then asked about; it is what a `Collector` packs answers by."""

    def __init__(self, target: Database) -> None:
        self._target = target
        target.allow(MEGABYTES)
        self._staged = Staged(target).__enter__()

    def pack(self, result: Result) -> bytes:
        """A result, as it is staged."""
        return self._staged.line(_cells(result))

    def pack_usual(self, answer: UsualLine) -> bytes:
        """A usual answer."""
        body, tokens = answer.response.body, answer.response.body.usage
        found = ("stop", body.model, tokens.prompt_tokens, tokens.completion_tokens, _seconds(body.created))
        return encode(_told(answer.custom_id, GOOD, "succeeded", None, None, answer.text, *found))

    def add(self, found: Result | Good) -> None:
        """Append one result, or good ones that follow each other."""
        self._staged.add_lines(found.packed_by(self))

    def finish(self) -> None:
        """Make the table of what was added."""
        self._staged.finish()
        self._target.run(
            f"CREATE TEMP TABLE answers AS SELECT row_number() OVER () AS place, * FROM {self._staged.sql(TYPES)}"
        )

    # What all answers are

    def wrong(self) -> int:
        """How many requests have no good answer, and are not open any more."""
        return int(self._target.run(f"SELECT count(*) FROM answers WHERE kind = {WRONG}")[0][0])

    def models(self) -> list[str]:
        """The models that answered, the most frequent first."""
        sql = "SELECT model FROM answers WHERE model <> '' GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 9"
        return [row[0] for row in self._target.run(sql)]

    def numbers(self, sql: str, source: str = "answers") -> Numbers | None:
        """The distribution of numbers that `sql` gives of a relation; None where it gives none."""
        relation = f"(SELECT CAST({sql} AS DOUBLE) AS x FROM {source}) WHERE isfinite(x)"
        quantiles = "quantile_disc(x, [0.5, 0.95, 0.99])"
        asked = f"SELECT count(*), min(x), max(x), {quantiles}, bool_and(x = floor(x)) FROM {relation}"
        count, low, high, found, whole = self._target.run(asked)[0]
        if not count:
            return None
        median, most, cut = found
        top = cut if high - low > FAR * (cut - low) > 0 else high
        step = _even((top - low) / BINS, 1.0 if whole else 0.0) if top > low else 1.0
        first, last = (math.floor(one / step + 1e-9) for one in (low, top))
        bins = f"least(floor(x / {step!r} + 1e-9), {last})"
        counts = dict(self._target.run(f"SELECT {bins}, count(*) FROM {relation} GROUP BY 1"))
        wide = step - 1 if whole else step  # whole numbers are said as 10 to 14, others as 1.5 to 2
        bars = [Bar(at * step, at * step + wide, counts.get(at, 0)) for at in range(first, last + 1)]
        bars[-1] = bars[-1]._replace(high=max(bars[-1].high, high))
        return Numbers(count, low, median, most, high, bars)

    def fields(self) -> Iterator[Field]:
        """The fields of structured answers, in the order of their appearance."""
        objects = "FROM answers WHERE status = 'succeeded' AND starts_with(answer, '{') AND json_valid(answer)"
        first = f"SELECT place, json_keys(answer) AS names {objects} ORDER BY place LIMIT {LOOKED_AT}"
        keys = f"SELECT unnest(names) AS name, unnest(range(len(names))) AS turn, place FROM ({first})"
        named = self._target.run(
            f"SELECT name FROM ({keys}) GROUP BY 1 ORDER BY min((place, turn)) LIMIT {MOST_FIELDS}"
        )
        for (name,) in named:
            pointer = text("/" + name.replace("~", "~0").replace("/", "~1"))
            value = f"json_extract(answer, {pointer})"
            items = f"CASE json_type({value}) WHEN 'ARRAY' THEN json_extract({value}, '$[*]') ELSE [{value}] END"
            self._target.run(f"CREATE OR REPLACE TEMP TABLE items AS SELECT unnest({items}) AS item {objects}")
            yield self._field(name)

    def _field(self, name: str) -> Field:
        numeric = "json_type(item) IN ('BIGINT', 'UBIGINT', 'DOUBLE')"
        unlike = self._target.run(f"SELECT count(DISTINCT item ->> '$') FROM items WHERE {numeric}")[0][0]
        numbers = self.numbers(f"CASE WHEN {numeric} THEN item END", "items") if unlike > BARS else None
        wordless = "json_type(item) IN ('OBJECT', 'ARRAY')" + (f" OR {numeric}" if numbers is not None else "")
        words = f"SELECT coalesce(item ->> '$', 'null') AS word FROM items WHERE NOT ({wordless})"
        count, total = self._target.run(f"SELECT count(DISTINCT word), count(word) FROM ({words})")[0]
        sql = f"SELECT word, count(*) FROM ({words}) GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {BARS}"
        bars = [Bar(0, 0, times, word) for word, times in self._target.run(sql)]
        if unlike and all(_number(bar.value) is not None for bar in bars):
            bars.sort(key=lambda bar: _number(bar.value) or 0)
        return Field(name, bars, count, total, numbers)

    # Those that stand in the page

    def choose(self, seed: int, most: int) -> list[Shown]:
        """At most `most` requests: those that went wrong first, then such as the seed draws, then open ones."""
        order = f"kind, md5(custom_id || ' {seed}'), place"
        chosen = f"SELECT place, row_number() OVER (ORDER BY {order}) AS turn FROM answers ORDER BY turn LIMIT {most}"
        self._target.run(f"CREATE TEMP TABLE chosen AS {chosen}")
        columns = ", ".join(clipped(one) if one == "answer" else one for one in TYPES)
        asked = f"SELECT place, {columns} FROM answers JOIN chosen USING (place) ORDER BY turn"
        return [Shown(*row) for row in self._target.run(asked)]


def clipped(sql: str) -> str:
    """SQL for a text as the page has it: a very long one ends with how much is left out."""
    more = f"printf('%s … [%d characters more]', left({sql}, {LONGEST}), length({sql}) - {LONGEST})"
    return f"CASE WHEN length({sql}) > {LONGEST} THEN {more} ELSE {sql} END"


def _even(least: float, lowest: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is at least `least` and `lowest`."""
    least = max(least, lowest, 1e-300)
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * one for one in (1, 2, 5, 10) if power * one >= least * (1 - 1e-9))


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None


def _cells(result: Result) -> dict[str, str | int | None]:
    """What is kept of a result; of an invalid answer too, which is an answer all the same."""
    plainly = result.kind == "succeeded" and not result.flaws
    kind = GOOD if plainly else OPEN if result.kind == "pending" else WRONG
    told = result.custom_id, kind, result.status, ", ".join(result.flaws) or None, result.cause
    body = result.answer()
    if body is None:
        return _told(*told)
    if result.endpoint == EMBEDDINGS:
        answer = result_lines.answer_text(body, EMBEDDINGS, result.form)
        answer = answer if len(answer) <= VECTOR else f"{answer[:VECTOR]} …"
    else:
        answer = result_lines.one_text(result.texts or result_lines.answer_texts(body))
    prompt, completion = usage_of.tokens(body)
    created = _seconds(body.get("completed_at") or body.get("created") or body.get("created_at"))
    model = str(body.get("model") or "")
    return _told(*told, answer, result_lines.finish_reason(body), model, prompt, completion, created)


def _seconds(value: Any) -> int | None:
    """A time in epoch seconds; None for what is none."""
    return int(value) if isinstance(value, (int, float)) and 0 < value < 1e11 else None
