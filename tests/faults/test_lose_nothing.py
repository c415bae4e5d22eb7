"""Lose nothing: however a body arrives, every row that the server has reaches the output, once, in its place."""

from __future__ import annotations

import csv
import json
import re
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.clock import Clocked
from tests.engine_process import KEY, RunningEngine
from tests.faults import gate as faults
from tests.faults.canned import BATCH_ID, Canned, failed_row, row
from tests.faults.gate import Act, Exchange, Gate, Reply
from tests.faults.rooms import Desk, finished

from doubleword.results.reconciliation import Collector
from doubleword.results.result import Result
from doubleword.server.api import Api
from doubleword.server.objects import Asked as AskedRows

TEXTS = ["one", "two", "three", "four"]
IDS = [f"row-{n}" for n in range(1, 5)]
LINES = [row("row-1", "é€😀"), row("row-2", "𝄞"), row("row-3", "plain"), row("row-4")]


@pytest.fixture
def served(desk: Desk, gate: Gate) -> Canned:
    """A job of four requests, whose batch is then answered for by the test."""
    desk.batch_file("a.jsonl", TEXTS)
    assert desk.run("submit", "a.jsonl").code == 0
    canned = Canned(4, files={"output": list(LINES), "error": []})
    gate.server = canned.reply
    gate.log.clear()
    return canned


@pytest.mark.parametrize("framing", ["length", "chunked", "close", "gzip", "gzip chunked"])
def test_a_body_cut_anywhere_loses_no_row(desk: Desk, gate: Gate, clock: Clocked, framing: str) -> None:
    """At every byte of what travels: by length, chunked, by the connection's end, inside gzip, inside a character."""
    lines = [line.replace(b',"finish_reason":"stop"', b"") for line in LINES[:2]]
    canned = Canned(2, files={"output": lines, "error": []}, skips=framing != "chunked")
    gate.server = canned.reply
    source = desk.batch_file("a.jsonl", TEXTS[:2])
    outer = {"gzip": "length", "gzip chunked": "chunked"}.get(framing, framing)
    travels = 330 if outer == "chunked" else 270
    for cut in range(travels):
        gate.on("content", faults.content_cut(cut, outer, compressed=framing.startswith("gzip")))
        results, collector = _collected(gate, clock, source, 2)
        assert [result.line for result in results] == lines, cut
        assert (collector.tally.succeeded, collector.unreadable) == (2, 0)
        gate.rules.clear()
    assert gate.fired["cut_short"] == travels


def _collected(gate: Gate, clock: Clocked, source: Path, requests: int) -> tuple[list[Result], Collector]:
    """What the collector makes of the batch behind the gate, for the requests in `source`."""
    api = Api(gate.base_url, KEY, clock)
    asked = AskedRows(source, requests, "/v1/chat/completions", (api.batch(BATCH_ID),))
    with Collector(api, clock, source.with_name("spool"), lambda _: None) as collector:
        return list(collector.collect([asked])), collector


def reset_inside(exchange: Exchange) -> None:
    """Half of the body, then a reset."""
    reply = exchange.forward()
    exchange.send_raw(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(reply.body))
    exchange.send_raw(reply.body[: len(reply.body) // 2])
    exchange.reset()


def stall_inside(exchange: Exchange) -> None:
    """Half of the body, then silence."""
    reply = exchange.forward()
    exchange.send_raw(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(reply.body))
    exchange.send_raw(reply.body[: len(reply.body) // 2])
    exchange.stall()


def bad_chunk(exchange: Exchange) -> None:
    """A chunked body whose second chunk has no size."""
    reply = exchange.forward()
    exchange.send_raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    exchange.send_raw(b"%x\r\n%s\r\nzz\r\n" % (100, reply.body[:100]))
    exchange.close()


def bad_gzip(exchange: Exchange) -> None:
    """A body that calls itself gzip and is not."""
    reply = exchange.forward()
    exchange.send(Reply(200, (("Content-Encoding", "gzip"),), reply.body))


CONTENT_FAULTS = [
    reset_inside,
    stall_inside,
    bad_chunk,
    bad_gzip,
    faults.reset_before,
    faults.closed_unread,
    faults.stalled,
    faults.garbage,
    *(faults.gateway(status, acts=False) for status in (429, 500, 502, 503, 504)),
]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("act", CONTENT_FAULTS, ids=lambda act: act.__name__)
@pytest.mark.parametrize("skips", [True, False], ids=["skip honoured", "skip ignored"])
def test_reading_goes_on_after_whatever_ended_it(desk: Desk, gate: Gate, served: Canned, act: Act, skips: bool) -> None:
    """Resets, stalls, broken framing and gateways: read on, by `skip` where the server knows it; no row twice."""
    served.skips = skips
    gate.on("content", act)
    assert desk.run("fetch_results", "a.job.json", "--output", "x.jsonl").code == 0
    assert (desk.folder / "x.jsonl").read_bytes() == b"".join(line + b"\n" for line in LINES)


def test_going_on_says_where_in_both_dialects(desk: Desk, gate: Gate, served: Canned) -> None:
    """The server's source reads `skip`, its documentation says `offset`."""
    gate.on("content", faults.content_cut(len(LINES[0]) + 1 + 10))
    assert desk.run("fetch_results", "a.job.json").code == 0
    targets = [asked.target.partition("?")[2] for asked in gate.log if asked.route == "content"]
    assert targets[:2] == ["", "skip=1&offset=1"]


@pytest.mark.usefixtures("quick")
def test_a_body_that_always_ends_at_the_same_place_is_not_called_whole(desk: Desk, gate: Gate, served: Canned) -> None:
    """A gateway that cuts every body there, before a server that knows no `skip`: exit 5, nothing written."""
    served.skips = False
    gate.on("content", faults.content_cut(len(LINES[0]) + 30), times=10_000)
    result = desk.run("fetch_results", "a.job.json")
    assert result.code == 5
    assert desk.names() == ["a.job.json", "a.jsonl"]
    assert gate.calls("content") < 40


def drip(step: int) -> Act:
    """The body comes `step` bytes every 50 seconds: no single read ever times out."""

    def dripping(exchange: Exchange) -> None:
        reply = exchange.forward()
        exchange.send_raw(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(reply.body))
        for at in range(0, len(reply.body), step):
            exchange.gate.clock.sleep(50)
            exchange.send_raw(reply.body[at : at + step])
            time.sleep(0.003)  # the client is to see each piece by itself

    return dripping


@pytest.mark.parametrize("route", ["content", "batch"])
def test_a_server_that_drips_is_left(desk: Desk, gate: Gate, served: Canned, clock: Clocked, route: str) -> None:
    """One byte every 50 s never times out; a body that keeps no pace ends with 5 within a few hours all the same."""
    gate.on(route, drip(1), times=10_000)
    began = clock.now()
    assert desk.run("fetch_results", "a.job.json").code == 5
    assert clock.now() - began < 4 * 3600
    assert gate.calls(route) < 20
    assert desk.names() == ["a.job.json", "a.jsonl"]


def test_a_server_that_drips_row_by_row_is_left(desk: Desk, gate: Gate, served: Canned) -> None:
    """Each attempt brings a row, and a job of thousands would take months."""
    served.files["output"] = [*LINES, *(row(f"stranger-{n}") for n in range(40))]
    gate.on("content", drip(70), times=10_000)
    assert desk.run("fetch_results", "a.job.json").code == 5
    assert gate.calls("content") < 20


def test_a_slow_body_that_moves_is_read_to_its_end(desk: Desk, gate: Gate, served: Canned) -> None:
    """A pause inside a body is no stall."""
    gate.on("content", drip(400))
    assert desk.run("fetch_results", "a.job.json").code == 0
    assert gate.calls("content") == 2


QUIET = {
    "at a line": lambda body: len(LINES[0]) + 1,
    "inside a line": lambda body: len(LINES[0]) + 40,
    "empty": lambda body: 0,
}


@pytest.mark.parametrize("size", QUIET.values(), ids=QUIET)
@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
def test_a_short_body_that_looks_whole_is_told_by_its_rows(
    desk: Desk, gate: Gate, served: Canned, size: Callable[[bytes], int], compressed: bool
) -> None:
    """Its framing fits, gzip inside it is cut: the server's counts say that rows are missing, so it is read again."""
    gate.on("content", faults.quietly_short(size, compressed))
    result = desk.run("fetch_results", "a.job.json", "--output", "x.jsonl")
    assert (result.code, result.json["counts"]["succeeded"]) == (0, 4)


def test_rows_that_become_visible_late_and_out_of_order_are_waited_for(
    desk: Desk, gate: Gate, served: Canned, clock: Clocked
) -> None:
    """A row with an earlier stamp appears before rows already read; the batch is over, its files are not yet whole."""
    shown_from = clock.now() + 4

    def late(exchange: Exchange) -> None:
        lines = LINES if clock.now() >= shown_from else LINES[2:]
        served.files["output"] = list(reversed(lines))
        exchange.send(exchange.forward())

    served.batch = {"request_counts": {"total": 4, "completed": 4, "failed": 0}}
    gate.on("content", late, times=100)
    assert desk.run("fetch_results", "a.job.json", "--output", "x.jsonl").code == 0
    assert list(desk.rows("x.jsonl")) == IDS


def test_rows_that_never_become_visible_are_not_given_up(desk: Desk, gate: Gate, served: Canned) -> None:
    """The server counts four answers and shows three: 7, nothing written, nothing recorded, nothing asked again."""
    served.files["output"] = LINES[:3]
    served.batch = {"request_counts": {"total": 4, "completed": 4, "failed": 0}}
    result = desk.run("fetch_results", "a.job.json")
    assert (result.code, result.json["error"]["code"]) == (7, "rows_missing")
    assert desk.names() == ["a.job.json", "a.jsonl"]
    partial = desk.run("fetch_results", "a.job.json", "--partial", "--output", "p.jsonl")
    assert (partial.code, partial.json["complete"]) == (7, False)
    assert partial.json["counts"] == {"total": 4, "succeeded": 3, "failed": 0, "missing": 0, "pending": 1}
    assert list(desk.rows("p.jsonl")) == IDS[:3]
    served.files["output"] = list(LINES)
    assert desk.run("fetch_results", "a.job.json").code == 0


def test_rows_that_are_counted_but_not_shown_are_not_paid_again(
    desk: Desk, gate: Gate, served: Canned, engine: RunningEngine
) -> None:
    """Three answers of which two are shown and one failure: where the server has no retry, nothing is resubmitted."""
    served.files = {"output": LINES[:2], "error": [failed_row("row-4")]}
    served.batch = {"request_counts": {"total": 4, "completed": 3, "failed": 1}}
    result = desk.run("retry_failed", "a.job.json")
    assert (result.code, result.json["error"]["code"]) == (7, "rows_missing")
    assert (gate.calls("upload"), gate.calls("create")) == (0, 0)


def test_duplicated_rows_count_once(desk: Desk, served: Canned) -> None:
    """The same line again, and the same request as a failure and as an answer: one row each, the answer stands."""
    served.files = {"output": [LINES[3], LINES[0], *LINES, LINES[1]], "error": [failed_row("row-2")]}
    served.batch = {"request_counts": {"total": 4, "completed": 4, "failed": 0}}
    result = desk.run("fetch_results", "a.job.json", "--output", "x.jsonl")
    assert (result.code, result.json["counts"]["succeeded"]) == (0, 4)
    assert (desk.folder / "x.jsonl").read_bytes() == b"".join(line + b"\n" for line in LINES)


@pytest.mark.parametrize("identifier", ["batch_req_other", ""])
def test_a_second_answer_to_one_request_is_told(desk: Desk, served: Canned, identifier: str) -> None:
    """Both were paid and one has a place: the later good one, with a warning; the same line again is no other."""
    other = row("row-2", "other").replace(b'"id":"batch_req_row-2"', b'"id":"%b"' % identifier.encode())
    served.files["output"] = [*LINES, other, other]
    served.batch = {"request_counts": {"total": 4, "completed": 4, "failed": 0}}
    result = desk.run("fetch_results", "a.job.json", "--output", "x.jsonl")
    assert result.code == 0 and desk.rows("x.jsonl")["row-2"] == "other"
    assert "1 answers came beside another one to the same request" in result.json["warnings"][0]
    assert "such as row-2" in result.json["warnings"][0]


def test_equal_answers_to_one_id_without_ids_of_their_own_are_all_given(desk: Desk, served: Canned) -> None:
    """Of a batch made elsewhere, whose lines say no more than whose answer they are."""
    bare = [re.sub(rb'"id":"[^"]*",', b"", row(custom_id)) for custom_id in ("a", "b", "a")]
    served.total = 3
    asked = {"method": "POST", "url": "/v1/chat/completions", "body": {"model": "m", "messages": []}}
    served.files = {"output": bare, "input": [json.dumps({"custom_id": one, **asked}).encode() for one in "aba"]}
    result = desk.run("fetch_results", BATCH_ID, "--output", "x.jsonl")
    assert (result.code, result.json["counts"]["succeeded"]) == (0, 3), result.json
    assert (desk.folder / "x.jsonl").read_bytes().splitlines() == bare


def test_rows_of_strangers_are_left_out_and_told(desk: Desk, served: Canned) -> None:
    """A row that answers no request of the job is not delivered, and not passed over in silence."""
    served.files["output"] = [*LINES, row("intruder")]
    result = desk.run("fetch_results", "a.job.json", "--output", "x.jsonl")
    assert result.code == 0 and "intruder" in result.json["warnings"][0]
    assert list(desk.rows("x.jsonl")) == IDS


def test_a_batch_that_goes_backwards_while_it_is_read_is_not_over(desk: Desk, gate: Gate, served: Canned) -> None:
    """Somebody retries it between the look and the read: its failed row is gone, and it runs again."""

    def retried(exchange: Exchange) -> None:
        served.files["error"] = []
        served.batch = {"status": "in_progress", "request_counts": {"total": 4, "completed": 3, "failed": 0}}
        exchange.send(exchange.forward())

    served.files = {"output": LINES[:3], "error": [failed_row("row-4")]}
    gate.on("content", retried)
    result = desk.run("fetch_results", "a.job.json")
    assert result.code == 7
    assert desk.names() == ["a.job.json", "a.jsonl"]


@pytest.mark.parametrize("missing", ["deleted", "never made"])
def test_an_absent_error_file_is_no_error_where_nothing_failed(desk: Desk, served: Canned, missing: str) -> None:
    """No id for it, or a 404 for its id."""
    del served.files["error"]
    if missing == "never made":
        served.batch = {"error_file_id": None}
    assert desk.run("fetch_results", "a.job.json").code == 0


def test_an_absent_error_file_is_missed_where_something_failed(desk: Desk, served: Canned) -> None:
    """One failure is counted and its file is gone for good: the row is not called missing, and never "later"."""
    served.files = {"output": LINES[:3]}
    served.batch = {"request_counts": {"total": 4, "completed": 3, "failed": 1}}
    result = desk.run("fetch_results", "a.job.json")
    assert (result.code, result.json["complete"]) == (6, True)
    assert result.json["counts"] == {"total": 4, "succeeded": 3, "failed": 1, "missing": 0}
    assert "deleted" in result.json["failures"][0]["cause"]


@pytest.mark.parametrize("deleted", ["output_file_id", "error_file_id"])
def test_a_result_file_deleted_a_moment_ago_is_told_as_deleted(desk: Desk, engine: RunningEngine, deleted: str) -> None:
    """The batch names it no more; that it was deleted, and is not late, says the 410 of `/results` (dwctl 11.11.0)."""
    engine.upstream.fail("bad", 409)
    desk.batch_file("a.jsonl", ["good", "bad", "fine"])
    assert desk.run("submit", "a.jsonl").code == 0
    finished(engine)
    batch = engine.call("GET", "/batches").json()["data"][0]
    engine.call("DELETE", f"/files/{batch[deleted]}")
    fetched = desk.run("fetch_results", "a.job.json")
    assert (fetched.code, fetched.json["complete"]) == (6, True)
    assert any("has deleted" in one["cause"] for one in fetched.json["failures"])


def test_an_output_file_that_is_named_only_later_is_found(desk: Desk, gate: Gate, served: Canned) -> None:
    """`completed`, all counted, and output_file_id null: the batch is looked at again until the id is there."""
    served.batch = {"output_file_id": None}

    def named(exchange: Exchange) -> None:
        served.batch = {}
        exchange.send(exchange.forward())

    gate.on("batch", named, nth=3)
    assert desk.run("fetch_results", "a.job.json").code == 0


def test_an_output_file_that_is_never_named_is_missed(desk: Desk, served: Canned) -> None:
    """Answers are counted and nowhere to be read: 7 and the facts, not a table of missing rows."""
    served.batch = {"output_file_id": None}
    result = desk.run("fetch_results", "a.job.json")
    assert (result.code, result.json["error"]["code"]) == (7, "rows_missing")
    assert "4" in result.json["error"]["message"]


@pytest.mark.parametrize(
    "headers", [(), (("X-Incomplete", "true"), ("X-Last-Line", "0")), (("X-Last-Line", "999999999999"),)]
)
def test_headers_about_the_rows_are_not_believed(
    desk: Desk, served: Canned, headers: tuple[tuple[str, str], ...]
) -> None:
    """Missing, contradicting or absurd: the rows themselves are counted."""
    served.headers = headers
    result = desk.run("fetch_results", "a.job.json")
    assert (result.code, result.json["counts"]["succeeded"]) == (0, 4)


def test_an_input_file_that_was_deleted_on_the_server_is_not_needed(desk: Desk, engine: RunningEngine) -> None:
    """The local batch file says which requests there are."""
    desk.batch_file("a.jsonl", TEXTS)
    remote = desk.run("submit", "a.jsonl").json["batches"][0]["file_id"]
    finished(engine)
    assert engine.call("DELETE", f"/files/{remote}").status_code == 200
    assert desk.run("fetch_results", "a.job.json", "--output", "x.jsonl").code == 0
    assert list(desk.rows("x.jsonl")) == IDS


@pytest.mark.parametrize("answered", [4, 3])
def test_without_any_input_file_the_rows_are_still_delivered(desk: Desk, served: Canned, answered: int) -> None:
    """Only ids and no copy of the input: rows as they came, a warning, and what is missing is counted."""
    served.files["output"] = LINES[:answered]
    served.batch = {"input_file_id": "", "status": "cancelled"}
    result = desk.run("fetch_results", BATCH_ID, "--output", "x.jsonl")
    assert result.code == (0 if answered == 4 else 6)
    assert result.json["counts"] == {"total": 4, "succeeded": answered, "failed": 0, "missing": 4 - answered}
    assert "input file is gone" in result.json["warnings"][0]
    assert list(desk.rows("x.jsonl")) == IDS[:answered]


def test_a_copy_of_the_input_file_that_stays_short_is_no_dead_end(desk: Desk, served: Canned) -> None:
    """What comes short twice alike says not what was asked: the rows are delivered as they came, and it is told."""
    ask = {"method": "POST", "url": "/v1/chat/completions", "body": {"model": "m", "messages": []}}
    served.files["input"] = [json.dumps({"custom_id": one, **ask}).encode() for one in IDS[:3]]
    served.files["output"] = LINES[::-1]
    result = desk.run("fetch_results", BATCH_ID, "--output", "x.jsonl")
    assert (result.code, result.json["counts"]["succeeded"]) == (0, 4), result
    assert "input file is gone" in result.json["warnings"][0]
    assert list(desk.rows("x.jsonl")) == IDS[::-1]


ODD = {
    "U+2028": "a\u2028b",
    "U+2029": "a\u2029b",
    "U+0085": "a\x85b",
    "CR": "a\rb\r\nc",
    "NUL": "a\0b",
    "lone surrogate": "a\ud800b",
    "form feed": "a\x0cb\x1cb",
}


@pytest.mark.parametrize("escaped", [True, False], ids=["escaped", "raw"])
@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
def test_odd_characters_neither_split_nor_break_a_row(desk: Desk, served: Canned, text: str, escaped: bool) -> None:
    """As escapes and raw in the line: one row, the server's bytes in JSONL, one readable record in CSV."""
    raw = row("row-2", "X").replace(b'"X"', json.dumps(text, ensure_ascii=escaped).encode("utf-8", "surrogatepass"))
    if not escaped and "\ud800" not in text:  # what JSON forbids inside a string and some servers send
        raw = raw.replace(rb"\r", b"\r").replace(rb"\u0000", b"\0").replace(rb"\f", b"\x0c")
    served.files["output"][1] = raw
    assert desk.run("fetch_results", "a.job.json", "--output", "x.jsonl").code == 0
    assert (desk.folder / "x.jsonl").read_bytes().split(b"\n")[:4] == [LINES[0], raw, LINES[2], LINES[3]]
    assert desk.run("fetch_results", "a.job.json", "--output", "x.csv", "--format", "csv").code == 0
    with (desk.folder / "x.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [one["custom_id"] for one in table] == IDS
    assert table[1]["answer"] == text.replace("\0", "").replace("\ud800", "?")
    assert desk.run("fetch_results", "a.job.json", "--output", "x.parquet", "--format", "parquet").code == 0


def test_a_line_nobody_can_read_costs_its_own_row_alone(desk: Desk, served: Canned) -> None:
    """JSON nested 100,000 deep is a failure of its request; garbage without an id leaves its request missing."""
    deep = b'{"id":"x","custom_id":"row-2","response":' + b"[" * 100_000
    served.files["output"] = [LINES[0], deep, b"\xff\xfe garbage", LINES[2]]
    result = desk.run("fetch_results", "a.job.json", "--output", "x.jsonl")
    assert (result.code, result.json["complete"]) == (6, True)
    assert result.json["counts"] == {"total": 4, "succeeded": 2, "failed": 1, "missing": 1}
    assert "1 result lines do not say" in result.json["warnings"][0]
    errors = [json.loads(line) for line in (desk.folder / "x.errors.jsonl").read_text().splitlines()]
    assert [one["custom_id"] for one in errors] == ["row-2", "row-4"]


@pytest.mark.parametrize("answered", [1, 4])
def test_a_gateways_page_in_place_of_the_rows_is_not_a_row(
    desk: Desk, gate: Gate, served: Canned, answered: int
) -> None:
    """200 with a page to sign in: as many lines as rows are counted, and none of them a row; it is read again."""
    served.files["output"] = LINES[:answered]
    served.batch = {"status": "cancelled"}
    gate.on("content", faults.page_instead)
    result = desk.run("fetch_results", "a.job.json", "--output", "x.jsonl")
    assert result.json["counts"] == {"total": 4, "succeeded": answered, "failed": 0, "missing": 4 - answered}
    assert "warnings" not in result.json


@pytest.mark.parametrize("opening", [b"<html>", b"\n\xef\xbb\xbf<!DOCTYPE html>"])
def test_a_gateways_page_that_stays_makes_no_row_missing(
    desk: Desk, gate: Gate, served: Canned, opening: bytes
) -> None:
    """However many lines it has: a retry would pay again for answers that are there."""
    body = opening + b"\n<p>a</p>\n<p>b</p>\n<p>c</p>\n<p>d</p>\n</html>\n"
    gate.on("content", faults.gateway(200, True, body), times=100)
    result = desk.run("fetch_results", "a.job.json", "--output", "x.jsonl")
    assert (result.code, result.json["error"]["code"]) == (5, "server_unreachable")
    assert "HTML page" in result.json["error"]["message"] and "retry_failed" not in result.json["error"]["hint"]


def test_lines_that_cannot_be_read_may_be_readable_another_time(desk: Desk, served: Canned) -> None:
    """A delivery with such lines is not recorded as the last word: the next one reads again."""
    served.files["output"] = [b"garbage", *LINES[1:]]
    assert desk.run("fetch_results", "a.job.json", "--output", "x.jsonl").code == 6
    assert desk.job()["results"] == []
    served.files["output"] = list(LINES)
    assert desk.run("fetch_results", "a.job.json", "--output", "x.jsonl", "--force").code == 0


def test_a_huge_line_is_an_error_of_its_row_and_fills_no_memory(
    desk: Desk, gate: Gate, clock: Clocked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line past the limit is passed over as it comes: its request failed, the others have their answers."""
    monkeypatch.setattr("doubleword.server.transfers.LONGEST_LINE", 1 << 20)
    head = row("row-2", "X").partition(b"X")[0]
    megabyte = b"x" * (1 << 20)

    def huge(exchange: Exchange) -> None:
        exchange.send_raw(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + LINES[0] + b"\n" + head)
        for _ in range(64):
            exchange.send_raw(megabyte)
        exchange.send_raw(b"\n" + LINES[2] + b"\n" + LINES[3] + b"\n")
        exchange.close()

    gate.server = Canned(4, files={"output": LINES, "error": []}).reply
    gate.on("content", huge)
    tracemalloc.start()
    try:
        results, _ = _collected(gate, clock, desk.batch_file("a.jsonl", TEXTS), 4)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [result.kind for result in results] == ["succeeded", "failed", "succeeded", "succeeded"]
    assert "longer than" in str(results[1].cause)
    assert most < 8 << 20


def test_a_line_without_end_is_given_up(
    desk: Desk, gate: Gate, served: Canned, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes for ever and never a newline: an error, at once, and nothing written."""
    monkeypatch.setattr("doubleword.server.transfers.LONGEST_LINE", 1 << 18)
    monkeypatch.setattr("doubleword.server.transfers.ENDLESS_LINE", 1 << 22)

    def endless(exchange: Exchange) -> None:
        exchange.send_raw(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        while True:
            exchange.send_raw(b"x" * (1 << 18))

    gate.on("content", endless, times=10_000)
    result = desk.run("fetch_results", "a.job.json")
    assert result.code == 2 and "no end" in result.json["error"]["message"]
    assert (gate.calls("content"), desk.names()) == (1, ["a.job.json", "a.jsonl"])


@pytest.mark.parametrize("route", ["batch", "content"])
def test_a_header_of_a_megabyte_is_an_error(desk: Desk, gate: Gate, served: Canned, route: str) -> None:
    """In one line or in thousands: an answer that is not taken, then the next attempt."""

    def long_line(exchange: Exchange) -> None:
        exchange.send_raw(b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * (1 << 20) + b"\r\nContent-Length: 2\r\n\r\n{}")
        exchange.close()

    def many_lines(exchange: Exchange) -> None:
        exchange.send_raw(b"HTTP/1.1 200 OK\r\n" + b"X-Many: x\r\n" * 100_000 + b"Content-Length: 2\r\n\r\n{}")
        exchange.close()

    gate.on(route, long_line)
    gate.on(route, many_lines, nth=2)
    assert desk.run("fetch_results", "a.job.json").code == 0
    assert gate.calls(route) >= 3


def test_retried_and_cancelled_rows_of_a_real_job_add_up(desk: Desk, engine: RunningEngine, gate: Gate) -> None:
    """A batch of answers, failures and cancelled rows, read through cuts: all of them, in the input's order."""
    engine.upstream.fail("two", 409, times=1)
    desk.batch_file("a.jsonl", TEXTS)
    with engine.upstream.hold("four"):
        identifier = desk.run("submit", "a.jsonl").json["batches"][0]["id"]
        _until(engine, identifier, 3)
        assert desk.run("cancel", "a.job.json", "--yes").code == 0
        gate.on("content", faults.content_cut(50))
        gate.on("content", faults.content_cut(0), nth=2)
        result = desk.run("fetch_results", "a.job.json", "--output", "x.jsonl")
    assert (result.code, result.json["complete"]) == (6, True)
    assert result.json["counts"] == {"total": 4, "succeeded": 2, "failed": 1, "missing": 1}
    assert desk.run("retry_failed", "a.job.json").code == 0
    finished(engine)
    assert desk.run("fetch_results", "a.job.json", "--output", "x.jsonl", "--force").code == 0
    assert desk.rows("x.jsonl") == {
        identifier: f"answer to: {text}" for identifier, text in zip(IDS, TEXTS, strict=True)
    }
    assert (engine.upstream.count("two"), engine.upstream.count("one")) == (2, 1)


def _until(engine: RunningEngine, identifier: str, ended: int) -> None:
    from tests.engine_process import wait_until

    def there() -> bool:
        counts = engine.call("GET", f"/batches/{identifier}").json()["request_counts"]
        return bool(counts["completed"] + counts["failed"] == ended)

    wait_until(there, f"{ended} requests to end")


def test_an_id_with_the_prefix_of_a_webhook_is_the_same_batch(desk: Desk, engine: RunningEngine) -> None:
    """`batch_<uuid>` in an event, the bare UUID in the API."""
    desk.batch_file("a.jsonl", TEXTS)
    identifier = desk.run("submit", "a.jsonl").json["batches"][0]["id"]
    finished(engine)
    assert desk.run("fetch_results", f"batch_{identifier}", "--output", "x.jsonl").code == 0
    assert list(desk.rows("x.jsonl")) == IDS


def test_a_job_file_that_was_moved_with_its_batch_file_still_works(desk: Desk, engine: RunningEngine) -> None:
    """Paths are relative to the job file, so that a folder may be copied to another machine."""
    desk.batch_file("a.jsonl", TEXTS)
    desk.run("submit", "a.jsonl")
    finished(engine)
    moved = desk.folder / "moved"
    moved.mkdir()
    for name in ("a.jsonl", "a.job.json"):
        (desk.folder / name).rename(moved / name)
    result = desk.run("fetch_results", Path("moved") / "a.job.json", "--output", "x.jsonl")
    assert (result.code, list(desk.rows("x.jsonl"))) == (0, IDS)
