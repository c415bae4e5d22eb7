"""The server in memory: files, batches and their rows, as functions of time.

What a batch does is laid down as dated steps when it is created, cancelled or retried, so it can be seen as of any
moment: now, or as a replica that lags shows it. The state machine is that of the open-source server (control-layer,
dwctl `files.rs`, `batches.rs`; fusillade `postgres.rs`), with the differences that a `Mood` names.

The server is also the judge of what may never happen: it raises a `Finding` the moment a request is paid twice.
"""

from __future__ import annotations

import heapq
import itertools
import json
import re
from typing import Any
from urllib.parse import parse_qs

from tests.simulation.moods import Mood
from tests.simulation.records import NEVER, TERMINAL, Batch, File, Reply, Request, Row, Step, View
from tests.simulation.world import World

# How long after the client's call a gateway may still deliver it, and how late a finished row may be seen.
LATEST_COMMIT_S = 60.0
LATEST_ROW_S = 8.0
TRICKY = ("", "\u2028", "\u0085\u2029", "\r", "\u0000", "日本語 é 🜁", '"\\"', "=1+1", "\ud800", " \n ")


class Server:
    """One account on one server. Times are the world's; what it tells the client is off by `skew` seconds."""

    def __init__(self, world: World, mood: Mood) -> None:
        dice = world.chance
        self.world = world
        self.mood = mood
        self.files: dict[str, File] = {}
        self.batches: dict[str, Batch] = {}
        self.genuine: dict[bytes, str] = {}  # the request lines that may become batches, each with its custom_id
        self.questions: dict[str, str] = {}  # what rows of a table may ask, each with what tells it from others
        self.asks: dict[str, str] = {}  # by custom_id, where that is another
        self.refuses_until = {401: 0.0, 402: 0.0}
        self.skew = dice.choice((0.0, 0.0, 5.0, -3_600.0, 80_000.0, -80_000.0))
        self.page = dice.choice((2, 5, 101, 101))
        self.duration = dice.choice((5.0, 60.0, 1_200.0, 20_000.0, 80_000.0, 110_000.0))
        self.failing = dice.choice((0.0, 0.0, 0.2, 0.6, 1.0))
        self.counts_unrun_as_failed = dice.random() < 0.5
        self.moody = True  # some batches are filled late or never, some answers are of no use
        self.retried_by_others = 0
        self._late: list[tuple[float, int, Request]] = []
        self._numbers = itertools.count(1)
        for _ in range(dice.choice((0, 0, 0, 6))):
            self.make_noise(world.time - dice.uniform(10.0, 400_000.0))

    # Time

    def handle(self, request: Request) -> Reply:
        """Do what `request` asks, and answer."""
        self.catch_up()
        return self._do(request, self.world.time)

    def later(self, request: Request, delay: float) -> None:
        """Do what `request` asks `delay` seconds from now; nobody hears the answer."""
        heapq.heappush(self._late, (self.world.time + delay, next(self._numbers), request))

    def catch_up(self) -> None:
        """Do what was delivered late and is due."""
        while self._late and self._late[0][0] <= self.world.time:
            time, _, request = heapq.heappop(self._late)
            self.world.note("  server, late: %s %s", request.method, request.path)
            self.world.reach("server: a call took effect after its client had given up")
            self._do(request, time)

    def view(self, batch: Batch, time: float) -> View:
        """What is true of `batch` at `time`."""
        steps = [row.at(time) for row in batch.rows]
        mark = next((one for one in reversed(batch.marks) if one[0] <= time), None)
        ended = max((step.time for step in steps), default=batch.created)
        if batch.broken and batch.populated <= time:
            return View("failed", batch.populated, steps)
        if mark is not None and mark[1] == "cancel":
            start, _, end = mark
            if not self.mood.slow_cancel and start < batch.populated:
                return View("cancelling", None, steps)  # it was never filled, and never will be
            return View("cancelling", None, steps) if time < end else View("cancelled", max(end, start), steps)
        if time < batch.populated:
            return View("validating", None, steps)
        if any(step.kind == "pending" for step in steps):
            return View("in_progress", None, steps)
        if any(step.kind == "expired" for step in steps):
            return View("expired", ended, steps)
        if self.mood.nulls and time < ended + 3.0:
            return View("finalizing", None, steps)
        good = any(step.kind == "completed" for step in steps)
        return View("completed" if good or not self.mood.retry else "failed", ended, steps)

    def is_alive(self, batch: Batch, time: float) -> bool:
        """Whether its pending rows may still be run."""
        view = self.view(batch, time)
        if view.status == "cancelling":
            return self.mood.slow_cancel
        return view.status not in TERMINAL

    # Requests

    def _do(self, request: Request, now: float) -> Reply:
        method, path = request.method, request.path
        if self.refuses_until[401] > now:
            return self._error(401, "Authentication required")
        if (method, path) == ("POST", "/files"):
            return self._upload(request, now)
        if (method, path) == ("POST", "/batches"):
            return self._create(json.loads(request.body), now)
        if match := re.fullmatch(r"/batches/([^/]+)/(cancel|retry)", path):
            batch = self.batches.get(match.group(1))
            if method != "POST" or batch is None or (match.group(2) == "retry" and not self.mood.retry):
                return self._error(404, "not found")
            return self._cancel(batch, now) if match.group(2) == "cancel" else self._retry(batch, now)
        if method != "GET":
            return self._error(405, "")
        seen = now - self.world.lag()
        query = {name: values[-1] for name, values in parse_qs(request.query).items()}
        if path == "/batches":
            return self._list_batches(query, seen)
        if path == "/files":
            return self._list_files(query, seen)
        if match := re.fullmatch(r"/files/([^/]+)", path):
            file = self.files.get(match.group(1))
            if file is None or file.created > seen or file.deleted <= seen:
                return self._error(404, f"File with ID {match.group(1)} not found")
            return self._json(200, self._file(file))
        if match := re.fullmatch(r"/batches/([^/]+)", path):
            found = self.batches.get(match.group(1))
            if found is None or found.created > seen:
                return self._error(404, f"Batch with ID {match.group(1)} not found")
            return self._json(200, self._batch(found, seen))
        if match := re.fullmatch(r"/files/([^/]+)/content", path):
            return self._content(match.group(1), query, seen)
        return self._error(404, "not found")

    # Files

    def _upload(self, request: Request, now: float) -> Reply:
        boundary = request.content_type.partition("boundary=")[2].encode()
        parts = request.body.split(b"--" + boundary)
        if parts[-1] != b"--\r\n":
            return self._error(400, "Failed to read multipart upload: incomplete")
        head, _, content = parts[2].partition(b"\r\n\r\n")
        name = re.search(rb'filename="([^"]*)"', head)
        content = content[:-2]
        file = File(
            self.mood.file_prefix + self._uuid(),
            name.group(1).decode() if name else "upload",
            len(content),
            now,
            [line for line in content.split(b"\n") if line.strip()],
        )
        self.files[file.id] = file
        self.world.note("  server: file %s", file.id)
        return self._json(self.mood.created, self._file(file))

    def delete_file(self, file: File, now: float) -> None:
        """What happens when somebody else deletes an input file: its batches that still run are cancelled."""
        self.world.note("~ input file %s deleted", file.id)
        file.deleted = now
        for batch in self.batches.values():
            if batch.file is file and self.mood.files_at_once and self.view(batch, now).status not in TERMINAL:
                self._cancel(batch, now)

    def _list_files(self, query: dict[str, str], seen: float) -> Reply:
        found = [file for file in self.files.values() if file.created <= seen and file.deleted > seen]
        if self.mood.search:
            found = [file for file in found if query.get("search", "") in file.filename]
        found.sort(key=lambda file: file.created, reverse=True)
        return self._page([(file.id, lambda file=file: self._file(file)) for file in found], query)

    def _content(self, identifier: str, query: dict[str, str], seen: float) -> Reply:
        kind, _, owner = identifier.rpartition("_of_")
        if not kind:
            file = self.files.get(identifier)
            if file is None or file.created > seen or file.deleted <= seen:
                return self._error(404, f"File with ID {identifier} not found")
            lines = file.lines
        else:
            batch = self.batches.get(owner)
            if batch is None or batch.created > seen or self._result_file(batch, kind, seen) is None:
                return self._error(404, f"File with ID {identifier} not found")
            lines = self.result_lines(batch, kind, seen)
        skip = int(query.get(self.mood.place, 0))
        if skip and self.world.fault("content", ("place ignored",)):
            skip = 0
        lines = lines[skip:]
        if lines and kind and self.world.fault("content", ("rows twice",)):
            lines = [*lines, *lines[: self.world.chance.randrange(len(lines)) + 1]]
        return Reply(200, b"".join(line + b"\n" for line in lines), "application/x-ndjson", rows=True)

    def result_lines(self, batch: Batch, kind: str, time: float) -> list[bytes]:
        """The lines of a batch's output or error file at `time`, in the order of their stamps."""
        unrun = ("expired", "cancelled") if self.mood.rows_for_unrun else ()
        kinds = ("completed",) if kind == "output" else ("failed", *unrun)
        steps = [row.at(time) for row in batch.rows]
        shown = [step for step in steps if step.kind in kinds and step.shown <= time]
        return [step.line for step in sorted(shown, key=lambda step: step.stamp)]

    def _result_file(self, batch: Batch, kind: str, time: float) -> str | None:
        identifier = f"{kind}_of_{batch.id}"
        if self.mood.files_at_once:
            return identifier
        if self.view(batch, time).status not in TERMINAL or not self.result_lines(batch, kind, NEVER):
            return None
        return identifier

    # Batches

    def _create(self, asked: dict[str, Any], now: float) -> Reply:
        dice = self.world.chance
        if self.refuses_until[402] > now:
            return self._error(402, "Account balance too low. Please add credits to continue.")
        file = self.files.get(asked["input_file_id"])
        if file is None or file.created > now - self.world.lag() or file.deleted <= now:
            return self._error(404, f"File with ID {asked['input_file_id']} not found")
        slow = dice.random() if self.moody else 0.0
        delay = dice.uniform(0.0, 5.0) if slow < 0.85 else dice.uniform(20.0, 400.0) if slow < 0.99 else NEVER
        broken = self.moody and delay < NEVER and dice.random() < 0.03
        batch = Batch(
            self.mood.batch_prefix + self._uuid(),
            file,
            asked["endpoint"],
            asked["completion_window"],
            asked["metadata"],
            now,
            now + delay,
            broken,
            [Row(one := self._genuine(line), self._uuid(), now, self.asks.get(one, one)) for line in file.lines],
        )
        for row in batch.rows:
            self._require_unpaid(row.asks, batch, now)
            if not broken and delay < NEVER:
                self._plan(batch, row, batch.populated, self.failing)
        self.batches[batch.id] = batch
        if dice.random() < 0.2:
            self.make_noise(now + dice.uniform(0.0, 60.0))
        self.world.note("  server: batch %s of %s", batch.id, file.id)
        return self._json(self.mood.created, self._batch(batch, now))

    def _genuine(self, line: bytes) -> str:
        custom_id = self.genuine.get(line.strip())
        if custom_id is None and self.questions:
            request = json.loads(line)
            asks = self.questions.get(request["body"]["messages"][0]["content"])
            if asks is not None and request["custom_id"].startswith("update-"):
                custom_id = self.genuine[line.strip()] = str(request["custom_id"])
                self.asks[custom_id] = asks
        if custom_id is None:
            raise self.world.finding("a batch was made of lines that the job was not made of")
        return custom_id

    def _require_unpaid(self, asks: str, new: Batch, now: float) -> None:
        """Nobody may pay for an answer that exists or is under way."""
        if asks.startswith("earlier-"):
            raise self.world.finding(f"paid twice: another job has a good answer to {asks}")
        for other in self.batches.values():
            for row in other.rows if other is not new else ():
                if row.asks == asks:
                    step = row.at(now)
                    if step.usable or (step.kind == "pending" and self.is_alive(other, now)):
                        raise self.world.finding(f"paid twice: {asks} is {step.kind} in {other.id}")

    def _plan(self, batch: Batch, row: Row, start: float, failing: float) -> None:
        """Lay down when and how a row ends."""
        dice = self.world.chance
        end = start + dice.random() * self.duration
        step = self._outcome(row, end, failing)
        if self.mood.window_ends and start < batch.expires < end:  # a retry after the window runs all the same
            unrun = self._unrun_line(row, "batch_expired", "This request could not be executed before the window ended")
            step = Step(batch.expires, "expired", batch.expires, batch.expires, unrun)
        row.change(start, step)

    def _outcome(self, row: Row, end: float, failing: float) -> Step:
        dice = self.world.chance
        stamp = end - dice.uniform(0.0, 6.0)  # the end is stamped before it is written
        shown = end + (dice.uniform(0.0, LATEST_ROW_S) if self.world.condition("late rows", 0.3) else 0.0)
        if dice.random() < failing:
            return Step(end, "failed", stamp, shown, self.failed_line(row))
        usable = not self.moody or dice.random() > 0.02
        return Step(end, "completed", stamp, shown, self.answer_line(row, usable), usable)

    def _cancel(self, batch: Batch, now: float) -> Reply:
        dice = self.world.chance
        view = self.view(batch, now)
        if view.status in ("cancelling", "cancelled"):
            return self._json(200, self._batch(batch, now))
        if view.status in TERMINAL and self.mood.slow_cancel:
            return self._error(400, f"Cannot cancel a batch with status '{view.status}'.")
        end = now + dice.uniform(0.0, 600.0) if self.mood.slow_cancel else now
        batch.marks.append((now, "cancel", end))
        for row in batch.rows:
            if row.at(end).kind == "pending":
                coming = row.steps[-1]
                line = self._unrun_line(row, "batch_cancelled", "This request was cancelled")
                row.change(end, Step(end, "cancelled", end, end, line))
                if not self.mood.slow_cancel and coming.time > now and dice.random() < 0.3:
                    late = now + dice.uniform(0.0, 60.0)  # a result that still arrives supersedes the cancellation
                    row.steps.append(coming._replace(time=late, stamp=late, shown=late))
                    batch.late += 1
        if view.status == "validating":
            batch.broken = False  # it is filled later, or never
        if not self.mood.slow_cancel and view.status == "validating":
            batch.populated = NEVER
            self.world.reach("server: a batch is cancelling for ever")
        return self._json(200, self._batch(batch, now))

    def _retry(self, batch: Batch, now: float) -> Reply:
        rows = [row for row in batch.rows if row.at(now).kind in ("failed", "cancelled", "expired")]
        cancelled = self.view(batch, now).status in ("cancelled", "cancelling")
        if not rows and not cancelled:
            return self._error(400, "Nothing to retry: no failed or canceled requests, and the batch is not cancelled")
        for row in rows:
            self._require_unpaid(row.asks, batch, now)
            row.change(now, Step(now, "pending"))
            if batch.populated < NEVER:
                self._plan(batch, row, now + self.world.chance.uniform(0.5, 5.0), self.failing / 3)
        batch.marks.append((now, "retry", now))
        self.world.note("  server: retry of %s rows of %s", len(rows), batch.id)
        return self._json(200, self._batch(batch, now))

    def retry_by_others(self) -> None:
        """Somebody presses the button of the web page: every batch that is over and failed somewhere runs again, but
        for one of which a later batch asks the same rows, which would be theirs to pay twice.
        """
        self.catch_up()
        asked: set[str] = set()
        for batch in reversed(self.batches.values()) if self.mood.retry else ():
            view = self.view(batch, self.world.time)
            if view.status in TERMINAL and view.count("failed") and asked.isdisjoint(row.asks for row in batch.rows):
                self.world.note("~ others retry %s", batch.id)
                self._retry(batch, self.world.time)
                self.retried_by_others += 1
            asked |= {row.asks for row in batch.rows}

    def retries(self, batch: Batch) -> int:
        """How often the batch was retried."""
        return sum(1 for _, what, _ in batch.marks if what == "retry")

    def _list_batches(self, query: dict[str, str], seen: float) -> Reply:
        found = [batch for batch in self.batches.values() if batch.created <= seen]
        if self.mood.search and "search" in query:
            found = [one for one in found if query["search"] in json.dumps([one.id, one.metadata, one.file.filename])]
        found.sort(key=lambda one: one.created, reverse=True)
        return self._page([(one.id, lambda one=one: self._batch(one, seen)) for one in found], query)

    # Objects

    def _batch(self, batch: Batch, time: float) -> dict[str, Any]:
        view = self.view(batch, time)
        self.world.reach(f"server: {view.status}")
        ended = None if view.ended is None else int(view.ended + self.skew)
        unrun = ("expired", "cancelled") if self.counts_unrun_as_failed and self.mood.rows_for_unrun else ()
        counted = view.status != "validating" and not batch.broken
        gone = batch.file.deleted <= time and self.mood.files_at_once
        value: dict[str, Any] = {
            "id": batch.id,
            "object": "batch",
            "endpoint": batch.endpoint,
            "input_file_id": "" if gone else batch.file.id,
            "completion_window": batch.window,
            "status": view.status,
            "created_at": int(batch.created + self.skew),
            "request_counts": {
                "total": len(batch.rows),
                "completed": view.count("completed") if counted else 0,
                "failed": view.count("failed", *unrun) if counted else 0,
            },
            "metadata": {**batch.metadata, "request_source": "api"},
            "expires_at": int(batch.expires + self.skew),
            "output_file_id": self._result_file(batch, "output", time),
            "error_file_id": self._result_file(batch, "error", time),
            "completed_at": ended if view.status == "completed" else None,
            "failed_at": ended if view.status == "failed" else None,
            "expired_at": int(batch.expires + self.skew) if time > batch.expires else None,
            "cancelled_at": ended if view.status == "cancelled" else None,
            "errors": None,
        }
        return value if self.mood.nulls else {name: item for name, item in value.items() if item is not None}

    def _file(self, file: File) -> dict[str, Any]:
        return {
            "id": file.id,
            "object": "file",
            "bytes": file.size,
            "created_at": int(file.created + self.skew),
            "filename": file.filename,
            "purpose": "batch",
        }

    def _page(self, items: list[tuple[str, Any]], query: dict[str, str]) -> Reply:
        """One page; a cursor that is not known gives the first one again."""
        ids = [identifier for identifier, _ in items]
        start = ids.index(query["after"]) + 1 if query.get("after") in ids else 0
        end = start + min(self.page, int(query.get("limit", 20)))
        data = [make() for _, make in items[start:end]]
        return self._json(200, {"object": "list", "data": data, "has_more": end < len(items)})

    def _json(self, status: int, value: Any) -> Reply:
        return Reply(status, json.dumps(value).encode())

    def _error(self, status: int, message: str) -> Reply:
        if self.mood.plain_errors:
            return Reply(status, message.encode(), "text/plain; charset=utf-8")
        return self._json(status, {"error": {"message": message, "type": "invalid_request_error", "code": None}})

    # Lines

    def answer_line(self, row: Row, usable: bool) -> bytes:
        """The line of a request that was answered; one that is not usable holds text where an object belongs."""
        dice = self.world.chance
        text = f"{dice.choice(TRICKY)}answer to {row.custom_id}{dice.choice(TRICKY)}"
        if dice.random() < 0.005:
            text *= 8000  # longer than one block
        body: Any = {
            "choices": [{"finish_reason": "stop", "index": 0, "message": {"content": text, "role": "assistant"}}],
            "usage": {"completion_tokens": 3, "prompt_tokens": 2},
        }
        response = {"status_code": 200, "request_id": None, "body": body if usable else "data: {}"}
        return self._line(row, response, None)

    def failed_line(self, row: Row) -> bytes:
        """The line of a request that failed, for one reason or another."""
        dice = self.world.chance
        upstream = json.dumps({"error": {"message": "told to fail", "code": 409}})
        if self.mood.rows_for_unrun:
            return self._line(row, {"status_code": 409, "request_id": "r", "body": json.loads(upstream)}, None)
        reason: dict[str, Any] = dice.choice(
            (
                {"type": "NonRetriableHttpStatus", "details": {"status": 409, "body": upstream}},
                {"type": "NonRetriableHttpStatus", "details": {"status": 402, "body": "Account balance too low."}},
                {"type": "Timeout", "details": {"error": "no answer"}},
                {"type": "BatchTerminated"},
            )
        )
        return self._line(row, None, {"code": None, "message": json.dumps(reason)})

    def _unrun_line(self, row: Row, code: str, message: str) -> bytes:
        return self._line(row, None, {"code": code, "message": message})

    def _line(self, row: Row, response: Any, error: Any) -> bytes:
        value = {"id": f"batch_req_{row.id}", "custom_id": row.custom_id, "response": response, "error": error}
        try:
            return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
        except UnicodeEncodeError:  # lone surrogates travel as escapes
            return json.dumps(value, separators=(",", ":")).encode()

    # The rest of the account

    def make_noise(self, created: float) -> None:
        """A batch and a file of somebody else."""
        file = File(self.mood.file_prefix + self._uuid(), "other.jsonl", 10, created, [])
        self.files[file.id] = file
        identifier = self.mood.batch_prefix + self._uuid()
        self.batches[identifier] = Batch(
            identifier, file, "/v1/embeddings", "24h", {}, created, created, broken=False, rows=[]
        )

    def _uuid(self) -> str:
        bits = f"{self.world.chance.getrandbits(128):032x}"
        return f"{bits[:8]}-{bits[8:12]}-{bits[12:16]}-{bits[16:20]}-{bits[20:]}"
