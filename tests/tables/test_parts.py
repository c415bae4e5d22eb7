"""Which files an --input stands for: folders of parts of any engine, globs, several inputs; what is no part."""

from __future__ import annotations

import bz2
import datetime
import gzip
import lzma
from pathlib import Path

import pyarrow as pa
import pytest
import zstandard
from tests.tables.asking import Content, ask, put, refusal
from tests.tables.test_parquet import parquet

A, B = parquet({"text": ["a"]}), parquet({"text": ["b"]})
LAID_OUT: dict[str, dict[str, Content]] = {
    "Spark, Parquet": {"part-00000-x.c000.snappy.parquet": A, "part-00001-x.c000.snappy.parquet": B, "_SUCCESS": ""},
    "Spark, CSV": {"part-00000-x.csv": "id,text\n1,a\n", "part-00001-x.csv": "id,text\n2,b\n", "_SUCCESS": ""},
    "Spark, CSV in gzip": {
        "part-00000.csv.gz": gzip.compress(b"text\na\n"),
        "part-00001.csv.gz": gzip.compress(b"text\nb\n"),
        ".part-00000.csv.gz.crc": b"\0",
    },
    "Spark, JSON in zstandard": {
        "part-00000.jsonl.zst": zstandard.compress(b'{"text":"a"}\n'),
        "part-00001.jsonl.zst": zstandard.compress(b'{"text":"b"}\n'),
        "_committed_1": "{}",
        "_started_1": "",
    },
    "Spark, text": {"part-00000": "a\n", "part-00001": "b\n", "_SUCCESS": ""},
    "Spark, text files": {"part-00000.txt": "a\n", "part-00001.txt": "b\n", "_SUCCESS": ""},
    "Spark, an empty part": {"part-00000.csv": "", "part-00001.csv": "text\na\nb\n", "_SUCCESS": ""},
    "Hive": {"000000_0": "text\na\n", "000001_0": "text\nb\n"},
    "dask": {"part.0.parquet": A, "part.1.parquet": B, "_metadata": A, "_common_metadata": A},
    "pandas": {"a.parquet": A, "b.parquet": B, "desktop.ini": "x", ".DS_Store": b"\0"},
    "kinds of their own": {"a.csv": "text\na\n", "b.jsonl": '{"text":"b"}\n', "~$c.xlsx": "x"},
    "folders": {"de/a.parquet": A, "fr/a.parquet": B},
}


@pytest.mark.parametrize("kind", LAID_OUT)
def test_a_folder_of_parts_is_one_table(tmp_path: Path, kind: str) -> None:
    """In the order of the names, as the tools that write parts lay them out; markers are no parts."""
    files: dict[str, Content] = {f"export/{name}": content for name, content in LAID_OUT[kind].items()}
    told = {"Spark, text": ["--input-format", "text"], "Hive": ["--input-format", "csv"]}.get(kind, [])
    assert ask(tmp_path, files, "--input", "export", *told).prompts == ["a", "b"]
    assert ask(tmp_path, files, "--input", f"{tmp_path}/export", *told).prompts == ["a", "b"]
    if told:
        assert "add --input-format" in refusal(tmp_path, files, "--input", "export")


def test_folders_name_columns(tmp_path: Path) -> None:
    """As Hive does: with escapes, and with a null; in the place of a column of the files, as the engines do it."""
    files: dict[str, Content] = {
        "e/lang=de%2FAT/day=2024-01-01/a.parquet": parquet({"text": ["a"], "lang": ["no"]}),
        "e/lang=de%2FAT/day=2024-01-02/a.parquet": parquet({"text": ["b"], "lang": ["no"]}),
        "e/lang=__HIVE_DEFAULT_PARTITION__/day=01/c.jsonl": '{"text":"c"}',
        "e/my%20col=é/d.csv": "text\nd\n",
    }
    flags = [word for name in ("lang", "day", "my col") for word in ("--default", f"{name}=?")]
    prompt = "{text} {lang} {day} {my col}"
    found = ask(tmp_path, files, "--input", "e", *flags, prompt=prompt)
    assert found.prompts == ["c ? 01 ?", "a de/AT 2024-01-01 ?", "b de/AT 2024-01-02 ?", "d ? ? é"]
    for pattern in ("e/*/*/*.parquet", "e/**/a.parquet", f"{tmp_path}/e/lang=de*/**/*.parquet"):
        assert ask(tmp_path, {}, "--input", pattern, *flags, prompt=prompt).prompts == found.prompts[1:3]
    put(tmp_path, {"lang=up/t.csv": "text,lang\na,own\n"})  # above what is given, folders are just folders
    given = str(tmp_path / "lang=up")
    assert ask(tmp_path, {}, "--input", given, prompt="{lang}").prompts == ["own"]


def test_parts_that_differ_are_merged_without_loss(tmp_path: Path) -> None:
    """Columns that only some have, and types that are unlike: numbers keep their digits, dates stay dates."""
    files: dict[str, Content] = {
        "e/a.parquet": parquet({"text": ["a"], "n": [2**60 + 1], "at": [datetime.date(2024, 1, 1)]}),
        "e/b.parquet": parquet({"n": [2.5], "text": ["b"], "at": [datetime.datetime(2024, 1, 1, 5)]}),
        "e/c.parquet": parquet({"text": ["c"], "n": pa.array([None], pa.null()), "more": ["x"]}),
    }
    flags = [word for name in ("n", "at", "more") for word in ("--default", f"{name}=?")]
    found = ask(tmp_path, files, "--input", "e", *flags, prompt="{text} {n} {at} {more}")
    assert found.prompts == ["a 1152921504606846977 2024-01-01 ?", "b 2.5 2024-01-01 05:00:00 ?", "c ? ? x"]


@pytest.mark.parametrize(
    ("mark", "said"),
    [
        ("_delta_log/00000.json", "a Delta table"),
        (".hoodie/hoodie.properties", "a Hudi table"),
        ("metadata/v1.metadata.json", "an Iceberg table"),
        ("metadata/version-hint.text", "an Iceberg table"),
        ("_versions/1.manifest", "a Lance table"),
    ],
)
def test_tables_that_an_engine_manages_are_refused_by_name(tmp_path: Path, mark: str, said: str) -> None:
    """Also in a folder above or below, or by a glob: deleted rows lie among the files. A single file may be named."""
    files: dict[str, Content] = {"db/t/data/day=1/a.parquet": A, f"db/t/{mark}": "{}"}
    for given in ("db/t", "db", "db/t/data", "db/t/data/day=1", "db/t/data/day=1/*.parquet"):
        told = refusal(tmp_path, files, "--input", given)
        assert said in told and "only its log says" in told, given
    assert ask(tmp_path, files, "--input", "db/t/data/day=1/a.parquet").prompts == ["a"]


LEFT_BEHIND = [
    "desktop.ini", "DESKTOP.INI", "Thumbs.db", "sub/THUMBS.DB", "ehthumbs_vista.db", "~$a.txt", "~WRL0001.tmp",
    "Icon\r", "._a.txt", ".DS_Store", "sub/.~lock.a.odt#", "__MACOSX/a.txt", "$RECYCLE.BIN/b.txt", "@eaDir/a.txt",
    "System Volume Information/x", "a.txt~", "a.txt:Zone.Identifier", "sub/Folder.htt",
]  # fmt: skip


def test_what_systems_and_office_programs_leave_is_no_row(tmp_path: Path) -> None:
    """In any folder, and in any case of letters; beside documents and beside tables, and for a glob."""
    left = dict.fromkeys(LEFT_BEHIND, b"\0\xff")
    found = ask(tmp_path, {"d/a.txt": "one", **{f"d/{name}": one for name, one in left.items()}}, "--input", "d")
    assert (found.prompts, found.ids, found.warnings) == (["one"], ["a.txt"], [])
    put(tmp_path, {"t/a.csv": "text\none\n", **{f"t/{name}": one for name, one in left.items()}})
    assert ask(tmp_path, {}, "--input", "t").prompts == ["one"]
    assert ask(tmp_path, {"g/a.txt": "one\n", "g/~$a.txt": "x", "g/a.txt~": "x"}, "--input", "g/*").prompts == ["one"]


def test_globs_and_several_inputs_are_merged_by_name(tmp_path: Path) -> None:
    """In any order of columns and formats; blanks around names do not count, and no file is asked twice."""
    files: dict[str, Content] = {
        "a1.csv": "id,text\n1,a\n", "a2.csv": " text ,id\nb,2\n", "b.tsv": "text\tid\nc\t3\n",
        "c.jsonl": '{"text":"d","id":4}', "d.parquet": parquet({"id": [5], "text": ["e"]}),
    }  # fmt: skip
    names = ("a?.csv", "b.tsv", "c.jsonl", "d.parquet")
    flags = [word for name in names for word in ("--input", name)]
    found = ask(tmp_path, files, *flags, "--id", "{id}")
    assert (found.prompts, found.ids) == (list("abcde"), list("12345"))
    for again in ("a1.csv", "./a1.csv", "a*.csv"):
        assert "a1.csv is given twice" in refusal(tmp_path, {}, "--input", "a1.csv", "--input", again)
    assert "no file is called like" in refusal(tmp_path, {}, "--input", "z*.csv")
    assert ask(tmp_path, {"x[1].csv": "text\na\n"}, "--input", "x[1].csv").prompts == ["a"]
    found_ = refusal(tmp_path, {"u.csv": "Text,id\na,1\n"}, "--input", "u.csv", "--input", "a1.csv")
    assert "row 1: the column text is empty, and Text is another column" in found_


def test_a_folder_of_documents_stands_alone(tmp_path: Path) -> None:
    """Its images are looked for in it; and a mixture of tables and other files is not guessed at."""
    files: dict[str, Content] = {"d/a.txt": "one", "t.csv": "text\nx\n", "m/a.csv": "text\nx\n", "m/README.md": "x"}
    for other in ("t.csv", "m"):
        assert "cannot stand beside another" in refusal(tmp_path, files, "--input", "d", "--input", other)
    assert "tables and other files, such as README.md" in refusal(tmp_path, files, "--input", "m")
    assert ask(tmp_path, files, "--input", "d", "--input-format", "text").prompts == ["one"]


TABLE = b"id,text\n1,a\n2,b\n"


@pytest.mark.parametrize("name", ["t*.csv", "t[12].csv", "t?.csv", "~t.csv", "o'b.csv", "d*/t.csv", "d[1]/t.csv"])
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_file_is_the_one_of_that_name(tmp_path: Path, name: str, kind: str) -> None:
    """Whatever its name would stand for as a pattern."""

    def write(path: Path, text: str) -> None:
        path.parent.mkdir(exist_ok=True)
        if kind == "csv":
            path.write_text(f"text,b\n{text},\n")
        else:
            parquet({"text": [text]})(path)

    for other in ("t1.csv", "t2.csv", "d1/t.csv"):
        write(tmp_path / other, "other")
    assert ask(tmp_path, {name: lambda path: write(path, "own")}).prompts == ["own"]


@pytest.mark.parametrize("name", ["t.csv.gz", "t.csv.zst", "t.csv.bz2", "t.jsonl.gz"])
def test_what_is_only_called_packed_is_read_as_it_is(tmp_path: Path, name: str) -> None:
    """As programs leave it that unpack what they fetch."""
    assert ask(tmp_path, {name: b'{"text":"a"}\n{"text":"b"}\n' if "json" in name else TABLE}).prompts == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("t.csv.gz", gzip.compress),
        ("t.csv.bz2", bz2.compress),
        ("t.csv.xz", lzma.compress),
        ("t.csv.zst", zstandard.compress),
        ("t.csv", gzip.compress),
    ],
)
def test_packed_tables_are_unpacked(tmp_path: Path, name: str, pack: object) -> None:
    """Told by their first bytes, in one piece or several, and on standard input; one that was cut off is refused."""
    assert callable(pack)
    packed = pack(TABLE)
    assert ask(tmp_path, {name: packed}).prompts == ["a", "b"]
    assert ask(tmp_path, {name: packed + pack(b"3,c\n")}).prompts == ["a", "b", "c"]
    assert ask(tmp_path, {}, "--input", "-", "--input-format", "csv", stdin=packed).prompts == ["a", "b"]
    for broken in (packed[:-6], packed[:12] + b"\xff\xff\xff" + packed[15:])[: 2 if pack is gzip.compress else 1]:
        assert "cannot be unpacked" in refusal(tmp_path, {name: broken})
