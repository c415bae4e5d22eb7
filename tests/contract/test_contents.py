"""The content of files: what is kept of a line, how output and error lines look, paging and its headers."""

from __future__ import annotations

import json
import uuid

import pytest
from tests.contract.conftest import Server
from tests.engine_process import wait_until
from tests.upstream import Upstream


def test_the_input_file_comes_back_with_sorted_keys_and_without_stripped_fields(server: Server) -> None:
    """A body is parsed and written again; priority, service_tier and background are taken out."""
    line = server.line("a", zebra=1, apple={"z": 1, "a": 2}, priority=5, service_tier="flex", background=True)
    file = server.upload([line])
    raw = server.call("GET", f"/files/{file['id']}/content").text
    body = json.loads(raw)["body"]
    assert list(body) == sorted(body)
    assert list(body["apple"]) == ["a", "z"]
    assert {"priority", "service_tier", "background"}.isdisjoint(body)
    assert body["zebra"] == 1


def test_the_input_file_is_complete_without_a_last_line_header(server: Server) -> None:
    """X-Incomplete is the text false; X-Last-Line belongs to results and pages only."""
    file = server.upload([server.line("a"), server.line("b")])
    reply = server.call("GET", f"/files/{file['id']}/content")
    assert reply.headers["Content-Type"] == "application/x-ndjson"
    assert reply.headers["X-Incomplete"] == "false"
    assert "X-Last-Line" not in reply.headers


def test_pages_of_a_file_say_whether_more_follow(server: Server) -> None:
    """skip and limit page; X-Last-Line is where the next page starts; `offset` is not known."""
    file = server.upload([server.line(str(n)) for n in range(5)])
    path = f"/files/{file['id']}/content"

    def page(query: str) -> tuple[list[str], str, str | None]:
        reply = server.call("GET", path + query)
        rows = [json.loads(line)["custom_id"] for line in reply.text.splitlines()]
        return rows, reply.headers["X-Incomplete"], reply.headers.get("X-Last-Line")

    assert page("?limit=2") == (["0", "1"], "true", "2")
    assert page("?skip=2&limit=2") == (["2", "3"], "true", "4")
    assert page("?skip=4&limit=2") == (["4"], "false", "5")
    assert page("?skip=9&limit=2") == ([], "false", "9")
    assert page("?skip=3")[0] == ["3", "4"]
    assert page("?offset=3")[0] == ["0", "1", "2", "3", "4"]
    assert page("?limit=0")[0] == ["0"]


def test_long_lines_are_skipped_and_paged_as_short_ones(server: Server) -> None:
    """However the server cuts its work, each line comes once."""
    file = server.upload([server.line(str(n), "word " * 30_000) for n in range(7)])
    rows = server.rows(f"/files/{file['id']}/content?skip=2")
    assert [row["custom_id"] for row in rows] == ["2", "3", "4", "5", "6"]
    rows = server.rows(f"/files/{file['id']}/content?skip=1&limit=5")
    assert [row["custom_id"] for row in rows] == ["1", "2", "3", "4", "5"]


def test_a_page_never_holds_more_than_101_lines(server: Server) -> None:
    """limit=5000 quietly gives 101."""
    file = server.upload([server.line(str(n)) for n in range(103)])
    reply = server.call("GET", f"/files/{file['id']}/content", params={"limit": 5000})
    assert (len(reply.text.splitlines()), reply.headers["X-Last-Line"]) == (101, "101")


def test_a_bad_number_in_the_query_is_refused(server: Server) -> None:
    """skip and limit are whole numbers."""
    file = server.upload([server.line("a")])
    reply = server.call("GET", f"/files/{file['id']}/content", params={"skip": "x"})
    assert (reply.status_code, reply.text[:34]) == (400, "Failed to deserialize query string")


def test_search_looks_into_custom_ids_with_wildcards(server: Server) -> None:
    """Letters match in either case; _ stands for any character."""
    file = server.upload([server.line(name) for name in ("Red-1", "red-2", "blue-1")])

    def found(text: str) -> list[str]:
        reply = server.call("GET", f"/files/{file['id']}/content", params={"search": text})
        return [json.loads(line)["custom_id"] for line in reply.text.splitlines()]

    assert found("RED") == ["Red-1", "red-2"]
    assert found("d_2") == ["red-2"]
    assert found("green") == []


def test_output_lines_have_the_documented_form(server: Server) -> None:
    """request_id and error are null; a chat's own id is that of the request, or the model server's where it streams."""
    batch = server.run([server.line("only")])
    (row,) = server.outputs(batch)
    assert sorted(row) == ["custom_id", "error", "id", "response"]
    assert row["id"].startswith("batch_req_")
    request_id = str(uuid.UUID(row["id"].removeprefix("batch_req_")))
    assert (row["custom_id"], row["error"]) == ("only", None)
    assert (row["response"]["status_code"], row["response"]["request_id"]) == (200, None)
    body = row["response"]["body"]
    assert isinstance(body["choices"][0]["message"]["content"], str)
    assert list(body) == sorted(body)
    assert server.streamed or body["id"] == f"resp_{request_id}"


def test_ids_of_other_alphabets_are_given_back_unchanged(server: Server) -> None:
    """The refusal of bad ids speaks of ASCII, but only control characters are refused."""
    ids = ["caf\u00e9", "\u65e5\u672c", "\U0001f600", "tab\there", "\u00a0"]
    batch = server.run([server.line(custom_id) for custom_id in ids])
    assert sorted(row["custom_id"] for row in server.outputs(batch)) == sorted(ids)
    assert [row["custom_id"] for row in server.rows(f"/batches/{batch['id']}/results")] == ids


def test_an_answer_that_is_no_json_becomes_a_text(server: Server, upstream: Upstream) -> None:
    """The body of such a row is a string."""
    if server.streamed:
        pytest.skip("where a stream was asked for, such an answer is tried again")
    upstream.fail("plain words please", 200, body="just words")
    batch = server.run([server.line("a", "plain words please")])
    assert server.outputs(batch)[0]["response"]["body"] == "just words"


def test_error_lines_carry_their_cause_as_json_in_a_text(server: Server, upstream: Upstream) -> None:
    """message is a JSON document whose body may be JSON once more; code is null."""
    upstream.fail("refuse me", 422, body='{"error":{"message":"no"}}')
    batch = server.run([server.line("bad", "refuse me"), server.line("good")])
    assert batch["request_counts"] == {"total": 2, "completed": 1, "failed": 1}
    (row,) = server.errors(batch)
    assert row["id"].startswith("batch_req_")
    assert (row["custom_id"], row["response"], row["error"]["code"]) == ("bad", None, None)
    cause = json.loads(row["error"]["message"])
    assert cause == {
        "type": "NonRetriableHttpStatus",
        "details": {"status": 422, "body": '{"error":{"message":"no"}}'},
    }


def test_a_row_is_in_exactly_one_of_the_two_files(server: Server, upstream: Upstream) -> None:
    """Together they hold every request once."""
    upstream.fail("odd one", 400)
    batch = server.run([server.line(str(n), "odd one" if n % 2 else "even one") for n in range(6)])
    good = [row["custom_id"] for row in server.outputs(batch)]
    bad = [row["custom_id"] for row in server.errors(batch)]
    assert (sorted(good), sorted(bad)) == (["0", "2", "4"], ["1", "3", "5"])


def test_output_stands_in_the_order_of_completion(server: Server, upstream: Upstream) -> None:
    """The first line of the input comes last where it took longest."""
    with upstream.hold("slow one"):
        created = server.create(server.upload([server.line("0", "slow one"), server.line("1"), server.line("2")])["id"])
        path = f"/files/{created['output_file_id']}/content"
        wait_until(lambda: len(server.rows(path)) == 2, "two answers")
        reply = server.call("GET", path)
        assert (reply.headers["X-Incomplete"], reply.headers["X-Last-Line"]) == ("true", "2")
    batch = server.wait(created["id"])
    assert [row["custom_id"] for row in server.outputs(batch)][-1] == "0"


def test_result_files_are_complete_and_counted_at_the_end(server: Server) -> None:
    """X-Last-Line is the number of lines; the error file is there and empty."""
    batch = server.run([server.line("a"), server.line("b")])
    reply = server.call("GET", f"/files/{batch['output_file_id']}/content")
    assert (reply.headers["X-Incomplete"], reply.headers["X-Last-Line"]) == ("false", "2")
    empty = server.call("GET", f"/files/{batch['error_file_id']}/content")
    assert (empty.status_code, empty.content, empty.headers["X-Last-Line"]) == (200, b"", "0")
    page = server.call("GET", f"/files/{batch['output_file_id']}/content", params={"skip": 1, "limit": 5})
    assert (len(page.text.splitlines()), page.headers["X-Incomplete"], page.headers["X-Last-Line"]) == (1, "false", "2")


def test_result_files_are_listed_without_an_expiry(server: Server) -> None:
    """They appear among the files, with purposes of their own."""
    batch = server.run([server.line("a")])
    output = server.call("GET", f"/files/{batch['output_file_id']}").json()
    errors = server.call("GET", f"/files/{batch['error_file_id']}").json()
    assert (output["purpose"], errors["purpose"]) == ("batch_output", "batch_error")
    assert "expires_at" not in output
    assert (output["bytes"] > 0, errors["bytes"]) == (True, 0)
    listed = server.call("GET", "/files", params={"purpose": "batch_output", "limit": 1}).json()["data"]
    assert [file["id"] for file in listed] == [batch["output_file_id"]]


@pytest.mark.parametrize("text", ["\u2028", "\u2029", "\u0085", "\r", "\u0000", "\U0001f600"])
def test_lines_end_at_newlines_only(server: Server, upstream: Upstream, text: str) -> None:
    """Characters that other tools take for line ends stay inside their row."""
    upstream.say(f"say {text}!", f"before{text}after")
    batch = server.run([server.line("a", f"say {text}!")])
    (row,) = server.outputs(batch)
    assert row["response"]["body"]["choices"][0]["message"]["content"] == f"before{text}after"
