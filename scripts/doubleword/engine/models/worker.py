"""The worker: takes pending requests, has them answered, writes the outcomes.

Promises: of all engines that share a data folder one alone works, and the next takes over when it ends; one
thread does all its writing, many outcomes in one transaction; a request is retried as the server retries it
(fusillade daemon/config.rs:12-25): 5xx, 429, 408, 404, 499 and lost connections, never past the deadline.
"""

from __future__ import annotations

import queue
import sqlite3
import sys
import threading
import time
from dataclasses import dataclass

import orjson

from doubleword.engine.models.answer import NoAnswer, Responder
from doubleword.engine.models.proxy import respond, used_tokens, with_id
from doubleword.engine.settings import Settings
from doubleword.engine.storage.ledger import Ledger
from doubleword.engine.storage.queue import Again, Claim, Ended, Queue
from doubleword.engine.storage.store import Store, dumps
from doubleword.system import Disk

RETRIED = frozenset({404, 408, 429, 499})
PURGE_EVERY_S = 60.0


@dataclass(frozen=True)
class Retries:
    """How often a request is tried again after its first try, and how long it waits before each (seconds)."""

    most: int = 1000
    first_wait_s: float = 1.0
    longest_wait_s: float = 10.0

    def wait_s(self, attempts: int) -> float:
        """The wait after `attempts` tries that failed: doubled each time, up to the longest."""
        return float(min(self.first_wait_s * 2 ** min(attempts - 1, 30), self.longest_wait_s))


class Worker:
    """Runs in threads of its own between `start` and `stop`. `idle_s` is how often it looks for new work."""

    def __init__(
        self,
        store: Store,
        responder: Responder,
        settings: Settings,
        retries: Retries | None = None,
        idle_s: float = 0.25,
    ) -> None:
        self._store = store
        self._ledger = Ledger(store, settings.account)
        self._queue = Queue(store, self._ledger)
        self._responder = responder
        self._settings = settings
        self._retries = retries or Retries()
        self._idle_s = idle_s
        self._stopping = threading.Event()
        self._tasks: queue.SimpleQueue[Claim | None] = queue.SimpleQueue()
        self._outcomes: queue.SimpleQueue[Ended | Again | None] = queue.SimpleQueue()
        self._leader: threading.Thread | None = None

    def start(self) -> None:
        """Begin, as soon as no other engine works on the same folder."""
        self._leader = threading.Thread(target=self._lead, name="engine-worker", daemon=True)
        self._leader.start()
        for number in range(self._responder.concurrency):
            threading.Thread(target=self._follow, name=f"engine-request-{number}", daemon=True).start()

    def stop(self) -> None:
        """End at once. Requests that are being answered go back to the queue when an engine next works."""
        self._stopping.set()
        self._outcomes.put(None)
        for _ in range(self._responder.concurrency):
            self._tasks.put(None)
        if self._leader is not None:
            self._leader.join()

    def wake(self) -> None:
        """Look for work now."""
        self._outcomes.put(None)

    def _lead(self) -> None:
        while not self._stopping.is_set():
            try:
                with Disk().lock(self._store.folder / "worker.lock"):
                    self._work()
            except BlockingIOError:
                self._stopping.wait(self._idle_s)
            except (OSError, sqlite3.OperationalError) as error:
                self._cannot_write(error)

    def _work(self) -> None:
        self._queue.recover()
        running = 0
        unwritten: list[Ended | Again] = []
        purged = float("-inf")
        while not self._stopping.is_set():
            try:
                if time.monotonic() - purged > PURGE_EVERY_S:
                    self._queue.purge()
                    purged = time.monotonic()
                self._queue.populate()
                claims = self._queue.exchange(unwritten, self._responder.concurrency - running + len(unwritten))
            except sqlite3.OperationalError as error:  # a full disk, say: what was answered is not asked again
                self._cannot_write(error)
                continue
            running += len(claims) - len(unwritten)
            for claim in claims:
                self._tasks.put(claim)
            unwritten = self._arrived()
        self._queue.exchange(unwritten, 0)

    def _cannot_write(self, error: Exception) -> None:
        """Say so, and leave the disk a second to recover."""
        sys.stderr.write(f"the store cannot be written: {error}\n")
        self._stopping.wait(1)

    def _arrived(self) -> list[Ended | Again]:
        """The outcomes that are there, waiting a little for the first."""
        arrived: list[Ended | Again | None] = []
        try:
            arrived.append(self._outcomes.get(timeout=self._idle_s))
            while not self._outcomes.empty():
                arrived.append(self._outcomes.get_nowait())
        except queue.Empty:
            pass  # none came in time
        return [outcome for outcome in arrived if outcome is not None]

    def _follow(self) -> None:
        while (claim := self._tasks.get()) is not None:
            outcome = self._run(claim)
            if self._stopping.is_set():
                return
            self._outcomes.put(outcome)

    def _run(self, claim: Claim) -> Ended | Again:
        started, streamed = time.monotonic(), self._settings.streamed
        try:
            answer = respond(self._responder, self._ledger, claim.url, orjson.loads(claim.body), streamed)
        except NoAnswer as failure:
            final = {"type": failure.kind, "details": {"error": failure.error}}
            may_retry, status = failure.kind != "RequestBuilderError", None
        except Exception as error:  # a bug must not stop the worker, nor leave the request without an outcome
            final = {"type": "RequestBuilderError", "details": {"error": f"{type(error).__name__}: {error}"}}
            may_retry, status = False, None
        else:
            took_ms = (time.monotonic() - started) * 1000
            status = answer.status
            if status < 400:
                body = with_id(claim.url, answer.body, claim.id, streamed)
                first_byte_ms = took_ms if answer.first_byte_ms is None else answer.first_byte_ms
                return Ended(claim, True, status, dumps(body), took_ms, first_byte_ms, used_tokens(body))
            may_retry = status >= 500 or status in RETRIED
            kind = "RetriableHttpStatus" if may_retry else "NonRetriableHttpStatus"
            final = {"type": kind, "details": {"status": status, "body": answer.raw}}
        again = self._store.now() + self._retries.wait_s(claim.attempts + 1)
        if may_retry and claim.attempts < self._retries.most and again < claim.expires_at:
            return Again(claim, again)
        return Ended(claim, False, status, dumps(final), (time.monotonic() - started) * 1000)
