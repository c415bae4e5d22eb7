"""The columns of an output: named, chosen, ordered and renamed."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence

from doubleword.failure import Exit, Failure, plain
from doubleword.quick_msgspec import Struct, replace
from doubleword.tables.relation import column_at
from doubleword.tables.staged import as_unicode

NUMBERS = re.compile(r"U?(TINY|SMALL|BIG|HUGE)INT|U?INTEGER|FLOAT|DOUBLE|DECIMAL\([0-9, ]+\)")

SHOWN = 40  # names in a message, which has to be short


class OutputColumn(Struct, frozen=True):
    """A column that is written: its name, and SQL for its cell as text and for its value, which is of DuckDB's `type`.

    A `key` tells rows apart and is never changed, not even where a spreadsheet would run it. Texts of a column that
    `may_be_numbers` are numbers where all of them look like it; of any other, the type alone says so.
    """

    name: str
    text: str
    value: str
    type: str = "VARCHAR"
    key: bool = False
    may_be_numbers: bool = False

    @property
    def is_number(self) -> bool:
        """Whether all values are numbers by their type."""
        return NUMBERS.fullmatch(self.type) is not None


def source_names(names: Sequence[str], any_case: bool) -> tuple[str, ...]:
    """What columns `names` of a source are called in an output: none of them empty, and no two alike.

    With `any_case` also not in another case of letters, since readers of Parquet take such names for one.
    """
    given = [_writable(name) or f"column{at}" for at, name in enumerate(names, 1)]
    taken, found = set[str](), []
    for name in given:
        free, number = name, 1
        while (key := free.casefold() if any_case else free) in taken or (number > 1 and free in given):
            number += 1
            free = f"{name}_{number}"
        taken.add(key)
        found.append(free)
    return tuple(found)


def free_name(name: str, taken: set[str]) -> str:
    """`name`, with `result_` in front as often as it takes to be unlike all of `taken`, to which it is added."""
    name = _writable(name) or "result_property"
    while name.casefold() in taken:
        name = f"result_{name}"
    taken.add(name.casefold())
    return name


def _writable(name: str) -> str:
    """`name` without what no format takes; empty for one that is blank."""
    text = as_unicode(name.replace("\0", ""))
    return text if text.strip() else ""


def selection(wanted: str | None, names: Sequence[str], any_case: bool = False) -> list[tuple[str, str]]:
    """What `--columns` asks for, as pairs of new and old name: `sku, french=answer`; all of `names` without it.

    Names with a comma stand in double quotes. Raises Failure (exit 2) for an unknown name, and for one given twice,
    with `any_case` also in another case of letters.
    """
    if wanted is None:
        return [(name, name) for name in names]
    try:
        words = next(csv.reader([wanted], skipinitialspace=True), [])
    except csv.Error as error:
        raise _refused(str(error), names) from None
    pairs = [_pair(word, names) for word in words if word.strip()]
    if not pairs:
        raise _refused("no column is named", names)
    seen: set[str] = set()
    for new, _ in pairs:
        key = new.casefold() if any_case else new
        if key in seen:
            raise _refused(f"the column {plain(new, 60)} is named twice", names)
        seen.add(key)
    return pairs


def selected(pairs: Iterable[tuple[str, str]], columns: Sequence[OutputColumn]) -> list[OutputColumn]:
    """The columns that `selection` chose."""
    known = {column.name: column for column in columns}
    return [replace(known[old], name=new) for new, old in pairs]


def _pair(word: str, names: Sequence[str]) -> tuple[str, str]:
    """The new and the old name in one word of `--columns`; a name with an equals sign is taken whole first."""
    whole = column_at(word, names)
    if whole >= 0:
        return names[whole], names[whole]
    new, equals, old = word.partition("=")
    found = column_at(old, names) if equals else -1
    if found < 0:
        raise _refused(f"there is no column {plain(old if equals else word, 60)}", names)
    if not _writable(new):
        raise _refused(f"the new name of {plain(old, 60)} is missing", names)
    return _writable(new).strip(), names[found]


def _refused(said: str, names: Sequence[str]) -> Failure:
    known = ", ".join(plain(name, 40) for name in names[:SHOWN])
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    message = f"--columns: {said}; the columns are: {known}{more}"
    return Failure(Exit.BAD_INPUT, "bad_columns", message, '--columns "new name=old name, other"')
