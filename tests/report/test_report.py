"""report.py and --report: whole jobs on the embedded engine, as a user runs them."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from tests.door import Result, call_door
from tests.engine_process import RunningEngine, engine_with_upstream, priced
from tests.report.written_page import WrittenPage

from doubleword.report import gathering, reporting

MAKE = ["--model", "test-chat", "--prompt", "Where is {city}?", "--id", "{id}", "--input", "cities.csv"]

pytestmark = pytest.mark.usefixtures("quick_looks")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngine]:
    with engine_with_upstream(tmp_path_factory.mktemp("engine")) as running:
        yield running


@pytest.fixture
def user(engine: RunningEngine, tmp_path: Path) -> Iterator[User]:
    """Someone with a table of forty cities, before an engine that answers as it likes."""
    yield User(tmp_path, engine)
    engine.upstream.forget()


class User:
    """Runs scripts in a folder that holds a table."""

    def __init__(self, folder: Path, engine: RunningEngine) -> None:
        self.folder = folder
        self.engine = engine
        with (folder / "cities.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("id", "city"), *((f"c{n:02}", f"City {n:02}") for n in range(40))])

    def run(self, door: str, *words: str) -> Result:
        """A script on the engine."""
        env = {"DOUBLEWORD_API_KEY": self.engine.key, "DOUBLEWORD_BASE_URL": self.engine.base_url}
        return call_door(door, *words, cwd=self.folder, env=env)

    def page(self, name: str = "cities.report.html") -> WrittenPage:
        """A page in the folder."""
        return WrittenPage.at(self.folder / name)

    def submitted(self, name: str = "cities", *words: str) -> None:
        """Make a job that has been sent."""
        assert self.run("create_batch_file", f"{name}.jsonl", *MAKE, *words).code == 0
        assert self.run("submit", f"{name}.jsonl").code == 0


def test_a_page_says_of_a_job_what_a_fetch_says(user: User) -> None:
    """The same counts, causes, ids and steps; each row with its cells, its prompt and its answer, what failed first."""
    user.engine.upstream.fail("City 07", 400)
    user.engine.upstream.reply("City 09", {"content": "Somewh"}, finish_reason="length")
    user.submitted()
    user.run("poll", "cities.job.json", "--wait", "60")
    fetched = user.run("fetch_results", "cities.job.json").json
    made = user.run("report", "cities.job.json")
    assert made.code == 0
    assert (
        made.json["jobs"][0]["counts"] == fetched["counts"] == {"total": 40, "succeeded": 39, "failed": 1, "missing": 0}
    )
    assert (made.json["output"], made.json["rows"], made.json["requests"]) == ("cities.report.html", 40, 40)
    page = user.page()
    assert made.json["bytes"] == len(page.content)
    assert user.engine.base_url.encode() not in page.content  # the page names no host
    (failure,) = fetched["failures"]
    assert f"{failure['cause']} 1 {failure['ids'][0]} {failure['action']}" in page.words
    assert "an answer, but truncated 1 show them" in page.words and "--only truncated" in page.words
    assert sorted(page.ids[:2]) == ["c07", "c09"] and len(page.ids) == 40
    rows = {row["answers"][0]["custom_id"]: row for row in page.data["rows"]}
    assert rows["c31"]["cells"] == ["c31", "City 31"] and page.data["jobs"][0]["columns"] == ["id", "city"]
    answer = rows["c31"]["answers"][0]
    assert answer["answer"] == "answer to: Where is City 31?"
    assert [page.data["parts"][at] for at in answer["prompt"]] == [["user", "Where is City 31?"]]
    assert rows["c07"]["answers"][0]["cause"] == failure["cause"]


def test_a_page_replaces_a_page_and_nothing_else(user: User) -> None:
    """Whatever else stands there stays as it is; nothing but the page is left behind."""
    user.submitted()
    user.run("poll", "cities.job.json", "--wait", "60")
    (user.folder / "mine.html").write_text("<!doctype html>\n<p>my own page")
    for words in (["report", "cities.job.json", "--output"], ["poll", "cities.job.json", "--report"]):
        refused = user.run(*words, "mine.html")
        assert (refused.code, refused.json["error"]["code"]) == (2, "output_exists")
    assert (user.folder / "mine.html").read_text() == "<!doctype html>\n<p>my own page"
    before = {path.name for path in user.folder.iterdir()}
    for seed in ("1", "2"):
        assert user.run("report", "cities.job.json", "--sample", seed).code == 0
    assert {path.name for path in user.folder.iterdir()} - before == {"cities.report.html"}


def test_while_a_job_runs_the_page_shows_how_far_it_is_and_is_written_anew(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A watch that ends before the job says exit 7; one that sees its end leaves a page that does not reload itself."""
    monkeypatch.setattr(reporting, "FREE", 0)
    with user.engine.upstream.hold("City 3"):
        user.submitted()
        ended = user.run("report", "cities.job.json", "--watch", "--wait", "0.3")
        assert (ended.code, ended.json["error"]["code"]) == (7, "not_finished")
        assert ended.json["jobs"][0]["counts"]["pending"] >= 10
        running = user.page()
        assert "still open" in running.words and any(one.get("id") == "reloading" for _, one in running.elements)
        assert [row["answers"][0]["status"] for row in running.data["rows"]][-10:] == ["pending"] * 10
    watched = user.run("report", "cities.job.json", "--watch", "--wait", "60")
    assert (watched.code, watched.json["jobs"][0]["status"]) == (0, "completed")
    over = user.page()
    assert "40 of 40 answered" in over.words and not any(one.get("id") == "reloading" for _, one in over.elements)


def test_results_are_not_read_again_at_each_look(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look that comes soon after a long reading shows the batches as they are now and the results as they were."""
    monkeypatch.setattr(reporting, "FREE", 1e9)
    read = mock.Mock(side_effect=gathering.gather)
    monkeypatch.setattr(reporting, "gather", read)
    with user.engine.upstream.hold("City 3"):
        user.submitted()
        user.run("report", "cities.job.json", "--watch", "--wait", "0.5")
    assert read.call_count == 1


def test_jobs_over_one_table_are_compared_row_by_row(user: User) -> None:
    """Unlike answers stand first; a job that cannot be found has its line all the same."""
    user.submitted("a")
    user.run("poll", "a.job.json", "--wait", "60")
    user.engine.upstream.say("City 21", "elsewhere")
    user.submitted("b")
    user.run("poll", "b.job.json", "--wait", "60")
    made = user.run("report", "a.job.json", "b.job.json", "no-such-batch", "--output", "ab.html")
    assert made.code == 0 and (made.json["rows"], made.json["requests"]) == (40, 80)
    assert made.json["jobs"][2]["status"] == "unknown"
    page = user.page("ab.html")
    first = page.data["rows"][0]
    assert [one["answer"] for one in first["answers"]] == ["answer to: Where is City 21?", "elsewhere"]
    assert "1 of the rows here are answered in unlike ways" in page.words


def test_a_folder_stands_for_the_jobs_in_it(user: User) -> None:
    """The newest first, each with its line; a damaged job file is told and left out."""
    for name in ("one", "two"):
        user.submitted(name)
        user.run("poll", f"{name}.job.json", "--wait", "60")
    (user.folder / "broken.job.json").write_text("{")
    made = user.run("report", ".")
    assert made.code == 0 and made.json["output"] == "report.html"
    assert sorted(one["job"] for one in made.json["jobs"]) == ["one.job.json", "two.job.json"]
    assert "broken.job.json is left out" in made.stderr
    page = user.page("report.html")
    assert len(page.data["rows"]) == 80 and "80 of 80 answered" in page.words
    (user.folder / "empty").mkdir()
    assert user.run("report", "empty").code == 4


def test_run_batch_writes_the_page_along_the_way_and_when_all_is_done(user: User) -> None:
    """Also where an earlier run had fetched all that there is."""
    first = user.run("run_batch", "out.csv", *MAKE, "--report", "page.html")
    assert first.code == 0 and "40 of 40 answered" in user.page("page.html").words
    (user.folder / "page.html").unlink()
    again = user.run("run_batch", "out.csv", *MAKE, "--report", "page.html")
    assert again.code == 0 and "40 of 40 answered" in user.page("page.html").words
    assert user.engine.upstream.count() == 40


def test_a_page_that_cannot_be_written_is_told_before_anything_is_paid(user: User) -> None:
    """Its place is looked at first."""
    (user.folder / "page.html").write_text("something else")
    refused = user.run("run_batch", "out.csv", *MAKE, "--report", "page.html")
    assert (refused.code, refused.json["error"]["code"]) == (2, "output_exists")
    assert user.engine.upstream.count() == 0 and not list(user.folder.glob("*.job.json"))


def test_a_page_that_fails_ends_no_job(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong with it, the results are fetched."""

    def broken(*_: Any) -> None:
        raise ValueError("a page gone wrong")

    monkeypatch.setattr(reporting, "page", broken)
    ended = user.run("run_batch", "out.csv", *MAKE, "--report", "page.html")
    assert ended.code == 0 and ended.json["complete"] is True
    assert "the report was not written: a page gone wrong" in ended.stderr
    assert not (user.folder / "page.html").exists()


def test_bare_batch_ids_have_a_page_without_any_file(user: User) -> None:
    """The prompt of requests comes with batch files alone, and the page says why it shows no cells."""
    user.submitted()
    user.run("poll", "cities.job.json", "--wait", "60")
    job = json.loads((user.folder / "cities.job.json").read_text())
    identifier = job["batches"][0]["batch_id"]
    made = user.run("report", identifier, "--output", "bare.html")
    assert made.code == 0 and made.json["jobs"] == [
        {**made.json["jobs"][0], "job": None, "id": identifier, "status": "completed"}
    ]
    page = user.page("bare.html")
    assert len(page.ids) == 40 and "it is not known of which table the requests were made" in page.words


def test_a_changed_table_gives_no_row_a_wrong_cell(user: User) -> None:
    """Cells stand beside the requests that were made of them, or not at all, with the reason."""
    user.submitted()
    user.run("poll", "cities.job.json", "--wait", "60")
    lines = (user.folder / "cities.csv").read_text().splitlines()
    (user.folder / "cities.csv").write_text("\n".join([lines[0], *lines[:0:-1]]))
    user.run("report", "cities.job.json")
    for row in user.page().data["rows"]:
        assert row["cells"] == [row["answers"][0]["custom_id"], f"City {row['answers'][0]['custom_id'][1:]}"]
    (user.folder / "cities.csv").write_text("\n".join([lines[0], *lines[2:], "c00,Another city"]))
    user.run("report", "cities.job.json")
    page = user.page()
    assert not any(row["cells"] for row in page.data["rows"])
    assert "No cells of the source are shown: the table was changed since" in page.words


def test_the_cost_in_a_page_is_what_the_server_billed(user: User, tmp_path: Path) -> None:
    """The amounts that a fetch tells, by their names."""
    prices = {"test-chat": {"24h": [1000, 2000, 500], "1h": [2000, 4000, 1000], "realtime": [4000, 8000, 2000]}}
    with engine_with_upstream(tmp_path / "priced", settings=priced(prices)) as engine:
        customer = User(tmp_path, engine)
        customer.submitted()
        customer.run("poll", "cities.job.json", "--wait", "60")
        fetched = customer.run("fetch_results", "cities.job.json").json
        made = customer.run("report", "cities.job.json")
    assert fetched["cost_source"] == "billed" and made.json["jobs"][0]["cost_usd"] == fetched["cost_usd"] == 0.4
    words = customer.page().words
    assert "Cost (billed) USD 0.40" in words and f"Saved USD {fetched['saved_usd']:.2f}" in words
