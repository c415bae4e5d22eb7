"""A table that changed held against its job: which rows were asked before, and batch files of those that were not.

Promises: a row keeps an answer only where its request is the same JSON; among equal requests each row keeps its own.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from doubleword.batch_files.reading import request_lines, request_of
from doubleword.batch_files.record import Record, record_path, written
from doubleword.batch_files.row_map import RowMap, RowMapFile, map_path, read_answers, read_rows
from doubleword.batch_files.writing import Writer
from doubleword.failure import Failure
from doubleword.jobs.job_file import Intended, JobFile
from doubleword.jobs.reuse.answers import require_answers
from doubleword.jobs.submission import checked, input_file, is_refused, relative, require_unchanged
from doubleword.output_file import WholeFile, sha256_of
from doubleword.quick_msgspec import Struct, replace
from doubleword.request_lines.line import digest_of, to_line
from doubleword.system import Disk, System
from doubleword.tables.database import Database
from doubleword.tables.staged import Staged


class Made(Struct, frozen=True):
    """The requests of the table as it is now: batch files that go again, their row map and their record, if any."""

    files: Sequence[Path]
    row_map: Path | None
    record: Record | None


class Update(Struct, frozen=True):
    """What a table asks of its job, and the files of it, which stand beside the job's. `kept`, `asked` and `gone` count
    rows; `is_nothing` says that the rows are those of the job, each with its request; `saved_usd` is what asking all of
    the table would cost more, None where a price is not known.
    """

    number: int
    kept: int
    asked: int
    gone: int
    is_nothing: bool
    output: Path
    files: Sequence[Path]
    row_map: RowMap
    saved_usd: float | None = None

    @property
    def said(self) -> dict[str, Any]:
        """What a user is told of it."""
        return {"kept": self.kept, "asked": self.asked, "gone": self.gone, "saved_usd": self.saved_usd}

    def remove(self, disk: Disk) -> None:
        """Leave nothing of it behind."""
        for path in (*self.files, map_path(self.output), record_path(self.output)):
            disk.remove(path)

    def apply(self, store: JobFile, system: System) -> None:
        """Put it on record, from which on it is part of the job."""
        job = store.job
        made = checked(list(self.files), system).files if self.files else []
        parts = [input_file(one, store.folder) for one in made]
        places = enumerate(parts, len(job.files))
        job.batches = [*job.batches, *(Intended(system.new_key(), index, part) for index, part in places)]
        job.files = [*job.files, *parts]
        job.row_map = replace(self.row_map, path=relative(Path(self.row_map.path), store.folder))
        job.update = {"number": self.number, **self.said}
        store.save()


@contextlib.contextmanager
def applied(update: Update, store: JobFile, system: System) -> Iterator[None]:
    """Apply an update while the block submits it; where that is refused, and no batch of it may exist, take it back."""
    job = store.job
    before = (job.files, job.batches, job.row_map, job.update)
    update.apply(store, system)
    try:
        yield
    except Failure as failure:
        now = JobFile.load(store.path, system.disk)
        is_new = [one for one in now.job.batches if one.file >= len(before[0])]
        if is_refused(failure) and not any(one.may_cost for one in is_new):
            now.job.files, _, now.job.row_map, now.job.update = before
            now.job.batches = [one for one in now.job.batches if one not in is_new]
            now.save()
            update.remove(system.disk)
        raise


def planned(store: JobFile, made: Made, place: Path, system: System) -> Update:
    """The update of the job that the requests `made` are, its files written beside the batch file at `place`.

    Raises Failure (2) where a batch file of the job is not as it was.
    """
    disk, job = system.disk, store.job
    number = (job.update or {"number": 1})["number"] + 1
    output = place.with_name(f"{place.stem}.update-{number}{place.suffix}")
    known = [store.input_path(one) for one in job.files]
    for one in job.files:
        require_unchanged(store, one, disk)
    answers = require_answers(job.row_map, store.folder, disk)
    work = store.path.with_name(f".{store.path.name}.work")
    with disk.work_folder(work) as folder, Database(folder) as target:
        held = _Held(target, disk)
        held.match(known, answers, job.row_map, store.folder, made, job.requests)
        kept, asked, gone, moved, requests = held.counts()
        files = held.write_new(output, made, number) if asked else []
        rows = held.write_map(output, requests)
    if job.row_map is not None:
        rows = replace(rows, answers=job.row_map.answers, answers_sha256=job.row_map.answers_sha256)
    if made.record is not None:
        with WholeFile(record_path(output), disk, force=True) as file:
            file.write(written(replace(made.record, row_map=rows), [*known, *files], place.parent))
    nothing = not (asked or moved)
    return Update(number, kept, asked, gone, nothing, output, files, replace(rows, path=str(map_path(output))))


class _Held:
    """The requests of a job and of a table, in a database, held against each other."""

    def __init__(self, target: Database, disk: Disk) -> None:
        self._target = target
        self._disk = disk
        self._old_rows = self._new_rows = self._found = ""

    def match(
        self,
        known: Sequence[Path],
        answers: Path | None,
        row_map: RowMap | None,
        folder: Path,
        made: Made,
        total: int,
    ) -> None:
        """Give each request that was made the number of one that asks the same, or a new one after `total`.

        Of several that ask the same, each takes that of the row with its custom_id first.
        """
        target, old, new = self._target, self._requests(known, answers), self._requests(made.files)
        place = folder / row_map.path if row_map is not None else None
        if row_map is not None and place is not None and sha256_of(place, self._disk) != row_map.sha256:
            self._old_rows = "(SELECT 0 AS place, 0 AS number, '' AS custom_id WHERE false)"  # it is lost
        else:
            self._old_rows = self._rows(place, old)
        self._new_rows = self._rows(made.row_map, new)
        own = f"SELECT number, min(custom_id) AS custom_id FROM {self._old_rows} GROUP BY number"
        asked, ours = target.new_name("asked"), target.new_name("ours")
        select = (
            f"SELECT number, digest, own.custom_id AS custom_id FROM {old} AS o LEFT JOIN ({own}) AS own USING (number)"
        )
        target.run(f"CREATE TEMP TABLE {asked} AS {select}")
        target.run(f"CREATE TEMP TABLE {ours} AS SELECT number, digest, custom_id FROM {new}")

        def in_turn(some: str, others: str) -> str:
            order = "same.custom_id IS NULL, one.custom_id, one.number"
            both = f"FROM {some} AS one LEFT JOIN {others} AS same USING (digest, custom_id)"
            turn = f"row_number() OVER (PARTITION BY digest ORDER BY {order})"
            return f"(SELECT one.number AS number, digest, {turn} AS turn {both})"

        self._found = target.new_name("found")
        joined = f"{in_turn(ours, asked)} AS m LEFT JOIN {in_turn(asked, ours)} AS k USING (digest, turn)"
        fresh = f"{total} + row_number() OVER (PARTITION BY k.number IS NULL ORDER BY m.number)"
        select = f"SELECT m.number AS made, k.number AS known, coalesce(k.number, {fresh}) AS number FROM {joined}"
        target.run(f"CREATE TEMP TABLE {self._found} AS {select}")

    def counts(self) -> tuple[int, int, int, int, int]:
        """How many rows keep their request, ask a new one, are gone, and are not where they were; how many requests."""
        run, rows = self._target.run, f"{self._new_rows} AS r JOIN {self._found} AS f ON r.number = f.made"
        sent = "count(DISTINCT f.number) FILTER (f.number > 0)"
        ((kept, asked, requests),) = run(f"SELECT count(f.known), count(*) - count(f.known), {sent} FROM {rows}")
        gone = f"SELECT count(*) FROM {self._old_rows} AS o ANTI JOIN {self._found} AS f ON o.number = f.known"
        now = f"SELECT place, f.number AS number, r.custom_id AS custom_id FROM {rows}"
        was = f"SELECT place, number, custom_id FROM {self._old_rows}"
        moved = f"SELECT count(*) FROM (({now}) EXCEPT ({was}) UNION ALL (({was}) EXCEPT ({now})))"
        return kept, asked, run(gone)[0][0], run(moved)[0][0], requests

    def write_new(self, output: Path, made: Made, number: int) -> list[Path]:
        """Write the requests that were not asked before, under ids that the job has not."""
        blocks = self._target.blocks(f"SELECT known FROM {self._found} ORDER BY made")
        known = itertools.chain.from_iterable(blocks)
        every = itertools.chain.from_iterable(request_lines(path, self._disk) for path in made.files)
        count = itertools.count(1)
        with Writer(output, self._disk, force=True) as writer:
            for (_, line), (before,) in zip(every, known, strict=True):
                if before is None:
                    request = {**request_of(line), "custom_id": f"update-{number}-{next(count):07d}"}
                    writer.write([to_line(request)])
        return [one.path for one in writer.files]

    def write_map(self, output: Path, requests: int) -> RowMap:
        """Write the row map over all that the job has asked then."""
        rows = f"{self._new_rows} AS r JOIN {self._found} AS f ON r.number = f.made"
        with contextlib.closing(RowMapFile(map_path(output), self._disk)) as file:
            for block in self._target.blocks(f"SELECT f.number, r.custom_id FROM {rows} ORDER BY place"):
                file.note([(int(number), str(custom_id)) for number, custom_id in block])
            file.finish()
            self._disk.replace(file.temporary, self._disk.target(file.path))
            return replace(file.recorded, requests=requests)

    def _requests(self, paths: Sequence[Path], answers: Path | None = None) -> str:
        """SQL of the requests in batch files, and of those that answers of earlier jobs answer: `number`, `custom_id`,
        `digest`.
        """
        with Staged(self._target) as rows:
            every = itertools.chain.from_iterable(request_lines(path, self._disk) for path in paths)
            for number, (custom_id, line) in enumerate(every, 1):
                request = request_of(line)
                digest = digest_of(request["url"], request["body"])
                rows.add({"number": number, "custom_id": custom_id, "digest": digest})
            for number, one in enumerate(read_answers(answers, self._disk), 1):
                rows.add({"number": -number, "custom_id": None, "digest": one.digest})
        return rows.sql({"number": "BIGINT", "custom_id": "VARCHAR", "digest": "VARCHAR"})

    def _rows(self, row_map: Path | None, requests: str) -> str:
        """SQL of the rows that requests answer: `place`, `number`, `custom_id`."""
        if row_map is None:
            return f"(SELECT number AS place, number, custom_id FROM {requests})"
        with Staged(self._target) as rows:
            for place, (number, custom_id) in enumerate(read_rows(row_map, self._disk), 1):
                rows.add({"place": place, "number": number, "custom_id": custom_id})
        return rows.sql({"place": "BIGINT", "number": "BIGINT", "custom_id": "VARCHAR"})
