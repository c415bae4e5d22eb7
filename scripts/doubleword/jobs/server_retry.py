"""The server's own retry of a batch, asked once.

Promises: a retry whose reply was lost is looked for before it is asked again; each is on record before it is asked.

It makes failed and cancelled requests pending again and leaves the rest (dwctl batches.rs); OpenAI has none.
"""

from __future__ import annotations

from doubleword.cli import Progress
from doubleword.failure import Exit, Failure, plain
from doubleword.jobs.exactly_once import LAG_S, SETTLE_S, look_until
from doubleword.jobs.job_file import Intended, JobFile, Retry
from doubleword.jobs.watching import counted, is_as_before
from doubleword.server.api import Api
from doubleword.server.errors import ApiError
from doubleword.server.objects import Batch
from doubleword.system import System


class ServerRetry:
    """Asks the server to retry batches of one job."""

    def __init__(self, store: JobFile, api: Api, system: System, progress: Progress) -> None:
        self._store = store
        self._api = api
        self._system = system
        self._progress = progress

    def settled(self, one: Intended, earlier: bool = False) -> Batch:
        """The batch as it is once its latest retry shows: it runs again, or its counts or its end changed.

        One that was confirmed shows within the lag of a replica; one whose reply was lost may still be under way,
        and is struck from the record when it surely never happened.
        """
        last, batch_id = one.retries[-1], one.batch_id or ""
        is_lost = last.state == "asking"
        wait_s = SETTLE_S if is_lost else LAG_S
        if earlier and self._store.job.local is not None:  # the engine that was asked died with its run
            wait_s = 0.0
        elif is_lost:
            # A replica may still show how the batch ran before it last ended, which looks like a retry of it.
            self._system.sleep(LAG_S)
        batch = look_until(
            self._system, lambda: self._api.batch(batch_id), lambda seen: not is_as_before(seen, last.before), wait_s
        )
        if is_lost and is_as_before(batch, last.before):
            one.retries.pop()
            self._store.save()
        elif is_lost:
            self._confirm(last)
        return batch

    def _confirm(self, retry: Retry) -> None:
        """Record that it happened, and when that was known: for a while from then on a replica may show the old end."""
        retry.state, retry.at = "asked", self._system.now()
        self._store.save()

    def asked(self, one: Intended, batch: Batch) -> bool:
        """Ask for the server's retry, once; False where it has none or nothing that it would retry."""
        doing = f"retrying the batch {plain(batch.id, 60)}"
        for _ in range(3):
            asking = Retry(self._system.now(), "asking", counted(batch))
            one.retries.append(asking)
            self._store.save()
            try:
                self._api.retry(batch.id)
            except ApiError as error:
                if not error.may_have_happened:
                    one.retries.pop()
                    self._store.save()
                    if error.status == 400:
                        # There is nothing to retry, or others did it a moment ago and a replica does not show it yet.
                        self._system.sleep(LAG_S)
                    if error.status in (400, 404, 405):
                        return False
                    if not error.may_pass:
                        raise error.failure(doing) from error
                    self._system.sleep(self._api.pause(1, error))
                    continue
                self._progress.note(f"{doing}: {error.sentence}; looking whether it happened")
                try:
                    batch = self.settled(one)
                except ApiError as lost:
                    raise lost.failure(doing) from lost
                if asking.state == "asked":
                    return True
            else:
                self._confirm(asking)
                return True
        raise Failure(Exit.UNREACHABLE, "server_unreachable", f"{doing} kept failing", "run this again later")
