"""The way to the server: what proxies, certificates and connections that fail are told as, and when."""

from __future__ import annotations

import json
import os
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import responses
from tests.clock import Clocked
from tests.engine_process import end_listening
from tests.faults.rooms import certificate
from urllib3 import HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPSConnection
from urllib3.exceptions import MaxRetryError, NewConnectionError

from doubleword.deadlines import make_impatient
from doubleword.failure import Exit
from doubleword.server.api import Api
from doubleword.server.errors import ApiError
from doubleword.server.route import BUNDLES, Bundle, Route, route_to

BASE = "https://server.test/v1"
SECRET = "a-key-for-tests-0123456789"
BATCH = {"id": "b1", "object": "batch", "status": "completed"}
OK = json.dumps(BATCH).encode()
PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of the settings of whoever runs these tests."""
    for name in [*os.environ]:
        if name in BUNDLES or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def system() -> Clocked:
    return Clocked()


def failed(base_url: str, system: Clocked) -> ApiError:
    """The error of looking at a batch; what is told of it holds no password."""
    with pytest.raises(ApiError) as raised:
        Api(base_url, SECRET, system).batch("b1")
    told = raised.value.failure("looking")
    assert "pa55" not in told.message + told.hint
    return raised.value


def listening(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """The port of a server that treats each connection so."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            try:
                with connection:
                    answer(connection)
            except OSError:
                pass

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        end_listening(listener)


@pytest.fixture
def proxy(request: pytest.FixtureRequest) -> Iterator[int]:
    """The port of a proxy that answers everything with the status line of the test."""

    def refuse(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 " + request.param + b"\r\n\r\n")

    yield from listening(refuse)


# --- settings that cannot work --------------------------------------------------------------------------------


@pytest.mark.parametrize("variable", PROXIES)
@pytest.mark.parametrize("scheme", ["socks4", "socks5", "socks5h"])
def test_a_socks_proxy_without_its_package_is_told_at_once(
    monkeypatch: pytest.MonkeyPatch, system: Clocked, variable: str, scheme: str
) -> None:
    """By the variable and the command, before anything is sent."""
    monkeypatch.setitem(sys.modules, "socks", None)
    monkeypatch.setenv(variable, f"{scheme}://user:pa55word@127.0.0.1:9")
    told = failed(BASE, system).failure("looking")
    assert (told.exit_code, told.code, system.slept) == (Exit.BAD_INPUT, "missing_package", [])
    assert f"SOCKS proxy, from {variable}, needs a package: pip install pysocks" in told.message


@pytest.mark.parametrize(
    "url",
    ["http://", "http://user:pa55/word@proxy:3128", "http://proxy:pa55", "ftp://proxy:21", "pro xy:3128", "http://[::1:80"],
)  # fmt: skip
def test_a_proxy_that_is_no_url_is_told_by_its_variable_alone(
    monkeypatch: pytest.MonkeyPatch, system: Clocked, url: str
) -> None:
    """What cannot be taken apart may hold a password anywhere, so none of it is shown."""
    monkeypatch.setenv("HTTPS_PROXY", url)
    told = failed(BASE, system).failure("looking")
    assert (told.exit_code, told.code, system.slept) == (Exit.BAD_INPUT, "bad_proxy", [])
    assert told.message == "looking: HTTPS_PROXY is not the URL of a proxy" and "%40" in told.hint


@pytest.mark.parametrize("variable", BUNDLES)
@pytest.mark.parametrize(
    ("content", "flaw"),
    [
        (None, "is not there"),
        (b"", "holds no valid"),
        (b"not a certificate \xff", "holds no valid"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "holds no valid"),
    ],
)
def test_a_bundle_that_gives_no_certificates_is_told_at_once(
    monkeypatch: pytest.MonkeyPatch, system: Clocked, tmp_path: Path, variable: str, content: bytes | None, flaw: str
) -> None:
    """By variable and path, before anything is waited for; to this machine without https none is needed."""
    path = tmp_path / "corp.pem"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv(variable, str(path))
    told = failed(BASE, system).failure("looking")
    assert (told.exit_code, told.code, system.slept) == (Exit.BAD_INPUT, "bad_certificates", [])
    assert f"{variable} gives no certificates: {path} {flaw}" in told.message
    assert "refused" in failed("http://127.0.0.1:9/v1", system).sentence


def test_a_bundle_that_may_not_be_read_is_told(monkeypatch: pytest.MonkeyPatch, system: Clocked) -> None:
    """With the reason that the disk gives."""

    def refuse(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", refuse)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/corp.pem")
    assert "cannot be read (Permission denied)" in failed(BASE, system).sentence


@pytest.mark.parametrize("value", ["", "0", "false", "no"])
@pytest.mark.parametrize("variable", [*BUNDLES, "PYTHONHTTPSVERIFY", "SSL_VERIFY"])
def test_no_variable_switches_verification_off(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    """It is on, with the usual certificates or with those of a file of that name."""
    monkeypatch.setenv(variable, value)
    expected = value if value and variable in BUNDLES else True
    assert route_to(BASE).options["verify"] == expected


def test_the_first_bundle_counts_and_a_folder_is_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In the order of requests, then OpenSSL's variable; one that does not count is not judged."""
    for variable in reversed(BUNDLES):
        monkeypatch.setenv(variable, str(tmp_path))
        assert route_to(BASE).bundle == Bundle(str(tmp_path), variable)
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/at/all.pem")
    route_to(BASE).require_usable()


# --- proxies --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "url", "expected"),
    [
        ({"HTTPS_PROXY": "http://one:1", "ALL_PROXY": "http://two:2"}, BASE, "the proxy http://one:1 (HTTPS_PROXY)"),
        ({"ALL_PROXY": "http://two:2"}, BASE, "the proxy http://two:2 (ALL_PROXY)"),
        ({"all_proxy": "user:pa55@two:2"}, BASE, "the proxy http://two:2 (all_proxy)"),
        ({"HTTP_PROXY": "http://one:1"}, BASE, "None"),
        ({"HTTPS_PROXY": "http://one:1", "NO_PROXY": "other.test, server.test"}, BASE, "None"),
        ({"HTTPS_PROXY": "http://one:1", "no_proxy": ".test"}, BASE, "None"),
        ({"HTTPS_PROXY": "http://one:1", "NO_PROXY": "*"}, BASE, "None"),
        (dict.fromkeys((*PROXIES, "HTTP_PROXY"), "http://one:1"), "http://127.0.0.1:9/v1", "None"),
        (dict.fromkeys((*PROXIES, "HTTP_PROXY"), "http://one:1"), "https://localhost:9/v1", "None"),
    ],
)
def test_a_proxy_is_that_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], url: str, expected: str
) -> None:
    """Told by its URL without a password and by its variable; none where NO_PROXY or this machine is meant."""
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    route = route_to(url)
    assert str(route.proxy) == expected
    assert route.options["proxies"] == ({"https": route.proxy.url} if route.proxy else {})


@pytest.mark.parametrize(
    ("proxy", "user", "sentence", "step", "waits"),
    [
        (b"407 Proxy Authentication Required", "", "asks for a user and password (407)", "USER:PASS@", False),
        (b"407 pa55", "user:pa55@", "does not take its user and password (407)", "HTTPS_PROXY", False),
        (b"403 Forbidden", "", "does not connect to https://server.test (403)", "NO_PROXY", False),
        (b"503 Service Unavailable", "", "does not connect to https://server.test (503)", "NO_PROXY", True),
    ],
    indirect=["proxy"],
)
def test_a_proxy_that_refuses_is_told_with_what_it_wants(
    monkeypatch: pytest.MonkeyPatch, system: Clocked, proxy: int, user: str, sentence: str, step: str, waits: bool
) -> None:
    """By URL and variable; only what may pass is waited for."""
    monkeypatch.setenv("HTTPS_PROXY", f"http://{user}127.0.0.1:{proxy}")
    error = failed(BASE, system)
    told = error.failure("looking")
    assert told.exit_code == Exit.UNREACHABLE and not error.may_have_happened
    assert f"the proxy http://127.0.0.1:{proxy} (HTTPS_PROXY) {sentence}" in told.message
    assert step in told.hint and bool(system.slept) is waits


@pytest.mark.parametrize("proxy", [b"400 no"], indirect=True)
def test_a_proxy_that_speaks_no_tls_is_told(monkeypatch: pytest.MonkeyPatch, system: Clocked, proxy: int) -> None:
    """Most are named with http://, whatever the server."""
    monkeypatch.setenv("HTTPS_PROXY", f"https://127.0.0.1:{proxy}")
    told = failed(BASE, system).failure("looking")
    assert (told.exit_code, system.slept) == (Exit.BAD_INPUT, [])
    assert "(HTTPS_PROXY) does not speak TLS" in told.message and "http://" in told.hint


def test_a_proxy_where_nothing_listens_is_told_at_once(monkeypatch: pytest.MonkeyPatch, system: Clocked) -> None:
    """As a server there would be: after one short retry."""
    monkeypatch.setenv("ALL_PROXY", "http://user:pa55@127.0.0.1:9")
    told = failed(BASE, system).failure("looking")
    assert told.message == "looking: no connection to the proxy http://127.0.0.1:9 (ALL_PROXY): connection refused"
    assert "ALL_PROXY" in told.hint and sum(system.slept) < 1


def test_a_proxy_that_cannot_be_found_is_waited_for(monkeypatch: pytest.MonkeyPatch, system: Clocked) -> None:
    """A network that is just coming up has no names yet."""

    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.corp:3128")
    error = failed(BASE, system)
    assert (
        error.sentence == "no connection to the proxy http://proxy.corp:3128 (HTTPS_PROXY): the name cannot be resolved"
    )
    assert sum(system.slept) == pytest.approx(120)


def test_connections_through_socks_stay_what_they_are() -> None:
    """The deadline for heads is put on the connections that a manager makes, whose own arguments they keep."""

    class Through(HTTPSConnection):
        def __init__(self, *args: Any, way: str, **options: Any) -> None:
            super().__init__(*args, **options)
            self.way = way

    class Pool(HTTPSConnectionPool):
        ConnectionCls = Through

    manager = PoolManager(way="socks")
    manager.pool_classes_by_scheme = {"https": Pool}
    manager.key_fn_by_scheme = {"https": lambda context: context["host"]}  # type: ignore[dict-item]
    make_impatient(manager)
    connection: Any = manager.connection_from_host("server.test", scheme="https")._new_conn()
    assert isinstance(connection, Through) and connection.way == "socks"
    assert type(connection).getresponse is not Through.getresponse


# --- certificates ---------------------------------------------------------------------------------------------


@pytest.fixture
def secure(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A server on this machine with a certificate of its own for the host of the test, and that certificate."""
    trusted, key = certificate(tmp_path, request.param)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(trusted, key)

    def answer(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            secured.recv(65536)
            secured.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(OK) + OK)

    for port in listening(answer):
        yield f"https://127.0.0.1:{port}", trusted


@pytest.mark.parametrize("variable", BUNDLES)
@pytest.mark.parametrize("secure", ["127.0.0.1"], indirect=True)
def test_a_certificate_of_ones_own_is_trusted_by_any_of_the_variables(
    monkeypatch: pytest.MonkeyPatch, system: Clocked, secure: tuple[str, Path], variable: str
) -> None:
    """Without the variable it is not, and the hint names the way."""
    server, trusted = secure
    told = failed(f"{server}/v1", system).failure("looking")
    assert (told.exit_code, told.code, system.slept) == (Exit.BAD_INPUT, "bad_server", [])
    assert f"the certificate of {server} cannot be verified: self" in told.message
    assert "export REQUESTS_CA_BUNDLE=/path/corp.pem" in told.hint and "system's certificates are not read" in told.hint
    monkeypatch.setenv(variable, str(trusted))
    assert Api(f"{server}/v1", SECRET, system).batch("b1").id == "b1"


@pytest.mark.parametrize("secure", ["server.test"], indirect=True)
def test_a_certificate_for_another_name_is_told_as_such(
    monkeypatch: pytest.MonkeyPatch, system: Clocked, secure: tuple[str, Path]
) -> None:
    """No bundle would help."""
    server, trusted = secure
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    told = failed(f"{server}/v1", system).failure("looking")
    assert f"the certificate of {server} is for another name" in told.message
    assert "--base-url" in told.hint and "BUNDLE" not in told.hint


@pytest.mark.parametrize(
    ("found", "sentence", "step"),
    [
        (10, "has expired", "date"),
        (9, "is not valid yet", "date"),
        (20, "cannot be verified by REQUESTS_CA_BUNDLE (/corp.pem): no issuer", "the file of REQUESTS_CA_BUNDLE"),
    ],
)
def test_each_flaw_of_a_certificate_has_its_own_way_out(found: int, sentence: str, step: str) -> None:
    """By OpenSSL's number for it."""
    flaw = ssl.SSLCertVerificationError(1, "certificate verify failed")
    flaw.verify_code, flaw.verify_message = found, "no issuer"
    wrapped = requests.exceptions.SSLError(MaxRetryError(None, "/v1", flaw))  # type: ignore[arg-type]
    told = (
        Route("https://server.test", None, Bundle("/corp.pem", "REQUESTS_CA_BUNDLE")).error(wrapped).failure("looking")
    )
    assert told.message == f"looking: the certificate of https://server.test {sentence}"
    assert step in told.hint and told.exit_code == Exit.BAD_INPUT


@pytest.mark.parametrize("proxy", [b"400 no"], indirect=True)
def test_https_where_http_is_spoken_is_no_lost_connection(system: Clocked, proxy: int) -> None:
    """Nobody can know that nothing was done, but the hint says what to look at."""
    error = failed(f"https://127.0.0.1:{proxy}/v1", system)
    assert error.may_have_happened
    assert f"https://127.0.0.1:{proxy} failed (WRONG_VERSION_NUMBER)" in error.sentence
    assert "https there" in error.failure("looking").hint


# --- no connection --------------------------------------------------------------------------------------------


def test_a_server_on_this_machine_that_does_not_run_is_told_at_once(system: Clocked) -> None:
    """One short retry, then the URL, the reason and where to look."""
    error = failed("http://127.0.0.1:9/v1", system)
    told = error.failure("looking")
    assert system.slept == [0.5] and error.may_pass and not error.worth_waiting
    assert told.message == "looking: no connection to http://127.0.0.1:9: connection refused"
    assert told.exit_code == Exit.UNREACHABLE and "DOUBLEWORD_BASE_URL" in told.hint and "start the server" in told.hint


def refusal(url: str, reason: str = "[Errno 111] Connection refused") -> requests.ConnectionError:
    """What requests raises where no connection comes about."""
    refused = NewConnectionError(None, f"Failed to establish a new connection: {reason}")  # type: ignore[arg-type]
    return requests.ConnectionError(MaxRetryError(None, url, refused))  # type: ignore[arg-type]


@responses.activate
def test_a_server_that_is_just_starting_is_met_by_the_retry(system: Clocked) -> None:
    """A create that was refused was never sent, so it is made again, once."""
    url = "http://127.0.0.1:8000/v1/batches"
    responses.post(url, body=refusal(url))
    responses.post(url, status=201, json=BATCH)
    assert Api("http://127.0.0.1:8000/v1", SECRET, system).create_batch("f1", "/v1/x", "24h", {}).id == "b1"
    assert system.slept == [0.5]


@responses.activate
@pytest.mark.parametrize("base", ["http://127.0.0.1:8000/v1", BASE])
def test_a_server_that_may_come_back_is_waited_for(system: Clocked, base: str) -> None:
    """One that answered before is starting anew; one elsewhere always gets the patience."""
    url = f"{base}/batches/b1"
    api = Api(base, SECRET, system)
    if base != BASE:
        responses.get(url, json=BATCH)
        api.batch("b1")
    for _ in range(4):
        responses.get(url, body=refusal(url))
    responses.get(url, json=BATCH)
    assert api.batch("b1").id == "b1"
    assert len(system.slept) == 4 and sum(system.slept) > 3


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (refusal(BASE), "connection refused"),
        (refusal(BASE, "[Errno 113] No route to host"), "No route to host"),
        (requests.ConnectTimeout("slow"), "timed out"),
    ],
)
def test_no_connection_is_told_with_server_and_reason(error: requests.ConnectionError, reason: str) -> None:
    """Nothing was sent, the hint says where to look, and the command may be run again."""
    found = Route("https://server.test:8443").error(error)
    told = found.failure("looking")
    assert not found.may_have_happened and found.worth_waiting
    assert told.message == f"looking: no connection to https://server.test:8443: {reason}"
    assert all(word in told.hint for word in ("DOUBLEWORD_BASE_URL", "--base-url", "HTTPS_PROXY", "again"))
