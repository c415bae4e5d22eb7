"""The three servers a client may meet: as its source, as its documentation, and as OpenAI's batch API."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mood:
    """How a server differs from others that speak the same API.

    `place` is the query parameter that skips rows of a file, empty where none does. `files_at_once` says that both
    result files exist from the start, otherwise they come with the end and only where there are rows.
    `window_ends` and `rows_for_unrun`: requests that did not run in time end the batch as expired and, like
    cancelled ones, have an error row. `slow_cancel`: cancelling lasts, and what is under way may still finish.
    """

    name: str
    file_prefix: str
    batch_prefix: str
    created: int
    nulls: bool
    place: str
    search: bool
    retry: bool
    plain_errors: bool
    files_at_once: bool
    window_ends: bool
    rows_for_unrun: bool
    slow_cancel: bool


SOURCE = Mood(
    "source", "", "", 201, nulls=False, place="skip", search=True, retry=True, plain_errors=True,
    files_at_once=True, window_ends=False, rows_for_unrun=False, slow_cancel=False,
)  # fmt: skip
DOCUMENTATION = Mood(
    "documentation", "file-", "batch_", 201, nulls=True, place="offset", search=False, retry=True, plain_errors=False,
    files_at_once=True, window_ends=True, rows_for_unrun=False, slow_cancel=True,
)  # fmt: skip
OPENAI = Mood(
    "OpenAI", "file-", "batch_", 200, nulls=True, place="", search=False, retry=False, plain_errors=False,
    files_at_once=False, window_ends=True, rows_for_unrun=True, slow_cancel=True,
)  # fmt: skip
MOODS = (SOURCE, DOCUMENTATION, OPENAI)
