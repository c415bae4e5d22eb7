"""The columns of an output: chosen, ordered and renamed."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from doubleword.failure import Exit, Failure, plain


@dataclass(frozen=True)
class OutputColumn:
    """A column that is written: its name, and SQL for its cell as text and for its value, which is of DuckDB's `type`.

    A `key` tells rows apart and is never changed, not even where a spreadsheet would run it.
    """

    name: str
    text: str
    value: str
    type: str = "VARCHAR"
    key: bool = False


def free_name(name: str, taken: set[str]) -> str:
    """`name`, with `result_` in front as often as it takes to be unlike all of `taken`, to which it is added."""
    while name.casefold() in taken:
        name = f"result_{name}"
    taken.add(name.casefold())
    return name


def selection(wanted: str | None, names: Sequence[str]) -> list[tuple[str, str]]:
    """What `--columns` asks for, as pairs of new and old name: `sku, french=answer`; all of `names` without it.

    Names with a comma stand in double quotes. Raises Failure (exit 2) for an unknown name, and for one given twice.
    """
    if wanted is None:
        return [(name, name) for name in names]
    pairs = []
    for word in next(csv.reader([wanted], skipinitialspace=True), []):
        if not word.strip():
            continue
        new, equals, old = word.partition("=")
        if word in names or word.strip() in names:
            new = old = word if word in names else word.strip()
        elif equals:
            new, old = new.strip(), old.strip()
        else:
            old = new = word.strip()
        if old not in names or not new:
            raise _refused(f"there is no column {plain(old, 60)}", names)
        pairs.append((new, old))
    twice = _twice([new for new, _ in pairs])
    if twice is not None:
        raise _refused(f"the column {plain(twice, 60)} is named twice", names)
    if not pairs:
        raise _refused("no column is named", names)
    return pairs


def selected(pairs: Iterable[tuple[str, str]], columns: Sequence[OutputColumn]) -> list[OutputColumn]:
    """The columns that `selection` chose."""
    known = {column.name: column for column in columns}
    return [replace(known[old], name=new) for new, old in pairs]


def _twice(names: Sequence[str]) -> str | None:
    seen: set[str] = set()
    for name in names:
        if name.casefold() in seen:
            return name
        seen.add(name.casefold())
    return None


def _refused(said: str, names: Sequence[str]) -> Failure:
    known = ", ".join(plain(name, 40) for name in names[:40])
    message = f"--columns: {said}; the columns are: {known}"
    return Failure(Exit.BAD_INPUT, "bad_columns", message, '--columns "new name=old name, other"')
