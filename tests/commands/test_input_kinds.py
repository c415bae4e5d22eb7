"""Every kind of input and every endpoint, from rows to answers: the table in references/request_lines.md, run.

One server with the bundled models answers all of them, for real; what it cannot see, images, is looked at where it
reaches a stand-in for a server that could.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xlsxwriter
import zstandard
from jsonschema import Draft202012Validator
from python_calamine import CalamineWorkbook
from tests.door import SCRIPTS, call_door
from tests.engine_process import RunningEngine, ServerProcess, engine_with_upstream, server_process
from tests.request_lines.test_request_form import IMAGES, PNG
from tests.sample_requests import TOOL, line
from tests.tables.old_workbooks import ods, xls
from vega_datasets import data

PAGE = (SCRIPTS.parent / "references" / "request_lines.md").read_text(encoding="utf-8")
KINDS = dict(re.findall(r"^\| ([^|`]+) \| `(--input .+)` \|$", PAGE, re.MULTILINE))
OUTPUTS = dict(re.findall(r"^\| ([^|`]+) \| `((?:--format|--output) .+)` \|$", PAGE, re.MULTILINE))
WITH_IMAGES = [kind for kind in KINDS if "image" in kind]
MODEL = "SmolLM2-135M-Instruct"
PEOPLE = [
    {"author": {"name": "Ada Lovelace", "born": 1815}, "tags": ["numbers", "engines"]},
    {"author": {"name": "Emmy Noether", "born": 1882}, "tags": ["rings"]},
]
TALK = [{"role": "user", "content": "Name a colour."}, {"role": "assistant", "content": "Red."},
        {"role": "user", "content": "Another."}]  # fmt: skip
PLACE = {
    "type": "object",
    "properties": {"a_city": {"type": "boolean"}, "b_size": {"type": "string", "enum": ["small", "large"]}},
    "required": ["a_city", "b_size"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the table names: airports and cars that vega-datasets ships, and what a user may have beside."""
    made = tmp_path_factory.mktemp("tables")
    airports = Path(data.airports.filepath).read_text(encoding="utf-8").splitlines()[:3]
    (made / "airports.csv").write_text("\n".join(airports), encoding="utf-8")
    (made / "airports_excel.csv").write_text("\r\n".join(airports).replace(",", ";"), encoding="utf-16", newline="")
    (made / "airports.tsv").write_text("\n".join(airports).replace(",", "\t"), encoding="utf-8")
    _other_forms(made, airports)
    cars = json.loads(Path(data.cars.filepath).read_bytes())
    (made / "cars.json").write_text(json.dumps([cars[0], next(one for one in cars if one["Miles_per_Gallon"] is None)]))
    (made / "nested.jsonl").write_text("\n".join(map(json.dumps, PEOPLE)))
    pq.write_table(pa.Table.from_pylist(PEOPLE), made / "nested.parquet")
    (made / "lines.txt").write_text("Once upon a time\nIt was a dark night\n")
    (made / "notes" / "März").mkdir(parents=True)
    (made / "notes" / "März" / "1.txt").write_text("Once upon a time")
    (made / "notes" / "2.md").write_text("It was a dark night")
    asked = {"model": MODEL, "messages": TALK, "max_tokens": 8}
    lines = [line("/v1/chat/completions", custom_id=name, **asked) for name in ("x", "y")]
    (made / "requests.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (made / "conversations.jsonl").write_text("\n".join(json.dumps({"n": n, "messages": TALK}) for n in (1, 2)))
    with (made / "conversations.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["n", "messages"], [1, json.dumps(TALK)], [2, json.dumps(TALK)]])
    (made / "examples.csv").write_text("prompt,answer\nWhere is Rome?,Italy\nWhere is Bonn?,Germany\n")
    (made / "system.txt").write_text("Answer with a country.\n")
    (made / "prompt.txt").write_text("Where is {city}?\n")
    (made / "place.json").write_text(json.dumps(PLACE))
    (made / "tools.json").write_text(json.dumps([TOOL]))
    (made / "photos").mkdir()
    (made / "photos" / "a.png").write_bytes(PNG)
    (made / "photos" / "b.jpg").write_bytes(IMAGES["jpeg"])
    (made / "photos.csv").write_text("photo\nphotos/a.png\nphotos/b.jpg\n")
    return made


def _other_forms(made: Path, airports: list[str]) -> None:
    """The same airports as workbooks, in parts, packed, chosen by SQL, and below titles."""
    header, *rows = (line.split(",") for line in airports)
    with xlsxwriter.Workbook(str(made / "airports.xlsx")) as book:
        book.add_worksheet("Notes").write(0, 0, "nothing here")
        sheet = book.add_worksheet("Airports")
        for at, row in enumerate([header, *rows]):
            sheet.write_row(at, 0, row)
    cell = '<table:table-cell office:value-type="string"><text:p>{}</text:p></table:table-cell>'
    ods(made / "airports.ods", [[cell.format(one) for one in row] for row in (header, *rows)])
    (made / "airports.xls").write_bytes(xls([header, *rows]))
    (made / "parts").mkdir()
    state = header.index("state")
    for number, (name, row) in enumerate(zip(("north", "south"), rows, strict=True)):
        (made / f"{name}.csv").write_text(f"{airports[0]}\n{','.join(row)}\n")
        part = pa.Table.from_pylist([dict(zip(header, row, strict=True))])
        pq.write_table(part, made / "parts" / f"part-{number}.parquet")
        (folder := made / "hive" / f"state={row[state]}").mkdir(parents=True)
        pq.write_table(part.drop_columns("state"), folder / "part-0.parquet")
    (made / "airports.csv.gz").write_bytes(gzip.compress("\n".join(airports).encode()))
    packed = zstandard.ZstdCompressor().compress("\n".join(map(json.dumps, PEOPLE)).encode())
    (made / "nested.jsonl.zst").write_bytes(packed)
    (made / "rows.sql").write_text("SELECT name, city FROM 'airports.csv' ORDER BY city")
    elsewhere = ",".join([*rows[0][:state], "CA", *rows[0][state + 1 :]])
    (made / "more.csv").write_text("\n".join([airports[0], elsewhere, *airports[1:]]))
    (made / "report.csv").write_text("\n".join(["Airports of the south,,,,,,", ",,,,,,", *airports]))


pytestmark = pytest.mark.usefixtures("quick_looks")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with its own models."""
    with server_process(tmp_path_factory.mktemp("models")) as running:
        yield running


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngine]:
    """The embedded engine before an upstream that keeps what it is asked."""
    with engine_with_upstream(tmp_path_factory.mktemp("seeing")) as running:
        yield running


def stem(kind: str) -> str:
    return "made_" + re.sub(r"\W+", "_", kind)


def call(name: str, *words: str, folder: Path, server: ServerProcess | RunningEngine) -> None:
    """Run one script, which must succeed."""
    env = {"DOUBLEWORD_BASE_URL": server.base_url, "DOUBLEWORD_API_KEY": server.key}
    ran = call_door(name, *words, cwd=folder, env=env, stdin=json.dumps(PEOPLE))
    assert ran.code == 0, ran.json


def begin(kind: str, folder: Path, server: ServerProcess | RunningEngine) -> None:
    """Make the batch file of `kind`, and submit it."""
    call("create_batch_file", f"{stem(kind)}.jsonl", *shlex.split(KINDS[kind]), folder=folder, server=server)
    call("submit", f"{stem(kind)}.jsonl", folder=folder, server=server)


def end(kind: str, folder: Path, server: ServerProcess | RunningEngine) -> list[dict[str, str]]:
    """Wait for the job of `kind`, and fetch its answers, joined to the table that they were asked of."""
    words, job = shlex.split(KINDS[kind]), f"{stem(kind)}.job.json"
    tables, output = [words[at + 1] for at, word in enumerate(words) if word == "--input"], f"{stem(kind)}.answers.csv"
    call("poll", job, "--wait", "120", folder=folder, server=server)
    joins = [word for table in tables if table != "-" for word in ("--join", table)]
    call("fetch_results", job, "--format", "csv", "--output", output, *joins, folder=folder, server=server)
    delimiter = {"airports_excel.csv": ";", "airports.tsv": "\t"}.get(tables[0], ",")  # as the table came
    with (folder / output).open(encoding="utf-8-sig", newline="") as file:
        found = list(csv.DictReader(file, delimiter=delimiter))
    assert len(found) == 2
    return found


@pytest.fixture(scope="module")
def begun(folder: Path, engine: ServerProcess) -> dict[str, str]:
    """Why a kind could not be begun, for those that could not; all of them run together, so that nobody waits long."""
    failed: dict[str, str] = {}
    for kind in KINDS:
        if kind not in WITH_IMAGES:
            try:
                begin(kind, folder, engine)
            except AssertionError as error:
                failed[kind] = str(error)
    # A file that comes later shifts no answer: the rows of a folder are known by their paths.
    (folder / "notes" / "1 later.txt").write_text("Not asked")
    return failed


def test_the_table_has_every_kind() -> None:
    """A table that is not read would test nothing."""
    assert len(KINDS) == 33
    assert len(WITH_IMAGES) == 2
    flags = {word for words in KINDS.values() for word in shlex.split(words) if word.startswith("--")}
    assert flags >= {
        "--image",
        "--examples",
        "--tools",
        "--response-schema",
        "--default",
        "--repair-ids",
        "--sheet",
        "--system-file",
        "--where",
    }


FIRST_CELL = {
    "TSV": ("iata", "00M"),
    "CSV with semicolons, UTF-16": ("city", "Bay Springs"),
    "JSON array, defaults": ("Name", "chevrolet chevelle malibu"),
    "Parquet, nested": ("tags", '["numbers","engines"]'),
    "Excel workbook, one of its sheets": ("city", "Bay Springs"),
    "OpenDocument": ("latitude", "31.95376472"),
    "Excel's old workbook": ("longitude", "-89.23450472"),
    "several files": ("city", "Bay Springs"),
    "glob of Parquet parts": ("iata", "00M"),
    "folder of parts, a partition column": ("state", "MS"),
    "packed by gzip": ("city", "Bay Springs"),
    "packed by zstd, JSON lines": ("tags", '["numbers","engines"]'),
    "a query": ("city", "Bay Springs"),
    "some rows": ("state", "MS"),
    "a header below titles": ("city", "Bay Springs"),
    "text, a row a line": ("text", "Once upon a time"),
    "folder of texts, a row a file": ("text", "It was a dark night"),
    "conversations in CSV, responses": ("n", "1"),
    "request lines": ("result_custom_id", "x"),
}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in WITH_IMAGES])
def test_rows_become_answers(kind: str, folder: Path, engine: ServerProcess, begun: dict[str, str]) -> None:
    """An answer of a real model for each row, beside the row's own columns, in their order."""
    assert kind not in begun, begun[kind]
    found = end(kind, folder, engine)
    column, value = FIRST_CELL.get(kind, ("", ""))
    if column:
        assert found[0][column] == value
    elif "airports.csv" in KINDS[kind]:
        assert [row["name"] for row in found] == ["Thigpen", "Livingston Municipal"]
    for row in found:
        status = row.get("status") or row["result_status"]
        assert status == "succeeded"
        if kind == "embeddings":
            assert len(json.loads(row["embedding"])) == 384
        elif "structured" in kind:
            assert not list(Draft202012Validator(PLACE).iter_errors(json.loads(row["answer"])))
        else:
            assert row["answer"].strip()


def cells(path: Path) -> list[list[Any]]:
    """Header and rows of a table, by readers that are not ours."""
    if path.suffix == ".xlsx":
        return CalamineWorkbook.from_path(str(path)).get_sheet_by_index(0).to_python()
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        return [table.column_names, *([row[name] for name in table.column_names] for row in table.to_pylist())]
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


@pytest.mark.parametrize("output", OUTPUTS)
def test_answers_become_every_output(output: str, folder: Path, engine: ServerProcess, begun: dict[str, str]) -> None:
    """Of chats, or of embeddings where the line says so; two rows each, in the order of the table."""
    assert not {"CSV", "embeddings"} & begun.keys() and len(OUTPUTS) == 6
    job = f"{stem('embeddings' if 'embeddings' in output else 'CSV')}.job.json"
    call("poll", job, "--wait", "120", folder=folder, server=engine)
    words = shlex.split(OUTPUTS[output])
    call("fetch_results", job, *words, folder=folder, server=engine)
    path = folder / words[words.index("--output") + 1]
    if path.suffix == ".npy":
        assert numpy.load(path).shape == (2, 384)
        assert path.with_suffix(".ids.txt").read_text().split() == ["row-0000001", "row-0000002"]
    elif path.suffix == ".jsonl":
        ids = [json.loads(line)["custom_id"] for line in path.read_text().splitlines()]
        assert ids == ["row-0000001", "row-0000002"]
    else:
        header, *rows = cells(path)
        places = [dict(zip(header, row, strict=True)) for row in rows]
        assert [row["place" if "--columns" in words else "city"] for row in places] == ["Bay Springs", "Livingston"]
        assert header == ["place", "country"] if "--columns" in words else header[:3] == ["iata", "name", "city"]
        if path.suffix == ".parquet":
            assert [len(row["embedding"]) for row in places] == [384, 384]


@pytest.mark.parametrize("kind", WITH_IMAGES)
def test_images_reach_the_model(kind: str, folder: Path, seeing: RunningEngine) -> None:
    """Beside the prompt, with the type that their bytes have; also from responses, which becomes a chat on the way."""
    seeing.upstream.forget()
    begin(kind, folder, seeing)
    assert all(row["answer"] for row in end(kind, folder, seeing))
    shown = [asked["messages"][-1]["content"] for asked in seeing.upstream.calls]
    assert {parts[0]["text"] for parts in shown} <= {"What is this?", "What is a?", "What is b?"}
    urls = sorted(parts[1]["image_url"]["url"] for parts in shown)
    assert [url[: url.index(",")] for url in urls] == ["data:image/jpeg;base64", "data:image/png;base64"]
