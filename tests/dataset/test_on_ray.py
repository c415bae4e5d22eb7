"""What is told of a Ray cluster that does not work, by a stand-in for Ray."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from doubleword.dataset import on_ray
from doubleword.failure import Failure


class RayError(Exception):
    """As `ray.exceptions.RayError`."""


class Cluster:
    """One whose first task begins in the look of number `begins`, and then `fails` or not."""

    exceptions = SimpleNamespace(RayError=RayError)

    def __init__(self, begins: int, fails: str = "") -> None:
        self.waited: list[float] = []
        self._begins = begins
        self._fails = fails

    def remote(self, **_: Any) -> Any:
        return lambda work: SimpleNamespace(remote=lambda: work)

    def wait(self, tasks: list[Any], timeout: float) -> tuple[list[Any], list[Any]]:
        self.waited.append(timeout)
        return (tasks, []) if len(self.waited) >= self._begins else ([], tasks)

    def get(self, task: Any) -> Any:
        if self._fails:
            raise RayError(self._fails)
        return task()


@pytest.mark.parametrize(("begins", "told"), [(1, []), (2, ["no worker of the cluster has begun yet"])])
def test_a_worker_that_begins_is_waited_for(begins: int, told: list[str]) -> None:
    """And that is told, where it takes long."""
    notes: list[str] = []
    on_ray.require_worker(Cluster(begins), "here:1", notes.append)
    assert notes == told


@pytest.mark.parametrize(
    ("cluster", "told"), [(Cluster(3), "began within 300 s"), (Cluster(1, "No module named 'duckdb'"), "'duckdb'")]
)
def test_a_cluster_without_a_worker_is_refused(cluster: Cluster, told: str) -> None:
    """Exit 5, with nothing sent, after five minutes at most."""
    with pytest.raises(Failure) as refused:
        on_ray.require_worker(cluster, "here:1", lambda _: None)
    assert (int(refused.value.exit_code), refused.value.code) == (5, "no_worker")
    assert told in refused.value.message and sum(cluster.waited) <= 300
