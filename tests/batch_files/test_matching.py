"""Which row each answer stands beside: the one that it was asked of, or no table at all."""

from __future__ import annotations

import contextlib
import csv
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import xlsxwriter
from tests.door import call_door

from doubleword.batch_files.record import common_record
from doubleword.failure import Failure
from doubleword.output_file import WholeFile
from doubleword.results.outputs import Source, TableOutput
from doubleword.results.result import Result
from doubleword.results.table_rows import Wanted
from doubleword.service import CHAT
from doubleword.system import Disk

Rows = list[dict[str, Any]]
ROWS: Rows = [
    {"city": "Rome", "text": "x", "note": "é1"},
    {"city": "Oslo", "text": "y", "note": "n2"},
    {"city": "Lima", "text": "z", "note": "n3"},
    {"city": "Bonn", "text": "w", "note": "ü4"},
]
KIEL = {"city": "Kiel", "text": "v", "note": "n5"}
PROMPT = "Country of {city}?"


def save(path: Path, rows: Rows, encoding: str = "utf-8", delimiter: str = ",") -> Path:
    """Write rows in the format that the name tells."""
    kind, names = path.suffix, list(dict.fromkeys(name for row in rows for name in row))
    if kind == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif kind == ".json":
        path.write_text(json.dumps(rows))
    elif kind == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif kind == ".xlsx":
        with xlsxwriter.Workbook(str(path)) as book:
            sheet = book.add_worksheet()
            for number, cells in enumerate([names, *([row.get(name, "") for name in names] for row in rows)]):
                sheet.write_row(number, 0, cells)
    else:
        with path.open("w", newline="", encoding=encoding) as file:
            writer = csv.DictWriter(file, names, delimiter="\t" if kind == ".tsv" else delimiter)
            writer.writeheader()
            writer.writerows(rows)
    return path


def create(folder: Path, source: str | Sequence[str], *flags: str, prompt: str = PROMPT, name: str = "b") -> None:
    """Make the batch file of a table."""
    inputs = [word for one in ([source] if isinstance(source, str) else source) for word in ("--input", one)]
    words = [f"{name}.jsonl", *inputs, "--model", "m", "--prompt", prompt, *flags]
    made = call_door("create_batch_file", *words, cwd=folder)
    assert made.code == 0, made.json


def join(
    folder: Path, *sources: str, template: str | None = None, names: Sequence[str] = ("b",)
) -> tuple[list[dict[str, str]], list[str]]:
    """The table of answers, each of which is the prompt that was asked, joined to `sources`; and what is said of it."""
    files = [folder / f"{name}.jsonl" for name in names]
    source = Source([str(folder / one) for one in sources], common_record(files, Disk()), files)
    with contextlib.ExitStack() as held, WholeFile(folder / "o.csv", Disk(), force=True) as file:
        output = TableOutput(Wanted("csv", id=template), source, {CHAT}, {}, Disk(), folder / "work", held)
        for line in b"".join(path.read_bytes() for path in files).splitlines():
            asked = json.loads(line)
            message = {"content": asked["body"]["messages"][-1]["content"]}
            body = {"choices": [{"message": message, "finish_reason": "stop"}]}
            answered = {"custom_id": asked["custom_id"], "response": {"status_code": 200, "body": body}}
            output.add(Result(asked["custom_id"], "succeeded", json.dumps(answered).encode(), None, CHAT))
        said = output.finish(file)
    with (folder / "o.csv").open(newline="", encoding="utf-8-sig") as file:
        delimiter = next((one for one in "\t;" if one in file.readline()), ",")
        file.seek(0)
        return list(csv.DictReader(file, delimiter=delimiter)), said


def refused(folder: Path, *sources: str, **more: Any) -> Failure:
    """Why a table is not joined: always as a mismatch, and nothing is written."""
    with pytest.raises(Failure) as failure:
        join(folder, *sources, **more)
    assert (failure.value.exit_code, failure.value.code) == (2, "join_mismatch"), failure.value.message
    assert not (folder / "o.csv").exists() and not (folder / "work").exists()
    return failure.value


def right(rows: list[dict[str, str]], prompt: str = PROMPT) -> bool:
    """Whether every row stands beside the answer to what it asks."""
    return all(row["answer"] == prompt.format(**row) for row in rows)


# A table that was changed between create and fetch

JOINED: dict[str, Callable[[Rows], Rows]] = {
    "the same": lambda rows: rows,
    "sorted": lambda rows: sorted(rows, key=lambda row: str(row["city"])),
    "reversed": lambda rows: rows[::-1],
    "cells swapped": lambda rows: [
        {**rows[0], "city": rows[1]["city"]}, {**rows[1], "city": rows[0]["city"]}, *rows[2:]
    ],
    "another column edited": lambda rows: [{**rows[0], "note": "changed"}, *rows[1:]],
    "a column added": lambda rows: [{**row, "more": number} for number, row in enumerate(rows)],
    "a column in front": lambda rows: [{"more": "m", **row} for row in rows],
    "a column removed": lambda rows: [{"city": row["city"], "text": row["text"]} for row in rows],
    "a column renamed": lambda rows: [{"city": row["city"], "letter": row["text"]} for row in rows],
    "an empty row": lambda rows: [*rows, {"city": "", "text": "", "note": ""}],
}  # fmt: skip
REFUSED: dict[str, Callable[[Rows], Rows]] = {
    "cut": lambda rows: rows[:-1],
    "cut above": lambda rows: rows[1:],
    "extended": lambda rows: [*rows, KIEL],
    "extended above": lambda rows: [KIEL, *rows],
    "edited": lambda rows: [{**rows[0], "city": "Paris"}, *rows[1:]],
    "emptied": lambda rows: [{**rows[0], "city": ""}, *rows[1:]],
    "one replaced": lambda rows: [*rows[1:], KIEL],
    "another table": lambda rows: [{**row, "city": f"New {row['city']}"} for row in rows],
    "a row twice": lambda rows: [*rows, rows[0]],
    "all rows twice": lambda rows: [*rows, *rows],
    "the column renamed": lambda rows: [{"town": row["city"], "note": row["note"]} for row in rows],
}
MADE = {
    "default ids": [],
    "ids of a column": ["--id", "{city}"],
    "repaired ids": ["--id", "ü \n{city}", "--repair-ids"],
    "bad rows left out": ["--skip-invalid"],
    "bad rows left out, ids of a column": ["--skip-invalid", "--id", "{city}"],
}
FORMATS = ("csv", "tsv", "json", "jsonl", "parquet", "xlsx")


def source_of(made: str) -> Rows:
    """The rows of a table, in the middle of which is a bad one where such are left out."""
    bad = {"city": "", "text": "bad", "note": "b"}
    return [*ROWS[:2], bad, *ROWS[2:]] if "bad rows" in made else ROWS


@pytest.mark.parametrize("made", MADE)
@pytest.mark.parametrize("change", JOINED)
def test_a_changed_table_is_joined_by_what_was_asked(tmp_path: Path, made: str, change: str) -> None:
    """Each row its own answer, in the order of the requests, with the table's columns as they are now."""
    before = source_of(made)
    save(tmp_path / "t.csv", before)
    create(tmp_path, "t.csv", *MADE[made])
    after = JOINED[change](before)
    save(tmp_path / "t.csv", after)
    rows, said = join(tmp_path, "t.csv")
    assert right(rows) and sorted(row["city"] for row in rows) == sorted(row["city"] for row in ROWS)
    assert [row["answer"] for row in rows] == [PROMPT.format(**row) for row in ROWS]
    assert set(after[0]) <= set(rows[0])
    for row in rows:
        assert {name: row[name] for name in after[0]} in [{name: str(one[name]) for name in one} for one in after]
    told = "bad rows" in made and change != "the same"
    assert [("give no request: 1" in one and "city is empty" in one) for one in said] == ([True] if told else [])


@pytest.mark.parametrize("made", MADE)
@pytest.mark.parametrize("change", REFUSED)
def test_a_table_of_other_rows_is_refused(tmp_path: Path, made: str, change: str) -> None:
    """In words that name a row or a request; no row stands beside an answer that was not asked of it."""
    save(tmp_path / "t.csv", source_of(made))
    create(tmp_path, "t.csv", *MADE[made])
    save(tmp_path / "t.csv", REFUSED[change](source_of(made)))
    assert " row" in refused(tmp_path, "t.csv").message


@pytest.mark.parametrize("after", FORMATS)
@pytest.mark.parametrize("before", FORMATS)
def test_a_table_saved_in_another_format_is_the_same_table(tmp_path: Path, before: str, after: str) -> None:
    """Sorted or not; an edited one is refused in every format."""
    save(tmp_path / f"t.{before}", ROWS)
    create(tmp_path, f"t.{before}")
    for number, rows in enumerate((ROWS, ROWS[::-1])):
        found, _ = join(tmp_path, save(tmp_path / f"n{number}.{after}", rows).name)
        assert len(found) == 4 and right(found)
    (tmp_path / "o.csv").unlink()
    refused(tmp_path, save(tmp_path / f"e.{after}", REFUSED["edited"](ROWS)).name)


@pytest.mark.parametrize("after", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("before", ["cp1252", "utf-8", "utf-16-le"])
def test_a_table_saved_in_another_encoding_is_read_right_or_refused(tmp_path: Path, before: str, after: str) -> None:
    """Also its other cells: a letter is never changed on the way into the output."""
    save(tmp_path / "t.csv", ROWS, before)
    create(tmp_path, "t.csv", "--encoding", before)
    save(tmp_path / "t.csv", [{**row, "more": "ß"} for row in ROWS], after)
    if after == "cp1252" and before != "cp1252":
        with pytest.raises(Failure) as failure:
            join(tmp_path, "t.csv")
        assert failure.value.code in ("join_mismatch", "bad_table")
        return
    found, _ = join(tmp_path, "t.csv")
    assert right(found) and [(row["note"], row["more"]) for row in found] == [(row["note"], "ß") for row in ROWS]


def test_a_table_with_another_delimiter_is_read_right_or_refused(tmp_path: Path) -> None:
    """As a spreadsheet of another country saves it."""
    create(tmp_path, save(tmp_path / "t.csv", ROWS).name)
    save(tmp_path / "t.csv", ROWS[::-1], delimiter=";")
    assert right(join(tmp_path, "t.csv")[0])


def test_the_same_bytes_read_another_way_are_another_table(tmp_path: Path) -> None:
    """A CSV file under the name of a text file has a row for each line, of which the header is the first."""
    rows = [{"city": row["city"], "note": row["note"]} for row in ROWS]
    create(tmp_path, save(tmp_path / "t.csv", rows).name)
    shutil.copy(tmp_path / "t.csv", tmp_path / "t.txt")
    refused(tmp_path, "t.txt")
    shutil.copy(tmp_path / "t.csv", tmp_path / "t.tsv")
    assert right(join(tmp_path, "t.tsv")[0])


@pytest.mark.parametrize("ids", [[], ["--id", "{city}"]])
def test_rows_below_a_limit_may_change(tmp_path: Path, ids: list[str]) -> None:
    """What was asked is found wherever it stands, and the rows that nobody asked are told; else it is refused."""
    save(tmp_path / "t.csv", ROWS)
    create(tmp_path, "t.csv", "--limit", "2", *ids)
    assert join(tmp_path, "t.csv")[1] == []
    for rows, left in ((ROWS[::-1], 2), ([KIEL, *ROWS], 3), (ROWS[:2], 0)):
        save(tmp_path / "t.csv", rows)
        found, said = join(tmp_path, "t.csv")
        assert right(found) and [row["city"] for row in found] == ["Rome", "Oslo"]
        assert [f"not asked: {left}, such as row" in one for one in said] == [True] * bool(left)
    (tmp_path / "o.csv").unlink()
    save(tmp_path / "t.csv", ROWS[1:])
    assert "row-0000001" in refused(tmp_path, "t.csv").message or ids


def test_a_condition_on_rows_holds_when_they_are_joined(tmp_path: Path) -> None:
    """Rows that it leaves out are not missing, and nor are their numbers; where it cannot be told any more, refused."""
    save(tmp_path / "t.csv", ROWS)
    create(tmp_path, "t.csv", "--where", "city <> 'Oslo'")
    for rows in (ROWS, ROWS[::-1]):
        save(tmp_path / "t.csv", rows)
        found, _ = join(tmp_path, "t.csv")
        assert right(found) and [row["city"] for row in found] == ["Rome", "Lima", "Bonn"]
    (tmp_path / "o.csv").unlink()
    save(tmp_path / "t.csv", [{"town": row["city"]} for row in ROWS])
    refused(tmp_path, "t.csv")


@pytest.mark.parametrize("ids", [[], ["--id", "{city}"]])
@pytest.mark.parametrize("blanks", [(0,), (2,), (4,), (1, 3), (0, 4)])
def test_empty_rows_shift_no_answer(tmp_path: Path, ids: list[str], blanks: tuple[int, ...]) -> None:
    """Wherever they stand, when the batch file is made and when the table is joined."""
    rows = list(ROWS)
    for place in blanks:
        rows.insert(place, {"city": "", "text": " ", "note": ""})
    save(tmp_path / "t.csv", rows)
    create(tmp_path, "t.csv", *ids)
    for after in (rows, ROWS, rows[::-1]):
        save(tmp_path / "t.csv", after)
        found, said = join(tmp_path, "t.csv")
        assert (len(found), right(found), said) == (4, True, [])


def test_rows_that_ask_the_same_keep_their_places(tmp_path: Path) -> None:
    """Their answers may differ, and stand in the order in which they were asked; by a key, each with its own."""
    rows = [{"id": at, "city": city} for at, city in enumerate(["Rome", "Oslo", "Rome", "Rome"])]
    save(tmp_path / "t.csv", rows)
    create(tmp_path, "t.csv")
    create(tmp_path, "t.csv", "--id", "{id}", name="k")
    save(tmp_path / "t.csv", [rows[3], rows[1], rows[0], rows[2]])
    found, _ = join(tmp_path, "t.csv")
    assert right(found) and [row["custom_id"] for row in found] == [f"row-000000{at}" for at in range(1, 5)]
    found, _ = join(tmp_path, "t.csv", names=["k"])
    assert right(found) and all(row["id"] == row["custom_id"] for row in found)


def test_of_rows_with_one_id_the_one_that_was_asked_gets_the_answer(tmp_path: Path) -> None:
    """Where repeated ids are left out, and where the first of them is a bad row."""
    rows = [
        {"id": "a", "city": ""},
        {"id": "a", "city": "Rome"},
        {"id": "a", "city": "Oslo"},
        {"id": "b", "city": "Bonn"},
    ]
    save(tmp_path / "t.csv", rows)
    create(tmp_path, "t.csv", "--id", "{id}", "--skip-invalid", "--repair-ids")
    found, _ = join(tmp_path, "t.csv")
    assert [(row["id"], row["city"]) for row in found] == [("a", "Rome"), ("b", "Bonn")] and right(found)


# Several files, folders, queries


def test_parts_are_joined_in_whatever_order_they_are_named(tmp_path: Path) -> None:
    """Several files, a glob and a folder stand for the same rows."""
    (tmp_path / "parts").mkdir()
    for number, rows in enumerate((ROWS[:1], ROWS[1:3], ROWS[3:])):
        save(tmp_path / "parts" / f"p{number}.csv", rows)
    names = [f"parts/p{number}.csv" for number in range(3)]
    create(tmp_path, names)
    for sources in (names, names[::-1], ["parts/*.csv"], ["parts"]):
        found, _ = join(tmp_path, *sources)
        assert right(found) and [row["city"] for row in found] == [row["city"] for row in ROWS]
    (tmp_path / "o.csv").unlink()
    refused(tmp_path, *names[:2])
    refused(tmp_path, *names, save(tmp_path / "p3.csv", [KIEL]).name)
    (tmp_path / "parts" / "p1.csv").write_text("city,text,note\nPisa,y,n2\nLima,z,n3\n")
    refused(tmp_path, "parts")


def test_the_folders_of_parts_are_part_of_their_rows(tmp_path: Path) -> None:
    """The same bytes in another folder ask something else."""
    for language in ("de", "fr"):
        (tmp_path / "t" / f"lang={language}").mkdir(parents=True)
        save(tmp_path / "t" / f"lang={language}" / "part.parquet", [{"text": f"to {language}"}])
    prompt = "{text} in {lang}"
    create(tmp_path, "t", prompt=prompt)
    found, _ = join(tmp_path, "t")
    assert right(found, prompt) and [row["lang"] for row in found] == ["de", "fr"]
    (tmp_path / "o.csv").unlink()
    (tmp_path / "t" / "lang=fr").rename(tmp_path / "t" / "lang=it")
    refused(tmp_path, "t")


def test_the_result_of_a_query_is_looked_at_anew(tmp_path: Path) -> None:
    """The query may be the same and what it reads another."""
    save(tmp_path / "data.csv", ROWS)
    (tmp_path / "q.sql").write_text(f"SELECT * FROM '{tmp_path}/data.csv'")
    create(tmp_path, "q.sql")
    save(tmp_path / "data.csv", ROWS[::-1])
    assert right(join(tmp_path, "q.sql")[0])
    (tmp_path / "o.csv").unlink()
    save(tmp_path / "data.csv", REFUSED["edited"](ROWS))
    refused(tmp_path, "q.sql")


def test_files_of_a_folder_are_known_by_their_paths(tmp_path: Path) -> None:
    """One that comes later shifts no answer, and is told; one that was edited, renamed or lost is refused."""
    folder = tmp_path / "notes"
    folder.mkdir()
    for name in ("b.txt", "d.txt"):
        (folder / name).write_text(f"I am {name}.")
    create(tmp_path, "notes", prompt="Who? {text}")
    (folder / "a.txt").write_text("I am new.")
    found, said = join(tmp_path, "notes")
    assert right(found, "Who? {text}") and [row["path"] for row in found] == ["b.txt", "d.txt"]
    assert len(said) == 1 and "not asked: 1, such as row 1" in said[0]
    (tmp_path / "o.csv").unlink()
    (folder / "b.txt").rename(folder / "c.txt")
    refused(tmp_path, "notes")
    (folder / "c.txt").rename(folder / "b.txt")
    (folder / "b.txt").write_text("I am another.")
    refused(tmp_path, "notes")


# Batch files that are not as they were made


def test_a_batch_file_in_another_order_is_joined_all_the_same(tmp_path: Path) -> None:
    """Lines that were sorted or left out by hand: each answer by its id, the rows in the order of the lines."""
    create(tmp_path, save(tmp_path / "t.csv", ROWS).name)
    lines = (tmp_path / "b.jsonl").read_text().splitlines(keepends=True)
    for kept in (lines[::-1], [lines[2], lines[0], lines[1], lines[3]], lines[1:], lines[:2]):
        (tmp_path / "b.jsonl").write_text("".join(kept))
        found, _ = join(tmp_path, "t.csv")
        assert right(found) and [row["custom_id"] for row in found] == [json.loads(one)["custom_id"] for one in kept]


def test_batch_files_of_two_tables_have_no_table_in_common(tmp_path: Path) -> None:
    """The numbers of rows of the one would be taken for those of the other; ids that the user names are enough."""
    create(tmp_path, save(tmp_path / "t.csv", ROWS).name, "--limit", "2")
    other = [{**row, "city": f"New {row['city']}"} for row in ROWS]
    create(tmp_path, save(tmp_path / "u.csv", other).name, "--where", "text in ('z', 'w')", name="c")
    refused(tmp_path, "t.csv", names=["b", "c"])
    create(tmp_path, "t.csv", "--id", "{city}", name="d")
    create(tmp_path, "u.csv", "--id", "{city}", name="e")
    found, _ = join(tmp_path, "t.csv", "u.csv", names=["d", "e"], template="{city}")
    assert right(found) and len(found) == 8


def test_without_a_record_ids_have_to_say_it(tmp_path: Path) -> None:
    """As they are or repaired; rows that nobody asked are told, an id of two rows is refused."""
    save(tmp_path / "t.csv", ROWS)
    create(tmp_path, "t.csv", "--id", "ü \n{city}", "--repair-ids")
    (tmp_path / "b.source.json").unlink()
    assert "--id" in refused(tmp_path, "t.csv").hint
    assert right(join(tmp_path, "t.csv", template="ü \n{city}")[0])
    save(tmp_path / "t.csv", [KIEL, *ROWS[::-1], {"city": "", "text": "", "note": "no id"}])
    found, said = join(tmp_path, "t.csv", template="ü \n{city}")
    assert right(found) and "not asked: 1, such as row 1" in " ".join(said)
    assert "have no id: 1, such as row 6: " in " ".join(said)
    (tmp_path / "o.csv").unlink()
    save(tmp_path / "t.csv", [*ROWS, ROWS[0]])
    assert "more than one row" in refused(tmp_path, "t.csv", template="ü \n{city}").message
    save(tmp_path / "t.csv", ROWS[1:])
    refused(tmp_path, "t.csv", template="ü \n{city}")


def test_a_column_that_is_not_there_is_named_with_a_step_that_can_be_taken(tmp_path: Path) -> None:
    """A join has no --default, and leaves no row out by --skip-invalid."""
    create(tmp_path, save(tmp_path / "t.csv", ROWS).name, "--id", "{city}")
    (tmp_path / "b.source.json").unlink()
    with pytest.raises(Failure) as failure:
        join(tmp_path, "t.csv", template="{town}")
    assert "only: city, text, note" in failure.value.message
    assert failure.value.hint.startswith("name one of these columns in --id; or save the table")


def test_a_wrong_template_is_named(tmp_path: Path) -> None:
    """An --id that gives other ids than the requests have is not called a changed table alone."""
    create(tmp_path, save(tmp_path / "t.csv", ROWS).name)
    assert "--id {city} gives other ids" in refused(tmp_path, "t.csv", template="{city}").message
    create(tmp_path, "t.csv", "--id", "{city}", name="k")
    assert right(join(tmp_path, "t.csv", names=["k"], template="{ city }")[0])


def test_where_the_batch_file_is_gone_only_the_same_table_is_joined(tmp_path: Path) -> None:
    """What a changed one asked cannot be told any more."""
    create(tmp_path, save(tmp_path / "t.csv", ROWS).name)
    record, disk = common_record([tmp_path / "b.jsonl"], Disk()), Disk()
    for name, rows in (("t.csv", ROWS), ("n.csv", ROWS[::-1])):
        source = Source([str(save(tmp_path / name, rows))], record, [None])
        told = Wanted("csv"), source, {CHAT}, dict[str, str](), disk, tmp_path / "work"
        if rows is ROWS:
            with contextlib.ExitStack() as held:
                assert TableOutput(*told, held).warnings == []
            continue
        with pytest.raises(Failure) as failure, contextlib.ExitStack() as held:
            TableOutput(*told, held)
        assert failure.value.code == "join_mismatch" and "gone" in failure.value.message
