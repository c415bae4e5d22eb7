"""The sample: the rows that all variants ask, and the batch file of each variant's requests for them.

Promises: the same table, seed and number give the same rows; a batch file that holds other requests is never taken for
this variant's; every row of the table is made into a request, so that what is projected is of the whole of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from doubleword.batch_files.making import Made, making
from doubleword.batch_files.record import Record, record_path
from doubleword.batch_files.repaired_ids import ids_path
from doubleword.batch_files.writing import Writer
from doubleword.commands.try_prompt import Table, chosen_of
from doubleword.compare.answers import Answer
from doubleword.compare.variants import Variant
from doubleword.failure import Exit, Failure, plain
from doubleword.jobs.job_file import job_path
from doubleword.output_file import sha256_of
from doubleword.pricing.prices import load_prices
from doubleword.quick_msgspec import Struct, field
from doubleword.request_lines.form_arguments import bad_arguments
from doubleword.service import MAX_BYTES, MAX_REQUESTS
from doubleword.system import Disk


class Side(Struct):
    """A variant with the requests of its sample, and what became of them, row by row, once they were asked.

    The requests are in the batch file `path`, which this run wrote where that `is_new`; `table` counts what the whole
    table would send, `names` are its columns. `fields` are those of the answers, `told` the keys of the job, bill and
    failures. Where a judge grades, `graded` are the keys of his job, and `grades` his answers, None for none.
    `expected` is the field that is held against an expectation, None for the whole answer; `marks` are what a person
    thinks, by custom_id; `right` what came of either.
    """

    variant: Variant
    path: Path
    made: Sequence[Made]
    table: Table
    names: tuple[str, ...]
    record: Record | None
    warnings: Sequence[str]
    is_new: bool
    fields: Sequence[str] = ()
    told: dict[str, Any] = field(default_factory=dict)
    answers: Sequence[Answer] = ()
    graded: dict[str, Any] = field(default_factory=dict)
    grades: list[Answer | None] = field(default_factory=list)
    expected: str | None = None
    marks: Mapping[str, bool] | None = None
    right: Sequence[bool | None] = ()

    @property
    def name(self) -> str:
        """What the variant is called."""
        return self.variant.name

    @property
    def numbers(self) -> list[int]:
        """The numbers of the sampled rows in the source."""
        return [one.row.number for one in self.made]

    @property
    def requests(self) -> list[tuple[str, dict[str, Any]]]:
        """Each custom_id and its request."""
        return [(one.request["custom_id"], one.request) for one in self.made]

    @property
    def endpoint(self) -> str:
        """Where all requests go."""
        return str(self.made[0].request["url"])

    @property
    def model(self) -> str:
        """The model that all requests ask, empty for several."""
        models = {one.request["body"]["model"] for one in self.made}
        return str(models.pop()) if len(models) == 1 else ""

    @property
    def realtime(self) -> Path:
        """Where answers that come at once are kept."""
        return self.variant.path(".realtime.jsonl")

    @property
    def scores(self) -> list[int | None]:
        """The grades as numbers."""
        return [None if one is None else round(float(one.fields["score"] or 0)) for one in self.grades]

    def forget(self, disk: Disk) -> None:
        """Remove the batch file and what stands beside it, where this run wrote it and nothing was asked by it."""
        if self.is_new and disk.size(job_path(self.path)) is None and disk.size(self.realtime) is None:
            for path in (self.path, record_path(self.path), ids_path(self.path)):
                disk.remove(path)


def sampled(variant: Variant, rows: int | None, seed: int | None, disk: Disk) -> Side:
    """The requests of a variant for `rows` rows, all for None, in its batch file: written now, or found there.

    Raises Failure (exit 2) as `create_batch_file.py` does, and where the file holds other requests.
    """
    path = variant.path(".jsonl")
    with making(variant.args, disk) as made:
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
        return Side(variant, path, kept, table, made.table.names, made.record(), made.warnings(), there is None)


def require_same_rows(sides: Sequence[Side]) -> None:
    """Raise Failure (exit 2) unless all variants ask the same rows."""
    first, *others = sides
    for other in others:
        unlike = sorted(set(first.numbers) ^ set(other.numbers))
        if unlike:
            message = f"{plain(first.name, 80)} and {plain(other.name, 80)} ask unlike rows, such as row {unlike[0]}"
            hint = "rows are left out that only some prompts can ask: leave them out of all by --where, or --default"
            raise Failure(Exit.BAD_INPUT, "unlike_rows", message, hint)
