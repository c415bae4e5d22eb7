"""The numbers of a comparison, each beside what was worked out by hand or stands in a textbook."""

from __future__ import annotations

import pytest

from doubleword.compare.measures import said
from doubleword.compare.statistics import better, classes, kappa, mean, p_value, share


def test_a_share_comes_with_wilsons_interval() -> None:
    """8 of 10 is 0.49 to 0.94; all and none do not claim certainty."""
    assert share(8, 10) == {"value": 0.8, "low": 0.4902, "high": 0.9433}
    assert share(10, 10) == {"value": 1.0, "low": 0.7225, "high": 1.0}
    assert share(0, 10) == {"value": 0.0, "low": 0.0, "high": 0.2775}
    assert share(0, 0) == {"value": None, "low": None, "high": None}


def test_kappa_is_cohens() -> None:
    """The example of 50 applications with 20 and 15 agreements: 0.7 observed, 0.5 by chance, 0.4 (Wikipedia's too)."""
    pairs = [("y", "y")] * 20 + [("y", "n")] * 5 + [("n", "y")] * 10 + [("n", "n")] * 15
    assert kappa(pairs) == 0.4
    assert kappa([("y", "n"), ("n", "y")]) == -1.0
    assert kappa([("y", "y")] * 9) is None  # nobody could disagree
    assert kappa([]) is None


@pytest.mark.parametrize(
    ("one", "other", "p"),
    [(5, 0, 0.0625), (6, 0, 0.0312), (5, 2, 0.4531), (3, 3, 1.0), (0, 0, None), (12, 3, 0.0352)],
)
def test_the_test_of_pairs_is_exact(one: int, other: int, p: float | None) -> None:
    """Twice the tail of the binomial distribution: 6 to 0 is 2/64; the sides may be exchanged."""
    assert p_value(one, other) == p == p_value(other, one)


def test_47_against_44_of_50_is_no_winner() -> None:
    """However the three rows more came about: at best three rows tell them apart, which is one chance in four."""
    assert all(better("a", "b", 3 + both, both, 1) is None for both in range(4))
    assert better("a", "b", 9, 0, 1) == "a" and better("a", "b", 1, 12, 1) == "b"
    assert better("a", "b", 7, 0, 6) is None  # one of six pairs looks so by chance too often


def test_precision_and_recall_of_each_class() -> None:
    """Of 3 that are spam 2 are found, and 1 of the 3 so called is none; an unknown answer is no class."""
    said = [("spam", "spam"), ("spam", "spam"), ("spam", "ham"), ("ham", "spam"), ("ham", "dunno")]
    found = classes(said)
    assert found["classes"]["spam"] == {"rows": 3, "precision": 0.6667, "recall": 0.6667}
    assert found["classes"]["ham"] == {"rows": 2, "precision": 0.0, "recall": 0.0}
    assert found["confusion"] == {"ham": {"dunno": 1, "spam": 1}, "spam": {"spam": 2, "ham": 1}}


def test_a_mean_of_scores_has_an_interval() -> None:
    """1 to 5 once each: 3, with 1.96 standard errors of 0.7071 on each side."""
    assert mean([1, 2, 3, 4, 5]) == {"value": 3.0, "low": 1.6141, "high": 4.3859}
    assert mean([4]) == {"value": 4.0, "low": None, "high": None} and mean([])["value"] is None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [("1", "1.0", True), (" Yes", "yes ", True), ("2.50", "2.5", True), ("007", "7", False), ("10", "1", False),
     ("1234567890123456789012345678901", "1234567890123456789012345678902", False), ("1.0.0", "1.0", False)],
)  # fmt: skip
def test_what_counts_as_the_same(one: str, other: str, same: bool) -> None:
    """Blanks around and the case of letters tell nothing apart, nor how a number is written; every digit does."""
    assert (said(one) == said(other)) is same
