"""What to do next: one step for each cause and flaw, and each command that is named can be run as it stands."""

from __future__ import annotations

import importlib
import json
import shlex
from typing import Any

import pytest

from doubleword.answers.judgement import FLAWS
from doubleword.jobs.attempts import asked_for
from doubleword.results.advice import GONE, ORDER, Advice, is_lasting
from doubleword.service import CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES
from doubleword.system import Disk

BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"messages": [{"role": "user", "content": "a"}]}, COMPLETIONS: {"prompt": "a"},
    RESPONSES: {"input": "a"}, EMBEDDINGS: {"input": "a"},
}  # fmt: skip
OF_A_JOB, OF_BARE_IDS = Advice("retry JOB", "list_models.py"), Advice(None, "list_models.py")


@pytest.mark.parametrize(
    ("cause", "flaws", "said"),
    [
        ("HTTP 402: Account balance too low.", (), "add credit to the account, then retry JOB"),
        ("HTTP 404: no such model", (), "list_models.py"),
        ("HTTP 400: too long", (), "will not help"),
        ("HTTP 413: too large", (), "will not help"),
        ("HTTP 422: no such thing", (), "will not help"),
        ("HTTP 503: overloaded", (), "it may pass"),
        ("Timeout: no answer", (), "it may pass"),
        ("Upstream idle timeout", (), "it may pass"),
        ("the answer ended with insufficient_system_resource", (), "it may pass"),
        ("Enqueued token limit reached for m (token_limit_exceeded)", (), "it may pass"),
        ("This line is not parseable as valid JSON. (invalid_json_line, line 3)", (), "will not help"),
        ("The provided model is gone. (model_not_found, line 1)", (), "retry JOB --cause model_not_found --model ID"),
        ("Billing hard limit has been reached (billing_hard_limit_reached)", (), "add credit to the account"),
        ("no row: it was cancelled", (), "retry JOB"),
        (f"{GONE}, for good", (), "asking again is paid again: retry JOB --only missing"),
        ("the answer has not the shape of /v1/embeddings", (), "asking again is paid again: retry JOB"),
        ("the answer is text, not the JSON object of this endpoint", (), "asking again is paid again: retry JOB"),
        ("the answer's line cannot be read as JSON", (), "asking again is paid again: retry JOB"),
        ("the answer ended with abort", (), "retry JOB"),
        ("the vector holds NaN or infinity", (), "retry JOB"),
        ("the vector came as int4, which is not read here", (), "--format jsonl"),
        ("the answer is cut off", ("truncated", "invalid"), "retry JOB --only truncated --max-tokens 1000"),
        ("the answer breaks its schema", ("invalid",), 'retry JOB --only invalid --note "'),
        ("the answer stops without an end", ("empty", "unfinished", "invalid"), "retry JOB --only unfinished"),
    ],
)
def test_each_cause_has_its_step(cause: str, flaws: tuple[str, ...], said: str) -> None:
    """What passes is asked again later, what money mends after paying, what is wrong not as it was."""
    assert said in OF_A_JOB.step(cause, flaws)
    assert "retry" not in OF_BARE_IDS.step(cause, flaws)


def test_where_lines_cannot_be_read_a_missing_row_may_have_its_answer_there() -> None:
    """So that asking it again may pay it twice."""
    told = Advice("retry JOB", "list_models.py", unreadable=True).step("no row, though the batch is completed")
    assert told.endswith("asking again is paid again: retry JOB")


@pytest.mark.parametrize("code", [400, 413, 422])
def test_what_was_refused_as_it_is_is_not_asked_again(code: int) -> None:
    """By no command at all; a 404 with another model."""
    assert "retry JOB" not in OF_A_JOB.step(f"HTTP {code}: no")
    assert is_lasting(f"HTTP {code}: no") and is_lasting("HTTP 404: no") and not is_lasting("HTTP 4000: no")
    assert 'retry JOB --cause "HTTP 404" --model ID' in OF_A_JOB.step("HTTP 404: no")


def test_an_answer_that_was_cut_off_gets_twice_the_room() -> None:
    """Of what the longest one took."""
    assert Advice("retry JOB", "", cut_at=300).step("", ("truncated",)).endswith("--max-tokens 600")


@pytest.mark.parametrize("endpoint", BODIES)
@pytest.mark.parametrize("noted", [False, True])
def test_each_command_for_a_flaw_is_taken_and_changes_the_request(endpoint: str, noted: bool) -> None:
    """By the script's own parser, for requests to every endpoint; where a note did not help, another model is named."""
    advice = Advice("retry_failed.py a.job.json", "list_models.py", noted)
    for flaw in FLAWS if endpoint != EMBEDDINGS else ("empty",):
        command = advice.step("", (flaw,), endpoint)
        words = shlex.split(command[command.index("retry_failed.py") :].replace("--model ID", "--model m"))
        wanted = asked_for(importlib.import_module("retry_failed").parser().parse_args(words[1:]), Disk())
        assert wanted.kinds == frozenset({flaw})
        line = {"custom_id": "a", "method": "POST", "url": endpoint, "body": {"model": "n", **BODIES[endpoint]}}
        changed = wanted.change.applied(json.dumps(line).encode())
        assert (json.loads(changed) == line) == (not wanted.change)
        assert ("--note" in command) <= (not noted and endpoint != EMBEDDINGS)
    assert set(ORDER) == set(FLAWS)
