"""The columns of a source as an output writes them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from doubleword.system import Disk
from doubleword.tables.database import Database, place
from doubleword.tables.outputs.columns import OutputColumn
from doubleword.tables.sources.source import Table

PARQUET = b"PAR1"


def columns_of(
    table: Table, names: Sequence[str], keys: Collection[int], raw: bool, disk: Disk, target: Database
) -> list[OutputColumn]:
    """The columns of `table` under `names`, those at `keys` as keys; their SQL is of `table.relation(raw)` as source.

    With `raw` values have their own types.
    """
    are_times = raw and any(column.type == "TIMESTAMP" for column in table.columns)
    counted = in_milliseconds(table.files, disk, target) if are_times else set()
    found = []
    for at, (column, name) in enumerate(zip(table.columns, names, strict=True)):
        value = cell = f'source."{at}"'
        if raw:
            cell = f"CAST({value} AS VARCHAR)"
        if column.type == "TIMESTAMP" and column.name in counted:
            value = f"CAST({value} AS TIMESTAMP_MS)"
        may_be_numbers = bool(table.delimiter)  # of CSV, where all is text
        found.append(OutputColumn(name, cell, value, column.type, at in keys, may_be_numbers))
    return found


def beside_source(staged: str, table: Table, raw: bool) -> str:
    """SQL of `staged` rows, in the order of their `place`, each with the row of the source that has its `number`: as
    two structs, `staged` and `source`.
    """
    relation = table.relation(raw)
    joined = f"{staged} AS staged JOIN {relation} AS source USING (number) ORDER BY staged.place"
    return f"(SELECT staged, source FROM {joined})"


def in_milliseconds(paths: Sequence[Path], disk: Disk, target: Database) -> set[str]:
    """The columns of Parquet files whose times are in milliseconds; DuckDB reads them as if in microseconds."""
    places = []
    for path in paths:
        with disk.open(path) as file:
            if file.read(len(PARQUET)) == PARQUET:
                places.append(place(path))
    if not places:
        return set()
    counts = "coalesce(logical_type LIKE '%isAdjustedToUTC=0%MILLIS=Milli%', false)"
    fields = f"SELECT name, bool_and({counts}) AS counts FROM parquet_schema([{', '.join(places)}]) GROUP BY name"
    return {str(name) for name, are_counted in target.run(fields) if are_counted}
