"""`--ray`: partitions as tasks on a cluster of this machine, whose workers and drivers are killed."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.dataset.killing import Killer, Point, s3_server
from tests.dataset.sources import ASK, CLUSTER_WAITS, flat, parts_of, rows
from tests.door import SCRIPTS, Result, environment, run_door
from tests.engine_process import KEY, RunningEngine, engine_with_upstream, priced, wait_until
from tests.faults.rooms import finished

pytestmark = pytest.mark.cluster
# Ray reads this when it is imported. Scripts that are started here see to it themselves, above all under `uv run`.
os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
try:
    pytest.importorskip("ray")
finally:
    del os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"]
pytest.importorskip("s3fs")
PARTS, ROWS = 40, 3
WORKERS = [
    Point("upload", 4, False), Point("upload", 9, True),
    Point("create", 7, False), Point("create", 14, True),
    Point("fetch", 12, False), Point("fetch", 20, True),
]  # fmt: skip
WRITES = [Point("write", 10, False), Point("write", 18, True)]
PRICE = priced({"test-chat": {"24h": [1e3, 1e3], "realtime": [1e3, 1e3]}})


@contextmanager
def engine_before(killer: Killer, folder: Path) -> Iterator[RunningEngine]:
    with engine_with_upstream(folder, settings=PRICE, wrap=killer.asgi) as running:
        yield running


@contextmanager
def ray_cluster(env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A cluster of this machine, whose workers have `env`; yields its address."""
    import ray

    for name, value in {**env, "RAY_USAGE_STATS_ENABLED": "0"}.items():
        monkeypatch.setenv(name, value)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        yield str(ray.get_runtime_context().gcs_address)
    finally:
        ray.shutdown()


def run(source: str, output: str, address: str, env: dict[str, str], folder: Path) -> Result:
    words = ["--ray", address, "--at-once", "6", "--wait", "900"]
    return run_door("run_dataset", source, output, *ASK, *words, cwd=folder, env=env, timeout=900)


def require_paid_once(engine: RunningEngine, parts: int = PARTS) -> None:
    """One batch for each partition, each row asked once, and the engine's ledger the sum that was meant."""
    finished(engine)
    with engine.store.reading() as connection:
        (batches,) = connection.execute("SELECT count(*) FROM batches").fetchone()
    assert (batches, engine.upstream.count()) == (parts, parts * ROWS)
    # A question of one word and an answer of three, at 0.001 USD a token.
    paid = engine.ledger()
    assert len(paid) == parts * ROWS
    assert sum(float(entry.cost_usd or 0) for entry in paid) == pytest.approx(
        sum(entry.prompt_tokens + entry.completion_tokens for entry in paid) / 1000
    )


def require_every_row(output: Path, source: Path) -> None:
    """Every row once, with its own answer."""
    assert parts_of(output) == parts_of(source)
    found = rows(output)
    assert [row["word"] for row in found] == [row["word"] for row in rows(source)]
    assert [row["answer"] for row in found] == [f"answer to: {row['word']}?" for row in found]


def test_workers_killed_anywhere_on_a_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In upload, create, fetch and write, before and after the server heard it: the next worker goes on by the keys."""
    import s3fs

    killer = Killer([*WORKERS, *WRITES])
    source = flat(tmp_path / "src", PARTS, ROWS)
    with engine_before(killer, tmp_path / "engine") as engine, s3_server(killer) as s3:
        env = {**s3, **CLUSTER_WAITS, "DOUBLEWORD_API_KEY": KEY, "DOUBLEWORD_BASE_URL": engine.base_url}
        with ray_cluster(env, monkeypatch) as address:
            s3fs.S3FileSystem.clear_instance_cache()
            store = s3fs.S3FileSystem(use_listings_cache=False)
            store.put(str(source), "data/in/", recursive=True)
            done = run("s3://data/in/src", "s3://data/out", address, env, tmp_path)
            assert (done.code, done.json["counts"]["succeeded"]) == (0, PARTS * ROWS), (done, killer.killed)
            store.get("data/out/", str(tmp_path / "out"), recursive=True)
        assert set(killer.killed) == set(killer.points)
        require_every_row(tmp_path / "out", source)
        require_paid_once(engine)


def test_workers_killed_anywhere_on_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same where the output is a folder, and job files say how far each partition was."""
    killer = Killer(list(WORKERS))
    source = flat(tmp_path / "src", PARTS, ROWS)
    with engine_before(killer, tmp_path / "engine") as engine:
        env = {**CLUSTER_WAITS, "DOUBLEWORD_API_KEY": KEY, "DOUBLEWORD_BASE_URL": engine.base_url}
        with ray_cluster(env, monkeypatch) as address:
            done = run(str(source), str(tmp_path / "out"), address, env, tmp_path)
        assert (done.code, done.json["counts"]["succeeded"]) == (0, PARTS * ROWS), (done, killer.killed)
        assert set(killer.killed) == set(killer.points)
        require_every_row(tmp_path / "out", source)
        require_paid_once(engine)


def test_workers_that_wait_as_long_as_they_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three partitions with none of the waits shortened."""
    killer = Killer([Point("upload", 1, False), Point("create", 2, True)])
    source = flat(tmp_path / "src", 3, ROWS)
    with engine_before(killer, tmp_path / "engine") as engine:
        env = {"DOUBLEWORD_API_KEY": KEY, "DOUBLEWORD_BASE_URL": engine.base_url, "SHORT_WAITS": ""}
        with ray_cluster(env, monkeypatch) as address:
            done = run(str(source), str(tmp_path / "out"), address, env, tmp_path)
        assert (done.code, done.json["counts"]["succeeded"]) == (0, 3 * ROWS), (done, killer.killed)
        assert set(killer.killed) == set(killer.points)
        require_every_row(tmp_path / "out", source)
        require_paid_once(engine, 3)


@pytest.mark.parametrize("own", [True, False], ids=["its own cluster", "a cluster that stays"])
def test_a_driver_killed_and_started_again(own: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three times, with partitions in all states; the last run goes on to the end, on a bucket."""
    import s3fs

    source = flat(tmp_path / "src", PARTS, ROWS)
    with engine_before(Killer([]), tmp_path / "engine") as engine, s3_server() as s3:
        env = {**s3, **CLUSTER_WAITS, "DOUBLEWORD_API_KEY": KEY, "DOUBLEWORD_BASE_URL": engine.base_url}
        with ray_cluster(env, monkeypatch) as address:
            address = "local" if own else address
            s3fs.S3FileSystem.clear_instance_cache()
            store = s3fs.S3FileSystem(use_listings_cache=False)
            store.put(str(source), "data/in/", recursive=True)
            for parts in (3, 8, 15):
                with driver(
                    ["s3://data/in/src", "s3://data/out", *ASK, "--ray", address, "--at-once", "6"], env
                ) as pid:
                    wait_until(functools.partial(has_written, store, parts), f"{parts} parts", 240)
                    os.kill(pid, signal.SIGKILL)
            done = run("s3://data/in/src", "s3://data/out", address, env, tmp_path)
            assert (done.code, done.json["counts"]["succeeded"]) == (0, PARTS * ROWS), done
            store.get("data/out/", str(tmp_path / "out"), recursive=True)
            told = json.loads(store.cat("data/out/_manifest.json"))
        assert (told["rows"], told["succeeded"]) == (PARTS * ROWS, PARTS * ROWS)
        require_every_row(tmp_path / "out", source)
        require_paid_once(engine)


def has_written(store: Any, parts: int) -> bool:
    return len(store.glob("data/out/*.parquet")) >= parts


@contextmanager
def driver(words: list[str], env: dict[str, str]) -> Iterator[int]:
    """A run_dataset.py that is killed by the block."""
    with subprocess.Popen(
        [sys.executable, str(SCRIPTS / "run_dataset.py"), *words], env=environment(env), stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        yield process.pid
        process.kill()


def test_a_cluster_that_is_not_there_is_said(tmp_path: Path) -> None:
    """Exit 5, and nothing was sent."""
    flat(tmp_path / "src", 1)
    env = {"DOUBLEWORD_API_KEY": KEY, "DOUBLEWORD_BASE_URL": "http://127.0.0.1:9/v1"}
    refused = run("src", "out", "127.0.0.1:9", env, tmp_path)
    assert (refused.code, refused.json["error"]["code"]) == (5, "no_cluster"), refused
