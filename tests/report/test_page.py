"""The page: what stands in it and in which order, how large it gets, and that nothing in it runs but its own script."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

import pytest
from tests.report.written_page import WrittenPage

from doubleword.pricing.bill import usd
from doubleword.report.answer_table import GOOD, OPEN, WRONG, Bar, Field, Shown
from doubleword.report.gathering import Subject
from doubleword.report.page import MARK, MOST_ROWS, headline, page
from doubleword.server.objects import Asked, Batch
from doubleword.system import Disk

CHAT = "/v1/chat/completions"
NOW = 1_800_000_000.0
HOSTILE = [
    "</script><script>window.pwned = 1</script>",
    '"><img src=x onerror="window.pwned = 1">',
    "<!--<script>",
    "javascript:window.pwned=1",
    "' onmouseover='window.pwned=1",
    "{{ 7 * 191 }}{% raw %}",
    "]]>\u2028\u2029&lt;b&gt;",
]


def shown(place: int, answer: str | None = "yes", kind: int = GOOD, **cells: Any) -> Shown:
    """A request as a job shows it."""
    status = {GOOD: "succeeded", WRONG: "failed", OPEN: "pending"}[kind]
    told = {"custom_id": f"r{place}", "status": status, "answer": answer, **cells}
    return Shown(**{**dict.fromkeys(Shown._fields), "place": place, "kind": kind, **told})


def gathered(rows: list[Shown], name: str = "job", total: int = 0, status: str = "completed", **told: Any) -> Subject:
    """A bare batch as it was gathered."""
    batch = Batch(name, status, CHAT, "f", None, None, "24h", int(NOW) - 60, None, int(NOW), len(rows), 0, 0)
    total = total or len(rows)
    wrong = sum(one.kind == WRONG for one in rows)
    counts = {"total": total, "succeeded": total - wrong, "failed": wrong, "missing": 0}
    keys = {"counts": counts, "failures": [], "usage": {}, "cost_usd": 0.5, **told.pop("keys", {})}
    asked = [Asked(None, total, CHAT, (batch,))]
    return Subject(None, [name], None, name, asked=asked, at=NOW, keys=keys, rows=rows, **{"wrong": wrong, **told})


def written(*found: Subject, reload_s: int = 0) -> WrittenPage:
    """The page on them."""
    return WrittenPage(page(found, 1, NOW, reload_s, Disk())[0])


def everywhere(said: str) -> WrittenPage:
    """A page in which `said` stands wherever text from elsewhere can stand."""
    failure = {"cause": said, "count": 1, "example": said, "ids": [said], "action": said}
    field = Field(said, [Bar(0, 0, 1, said), Bar(0, 0, 2, "b")], 2, 3, None)
    told: dict[str, Any] = {
        "name": said, "columns": (said,), "cells": {1: [said]}, "prompts": {1: [(said, said)]}, "models": [said],
        "notes": [said], "steps": {said: said}, "fields": [field], "missing": said,
        "keys": {"failures": [failure], "answers": {said: 1}, "cost_usd": None, "cost_reason": said},
    }  # fmt: skip
    rows = [shown(1, said, custom_id=said, cause=said, model=said, flaws=said, finish=said)]
    return written(gathered(rows, **told))


@pytest.mark.parametrize("said", HOSTILE)
def test_text_from_elsewhere_stays_text_wherever_it_stands(said: str) -> None:
    """In answers, ids, prompts, cells, columns, causes, fields, models, names: no element, no attribute comes of it."""
    hostile, harmless = everywhere(said), everywhere("harmless")
    assert [tag for tag, _ in hostile.elements] == [tag for tag, _ in harmless.elements]
    assert [attrs for tag, attrs in hostile.elements if tag == "script"] == [
        {"type": "application/json", "id": "data"},
        {},
    ]
    for tag, attrs in hostile.elements:
        assert not [name for name in attrs if name.startswith("on")], tag
        for name in ("href", "src", "action", "formaction"):
            assert (attrs.get(name) or "#").startswith(("#", "data:image/")), tag
    (row,) = hostile.data["rows"]
    assert (row["answers"][0]["answer"], row["cells"], hostile.data["jobs"][0]["columns"]) == (said, [said], [said])
    assert hostile.data["parts"] == [[said, said]]
    assert "1337" not in hostile.words


def test_the_policy_lets_nothing_run_or_load_but_what_the_page_brings() -> None:
    """Style and script by their hashes, images as data; no host, no other source."""
    made = written(gathered([shown(1)]))
    (policy,) = (attrs["content"] for _, attrs in made.elements if attrs.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.strip().split(" ", 1) for rule in (policy or "").split(";"))
    hashes = [
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for _, text in made.inside
    ]
    style, _, script = hashes
    assert rules == {
        "default-src": "'none'", "script-src": script, "style-src": style, "img-src": "data:",
        "base-uri": "'none'", "form-action": "'none'",
    }  # fmt: skip
    assert made.content.startswith(MARK)


def test_a_page_stays_below_5_mb_and_says_how_much_it_had_room_for() -> None:
    """Signs of markup take six bytes each; 2,000 long answers of nothing else do not fit."""
    rows = [shown(place, "<" * 40_000) for place in range(1, MOST_ROWS + 1)]
    made = written(gathered(rows, total=1_000_000))
    here = len(made.ids)
    assert 10 <= here < 30 and len(made.content) < 5_000_000
    assert f"{here} of 1,000,000 requests are here" in made.words


def test_prompts_that_requests_share_stand_in_the_page_once() -> None:
    """So that a long system text leaves room for answers."""
    system = ("system", "s" * 50_000)
    prompts = {place: [system, ("user", f"q{place}")] for place in range(1, 301)}
    made = written(gathered([shown(place) for place in range(1, 301)], prompts=prompts))
    assert len(made.ids) == 300 and len(made.content) < 300_000
    assert [made.data["parts"][at][1] for at in made.data["rows"][7]["answers"][0]["prompt"]] == [system[1], "q8"]


def test_what_went_wrong_comes_first_and_is_said_to_be_all() -> None:
    """Then good answers, then open ones, each in the order of the job."""
    rows = [shown(3, kind=OPEN), shown(9, kind=WRONG), shown(1), shown(4, kind=WRONG), shown(2)]
    made = written(gathered(rows, total=50, wrong=2))
    assert made.ids == ["r4", "r9", "r1", "r2", "r3"]
    assert "5 of 50 requests are here: all 2 that went wrong, then a sample drawn with the seed 1." in made.words
    assert "2 of the 7 that went wrong" in written(gathered(rows, total=50, wrong=7)).words


def test_jobs_over_one_table_stand_side_by_side_with_unlike_answers_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blanks around an answer and the order of its fields make no difference; cells come from the job that has them."""
    monkeypatch.setattr(Subject, "table", "one table")
    left = [shown(1, "a "), shown(2, '{"x": 1, "y": 2}'), shown(3, "a"), shown(4, "only here")]
    right = [shown(1, "a"), shown(2, '{"y": 2, "x": 1}'), shown(3, "b")]
    made = written(gathered(left), gathered(right, "other", columns=("city",), cells={3: ["Rome"]}))
    assert made.ids == ["r3", "r1", "r2", "r4"]
    assert [one["answer"] for one in made.data["rows"][0]["answers"]] == ["a", "b"]
    assert (made.data["rows"][0]["cells"], made.data["jobs"][made.data["rows"][0]["job"]]["columns"]) == (
        ["Rome"],
        ["city"],
    )
    assert "1 of the rows here are answered in unlike ways" in made.words


def test_no_more_rows_stand_in_a_page_than_are_promised() -> None:
    """However many jobs it is about."""
    jobs = [gathered([shown(place) for place in range(1500)], f"job{number}") for number in range(2)]
    assert len(written(*jobs).data["rows"]) == MOST_ROWS


def test_the_bill_stands_in_the_page_as_far_as_it_is_known() -> None:
    """Which amount it is, what was saved, which tokens; where the cost is not known, why."""
    keys = {
        "cost_usd": 1.25, "cost_source": "billed", "list_cost_usd": 1.5, "realtime_usd": 3.0, "saved_usd": 1.75,
        "estimate_usd": 1.1, "usage": {"prompt_tokens": 12000, "completion_tokens": 900, "cached_tokens": 4000},
    }  # fmt: skip
    words = written(gathered([shown(1)], keys=keys)).words
    for said in ("Cost (billed) USD 1.25", "Estimated before USD 1.10", "Without discounts USD 1.50", "Saved USD 1.75",
                 "At realtime prices USD 3.00", "Cached tokens 4,000"):  # fmt: skip
        assert said in words
    keys = {"cost_usd": None, "cost_source": None, "cost_reason": "the price of m at 24h is not known"}
    words = written(gathered([shown(1)], keys=keys)).words
    assert "Cost not known: the price of m at 24h is not known" in words and "Saved" not in words


def test_the_cost_of_a_job_that_runs_is_only_so_far() -> None:
    """And the page says itself that it will be there anew, a page on a job that is over does not."""
    running = gathered([shown(1), shown(2, None, OPEN)], status="in_progress")
    assert headline([running]) == "2 of 2 answered · USD 0.50 so far"
    made = written(running, reload_s=7)
    assert ("div", {"id": "reloading", "class": "sub", "data-every": "7"}) in made.elements
    assert ("meta", {"http-equiv": "refresh", "content": "7"}) in made.elements  # for a browser without scripts
    over = written(gathered([shown(1)]))
    assert "so far" not in over.words and not [one for _, one in over.elements if one.get("id") == "reloading"]


def test_a_job_that_could_not_be_read_keeps_its_line_with_the_reason() -> None:
    """Beside those that could; totals are those of jobs that were read."""
    gone = Subject(None, ["gone"], None, "gone", problem="no such batch")
    words = written(gathered([shown(1)]), gone).words
    assert "1 of 1 answered · USD 0.50" in words and "no such batch" in words


@pytest.mark.parametrize(
    ("amount", "said"), [(0, "0.00"), (1234.5, "1,234.50"), (0.099, "0.099"), (0.000123, "0.00012")]
)
def test_small_amounts_keep_two_digits(amount: float, said: str) -> None:
    """A batch that cost a tenth of a cent did not cost nothing."""
    assert usd(amount) == said


def test_the_files_of_the_page_name_no_host() -> None:
    """So nothing can be fetched from one."""
    folder = Path(__file__).parents[2] / "scripts" / "doubleword" / "report"
    for name in ("page.html", "page.css", "page.js"):
        assert "//" not in "".join(
            line for line in (folder / name).read_text().splitlines() if not line.strip().startswith("//")
        ).replace(" // ", ""), name
