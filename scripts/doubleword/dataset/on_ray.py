"""Steps as tasks on a Ray cluster: a worker that dies is replaced by another, which goes on.

Promises: the key travels in nothing: a worker reads it from its own environment; what a worker says of a step is plain
values; standard output stays the script's own.

Facts about Ray: a task whose worker died is run again up to `max_retries` times, `py_modules` brings a package to each
worker (https://docs.ray.io/en/latest/ray-core/fault_tolerance/tasks.html, `handling-dependencies.html`).
"""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from doubleword.dataset.steps import Step, perform
from doubleword.failure import Exit, Failure, plain
from doubleword.system import System

RETRIES = 20
PACKAGE = Path(__file__).resolve().parents[1]


@contextlib.contextmanager
def cluster(address: str, note: Callable[[str], None]) -> Iterator[Callable[[Step], dict[str, Any]]]:
    """What does a step on the cluster at `address`, `auto` for the one of this machine, `local` for one of our own.

    Raises Failure: 2 where Ray is not installed, 5 where there is no such cluster; what it yields raises as `perform`.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ModuleNotFoundError as missing:
        message = f"--ray needs the Python package ray, which is not installed ({missing.name})"
        raise Failure(Exit.BAD_INPUT, "missing_package", message, 'uv pip install "ray>=2.50,<3"') from None
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
        message = f"there is no Ray cluster at {plain(address, 120)}: {plain(error, 200)}"
        raise Failure(Exit.UNREACHABLE, "no_cluster", message, "ray start --head; or --ray local") from None
    task = ray.remote(num_cpus=0, max_retries=RETRIES, scheduling_strategy="SPREAD")(_task)

    def done(step: Step) -> dict[str, Any]:
        try:
            said = ray.get(task.remote(step))
        except ray.exceptions.RaySystemError as error:
            raise _lost(error) from None
        except ray.exceptions.WorkerCrashedError as error:
            raise _lost(error) from None
        for line in said["notes"]:
            note(line)
        if said["failure"] is not None:
            raise Failure(Exit(said["failure"]["exit"]), *said["failure"]["told"])
        answer: dict[str, Any] = said["answer"]
        return answer

    try:
        yield done
    finally:
        ray.shutdown()


def _task(step: Step) -> dict[str, Any]:
    """A step in a worker: what it answers, or its failure, and what it noted."""
    from doubleword.jobs.connection import connect

    notes: list[str] = []
    system = System()
    server = argparse.Namespace(local=False, base_url=step.base_url)
    try:
        answer = perform(
            step, system, lambda: connect(server, system, notes.append), contextlib.nullcontext(), notes.append
        )
    except Failure as failure:
        told = (failure.code, failure.message, failure.hint)
        return {"answer": None, "failure": {"exit": int(failure.exit_code), "told": told}, "notes": notes}
    return {"answer": answer, "failure": None, "notes": notes}


def _lost(error: Exception) -> Failure:
    message = f"workers died again and again: {plain(error, 200)}"
    return Failure(Exit.UNREACHABLE, "worker_lost", message, "look at the cluster, then run the same command again")
