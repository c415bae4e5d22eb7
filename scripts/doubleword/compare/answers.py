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
from doubleword.failure import plain
from doubleword.request_lines.form_arguments import bad_arguments
from doubleword.results.expected import Expected
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


def answered_in(lines: Iterable[bytes], endpoint: str) -> list[result_lines.Line]:
    """Those of `lines` that are answers, good or not."""
    judged_lines = (result_lines.judge(raw, endpoint) for raw in lines)
    return [line for line in judged_lines if line is not None and line.cause is None]


def answers_of(
    requests: Sequence[tuple[str, dict[str, Any]]], lines: Iterable[bytes], expected: Expected
) -> list[Answer]:
    """The answer to each request in its order, out of result lines; of several for one the last."""
    endpoint, found = requests[0][1]["url"], dict[str, Answer]()
    for raw in lines:
        value = result_lines.parse(raw)
        if value is not None and isinstance(value.get("custom_id"), str):
            found[value["custom_id"]] = _answer(raw, value, endpoint, expected)
    missing = Answer("missing", cause="it was not asked yet")
    return [found.get(custom_id, missing) for custom_id, _ in requests]


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
    status = INVALID if INVALID in seen.flaws else "failed" if seen.cause else "succeeded"
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
