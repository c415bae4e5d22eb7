"""What a comparison leaves: one table with all answers side by side, and a file of all its numbers.

Promises: a table that this comparison did not write is never replaced without --force; the file of numbers has what
does not fit on stdout, and is there before the table.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from doubleword.batch_files.record import hashes_of
from doubleword.batch_files.table_arguments import settings_of
from doubleword.cli import OUTPUT_LIMIT
from doubleword.compare.sample import Side
from doubleword.failure import Exit, Failure, plain
from doubleword.output_file import WholeFile, refuse_existing, sha256_of
from doubleword.request_lines import templates
from doubleword.system import Disk
from doubleword.tables.database import Database
from doubleword.tables.outputs.columns import OutputColumn, free_name, source_names
from doubleword.tables.outputs.source_columns import beside_source, columns_of
from doubleword.tables.outputs.workbooks import write_workbook
from doubleword.tables.outputs.writers import Dialect, Rows, write_csv, write_parquet
from doubleword.tables.relation import column_at
from doubleword.tables.sources.source import Table
from doubleword.tables.staged import Staged

FORMATS = {".csv": "csv", ".parquet": "parquet", ".xlsx": "xlsx"}
VERSION = 1
# What is left out on stdout where not all fits, in this order; the file of numbers has it.
BULKY = (
    ("variants", "list_cost_usd"), ("variants", "estimate_usd"), ("variants", "realtime_usd"),
    ("variants", "saved_usd"), ("failures", "ids"), ("variants", "classes"), ("pairs", "expected"),
    ("pairs", "fields"), ("variants", "confusion"), ("variants", "usage"), ("variants", "job"),
    ("variants", "projection"),
)  # fmt: skip


def _columns(side: Side) -> list[tuple[str, list[str | None]]]:
    """What the columns of a variant are called, after its name, and what stands in them."""
    found: list[tuple[str, list[str | None]]] = [("answer", [one.text for one in side.answers])]
    found += [(name, [one.fields.get(name) for one in side.answers]) for name in side.fields]
    for name in ("score", "reason") if side.grades else ():
        found.append((f"judge_{name}", [None if one is None else one.fields.get(name) for one in side.grades]))
    return [
        *found,
        ("status", [one.status for one in side.answers]),
        ("error", [one.cause for one in side.answers]),
    ]


def summary_path(output: Path) -> Path:
    """Where the numbers of a comparison stand: `<stem>.comparison.json` beside the table."""
    return output.with_name(f"{output.stem}.comparison.json")


def refuse_foreign(output: Path, disk: Disk, force: bool) -> None:
    """Raise the Failure for an output that exists, unless it is just what this comparison wrote."""
    try:
        with disk.open(summary_path(output)) as file:
            told = json.load(file)
        ours = told["kind"] == "doubleword comparison" and told["sha256"] == sha256_of(output, disk)
    except (OSError, ValueError, KeyError, TypeError):
        ours = False
    refuse_existing(output, disk, force or ours)
    if not ours:
        refuse_existing(summary_path(output), disk, force or disk.size(output) is None)


def write(output: Path, args: argparse.Namespace, sides: Sequence[Side], told: dict[str, Any], disk: Disk) -> list[str]:
    """Write the table of the sampled rows, and before it what is `told`; what the user should know.

    Raises Failure (exit 2) where the source is not what it was when the sample was drawn.
    """
    kind, one = FORMATS[output.suffix], sides[0]
    parts = [(f"{side.name}.{name}", name, cells) for side in sides for name, cells in _columns(side)]
    work = output.with_name(f".{output.name}.work")
    with disk.work_folder(work) as folder, Database(folder) as target, Staged(target) as staged:
        table = Table(args.input, settings_of(args), disk, target)
        if one.record is not None and hashes_of(table.files, disk) != one.record.hashes != ():
            hint = "restore it; the answers are on disk, and the same command writes the table"
            raise Failure(Exit.BAD_INPUT, "join_mismatch", "the source was changed while it was asked about", hint)
        for place, number in enumerate(one.numbers):
            cells = {f"cell {at}": cells[place] for at, (*_, cells) in enumerate(parts)}
            staged.add({"place": place, "number": number, **cells})
        staged.finish()
        names = source_names(table.names, kind == "parquet")
        keys = {column_at(place, table.names) for place in templates.places(args.id or "")}
        columns = columns_of(table, names, keys, kind == "parquet", disk, target)
        taken = {name.casefold() for name in names}
        for at, (name, part, _) in enumerate(parts):
            cell, may_be_numbers = f'staged."cell {at}"', part not in ("status", "error")
            columns.append(OutputColumn(free_name(name, taken), cell, cell, may_be_numbers=may_be_numbers))
        types = {"place": "BIGINT", "number": "BIGINT", **{f"cell {at}": "VARCHAR" for at in range(len(parts))}}
        rows = Rows(beside_source(staged.sql(types), table, raw=kind == "parquet"), True, _refused)
        with WholeFile(output, disk, force=True) as file:
            if kind == "csv":
                warnings = write_csv(
                    target, rows, columns, file, Dialect(table.delimiter or ",", table.byte_order_mark)
                )
            elif kind == "xlsx":
                warnings = write_workbook(target, rows, columns, file)
            else:
                warnings = write_parquet(target, rows, columns, file, 1000)
            file.finish()
            head = {"version": VERSION, "kind": "doubleword comparison", "sha256": file.sha256}
            with WholeFile(summary_path(output), disk, force=True) as numbers:
                numbers.write(json.dumps({**head, **told}, indent=1).encode() + b"\n")
    return [said.replace("--raw-cells leaves them alone", ".xlsx has them as they are") for said in warnings]


def _refused(said: str) -> Failure:
    return Failure(Exit.BAD_INPUT, "bad_table", plain(said), "choose another format by the ending of OUTPUT")


def shown(told: dict[str, Any], room: int = OUTPUT_LIMIT - 200) -> dict[str, Any]:
    """`told`, as far as it fits on stdout: what is bulky goes first, and the lists of the rest are cut by `cli`."""
    for place, name in BULKY:
        if len(json.dumps(told)) <= room:
            break
        kept = [{key: value for key, value in one.items() if key != name} for one in told[place]]
        told = {**told, place: kept}
    return told
