"""JSON as rows: an array of objects, an object on each line or one after the other, or a table as pandas writes it.

Promises: a number keeps its digits, in a cell and nested; the columns are the keys of all rows; what Python and
JavaScript write into unused cells (NaN, Infinity) is an empty cell; one object that is no row is never taken for one.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from doubleword.failure import Exit, Failure, plain
from doubleword.tables import plain_copy
from doubleword.tables.database import Database, text
from doubleword.tables.relation import Column, Relation
from doubleword.tables.staged import Kind, Staged

# The keys of a request line; the JSON of such a row is kept whole, since a request's check has to see it.
REQUEST_KEYS = frozenset({"custom_id", "method", "url", "body"})
LONGEST_ROW = 64 << 20


def relation(path: Path, shown: str, target: Database) -> Relation:
    """The rows of a plain JSON file. Raises Failure (exit 2) for a file that holds no rows."""
    rows, columns = _Rows(path, shown, target), dict[str, tuple[str, Kind]]()
    with Staged(target) as file:
        for found in rows:
            file.add(_staged(found, columns))
    inexact = [plain(name, 60) for name, (_, kind) in columns.items() if kind.is_inexact]
    made = Relation(
        file.sql({"own": "VARCHAR", "problem": "VARCHAR", **{place: "VARCHAR" for place, _ in columns.values()}}),
        [Column(name, f'"{place}"', type=kind.type) for name, (place, kind) in columns.items()],
        own="own",
        problem="problem",
        elsewhere=rows.elsewhere,
        warnings=rows.warnings,
    )
    if inexact:
        said = f"{shown}: numbers of {', '.join(inexact[:5])} have more digits than a number type holds"
        made.warnings.append(f"{said}; as columns of Parquet they are texts")
    return made


class Found(NamedTuple):
    """A row as it was found: its JSON text, where it has one of its own, and its value, which is read where needed."""

    own: str | None
    value: Any = None

    def read(self) -> Any:
        """The value; raises ValueError where the text is not JSON."""
        return self.value if self.own is None else read(self.own)


def _staged(found: Found, columns: dict[str, tuple[str, Kind]]) -> dict[str, str | int | None]:
    """The cells of a row under the places of their columns, or its problem; new columns are added to `columns`."""
    try:
        value = found.read()
        if not isinstance(value, Object):
            raise ValueError("is not a JSON object")
        if value.twice is not None:
            raise ValueError(f"the key {plain(value.twice, 60)} stands twice in one object")
        cells = {name: as_cell(cell) for name, cell in value.items()}
        "".join(cell for cell in cells.values() if cell is not None).encode("utf-8")
    except UnicodeEncodeError:
        return {"problem": "holds half of a surrogate pair, or bytes that are not UTF-8; JSON is always UTF-8"}
    except ValueError as error:
        return {"problem": str(error)}
    line: dict[str, str | int | None] = {}
    for name, cell in value.items():
        place, kind = columns.setdefault(name, (str(len(columns)), Kind()))
        kind.see(cell if isinstance(cell, (str, bool, dict, list)) or cell is None else bytes(cell))
        line[place] = cells[name]
    if value.keys() >= REQUEST_KEYS:
        line["own"] = found.own or as_cell(value)
    return line


class Object(dict[str, Any]):
    """A JSON object; `twice` is a key that stood in it twice."""

    twice: str | None = None


def read(own: str) -> Any:
    """The value of a JSON text: numbers as `msgspec.Raw`, with their digits, objects as `Object`.

    Raises ValueError with one sentence for what is not JSON; NaN and infinity are null.
    """
    try:
        return _decoder().decode(own)
    except json.JSONDecodeError as bad:
        raise ValueError(f"is not JSON: {bad.msg} at column {bad.colno}") from None
    except RecursionError:
        raise ValueError("is nested too deep") from None


@functools.cache
def _decoder() -> json.JSONDecoder:
    from doubleword import json_codec

    def number(digits: str) -> json_codec.Raw:
        return json_codec.Raw(digits.encode())

    def made(pairs: list[tuple[str, Any]]) -> Object:
        value = Object(pairs)
        if len(value) < len(pairs):
            names = [name for name, _ in pairs]
            value.twice = next(name for name in names if names.count(name) > 1)
        return value

    return json.JSONDecoder(object_pairs_hook=made, parse_int=number, parse_float=number, parse_constant=lambda _: None)


def as_cell(value: Any) -> str | None:
    """A value as its cell: a text as it is, others as their JSON."""
    if value is None or isinstance(value, str):
        return value
    from doubleword import json_codec

    return json_codec.encode(value).decode()


class _Rows:
    """All rows, in order; after them `elsewhere` says where in a single object rows may be."""

    def __init__(self, path: Path, shown: str, target: Database) -> None:
        self._path, self._shown, self._target = path, shown, target
        self.elsewhere = ""
        self.warnings: list[str] = []

    def __iter__(self) -> Iterator[Found]:
        with plain_copy.as_text(self._path) as lines:
            start = lines.read(1 << 16).lstrip()
        first = start.partition("\n")[0].strip()
        if first.startswith("["):
            yield from self._array()
        elif first.startswith("{") and first.endswith(("{", "[", ",", ":")):  # an object over several lines
            yield from self._alone(self._objects("unstructured"))
        else:
            yield from self._alone(self._lines())

    def _lines(self) -> Iterator[Found]:
        with plain_copy.as_text(self._path, newline="\n") as lines:
            while line := lines.readline(LONGEST_ROW):
                if len(line) >= LONGEST_ROW:
                    raise self._refused(f"has a line longer than {LONGEST_ROW:,} characters", "is it JSON lines?")
                if line.strip():
                    yield Found(line.strip())

    def _array(self) -> Iterator[Found]:
        """The elements of an array, by DuckDB, which reads them one by one; an array that it refuses, by `json`."""
        given = 0
        with contextlib.suppress(Failure):
            for found in self._objects("array"):
                yield found
                given += 1
            return
        with plain_copy.as_text(self._path) as lines:
            whole = lines.read()
        try:
            elements = read(whole)
        except ValueError as error:
            raise self._refused(str(error), "mend the file; it has to be one JSON array") from None
        yield from (Found(None, one) for one in elements[given:])

    def _objects(self, form: str) -> Iterator[Found]:
        """The JSON texts of a file, as they stand there; what is wrong with one is told before the first of a block."""
        place = text(str(self._path))
        sql = f"SELECT json FROM read_json_objects({place}, format='{form}', maximum_object_size={LONGEST_ROW})"
        blocks = self._target.blocks(sql, lambda said: self._refused(f"is not JSON: {said}", "mend the file"))
        return (Found(str(row[0])) for block in blocks for row in block)

    def _alone(self, rows: Iterator[Found]) -> Iterator[Found]:
        """`rows`, or where there is but one, and it is none, those that stand in it."""
        first = next(rows, None)
        second = next(rows, None)
        if first is not None and second is None:
            yield from self._within(first)
            return
        yield from (one for one in (first, second) if one is not None)
        yield from rows

    def _within(self, found: Found) -> Iterator[Found]:
        try:
            value = found.read()
        except ValueError:
            value = None
        if not isinstance(value, Object) or value.keys() >= REQUEST_KEYS or "messages" in value:
            yield found
            return
        place = _place_of_rows(value)
        if not all(isinstance(one, (dict, list)) for one in value.values()):
            self.elsewhere = place
            yield found
            return
        rows, said = _transposed(value), "its columns are turned into rows"
        if rows is None and place in value:
            rows, said = value[place], f"the rows are those under {plain(place, 60)}"
        if rows is None:
            named = f"its rows seem to be under {place}" if place else "its values are no cells"
            raise self._refused(f"is one JSON object and no row: {named}", "save the list of rows alone, as an array")
        self.warnings.append(f"{self._shown} is one JSON object: {said}")
        yield from (Found(None, Object(one) if isinstance(one, dict) else one) for one in rows)

    def _refused(self, said: str, hint: str) -> Failure:
        return Failure(Exit.BAD_INPUT, "bad_table", f"{self._shown} {said}", hint)


def _place_of_rows(value: dict[str, Any], path: str = "") -> str:
    """Where in an object a list of objects stands, as `data` or `result.rows`; empty where there is none."""
    for name, one in value.items():
        place = f"{path}{name}"
        if isinstance(one, list) and one and all(isinstance(item, dict) for item in one):
            return place
        if isinstance(one, dict) and (found := _place_of_rows(one, f"{place}.")):
            return found
    return ""


def _transposed(value: dict[str, Any]) -> list[Any] | None:
    """The rows of a table that is written column by column, as pandas does by `to_json`; None for anything else."""
    columns, data = value.get("columns"), value.get("data")
    if isinstance(columns, list) and isinstance(data, list) and all(isinstance(row, list) for row in data):
        return [dict(zip(map(str, columns), row, strict=False)) for row in data]
    parts = list(value.values())
    if not parts or not parts[0]:
        return None
    if all(isinstance(one, dict) and one.keys() == parts[0].keys() for one in parts):
        return [{name: one[key] for name, one in value.items()} for key in parts[0]]
    if len(parts) > 1 and all(isinstance(one, list) and len(one) == len(parts[0]) for one in parts):
        return [dict(zip(value, row, strict=True)) for row in zip(*parts, strict=True)]
    return None
