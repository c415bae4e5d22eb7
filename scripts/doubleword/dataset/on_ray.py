"""Steps as tasks on a Ray cluster: a worker that dies is replaced by another, which goes on.

Promises: the key travels in nothing: a worker reads it from its own environment; what a worker says of a step is plain
values; standard output stays the script's own.

Facts about Ray: a task whose worker died is run again up to `max_retries` times, `py_modules` brings a package to each
worker; under `uv run` it sends the working folder to the workers and starts each by that command once more, unless told
not to (https://docs.ray.io/en/latest/ray-core/fault_tolerance/tasks.html, `handling-dependencies.html`).
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from doubleword.dataset.steps import Step, perform
from doubleword.failure import Exit, Failure, plain
from doubleword.jobs.connection import connect
from doubleword.system import System

RETRIES = 20
CONNECT_S = 10.0
SLOW_S, START_S = 30.0, 300.0  # a cluster that grows by need has to find a machine first
PACKAGE = Path(__file__).resolve().parents[1]


@contextlib.contextmanager
def cluster(address: str, note: Callable[[str], None]) -> Iterator[Callable[[Step], dict[str, Any]]]:
    """What does a step on the cluster at `address`, `auto` for the one of this machine, `local` for one of our own.

    Raises Failure: 2 where Ray is not installed, 5 where there is no such cluster, or none of its workers begins; what
    it yields raises as `perform`.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")  # a user's folder is not ours to send
    try:
        import ray
    except ModuleNotFoundError as missing:
        message = f"--ray needs the Python package ray, which is not installed ({missing.name})"
        raise Failure(
            Exit.BAD_INPUT, "missing_package", message, 'python3 -m pip install "ray>=2.50,<3"; or uv run --with ray …'
        ) from None
    _require_listening(address)
    with _said_elsewhere():
        own = address == "local"
        try:
            ray.init(
                address=None if own else address,
                include_dashboard=False if own else None,
                log_to_driver=False,
                logging_level="ERROR",
                runtime_env={"py_modules": [str(PACKAGE)]},
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise _no_cluster(address, error) from None
        task = ray.remote(num_cpus=0, max_retries=RETRIES, scheduling_strategy="SPREAD")(_task)
        try:
            require_worker(ray, address, note)
            yield functools.partial(_done, ray, task, note)
        finally:
            ray.shutdown()


def _require_listening(address: str) -> None:
    """Raise Failure (5) where nobody listens at HOST:PORT; Ray would try for a quarter of an hour."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        try:
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
        except (OSError, OverflowError) as error:
            raise _no_cluster(address, error) from None


def require_worker(ray: Any, address: str, note: Callable[[str], None]) -> None:
    """Raise Failure (5) where no worker begins, or one cannot: partitions would wait for ever, without a word."""
    begun = ray.remote(num_cpus=0)(_begun).remote()
    if not ray.wait([begun], timeout=SLOW_S)[0]:
        note("no worker of the cluster has begun yet")
        if not ray.wait([begun], timeout=START_S - SLOW_S)[0]:
            message = f"no worker of the Ray cluster at {plain(address, 120)} began within {START_S:g} s"
            raise Failure(Exit.UNREACHABLE, "no_worker", message, "ray status")
    try:
        ray.get(begun)
    except ray.exceptions.RayError as error:
        message = f"no worker of the Ray cluster at {plain(address, 120)} can work: {plain(error, 300)}"
        hint = "install in each worker's Python what the first lines of run_dataset.py name, and s3fs for S3"
        raise Failure(Exit.UNREACHABLE, "no_worker", message, hint) from None


def _begun() -> bool:
    """What the first task does: it comes to be only where the modules of this skill can be read."""
    return True


def _no_cluster(address: str, error: Exception) -> Failure:
    message = f"there is no Ray cluster at {plain(address, 120)}: {plain(error, 200)}"
    return Failure(Exit.UNREACHABLE, "no_cluster", message, "ray start --head; or --ray local")


@contextlib.contextmanager
def _said_elsewhere() -> Iterator[None]:
    """What Ray prints goes to standard error meanwhile: standard output is for the one JSON object."""
    sys.stdout.flush()
    own = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(own, 1)
        os.close(own)


def _done(ray: Any, task: Any, note: Callable[[str], None], step: Step) -> dict[str, Any]:
    """What a task answers; raises its Failure, or Failure (5) where it never came to its end."""
    try:
        answer, failed, notes = ray.get(task.remote(step))
    except (ray.exceptions.RaySystemError, ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError) as error:
        message = f"workers died again and again: {plain(error, 200)}"
        hint = "look at the cluster, then run the same command again"
        raise Failure(Exit.UNREACHABLE, "worker_lost", message, hint) from None
    for line in notes:
        note(line)
    if failed is not None:
        raise Failure(Exit(failed[0]), *failed[1:])
    return dict(answer)


def _task(step: Step) -> tuple[dict[str, Any], tuple[int, str, str, str] | None, list[str]]:
    """A step in a worker: what it answers, its failure as plain values if it failed, and what it noted."""
    notes: list[str] = []
    system, server = System(), argparse.Namespace(local=False, base_url=step.base_url, wait=step.args["wait"])
    opened = functools.partial(connect, server, system, notes.append)
    try:
        return perform(step, system, opened, contextlib.nullcontext(), notes.append), None, notes
    except Failure as failure:
        return {}, (int(failure.exit_code), failure.code, failure.message, failure.hint), notes
