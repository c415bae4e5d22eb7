"""What to do next: one step for each cause and flaw, and each command that is named can be run."""

from __future__ import annotations

import importlib
import json
import shlex
from typing import Any

import pytest

from doubleword.answers.judgement import FLAWS
from doubleword.commands.retry_failed import asked_for
from doubleword.results.advice import MENDED_FLAWS, step
from doubleword.service import CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES

BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"messages": [{"role": "user", "content": "a"}]}, COMPLETIONS: {"prompt": "a"},
    RESPONSES: {"input": "a"}, EMBEDDINGS: {"input": "a"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("cause", "flaws", "said"),
    [
        ("HTTP 402: Account balance too low.", (), "add credit to the account, then retry JOB"),
        ("HTTP 404: no such model", (), "list_models.py"),
        ("HTTP 400: too long", (), "will not help"),
        ("HTTP 413: too large", (), "will not help"),
        ("HTTP 422: no such thing", (), "will not help"),
        ("HTTP 503: overloaded", (), "later"),
        ("Timeout: no answer", (), "later"),
        ("Upstream idle timeout", (), "later"),
        ("the answer ended with insufficient_system_resource", (), "later"),
        ("token_limit_exceeded: Enqueued token limit reached for m", (), "later"),
        ("no row: it was cancelled", (), "retry JOB"),
        ("the answer ended with abort", (), "retry JOB"),
        ("the vector holds NaN or infinity", (), "retry JOB"),
        ("the vector came as int4, which is not read here", (), "--format jsonl"),
        ("the answer is cut off", ("truncated", "invalid"), "retry JOB --only truncated --max-tokens N"),
        ("the answer breaks its schema", ("invalid",), "retry JOB --only invalid --note TEXT"),
        ("the answer stops without an end", ("empty", "unfinished", "invalid"), "retry JOB --only unfinished"),
    ],
)
def test_each_cause_has_its_step(cause: str, flaws: tuple[str, ...], said: str) -> None:
    """What passes is asked again later, what money mends after paying, what is wrong not as it was."""
    assert said in step(cause, flaws, "retry JOB")
    assert "retry" not in step(cause, flaws, None)


@pytest.mark.parametrize("code", [400, 413, 422])
def test_what_was_refused_as_it_is_is_not_asked_again(code: int) -> None:
    """By no command at all."""
    assert "retry JOB" not in step(f"HTTP {code}: no", (), "retry JOB")
    assert "--model ID" in step("HTTP 404: no", (), "retry JOB")


@pytest.mark.parametrize("endpoint", BODIES)
@pytest.mark.parametrize("noted", [False, True])
def test_each_command_for_a_flaw_is_taken_and_changes_the_request(endpoint: str, noted: bool) -> None:
    """By the script's own parser, for requests to every endpoint; where a note did not help, another model is named."""
    for flaw in FLAWS if endpoint != EMBEDDINGS else ("empty",):
        command = step("", (flaw,), "retry_failed.py a.job.json", endpoint, noted)
        words = shlex.split(command.replace(" N", " 500").replace("TEXT", "x").replace("ID", "m"))
        wanted = asked_for(importlib.import_module("retry_failed").parser().parse_args(words[1:]))
        assert wanted.kinds == {flaw}
        line = {"custom_id": "a", "method": "POST", "url": endpoint, "body": {"model": "n", **BODIES[endpoint]}}
        changed = wanted.change.applied(json.dumps(line).encode())
        assert (json.loads(changed) == line) == (not wanted.change)
        assert ("--note" in command) <= (not noted and endpoint != EMBEDDINGS)
    assert set(MENDED_FLAWS) == set(FLAWS)
