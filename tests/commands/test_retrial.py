"""Answers that are flawed, and what is asked again: whole jobs on the embedded engine, in this process."""

from __future__ import annotations

import csv
import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.clock import Clocked
from tests.engine_process import RunningEngine, engine_with_upstream
from tests.faults.rooms import Desk, Unsynced, batch_count, emptied, finished, request

from doubleword.results.reconciliation import Collector
from doubleword.server.api import Api
from doubleword.server.objects import Asked, Batch, BatchError
from doubleword.service import CHAT

SCHEMA = {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]}
FORM = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}


@pytest.fixture(scope="module")
def clock() -> Clocked:
    return Clocked(Unsynced())


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, clock: Clocked) -> Iterator[RunningEngine]:
    with engine_with_upstream(tmp_path_factory.mktemp("engine"), now=clock.now) as engine:
        yield engine


@pytest.fixture
def engine(running: RunningEngine) -> RunningEngine:
    emptied(running)
    return running


@pytest.fixture
def desk(tmp_path: Path, engine: RunningEngine, clock: Clocked) -> Desk:
    return Desk(tmp_path, engine.base_url, clock)


def answers(
    engine: RunningEngine, text: str, *, content: str | None = None, reason: str = "stop", times: int | None = 1
) -> None:
    """Let questions that contain `text` be answered so, `times` times or always."""
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": reason}
    usage = {"prompt_tokens": 10, "completion_tokens": 5}
    engine.upstream.fail(text, 200, json.dumps({"model": "test-chat", "choices": [choice], "usage": usage}), times)


def over(desk: Desk, engine: RunningEngine, texts: list[str], **body: Any) -> None:
    """Submit a job a.job.json that asks `texts` with `body`, and wait for its end."""
    lines = [request(f"row-{number}", text) for number, text in enumerate(texts, 1)]
    for line in lines:
        line["body"].update(body)
    (desk.folder / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert desk.run("submit", "a.jsonl").code == 0
    finished(engine)


def fetch(desk: Desk, *words: str) -> Any:
    return desk.run("fetch_results", "a.job.json", "--output", "x.jsonl", "--force", *words)


def retry(desk: Desk, engine: RunningEngine, *words: str) -> Any:
    ran = desk.run("retry_failed", "a.job.json", *words)
    finished(engine)
    return ran


def asked(engine: RunningEngine, text: str) -> list[dict[str, Any]]:
    """The bodies of all questions that contain `text`, in their order."""
    return [call for call in engine.upstream.calls if text in json.dumps(call)]


def test_flawed_answers_succeed_and_are_told(desk: Desk, engine: RunningEngine) -> None:
    """Exit 0, for they are answers; counted by flaw, each with an example and the next step."""
    answers(engine, "two", content="cut o", reason="length")
    answers(engine, "three", content="")
    answers(engine, "four", reason="content_filter")
    over(desk, engine, ["one", "two", "three", "four"])
    fetched = fetch(desk)
    assert (fetched.code, fetched.json["counts"]["succeeded"]) == (0, 4)
    assert fetched.json["answers"] == {"truncated": 1, "refused": 1, "empty": 1, "unfinished": 0, "invalid": 0}
    cut = next(one for one in fetched.json["warnings"] if "truncated" in one)
    assert "row-2" in cut and "--only truncated --max-tokens 10" in cut


def test_an_invalid_answer_has_failed_and_is_not_lost(desk: Desk, engine: RunningEngine) -> None:
    """Exit 6; the errors file holds the server's line with its error, the table the text, and the bill its tokens."""
    answers(engine, "one", content='{"word": "yes"}', times=None)
    answers(engine, "two", content='{"word": 7}')
    answers(engine, "three", content='{"wor', reason="length")
    over(desk, engine, ["one", "two", "three"], response_format=FORM)
    fetched = fetch(desk)
    assert (fetched.code, fetched.json["complete"]) == (6, True)
    assert fetched.json["counts"] == {"total": 3, "succeeded": 1, "failed": 2, "missing": 0}
    assert fetched.json["answers"] == {"truncated": 1, "refused": 0, "empty": 0, "unfinished": 0, "invalid": 2}
    assert fetched.json["usage"] == {
        "prompt_tokens": 30,
        "completion_tokens": 15,
        "cached_tokens": 0,
        "reasoning_tokens": 0,
    }
    steps = {one["example"]: (one["cause"], one["action"]) for one in fetched.json["failures"]}
    assert "at word: type" in steps["row-2"][0] and "--only invalid --note " in steps["row-2"][1]
    assert "cut off" in steps["row-3"][0] and steps["row-3"][1].endswith("--only truncated --max-tokens 10")
    assert "--only" in fetched.json["error"]["hint"]
    errors = [json.loads(line) for line in (desk.folder / "x.errors.jsonl").read_text().splitlines()]
    assert [row["error"]["code"] for row in errors] == ["invalid_answer", "invalid_answer"]
    assert errors[0]["response"]["body"]["choices"][0]["message"]["content"] == '{"word": 7}'
    table = desk.run("fetch_results", "a.job.json", "--format", "csv", "--output", "x.csv")
    with (desk.folder / "x.csv").open(newline="") as file:
        rows = [(row["status"], row["answer"], row["word"]) for row in csv.DictReader(file)]
    assert table.code == 6
    assert rows == [("succeeded", '{"word": "yes"}', "yes"), ("invalid", '{"word": 7}', ""), ("invalid", '{"wor', "")]


def test_bare_batches_are_judged_by_the_servers_copy_and_else_by_a_schema_file(
    desk: Desk, engine: RunningEngine
) -> None:
    """What was to be answered stands in the input file, here or on the server; the user can say something else."""
    answers(engine, "one", content='{"word": 7}')
    over(desk, engine, ["one"], response_format=FORM)
    identifier = desk.job()["batches"][0]["batch_id"]
    (desk.folder / "s.json").write_text(json.dumps(SCHEMA))
    assert desk.run("fetch_results", identifier, "--output", "y.jsonl").code == 6
    (desk.folder / "any.json").write_text("{}")
    assert desk.run("fetch_results", identifier, "--output", "u.jsonl", "--response-schema", "any.json").code == 0
    judged = desk.run("fetch_results", identifier, "--output", "z.jsonl", "--response-schema", "s.json")
    assert (judged.code, judged.json["answers"]["invalid"]) == (6, 1)
    (desk.folder / "a.jsonl").unlink()
    assert (fetch(desk).code, fetch(desk, "--response-schema", "s.json").code) == (6, 6)  # so is a job without its file


def test_what_only_a_schema_file_calls_invalid_is_asked_again_by_it(desk: Desk, engine: RunningEngine) -> None:
    """The step that the fetch names finds it, though its request asked for no schema."""
    answers(engine, "one", content='{"word": 7}')
    answers(engine, "one", content='{"word": "yes"}')
    over(desk, engine, ["one", "two"])
    answers(engine, "two", content='{"word": "never asked again"}')
    (desk.folder / "my s.json").write_text(json.dumps(SCHEMA))
    fetched = fetch(desk, "--response-schema", "my s.json")
    step = shlex.split(fetched.json["failures"][0]["action"])
    assert retry(desk, engine, *step[3:], "--ids", "row-1").code == 0
    assert [len(asked(engine, text)) for text in ("one", "two")] == [2, 1]
    assert fetch(desk, "--response-schema", "my s.json").json["answers"]["invalid"] == 1


def test_truncated_answers_are_asked_again_with_more_room(desk: Desk, engine: RunningEngine) -> None:
    """Only they, by the same id, as an attempt that the job knows with its change; the longer answer is delivered."""
    answers(engine, "two", content="cut o", reason="length")
    answers(engine, "two", content="cut off no more")
    over(desk, engine, ["one", "two", "three"], max_tokens=2)
    refused = retry(desk, engine, "--only", "truncated")
    assert (refused.code, refused.json["error"]["code"]) == (2, "same_request")
    dry = retry(desk, engine, "--only", "truncated", "--max-tokens", "50", "--dry-run")
    assert (dry.code, dry.json["batches"][0]["status"], desk.names()) == (0, "1 to retry", ["a.job.json", "a.jsonl"])
    assert retry(desk, engine, "--only", "truncated", "--max-tokens", "50").code == 0
    assert [call["max_tokens"] for call in asked(engine, "two")] == [2, 50]
    assert engine.upstream.count() == 4
    first, second = desk.job()["batches"]
    assert (second["attempt"], second["change"], second["left"]) == (2, {"max_tokens": 50}, 0)
    assert (first["change"], second["input"]["path"]) == (None, "a.attempt-2.jsonl")
    assert desk.run("poll", "a.job.json").code == 0
    fetched = fetch(desk)
    assert fetched.code == 0 and "answers" not in fetched.json
    assert desk.rows("x.jsonl")["row-2"] == "cut off no more"
    again = retry(desk, engine, "--only", "truncated", "--max-tokens", "50")
    assert (again.code, again.json["resumed"], batch_count(engine)) == (0, True, 2)


def test_a_part_that_is_asked_again_hides_not_the_rest(desk: Desk, engine: RunningEngine) -> None:
    """An invalid answer is mended; what failed besides is still counted, and retried later, the mended one not."""
    answers(engine, "one", content="no JSON")
    answers(engine, "one", content='{"word": "yes"}')
    answers(engine, "three", content='{"word": "yes"}', times=None)
    engine.upstream.fail("two", 409, times=1)
    answers(engine, "two", content='{"word": "late"}')
    over(desk, engine, ["one", "two", "three"], response_format=FORM)
    assert retry(desk, engine, "--only", "invalid", "--note", "In JSON.").code == 0
    assert asked(engine, "In JSON.")[0]["messages"][0]["content"] == "one\n\nIn JSON."
    assert desk.job()["batches"][1]["left"] == 1
    polled = desk.run("poll", "a.job.json")
    assert (polled.code, polled.json["counts"]) == (6, {"total": 3, "completed": 2, "failed": 1})
    assert fetch(desk).json["counts"] == {"total": 3, "succeeded": 2, "failed": 1, "missing": 0}
    assert retry(desk, engine).code == 0
    assert desk.run("poll", "a.job.json").code == 0
    fetched = fetch(desk)
    assert (fetched.code, desk.rows("x.jsonl")["row-2"]) == (0, '{"word": "late"}')
    assert [len(asked(engine, text)) for text in ("one", "two", "three")] == [2, 2, 1]


def test_a_good_answer_is_never_replaced_by_a_flawed_one(desk: Desk, engine: RunningEngine) -> None:
    """Whatever the later attempt gives: cut off again, or a failure; and of two flawed ones the later counts."""
    for content in ("cut 1", "cut 2"):
        answers(engine, "one", content=content, reason="length")
    answers(engine, "two", content="cut 1", reason="length")
    engine.upstream.fail("two", 409, times=1)
    over(desk, engine, ["one", "two"])
    assert retry(desk, engine, "--only", "truncated", "--max-tokens", "9").code == 0
    assert desk.run("poll", "a.job.json").code == 6  # one of those asked again failed
    fetched = fetch(desk)
    assert (fetched.code, fetched.json["answers"]["truncated"]) == (0, 2)
    assert desk.rows("x.jsonl") == {"row-1": "cut 2", "row-2": "cut 1"}
    assert retry(desk, engine).code == 0  # what was asked again, and failed, is open until it is answered
    assert engine.upstream.count("two") == 3
    assert desk.run("poll", "a.job.json").code == 0
    fetch(desk)
    assert desk.rows("x.jsonl")["row-2"] == "answer to: two"


def test_the_history_tells_every_attempt(desk: Desk, engine: RunningEngine) -> None:
    """One line for each, oldest first, with its change and the server's own line; and the bill counts all."""
    answers(engine, "two", content="cut o", reason="length")
    answers(engine, "two", content="whole", times=None)
    engine.upstream.fail("three", 400)
    over(desk, engine, ["one", "two", "three"])
    assert retry(desk, engine, "--only", "truncated", "--model", "test-chat").code == 0
    fetched = fetch(desk, "--history", "h.jsonl")
    assert fetched.code == 6
    rows = [json.loads(line) for line in (desk.folder / "h.jsonl").read_text().splitlines()]
    told = [(row["custom_id"], row["attempt"], row["kind"], row["flaws"], row["change"]) for row in rows]
    assert told == [
        ("row-1", 1, "succeeded", [], None),
        ("row-2", 1, "succeeded", ["truncated"], None),
        ("row-2", 2, "succeeded", [], {"model": "test-chat"}),
        ("row-3", 1, "failed", [], None),
    ]
    assert rows[1]["line"]["response"]["body"]["choices"][0]["message"]["content"] == "cut o"
    assert "told to fail" in rows[3]["cause"]
    assert fetched.json["usage"]["prompt_tokens"] == 1 + 10 + 10
    again = desk.run("fetch_results", "a.job.json", "--output", "x.jsonl", "--history", "h.jsonl")
    assert (again.code, again.json) == (6, fetched.json)
    (desk.folder / "h.jsonl").unlink()
    other = desk.run("fetch_results", "a.job.json", "--output", "x.jsonl", "--history", "h.jsonl")
    assert other.json["error"]["code"] == "output_exists"  # not the delivery that was recorded


def test_a_request_is_asked_as_it_was_asked_last(desk: Desk, engine: RunningEngine) -> None:
    """A second attempt keeps the change of the first, and adds its own."""
    answers(engine, "one", content="cut o", reason="length")
    answers(engine, "one", content="")
    over(desk, engine, ["one", "two"], max_tokens=2)
    assert retry(desk, engine, "--only", "truncated", "--max-tokens", "50").code == 0
    assert fetch(desk).json["answers"]["empty"] == 1  # no better and no worse, but the later
    assert retry(desk, engine, "--only", "truncated,empty", "--note", "Please.").code == 0
    last = asked(engine, "Please.")[0]
    assert (last["max_tokens"], last["messages"][0]["content"]) == (50, "one\n\nPlease.")


def test_an_answer_of_no_use_that_the_server_calls_completed_is_asked_again(desk: Desk, engine: RunningEngine) -> None:
    """All is completed by its counts; the rows tell otherwise, and the retry that the fetch names does something."""
    engine.upstream.fail("two", 200, "{}", times=1)
    over(desk, engine, ["one", "two"])
    fetched = fetch(desk)
    assert (fetched.code, fetched.json["counts"]["failed"]) == (6, 1)
    assert retry(desk, engine).code == 0
    assert fetch(desk).code == 0
    assert [engine.upstream.count(text) for text in ("one", "two")] == [1, 2]


class Killed(BaseException):
    """What ends a process, and no handler."""


def killed(*_: Any, **__: Any) -> Any:
    raise Killed


def test_an_attempt_that_was_planned_is_the_one_that_is_sent(
    desk: Desk, engine: RunningEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that ended before it was submitted: another change is refused, the next run sends it, and no second one."""
    engine.upstream.fail("one", 409, times=1)
    over(desk, engine, ["one", "two"])
    monkeypatch.setattr("doubleword.commands.retry_failed.carry_out", killed)
    with pytest.raises(Killed):
        retry(desk, engine, "--only", "failed", "--model", "test-chat")
    monkeypatch.undo()
    assert [one["state"] for one in desk.job()["batches"]] == ["created", "planned"]
    other = retry(desk, engine, "--only", "failed", "--model", "another")
    assert (other.code, other.json["error"]["code"], batch_count(engine)) == (2, "attempt_planned", 1)
    sent = retry(desk, engine)
    assert (sent.code, sent.json["resumed"], batch_count(engine)) == (0, True, 2)
    assert desk.job()["batches"][1]["change"] == {"model": "test-chat"}


def test_an_attempt_that_the_server_refuses_is_planned_no_more(desk: Desk, engine: RunningEngine) -> None:
    """A model that does not exist: poll, fetch and another retry go on as if it had never been named."""
    engine.upstream.fail("one", 409, times=1)
    over(desk, engine, ["one", "two"])
    refused = retry(desk, engine, "--only", "failed", "--model", "no-such-model")
    assert (refused.code, refused.json["error"]["code"]) == (3, "forbidden")
    assert (len(desk.job()["batches"]), desk.names()) == (1, ["a.job.json", "a.jsonl"])
    assert desk.run("poll", "a.job.json").code == 6
    assert retry(desk, engine, "--only", "failed", "--model", "test-chat").code == 0
    assert fetch(desk).code == 0
    assert [engine.upstream.count(text) for text in ("one", "two")] == [2, 1]


@pytest.mark.parametrize("done", ["edited", "deleted"])
def test_a_planned_attempt_whose_file_was_touched_is_planned_anew(
    desk: Desk, engine: RunningEngine, monkeypatch: pytest.MonkeyPatch, done: str
) -> None:
    """Nothing of it was sent, so nothing is lost; the batch file still says what was asked."""
    engine.upstream.fail("one", 409, times=1)
    over(desk, engine, ["one", "two"])
    monkeypatch.setattr("doubleword.commands.retry_failed.carry_out", killed)
    with pytest.raises(Killed):
        retry(desk, engine, "--only", "failed", "--note", "Please.")
    monkeypatch.undo()
    made = desk.folder / "a.attempt-2.jsonl"
    made.write_text(made.read_text().replace("one", "another")) if done == "edited" else made.unlink()
    refused = retry(desk, engine)
    assert (refused.code, len(desk.job()["batches"]), batch_count(engine)) == (2, 1, 1)
    assert retry(desk, engine, "--only", "failed", "--note", "Please.").code == 0
    assert [engine.upstream.count(text) for text in ("one", "another", "two")] == [2, 0, 1]
    assert fetch(desk).code == 0


def test_two_jobs_of_one_batch_file_keep_their_attempts_apart(desk: Desk, engine: RunningEngine) -> None:
    """A second, paid job by --job is the user's choice; its retry leaves alone what the first one asked."""
    engine.upstream.fail("one", 409, times=2)
    over(desk, engine, ["one", "two"])
    assert desk.run("submit", "a.jsonl", "--job", "other.job.json").code == 0
    finished(engine)
    assert retry(desk, engine, "--only", "failed", "--note", "First.").code == 0
    kept = (desk.folder / "a.attempt-2.jsonl").read_bytes()
    assert desk.run("retry_failed", "other.job.json", "--only", "failed", "--note", "Second.").code == 0
    finished(engine)
    assert (desk.folder / "a.attempt-2.jsonl").read_bytes() == kept
    assert desk.job("other.job.json")["batches"][1]["input"]["path"] == "a.other.attempt-2.jsonl"


def test_an_older_copy_of_the_job_file_pays_nothing_again(desk: Desk, engine: RunningEngine) -> None:
    """The server knows an attempt that the copy does not; put back or adopted elsewhere, it is told and refused."""
    engine.upstream.fail("one", 409, times=1)
    over(desk, engine, ["one", "two"])
    older = (desk.folder / "a.job.json").read_bytes()
    assert retry(desk, engine, "--only", "failed", "--note", "Please.").code == 0
    newer = (desk.folder / "a.job.json").read_bytes()
    (desk.folder / "a.job.json").write_bytes(older)
    refused = retry(desk, engine, "--only", "failed", "--note", "Please.")
    assert (refused.code, refused.json["error"]["code"], batch_count(engine)) == (2, "job_outdated", 2)
    assert f"--adopt {desk.job()['id']}" in refused.json["error"]["hint"]
    assert (desk.folder / "a.job.json").read_bytes() == older
    (desk.folder / "a.job.json").write_bytes(newer)
    assert retry(desk, engine, "--only", "failed", "--note", "Please.").json["resumed"] is True
    assert engine.upstream.count("one") == 2


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--only", "failed,nonsense"], "bad_arguments"),
        (["--only", ""], "bad_arguments"),
        (["--max-tokens", "0"], "bad_arguments"),
        (["--note", " "], "bad_arguments"),
        (["--only", "truncated"], "same_request"),
        (["--only", "failed", "--model", "test-chat", "--max-cost", "1"], "cost_unknown"),
    ],
)
def test_what_makes_no_sense_changes_nothing(desk: Desk, engine: RunningEngine, words: list[str], code: str) -> None:
    """Not the job file, not the folder, not the server."""
    engine.upstream.fail("one", 409, times=1)
    over(desk, engine, ["one", "two"])
    before = {path: path.read_bytes() for path in desk.folder.iterdir()}
    refused = retry(desk, engine, *words)
    assert (refused.code, refused.json["error"]["code"]) == (8 if code == "cost_unknown" else 2, code)
    assert {path: path.read_bytes() for path in desk.folder.iterdir()} == before
    assert batch_count(engine) == 1


def test_an_older_job_file_loads_and_a_retry_goes_on_from_it(desk: Desk, engine: RunningEngine) -> None:
    """Files written before attempts could be partial or changed lack the fields for it."""
    engine.upstream.fail("one", 409, times=1)
    over(desk, engine, ["one", "two"])
    job = desk.job()
    for one in job["batches"]:
        del one["left"], one["change"]
    (desk.folder / "a.job.json").write_text(json.dumps(job))
    assert retry(desk, engine).code == 0
    assert fetch(desk).code == 0


def test_what_would_fail_again_is_left_out_and_told(desk: Desk, engine: RunningEngine) -> None:
    """Neither by the server's own retry, which makes no difference, nor by an attempt; chosen, it is asked."""
    engine.upstream.fail("two", 400)
    engine.upstream.fail("three", 409, times=1)
    over(desk, engine, ["one", "two", "three"])
    first = fetch(desk)
    causes = [(one["cause"][:8], one["ids"]) for one in first.json["failures"]]
    assert causes == [("HTTP 409", ["row-3"]), ("HTTP 400", ["row-2"])]
    assert first.json["error"]["hint"] == first.json["failures"][0]["action"]
    dry = retry(desk, engine, "--dry-run")
    assert (dry.code, dry.json["batches"][0]["status"]) == (0, "1 to retry") and "HTTP 400" in dry.json["warnings"][0]
    done = retry(desk, engine)
    assert done.code == 0 and "1 requests are left out" in done.json["warnings"][0]
    assert (engine.upstream.count("two"), engine.upstream.count("three")) == (1, 2)
    assert fetch(desk).json["counts"] == {"total": 3, "succeeded": 2, "failed": 1, "missing": 0}
    again = retry(desk, engine)
    assert (again.json["resumed"], engine.upstream.count("two")) == (True, 1)
    assert retry(desk, engine, "--cause", "http 400").code == 0
    assert (engine.upstream.count("two"), engine.upstream.count()) == (2, 5)


def test_ids_choose_whatever_became_of_them(desk: Desk, engine: RunningEngine) -> None:
    """Listed, one a line, or in the errors file; ids of another job are refused before anything is asked."""
    engine.upstream.fail("two", 409, times=2)
    over(desk, engine, ["one", "two", "three"])
    refused = retry(desk, engine, "--ids", "row-2,row-9")
    assert (refused.code, "row-9" in refused.json["error"]["message"], engine.upstream.count()) == (2, True, 3)
    fetch(desk)
    assert retry(desk, engine, "--ids", str(desk.folder / "x.errors.jsonl")).code == 0
    (desk.folder / "marks.csv").write_text("custom_id,mark,note\nrow-1,right,\nrow-2,unsure,\nrow-3,wrong,bad\n")
    assert retry(desk, engine, "--ids", str(desk.folder / "marks.csv"), "--note", "Think.").code == 0
    (desk.folder / "ids.txt").write_text("row-2\n\n")
    assert retry(desk, engine, "--ids", str(desk.folder / "ids.txt")).code == 0
    counts = [engine.upstream.count(text) for text in ("one", "two", "three")]
    assert counts == [1, 3, 2]
    assert fetch(desk).code == 0


def test_each_action_works_as_it_stands(desk: Desk, engine: RunningEngine) -> None:
    """Every command that a fetch names is run; what one retry did not mend is not advised again."""
    answers(engine, "two", content="cut o", reason="length")
    answers(engine, "three", content="", times=2)
    answers(engine, "five", content="no JSON", times=2)
    engine.upstream.fail("four", 409, times=1)
    lines = [request(f"row-{number}", text) for number, text in enumerate(["one", "two", "three", "four", "five"], 1)]
    lines[4]["body"]["response_format"] = FORM
    (desk.folder / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert desk.run("submit", "a.jsonl").code == 0
    finished(engine)
    told: list[str] = []
    for _ in range(4):
        found = fetch(desk)
        steps = [one["action"] for one in found.json.get("failures", [])]
        steps += [one.partition(": ")[2] for one in found.json.get("warnings", []) if "retry_failed.py" in one]
        if not steps:
            break
        command = steps[0][steps[0].index("retry_failed.py") :].replace("--model ID", "--model test-chat")
        assert command not in told
        told.append(command)
        assert desk.run("retry_failed", *shlex.split(command)[1:]).code == 0
        finished(engine)
    assert any("--note" in command for command in told) and any("--max-tokens 10" in command for command in told)


@pytest.mark.parametrize("kind", ["output", "error"])
def test_a_deleted_result_file_is_gone_and_never_later(desk: Desk, engine: RunningEngine, kind: str) -> None:
    """What is left is given; a plain retry never pays for answers once more."""
    engine.upstream.fail("two", 409, times=1)
    over(desk, engine, ["one", "two", "three"])
    (batch,) = desk.job()["batches"]
    seen = engine.call("GET", f"/batches/{batch['batch_id']}").json()
    assert engine.call("DELETE", f"/files/{seen[f'{kind}_file_id']}").status_code == 200
    desk.system.sleep(4000.0)
    found = fetch(desk)
    gone = {"output": (0, 1, 2), "error": (2, 1, 0)}[kind]
    assert (found.code, found.json["complete"]) == (6, True)
    assert tuple(found.json["counts"][name] for name in ("succeeded", "failed", "missing")) == gone
    asked_before = engine.upstream.count()
    assert retry(desk, engine).code == 0
    assert engine.upstream.count() == asked_before + 1  # what failed, and nothing that was answered


def test_the_reason_of_a_whole_batch_stands_with_its_rows(desk: Desk, engine: RunningEngine) -> None:
    """A batch that the server refused as a whole: its words are the cause of each request."""
    said = BatchError("token_limit_exceeded", "Enqueued token limit reached for m")
    batch = Batch(
        id="b", status="failed", endpoint=CHAT, input_file_id="f", output_file_id=None, error_file_id=None,
        window="24h", created_at=1, expires_at=None, ended_at=2, total=2, completed=0, failed=0, errors=(said,),
    )  # fmt: skip
    path = desk.folder / "a.jsonl"
    path.write_text("".join(json.dumps(request(f"row-{n}", "x")) + "\n" for n in (1, 2)))
    api = Api(engine.base_url, engine.key, desk.system)
    with Collector(api, desk.system, desk.folder / "rows", lambda _: None) as collector:
        causes = [one.cause for one in collector.collect([Asked(path, 2, CHAT, (batch,))])]
    assert causes == ["Enqueued token limit reached for m (token_limit_exceeded)"] * 2
