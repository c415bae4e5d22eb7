"""Requests made from rows: what create_batch_file.py, try_prompt.py and run_batch.py have in common.

Promises: every row becomes exactly one valid request, or the row is named; with `--skip-invalid` rows are passed
over only with their number and cause in the warnings, and a table without a valid row is an error.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from doubleword.batch_files.batch_file import Source, Writer, numbered, source_path
from doubleword.batch_files.repaired_ids import ids_path
from doubleword.batch_files.seen_ids import SeenIds
from doubleword.cli import Progress
from doubleword.failure import Exit, Failure, plain
from doubleword.request_lines import templates
from doubleword.request_lines.form import REQUESTS, RequestForm, bad_arguments
from doubleword.request_lines.line import MAX_LINE_BYTES, Checker, cautions, to_line
from doubleword.system import Disk, System
from doubleword.tables import sources
from doubleword.tables.sources import BadRow, Cells, Row

SHOWN_ROWS = 20
EXAMPLE_TEXTS = (
    "Name three colours of the rainbow.",
    "Write one sentence about the sea.",
    "Translate 'good morning' into French.",
)


def create(args: argparse.Namespace, system: System) -> dict[str, Any]:
    """Write the requests of `args` to `args.output`; returns the output keys of create_batch_file.py.

    Raises Failure (exit 2) and leaves nothing behind for bad arguments, a bad row, a table without rows, or an
    output that exists.
    """
    output = Path(args.output)
    _refuse_input_as_output(args.input, output, system.disk)
    suspects = None if args.example or args.input == sources.STDIN else frozenset[int]()
    progress = Progress(system.monotonic)
    while True:
        making = Making(args, system.disk, suspects)
        with contextlib.suppress(_Suspicious), Writer(output, system.disk, args.force) as writer:
            for lines in making.lines():
                writer.write_lines(lines)
                writer.repaired.note(making.newly_repaired())
                if making.made >= 1000:
                    progress.show(f"{making.made:,} requests written")
            suspects = making.new_suspects()
            if suspects:
                raise _Suspicious
            writer.source = making.source()
            break
    progress.close()
    return {
        "files": [{"path": str(one.path), "requests": one.requests, "bytes": one.bytes} for one in writer.files],
        "requests": sum(one.requests for one in writer.files),
        "bytes": sum(one.bytes for one in writer.files),
        "models": list(making.models),
        **({"ids": str(ids_path(output))} if writer.repaired.count else {}),
        "warnings": making.warnings(),
    }


class _Suspicious(Exception):
    """Two requests may have the same custom_id: what was written goes, and the table is read again to see."""


def requests_from(
    args: argparse.Namespace, system: System, warnings: list[str] | None = None
) -> Iterator[tuple[str, dict[str, Any], Row]]:
    """Yield (custom_id, request, row) for each row of `args`; at the end `warnings` gets what create would warn of.

    Raises Failure (exit 2) for bad arguments, a bad row unless `args.skip_invalid`, and a table without rows.
    """
    making = Making(args, system.disk)
    for row, request, _ in making.requests():
        yield request["custom_id"], request, row
    if warnings is not None:
        warnings.extend(making.warnings())


@dataclass
class Making:
    """The making of one set of requests; the rows are read once, by `lines` or by `requests`.

    `suspects` are those of `SeenIds`.
    """

    args: argparse.Namespace
    disk: Disk
    suspects: frozenset[int] | None = None
    models: dict[str, None] = field(default_factory=dict)
    made: int = 0

    def __post_init__(self) -> None:
        args = self.args
        self._skipped: list[str] = []
        self._skips = 0
        self._rows = 0
        self._cautions: dict[str, None] = {}
        self._repaired: list[tuple[str, str]] = []
        self._url = ""
        self._seen = SeenIds(self.suspects, self.disk.scratch)
        self._checker = Checker()
        if not args.example and args.input is None:
            raise bad_arguments("there are no rows", "name a table with --input PATH, or write an --example")
        self._form = RequestForm(args, self.disk, self._checker)

    def lines(self) -> Iterator[list[bytes]]:
        """Yield the lines of all rows, some at a time: spliced where that can be done, else as `requests` does."""
        blocks = self._cells()
        if blocks is None:
            yield from ([line] for _, _, line in self.requests())
            return
        splice = self._form.splice(next(blocks).cells[0])
        for block in blocks:
            spliced = splice(block.first, block.cells) if splice is not None and block.sound and self.made else None
            if spliced is None or self._seen.suspected(spliced.custom_ids):
                yield [made[1] for row in block.rows() if (made := self._attempt(row)) is not None]
            else:
                self._seen.note(spliced.custom_ids)
                self.made += len(spliced.lines)
                self._rows = block.first + len(spliced.lines) - 1
                yield spliced.lines
        self._require_some()

    def requests(self) -> Iterator[tuple[Row, dict[str, Any], bytes]]:
        """Yield each row with its request and the line that holds it."""
        for row in itertools.islice(self._read(), self.args.limit):
            made = self._attempt(row)
            if made is not None:
                yield row, *made
        self._require_some()

    def _attempt(self, row: Row) -> tuple[dict[str, Any], bytes] | None:
        """The request of `row` and its line; None where a bad row is left out."""
        self._rows = row.number
        try:
            request, line = self._make(row)
        except BadRow as bad:
            if not self.args.skip_invalid:
                raise
            self._skips += 1
            if len(self._skipped) < SHOWN_ROWS:
                self._skipped.append(f"row {bad.number}: {bad.cause}")
            return None
        self.made += 1
        self.models[request["body"]["model"]] = None
        if self.made == 1 or self._form.kind == REQUESTS:
            self._cautions.update(dict.fromkeys(cautions(request["body"])))
        return request, line

    def _require_some(self) -> None:
        if not self.made:
            message = "the table has no rows"
            if self._skips:
                message = f"none of {self._skips:,} rows is valid; {self._skipped[0]}"
            raise Failure(Exit.BAD_INPUT, "no_rows", message, "check the table and the flags; nothing was written")

    def _cells(self) -> Iterator[Cells] | None:
        """The rows as bare cells; None where more than cells goes into requests."""
        args = self.args
        if not self._form.takes_cells or args.input is None:
            return None
        return sources.read_cells(Path(args.input), self.disk, args.input_format, args.encoding, args.limit)

    def newly_repaired(self) -> list[tuple[str, str]]:
        """The ids that were repaired since this was last asked, each with its original."""
        found, self._repaired = self._repaired, []
        return found

    def new_suspects(self) -> frozenset[int]:
        """The suspects of another making, which this one gave reason for; none where all ids are surely unlike."""
        repeated, known = self._seen.repeated(), self.suspects or frozenset()
        return frozenset() if repeated <= known else known | repeated

    def warnings(self) -> list[str]:
        """What the user should know about the requests made, skipped rows first."""
        found = []
        if self._skips:
            found.append(f"skipped {self._skips:,} of {self._rows:,} rows")
            found.extend(self._skipped)
            if self._skips > len(self._skipped):
                found.append(f"and {self._skips - len(self._skipped):,} more skipped rows")
        form = self._form
        if form.prompt is not None and not any(map(templates.places, [form.prompt, *form.images])):
            found.append("the prompt has no {column}, so every row asks the same")
        return [*found, *self._cautions]

    def source(self) -> Source | None:
        """Where the rows came from; None for the example."""
        if self.args.input is None:
            return None
        path = Path(self.args.input)
        kind = sources.format_of(path, self.disk, self.args.input_format)
        return Source(str(path), kind, self.args.encoding, self._form.id, self._rows, self._form.repair)

    def _read(self) -> Iterator[Row]:
        if self.args.example:
            return (Row(number, {"text": text}) for number, text in enumerate(EXAMPLE_TEXTS, 1))
        return sources.read(Path(self.args.input), self.disk, self.args.input_format, self.args.encoding)

    def _make(self, row: Row) -> tuple[dict[str, Any], bytes]:
        """The request of `row` and its line; raises BadRow."""
        request = self._form.request(row)
        try:
            line = to_line(request)
        except ValueError as error:
            raise BadRow(row.number, str(error)) from None
        if len(line) > MAX_LINE_BYTES:
            raise BadRow(row.number, f"the request has {len(line):,} bytes, and may have {MAX_LINE_BYTES:,}")
        if self._form.kind == REQUESTS:  # as it will be read, whatever types the table had
            accepted = self._checker.accepts(line)
        else:
            accepted = request if self._checker.accepts_value(request) else None
        if accepted is None:
            raise self._refused(row, line)
        self._require_new(row, accepted)
        original = self._form.original_id(row, accepted["custom_id"])
        if original is not None:
            self._repaired.append((accepted["custom_id"], original))
        return accepted, line

    def _refused(self, row: Row, line: bytes) -> BadRow:
        if len(self._skipped) >= SHOWN_ROWS:
            return BadRow(row.number, "is refused")  # it will not be shown, and the explanation takes its time
        problem = next(iter(self._checker.explain(line)), None)
        if problem is None:
            return BadRow(row.number, "is refused")
        said = f"{problem.path}: {problem.message}" if problem.path else problem.message
        if problem.path == "custom_id" and not self._form.repair:
            return BadRow(row.number, said, hint="mend the row, add --repair-ids to make such ids fit")
        return BadRow(row.number, said)

    def _require_new(self, row: Row, request: dict[str, Any]) -> None:
        custom_id = request["custom_id"]
        if self._form.id is not None and self._seen.is_used(custom_id):
            hint = "make --id of columns that differ in every row, or leave it out"
            said = f"the custom_id {custom_id} is used before{self._first_use(custom_id)}"
            raise BadRow(row.number, said, "duplicate_custom_id", hint)
        if self._form.kind == REQUESTS:
            self._url = self._url or request["url"]
            if request["url"] != self._url:
                said = f"url: is {request['url']}, but the first request's is {self._url}; one endpoint a file"
                raise BadRow(row.number, said)

    def _first_use(self, custom_id: str) -> str:
        """Which row has this id already, where that will be shown and the table can be read once more to see."""
        if self.args.input in (None, sources.STDIN) or len(self._skipped) >= SHOWN_ROWS:
            return ""
        for row in self._read():
            with contextlib.suppress(BadRow):
                if templates.custom_id(self._form.id, row, self._form.repair) == custom_id:
                    return f", in row {row.number}"
        return ""


def _refuse_input_as_output(source: str | None, output: Path, disk: Disk) -> None:
    """The output must not replace, or with --force remove, the very table it is made from, nor become a row of it."""
    if source in (None, sources.STDIN):
        return
    table = Path(os.path.realpath(str(source)))
    if disk.is_folder(table) and table in Path(os.path.realpath(output)).parents:
        message = f"the output {plain(output)} would become a file of the input folder {plain(source)}"
        raise bad_arguments(message, "write it to another folder")
    taken, number = [output, source_path(output), ids_path(output)], 1
    while numbered(output, number).exists():
        taken.append(numbered(output, number))
        number += 1
    if table in {Path(os.path.realpath(path)) for path in taken}:
        raise bad_arguments(f"the output {plain(output)} would take the place of the input", "choose another name")
