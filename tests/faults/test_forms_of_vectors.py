"""Vectors stand in every format by the numbers that their request's own form gives them, neighbours or not."""

from __future__ import annotations

import csv
import json
from typing import Any

import duckdb
import pytest
from tests.faults.canned import Canned
from tests.faults.gate import Gate
from tests.faults.rooms import Desk

from doubleword.answers.json_text import read

HALF = {"encoding_format": "base64", "embed_dtype": "float16"}
BIG = {**HALF, "endianness": "big"}
ASKED = {"half": HALF, "half too": HALF, "list": {}, "big": BIG, "half last": HALF}
CAME: dict[str, Any] = {"list": [0.5, -0.25, 1, 0.125], "big": "OAC0ADwAMAA="}
VECTOR = [0.5, -0.25, 1.0, 0.125]


@pytest.mark.parametrize("ids", [list(ASKED), ["half", "half too"], ["list", "half"], ["big"]])
def test_each_vector_is_read_as_its_request_asked(desk: Desk, gate: Gate, ids: list[str]) -> None:
    requests, answers = [], []
    for name in ids:
        body = {"model": "test-embedding", "input": "a", **ASKED[name]}
        asked = {"custom_id": name, "method": "POST", "url": "/v1/embeddings", "body": body}
        requests.append(json.dumps(asked).encode())
        said = {"data": [{"index": 0, "embedding": CAME.get(name, "ADgAtAA8ADA=")}]}
        response = {"status_code": 200, "body": said}
        answers.append(json.dumps({"id": name, "custom_id": name, "response": response, "error": None}).encode())
    files = {"input": requests, "output": answers, "error": []}
    gate.server = Canned(len(ids), batch={"endpoint": "/v1/embeddings"}, files=files).reply
    for form in ("csv", "parquet", "npy"):
        fetched = desk.run("fetch_results", "6f0c0e1e", "--format", form, "--output", f"o.{form}")
        assert fetched.code == 0, fetched
    with (desk.folder / "o.csv").open(newline="") as file:
        assert [read(row["embedding"]) for row in csv.DictReader(file)] == [VECTOR] * len(ids)
    with duckdb.connect() as base:
        found = base.execute("SELECT embedding FROM read_parquet(?)", [str(desk.folder / "o.parquet")]).fetchall()
    assert found == [(VECTOR,)] * len(ids)
    numbers = memoryview((desk.folder / "o.npy").read_bytes()[-16 * len(ids) :]).cast("f").tolist()
    assert numbers == VECTOR * len(ids)
