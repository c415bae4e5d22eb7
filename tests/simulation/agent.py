"""An agent that works through one job by exit codes alone, in a world where others act and everything fails."""

from __future__ import annotations

import argparse
import contextlib
import gc
import hashlib
import io
import json
import os
import random
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import duckdb
from tests.simulation.disk import SimulatedDisk
from tests.simulation.moods import MOODS, Mood
from tests.simulation.network import BASE_URL, KEY, Network
from tests.simulation.promises import ENDPOINT, FOLDER, OTHER_JOB, STALE_S, Outcome, Promises
from tests.simulation.records import NEVER, TERMINAL
from tests.simulation.server import Server
from tests.simulation.world import Finding, Killed, Session, SimulatedSystem, World

from doubleword.batch_files import check as file_check
from doubleword.batch_files import making
from doubleword.batch_files.row_map import answers_path, map_path
from doubleword.commands import cancel, fetch_results, poll, retry_failed, run_batch, submit
from doubleword.commands import create_batch_file as creation
from doubleword.failure import Exit, Failure
from doubleword.jobs.job_file import VERSION, InputFile, Intended, Job, Written
from doubleword.pricing import prices as pricing
from doubleword.quick_msgspec import to_builtins
from doubleword.request_lines.arguments import add_arguments
from doubleword.request_lines.change import Change
from doubleword.request_lines.checker import Checker

COMMANDS_WITHOUT_FAULTS = 60
HOW: tuple[dict[str, Any], ...] = (
    {"model": "other-model"},
    {"only": "failed", "note": "Answer, please."},
    {"only": "missing"},
    {"only": "failed,missing,invalid", "max_tokens": 500},
    {"only": "failed,missing,invalid"},
)
EARLIER = FOLDER / "earlier.job.json"
CHECKER = Checker()  # its schema takes longer to compile than a whole simulated job takes to run
DATABASE = duckdb.connect()  # as does a database of its own for each table


@dataclass
class Report:
    """One seed's life: what was broken, if anything, and what was covered."""

    seed: int
    mood: str
    finding: str | None
    fired: Counter[str]
    reached: Counter[str]
    trace: list[str] = field(default_factory=list)


ROOMS: dict[str, Callable[..., dict[str, Any]]] = {
    "submit": submit.submit,
    "poll": poll.poll,
    "fetch": fetch_results.fetch,
    "retry": retry_failed.retry,
    "cancel": cancel.cancel_named,
    "run": run_batch.run,
}


def _creation() -> dict[str, Any]:
    """What run_batch.py's parser gives where nothing is said."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return vars(parser.parse_args([]))


CREATION = _creation()


class _Stderr(io.TextIOBase):
    """Where the commands' notes go: on record, and searched for the key."""

    def __init__(self, world: World) -> None:
        self._world = world

    def write(self, text: str) -> int:
        self._world.note("  | %s", text.rstrip("\n"))
        if KEY in text:
            raise self._world.finding("the key was written to stderr")
        return len(text)


@dataclass(frozen=True)
class Setting:
    """What the job is: the server's mood, the number of requests in each batch file, and the form of the output.

    With `table` one command makes the batch file, submits, waits and fetches; with `dedupe` some of its rows ask the
    same, with `changes` it changes so often, and is asked for what is new, and with `earlier` another job has answers
    to some of it.
    """

    mood: Mood
    files: tuple[int, ...]
    format: str
    table: bool = False
    window: str = "24h"
    dedupe: bool = False
    changes: int = 0
    earlier: bool = False

    @classmethod
    def drawn(cls, dice: random.Random) -> Setting:
        """A setting by chance: small, since most of what goes wrong goes wrong with one request."""
        table = dice.random() < 0.2
        count = 1 if table else dice.choice((1, 1, 1, 1, 1, 1, 2, 3))
        return cls(
            mood=dice.choice(MOODS),
            files=tuple(dice.randrange(1, 6) for _ in range(count)),
            format=dice.choice(("jsonl", "jsonl", "jsonl", "csv")),
            table=table,
            window=dice.choice(("24h", "24h", "1h")),
            dedupe=table and dice.random() < 0.6,
            changes=dice.choice((0, 1, 2, 3)) if table else 0,
            earlier=table and dice.random() < 0.4,
        )


class Life:
    """One job from its batch files to its results."""

    def __init__(self, seed: int, setting: Setting | None = None) -> None:
        self.world = World(seed)
        dice = self.world.chance
        self.setting = setting = setting or Setting.drawn(dice)
        self.server = Server(self.world, setting.mood)
        self.disk = SimulatedDisk(self.world, [FOLDER])
        self.system = SimulatedSystem(self.world, self.disk, Network(self.world, self.server))
        self.world.second_session = self._second_session
        self.world.edit_batch_file = self._edit
        self.world.retry_by_others = self.server.retry_by_others
        self.contents: dict[Path, bytes] = {}
        self.ids: list[str] = []
        self.rows: dict[str, str] = {}  # the custom_id of each row, and that of the request which answers it
        self.cells: dict[str, str] = {}  # the question of each row that the table ever had
        self.earlier: dict[str, bytes] = {}  # the good answers of another job
        self.taken = b""  # the file of those that were taken over
        self.changes = setting.changes
        self.table = FOLDER / "rows.csv" if setting.table else None
        self.job = FOLDER / ("out.requests.job.json" if setting.table else "a.job.json")
        self.output = FOLDER / f"out.{setting.format}"
        if setting.table:
            self._write_table(setting.files[0])
        else:
            for number, requests in enumerate(setting.files, 1):
                path = FOLDER / ("a.jsonl" if len(setting.files) == 1 else f"a-{number:04d}.jsonl")
                self._write_batch_file(path, number, requests)
        self.disk.put(pricing.BUNDLED, pricing.BUNDLED.read_bytes())
        self.promises = Promises(self.world, self.server, self.disk, self.job, self.ids, self.rows, setting.format)
        self.promises.earlier = self.earlier
        self.retries = dice.choice((0, 1, 1, 2))
        self.watches = dice.random() < (0.15 if self.server.duration < 1_000.0 else 0.01)

    def _write_batch_file(self, path: Path, number: int, requests: int) -> None:
        lines = []
        for index in range(requests):
            custom_id = f"f{number}-{index}"
            message = {"role": "user", "content": f"question {custom_id} \u2028é"}
            body = {"model": "some-model", "messages": [message]}
            line = {"custom_id": custom_id, "method": "POST", "url": ENDPOINT, "body": body}
            lines.append(json.dumps(line, ensure_ascii=index % 2 == 0).encode())
        self.disk.put(path, b"\n".join(lines) + (b"\n" if number % 2 else b""))
        self._know(path, self.disk)

    def _write_table(self, rows: int) -> None:
        """A table, and what its batch file will be: made once in a world of its own."""
        assert self.table is not None
        numbers = [index * index % 3 if self.setting.dedupe else index for index in range(rows)]
        text = "".join(f'f1-{index},"question {number}, \u2028é"\n' for index, number in enumerate(numbers))
        self.disk.put(self.table, f"id,question\n{text}".encode())
        world = World(0)
        world.quiet = True
        world.sessions.append(Session("create"))
        disk = SimulatedDisk(world, [FOLDER])
        disk.put(self.table, self.disk.read(self.table) or b"")
        path = FOLDER / "out.requests.jsonl"
        args = self._arguments("run", {"output": str(path)})
        with contextlib.redirect_stderr(_Stderr(world)):
            system = SimulatedSystem(world, disk, Network(world, self.server))
            creation.create(args, system)
            if self.setting.earlier and self._write_earlier(disk.read(path) or b"", numbers, disk):
                args.force, args.reuse = True, [str(EARLIER)]
                creation.create(args, system)
                self.taken = disk.read(answers_path(path)) or b""
        self._know(path, disk)
        self.rows.clear()
        asks = [f"f1-{numbers.index(number)}" for number in numbers]
        asks = [f"earlier-{one}" if f"earlier-{one}" in self.earlier else one for one in asks]
        self.rows.update({f"f1-{index}": one for index, one in enumerate(asks)})
        self.cells = {f"f1-{index}": f"question {number}, \u2028é" for index, number in enumerate(numbers)}
        self.server.questions = {f"Answer {cell}": self.rows[row] for row, cell in self.cells.items()}

    def _write_earlier(self, lines: bytes, numbers: list[int], disk: SimulatedDisk) -> bool:
        """Another job that asked some of these requests, and has answers, good and flawed ones; whether it has any good
        ones. Its first request is never among them, so that something is left to ask.
        """
        asked, answers = b"", b""
        for line in lines.splitlines()[1:]:
            ending = self.world.chance.choice(("stop", "stop", "length", ""))
            custom_id = f"earlier-{json.loads(line)['custom_id']}"
            asked += json.dumps({**json.loads(line), "custom_id": custom_id}).encode() + b"\n"
            message = {"role": "assistant", "content": f"an answer to {custom_id}"}
            tokens = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
            body = {"model": "some-model", "choices": [{"index": 0, "message": message, "finish_reason": ending}]}
            said = {"status_code": 200, "body": {**body, "usage": tokens}}
            answer = json.dumps({"id": custom_id, "custom_id": custom_id, "response": said, "error": None}).encode()
            answers += answer + b"\n" if ending else b""
            if ending == "stop":
                self.earlier[custom_id] = answer
        if not self.earlier:
            return False
        results, requests = FOLDER / "earlier.results.jsonl", FOLDER / "earlier.jsonl"
        hashes = [hashlib.sha256(one).hexdigest() for one in (asked, answers)]
        part = InputFile(requests.name, len(asked), hashes[0], asked.count(b"\n"), ENDPOINT)
        batch = Intended("1" * 32, 0, part, state="created", file_id="file-earlier", batch_id="batch-earlier")
        job = Job(OTHER_JOB, 1.0, BASE_URL, None, "24h", {}, [part], [batch])
        job.results = [Written(str(results), None, hashes[1], None, {}, shape={"format": "jsonl"})]
        kept = json.dumps({"version": VERSION, "kind": "doubleword job", **to_builtins(job)}).encode()
        for path, data in ((EARLIER, kept), (requests, asked), (results, answers)):
            for one in (self.disk, disk):
                one.put(path, data)
        return True

    def _first_table(self) -> None:
        """The table as it was at first, with which a job can begin anew."""
        assert self.table is not None
        rows = [row for row in self.cells if not row.startswith("n-")]
        text = "".join(f'{row},"{self.cells[row]}"\n' for row in rows)
        self.disk.put(self.table, f"id,question\n{text}".encode())
        self.promises.table, self.changes = [], 0

    def _change_table(self) -> bool:
        """Rows come, go, come back and move, once there is a job; whether they did."""
        if not self.changes or self.table is None or self.promises.job() is None:
            return False
        dice = self.world.chance
        self.changes -= 1
        for _ in range(dice.randrange(3)):
            row, old = f"n-{len(self.cells)}", dice.choice(list(self.cells))
            is_equal = self.setting.dedupe and dice.random() < 0.3
            self.cells[row] = self.cells[old] if is_equal else f"question {row}, é"
            self.rows[row] = self.server.questions.setdefault(f"Answer {self.cells[row]}", row)
        present = [row for row in self.cells if dice.random() < 0.8] or list(self.cells)
        dice.shuffle(present)
        self.promises.table = present
        text = "".join(f'{row},"{self.cells[row]}"\n' for row in present)
        self.disk.put(self.table, f"id,question\n{text}".encode())
        self.world.note("~ the table changes: %s", present)
        self.world.reach("the table changed")
        return True

    def _know(self, path: Path, disk: SimulatedDisk) -> None:
        """Remember what a batch file holds, for nothing else may ever be sent."""
        self.contents[path] = disk.read(path) or b""
        for line in filter(None, self.contents[path].split(b"\n")):
            custom_id = json.loads(line)["custom_id"]
            self.server.genuine[line] = custom_id
            self.ids.append(custom_id)
            self.rows[custom_id] = custom_id

    # Running commands

    def run(self, command: str, **options: Any) -> Outcome:
        """Run one command as its script would, and check what it said."""
        world = self.world
        session = Session(command)
        outcome = Outcome(command, options, None, {}, world.time)
        started = world.monotonic()
        world.note("# %s %s", command, options)
        world.sessions.append(session)
        try:
            with contextlib.redirect_stderr(_Stderr(world)):
                outcome.answer = ROOMS[command](self._arguments(command, options), self.system)
            outcome.code = Exit.DONE
        except Failure as failure:
            outcome.code, outcome.answer = failure.exit_code, failure.keys
            outcome.error = f"{failure.code}: {failure.message} [{failure.hint}]"
            world.reach(f"error: {command} {failure.code}")
        except Killed:
            outcome.error = "killed"
        except KeyboardInterrupt:
            outcome.code, outcome.error = Exit.NOT_FINISHED, "interrupted"
        except OSError as error:
            outcome.code, outcome.error = Exit.UNREACHABLE, f"disk: {error}"
        except Exception:
            raise world.finding(f"{command} has a bug: {traceback.format_exc()}") from None
        finally:
            session.over = True
            world.sessions.pop()
        outcome.calls, outcome.took = session.calls, world.monotonic() - started
        world.note("= %s: exit %s %s", command, outcome.code, outcome.error or outcome.answer)
        world.reach(f"exit: {command} {'killed' if outcome.code is None else int(outcome.code)}")
        self.promises.check(outcome)
        if self.promises.job() is None and self.table is None:
            self._restore()  # what was edited would make another job
        return outcome

    def _arguments(self, command: str, options: dict[str, Any]) -> argparse.Namespace:
        """What the script's parser would give."""
        defaults: dict[str, dict[str, Any]] = {
            "submit": {
                "files": self._batch_files(),
                "job": None,
                "adopt": None,
                "metadata": ["team=x"],
                "window": self.setting.window,
                "max_cost": None,
                "dry_run": False,
            },
            "poll": {"names": [str(self.job)], "wait": 0.0, "report": None},
            "fetch": {
                "names": [str(self.job)],
                "output": str(self.output),
                "format": self.setting.format,
                "join": None,
                "id": None,
                "raw_cells": False,
                "columns": None,
                "delimiter": None,
                "bom": False,
                "history": None,
                "response_schema": None,
                "partial": False,
                "force": False,
            },
            "retry": {
                "job": str(self.job),
                "only": None,
                "cause": None,
                "ids": None,
                "response_schema": None,
                "max_tokens": None,
                "model": None,
                "note": None,
                "dry_run": False,
                "max_cost": None,
            },
            "cancel": {"names": [str(self.job)], "yes": True},
            "run": {
                **CREATION,
                "output": str(self.output),
                "input": [str(self.table)],
                "prompt": "Answer {question}",
                "model": "some-model",
                "id": "{id}",
                "dedupe": self.setting.dedupe,
                "update": bool(self.promises.table) if self.cells else False,
                "reuse": [str(EARLIER)] if self.cells and self.earlier and not self.promises.table else None,
                "window": self.setting.window,
                "job": None,
                "metadata": ["team=x"],
                "max_cost": None,
                "delete_files": False,
                "dry_run": False,
                "wait": 0.0,
                "columns": None,
                "bom": False,
                "raw_cells": False,
                "report": None,
            },
        }
        return argparse.Namespace(**{**defaults[command], **options}, base_url=BASE_URL, local=False)

    def _batch_files(self) -> list[str]:
        job = self.promises.job() if self.cells else None
        return [str(path) for path in self.contents] if job is None else [str(FOLDER / one.path) for one in job.files]

    def _second_session(self) -> None:
        """Somebody runs another command while one is under way."""
        start = "submit" if self.table is None else "run"
        command = self.world.chance.choice((start, "poll", "fetch", "retry", "partial"))
        if command == "partial":
            self.run("fetch", force=True, partial=True, output=str(self.promises.partial))
        else:
            self.run(command, **({"force": True} if command in ("fetch", "run") else {}))

    # The agent

    def live(self) -> None:
        """From the first submit to results that nobody can doubt, or as near as the server lets it come."""
        dice = self.world.chance
        command, options = ("submit" if self.table is None else "run"), dict[str, Any]()
        faulty = dice.choice((2, 5, 10))
        for number in range(faulty + COMMANDS_WITHOUT_FAULTS):
            if number == faulty:
                self._become_quiet()
            self._let_others_act()
            quiet = self.world.quiet
            outcome = self.run(command, **options)
            following = self._next(outcome)
            if following is None and self._change_table():
                following = "run", {"wait": self._wait(at_once=False), "force": self.world.chance.random() < 0.5}
            if following is None:
                break
            command, options = following
            if outcome.code != Exit.DONE:
                self.world.time += dice.choice((0.0, 2.0, 30.0, 600.0, self.server.duration / 4))
        else:
            raise self.world.finding(f"the job does not end: {outcome.command} still gives {outcome.code}")
        self._become_quiet()
        self._end(outcome if quiet and outcome.command in ("fetch", "run") else None)

    def _next(self, outcome: Outcome) -> tuple[str, dict[str, Any]] | None:
        """The command that an agent runs after `outcome`; None when it is through."""
        command, code = outcome.command, outcome.code
        wait: dict[str, Any] = {"wait": self._wait(at_once=command == "retry")}
        force: dict[str, Any] = {"force": self.disk.size(self.output) is not None}
        submit, poll, fetch = ("submit", dict[str, Any]()), ("poll", wait), ("fetch", force)
        if self.table is not None:  # one command submits, waits and fetches
            submit = poll = fetch = "run", {**wait, **force}
        again = {"submit": submit, "poll": poll, "fetch": fetch, "run": fetch}.get(command, (command, {}))
        if "other_requests" in outcome.error and self.promises.table and self.promises.job() is None:
            self._first_table()  # the job file went with the power, before anything was sent
            return again
        if self.promises.table and outcome.error.startswith("output_exists"):
            return again  # a kill came between the record of a new output and its name: then it takes --force
        # "Exists already" is said of the batch file where others put one there while it was made.
        put_there = self.table is not None and ".requests.jsonl exists" in outcome.error
        if (
            put_there
            or outcome.error.startswith(
                ("batch_file_changed", "no_batch_file", "no_file", "other_files", "other_requests", "row_map_lost")
            )
            or outcome.error.startswith("reused_answers_lost")
        ):
            self._restore()
            return again
        if outcome.error.startswith(("not_submitted", "no_job")):
            return submit
        if outcome.error.startswith(("bad_server", "attempt_planned")):
            return again
        if code in (None, Exit.UNREACHABLE, Exit.NO_KEY, Exit.REFUSED, Exit.NOT_FOUND):
            return again
        if code == Exit.BAD_INPUT:
            raise self.world.finding(f"{command} calls its input bad: {outcome.error}")
        if code == Exit.NOT_FINISHED and self.promises.is_stuck() and self.world.quiet and command != "submit":
            return None
        if command in ("submit", "retry", "cancel"):
            if code == Exit.NOT_FINISHED and not outcome.error.startswith(("not_finished", "cancelling")):
                return again
            return poll
        if command == "poll":
            return poll if code == Exit.NOT_FINISHED else fetch
        if code == Exit.NOT_FINISHED:
            return poll
        if code == Exit.SOME_FAILED and self.retries:
            self.retries -= 1
            return "retry", self._how()
        job = self.promises.job()
        if code == Exit.SOME_FAILED and job is not None and not job.submitted:
            return submit  # another session's retry was interrupted between its plan and its batches
        return None

    def _how(self) -> dict[str, Any]:
        """How what failed is asked again: mostly as it was, now and then with a change, or only a part of it.

        Where others may retry the very same rows on the server meanwhile, a new attempt could pay for them twice.
        """
        dice = self.world.chance
        if (self.server.mood.retry and "retried by others" in self.world.enabled) or dice.random() < 0.5:
            return {}
        how: dict[str, Any] = dict(dice.choice(HOW))
        change = Change(how.get("max_tokens"), how.get("model"), how.get("note"))
        for line, custom_id in list(self.server.genuine.items()):
            self.server.genuine[change.applied(line)] = custom_id
        return how

    def _wait(self, at_once: bool) -> float:
        """How long the next poll may take; most agents come back later, though not always after a retry."""
        dice = self.world.chance
        if self.watches:
            return dice.choice((60.0, self.server.duration))
        if at_once and dice.random() < 0.5:
            return 0.0
        self.world.time += dice.uniform(0.2, 1.5) * self.server.duration
        return dice.choice((0.0, 0.0, 3.0))

    def _let_others_act(self) -> None:
        """What happens to the account between two commands."""
        world, server, dice = self.world, self.server, self.world.chance
        if world.condition("balance below zero", 0.1):
            server.refuses_until[402] = world.time + dice.uniform(0.0, 3_000.0)
        if world.condition("key refused", 0.1):
            server.refuses_until[401] = world.time + dice.uniform(0.0, 3_000.0)
        files = [file for file in server.files.values() if file.lines and file.deleted == NEVER]
        intact = all(self.disk.read(path) == content for path, content in self.contents.items())
        if files and intact and world.condition("input file deleted", 0.05):
            server.delete_file(dice.choice(files), world.time)
        if dice.random() < 0.2:
            self._change_table()
        if self.promises.job() is not None and world.condition("cancelled", 0.1):
            self.run("cancel")

    def _edit(self) -> None:
        """Somebody edits a batch file of a job that exists, or loses its row map or the answers that it took over."""
        if self.disk.size(self.job) is None or any(file.deleted < NEVER for file in self.server.files.values()):
            return  # with both copies gone nobody knows any more what was asked
        path = self.world.chance.choice(list(self.contents))
        if self.taken and self.world.chance.random() < 0.5:
            self.world.reach("taken over answers are lost")
            self.disk.names.pop(answers_path(path), None)
        elif self.setting.dedupe and self.world.chance.random() < 0.5:
            self.world.reach("the row map is lost")
            job = self.promises.job()
            known = job.row_map if job is not None else None
            self.disk.names.pop(FOLDER / known.path if known is not None else map_path(path), None)
        elif self.world.chance.random() < 0.2:
            self.disk.names.pop(path, None)
        else:
            self.disk.put(path, self.contents[path].replace(b"question", b"QUESTION"))

    def _restore(self) -> None:
        for path, content in self.contents.items():
            if self.disk.read(path) != content:
                self.world.note("~ %s is restored", path.name)
                self.disk.put(path, content)
        place = FOLDER / "out.requests.reused.jsonl"
        if self.taken and self.disk.size(self.job) is not None and self.disk.read(place) != self.taken:
            self.world.note("~ the answers that were taken over are restored")
            self.disk.put(place, self.taken)

    def _become_quiet(self) -> None:
        """From now on nothing fails any more."""
        if not self.world.quiet:
            self.world.note("~ quiet")
            self.world.quiet = True
            self.server.refuses_until = {401: 0.0, 402: 0.0}
            self._restore()

    # The end

    def _end(self, fetched: Outcome | None) -> None:
        """Nothing fails any more: what was done is held against the truth of the server, and done once more.

        `fetched` is the last fetch, if nothing failed in it; it stands unless something changed since it began.
        """
        promises, world = self.promises, self.world
        before = len(promises.mine())
        world.time += 2 * STALE_S  # the last late row is there
        if world.chance.random() < 0.3:
            outcome = self.run("submit")
            promises.require(outcome.code == Exit.DONE and outcome.answer["resumed"], f"not resumed: {outcome.error}")
        promises.require(len(promises.mine()) == before, "a second submit made a batch")
        promises.check_batches()
        if promises.is_stuck():
            return
        while any(self.server.view(batch, world.time).status not in TERMINAL for batch in promises.mine()):
            world.time += 600.0  # others retried
        if fetched is None or promises.changed_since(fetched.began):
            fetched = self.run("fetch", force=True)
            if fetched.error.startswith("row_map_lost"):  # of an updated job: its hint names the command that mends it
                fetched = self.run("run", force=True)
        promises.check_end(fetched)
        if world.chance.random() < 0.3:
            again = self.run(fetched.command)
            for outcome in (again, fetched):
                outcome.answer.pop("update", None)  # what is new tells each run of itself
            same = (again.code, again.answer) == (fetched.code, fetched.answer)
            promises.require(same, "a second fetch says another thing")


@contextlib.contextmanager
def inside() -> Iterator[None]:
    """The surroundings of every simulated command, whatever this process was started with."""
    gc_was_on = gc.isenabled()
    gc.disable()  # what is freed when must not depend on what ran before
    try:
        with (
            mock.patch.dict(os.environ, {"DOUBLEWORD_API_KEY": KEY}),
            mock.patch.object(file_check, "Checker", lambda: CHECKER),
            mock.patch.object(making, "Checker", lambda: CHECKER),
            mock.patch.object(creation, "Checker", lambda: CHECKER),
            mock.patch.object(duckdb, "connect", lambda **_: DATABASE.cursor()),
            mock.patch.object(sys, "argv", ["scripts/some.py"]),  # hints name it
        ):
            yield
    finally:
        if gc_was_on:
            gc.enable()


def live(seed: int, keep: bool = False) -> Report:
    """Live through `seed`; the report says what was found, and with `keep` or a finding all that happened."""
    finding = None
    with inside():
        life = Life(seed)
        try:
            life.live()
        except Finding as found:
            finding = str(found)
    world = life.world
    report = Report(seed, life.server.mood.name, finding, world.fired, world.reached)
    if keep or finding is not None:
        began = world.trace[0][0]
        for time, depth, text, values in world.trace:
            report.trace.append(f"{time - began:12.3f} {'  ' * depth}{text % values}")
    return report
