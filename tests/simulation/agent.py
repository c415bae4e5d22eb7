"""An agent that works through one job by exit codes alone, and the promises that are checked on its way."""

from __future__ import annotations

import argparse
import contextlib
import csv
import gc
import io
import json
import os
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from tests.simulation.disk import SimulatedDisk
from tests.simulation.moods import MOODS
from tests.simulation.network import BASE_URL, KEY, Network
from tests.simulation.server import LATEST_ROW_S, NEVER, TERMINAL, Batch, Server
from tests.simulation.world import Finding, Killed, Session, SimulatedOutside, World

from doubleword import batch_file, cancelling, delivery, result_lines, retrial, submission, watch
from doubleword.failure import Exit, Failure
from doubleword.job import Job, JobFile
from doubleword.request_line import Checker

FOLDER = Path("/job")
JOB = FOLDER / "a.job.json"
COMMANDS_WITH_FAULTS = 14
COMMANDS_WITHOUT_FAULTS = 60
ENDPOINT = "/v1/chat/completions"
# A read may be as old as the slowest replica, and a finished row as late as the latest.
STALE_S = 8.0 + LATEST_ROW_S
CHECKER = Checker()  # its schema takes longer to compile than a whole simulated job takes to run


@dataclass
class Outcome:
    """What one command said: exit code (None for a process that died), its output keys, and what it told beside."""

    command: str
    code: int | None
    answer: dict[str, Any]
    began: float
    error: str = ""


@dataclass
class Report:
    """One seed's life: what was broken, if anything, and what was covered."""

    seed: int
    mood: str
    finding: str | None
    fired: Counter[str]
    reached: Counter[str]
    trace: list[str] = field(default_factory=list)


class _Stderr(io.TextIOBase):
    """Where the commands' notes go: on record, and searched for the key."""

    def __init__(self, world: World) -> None:
        self._world = world

    def write(self, text: str) -> int:
        self._world.note("  | %s", text.rstrip("\n"))
        if KEY in text:
            raise self._world.finding("the key was written to stderr")
        return len(text)


class Life:
    """One job from its batch files to its results."""

    def __init__(self, seed: int) -> None:
        self.world = World(seed)
        dice = self.world.chance
        self.server = Server(self.world, dice.choice(MOODS))
        self.disk = SimulatedDisk(self.world, [FOLDER])
        self.outside = SimulatedOutside(self.world, self.disk, Network(self.world, self.server))
        self.world.second_session = self._second_session
        self.world.edit_batch_file = self._edit
        self.contents: dict[Path, bytes] = {}
        self.ids: list[str] = []
        count = dice.choice((1, 1, 1, 2, 3))
        for number in range(1, count + 1):
            path = FOLDER / ("a.jsonl" if count == 1 else f"a-{number:04d}.jsonl")
            self._write_batch_file(path, number, dice.randrange(1, 7))
        self.format = dice.choice(("jsonl", "jsonl", "jsonl", "csv"))
        self.output = FOLDER / f"out.{self.format}"
        self.errors = FOLDER / "out.errors.jsonl"
        self.window = dice.choice(("24h", "24h", "1h"))
        self.retries = dice.choice((0, 1, 1, 2))
        self.watches = dice.random() < (0.3 if self.server.duration < 1_000.0 else 0.02)
        self.told_not_to_run = False
        self.settled_since = 0.0  # everything before this must be known to a command that begins now

    def _write_batch_file(self, path: Path, number: int, requests: int) -> None:
        lines = []
        for index in range(requests):
            custom_id = f"f{number}-{index}"
            message = {"role": "user", "content": f"question {custom_id} \u2028é"}
            body = {"model": "some-model", "messages": [message]}
            line = {"custom_id": custom_id, "method": "POST", "url": ENDPOINT, "body": body}
            lines.append(json.dumps(line, ensure_ascii=index % 2 == 0).encode())
            self.server.genuine[lines[-1]] = custom_id
            self.ids.append(custom_id)
        self.contents[path] = b"\n".join(lines) + (b"\n" if number % 2 else b"")
        self.disk.put(path, self.contents[path])

    # Running commands

    def run(self, command: str, **options: Any) -> Outcome:
        """Run one command as its script would, and check what it said."""
        outcome = self._run(command, options)
        self.world.note("= %s: exit %s %s", command, outcome.code, outcome.error or outcome.answer)
        self.world.reach(f"exit: {command} {'killed' if outcome.code is None else outcome.code}")
        self._check_always(outcome)
        check = getattr(self, f"_check_{command}")
        if outcome.code is not None:
            check(outcome)
        return outcome

    def _run(self, command: str, options: dict[str, Any]) -> Outcome:
        world = self.world
        defaults: dict[str, dict[str, Any]] = {
            "submit": {
                "files": [str(path) for path in self.contents],
                "job": None,
                "metadata": ["team=x"],
                "window": self.window,
                "max_cost": None,
                "dry_run": False,
            },
            "poll": {"names": [str(JOB)], "wait": 0.0},
            "fetch": {
                "names": [str(JOB)],
                "output": str(self.output),
                "format": self.format,
                "join": None,
                "id": None,
                "raw_cells": False,
                "partial": False,
                "force": False,
            },
            "retry": {"job": str(JOB), "dry_run": False, "max_cost": None},
            "cancel": {"names": [str(JOB)], "yes": True},
        }
        rooms: dict[str, Callable[..., dict[str, Any]]] = {
            "submit": submission.submit,
            "poll": watch.poll,
            "fetch": delivery.fetch,
            "retry": retrial.retry,
            "cancel": cancelling.cancel_named,
        }
        args = argparse.Namespace(**{**defaults[command], **options}, base_url=BASE_URL, local=False)
        session = Session(command)
        world.sessions.append(session)
        world.note("# %s %s", command, options)
        began = world.time
        try:
            with contextlib.redirect_stderr(_Stderr(world)):
                return Outcome(command, Exit.DONE, rooms[command](args, self.outside), began)
        except Failure as failure:
            text = f"{failure.code}: {failure.message} [{failure.hint}]"
            self._require(KEY not in text + json.dumps(failure.keys), "the key stands in an error")
            world.reach(f"error: {command} {failure.code}")
            return Outcome(command, failure.exit_code, failure.keys, began, text)
        except Killed:
            return Outcome(command, None, {}, began, "killed")
        except KeyboardInterrupt:
            return Outcome(command, Exit.NOT_FINISHED, {}, began, "interrupted")
        except OSError as error:
            return Outcome(command, Exit.UNREACHABLE, {}, began, f"disk: {error}")
        except Exception:
            raise world.finding(f"{command} has a bug: {traceback.format_exc()}") from None
        finally:
            session.over = True
            world.sessions.pop()

    def _second_session(self) -> None:
        """Somebody runs another command while one is under way."""
        command = self.world.chance.choice(("submit", "poll", "fetch", "retry", "poll"))
        self.run(command, **({"force": True} if command == "fetch" else {}))

    # The agent

    def live(self) -> None:
        """From the first submit to results that nobody can doubt, or as near as the server lets it come."""
        dice = self.world.chance
        command, options = "submit", dict[str, Any]()
        for number in range(COMMANDS_WITH_FAULTS + COMMANDS_WITHOUT_FAULTS):
            if number == COMMANDS_WITH_FAULTS:
                self._become_quiet()
            self._let_others_act()
            outcome = self.run(command, **options)
            following = self._next(outcome)
            if following is None:
                break
            command, options = following
            if outcome.code != Exit.DONE:
                self.world.time += dice.choice((0.0, 2.0, 30.0, 600.0, self.server.duration / 4))
        else:
            raise self.world.finding(f"the job does not end: {outcome.command} still gives {outcome.code}")
        self._become_quiet()
        self._end()

    def _next(self, outcome: Outcome) -> tuple[str, dict[str, Any]] | None:
        """The command that an agent runs after `outcome`; None when it is through."""
        command, code = outcome.command, outcome.code
        poll = "poll", {"wait": self._wait()}
        fetch = "fetch", {"force": self.disk.size(self.output) is not None}
        again = command, poll[1] if command == "poll" else fetch[1] if command == "fetch" else {}
        if outcome.error.startswith(("batch_file_changed", "no_batch_file", "no_file")):
            self._restore()
            return again
        if outcome.error.startswith("not_submitted") or (outcome.error.startswith("no_job")):
            return "submit", {}
        if outcome.error.startswith("bad_server"):
            return again
        if code in (None, Exit.UNREACHABLE, Exit.NO_KEY, Exit.REFUSED, Exit.NOT_FOUND):
            return again
        if code == Exit.BAD_INPUT:
            raise self.world.finding(f"{command} calls its input bad: {outcome.error}")
        if command in ("submit", "retry", "cancel"):
            if code == Exit.NOT_FINISHED and not outcome.error.startswith(("not_finished", "cancelling")):
                return again
            return poll
        if command == "poll":
            if code != Exit.NOT_FINISHED:
                return fetch
            return None if self._is_stuck() and self.world.quiet else poll
        if code == Exit.NOT_FINISHED:
            return poll
        if code == Exit.SOME_FAILED and self.retries:
            self.retries -= 1
            return "retry", {}
        return None

    def _wait(self) -> float:
        """How long the next poll may take."""
        dice = self.world.chance
        if self.watches:
            return dice.choice((60.0, self.server.duration))
        self.world.time += dice.uniform(0.0, self.server.duration)
        return dice.choice((0.0, 0.0, 3.0))

    def _let_others_act(self) -> None:
        """What happens to the account between two commands."""
        world, server, dice = self.world, self.server, self.world.chance
        if world.condition("balance below zero", 0.1):
            server.refuses_until[402] = world.time + dice.uniform(0.0, 3_000.0)
        if world.condition("key refused", 0.1):
            server.refuses_until[401] = world.time + dice.uniform(0.0, 3_000.0)
        files = [file for file in server.files.values() if file.lines and file.deleted == NEVER]
        if files and world.condition("input file deleted", 0.05):
            server.delete_file(dice.choice(files), world.time)
        if not world.quiet and "kill" in world.enabled and dice.random() < 0.05 and self.job() is not None:
            self.run("cancel")

    def _edit(self) -> bool:
        """Somebody edits a batch file of a job that exists."""
        if self.disk.size(JOB) is None:
            return False
        path = self.world.chance.choice(list(self.contents))
        if self.world.chance.random() < 0.2:
            self.disk.names.pop(path, None)
        else:
            self.disk.put(path, self.contents[path].replace(b"question", b"QUESTION"))
        return True

    def _restore(self) -> None:
        for path, content in self.contents.items():
            if self.disk.read(path) != content:
                self.world.note("~ %s is restored", path.name)
                self.disk.put(path, content)

    def _become_quiet(self) -> None:
        """From now on nothing fails any more."""
        if not self.world.quiet:
            self.world.note("~ quiet")
            self.world.quiet = True
            self.server.refuses_until = {401: 0.0, 402: 0.0}
            self._restore()

    # The promises

    def _require(self, holds: bool, promise: str) -> None:
        if not holds:
            raise self.world.finding(promise)

    def job(self) -> Job | None:
        """The job file as it stands; it must be readable at any time."""
        data = self.disk.read(JOB)
        if data is None:
            return None
        disk = SimulatedDisk.__new__(SimulatedDisk)
        disk.open = lambda path: io.BytesIO(data)  # type: ignore[method-assign]
        try:
            return JobFile.load(JOB, disk).job
        except Failure as failure:
            raise self.world.finding(f"the job file does not load: {failure.message}") from None

    def mine(self) -> list[Batch]:
        """The batches on the server that are not noise."""
        self.server.catch_up()
        return [batch for batch in self.server.batches.values() if batch.rows]

    def _check_always(self, outcome: Outcome) -> None:
        job = self.job()
        self._require(job is not None or not self.mine(), "there are batches, and no job file")
        self._require(outcome.code != Exit.BUG, f"{outcome.command} ended as a bug")
        self._require(KEY not in json.dumps(outcome.answer), "the key stands in an answer")
        for path, inode in self.disk.names.items():
            self._require(KEY.encode() not in inode.data, f"the key stands in {path}")
        self._require(job is None or not self.disk.names[JOB].mode & 0o077, "others may read the job file")
        self._check_output()

    def _check_output(self) -> None:
        """An output, whoever left it there, is whole: every line true, in the order of the input."""
        data = self.disk.read(self.output)
        if data is None or self.format != "jsonl":
            return
        self._require(data.endswith(b"\n") or not data, "the output ends inside a line")
        ids = []
        for line in data.split(b"\n")[:-1]:
            custom_id = result_lines.judge(line, ENDPOINT)
            self._require(custom_id is not None, "a line of the output cannot be read")
            assert custom_id is not None
            ids.append(custom_id.custom_id)
            true = {step.line for _, step in self._steps(ids[-1]) if step.usable}
            self._require(line in true, f"the output holds an answer to {ids[-1]} that the server never gave")
        order = [custom_id for custom_id in self.ids if custom_id in set(ids)]
        self._require(ids == order, "the output is not in the order of the input")

    def _steps(self, custom_id: str) -> Iterator[tuple[Batch, Any]]:
        for batch in self.mine():
            for row in batch.rows:
                if row.custom_id == custom_id:
                    for step in row.steps:
                        if step.time <= self.world.time:
                            yield batch, step

    def _kinds(self, custom_id: str, since: float) -> set[str]:
        """What a request was, at one moment or another, from `since` until now."""
        kinds = set()
        for batch in self.mine():
            for row in batch.rows:
                if row.custom_id == custom_id:
                    steps = [row.at(since), *(step for step in row.steps if since < step.time <= self.world.time)]
                    for step in steps:
                        alive = step.kind == "pending" and self.server.is_alive(batch, self.world.time)
                        kinds.add("usable" if step.usable else "alive" if alive else step.kind)
        return kinds

    def _since(self, outcome: Outcome) -> float:
        """How old the newest thing may be that a command did not see: a replica's lag, but never its own doing."""
        return max(outcome.began - STALE_S, self.settled_since)

    def _check_submit(self, outcome: Outcome) -> None:
        if outcome.code == Exit.DONE:
            job = self.job()
            assert job is not None
            self._require(job.submitted, "submitted is said of a job that is not")
            known = {batch.id for batch in self.mine()}
            self._require({one.batch_id for one in job.batches} <= known, "a batch of the job is not on the server")

    def _check_retry(self, outcome: Outcome) -> None:
        self._check_submit(outcome)
        if outcome.code == Exit.DONE:
            job = self.job()
            assert job is not None
            asked = all(retry.state == "asked" for one in job.batches for retry in one.retries)
            self._require(asked, "a retry is called done whose outcome nobody knows")
            self.settled_since = self.world.time

    def _check_cancel(self, outcome: Outcome) -> None:
        if outcome.code == Exit.DONE:
            for batch in self.mine():
                named = [one["id"] for one in outcome.answer["batches"]]
                over = self.server.view(batch, self.world.time).status in TERMINAL
                self._require(over or batch.id not in named, "cancelled is said of a batch that is not over")

    def _check_poll(self, outcome: Outcome) -> None:
        if outcome.code == Exit.DONE:
            for custom_id in self.ids:
                kinds = {step.kind for _, step in self._steps(custom_id)}
                self._require("completed" in kinds, f"all done is said, and {custom_id} has no answer")
        if outcome.code == Exit.SOME_FAILED:
            unanswered = [one for one in self.ids if self._kinds(one, self._since(outcome)) - {"usable", "completed"}]
            self._require(bool(unanswered), "failures are said of a job that has none")
            for batch in self.mine():
                self._require(self._was_over(batch, self._since(outcome)), f"over is said, and {batch.id} still runs")

    def _was_over(self, batch: Batch, since: float) -> bool:
        """Whether a batch was over at some moment from `since` until now."""
        moments = [since, self.world.time, *(mark[0] - 1e-6 for mark in batch.marks if mark[0] > since)]
        return any(self.server.view(batch, moment).status in TERMINAL for moment in moments)

    def _check_fetch(self, outcome: Outcome) -> None:
        if outcome.code not in (Exit.DONE, Exit.SOME_FAILED):
            return
        counts = outcome.answer["counts"]
        self._require(outcome.answer["complete"], "a fetch that is not complete is called done")
        self._require(counts["total"] == len(self.ids), "the total is not what was asked")
        parts = counts["succeeded"] + counts["failed"] + counts["missing"]
        self._require(parts == counts["total"], "the counts do not add up")
        good, bad = self._delivered()
        self._require(len(good) == counts["succeeded"], "succeeded is not what the output holds")
        self._require(len(bad) == counts["failed"] + counts["missing"], "failed is not what the errors file holds")
        self._require((outcome.code == Exit.DONE) == (not bad), "the exit code does not follow from the rows")
        if sorted(good + bad) != sorted(self.ids):
            unknown = [one for one in bad if one.startswith("(unknown request")]
            self._require(bool(unknown), "a request is in neither file, or in both")
            return
        self._require(good + bad == [*filter(set(good).__contains__, self.ids), *filter(set(bad).__contains__, self.ids)],
                      "the files are not in the order of the input")  # fmt: skip
        since = self._since(outcome)
        for custom_id in good:
            self._require("usable" in self._kinds(custom_id, since), f"{custom_id} is called succeeded")
        for custom_id in bad:
            kinds = self._kinds(custom_id, since) - {"usable", "alive", "pending"}
            unborn = self._kinds(custom_id, since) <= {"pending"}
            self._require(bool(kinds) or unborn, f"{custom_id} is called failed or missing, and is neither")

    def _delivered(self) -> tuple[list[str], list[str]]:
        """The ids in the output as answered, and those in the errors file."""
        text = (self.disk.read(self.output) or b"").decode("utf-8", "surrogatepass")
        bad = [json.loads(line)["custom_id"] for line in (self.disk.read(self.errors) or b"").split(b"\n") if line]
        if self.format == "jsonl":
            return [json.loads(line)["custom_id"] for line in text.split("\n") if line], bad
        csv.field_size_limit(1 << 24)
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
        lost = [row["custom_id"] for row in rows if row["status"] != "succeeded"]
        self._require(lost == bad, f"the table lost {lost}, the errors file {bad}")
        return [row["custom_id"] for row in rows if row["status"] == "succeeded"], bad

    # The end

    def _end(self) -> None:
        """Nothing fails any more: every command again, and the outcome held against the truth of the server."""
        before = len(self.mine())
        outcome = self.run("submit")
        self._require(outcome.code == Exit.DONE and outcome.answer["resumed"], f"a second submit: {outcome.error}")
        self.world.time += 2 * STALE_S  # the last late row is there
        self._require(len(self.mine()) == before, "a second submit made a batch")
        job = self.job()
        assert job is not None
        ids = sorted(one.batch_id or "" for one in job.batches)
        self._require(ids == sorted(batch.id for batch in self.mine()), "the batches are not those intended")
        for one in job.batches:
            asked = sum(1 for retry in one.retries if retry.state == "asked")
            done = self.server.retries(self.server.batches[one.batch_id or ""])
            asking = sum(1 for retry in one.retries if retry.state == "asking")
            self._require(asked <= done <= asked + asking, f"asked for {asked} retries, and {done} happened")
        polled = self.run("poll")
        if polled.code == Exit.NOT_FINISHED:
            self._require(self._is_stuck(), "a batch is over, and poll does not say so")
            return
        fetched = self.run("fetch", force=True)
        self._require(fetched.code in (Exit.DONE, Exit.SOME_FAILED), f"no end: {fetched.error}")
        good, bad = self._delivered()
        usable = [one for one in self.ids if any(step.usable for _, step in self._steps(one))]
        self._require(good == usable, f"answered are {usable}, and delivered {good}")
        lost = [one for one in self.ids if one not in usable]
        self._require(bad == lost, f"lost are {lost}, and told {bad}")
        if polled.code == Exit.DONE:
            counted = all("completed" in {step.kind for _, step in self._steps(one)} for one in lost)
            self._require(counted, "all done was said, and not all have an answer")
        again = self.run("fetch")
        self._require((again.code, again.answer) == (fetched.code, fetched.answer), "a second fetch says another thing")

    def _is_stuck(self) -> bool:
        """Whether a batch is in a state that the server itself never leaves."""
        for batch in self.mine():
            status = self.server.view(batch, self.world.time).status
            if batch.populated == NEVER and status in ("validating", "cancelling"):
                return True
        return False


def live(seed: int, keep: bool = False) -> Report:
    """Live through `seed`; the report says what was found, and with `keep` or a finding all that happened."""
    gc_was_on = gc.isenabled()
    gc.disable()  # what is freed when must not depend on what ran before
    try:
        with (
            mock.patch.dict(os.environ, {"DOUBLEWORD_API_KEY": KEY}),
            mock.patch.object(batch_file, "Checker", lambda: CHECKER),
        ):
            life = Life(seed)
            finding = None
            try:
                life.live()
            except Finding as found:
                finding = str(found)
    finally:
        if gc_was_on:
            gc.enable()
    world = life.world
    trace = [f"{time - world.trace[0][0]:12.3f} {'  ' * depth}{text % values}" for time, depth, text, values in world.trace] \
        if keep or finding is not None else []  # fmt: skip
    return Report(seed, life.server.mood.name, finding, world.fired, world.reached, trace)
