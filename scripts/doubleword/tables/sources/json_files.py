"""JSON as rows: an array of objects, an object on each line or one after the other, or a table as pandas writes it.

Promises: a number keeps its digits, in a cell and nested; the columns are the keys of all rows; what Python and
JavaScript write into unused cells (NaN, Infinity) is an empty cell; one object that is no row is never taken for one.
"""

from __future__ import annotations

import collections
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from doubleword.failure import Exit, Failure, plain
from doubleword.quick_msgspec import Raw, encode
from doubleword.tables import plain_copy
from doubleword.tables.database import Database
from doubleword.tables.json_values import Found, Values, said_of
from doubleword.tables.relation import Column, Relation
from doubleword.tables.staged import Kind, Staged

# The keys of a request line; the JSON of such a row is kept whole, since a request's check has to see it.
REQUEST_KEYS = frozenset({"custom_id", "method", "url", "body"})
EXAMPLE = '{"text": "…"}'
HINT = "save the list of rows alone, as an array"


def relation(path: Path, shown: str, encoding: str, target: Database) -> Relation:
    """The rows of a plain JSON file. Raises Failure (exit 2) for a file that holds no rows."""
    whole, encoding = plain_copy.in_utf8(path, encoding, target)
    columns, made = dict[str, tuple[str, Kind]](), Relation("", [], own="own", problem="problem")
    with Staged(target) as file, plain_copy.as_text(whole, newline="\n") as lines:
        try:
            for found in _rows(Values(lines, _DECODER), shown, made):
                file.add(_staged(found, columns, encoding))
        except ValueError as error:
            raise _refused(f"{shown} {error}", "mend the file, or make it anew") from None
    made.sql = file.sql({"own": "VARCHAR", "problem": "VARCHAR", **{place: "VARCHAR" for place, _ in columns.values()}})
    made.columns = [Column(name, f'"{place}"', type=kind.type) for name, (place, kind) in columns.items()]
    inexact = [plain(name, 60) for name, (_, kind) in columns.items() if kind.is_inexact]
    if inexact:
        said = f"{shown}: numbers of {', '.join(inexact[:5])} have more digits than a number type holds"
        made.warnings.append(f"{said}; as columns of Parquet they are texts")
    return made


def _staged(found: Found, columns: dict[str, tuple[str, Kind]], encoding: str) -> dict[str, str | int | None]:
    """The cells of a row under the places of their columns, or its problem; new columns are added to `columns`."""
    value = found.value
    if found.problem or not isinstance(value, Object):
        return {"problem": found.problem or f"is not a JSON object, such as {EXAMPLE}"}
    problem = ""
    if value.twice is not None:
        problem = f"the key {plain(value.twice, 60)} stands twice in one object"
    line: dict[str, str | int | None] = {}
    for name, one in value.items():
        try:
            name.encode()
            place, kind = columns.setdefault(name, (str(len(columns)), Kind()))
            cell = as_cell(one)
            (cell or "").encode()
        except RecursionError as error:
            problem = problem or said_of(error)
            continue
        except UnicodeEncodeError:
            said = f"holds half of a surrogate pair, or bytes that are not {plain(encoding, 20)}"
            problem = problem or f"{said}; name the encoding with --encoding, often cp1252"
            continue
        kind.see(one if isinstance(one, (str, bool, dict, list)) or one is None else bytes(one))
        line[place] = cell
    if problem:
        return {"problem": problem}
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
        return _DECODER.decode(own)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(said_of(error)) from None


def _number(digits: str) -> Raw:
    return Raw(digits.encode())


def _object(pairs: list[tuple[str, Any]]) -> Object:
    value = Object(pairs)
    if len(value) < len(pairs):
        counts = collections.Counter(name for name, _ in pairs)
        value.twice = max(counts, key=counts.__getitem__)
    return value


_DECODER = json.JSONDecoder(
    strict=False,  # control characters in texts, as some programs write them, say nothing else
    object_pairs_hook=_object,
    parse_int=_number,
    parse_float=_number,
    parse_constant=lambda _: None,
)


def as_cell(value: Any) -> str | None:
    """A value as its cell: a text as it is, others as their JSON."""
    if value is None or isinstance(value, str):
        return value
    return encode(value).decode()


def _rows(values: Values, shown: str, made: Relation) -> Iterator[Found]:
    """`values`, or where one object stands alone, and it is no row, the rows that stand in it."""
    rows = iter(values)
    first, second = next(rows, None), next(rows, None)
    if first is None or second is not None or values.in_array:
        yield from (one for one in (first, second) if one is not None)
        yield from rows
        return
    value = first.value
    if not isinstance(value, Object) or not value or value.keys() >= REQUEST_KEYS or "messages" in value:
        yield first
        return
    place, inner = _place_of_rows(value)
    if not all(isinstance(one, (dict, list)) for one in value.values()):
        made.elsewhere = place
        yield first
        return
    turned = _turned(value)
    if turned is None and not place:
        raise _refused(f"{shown} is one JSON object and no row: its values are no cells", HINT)
    said = f"the rows are those under {plain(place, 60)}" if turned is None else "a table that is turned into rows"
    made.warnings.append(f"{shown} is one JSON object: {said}")
    for one in inner if turned is None else turned:
        yield Found(None, Object(one) if isinstance(one, dict) else one)


def _place_of_rows(value: dict[str, Any], path: str = "") -> tuple[str, list[Any]]:
    """The longest list of objects in an object, and where it stands, as `data` or `result.rows`; empty for none."""
    found: tuple[str, list[Any]] = ("", [])
    for name, one in value.items():
        here: tuple[str, list[Any]] = ("", [])
        if isinstance(one, list) and all(isinstance(item, dict) for item in one):
            here = f"{path}{name}", one
        elif isinstance(one, dict):
            here = _place_of_rows(one, f"{path}{name}.")
        if len(here[1]) > len(found[1]):
            found = here
    return found


def _turned(value: dict[str, Any]) -> list[Any] | None:
    """The rows of a table that is written as one object, as pandas does by `to_json`; None for anything else.

    Its forms: a list for each column; columns of numbered cells; numbered rows; `columns` beside `data`, which holds
    lists; `schema` beside `data`, which holds objects.
    """
    columns, data = value.get("columns"), value.get("data")
    if isinstance(columns, list) and isinstance(data, list) and all(isinstance(row, list) for row in data):
        return [dict(zip(map(str, columns), row, strict=False)) for row in data]
    if isinstance(data, list) and isinstance(value.get("schema"), dict):
        return data
    parts = list(value.values())
    if not parts or not parts[0]:
        return None
    if all(isinstance(one, dict) and one.keys() == parts[0].keys() for one in parts):
        if _are_numbers(parts[0]) and not _are_numbers(value):
            return [{name: one[key] for name, one in value.items()} for key in parts[0]]
        return parts if _are_numbers(value) else None
    if len(parts) > 1 and all(isinstance(one, list) and len(one) == len(parts[0]) for one in parts):
        return [dict(zip(value, row, strict=True)) for row in zip(*parts, strict=True)]
    return None


def _are_numbers(keys: Iterable[str]) -> bool:
    return all(key.isdecimal() for key in keys)


def _refused(message: str, hint: str) -> Failure:
    return Failure(Exit.BAD_INPUT, "bad_table", message, hint)
