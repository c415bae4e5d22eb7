"""The same as functions on Arrow tables."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.engine_process import KEY, RunningEngine, engine_with_upstream

from doubleword.dataset.arrow import answers_of, requests_of, run_partition
from doubleword.failure import Failure

pytestmark = pytest.mark.usefixtures("quick_looks")
TABLE = pa.table({"id": pa.array([7, 8, 9], pa.int16()), "word": ["a", "b", "c"]})
ASKS: dict[str, Any] = {"model": "test-chat", "max_tokens": 8, "prompt": "{word}{id}?"}


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningEngine]:
    with engine_with_upstream(tmp_path / "engine") as running:
        monkeypatch.setenv("DOUBLEWORD_API_KEY", KEY)
        monkeypatch.setenv("DOUBLEWORD_BASE_URL", running.base_url)
        yield running


def line(number: int, text: str | None, status: int = 200) -> bytes:
    """A line as the server gives it; an error where there is no text."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    body: dict[str, Any] = {"choices": [choice], "usage": {"prompt_tokens": 2, "completion_tokens": 1}}
    if text is None:
        body, status = {"error": {"message": "no"}}, 500
    return json.dumps(
        {"id": str(number), "custom_id": f"row-{number:07d}", "response": {"status_code": status, "body": body}}
    ).encode()


def test_a_row_is_a_request() -> None:
    """In order, under its number, with what it asks; the same table gives the same lines."""
    lines = requests_of(TABLE, **ASKS)
    assert [json.loads(one)["custom_id"] for one in lines] == ["row-0000001", "row-0000002", "row-0000003"]
    assert json.loads(lines[2])["body"]["messages"] == [{"role": "user", "content": "c9?"}]
    assert requests_of(TABLE, **ASKS) == lines


def test_an_unknown_argument_or_column_is_refused() -> None:
    with pytest.raises(TypeError, match="promt"):
        requests_of(TABLE, promt="x", model="m")
    with pytest.raises(TypeError, match="id"):
        requests_of(TABLE, id="{id}", **ASKS)
    with pytest.raises(Failure):
        requests_of(TABLE, model="m", prompt="{none}")


def test_answers_stand_in_their_rows_whatever_order_they_come_in() -> None:
    """A row without a result is missing; of several for one row a success counts, and the later one."""
    lines = [line(3, "C"), line(1, None), line(1, "A"), line(1, None), line(99, "X"), b"", b"no json"]
    made = answers_of(TABLE, lines)
    assert made.column("status").to_pylist() == ["succeeded", "missing", "succeeded"]
    assert made.column("answer").to_pylist() == ["A", None, "C"]
    assert made.column("id").to_pylist() == [7, 8, 9] and made.schema.field("id").type == pa.int16()
    assert made.column("prompt_tokens").to_pylist() == [2, None, 2]


def test_what_failed_says_why() -> None:
    made = answers_of(TABLE, [line(2, None)])
    assert made.column("status").to_pylist() == ["missing", "failed", "missing"]
    assert "no" in made.column("error").to_pylist()[1]


def test_a_partition_run_again_pays_nothing(engine: RunningEngine) -> None:
    """It is found by what it asks; under another name it is another run."""
    first = run_partition(TABLE, run="r", is_first=True, **ASKS)
    assert first.column("answer").to_pylist() == ["answer to: a7?", "answer to: b8?", "answer to: c9?"]
    assert first.schema.field("id").type == pa.int16()
    assert run_partition(TABLE, run="r", **ASKS).equals(first)
    assert engine.upstream.count() == 3
    assert run_partition(TABLE, run="other", is_first=True, **ASKS).equals(first)
    assert len(engine.call("GET", "/batches").json()["data"]) == 2


def test_an_empty_partition_stays_empty(engine: RunningEngine) -> None:
    """Engines hand such tables about; it has the columns all the same, and nothing is sent."""
    made = run_partition(TABLE.slice(0, 0), run="r", **ASKS)
    assert made.num_rows == 0 and "answer" in made.column_names
    assert engine.upstream.count() == 0
