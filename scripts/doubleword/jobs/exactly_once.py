"""Each intended batch is created exactly once, whatever happens on the way.

Promises: the job file says what is about to be asked before it is asked; after an end that leaves the outcome
open (no reply, 5xx, a kill) the batch's own key is looked for on the server, and only a sure absence leads to
a second call; a file that changed between check and upload becomes no batch.

The server knows no idempotency: a repeated POST makes a second, paid batch (control-layer, dwctl batches.rs).
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from doubleword.failure import Exit, Failure, plain
from doubleword.jobs.job_file import Intended, JobFile
from doubleword.server.api import Api
from doubleword.server.errors import ApiError
from doubleword.server.objects import Batch, RemoteFile
from doubleword.server.transfers import Upload
from doubleword.system import System

# A call whose reply was lost may still be under way behind a gateway; for so long, absence proves nothing. An
# upload costs nothing, so there only the lag of a read replica is waited for.
SETTLE_S = 90.0
LAG_S = 10.0
LOOK_AGAIN_S = 5.0
TRIES = 4
AT_ONCE = 4  # batches on their way; a server that wants fewer says 429, and is waited for
KEY_NAME = "doubleword_batch_key"
JOB_NAME = "doubleword_job"

Found = TypeVar("Found")
Said = TypeVar("Said")


def look_until(system: System, see: Callable[[], Found], is_enough: Callable[[Found], bool], settle_s: float) -> Found:
    """What `see` sees once that `is_enough`, or in a look that began `settle_s` from now or later."""
    pause = LOOK_AGAIN_S
    now = system.monotonic()
    ends = now + settle_s
    while True:
        seen = see()
        if is_enough(seen) or now >= ends:  # a look that began too early proves nothing, however long it took
            return seen
        system.sleep(min(pause, max(0.0, ends - system.monotonic())))
        pause += LOOK_AGAIN_S
        now = system.monotonic()


class Traces:
    """What calls whose outcome is open left on the server. `embedded` is for an engine that dies with its run."""

    def __init__(self, api: Api, system: System, embedded: bool) -> None:
        self._api = api
        self._system = system
        self._embedded = embedded
        self._uploaded_at: dict[str, float] = {}

    def file(self, one: Intended, earlier: bool) -> RemoteFile | None:
        """The uploaded file of `one`, None where there surely is none; the call was made by an `earlier` run."""
        return self._look(one, self._find_file, LAG_S, earlier)

    def batch(self, one: Intended, earlier: bool) -> Batch | None:
        """The batch of `one`, None where there surely is none; the call was made by an `earlier` run."""
        return self._look(one, self._find_batch, SETTLE_S, earlier)

    def _find_file(self, one: Intended) -> RemoteFile | None:
        """A whole file of ours: the key stands in its name, and what came is as long as what was sent."""
        for search in (one.key, ""):
            for remote in self._api.files(search):
                if one.key in remote.filename and remote.bytes in (0, one.input.bytes):
                    return remote
        return None

    def _find_batch(self, one: Intended) -> Batch | None:
        """The batch of this key. Its input file is proof too: that was uploaded for this batch alone."""
        for search in (one.key, ""):
            for batch in self._api.batches(search):
                if batch.metadata.get(KEY_NAME) == one.key or batch.input_file_id == one.file_id:
                    return batch
                if batch.created_at and batch.created_at < self._not_before(one):
                    break  # newest first (dwctl batches.rs), so ours cannot come any more
        return None

    def keyed(self, one: Intended) -> Batch | None:
        """The batch that carries the key of `one`, by one look: the oldest where a repeated call made several."""
        found = [batch for batch in self._api.batches(one.key) if batch.metadata.get(KEY_NAME) == one.key]
        return found[-1] if found else None

    def _not_before(self, one: Intended) -> float:
        """The server's time before which our batch cannot have been made: that of its input file, less an hour.

        The clock of this machine says nothing about it, for it may be days off. 0 where the file is gone.
        """
        if one.key not in self._uploaded_at:
            try:
                self._uploaded_at[one.key] = (self._api.file(one.file_id or "").created_at or 0) - 3600.0
            except ApiError:
                return 0.0
        return self._uploaded_at[one.key]

    def _look(
        self, one: Intended, find: Callable[[Intended], Found | None], settle_s: float, earlier: bool
    ) -> Found | None:
        """What `find` finds, looking until absence is sure.

        When an earlier run made the call, the clocks do not tell reliably how long ago that was, so it is waited
        for just as long; but an embedded engine of an earlier run died with it, and one look is enough.
        """
        wait_s = 0.0 if earlier and self._embedded else settle_s
        try:
            return look_until(self._system, lambda: find(one), lambda found: found is not None, wait_s)
        except ApiError as error:
            raise error.failure("looking for what a call made whose reply was lost") from error


class Submission:
    """Brings every intended batch of one job to the state "created".

    `note` receives facts the user should see, `sent` the number of bytes just sent. `approve` is asked once all files
    of batches that cost nothing yet are uploaded; where it raises, they are deleted again and no batch is made.
    """

    def __init__(
        self,
        store: JobFile,
        api: Api,
        system: System,
        note: Callable[[str], None],
        sent: Callable[[int], None],
        approve: Callable[[Sequence[Intended]], None] | None = None,
    ) -> None:
        self._store = store
        self._api = api
        self._system = system
        self._saving = system.lock()  # the job file is written by one at a time, and shows each batch as it stands
        self._note = _in_turn(note, self._saving)
        self._sent = _in_turn(sent, self._saving)
        self._approve = approve
        self._uploaded_again: set[str] = set()
        self._traces = Traces(api, system, store.job.local is not None)

    def run(self) -> None:
        """Go on from wherever the job stands, with some batches at once; raises Failure when the server refuses or
        stays away. What is under way then for other batches is brought to its end, and no other is begun.
        """
        waiting = [one for one in self._store.job.batches if one.state != "created"]
        unpaid = [one for one in waiting if one.state != "creating"]
        try:
            if self._approve is not None and unpaid:
                unsent = [one for one in unpaid if one.state != "uploaded"]
                self._system.together([functools.partial(self._upload, one) for one in unsent], AT_ONCE)
                self._require_approval(unpaid, self._approve)
            self._system.together([functools.partial(self._bring, one) for one in waiting], AT_ONCE)
        except KeyboardInterrupt:
            self._saving.__enter__()  # for good: nothing is written any more, and so nothing is begun
            raise

    def _require_approval(self, ones: Sequence[Intended], approve: Callable[[Sequence[Intended]], None]) -> None:
        """Ask for it; where it is refused, leave no file on the server, and the batches planned."""
        try:
            approve(ones)
        except Failure:
            for one in ones:
                try:
                    self._api.delete_file(one.file_id or "")
                except ApiError as error:
                    self._note(f"{plain(one.input.path)} stays on the server as {one.file_id}: {error.sentence}")
                else:
                    one.file_id = None
                    self._finish(one, "planned")
            raise

    def _bring(self, one: Intended) -> None:
        one.tries = 0
        while one.state != "created":
            if one.state in ("planned", "uploading"):
                self._upload(one)
            else:
                self._create(one)

    # Uploading

    def _upload(self, one: Intended) -> None:
        """planned or uploading -> uploaded; a file that is on the server under our key is adopted."""
        one.tries = 0
        name = f"{Path(one.input.path).stem[:60]}-{one.key}.jsonl"
        doing = f"uploading {plain(one.input.path)}"
        if one.state == "uploading":  # an earlier run never learnt the outcome
            self._settle_upload(one, earlier=True)
        while one.state != "uploaded":
            self._begin(one, "uploading")
            try:
                remote = self._send(one, name)
            except ApiError as error:
                if not error.may_have_happened:
                    self._wait_or_give_up(one, "planned", error, doing)
                    continue
                self._note(f"{doing}: {error.sentence}; looking whether it arrived")
                self._settle_upload(one)
                if one.state != "uploaded" and one.tries >= TRIES:
                    raise error.failure(doing) from error
            else:
                self._uploaded(one, remote)

    def _send(self, one: Intended, name: str) -> RemoteFile:
        path = self._store.input_path(one.input)
        try:
            file = self._system.disk.open(path)
        except FileNotFoundError:
            self._finish(one, "planned")
            raise Failure(
                Exit.BAD_INPUT, "no_batch_file", f"the batch file {plain(path)} is gone", "restore it, then run again"
            ) from None
        with file:
            body = Upload(file, one.input.bytes, one.input.sha256, name, self._system.new_key(), self._sent)
            return self._api.upload(body)

    def _settle_upload(self, one: Intended, earlier: bool = False) -> None:
        """Adopt the upload if it is on the server, wherever in its pages; otherwise it is planned again."""
        found = self._traces.file(one, earlier)
        if found is None:
            self._finish(one, "planned")
        else:
            self._uploaded(one, found)

    def _uploaded(self, one: Intended, remote: RemoteFile) -> None:
        with self._saving:
            one.file_id = remote.id
            one.tries = 0
            self._finish(one, "uploaded")

    # Creating

    def _create(self, one: Intended) -> None:
        """uploaded or creating -> created; a batch that carries our key, or uses our file, is adopted."""
        doing = f"creating the batch for {plain(one.input.path)}"
        if one.state == "creating":
            self._settle_create(one, earlier=True)
        while one.state not in ("created", "planned"):
            self._begin(one, "creating")
            metadata = {**self._store.job.metadata, JOB_NAME: self._store.job.id, KEY_NAME: one.key}
            try:
                batch = self._api.create_batch(one.file_id or "", one.input.endpoint, self._store.job.window, metadata)
            except ApiError as error:
                if error.status == 404:
                    self._upload_again(one, error, doing)
                    continue
                if not error.may_have_happened:
                    self._wait_or_give_up(one, "uploaded", error, doing)
                    continue
                self._note(f"{doing}: {error.sentence}; looking whether it exists before anything is asked again")
                self._settle_create(one)
                if one.state != "created" and one.tries >= TRIES:
                    raise error.failure(doing) from error
            else:
                self._created(one, batch)

    def _settle_create(self, one: Intended, earlier: bool = False) -> None:
        """Adopt the batch if it exists; only when it surely does not, the call may be made again."""
        found = self._traces.batch(one, earlier)
        if found is None:
            self._finish(one, "uploaded")
        else:
            self._created(one, found)

    def _upload_again(self, one: Intended, error: ApiError, doing: str) -> None:
        """Our own input file is not found: a replica that lags, or the file is gone and nothing was made of it."""
        self._finish(one, "uploaded")
        if one.tries < TRIES:
            self._system.sleep(LOOK_AGAIN_S)
            return
        if one.key in self._uploaded_again:
            raise error.failure(doing) from error
        self._uploaded_again.add(one.key)
        self._note(f"{doing}: the server has no input file any more; uploading it again")
        with self._saving:
            one.file_id = None
            one.tries = 0
            self._finish(one, "planned")

    def _created(self, one: Intended, batch: Batch) -> None:
        with self._saving:
            one.batch_id = batch.id
            self._finish(one, "created")

    # What both share

    def _begin(self, one: Intended, state: str) -> None:
        with self._saving:
            one.state = state
            one.tries += 1
            self._store.save()

    def _finish(self, one: Intended, state: str) -> None:
        with self._saving:
            one.state = state
            self._store.save()

    def _wait_or_give_up(self, one: Intended, back_to: str, error: ApiError, doing: str) -> None:
        """The server surely did nothing: wait and let the caller ask again, or raise when that cannot help."""
        self._finish(one, back_to)
        if not error.worth_waiting or one.tries >= TRIES:
            raise error.failure(doing) from error
        self._system.sleep(self._api.pause(one.tries, error))


def take_up(store: JobFile, api: Api, system: System, begun: bool) -> None:
    """Find what runs whose job file is lost left on the server of a job whose keys follow from what it asks.

    Without a sign that it was `begun`, one look has to do. A file that is found may have been asked for as a batch just
    now, so its batch is looked for again, and longer, before it is created. Raises ApiError, and Failure as `Traces`.
    """
    traces = Traces(api, system, embedded=store.job.local is not None or not begun)
    for one in store.job.batches:
        if one.state != "planned":
            continue
        batch = traces.keyed(one)
        if batch is not None:
            one.file_id, one.batch_id, one.state = batch.input_file_id or "deleted", batch.id, "created"
        elif (file := traces.file(one, earlier=True)) is not None:
            one.file_id, one.state = file.id, "creating"
    store.save()


def _in_turn(told: Callable[[Said], None], lock: contextlib.AbstractContextManager[Any]) -> Callable[[Said], None]:
    """`told`, by one thread at a time."""

    def tell(what: Said) -> None:
        with lock:
            told(what)

    return tell
