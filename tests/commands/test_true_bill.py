"""The bill before and after, over HTTP against the engine: each amount is that of the engine's own ledger to the last
digit, or is called what it is.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.clock import Clocked
from tests.door import Result, call_door
from tests.engine_process import KEY, RunningEngine, engine_with_upstream, priced, wait_until
from tests.faults.gate import Asked, Reply, gate_before, page
from tests.faults.rooms import ROOMS, Unsynced, batch_count, finished

from doubleword.commands.delete_files import delete_named
from doubleword.commands.list_batches import list_models
from doubleword.commands.run_batch import run
from doubleword.report.reporting import report
from doubleword.system import System

MODEL, OTHER = "Qwen/Qwen3-14B-FP8", "Qwen/Qwen3-VL-30B-A3B-Instruct-FP8"  # the price table has all of both
UNLISTED = "nobody/lists-it"
EQUAL = {"24h": [0.02, 0.20], "1h": [0.03, 0.30], "realtime": [0.05, 0.60]}
DEARER = {"24h": [0.04, 0.31], "1h": [0.06, 0.60], "realtime": [0.07, 0.61]}
CHEAPER = {"24h": [0.01, 0.11], "1h": [0.02, 0.20], "realtime": [0.05, 0.60]}
DOORS: dict[str, Callable[[Any, System], dict[str, Any]]] = {
    **ROOMS,
    "run_batch": run,
    "delete_files": delete_named,
    "report": report,
    "list_models": list_models,
}


@dataclass
class Till:
    """A user and an engine whose clocks are one."""

    folder: Path
    engine: RunningEngine
    system: Clocked
    base_url: str

    def run(self, name: str, *args: str | Path) -> Result:
        settings = {"DOUBLEWORD_API_KEY": KEY, "DOUBLEWORD_BASE_URL": self.base_url}
        return call_door(name, *args, cwd=self.folder, env=settings, work=lambda args: DOORS[name](args, self.system))

    def submit(self, *words: str, requests: int = 6, model: str = MODEL, **body: Any) -> Result:
        """A job of so many requests, the first of which asks for a failure."""
        texts = ["bad"] + [f"Question {number}, and some words" for number in range(1, requests)]
        lines = [
            {"custom_id": f"r{n}", "method": "POST", "url": "/v1/chat/completions",
             "body": {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 9, **body}}
            for n, text in enumerate(texts)
        ]  # fmt: skip
        (self.folder / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        done = self.run("submit", "a.jsonl", *words)
        if done.code == 0:
            finished(self.engine)
        return done

    def fetch(self) -> dict[str, Any]:
        return self.run("fetch_results", "a.job.json", "--output", "x.jsonl", "--force").json

    def ledger(self) -> Decimal:
        """What the engine charged for batches."""
        return sum((one.cost_usd or Decimal(0) for one in self.engine.ledger() if one.batch_id), Decimal(0))

    def files(self) -> list[str]:
        return [one["filename"] for one in self.engine.call("GET", "/files?purpose=batch").json()["data"]]


@pytest.fixture
def till(tmp_path: Path) -> Iterator[Till]:
    system = Clocked(Unsynced())
    (folder := tmp_path / "work").mkdir()
    with engine_with_upstream(tmp_path / "engine", settings=priced({MODEL: EQUAL}), now=lambda: system.time) as engine:
        engine.upstream.models += [MODEL, OTHER, UNLISTED]
        engine.upstream.fail("bad", 409)
        yield Till(folder, engine, system, engine.base_url)


def set_prices(engine: RunningEngine, **models: Any) -> None:
    engine.settings.account.prices = priced(models).account.prices


def exactly(amount: float | None) -> Decimal:
    assert amount is not None
    return Decimal(str(amount))


@pytest.mark.parametrize("analytics", ["at once", "late", "never"])
@pytest.mark.parametrize("tariff", [EQUAL, DEARER, CHEAPER], ids=["equal", "dearer", "cheaper"])
def test_what_is_reported_is_what_was_charged(till: Till, tariff: dict[str, Any], analytics: str) -> None:
    """Billed where the server says it in time; else computed at the price that the server told before: the same."""
    set_prices(till.engine, **{MODEL: tariff})
    till.engine.settings.account.analytics_after_s = {"at once": 0.0, "late": 12.0, "never": math.inf}[analytics]
    submitted = till.submit()
    assert (submitted.code, "warnings" in submitted.json) == (0, tariff is not EQUAL)
    fetched = till.fetch()
    assert exactly(fetched["cost_usd"]) == till.ledger() == exactly(fetched["list_cost_usd"]) > 0
    assert fetched["cost_source"] == ("computed" if analytics == "never" else "billed")
    assert ("not counted all" in fetched.get("cost_reason", "")) is (analytics == "never")
    answers = [one for one in till.engine.ledger() if one.batch_id]
    (given, answered) = (Decimal(str(price)) for price in tariff["realtime"])
    at_once = sum((one.prompt_tokens * given + one.completion_tokens * answered for one in answers), Decimal(0))
    at_once /= 1_000_000
    assert exactly(fetched["realtime_usd"]) == at_once
    assert exactly(fetched["saved_usd"]) == at_once - till.ledger()
    assert ("behind" in str(fetched.get("warnings"))) is (tariff is not EQUAL)
    assert fetched["bill"].startswith(f"{fetched['cost_source']} USD ")
    assert "5 answers" in fetched["bill"] and "1 failed, not charged" in fetched["bill"]


def test_the_wait_for_the_bill_ends(till: Till) -> None:
    """After 20 s by the clock where nothing comes, at once where nothing can: the model has no price there."""
    till.engine.settings.account.analytics_after_s = math.inf
    till.submit()
    before = till.system.time
    till.fetch()
    assert 15 < till.system.time - before <= 20
    set_prices(till.engine)
    before = till.system.time
    unpriced = till.fetch()
    assert till.system.time == before
    assert (unpriced["cost_source"], "no price" in unpriced["cost_reason"]) == ("computed", True)


@pytest.mark.parametrize("allowed", [True, False])
def test_a_window_without_a_deadline_is_passed_through(till: Till, allowed: bool) -> None:
    """`background`, where the operator allows it; at the live price, or at most the realtime price. Else refused."""
    till.engine.settings.background = allowed
    set_prices(till.engine, **{MODEL: {**EQUAL, "background": [0.01, 0.10]}})
    (till.folder / "t.csv").write_text("text\none\ntwo\n")
    ask = ("--input", "t.csv", "--model", MODEL, "--max-tokens", "9", "--prompt", "{text}", "--window", "background")
    dry = till.run("run_batch", "out.csv", *ask, "--dry-run").json
    assert dry["cost_usd"] == dry["realtime_usd"] > 0
    done = till.run("run_batch", "out.csv", *ask, "--max-cost", "1")
    if not allowed:
        assert (done.code, batch_count(till.engine)) == (3, 0)
        assert "background" in done.json["error"]["message"]
        return
    assert (done.code, exactly(done.json["cost_usd"])) == (0, till.ledger())
    (batch,) = till.engine.call("GET", "/batches").json()["data"]
    assert batch["completion_window"] == "background"


def test_without_a_price_anywhere_the_cost_is_null_with_the_reason(till: Till) -> None:
    """Neither the server nor the table knows it."""
    till.submit(model=UNLISTED)
    fetched = till.fetch()
    assert [fetched[name] for name in ("cost_usd", "cost_source", "list_cost_usd", "saved_usd")] == [None] * 4
    assert UNLISTED in fetched["cost_reason"] and fetched["bill"].startswith("cost not known")
    assert fetched["usage"]["completion_tokens"] == 15


@pytest.mark.parametrize("analytics", [0.0, math.inf], ids=["billed", "not billed"])
def test_cached_input_is_charged_less(till: Till, analytics: float) -> None:
    """As the server bills it; it alone knows the price of cached input: without its bill that is said."""
    set_prices(till.engine, **{MODEL: {"24h": [0.02, 0.20, 0.002], "realtime": [0.05, 0.60]}})
    till.engine.settings.account.analytics_after_s = analytics
    till.engine.upstream.cache("Question 2", 3)
    till.submit()
    fetched = till.fetch()
    assert fetched["usage"]["cached_tokens"] == 3
    if analytics:
        assert (fetched["cost_usd"], "cached input" in fetched["cost_reason"]) == (None, True)
    else:
        assert (exactly(fetched["cost_usd"]), fetched["cost_source"]) == (till.ledger(), "billed")
    listed = sum(one.list_cost_usd or Decimal(0) for one in till.engine.ledger())
    assert exactly(fetched["list_cost_usd"]) == listed > till.ledger()


@pytest.mark.parametrize("analytics", [0.0, math.inf], ids=["billed", "computed"])
def test_a_retry_by_a_dearer_model_is_charged_at_its_price(till: Till, analytics: float) -> None:
    """Each answer at the price of the model that was asked for it, whatever both call themselves."""
    set_prices(till.engine, **{MODEL: EQUAL, OTHER: DEARER})
    till.engine.settings.account.analytics_after_s = analytics
    till.submit()
    till.fetch()
    till.engine.upstream.forget()
    retried = till.run("retry_failed", "a.job.json", "--only", "failed", "--model", OTHER)
    assert retried.code == 0 and OTHER in retried.json["warnings"][0]
    finished(till.engine)
    fetched = till.fetch()
    assert (fetched["counts"]["succeeded"], batch_count(till.engine)) == (6, 2)
    assert exactly(fetched["cost_usd"]) == till.ledger()
    assert fetched["cost_source"] == ("computed" if analytics else "billed")


def test_a_retry_by_the_server_is_on_the_bill_once(till: Till) -> None:
    """What failed was not charged, what came later is."""
    till.submit()
    till.fetch()
    till.engine.upstream.forget()
    assert till.run("retry_failed", "a.job.json").code == 0
    finished(till.engine)
    fetched = till.fetch()
    assert (exactly(fetched["cost_usd"]), fetched["cost_source"]) == (till.ledger(), "billed")


def test_what_a_retry_would_cost_is_said_before(till: Till) -> None:
    """For the requests that are asked again, by the model that would be asked; answers as long as those that came."""
    till.engine.upstream.fail("1", 409)
    till.submit(requests=100)
    failed = till.fetch()["counts"]["failed"]
    dry, other = (
        till.run("retry_failed", "a.job.json", "--only", "failed", "--dry-run", *words).json
        for words in ([], ["--model", OTHER])
    )
    assert (dry["batches"][0]["status"], dry["requests"]) == (f"{failed} to retry", failed)
    assert 0 < dry["cost_usd"] < other["cost_usd"] < other["realtime_usd"] and other["cost_usd"] < other["ceiling_usd"]
    assert "as long as earlier ones" in dry["method"]
    assert till.run("retry_failed", "a.job.json", "--dry-run").json["cost_usd"] == dry["cost_usd"]


def test_a_dry_run_of_a_retry_with_nothing_to_ask_says_so_in_numbers(till: Till) -> None:
    """All that failed would fail again: no requests and no cost, whatever the limit."""
    till.engine.upstream.fail("Question 1,", 400)
    till.submit("--max-cost", "1")
    for words in (["--cause", "HTTP 418"], ["--only", "missing", "--max-cost", "0.00000001"]):
        dry = till.run("retry_failed", "a.job.json", "--dry-run", *words)
        assert (dry.code, dry.json["requests"], dry.json["cost_usd"], dry.json["ceiling_usd"]) == (0, 0, 0, 0), words


def test_an_estimate_learns_from_another_job(till: Till) -> None:
    """Once its results were fetched: three tokens an answer here, where the rule says as many as the prompt has."""
    till.submit()
    words = ["estimate_cost", "a.jsonl", "--like", "a.job.json"]
    early = call_door(*words, cwd=till.folder)
    assert (early.code, early.json["error"]["code"]) == (2, "no_sample")
    till.fetch()
    found = call_door(*words, cwd=till.folder).json
    assert found["assumed_completion_tokens"] == 3 * 6 and "as long as earlier ones" in found["method"]
    assert found["cost_usd"] < found["realtime_usd"] and found["cost_usd"] < found["ceiling_usd"]


@pytest.mark.parametrize("batches", [1, 3])
def test_poll_tells_the_bill_without_results(till: Till, batches: int) -> None:
    """In the end, or asked for; of many batches from one list. Nothing is downloaded."""
    till.submit(requests=4)
    text = (till.folder / "a.jsonl").read_text().splitlines()
    if batches > 1:
        for number in range(batches):
            line = json.loads(text[1]) | {"custom_id": f"s{number}"}
            (till.folder / f"b-000{number + 1}.jsonl").write_text(json.dumps(line) + "\n")
        names = [f"b-000{number + 1}.jsonl" for number in range(batches)]
        assert till.run("submit", *names).code == 0
        finished(till.engine)
    polled = till.run("poll", "b.job.json" if batches > 1 else "a.job.json").json
    ids = {one["id"] for one in polled["batches"]}
    charged = sum(one.cost_usd or Decimal(0) for one in till.engine.ledger() if one.batch_id in ids)
    assert (exactly(polled["cost_usd"]), polled["cost_source"], len(ids)) == (charged, "billed", batches)
    assert polled["usage"]["cached_tokens"] is None and polled["usage"]["completion_tokens"] == 9
    assert polled["estimate_usd"] > 0 and polled["saved_usd"] > 0
    assert list(till.folder.glob("*.results.*")) == []


def test_poll_tells_what_a_running_batch_has_cost_only_when_asked(till: Till) -> None:
    """Then it is what is billed so far."""
    with till.engine.upstream.hold("Question 3"):
        lines = [f"Question {number}" for number in range(1, 5)]
        (till.folder / "a.jsonl").write_text("".join(
            json.dumps({"custom_id": text, "method": "POST", "url": "/v1/chat/completions",
                        "body": {"model": MODEL, "messages": [{"role": "user", "content": text}]}}) + "\n"
            for text in lines
        ))  # fmt: skip
        till.run("submit", "a.jsonl")
        wait_until(lambda: len(till.engine.ledger()) == 3, "three answers")
        assert "cost_usd" not in till.run("poll", "a.job.json").json
        so_far = till.run("poll", "a.job.json", "--cost")
        assert (so_far.code, exactly(so_far.json["cost_usd"])) == (7, till.ledger())
    finished(till.engine)


@pytest.fixture
def openai(till: Till) -> Iterator[Till]:
    """The same behind a server that has neither call."""

    def reply(asked: Asked) -> Reply:
        if asked.target.partition("?")[0].endswith(("/cost-estimate", "/analytics")):
            return page(404).with_json({"error": {"message": f"Invalid URL ({asked.method} {asked.target})"}})
        return gate.real(asked)

    with gate_before(till.engine.base_url, till.system) as gate:
        gate.server = reply
        yield replace(till, base_url=gate.base_url)


def test_a_server_without_either_call_is_as_before(openai: Till) -> None:
    """The table alone: computed, and limits by its prices."""
    assert openai.submit("--max-cost", "1").code == 0
    fetched = openai.fetch()
    assert (exactly(fetched["cost_usd"]), fetched["cost_source"]) == (openai.ledger(), "computed")
    assert "tells no costs" in fetched["cost_reason"]
    assert (
        openai.run("submit", "a.jsonl", "--job", "b.job.json", "--max-cost", "0").json["error"]["code"]
        == "over_max_cost"
    )
    assert (openai.run("poll", "a.job.json").json["cost_usd"], batch_count(openai.engine)) == (None, 1)


def ceiling(till: Till) -> float:
    """What the table alone says that a.jsonl costs at most."""
    most = till.run("submit", "a.jsonl", "--job", "dry.job.json", "--dry-run").json["ceiling_usd"]
    assert isinstance(most, float)
    return most


@pytest.mark.parametrize("fetched_before", [False, True], ids=["submit", "retry"])
def test_a_job_that_is_dearer_than_its_limit_is_stopped_by_the_live_price(till: Till, fetched_before: bool) -> None:
    """No batch, no file, no job that says otherwise; the refusal names the server's price."""
    till.submit()
    if fetched_before:
        till.fetch()
    else:
        (till.folder / "a.job.json").unlink()
    before = {path: path.read_bytes() for path in till.folder.iterdir()}
    files, limit = till.files(), str(ceiling(till) * (2 if fetched_before else 1.01))
    set_prices(till.engine, **{MODEL: DEARER, OTHER: {"24h": [99, 99]}})
    words = (
        ["retry_failed", "a.job.json", "--only", "failed", "--model", OTHER]
        if fetched_before
        else ["submit", "a.jsonl"]
    )
    refused = till.run(*words, "--max-cost", limit)
    assert (refused.code, refused.json["error"]["code"]) == (8, "over_max_cost")
    assert ("USD 99 and 99" if fetched_before else "USD 0.04 and 0.31") in refused.json["error"]["message"]
    assert (till.files(), batch_count(till.engine)) == (files, 1)
    after = {path: path.read_bytes() for path in till.folder.iterdir()}
    if fetched_before:  # what was learnt of prices is kept
        job = till.folder / "a.job.json"
        after[job] = json.dumps({**json.loads(after[job]), "tariff": {}}, indent=1).encode() + b"\n"
    assert after == before


def test_run_batch_is_stopped_as_well(till: Till) -> None:
    """Nothing is left in the folder either."""
    (till.folder / "t.csv").write_text("title\nHeat\n")
    ask = ["--input", "t.csv", "--model", MODEL, "--max-tokens", "8", "--prompt", "Genre of {title}?"]
    dry = till.run("run_batch", "out.csv", *ask, "--dry-run").json
    assert dry["cost_usd"] < dry["ceiling_usd"] and dry["cost_usd"] < dry["realtime_usd"]
    set_prices(till.engine, **{MODEL: DEARER})
    refused = till.run("run_batch", "out.csv", *ask, "--max-cost", str(dry["ceiling_usd"]))
    assert (refused.code, till.files(), batch_count(till.engine)) == (8, [], 0)
    assert [path.name for path in till.folder.iterdir()] == ["t.csv"]


def test_a_cheaper_live_price_lets_through_what_the_table_alone_would_refuse(till: Till) -> None:
    """And the estimate that is kept goes by it."""
    set_prices(till.engine, **{MODEL: CHEAPER})
    till.submit()
    (till.folder / "a.job.json").unlink()
    limit = ceiling(till) * 0.9
    dry = till.run("submit", "a.jsonl", "--max-cost", str(limit), "--dry-run")
    assert (dry.code, dry.json["error"]["code"]) == (8, "over_max_cost")
    assert till.run("submit", "a.jsonl", "--max-cost", str(limit)).code == 0
    assert sorted(till.files()) == sorted(name for name in till.files() if not name.startswith("price-"))


def test_a_model_that_the_table_lacks_is_judged_by_the_servers_price(till: Till) -> None:
    """Where the server has none either, it is said that nothing is known."""
    set_prices(till.engine, **{UNLISTED: DEARER})
    assert till.submit("--max-cost", "0.00001", model=UNLISTED).json["error"]["code"] == "over_max_cost"
    assert till.submit("--max-cost", "1", model=UNLISTED).code == 0
    assert exactly(till.fetch()["cost_usd"]) == till.ledger()
    set_prices(till.engine)
    unknown = till.run("submit", "a.jsonl", "--job", "b.job.json", "--max-cost", "1")
    assert (unknown.code, unknown.json["error"]["code"], batch_count(till.engine)) == (8, "cost_unknown", 1)


def test_where_only_a_rough_estimate_is_known_the_refusal_says_so(till: Till) -> None:
    """The two small files that would tell the price are refused."""
    set_prices(till.engine, **{UNLISTED: DEARER})

    def reply(asked: Asked) -> Reply:
        if asked.route == "upload" and b'filename="price-' in (asked.body or b""):
            return page(400, b"no more files today", "text/plain")
        return gate.real(asked)

    with gate_before(till.engine.base_url, till.system) as gate:
        gate.server = reply
        stopped = replace(till, base_url=gate.base_url).submit("--max-cost", "1", model=UNLISTED)
    assert (stopped.code, stopped.json["error"]["code"]) == (8, "cost_unknown")
    assert "rough estimate" in stopped.json["error"]["message"]
    assert (till.files(), batch_count(till.engine)) == ([], 0)


def test_a_file_that_cannot_be_deleted_again_is_told(till: Till) -> None:
    """The job file keeps its id, so that nothing is lost from sight."""
    set_prices(till.engine, **{MODEL: DEARER})

    def reply(asked: Asked) -> Reply:
        return page(403, b"not yours", "text/plain") if asked.method == "DELETE" else gate.real(asked)

    with gate_before(till.engine.base_url, till.system) as gate:
        gate.server = reply
        refused = replace(till, base_url=gate.base_url).submit("--max-cost", "0")
    assert refused.code == 8 and "stays on the server" in refused.stderr
    assert json.loads((till.folder / "a.job.json").read_text())["batches"][0]["file_id"]


@pytest.mark.parametrize("history", [False, True], ids=["no answers yet", "after answers"])
def test_every_models_prices_are_found_by_two_small_files(till: Till, history: bool) -> None:
    """Exactly, whichever way the server reckons the length of answers; nothing is left, nothing is paid."""
    models: dict[str, Any] = {MODEL: EQUAL, OTHER: DEARER, "test-embedding": {"24h": [0.02, 0], "realtime": [0.04, 0]}}
    set_prices(till.engine, **models)
    if history:
        till.submit()
    before, paid = till.files(), till.ledger()
    found = till.run("list_models", "--prices", "--output", "prices.json")
    told = {one["id"]: one["usd_per_million_tokens"] for one in found.json["models"]}
    assert told == {
        MODEL: EQUAL,
        OTHER: DEARER,
        "test-embedding": {"24h": [0.02, 0], "1h": [0.04, 0], "realtime": [0.04, 0]},
        "test-chat": None,
        UNLISTED: None,
    }
    assert (till.files(), till.ledger()) == (before, paid)
    till.submit(model=OTHER) if not history else till.submit("--job", "c.job.json", model=OTHER)
    estimated = call_door("estimate_cost", "a.jsonl", "--prices", "prices.json", cwd=till.folder).json
    assert [(one["input"], one["output"]) for one in estimated["prices"]] == [(0.04, 0.31)]


def test_files_are_deleted_once_their_results_are_fetched(till: Till) -> None:
    """Not before; a second run changes nothing, and a later fetch says that they are gone."""
    till.submit(requests=3)
    refused = till.run("delete_files", "a.job.json")
    assert (refused.code, refused.json["error"]["code"], len(till.files())) == (8, "not_fetched", 1)
    till.fetch()
    deleted = till.run("delete_files", "a.job.json")
    assert (deleted.code, deleted.json["deleted"], till.files()) == (0, 3, [])
    assert (
        till.run("delete_files", "a.job.json").json["deleted"],
        len(till.engine.call("GET", "/files").json()["data"]),
    ) == (0, 0)
    for words in (["fetch_results", "a.job.json", "--output", "y.jsonl"], ["retry_failed", "a.job.json"]):
        gone = till.run(*words)
        assert (gone.code, gone.json["error"]["code"]) == (4, "files_deleted")
    assert till.run("poll", "a.job.json").json["cost_source"] == "billed"


def test_a_page_with_answers_is_kept_where_their_files_were_deleted(till: Till) -> None:
    """Nothing is missing because it cannot be read any more; neither a report nor a look along the way says so."""
    till.submit(requests=3)
    till.fetch()
    made = till.run("report", "a.job.json", "--output", "r.html")
    assert made.json["rows"] == 3, made
    page = (till.folder / "r.html").read_bytes()
    assert till.run("delete_files", "a.job.json").code == 0
    gone = till.run("report", "a.job.json", "--output", "r.html")
    assert (gone.code, gone.json["error"]["code"]) == (4, "files_deleted")
    looked = till.run("poll", "a.job.json", "--report", "r.html")
    assert looked.json["done"] and "were deleted" in looked.stderr
    assert (till.folder / "r.html").read_bytes() == page


def test_another_window_may_be_chosen_where_one_was_refused(till: Till) -> None:
    """Nothing was taken, so nothing binds the job to it; once a batch exists, its window stays."""
    assert till.submit("--window", "background").code == 3
    chosen = till.run("submit", "a.jsonl", "--window", "24h")
    assert (chosen.code, batch_count(till.engine)) == (0, 1), chosen.json
    assert till.engine.call("GET", "/batches").json()["data"][0]["completion_window"] == "24h"
    other = till.run("submit", "a.jsonl", "--window", "1h")
    assert (other.code, other.json["error"]["code"], batch_count(till.engine)) == (2, "other_options", 1)


@pytest.mark.parametrize("analytics_s", [0.0, math.inf])
def test_answers_that_were_deleted_were_charged_all_the_same(till: Till, analytics_s: float) -> None:
    """Their tokens are those that the server counted; where it counted none, nobody knows what they cost."""
    till.engine.settings.account.analytics_after_s = analytics_s
    till.submit()
    batch = till.engine.call("GET", "/batches").json()["data"][0]
    till.engine.call("DELETE", f"/files/{batch['output_file_id']}")
    fetched = till.fetch()
    assert fetched["counts"]["succeeded"] == 0, fetched
    if analytics_s:
        assert [fetched[name] for name in ("cost_usd", "realtime_usd", "saved_usd")] == [None] * 3, fetched
        assert fetched["usage"]["completion_tokens"] is None and fetched["cost_reason"]
    else:
        assert exactly(fetched["cost_usd"]) == till.ledger() < exactly(fetched["realtime_usd"])
        assert fetched["usage"]["completion_tokens"] == sum(one.completion_tokens for one in till.engine.ledger())
        assert "for 5 answers" in fetched["bill"]


def test_bare_batches_and_running_ones_are_deleted_with_care(till: Till) -> None:
    """Nobody knows what was fetched of a bare id; what runs would be cancelled."""
    with till.engine.upstream.hold("Question 1"):
        (till.folder / "a.jsonl").write_text(json.dumps(
            {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions",
             "body": {"model": MODEL, "messages": [{"role": "user", "content": "Question 1"}]}}) + "\n")  # fmt: skip
        batch = till.run("submit", "a.jsonl").json["batches"][0]["id"]
        assert till.run("delete_files", batch).json["error"]["code"] == "not_fetched"
        assert till.run("delete_files", batch, "--yes").json["error"]["code"] == "not_finished"
    finished(till.engine)
    assert (till.run("delete_files", batch, "--yes").json["deleted"], till.files()) == (3, [])
    assert till.run("delete_files", batch, "--yes").code == 0


def test_run_batch_deletes_its_files_when_all_succeeded(till: Till) -> None:
    """Where something failed they stay, for the retry needs them."""
    ask = ["--input", "t.csv", "--model", MODEL, "--max-tokens", "8", "--prompt", "{title}", "--delete-files"]
    (till.folder / "t.csv").write_text("title\nbad\n")
    failed = till.run("run_batch", "out.csv", *ask)
    assert (failed.code, "deleted" in failed.json, len(till.files())) == (6, False, 1)
    (till.folder / "t.csv").write_text("title\nHeat\n")
    done = till.run("run_batch", "other.csv", *ask)
    assert (done.code, done.json["deleted"], len(till.files())) == (0, 3, 1)
    assert done.json["cost_source"] == "billed" and done.json["bill"]
    assert till.run("run_batch", "other.csv", *ask).code == 0  # what was delivered is told again
