"""Keep going: a poll outlives what passes, asks seldom, ends when it should; an interrupt loses nothing."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.clock import Clocked
from tests.engine_process import RunningEngine
from tests.faults import gate as faults
from tests.faults.canned import Canned, row
from tests.faults.gate import Act, Asked, Exchange, Gate, Reply
from tests.faults.rooms import Desk, batch_count, finished

TEN_MINUTES = 600.0
OUTAGES = [
    faults.gateway(502, acts=False),
    faults.gateway(429, acts=False, body=b'{"message":"slow","retry_after_seconds":30}', Retry_After="60"),
    faults.gateway(503, acts=False, Retry_After="30"),
    faults.reset_before,
    faults.closed_unread,
    faults.garbage,
    faults.page_instead,
    faults.half_json,
]


@pytest.fixture
def served(desk: Desk, gate: Gate) -> Canned:
    """A job of one request whose batch is over."""
    desk.batch_file("a.jsonl", ["one"])
    assert desk.run("submit", "a.jsonl").code == 0
    canned = Canned(1, files={"output": [row("row-1")], "error": []})
    gate.server = canned.reply
    gate.log.clear()
    return canned


@pytest.mark.parametrize("act", OUTAGES, ids=lambda act: act.__name__)
def test_a_poll_outlives_ten_minutes_of_it(desk: Desk, gate: Gate, served: Canned, clock: Clocked, act: Act) -> None:
    """The job's end is found after the outage, at a pace that does not hammer: at most 60 calls in ten minutes."""
    over = clock.now() + TEN_MINUTES

    def while_it_lasts(exchange: Exchange) -> None:
        if clock.now() < over:
            act(exchange)
        else:
            exchange.send(exchange.forward())

    gate.on("any", while_it_lasts, times=10_000)
    result = desk.run("poll", "a.job.json", "--wait", "3600")
    assert (result.code, clock.now() >= over) == (0, True)
    assert len(gate.log) <= 60


def test_a_poll_outlives_ten_minutes_without_names(
    desk: Desk, gate: Gate, served: Canned, clock: Clocked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS that fails is an outage like any other."""
    over = clock.now() + TEN_MINUTES
    resolve = socket.getaddrinfo

    def failing(*args: Any, **options: Any) -> Any:
        if clock.now() < over:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return resolve(*args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", failing)
    assert desk.run("poll", "a.job.json", "--wait", "3600").code == 0
    assert clock.now() >= over


def test_names_that_never_resolve_are_said_to(desk: Desk, served: Canned, monkeypatch: pytest.MonkeyPatch) -> None:
    """After bounded patience: 5, and the cause in words."""

    def failing(*args: Any, **options: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", failing)
    result = desk.run("poll", "a.job.json")
    assert result.code == 5 and "name cannot be resolved" in result.json["error"]["message"]


def elsewhere(desk: Desk, base_url: str) -> None:
    """The job is of another server, to which all further runs go."""
    path = desk.folder / "a.job.json"
    path.write_text(path.read_text().replace(desk.base_url, base_url))
    desk.base_url = base_url


@pytest.mark.parametrize("name", ["submit", "poll", "fetch_results", "retry_failed", "cancel"])
def test_a_server_on_this_machine_that_does_not_run_is_told_at_once(
    desk: Desk, served: Canned, clock: Clocked, name: str
) -> None:
    """After one short retry: the URL, the reason, and where to look; whichever script asks."""
    elsewhere(desk, "http://127.0.0.1:9/v1")
    desk.batch_file("b.jsonl", ["one"])
    clock.slept.clear()
    result = desk.run(name, *(["b.jsonl"] if name == "submit" else ["a.job.json", "--yes"][: 1 + (name == "cancel")]))
    error = result.json["error"]
    assert (result.code, error["code"], sum(clock.slept)) == (5, "server_unreachable", 0.5)
    assert "no connection to http://127.0.0.1:9: connection refused" in error["message"]
    assert "DOUBLEWORD_BASE_URL" in error["hint"]


@pytest.mark.parametrize("name", ["submit", "poll", "fetch_results", "retry_failed", "cancel"])
@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("ALL_PROXY", "socks5://127.0.0.1:9", "pip install pysocks"),
        ("HTTPS_PROXY", "http://user:pa55@proxy:port", "not the URL of a proxy"),
        ("REQUESTS_CA_BUNDLE", "/nowhere/corp.pem", "/nowhere/corp.pem"),
    ],
)
def test_settings_that_cannot_work_are_told_at_once_by_every_script(
    desk: Desk,
    served: Canned,
    clock: Clocked,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    variable: str,
    value: str,
    told: str,
) -> None:
    """The variable, the cause and no waiting; a submit that sent nothing leaves no job behind."""
    monkeypatch.setitem(sys.modules, "socks", None)
    elsewhere(desk, "https://server.test/v1")
    desk.env = {variable: value}
    desk.batch_file("b.jsonl", ["one"])
    clock.slept.clear()
    result = desk.run(name, *(["b.jsonl"] if name == "submit" else ["a.job.json", "--yes"][: 1 + (name == "cancel")]))
    assert (result.code, clock.slept) == (2, [])
    assert variable in result.json["error"]["message"] and told in result.json["error"]["message"]
    assert "pa55" not in str(result.json) and result.json["error"]["hint"]
    assert "b.job.json" not in desk.names()


@pytest.mark.parametrize("wait_s", [0, 3, 60])
@pytest.mark.parametrize("act", [faults.gateway(502, acts=False), faults.reset_before], ids=lambda act: act.__name__)
def test_a_wait_ends_on_time_when_the_server_stays_away(
    desk: Desk, gate: Gate, served: Canned, clock: Clocked, act: Act, wait_s: int
) -> None:
    """`--wait` bounds the outage too; one look has patience for twenty seconds."""
    gate.on("any", act, times=10_000)
    began = clock.now()
    result = desk.run("poll", "a.job.json", "--wait", str(wait_s))
    assert result.code == 5
    assert clock.now() - began <= max(wait_s, 20) + 1


def test_a_wait_ends_on_time_when_the_server_says_nothing(desk: Desk, gate: Gate, served: Canned) -> None:
    """A connection that is taken and never answered: `--wait 1` is over within moments of real time."""
    gate.on("any", faults.stalled, times=10_000)
    result = desk.run("poll", "a.job.json", "--wait", "1")
    assert result.code == 5
    assert "in time" in result.json["error"]["message"]


@pytest.mark.parametrize("hours", [1, 24])
def test_a_day_of_watching_takes_few_calls_over_http(
    desk: Desk, gate: Gate, served: Canned, clock: Clocked, hours: int
) -> None:
    """At most 400 calls in 24 hours, and the end found within 2 % of the time the batch ran."""
    began, lasts = clock.now(), hours * 3600.0
    usual = served.reply

    def steady(asked: Asked) -> Reply:
        share = (clock.now() - began) / lasts
        if asked.route == "batch" and share < 1:
            counts = {"total": 1000, "completed": int(1000 * share), "failed": 0}
            served.batch = {"status": "in_progress", "request_counts": counts}
        else:
            served.batch = {}
        return usual(asked)

    gate.server = steady
    assert desk.run("poll", "a.job.json", "--wait", str(2 * lasts)).code == 0
    assert len(gate.log) <= 400
    assert clock.now() - began <= 1.02 * lasts + 2.2


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Python's own answer to Ctrl-C, whoever runs these tests."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("route", ["upload", "create", "batch", "content", "retry"])
@pytest.mark.parametrize("acts", [True, False], ids=["server acts", "server never hears"])
def test_ctrl_c_leaves_the_job_good_and_says_how_to_go_on(
    desk: Desk, gate: Gate, engine: RunningEngine, route: str, acts: bool
) -> None:
    """At any call, with the reply still out: exit 7, the command to run, and that command pays nothing twice."""
    script, args = {
        "batch": ("poll", ["a.job.json"]),
        "content": ("fetch_results", ["a.job.json"]),
        "retry": ("retry_failed", ["a.job.json"]),
    }.get(route, ("submit", ["a.jsonl"]))
    engine.upstream.fail("two", 409, times=1)
    desk.batch_file("a.jsonl", ["one", "two"])
    if script != "submit":
        desk.run("submit", "a.jsonl")
        finished(engine)

    def interrupted(exchange: Exchange) -> None:
        exchange.read_body()
        if acts:
            exchange.forward()
        os.kill(os.getpid(), signal.SIGINT)
        exchange.reset()  # wakes a read that the signal came too early for

    gate.on(route, interrupted)
    stopped = desk.run(script, *args)
    assert (stopped.code, stopped.json["error"]["code"]) == (7, "interrupted")
    assert stopped.json["error"]["hint"].endswith(f"{script}.py {' '.join(args)}")
    assert not [name for name in desk.names() if name.startswith(".") and not name.endswith(".lock")]
    again = desk.run(script, *args)
    assert again.code in (0, 6)
    finished(engine)
    assert batch_count(engine) == 1
    assert [engine.upstream.count(text) for text in ("one", "two")] == [1, 2 if route == "retry" else 1]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 200 OK\r\nX: " + b"x" * 500, b"H" * 500], ids=["a header", "a status line"]
)
def test_a_head_that_comes_in_drops_is_not_waited_for(desk: Desk, gate: Gate, served: Canned, head: bytes) -> None:
    """Each drop is in time, the head never whole: given up after twice what one read may take, then asked again."""

    def drops(exchange: Exchange) -> None:
        for at in range(len(head)):
            exchange.send_raw(head[at : at + 1])
            time.sleep(0.2)

    gate.on("batch", drops)
    began = time.monotonic()
    assert desk.run("poll", "a.job.json").code == 0
    assert gate.calls("batch") == 2
    assert time.monotonic() - began < 30
