"""Which rows: --where over any table, and queries in .sql files."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from tests.tables.asking import Content, ask, refusal
from tests.tables.test_parquet import parquet

TABLE = {
    "t.csv": "id,text,stars,lang,my col,day,order,number,zip\n"
    "1,a,2,de,x,2024-01-01,1,9,01067\n2,b,10,fr,y,2024-02-01,2,8,10115\n3,c,,de,,,3,7,80331\n4,d,n/a,DE,z,2024-03-01,4,6,\n"
}


@pytest.mark.parametrize(
    ("condition", "ids"),
    [
        ("stars <= 2", "1"),
        ("stars > 9", "2"),
        ("STARS between 2 and 5 or stars is null", "134"),
        ("lang = 'de'", "13"),
        ("lang ilike 'de' and not id = 3", "14"),
        ("\"my col\" = 'x'", "1"),
        ('"order" >= 3', "34"),
        ("number = 9", "1"),
        ("day >= '2024-02-01'", "24"),
        ("day < DATE '2024-02-01'", "1"),
        ("zip = '01067'", "1"),
        ("text like '%a%'", "1"),
        ("stars = 2 -- the worst", "1"),
        ("stars = 2 /* the worst */", "1"),
        ("stars in (select 10)", "2"),
        ("'stars;' <> text and id <= 1", "1"),
        ("1=1) or (1=1", "1234"),
    ],
)
def test_cells_compare_as_what_they_look_like(tmp_path: Path, condition: str, ids: str) -> None:
    """Numbers, dates and texts; names of any kind in double quotes; each row keeps its number."""
    found = ask(tmp_path, TABLE, "--where", condition)
    assert found.ids == [f"row-000000{one}" for one in ids]


@pytest.mark.parametrize(
    ("condition", "part"),
    [
        ("nosuch = 1", 'column "nosuch" not found'),
        ("stars <", "syntax error"),
        ("stars = 2; drop table x", "--where stars = 2; drop table x: "),
        ("my col = 'x'", "syntax error"),
        ("count(*) > 1", "cannot contain aggregates"),
        ("stars = 'abc'", "Could not convert"),
        ("own is null", "not found"),
        ("error('x')", "x; the columns are: "),
        (" ", "it is empty"),
        ("copy (select 1) to 'x'", "syntax error"),
    ],
)
def test_what_is_no_condition_is_refused(tmp_path: Path, condition: str, part: str) -> None:
    """With what is wrong and the columns; nothing is written."""
    said = refusal(tmp_path, TABLE, "--where", condition)
    assert said.startswith("bad_where: ") and part in said
    assert "id, text, stars, lang, my col" in said


def test_names_that_differ_in_case_only_are_told_apart(tmp_path: Path) -> None:
    """As they stand in the condition; what cannot be told is refused."""
    table: dict[str, Content] = {"t.csv": "text,Zip,zip,id\na,1,2,x\nb,2,1,y\n"}
    assert ask(tmp_path, table, "--where", "zip = 2 and id = 'x'").prompts == ["a"]
    assert ask(tmp_path, table, "--where", '"Zip" = 2').prompts == ["b"]
    for condition in ("ZIP = 2", "Zip = 2 and zip = 1"):
        assert "differ in case only" in refusal(tmp_path, table, "--where", condition)


def test_no_row_left_is_refused(tmp_path: Path) -> None:
    """By the condition; rows that cannot be read are told, since nobody knows whether they were meant."""
    assert refusal(tmp_path, TABLE, "--where", "stars < 0").startswith("no_rows: no row meets --where stars < 0")
    for table in ({"t.jsonl": '{bad\n{"id":2,"text":"b"}\n'}, {"t.csv": "id,text\n1,a,x\n2,b\n"}):
        assert refusal(tmp_path, table, "--where", "id = 2").startswith("bad_row: row 1: ")
        assert ask(tmp_path, table, "--where", "id = 2", "--skip-invalid").ids == ["row-0000002"]


def test_every_kind_of_table_has_conditions(tmp_path: Path) -> None:
    """Types of Parquet, what is nested in JSON, blanks around names, folders of texts, and before --limit."""
    day = datetime.date(2024, 2, 1)
    typed = parquet({"text": ["a", "b"], "d": [day, day.replace(day=20)], "s": [{"x": 1}, {"x": 2}]})
    assert ask(tmp_path, {"t.parquet": typed}, "--where", "d > '2024-02-15' and s.x = 2").prompts == ["b"]
    nested = {"t.jsonl": '{"text":"a","n":{"x":5}}\n{"text":"b","n":{"x":7}}\n'}
    assert ask(tmp_path, nested, "--where", "n.x > 5").prompts == ["b"]
    assert ask(tmp_path, {"t.csv": 'id, te"xt ,text \n1,a,b\n'}, "--where", "text = 'b'").prompts == ["b"]
    assert ask(tmp_path, {"d/a.txt": "one", "d/b.txt": "two"}, "--input", "d", "--where", "name = 'b'").ids == ["b.txt"]
    assert ask(tmp_path, TABLE, "--where", "lang ilike 'de'", "--limit", "2").ids == ["row-0000001", "row-0000003"]


@pytest.mark.parametrize(
    "query",
    [
        "select text from 'u.parquet' where n > 1",
        "\ufeffwith x as (from 'u.parquet') select * from x where n = 2 -- end\n",
        "/* c */ SELECT t.text FROM 't.csv' t JOIN 'u.parquet' u USING (text) WHERE u.n = 2;",
    ],
)
def test_a_query_gives_rows(tmp_path: Path, query: str) -> None:
    """One SELECT over files of the working directory."""
    files: dict[str, Content] = {"q.sql": query, **TABLE, "u.parquet": parquet({"text": ["a", "b"], "n": [1, 2]})}
    found = ask(tmp_path, files)
    assert (found.prompts, found.ids) == (["b"], ["row-0000001"])


@pytest.mark.parametrize(
    ("query", "part"),
    [
        ("drop table x", "one SELECT"),
        ("copy (select 1) to 'x.csv'", "one SELECT"),
        ("select 1; select 2", "one SELECT"),
        ("attach 'x.db'", "one SELECT"),
        ("set memory_limit = '1GB'", "one SELECT"),
        ("-- nothing", "one SELECT"),
        ("select text from 'none.csv'", "none.csv"),
        ("select error('boom') as text", "boom"),
        ("select", "cannot be run"),
        ("select 1 as text, 2 as text", "the column text twice"),
    ],
)
def test_what_is_no_query_is_refused(tmp_path: Path, query: str, part: str) -> None:
    """And changes nothing."""
    assert part in refusal(tmp_path, {"q.sql": query})
    assert [path.name for path in tmp_path.iterdir()] == ["q.sql"]
