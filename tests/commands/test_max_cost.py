"""The limit of cost is one for the whole job: what all its attempts have asked so far, and what would be asked now."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.clock import Clocked
from tests.door import call_door
from tests.faults.rooms import CHAT

from doubleword.batch_files import check as file_check
from doubleword.commands.submit import submit
from doubleword.failure import Exit, Failure
from doubleword.jobs.cost_limit import require_cost, require_limit, spent_ceiling
from doubleword.jobs.job_file import InputFile, Intended, JobFile
from doubleword.jobs.submission import plan
from doubleword.pricing import estimate as pricing
from doubleword.pricing.prices import load_prices
from doubleword.system import Disk

MODEL = "openai/gpt-oss-20b"
OUTSIDE = Clocked()


def write(path: Path, requests: int, model: str = MODEL, max_tokens: int | None = 1000, first: int = 1) -> Path:
    body: dict[str, object] = {"model": model, "messages": [{"role": "user", "content": "Hello."}]}
    body |= {} if max_tokens is None else {"max_tokens": max_tokens}
    lines = [
        {"custom_id": f"r{number}", "method": "POST", "url": CHAT, "body": body}
        for number in range(first, first + requests)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def ceiling(*paths: Path) -> float:
    found = pricing.total_of(paths, Disk(), load_prices(None, Disk())).estimate("24h").ceiling_usd
    assert found
    return found


def job(folder: Path, *paths: Path, local: str | None = None) -> JobFile:
    check = file_check.check(paths, Disk())
    base_url = "http://127.0.0.1:9/v1" if local is None else None
    return plan(check, folder / "a.job.json", base_url=base_url, local=local, window="24h", metadata={}, system=OUTSIDE)


def attempt(store: JobFile, path: Path, state: str) -> None:
    """Intend a second attempt of the first file."""
    made = file_check.check([path], Disk()).files[0]
    part = InputFile(path.name, made.bytes, made.sha256, made.requests, made.endpoint)
    store.job.batches.append(Intended("k" * 32, 0, part, 2, state, file_id="f", batch_id="b"))


def test_what_was_asked_in_every_attempt_is_spent(tmp_path: Path) -> None:
    """A batch that may exist counts like one that does; one that was only planned has cost nothing."""
    first, again = write(tmp_path / "a.jsonl", 100), write(tmp_path / "a.attempt-2.jsonl", 10)
    store = job(tmp_path, first)
    assert spent_ceiling(store, OUTSIDE) == 0
    store.job.batches[0].state = "uploaded"
    assert spent_ceiling(store, OUTSIDE) == 0
    for state in ("creating", "created"):
        store.job.batches[0].state = state
        assert spent_ceiling(store, OUTSIDE) == pytest.approx(ceiling(first))
    attempt(store, again, "planned")
    assert spent_ceiling(store, OUTSIDE) == pytest.approx(ceiling(first))
    store.job.batches[1].state = "created"
    assert spent_ceiling(store, OUTSIDE) == pytest.approx(ceiling(first, again))


def test_nothing_is_spent_on_the_embedded_engine(tmp_path: Path) -> None:
    """Whatever the models are called there."""
    store = job(tmp_path, write(tmp_path / "a.jsonl", 3, model="nobody/knows"), local="a.local")
    store.job.batches[0].state = "created"
    assert spent_ceiling(store, OUTSIDE) == 0


@pytest.mark.parametrize("why", ["no price", "no limit", "no file"])
def test_what_is_not_known_any_more_is_not_nothing(tmp_path: Path, why: str) -> None:
    """Then no limit can be promised, and the refusal says so."""
    path = write(
        tmp_path / "a.jsonl", 3, "nobody/knows" if why == "no price" else MODEL, None if why == "no limit" else 9
    )
    store = job(tmp_path, path)
    store.job.batches[0].state = "created"
    if why == "no file":
        path.unlink()
    assert spent_ceiling(store, OUTSIDE) is None
    now = write(tmp_path / "b.jsonl", 1)
    with pytest.raises(Failure) as refused:
        require_limit([store], 1000.0, OUTSIDE, more=[now])
    assert (refused.value.exit_code, refused.value.code) == (Exit.REFUSED, "cost_unknown")
    assert "so far" in refused.value.message


def test_the_limit_holds_for_both_together(tmp_path: Path) -> None:
    """Each alone would be within it; the refusal gives both figures."""
    now, store = write(tmp_path / "a.jsonl", 10_000), job(tmp_path, write(tmp_path / "b.jsonl", 20_000))
    store.job.batches[0].state = "created"
    most, spent = ceiling(now), ceiling(tmp_path / "b.jsonl")
    require_limit([store], 3.001 * most, OUTSIDE, more=[now])
    with pytest.raises(Failure) as refused:
        require_limit([store], spent + 0.9 * most, OUTSIDE, more=[now])
    assert (refused.value.exit_code, refused.value.code) == (Exit.REFUSED, "over_max_cost")
    assert f"{most:.4f}" in refused.value.message and f"{spent:.4f}" in refused.value.message
    assert "about 9,000 of them fit" in refused.value.message and "--limit 9000" in (refused.value.hint or "")
    require_limit([store], spent, OUTSIDE)  # what the server runs again is in the ceiling already
    with pytest.raises(Failure, match="so far"):
        require_limit([store], 0.95 * spent, OUTSIDE)


@pytest.mark.parametrize(("share", "code"), [(0.9, "over_max_cost"), (1.1, "other")])
def test_a_submission_taken_up_again_counts_its_attempts(tmp_path: Path, share: float, code: str) -> None:
    """Run again with a second attempt still unsent: all that was asked and that attempt, not the first files alone."""
    first, again = write(tmp_path / "a.jsonl", 1000), write(tmp_path / "a.attempt-2.jsonl", 500)
    store = job(tmp_path, first)
    store.job.batches[0] = Intended("j" * 32, 0, store.job.files[0], 1, "created", file_id="f", batch_id="b")
    attempt(store, again, "planned")
    store.save()
    limit = share * ceiling(first, again)
    words = ["a.jsonl", "--max-cost", f"{limit:.6f}", "--base-url", "http://127.0.0.1:9/v1"]
    result = call_door("submit", *words, cwd=tmp_path, work=lambda args: submit(args, OUTSIDE))
    if code == "over_max_cost":
        assert (result.code, result.json["error"]["code"]) == (8, code)
        assert f"{ceiling(first):.4f}" in result.json["error"]["message"]
    else:
        assert (result.code, result.json["error"]["code"]) == (3, "no_key")


def test_a_price_that_is_not_known_is_no_matter_of_tokens(tmp_path: Path) -> None:
    """The hint says where prices are known, not to set what is set."""
    path = write(tmp_path / "a.jsonl", 1)
    path.write_text(path.read_text().replace(MODEL, "unheard/of"))
    with pytest.raises(Failure, match="unheard/of is not known") as refused:
        require_cost([path], "24h", 5, OUTSIDE)
    assert "list_models.py --prices" in refused.value.hint and "--max-tokens" not in refused.value.hint
