"""What to do next: for each cause of a failure, and each kind of flawed answer, the one step that can mend it.

Promises: a step names a command that exists, with the flags it needs; where asking the same again cannot help, that
is said instead.

What the statuses mean is written in the server's own contract (dwctl errors.rs, onwards errors.rs).
"""

from __future__ import annotations

import re

from doubleword.results.judgement import EMPTY, INVALID, REFUSED, TRUNCATED

LATER = re.compile(r"HTTP (408|409|425|429|5\d\d)|Timeout|NetworkError|batch_expired", re.IGNORECASE)
MENDED_FLAWS = {
    TRUNCATED: "--only truncated --max-tokens N",
    REFUSED: "--only refused --note TEXT",
    EMPTY: "--only empty --note TEXT",
    INVALID: "--only invalid --note TEXT",
}


def step(cause: str, flaws: tuple[str, ...], retry: str | None) -> str:
    """The next step for requests that failed by `cause` or have `flaws`.

    `retry` is the command that retries the job, None where there is no job file to retry by.
    """
    again = retry or "submit these requests as a new batch file"
    if flaws:
        name = next(flaw for flaw in MENDED_FLAWS if flaw in flaws)
        return f"{retry} {MENDED_FLAWS[name]}" if retry else f"{again}, with a larger limit, a note or another model"
    status = re.search(r"HTTP (\d{3})", cause)
    code = int(status.group(1)) if status else 0
    if code == 402:
        return f"add credit to the account, then {again}"
    if code in (401, 403, 404):
        return f"see list_models.py for a model that the key may use, then {again}{' --model ID' if retry else ''}"
    if code in (400, 413, 422):
        return "asking the same again will not help: mend these requests and submit them as a new batch file"
    if LATER.search(cause):
        return f"it may pass: {again}, later"
    return again
