"""What is promised of every command and of the end, held against the truth of the server and of the disk."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.simulation.disk import SimulatedDisk
from tests.simulation.network import KEY
from tests.simulation.records import NEVER, TERMINAL, Batch, Step
from tests.simulation.server import LATEST_ROW_S, Server
from tests.simulation.world import World

from doubleword.answers import lines as result_lines
from doubleword.failure import Exit, Failure
from doubleword.jobs.job_file import Job, JobFile

FOLDER = Path("/job")
OTHER_JOB = "e" * 32  # the id of the job whose answers are taken over
ENDPOINT = "/v1/chat/completions"
# A read may be as old as the slowest replica, and a finished row as late as the latest.
STALE_S = 8.0 + LATEST_ROW_S


@dataclass
class Outcome:
    """What one command said: exit code (None for a process that died), its output keys, and its error.

    `began` is a time of the world; `took` is in seconds of a clock that no sleep of the machine moves.
    """

    command: str
    options: dict[str, Any]
    code: int | None
    answer: dict[str, Any]
    began: float
    error: str = ""
    took: float = 0.0
    calls: int = 0


class Promises:
    """The promises of the job at `path`: `ids` are its requests in their order, `rows` all that its output ever may
    have, each with the request that answers it, `form` that of the output. `table` are the rows that a table has now.
    """

    def __init__(
        self,
        world: World,
        server: Server,
        disk: SimulatedDisk,
        path: Path,
        ids: list[str],
        rows: dict[str, str],
        form: str,
    ) -> None:
        self.world = world
        self.server = server
        self.disk = disk
        self.path = path
        self.ids = ids
        self.rows = rows
        self.table: list[str] = []
        self.earlier: dict[str, bytes] = {}  # the good answers of another job, which are never asked for
        self.format = form
        self.output = FOLDER / f"out.{form}"
        self.errors = FOLDER / "out.errors.jsonl"
        self.partial = FOLDER / f"partial.{form}"
        self._retrying_since = NEVER  # when the first of the retries began that were not said to be done
        self._settled_since = 0.0  # everything before this must be known to a command that begins now

    def require(self, holds: object, promise: str) -> None:
        """Raise a Finding unless `holds`."""
        if not holds:
            raise self.world.finding(promise)

    def job(self) -> Job | None:
        """The job file as it stands; it must be readable at any time."""
        data = self.disk.read(self.path)
        if data is None:
            return None
        disk = SimulatedDisk.__new__(SimulatedDisk)
        disk.open = lambda path: io.BytesIO(data)  # type: ignore[method-assign]
        try:
            return JobFile.load(self.path, disk).job
        except Failure as failure:
            raise self.world.finding(f"the job file does not load: {failure.message}") from None

    def asked(self) -> list[str]:
        """What was asked, at first and by updates."""
        return list(dict.fromkeys([*self.ids, *(row.asks for batch in self.mine() for row in batch.rows)]))

    def rows_now(self) -> dict[str, str]:
        """The rows of the job, each with what it asks: as its row map says, which must be true."""
        job = self.job()
        if job is None or job.row_map is None:
            return {row: asks for row, asks in self.rows.items() if not row.startswith("n-")}
        data = self.disk.read(FOLDER / job.row_map.path) or b""
        if hashlib.sha256(data).hexdigest() != job.row_map.sha256:
            return {}  # it was lost a moment ago
        path = job.row_map.answers_in(FOLDER)
        taken = self.disk.read(path) or b"" if path is not None else b""
        if path is not None and hashlib.sha256(taken).hexdigest() != job.row_map.answers_sha256:
            return {}  # and so were these
        answers = taken.splitlines()
        pairs = [line.split("\t") for line in data.decode().splitlines()[1:]]
        files = [self.disk.read(FOLDER / one.path) or b"" for one in job.files]
        whole = all(hashlib.sha256(one).hexdigest() == part.sha256 for one, part in zip(files, job.files, strict=True))
        ids = [json.loads(line)["custom_id"] for one in files for line in one.split(b"\n") if line] if whole else []
        for number, row in pairs if whole else ():
            if int(number) < 0:
                origin = json.loads(answers[-int(number)])["reused_from"]
                self.require(origin == f"{OTHER_JOB}/{self.rows[row]}", f"{row} is given the answer of {origin}")
                continue
            custom_id = ids[int(number) - 1]
            asks = self.server.asks.get(custom_id, self.rows[row] if custom_id.startswith("update-") else custom_id)
            self.require(asks == self.rows[row], f"{row} is given the answer to {custom_id}")
        return {row: self.rows[row] for _, row in pairs}

    def mine(self) -> list[Batch]:
        """The batches on the server that are not noise."""
        self.server.catch_up()
        return [batch for batch in self.server.batches.values() if batch.rows]

    # What the truth is

    def _steps(self, custom_id: str) -> Iterator[tuple[Batch, Step]]:
        for batch in self.mine():
            for row in batch.rows:
                if row.asks == custom_id:
                    for step in row.steps:
                        if step.time <= self.world.time:
                            yield batch, step

    def _kinds(self, custom_id: str, since: float) -> set[str]:
        """What a request was, at one moment or another, from `since` until now."""
        if custom_id in self.earlier:
            return {"usable"}
        kinds = set()
        for batch in self.mine():
            for row in batch.rows:
                if row.asks == custom_id:
                    steps = [row.at(since), *(step for step in row.steps if since < step.time <= self.world.time)]
                    for step in steps:
                        alive = step.kind == "pending" and self.server.is_alive(batch, self.world.time)
                        kinds.add("usable" if step.usable else "alive" if alive else step.kind)
        return kinds

    def _since(self, outcome: Outcome) -> float:
        """How old the newest thing may be that a command did not see: a replica's lag, but never its own doing.

        What was its own doing is told by the clock, so a set one excuses.
        """
        known = 0.0 if self.world.fired["clock step"] else min(self._settled_since, outcome.began)
        return max(outcome.began - STALE_S, known)

    def _was_over(self, batch: Batch, since: float) -> bool:
        """Whether a batch was over at some moment from `since` until now."""
        moments = [since, self.world.time, *(mark[0] - 1e-6 for mark in batch.marks if mark[0] > since)]
        return any(self.server.view(batch, moment).status in TERMINAL for moment in moments)

    def changed_since(self, moment: float) -> bool:
        """Whether a row changed, or became visible, after `moment`."""
        return any(max(step.time, step.shown) >= moment for one in self.asked() for _, step in self._steps(one))

    def is_stuck(self) -> bool:
        """Whether a batch is in a state that the server itself never leaves."""
        for batch in self.mine():
            status = self.server.view(batch, self.world.time).status
            if batch.populated == NEVER and status in ("validating", "cancelling"):
                return True
        return False

    # Each command

    def check(self, outcome: Outcome) -> None:
        """Check what a command said and left behind."""
        self._check_always(outcome)
        if outcome.command == "retry":
            self._retrying_since = min(self._retrying_since, outcome.began)
        if outcome.code is not None:
            getattr(self, f"_check_{outcome.command}")(outcome)

    def _check_always(self, outcome: Outcome) -> None:
        job = self.job()
        self.require(job is not None or not self.mine(), "there are batches, and no job file")
        self.require(outcome.code != Exit.BUG, f"{outcome.command} ended as a bug")
        self.require(KEY not in outcome.error + json.dumps(outcome.answer), "the key stands in an answer")
        for path, inode in self.disk.names.items():
            self.require(KEY.encode() not in inode.data, f"the key stands in {path}")
        self.require(job is None or not self.disk.names[self.path].mode & 0o077, "others may read the job file")
        for path in (self.output, self.partial):
            self._check_output(path)

    def _check_output(self, path: Path) -> None:
        """An output, whoever left it there, is whole: every line true, in the order of the input."""
        data = self.disk.read(path)
        if data is not None and path == self.output:
            self.require(hashlib.sha256(data).hexdigest() in self.disk.recorded, "an output that no delivery recorded")
        if data is None or self.format != "jsonl":
            return
        self.require(data.endswith(b"\n") or not data, "the output ends inside a line")
        ids = []
        for line in data.split(b"\n")[:-1]:
            custom_id = result_lines.judge(line, ENDPOINT)
            self.require(custom_id is not None, "a line of the output cannot be read")
            assert custom_id is not None
            ids.append(custom_id.custom_id)
            asks = self.rows[ids[-1]]
            true = [step.line for _, step in self._steps(asks) if step.usable]
            if asks in self.earlier:
                origin = {"reused_from": f"{OTHER_JOB}/{asks}"}
                true = [json.dumps({**json.loads(self.earlier[asks]), **origin}).encode()]
            self.require(
                self._is_one_of(line, true), f"the output holds an answer to {ids[-1]} that the server never gave"
            )
        order = [custom_id for custom_id in self.rows if custom_id in set(ids)]
        self.require(self.table or ids == order, "the output is not in the order of the input")

    def _is_one_of(self, line: bytes, true: list[bytes]) -> bool:
        """Whether a line is one of the server's, but for the id of the row that shares it."""
        own = json.loads(line)
        return line in true or any(own == {**json.loads(one), "custom_id": own["custom_id"]} for one in true)

    def _check_submit(self, outcome: Outcome) -> None:
        if outcome.code == Exit.DONE:
            job = self.job()
            assert job is not None
            self.require(job.submitted, "submitted is said of a job that is not")
            known = {batch.id for batch in self.mine()}
            self.require({one.batch_id for one in job.batches} <= known, "a batch of the job is not on the server")

    def _check_retry(self, outcome: Outcome) -> None:
        self._check_submit(outcome)
        if outcome.code == Exit.DONE:
            job = self.job()
            assert job is not None
            asked = all(retry.state == "asked" for one in job.batches for retry in one.retries)
            self.require(asked, "a retry is called done whose outcome nobody knows")
            self._settled_since = self.world.time
            before = min(outcome.began, self._retrying_since) - STALE_S
            self._retrying_since = NEVER
            some = outcome.answer["resumed"] or "only" in outcome.options
            for custom_id in () if some else self.asked():
                steps = [step for _, step in self._steps(custom_id)]
                well = self._kinds(custom_id, before) & {"completed", "usable", "alive"}
                again = any(step.time > before for step in steps)
                self.require(well or again, f"a retry is called done, and {custom_id} was not asked again")

    def _check_cancel(self, outcome: Outcome) -> None:
        bad = outcome.code == Exit.BAD_INPUT and not outcome.error.startswith("bad_server")
        self.require(not bad, f"cancel calls its input bad: {outcome.error}")
        if outcome.code == Exit.DONE:
            for batch in self.mine():
                named = [one["id"] for one in outcome.answer["batches"]]
                over = self._was_over(batch, self._since(outcome))
                self.require(over or batch.id not in named, "cancelled is said of a batch that is not over")

    def _check_poll(self, outcome: Outcome) -> None:
        self._check_pace(outcome)
        if outcome.code == Exit.DONE:
            for custom_id in self.asked():
                kinds = {step.kind for _, step in self._steps(custom_id)}
                self.require("completed" in kinds, f"all done is said, and {custom_id} has no answer")
        if outcome.code == Exit.SOME_FAILED:
            unanswered = [
                one for one in self.asked() if self._kinds(one, self._since(outcome)) - {"usable", "completed"}
            ]
            self.require(bool(unanswered), "failures are said of a job that has none")
            for batch in self.mine():
                over = batch.created > outcome.began or self._was_over(batch, self._since(outcome))
                self.require(over, f"over is said, and {batch.id} still runs")

    def _check_pace(self, outcome: Outcome) -> None:
        """A wait ends, and a watch of a day needs 400 looks, be the clock set or not."""
        wait = outcome.options.get("wait", 0.0)
        if wait and not self.world.fired["second session"]:
            self.require(outcome.took < wait + 30.0, f"a wait of {wait:.0f} s took {outcome.took:.0f} s")
        looks = 0 if self.world.rates["call"] else outcome.calls
        batches = len(self.mine()) + len(self.server.batches) // self.server.page
        self.require(looks <= 400 * (1 + batches), f"a wait of {wait:.0f} s needed {looks} looks")

    def _check_fetch(self, outcome: Outcome) -> None:
        if outcome.code not in (Exit.DONE, Exit.SOME_FAILED) or outcome.answer["output"] == str(self.partial):
            return
        counts = outcome.answer["counts"]
        self.require(outcome.answer["complete"], "a fetch that is not complete is called done")
        rows = self.rows_now()
        if not rows:
            return
        self.require(counts["total"] == len(rows), "the total is not what was asked")
        parts = counts["succeeded"] + counts["failed"] + counts["missing"]
        self.require(parts == counts["total"], "the counts do not add up")
        good, bad = self._delivered()
        self.require(len(good) == counts["succeeded"], "succeeded is not what the output holds")
        self.require(len(bad) == counts["failed"] + counts["missing"], "failed is not what the errors file holds")
        self.require((outcome.code == Exit.DONE) == (not bad), "the exit code does not follow from the rows")
        if sorted(good + bad) != sorted(rows):
            unknown = [one for one in bad if one.startswith("(unknown request")]
            self.require(bool(unknown), "a request is in neither file, or in both")
            return
        for found in (good, bad):
            self.require(found == [one for one in rows if one in found], "a file is not in the order of the input")
        since = self._since(outcome)
        for custom_id in good:
            self.require("usable" in self._kinds(self.rows[custom_id], since), f"{custom_id} is called succeeded")
        for custom_id in bad:
            kinds = self._kinds(self.rows[custom_id], since) - {"usable", "alive", "pending"}
            unborn = self._kinds(self.rows[custom_id], since) <= {"pending"}
            self.require(bool(kinds) or unborn, f"{custom_id} is called failed or missing, and is neither")

    def _check_run(self, outcome: Outcome) -> None:
        self._check_fetch(outcome)
        if outcome.code in (Exit.DONE, Exit.SOME_FAILED) and self.table:
            self.require(list(self.rows_now()) in (self.table, []), "the output is not that of the table")

    def _delivered(self) -> tuple[list[str], list[str]]:
        """The ids in the output as answered, and those in the errors file."""
        text = (self.disk.read(self.output) or b"").decode("utf-8", "surrogatepass")
        bad = [json.loads(line)["custom_id"] for line in (self.disk.read(self.errors) or b"").split(b"\n") if line]
        if self.format == "jsonl":
            return [json.loads(line)["custom_id"] for line in text.split("\n") if line], bad
        csv.field_size_limit(1 << 24)
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
        lost = [row["custom_id"] for row in rows if row["status"] != "succeeded"]
        self.require(lost == bad, f"the table lost {lost}, the errors file {bad}")
        return [row["custom_id"] for row in rows if row["status"] == "succeeded"], bad

    # The end

    def check_batches(self) -> None:
        """One batch for each that was intended, one retry for each that was asked for, and no more."""
        job = self.job()
        assert job is not None
        ids = sorted(one.batch_id or "" for one in job.batches)
        self.require(ids == sorted(batch.id for batch in self.mine()), "the batches are not those intended")
        for one in job.batches:
            asked = sum(1 for retry in one.retries if retry.state == "asked")
            asking = sum(1 for retry in one.retries if retry.state == "asking")
            batch = self.server.batches[one.batch_id or ""]
            done, others = self.server.retries(batch), self.server.retried_by_others
            # A result that comes after a cancel looks like a retry whose reply was lost: then another is asked at once.
            self.require(
                asked - batch.late <= done <= asked + asking + others, f"asked for {asked} retries, and {done} happened"
            )

    def check_end(self, fetched: Outcome) -> None:
        """The outcome is the truth: what has an answer is delivered, everything else is told, in their order."""
        self.require(fetched.code in (Exit.DONE, Exit.SOME_FAILED), f"no end: {fetched.error}")
        good, bad = self._delivered()
        rows = self.rows_now()
        answered = {by for by in rows.values() if any(step.usable for _, step in self._steps(by))} | {*self.earlier}
        usable = [one for one, by in rows.items() if by in answered]
        self.require(good == usable, f"answered are {usable}, and delivered {good}")
        lost = [one for one in rows if one not in usable]
        self.require(bad == lost, f"lost are {lost}, and told {bad}")
