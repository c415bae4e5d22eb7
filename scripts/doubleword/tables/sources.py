"""Rows out of a table: CSV, TSV, a JSON array, JSON lines, Parquet or plain text, from a file or standard input;
or out of a folder of files.

Promises: rows come in the order of the table and in constant memory, numbered from 1; a row that cannot be read
is named and never silently left out, a table that cannot be read ends with exit 2.
"""

from __future__ import annotations

import codecs
import functools
import itertools
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from doubleword.failure import Exit, Failure, plain
from doubleword.request_lines.line import BLANK
from doubleword.request_lines.line import read as strict_json
from doubleword.system import Disk
from doubleword.tables import folders, json_array
from doubleword.tables.text_encoding import MARK_BYTES, encoding_of, undecodable

STDIN = "-"
FOLDER = "folder"
FORMATS = ("csv", "tsv", "json", "jsonl", "parquet", "text")
ENDINGS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".txt": "text",
    ".text": "text",
}
# A row or a cell above this is a quote that was never closed, or no row at all; it must not fill the memory.
MAX_ROW_BYTES = 64 * 1024 * 1024
BLOCK_BYTES = 1 << 20
BLOCK_CHARACTERS = 1 << 16
ROWS_AT_ONCE = 100
PARQUET_ROWS = 1024
PARQUET_BUFFER_BYTES = 1 << 16


class BadRow(Failure):
    """One row cannot become a request (exit 2); `--skip-invalid` passes over it, and says so."""

    def __init__(self, number: int, cause: str, code: str = "bad_row", hint: str = "mend the row") -> None:
        hint += ", or add --skip-invalid to leave such rows out and list them in warnings"
        super().__init__(Exit.BAD_INPUT, code, f"row {number}: {cause}", hint)
        self.number = number
        self.cause = cause


@dataclass(frozen=True)
class Row:
    """One row of a table; `number` counts data rows from 1. `problem` says why it has no values."""

    number: int
    values: Mapping[str, Any]
    problem: str | None = None


# --- reading --------------------------------------------------------------------------------------------------


def read(path: Path, disk: Disk, format: str | None = None, encoding: str = "utf-8") -> Iterator[Row]:
    """Yield the rows of `path` (`-` is standard input), one at a time.

    `format` is one of `FORMATS` or None: then the ending tells, and for JSON and standard input the first
    character; a folder has the format `FOLDER`. Raises Failure (exit 2) for a file that is not there or not such
    a table.
    """
    if is_folder(path, disk, format):
        for number, (values, problem) in enumerate(folders.entries(path, disk, encoding), 1):
            yield Row(number, values, problem)
        return
    with _opened(path, disk) as file:
        kind = _format(path, format, file)
        yield from _READERS[kind](_Table(path, file, encoding))


def read_cells(
    path: Path, disk: Disk, format: str | None = None, encoding: str = "utf-8", limit: int | None = None
) -> Iterator[Cells] | None:
    """At most `limit` of the rows that `read` gives, many at once and as bare cells, several times faster.

    The first item holds only the header, as row 0. None for what is not CSV or TSV, and for standard input. Raises
    Failure as `read` does, once the first item is asked for.
    """
    if str(path) == STDIN or is_folder(path, disk, format):
        return None
    with _opened(path, disk) as file:
        kind = _format(path, format, file)
    return _read_cells(path, disk, kind, encoding, limit) if kind in ("csv", "tsv") else None


def columns(path: Path, disk: Disk, format: str | None = None, encoding: str = "utf-8") -> list[str]:
    """The column names of `path`: the header, the schema, or for JSON the keys of the first row."""
    if is_folder(path, disk, format):
        return folders.columns(path, disk, encoding)
    with _opened(path, disk) as file:
        table = _Table(path, file, encoding)
        kind = _format(path, format, file)
        if kind in ("csv", "tsv"):
            with _csv_reader(table, kind) as rows:
                return _header(table, rows)
        if kind == "parquet":
            return [str(name) for name in _parquet(table).schema_arrow.names]
        if kind == "text":
            return ["text"]
        first = next(iter(_READERS[kind](table)), None)
        return list(first.values) if first else []


def format_of(path: Path, disk: Disk, format: str | None = None) -> str:
    """The format in which `read` would read `path`, one of `FORMATS` or `FOLDER`."""
    if is_folder(path, disk, format):
        return FOLDER
    if format or str(path) != STDIN:
        with _opened(path, disk) as file:
            return _format(path, format, file)
    return "json"


def blocks(file: BinaryIO, limit: int) -> Iterator[tuple[bytes, list[bytes]]]:
    """Yield each block of `file` with the lines that end in it, without their line feeds.

    Lines end at b"\\n" and nowhere else. Of a line longer than `limit` bytes only the beginning is kept, more
    than `limit` of it, so that the memory stays bounded and the reader sees that the line is too long.
    """
    rest = b""
    while block := file.read(BLOCK_BYTES):
        lines = block.split(b"\n")
        lines[0] = rest + lines[0] if len(rest) <= limit else rest
        rest = lines.pop()
        yield block, lines
    if rest:
        yield b"", [rest]


@dataclass
class _Table:
    """An open table, and what its readers need to say where something is wrong.

    `doubtful` is set once bytes came that are not in its encoding: from then on rows are looked at one by one.
    `lines` is how many lines ended in the last block of text, which tells long rows from short ones.
    """

    path: Path
    file: BinaryIO
    encoding: str
    doubtful: bool = False
    lines: int = 0

    def failure(self, message: str, hint: str = "", code: str = "bad_table") -> Failure:
        name = "standard input" if str(self.path) == STDIN else plain(self.path, 120)
        return Failure(Exit.BAD_INPUT, code, f"{name} {message}", hint)

    def text(self, newline: str) -> TextIO:
        """The file as text; bytes that are none become lone surrogates, for `_undecodable` to find."""
        import io

        self.encoding = encoding_of(self.encoding, _peek(self.file)[:MARK_BYTES])
        return io.TextIOWrapper(self.file, encoding=self.encoding, errors="surrogateescape", newline=newline)

    def require_utf8(self) -> None:
        start = _peek(self.file)[:MARK_BYTES]
        if encoding_of(self.encoding, b"") != "utf-8":
            raise self.failure("is JSON, which is always UTF-8", "leave --encoding out", "bad_arguments")
        if not (found := encoding_of("utf-8", start)).startswith("utf-8"):
            raise self.failure(f"is {found.upper()}, and JSON is always UTF-8", "save the file as UTF-8")


def is_folder(path: Path, disk: Disk, format: str | None = None) -> bool:
    """Whether `path` is a folder to be read as a table; raises Failure (exit 2) where `format` says that it is not."""
    if str(path) == STDIN or not disk.is_folder(path):
        return False
    if format not in (None, FOLDER):
        message = f"{plain(path)} is a folder, not {format}"
        raise Failure(Exit.BAD_INPUT, "bad_arguments", message, "leave --input-format out, or name a file in it")
    return True


@contextmanager
def _opened(path: Path, disk: Disk) -> Iterator[BinaryIO]:
    """The file, or standard input, open for reading with a `peek`."""
    import io

    if str(path) == STDIN:
        if sys.stdin is None:
            raise Failure(Exit.BAD_INPUT, "no_input", "standard input is closed", "name a file: --input PATH")
        yield sys.stdin.buffer
        return
    with open_input(path, disk) as file:
        yield file if hasattr(file, "peek") else io.BufferedReader(file)  # type: ignore[type-var]


def open_input(path: Path, disk: Disk) -> BinaryIO:
    """`path` open for reading; raises Failure (exit 2) where it is missing, a folder or not readable."""
    try:
        return disk.open(path)
    except FileNotFoundError:
        message, hint = f"there is no file {plain(path)}", "check the path; it is relative to the working directory"
    except IsADirectoryError:
        message, hint = f"{plain(path)} is a folder", "name a file in it"
    except PermissionError:
        message, hint = f"{plain(path)} may not be read", "check the file's permissions"
    raise Failure(Exit.BAD_INPUT, "no_file", message, hint)


def _peek(file: BinaryIO) -> bytes:
    return file.peek(4096)  # type: ignore[attr-defined, no-any-return]


def _format(path: Path, given: str | None, file: BinaryIO) -> str:
    kind = given or ("json" if str(path) == STDIN else ENDINGS.get(path.suffix.lower()))
    if kind not in FORMATS:
        message = f"{plain(path)}: the ending does not tell the format" if given is None else f"no format {given}"
        hint = f"add --input-format with one of {', '.join(FORMATS)}"
        raise Failure(Exit.BAD_INPUT, "unknown_format", message, hint)
    if kind in ("json", "jsonl"):  # an array by its bracket, whatever the ending says
        start = _peek(file).removeprefix(codecs.BOM_UTF8).lstrip(BLANK)[:1]
        return {b"[": "json", b"{": "jsonl"}.get(start, kind)
    if kind == "parquet" and str(path) == STDIN:
        raise Failure(Exit.BAD_INPUT, "bad_arguments", "Parquet cannot be read from standard input", "name a file")
    return kind


# CSV and TSV


@contextmanager
def _csv_reader(table: _Table, kind: str) -> Iterator[Iterator[list[str]]]:
    """The lines' cells, without empty lines, at the speed of the standard library's reader."""
    import csv

    csv.field_size_limit(MAX_ROW_BYTES)
    start = _peek(table.file)
    with table.text(newline="") as text:
        header = start.decode(table.encoding, "ignore")
        lines = itertools.chain.from_iterable(_line_blocks(table, text))
        reader = csv.reader(lines, delimiter=_delimiter(header) if kind == "csv" else "\t", strict=True)
        try:
            yield filter(None, reader)
        except csv.Error as error:
            hint = "look for a quote that is not closed, or not doubled inside a quoted cell, in this row or before it"
            raise table.failure(f"cannot be read at line {reader.line_num}: {error}", hint) from None


def _delimiter(start: str) -> str:
    """What separates the cells of a CSV table that begins with `start`: the comma, or a semicolon, as spreadsheets
    write it where the comma is the decimal sign, if the header has semicolons and no comma outside of quotes.
    """
    header = re.split(r"[\r\n]", re.sub(r'"[^"]*("|$)', "", start).lstrip(), maxsplit=1)[0]
    return ";" if ";" in header and "," not in header else ","


def _header(table: _Table, rows: Iterator[list[str]]) -> list[str]:
    header = next(rows, None)
    if header is None:
        raise table.failure("is empty", "the first line must name the columns", "no_rows")
    if "\0" in "".join(header):
        raise table.failure("has a header with NUL characters", "if it is UTF-16 add --encoding utf-16-le or utf-16-be")
    _refuse_twice(table, header)
    if bad := undecodable("".join(header), table.encoding):
        raise table.failure(f"has a header that {bad}", "add --encoding NAME, often cp1252")
    return header


def _refuse_twice(table: _Table, names: Sequence[str]) -> None:
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise table.failure(f"names the column {plain(twice[0], 60)} twice", "give columns unlike names")


def _separated(table: _Table, kind: str) -> Iterator[Row]:
    with _csv_reader(table, kind) as rows:
        header = _header(table, rows)
        for number, cells in enumerate(rows, 1):
            yield _row(table, header, number, cells)


def _row(table: _Table, header: list[str], number: int, cells: list[str]) -> Row:
    if len(cells) != len(header):
        return Row(number, {}, f"has {len(cells)} cells, and the header {len(header)}")
    if table.doubtful and (bad := undecodable("".join(cells), table.encoding)):
        return Row(number, {}, f"{bad}; name the file's encoding with --encoding, often cp1252")
    return Row(number, dict(zip(header, cells, strict=True)))


@dataclass(frozen=True)
class Cells:
    """Rows of a CSV or TSV table as bare cells; `first` is the number of the first. They are `sound` when each has
    as many cells as the header and all bytes were in the table's encoding. `rows` gives the same as `read` does.
    """

    first: int
    cells: list[list[str]]
    sound: bool
    _table: _Table
    _header: list[str]

    def rows(self) -> Iterator[Row]:
        """The rows one by one, with their values by column or what is wrong with them."""
        for number, cells in enumerate(self.cells, self.first):
            yield _row(self._table, self._header, number, cells)


def _read_cells(path: Path, disk: Disk, kind: str, encoding: str, limit: int | None) -> Iterator[Cells]:
    with _opened(path, disk) as file:
        table = _Table(path, file, encoding)
        with _csv_reader(table, kind) as rows:
            header = _header(table, rows)
            yield Cells(0, [header], True, table, header)
            left = itertools.islice(rows, limit)
            first = 1
            while cells := list(itertools.islice(left, max(1, min(ROWS_AT_ONCE, table.lines)))):
                sound = not table.doubtful and all(map(len(header).__eq__, map(len, cells)))
                yield Cells(first, cells, sound, table, header)
                first += len(cells)


# Text and JSON lines


def _text(table: _Table) -> Iterator[Row]:
    with table.text(newline="\n") as text:
        for number, line in enumerate(itertools.chain.from_iterable(_line_blocks(table, text, "\n")), 1):
            line = line.rstrip("\r\n")  # noqa: PLW2901
            bad = undecodable(line, table.encoding) if table.doubtful else None
            yield Row(number, {} if bad else {"text": line}, bad and f"{bad}; name the encoding with --encoding")


def _line_blocks(table: _Table, text: TextIO, newline: str = "") -> Iterator[Iterable[str]]:
    """The lines of `text`, with their ends, in blocks; from the first block with undecodable bytes on the table is
    doubtful. A line that is too long ends the reading before it fills the memory.
    """
    import io

    number, rest = 0, ""
    try:
        while block := text.read(BLOCK_CHARACTERS):
            if not table.doubtful and undecodable(block, table.encoding):
                table.doubtful = True
            end = block.rfind("\n") + 1
            if not newline:  # a bare CR ends a line too, but one at the end may be half of CR LF
                end = max(end, block.rfind("\r", 0, -1) + 1)
            if end:
                yield io.StringIO(rest + block[:end], newline)
                rest = block[end:]
            else:
                rest += block
            table.lines = block.count("\n")
            number += table.lines
            if len(rest) >= MAX_ROW_BYTES:
                raise table.failure(f"has a line {number + 1} longer than {MAX_ROW_BYTES:,} characters")
    except UnicodeError as error:
        raise table.failure(f"cannot be read after line {number}: {plain(error)}", "add --encoding NAME") from None
    if rest:
        yield io.StringIO(rest, newline)


def _json_lines(table: _Table) -> Iterator[Row]:
    table.require_utf8()
    number = 0
    for _, lines in blocks(table.file, MAX_ROW_BYTES):
        for line in lines:
            if number == 0:
                line = line.removeprefix(codecs.BOM_UTF8)  # noqa: PLW2901
            if not line.strip(BLANK):
                continue
            number += 1
            if len(line) > MAX_ROW_BYTES:
                yield Row(number, {}, f"is longer than {MAX_ROW_BYTES:,} bytes")
            else:
                yield _object(number, line)


def _object(number: int, line: bytes) -> Row:
    """The row in one line of JSON, or why it is none."""
    try:
        value = strict_json(line)
    except ValueError as error:
        return Row(number, {}, str(error))
    return Row(number, value) if isinstance(value, dict) else Row(number, {}, "is not a JSON object")


def _json_array(table: _Table) -> Iterator[Row]:
    table.require_utf8()
    for number, (values, problem) in enumerate(json_array.objects(table.file, MAX_ROW_BYTES, table.failure), 1):
        yield Row(number, values, problem)


# Parquet


def _parquet(table: _Table) -> Any:
    from pyarrow import ArrowInvalid
    from pyarrow.parquet import ParquetFile

    try:
        file = ParquetFile(table.file, pre_buffer=False, buffer_size=PARQUET_BUFFER_BYTES)
    except ArrowInvalid as error:
        raise table.failure(f"is not Parquet: {plain(error, 120)}") from None
    _refuse_twice(table, file.schema_arrow.names)
    return file


def _parquet_rows(table: _Table) -> Iterator[Row]:
    from pyarrow import types

    number, file = 0, _parquet(table)
    usual = (types.is_string, types.is_large_string, types.is_integer, types.is_floating, types.is_boolean)
    others = [one.name for one in file.schema_arrow if not any(is_kind(one.type) for is_kind in usual)]
    # Threads would read columns ahead, for a row group of any size.
    for batch in file.iter_batches(batch_size=PARQUET_ROWS, use_threads=False):
        for values in batch.to_pylist():
            number += 1
            for name in others:
                values[name] = _as_json(values[name])
            yield Row(number, values)


def _as_json(value: Any) -> Any:
    """`value` as JSON could hold it: dates, decimals and the like as text, bytes as the UTF-8 that they may be."""
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if isinstance(value, dict):
        return {key: _as_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_json(item) for item in value]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


_READERS: dict[str, Callable[[_Table], Iterator[Row]]] = {
    "csv": functools.partial(_separated, kind="csv"),
    "tsv": functools.partial(_separated, kind="tsv"),
    "json": _json_array,
    "jsonl": _json_lines,
    "parquet": _parquet_rows,
    "text": _text,
}
