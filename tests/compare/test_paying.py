"""A comparison pays each answer once, all of it within one limit, and nothing before all of it is allowed."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.compare.conftest import A, B, Bench
from tests.door import SCRIPTS, environment, run_door
from tests.engine_process import KEY, wait_until

from doubleword.system import Disk


def test_each_variant_is_a_job_that_is_paid_once(bench: Bench) -> None:
    """Two linked batches; the same command again says the same, sends nothing and writes nothing."""
    first = bench.compare()
    assert first.code == 0, first.json
    assert {one["metadata"]["variant"] for one in bench.batches()} == {A, B}
    assert {one["metadata"]["comparison"] for one in bench.batches()} == {"cmp.csv"}
    before = {path: path.read_bytes() for path in bench.folder.iterdir()}
    again = bench.compare()
    assert again.json == first.json
    assert {path: path.read_bytes() for path in bench.folder.iterdir()} == before
    assert (len(bench.batches()), bench.engine.upstream.count()) == (2, 8)


def test_a_finished_comparison_needs_no_server(bench: Bench) -> None:
    """What it says stands on disk."""
    first = bench.compare()
    words = ["cmp.csv", "--input", "t.csv", "--model", A, "--model", B, "--prompt", "Say {title}", "--max-tokens", "4"]
    script = [sys.executable, str(SCRIPTS / "compare.py"), *words]
    nowhere = environment({"DOUBLEWORD_API_KEY": KEY, "DOUBLEWORD_BASE_URL": "http://127.0.0.1:9/v1"})
    done = subprocess.run(script, cwd=bench.folder, env=nowhere, capture_output=True, check=False)
    assert json.loads(done.stdout) == first.json


def test_a_killed_comparison_is_taken_up_again(bench: Bench) -> None:
    """SIGKILL while both batches run: the next run waits for these, and every row was asked once of each model."""
    words = ["cmp.csv", "--input", "t.csv", "--model", A, "--model", B, "--prompt", "Say {title}", "--max-tokens", "4"]
    keys = environment({"DOUBLEWORD_API_KEY": KEY, "DOUBLEWORD_BASE_URL": bench.engine.base_url})
    script = [sys.executable, str(SCRIPTS / "compare.py"), *words]
    with bench.engine.upstream.hold("three"):
        killed = subprocess.Popen(script, cwd=bench.folder, env=keys, stdout=subprocess.DEVNULL)
        wait_until(lambda: len(bench.batches()) == 2 and bench.engine.upstream.running == 2, "both to wait for a row")
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert not (bench.folder / "cmp.csv").exists()
    done = bench.compare()
    assert (done.code, len(bench.batches()), bench.engine.upstream.count()) == (0, 2, 8), done.json


def test_a_variant_whose_job_file_is_lost_is_found_again_before_it_is_paid_anew(bench: Bench) -> None:
    """Its results and its batch file say that there was one; the hint leads to the command that makes it anew."""
    first = bench.compare()
    (bench.folder / f"cmp.{A}.job.json").unlink()
    refused = bench.compare()
    assert (refused.code, refused.json["error"]["code"]) == (2, "output_exists"), refused.json
    assert "list_batches.py" in refused.json["error"]["hint"] and "pay" in refused.json["error"]["hint"]
    (adopt,) = {one["adopt"] for one in bench.run(name="list_batches").json["batches"] if one.get("lost")}
    assert bench.run(*shlex.split(adopt)[2:], name="submit").code == 0
    (bench.folder / f"cmp.{A}.results.jsonl").unlink()
    again = bench.compare()
    assert again.code == first.code == 0, again.json
    assert (len(bench.batches()), bench.engine.upstream.count()) == (2, 8)


def test_a_wait_that_ran_out_goes_on(bench: Bench) -> None:
    """Exit 7 with the same command as the way on; nothing is asked anew."""
    with bench.engine.upstream.hold("three"):
        stopped = bench.compare("--wait", "2")
        assert stopped.code == 7 and "compare.py cmp.csv" in stopped.json["error"]["hint"]
    assert bench.compare().code == 0
    assert (len(bench.batches()), bench.engine.upstream.count()) == (2, 8)


def test_a_variant_more_pays_that_one_alone(bench: Bench) -> None:
    """The others are there already; the table is this command's own, so it is replaced."""
    assert bench.compare(models=(A,)).code == 0
    found = bench.compare(models=(A, B))
    assert (found.code, len(bench.batches()), bench.engine.upstream.count()) == (0, 2, 8), found.json
    assert f"{B}.answer" in bench.rows()[0]


def test_one_limit_holds_for_all_variants(bench: Bench) -> None:
    """Each alone would be within it; together they are not: exit 8 before anything is paid, and nothing is left."""
    before = bench.files()
    dry = bench.compare("--dry-run")
    assert dry.code == 0 and dry.json["requests"] == 8
    ceiling = bench.compare("--dry-run").json["ceiling_usd"]
    assert ceiling is None  # the models are not in the bundled table: only the server's price says it
    refused = bench.compare("--max-cost", "0.006")
    assert (refused.code, refused.json["error"]["code"]) == (8, "over_max_cost"), refused.json
    assert bench.files() == before and bench.batches() == [] and bench.engine.upstream.count() == 0
    assert bench.engine.call("GET", "/files").json()["data"] == []
    assert bench.run("cmp.csv", "--input", "t.csv", "--model", A, "--prompt", "Say {title}", "--max-tokens", "4",
                     "--max-cost", "0.006").code == 0  # fmt: skip


def test_a_limit_counts_what_was_paid_before(bench: Bench) -> None:
    """A variant that is added later is judged with those that are there."""
    assert bench.compare("--max-cost", "0.006", models=(A,)).code == 0
    refused = bench.compare("--max-cost", "0.006", models=(A, B))
    assert refused.code == 8 and "so far" in refused.json["error"]["message"]
    assert len(bench.batches()) == 1


@pytest.mark.parametrize(
    ("more", "code"),
    [
        (["--dry-run"], 0),
        (["--expected", "gold"], 2),
        (["--judge", "Grade {answer}"], 2),
        (["--judge", "Grade {reply}", "--judge-model", A], 2),
        (["--prompt", "Say {name}"], 2),
        (["--variants", "none.json"], 2),
        (["--endpoint", "/v1/embeddings"], 2),
    ],
)
def test_what_sends_nothing_leaves_nothing(bench: Bench, more: list[str], code: int) -> None:
    """A dry run and arguments that cannot be meant: no file, no batch."""
    before = bench.files()
    found = bench.compare(*more)
    assert found.code == code, found.json
    assert bench.files() == before and bench.batches() == []


@pytest.mark.parametrize("now", [[], ["--now"]])
def test_an_unknown_model_is_refused_before_the_others_are_paid(bench: Bench, now: list[str]) -> None:
    """Whichever place it has among them."""
    before = bench.files()
    for models in ((A, "no-such-model"), ("no-such-model", A)):
        refused = bench.compare(*now, models=models)
        assert refused.code in (2, 3) and "no-such-model" in str(refused.json), refused.json
    assert (bench.batches(), bench.engine.upstream.count(), bench.files()) == ([], 0, before)


def test_other_rows_are_another_comparison(bench: Bench) -> None:
    """Under the same name they are refused, and nothing is sent."""
    bench.compare("--rows", "2")
    refused = bench.compare("--rows", "3")
    assert (refused.code, refused.json["error"]["code"]) == (2, "other_requests")
    assert len(bench.batches()) == 2


def test_a_table_of_somebody_else_is_kept(bench: Bench) -> None:
    """An output that this comparison did not write is refused before anything is sent."""
    (bench.folder / "cmp.csv").write_text("mine\n")
    refused = bench.compare()
    assert (refused.code, refused.json["error"]["code"]) == (2, "output_exists")
    assert bench.batches() == [] and bench.files() >= {"cmp.csv", "t.csv"}
    assert bench.compare("--force").code == 0


def test_two_runs_at_once_are_one(bench: Bench) -> None:
    """The other ends with exit 7, whichever variants it has."""
    with Disk().lock(bench.folder / ".cmp.csv.lock"):
        found = bench.compare(models=(B,))
    assert (found.code, found.json["error"]["code"], bench.batches()) == (7, "job_busy", [])


def test_a_source_that_changes_meanwhile_is_not_joined(bench: Bench) -> None:
    """Its rows might be others; with the old table the same command writes the output, and pays nothing."""
    before = (bench.folder / "t.csv").read_bytes()
    with bench.engine.upstream.hold("three"), ThreadPoolExecutor(1) as beside:
        keys = {"DOUBLEWORD_API_KEY": KEY, "DOUBLEWORD_BASE_URL": bench.engine.base_url}
        words = ["cmp.csv", "--input", "t.csv", "--model", A, "--prompt", "Say {title}", "--max-tokens", "4"]
        running = beside.submit(run_door, "compare", *words, cwd=bench.folder, env=keys)
        wait_until(lambda: bench.engine.upstream.running == 1 and len(bench.batches()) == 1, "a row to wait")
        (bench.folder / "t.csv").write_bytes(b"title,label\nzero,no\n" + before.partition(b"\n")[2])
        bench.engine.upstream.release()
        refused = running.result()
    assert (refused.code, refused.json["error"]["code"]) == (2, "join_mismatch")
    (bench.folder / "t.csv").write_bytes(before)
    assert bench.compare(models=(A,)).code == 0 and bench.engine.upstream.count() == 4


# --- at once ---------------------------------------------------------------------------------------------------


def test_at_once_every_answer_is_kept_before_the_next(bench: Bench) -> None:
    """A failure in the middle is exit 5 or 6; the next run asks only what has no answer; a third asks nothing."""
    bench.engine.upstream.fail("three", 500, times=1)
    first = bench.compare("--now")
    assert first.code == 6 and bench.batches() == [], first.json
    assert [(one["variant"], one["count"]) for one in first.json["failures"]] == [(A, 1)]
    assert sorted(row[f"{A}.status"] for row in bench.rows()) == ["failed", *["succeeded"] * 3]
    asked = bench.engine.upstream.count()
    second = bench.compare("--now")
    assert (second.code, bench.engine.upstream.count()) == (0, asked + 1), second.json
    assert bench.compare("--now").json == second.json and bench.engine.upstream.count() == asked + 1


def test_at_once_an_interruption_loses_nothing_that_was_paid(bench: Bench) -> None:
    """Killed while the seventh answer is under way: six are on disk, and are not asked again."""
    words = ["cmp.csv", "--input", "t.csv", "--model", A, "--model", B, "--prompt", "Say {title}", "--max-tokens", "4"]
    keys = environment({"DOUBLEWORD_API_KEY": KEY, "DOUBLEWORD_BASE_URL": bench.engine.base_url})
    script = [sys.executable, str(SCRIPTS / "compare.py"), *words, "--now"]
    upstream = bench.engine.upstream
    with upstream.hold("three"):
        killed = subprocess.Popen(script, cwd=bench.folder, env=keys, stdout=subprocess.DEVNULL)
        wait_until(lambda: upstream.count("three") == 1 and upstream.running == 1, "a question to wait")
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    with (bench.folder / f"cmp.{A}.realtime.jsonl").open("ab") as file:
        file.write(b'{"custom_id": "row-0000003", "resp')  # as a power cut may leave it
    done = bench.compare("--now")
    assert done.code == 0, done.json
    assert upstream.count() == 9 and upstream.count("three") == 3


def test_at_once_keeps_the_limit_at_its_own_price(bench: Bench, tmp_path: Path) -> None:
    """Of a model whose realtime price is not known, no limit is promised."""
    refused = bench.compare("--now", "--max-cost", "1")
    assert (refused.code, refused.json["error"]["code"]) == (8, "cost_unknown")
    assert bench.engine.upstream.count() == 0


def test_batches_and_answers_at_once_are_not_mixed(bench: Bench) -> None:
    """What was begun one way is not paid again the other way."""
    assert bench.compare("--now").code == 0
    refused = bench.compare()
    assert (refused.code, refused.json["error"]["code"]) == (2, "other_options")
    assert bench.batches() == []
