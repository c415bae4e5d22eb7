"""Let no one in: the key goes to its server alone, and nothing a server or model says does more than be read."""

from __future__ import annotations

import base64
import contextlib
import csv
import gzip
import json
import os
import re
import socket
import ssl
import stat
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.clock import Clocked
from tests.door import SCRIPTS, call_door
from tests.engine_process import KEY, RunningEngine, end_listening
from tests.faults import gate as faults
from tests.faults.canned import Canned, failed_row, row
from tests.faults.gate import Act, Asked, Exchange, Gate, Reply, gate_before
from tests.faults.rooms import ROOMS, Desk, Unsynced, batch_count, certificate, finished

from doubleword.server import local_engine as local

# Ways to move the cursor, set the title, hide or turn round text: no terminal is to see any of them.
EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egnp\u200b\r\b"
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


@pytest.fixture
def other(clock: Clocked) -> Iterator[Gate]:
    """Another server, which takes anything and answers rows."""
    with gate_before("http://127.0.0.1:9/v1", clock) as opened:
        opened.server = lambda asked: Reply(200, (), row("row-1") + b"\n")
        yield opened


def job(desk: Desk, engine: RunningEngine, texts: list[str]) -> None:
    """A job that the engine has finished."""
    desk.batch_file("a.jsonl", texts)
    assert desk.run("submit", "a.jsonl", "--metadata", "team=x").code == 0
    finished(engine)


# --- the key --------------------------------------------------------------------------------------------------


def test_the_key_is_sent_as_the_key_and_as_nothing_else(desk: Desk, gate: Gate, engine: RunningEngine) -> None:
    """Through a whole job with a retry: in the Authorization header of every call, in no body, name or other header."""
    engine.upstream.fail("two", 409, times=1)
    job(desk, engine, ["one", "two"])
    desk.run("poll", "a.job.json")
    desk.run("retry_failed", "a.job.json")
    finished(engine)
    desk.run("fetch_results", "a.job.json")
    assert {asked.route for asked in gate.passed} >= {"upload", "create", "batch", "retry", "content"}
    for asked in gate.passed:
        assert asked.header("authorization") == f"Bearer {KEY}"
        rest = [f"{name}: {value}" for name, value in asked.headers if name.lower() != "authorization"]
        assert KEY not in asked.target + "\n".join(rest)
        assert KEY.encode() not in (asked.body or b"")
    for path in desk.folder.iterdir():
        assert KEY.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("route", ["upload", "create", "batch", "content"])
@pytest.mark.parametrize("said", [f"Incorrect API key provided: {KEY}", f"\x1b{KEY[:9]}\x00{KEY[9:]}"])
def test_a_server_that_repeats_the_key_does_not_get_it_printed(
    desk: Desk, gate: Gate, engine: RunningEngine, route: str, said: str
) -> None:
    """In an error's text, whole or with control characters between that are taken out before it is shown."""
    name, args = ("submit", ["a.jsonl"]) if route in ("upload", "create") else ("fetch_results", ["a.job.json"])
    job(desk, engine, ["one"])
    if name == "submit":
        (desk.folder / "a.job.json").unlink()
    gate.on(route, faults.gateway(401, False, said.encode(), "text/plain"), times=1000)
    result = desk.run(name, *args)  # which looks for the key in everything that was said and saved
    assert result.code == 3
    assert "***" in result.json["error"]["message"]


def test_a_failed_row_that_repeats_the_key_does_not_get_it_printed_or_saved(desk: Desk, engine: RunningEngine) -> None:
    """Causes of failure are shown on stdout and kept in the job file."""
    engine.upstream.fail("two", 400, json.dumps({"error": {"message": f"bad key {KEY}"}}))
    job(desk, engine, ["one", "two"])
    result = desk.run("fetch_results", "a.job.json")
    assert result.code == 6
    assert "bad key ***" in result.json["failures"][0]["cause"]


def test_a_bug_does_not_print_the_key(desk: Desk) -> None:
    """Even the traceback of an unforeseen exception that carries it is cleared of it."""

    class Broken(Clocked):
        def adapter(self) -> Any:
            raise RuntimeError(f"unforeseen: Authorization: Bearer {KEY}")

    desk.batch_file("a.jsonl", ["one"])
    env = {"DOUBLEWORD_API_KEY": KEY, "DOUBLEWORD_BASE_URL": desk.base_url}
    system = Broken(Unsynced())
    result = call_door("submit", "a.jsonl", cwd=desk.folder, env=env, work=lambda given: ROOMS["submit"](given, system))
    assert result.code == 1 and "Traceback" in result.stderr
    assert KEY not in json.dumps(result.json) + result.stderr


@pytest.mark.parametrize("key", ["two words", "line\r\nX-Evil: 1", "schlüssel-0123456789", "nul\x01l"])
def test_a_key_that_no_header_can_carry_is_refused(desk: Desk, gate: Gate, key: str) -> None:
    """It could end the header and begin another; nothing is sent, and it is not repeated."""
    desk.batch_file("a.jsonl", ["one"])
    desk.key = key
    result = desk.run("submit", "a.jsonl")
    assert (result.code, result.json["error"]["code"], gate.log) == (3, "bad_key", [])


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_the_key_is_not_taken_along_to_another_server(
    desk: Desk, gate: Gate, other: Gate, engine: RunningEngine, status: int
) -> None:
    """Results may stand in a store elsewhere: the redirect is followed, without the key."""
    job(desk, engine, ["one"])
    location = f"{other.base_url}/files/x/content?signature=1"
    gate.on("content", lambda exchange: exchange.send(faults.page(status, b"", Location=location)))
    assert desk.run("fetch_results", "a.job.json").code == 0
    (asked,) = other.log
    assert asked.target.endswith("?signature=1")
    assert all(KEY not in value for _, value in asked.headers)
    assert "authorization" not in [name.lower() for name, _ in asked.headers]


@pytest.mark.parametrize(
    "location",
    ["http://192.0.2.1/x", "ftp://127.0.0.1/x", "file:///etc/passwd", "//192.0.2.1/x", "http://a:b@127.0.0.1/"],
)
def test_a_redirect_into_the_clear_is_not_followed(
    desk: Desk, gate: Gate, engine: RunningEngine, location: str
) -> None:
    """Not to plain http on another machine, not to another scheme, not to the disk."""
    job(desk, engine, ["one"])
    gate.on("content", lambda exchange: exchange.send(faults.page(307, b"", Location=location)), times=100)
    result = desk.run("fetch_results", "a.job.json")
    assert result.code == 2 and "elsewhere" in result.json["error"]["message"]


def test_redirects_in_a_circle_end(desk: Desk, gate: Gate, engine: RunningEngine) -> None:
    """A handful is followed, then it is an error."""
    job(desk, engine, ["one"])
    gate.on("content", lambda exchange: exchange.send(faults.page(307, b"", Location=exchange.asked.target)), times=999)
    assert desk.run("fetch_results", "a.job.json").code != 0
    assert gate.calls("content") <= 5


def test_neither_proxy_nor_netrc_of_the_environment_gets_between(
    desk: Desk, gate: Gate, other: Gate, engine: RunningEngine, tmp_path: Path
) -> None:
    """To a server on this machine no proxy is asked, and ~/.netrc does not replace the key."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\ndefault login someone password else\n")
    netrc.chmod(0o600)
    proxy = f"http://127.0.0.1:{other.port}"
    names = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
    desk.env = {"NETRC": str(netrc), "HOME": str(tmp_path), **dict.fromkeys(names, proxy)}
    job(desk, engine, ["one"])
    assert desk.run("fetch_results", "a.job.json").code == 0
    assert other.log == []
    assert {asked.header("authorization") for asked in gate.log} == {f"Bearer {KEY}"}


def test_what_a_proxy_answers_gives_nothing_away(desk: Desk, clock: Clocked, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy sees a CONNECT without the key; its password and its answer are not printed."""
    seen: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def refuse() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                seen.append(connection.recv(65536))
                connection.sendall(b"HTTP/1.1 407 \x1b[31mno pa55word\r\nProxy-Authenticate: Basic\r\n\r\n")

    threading.Thread(target=refuse, daemon=True).start()
    port = listener.getsockname()[1]
    desk.base_url = "https://server.test/v1"
    desk.env = dict.fromkeys(("HTTPS_PROXY", "https_proxy"), f"http://user:pa55word@127.0.0.1:{port}")
    desk.batch_file("a.jsonl", ["one"])
    result = desk.run("submit", "a.jsonl")
    end_listening(listener)
    assert (result.code, result.json["error"]["code"]) == (5, "server_unreachable")
    assert "pa55word" not in json.dumps(result.json) + result.stderr
    assert seen and all(one.startswith(b"CONNECT server.test:443") for one in seen)
    secrets = KEY.encode(), base64.b64encode(KEY.encode())
    assert not any(secret in one for one in seen for secret in secrets)


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"CURL_CA_BUNDLE": "", "REQUESTS_CA_BUNDLE": "", "PYTHONHTTPSVERIFY": "0"},
        {"SSL_CERT_FILE": "/dev/null", "VERIFY": "false"},
    ],
)
@pytest.mark.parametrize("host", ["127.0.0.1", "server.test"])
def test_a_server_without_a_trusted_certificate_gets_nothing(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, env: dict[str, str], host: str
) -> None:
    """Self-signed, for whatever name: refused before a byte of the request, and nothing switches that off."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate(tmp_path, host))
    listener = socket.create_server(("127.0.0.1", 0))
    got: list[bytes] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
                with context.wrap_socket(connection, server_side=True) as secured:
                    got.append(secured.recv(65536))
            except ssl.SSLError:
                continue
            except OSError:
                return

    threading.Thread(target=serve, daemon=True).start()
    resolve = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda _host, *rest, **more: resolve("127.0.0.1", *rest, **more))
    desk.base_url = f"https://{host}:{listener.getsockname()[1]}/v1"
    desk.env = env
    desk.batch_file("a.jsonl", ["one"])
    result = desk.run("submit", "a.jsonl")
    end_listening(listener)
    assert result.code == 2 and "certificate" in result.json["error"]["message"]
    assert not any(got)


def test_no_line_of_the_skill_switches_verification_off() -> None:
    """The word that would do it stands nowhere in the code."""
    for path in SCRIPTS.rglob("*.py"):
        assert not re.search(r"verify\s*=|CERT_NONE|check_hostname|_create_unverified", path.read_text()), path
        # What `tests/server/test_route.py` proves never to be false.
        assert re.findall(r"[\"']verify[\"'].*", path.read_text()) == (
            ['"verify": self.bundle.path if self.bundle else True,'] if path.name == "route.py" else []
        ), path


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="lists processes through /proc")
def test_the_engines_key_stands_in_no_process_list(tmp_path: Path) -> None:
    """The child that serves --local is given its key in the environment, which other users cannot read."""
    from doubleword.system import System

    with local.engine(tmp_path / "a.local", System(), lambda _: None) as running:
        listed = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):  # another user's, or it ended meanwhile
                listed.append(path.read_bytes())
        children = [words for words in listed if str(tmp_path).encode() in words]
        assert children
        assert not any(running.key.encode() in words for words in listed)


# --- what is said ---------------------------------------------------------------------------------------------


def texts(value: Any) -> Iterator[str]:
    """Every text in a JSON value."""
    if isinstance(value, str):
        yield value
    for item in value if isinstance(value, list) else [*value, *value.values()] if isinstance(value, dict) else []:
        yield from texts(item)


def said_cleanly(desk: Desk) -> bool:
    """Whether nothing that a terminal would act upon was ever said, even to one who prints the JSON's texts."""
    return not any(CONTROL.search(text) for one in desk.results for text in (one.stderr, *texts(one.json)))


@pytest.fixture
def served(desk: Desk, gate: Gate) -> Canned:
    """A job of two requests, whose batch is then answered for by the test."""
    desk.batch_file("a.jsonl", ["one", "two"])
    assert desk.run("submit", "a.jsonl").code == 0
    canned = Canned(2, files={"output": [row("row-1")], "error": [failed_row("row-2")]})
    gate.server = canned.reply
    return canned


def test_nothing_a_server_says_moves_the_terminal(desk: Desk, gate: Gate, served: Canned) -> None:
    """Status words, ids, windows, errors, causes, names of rows: cleared of control characters wherever shown."""
    served.batch = {
        "status": f"in{EVIL}_progress",
        "completion_window": f"24h{EVIL}",
        "created_at": 1,
        "expires_at": 2,
        "errors": {"data": [{"code": f"x{EVIL}", "message": f"bad line{EVIL}"}]},
        "metadata": {"doubleword_job": EVIL},
    }
    served.files = {
        "output": [row("row-1"), row(f"stranger{EVIL}")],
        "error": [failed_row("row-2", json.dumps({"error": {"message": f"no{EVIL}"}}))],
    }
    for name, *args in (("poll",), ("fetch_results", "--partial"), ("cancel",), ("retry_failed",)):
        assert desk.run(name, "a.job.json", *args).code in (6, 7, 8), name
    served.batch["status"] = "completed"
    assert desk.run("fetch_results", "a.job.json", "--force").code == 6
    gate.on("any", faults.gateway(400, False, f"no{EVIL}".encode(), "text/plain"), times=100)
    for name, *args in (("poll",), ("fetch_results", "--force"), ("cancel",), ("retry_failed",)):
        assert desk.run(name, "a.job.json", *args).code == 2, name
    gate.on("any", faults.gateway(503, False, f"<title>{EVIL}</title>".encode(), f"text/html{EVIL}"), times=100)
    assert desk.run("poll", "a.job.json").code == 2
    assert any("bad line" in json.dumps(one.json) for one in desk.results)
    assert said_cleanly(desk)


def test_nothing_a_gateway_says_in_a_head_moves_the_terminal(desk: Desk, gate: Gate, served: Canned) -> None:
    """A status line, a content type and a redirect full of escapes."""
    heads = [
        b"HTTP/1.1 500 \x1b[2J\x9b31m\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: x/\x1b[2J\x9b31m\r\nContent-Length: 2\r\n\r\n[]",
        b"HTTP/1.1 307 Go\r\nLocation: http://\x1b[2J\x9b31m.test/\r\nContent-Length: 0\r\n\r\n",
        b"\x1b[2J\x9b31m\r\n\r\n",
    ]
    for head in heads:
        gate.on("any", _saying(head), times=10_000)
        assert desk.run("poll", "a.job.json").code in (2, 5), head
        gate.rules.clear()
    assert said_cleanly(desk)


def _saying(head: bytes) -> Act:
    def say(exchange: Exchange) -> None:
        exchange.send_raw(head)
        exchange.close()

    return say


@pytest.mark.parametrize(
    "evil", ["../../evil", "/evil", "..", ".", "a/b", "a\\b", "~root", "$(touch evil)", "a\0b", "%2e%2e"]
)
def test_no_text_of_a_server_becomes_a_path(
    desk: Desk, gate: Gate, engine: RunningEngine, tmp_path: Path, evil: str
) -> None:
    """Ids and names of any shape are single segments of a URL at most, and never part of a file's name."""
    desk.batch_file("a.jsonl", ["one"])

    def renamed(exchange: Exchange) -> None:
        reply = exchange.forward()
        exchange.send(reply.with_json({**json.loads(reply.body), "id": evil, "filename": evil}))

    gate.on("upload", renamed)
    gate.on("create", renamed)
    gate.server = _any_batch(evil)
    assert desk.run("submit", "a.jsonl").code in (0, 2, 4, 5)
    before = sorted(tmp_path.rglob("*"))
    result = desk.run("fetch_results", "a.job.json")
    assert result.code in (0, 2, 4, 7)
    new = {path.relative_to(tmp_path).as_posix() for path in set(tmp_path.rglob("*")) - set(before)}
    assert new <= {"desk/a.results.jsonl"}
    for asked in gate.log:
        assert re.fullmatch(
            r"/v1/(files|batches)(/[^/]+(/(content|cost-estimate|analytics))?)?(\?.*)?", asked.target
        ), asked.target


def _any_batch(evil: str) -> Any:
    canned = Canned(1, {"id": evil, "output_file_id": evil, "error_file_id": evil})

    def answer(asked: Asked) -> Reply:
        if asked.method == "POST":
            return Reply(201).with_json({"id": evil, "filename": evil, "bytes": 1, "status": "completed"})
        if asked.route == "content":
            return Reply(200, (), row("row-1") + b"\n")
        return canned.reply(asked)

    return answer


@pytest.mark.parametrize("route", ["upload", "create"])
def test_an_id_that_cannot_be_shown_is_no_id(desk: Desk, gate: Gate, engine: RunningEngine, route: str) -> None:
    """What was made is looked for instead, and found under an id that can be."""

    def escaped(exchange: Exchange) -> None:
        reply = exchange.forward()
        exchange.send(reply.with_json({**json.loads(reply.body), "id": f"b{EVIL}"}))

    desk.batch_file("a.jsonl", ["one"])
    gate.on(route, escaped)
    assert desk.run("submit", "a.jsonl").code == 0
    assert (gate.calls(route), batch_count(engine), said_cleanly(desk)) == (1, 1, True)
    assert not CONTROL.search(str(list(texts(desk.job()))))


@pytest.mark.parametrize("name", ["../../evil", "/etc/passwd", "a/b", "..", "a b", "", "-x", "\x1b[2J"])
@pytest.mark.parametrize("script", ["poll", "fetch_results", "cancel"])
def test_what_is_no_id_is_not_asked_for(desk: Desk, gate: Gate, script: str, name: str) -> None:
    """An id from an e-mail or a web page that is a path, an option or an escape sequence reaches no server."""
    assert desk.run(script, "--", name).code in (2, 4)
    assert gate.log == []
    assert said_cleanly(desk)


FORMULAS = [
    "=cmd|' /C calc'!A0",
    "+1+cmd",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "\0=1",
    "\uff1d1+1",
    "\uff0b1",
    "\uff0d1",
    "\uff20A1",
]


@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_of_a_table_is_a_formula(desk: Desk, engine: RunningEngine, text: str) -> None:
    """Answers, causes and columns of the source alike; `--raw-cells` leaves them as they are."""
    engine.upstream.say("say it", text)
    engine.upstream.fail("fail", 400, text)
    (desk.folder / "s.csv").write_text('custom_id,"=1+1"\nrow-1,"=2+2"\nrow-2,-5.2\n')
    job(desk, engine, ["say it", "fail"])
    options = ["--format", "csv", "--join", "s.csv", "--id", "{custom_id}"]
    assert desk.run("fetch_results", "a.job.json", "--output", "x.csv", *options).code == 6
    with (desk.folder / "x.csv").open(newline="", encoding="utf-8") as file:
        header, *table = list(csv.reader(file))
    assert "'=1+1" in header
    assert [one[1] for one in table] == ["'=2+2", "-5.2"]
    cells = [cell for one in [header, *table] for cell in one]
    assert not any(cell[:1] in tuple("=+@\t\r\n\uff1d\uff0b\uff0d\uff20") for cell in cells)
    assert not any(re.match(r"-(?![0-9.]+$)", cell) for cell in cells)
    assert "'" + text.replace("\0", "") in cells
    desk.run("fetch_results", "a.job.json", "--output", "raw.csv", *options, "--raw-cells")
    with (desk.folder / "raw.csv").open(newline="", encoding="utf-8") as file:
        assert text.replace("\0", "") in [cell for one in csv.reader(file) for cell in one]


@pytest.mark.parametrize("umask", [0o077, 0o022, 0o000])
def test_files_that_hold_prompts_are_no_more_open_than_the_user_wants(
    desk: Desk, gate: Gate, engine: RunningEngine, umask: int
) -> None:
    """The umask decides; the job file is for its owner alone whatever the umask; rows in passing have no name."""
    modes: dict[str, int] = {}

    def note(exchange: Exchange) -> None:
        for path in desk.folder.iterdir():
            modes[path.name] = stat.S_IMODE(path.stat().st_mode)
        exchange.send(exchange.forward())

    gate.on("any", note, times=1000)
    before = os.umask(umask)
    try:
        engine.upstream.fail("two", 409, times=1)
        job(desk, engine, ["one", "two"])
        desk.run("fetch_results", "a.job.json", "--output", "x.jsonl")
        no_retry = faults.gateway(404, False, b"no such route", "text/plain")
        gate.rules.clear()
        gate.on("retry", no_retry, times=10)
        gate.on("any", note, times=1000)
        assert desk.run("retry_failed", "a.job.json").code == 0
    finally:
        os.umask(before)
    for path in desk.folder.iterdir():
        modes[path.name] = stat.S_IMODE(path.stat().st_mode)
    assert {"a.job.json", "x.jsonl", "x.errors.jsonl", "a.attempt-2.jsonl"} <= set(modes)
    assert [name for name in modes if name.endswith(".rows")] == []
    for name, mode in modes.items():
        assert mode & umask == 0, name
        if name == "a.job.json":
            assert mode & 0o077 == 0, name


@pytest.mark.parametrize("route", ["batch", "batches", "create"])
def test_a_body_that_swells_when_unpacked_is_cut(
    desk: Desk, gate: Gate, engine: RunningEngine, monkeypatch: pytest.MonkeyPatch, route: str
) -> None:
    """A few kilobytes of gzip that would be 64 MB of JSON: an error in bounded memory, then the next attempt."""
    monkeypatch.setattr("doubleword.server.sending.JSON_LIMIT", 1 << 20)
    body = gzip.compress(b'{"a": "' + b"x" * (64 << 20) + b'"}')
    bomb = Reply(200, (("Content-Encoding", "gzip"), ("Content-Type", "application/json")), body)
    desk.batch_file("a.jsonl", ["one"])
    if route == "batches":
        gate.on("create", faults.reply_lost)

    def swell(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.send(bomb)

    gate.on(route, swell)
    tracemalloc.start()
    try:
        assert desk.run("submit", "a.jsonl").code == 0
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert gate.calls(route) >= 1
    assert most < 16 << 20
