"""A bench for comparisons: an engine with a test upstream, a table of four rows, and two prompts in files."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.door import Result, call_door
from tests.engine_process import KEY, RunningEngine, engine_with_upstream, priced

A, B = "test-chat", "other-chat"
PRICE = {"24h": [10.0, 10.0], "1h": [20.0, 20.0], "realtime": [40.0, 40.0]}


@dataclass
class Bench:
    """A user's folder and the engine that answers."""

    folder: Path
    engine: RunningEngine

    def run(self, *words: str, name: str = "compare") -> Result:
        settings = {"DOUBLEWORD_API_KEY": KEY, "DOUBLEWORD_BASE_URL": self.engine.base_url}
        return call_door(name, *words, cwd=self.folder, env=settings)

    def compare(self, *more: str, models: tuple[str, ...] = (A, B)) -> Result:
        """cmp.csv of t.csv under `models`, four tokens an answer."""
        asked = [word for model in models for word in ("--model", model)]
        prompt = [] if any(one.startswith(("--prompt", "--variants")) for one in more) else ["--prompt", "Say {title}"]
        return self.run("cmp.csv", "--input", "t.csv", *asked, *prompt, "--max-tokens", "4", *more)

    def rows(self, name: str = "cmp.csv") -> list[dict[str, str]]:
        with (self.folder / name).open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    def summary(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "cmp.comparison.json").read_text())
        return found

    def batches(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.engine.call("GET", "/batches?limit=100").json()["data"]
        return found

    def files(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}


@pytest.fixture
def bench(tmp_path: Path, quick_looks: None) -> Iterator[Bench]:
    (folder := tmp_path / "work").mkdir()
    (folder / "t.csv").write_text("title,label\none,yes\ntwo,no\nthree,yes\nfour,no\n")
    (folder / "short.txt").write_text("Say {title}\n")
    (folder / "long.txt").write_text("Please say {title}, at length\n")
    with engine_with_upstream(tmp_path / "engine", settings=priced({A: PRICE, B: PRICE})) as engine:
        engine.upstream.models = [A, B]
        yield Bench(folder, engine)
