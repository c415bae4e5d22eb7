"""What the flags say of a source, held against what it turned out to be.

Promises: a flag that nothing can be read by is refused; what may be amiss with how a table was read is said.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Set

from doubleword.failure import plain
from doubleword.request_lines.form_arguments import bad_arguments
from doubleword.tables.relation import Settings
from doubleword.tables.sources.source import Table

# The formats that a flag of how a source is read belongs to.
FITTING = {
    "sheet": ("workbook",),
    "delimiter": ("csv", "tsv"),
    "quote": ("csv", "tsv"),
    "header_row": ("csv", "tsv", "workbook"),
}
# What may be amiss where a column is not found that a template names, by format.
MISREAD = {
    "csv": "if cells or header are elsewhere, say so: --delimiter D, --quote Q, --header-row N",
    "tsv": "if cells or header are elsewhere, say so: --delimiter D, --quote Q, --header-row N",
    "workbook": "if the table is elsewhere, say so: --sheet NAME, --header-row N",
    "text": "each line of a text file is a row; for a table add --input-format csv or tsv",
}
ID_NAME = re.compile(r"(?i:(^|[ _.-])(id|key|sku|uuid|guid|isbn|asin|ean|gtin|upc|doi)\s*$)|[a-z](Id|ID|Key)\s*$")


def settings_of(args: argparse.Namespace) -> Settings:
    """What the flags say of how the source is read."""
    return Settings(
        args.input_format, args.encoding, args.delimiter, args.quote, args.header_row, args.sheet, args.where
    )


def require_fitting(args: argparse.Namespace, kinds: Set[str]) -> None:
    """Refuse flags of how a source is read that none of its files can be read by."""
    for flag, of in FITTING.items():
        if getattr(args, flag) is not None and kinds.isdisjoint(of):
            name = f"--{flag.replace('_', '-')}"
            raise bad_arguments(f"{name} has no place: no --input is of {', '.join(of)}", f"leave {name} out")


def repeated_ids(table: Table, limit: int | None) -> list[str]:
    """A warning where columns look like ids, and none of them tells the rows apart."""
    found = []
    for name in filter(ID_NAME.search, table.names):
        values, repeats, some = table.repeated(name, limit)
        if values and not repeats:
            return []
        shown = ", ".join(plain(one, 40) for one in some)
        said = f"the column {plain(name, 60)} looks like an id, but values come again ({repeats:,}, such as {shown})"
        found += [f"{said}; every row is asked all the same"] if repeats else []
    return found[:1]


def misread(kinds: Set[str]) -> str:
    """What a user may say where a column is not found that a template names, empty for nothing."""
    return "; ".join(dict.fromkeys(said for kind, said in MISREAD.items() if kind in kinds))
