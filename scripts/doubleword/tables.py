"""Results in the forms that people use: the server's own lines, CSV, Parquet; joined to the table they came from.

Promises: one row for each request, failed and missing ones included, with their cause; columns of the source
table come first and unchanged in order; in CSV no cell is a formula unless that is asked for; everything is
written as it comes, in memory that does not grow with the number of rows.
"""

from __future__ import annotations

import abc
import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

from doubleword import result_lines
from doubleword.failure import Exit, Failure, plain
from doubleword.outside import Disk, WholeFile
from doubleword.results import Result

PARQUET_ROWS = 2048
CSV_CHARACTERS = 1 << 16
# Full-width signs too: East Asian versions of spreadsheets take them for the plain ones.
FORMULA_STARTS = frozenset("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")


class Table(abc.ABC):
    """What results are written to: a context manager around `add` for each request, in a file opened by the caller."""

    def __init__(self, file: WholeFile) -> None:
        self._file = file

    def __enter__(self) -> Table:
        self.begin()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.end()
        else:
            self.abandon()

    def begin(self) -> None:  # noqa: B027
        """Write what stands before the first row."""

    @abc.abstractmethod
    def add(self, result: Result, source: Sequence[Any], /) -> None:
        """Append one request's result, with the cells of its source row."""

    def end(self) -> None:  # noqa: B027
        """Write what stands after the last row."""

    def abandon(self) -> None:  # noqa: B027
        """Write nothing more: the file will not be kept."""


class Lines(Table):
    """The server's own lines of the requests that succeeded; failed ones belong to the errors file."""

    def add(self, result: Result, _source: Sequence[Any], /) -> None:
        """Append the line of a request that succeeded."""
        if result.kind == "succeeded" and result.line is not None:
            self._file.write(result.line + b"\n")


def result_columns(endpoints: set[str], taken: Sequence[str]) -> list[str]:
    """Names of the columns that results add; one that the source has already is prefixed with `result_`."""
    answer = "embedding" if endpoints == {"/v1/embeddings"} else "answer"
    names = ["custom_id", "status", answer, "finish_reason", "prompt_tokens", "completion_tokens", "error"]
    return [f"result_{name}" if name in taken else name for name in names]


def result_cells(result: Result) -> list[Any]:
    """The cells for `result_columns`, in their order; an embedding is a list of numbers."""
    answer: Any = None
    reason: str | None = None
    spent: tuple[int | None, int | None] = (None, None)
    if result.kind == "succeeded" and result.line is not None:
        value = result_lines.parse(result.line) or {}
        body = value["response"]["body"]
        endpoint = result.endpoint
        vector = body["data"][0]["embedding"] if endpoint == "/v1/embeddings" and len(body["data"]) == 1 else None
        answer = vector if isinstance(vector, list) else result_lines.answer_text(body, endpoint)
        reason = result_lines.finish_reason(body, endpoint)
        spent = result_lines.tokens(body)
    return [result.custom_id, result.kind, answer, reason or None, *spent, result.cause]


class Csv(Table):
    """A CSV file in UTF-8. Cells a spreadsheet would run as formulas get a `'` in front unless `raw_cells`."""

    def __init__(self, file: WholeFile, columns: Sequence[str], raw_cells: bool) -> None:
        super().__init__(file)
        self._columns = columns
        self._raw = raw_cells
        self._rows: list[str] = []
        self._characters = 0
        # A bare CR in a cell is quoted only where CR belongs to the line's end, so that is \\r\\n at first.
        self._writer = csv.writer(SimpleNamespace(write=self._rows.append), lineterminator="\r\n")

    def begin(self) -> None:
        """Write the header."""
        self._write(self._columns)

    def add(self, result: Result, source: Sequence[Any], /) -> None:
        """Append one row."""
        self._write([*source, *result_cells(result)])

    def end(self) -> None:
        """Write the last rows."""
        # A lone surrogate of a model has no UTF-8; it becomes a question mark rather than ending the table.
        self._file.write("".join([f"{row[:-2]}\n" for row in self._rows]).encode("utf-8", "replace"))
        self._rows.clear()

    def _write(self, cells: Sequence[Any]) -> None:
        cell = self._cell
        self._writer.writerow(
            [
                one if type(one) is str and one[:1] not in FORMULA_STARTS and "\0" not in one else cell(one)
                for one in cells
            ]
        )
        self._characters += len(self._rows[-1])
        if self._characters > CSV_CHARACTERS:
            self._characters = 0
            self.end()

    def _cell(self, value: Any) -> str:
        if type(value) is not str:
            if value is None:
                return ""
            value = str(value) if type(value) is int else json.dumps(value, ensure_ascii=False)
        if "\0" in value:
            value = value.replace("\0", "")  # no reader of CSV takes it
        return value if self._raw or value[:1] not in FORMULA_STARTS else without_formula(value)


def without_formula(text: str) -> str:
    """`text`, with a `'` before what a spreadsheet would run; plain numbers such as -5.2 stay as they are."""
    if text[:1] in FORMULA_STARTS and not re.fullmatch(r"[+-]?[0-9][0-9.,]*(e[+-]?[0-9]+)?", text):
        return "'" + text
    return text


class Parquet(Table):
    """A Parquet file, written in groups of rows; `source_types` are the Arrow types of the source's columns."""

    def __init__(self, file: WholeFile, columns: Sequence[str], source_types: Mapping[str, Any]) -> None:
        super().__init__(file)
        self._columns = list(columns)
        self._types = source_types
        self._rows: list[list[Any]] = []
        self._schema: Any = None
        self._sink: _Sink | None = None
        self._writer: Any = None

    def begin(self) -> None:
        """Open the writer; needs pyarrow."""
        import pyarrow
        import pyarrow.parquet

        kinds = {
            "embedding": pyarrow.list_(pyarrow.float32()),
            "prompt_tokens": pyarrow.int64(),
            "completion_tokens": pyarrow.int64(),
        }
        fields = [
            (name, self._types.get(name) or kinds.get(name.removeprefix("result_")) or pyarrow.string())
            for name in self._columns
        ]
        self._schema = pyarrow.schema(fields)
        self._sink = _Sink(self._file)
        self._writer = pyarrow.parquet.ParquetWriter(pyarrow.PythonFile(self._sink, mode="w"), self._schema)

    def add(self, result: Result, source: Sequence[Any], /) -> None:
        """Append one row."""
        self._rows.append([*source, *result_cells(result)])
        if len(self._rows) >= PARQUET_ROWS:
            self._flush()

    def end(self) -> None:
        """Write the last group and the footer."""
        self._flush()
        self._writer.close()

    def abandon(self) -> None:
        """Let go of the writer, which would write its footer at last, whatever became of the file."""
        if self._sink is not None:
            self._sink.kept = False

    def _flush(self) -> None:
        import pyarrow

        if not self._rows:
            return
        arrays = [
            pyarrow.array([_fitting(row[index], field.type) for row in self._rows], type=field.type)
            for index, field in enumerate(self._schema)
        ]
        self._writer.write_batch(pyarrow.record_batch(arrays, schema=self._schema))
        self._rows.clear()


class _Sink(io.RawIOBase):
    """What pyarrow writes to: the whole file, which only grows, while it is `kept`."""

    def __init__(self, file: WholeFile) -> None:
        self._whole = file
        self.kept = True

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        if self.kept:
            self._whole.write(bytes(data))
        return len(data)

    def tell(self) -> int:
        return self._whole.bytes


def _fitting(value: Any, kind: Any) -> Any:
    """`value` as its column holds it: text columns take anything as text, JSON for what is nested."""
    import pyarrow

    if value is None or not pyarrow.types.is_string(kind):
        return value
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.encode("utf-8", "replace").decode()


def joined(source: Iterator[tuple[str, list[Any]]], custom_ids: str) -> Callable[[str], list[Any]]:
    """A function that gives the source cells for each custom_id, asked in the order of the source.

    `source` yields (custom_id, cells); rows that no request was made of are passed over. `custom_ids` names the
    table in the Failure (2) for an id that the rest of the source does not hold.
    """

    def cells_of(custom_id: str) -> list[Any]:
        for found, cells in source:
            if found == custom_id:
                return cells
        message = f"{custom_ids} has no row for the request {plain(custom_id, 64)}, or not where the order asks for it"
        hint = "join the table, unchanged, that create_batch_file.py read; or leave --join out"
        raise Failure(Exit.BAD_INPUT, "join_mismatch", message, hint)

    return cells_of


def sha256_of(path: Path, disk: Disk) -> str | None:
    """Hexadecimal SHA-256 of a file; None when there is none."""
    import hashlib

    try:
        file: BinaryIO = disk.open(path)
    except OSError:
        return None
    with file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
