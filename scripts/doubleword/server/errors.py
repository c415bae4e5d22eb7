"""What went wrong between client and server, in one sentence, with what to do about it.

Promises: whatever the server sends (plain text, three shapes of JSON, a gateway's HTML, nothing) becomes one
harmless sentence; an error says whether the server may have acted all the same, whether it may pass, and
whether what was asked for is gone for good. What the network and its settings do: `route`.
Error shapes: dwctl `errors.rs`, axum's rejections (plain text), the proxy's OpenAI envelope (onwards
`errors.rs`, dwctl `error_enrichment.rs`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from doubleword.failure import Exit, Failure, plain

# Of these the server says that it did not do what was asked; after any other end nobody knows.
REFUSALS = frozenset({400, 401, 402, 403, 404, 405, 410, 411, 413, 415, 422, 429, 431})
# 429s that no short wait ends (dwctl batches.rs, the two checks before a batch is made).
LASTING = ("Unverified accounts can submit", "Insufficient capacity")
# The proxy takes every path that the API does not know, and finds no model in it (onwards handlers.rs).
UNKNOWN_PATH = "Could not parse onwards model"
# How a refusal says that a file is there no more, other than by its status.
GONE = re.compile(
    r"^invalid file id|\b(expired|deleted|no longer (available|exists?)|does not exist|not found|no such file)\b",
    re.IGNORECASE,
)
REGIONS = "a key belongs to one region: api.doubleword.ai or api.us.doubleword.ai (--base-url)"
NO_EXPLANATION = "no explanation was given"
RAISE_CAP = "raise or remove the key's spending cap, or wait until it resets; then run the same command again"


class Advice(NamedTuple):
    """How a script ends for an error: its exit code, the word for programs, and what helps."""

    exit_code: Exit
    code: str
    hint: str


USUAL = {
    402: Advice(Exit.REFUSED, "payment_required", "top up the account, then run the same command again"),
    404: Advice(Exit.NOT_FOUND, "not_found", "check the id and the server (--base-url); list_batches.py shows batches"),
    410: Advice(Exit.NOT_FOUND, "gone", "it was deleted and does not come back; list_batches.py shows batches"),
    413: Advice(Exit.BAD_INPUT, "too_large", "split the requests into smaller files; create_batch_file.py does that"),
}


class ApiError(Exception):
    """A call without the answer it asked for.

    `status` is None when no answer arrived, `retry_after` seconds, `code` the server's own word for it (`forbidden`,
    `spend_cap_exceeded`), empty where it gave none. `sent` is False when the request surely never reached the server;
    `garbled` means a 2xx answer that could not be understood; `lasting` that no second try can help; `at_once` that
    waiting for it is not worth a user's time; `page` that a gateway's HTML answered. `advice` replaces the usual one.
    """

    def __init__(
        self,
        status: int | None,
        sentence: str,
        *,
        retry_after: float | None = None,
        code: str = "",
        sent: bool = True,
        garbled: bool = False,
        lasting: bool = False,
        at_once: bool = False,
        page: bool = False,
        advice: Advice | None = None,
    ) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.retry_after = retry_after
        self.code = code
        self.sent = sent
        self.garbled = garbled
        self.lasting = lasting
        self.at_once = at_once
        self.page = page
        self.advice = advice

    @property
    def may_have_happened(self) -> bool:
        """Whether a call that creates something may have created it, reply or no reply."""
        return self.sent and self.status not in REFUSALS

    @property
    def may_pass(self) -> bool:
        """Whether the same call may succeed a little later."""
        if self.lasting:
            return False
        if self.status == 429:
            return not self.sentence.startswith(LASTING)
        return self.status is None or self.garbled or self.status in (408, 409, 425) or self.status >= 500

    @property
    def worth_waiting(self) -> bool:
        """Whether to wait for that: not where nothing listens on this very machine."""
        return self.may_pass and not self.at_once

    @property
    def gone(self) -> bool:
        """Of a call for one file or batch: whether the server has it no more, now and later.

        404 and 410 (dwctl files.rs, batches.rs), and the 400 that says that no file can have such an id, or that it
        is there no more. A 404 page of a gateway says nothing about the file. Just after a creation a 404 may be a
        replica's lag.
        """
        if self.status in (400, 422):
            return not self.page and GONE.search(self.sentence) is not None
        return self.status == 410 or (self.status == 404 and not self.page)

    @property
    def unknown_call(self) -> bool:
        """Of a call that not every server has: whether this one has it not. A 404 may be about its object as well."""
        return self.status in (404, 405) or (self.status == 400 and self.sentence.startswith(UNKNOWN_PATH))

    def failure(self, doing: str, keys: dict[str, Any] | None = None) -> Failure:
        """The script's failure: `doing` says what was attempted, the hint what helps, `keys` what is known anyway."""
        answered = f"HTTP {self.status}: " if self.status and not self.garbled else ""
        exit_code, code, hint = self.advice or self._usual_advice()
        return Failure(exit_code, code, f"{doing}: {answered}{self.sentence}", hint, keys)

    def _usual_advice(self) -> Advice:
        if self.lasting:
            return Advice(Exit.BAD_INPUT, "bad_server", "check --base-url or DOUBLEWORD_BASE_URL")
        if self.status in (401, 403):
            return self._advice_on_the_key()
        if self.status == 402 and (self.code == "spend_cap_exceeded" or "spending cap" in self.sentence):
            return Advice(Exit.REFUSED, "payment_required", RAISE_CAP)
        if self.status in USUAL:
            return USUAL[self.status]
        if self.status == 429 and self.sentence.startswith(LASTING[0]):
            return Advice(Exit.REFUSED, "account_limit", "verify the account, or send fewer requests in this window")
        if self.status == 429 and self.sentence.startswith(LASTING[1]):
            return Advice(Exit.UNREACHABLE, "no_capacity", "run the same command later, or use --window 24h")
        if self.unknown_call:
            hint = "this server has no such call; check --base-url or DOUBLEWORD_BASE_URL, which ends in /v1"
            return Advice(Exit.BAD_INPUT, "rejected", hint)
        if self.status in REFUSALS and self.status != 429:
            return Advice(Exit.BAD_INPUT, "rejected", "mend what the server names, then run the same command again")
        return Advice(Exit.UNREACHABLE, "server_unreachable", "run the same command again later; nothing is done twice")

    def _advice_on_the_key(self) -> Advice:
        """Of 401 and 403. The proxy answers an unknown key with 403 (onwards), files and batches with 401 (dwctl)."""
        if self.status == 401:
            hint = (
                f"set DOUBLEWORD_API_KEY to a valid inference key, not a platform key, then run this again; {REGIONS}"
            )
            return Advice(Exit.NO_KEY, "key_refused", hint)
        hint = "the key may not do this, or not use this model; list_models.py shows the models it may use"
        if "'platform'" in self.sentence:
            hint = "set DOUBLEWORD_API_KEY to an inference key; a platform key only manages the account"
        elif "blocked by a routing rule" in self.sentence:
            hint = "the key may not use this model in this way; where real-time is blocked, a batch (submit.py) may do"
        elif self.code == "forbidden" or self.sentence.lower().strip(". ") in ("forbidden", NO_EXPLANATION):
            hint = "the key is unknown here, or may not use this model: check DOUBLEWORD_API_KEY, then list_models.py"
            hint += f"; {REGIONS}"
        return Advice(Exit.NO_KEY, "forbidden", hint)


def error_from_answer(status: int, headers: Mapping[str, str], body: bytes) -> ApiError:
    """The error that a non-2xx answer tells of, whatever shape its body has."""
    text = body.decode("utf-8", "replace")
    asked: list[float] = []
    sentence, code, page = "", "", False
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict):
        sentence, code = _message(value)
        seconds = value.get("retry_after_seconds")
        if isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and 0 <= seconds < 1e6:
            asked.append(float(seconds))
    elif re.match(r"\s*<", text):
        title = re.search(r"<title[^>]*>(.*?)</title>", text, re.IGNORECASE | re.DOTALL)
        named = f" ({plain(title.group(1), 80)})" if title else ""
        sentence, page = f"a gateway answered with an HTML page{named}", True
    else:
        sentence = plain(text)
    header = _seconds(headers.get("Retry-After", ""), headers.get("Date", ""))
    if header is not None:
        asked.append(header)
    # Header and body disagree on this server (errors.rs: 60 against 30); the longer wait is the safe one.
    return ApiError(status, sentence or NO_EXPLANATION, retry_after=max(asked, default=None), code=code, page=page)


def error_from_exception(error: BaseException, server: str = "the server") -> ApiError:
    """The error for a call that was under way, and ended without a whole answer."""
    import ssl

    import requests
    from urllib3.exceptions import HTTPError

    inner = innermost(error)
    if isinstance(inner, ApiError):
        return inner
    if isinstance(error, (requests.exceptions.Timeout, TimeoutError)) or "timed out" in str(error).lower():
        return ApiError(None, f"{server} did not answer in time")
    if isinstance(inner, ssl.SSLError):
        return ApiError(None, f"the encrypted connection to {server} failed ({plain(inner.reason or inner, 60)})")
    if isinstance(error, (requests.RequestException, HTTPError, OSError)):
        return ApiError(None, f"the connection to {server} broke before the answer was whole")
    return ApiError(None, f"the answer could not be read ({type(error).__name__})")


def innermost(error: BaseException) -> BaseException:
    """The cause at the bottom: requests wraps urllib3, which wraps the socket's own error."""
    for _ in range(8):
        reason = getattr(error, "reason", None)
        below = reason if isinstance(reason, BaseException) else None
        below = below or next((item for item in error.args if isinstance(item, BaseException)), None)
        if below is None:
            return error
        error = below
    return error


def _message(value: dict[str, Any]) -> tuple[str, str]:
    """Sentence and code word of `{"error": {"message", "code"}}` (OpenAI, the proxy), `{"error": "word", "message"}`
    or `{"message"}` (dwctl), `{"detail"}` (servers made with FastAPI); empty where there is none.
    """
    error = value.get("error")
    inner = error if isinstance(error, dict) else {"code": error}
    code = inner.get("code")
    word = plain(code, 60) if isinstance(code, str) else ""
    told = inner.get("message") or value.get("message") or value.get("detail")
    return (plain(told) if told else plain(error) if isinstance(error, str) else ""), word


def _seconds(header: str, date: str) -> float | None:
    """Retry-After as seconds or as a date, which is compared with the server's own Date."""
    header = header.strip()
    if re.fullmatch(r"\d{1,9}(\.\d+)?", header):
        return float(header)
    from email.utils import parsedate_to_datetime

    try:
        wait = (parsedate_to_datetime(header) - parsedate_to_datetime(date)).total_seconds()
    except (TypeError, ValueError, IndexError):
        return None
    return max(0.0, wait)
