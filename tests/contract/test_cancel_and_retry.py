"""Batches that are cancelled or retried: what is kept, what comes late, what runs again."""

from __future__ import annotations

import uuid

from tests.contract.conftest import Server
from tests.engine_process import wait_until
from tests.upstream import Upstream


def test_a_cancelled_batch_keeps_what_was_done_and_hides_the_rest(server: Server, upstream: Upstream) -> None:
    """Cancelled rows are in neither file, pending in /results, and in no count; a second cancel changes nothing."""
    with upstream.hold("held"):
        lines = [server.line("done"), *(server.line(f"held-{n}", "held") for n in range(12))]
        batch = server.create(server.upload(lines)["id"])
        wait_until(lambda: server.batch(batch["id"])["request_counts"]["completed"] == 1, "one answer")
        reply = server.call("POST", f"/batches/{batch['id']}/cancel")
        assert (reply.status_code, reply.json()["status"]) == (200, "cancelled")
        assert reply.json()["request_counts"] == {"total": 13, "completed": 1, "failed": 0}
        assert [row["custom_id"] for row in server.outputs(batch)] == ["done"]
        assert server.errors(batch) == []
        statuses = {row["custom_id"]: row["status"] for row in server.rows(f"/batches/{batch['id']}/results")}
        assert statuses == {"done": "completed", **{f"held-{n}": "pending" for n in range(12)}}
        content = server.call("GET", f"/files/{batch['output_file_id']}/content")
        assert content.headers["X-Incomplete"] == "false"
        again = server.call("POST", f"/batches/{batch['id']}/cancel")
        assert (again.status_code, again.json()["cancelled_at"]) == (200, reply.json()["cancelled_at"])


def test_an_answer_that_comes_after_the_cancel_still_counts(server: Server, upstream: Upstream) -> None:
    """The output file grows and the counts change although the batch is cancelled."""
    with upstream.hold("late answer"):
        batch = server.create(server.upload([server.line("a", "late answer")])["id"])
        wait_until(lambda: upstream.count("late answer"), "the question to be asked")
        assert server.call("POST", f"/batches/{batch['id']}/cancel").json()["request_counts"]["completed"] == 0
    wait_until(lambda: server.batch(batch["id"])["request_counts"]["completed"] == 1, "the late answer")
    assert server.batch(batch["id"])["status"] == "cancelled"
    assert len(server.outputs(batch)) == 1


def test_cancelling_a_completed_batch_relabels_it(server: Server) -> None:
    """Its answers stay, and so does completed_at."""
    batch = server.run([server.line("a")])
    relabelled = server.call("POST", f"/batches/{batch['id']}/cancel").json()
    assert (relabelled["status"], relabelled["completed_at"]) == ("cancelled", batch["completed_at"])
    assert len(server.outputs(batch)) == 1


def test_retry_runs_failed_rows_again_under_their_old_ids(server: Server, upstream: Upstream) -> None:
    """The row leaves the error file; completed rows are not asked again; the deadline stays."""
    mark = uuid.uuid4().hex
    upstream.fail(f"once {mark}", 400, times=1)
    batch = server.run([server.line("flaky", f"once {mark}"), server.line("good", f"good {mark}")])
    (failed,) = server.errors(batch)
    reply = server.call("POST", f"/batches/{batch['id']}/retry")
    assert reply.status_code == 200
    assert reply.json()["status"] == "in_progress"
    assert "completed_at" not in reply.json()
    ended = server.wait(batch["id"])
    assert ended["request_counts"] == {"total": 2, "completed": 2, "failed": 0}
    assert ended["expires_at"] == batch["expires_at"]
    assert server.errors(batch) == []
    assert {row["custom_id"]: row["id"] for row in server.outputs(batch)}["flaky"] == failed["id"]
    assert upstream.count(f"good {mark}") == 1


def test_retry_runs_cancelled_rows_and_lifts_the_cancel(server: Server, upstream: Upstream) -> None:
    """After it the batch completes."""
    with upstream.hold("cancel then retry"):
        batch = server.create(server.upload([server.line(str(n), "cancel then retry") for n in range(10)])["id"])
        server.wait(batch["id"], "in_progress")
        server.call("POST", f"/batches/{batch['id']}/cancel")
        retried = server.call("POST", f"/batches/{batch['id']}/retry").json()
        assert retried["status"] == "in_progress"
        assert "cancelled_at" not in retried
    ended = server.wait(batch["id"])
    assert ended["request_counts"] == {"total": 10, "completed": 10, "failed": 0}
    ids = [row["custom_id"] for row in server.outputs(ended)]
    assert sorted(ids) == sorted(str(n) for n in range(10))


def test_retry_of_a_batch_without_failures_is_refused(server: Server) -> None:
    """The text says why."""
    batch = server.run([server.line("a")])
    reply = server.call("POST", f"/batches/{batch['id']}/retry")
    expected = "Nothing to retry: no failed or canceled requests, and the batch is not cancelled"
    assert (reply.status_code, reply.text) == (400, expected)


def test_single_requests_are_retried_by_bare_id(server: Server, upstream: Upstream) -> None:
    """Prefixed ids are no ids here; ids of rows that did not fail are skipped in silence."""
    mark = uuid.uuid4().hex
    upstream.fail(f"twice {mark}", 400, times=2)
    lines = [server.line("x", f"twice {mark}"), server.line("y", f"twice {mark}"), server.line("z")]
    batch = server.run(lines)
    ids = {row["custom_id"]: row["id"] for row in server.rows(f"/batches/{batch['id']}/results")}
    path = f"/batches/{batch['id']}/retry-requests"
    for bad in ([f"batch_req_{ids['x']}"], []):
        reply = server.call("POST", path, json={"request_ids": bad})
        assert (reply.status_code, reply.text) == (400, "No valid request IDs provided")
    assert server.call("POST", path, json={"request_ids": [ids["z"]]}).status_code == 200
    assert server.call("POST", path, json={"request_ids": [ids["x"]]}).status_code == 200
    ended = server.wait(batch["id"])
    assert ended["request_counts"] == {"total": 3, "completed": 2, "failed": 1}
    assert [row["custom_id"] for row in server.errors(ended)] == ["y"]
