"""Files: upload, retrieve, list, delete."""

from __future__ import annotations

import json
import uuid
from decimal import Decimal

import pytest
from tests.contract.conftest import Server

UNKNOWN = "00000000-0000-4000-8000-000000000000"


def test_an_upload_is_answered_201_with_a_file_object_that_has_a_bare_uuid(server: Server) -> None:
    """OpenAI answers 200 with a `file-` id; this server answers 201, and there is no `status`."""
    content = json.dumps(server.line("a")) + "\n"
    reply = server.send(content, name="mine.jsonl")
    assert reply.status_code == 201
    file = reply.json()
    assert str(uuid.UUID(file["id"])) == file["id"]
    assert (file["object"], file["purpose"], file["filename"]) == ("file", "batch", "mine.jsonl")
    assert file["bytes"] == len(content)
    assert isinstance(file["created_at"], int)
    assert "status" not in file


def test_a_file_expires_after_30_days_unless_told(server: Server) -> None:
    """Expiry counts from creation."""
    default = server.upload([server.line("a")])
    told = server.upload(
        [server.line("a")], **{"expires_after[seconds]": "3600", "expires_after[anchor]": "created_at"}
    )
    assert default["expires_at"] - default["created_at"] == 30 * 86400
    assert told["expires_at"] - told["created_at"] == 3600


def test_an_expiry_that_is_no_number_is_ignored(server: Server) -> None:
    """The server does not tell that it did not understand."""
    file = server.upload([server.line("a")], **{"expires_after[seconds]": "soon"})
    assert file["expires_at"] - file["created_at"] == 30 * 86400


def test_a_file_without_purpose_is_shown_as_batch_but_not_found_by_it(server: Server) -> None:
    """The purpose is optional, and stored as absent."""
    name = f"{uuid.uuid4().hex}.jsonl"
    file = server.upload([server.line("a")], name=name, purpose=None)
    assert file["purpose"] == "batch"
    assert server.call("GET", "/files", params={"search": name}).json()["data"][0]["id"] == file["id"]
    assert server.call("GET", "/files", params={"search": name, "purpose": "batch"}).json()["data"] == []


def test_fields_may_come_after_the_file_and_unknown_ones_are_ignored(server: Server) -> None:
    """The order of multipart fields does not matter."""
    reply = server.call(
        "POST",
        "/files",
        files=[
            ("surplus", (None, "x")),
            ("file", ("late.jsonl", json.dumps(server.line("a")))),
            ("purpose", (None, "BATCH")),
        ],
    )
    assert (reply.status_code, reply.json()["purpose"]) == (201, "batch")


def test_a_file_is_retrieved_as_it_was_created(server: Server) -> None:
    """The upload's answer holds nothing that the file object lacks."""
    file = server.upload([server.line("a")])
    got = server.call("GET", f"/files/{file['id']}").json()
    assert {name: got[name] for name in file} == file


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_an_unknown_file_is_404_in_plain_text(server: Server, method: str) -> None:
    """The text names the id."""
    reply = server.call(method, f"/files/{UNKNOWN}")
    assert (reply.status_code, reply.text) == (404, f"File with ID {UNKNOWN} not found")
    assert reply.headers["Content-Type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize("given", ["file-abc123", f"file_{UNKNOWN}", "nonsense"])
def test_an_id_that_is_no_bare_uuid_is_400_not_404(server: Server, given: str) -> None:
    """Prefixed ids, as webhooks carry them, are refused."""
    for path in (f"/files/{given}", f"/files/{given}/content"):
        reply = server.call("GET", path)
        assert (reply.status_code, reply.text) == (400, "Invalid file ID format")


def test_a_deleted_file_says_so_and_is_gone(server: Server) -> None:
    """A second delete is a 404."""
    file_id = server.upload([server.line("a")])["id"]
    reply = server.call("DELETE", f"/files/{file_id}")
    assert (reply.status_code, reply.json()) == (200, {"id": file_id, "object": "file", "deleted": True})
    assert server.call("GET", f"/files/{file_id}").status_code == 404
    assert server.call("GET", f"/files/{file_id}/content").status_code == 404
    assert server.call("DELETE", f"/files/{file_id}").status_code == 404


def test_the_list_pages_by_the_last_id_in_either_order(server: Server) -> None:
    """Pages neither repeat nor skip a file; the newest comes first unless told."""
    name = f"{uuid.uuid4().hex}.jsonl"
    made = [server.upload([server.line("a")], name=name)["id"] for _ in range(3)]
    for order, expected in (("asc", made), ("desc", made[::-1])):
        seen: list[str] = []
        after = None
        while True:
            query = {"search": name, "order": order, "limit": 2, "after": after}
            page = server.call("GET", "/files", params=query).json()
            assert (page["object"], page["first_id"]) == ("list", page["data"][0]["id"])
            seen += [file["id"] for file in page["data"]]
            after = page["last_id"]
            if not page["has_more"]:
                break
        assert seen == expected


def test_an_empty_list_has_no_ids(server: Server) -> None:
    """first_id and last_id are left out, not null."""
    page = server.call("GET", "/files", params={"search": uuid.uuid4().hex}).json()
    assert page == {"object": "list", "data": [], "has_more": False}


@pytest.mark.parametrize("after", ["nonsense", UNKNOWN])
def test_an_unknown_cursor_gives_the_first_page_again(server: Server, after: str) -> None:
    """A client that trusts its cursor would loop for ever."""
    server.upload([server.line("a")])
    first = server.call("GET", "/files", params={"limit": 1}).json()
    assert server.call("GET", "/files", params={"limit": 1, "after": after}).json()["data"] == first["data"]


def test_list_limits_are_clamped_and_bad_numbers_refused(server: Server) -> None:
    """limit=0 shows one; limit=5000 quietly shows 101 at most; text is a 400."""
    server.upload([server.line("a")])
    assert len(server.call("GET", "/files", params={"limit": 0}).json()["data"]) == 1
    assert len(server.call("GET", "/files", params={"limit": 5000}).json()["data"]) <= 101
    reply = server.call("GET", "/files", params={"limit": "many"})
    assert (reply.status_code, reply.text[:34]) == (400, "Failed to deserialize query string")


def test_an_unknown_order_is_refused(server: Server) -> None:
    """Only asc and desc exist."""
    reply = server.call("GET", "/files", params={"order": "up"})
    assert (reply.status_code, reply.text) == (400, "Order must be 'asc' or 'desc'")


def test_two_files_may_have_one_name(server: Server) -> None:
    """Names are not unique, so a repeated upload makes a second file."""
    assert server.upload([server.line("a")], name="twin")["id"] != server.upload([server.line("a")], name="twin")["id"]


def test_the_cost_estimate_counts_requests_and_a_token_for_four_bytes(server: Server) -> None:
    """Costs are texts, so that no digit is lost; a window that nobody knows is no reason to refuse."""
    file = server.upload([server.line("a"), server.line("b", prompt="word " * 100)])
    path = f"/files/{file['id']}/cost-estimate"
    estimate = server.call("GET", path).json()
    assert server.call("GET", path, params={"completion_window": "24h"}).json() == estimate
    assert server.call("GET", path, params={"completion_window": "9h"}).status_code == 200
    assert (estimate["file_id"], estimate["total_requests"]) == (file["id"], 2)
    assert 125 < estimate["total_estimated_input_tokens"] < 250
    (model,) = estimate["models"]
    for cost in (estimate["total_estimated_cost"], model["estimated_cost"]):
        assert isinstance(cost, str) and Decimal(cost) >= 0
    assert [(model["model"], model["request_count"]) for model in estimate["models"]] == [(server.chat_model, 2)]
