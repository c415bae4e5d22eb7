"""Single moments in which a promise could break, each staged in the simulated world.

Every command is held to all promises as in the long runs: what is asserted here is that the moment came and passed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from tests.simulation import server as servers
from tests.simulation.agent import Life, Setting, inside
from tests.simulation.moods import OPENAI, SOURCE, Mood
from tests.simulation.records import Batch, Step

from doubleword.failure import Exit

DAY = 86_400.0


class Staged(Life):
    """A job of one batch file with two requests, in which only what a test stages goes wrong."""

    def __init__(self, mood: Mood, form: str = "jsonl") -> None:
        super().__init__(1, Setting(mood, (2,), form))
        self.world.quiet = True
        self.world.set_clock(0.0)
        self.world.fault = self._fault  # type: ignore[method-assign]
        self.world.lag = lambda: self.lag  # type: ignore[method-assign]
        self.server.duration, self.server.failing = 60.0, 0.0
        self.server.moody = False
        self.lag = 0.0
        self._plan: list[tuple[str, str]] = []

    def stage(self, call: str, fault: str, times: int = 1) -> None:
        """Let the next calls to a path that ends in `call` meet `fault`."""
        self._plan += [(call, fault)] * times

    def _fault(self, place: str, kinds: Sequence[str]) -> str | None:
        if self._plan and self._plan[0][1] in kinds:
            call, fault = self._plan[0]
            path = next(values[1] for _, _, text, values in reversed(self.world.trace) if text == "%s %s?%s")
            if path.endswith(call):
                self._plan.pop(0)
                return fault
        return None

    def over(self, **kinds: str) -> Batch:
        """Submit, wait for the end, and let requests (f1_0, f1_1) have come to `failed` or `unusable` instead."""
        assert self.run("submit").code == Exit.DONE
        self.world.time += 1_000.0
        (batch,) = self.promises.mine()
        for row in batch.rows:
            end = row.steps[-1]
            kind = kinds.get(row.custom_id.replace("-", "_"))
            if kind == "failed":
                row.steps[-1] = Step(end.time, "failed", end.time, end.time, self.server.failed_line(row))
            elif kind == "unusable":
                row.steps[-1] = end._replace(line=self.server.answer_line(row, usable=False), usable=False)
        return batch


@pytest.fixture(params=[SOURCE, OPENAI], ids=lambda mood: mood.name)
def job(request: pytest.FixtureRequest) -> Iterator[Staged]:
    with inside():
        yield Staged(request.param)


@pytest.fixture
def on_source() -> Iterator[Staged]:
    with inside():
        yield Staged(SOURCE)


@pytest.fixture
def on_openai() -> Iterator[Staged]:
    with inside():
        yield Staged(OPENAI)


@pytest.mark.parametrize("step", [0.0, 10 * DAY, -10 * DAY], ids=["right", "ahead", "behind"])
def test_a_batch_that_is_made_after_its_client_died_is_adopted(job: Staged, step: float) -> None:
    """The clock is set, another client makes batches, and the next submit comes before the late call does."""
    job.stage("/batches", "late after kill")
    assert job.run("submit").code is None
    job.world.set_clock(step)
    job.server.make_noise(job.world.time + 61.0)
    assert job.run("submit").code == Exit.DONE
    assert len(job.promises.mine()) == 1
    assert job.world.reached["server: a call took effect after its client had given up"] == 1


def test_a_clock_that_was_always_days_off_finds_its_batch(job: Staged) -> None:
    """The server's dates are compared with each other, never with this machine's."""
    job.world.set_clock(10 * DAY)
    job.stage("/batches", "timeout after")
    job.server.make_noise(job.world.time + 30.0)  # newer than ours when it is looked for
    assert job.run("submit").code == Exit.DONE
    assert len(job.promises.mine()) == 1


def test_a_call_that_always_fails_ends(job: Staged) -> None:
    """Whether the server surely did nothing or nobody knows: a few tries, then exit 5, and a job that goes on."""
    for fault in ("429", "5xx before"):
        job.stage("/batches", fault, times=50)
        assert job.run("submit").code == Exit.UNREACHABLE
        job._plan.clear()
    assert job.run("submit").code == Exit.DONE


def test_an_attempt_that_was_only_planned_is_sent_by_the_next_retry(on_openai: Staged) -> None:
    """The first retry dies before its upload: the second is not done before the attempt is submitted."""
    on_openai.over(f1_0="failed")
    on_openai.stage("/files", "late after kill")
    assert on_openai.run("retry").code is None
    assert len(on_openai.promises.mine()) == 1
    retried = on_openai.run("retry")
    assert (retried.code, len(on_openai.promises.mine())) == (Exit.DONE, 2)


@pytest.mark.parametrize("fault", ["late after 5xx", "late after timeout", "late after kill", "reply cut"])
def test_a_retry_whose_reply_is_lost_happens_once(on_source: Staged, fault: str) -> None:
    """However late it takes effect, it is waited for, and found."""
    batch = on_source.over(f1_0="failed")
    on_source.stage("/retry", fault)
    if on_source.run("retry").code is None:
        assert on_source.run("retry").code == Exit.DONE
    assert on_source.server.retries(batch) == 1
    on_source.world.time += 1_000.0
    assert on_source.run("poll").code == Exit.DONE


def test_what_a_replica_shows_from_before_a_retry_is_not_believed(on_source: Staged) -> None:
    """It shows the old end for eight seconds: not over, not delivered, not asked again."""
    batch = on_source.over(f1_0="failed")
    assert on_source.run("fetch").code == Exit.SOME_FAILED
    assert on_source.run("retry").code == Exit.DONE
    on_source.lag = 8.0
    assert on_source.run("poll").code == Exit.NOT_FINISHED
    assert on_source.run("fetch", force=True).code == Exit.NOT_FINISHED
    again = on_source.run("retry")
    assert (again.code, on_source.server.retries(batch)) == (Exit.DONE, 1)


def test_rows_from_before_a_retry_beside_counts_of_its_end_are_read_again(
    on_source: Staged, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many rows as are counted, but a replica shows a failure where the answer is (simulation seed 1077)."""
    on_source.over(f1_0="failed")
    assert on_source.run("fetch").code == Exit.SOME_FAILED
    before = on_source.world.time
    assert on_source.run("retry").code == Exit.DONE
    on_source.world.time += 1_000.0
    content, shown = on_source.server._content, [before, before]
    monkeypatch.setattr(
        on_source.server, "_content", lambda file, query, seen: content(file, query, shown.pop() if shown else seen)
    )
    assert on_source.run("fetch", force=True).code == Exit.DONE
    assert not shown


def test_a_retry_that_took_effect_hours_after_it_was_begun_is_believed(on_source: Staged) -> None:
    """The machine slept in the middle of the call; a replica shows the old end a moment later (seed 104114)."""
    batch = on_source.over(f1_0="failed")
    on_source.stage("/retry", "machine asleep")
    on_source.server.duration = 600.0
    assert on_source.run("retry").code == Exit.DONE
    assert (on_source.server.retries(batch), on_source._plan) == (1, [])
    on_source.lag = 8.0
    assert on_source.run("poll").code == Exit.NOT_FINISHED


def test_a_batch_that_was_retried_a_moment_ago_is_cancelled(on_source: Staged) -> None:
    """A replica shows it as over, and it runs."""
    batch = on_source.over(f1_0="failed")
    on_source.server.duration = 600.0
    assert on_source.run("retry").code == Exit.DONE
    on_source.lag = 8.0
    assert on_source.run("cancel").code == Exit.DONE
    assert on_source.server.view(batch, on_source.world.time).status == "cancelled"


def test_a_second_retry_is_not_taken_for_the_first(on_source: Staged) -> None:
    """The call never reached the server, which is waited for; then it is asked again, though an earlier one was not."""
    batch = on_source.over(f1_0="failed")
    on_source.server.failing = 3.0  # and fails again
    assert on_source.run("retry").code == Exit.DONE
    on_source.world.time += 1_000.0
    on_source.stage("/retry", "timeout before")
    assert on_source.run("retry").code == Exit.DONE
    assert on_source.server.retries(batch) == 2


def test_what_ran_before_it_was_cancelled_is_not_taken_for_a_retry(on_source: Staged) -> None:
    """The call never arrives, and a replica still shows how the batch ran a moment ago (simulation seed 16071)."""
    batch = on_source.over(f1_0="failed")
    on_source.server.duration = 600.0
    assert on_source.run("retry").code == Exit.DONE
    on_source.world.time += 20.0
    assert on_source.run("cancel").code == Exit.DONE
    on_source.stage("/retry", "reset before")
    on_source.world.lag = lambda: 0.0 if on_source._plan else 8.0  # type: ignore[method-assign]
    assert on_source.run("retry").code == Exit.DONE
    assert on_source.server.retries(batch) == 2


def test_an_answer_that_comes_after_the_cancel_is_not_asked_again(on_source: Staged) -> None:
    """It was under way when its batch was cancelled, and arrives a minute later (simulation seed 334804)."""
    on_source.server.duration = 600.0
    assert on_source.run("submit").code == Exit.DONE
    (batch,) = on_source.promises.mine()
    on_source.world.time = batch.populated + 0.1
    ends = [row.steps[-1] for row in batch.rows]
    assert on_source.run("cancel").code == Exit.DONE
    late = on_source.world.time + 59.0
    for row, end in zip(batch.rows[:1], ends, strict=False):
        row.steps.append(end._replace(time=late, stamp=late, shown=late))
    assert on_source.run("retry", only="missing").code == Exit.DONE
    again = on_source.promises.mine()[-1]
    assert (len(batch.rows), len(again.rows)) == (2, 1)


def test_what_others_retry_is_not_asked_again_as_an_attempt(on_source: Staged) -> None:
    """The server has nothing to retry, and a replica still shows the failure: wait, and see that it runs."""
    on_source.over(f1_0="failed")
    on_source.server.duration = 600.0
    on_source.server.retry_by_others()
    on_source.lag = 8.0
    assert on_source.run("retry").code == Exit.NOT_FINISHED
    assert len(on_source.promises.mine()) == 1


def test_an_edited_file_is_not_sent_as_an_attempt(on_openai: Staged) -> None:
    """What is asked again is what was asked, or nothing."""
    on_openai.over(f1_0="failed")
    (path,) = on_openai.contents
    on_openai.disk.put(path, on_openai.contents[path].replace(b"question", b"QUESTION"))
    retried = on_openai.run("retry")
    assert (retried.code, retried.error.split(":")[0]) == (Exit.BAD_INPUT, "batch_file_changed")
    assert len(on_openai.promises.mine()) == 1


def test_an_unusable_answer_that_was_asked_again_hides_no_failure(on_openai: Staged) -> None:
    """The server counts it twice as completed; what is owed follows from the latest attempt alone."""
    on_openai.over(f1_0="unusable", f1_1="failed")
    assert on_openai.run("retry").code == Exit.DONE
    on_openai.world.time += 1_000.0
    second = on_openai.promises.mine()[-1]
    end = second.rows[-1].steps[-1].time
    second.rows[-1].steps[-1] = Step(end, "failed", end, end, on_openai.server.failed_line(second.rows[-1]))
    assert on_openai.run("poll").answer["counts"] == {"total": 2, "completed": 1, "failed": 1}


def test_a_batch_that_ends_while_it_is_cancelled_is_no_error(on_openai: Staged) -> None:
    """A replica shows it running, and the server refuses to cancel what is over."""
    assert on_openai.run("submit").code == Exit.DONE
    (batch,) = on_openai.promises.mine()
    on_openai.world.time = max(row.steps[-1].time for row in batch.rows) + 4.0
    on_openai.lag = 6.0
    cancelled = on_openai.run("cancel")
    assert (cancelled.code, cancelled.answer["batches"][0]["status"]) == (Exit.DONE, "completed")


@pytest.mark.parametrize("fault", ["DNS failure", "HTML page"])
def test_an_input_file_that_cannot_be_read_for_a_while_is_not_gone(on_source: Staged, fault: str) -> None:
    """The local file was edited, so the server's copy gives the order: until it can be read nothing is delivered."""
    batch = on_source.over(f1_0="failed")
    (path,) = on_source.contents
    on_source.disk.put(path, b"edited")
    on_source.stage(f"{batch.file.id}/content", fault, times=200)
    assert on_source.run("fetch").code == Exit.UNREACHABLE
    on_source._plan.clear()
    assert on_source.run("fetch").code == Exit.SOME_FAILED


def test_a_bare_carriage_return_breaks_no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """One row for each request, whatever an answer holds."""
    monkeypatch.setattr(servers, "TRICKY", ("\r",))
    with inside():
        job = Staged(SOURCE, form="csv")
        job.over()
        assert job.run("fetch").code == Exit.DONE
    assert (job.disk.read(job.output) or b"").count(b'\r",stop') == 2


def test_a_run_killed_between_two_names_of_a_file_empties_nothing(on_source: Staged) -> None:
    """Killed after the output was linked and before its other name went: the next fetch leaves the output whole."""
    on_source.over()
    disk = on_source.disk
    disk.kill_at = ("unlink", ".out.jsonl.part")
    assert on_source.run("fetch").code is None
    disk.kill_at = None
    assert disk.read(on_source.output)
    on_source.stage("/content", "DNS failure", times=200)
    assert on_source.run("fetch", force=True).code == Exit.UNREACHABLE
    assert disk.read(on_source.output)
