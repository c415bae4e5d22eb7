"""The sample: the rows that all variants ask, and the batch file of each variant's requests for them.

Promises: the same table, seed and number give the same rows; a batch file that holds other requests is never taken for
this variant's; every row of the table is made into a request, so that what is projected is of the whole of it.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from doubleword.batch_files.making import Made, making
from doubleword.batch_files.record import Record, record_path
from doubleword.batch_files.repaired_ids import ids_path
from doubleword.batch_files.writing import Writer
from doubleword.commands.try_prompt import Table, chosen_of
from doubleword.failure import Exit, Failure, plain
from doubleword.output_file import sha256_of
from doubleword.pricing.prices import load_prices
from doubleword.quick_msgspec import Struct
from doubleword.request_lines.form_arguments import bad_arguments
from doubleword.service import MAX_BYTES, MAX_REQUESTS
from doubleword.system import Disk


class Sample(Struct, frozen=True):
    """The requests of one variant: their batch file, what they were made of, and what the whole table would send.

    `names` are the columns of the source. `is_new` says that this run wrote the file.
    """

    path: Path
    made: Sequence[Made]
    table: Table
    names: tuple[str, ...]
    record: Record | None
    warnings: Sequence[str]
    is_new: bool

    @property
    def numbers(self) -> list[int]:
        """The numbers of the sampled rows in the source."""
        return [one.row.number for one in self.made]

    @property
    def endpoint(self) -> str:
        """Where all requests go."""
        return str(self.made[0].request["url"])

    @property
    def model(self) -> str:
        """The model that all requests ask, empty for several."""
        models = {request["body"]["model"] for _, request in self.requests}
        return str(models.pop()) if len(models) == 1 else ""

    @property
    def realtime(self) -> Path:
        """Where answers that come at once are kept."""
        return self.path.with_name(f"{self.path.stem}.realtime.jsonl")

    @property
    def requests(self) -> list[tuple[str, dict[str, Any]]]:
        """Each custom_id and its request."""
        return [(one.request["custom_id"], one.request) for one in self.made]

    def remove(self, disk: Disk) -> None:
        """Remove the batch file and what stands beside it, where this run wrote it."""
        for path in (self.path, record_path(self.path), ids_path(self.path)) if self.is_new else ():
            disk.remove(path)


def sampled(args: argparse.Namespace, path: Path, rows: int | None, seed: int | None, disk: Disk) -> Sample:
    """The requests of `args` for `rows` rows, all for None, in the batch file `path`: written now, or found there.

    Raises Failure (exit 2) as `create_batch_file.py` does, and where the file holds other requests.
    """
    with making(args, disk) as made:
        most = MAX_REQUESTS + 1 if rows is None else rows
        table, kept = chosen_of(made, most, seed, load_prices(None, disk))
        lines = [one.line for one in kept]
        if len(lines) > MAX_REQUESTS or sum(map(len, lines)) + len(lines) > MAX_BYTES:
            raise bad_arguments(f"{len(lines):,} rows are more than one batch file holds", "fewer --rows")
        content = hashlib.sha256(b"".join(line + b"\n" for line in lines)).hexdigest()
        there = sha256_of(path, disk)
        if there is None:
            with Writer(path, disk) as writer:
                writer.write(lines)
                writer.repaired.note([(one.request["custom_id"], one.original_id) for one in kept if one.original_id])
                writer.record = made.record()
        elif there != content:
            message = f"{plain(path)} holds other requests than these arguments make"
            hint = "name another OUTPUT for a new, paid comparison; or use the table and arguments of the first run"
            raise Failure(Exit.BAD_INPUT, "other_requests", message, hint)
        return Sample(path, kept, table, made.table.names, made.record(), made.warnings(), there is None)


def require_same_rows(samples: Sequence[tuple[str, Sample]]) -> None:
    """Raise Failure (exit 2) unless all variants, each under its name, ask the same rows."""
    (first, one), *others = samples
    for name, other in others:
        unlike = sorted(set(one.numbers) ^ set(other.numbers))
        if unlike:
            message = f"{plain(first, 80)} and {plain(name, 80)} ask unlike rows, such as row {unlike[0]}"
            hint = "rows are left out that only some prompts can ask: leave them out of all by --where, or --default"
            raise Failure(Exit.BAD_INPUT, "unlike_rows", message, hint)
