"""What to do next: for each cause of a failure, and each kind of flawed answer, the one step that can mend it.

Promises: a step names a command that can be run as it stands, with flags that the request can take; where asking the
same again cannot help, that is said instead; what did not help before is not advised again.

What the statuses mean is written in the server's own contract (dwctl errors.rs, onwards errors.rs).
"""

from __future__ import annotations

import re

from doubleword.answers.judgement import EMPTY, INVALID, REFUSED, TRUNCATED, UNFINISHED
from doubleword.quick_msgspec import Struct
from doubleword.service import EMBEDDINGS

LATER = re.compile(
    r"HTTP (408|409|425|429|499|5\d\d)|timeout|timed out|network_?error|insufficient_system_resource|overloaded|"
    r"batch_expired|token_limit_exceeded|enqueued",
    re.IGNORECASE,
)
# Besides, OpenAI's and Azure's words for what is wrong with the input of a whole batch.
UNKNOWN_MODEL = "model_not_found"
LASTING = re.compile(
    r"HTTP (400|404|413|422)\b|.*\((invalid_\w+|duplicate_\w+|empty_\w+|missing_\w+|mismatched_model|model_mismatch|"
    rf"url_mismatch|{UNKNOWN_MODEL}|too_many_tasks|file_too_large)(, line \d+)?\)$"
)
UNPAID = re.compile(r"HTTP 402\b|.*\b(billing_hard_limit_reached|insufficient_quota|insufficient_balance)\b")
# What there is to say of requests whose output file, or whose error file, is gone for good.
GONE = "the server has deleted the file that held its answer"
UNEXPLAINED = "it failed, and the server has deleted the file that says why"
UNREAD = "the answer has not the shape|the answer is text|the answer's line cannot"
# Of an answer with several flaws the first here is what the others come from.
ORDER = (TRUNCATED, REFUSED, UNFINISHED, EMPTY, INVALID)
NOTES = {
    EMPTY: "Do not leave the answer empty.",
    INVALID: "Answer with the JSON object alone: every field of its schema, and nothing around it.",
}
ROOM = 1000  # tokens for an answer that was cut off at nobody knows how many
NOT_THE_SAME = "asking the same again will not help"
SUBMIT = "submit these requests as a new batch file"


def is_lasting(cause: str | None) -> bool:
    """Whether a request failed by what it asks, so that the same request would fail again."""
    return LASTING.match(cause or "") is not None


class Advice(Struct, frozen=True):
    """The steps for one job. `retry` is the command that retries it, None where there is no job file to retry by;
    `models` the command that lists models. `noted` says that requests were asked with a note already, `cut_at` how many
    tokens the longest answer had that was cut off, or could have; `unreadable` that lines do not say whose they are,
    `judged_by` the argument that names the schema they are judged by, where it is not their requests' own.
    """

    retry: str | None
    models: str
    noted: bool = False
    cut_at: int = 0
    unreadable: bool = False
    judged_by: str = ""

    def step(self, cause: str, flaws: tuple[str, ...] = (), endpoint: str = "") -> str:
        """The next step for requests to `endpoint` that failed by `cause` or have `flaws`."""
        if flaws:
            return self._mended(next(flaw for flaw in ORDER if flaw in flaws), endpoint)
        again = self.retry or SUBMIT
        status = re.match(r"HTTP (\d{3})", cause)
        code = int(status[1]) if status else 0
        if UNPAID.match(cause):
            return f"add credit to the account, then {again}"
        if code in (401, 403, 404):
            return self._other_model(f'--cause "HTTP {code}"', "a model that the key may use")
        if f"({UNKNOWN_MODEL}" in cause:
            return self._other_model(f"--cause {UNKNOWN_MODEL}", "a model that the key may use")
        if LASTING.match(cause):
            return f"{NOT_THE_SAME}: mend these requests and submit them as a new batch file"
        if re.match("the vectors? (came|has|is|of)", cause):
            return f"{NOT_THE_SAME}: fetch with --format jsonl, where the vectors stand as the server gave them"
        if cause.startswith(GONE):
            again = f"{self.retry} --only missing" if self.retry else SUBMIT
            return f"nothing brings it back, and asking again is paid again: {again}"
        if re.match(UNREAD, cause) or (self.unreadable and cause.startswith("no row")):
            return f"an answer may be there, in a form that is not read here; asking again is paid again: {again}"
        return f"it may pass: {again}" if LATER.search(cause) else again

    def _mended(self, flaw: str, endpoint: str) -> str:
        """The step for answers with `flaw`: with a change where the same request would be answered the same."""
        note = NOTES.get(flaw) if endpoint != EMBEDDINGS else None  # a vector heeds no note
        chosen = f"--only {flaw}{self.judged_by if flaw == INVALID else ''}"
        if flaw == REFUSED or (note and self.noted):
            return self._other_model(chosen, "another model")
        if not self.retry:
            return f"{SUBMIT}, with a larger limit" if flaw == TRUNCATED else SUBMIT
        change = (
            f" --max-tokens {2 * self.cut_at or ROOM}" if flaw == TRUNCATED else f' --note "{note}"' if note else ""
        )
        return f"{self.retry} {chosen}{change}"

    def _other_model(self, chosen: str, which: str) -> str:
        then = f"{self.retry} {chosen} --model ID" if self.retry else f"{SUBMIT} that names it"
        return f"{self.models} shows {which}; then {then}"
