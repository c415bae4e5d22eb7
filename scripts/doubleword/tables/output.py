"""Results in the forms that people use: the server's own lines, CSV, Parquet; joined to the table they came from.

Promises: one row for each request, failed and missing ones included, with their cause; columns of the source
table come first and unchanged in order; structured answers get a column for each property; in CSV no cell is a
formula unless that is asked for; everything is written as it comes, in memory that does not grow with the rows.
"""

from __future__ import annotations

import abc
import io
import itertools
import json
import operator
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from doubleword.failure import Exit, Failure, plain
from doubleword.results import lines as result_lines
from doubleword.results import structured
from doubleword.results.reading import Good, Result
from doubleword.results.usual_answers import UsualAnswers
from doubleword.system import Disk, WholeFile
from doubleword.tables import arrow

# A group of rows that is written at once.
PARQUET_ROWS = 2048
PARQUET_BYTES = 8 << 20
CSV_BYTES = 1 << 16
# Full-width signs too: East Asian versions of spreadsheets take them for the plain ones.
FORMULA_STARTS = frozenset("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")


_START = operator.itemgetter(slice(0, 1))


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

    def add_all(self, good: Good, sources: Sequence[Sequence[Any]], /) -> None:
        """Append good answers, as `add` does each; `sources` are empty where there is no source table."""
        for result, source in zip(good.results(), sources or itertools.repeat(()), strict=False):
            self.add(result, source)

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

    def add_all(self, good: Good, _sources: Sequence[Sequence[Any]], /) -> None:
        """Append the lines of good answers."""
        self._file.write(b"\n".join([*good.kept, b""]))


class Column(NamedTuple):
    """A column of a table and what it holds: text, integer, number, boolean, or vector."""

    name: str
    kind: str = "text"


RESULT_COLUMNS = ("custom_id", "status", "answer", "finish_reason", "prompt_tokens", "completion_tokens", "error")
ANSWER_AT = RESULT_COLUMNS.index("answer")


def columns_of(source: Sequence[str], endpoints: set[str], properties: Mapping[str, str]) -> list[Column]:
    """The columns of a table: those of `source`, then what results add, `properties` of structured answers among it.

    `properties` says of each what it holds. A name that is taken already gets `result_` in front.
    """
    taken = set(source)

    def free(name: str) -> str:
        while name in taken:
            name = f"result_{name}"
        taken.add(name)
        return name

    added = [Column(free(name), "integer" if name.endswith("_tokens") else "text") for name in RESULT_COLUMNS]
    if endpoints == {"/v1/embeddings"}:
        added[ANSWER_AT] = Column(free("embedding"), "vector")
    added[ANSWER_AT + 1 : ANSWER_AT + 1] = [Column(free(name), kind) for name, kind in properties.items()]
    return [*map(Column, source), *added]


def result_cells(result: Result, properties: Sequence[str] = ()) -> list[Any]:
    """The cells that a result adds, in the order of `columns_of`; an embedding is a list of numbers.

    Those of `properties` are empty unless the answer is what was asked for.
    """
    answer: Any = None
    reason: str | None = None
    spent: tuple[int | None, int | None] = (None, None)
    body = _answer_of(result)
    endpoint = result.endpoint
    if body is not None:
        found = result_lines.vectors(body) if endpoint == "/v1/embeddings" else []
        answer = found[0] if len(found) == 1 else result_lines.answer_text(body, endpoint)
        reason = result_lines.finish_reason(body, endpoint)
        spent = result_lines.tokens(body)
    fields = _fields(result, body) if properties and body is not None else {}
    values = [fields.get(name) for name in properties]
    return [result.custom_id, result.status, answer, *values, reason or None, *spent, result.cause]


def _answer_of(result: Result) -> dict[str, Any] | None:
    """The body of an answer, be it only an invalid one; None where there is none."""
    if result.line is None or (result.kind != "succeeded" and result.status != "invalid"):
        return None
    body: dict[str, Any] = result.body or (result_lines.parse(result.line) or {})["response"]["body"]
    return body


def _fields(result: Result, body: dict[str, Any]) -> dict[str, Any]:
    """The properties of a structured answer, the first of several."""
    if result.kind != "succeeded" or result.endpoint == "/v1/embeddings":
        return {}
    try:
        value = structured.read(result_lines.answer_texts(body, result.endpoint)[0])
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


class Csv(Table):
    """A CSV file in UTF-8. Cells a spreadsheet would run as formulas get a `'` in front unless `raw_cells`."""

    def __init__(
        self, file: WholeFile, columns: Sequence[Column], properties: Sequence[str] = (), raw_cells: bool = False
    ) -> None:
        super().__init__(file)
        self._columns = columns
        self._properties = properties
        self._raw = raw_cells
        self._rows: list[bytes] = []
        self._bytes = 0

    def begin(self) -> None:
        """Write the header."""
        self._keep(self._written([column.name for column in self._columns]) + b"\n")

    def pack(self, result: Result) -> bytes:
        """The end of an answer's row, as it will stand in the file."""
        return self._written(result_cells(result, self._properties)) + b"\n"

    def pack_usual(self, answers: UsualAnswers) -> list[bytes]:
        """As `pack`, of many answers that ask for no look at them."""
        _, custom_ids, texts, prompts, completions, _ = answers
        same = itertools.repeat
        empty = [same("")] * len(self._properties)
        said = (self._column(custom_ids), same("succeeded"), self._column(texts), *empty, same("stop"))
        return _rows(*said, prompts, completions, same("\n"))

    def add(self, result: Result, source: Sequence[Any], /) -> None:
        """Append one row."""
        end = self.pack(result) if result.packed is None else result.packed
        self._keep(self._written([*source, ""]) + end if source else end)

    def add_all(self, good: Good, sources: Sequence[Sequence[Any]], /) -> None:
        """Append the rows of good answers."""
        if not good.packed:
            super().add_all(good, sources)
            return
        rows = good.kept
        if sources:
            starts = _rows(*map(self._column, zip(*sources, strict=True)), itertools.repeat(""))
            rows = list(itertools.chain.from_iterable(zip(starts, good.kept, strict=True)))
        self._keep(b"".join(rows))

    def end(self) -> None:
        """Write the last rows."""
        self._file.write(b"".join(self._rows))
        self._rows.clear()
        self._bytes = 0

    def _keep(self, row: bytes) -> None:
        self._rows.append(row)
        self._bytes += len(row)
        if self._bytes > CSV_BYTES:
            self.end()

    def _written(self, cells: Sequence[Any]) -> bytes:
        """`cells` as they stand in a row; with an empty one at the end, as they stand before another."""
        return ",".join(_quoted(map(self._cell, cells))).encode("utf-8", "replace")

    def _column(self, cells: Sequence[Any]) -> Sequence[str]:
        """Cells of one column as they stand in their rows."""
        every = "".join(cells) if set(map(type, cells)) == {str} else "\0"
        if "\0" in every or not FORMULA_STARTS.isdisjoint(map(_START, cells)):
            cells = list(map(self._cell, cells))
            every = "".join(cells)
        plain = "," not in every and '"' not in every and "\n" not in every and "\r" not in every
        return cells if plain else _quoted(cells)

    def _cell(self, value: Any) -> str:
        if type(value) is not str:
            if value is None:
                return ""
            value = str(value) if type(value) is int else json.dumps(value, ensure_ascii=False)
        if "\0" in value:
            value = value.replace("\0", "")  # no reader of CSV takes it
        return value if self._raw or value[:1] not in FORMULA_STARTS else without_formula(value)


# What csv.writer does, which takes three times as long and is most of what a table costs; a test holds it to that.


def _quoted(cells: Iterable[str]) -> list[str]:
    """Cells as they stand in a row; also a bare CR is quoted, at which some readers would end the row."""
    return [
        '"' + cell.replace('"', '""') + '"' if '"' in cell or "," in cell or "\n" in cell or "\r" in cell else cell
        for cell in cells
    ]


def _rows(*columns: Iterable[str]) -> list[bytes]:
    """The rows of which these are the columns, whose cells are quoted and hold no NUL; at least one row.

    A lone surrogate of a model has no UTF-8; it becomes a question mark rather than ending the table.
    """
    rows = map(",".join, zip(*columns, strict=False))  # some columns are one cell again and again
    return "\0".join(rows).encode("utf-8", "replace").split(b"\0")


def without_formula(text: str) -> str:
    """`text`, with a `'` before what a spreadsheet would run; plain numbers such as -5.2 stay as they are."""
    if text[:1] in FORMULA_STARTS and not re.fullmatch(r"[+-]?[0-9][0-9.,]*(e[+-]?[0-9]+)?", text):
        return "'" + text
    return text


class Parquet(Table):
    """A Parquet file, written in groups of rows, each column of the type that holds what it says."""

    def __init__(self, file: WholeFile, columns: Sequence[Column], properties: Sequence[str] = ()) -> None:
        super().__init__(file)
        self._columns = columns
        self._properties = properties
        self._rows: list[list[Any]] = []
        self._bytes = 0
        self._schema: Any = None
        self._sink: _Sink | None = None
        self._writer: Any = None

    def begin(self) -> None:
        """Open the writer; needs pyarrow."""
        import pyarrow
        import pyarrow.parquet

        types = arrow.types()
        self._schema = pyarrow.schema([(column.name, types[column.kind]) for column in self._columns])
        self._sink = _Sink(self._file)
        self._writer = pyarrow.parquet.ParquetWriter(pyarrow.PythonFile(self._sink, mode="w"), self._schema)

    def add(self, result: Result, source: Sequence[Any], /) -> None:
        """Append one row; raises Failure (2) for an answer of several vectors, for which there is one cell."""
        cells = [*source, *result_cells(result, self._properties)]
        at = len(source) + ANSWER_AT
        if type(cells[at]) is str and self._columns[at].kind == "vector":
            raise several_vectors(result)
        self._rows.append(cells)
        self._bytes += len(result.line or b"")
        if len(self._rows) >= PARQUET_ROWS or self._bytes >= PARQUET_BYTES:
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
        columns = zip(self._columns, zip(*self._rows, strict=True), strict=True)
        arrays = [arrow.column(column.kind, cells) for column, cells in columns]
        self._writer.write_batch(pyarrow.record_batch(arrays, schema=self._schema))
        self._rows.clear()
        self._bytes = 0


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


def several_vectors(result: Result) -> Failure:
    """A request that gave more than one text to embed, where only one vector has a place."""
    message = f"the answer to {plain(result.custom_id, 64)} holds several vectors, and a row has one cell for one"
    return Failure(Exit.BAD_INPUT, "several_vectors", message, "fetch them with --format jsonl or csv")


class SourceCells:
    """The cells of a source table for requests, asked in the order of the table.

    `blocks` gives custom_ids and the cells of each; rows that no request was made of are passed over. `name` is that
    of the table in the Failure (2) for an id that the rest of it does not hold.
    """

    def __init__(self, blocks: Iterator[tuple[Sequence[str], Sequence[Sequence[Any]]]], name: str) -> None:
        self._blocks = blocks
        self._name = name
        self._ids: Sequence[str] = ()
        self._cells: Sequence[Sequence[Any]] = ()
        self._at = 0

    def of(self, custom_id: str) -> Sequence[Any]:
        """The cells of one request."""
        while self._at < len(self._ids) or self._next():
            self._at += 1
            if self._ids[self._at - 1] == custom_id:
                return self._cells[self._at - 1]
        message = f"{self._name} has no row for the request {plain(custom_id, 64)}, or not where the order asks for it"
        hint = "join the table, unchanged, that create_batch_file.py read; or leave --join out"
        raise Failure(Exit.BAD_INPUT, "join_mismatch", message, hint)

    def of_all(self, custom_ids: Sequence[str]) -> list[Sequence[Any]]:
        """The cells of each of many requests."""
        found: list[Sequence[Any]] = []
        while len(found) < len(custom_ids):
            size = min(len(custom_ids) - len(found), len(self._ids) - self._at)
            wanted = custom_ids[len(found) : len(found) + size]
            if size and list(self._ids[self._at : self._at + size]) == list(wanted):
                found += self._cells[self._at : self._at + size]
                self._at += size
            else:
                found.append(self.of(custom_ids[len(found)]))
        return found

    def _next(self) -> bool:
        """Go on to the next block; whether there is one."""
        self._ids, self._cells = next(self._blocks, ((), ()))
        self._at = 0
        return bool(self._ids)


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
