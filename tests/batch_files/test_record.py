"""The record of a batch file: found from every file of a set, whole or refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.batch_files.lines import DISK, write
from tests.batch_files.test_writing import RECORD, fill, run

from doubleword.batch_files import writing
from doubleword.batch_files.record import hashes_of, read_record, record_path
from doubleword.batch_files.writing import Writer, numbered
from doubleword.failure import Failure
from doubleword.quick_msgspec import replace, to_builtins
from doubleword.request_lines.form import PROMPTS, RequestForm
from doubleword.tables.relation import Settings

FORM = RequestForm(
    PROMPTS, "/v1/chat/completions", "m", "{a}", "Be {b}.", "{a}", True, ("{photo}",), "pictures", {"b": "brief"},
    {"max_tokens": 5, "stop": ["x"]}, ({"role": "user", "content": "Hi"},),
)  # fmt: skip


def test_the_record_is_found_from_every_file_of_the_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From any working directory, and also after the whole folder moved; as it was written."""
    monkeypatch.setattr(writing, "MAX_REQUESTS", 2)
    (tmp_path / "made").mkdir()
    monkeypatch.chdir(tmp_path / "made")
    settings = Settings("csv", "cp1252", ";", "", 3, "Sheet", "a > 1")
    whole = replace(RECORD, inputs=("../tables/*.csv", "-"), hashes=("1f",), settings=settings, form=FORM, limit=7)
    whole = replace(whole, files=("out-0001.jsonl", "out-0002.jsonl"))
    with Writer(Path("out.jsonl"), DISK) as writer:
        fill(writer, 3)
        writer.record = whole
    (tmp_path / "made").rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    for number in (1, 2):
        record = read_record(numbered(Path("moved/out.jsonl"), number), DISK)
        assert record is not None
        assert Path(record.inputs[0]).parent.resolve() == tmp_path / "tables" and record.inputs[1] == "-"
        assert Path(record.form.folder).resolve() == tmp_path / "moved" / "pictures"
        form = replace(record.form, folder="pictures")
        assert json.dumps(to_builtins(form)) == json.dumps(to_builtins(FORM))
        assert replace(record, inputs=whole.inputs, form=FORM) == whole


def test_a_file_is_not_given_the_record_of_another(tmp_path: Path) -> None:
    """films-2024.jsonl is no part of films.jsonl, though its name looks like one."""
    run(tmp_path, DISK, 1, name="films.jsonl")
    assert record_path(tmp_path / "films.jsonl") == tmp_path / "films.source.json"
    assert read_record(tmp_path / "films-2024.jsonl", DISK) is None
    assert read_record(tmp_path / "films.jsonl", DISK) is not None
    assert read_record(tmp_path / "other.jsonl", DISK) is None


RECORDED = (
    '{"version": 2, "files": ["a.jsonl"], "inputs": [], "hashes": [], "settings": {}, '
    '"form": {"kind": "prompts", "endpoint": "/v1/chat/completions"}, "rows": 1}'
)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"version": 2}',
        '{"version": 4, "files": ["a.jsonl"]}',
        '{"version": 2, "files": ["a.jsonl"], "inputs": [], "hashes": [], "settings": {"x": 1}, "form": {}, "rows": 1}',
        RECORDED.replace('"rows": 1', '"rows": "1"'),
        RECORDED.replace('"settings": {}', '"settings": {"header_row": "2"}'),
        RECORDED.replace('"settings": {}', '"settings": {"unheard": 1}'),
        RECORDED.replace('"version": 2', '"version": 3'),
    ],
)
def test_a_damaged_or_newer_record_is_refused(tmp_path: Path, content: str) -> None:
    """Joining by a guess would put answers beside the wrong rows."""
    write(tmp_path / "a.source.json", content.encode())
    with pytest.raises(Failure) as caught:
        read_record(tmp_path / "a.jsonl", DISK)
    assert caught.value.code == "bad_source_file"
    assert ("version 4" in caught.value.message) == ('"version": 4' in content)


def test_a_record_of_the_first_release_is_as_none(tmp_path: Path) -> None:
    """It does not say what was asked: who joins has to say how ids were made."""
    fields = {"path": "t.csv", "format": "csv", "encoding": "utf-8", "id_template": "{a}", "rows": 3}
    write(tmp_path / "a.source.json", json.dumps({"version": 1, "files": ["a.jsonl"], "source": fields}).encode())
    assert read_record(tmp_path / "a.jsonl", DISK) is None


def test_a_record_left_alone_does_not_stand_in_the_way(tmp_path: Path) -> None:
    """Whoever removes a batch file may leave its record; it is ours, and replaced."""
    run(tmp_path, DISK, 1)
    (tmp_path / "out.jsonl").unlink()
    run(tmp_path, DISK, 2)
    assert json.loads((tmp_path / "out.source.json").read_bytes())["files"] == ["out.jsonl"]


def test_files_have_hashes_where_all_can_be_read_again(tmp_path: Path) -> None:
    """Standard input, and a file that is gone, leave no way to tell."""
    path = write(tmp_path / "t.csv", b"abc")
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert hashes_of([path], DISK) == (digest,)
    assert hashes_of([path, Path("-")], DISK) == hashes_of([path, tmp_path / "none"], DISK) == ()


def test_a_record_of_the_release_before_is_read(tmp_path: Path) -> None:
    """It has no row map, and its form leaves out what was not given."""
    write(tmp_path / "a.source.json", RECORDED.encode())
    record = read_record(tmp_path / "a.jsonl", DISK)
    assert record is not None and (record.rows, record.row_map, record.form.kind) == (1, None, "prompts")
