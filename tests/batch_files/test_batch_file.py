"""Batch files: the check of a job's files, reading them again, and writing sets of them whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from doubleword.batch_files.batch_file import (
    Source,
    Writer,
    custom_ids,
    numbered,
    read_source,
    request_lines,
    source_path,
)
from tests.sample_requests import chat, line

from doubleword.batch_files import batch_file
from doubleword.batch_files.check import BatchFile, check
from doubleword.failure import Exit, Failure
from doubleword.request_lines.line import to_line
from doubleword.system import Disk

DISK = Disk()


def request(custom_id: str, url: str = "/v1/embeddings", model: str = "m") -> bytes:
    """One small valid line."""
    return to_line(line(url, custom_id=custom_id, input="x", model=model))


def lines_of(*ids: str) -> bytes:
    """A batch file of requests with `ids`."""
    return b"".join(request(custom_id) + b"\n" for custom_id in ids)


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def names(folder: Path) -> set[str]:
    """Every file in `folder`, hidden ones included."""
    return {path.name for path in folder.iterdir()}


# Checking


def test_a_good_file_is_described(tmp_path: Path) -> None:
    """Requests, bytes, SHA-256, endpoint and models in the order of their first use."""
    content = (
        b"\r\n" + request("a", model="z") + b"\r\n\n" + request("b", model="y") + b"\n  \n" + request("c", model="z")
    )
    path = write(tmp_path / "a.jsonl", content)
    found = check([path], DISK)
    assert (found.error_count, found.errors, found.requests) == (0, [], 3)
    digest = hashlib.sha256(content).hexdigest()
    assert found.files == [BatchFile(path, 3, len(content), digest, "/v1/embeddings", ("z", "y"))]


def test_errors_name_file_physical_line_custom_id_and_path(tmp_path: Path) -> None:
    """Blank lines are passed over but counted, so that an editor finds the line."""
    content = request("a") + b"\n\n" + to_line(chat(temperature=9)) + b"\n{broken\n" + b"\xff\n"
    found = check([write(tmp_path / "a.jsonl", content)], DISK)
    assert [(error.line, error.custom_id, error.path) for error in found.errors] == [
        (3, "row-0000001", "body.temperature"),
        (4, None, ""),
        (5, None, ""),
    ]
    assert {error.file for error in found.errors} == {str(tmp_path / "a.jsonl")}
    assert found.requests == 4


def test_a_line_with_several_problems_is_one_error(tmp_path: Path) -> None:
    """error_count counts lines, and says how many more problems the line has."""
    found = check([write(tmp_path / "a.jsonl", b'{"custom_id":"a"}\n')], DISK)
    assert found.error_count == 1
    assert found.errors[0].message == "is missing (and 2 more in this line)"


def test_a_custom_id_is_used_once_over_all_files_of_the_job(tmp_path: Path) -> None:
    """The server accepts duplicates, and their answers could not be told apart; the first use is named."""
    first = write(tmp_path / "a.jsonl", b"\n" + lines_of("x", "y"))
    second = write(tmp_path / "b.jsonl", lines_of("z", "y", "z"))
    found = check([first, second], DISK)
    assert [(error.file, error.line, error.custom_id, error.message) for error in found.errors] == [
        (str(second), 2, "y", "is used before, on line 3 of a.jsonl"),
        (str(second), 3, "z", "is used before, on line 1 of b.jsonl"),
    ]


def test_a_file_has_one_endpoint_and_a_job_may_have_several(tmp_path: Path) -> None:
    """A batch is created for one endpoint; what is for another belongs into another file."""
    mixed = write(tmp_path / "a.jsonl", request("a") + b"\n" + to_line(chat()) + b"\n")
    (error,) = check([mixed], DISK).errors
    assert (error.line, error.path) == (2, "url")
    assert "first request of the file goes to /v1/embeddings" in error.message
    other = write(tmp_path / "b.jsonl", to_line(chat()))
    assert check([write(mixed, request("a")), other], DISK).error_count == 0


@pytest.mark.parametrize("content", [b"", b"\n", b" \r\n\n"])
def test_a_file_without_requests_is_refused(tmp_path: Path, content: bytes) -> None:
    """The server would refuse it too, after the upload."""
    (error,) = check([write(tmp_path / "a.jsonl", content)], DISK).errors
    assert error.message == "the file holds no request"
    assert error.line == 1


def test_too_many_requests_or_bytes_are_one_error_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limits of one file are exact: what reaches them is good, one more is not."""
    path = write(tmp_path / "a.jsonl", lines_of("a", "b", "c"))
    monkeypatch.setattr(batch_file, "MAX_REQUESTS", 3)
    monkeypatch.setattr(batch_file, "MAX_BYTES", path.stat().st_size)
    assert check([path], DISK).error_count == 0
    monkeypatch.setattr(batch_file, "MAX_REQUESTS", 2)
    (error,) = check([path], DISK).errors
    assert (error.line, error.message) == (3, "is request 3 of its file, which may hold 2")
    monkeypatch.setattr(batch_file, "MAX_REQUESTS", 3)
    monkeypatch.setattr(batch_file, "MAX_BYTES", path.stat().st_size - 1)
    (error,) = check([path], DISK).errors
    assert "bytes" in error.message


def test_the_limits_are_those_of_the_service() -> None:
    """50,000 requests and 200 MB a file."""
    assert (batch_file.MAX_REQUESTS, batch_file.MAX_BYTES) == (50_000, 200_000_000)


def test_shown_errors_are_capped_and_all_are_counted(tmp_path: Path) -> None:
    """A file of nothing but bad lines is not explained line by line."""
    found = check([write(tmp_path / "a.jsonl", b"x\n" * 500)], DISK)
    assert (len(found.errors), found.error_count) == (20, 500)


def test_a_file_given_twice_or_missing_is_bad_input(tmp_path: Path) -> None:
    """Exit 2 with the cause, rather than an error for each line."""
    path = write(tmp_path / "a.jsonl", lines_of("a"))
    (tmp_path / "same.jsonl").symlink_to(path)
    for paths, part in (([path, tmp_path / "same.jsonl"], "twice"), ([tmp_path / "none.jsonl"], "no file")):
        with pytest.raises(Failure, match=part) as caught:
            check(paths, DISK)
        assert caught.value.exit_code == Exit.BAD_INPUT


def test_progress_is_told_the_requests_so_far(tmp_path: Path) -> None:
    """Over all files, never backwards."""
    paths = [write(tmp_path / f"{name}.jsonl", lines_of(name, name * 2)) for name in "ab"]
    told: list[int] = []
    check(paths, DISK, told.append)
    assert told == [2, 4]


class _OneLine(io.RawIOBase):
    """A file of 300 MB that is one JSON string without end."""

    left = 300_000_000

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = min(len(buffer), self.left)
        buffer[:count] = b"[" * count
        self.left -= count
        return count


def test_a_line_of_300_mb_is_an_error_not_a_full_memory(tmp_path: Path) -> None:
    """No more of a line is kept than a line may have."""

    class Huge(Disk):
        def open(self, path: Path) -> BinaryIO:
            return io.BufferedReader(_OneLine())

    tracemalloc.start()
    try:
        found = check([tmp_path / "a.jsonl"], Huge())
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()
    assert "the server takes at most 10,485,760" in found.errors[0].message


# Reading again


def test_lines_are_read_again_in_file_order(tmp_path: Path) -> None:
    """The raw line, without white space around it, under its custom_id; torn at line feeds only."""
    odd = to_line(line("/v1/embeddings", custom_id="b", input="\u2028\u0085\r x"))
    path = write(tmp_path / "a.jsonl", b"\n" + request("c") + b"\r\n" + odd + b"\n\n" + request("a"))
    assert list(request_lines(path, DISK)) == [("c", request("c")), ("b", odd), ("a", request("a"))]
    assert list(custom_ids(path, DISK)) == ["c", "b", "a"]


@pytest.mark.parametrize("bad", [b"{", b"[]", b"{}", b'{"custom_id":1}'])
def test_a_line_that_is_no_request_ends_the_reading(tmp_path: Path, bad: bytes) -> None:
    """A file that changed since its check is not read as if it were good."""
    path = write(tmp_path / "a.jsonl", request("a") + b"\n\n" + bad)
    with pytest.raises(Failure, match="line 3") as caught:
        list(custom_ids(path, DISK))
    assert caught.value.exit_code == Exit.BAD_INPUT


# Writing


def fill(writer: Writer, count: int, mark: str = "r") -> None:
    for number in range(count):
        writer.write(request(f"{mark}{number:03d}"))


def test_one_file_has_the_name_that_was_asked_for(tmp_path: Path) -> None:
    """Nothing else stands beside it but the note about its source."""
    output = tmp_path / "out.jsonl"
    with Writer(output, DISK) as writer:
        fill(writer, 2)
        assert names(tmp_path) == {".out.jsonl.0001.part", ".out.jsonl.lock"}
        writer.source = Source("t.csv", "csv", "utf-8", None, 2)
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
            patch.setattr(batch_file, limit, value)
            with Writer(folder / "out.jsonl", DISK) as writer:
                fill(writer, 9)
            assert check([written.path for written in writer.files], DISK).error_count == 0
        assert names(folder) == {"out-0001.jsonl", "out-0002.jsonl", "out-0003.jsonl"}
        assert [written.requests for written in writer.files] == [4, 4, 1]
        ids = [custom_id for written in writer.files for custom_id in custom_ids(written.path, DISK)]
        assert ids == [f"r{number:03d}" for number in range(9)]


@pytest.fixture
def two_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_file, "MAX_REQUESTS", 2)


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
        writer.source = Source("t.csv", "csv", "utf-8", None, 5)
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


def _run(folder: Path, disk: Disk, count: int, force: bool = False, mark: str = "r") -> None:
    with Writer(folder / "out.jsonl", disk, force) as writer:
        fill(writer, count, mark)
        writer.source = Source("t.csv", "csv", "utf-8", None, count)


def _dying_runs(tmp_path: Path, prepare: Any, force: bool) -> Iterator[Path]:
    """A folder for each moment at which a run of five requests in three files can die."""
    for at in itertools.count():
        folder = tmp_path / f"{force}-{at}"
        folder.mkdir()
        prepare(folder)
        disk = _Dying(at)
        try:
            _run(folder, disk, 5, force)
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
    _run(whole, DISK, 5)
    wanted = {path.name: path.read_bytes() for path in whole.iterdir()}
    for folder in _dying_runs(tmp_path, lambda _: None, force=False):
        if (folder / "out-0001.jsonl").exists():
            assert names(folder) >= set(wanted)
        published = [name for name in names(folder) if name in wanted and name.endswith(".jsonl")]
        if published:
            with pytest.raises(Failure, match="exists already"):
                _run(folder, DISK, 5)
        _run(folder, DISK, 5, force=bool(published))
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == wanted


@pytest.mark.usefixtures("two_a_file")
def test_a_forced_run_that_dies_anywhere_leaves_no_mixture(tmp_path: Path) -> None:
    """What begins with the first file is all old or all new, and the next forced run leaves only its own files."""
    new = {"out-0001.jsonl", "out-0002.jsonl", "out-0003.jsonl", "out.source.json"}
    for folder in _dying_runs(tmp_path, lambda folder: _run(folder, DISK, 9, mark="old"), force=True):
        parts = itertools.takewhile(Path.exists, (numbered(folder / "out.jsonl", number) for number in range(1, 9)))
        ids = [custom_id for part in parts for custom_id in custom_ids(part, DISK)]
        assert ids in ([], [f"old{number:03d}" for number in range(9)], [f"r{number:03d}" for number in range(5)])
        _run(folder, DISK, 5, force=True)
        assert names(folder) == new


def test_a_single_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    """A forced run of one file for one file leaves the old or the new one, wherever it dies."""
    _run(tmp_path, DISK, 1, mark="old")
    for at in itertools.count():
        with contextlib.suppress(_Killed):
            _run(tmp_path, _Dying(at), 1, force=True)
        ids = list(custom_ids(tmp_path / "out.jsonl", DISK))
        if ids == ["r000"]:
            return
        assert ids == ["old000"]


def test_an_error_while_publishing_takes_back_what_was_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fails at the second rename leaves nothing of a new set."""
    monkeypatch.setattr(batch_file, "MAX_REQUESTS", 2)

    class Failing(Disk):
        def add(self, source: Path, target: Path) -> None:
            if target.name == "out-0001.jsonl":
                raise OSError(28, "No space left on device", str(target))
            super().add(source, target)

    with pytest.raises(OSError, match="No space left"):
        _run(tmp_path, Failing(), 5)
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
            _run(tmp_path, FullDisk(), count)
        assert names(tmp_path) == set()


# The source


def test_the_source_is_found_from_every_file_of_the_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From any working directory, and also after the whole folder moved."""
    monkeypatch.setattr(batch_file, "MAX_REQUESTS", 2)
    (tmp_path / "made").mkdir()
    monkeypatch.chdir(tmp_path / "made")
    with Writer(Path("out.jsonl"), DISK) as writer:
        fill(writer, 3)
        writer.source = Source("../tables/t.csv", "csv", "cp1252", "{a}", 3)
    (tmp_path / "made").rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    for number in (1, 2):
        source = read_source(numbered(Path("moved/out.jsonl"), number), DISK)
        assert source is not None
        assert Path(source.path).resolve() == tmp_path / "tables/t.csv"
        assert (source.format, source.encoding, source.id_template, source.rows) == ("csv", "cp1252", "{a}", 3)


def test_a_file_is_not_given_the_source_of_another(tmp_path: Path) -> None:
    """films-2024.jsonl is no part of films.jsonl, though its name looks like one."""
    with Writer(tmp_path / "films.jsonl", DISK) as writer:
        fill(writer, 1)
        writer.source = Source("t.csv", "csv", "utf-8", None, 1)
    assert source_path(tmp_path / "films.jsonl") == tmp_path / "films.source.json"
    assert read_source(tmp_path / "films-2024.jsonl", DISK) is None
    assert read_source(tmp_path / "films.jsonl", DISK) is not None
    assert read_source(tmp_path / "other.jsonl", DISK) is None


def test_standard_input_stays_standard_input(tmp_path: Path) -> None:
    """There is no file to name."""
    with Writer(tmp_path / "a.jsonl", DISK) as writer:
        fill(writer, 1)
        writer.source = Source("-", "json", "utf-8", None, 1)
    source = read_source(tmp_path / "a.jsonl", DISK)
    assert source is not None
    assert source.path == "-"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"version": 1}',
        '{"version": 2, "files": [], "source": {}}',
        '{"version": 1, "files": ["a.jsonl"], "source":'
        ' {"path": 5, "format": "csv", "encoding": "utf-8", "id_template": null, "rows": 1}}',
    ],
)
def test_a_damaged_or_newer_source_file_is_refused(tmp_path: Path, content: str) -> None:
    """Joining by a guess would put answers beside the wrong rows."""
    write(tmp_path / "a.source.json", content.encode())
    with pytest.raises(Failure) as caught:
        read_source(tmp_path / "a.jsonl", DISK)
    assert caught.value.code == "bad_source_file"
    assert ("version 2" in caught.value.message) == ('"version": 2' in content)


def test_a_source_left_alone_does_not_stand_in_the_way(tmp_path: Path) -> None:
    """Whoever removes a batch file may leave its source file; it is ours, and replaced."""
    _run(tmp_path, DISK, 1)
    (tmp_path / "out.jsonl").unlink()
    _run(tmp_path, DISK, 2)
    assert json.loads((tmp_path / "out.source.json").read_bytes())["source"]["rows"] == 2


def test_a_source_file_of_an_earlier_release_is_read(tmp_path: Path) -> None:
    """It does not say whether ids were repaired: none were, as that could not be asked for."""
    fields = {"path": "t.csv", "format": "csv", "encoding": "utf-8", "id_template": "{a}", "rows": 3}
    content = {"version": 1, "files": ["a.jsonl"], "source": fields}
    write(tmp_path / "a.source.json", json.dumps(content).encode())
    assert read_source(tmp_path / "a.jsonl", DISK) == Source(str(tmp_path / "t.csv"), "csv", "utf-8", "{a}", 3, False)


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
            writer.source = Source("t.csv", "csv", "utf-8", "{a}", 1, True)
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
