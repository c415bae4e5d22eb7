"""Pay once: whatever happens to an upload, a creation or a retry, each batch file becomes one batch."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

import pytest
from tests.clock import Clocked
from tests.door import Result, run_door
from tests.engine_process import KEY, RunningEngine
from tests.faults import gate as faults
from tests.faults.gate import Act, Exchange, Gate
from tests.faults.rooms import Desk, Unsynced, batch_count, certificate, finished

from doubleword.system import System

NEVER_ARRIVED = [
    faults.reset_before,
    faults.reset_inside_request,
    faults.closed_unread,
    faults.stalled,
    *(faults.gateway(status, acts=False) for status in (408, 429, 500, 502, 503, 504)),
]
ARRIVED = [
    faults.reply_lost,
    faults.reply_closed,
    faults.reply_stalled,
    faults.garbage,
    faults.page_instead,
    faults.half_json,
    faults.reply_cut,
    *(faults.gateway(status, acts=True) for status in (500, 502, 504)),
]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("route", ["upload", "create"])
@pytest.mark.parametrize("act", [*NEVER_ARRIVED, *ARRIVED], ids=lambda act: act.__name__)
def test_a_call_that_ends_in_doubt_is_not_paid_twice(
    desk: Desk, gate: Gate, engine: RunningEngine, route: str, act: Act
) -> None:
    """Whether the server acted or not, one submit ends with exactly one batch, and each request asked once."""
    desk.batch_file("a.jsonl", ["one", "two"])
    rule = gate.on(route, act)
    result = desk.run("submit", "a.jsonl")
    assert (result.code, rule.fired) == (0, 1)
    assert batch_count(engine) == 1
    finished(engine)
    assert [engine.upstream.count(text) for text in ("one", "two")] == [1, 1]
    assert gate.calls("create") == (1 if act in ARRIVED or route == "upload" else 2)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("act", [*NEVER_ARRIVED, *ARRIVED], ids=lambda act: act.__name__)
def test_a_retry_that_ends_in_doubt_is_not_paid_twice(desk: Desk, gate: Gate, engine: RunningEngine, act: Act) -> None:
    """The failed request is asked exactly once more, the one that succeeded never."""
    engine.upstream.fail("two", 409, times=1)
    desk.batch_file("a.jsonl", ["one", "two"])
    assert desk.run("submit", "a.jsonl").code == 0
    finished(engine)
    gate.on("retry", act)
    assert desk.run("retry_failed", "a.job.json").code == 0
    finished(engine)
    assert [engine.upstream.count(text) for text in ("one", "two")] == [1, 2]
    assert batch_count(engine) == 1
    assert desk.run("poll", "a.job.json").code == 0


def test_a_lost_retry_that_failed_again_is_not_asked_a_third_time(
    desk: Desk, gate: Gate, engine: RunningEngine
) -> None:
    """The counts are as before it; that the batch ended later tells that the retry happened."""
    engine.upstream.fail("two", 409, times=2)
    desk.batch_file("a.jsonl", ["one", "two"])
    assert desk.run("submit", "a.jsonl").code == 0
    finished(engine)

    def lost(exchange: Exchange) -> None:
        exchange.gate.clock.sleep(3)
        exchange.forward()
        finished(engine)
        exchange.reset()

    gate.on("retry", lost)
    assert desk.run("retry_failed", "a.job.json").code == 0
    assert (gate.calls("retry"), engine.upstream.count("two")) == (1, 2)
    assert desk.run("poll", "a.job.json").code == 6


@pytest.mark.parametrize(("route", "seconds"), [("upload", 5), ("create", 5), ("create", 60), ("create", 85)])
def test_a_call_that_takes_effect_after_the_gateway_gave_up_is_found(
    desk: Desk, gate: Gate, engine: RunningEngine, route: str, seconds: float
) -> None:
    """A 504 while the server still works: absence proves nothing yet, so nothing is asked again."""
    desk.batch_file("a.jsonl", ["one"])
    gate.on(route, faults.later(seconds))
    assert desk.run("submit", "a.jsonl").code == 0
    assert (gate.calls(route), batch_count(engine)) == (1, 1)


@pytest.mark.parametrize(("route", "listing", "seconds"), [("upload", "files", 4), ("create", "batches", 60)])
def test_what_a_lagging_replica_does_not_show_yet_is_found(
    desk: Desk, gate: Gate, engine: RunningEngine, clock: Clocked, route: str, listing: str, seconds: float
) -> None:
    """Reads may come from a replica: the first looks find nothing, later ones do."""
    desk.batch_file("a.jsonl", ["one"])
    gate.on(route, faults.reply_lost)
    gate.on(listing, faults.lag(seconds), times=1000)
    assert desk.run("submit", "a.jsonl").code == 0
    assert (gate.calls(route), batch_count(engine)) == (1, 1)
    assert sum(clock.slept) >= seconds


def test_the_input_file_may_not_be_visible_yet_when_the_batch_is_created(
    desk: Desk, gate: Gate, engine: RunningEngine
) -> None:
    """A 404 for a file just uploaded is a replica's; the file is not uploaded again for it."""
    desk.batch_file("a.jsonl", ["one"])

    def unseen(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.send(faults.page(404, b"File with ID x not found", "text/plain"))

    gate.on("create", unseen, times=2)
    assert desk.run("submit", "a.jsonl").code == 0
    assert (gate.calls("upload"), batch_count(engine)) == (1, 1)


def test_an_input_file_that_is_gone_is_uploaded_again(desk: Desk, gate: Gate, engine: RunningEngine) -> None:
    """Deleted between upload and creation, by whomever: the batch is made of a new upload."""
    desk.batch_file("a.jsonl", ["one"])
    gate.on("create", faults.reset_before, times=100)
    assert desk.run("submit", "a.jsonl").code == 5
    gate.calm()
    (remote,) = engine.call("GET", "/files").json()["data"]
    engine.call("DELETE", f"/files/{remote['id']}")
    assert desk.run("submit", "a.jsonl").code == 0
    assert batch_count(engine) == 1


@pytest.mark.parametrize("act", [faults.reply_lost, faults.reset_before], ids=lambda act: act.__name__)
@pytest.mark.parametrize("route", ["upload", "create"])
def test_a_server_that_goes_away_in_the_middle_is_found_again_by_the_next_run(
    desk: Desk, gate: Gate, engine: RunningEngine, clock: Clocked, route: str, act: Act
) -> None:
    """The first run cannot even look and ends with 5; the next one looks, adopts or asks, and never both."""
    desk.batch_file("a.jsonl", ["one"])
    gate.on(route, act)
    gate.on("files", faults.gateway(502, acts=False), times=10_000)
    gate.on("batches", faults.gateway(502, acts=False), times=10_000)
    failed = desk.run("submit", "a.jsonl")
    assert (failed.code, failed.json["error"]["code"]) == (5, "server_unreachable")
    gate.calm()
    again = desk.run("submit", "a.jsonl")
    assert (again.code, again.json["resumed"]) == (0, True)
    assert batch_count(engine) == 1
    assert gate.calls(route) == (1 if act is faults.reply_lost else 2)


def test_a_server_that_never_takes_the_call_is_left_after_a_few_tries(
    desk: Desk, gate: Gate, engine: RunningEngine, clock: Clocked
) -> None:
    """Bounded tries, exit 5, and a job file that goes on when the server is back."""
    desk.batch_file("a.jsonl", ["one"])
    gate.on("create", faults.gateway(503, acts=False), times=10_000)
    assert desk.run("submit", "a.jsonl").code == 5
    assert gate.calls("create") <= 5
    gate.calm()
    assert desk.run("submit", "a.jsonl").code == 0
    assert batch_count(engine) == 1


def test_another_job_of_the_same_requests_is_not_adopted(desk: Desk, gate: Gate, engine: RunningEngine) -> None:
    """Only the job's own key proves that a batch is its own, not a name, a model or a time."""
    desk.batch_file("b.jsonl", ["one"])
    desk.run("submit", "b.jsonl", "--metadata", "team=x")
    desk.batch_file("a.jsonl", ["one"])
    gate.on("upload", faults.reset_before)
    gate.on("create", faults.reset_before)
    assert desk.run("submit", "a.jsonl", "--metadata", "team=x").code == 0
    assert batch_count(engine) == 2
    ids = {desk.job(name)["batches"][0]["batch_id"] for name in ("a.job.json", "b.job.json")}
    assert len(ids) == 2


class Together(Clocked):
    """A clock that moves on sleep, and works that are done at once by real threads."""

    def together(self, works: Sequence[Callable[[], None]], at_once: int) -> None:
        System.together(self, works, at_once)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("act", [faults.reply_lost, faults.reset_before, faults.gateway(502, acts=True)])
def test_files_that_go_up_at_once_become_one_batch_each(
    desk: Desk, gate: Gate, engine: RunningEngine, clock: Clocked, act: Act
) -> None:
    """Nine files, several calls in doubt at a time: the job names nine batches, and each request is asked once."""
    names = [f"a-{number:04d}.jsonl" for number in range(1, 10)]
    for number, name in enumerate(names):
        desk.batch_file(name, [f"text {number}"], stem=f"f{number}")
    for route, nth in (("upload", 2), ("upload", 5), ("create", 1), ("create", 4)):
        gate.on(route, act, nth=nth)
    system = Together(Unsynced())
    system.time = clock.time
    result = Desk(desk.folder, desk.base_url, system).run("submit", *names)
    assert result.code == 0
    assert batch_count(engine) == len(names) == len({one["batch_id"] for one in desk.job()["batches"]})
    finished(engine)
    assert [engine.upstream.count(f"text {number}") for number in range(9)] == [1] * 9


def test_a_refused_file_ends_the_submission_when_the_others_under_way_are_done(
    desk: Desk, gate: Gate, engine: RunningEngine, clock: Clocked
) -> None:
    """What the server took stands in the job; the second run makes the rest, and no batch twice."""
    names = [f"a-{number:04d}.jsonl" for number in range(1, 10)]
    for number, name in enumerate(names):
        desk.batch_file(name, [f"text {number}"], stem=f"f{number}")
    gate.on("create", faults.gateway(402, acts=False), nth=2)
    system = Together(Unsynced())
    system.time = clock.time
    first = Desk(desk.folder, desk.base_url, system).run("submit", *names)
    assert (first.code, first.json["error"]["code"]) == (8, "payment_required")
    made = batch_count(engine)
    assert made == sum(1 for one in desk.job()["batches"] if one["state"] == "created") < len(names)
    assert all(one["state"] in ("planned", "uploaded", "created") for one in desk.job()["batches"])
    assert desk.run("submit", *names).code == 0
    assert batch_count(engine) == len(names)


def test_of_two_submits_at_once_one_works_and_the_other_says_so(desk: Desk, gate: Gate, engine: RunningEngine) -> None:
    """While the first one waits for the server, a second process is told to come back later."""
    desk.batch_file("a.jsonl", ["one"])
    second: list[Result] = []

    def meanwhile(exchange: Exchange) -> None:
        env = {"DOUBLEWORD_API_KEY": KEY, "DOUBLEWORD_BASE_URL": gate.base_url}
        second.append(run_door("submit", "a.jsonl", cwd=desk.folder, env=env))
        exchange.send(exchange.forward())

    gate.on("create", meanwhile)
    assert desk.run("submit", "a.jsonl").code == 0
    assert [(one.code, one.json["error"]["code"]) for one in second] == [(7, "job_busy")]
    assert batch_count(engine) == 1


@pytest.mark.parametrize("edit", [(b"one", b"two"), (b"one", b""), None], ids=["other bytes", "shorter", "gone"])
def test_a_file_that_changes_while_it_is_sent_becomes_no_batch(
    desk: Desk, engine: RunningEngine, clock: Clocked, edit: tuple[bytes, bytes] | None
) -> None:
    """Other bytes of the same length, fewer bytes, or no file: exit 2, no batch, and the next run starts afresh."""

    class Edited(Unsynced):
        """Changes the batch file after it was checked, as its upload begins."""

        opened = 0

        def open(self, path: Path) -> BinaryIO:
            if path.name == "a.jsonl":
                self.opened += 1
                if self.opened == 2 and edit is None:
                    path.unlink()
                elif self.opened == 2 and edit is not None:
                    path.write_bytes(whole.replace(*edit))
            return super().open(path)

    whole = desk.batch_file("a.jsonl", ["one"]).read_bytes()
    clock.disk = Edited()
    try:
        refused = desk.run("submit", "a.jsonl")
    finally:
        clock.disk = Unsynced()
    assert refused.code == 2, refused
    assert batch_count(engine) == 0
    (desk.folder / "a.jsonl").write_bytes(whole)
    assert desk.run("submit", "a.jsonl").code == 0
    finished(engine)
    assert (batch_count(engine), engine.upstream.count("one")) == (1, 1)


def test_a_redirected_call_is_refused_at_once(desk: Desk, gate: Gate, engine: RunningEngine, clock: Clocked) -> None:
    """A redirect is an answer: nothing was done, so nothing has to be looked for, and nothing is sent elsewhere."""

    def elsewhere(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.send(faults.page(308, b"", Location="https://elsewhere.test/v1/batches"))

    desk.batch_file("a.jsonl", ["one"])
    gate.on("create", elsewhere, times=100)
    refused = desk.run("submit", "a.jsonl")
    assert refused.code == 2 and "elsewhere.test" in refused.json["error"]["message"]
    assert (gate.calls("create"), clock.slept) == (1, [])


def test_watching_and_fetching_create_nothing(desk: Desk, gate: Gate, engine: RunningEngine) -> None:
    """poll.py and fetch_results.py only ever read."""
    desk.batch_file("a.jsonl", ["one"])
    desk.run("submit", "a.jsonl")
    finished(engine)
    gate.log.clear()
    assert desk.run("poll", "a.job.json", "--wait", "10").code == 0
    assert desk.run("fetch_results", "a.job.json").code == 0
    assert {asked.method for asked in gate.log} == {"GET"}


def test_the_job_tells_what_was_about_to_be_asked_before_it_is(desk: Desk, gate: Gate) -> None:
    """When the server hears of a call, the job file on disk already says that it is under way."""
    desk.batch_file("a.jsonl", ["one"])
    states: list[str] = []

    def note(exchange: Exchange) -> None:
        states.append(json.loads((desk.folder / "a.job.json").read_text())["batches"][0]["state"])
        exchange.send(exchange.forward())

    gate.on("upload", note)
    gate.on("create", note)
    desk.run("submit", "a.jsonl")
    assert states == ["uploading", "creating"]


@pytest.mark.parametrize(
    "act", [faults.bad_record, faults.reply_closed, faults.reply_lost], ids=lambda act: act.__name__
)
@pytest.mark.parametrize("route", ["upload", "create"])
def test_a_secure_connection_that_breaks_leaves_the_call_in_doubt(
    desk: Desk, gate: Gate, engine: RunningEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, route: str, act: Act
) -> None:
    """An error of TLS after the request was sent is no error of the certificate: the server may have acted."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trusted, key = certificate(tmp_path, "server.test")
    context.load_cert_chain(trusted, key)
    gate.tls = context
    resolve = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda _host, *rest, **more: resolve("127.0.0.1", *rest, **more))
    desk.base_url = f"https://server.test:{gate.port}/v1"
    desk.env = {"REQUESTS_CA_BUNDLE": str(trusted), "NO_PROXY": "*"}
    desk.batch_file("a.jsonl", ["one"])
    gate.on(route, act)
    assert desk.run("submit", "a.jsonl").code == 0
    assert (gate.calls(route), batch_count(engine)) == (1, 1)
