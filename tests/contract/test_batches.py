"""Batches: create, follow, list, delete."""

from __future__ import annotations

import json
import uuid
from decimal import Decimal
from typing import Any

import pytest
from tests.contract.conftest import CHAT, Server
from tests.engine_process import wait_until
from tests.upstream import Upstream

UNKNOWN = "00000000-0000-4000-8000-000000000000"
STAMPS = ("in_progress_at", "finalizing_at", "completed_at", "failed_at", "expired_at", "cancelling_at", "cancelled_at")


def refused(server: Server, **change: Any) -> tuple[int, str]:
    """Status and text for a batch that differs from a valid one by `change`; None removes a field."""
    body = {"input_file_id": UNKNOWN, "endpoint": CHAT, "completion_window": "24h", **change}
    reply = server.call("POST", "/batches", json={name: value for name, value in body.items() if value is not None})
    return reply.status_code, reply.text


def test_a_created_batch_is_201_with_both_result_files_and_its_total(server: Server) -> None:
    """It starts as validating; nothing that is null is shown."""
    file = server.upload([server.line("a"), server.line("b")])
    batch = server.create(file["id"], metadata={"mine": "1"})
    assert str(uuid.UUID(batch["id"])) == batch["id"]
    assert (batch["object"], batch["endpoint"], batch["input_file_id"]) == ("batch", CHAT, file["id"])
    assert batch["status"] in ("validating", "in_progress", "completed")
    assert batch["request_counts"]["total"] == 2
    assert batch["output_file_id"] != batch["error_file_id"]
    assert batch["expires_at"] - batch["created_at"] == 86400
    assert None not in batch.values()
    assert batch["metadata"]["mine"] == "1"
    assert batch.get("model", server.chat_model) == server.chat_model  # since 11.1.0
    server.wait(batch["id"])


def test_a_batch_of_one_hour_expires_after_one_hour(server: Server) -> None:
    """The windows are 24h and 1h."""
    batch = server.create(server.upload([server.line("a")])["id"], completion_window="1h")
    assert batch["expires_at"] - batch["created_at"] in (3600, 3601)
    server.wait(batch["id"])


def test_a_completed_batch_has_its_counts_and_stamps(server: Server) -> None:
    """Counts know no cancelled; times are whole seconds; other ends left no stamp."""
    batch = server.run([server.line("a"), server.line("b")])
    assert batch["request_counts"] == {"total": 2, "completed": 2, "failed": 0}
    assert [name for name in STAMPS if name in batch] == ["in_progress_at", "finalizing_at", "completed_at"]
    assert all(isinstance(batch[name], int) for name in STAMPS if name in batch)
    assert batch["created_at"] <= batch["in_progress_at"] <= batch["completed_at"]


@pytest.mark.parametrize(
    ("change", "status", "text"),
    [
        ({"completion_window": "2h"}, 400, "Unsupported completion_window. Allowed values: 24h, 1h"),
        ({"endpoint": "/v1/chat"}, 400, "Unsupported endpoint '/v1/chat'. Supported: "),
        ({"input_file_id": "file-abc"}, 400, "Invalid input_file_id format"),
        ({}, 404, f"File with ID {UNKNOWN} not found"),
        ({"endpoint": None}, 422, "Failed to deserialize the JSON body into the target type: missing field `endpoint`"),
        ({"metadata": {"n": 1}}, 422, "Failed to deserialize the JSON body into the target type: metadata"),
    ],
)
def test_a_batch_that_cannot_be_is_refused(server: Server, change: dict[str, Any], status: int, text: str) -> None:
    """Checks come in the server's order, in plain text."""
    got_status, got_text = refused(server, **change)
    assert (got_status, got_text[: len(text)]) == (status, text)


def test_a_body_that_is_no_json_is_refused_by_kind(server: Server) -> None:
    """Bad JSON is 400, another content type 415, more than 2 MB 413."""
    as_json = {"Content-Type": "application/json"}
    assert server.call("POST", "/batches", data="{", headers=as_json).status_code == 400
    assert server.call("POST", "/batches", data="{}", headers={"Content-Type": "text/plain"}).status_code == 415
    big = json.dumps({"endpoint": "x" * 2_100_000})
    assert server.call("POST", "/batches", data=big, headers=as_json).status_code == 413


def test_each_accepted_post_makes_a_batch(server: Server) -> None:
    """There is no idempotency: a repeated call pays twice."""
    file = server.upload([server.line("a")])
    first, second = server.create(file["id"]), server.create(file["id"])
    assert first["id"] != second["id"]
    server.wait(first["id"])
    server.wait(second["id"])


def test_metadata_comes_back_with_the_servers_keys_and_without_reserved_ones(server: Server) -> None:
    """Reserved names are dropped in any spelling; the documented limit of 16 is not enforced."""
    given = {**{f"k{n}": "v" for n in range(20)}, "Request-Source": "mine", "created_by": "me"}
    batch = server.create(server.upload([server.line("a")])["id"], metadata=given)
    shown = server.wait(batch["id"])["metadata"]
    assert all(shown[f"k{n}"] == "v" for n in range(20))
    assert shown["request_source"] == "api"
    assert {"Request-Source", "created_by"}.isdisjoint(shown)
    assert {"created_by_email", "context_name", "context_type"} <= set(shown)


def test_unknown_fields_of_a_batch_are_ignored(server: Server) -> None:
    """Also output_expires_after, which OpenAI knows."""
    batch = server.create(server.upload([server.line("a")])["id"], output_expires_after={"seconds": 1}, surplus=1)
    server.wait(batch["id"])


def test_ids_of_batches_are_bare_uuids(server: Server) -> None:
    """A prefixed id is 400, an unknown one 404, both in plain text."""
    for given, status, text in (
        ("batch_123", 400, "Invalid batch ID format"),
        (f"batch_{UNKNOWN}", 400, "Invalid batch ID format"),
        (UNKNOWN, 404, f"Batch with ID {UNKNOWN} not found"),
    ):
        for method, path in (("GET", ""), ("GET", "/results"), ("POST", "/cancel"), ("POST", "/retry"), ("DELETE", "")):
            reply = server.call(method, f"/batches/{given}{path}")
            assert (reply.status_code, reply.text) == (status, text)


def test_a_batch_fails_only_if_every_request_failed(server: Server, upstream: Upstream) -> None:
    """One success of many makes it completed."""
    upstream.fail("doomed", 400)
    failed = server.run([server.line("a", "doomed"), server.line("b", "doomed")], "failed")
    assert failed["request_counts"] == {"total": 2, "completed": 0, "failed": 2}
    assert "failed_at" in failed
    assert "completed_at" not in failed
    partly = server.run([server.line("a", "doomed"), server.line("b")], "completed", "failed")
    assert partly["status"] == "completed"


def test_the_list_has_the_newest_first_and_pages(server: Server) -> None:
    """Pages neither repeat nor skip; search finds metadata, file name and id."""
    mark = uuid.uuid4().hex
    file = server.upload([server.line("a")], name=f"{mark}.jsonl")
    made = [server.create(file["id"], metadata={"n": str(n), "mark": mark})["id"] for n in range(3)]
    first = server.call("GET", "/batches", params={"search": mark, "limit": 2}).json()
    assert [batch["id"] for batch in first["data"]] == [made[2], made[1]]
    assert (first["has_more"], first["first_id"], first["last_id"]) == (True, made[2], made[1])
    rest = server.call("GET", "/batches", params={"search": mark, "limit": 2, "after": made[1]}).json()
    assert ([batch["id"] for batch in rest["data"]], rest["has_more"]) == ([made[0]], False)
    assert [batch["id"] for batch in server.call("GET", "/batches", params={"search": made[0]}).json()["data"]] == made[
        :1
    ]
    again = server.call("GET", "/batches", params={"search": mark, "limit": 2, "after": "nonsense"}).json()
    assert again["data"][0]["id"] == made[2]
    for batch_id in made:
        server.wait(batch_id)


def test_the_list_filters_by_status(server: Server, upstream: Upstream) -> None:
    """in_progress includes what is validating; unknown words are refused with the list of known ones."""
    mark = uuid.uuid4().hex
    upstream.fail(f"fail {mark}", 400)

    def made(prompt: str) -> str:
        file = server.upload([server.line("a", prompt)], name=f"{mark}.jsonl")
        return str(server.create(file["id"])["id"])

    def found(status: str) -> list[str]:
        page = server.call("GET", "/batches", params={"search": mark, "status": status}).json()
        return [batch["id"] for batch in page["data"]]

    with upstream.hold(f"wait {mark}"):
        done, failed, running, cancelled = (
            made(word) for word in ("x", f"fail {mark}", f"wait {mark}", f"wait {mark}")
        )
        server.wait(done)
        server.wait(failed, "failed")
        server.wait(cancelled, "in_progress")
        server.call("POST", f"/batches/{cancelled}/cancel")
        assert found("completed") == [done]
        assert found("failed") == [failed]
        assert found("in_progress") == [running]
        assert found("cancelled") == [cancelled]
        assert found("expired") == []
    server.wait(running)
    reply = server.call("GET", "/batches", params={"status": "validating"})
    assert (reply.status_code, reply.text) == (
        400,
        "Unknown batch status filter: 'validating'. Valid values: in_progress, completed, failed, cancelled, expired",
    )


def test_results_stand_in_the_order_of_the_input(server: Server, upstream: Upstream) -> None:
    """Each row has its question, its answer or its cause, and a bare id; pages are stable."""
    upstream.fail("third fails", 400)
    lines = [server.line("0"), server.line("1"), server.line("2", "third fails")]
    batch = server.run(lines)
    path = f"/batches/{batch['id']}/results"
    rows = server.rows(path)
    assert [row["custom_id"] for row in rows] == ["0", "1", "2"]
    assert [row["status"] for row in rows] == ["completed", "completed", "failed"]
    assert rows[0]["input_body"]["messages"] == lines[0]["body"]["messages"]
    assert (rows[0]["model"], rows[0]["error"]) == (server.chat_model, None)
    assert rows[0]["response_body"]["choices"]
    assert rows[2]["response_body"] is None
    assert json.loads(rows[2]["error"])["type"] == "NonRetriableHttpStatus"
    assert f"batch_req_{rows[0]['id']}" in {row["id"] for row in server.outputs(batch)}
    assert [row["custom_id"] for row in server.rows(f"{path}?skip=1&limit=1")] == ["1"]
    assert [row["custom_id"] for row in server.rows(f"{path}?status=failed")] == ["2"]
    assert server.call("GET", path).headers["X-Last-Line"] == "3"


def test_a_deleted_batch_is_204_then_404_and_its_output_stays_readable(server: Server) -> None:
    """The answer to the delete is empty."""
    batch = server.run([server.line("a")])
    reply = server.call("DELETE", f"/batches/{batch['id']}")
    assert (reply.status_code, reply.content) == (204, b"")
    assert server.call("DELETE", f"/batches/{batch['id']}").status_code == 404
    assert server.call("GET", f"/batches/{batch['id']}").status_code == 404
    assert len(server.outputs(batch)) == 1


def test_deleting_the_input_cancels_its_running_batch(server: Server, upstream: Upstream) -> None:
    """The batch stays, without the id of its input; finished ones keep their status and, since 11.11.0, /results."""
    finished_file = server.upload([server.line("a")])
    finished = server.create(finished_file["id"])
    server.wait(finished["id"])
    server.call("DELETE", f"/files/{finished_file['id']}")
    assert server.batch(finished["id"])["status"] == "completed"
    assert server.call("GET", f"/batches/{finished['id']}/results?limit=5").status_code in (200, 500)
    assert len(server.outputs(finished)) == 1
    with upstream.hold("input goes away"):
        file = server.upload([server.line("a", "input goes away")])
        batch = server.create(file["id"])
        server.wait(batch["id"], "in_progress")
        server.call("DELETE", f"/files/{file['id']}")
        shown = server.batch(batch["id"])
    assert (shown["status"], shown["input_file_id"]) == ("cancelled", "")


def test_deleting_an_output_file_takes_its_id_from_the_batch(server: Server) -> None:
    """The batch then shows no output_file_id, and the content is gone for good."""
    batch = server.run([server.line("a")])
    assert server.call("DELETE", f"/files/{batch['output_file_id']}").status_code == 200
    assert "output_file_id" not in server.batch(batch["id"])
    assert server.call("GET", f"/files/{batch['output_file_id']}/content").status_code in (404, 410)
    assert server.call("GET", f"/files/{batch['error_file_id']}/content").status_code == 200


def test_analytics_count_requests_and_tokens(server: Server) -> None:
    """Costs are texts; a model without a price has zeros. The list includes them where it is told to, a batch never."""
    batch = server.run([server.line("a"), server.line("b")])
    path = f"/batches/{batch['id']}"
    estimate = server.call("GET", f"/files/{batch['input_file_id']}/cost-estimate").json()
    expected = 2 if Decimal(estimate["total_estimated_cost"]) else 0

    def counted() -> dict[str, Any] | None:
        shown: dict[str, Any] = server.call("GET", f"{path}/analytics").json()
        return shown if shown["total_requests"] == expected else None

    shown = wait_until(counted, "analytics, which may come late")
    assert (shown["total_prompt_tokens"] > 0) is (expected > 0)
    assert shown["total_tokens"] == shown["total_prompt_tokens"] + shown["total_completion_tokens"]
    assert expected == 0 or Decimal(shown["total_list_cost"]) >= Decimal(shown["total_cost"]) > 0
    assert "analytics" not in server.call("GET", f"{path}?include=analytics").json()
    query = {"search": batch["id"], "include": "analytics"}
    (listed,) = server.call("GET", "/batches", params=query).json()["data"]
    assert listed["analytics"] == shown


def test_one_file_may_mix_endpoints(server: Server) -> None:
    """Nothing compares the lines with the batch's endpoint."""
    if server.embedding_model is None:
        pytest.skip("needs an embedding model of the server: --embedding-model")
    body = {"model": server.embedding_model, "input": "text"}
    embedding = {"custom_id": "e", "method": "POST", "url": "/v1/embeddings", "body": body}
    batch = server.run([server.line("c"), embedding])
    rows = {row["custom_id"]: row["response"]["body"] for row in server.outputs(batch)}
    assert rows["c"]["choices"]
    assert isinstance(rows["e"]["data"][0]["embedding"][0], float)
