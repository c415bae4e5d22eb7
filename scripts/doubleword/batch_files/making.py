"""Requests made of rows.

Promises: every row becomes exactly one valid request, or the row is named; rows are passed over only with their number
and cause in the warnings, and a table without a valid row is an error; a table is read a second time only where two
custom_ids may be the same.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from doubleword.batch_files.check import beyond_ascii
from doubleword.batch_files.record import Record, hashes_of
from doubleword.batch_files.row_map import Earlier, Equals, Reusing
from doubleword.batch_files.seen_ids import SeenIds
from doubleword.batch_files.table_arguments import misread, repeated_ids, require_fitting, settings_of
from doubleword.failure import Exit, Failure, plain
from doubleword.quick_msgspec import Encoder, Struct, field
from doubleword.request_lines.checker import Checker
from doubleword.request_lines.form import REQUESTS, RequestForm
from doubleword.request_lines.form_arguments import bad_arguments, form_of
from doubleword.request_lines.line import cautions, to_line
from doubleword.request_lines.templates import doubled
from doubleword.service import MAX_LINE_BYTES
from doubleword.system import Disk
from doubleword.tables.relation import column_at
from doubleword.tables.rows import BadRow, Row
from doubleword.tables.sources.source import Table, opened_table

SHOWN_ROWS = 20
SHOWN_PAIRS = 4
AT_ONCE = 256  # of which the requests stay in the processor's cache
Quick = Callable[[tuple[Any, ...]], "dict[str, Any] | None"]
EXAMPLE = Path(__file__).with_name("example.csv")  # the rows of --example


@contextmanager
def making(
    args: argparse.Namespace, disk: Disk, folder: Path | None = None, earlier: Earlier | None = None
) -> Iterator[Making]:
    """The making of the requests of `args`, of which those are left out that have an `earlier` answer; `folder` takes
    what does not fit into memory meanwhile.
    """
    checker, given = Checker(), [str(EXAMPLE)] if args.example else args.input
    if not given:
        raise bad_arguments("there are no rows", "name a table with --input PATH, or write an --example")
    with opened_table(given, settings_of(args), disk, folder) as table:
        require_fitting(args, table.kinds)
        form = form_of(args, table.names, table.documents, disk, checker)
        if table.elsewhere and any(column_at(place.partition(".")[0], table.names) < 0 for place in form.places):
            message = f"{plain(args.input[0], 120)} is one JSON object; its rows seem to be under {table.elsewhere}"
            raise Failure(Exit.BAD_INPUT, "bad_table", message, "save that list alone")
        repeated = repeated_ids(table, args.limit) if form.id is None else []
        yield Making(args, table, form, disk, checker, repeated, earlier)


class Made(NamedTuple):
    """A request, the line that holds it, the row it was made of, and the id that its own was repaired of, if any."""

    row: Row
    request: dict[str, Any]
    line: bytes
    original_id: str | None


class Making(Struct, dict=True):
    """The making of one set of requests."""

    args: argparse.Namespace
    table: Table
    form: RequestForm
    disk: Disk
    checker: Checker
    repeated: Sequence[str] = ()
    earlier: Earlier | None = None
    models: dict[str, None] = field(default_factory=dict)
    made: int = 0

    def __post_init__(self) -> None:
        self._encode = Encoder().encode
        self.is_mapped = bool(self.args.dedupe) or self.earlier is not None  # a row may have no request of its own
        # What a query gives may change where its text does not.
        self._hashes = () if "sql" in self.table.kinds else hashes_of(self.table.files, self.disk)
        self._begin(None)

    def _begin(self, suspects: frozenset[int] | None) -> None:
        self.made = self._rows = self._skips = 0
        self._skipped: list[str] = []
        self._cautions: dict[str, None] = {}
        self.repaired: list[tuple[str, str]] = []
        self._url = self._beyond_ascii = ""
        self._twice: BadRow | None = None
        self._pairs: list[str] = []
        self._seen = SeenIds[int](suspects)
        form_made = self.form.kind != REQUESTS
        self.equals = Equals(form_made)
        if self.earlier is not None:
            self.equals = Reusing(form_made, self.args.dedupe, self.earlier)

    def lines(self) -> Iterator[list[bytes]]:
        """The lines of all requests, many at once; as `requests` otherwise. `repaired` has ids that were repaired.

        With --dedupe those that ask what another one asks are not among them, nor those that have an earlier answer;
        `equals` has the rows.
        """
        quick = self.form.quick(self.table.names)
        if quick is None or self.args.limit is not None:
            for made in self.requests():
                yield self._asked_once([(made.request["custom_id"], made.line)])
            return
        yield from map(self._asked_once, self._quickly(quick))

    def _asked_once(self, made: list[tuple[str, bytes]]) -> list[bytes]:
        if self.is_mapped:
            return [line for custom_id, line in made if self.equals.is_new(custom_id, line)]
        lines = [line for _, line in made]
        self.equals.count(lines)
        return lines

    def _quickly(self, quick: Quick) -> Iterator[list[tuple[str, bytes]]]:
        """The custom_ids and lines of requests, many at once, where the form has a quick way."""
        table, encode, accepts = self.table, self._encode, self.checker.accepts_value
        for block in table.blocks():
            lines = []
            for part in (block[at : at + AT_ONCE] for at in range(0, len(block), AT_ONCE)):
                if self.made and self.form.id is None and (found := _lines_of(part, quick, self.checker, encode)):
                    self.made += len(found)
                    lines += found
                    continue
                for bare in part:
                    request = quick(bare) if self.made else None  # of the first one more is looked at
                    if request is not None and accepts(request) and len(line := encode(request)) <= MAX_LINE_BYTES:
                        try:
                            self._require_new(bare[0], request)
                        except BadRow as bad:
                            self._skip(bad)
                            continue
                        self.made += 1
                        lines.append((request["custom_id"], line))
                    elif (row := table.row(bare)) is not None and (made := self._attempt(row)) is not None:
                        lines.append((made.request["custom_id"], made.line))
            self._rows = max(self._rows, block[-1][0])
            yield lines
        self._require_some()

    def requests(self) -> Iterator[Made]:
        """Each row's request. Whether to call it again, `is_doubtful` tells at the end.

        Raises Failure (exit 2) for a bad row unless rows are skipped, and for a table without a valid one.
        """
        yield from filter(None, map(self._attempt, self.table.rows(self.args.limit)))
        self._require_some()

    def _attempt(self, row: Row) -> Made | None:
        """The request of `row`; None where a bad row is left out."""
        self._rows = max(self._rows, row.number)
        try:
            made = self._make(row)
        except BadRow as bad:
            self._skip(bad)
            return None
        self.made += 1
        self.models[made.request["body"]["model"]] = None
        if made.original_id is not None:
            self.repaired.append((made.request["custom_id"], made.original_id))
        if self.made == 1 or self.form.kind == REQUESTS:
            self._cautions.update(dict.fromkeys(cautions(made.request["body"])))
        return made

    def _require_some(self) -> None:
        if self._twice is not None:
            if len(self._pairs) > 1:
                others = ", ".join(self._pairs[1:SHOWN_PAIRS])
                self._twice.message += f"; there are {len(self._pairs):,} such pairs, also {others}"
            raise self._twice
        if not self.made:
            message = "the table has no rows"
            if self.args.where is not None:
                message = f"no row meets --where {plain(self.args.where, 120)}"
            if self._skips:
                message = f"none of {self._skips:,} rows is valid; {self._skipped[0]}"
            raise Failure(Exit.BAD_INPUT, "no_rows", message, "check the table and the flags; nothing was written")

    def is_doubtful(self) -> bool:
        """Whether two requests may have the same custom_id; then `requests` is to be called again, and will say."""
        suspects = self._seen.repeated()
        if suspects:
            self._begin(suspects)
        return bool(suspects)

    def warnings(self) -> list[str]:
        """What the user should know about the requests made, skipped rows first."""
        found = []
        if self._skips:
            found.append(f"skipped {self._skips:,} of {self.made + self._skips:,} rows")
            found.extend(self._skipped)
            if self._skips > len(self._skipped):
                found.append(f"and {self._skips - len(self._skipped):,} more skipped rows")
        if self.table.blank:
            found.append(f"left out {self.table.blank:,} empty {'row' if self.table.blank == 1 else 'rows'}")
        for name in doubled(f"{self.form.system or ''}\n{self.form.prompt or ''}", self.table.names)[:SHOWN_ROWS]:
            one = plain(name, 60)
            found.append(f"{{{{{one}}}}} is sent as the text {{{one}}}; write {{{one}}} for the column")
        if self.form.prompt is not None and not self.form.places:
            found.append("the prompt has no {column}, so every row asks the same")
        elif equal := self.equals.counted:
            asked = self.made - self.equals.reused
            said = f"{equal:,} of {asked:,} requests ask what another row's asks"
            found.append(f"{said}; --dedupe would send {asked - equal:,}, {equal / asked:.1%} less")
        if self._beyond_ascii:
            found.append(beyond_ascii(self._beyond_ascii))
        return [*found, *self.repeated, *self.table.warnings, *self._cautions]

    def record(self) -> Record | None:
        """Where the requests came from; None for the example."""
        if self.args.example:
            return None
        inputs = tuple(map(str, self.args.input))
        return Record(inputs, self._hashes, settings_of(self.args), self.form, self._rows, self.args.limit)

    def _skip(self, bad: BadRow) -> None:
        """Note a bad row that is left out; raise it where none is."""
        if not self.args.skip_invalid:
            if bad.code == "missing_column":
                bad.hint = "; ".join(filter(None, [bad.hint, misread(self.table.kinds)]))
            raise bad
        self._skips += 1
        if len(self._skipped) < SHOWN_ROWS:
            self._skipped.append(bad.message)

    def _make(self, row: Row) -> Made:
        """The request of `row`; raises BadRow."""
        request = self.form.request(row, self.disk)
        try:
            line = to_line(request)
        except ValueError as error:
            raise BadRow(row, str(error)) from None
        if len(line) > MAX_LINE_BYTES:
            raise BadRow(row, f"the request has {len(line):,} bytes, and may have {MAX_LINE_BYTES:,}")
        if not self.checker.accepts_value(request):
            raise self._refused(row, line, isinstance(request.get("custom_id"), str))
        self._require_new(row.number, request)
        return Made(row, request, line, self.form.original_id(row, request["custom_id"]) if self.form.repair else None)

    def _refused(self, row: Row, line: bytes, has_id: bool) -> BadRow:
        will_be_shown = len(self._skipped) < SHOWN_ROWS  # else the explanation is not worth its time
        problem = next(iter(self.checker.explain(line)), None) if will_be_shown else None
        if problem is None:
            return BadRow(row, "is refused")
        said = f"{problem.path}: {problem.message}" if problem.path else problem.message
        if problem.path == "custom_id" and has_id and not self.form.repair:
            return BadRow(row, said, hint="mend the row, add --repair-ids to make such ids fit")
        return BadRow(row, said)

    def _require_new(self, number: int, request: dict[str, Any]) -> None:
        custom_id = request["custom_id"]
        if self.form.id is not None:
            if not custom_id.isascii():
                self._beyond_ascii = self._beyond_ascii or custom_id
            if self._seen.is_first:
                self._seen.note([custom_id])
            elif (earlier := self._seen.used_at(custom_id, number)) is not None:
                said = f"the custom_id {custom_id} is used before, in row {earlier}"
                hint = "make --id of columns that differ in every row, or leave it out"
                bad = BadRow(Row(number, (), ()), said, "duplicate_custom_id", hint)
                if self.args.skip_invalid:
                    raise bad
                self._twice = self._twice or bad  # raised in the end, when all pairs are known
                self._pairs.append(f"row {number} repeats row {earlier}")
        if self.form.kind == REQUESTS:
            self._url = self._url or request["url"]
            if request["url"] != self._url:
                said = f"url: is {request['url']}, but the first request's is {self._url}; one endpoint a file"
                raise BadRow(Row(number, (), ()), said)


def _lines_of(
    rows: Sequence[tuple[Any, ...]], quick: Quick, checker: Checker, encode: Callable[[Any], bytes]
) -> list[tuple[str, bytes]]:
    """The custom_ids and lines of all `rows`; none at all where there is more to look at in one of them."""
    requests = [request for request in map(quick, rows) if request is not None]
    if len(requests) < len(rows) or not checker.accepts_values(requests):
        return []
    lines = list(map(encode, requests))
    ids = [request["custom_id"] for request in requests]
    return list(zip(ids, lines, strict=True)) if max(map(len, lines)) <= MAX_LINE_BYTES else []
