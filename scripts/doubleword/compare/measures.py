"""What answers say of their variants: each by itself, and each pair.

Promises: only rows that both sides answered are compared; rows without an expectation are not measured; two texts are
the same where only blanks around them and the case of letters differ, two numbers where they are equal.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from doubleword.answers.judgement import INVALID
from doubleword.compare.answers import Answer
from doubleword.compare.sample import Side
from doubleword.compare.statistics import better, classes, kappa, mean, p_value, share

NUMBER = re.compile("-?(0|[1-9][0-9]*)([.][0-9]+)?")  # no 007, which is a code
LOWEST, HIGHEST = 1, 5  # grades of a judge
FEW_CLASSES = 20  # up to so many different expectations are classes


def said(text: str | None) -> str:
    """What a text says, the same for all that count as the same."""
    bare = (text or "").strip().casefold()
    return bare.rstrip("0").rstrip(".") if "." in bare and NUMBER.fullmatch(bare) else bare


def measure(one: Side, expected: Sequence[str | None] | None) -> dict[str, Any]:
    """The keys `accuracy`, `classes`, `confusion` and `remarks`, as far as something is `expected` of the rows, or a
    person marked the answers.

    Notes in `one` which of them are right. An answer that breaks its schema is wrong; a request that failed is not
    measured.
    """
    if one.marks is not None:
        one.right = [one.marks.get(custom_id) for custom_id, _ in one.requests]
        return _accuracy(one.right)
    if expected is None:
        return {}
    pairs, right = list[tuple[str, str]](), list[bool | None]()
    for answer, wanted in zip(one.answers, expected, strict=True):
        if not (wanted or "").strip() or answer.status not in ("succeeded", INVALID):
            right.append(None)
            continue
        given = answer.text if one.expected is None else answer.fields.get(one.expected)
        pairs.append((said(wanted), said(given) if answer.status == "succeeded" else f"({INVALID})"))
        right.append(pairs[-1][0] == pairs[-1][1])
    one.right, found = right, _accuracy(right)
    among = sum(wanted != given and _is_among(wanted, given) for wanted, given in pairs)
    if among:
        step = "ask for that alone, or by --response-schema"
        found["remarks"] = [f"{among} wrong answers hold what is expected among other words: {step}"]
    if pairs and len({wanted for wanted, _ in pairs}) <= min(FEW_CLASSES, max(2, len(pairs) // 2)):
        found |= classes(pairs)
    return found


def _accuracy(right: Sequence[bool | None]) -> dict[str, Any]:
    """The key `accuracy` of answers that are right or not; None is a row that is not measured."""
    count, rows = right.count(True), len(right) - right.count(None)
    return {"accuracy": {**share(count, rows), "right": count, "rows": rows}}


def _is_among(wanted: str, given: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(wanted)}(?!\w)", given) is not None


def graded(one: Side) -> dict[str, Any]:
    """The mean grade with its interval, as far as that is within the grades, and how many rows were graded."""
    grades = [grade for grade in one.scores if grade is not None]
    found = {name: None if end is None else min(max(end, LOWEST), HIGHEST) for name, end in mean(grades).items()}
    return {**found, "rows": len(grades)}


def pairs_of(every: Sequence[Side]) -> list[dict[str, Any]]:
    """The keys of each pair, in the order of the variants."""
    found = list(itertools.combinations(every, 2))
    return [_pair(one, other, len(found)) for one, other in found]


def _pair(one: Side, other: Side, pairs: int) -> dict[str, Any]:
    both = [(a, b) for a, b in zip(one.answers, other.answers, strict=True) if a.status == b.status == "succeeded"]
    fields = [name for name in one.fields if name in other.fields]
    structured = bool(fields) and list(one.fields) == list(other.fields)
    told = [(_whole(a, fields, structured), _whole(b, fields, structured)) for a, b in both]
    agreed = share(sum(a == b for a, b in told), len(told))
    found: dict[str, Any] = {
        "a": one.name,
        "b": other.name,
        "rows": len(both),
        "agreement": agreed["value"],
        "low": agreed["low"],
        "high": agreed["high"],
        "kappa": kappa(told),
    }
    if fields:
        found["fields"] = {name: _field(name, both) for name in fields}
    if one.right and other.right:
        found["expected"] = _won(one, other, list(zip(one.right, other.right, strict=True)), pairs)
    if one.grades and other.grades:
        found["judge"] = _won(one, other, list(zip(one.scores, other.scores, strict=True)), pairs)
    return found


def _whole(answer: Answer, fields: Sequence[str], structured: bool) -> tuple[str, ...]:
    """What an answer says: all its fields where both sides have the same, else its text."""
    return tuple(said(answer.fields.get(name)) for name in fields) if structured else (said(answer.text),)


def _field(name: str, both: Sequence[tuple[Answer, Answer]]) -> dict[str, Any]:
    told = [(said(a.fields.get(name)), said(b.fields.get(name))) for a, b in both]
    return {"agreement": share(sum(a == b for a, b in told), len(told))["value"], "kappa": kappa(told)}


def _won(one: Side, other: Side, rows: Sequence[tuple[Any, Any]], pairs: int) -> dict[str, Any]:
    """On how many rows each was better than the other, how likely chance alone makes it so, and who is better."""
    known = [(a, b) for a, b in rows if a is not None and b is not None]
    a, b = sum(x > y for x, y in known), sum(x < y for x, y in known)
    name = better(one.name, other.name, a, b, pairs)
    return {"a_only": a, "b_only": b, "p": p_value(a, b), "better": name}


def column_named(wanted: str, names: Sequence[str]) -> str | None:
    """The column that `--expected COLUMN` or FIELD=COLUMN names, None for none of `names`."""
    return next((one for one in (wanted, wanted.partition("=")[2]) if one in names), None)


def expected_field(
    wanted: str, names: Sequence[str], fields: Mapping[str, Sequence[str]]
) -> tuple[int, dict[str, str]]:
    """Which column `--expected` means, and which field of each variant with fields it is held against.

    `wanted` is COLUMN or FIELD=COLUMN. Raises ValueError with one sentence where that cannot be told.
    """
    column = column_named(wanted, names)
    if column is None:
        raise ValueError(f"there is no column, nor a file, {wanted}; the columns are: {', '.join(names[:20])}")
    field_named = wanted.partition("=")[0] if column != wanted else None
    found = {}
    for name, own in fields.items():
        choice = field_named or (column if column in own else own[0] if len(own) == 1 else None)
        if own and choice not in own:
            raise ValueError(f"it is not known which field of {name} is expected; it has {', '.join(own[:20])}")
        if own and choice is not None:
            found[name] = choice
    return names.index(column), found
