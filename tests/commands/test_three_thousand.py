"""Table in, table out, two commands: 3,000 rows of a real table, a schema of three fields, every row accounted for."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from starlette.responses import Response
from tests.door import Result, call_door
from tests.engine_process import KEY, RunningEngine, engine_with_upstream
from tests.upstream import Upstream, question
from vega_datasets import data

ROWS = 3000
SCHEMA = {
    "type": "object",
    "properties": {
        "a_place": {"type": "string"},
        "b_kind": {"type": "string", "enum": ["municipal", "county", "other"]},
        "c_north": {"type": "boolean"},
    },
    "required": ["a_place", "b_kind", "c_north"],
    "additionalProperties": False,
}
FIELDS = list(SCHEMA["properties"])  # type: ignore[call-overload]
PROMPT = "Airport {name} in {city}, {state}, at {latitude} degrees north."
ASK = ["--model", "test-chat", "--max-tokens", "60", "--temperature", "0", "--response-schema", "schema.json"]


def judged(text: str) -> dict[str, Any]:
    """What a good model would answer."""
    found = re.fullmatch(r"Airport (.*) in (.*), (.*), at (.*) degrees north\.", text)
    assert found, text
    kinds = [kind for kind in ("municipal", "county") if kind in found[1].lower()]
    return {"a_place": f"{found[2]}, {found[3]}", "b_kind": (*kinds, "other")[0], "c_north": float(found[4]) > 40}


class Clerk(Upstream):
    """Answers at once, by the schema: but one airport in a hundred breaks it, and some are refused."""

    def _reply(self, path: str, body: dict[str, Any]) -> Response:
        asked = question(body)
        answer = judged(asked)
        if "Regional" in asked:
            answer["b_kind"] = "regional"  # not in the list
        said = json.dumps(answer)
        self.say(asked, said[:20] if "Lake" in asked else said)  # some come as half an object
        try:
            return super()._reply(path, body)
        finally:
            with self._guard:  # in its place: a new list would lack what others said meanwhile
                self._rules.remove(next(rule for rule in self._rules if rule.text == asked))


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngine]:
    upstream = Clerk()
    upstream.fail("Memorial", 400)
    with engine_with_upstream(tmp_path_factory.mktemp("engine"), upstream=upstream, concurrency=16) as running:
        yield running


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder: the first 3,000 rows of the airports, and the schema."""
    made = tmp_path_factory.mktemp("airports")
    whole = Path(data.airports.filepath).read_text(encoding="utf-8").splitlines(keepends=True)
    (made / "airports.csv").write_text("".join(whole[: ROWS + 1]), encoding="utf-8")
    (made / "schema.json").write_text(json.dumps(SCHEMA))
    return made


def run(engine: RunningEngine, folder: Path, *more: str) -> Result:
    words = ["out.csv", "--input", "airports.csv", "--id", "{iata}", *ASK, "--prompt", PROMPT, *more]
    env = {"DOUBLEWORD_API_KEY": KEY, "DOUBLEWORD_BASE_URL": engine.base_url}
    return call_door("run_batch", *words, cwd=folder, env=env)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_three_thousand_rows_by_two_commands(engine: RunningEngine, folder: Path) -> None:
    """First what it would ask, then the whole of it: each answer is valid, or listed with its cause; none is lost."""
    table = rows(folder / "airports.csv")
    texts = [PROMPT.format(**row) for row in table]
    refused = {row["iata"] for row, text in zip(table, texts, strict=True) if "Memorial" in text}
    broken = {row["iata"] for row, text in zip(table, texts, strict=True) if "Regional" in text or "Lake" in text}
    broken -= refused
    assert len(refused) > 10 and len(broken) > 10

    dry = run(engine, folder, "--dry-run")
    assert (dry.code, dry.json["requests"]) == (0, ROWS)
    assert engine.upstream.count() == 0 and sorted(path.name for path in folder.iterdir()) == [
        "airports.csv",
        "schema.json",
    ]

    done = run(engine, folder)
    assert (done.code, done.json["complete"]) == (6, True)
    counts = done.json["counts"]
    assert counts["total"] == ROWS and counts["succeeded"] + counts["failed"] + counts["missing"] == ROWS
    found = rows(folder / "out.csv")
    assert [row["iata"] for row in found] == [row["iata"] for row in table]
    assert [{name: row[name] for name in table[0]} for row in found] == table
    for row, text in zip(found, texts, strict=True):
        if row["iata"] in refused | broken:
            assert row["status"] != "succeeded" and row["error"], row
            continue
        assert row["status"] == "succeeded", row
        answer = {"a_place": row["a_place"], "b_kind": row["b_kind"], "c_north": json.loads(row["c_north"].lower())}
        jsonschema.validate(answer, SCHEMA)
        assert answer == judged(text)
    errors = [json.loads(line) for line in (folder / "out.errors.jsonl").read_bytes().splitlines()]
    assert Counter(error["custom_id"] for error in errors) == Counter(refused | broken)
    assert sum(one["count"] for one in done.json["failures"]) == len(refused | broken)
    assert len(engine.call("GET", "/batches").json()["data"]) == 1

    again = run(engine, folder)
    assert again.json == done.json and engine.upstream.count() == ROWS


def test_the_bundled_model_keeps_to_the_schema(folder: Path) -> None:
    """Its grammar lets it write nothing else, unless the limit cuts it off: then the row says so."""
    words = [
        "few.csv",
        "--local",
        "--input",
        "airports.csv",
        "--limit",
        "3",
        "--id",
        "{iata}",
        *ASK,
        "--prompt",
        PROMPT,
    ]
    words[words.index("test-chat")], words[words.index("60")] = "SmolLM2-135M-Instruct", "100"
    done = call_door("run_batch", *words, cwd=folder)
    assert done.code in (0, 6) and done.json["complete"] is True
    found = rows(folder / "few.csv")
    assert len(found) == 3
    valid = [row for row in found if row["status"] == "succeeded"]
    assert valid
    for row in valid:
        answer = {"a_place": row["a_place"], "b_kind": row["b_kind"], "c_north": json.loads(row["c_north"].lower())}
        jsonschema.validate(answer, SCHEMA)
    assert all(row["error"] for row in found if row not in valid)
