"""Which row of a source each request was made of.

Promises: a row never gets an answer that was not asked of it. A source that is, byte for byte and read the same way,
the one on record is matched by the numbers of its rows, or by their ids; of any other the requests are made again, and
have to be those of the batch files, each of them once: then rows are matched by what they are, in whatever order they
stand. Otherwise it is refused. Rows that are left out are told.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from doubleword.batch_files.reading import request_lines, request_of
from doubleword.batch_files.record import Record
from doubleword.batch_files.row_map import RowFiles, read_answers, read_rows
from doubleword.failure import Exit, Failure, plain
from doubleword.quick_msgspec import Struct, replace
from doubleword.request_lines import templates
from doubleword.request_lines.checker import Checker
from doubleword.request_lines.form import RequestForm
from doubleword.request_lines.line import digest_of
from doubleword.system import Disk
from doubleword.tables.database import Database, text
from doubleword.tables.plain_copy import opened, suffix
from doubleword.tables.relation import Settings
from doubleword.tables.rows import BadRow, Row
from doubleword.tables.sources.source import Table
from doubleword.tables.staged import Staged
from doubleword.text_encoding import MARK_BYTES, encoding_of

HINT = "join the table that the batch file was made of, or leave --join out"
# What can be done where nobody said how a table is read.
SAVED = "or save the table as CSV in UTF-8, or its sheet as the only one, and join that"
BLOCK = 1 << 20


def reading_settings(record: Record | None, given: Sequence[str], disk: Disk) -> Settings:
    """How a source to be joined is read: as on record where it is of the same kind, but for an encoding that it has
    no more.
    """
    usual = Settings()
    if record is None:
        return usual
    if not _same_kinds(given, record.inputs):
        return replace(usual, where=record.settings.where)
    if record.settings.encoding != usual.encoding and all(
        _tells_encoding(Path(one), usual.encoding, disk) for one in given
    ):
        return replace(record.settings, encoding=usual.encoding)
    return record.settings


def _same_kinds(some: Sequence[str], others: Sequence[str]) -> bool:
    return {suffix(Path(one)) for one in some} == {suffix(Path(one)) for one in others}


def _tells_encoding(path: Path, usual: str, disk: Disk) -> bool:
    """Whether a file has a byte order mark, or is in UTF-8, which text in another encoding hardly ever is."""
    if disk.size(path) is None:
        return False
    with opened(path, disk) as file:
        if encoding_of(usual, file.read(MARK_BYTES)) != usual:
            return True
        file.seek(0)
        text = io.TextIOWrapper(file, usual)
        try:
            return all("\0" not in block for block in iter(lambda: text.read(BLOCK), ""))
        except UnicodeDecodeError:
            return False


class Match(Struct, frozen=True):
    """Which row each request was made of: SQL of `custom_id` and `number`, or None where ids say the number; `rows` is
    the last that was asked then. `by_keys` says that keys alone were compared; `warnings` what is left out.
    """

    numbers: str | None
    rows: int | None = None
    by_keys: bool = False
    warnings: tuple[str, ...] = ()

    def number_of(self, custom_id: str) -> str:
        """SQL of the row's number that an id says, where ids say it; null for any other id."""
        digits = f"TRY_CAST(regexp_extract({custom_id}, '[0-9]+$') AS BIGINT)"
        return f"CASE WHEN {self.same(digits, custom_id)} THEN {digits} END"

    def same(self, number: str, custom_id: str) -> str:
        """SQL that tells whether a custom_id is that of the row of a `number`, where ids say it."""
        return f"printf({text(templates.DEFAULT_ID)}, {number}) = {custom_id}"


class Matching(Struct):
    """Matches the rows of `table` with the requests of batch files; `record` says how those were made, if it is known.

    The table is read by `settings`; `hashes` are those of its files. `files` are the batch files, None where one is
    gone, and `row_map` says which rows their requests answer; `id` is what the user says of custom_ids.
    """

    table: Table
    hashes: tuple[str, ...]
    settings: Settings
    record: Record | None
    id: str | None
    files: Sequence[Path | None]
    row_map: RowFiles | None
    disk: Disk
    target: Database

    def match(self, given: Sequence[str]) -> Match:
        """The match of the table that `given` stands for.

        Raises Failure (exit 2) where a request has no row any more, or rows were added that nobody asked.
        """
        record = self.record
        if record is None:
            if self.id is None:
                message = "it is not known which row each request was made of"
                raise _mismatch(message, 'say how custom_ids were made, such as --id "{sku}"; or leave --join out')
            return self._by_ids(self.id)
        form = record.form if self.id is None else replace(record.form, id=self.id)
        unchanged = form == record.form and self._is_unchanged(record, given)
        if unchanged and form.id is None:
            return Match(None, record.rows)
        if unchanged:
            found = self._staged((row.number, self._id_of(row, form)) for row in self.table.rows(record.limit))
            if not self._repeated(found):
                return Match(found)
        return self._by_requests(record, form, unchanged)

    def _is_unchanged(self, record: Record, given: Sequence[str]) -> bool:
        """Whether the rows are surely those that were asked: the same files, read the same way, with nothing in them
        that comes from elsewhere, as the result of a query or the names of folders do.
        """
        if self.settings != record.settings or not _same_kinds(given, record.inputs) or not record.hashes:
            return False
        files = self.table.files
        if record.settings.format == "sql" or any(suffix(path) == ".sql" or "=" in str(path.parent) for path in files):
            return False
        if self.table.documents is not None and "path" not in templates.places(record.form.id or ""):
            return False
        return record.hashes == self.hashes

    def _by_ids(self, template: str) -> Match:
        """By keys alone, where nothing else is known: as the template gives them, or repaired."""
        without: list[str] = []

        def ids() -> Iterator[tuple[int, str | None]]:
            for row in self.table.rows():
                try:
                    custom_id = templates.fill(template, row)
                except BadRow as bad:
                    if bad.code == "missing_column":
                        hint = f"name one of these columns in --id; {SAVED}"
                        raise Failure(bad.exit_code, bad.code, bad.message, hint) from None
                    without.append(bad.message.partition("; name the encoding")[0])
                    continue
                for one in {custom_id, templates.repaired(custom_id)}:
                    yield row.number, one

        found = self._staged(ids())
        twice = self._repeated(found)
        if twice is not None:
            raise _mismatch(f"{plain(twice, 64)} is the id of more than one row", "make --id of other columns")
        said = f"rows of the table that have no id: {len(without):,}, such as {without[0]}" if without else ""
        return Match(found, by_keys=True, warnings=(f"{said}; left out of the output",) if said else ())

    def _repeated(self, found: str) -> str | None:
        """An id that more than one row has, if any."""
        sql = f"SELECT custom_id FROM {found} GROUP BY custom_id HAVING count(*) > 1 LIMIT 1"
        return next((str(row[0]) for row in self.target.run(sql, _refused)), None)

    def _by_requests(self, record: Record, form: RequestForm, unchanged: bool) -> Match:
        """By the requests themselves: each row's is made again, and has to be one of those in the batch files.

        Of a table that is `unchanged`, rows that were not asked were left out when the requests were made, and told.
        """
        if any(path is None for path in self.files):
            message = "the table may have changed since, and the batch file to hold it against is gone"
            raise _mismatch(message, HINT)
        asked = self._asked()
        made, without = self._made(form, record.limit if unchanged else None)
        # Equal requests are told apart by their ids, or where those are mere numbers, by their order.
        by = "digest, custom_id" if form.id is not None else "digest"
        ordered = f"row_number() OVER (PARTITION BY {by} ORDER BY place) AS place"
        found = self.target.new_name("matched")
        self.target.run(
            f"CREATE TEMP TABLE {found} AS SELECT asked.custom_id AS custom_id, made.number AS number"
            f" FROM (SELECT custom_id, digest, {ordered} FROM {asked}) AS asked"
            f" FULL JOIN (SELECT number, custom_id, digest, {ordered} FROM {made}) AS made USING ({by}, place)",
            _refused,
        )
        may_be_more = unchanged or record.limit is not None or self.table.documents is not None
        added = self._require_all(found, may_be_more, without)
        numbers = f"(SELECT custom_id, number FROM {found} WHERE custom_id IS NOT NULL)"
        told = [] if unchanged else [one for one in (added, without) if one]
        return Match(numbers, warnings=tuple(f"{one}; left out of the output" for one in told))

    def _asked(self) -> str:
        """SQL of what the rows asked, by the batch files: `custom_id`, `digest`, `place`."""
        with Staged(self.target) as asked:
            for path in self.files:
                for custom_id, line in request_lines(path or Path(), self.disk):
                    request = request_of(line)
                    asked.add({"custom_id": custom_id, "digest": digest_of(request["url"], request["body"])})
        sql = asked.sql({"custom_id": "VARCHAR", "digest": "VARCHAR"})
        numbered = f"(SELECT *, row_number() OVER () AS place FROM {sql})"
        if self.row_map is None:
            return numbered
        if self.row_map.answers is not None:
            numbered = f"(FROM {numbered} UNION ALL BY NAME FROM {self._reused(self.row_map.answers)})"
        with Staged(self.target) as rows:
            for place, (number, custom_id) in enumerate(read_rows(self.row_map.rows, self.disk)):
                rows.add({"place": place, "number": number, "custom_id": custom_id})
        of_rows = rows.sql({"place": "BIGINT", "number": "BIGINT", "custom_id": "VARCHAR"})
        joined = f"{of_rows} AS of_rows JOIN {numbered} AS asked ON of_rows.number = asked.place"
        return f"(SELECT of_rows.custom_id AS custom_id, digest, of_rows.place AS place FROM {joined})"

    def _reused(self, answers: Path) -> str:
        """SQL of what the answers of earlier jobs answer, under the numbers that the row map has for them."""
        with Staged(self.target) as found:
            for number, one in enumerate(read_answers(answers, self.disk), 1):
                found.add({"place": -number, "digest": one.digest})
        return found.sql({"place": "BIGINT", "digest": "VARCHAR"})

    def _made(self, form: RequestForm, limit: int | None) -> tuple[str, str]:
        """SQL of the requests that the rows give: as `_asked`, and `number`; and what is said of rows without one."""
        checker, without, first = Checker(), 0, ""
        with Staged(self.target) as rows:
            for row in self.table.rows(limit):
                try:
                    request = form.request(row, self.disk)
                    if not checker.accepts_value(request):
                        raise BadRow(row, "its request is not valid")
                except BadRow as bad:
                    without, first = without + 1, first or bad.message
                    continue  # no request was made of it, or it is not what it was: then one is missing
                digest = digest_of(request["url"], request["body"])
                rows.add({"number": row.number, "custom_id": request["custom_id"], "digest": digest})
        sql = rows.sql({"number": "BIGINT", "custom_id": "VARCHAR", "digest": "VARCHAR"})
        told = f"rows of the table that give no request: {without:,}, such as {first}" if without else ""
        return f"(SELECT *, number AS place FROM {sql})", told

    def _require_all(self, found: str, may_be_more: bool, without: str) -> str:
        """Raise where a request has no row any more, or a row was not asked, unless there may be such; then they are
        told.
        """
        lost = self.target.run(f"SELECT custom_id FROM {found} WHERE number IS NULL ORDER BY custom_id LIMIT 3")
        added = self.target.run(f"SELECT number FROM {found} WHERE custom_id IS NULL ORDER BY number LIMIT 3")
        ((count,),) = self.target.run(f"SELECT count(*) FROM {found} WHERE custom_id IS NULL")
        if not lost and (may_be_more or not added):
            return f"rows of the table that were not asked: {count:,}, such as row {added[0][0]}" if added else ""
        said = []
        if lost:
            said.append(f"no row asks what {', '.join(plain(one[0], 64) for one in lost)} asked")
        if added and not may_be_more:
            said.append(f"row {', '.join(str(one[0]) for one in added)} was not asked")
        said += [without] if lost and without else []
        message = f"the table was changed since the batch file was made of it: {'; '.join(said)}"
        if self.id is not None:
            message = f"--id {plain(self.id, 60)} gives other ids than the requests have, or {message}"
        raise _mismatch(message, HINT)

    def _id_of(self, row: Row, form: RequestForm) -> str | None:
        try:
            return templates.custom_id(form.id, row, form.repair)
        except BadRow:
            return None  # no request was made of it

    def _staged(self, pairs: Iterator[tuple[int, str | None]]) -> str:
        with Staged(self.target) as file:
            for number, custom_id in pairs:
                if custom_id is not None:
                    file.add({"custom_id": custom_id, "number": number})
        return file.sql({"custom_id": "VARCHAR", "number": "BIGINT"})


def _refused(said: str) -> Failure:
    return _mismatch(f"the table cannot be held against the requests: {said}", HINT)


def _mismatch(message: str, hint: str) -> Failure:
    return Failure(Exit.BAD_INPUT, "join_mismatch", message, hint)
