"""What went wrong between client and server, in one sentence, with what to do about it.

Promises: whatever the server sends (plain text, three shapes of JSON, a gateway's HTML, nothing) becomes one
harmless sentence; an error says whether the server may have acted all the same, and whether it may pass.
Error shapes: dwctl `errors.rs`, axum's rejections (plain text), the proxy's OpenAI envelope.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from doubleword.failure import Exit, Failure, plain

# Of these the server says that it did not do what was asked; after any other end nobody knows.
REFUSALS = frozenset({400, 401, 402, 403, 404, 405, 410, 411, 413, 415, 422, 429, 431})
# 429s that no short wait ends (dwctl batches.rs, the two checks before a batch is made).
LASTING = ("Unverified accounts can submit", "Insufficient capacity")


class ApiError(Exception):
    """A call without the answer it asked for.

    `status` is None when no answer arrived, `retry_after` seconds. `sent` is False when the request surely
    never reached the server; `garbled` means a 2xx answer that could not be understood; `lasting` that no
    second try can help.
    """

    def __init__(
        self,
        status: int | None,
        sentence: str,
        *,
        retry_after: float | None = None,
        sent: bool = True,
        garbled: bool = False,
        lasting: bool = False,
    ) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.retry_after = retry_after
        self.sent = sent
        self.garbled = garbled
        self.lasting = lasting

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

    def failure(self, doing: str) -> Failure:
        """The script's failure: `doing` says what was attempted, the hint what helps."""
        answered = f"HTTP {self.status}: " if self.status and not self.garbled else ""
        exit_code, code, hint = self._advice()
        return Failure(exit_code, code, f"{doing}: {answered}{self.sentence}", hint)

    def _advice(self) -> tuple[Exit, str, str]:
        if self.lasting:
            return (
                Exit.BAD_INPUT,
                "bad_server",
                "check --base-url or DOUBLEWORD_BASE_URL, and the system's certificates",
            )
        if self.status == 401:
            return Exit.NO_KEY, "key_refused", "set DOUBLEWORD_API_KEY to a valid inference key, then run this again"
        if self.status == 403:
            hint = "the key may not do this, or not use this model; list_models.py shows the models it may use"
            return Exit.NO_KEY, "forbidden", hint
        if self.status == 402:
            hint = "top up the account (or raise the key's spending cap), then run the same command again"
            return Exit.REFUSED, "payment_required", hint
        if self.status == 404:
            return (
                Exit.NOT_FOUND,
                "not_found",
                "check the id and the server (--base-url); list_batches.py shows batches",
            )
        if self.status == 413:
            return Exit.BAD_INPUT, "too_large", "split the requests into smaller files; create_batch_file.py does that"
        if self.status == 429 and self.sentence.startswith(LASTING[0]):
            return Exit.REFUSED, "account_limit", "verify the account, or send fewer requests in this window"
        if self.status == 429 and self.sentence.startswith(LASTING[1]):
            return Exit.UNREACHABLE, "no_capacity", "run the same command later, or use --window 24h"
        if self.status in REFUSALS and self.status != 429:
            return Exit.BAD_INPUT, "rejected", "mend what the server names, then run the same command again"
        return Exit.UNREACHABLE, "server_unreachable", "run the same command again later; nothing is done twice"


def error_from_answer(status: int, headers: Mapping[str, str], body: bytes) -> ApiError:
    """The error that a non-2xx answer tells of, whatever shape its body has."""
    text = body.decode("utf-8", "replace")
    asked: list[float] = []
    sentence = ""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict):
        sentence = _message(value)
        seconds = value.get("retry_after_seconds")
        if isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and 0 <= seconds < 1e6:
            asked.append(float(seconds))
    elif re.match(r"\s*<", text):
        title = re.search(r"<title[^>]*>(.*?)</title>", text, re.IGNORECASE | re.DOTALL)
        named = f" ({plain(title.group(1), 80)})" if title else ""
        sentence = f"a gateway answered with an HTML page{named}"
    else:
        sentence = plain(text)
    header = _seconds(headers.get("Retry-After", ""), headers.get("Date", ""))
    if header is not None:
        asked.append(header)
    # Header and body disagree on this server (errors.rs: 60 against 30); the longer wait is the safe one.
    return ApiError(status, sentence or "no explanation was given", retry_after=max(asked, default=None))


def error_from_exception(error: BaseException) -> ApiError:
    """The error for a call that ended without a whole answer."""
    if isinstance(error, ApiError):
        return error
    import ssl

    import requests
    from urllib3.exceptions import HTTPError, NameResolutionError, NewConnectionError
    from urllib3.util.ssl_match_hostname import CertificateError

    inner = _innermost(error)
    if isinstance(inner, ApiError):
        return inner
    # Only what surely ended before the request was sent; a proxy or TLS may also fail while the answer is awaited.
    unsent = (
        isinstance(error, requests.exceptions.ConnectTimeout)
        or isinstance(inner, (NewConnectionError, NameResolutionError, ConnectionRefusedError))
        or str(inner).startswith("Tunnel connection failed")
    )
    if isinstance(inner, (ssl.SSLCertVerificationError, CertificateError)):
        return ApiError(None, "the server's certificate cannot be verified", sent=False, lasting=True)
    if isinstance(error, (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema)):
        return ApiError(None, "the server's address is not a valid URL", sent=False, lasting=True)
    if isinstance(inner, NameResolutionError) or "NameResolution" in repr(inner):
        sentence = "the server's name cannot be resolved"
    elif unsent:
        sentence = "no connection to the server"
    elif isinstance(error, (requests.exceptions.Timeout, TimeoutError)) or "timed out" in str(error).lower():
        sentence = "the server did not answer in time"
    elif isinstance(error, (requests.RequestException, HTTPError, OSError)):
        sentence = "the connection broke before the answer was whole"
    else:
        sentence = f"the answer could not be read ({type(error).__name__})"
    return ApiError(None, sentence, sent=not unsent)


def _innermost(error: BaseException) -> BaseException:
    """The cause at the bottom: requests wraps urllib3, which wraps the socket's own error."""
    for _ in range(8):
        reason = getattr(error, "reason", None)
        below = reason if isinstance(reason, BaseException) else None
        below = below or next((item for item in error.args if isinstance(item, BaseException)), None)
        if below is None:
            return error
        error = below
    return error


def _message(value: dict[str, Any]) -> str:
    """`{"error": {"message"}}` (OpenAI, the proxy), `{"error": "word", "message"}` or `{"message"}` (dwctl)."""
    error = value.get("error")
    if isinstance(error, dict) and error.get("message"):
        return plain(error["message"])
    if value.get("message"):
        return plain(value["message"])
    return plain(error) if isinstance(error, str) else ""


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
