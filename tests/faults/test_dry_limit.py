"""A dry run holds a retry against the limit of cost as the retry itself does."""

from __future__ import annotations

import json

import pytest
from tests.commands.test_max_cost import ceiling, job, write
from tests.faults.canned import Canned, row
from tests.faults.gate import Gate
from tests.faults.rooms import Desk

from doubleword.jobs.job_file import Intended


def truncated(desk: Desk, gate: Gate) -> float:
    """A job, all of whose answers were cut off; the most that it has cost."""
    path = write(desk.folder / "a.jsonl", 4, first=0)
    store = job(desk.folder, path)
    store.job.batches[0] = Intended("j" * 32, 0, store.job.files[0], 1, "created", file_id="f", batch_id="b")
    store.job.base_url = desk.base_url
    store.save()
    cut = {"choices": [{"message": {"content": "ye"}, "finish_reason": "length"}]}
    lines = [json.loads(row(f"r{number}")) for number in range(4)]
    for line in lines:
        line["response"]["body"] = cut
    gate.server = Canned(4, files={"output": [json.dumps(line).encode() for line in lines], "error": []}).reply
    return ceiling(path)


@pytest.mark.parametrize("share", [0.0, 0.9])
def test_a_dry_run_of_a_retry_is_held_against_the_limit(desk: Desk, gate: Gate, share: float) -> None:
    """Refused where the retry itself would be, with what the job has cost before; the hint names no flag of others."""
    spent = truncated(desk, gate)
    words = ("a.job.json", "--only", "truncated", "--max-tokens", "50", "--dry-run")
    free = desk.run("retry_failed", *words)
    assert free.code == 0
    whole = spent + free.json["ceiling_usd"]
    assert desk.run("retry_failed", *words, "--max-cost", f"{whole * 1.01:.6f}").code == 0
    limit = spent + share * free.json["ceiling_usd"]
    refused = desk.run("retry_failed", *words, "--max-cost", f"{limit:.6f}")
    assert (refused.code, refused.json["error"]["code"]) == (8, "over_max_cost")
    assert "--limit" not in refused.json["error"]["hint"]
