"""Never lie: exit codes and `complete` follow from the rows; every refusal is one sentence and what to do."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

import pytest
from tests.clock import Clocked
from tests.engine_process import RunningEngine
from tests.faults import gate as faults
from tests.faults.canned import Canned, failed_row, row
from tests.faults.gate import Exchange, Gate
from tests.faults.rooms import Desk, batch_count, finished

IDS = [f"row-{n}" for n in range(1, 5)]
LINES = [row(name) for name in IDS]
DAY = 86_400


@pytest.fixture
def served(desk: Desk, gate: Gate) -> Canned:
    """A job of four requests, whose batch is then answered for by the test."""
    desk.batch_file("a.jsonl", ["one", "two", "three", "four"])
    assert desk.run("submit", "a.jsonl").code == 0
    canned = Canned(4, files={"output": list(LINES), "error": []})
    gate.server = canned.reply
    return canned


@pytest.mark.parametrize("status", ["completed", "failed", "expired", "cancelled"])
def test_a_batch_that_ended_badly_gives_what_it_has_and_6(desk: Desk, served: Canned, status: str) -> None:
    """Two answers, one failure, one row in no file: all four are told apart, whatever the status word."""
    served.batch = {"status": status}
    served.files = {"output": LINES[:2], "error": [failed_row("row-3")]}
    polled = desk.run("poll", "a.job.json")
    assert (polled.code, polled.json["done"], polled.json["status"]) == (6, True, status)
    result = desk.run("fetch_results", "a.job.json", "--output", "x.jsonl")
    assert (result.code, result.json["complete"]) == (6, True)
    assert result.json["counts"] == {"total": 4, "succeeded": 2, "failed": 1, "missing": 1}
    assert list(desk.rows("x.jsonl")) == IDS[:2]
    errors = [json.loads(line) for line in (desk.folder / "x.errors.jsonl").read_text().splitlines()]
    assert [one["custom_id"] for one in errors] == IDS[2:]
    assert "retry_failed.py" in result.json["error"]["hint"]


@pytest.mark.parametrize("status", ["completed", "failed", "expired", "cancelled"])
def test_zero_rows_are_no_success(desk: Desk, served: Canned, status: str) -> None:
    """A batch that is over and answered nothing is 6, with every request missing."""
    served.batch = {"status": status}
    served.files = {"output": [], "error": []}
    assert desk.run("poll", "a.job.json").code == 6
    result = desk.run("fetch_results", "a.job.json")
    assert (result.code, result.json["counts"]["missing"]) == (6, 4)


def test_an_empty_batch_is_no_success(desk: Desk, served: Canned) -> None:
    """By its id alone there is nothing to hold it against: zero of zero is 6 all the same."""
    served.batch = {"request_counts": {"total": 0, "completed": 0, "failed": 0}, "input_file_id": ""}
    served.files = {"output": [], "error": []}
    for name in ("poll", "fetch_results"):
        result = desk.run(name, "6f0c0e1e-0000-4000-8000-000000000009")
        assert result.code == 6, name
        assert result.json["counts"]["total"] == 0
    assert result.json["complete"] is False


def test_a_batch_of_fewer_requests_than_the_job_is_not_whole(desk: Desk, served: Canned) -> None:
    """The server says 3 of 3; the job asked 4."""
    served.batch = {"request_counts": {"total": 3, "completed": 3, "failed": 0}}
    served.files["output"] = LINES[:3]
    assert desk.run("poll", "a.job.json").code == 6
    result = desk.run("fetch_results", "a.job.json")
    assert (result.code, result.json["counts"]["missing"]) == (6, 1)


def test_counts_that_lie_upwards_do_not_make_a_success(desk: Desk, served: Canned) -> None:
    """All four are counted as completed and one row is a failure: the rows decide."""
    served.batch = {"request_counts": {"total": 4, "completed": 4, "failed": 0}}
    served.files = {"output": LINES[:3], "error": [failed_row("row-4")]}
    result = desk.run("fetch_results", "a.job.json")
    assert (result.code, result.json["counts"]["failed"]) == (6, 1)


def test_a_failure_in_the_output_file_is_a_failure(desk: Desk, served: Canned) -> None:
    """OpenAI puts status 400 into `response`, with error null; it is no answer."""
    bad = json.loads(LINES[3])
    bad["response"] = {"status_code": 400, "body": {"error": {"message": "too long"}}}
    served.files["output"] = [*LINES[:3], json.dumps(bad).encode()]
    result = desk.run("fetch_results", "a.job.json", "--output", "x.jsonl")
    assert (result.code, result.json["counts"]["failed"]) == (6, 1)
    assert list(desk.rows("x.jsonl")) == IDS[:3]
    assert result.json["failures"][0]["cause"] == "HTTP 400: too long"


@pytest.mark.parametrize(
    ("batch", "fact"),
    [
        ({"status": "cancelling"}, "cancelling for long"),
        ({"status": "validating"}, "validating for"),
        ({"status": "in_progress", "expires_at": 1_800_000_000 + DAY}, "past its completion window"),
    ],
)
def test_a_state_that_never_ends_is_7_with_the_facts(
    desk: Desk, served: Canned, clock: Clocked, batch: dict[str, Any], fact: str
) -> None:
    """Two days later: not done, why that is odd, and the command that takes what is there."""
    counts = {"total": 4, "completed": 2, "failed": 0}
    served.batch = {**batch, "created_at": 1_800_000_000, "request_counts": counts}
    served.files["output"] = LINES[:2]
    clock.time = max(clock.time, 1_800_000_000 + 2 * DAY)
    polled = desk.run("poll", "a.job.json", "--wait", "3600")
    assert (polled.code, polled.json["done"]) == (7, False)
    assert any(fact in warning for warning in polled.json["warnings"])
    fetched = desk.run("fetch_results", "a.job.json")
    assert fetched.code == 7 and "--partial" in fetched.json["error"]["hint"]
    partial = desk.run("fetch_results", "a.job.json", "--partial", "--output", "p.jsonl")
    assert (partial.code, partial.json["complete"]) == (7, False)
    assert list(desk.rows("p.jsonl")) == IDS[:2]


@dataclass(frozen=True)
class Refusal:
    """What a server answers, and what becomes of it."""

    status: int
    body: bytes
    kind: str
    exit_code: int
    said: str


TEXT, JSON, HTML = "text/plain", "application/json", "text/html"
REFUSALS = [
    Refusal(400, b"Unsupported endpoint '/x'. Supported: /v1/y", TEXT, 2, "Unsupported endpoint"),
    Refusal(401, b"Authentication required", TEXT, 3, "DOUBLEWORD_API_KEY"),
    Refusal(403, b'{"error":{"message":"no rights","code":"forbidden"}}', JSON, 3, "no rights"),
    Refusal(402, b"Account balance too low. Please add credits to continue.", TEXT, 8, "top up"),
    Refusal(413, b"", HTML, 2, "smaller files"),
    Refusal(422, b"Failed to deserialize the JSON body into the target type", TEXT, 2, "Failed to deserialize"),
    Refusal(429, b'{"error":"x","message":"Unverified accounts can submit at most 5"}', JSON, 8, "verify"),
    Refusal(429, b'{"error":"too_many_requests","message":"Insufficient capacity for 1h"}', JSON, 5, "Insufficient"),
    Refusal(429, b"slow down", TEXT, 5, "slow down"),
    Refusal(500, b"Internal server error", TEXT, 5, "Internal server error"),
    Refusal(502, faults.PAGE, HTML, 5, "502 Bad Gateway"),
    Refusal(503, b"", TEXT, 5, "no explanation"),
    Refusal(504, b'{"message":"upstream timed out"}', JSON, 5, "upstream timed out"),
]


@pytest.mark.parametrize("route", ["upload", "create"])
@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda one: f"{one.status}-{one.said[:12]}")
def test_every_refusal_is_one_sentence_and_an_action(
    desk: Desk, gate: Gate, engine: RunningEngine, route: str, refusal: Refusal
) -> None:
    """Plain text, both JSON shapes, a gateway's page, nothing; once the cause is mended, the same command goes on."""

    def refused(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.send(faults.page(refusal.status, refusal.body, refusal.kind))

    desk.batch_file("a.jsonl", ["one"])
    gate.on(route, refused, times=10_000)
    result = desk.run("submit", "a.jsonl")
    assert result.code == refusal.exit_code
    error = result.json["error"]
    assert refusal.said in error["message"] + error["hint"]
    assert "\n" not in error["message"] and error["hint"]
    assert batch_count(engine) == 0
    gate.calm()
    assert desk.run("submit", "a.jsonl").code == 0
    assert batch_count(engine) == 1


@pytest.mark.parametrize("resets", [False, True], ids=["closed", "reset"])
def test_an_upload_that_is_refused_half_way_says_why(
    desk: Desk, gate: Gate, engine: RunningEngine, clock: Clocked, resets: bool
) -> None:
    """The server answers at the first bad line and hangs up while the file is still being sent."""

    def early(exchange: Exchange) -> None:
        exchange.read_body(0.1)
        exchange.send_raw(b"HTTP/1.1 413 Too Large\r\nContent-Length: 9\r\nConnection: close\r\n\r\ntoo large")
        time.sleep(0.2)  # what was sent is on its way before the end
        exchange.reset() if resets else exchange.close()

    desk.batch_file("a.jsonl", ["x" * 1000] * 5000)
    gate.on("upload", early, times=100)
    clock.slept.clear()
    result = desk.run("submit", "a.jsonl")
    assert (result.code, result.json["error"]["code"]) == (2, "too_large")
    assert (gate.calls("upload"), clock.slept, batch_count(engine)) == (1, [], 0)


@pytest.mark.parametrize("refusal", [*REFUSALS[1:4], REFUSALS[9]], ids=lambda one: str(one.status))
@pytest.mark.parametrize("name", ["poll", "fetch_results", "retry_failed", "cancel"])
def test_every_script_says_why_it_was_refused(
    desk: Desk, gate: Gate, served: Canned, name: str, refusal: Refusal
) -> None:
    """The same sentence and exit code wherever it happens; a server that stays away is 5."""
    gate.on("any", lambda exchange: exchange.send(faults.page(refusal.status, refusal.body, refusal.kind)), times=9999)
    result = desk.run(name, "a.job.json", *(["--yes"] if name == "cancel" else []))
    assert result.code == refusal.exit_code
    assert refusal.said in result.json["error"]["message"] + result.json["error"]["hint"]


def test_a_batch_that_is_gone_is_not_found(desk: Desk, served: Canned, gate: Gate) -> None:
    """404 for a batch of long ago is 4; it was deleted, or the key is another account's."""
    gone = faults.page(404, b"Batch with ID x not found", "text/plain")
    gate.on("batch", lambda exchange: exchange.send(gone), times=10_000)
    for name in ("poll", "fetch_results", "retry_failed"):
        assert desk.run(name, "a.job.json").code == 4, name


@pytest.mark.parametrize("name", ["poll", "fetch_results"])
def test_a_batch_just_made_may_not_be_visible_yet(desk: Desk, gate: Gate, engine: RunningEngine, name: str) -> None:
    """Reads may come from a replica that lags a few seconds behind the creation: no reason to say not found."""
    desk.batch_file("a.jsonl", ["one"])
    desk.run("submit", "a.jsonl")
    finished(engine)
    gate.on("batch", faults.lag(10), times=100)
    assert desk.run(name, "a.job.json").code == 0


@pytest.mark.parametrize(
    ("headers", "body", "waits"),
    [
        ({"Retry_After": "7"}, b'{"message":"x","retry_after_seconds":3}', 7),
        ({"Retry_After": "3"}, b'{"message":"x","retry_after_seconds":7}', 7),
        ({"Retry_After": "99999"}, b"", 300),
        ({"Retry_After": "Sun, 06 Nov 1994 08:49:47 GMT", "Date": "Sun, 06 Nov 1994 08:49:37 GMT"}, b"", 10),
        ({"Retry_After": "-5"}, b"", None),
        ({"Retry_After": "1e9"}, b'{"retry_after_seconds": NaN}', None),
    ],
)
def test_a_429_is_waited_for_as_it_asks_but_not_for_ever(
    desk: Desk, gate: Gate, engine: RunningEngine, clock: Clocked, headers: dict[str, str], body: bytes, waits: Any
) -> None:
    """Seconds or a date; the longer where header and body disagree; at most five minutes; nonsense is passed over."""
    desk.batch_file("a.jsonl", ["one"])
    gate.on("create", faults.gateway(429, False, body, "application/json", **headers))
    clock.slept.clear()
    assert desk.run("submit", "a.jsonl").code == 0
    (slept,) = clock.slept
    assert slept == waits if waits is not None else slept < 2
    assert batch_count(engine) == 1
