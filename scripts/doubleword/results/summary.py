"""What a fetch says of all results: counts, causes with the step for each, flaws, tokens and cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from doubleword.answers.judgement import FLAWS, INVALID
from doubleword.failure import plain
from doubleword.results.advice import Advice
from doubleword.results.expected import Schemas
from doubleword.results.reconciliation import Collector, Tally
from doubleword.server.objects import Asked


def summary(tally: Tally, asked: Sequence[Asked], total: int, advice: Advice) -> dict[str, Any]:
    """The keys `complete`, `counts`, `answers` and `failures`."""
    over = all(one.batches and all(batch.terminal for batch in one.batches) for one in asked)
    adds_up = tally.succeeded + tally.failed + tally.missing == total
    counts = {"total": total, "succeeded": tally.succeeded, "failed": tally.failed, "missing": tally.missing}
    if tally.pending:
        counts["pending"] = tally.pending
    return {
        "complete": over and adds_up and total > 0,
        "counts": counts,
        **({"answers": {flaw: tally.flaws[flaw] for flaw in FLAWS}} if tally.flaws else {}),
        "failures": [
            {
                "cause": plain(cause, 200),
                "count": count,
                "example": plain(example.custom_id, 64),
                "ids": [plain(one, 64) for one in tally.ids[cause]],
                "action": advice.step(cause, example.flaws, example.endpoint),
            }
            for cause, count, example in tally.causes()
        ],
    }


def remarks(collector: Collector, schemas: Schemas) -> Iterator[str]:
    """What the user should know beside counts and flaws."""
    yield from collector.remarks.warnings()
    yield from collector.warnings
    yield from (f"a response schema judges nothing: {why}" for why in schemas.unusable())
    formats = [plain(one, 40) for one in schemas.unjudged_formats()]
    if formats:
        yield f"the schema asks for formats that are not judged here: {', '.join(formats[:5])}"


def flawed(tally: Tally, advice: Advice) -> Iterator[str]:
    """What is wrong with answers that succeeded all the same."""
    for flaw in FLAWS:
        if flaw != INVALID and tally.flaws[flaw]:
            example = tally.flawed[flaw]
            mended = advice.step("", (flaw,), example.endpoint)
            yield f"{tally.flaws[flaw]} answers are {flaw}, such as {plain(example.custom_id, 64)}: {mended}"
