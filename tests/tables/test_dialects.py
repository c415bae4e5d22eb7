"""CSV and TSV tables in every dialect: what separates cells, how they are quoted, where the header stands."""

from __future__ import annotations

import csv
import io
import shlex
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.tables.asking import ask, refusal

from doubleword.system import Disk
from doubleword.tables.relation import Settings
from doubleword.tables.sources.source import opened_table

PLAIN = "".join(f"{number}\tplain\n" for number in range(5000))

# Tables that do not quote


@pytest.mark.parametrize("before", ["", PLAIN], ids=["at once", "far below"])
@pytest.mark.parametrize("delimiter", ["\t", "|"])
@pytest.mark.parametrize(
    ("titles", "shown"),
    [
        (['"Rocky story', "ok", 'the end"', "x"], ['"Rocky story', "ok", 'the end"', "x"]),
        (['"Rocky" story', "ok"], ['"Rocky" story', "ok"]),
        (['"', "ok", '"', "x"], ['"', "ok", '"', "x"]),
        (['5" disk', 'say "hi" now', '"Undercover"', '"A" gai waak'], None),
    ],
)
def test_literal_quotes_are_part_of_the_texts(
    tmp_path: Path, before: str, delimiter: str, titles: list[str], shown: list[str] | None
) -> None:
    """Public dumps with tabs or bars do not quote: no row is swallowed, and none refused, wherever the quotes stand."""
    table = "id\ttitle\n" + before + "".join(f"{number}\t{title}\n" for number, title in enumerate(titles, 9000))
    found = ask(tmp_path, {"t.tsv": table.replace("\t", delimiter)}, prompt="{title}")
    assert found.prompts == ["plain"] * before.count("\n") + (shown or titles)
    assert [one for one in found.warnings if "--dedupe" not in one] == []


@pytest.mark.parametrize("before", ["", PLAIN], ids=["at once", "far below"])
@pytest.mark.parametrize(
    ("rows", "titles"),
    [
        ('1\t"a\tb"\n2\tc\n', ["a\tb", "c"]),
        ('1\t"Rocky\nstory"\n2\t"a ""b"""\n', ["Rocky\nstory", 'a "b"']),
        ('1\t"a\n\nb"\r\n2\tc\r\n', ["a\n\nb", "c"]),
        ('1\t"Rocky"\n2\tok\n', ["Rocky", "ok"]),
    ],
)
def test_a_tsv_that_quotes_is_read_so(tmp_path: Path, before: str, rows: str, titles: list[str]) -> None:
    """Tabs, line ends and doubled quotes in quoted cells."""
    found = ask(tmp_path, {"t.tsv": "id\ttitle\n" + before + rows}, prompt="{title}")
    assert found.prompts == ["plain"] * before.count("\n") + titles


def test_a_tsv_that_quotes_every_cell_is_read_so(tmp_path: Path) -> None:
    """Also where a cell of several lines looks like rows."""
    found = ask(tmp_path, {"t.tsv": '"id"\t"title"\n"1"\t"a\n2\tb"\n"3"\t"c"\n'}, prompt="{title}")
    assert found.prompts == ["a\n2\tb", "c"]


def test_lines_that_quotes_make_one_row_are_told(tmp_path: Path) -> None:
    """Where each would be a row by itself; the flag that takes the quotes for text is named, and does."""
    table = {"t.csv": 'id,text\n1,"a\n2,b"\n3,"c, d"\n'}
    found = ask(tmp_path, table)
    assert found.prompts == ["a\n2,b", "c, d"]
    assert "1 rows hold line ends in quotes" in found.warnings[0] and "--quote none" in found.warnings[0]
    found = ask(tmp_path, {"t.csv": 'id,text\n1,"a\n2,b"\n'}, "--quote", "none")
    assert found.prompts == ['"a', 'b"']


# A badly quoted cell costs its own row at most


@pytest.mark.parametrize(
    ("rows", "texts"),
    [
        ('1,"he said \\"hi\\""\n2,plain\n', ['he said "hi"', "plain"]),
        ('1,"he said \\"hi\\", ok"\n2,C:\\dir\\\n', ['he said "hi", ok', "C:\\dir\\"]),
        ('1,"he said \\"hi\\""\n2,"a\nb"\n3,"x ""y"""\n', ['he said "hi"', "a\nb", 'x "y"']),
        ('1,"C:\\"\n2,"x, y"\n', ["C:\\", "x, y"]),
        ("1,'ok, yes'\n2,'no'\n3,it's\n", ["ok, yes", "no", "it's"]),
        ('1, "ok, yes"\n2, "no"\n', ["ok, yes", "no"]),
        ('1,5" disk\n2,say "hi" now\n3,"a, b"\n', ['5" disk', 'say "hi" now', "a, b"]),
        ('1,"he said "hi""\n2,plain\n', ['"he said "hi""', "plain"]),
        ('1,"open\n2,plain\n3,x\n', ['"open', "plain", "x"]),
    ],
)
def test_quotes_are_found_however_they_are_written(tmp_path: Path, rows: str, texts: list[str]) -> None:
    """Doubled, with backslashes, single, after a blank, or none at all; other backslashes stay."""
    assert ask(tmp_path, {"t.csv": "id,text\n" + rows}).prompts == texts


@pytest.mark.parametrize("bad", ['"open', '"ok"x', '"he said "hi" there"', "b,c", ""])
def test_a_bad_row_takes_no_other_with_it(tmp_path: Path, bad: str) -> None:
    """It is refused by its number; left out, the others keep their numbers, those of several lines too."""
    table = {"t.csv": f'id,text\n1,"x, y" \n2{"," if bad else ""}{bad}\n3,plain\n4,"a\n\nb"\n5,"z"\n\x1a'}
    assert refusal(tmp_path, table).startswith("bad_row: row 2: ")
    found = ask(tmp_path, table, "--skip-invalid")
    assert found.prompts == ["x, y", "plain", "a\n\nb", "z"]
    assert found.ids == ["row-0000001", "row-0000003", "row-0000004", "row-0000005"]
    assert found.warnings[0] == "skipped 1 of 5 rows" and found.warnings[1].startswith("row 2: ")


def test_rows_have_the_same_numbers_beside_a_bad_one(tmp_path: Path) -> None:
    """Blank lines are rows of a single column, and of several none."""
    for table, ids in (('text\n"a"\n\nb\n', "13"), ('id,text\n1,"a"\n\n2,b\n,\n3,c\n', "124")):
        for bad in ("", '"x"y\n'):
            found = ask(tmp_path, {"t.csv": table + bad}, "--skip-invalid")
            assert found.ids == [f"row-000000{one}" for one in ids]


def test_what_is_wrong_with_a_row_names_the_flags(tmp_path: Path) -> None:
    """How many cells there are, by which delimiter, in which line a quote is open."""
    said = refusal(tmp_path, {"t.csv": "id;text\n1;a\n2;b;c\n"})
    assert "row 2: has 3 cells, and the header 2; ; separates them, or see --delimiter, --quote and --header" in said
    said = refusal(tmp_path, {"t.csv": 'id,text\n1,"a, b"\n2,"c\n'})
    assert "row 2: a quote in line 3 is not closed" in said and "--quote" in said


def test_empty_cells_to_the_right_are_no_cells(tmp_path: Path) -> None:
    """As spreadsheets leave them, in the rows or in the header."""
    assert ask(tmp_path, {"t.csv": "id,text\n1,a,,\n2,b\n3,c,\n"}).prompts == ["a", "b", "c"]
    assert ask(tmp_path, {"t.csv": "id,text,\n1,a\n2,b\n"}).prompts == ["a", "b"]


# What separates cells


@pytest.mark.parametrize("delimiter", [";", ",", "|", "\t", ":", "~", "^"])
@pytest.mark.parametrize("line", ["sep={}\n", "SEP={}\r\n", '"sep={}"\n', "\ufeffsep={}\n"])
def test_the_first_line_of_excel_names_the_delimiter(tmp_path: Path, line: str, delimiter: str) -> None:
    """And is no header; with whatever it names."""
    found = ask(tmp_path, {"t.csv": line.format(delimiter) + f"id{delimiter}text\n1{delimiter}hello\n"})
    assert (found.prompts, found.warnings) == (["hello"], [])


@pytest.mark.parametrize(
    ("table", "prompt", "texts"),
    [
        (
            "id;Text (short, in German);Price\n1;Holz, gut;3,50\n2;Stahl;4,00\n",
            "{Text (short, in German)}/{Price}",
            ["Holz, gut/3,50", "Stahl/4,00"],
        ),
        ("id|text\n1|hello, world\n2|bye\n", "{text}", ["hello, world", "bye"]),
        ("id\ttext\n1\thello, world\n2\tbye\n", "{text}", ["hello, world", "bye"]),
        ("id,text\n1,hello; world; again\n2,bye; x; y\n", "{text}", ["hello; world; again", "bye; x; y"]),
        ("id;text\n1;hello, world\n2;bye, you\n", "{text}", ["hello, world", "bye, you"]),
        ("id;price,eur;text\n1;3,50;hello\n2;4,00;bye\n", "{text}/{price,eur}", ["hello/3,50", "bye/4,00"]),
        ('name;note\n"Meyer, Jan";"x, y"\n"Li";"z"\n', "{name}/{note}", ["Meyer, Jan/x, y", "Li/z"]),
        ("a;b\n1,5;2\n", "{a}/{b}", ["1,5/2"]),
        ('\r\n"a,x";b\r\n1;"2;3"\r\n', "{a,x}/{b}", ["1/2;3"]),
        ('"a\n,";b\n1;2\n', "{a\n,}/{b}", ["1/2"]),
        ("a,b;c\n1,2;3\n", "{a}/{b;c}", ["1/2;3"]),
        ('"a;b"\n1\n', "{a;b}", ["1"]),
        ("a\n1;2\n", "{a}", ["1;2"]),
        ("text\nhello, world\nbye\n", "{text}", ["hello, world", "bye"]),
        ("text\nhello, world\nbye, you\n", "{text}", ["hello, world", "bye, you"]),
        ("id\x01text\n1\x01a, b\n2\x01c\n", "{text}", ["a, b", "c"]),
        ("region,2023,2024\nx,1,2\n", "{2023}/{2024}", ["1/2"]),
    ],
)
def test_delimiters_are_found_by_all_lines(tmp_path: Path, table: str, prompt: str, texts: list[str]) -> None:
    """Not by the first comma; what is in quotes does not count, and a table may have one column."""
    found = ask(tmp_path, {"t.csv": table}, prompt=prompt)
    assert (found.prompts, found.warnings) == (texts, [])


def test_what_is_not_found_can_be_told(tmp_path: Path) -> None:
    """The delimiter and the quote, by flags; a file that is named .tsv may have semicolons."""
    assert ask(tmp_path, {"t.csv": "id:text\n1:a\n"}, "--delimiter", ":").prompts == ["a"]
    assert ask(tmp_path, {"t.csv": "id,text\n1,%a, b%\n"}, "--quote", "%").prompts == ["a, b"]
    assert ask(tmp_path, {"t.tsv": "id;text\n1;a\n2;b\n"}).prompts == ["a", "b"]
    assert "only: id:text" in refusal(tmp_path, {"t.csv": "id:text\n1:a\n"})


# Lines above the header


@pytest.mark.parametrize(
    ("table", "line", "said"),
    [
        ("Sales report,,\nGenerated 2024-01-01,,\nid,text,price\n1,a,3\n", 3, "Sales report; Generated 2024-01-01"),
        ("Sales report\nGenerated 2024-01-01\nid,text,price\n1,a,3\n", 3, "Sales report; Generated 2024-01-01"),
        ("Sales report\n\nid,text,price\n1,a,3\n", 3, "Sales report"),
        ("Sales report, 2024\n\nid,text,price\n1,a,3\n2,b,3\n", 3, "Sales report, 2024"),
        ("Sales report;;\n\n;;\nid;text;price\n1;a;3,5\n", 4, "Sales report"),
        ('"Sales report, all"\nid,text,price\n1,a,3\n', 2, "Sales report, all"),
        ("# one\n# two\nid,text,price\n1,a,3\n", 3, "# one; # two"),
        ("Region:,EMEA\nDate:,2024\n\nid,text,price\n1,a,3\n", 4, "Region:,EMEA; Date:,2024"),
        ("Report\tx\n\nid\ttext\tprice\n1\ta\t3\n", 3, "Report x"),
    ],
)
def test_titles_above_the_header_are_left_out_and_said(tmp_path: Path, table: str, line: int, said: str) -> None:
    """With delimiters or without, with blank lines between."""
    found = ask(tmp_path, {"t.csv": table}, prompt="{text}/{price}")
    assert found.prompts[0].startswith("a/3")
    (warning,) = found.warnings
    assert f"the header is line {line}, the lines above are left out" in warning and said in warning


@pytest.mark.parametrize("above", ["Report\n", "Report\nof 2024\n", "Report,\n,\n", "Report\n\n"])
def test_titles_stand_above_rows_of_few_cells_too(tmp_path: Path, above: str) -> None:
    """A column that is still to be filled in is a column."""
    found = ask(tmp_path, {"t.csv": f"{above}text,label\nhello,\nbye,\nx,\n"})
    assert found.prompts == ["hello", "bye", "x"] and "the header is line" in found.warnings[0]


@pytest.mark.parametrize(
    ("table", "prompt", "texts"),
    [
        (",,\nid,text,price\n1,a,3\n", "{text}", ["a"]),
        ("\n\nid,text\n1,a\n", "{text}", ["a"]),
        (",text\n0,a\n1,b\n", "{column1}{text}", ["0a", "1b"]),
        ("id,text,,\n1,a,x,y\n", "{text}{column3}{column4}", ["axy"]),
        ("id,text,,\nk,a,x,y\nl,b,z,w\n", "{text}{column3}", ["ax", "bz"]),
        ("id,text,column3,\n1,a,x,y\n", "{column3}{column4}", ["xy"]),
        ("id,,\n1,a,b\n", "{id}{column2}", ["1a"]),
        ("id,text,ID\n1,a,x\n", "{text}{ID}", ["ax"]),
        ("text,\nhello,\nbye,note\nx,\ny,\n", "{text}", ["hello", "bye", "x", "y"]),
    ],
)
def test_blank_lines_and_unnamed_columns_are_no_titles(
    tmp_path: Path, table: str, prompt: str, texts: list[str]
) -> None:
    """Columns without a name are called by their place, unlike any other, each over its own cells."""
    found = ask(tmp_path, {"t.csv": table}, prompt=prompt)
    assert (found.prompts, found.warnings) == (texts, [])


def test_the_header_row_can_be_told(tmp_path: Path) -> None:
    """In lines of the file from 1, also where a quoted title has several; without such a line that is said, and so are
    titles that are left out, but no `sep=`.
    """
    table = {"t.csv": 'Title\n"several\nlines"\ntext,b\nhello,x\nbye,y\n'}
    found = ask(tmp_path, table, "--header-row", "4")
    assert found.prompts == ["hello", "bye"]
    assert found.warnings == ['t.csv: the header is line 4, the lines above are left out: Title; "several; lines"']
    assert ask(tmp_path, {"t.csv": "sep=;\ntext;b\nhello;x\n"}, "--header-row", "2").warnings == []
    assert ask(tmp_path, {"t.csv": "Region:,EMEA,\nid,text,x\n1,a,\n"}, "--header-row", "2").prompts == ["a"]
    assert "has only 2 lines" in refusal(tmp_path, {"t.csv": "text\na\n"}, "--header-row", "9")
    assert "--header-row" in refusal(tmp_path, {"t.csv": "Region:,EMEA,\nid,text,x\n1,a\n"})


@pytest.mark.parametrize(
    "second", ["id,text\n3,c\n", "\ufeffid,text\n3,c\n", "id,text\r\n3,c\r\n", '"id","text"\n3,c\n']
)
def test_a_header_that_stands_again_is_told(tmp_path: Path, second: str) -> None:
    """As `cat a.csv b.csv` leaves it; the step that the warning names leaves it out, and no row without an id."""
    table = {"t.csv": f"id,text\n1,a\n,b\n{second}"}
    (said,) = ask(tmp_path, table).warnings
    assert "t.csv: the header stands again among the rows: row 3;" in said
    condition = shlex.split(said.partition("--where ")[2])[0]
    found = ask(tmp_path, table, "--where", condition)
    assert (found.prompts, found.warnings) == (["a", "b", "c"], [said])
    assert ask(tmp_path, {"t.csv": "text\na\ntext\n"}).warnings == []


@pytest.mark.parametrize("names", ["id, text", "id,text ", "id,\u00a0text\u200b"])
def test_blanks_around_names_do_not_count(tmp_path: Path, names: str) -> None:
    """In prompts and in --id, seen or unseen; a name that is not there is told as it stands."""
    table = {"t.csv": f"{names}\n1,hello\n2,bye\n"}
    assert ask(tmp_path, table).prompts == ["hello", "bye"]
    assert ask(tmp_path, table, "--id", "{text}{ id}").ids == ["hello1", "bye2"]
    shown = names.split(",")[1]
    assert f"only: id, {shown!r}" in refusal(tmp_path, table, prompt="{nothing}")


@pytest.mark.parametrize(
    "name", ["long\nname", "long\r\n name", "long\u00a0name", "long  name", "lo\u00adng name\u200e"]
)
def test_names_are_found_as_they_are_read(tmp_path: Path, name: str) -> None:
    """Headers of several lines, with hard spaces or soft hyphens; accents of their own; in --where and --id too."""
    table = {"t.csv": f'id,"{name}",gro\u0308\u00dfe\n1,hello,5\n2,bye,7\n'}
    found = ask(tmp_path, table, "--id", "{long name}", "--where", "\"long name\" = 'bye'", prompt="{gr\u00f6\u00dfe}")
    assert (found.prompts, found.ids) == (["7"], ["bye"])


BANK = '"Account:";"DE12"\n\n"Date";"Text";"Amount"\n'
STATEMENT = "Statement;;;\nAccount:;DE12;;\nFrom:;01.01.2024;;\n\nDate;Text;Amount;Currency\n"


@pytest.mark.parametrize("count", [1, 2, 5, 9, 30])
@pytest.mark.parametrize(
    ("above", "row"),
    [
        (BANK, '"01.02.2024";"Rent; {at}";"-{at}.000,50"\n'),
        (STATEMENT, "01.02.2024;Rent, {at};{at},50;EUR\n"),
        ("Report January, all\nDate;Text;Amount\n", "01.02.2024;Rent, {at};{at},50\n"),
        ("Report, all\nid\tText\tn\n", "{at}\tRent, {at}\t{at}\n"),
        ("id,Text,n;;\n", "{at},Rent {at},1;;\n"),
    ],
)
def test_amounts_with_commas_separate_no_cells(tmp_path: Path, above: str, row: str, count: int) -> None:
    """Below lines that belong to no row, as banks write them, however few rows there are."""
    found = ask(tmp_path, {"t.csv": above + "".join(row.format(at=at) for at in range(count))}, prompt="{Text}")
    assert [one[-1] for one in found.prompts] == [str(at)[-1] for at in range(count)]
    assert all(one[:4] == "Rent" for one in found.prompts)


# Held against the standard library


CELLS = st.text(alphabet="\"',;\t|\n\r \\ab1é日\0\u2028\x1e-", max_size=6)


@settings(max_examples=150, deadline=None)
@given(
    st.integers(2, 4).flatmap(lambda width: st.lists(st.lists(CELLS, min_size=width, max_size=width), min_size=1)),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from(["\r\n", "\n", "\r"]),
)
@example([["\r\\", ",\n"]], ",", "\r\n")  # read with backslashes there are more rows, and all of the header's width
def test_what_the_standard_library_writes_is_read(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], delimiter: str, end: str
) -> None:
    """Every cell byte for byte, whatever stands in it, in any dialect that quotes; rows that are empty are none."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerows([[f"name {at}" for at in range(len(rows[0]))], *rows])
    path = tmp_path_factory.getbasetemp() / "written.csv"
    path.write_bytes(file.getvalue().encode())
    with opened_table([str(path)], Settings(), Disk()) as table:
        found = [[cell or "" for cell in row.cells] for row in table.rows()]
    assert found == [row for row in rows if any(cell.strip() for cell in row)]
