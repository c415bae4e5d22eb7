"""Rows of a table, as requests are made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from doubleword.failure import Exit, Failure


class Row(NamedTuple):
    """One row. `number` counts the rows of the source from 1, and `cells` stand under `names`, None where empty.

    `own` is the row's own JSON where that has to be seen whole. `problem` says why a row has no cells.
    """

    number: int
    names: tuple[str, ...]
    cells: Sequence[str | None]
    own: str | None = None
    problem: str | None = None

    @property
    def values(self) -> Mapping[str, str | None]:
        """The cells by name."""
        return dict(zip(self.names, self.cells, strict=True))

    @property
    def shown(self) -> str:
        """What people call the row."""
        return f"row {self.number}"


class BadRow(Failure):
    """One row cannot become a request (exit 2); `--skip-invalid` passes over it, and says so."""

    def __init__(self, row: Row, cause: str, code: str = "bad_row", hint: str = "mend the row") -> None:
        hint += ", or add --skip-invalid to leave such rows out and list them in warnings"
        super().__init__(Exit.BAD_INPUT, code, f"{row.shown}: {cause}", hint)
        self.row = row
        self.cause = cause
