"""Which row of a source each request was made of.

Promises: a row never gets an answer that was not asked of it. A source that is, byte for byte, the one on record is
matched by the numbers of its rows; of any other the requests are made again, and have to be those of the batch files,
each of them once: then rows are matched by what they are, in whatever order they stand. Otherwise it is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from doubleword.batch_files.reading import request_lines, request_of
from doubleword.batch_files.record import Record, hashes_of
from doubleword.failure import Exit, Failure, plain
from doubleword.request_lines import templates
from doubleword.request_lines.line import DROPPED
from doubleword.system import Disk
from doubleword.tables.database import Database, text
from doubleword.tables.relation import Settings
from doubleword.tables.rows import BadRow, Row
from doubleword.tables.sources.source import Table
from doubleword.tables.staged import Staged

HINT = "join the table that the batch file was made of, or leave --join out"


def digest_of(url: str, body: dict[str, Any]) -> str:
    """What two requests have in common that ask the same, whatever order their keys stand in.

    What the server drops from a body (dwctl files.rs, pg.rs) is left out, so that its copy counts as the same.
    """
    from doubleword import json_codec

    kept = {name: value for name, value in body.items() if name not in DROPPED}
    return hashlib.blake2b(json_codec.encode([url, kept], order="sorted"), digest_size=16).hexdigest()


def reading_settings(record: Record | None, source: Path) -> Settings:
    """How a source to be joined is read: as on record where it is of the same kind."""
    if record is None:
        return Settings()
    same = any(Path(one).suffix == source.suffix for one in record.inputs)
    return record.settings if same else replace(Settings(), where=record.settings.where)


@dataclass(frozen=True)
class Match:
    """Which row each request was made of: SQL of `custom_id` and `number`, or None where ids say the number; `rows` is
    how many rows there are then.
    """

    numbers: str | None
    rows: int | None = None

    def same(self, number: str, custom_id: str) -> str:
        """SQL that tells whether a custom_id is that of the row of a `number`, where ids say it."""
        return f"printf({text(templates.DEFAULT_ID)}, {number}) = {custom_id}"

    def join(self, source: str, custom_id: str) -> str:
        """SQL that joins `source`, a relation of that name with a `number`, to a relation with `custom_id`."""
        if self.numbers is None:
            return f"LEFT JOIN {source} ON {self.same('source.number', custom_id)}"
        numbers = f"{self.numbers} AS numbers"
        return (
            f"LEFT JOIN {numbers} ON {custom_id} = numbers.custom_id"
            f" LEFT JOIN {source} ON source.number = numbers.number"
        )


class Matching:
    """Matches the rows of `table` with the requests of batch files; `record` says how those were made, if it is known.

    `files` are the batch files, None where one is gone; `id_template` is what the user says of custom_ids.
    """

    def __init__(
        self,
        table: Table,
        record: Record | None,
        id_template: str | None,
        files: Sequence[Path | None],
        disk: Disk,
        target: Database,
    ) -> None:
        self._table = table
        self._record = record
        self._id = id_template
        self._files = files
        self._disk = disk
        self._target = target

    def match(self) -> Match:
        """Raises Failure (exit 2) where a request has no row any more, or rows were added that nobody asked."""
        record = self._record
        if record is None:
            if self._id is None:
                message = "it is not known which row each request was made of"
                raise _mismatch(message, 'say how custom_ids were made, such as --id "{sku}"; or leave --join out')
            return Match(self._by_ids(self._id))
        own_id = self._id is None or self._id == record.form.id
        if own_id and record.hashes and record.hashes == hashes_of(self._table.files, self._disk):
            if record.form.id is None:
                return Match(None, record.rows)
            return Match(self._staged((row.number, self._id_of(row)) for row in self._table.rows(record.limit)))
        return Match(self._by_requests(record))

    def _by_ids(self, template: str) -> str:
        """By keys alone, where nothing else is known; rows that nobody asked are told, as they may be meant."""

        def ids() -> Iterator[tuple[int, str | None]]:
            for row in self._table.rows():
                try:
                    yield row.number, templates.fill(template, row)
                except BadRow as bad:
                    if bad.code == "missing_column":
                        raise
                    yield row.number, None

        found = self._staged(ids())
        twice = self._target.run(f"SELECT custom_id FROM {found} GROUP BY custom_id HAVING count(*) > 1 LIMIT 1")
        if twice:
            raise _mismatch(f"{plain(twice[0][0], 64)} is the id of more than one row", "make --id of other columns")
        return found

    def _by_requests(self, record: Record) -> str:
        """By the requests themselves: each row's is made again."""
        if any(path is None for path in self._files):
            message = "the table was changed since, and the batch file to hold it against is gone"
            raise _mismatch(message, HINT)
        with Staged(self._target) as asked:
            for path in self._files:
                for custom_id, line in request_lines(path or Path(), self._disk):
                    request = request_of(line)
                    asked.add({"custom_id": custom_id, "digest": digest_of(request["url"], request["body"])})
        form = record.form if self._id is None else replace(record.form, id=self._id)
        with Staged(self._target) as rows:
            for row in self._table.rows(record.limit):
                try:
                    request = form.request(row, self._disk)
                    digest = digest_of(request["url"], request["body"])
                except BadRow:
                    continue  # no request was made of it, or it is not what it was: then one is missing
                rows.add({"number": row.number, "custom_id": request["custom_id"], "digest": digest})
        # Equal requests are told apart by their ids, or where those are mere numbers, by their order.
        by = "digest, custom_id" if form.id is not None else "digest"
        ordered = f"row_number() OVER (PARTITION BY {by} ORDER BY place) AS place"
        texts = {"custom_id": "VARCHAR", "digest": "VARCHAR"}
        numbered = f"(SELECT *, row_number() OVER () AS place FROM {asked.sql(texts)})"
        left = f"SELECT custom_id, digest, {ordered} FROM {numbered}"
        right_types = {"number": "BIGINT", **texts}
        right = (
            f"SELECT number, custom_id, digest, {ordered} FROM (SELECT *, number AS place FROM {rows.sql(right_types)})"
        )
        using = f"{by}, place"
        found = self._target.new_name("matched")
        self._target.run(
            f"CREATE TEMP TABLE {found} AS SELECT asked.custom_id AS custom_id, made.number AS number,"
            f" coalesce(asked.custom_id, made.custom_id) AS shown FROM ({left}) AS asked"
            f" FULL JOIN ({right}) AS made USING ({using})"
        )
        self._require_all(found)
        return f"(SELECT custom_id, number FROM {found})"

    def _require_all(self, found: str) -> None:
        """Raise where a request has no row any more, or a row was not asked."""
        lost = self._target.run(f"SELECT shown FROM {found} WHERE number IS NULL ORDER BY shown LIMIT 3")
        added = self._target.run(f"SELECT number FROM {found} WHERE custom_id IS NULL ORDER BY number LIMIT 3")
        if not lost and not added:
            return
        said = []
        if lost:
            said.append(f"no row asks what {', '.join(plain(one[0], 64) for one in lost)} asked")
        if added:
            said.append(f"row {', '.join(str(one[0]) for one in added)} was not asked")
        raise _mismatch(f"the table was changed since the batch file was made of it: {'; '.join(said)}", HINT)

    def _id_of(self, row: Row) -> str | None:
        assert self._record is not None
        try:
            return templates.custom_id(self._record.form.id, row, self._record.form.repair)
        except BadRow:
            return None  # no request was made of it

    def _staged(self, pairs: Iterator[tuple[int, str | None]]) -> str:
        with Staged(self._target) as file:
            for number, custom_id in pairs:
                if custom_id is not None:
                    file.add({"custom_id": custom_id, "number": number})
        return file.sql({"custom_id": "VARCHAR", "number": "BIGINT"})


def _mismatch(message: str, hint: str) -> Failure:
    return Failure(Exit.BAD_INPUT, "join_mismatch", message, hint)
