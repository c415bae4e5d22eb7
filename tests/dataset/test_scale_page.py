"""The recipes of references/scale.md, each run as it stands, where its engine is installed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.dataset.sources import CLUSTER_WAITS
from tests.door import SCRIPTS, run_door
from tests.engine_process import KEY, RunningEngine, engine_with_upstream

PAGE = (SCRIPTS.parent / "references" / "scale.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n# (\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
READING = [pytest.param(name, code, id=name) for name, code in BLOCKS if "found = " in code]
ASKING = [pytest.param(name, code, id=name) for name, code in BLOCKS if "answers = " in code]
MODEL = "Qwen/Qwen3.5-9B"
PROMPT = "One word: the mood of {review}?"


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningEngine]:
    """An engine, and a user's folder before it: `reviews` in two languages, `plain` in two files."""
    with engine_with_upstream(tmp_path / "engine") as running:
        running.upstream.models = [MODEL]
        monkeypatch.setenv("DOUBLEWORD_API_KEY", KEY)
        monkeypatch.setenv("DOUBLEWORD_BASE_URL", running.base_url)
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(SCRIPTS), CLUSTER_WAITS["PYTHONPATH"]]))
        monkeypatch.setenv("SHORT_WAITS", CLUSTER_WAITS["SHORT_WAITS"])
        monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
        monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
        monkeypatch.chdir(tmp_path)
        for number, lang in enumerate(("de", "fr")):
            table = pa.table({"review": [f"{lang} {row}" for row in range(3)]})
            for path in (Path(f"reviews/lang={lang}/part-0.parquet"), Path(f"plain/part-{number}.parquet")):
                path.parent.mkdir(parents=True, exist_ok=True)
                pq.write_table(table, path)
        yield running


def run(name: str, code: str, result: str, times: int = 1) -> list[Any]:
    """What a recipe leaves as `result`, each time; in a process of its own, for engines keep the environment they began
    in. It is skipped where its engine is not installed.

    All has to be told; then pyarrow's threads may still abort the process at its exit, as they now and then do.
    """
    assert code.count("\n") <= 25
    pytest.importorskip(name)
    told = Path("told.json")
    after = f"\nimport json\nwith open({str(told)!r}, 'a') as file:\n    print(json.dumps({result}), file=file)\n"
    ended = subprocess.run([sys.executable, "-c", (code + after) * times], check=False, timeout=300)
    lines = told.read_text().splitlines() if told.exists() else []
    assert len(lines) == times, ended
    assert ended.returncode in (0, -signal.SIGABRT)
    return [json.loads(line) for line in lines]


@pytest.mark.cluster
@pytest.mark.parametrize(("name", "code"), READING)
def test_the_output_is_read_as_it_is(name: str, code: str, engine: RunningEngine, tmp_path: Path) -> None:
    """All rows, each under the language that its folder tells."""
    words = ["--model", MODEL, "--max-tokens", "8", "--prompt", PROMPT]
    done = run_door("run_dataset", "reviews", "labels", *words, cwd=tmp_path, env=dict_of(engine))
    assert done.code == 0, done.json
    (found,) = run(name, code, "[[*row] for row in found]")
    assert sorted(found, key=str) in ([["de", "succeeded", 3], ["fr", "succeeded", 3]], [[None, "succeeded", 6]])


@pytest.mark.cluster
@pytest.mark.parametrize(("name", "code"), ASKING)
def test_an_engine_asks_with_its_own_partitions(name: str, code: str, engine: RunningEngine) -> None:
    """Each row gets its answer; the same once more pays nothing."""
    wanted = sorted(f"answer to: One word: the mood of {lang} {row}?" for lang in ("de", "fr") for row in range(3))
    assert [sorted(one) for one in run(name, code, "[*answers]", times=2)] == [wanted, wanted]
    assert engine.upstream.count() == 6


def test_there_is_a_recipe_for_each_engine() -> None:
    assert [name for name, code in BLOCKS if "found = " in code] == ["duckdb", "pyspark", "deltalake", "pyiceberg"]
    assert [name for name, code in BLOCKS if "answers = " in code] == ["ray", "pyspark", "daft"]


def dict_of(engine: RunningEngine) -> dict[str, str]:
    return {"DOUBLEWORD_API_KEY": KEY, "DOUBLEWORD_BASE_URL": engine.base_url}
