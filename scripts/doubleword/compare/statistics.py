"""Statistics of a comparison: shares with their intervals, agreement beyond chance, whether a difference is one.

Promises: a share of nothing is null, never 0; an interval never leaves 0 to 1; of two variants neither is called better
where chance alone explains the difference as well.

Formulas: E. B. Wilson, "Probable Inference", JASA 22 (1927); J. Cohen, "A Coefficient of Agreement for Nominal Scales",
Educational and Psychological Measurement 20 (1960); Q. McNemar, Psychometrika 12 (1947), here in its exact form.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from statistics import NormalDist, fmean, stdev
from typing import Any

CONFIDENCE = 0.95
Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
SIGNIFICANT = 1 - CONFIDENCE
DIGITS = 4


def share(count: int, rows: int) -> dict[str, float | None]:
    """`count` of `rows` as `value`, with the `low` and `high` end of Wilson's interval at 95 %; null of no rows."""
    if not rows:
        return {"value": None, "low": None, "high": None}
    value, square = count / rows, Z * Z / rows
    middle = (value + square / 2) / (1 + square)
    half = Z / (1 + square) * math.sqrt(value * (1 - value) / rows + square / (4 * rows))
    low, high = 0.0 if not count else middle - half, 1.0 if count == rows else middle + half
    return {"value": _rounded(value), "low": _rounded(low), "high": _rounded(high)}


def mean(values: Sequence[float]) -> dict[str, float | None]:
    """The mean as `value`, with the ends of its interval at 95 % by the normal distribution; null of fewer than two."""
    if len(values) < 2:
        return {"value": _rounded(values[0]) if values else None, "low": None, "high": None}
    middle, half = fmean(values), Z * stdev(values) / math.sqrt(len(values))
    return {"value": _rounded(middle), "low": _rounded(middle - half), "high": _rounded(middle + half)}


def kappa(pairs: Sequence[tuple[Hashable, Hashable]]) -> float | None:
    """Cohen's kappa: how much of the agreement that chance does not explain there is, from -1 to 1.

    Null where there are no pairs, and where chance explains all: both sides say one and the same thing everywhere.
    """
    if not pairs:
        return None
    rows = len(pairs)
    observed = sum(one == other for one, other in pairs) / rows
    first, second = (Counter(side) for side in zip(*pairs, strict=True))
    chance = sum(count * second[said] for said, count in first.items()) / rows**2
    return None if chance == 1 else _rounded((observed - chance) / (1 - chance))


def p_value(one: int, other: int) -> float | None:
    """How often chance alone makes a difference as large as `one` against `other`, of rows that tell the sides apart.

    McNemar's test in its exact form, two-sided, which is the sign test; null of no such rows.
    """
    rows = one + other
    if not rows:
        return None
    tail = sum(math.comb(rows, count) for count in range(min(one, other) + 1))
    return _rounded(min(1.0, 2 * tail / 2**rows))


def better(a: str, b: str, one: int, other: int, pairs: int) -> str | None:
    """Which of the variants `a` and `b` is better, by the rows that only `one` and only `other` of them won; null where
    that may be chance. With each of so many `pairs` chance has one more try, so each has to be surer (Bonferroni).
    """
    p = p_value(one, other)
    if p is None or p * pairs >= SIGNIFICANT:
        return None
    return a if one > other else b


def classes(said: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """`classes`, precision and recall of each, and `confusion`, counts by what was expected and what was answered.

    `said` are pairs of these two. What was answered though no row expects it has a count, and no class.
    """
    confusion: dict[str, Counter[str]] = {}
    for expected, answered in said:
        confusion.setdefault(expected, Counter())[answered] += 1
    answers = Counter(answered for _, answered in said)
    found = {
        name: {
            "rows": row.total(),
            "precision": _rounded(row[name] / answers[name]) if answers[name] else None,
            "recall": _rounded(row[name] / row.total()),
        }
        for name, row in sorted(confusion.items())
    }
    return {"classes": found, "confusion": {name: dict(confusion[name].most_common()) for name in found}}


def _rounded(value: float) -> float:
    return round(value, DIGITS)
