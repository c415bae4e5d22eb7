"""The client of the API: what may be repeated, where the key goes, what an error says."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
import responses
from tests.clock import Clocked

from doubleword.failure import Exit, Failure
from doubleword.server.api import Api, checked_base_url
from doubleword.server.errors import ApiError, error_from_answer
from doubleword.server.objects import bare_id
from doubleword.server.transfers import FileChanged, Upload, content_of

BASE = "https://server.test/v1"
SECRET = "a-key-for-tests-0123456789"
BATCH = {
    "id": "b1",
    "object": "batch",
    "status": "in_progress",
    "endpoint": "/v1/chat/completions",
    "input_file_id": "f1",
    "completion_window": "24h",
    "created_at": 1,
    "request_counts": {"total": 3, "completed": 1, "failed": 0},
}


@pytest.fixture
def system() -> Clocked:
    return Clocked()


@pytest.fixture
def api(system: Clocked) -> Api:
    return Api(BASE, SECRET, system)


@responses.activate
def test_a_get_is_repeated_until_the_server_is_back(api: Api, system: Clocked) -> None:
    """502, a broken connection and 429 pass; the pauses grow and follow Retry-After."""
    url = f"{BASE}/batches/b1"
    responses.get(url, status=502, body="<html><title>502 Bad Gateway</title></html>")
    responses.get(url, body=requests.ConnectionError("reset"))
    responses.get(url, status=429, headers={"Retry-After": "60"}, json={"message": "slow", "retry_after_seconds": 30})
    responses.get(url, json=BATCH)
    assert api.batch("b1").completed == 1
    assert len(system.slept) == 3
    assert system.slept[0] < system.slept[1] < system.slept[2] == 60


@responses.activate
def test_a_get_gives_up_when_patience_is_over(api: Api, system: Clocked) -> None:
    """The last error is raised, after no longer than the patience asked for."""
    responses.get(f"{BASE}/batches/b1", status=503)
    api.patience_s = 100
    with pytest.raises(ApiError) as raised:
        api.batch("b1")
    assert raised.value.status == 503
    assert sum(system.slept) == pytest.approx(100)


@responses.activate
@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 413, 422])
def test_a_refusal_is_not_repeated(api: Api, system: Clocked, status: int) -> None:
    """What the server has refused for good is asked once."""
    responses.get(f"{BASE}/batches/b1", status=status, body="no")
    with pytest.raises(ApiError):
        api.batch("b1")
    assert len(responses.calls) == 1 and not system.slept


@responses.activate
@pytest.mark.parametrize(
    "answer", [{"status": 500}, {"status": 504}, {"body": requests.ReadTimeout()}, {"body": "<html>"}]
)
def test_a_create_is_made_once_and_says_that_it_may_have_happened(api: Api, answer: dict[str, Any]) -> None:
    """After a 5xx, a timeout or a garbled 2xx nobody repeats the call behind the caller's back."""
    responses.post(f"{BASE}/batches", **answer)
    with pytest.raises(ApiError) as raised:
        api.create_batch("f1", "/v1/chat/completions", "24h", {})
    assert raised.value.may_have_happened
    assert len(responses.calls) == 1


def test_a_connection_that_was_refused_surely_did_nothing(system: Clocked) -> None:
    """Nothing listens on the discard port: the request never left, so asking again is safe."""
    with pytest.raises(ApiError) as raised:
        Api("http://127.0.0.1:9/v1", SECRET, system).create_batch("f1", "/v1/chat/completions", "24h", {})
    assert not raised.value.may_have_happened
    assert raised.value.may_pass


@responses.activate
def test_the_key_is_dropped_when_another_host_is_named(api: Api) -> None:
    """A redirect to another host is followed for a GET, without the key; to plain http it is not followed."""
    responses.get(f"{BASE}/files/f1/content", status=307, headers={"Location": "https://store.test/blob?x=1"})
    responses.get("https://store.test/blob", body=b"{}\n")
    assert b"".join(api.content("f1")) == b"{}\n"
    assert responses.calls[0].request.headers["Authorization"] == f"Bearer {SECRET}"
    assert "Authorization" not in responses.calls[1].request.headers
    responses.get(f"{BASE}/files/f2/content", status=302, headers={"Location": "http://store.test/blob"})
    with pytest.raises(ApiError):
        api.content("f2")
    assert len(responses.calls) == 3


@responses.activate
def test_a_post_is_never_redirected(api: Api) -> None:
    """Sending a batch elsewhere because an answer says so would send the key and the money along."""
    responses.post(f"{BASE}/batches", status=307, headers={"Location": f"{BASE}/other"})
    with pytest.raises(ApiError):
        api.create_batch("f1", "/v1/chat/completions", "24h", {})
    assert len(responses.calls) == 1


@pytest.mark.parametrize(
    "url",
    ["http://api.doubleword.ai/v1", "ftp://127.0.0.1", "https://user:pw@server.test", "server.test", "", "http://10.0.0.1/v1",
     "https://server.test/v1?key=1", "http://127.0.0.1.evil.test/v1", "https://server.test:port/v1",
     "https://api..doubleword.ai/v1", f"https://{'a' * 64}.ai/v1"],
)  # fmt: skip
def test_the_key_is_not_sent_in_the_clear(url: str) -> None:
    """Only https, or http that stays on this machine, is taken as a server."""
    with pytest.raises(Failure) as raised:
        checked_base_url(url)
    assert raised.value.exit_code == Exit.BAD_INPUT and ":pw" not in raised.value.message


@pytest.mark.parametrize(
    "url",
    [
        "https://server.test./v1",
        "https://server.test/v1/",
        "http://127.0.0.1:8000/v1",
        "http://localhost/v1",
        "http://[::1]:1/v1",
    ],
)
def test_https_and_loopback_are_taken(url: str) -> None:
    """A final slash does not matter."""
    assert checked_base_url(url) == url.rstrip("/")


@responses.activate
def test_a_list_that_repeats_its_first_page_ends(api: Api) -> None:
    """A server that ignores `after` gives page 1 for ever; every batch is still seen exactly once."""
    responses.get(f"{BASE}/batches", json={"data": [{**BATCH, "id": "x"}, {**BATCH, "id": "y"}], "has_more": True})
    assert [one.id for one in api.batches()] == ["x", "y"]
    assert len(responses.calls) == 2


@responses.activate
def test_pages_are_followed_to_the_end(api: Api) -> None:
    """`after` is the last id of the page before."""
    first = {"data": [{**BATCH, "id": "x"}], "has_more": True}
    second = {"data": [{**BATCH, "id": "y"}], "has_more": False}
    responses.get(f"{BASE}/batches", json=first, match=[responses.matchers.query_param_matcher({"limit": "100"})])
    after = responses.matchers.query_param_matcher({"limit": "100", "after": "x"})
    responses.get(f"{BASE}/batches", json=second, match=[after])
    assert [one.id for one in api.batches()] == ["x", "y"]


@responses.activate
@pytest.mark.parametrize("status", [400, 422])
def test_a_server_that_refuses_to_search_gives_the_whole_list(api: Api, status: int) -> None:
    """A refusal of the parameter is none of the list; any other is one."""
    search = responses.matchers.query_param_matcher({"limit": "100", "search": "job"})
    responses.get(f"{BASE}/batches", status=status, body="unknown parameter: search", match=[search])
    responses.get(f"{BASE}/batches", json={"data": [{**BATCH, "id": "x"}]})
    assert [one.id for one in api.batches("job")] == ["x"]
    responses.replace(responses.GET, f"{BASE}/batches", status=401)
    with pytest.raises(ApiError):
        list(api.batches("job"))


@responses.activate
def test_an_answer_nested_100000_deep_is_an_error(api: Api) -> None:
    """A hostile body neither crashes the parser nor is taken for an answer."""
    responses.get(f"{BASE}/batches/b1", body="[" * 100_000)
    api.patience_s = 0
    with pytest.raises(ApiError) as raised:
        api.batch("b1")
    assert raised.value.garbled


@responses.activate
def test_an_endless_answer_is_cut(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body over the limit is an error, not a full memory."""
    monkeypatch.setattr("doubleword.server.sending.JSON_LIMIT", 1000)
    api.patience_s = 0
    responses.get(f"{BASE}/batches/b1", body=b'{"a": "' + b"x" * 10_000 + b'"}')
    with pytest.raises(ApiError, match="longer than"):
        api.batch("b1")


@responses.activate
def test_ids_of_webhooks_are_tried_without_their_prefix(api: Api) -> None:
    """`batch_<uuid>` is refused by the server with 400; the bare id is the same batch."""
    uuid = "01234567-89ab-cdef-0123-456789abcdef"
    responses.get(f"{BASE}/batches/batch_{uuid}", status=400, body="Invalid batch ID format")
    responses.get(f"{BASE}/batches/{uuid}", json={**BATCH, "id": uuid})
    assert api.batch(f"batch_{uuid}").id == uuid
    assert bare_id("batch_abc123") == "batch_abc123"


@responses.activate
def test_an_id_is_never_a_path(api: Api) -> None:
    """Slashes and dots of an id reach the server as one escaped segment."""
    responses.get(f"{BASE}/batches/..%2Ffiles%2Fx", json=BATCH)
    api.batch("../files/x")
    assert responses.calls[0].request.url == f"{BASE}/batches/..%2Ffiles%2Fx"


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"Account balance too low. Please add credits.", "Account balance too low. Please add credits."),
        (b'{"error":{"message":"no such model","code":"model_not_found"}}', "no such model"),
        (b'{"error":"too_many_requests","message":"Too many","retry_after_seconds":30}', "Too many"),
        (b'{"message":"conflict"}', "conflict"),
        (b"<html><head><title>504 Gateway Time-out</title></head></html>", "504 Gateway Time-out"),
        (b"", "no explanation was given"),
        (b"\x1b[31mred\x1b[0m\r\nline", "[31mred[0m line"),
        (b"\xff\xfe", "\ufffd\ufffd"),
    ],
)  # fmt: skip
def test_every_shape_of_error_becomes_one_harmless_sentence(body: bytes, sentence: str) -> None:
    """Plain text, both JSON shapes, a gateway's page, nothing, and an attempt to colour the terminal."""
    assert sentence in error_from_answer(500, {}, body).sentence


@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        ({"Retry-After": "60"}, b'{"retry_after_seconds": 30}', 60),
        ({"Retry-After": "5"}, b'{"retry_after_seconds": 30}', 30),
        ({"Retry-After": "Sun, 06 Nov 1994 08:50:37 GMT", "Date": "Sun, 06 Nov 1994 08:49:37 GMT"}, b"", 60),
        ({"Retry-After": "soon"}, b"", None),
        ({}, b"", None),
    ],
)
def test_the_longer_of_two_waits_is_kept(headers: dict[str, str], body: bytes, seconds: float | None) -> None:
    """Header and body of this server disagree; a date is held against the server's own clock."""
    assert error_from_answer(429, headers, body).retry_after == seconds


@pytest.mark.parametrize(
    ("status", "body", "exit_code"),
    [
        (401, "Authentication required", Exit.NO_KEY),
        (403, "Insufficient permissions to Create Files", Exit.NO_KEY),
        (402, "Account balance too low.", Exit.REFUSED),
        (404, "Batch with ID x not found", Exit.NOT_FOUND),
        (413, "File exceeds", Exit.BAD_INPUT),
        (422, "missing field", Exit.BAD_INPUT),
        (429, "slow down", Exit.UNREACHABLE),
        (429, "Unverified accounts can submit at most 1000 request(s)", Exit.REFUSED),
        (429, "Insufficient capacity for 1h completion window.", Exit.UNREACHABLE),
        (500, "Internal server error", Exit.UNREACHABLE),
    ],
)
def test_a_status_becomes_an_exit_code_and_an_action(status: int, body: str, exit_code: Exit) -> None:
    """Each refusal tells what to do."""
    failure = error_from_answer(status, {}, body.encode()).failure("creating")
    assert failure.exit_code == exit_code
    assert body in failure.message and failure.hint


def test_a_limit_of_the_account_is_not_waited_for() -> None:
    """Two kinds of 429 do not pass with time."""
    assert not error_from_answer(429, {"Retry-After": "60"}, b"Unverified accounts can submit at most 1").may_pass
    assert error_from_answer(429, {"Retry-After": "60"}, b"Too many file uploads in progress.").may_pass


@responses.activate
def test_an_upload_is_streamed_and_hashed(api: Api, tmp_path: Path) -> None:
    """The multipart body holds purpose and one file part with a harmless name; its length is announced."""
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'{"a":1}\n' * 1000)
    seen: dict[str, Any] = {}

    def answer(request: requests.PreparedRequest) -> tuple[int, dict[str, str], str]:
        data = b"".join(request.body)  # type: ignore[arg-type]
        seen.update(length=request.headers["Content-Length"], data=data)
        return 201, {}, json.dumps({"id": "f1", "filename": "x", "bytes": 8000, "purpose": "batch"})

    responses.add_callback(responses.POST, f"{BASE}/files", callback=answer)
    counted: list[int] = []
    with path.open("rb") as file:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        remote = api.upload(Upload(file, 8000, digest, 'a"\r\nX: y.jsonl', "boundary", counted.append))
    assert remote.id == "f1"
    assert int(seen["length"]) == len(seen["data"])
    assert b'name="purpose"\r\n\r\nbatch\r\n' in seen["data"]
    assert b'filename="a___X__y.jsonl"' in seen["data"]
    assert seen["data"].count(b'{"a":1}\n') == 1000
    assert sum(counted) == 8000


@pytest.mark.parametrize("size", [8, 9])
def test_a_file_that_changed_is_never_sent_whole(tmp_path: Path, size: int) -> None:
    """Other bytes of the same length, or too few: the body ends before its last boundary, so nothing is taken."""
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'{"a":2}\n')
    sent = b""
    with path.open("rb") as file, pytest.raises(FileChanged) as raised:
        body = Upload(file, size, hashlib.sha256(b'{"a":1}\n').hexdigest(), "a.jsonl", "boundary", lambda _: None)
        for block in body:
            sent += block
    assert not sent.endswith(b"--boundary--\r\n") and len(sent) < len(body)
    assert not raised.value.may_have_happened


class Raw:
    """What a connection brings of a body: so many bytes at a time, not decoded."""

    def __init__(self, body: bytes, size: int) -> None:
        self.body = body
        self.size = size

    def read1(self, _size: int, decode_content: bool) -> bytes:
        assert not decode_content
        piece, self.body = self.body[: self.size], self.body[self.size :]
        return piece

    read = read1

    def close(self) -> None:
        """As a connection's."""


def blocks_of(body: bytes, size: int) -> list[bytes]:
    """The blocks of a compressed answer that comes in pieces of `size`."""
    response = requests.Response()
    response.headers["Content-Encoding"] = "gzip"
    response.raw = Raw(body, size)
    return list(content_of(response, lambda: 0.0))


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress])
def test_a_compressed_body_swells_block_by_block(compress: Callable[[bytes], bytes]) -> None:
    """However much is in it, a block is 256 KiB; two streams one after the other are one body."""
    whole = b"0123456789" * 400_000
    blocks = blocks_of(compress(whole) + compress(b"end"), 1 << 18)
    assert b"".join(blocks) == whole + b"end"
    assert max(map(len, blocks)) <= 1 << 18


def test_each_drop_of_a_compressed_body_is_a_chance_to_give_up() -> None:
    """Nothing whole is in the first drops, and still the reader gets its turn after each (simulation seed 26743)."""
    body = gzip.compress(b'{"id": 1}')
    blocks = blocks_of(body, 1)
    assert (len(blocks), b"".join(blocks)) == (len(body), b'{"id": 1}')
