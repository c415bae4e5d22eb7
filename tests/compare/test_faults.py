"""A comparison whose network fails, or that is stopped at any step, pays each answer once when it is run again."""

from __future__ import annotations

import pytest
from tests.clock import Clocked
from tests.compare.conftest import A, B, Bench
from tests.door import Result, call_door
from tests.engine_process import KEY
from tests.faults.gate import Act, gate_before, gateway, reply_lost, reset_before

from doubleword.compare.comparison import compare
from doubleword.jobs.job_file import JobFile


def run(bench: Bench, base_url: str, system: Clocked, *more: str) -> Result:
    words = ["cmp.csv", "--input", "t.csv", "--model", A, "--model", B, "--prompt", "Say {title}", "--max-tokens", "4"]
    settings = {"DOUBLEWORD_API_KEY": KEY, "DOUBLEWORD_BASE_URL": base_url}
    work = {"cwd": bench.folder, "env": settings, "work": lambda args: compare(args, system)}
    return call_door("compare", *words, "--max-cost", "1", *more, **work)  # type: ignore[arg-type]


@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize(
    ("route", "act"),
    [
        ("upload", reset_before),
        ("upload", reply_lost),
        ("create", reset_before),
        ("create", reply_lost),
        ("create", gateway(502, acts=True)),
        ("create", gateway(502, acts=False)),
        ("create", gateway(402, acts=False)),
        ("content", reply_lost),
    ],
)
def test_a_failing_network_makes_no_second_batch(bench: Bench, route: str, act: Act, nth: int) -> None:
    """Whichever call of which variant it meets: after the next run there are two batches, with eight answers."""
    system = Clocked()
    with gate_before(bench.engine.base_url, system) as gate:
        gate.on(route, act, nth=nth)
        first = run(bench, gate.base_url, system)
        assert first.code in (0, 5, 8), first.json
        gate.calm()
        again = run(bench, gate.base_url, system)
    assert again.code == 0, again.json
    assert (len(bench.batches()), bench.engine.upstream.count()) == (2, 8)


def test_a_run_that_is_stopped_at_any_step_pays_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before each change of a job file that it makes; what the next run finds it goes on with."""
    system, save = Clocked(), JobFile.save
    for step in range(1, 40):
        left = [step]

        def stopping(store: JobFile, left: list[int] = left) -> None:
            left[0] -= 1
            if not left[0]:
                raise KeyboardInterrupt
            save(store)

        (bench.folder / "t.csv").write_text(f"title,label\none {step},yes\ntwo {step},no\n")
        for path in bench.folder.glob("*cmp*"):
            path.unlink()
        made = len(bench.batches())
        monkeypatch.setattr(JobFile, "save", stopping)
        stopped = run(bench, bench.engine.base_url, system)
        monkeypatch.setattr(JobFile, "save", save)
        if stopped.code == 0:
            break
        assert stopped.code == 7, stopped.json
        done = run(bench, bench.engine.base_url, system)
        assert done.code == 0, (step, done.json)
        assert (len(bench.batches()) - made, bench.engine.upstream.count(f" {step}")) == (2, 4), step
    assert step > 10
