"""Source and output on a server of S3, as moto serves it on loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.dataset.killing import s3_server
from tests.dataset.sources import ASK, hive, parts_of, rows
from tests.door import Result, call_door
from tests.engine_process import KEY, RunningEngine, engine_with_upstream

from doubleword.dataset.places import bucket
from doubleword.failure import Failure

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("quick_looks")]
pytest.importorskip("s3fs")
pytest.importorskip("moto")


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A bucket, as fsspec sees it."""
    import s3fs

    with s3_server() as env:
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        yield s3fs.S3FileSystem(use_listings_cache=False)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[RunningEngine]:
    with engine_with_upstream(tmp_path / "engine") as running:
        yield running


def dataset(engine: RunningEngine, folder: Path, *args: str) -> Result:
    env = {"DOUBLEWORD_API_KEY": KEY, "DOUBLEWORD_BASE_URL": engine.base_url}
    ask = [*ASK[:-1], "{word} in {lang}?"]
    return call_door("run_dataset", "s3://data/in/src", "s3://data/out", *ask, *args, cwd=folder, env=env)


def test_a_dataset_in_a_bucket_becomes_one(store: Any, engine: RunningEngine, tmp_path: Path) -> None:
    """Nothing is kept on this machine; run again it changes nothing, and after all states are lost it pays nothing."""
    store.put(str(hive(tmp_path / "src")), "data/in/", recursive=True)
    own = tmp_path / "here"
    own.mkdir()
    done = dataset(engine, own)
    assert (done.code, done.json["counts"]["succeeded"], list(own.iterdir())) == (0, 12, []), done.json
    store.get("data/out/", str(tmp_path / "out"), recursive=True)
    assert parts_of(tmp_path / "out") == parts_of(tmp_path / "src")
    assert {row["answer"] for row in rows(tmp_path / "out")} >= {"answer to: de-0-0 in de?", "answer to: fr-1-2 in fr?"}
    assert json.loads(store.cat("data/out/_manifest.json"))["succeeded"] == 12
    assert dataset(engine, own).json == done.json
    store.rm("data/out", recursive=True)
    assert dataset(engine, own).json == done.json
    assert engine.upstream.count() == 12 and len(engine.call("GET", "/batches").json()["data"]) == 4


def test_of_two_that_create_or_replace_one_object_one_does(store: Any) -> None:
    """And who lost knows it; a tag that is not the latest replaces nothing."""
    place = bucket("s3://data/out")
    assert place.create("x", b"1") and not place.create("x", b"2")
    found = place.read("x")
    assert found is not None and found.content == b"1"
    assert place.replace("x", b"3", found.tag) and not place.replace("x", b"4", found.tag)
    assert store.cat("data/out/x") == b"3" and place.read("y") is None


def test_a_write_whose_first_reply_was_lost_is_ours(store: Any) -> None:
    """It was asked again by itself, and refused: what stands there is what we wrote."""
    place = bucket("s3://data/out")
    assert place.create("x", b"1") and place.create("x", b"1")


def test_other_urls_are_refused() -> None:
    """Claims need a store that refuses to write over what it has."""
    with pytest.raises(Failure) as refused:
        bucket("ftp://b/out")
    assert refused.value.code == "bad_url"
