"""Runs one script of the skill as a user does: a process of its own, judged by exit code and stdout."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"
OURS = "DOUBLEWORD_"
# The embedded engine answers in milliseconds; scripts that watch it wait less before they look again.
SHORT_WAITS = {
    "PYTHONPATH": str(Path(__file__).parent / "short_waits"),
    "SHORT_WAITS": "doubleword.jobs.watching.FIRST_WAIT_S=0.02",
}


@dataclass(frozen=True)
class Result:
    """What a script left when it ended: exit code, the one JSON object on stdout, the text on stderr."""

    code: int
    json: dict[str, Any]
    stderr: str


def run_door(
    name: str,
    *args: str | Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str | bytes | None = None,
    timeout: float = 120,
) -> Result:
    """Run `scripts/NAME.py` (with or without the ending) and parse stdout as exactly one JSON object.

    The environment is this one's without any DOUBLEWORD_ setting, plus `env`. Standard input is empty
    unless `stdin` is given. Fails when stdout is not one JSON object of at most 4 KB, or when `ok` does not
    agree with the exit code, as both are promised for every run of every script.
    """
    finished = subprocess.run(
        [sys.executable, str(SCRIPTS / f"{name.removesuffix('.py')}.py"), *(str(arg) for arg in args)],
        cwd=cwd,
        env=environment(env),
        input=stdin.encode() if isinstance(stdin, str) else stdin or b"",
        capture_output=True,
        timeout=timeout,
        check=False,
    )
    stderr = finished.stderr.decode("utf-8", "replace")
    assert len(finished.stdout) <= 4096, f"stdout holds {len(finished.stdout)} bytes"
    try:
        answer = json.loads(finished.stdout)
    except ValueError:
        raise AssertionError(f"stdout is not one JSON object: {finished.stdout!r}\nstderr: {stderr}") from None
    assert isinstance(answer, dict), f"stdout is not a JSON object: {finished.stdout!r}"
    assert answer["ok"] is (finished.returncode == 0), f"exit {finished.returncode}, but stdout says {answer!r}"
    return Result(finished.returncode, answer, stderr)


def call_door(
    name: str,
    *args: str | Path,
    cwd: Path,
    stdin: str | bytes | None = None,
    env: Mapping[str, str] | None = None,
    work: Callable[[argparse.Namespace], dict[str, Any]] | None = None,
) -> Result:
    """As `run_door`, but in this process: several times faster, for the many cases that differ in input only.

    `work` takes the place of the script's own, to give it another system.
    """
    import contextlib
    import importlib
    import io
    import signal
    from unittest import mock

    from doubleword import cli

    script = importlib.import_module(name.removesuffix(".py"))
    given = io.TextIOWrapper(io.BufferedReader(io.BytesIO(stdin.encode() if isinstance(stdin, str) else stdin or b"")))
    stdout, stderr, code = io.StringIO(), io.StringIO(), -1
    before, handler = Path.cwd(), signal.getsignal(signal.SIGTERM)
    os.chdir(cwd)
    try:
        with (
            mock.patch.object(sys, "argv", [str(SCRIPTS / f"{script.__name__}.py"), *(str(arg) for arg in args)]),
            mock.patch.object(sys, "stdin", given),
            mock.patch.dict(os.environ, environment(env), clear=True),
            contextlib.redirect_stdout(stdout),
            contextlib.redirect_stderr(stderr),
        ):
            cli.run(script.parser(), work or script.work)
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        os.chdir(before)
        signal.signal(signal.SIGTERM, handler)
    answer = json.loads(stdout.getvalue())
    assert len(stdout.getvalue().encode()) <= 4096, f"stdout holds {len(stdout.getvalue())} characters"
    assert answer["ok"] is (code == 0), f"exit {code}, but stdout says {answer!r}"
    return Result(code, answer, stderr.getvalue())


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without the skill's settings, above all without a key; short waits; `extra`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    return {**kept, **SHORT_WAITS, **(extra or {})}
