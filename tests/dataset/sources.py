"""Datasets for tests: parts of a few rows whose questions name the part and the row."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tests.door import SHORT_WAITS

ASK = ["--model", "test-chat", "--max-tokens", "8", "--prompt", "{word}?"]
# The server is one process of this machine: no gateway and no read replica has to be waited for so long.
CLUSTER_WAITS = {
    "PYTHONPATH": SHORT_WAITS["PYTHONPATH"],
    "SHORT_WAITS": " ".join(
        [
            "doubleword.jobs.exactly_once.LAG_S=0.5", "doubleword.jobs.exactly_once.LOOK_AGAIN_S=0.25",
            "doubleword.jobs.exactly_once.SETTLE_S=3", "doubleword.dataset.claims.BEAT_S=5",
            "doubleword.dataset.claims.LEASE_S=30", "doubleword.dataset.claims.LOOK_S=1", SHORT_WAITS["SHORT_WAITS"],
        ]
    ),
}  # fmt: skip


def hive(folder: Path, parts: int = 2, rows: int = 3) -> Path:
    """So many Parquet parts in each of `lang=de` and `lang=fr`, with columns of several types."""
    for lang in ("de", "fr"):
        for part in range(parts):
            write(folder / f"lang={lang}" / f"part-{part}.parquet", [f"{lang}-{part}-{row}" for row in range(rows)])
    return folder


def flat(folder: Path, parts: int, rows: int = 3) -> Path:
    """So many Parquet parts side by side."""
    for part in range(parts):
        write(folder / f"part-{part:03d}.parquet", [f"p{part}-{row}" for row in range(rows)])
    return folder


def write(path: Path, words: Sequence[str | None]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    columns: dict[str, Any] = {"id": pa.array(range(len(words)), pa.int32()), "word": pa.array(words, pa.string())}
    columns["when"] = pa.array([0] * len(words), pa.timestamp("ms"))
    pq.write_table(pa.table(columns), path)


def rows(folder: Path) -> list[dict[str, Any]]:
    """All rows of the parts below `folder`, in the order of their names."""
    return [row for path in parts_of(folder) for row in pq.read_table(folder / path, partitioning=None).to_pylist()]


def parts_of(folder: Path) -> list[str]:
    """The parts below `folder`."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.parquet"))


def manifest(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "_manifest.json").read_text())
    return found
