"""Parquet files and queries as relations: DuckDB reads them as they are, with the types of their columns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from doubleword.failure import Exit, Failure, plain
from doubleword.system import Disk
from doubleword.tables import plain_copy
from doubleword.tables.database import Database, Refusal, name, text
from doubleword.tables.relation import Column, Relation
from doubleword.tables.sources.json_files import REQUEST_KEYS

MOST_DIGITS = 38


def relation(paths: Sequence[Path], hive: bool, shown: str, target: Database) -> Relation:
    """The rows of Parquet files alike, in the order of `paths`; with `hive`, columns that their folders name."""
    places = ", ".join(text(str(path)) for path in paths)
    folders = "hive_partitioning=true, hive_types_autocast=false" if hive else "hive_partitioning=false"
    sql = f"read_parquet([{places}], union_by_name=true, {folders})"
    made = _of(sql, target, lambda said: _refused(f"{shown} cannot be read as Parquet: {said}"))
    wide = target.run(
        f"SELECT DISTINCT name FROM parquet_schema([{places}]) WHERE precision > {MOST_DIGITS}",
    )
    for (column,) in wide:
        said = f"{shown}: decimals of {plain(column, 60)} have more than {MOST_DIGITS} digits and are rounded"
        made.warnings.append(said)
    return made


def query(path: Path, disk: Disk, target: Database) -> Relation:
    """What the SQL query in a file gives. Raises Failure (exit 2) for anything but one SELECT."""
    with plain_copy.opened(path, disk) as file:
        raw = file.read(1 << 20)
    try:
        sql = raw.decode("utf-8-sig").strip().rstrip(";").rstrip()
    except UnicodeDecodeError:
        raise _refused(f"{plain(path)} is not UTF-8 text") from None

    def refused(said: str) -> Failure:
        message = f"the query in {plain(path, 120)} cannot be run: {said}"
        return Failure(
            Exit.BAD_INPUT, "bad_sql", message, "SELECT … FROM 'table.csv'; paths are of the working directory"
        )

    if not target.is_one_select(sql):
        raise refused("it has to be one SELECT")
    # Its rows are kept, so that they stand in one order and under one number, however often they are read.
    kept = target.new_name("query")
    target.run(f"CREATE TEMP TABLE {kept} AS {sql}", refused)
    return _of(kept, target, refused)


def _of(sql: str, target: Database, refused: Refusal) -> Relation:
    found = target.columns(f"SELECT * FROM {sql}", refused)
    columns = [Column(one, name(one), kind, kind) for one, kind in found]
    made = Relation(sql, columns)
    if {one for one, _ in found} >= REQUEST_KEYS:
        pairs = ", ".join(f"{name(one)} := {name(one)}" for one, _ in found)
        made.own = f"CAST(to_json(struct_pack({pairs})) AS VARCHAR)"
    return made


def _refused(message: str) -> Failure:
    return Failure(Exit.BAD_INPUT, "bad_table", message, "name a Parquet file, or give --input-format")
