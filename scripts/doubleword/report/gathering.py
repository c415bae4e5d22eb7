"""What is known of one job at one look: progress, counts, causes with their steps, costs, distributions, and requests.

Promises: every request of the job is counted once, by the same reading and judging as a fetch; nothing is written but
what is needed meanwhile; a job that runs is shown as far as it is; a row's cells stand only beside a request that was
made of that very row (`batch_files.matching`): where that cannot be told, or a file is gone, it is said and the rest
stands as it is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Container, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from doubleword.answers.judgement import INVALID
from doubleword.batch_files.matching import Matching, reading_settings
from doubleword.batch_files.reading import numbered_lines, request_of
from doubleword.batch_files.record import Record, hashes_of, read_record
from doubleword.cli import Progress
from doubleword.failure import Failure
from doubleword.jobs.attempts import advice_of
from doubleword.jobs.cost_limit import bill_of
from doubleword.jobs.job_file import SUFFIX, JobFile
from doubleword.jobs.watching import status_of
from doubleword.quick_msgspec import Struct, field
from doubleword.report.answer_table import LONGEST, AnswerTable, Field, Numbers, Shown, clipped
from doubleword.results.expected import Schemas
from doubleword.results.reconciliation import Collector
from doubleword.results.summary import remarks, summary
from doubleword.server.api import Api
from doubleword.server.objects import Asked, Batch
from doubleword.system import Disk, System
from doubleword.tables.database import Database
from doubleword.tables.plain_copy import STDIN
from doubleword.tables.sources.source import Table

LATEST_S = 60 * 86_400  # an answer that came later than this after the batch was made has no believable time
Part = tuple[str, str]  # who speaks, and what


class Subject(Struct):
    """A job, or without `store` the one bare batch in `ids`: how its rows were made, what the page calls it, and what
    is known of it. At each look batches are `asked`; results were read `at` a time in epoch seconds.

    `keys` are those of `fetch_results.py` on results and costs; without them `problem` says why they could not be read.
    `steps` has the next step for each flaw of answers. `rows` stand in the page, in the order in which they have a
    place there, with their `prompts` and the `cells` of their source by place, under `columns`; `missing` says why
    there are none. `wrong` counts requests of all the job. Those over the rows of one table are `compared`, each row
    standing once with all its answers.
    """

    store: JobFile | None
    ids: Sequence[str]
    record: Record | None
    name: str
    compared: bool = True
    asked: list[Asked] = field(default_factory=list)
    at: float = 0.0
    problem: str = ""
    keys: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    steps: dict[str, str] = field(default_factory=dict)
    wrong: int = 0
    models: list[str] = field(default_factory=list)
    numbers: dict[str, Numbers] = field(default_factory=dict)
    fields: list[Field] = field(default_factory=list)
    rows: list[Shown] = field(default_factory=list)
    prompts: Mapping[int, list[Part]] = field(default_factory=dict)
    cells: Mapping[int, list[str | None]] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    missing: str = ""
    rests_until: float = 0.0  # by the monotonic clock: its results are not read again before

    @property
    def id(self) -> str:
        """What marks of its answers are kept under."""
        return self.store.job.id if self.store is not None else self.ids[0]

    @property
    def table(self) -> Hashable:
        """What jobs that ask the rows of one table have in common: what it holds, how it is read, what names a row."""
        record = self.record
        if not self.compared or record is None or not record.hashes:
            return self.id
        return record.hashes, record.settings, record.form.id

    @property
    def batches(self) -> list[Batch]:
        """All its batches."""
        return [batch for one in self.asked for batch in one.batches]

    @property
    def over(self) -> bool:
        """Whether nothing runs any more."""
        return all(one.batches for one in self.asked) and all(batch.terminal for batch in self.batches)

    @property
    def is_free(self) -> bool:
        """Whether it runs on the embedded engine, which costs nothing."""
        return self.store is not None and self.store.job.local is not None

    @property
    def status(self) -> str:
        """As `poll.py` says it."""
        return status_of(self.batches) if self.batches else "not_submitted"

    @property
    def began(self) -> int | None:
        """When its first batch was made, in epoch seconds."""
        return min((batch.created_at for batch in self.batches if batch.created_at), default=None)

    @property
    def total(self) -> int:
        """How many requests it has."""
        return self.store.job.requests if self.store is not None else sum(one.requests or 0 for one in self.asked)


def subject(store: JobFile | None, ids: Sequence[str], disk: Disk, compared: bool = True) -> Subject:
    """The subject that `resolve` gave."""
    if store is None:
        return Subject(None, ids, None, ids[0], compared)
    record = None
    with contextlib.suppress(Failure):  # a damaged record tells nothing; a fetch with --join says so
        record = read_record(store.input_path(store.job.files[0]), disk) if store.job.files else store.record()
    return Subject(store, ids, record, store.path.name.removesuffix(SUFFIX).removesuffix(".requests"), compared)


def gather(about: Subject, api: Api, system: System, work: Path, seed: int, most: int, progress: Progress) -> None:
    """Read all results there are, and choose at most so many requests; raises Failure where the server or disk fails.

    `work` is a path that what is needed meanwhile is named after.
    """
    disk, schemas, received = system.disk, Schemas(system.disk), 0
    about.at = system.now()

    def count(size: int) -> None:
        nonlocal received
        received += size
        progress.show(f"results received: {received / 1e6:,.1f} MB")

    spool, meanwhile = (work.with_name(f".{work.name}.{kind}") for kind in ("rows", "work"))
    with disk.work_folder(meanwhile) as folder, Database(folder) as target:
        table = AnswerTable(target)
        collector = Collector(api, system, spool, count, partial=True, schemas=schemas, pack=table)
        with collector:
            for found in collector.collect_runs(about.asked):
                table.add(found)
        table.finish()
        _ask(about, table)
        about.rows = table.choose(seed, most)
        files = [one.path for one in about.asked]
        about.columns, about.cells, about.missing = cells(about.record, files, disk, target)
    about.prompts = prompts({row.place for row in about.rows}, about.asked, disk)
    advice, tally = advice_of(about.store, collector.remarks.cut_at, bool(collector.unreadable)), collector.tally
    bill = bill_of(api, about.store, about.batches, files, system, collector.usage)
    about.keys = {**summary(tally, about.asked, about.total, advice), **bill}
    about.steps = {
        flaw: advice.step("", (flaw,), example.endpoint) for flaw, example in tally.flawed.items() if flaw != INVALID
    }
    about.notes = list(remarks(collector, schemas))
    row_map = about.store.job.row_map if about.store is not None else None
    if row_map is not None and row_map.reused:
        about.notes.insert(0, f"{row_map.reused:,} rows have the answers of earlier jobs, which are not shown here")


def _ask(about: Subject, table: AnswerTable) -> None:
    """What the table of all results tells."""
    about.wrong, about.models, about.fields = table.wrong(), table.models(), list(table.fields())
    came = f"created - {about.began or 0}"
    every = {
        "answers, in tokens": table.numbers("completion_tokens"),
        "prompts, in tokens": table.numbers("prompt_tokens"),
        "answered after": table.numbers(f"CASE WHEN {came} BETWEEN 0 AND {LATEST_S} THEN {came} END"),
    }
    about.numbers = {name: one for name, one in every.items() if one is not None}


# What was asked in the chosen requests, and of which rows


def prompts(places: Container[int], asked: Sequence[Asked], disk: Disk) -> dict[int, list[Part]]:
    """The parts of the prompts of the requests at `places` in the job, from 1, as far as batch files are there."""
    found: dict[int, list[Part]] = {}
    before = 0
    for one in asked:
        for place, (_, line) in enumerate(numbered_lines(one.path, disk) if one.path is not None else (), before + 1):
            if place in places:
                found[place] = [(role, said[:LONGEST]) for role, said in parts_of(request_of(line)["body"])]
        before += one.requests or 0
    return found


def parts_of(body: Mapping[str, Any]) -> list[Part]:
    """The texts of a request with the roles that speak them; what is no text is named, not shown."""
    asked = next((body[name] for name in ("messages", "input", "prompt") if name in body), "")
    parts = [("system", str(body[name])) for name in ("instructions", "system") if body.get(name)]
    messages = [one for one in asked if isinstance(one, dict)] if isinstance(asked, list) else []
    parts += [(str(one.get("role") or "user"), _text(one.get("content"))) for one in messages]
    return parts if messages else [*parts, ("user", _text(asked))]


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "\n".join(map(_text, content))
    if isinstance(content, dict):
        return content["text"] if isinstance(content.get("text"), str) else f"[{content.get('type', 'part')}]"
    return "" if content is None else str(content)


def cells(
    record: Record | None, files: Sequence[Path | None], disk: Disk, target: Database
) -> tuple[tuple[str, ...], dict[int, list[str | None]], str]:
    """The names of the source's columns and the cells of the requests in the table `chosen`, by their places; and why
    there are none.
    """
    if record is None:
        return (), {}, "it is not known of which table the requests were made"
    if STDIN in record.inputs:
        return (), {}, "the table came by standard input"
    try:
        settings = reading_settings(record, record.inputs, disk)
        table = Table(record.inputs, settings, disk, target)
        hashes = hashes_of(table.files, disk)
        match = Matching(table, hashes, settings, record, None, files, None, disk, target).match(record.inputs)
        number, joined = match.number_of("custom_id"), ""
        if match.numbers is not None:
            number, joined = "number", f" JOIN {match.numbers} AS numbers USING (custom_id)"
        asked = f"SELECT place, {number} AS number FROM answers JOIN chosen USING (place){joined}"
        values = "".join(f", {clipped(one)}" for one in (f'source."{at}"' for at in range(len(table.names))))
        source = f"{table.relation(raw=False)} AS source"
        found = target.run(f"SELECT asked.place{values} FROM {source} JOIN ({asked}) AS asked USING (number)")
    except Failure as failure:
        return (), {}, failure.message
    return table.names, {place: list(own) for place, *own in found}, ""
