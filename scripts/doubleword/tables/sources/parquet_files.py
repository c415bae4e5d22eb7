"""Parquet files and queries as relations: DuckDB reads them as they are, with the types of their columns."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from doubleword.failure import Exit, Failure, plain
from doubleword.tables import plain_copy
from doubleword.tables.database import Database, name, place
from doubleword.tables.relation import Column, Relation, as_text, unlike_names
from doubleword.tables.sources.json_files import REQUEST_KEYS
from doubleword.text_encoding import undecodable

MOST_DIGITS = 38
LONGEST_QUERY = 1 << 20
# Whose times have no digits below microseconds.
BY_SPARK = "SELECT 1 FROM parquet_kv_metadata({}) WHERE key = encode('org.apache.spark.version') LIMIT 1"

# Its name and type, how many fields it has, its digits, and how it is stored.
Field = tuple[str, str, int | None, int | None, str | None]


def relations(paths: Sequence[Path], shown: str, target: Database) -> list[Relation]:
    """The rows of Parquet files in their order; those that stand together and have the same columns are one relation.

    Of columns of unlike types DuckDB would make one that changes their numbers: whoever merges relations takes texts.
    Raises Failure (exit 2) for what is no Parquet, and for a file with two columns of one name.
    """
    if not paths:
        return []
    sql = f"SELECT file_name, name, duckdb_type, num_children, precision, type FROM parquet_schema({_places(paths)})"
    fields = dict[str, list[Field]]()
    for file, *field in target.run(sql, lambda said: _refused(f"{shown} cannot be read as Parquet: {said}")):
        fields.setdefault(file, []).append((*field,))
    alike = itertools.groupby(paths, key=lambda path: fields[str(path.absolute())])
    return [_of_files(list(group), one, shown, target) for one, group in alike]


def _of_files(paths: Sequence[Path], fields: Sequence[Field], shown: str, target: Database) -> Relation:
    made = _typed(f"read_parquet({_places(paths)}, hive_partitioning=false)", _top_names(fields), shown, target)
    for called, _, _, digits, stored in fields:
        if stored == "INT96" and not target.run(BY_SPARK.format(_places(paths))):
            said = f"{shown}: of the times of {plain(called, 60)}, which are of the old type INT96, digits below"
            made.warnings.append(f"{said} microseconds are not read; write them as int64 where every digit counts")
        if digits is not None and digits > MOST_DIGITS:
            said = f"{shown}: decimals of {plain(called, 60)} have more than {MOST_DIGITS} digits and are rounded"
            made.warnings.append(f"{said}; write them as texts where every digit counts")
    return made


def _top_names(fields: Sequence[Field]) -> list[str]:
    """The names of the columns among the fields of a file, each of which stands before those that belong to it."""
    names: list[str] = []
    within = 0  # how many fields are still known to come that belong to a column
    for called, _, inner, *_ in fields[1:]:  # the first is the whole
        if not within:
            names.append(called)
        within = max(within - 1, 0) + (inner or 0)
    return names


def query(path: Path, shown: str, target: Database) -> Relation:
    """What the SQL query in a plain file gives. Raises Failure (exit 2) for anything but one SELECT."""
    whole, encoding = plain_copy.in_utf8(path, "utf-8", target)
    with plain_copy.as_text(whole) as file:
        sql = file.read(LONGEST_QUERY + 1).strip().rstrip(";").rstrip()

    def refused(said: str) -> Failure:
        hint = "SELECT … FROM 'table.csv'; paths are of the working directory"
        return Failure(Exit.BAD_INPUT, "bad_sql", f"the query in {shown} cannot be run: {said}", hint)

    if len(sql) > LONGEST_QUERY:
        raise refused(f"it is longer than {LONGEST_QUERY:,} characters")
    if bad := undecodable(sql, encoding):
        raise refused(f"it {bad}")
    if not target.is_one_select(sql):
        raise refused("it has to be one SELECT")
    names = [called for called, _ in target.columns(sql, refused)]
    # Its rows are kept, so that they stand in one order and under one number, however often they are read.
    kept = target.new_name("query")
    target.run(f"CREATE TEMP TABLE {kept} AS {sql}", refused)
    return _typed(kept, names, shown, target)


def _typed(sql: str, names: Sequence[str], shown: str, target: Database) -> Relation:
    """A relation of `sql` under the columns' own `names`; DuckDB renames those that are alike but for their case."""
    found = target.columns(f"SELECT * FROM {sql}", lambda said: _refused(f"{shown} cannot be read: {said}"))
    columns = [
        Column(one, name(own), kind, kind)
        for one, (own, kind) in zip(unlike_names(list(names), shown), found, strict=True)
    ]
    made = Relation(sql, columns)
    if set(names) >= REQUEST_KEYS:
        pairs = ", ".join(f"{name(column.name)} := {column.sql}" for column in columns)
        types = ", ".join(f"{name(column.name)} {column.type}" for column in columns)
        made.own = as_text(f"struct_pack({pairs})", f"STRUCT({types})")
    return made


def _places(paths: Sequence[Path]) -> str:
    return f"[{', '.join(map(place, paths))}]"


def _refused(message: str) -> Failure:
    return Failure(Exit.BAD_INPUT, "bad_table", message, "name a Parquet file, or give --input-format")
