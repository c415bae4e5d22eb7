"""What to do next: for each cause of a failure, and each kind of flawed answer, the one step that can mend it.

Promises: a step names a command that exists, with flags that the request can take; where asking the same again cannot
help, that is said instead.

What the statuses mean is written in the server's own contract (dwctl errors.rs, onwards errors.rs).
"""

from __future__ import annotations

import re

from doubleword.answers.judgement import EMPTY, INVALID, REFUSED, TRUNCATED, UNFINISHED
from doubleword.service import EMBEDDINGS

LATER = re.compile(
    r"HTTP (408|409|425|429|499|5\d\d)|timeout|timed out|network_?error|insufficient_system_resource|overloaded|"
    r"batch_expired|token_limit_exceeded|enqueued",
    re.IGNORECASE,
)
# Of an answer with several flaws the first here is what the others come from.
MENDED_FLAWS = {
    TRUNCATED: "--max-tokens N",
    REFUSED: "--note TEXT",
    UNFINISHED: "",
    EMPTY: "--note TEXT",
    INVALID: "--note TEXT",
}
NOT_THE_SAME = "asking the same again will not help"
SUBMIT = "submit these requests as a new batch file"


def step(cause: str, flaws: tuple[str, ...], retry: str | None, endpoint: str = "", noted: bool = False) -> str:
    """The next step for requests to `endpoint` that failed by `cause` or have `flaws`.

    `retry` is the command that retries the job, None where there is no job file to retry by. `noted` says that they
    were asked with a note already, which did not help.
    """
    again = retry or SUBMIT
    if flaws:
        return _mended(next(flaw for flaw in MENDED_FLAWS if flaw in flaws), retry, endpoint, noted)
    status = re.search(r"HTTP (\d{3})", cause)
    code = int(status.group(1)) if status else 0
    if code == 402:
        return f"add credit to the account, then {again}"
    if code in (401, 403, 404):
        other = f"{retry} --model ID" if retry else f"{SUBMIT} that names it"
        return f"see list_models.py for a model that the key may use, then {other}"
    if code in (400, 413, 422):
        return f"{NOT_THE_SAME}: mend these requests and submit them as a new batch file"
    if re.match("the vectors? (came|has|is|of)", cause):
        return f"{NOT_THE_SAME}: fetch with --format jsonl, where the vectors stand as the server gave them"
    return f"it may pass: {again}, later" if LATER.search(cause) else again


def _mended(flaw: str, retry: str | None, endpoint: str, noted: bool) -> str:
    """The step for answers with `flaw`: with a change where the same request would be answered the same."""
    change = MENDED_FLAWS[flaw]
    if change == "--note TEXT" and (noted or endpoint == EMBEDDINGS):  # a vector heeds no note
        change = "--model ID"
    if retry:
        return f"{retry} --only {flaw} {change}".rstrip()
    said = {"--max-tokens N": "with a larger limit", "--note TEXT": "with a note", "--model ID": "for another model"}
    return f"{SUBMIT}, {said[change]}" if change else SUBMIT
