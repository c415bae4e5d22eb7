"""Batch files written: sets of them, whole or not at all."""

from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from tests.batch_files.lines import DISK, lines_of, request, write

from doubleword.batch_files import writing
from doubleword.batch_files.check import check
from doubleword.batch_files.reading import custom_ids
from doubleword.batch_files.record import Record
from doubleword.batch_files.writing import Writer, numbered
from doubleword.failure import Exit, Failure
from doubleword.request_lines.form import PROMPTS, RequestForm
from doubleword.system import Disk
from doubleword.tables.relation import Settings

RECORD = Record(("t.csv",), (), Settings(), RequestForm(PROMPTS, "/v1/embeddings", "m", "{a}"), 5)


def names(folder: Path) -> set[str]:
    """Every file in `folder`, hidden ones included."""
    return {path.name for path in folder.iterdir()}


def fill(writer: Writer, count: int, mark: str = "r") -> None:
    for number in range(count):
        writer.write([request(f"{mark}{number:03d}")])


def test_one_file_has_the_name_that_was_asked_for(tmp_path: Path) -> None:
    """Nothing else stands beside it but the note about its source."""
    output = tmp_path / "out.jsonl"
    with Writer(output, DISK) as writer:
        fill(writer, 2)
        assert names(tmp_path) == {".out.jsonl.0001.part", ".out.jsonl.lock"}
        writer.record = RECORD
    assert names(tmp_path) == {"out.jsonl", "out.source.json"}
    assert output.read_bytes() == lines_of("r000", "r001")
    (written,) = writer.files
    assert (written.path, written.requests, written.bytes) == (output, 2, output.stat().st_size)


def test_what_exceeds_one_file_is_split_at_the_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By requests and by bytes, each file as full as it may be, every line once and in order."""
    size = len(request("r000")) + 1
    for limit, value in (("MAX_REQUESTS", 4), ("MAX_BYTES", 4 * size + 1)):
        folder = tmp_path / limit
        folder.mkdir()
        with monkeypatch.context() as patch:
            patch.setattr(writing, limit, value)
            with Writer(folder / "out.jsonl", DISK) as writer:
                fill(writer, 9)
            assert check([written.path for written in writer.files], DISK).error_count == 0
        assert names(folder) == {"out-0001.jsonl", "out-0002.jsonl", "out-0003.jsonl"}
        assert [written.requests for written in writer.files] == [4, 4, 1]
        ids = [custom_id for written in writer.files for custom_id in custom_ids(written.path, DISK)]
        assert ids == [f"r{number:03d}" for number in range(9)]


@pytest.fixture
def two_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "MAX_REQUESTS", 2)


@pytest.mark.usefixtures("two_a_file")
def test_an_exception_leaves_nothing_behind(tmp_path: Path) -> None:
    """Not the files that were full already, not a temporary one, not the lock."""
    with pytest.raises(KeyboardInterrupt), Writer(tmp_path / "out.jsonl", DISK) as writer:
        fill(writer, 5)
        raise KeyboardInterrupt
    assert names(tmp_path) == set()


@pytest.mark.usefixtures("two_a_file")
@pytest.mark.parametrize("existing", ["out.jsonl", "out-0001.jsonl", "out-0002.jsonl"])
def test_files_of_an_earlier_run_are_refused(tmp_path: Path, existing: str) -> None:
    """A later glob would take the stale ones for part of the new set, and pay for them again."""
    write(tmp_path / existing, b"earlier")
    with pytest.raises(Failure) as caught, Writer(tmp_path / "out.jsonl", DISK) as writer:
        fill(writer, 3)
    assert caught.value.code == "output_exists"
    assert caught.value.exit_code == Exit.BAD_INPUT
    assert names(tmp_path) == {existing}
    assert (tmp_path / existing).read_bytes() == b"earlier"


@pytest.mark.usefixtures("two_a_file")
def test_force_replaces_the_earlier_set_and_removes_what_is_left_of_it(tmp_path: Path) -> None:
    """Three files become one, one becomes three; a file that only looks like a part stays."""
    other = write(tmp_path / "out-2024.jsonl", b"not ours")
    with Writer(tmp_path / "out.jsonl", DISK) as writer:
        fill(writer, 5)
        writer.record = RECORD
    with Writer(tmp_path / "out.jsonl", DISK, force=True) as writer:
        fill(writer, 1)
    assert names(tmp_path) == {"out.jsonl", other.name}
    with Writer(tmp_path / "out.jsonl", DISK, force=True) as writer:
        fill(writer, 5)
    assert names(tmp_path) == {"out-0001.jsonl", "out-0002.jsonl", "out-0003.jsonl", other.name}


def test_two_runs_at_once_do_not_mix(tmp_path: Path) -> None:
    """The second says that the first is at work, and leaves its files alone."""
    with Writer(tmp_path / "out.jsonl", DISK) as writer:
        fill(writer, 1)
        with pytest.raises(Failure) as caught, Writer(tmp_path / "out.jsonl", DISK, force=True):
            pass
        assert caught.value.code == "output_in_use"
    assert (tmp_path / "out.jsonl").read_bytes() == lines_of("r000")


def test_a_folder_that_is_not_there_is_bad_input(tmp_path: Path) -> None:
    """With the command that makes it."""
    with pytest.raises(Failure) as caught, Writer(tmp_path / "none" / "out.jsonl", DISK):
        pass
    assert caught.value.code == "no_folder"


class _Killed(BaseException):
    """The process dies here: nothing that follows on the disk happens."""


class _Dying(Disk):
    """Counts the operations that change the disk, and dies before number `at`; afterwards nothing changes."""

    def __init__(self, at: int | None) -> None:
        self._at = at
        self.operations = 0

    def _step(self) -> None:
        if self._at is not None and self.operations >= self._at:
            raise _Killed
        self.operations += 1

    def create(self, path: Path, mode: int = 0o666) -> BinaryIO:
        self._step()
        return super().create(path, mode)

    def sync(self, file: BinaryIO) -> None:
        self._step()
        super().sync(file)

    def replace(self, source: Path, target: Path) -> None:
        self._step()
        super().replace(source, target)

    def add(self, source: Path, target: Path) -> None:
        self._step()
        super().add(source, target)

    def remove(self, path: Path) -> None:
        self._step()
        super().remove(path)


def run(folder: Path, disk: Disk, count: int, force: bool = False, mark: str = "r", name: str = "out.jsonl") -> None:
    """Write requests and their record."""
    with Writer(folder / name, disk, force) as writer:
        fill(writer, count, mark)
        writer.record = RECORD


def _dying_runs(tmp_path: Path, prepare: Any, force: bool) -> Iterator[Path]:
    """A folder for each moment at which a run of five requests in three files can die."""
    for at in itertools.count():
        folder = tmp_path / f"{force}-{at}"
        folder.mkdir()
        prepare(folder)
        disk = _Dying(at)
        try:
            run(folder, disk, 5, force)
        except _Killed:
            yield folder
        else:
            assert at > 8  # three files and a source are created, synced and renamed
            return


@pytest.mark.usefixtures("two_a_file")
def test_a_run_that_dies_anywhere_leaves_no_set_that_looks_whole(tmp_path: Path) -> None:
    """The first file comes last, a run after it is told, and with --force gives what an undisturbed run gives."""
    whole = tmp_path / "whole"
    whole.mkdir()
    run(whole, DISK, 5)
    wanted = {path.name: path.read_bytes() for path in whole.iterdir()}
    for folder in _dying_runs(tmp_path, lambda _: None, force=False):
        if (folder / "out-0001.jsonl").exists():
            assert names(folder) >= set(wanted)
        published = [name for name in names(folder) if name in wanted and name.endswith(".jsonl")]
        if published:
            with pytest.raises(Failure, match="exists already"):
                run(folder, DISK, 5)
        run(folder, DISK, 5, force=bool(published))
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == wanted


@pytest.mark.usefixtures("two_a_file")
def test_a_forced_run_that_dies_anywhere_leaves_no_mixture(tmp_path: Path) -> None:
    """What begins with the first file is all old or all new, and the next forced run leaves only its own files."""
    new = {"out-0001.jsonl", "out-0002.jsonl", "out-0003.jsonl", "out.source.json"}
    for folder in _dying_runs(tmp_path, lambda folder: run(folder, DISK, 9, mark="old"), force=True):
        parts = itertools.takewhile(Path.exists, (numbered(folder / "out.jsonl", number) for number in range(1, 9)))
        ids = [custom_id for part in parts for custom_id in custom_ids(part, DISK)]
        assert ids in ([], [f"old{number:03d}" for number in range(9)], [f"r{number:03d}" for number in range(5)])
        run(folder, DISK, 5, force=True)
        assert names(folder) == new


def test_a_single_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    """A forced run of one file for one file leaves the old or the new one, wherever it dies."""
    run(tmp_path, DISK, 1, mark="old")
    for at in itertools.count():
        with contextlib.suppress(_Killed):
            run(tmp_path, _Dying(at), 1, force=True)
        ids = list(custom_ids(tmp_path / "out.jsonl", DISK))
        if ids == ["r000"]:
            return
        assert ids == ["old000"]


def test_an_error_while_publishing_takes_back_what_was_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fails at the second rename leaves nothing of a new set."""
    monkeypatch.setattr(writing, "MAX_REQUESTS", 2)

    class Failing(Disk):
        def add(self, source: Path, target: Path) -> None:
            if target.name == "out-0001.jsonl":
                raise OSError(28, "No space left on device", str(target))
            super().add(source, target)

    with pytest.raises(OSError, match="No space left"):
        run(tmp_path, Failing(), 5)
    assert names(tmp_path) == set()


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    """The error of the disk comes out, whether it appears while writing or when the file is finished."""

    class Full(io.FileIO):
        def write(self, data: Any) -> int:
            raise OSError(28, "No space left on device")

    class FullDisk(Disk):
        def create(self, path: Path, mode: int = 0o666) -> BinaryIO:
            return io.BufferedWriter(Full(path, "w"))

    for count in (1, 200):
        with pytest.raises(OSError, match="No space left"):
            run(tmp_path, FullDisk(), count)
        assert names(tmp_path) == set()


def test_the_map_of_repaired_ids_appears_with_the_set_or_not_at_all(tmp_path: Path) -> None:
    """Whichever rename fails, neither the map nor its temporary file stays alone."""

    class Failing(Disk):
        def __init__(self, bad: str) -> None:
            self.bad = bad

        def add(self, source: Path, target: Path) -> None:
            if target.name == self.bad:
                raise OSError(28, "No space left on device")
            super().add(source, target)

    def make(disk: Disk) -> None:
        with Writer(tmp_path / "out.jsonl", disk) as writer:
            fill(writer, 1)
            writer.record = RECORD
            writer.repaired.note([("e-1", "é"), ("x-2", 'x"\n,y')])

    for bad in ("out.jsonl", "out.source.json", "out.ids.csv"):
        with pytest.raises(OSError, match="No space"):
            make(Failing(bad))
        assert list(tmp_path.iterdir()) == [], bad
    make(DISK)
    assert (tmp_path / "out.ids.csv").read_text(encoding="utf-8") == 'custom_id,original\ne-1,é\nx-2,"x""\n,y"\n'
    assert {path.name for path in tmp_path.iterdir()} == {"out.jsonl", "out.source.json", "out.ids.csv"}
    (tmp_path / "out.jsonl").unlink()  # as a run that is killed between the renames leaves it
    make(DISK)
