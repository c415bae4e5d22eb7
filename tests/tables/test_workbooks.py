"""Workbooks as tables: Excel new and old, OpenDocument; known by what they hold."""

from __future__ import annotations

import datetime
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import xlsxwriter
from tests.tables.asking import Content, ask, refusal
from tests.tables.old_workbooks import compound_file, ods, xls

DAY = datetime.datetime(2023, 11, 14)
Rows = list[list[Any]]
ROWS: Rows = [["id", "text"], [1, "a"], [2, "b"]]


def workbook(*sheets: tuple[str, Rows], change: Callable[[Any], object] | None = None) -> Content:
    """What writes sheets by name; `change` may add to the workbook before it is written."""

    def write(path: Path) -> None:
        with xlsxwriter.Workbook(str(path), {"default_date_format": "yyyy-mm-dd hh:mm:ss"}) as book:
            for name, rows in sheets:
                sheet = book.add_worksheet(name)
                for at, row in enumerate(rows):
                    sheet.write_row(at, 0, row)
            if change is not None:
                change(book)

    return write


def one(rows: Rows) -> Content:
    return workbook(("Data", rows))


@pytest.mark.parametrize("name", ["t.xlsx", "t.csv", "t", "t.xls", "t.txt"])
def test_a_workbook_is_known_by_what_it_holds(tmp_path: Path, name: str) -> None:
    """Not by its ending, and also on standard input."""
    assert ask(tmp_path, {name: one(ROWS)}).prompts == ["a", "b"]
    assert ask(tmp_path, {}, "--input", name, "--input-format", "ods").prompts == ["a", "b"]
    given = (tmp_path / name).read_bytes()
    assert ask(tmp_path, {}, "--input", "-", stdin=given).prompts == ["a", "b"]


def test_cells_are_the_text_that_people_write(tmp_path: Path) -> None:
    """Whole numbers without .0, dates in ISO form, times and durations, truth values, what formulas came to."""
    cells: list[Any] = [
        2.0, 3.5, -0.25, 12345678901234.0, 1e15, DAY, DAY.replace(hour=22, minute=13, second=20),
        DAY.replace(microsecond=500000), True, "01067", " x\ny ", "=HYPERLINK(1)",
    ]  # fmt: skip
    shown = [
        "2", "3.5", "-0.25", "12345678901234", "1000000000000000", "2023-11-14", "2023-11-14 22:13:20",
        "2023-11-14 00:00:00.5", "true", "01067", " x\ny ",
    ]  # fmt: skip

    def add(book: Any) -> None:
        sheet = book.worksheets()[0]
        layouts = [(datetime.time(9, 5), "hh:mm:ss"), (1.25, "[h]:mm:ss"), (19.99, "0 €"), (65.25 / 86400, "[m]:ss.00")]
        for at, (value, layout) in enumerate(layouts):
            sheet.write(len(cells) + at, 0, value, book.add_format({"num_format": layout}))
        sheet.write_formula(len(cells), 1, "=A2*2", None, 4)
        sheet.write_formula(len(cells) + 4, 0, '="x"&"y"', None, "xy")

    rows = [["v"], *([cell] for cell in cells[:-1])]
    found = ask(tmp_path, {"t.xlsx": workbook(("Data", rows), change=add)}, prompt="{v}")
    assert found.prompts == [*shown, "09:05:00", "30:00:00", "19.99", "00:01:05.25", "xy"]


def test_a_formula_that_failed_is_an_empty_cell(tmp_path: Path) -> None:
    """Its row is named."""

    def add(book: Any) -> None:
        book.worksheets()[0].write_formula(2, 1, "=1/0", None, "#DIV/0!")

    table = {"t.xlsx": workbook(("Data", [*ROWS[:2], [2, None]]), change=add)}
    assert refusal(tmp_path, table).startswith("empty_value: row 2: the column text is empty")


def test_of_several_sheets_the_first_is_read_and_the_others_are_named(tmp_path: Path) -> None:
    """The first that people see and that holds cells; --sheet names another."""

    def change(book: Any) -> None:
        book.worksheets()[0].hide()
        book.worksheets()[1].activate()
        book.worksheets()[1].set_first_sheet()
        chart = book.add_chart({"type": "bar"})
        chart.add_series({"values": "=Data!$A$2:$A$3"})
        book.add_chartsheet("Chart").set_chart(chart)

    sheets: list[tuple[str, Rows]] = [
        ("Lists", [["x"], ["no"]]),
        ("Data", ROWS),
        ("Größe 2", [["text"], ["c"]]),
        ("Empty", []),
    ]
    table = {"t.xlsx": workbook(*sheets, change=change)}
    found = ask(tmp_path, table)
    assert found.prompts == ["a", "b"]
    assert found.warnings == ["t.xlsx: the sheet Data is read; --sheet names another: Lists, Größe 2, Empty"]
    found = ask(tmp_path, table, "--sheet", "Größe 2")
    assert (found.prompts, found.warnings) == (["c"], [])
    assert "has no sheet Other; it has: Lists, Data, Größe 2, Empty" in refusal(tmp_path, table, "--sheet", "Other")
    assert refusal(tmp_path, table, "--sheet", "Empty").startswith("no_rows: the sheet Empty of t.xlsx is empty")


@pytest.mark.parametrize(
    ("rows", "texts", "line"),
    [
        ([[], ["id", "text"], [1, "a"]], ["a"], 0),
        ([[None, "Report"], [], [None, "id", "text"], [None, 1, "a"], [], [None, 2, "b"]], ["a", "b"], 3),
        ([["Report"], ["of 2024"], ["id", "text"], [1, "a"]], ["a"], 3),
        ([["Region:", "EMEA"], ["Date:", 2024], [], ["id", "text", "price"], [1, "a", 3]], ["a"], 4),
        ([["text"], ["a"], ["b", "note"], ["c"], ["d"]], ["a", "b", "c", "d"], 0),
        ([["text"], ["a"], ["b"]], ["a", "b"], 0),
        ([["id", "text"], [1, "a"], [None, None], ["", ""], [2, "b"]], ["a", "b"], 0),
    ],
)
def test_empty_margins_and_titles_are_no_rows(tmp_path: Path, rows: Rows, texts: list[str], line: int) -> None:
    """Rows and columns in front, and between; titles are said."""
    found = ask(tmp_path, {"t.xlsx": one(rows)})
    assert found.prompts == texts
    assert [f"the header is row {line}" in said for said in found.warnings if "empty row" not in said] == [True] * bool(
        line
    )


def test_the_header_row_counts_rows_of_the_sheet(tmp_path: Path) -> None:
    """From 1; columns without a name are called by their place, and a name is there once."""
    rows: Rows = [["Title", "x"], [], ["text", None, 2023], ["a", "b", "c"]]
    found = ask(tmp_path, {"t.xlsx": one(rows)}, "--header-row", "3", prompt="{text}{column2}{2023}")
    said = "the sheet Data of t.xlsx: the header is row 3, the rows above it are left out: Title; x"
    assert (found.prompts, found.warnings) == (["abc"], [said])
    assert "has only 4 rows" in refusal(tmp_path, {"t.xlsx": one(rows)}, "--header-row", "9")
    assert "the column text twice" in refusal(tmp_path, {"t.xlsx": one([["text", "text"], ["a", "b"]])})


def test_old_and_open_workbooks_are_read(tmp_path: Path) -> None:
    """.xls and .ods, whatever they are called."""
    rows: Rows = [["id", "text", "at"], [1.0, "é", 45244.0], [2.5, "b", 45244.5]]
    for name in ("t.xls", "t.xlsx"):
        found = ask(tmp_path, {name: xls(rows, dates=[2])}, prompt="{id}{text}{at}")
        assert found.prompts == ["1é2023-11-14", "2.5b2023-11-14 12:00:00"]
    cell = '<table:table-cell office:value-type="{0}" office:{1}="{2}"><text:p>{2}</text:p></table:table-cell>'
    header = [cell.format("string", "name", one) for one in ("id", "text", "at")]
    row = [
        cell.format("float", "value", 2),
        cell.format("string", "name", "é"),
        cell.format("date", "date-value", "2023-11-14"),
    ]
    for name in ("t.ods", "t.csv"):
        found = ask(tmp_path, {name: lambda path: ods(path, [header, row])}, prompt="{id}{text}{at}")
        assert found.prompts == ["2é2023-11-14"]


@pytest.mark.parametrize("name", ["t.xlsx", "t.ods", "t.xls"])
def test_workbooks_of_an_office_program_are_read(tmp_path: Path, name: str) -> None:
    """As LibreOffice writes them, where it is installed."""
    office = shutil.which("soffice") or shutil.which("libreoffice")
    if office is None:
        pytest.skip("LibreOffice is not installed")
    (tmp_path / "given.csv").write_text("id,text,day,amount\n1,é,2023-11-14,2.50\n02,b,,1000000\n")
    profile = f"-env:UserInstallation=file://{tmp_path}/profile"
    words = [
        office,
        profile,
        "--headless",
        "--infilter=CSV:44,34,76",
        "--convert-to",
        name[2:],
        "--outdir",
        str(tmp_path),
        "given.csv",
    ]
    subprocess.run(words, cwd=tmp_path, check=True, capture_output=True, timeout=300)
    (tmp_path / f"given{name[1:]}").rename(tmp_path / name)
    found = ask(tmp_path, {}, "--input", name, "--default", "day=never", prompt="{id} {text} {day} {amount}")
    assert found.prompts == ["1 é 2023-11-14 2.5", "2 b never 1000000"]


@pytest.mark.parametrize("content", ["id\ttext\n1\ta\n", "id;text\n1;a\n"])
def test_a_table_that_is_only_called_a_workbook_is_read_as_what_it_is(tmp_path: Path, content: str) -> None:
    """As web applications export them."""
    assert ask(tmp_path, {"t.xls": content}).prompts == ["a"]


def archive(*names: str) -> Content:
    """What writes a ZIP archive that holds files of these names."""

    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as made:
            for name in names:
                made.writestr(name, "x")

    return write


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("t.xlsx", compound_file({"EncryptionInfo": b"x", "EncryptedPackage": b"x"}), "is protected by a password"),
        ("t.xls", compound_file({"WordDocument": b"x"}), "cannot be read as a workbook"),
        ("t.xlsx", b"PK\x03\x04 broken", "cannot be read as a workbook"),
        ("t.xlsx", b"", "is empty"),
        ("t.xlsx", b"plain", "neither its ending nor its beginning"),
        ("t.xlsx", b"\0\1\2", "neither its ending nor its beginning"),
        ("t.xlsx", archive("word/document.xml"), "is a ZIP archive"),
        ("t.csv.zip", archive("t.csv"), "is a ZIP archive"),
        ("t.xls", b"<html><table></table></html>", "is a web page"),
        ("t.xls", b'\xef\xbb\xbf<?xml version="1.0"?><Workbook/>', "is XML"),
    ],
)
def test_what_is_no_workbook_is_named(tmp_path: Path, name: str, content: Content, part: str) -> None:
    """With a way out."""
    assert part in refusal(tmp_path, {name: content})
