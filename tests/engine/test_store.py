"""The data folder: what stays when the process ends, who works when several engines share it, and limits."""

from __future__ import annotations

import contextlib
import io
import json
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.engine.conftest import causes, chat_line, look, rows, start_batch, wait_for
from tests.engine_process import engine_with_upstream, serve, server_process, wait_until
from tests.upstream import Upstream

from doubleword.engine.settings import Limits, Settings
from doubleword.engine.storage.batches import Refused
from doubleword.engine.storage.contents import Contents, Page
from doubleword.engine.storage.store import Store
from doubleword.engine.upload import LineReader, UploadReader
from doubleword.failure import Failure


def test_a_killed_engine_goes_on_where_it_was(tmp_path: Path) -> None:
    """SIGKILL in the middle of a batch: each custom_id ends exactly once, and no answer changes."""
    upstream = Upstream()
    lines = [chat_line(f"r{n}", f"{'wait' if n % 3 == 0 else 'go'} {n}") for n in range(60)]
    with serve(upstream.app) as url:
        with upstream.hold("wait"), server_process(tmp_path, "--upstream", url) as engine:
            batch_id = start_batch(engine, lines)
            wait_until(lambda: look(engine, batch_id)["request_counts"]["completed"] >= 5, "five answers")
            before = rows(engine, look(engine, batch_id)["output_file_id"])
            engine.process.kill()
            engine.process.wait()
        with server_process(tmp_path, "--upstream", url) as engine:
            batch = wait_for(engine, batch_id)
            after = rows(engine, batch["output_file_id"])
    assert batch["request_counts"] == {"total": 60, "completed": 60, "failed": 0}
    assert after[: len(before)] == before
    assert sorted(row["custom_id"] for row in after) == sorted(line["custom_id"] for line in lines)
    done = {row["custom_id"] for row in before}
    assert all(upstream.count(line["body"]["messages"][0]["content"]) >= 1 for line in lines)
    questions = [call["messages"][0]["content"] for call in upstream.calls]
    again = {question for question in questions if questions.count(question) > 1}
    assert not again & {line["body"]["messages"][0]["content"] for line in lines if line["custom_id"] in done}


def test_what_was_being_answered_at_a_kill_is_asked_again(tmp_path: Path) -> None:
    """Attempts survive too: the retries that were used up stay used up."""
    with engine_with_upstream(tmp_path, works=False) as engine:
        batch_id = start_batch(engine, [chat_line("a"), chat_line("b")])
    with engine_with_upstream(tmp_path) as engine:
        wait_for(engine, batch_id)
    with sqlite3.connect(tmp_path / "engine.sqlite3") as connection:
        connection.execute("UPDATE requests SET state = 'processing', outcome = NULL WHERE custom_id = 'a'")
        connection.execute("UPDATE batches SET completed_at = NULL")
    connection.close()
    with engine_with_upstream(tmp_path) as engine:
        batch = wait_for(engine, batch_id)
        assert [call["messages"][0]["content"] for call in engine.upstream.calls] == ["hi"]
        assert sorted(row["custom_id"] for row in rows(engine, batch["output_file_id"])) == ["a", "b"]


def test_engines_that_share_a_folder_never_do_the_same_work_twice(tmp_path: Path) -> None:
    """One works; batches made through the other are worked on all the same."""
    with engine_with_upstream(tmp_path) as first, engine_with_upstream(tmp_path) as second:
        ids = [start_batch(engine, [chat_line(str(n), f"{n}") for n in range(20)]) for engine in (first, second)]
        for batch_id in ids:
            assert wait_for(second, batch_id)["request_counts"]["completed"] == 20
        assert sorted([first.upstream.count(), second.upstream.count()]) == [0, 40]


def test_the_next_engine_takes_over_when_the_working_one_ends(tmp_path: Path) -> None:
    """What was pending, and what was being answered, is done by the other."""
    stuck = Upstream()
    with contextlib.ExitStack() as stack:
        with stuck.hold("slow"), engine_with_upstream(tmp_path, upstream=stuck) as first:
            batch_id = start_batch(first, [chat_line(str(n), "slow") for n in range(12)])
            wait_until(lambda: stuck.running, "the first to work")
            second = stack.enter_context(engine_with_upstream(tmp_path))
        batch = wait_for(second, batch_id)
        assert batch["request_counts"] == {"total": 12, "completed": 12, "failed": 0}
        assert second.upstream.count() == 12


def test_a_batch_that_was_only_created_stays_validating_until_an_engine_works(tmp_path: Path) -> None:
    """A cancel before then shows cancelling, and cancelled once its rows exist; nothing is asked."""
    with engine_with_upstream(tmp_path, works=False) as engine:
        kept = start_batch(engine, [chat_line("a")])
        dropped = start_batch(engine, [chat_line("a", "never")])
        assert look(engine, kept)["status"] == "validating"
        results = engine.call("GET", f"/batches/{kept}/results")
        assert (results.headers["X-Incomplete"], results.content) == ("false", b"")
        output = engine.call("GET", f"/files/{look(engine, kept)['output_file_id']}/content")
        assert output.headers["X-Incomplete"] == "true"
        assert engine.call("POST", f"/batches/{dropped}/cancel").json()["status"] == "cancelling"
    with engine_with_upstream(tmp_path) as engine:
        wait_for(engine, kept)
        assert wait_for(engine, dropped, "cancelled")["request_counts"]["completed"] == 0
        assert engine.upstream.count("never") == 0


def test_a_download_ends_where_it_was_when_it_began(tmp_path: Path) -> None:
    """Answers that arrive meanwhile belong to the next download, as X-Last-Line said."""
    with engine_with_upstream(tmp_path) as engine:
        with engine.upstream.hold("later"):
            batch_id = start_batch(engine, [chat_line("early"), chat_line("late", "later")])
            wait_until(lambda: look(engine, batch_id)["request_counts"]["completed"], "the early answer")
            download = Contents(engine.store).of_file(look(engine, batch_id)["output_file_id"], Page())
        wait_for(engine, batch_id)
        assert download is not None
        assert download.headers == {"X-Incomplete": "true", "X-Last-Line": "1"}
        assert [json.loads(line)["custom_id"] for line in download.lines] == ["early"]


def test_the_folder_is_for_its_owner_alone(tmp_path: Path) -> None:
    """Prompts and answers are nobody else's business."""
    store = Store(tmp_path / "new")
    store.close()
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


def test_a_folder_of_an_unknown_version_is_refused(tmp_path: Path) -> None:
    """Nothing is guessed about what another version wrote."""
    Store(tmp_path).close()
    with sqlite3.connect(tmp_path / "engine.sqlite3") as connection:
        connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(Failure) as refused:
        Store(tmp_path)
    assert (refused.value.exit_code, refused.value.code) == (2, "unknown_version")


def test_a_second_cancel_changes_nothing(tmp_path: Path) -> None:
    """The time of the first stays."""
    clock = [1_800_000_000.0]
    with engine_with_upstream(tmp_path, now=lambda: clock[0]) as engine:
        batch_id = wait_for(engine, start_batch(engine, [chat_line("a")]))["id"]
        first = engine.call("POST", f"/batches/{batch_id}/cancel").json()
        clock[0] += 100
        assert engine.call("POST", f"/batches/{batch_id}/cancel").json() == first


def test_a_batch_of_a_model_that_is_gone_is_refused(tmp_path: Path) -> None:
    """The file was accepted while the model was there."""
    with engine_with_upstream(tmp_path) as engine:
        batch = wait_for(engine, start_batch(engine, [chat_line("a")]))
        engine.upstream.models = ["another"]
        body = {name: batch[name] for name in ("input_file_id", "endpoint", "completion_window")}
        reply = engine.call("POST", "/batches", json=body)
        assert (reply.status_code, reply.text) == (400, "The following model(s) are no longer available: test-chat")


def test_rows_of_a_deleted_batch_are_purged_after_ten_minutes(tmp_path: Path) -> None:
    """Until then its output can be read."""
    clock = [1_800_000_000.0]
    with engine_with_upstream(tmp_path, now=lambda: clock[0]) as engine:
        batch = wait_for(engine, start_batch(engine, [chat_line("a")]))
        engine.call("DELETE", f"/batches/{batch['id']}")
        assert len(rows(engine, batch["output_file_id"])) == 1
    clock[0] += 601
    with engine_with_upstream(tmp_path, now=lambda: clock[0]) as engine:
        path = f"/files/{batch['output_file_id']}"
        wait_until(lambda: engine.call("GET", path).status_code == 404, "the purge")


def test_retry_of_a_batch_without_its_input_is_refused(tmp_path: Path) -> None:
    """Its request lines are gone, and nothing pretends otherwise."""
    with engine_with_upstream(tmp_path) as engine:
        engine.upstream.fail("bad", 400)
        batch_id = start_batch(engine, [chat_line("a", "bad")])
        batch = wait_for(engine, batch_id, "failed")
        engine.call("DELETE", f"/files/{batch['input_file_id']}")
        reply = engine.call("POST", f"/batches/{batch_id}/retry")
        assert (reply.status_code, "deleted" in reply.text) == (400, True)
        assert look(engine, batch_id)["status"] == "failed"
        assert list(causes(engine, batch_id)) == ["a"]


def test_files_over_the_limits_are_refused(tmp_path: Path) -> None:
    """Requests, bytes and the size of one body, each in the server's words; nothing is stored."""
    limits = Limits(file_bytes=20_000, requests=3, body_bytes=1_000)
    good = json.dumps(chat_line("a"))
    with engine_with_upstream(tmp_path, settings=Settings(limits)) as engine:

        def send(content: str) -> tuple[int, str]:
            reply = engine.call("POST", "/files", files={"file": ("f.jsonl", content)}, data={"purpose": "batch"})
            return reply.status_code, reply.text

        assert send(f"{good}\n" * 3)[0] == 201
        assert send(f"{good}\n" * 4) == (400, "File contains 4 requests, which exceeds the maximum of 3")
        status, text = send(json.dumps(chat_line("a", "x" * 1000)))
        assert (status, text[:44]) == (400, "Line 1: Request body is 1063 bytes, which ex")
        assert send(" " * 40_000) == (413, "File exceeds the maximum allowed size of 20000 bytes")
        assert len(engine.call("GET", "/files").json()["data"]) == 1

        def slowly() -> Iterator[bytes]:
            yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
            yield from (b"\n" * 1000 for _ in range(25))
            yield b"\r\n--b--\r\n"

        form = {"Content-Type": "multipart/form-data; boundary=b"}
        reply = engine.call("POST", "/files", data=slowly(), headers=form)
        assert (reply.status_code, reply.text) == (413, "File exceeds the maximum allowed size of 20000 bytes")


def test_a_line_without_an_end_does_not_fill_the_memory(tmp_path: Path) -> None:
    """It is refused at twice the size of the largest body, long before the file's limit."""
    reader = LineReader(Limits(body_bytes=1000), lambda _model: "", tmp_path)
    with pytest.raises(Refused, match=r"Line 1: Request body is \d+ bytes"):
        for _ in range(10):
            reader.feed(b" " * 500)
    reader.close()


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.booleans())
def test_an_upload_reads_the_same_however_it_is_cut(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], crlf: bool
) -> None:
    """Chunks may end inside a boundary, a line, or a character of several bytes."""
    end = b"\r\n" if crlf else b"\n"
    content = end.join(
        json.dumps(chat_line(f"r{n}", "caf\u00e9 \U0001f600"), ensure_ascii=False).encode() for n in range(3)
    )
    form = (
        b'--cut\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        b'--cut\r\nContent-Disposition: form-data; name="file"; filename="f.jsonl"\r\n\r\n'
        + content
        + b"\r\n--cut--\r\n"
    )
    lines = LineReader(Limits(), lambda _model: "", tmp_path_factory.getbasetemp())
    reader = UploadReader("multipart/form-data; boundary=cut", lines)
    whole = io.BytesIO(form)
    for cut in cuts:
        reader.feed(whole.read(cut))
    reader.feed(whole.read())
    upload = reader.finish()
    assert (upload.filename, upload.purpose, upload.bytes, upload.requests) == ("f.jsonl", "batch", len(content), 3)
    assert [line.custom_id for line in upload.lines] == ["r0", "r1", "r2"]
    lines.close()
