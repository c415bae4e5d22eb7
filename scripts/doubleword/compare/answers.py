"""Answers: what each request of a variant was answered, read from its result lines.

Promises: answers are judged as `fetch_results.py` judges them, whichever way they came; a line that a power cut left
torn is none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from doubleword.answers import lines as result_lines
from doubleword.answers import usage as usage_of
from doubleword.answers.json_text import fields_of
from doubleword.answers.judgement import FLAWS, INVALID, judged
from doubleword.answers.lines import one_text
from doubleword.compare.sample import Sample
from doubleword.compare.variants import Variant
from doubleword.failure import plain
from doubleword.quick_msgspec import Struct, field
from doubleword.request_lines.form_arguments import bad_arguments
from doubleword.results.expected import Expected
from doubleword.results.result import Result
from doubleword.system import Disk
from doubleword.tables.relation import Settings
from doubleword.tables.sources.source import opened_table


class Answer(NamedTuple):
    """What became of one request: `status` as in an output, the text where there is an answer, its fields where it is
    a good one that obeys a schema, why it failed, its flaws, and its tokens (`{prompt, completion}`).
    """

    status: str
    text: str | None = None
    fields: Mapping[str, str | None] = {}
    cause: str | None = None
    flaws: Sequence[str] = ()
    tokens: Mapping[str, int | None] = {}

    @property
    def is_good(self) -> bool:
        """Whether there is an answer that is what was asked for."""
        return self.status == "succeeded" and bool((self.text or "").strip())


class Side(Struct):
    """A variant with the requests of its sample, and what became of them, row by row, once they were asked.

    `fields` are those of its answers, `told` the keys of its job, bill and failures. Where a judge grades, `graded` are
    the keys of his job, and `grades` his answers, None for none. `expected` is the field that is held against an
    expectation, None for the whole answer; `marks` are what a person thinks, by custom_id; `right` what came of either.
    """

    variant: Variant
    sample: Sample
    fields: Sequence[str] = ()
    told: dict[str, Any] = field(default_factory=dict)
    answers: Sequence[Answer] = ()
    graded: dict[str, Any] = field(default_factory=dict)
    grades: list[Answer | None] = field(default_factory=list)
    expected: str | None = None
    marks: Mapping[str, bool] | None = None
    right: Sequence[bool | None] = ()

    @property
    def name(self) -> str:
        """What the variant is called."""
        return self.variant.name

    @property
    def scores(self) -> list[int | None]:
        """The grades as numbers."""
        return [None if one is None else round(float(one.fields["score"] or 0)) for one in self.grades]


def lines_in(path: Path, disk: Disk) -> list[bytes]:
    """The result lines of a file; none where there is no file."""
    if disk.size(path) is None:
        return []
    with disk.open(path) as file:
        return [line for line in file.read().split(b"\n") if result_lines.parse(line) is not None]


def marks_in(path: Path, disk: Disk) -> dict[str, bool]:
    """By custom_id, whether a person marked the answer right; not those where he is unsure.

    Raises Failure (exit 2) where the file is no table with `custom_id` and `mark`.
    """
    with opened_table([str(path)], Settings(), disk) as table:
        if not {"custom_id", "mark"} <= set(table.names):
            raise bad_arguments(f"{plain(path, 80)} has no columns custom_id and mark", "save the marks from the page")
        rows = [row.values for row in table.rows()]
    known = {"right": True, "wrong": False}
    return {str(row["custom_id"]): known[str(row["mark"])] for row in rows if row["mark"] in known}


def answered_in(lines: Iterable[bytes], sample: Sample) -> list[result_lines.Line]:
    """Those of `lines` that are answers, good or not."""
    judged_lines = (result_lines.judge(raw, sample.endpoint) for raw in lines)
    return [line for line in judged_lines if line is not None and line.cause is None]


def answers_of(sample: Sample, lines: Iterable[bytes], expected: Expected) -> list[Answer]:
    """The answer to each request of `sample` in its order, out of result lines; of several for one the last."""
    endpoint = sample.endpoint
    found = {}
    for raw in lines:
        value = result_lines.parse(raw)
        if value is not None and isinstance(value.get("custom_id"), str):
            found[value["custom_id"]] = _answer(raw, value, endpoint, expected)
    missing = Answer("missing", cause="it was not asked yet")
    return [found.get(custom_id, missing) for custom_id, _ in sample.requests]


def _answer(raw: bytes, value: dict[str, Any], endpoint: str, expected: Expected) -> Answer:
    error = value.get("error")
    code = error.get("code") if isinstance(error, dict) else None
    if code == "invalid_answer":  # an answer all the same, which was paid for (`results.result.error_line`)
        value = {**value, "error": None}
    line = result_lines.judge_read(raw, value, endpoint)
    if line is None or line.cause is not None or line.body is None:
        if code in ("missing", "failed") and isinstance(error, dict):
            return Answer(str(code), cause=plain(error.get("message")))
        return Answer("failed", cause=line.cause if line is not None else "no answer")
    asked = expected.request(line.custom_id)
    seen = judged(line.body, endpoint, asked.schema, asked.form)
    status = Result("", "failed" if seen.cause else "succeeded", None, None, endpoint, seen.flaws).status
    fields = fields_of(seen.texts[0]) if asked.schema is not None and seen.texts and seen.cause is None else {}
    prompt, completion = usage_of.tokens(line.body)
    tokens = {"prompt": prompt, "completion": completion}
    return Answer(status, one_text(seen.texts), fields, seen.cause, seen.flaws, tokens)


def counted(answers: Sequence[Answer]) -> dict[str, Any]:
    """The keys `counts` and, where answers have flaws, `answers`, as `fetch_results.py` has them."""
    states = Counter(one.status for one in answers)
    flaws = Counter(flaw for one in answers for flaw in one.flaws)
    failed = states["failed"] + states[INVALID]
    counts = {"total": len(answers), "succeeded": states["succeeded"], "failed": failed, "missing": states["missing"]}
    return {"counts": counts, **({"answers": {name: flaws[name] for name in FLAWS}} if flaws else {})}
