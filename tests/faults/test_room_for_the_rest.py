"""What is advised for answers that were cut off gives them more room than they had, whatever is known of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.faults.canned import Canned, failed_row
from tests.faults.gate import Gate
from tests.faults.rooms import Desk


@pytest.mark.parametrize("usage", [None, {"prompt_tokens": 9, "completion_tokens": 7}])
@pytest.mark.parametrize("by_id", [False, True])
def test_the_limit_that_is_advised_is_higher_than_the_one_before(
    desk: Desk, gate: Gate, usage: dict[str, Any] | None, by_id: bool
) -> None:
    """Servers leave usage out, or thoughts out of it: then the request's own limit says what was too little."""
    path = desk.batch_file("a.jsonl", ["one"])
    request = json.loads(path.read_text())
    request["body"]["max_tokens"] = 4000
    path.write_text(json.dumps(request) + "\n")
    assert desk.run("submit", "a.jsonl").code == 0
    body = {"choices": [{"message": {"content": "ye"}, "finish_reason": "length"}], "usage": usage}
    line = {"id": "x", "custom_id": "row-1", "response": {"status_code": 200, "body": body}, "error": None}
    files = {"output": [json.dumps(line).encode()], "error": [], "input": [path.read_bytes().strip()]}
    gate.server = Canned(1, files=files).reply
    told = desk.run("fetch_results", "6f0c0e1e" if by_id else "a.job.json", "--output", "x.jsonl")
    advised = told.json["warnings"][0]
    assert "with a larger limit" in advised if by_id else "--max-tokens 8000" in advised


@pytest.mark.parametrize("words", [(), ("--dry-run",)])
def test_a_cause_that_nothing_failed_by_is_told(desk: Desk, gate: Gate, words: tuple[str, ...]) -> None:
    """Exit 0, for nothing is left to do, but a mistyped cause must not pass for a retry."""
    desk.batch_file("a.jsonl", ["one"])
    assert desk.run("submit", "a.jsonl").code == 0
    gate.server = Canned(1, files={"output": [], "error": [failed_row("row-1")]}).reply
    told = desk.run("retry_failed", "a.job.json", "--cause", "HTTP 503", *words)
    assert told.code == 0 and any("HTTP 503" in one for one in told.json["warnings"])
    chosen = desk.run("retry_failed", "a.job.json", "--cause", "HTTP 400", "--dry-run")
    assert chosen.code == 0 and not any("nothing that is open" in one for one in chosen.json.get("warnings", []))
