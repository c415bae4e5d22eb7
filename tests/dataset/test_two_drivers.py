"""run_dataset.py started twice at one time over one source and one output: each partition is paid once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.dataset.sources import ASK, flat, manifest, parts_of, rows
from tests.door import Result, run_door
from tests.engine_process import KEY, engine_with_upstream

PARTS, ROWS = 6, 3


def test_two_drivers_at_once_pay_each_part_once(tmp_path: Path) -> None:
    """Either ends well or says that the other has a part (7); run once more, all is there, and nothing is asked."""
    source, output = flat(tmp_path / "src", PARTS, ROWS), tmp_path / "out"
    with engine_with_upstream(tmp_path / "engine") as engine:
        env = {"DOUBLEWORD_API_KEY": KEY, "DOUBLEWORD_BASE_URL": engine.base_url}

        def run(_: int) -> Result:
            return run_door("run_dataset", "src", "out", *ASK, cwd=tmp_path, env=env, timeout=300)

        with ThreadPoolExecutor(2) as both:
            ended = list(both.map(run, range(2)))
        assert {one.code for one in ended} <= {0, 7}, ended
        last = run(0)
        assert (last.code, last.json["counts"]["succeeded"]) == (0, PARTS * ROWS), last
        assert len(engine.call("GET", "/batches?limit=100").json()["data"]) == PARTS
        assert (engine.upstream.count(), len(engine.ledger())) == (PARTS * ROWS, PARTS * ROWS)
    assert parts_of(output) == parts_of(source) and manifest(output)["succeeded"] == PARTS * ROWS
    words = [row["word"] for row in rows(source)]
    assert [(row["word"], row["answer"]) for row in rows(output)] == [(word, f"answer to: {word}?") for word in words]
