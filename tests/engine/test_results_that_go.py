"""Result files that grow late, go, or outlive what was asked; and what the engine tells of models."""

from __future__ import annotations

import json
from pathlib import Path

from tests.engine.conftest import chat_line, look, rows, start_batch, wait_for
from tests.engine_process import RunningEngine, engine_with_upstream, wait_until
from tests.upstream import CHAT_MODEL

from doubleword.engine.settings import Settings


def known_lines(engine: RunningEngine) -> list[str]:
    """What the store knows of the bodies of request lines."""
    with engine.store.reading() as connection:
        return [row["body"] for row in connection.execute("SELECT body FROM lines")]


def test_answers_under_way_supersede_a_cancel(tmp_path: Path) -> None:
    """The counts and the output file of a cancelled batch go on growing, though X-Incomplete says false."""
    with engine_with_upstream(tmp_path, concurrency=4) as engine:
        engine.upstream.delay("slow", 60)
        batch_id = start_batch(engine, [chat_line(str(n), "slow") for n in range(20)])
        wait_until(lambda: engine.upstream.running == 4, "four questions")
        batch = engine.call("POST", f"/batches/{batch_id}/cancel").json()
        assert (batch["status"], batch["request_counts"]["completed"]) == ("cancelled", 0)
        output = engine.call("GET", f"/files/{batch['output_file_id']}/content")
        assert (output.headers["X-Incomplete"], output.content) == ("false", b"")
        engine.upstream.release()
        wait_until(lambda: look(engine, batch_id)["request_counts"]["completed"] == 4, "the late answers")
        assert look(engine, batch_id)["status"] == "cancelled"
        assert len(rows(engine, batch["output_file_id"])) == 4
        assert engine.upstream.count("slow") == 4


def test_deleted_results_are_gone_for_good(tmp_path: Path) -> None:
    """410 wherever their rows would be; the other file is still there."""
    with engine_with_upstream(tmp_path) as engine:
        engine.upstream.fail("bad", 400)
        batch = wait_for(engine, start_batch(engine, [chat_line("a"), chat_line("b", "bad")]))
        engine.call("DELETE", f"/files/{batch['output_file_id']}")
        results = f"/batches/{batch['id']}/results"
        for path in (f"/files/{batch['output_file_id']}/content", results, f"{results}?status=completed"):
            reply = engine.call("GET", path)
            assert (reply.status_code, "has been deleted" in reply.text) == (410, True)
        assert engine.call("GET", f"{results}?status=failed").status_code == 200
        assert [row["custom_id"] for row in rows(engine, batch["error_file_id"])] == ["b"]


def test_results_outlive_their_input_and_forget_what_was_asked(tmp_path: Path) -> None:
    """The prompts are nowhere in the store any more; the rows keep their order, ids and models."""
    with engine_with_upstream(tmp_path) as engine:
        engine.upstream.say("secret prompt", "fine")
        batch = wait_for(engine, start_batch(engine, [chat_line(name, "secret prompt") for name in "ab"]))
        engine.call("DELETE", f"/files/{batch['input_file_id']}")
        lines = engine.call("GET", f"/batches/{batch['id']}/results").text.splitlines()
        found = [json.loads(line) for line in lines]
        assert [(row["custom_id"], row["model"], row["input_body"]) for row in found] == [
            ("a", CHAT_MODEL, None),
            ("b", CHAT_MODEL, None),
        ]
        assert found[1]["response_body"]["choices"][0]["message"]["content"] == "fine"
        assert known_lines(engine) == ["null", "null"]


def test_an_input_that_no_batch_used_leaves_nothing(tmp_path: Path) -> None:
    """Deleted, it is gone whole; one that was used goes with its last batch."""
    clock = [1_800_000_000.0]
    with engine_with_upstream(tmp_path, now=lambda: clock[0]) as engine:
        content = json.dumps(chat_line("a"))
        unused = engine.call("POST", "/files", files={"file": ("f", content)}).json()["id"]
        batch = wait_for(engine, start_batch(engine, [chat_line("b")]))
        for file_id in (unused, batch["input_file_id"]):
            engine.call("DELETE", f"/files/{file_id}")
        assert known_lines(engine) == ["null"]
        engine.call("DELETE", f"/batches/{batch['id']}")
    clock[0] += 601
    with engine_with_upstream(tmp_path, now=lambda: clock[0]) as engine:
        wait_until(lambda: known_lines(engine) == [], "the purge")


def test_a_batch_names_its_model_or_says_that_they_are_mixed(tmp_path: Path) -> None:
    """Also after its input file is gone."""
    with engine_with_upstream(tmp_path) as engine:
        engine.upstream.models.append("other")
        one = wait_for(engine, start_batch(engine, [chat_line("a")]))
        two = wait_for(engine, start_batch(engine, [chat_line("a"), chat_line("b", model="other")]))
        engine.call("DELETE", f"/files/{one['input_file_id']}")
        assert (look(engine, one["id"])["model"], two["model"]) == (CHAT_MODEL, "mixed")


def test_models_that_only_batches_reach_are_told_and_refuse_at_once(tmp_path: Path) -> None:
    """In their batches they answer; their efforts are told where that is asked for."""
    efforts = {CHAT_MODEL: {"chat_completions": ["none", "low"]}}
    settings = Settings(batch_only=frozenset({CHAT_MODEL}), reasoning_efforts=efforts)
    with engine_with_upstream(tmp_path, settings=settings) as engine:

        def listed(query: str) -> dict[str, object]:
            models = engine.call("GET", f"/models?{query}").json()["data"]
            return {model["id"]: model.get("supported_reasoning_efforts") for model in models}

        assert listed("available_for_realtime=false") == {CHAT_MODEL: None}
        assert CHAT_MODEL not in listed("available_for_realtime=true")
        assert listed("include_reasoning_capabilities=true")[CHAT_MODEL] == efforts[CHAT_MODEL]
        reply = engine.call("POST", "/chat/completions", json=chat_line("a")["body"])
        assert (reply.status_code, "blocked by a routing rule" in reply.text) == (403, True)
        wait_for(engine, start_batch(engine, [chat_line("a")]))
