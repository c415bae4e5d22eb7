"""What an error of the server means: gone for good, unknown here, a wrong key, no money, and what to do."""

from __future__ import annotations

import pytest

from doubleword.failure import Exit
from doubleword.server.errors import ApiError, error_from_answer

FORBIDDEN = b'{"error":{"message":"Forbidden","type":"invalid_request_error","code":"forbidden"}}'
UNKNOWN = b'{"error":{"message":"Could not parse onwards model from request. ...","code":"bad_request"}}'
CAPPED = b'{"error":{"message":"API key has reached its cap of $5.","code":"spend_cap_exceeded"}}'


@pytest.mark.parametrize(
    ("status", "body", "gone"),
    [
        (404, b"File with ID f1 not found", True),
        (404, b'{"error":{"message":"No such File object: f1"}}', True),
        (404, b"", True),
        (410, b"<html>gone</html>", True),
        (400, b"Invalid file ID format", True),
        (400, b'{"error":{"message":"File f1 has expired"}}', True),
        (400, b"The file was deleted.", True),
        (422, b"File content is no longer available", True),
        (400, b"<html><title>404 Not Found</title></html>", False),
        (403, b"Your token has expired", False),
        (400, b"Line 3: no", False),
        (404, b"<html><title>404 Not Found</title></html>", False),
        (403, b"Forbidden", False),
        (503, b"File with ID f1 not found", False),
    ],
)
def test_gone_for_good_is_told_from_later(status: int, body: bytes, gone: bool) -> None:
    """Whichever status says so; a gateway's page about a path, or a failing server, says nothing about the file."""
    error = error_from_answer(status, {}, body)
    assert error.gone is gone
    assert not (error.gone and error.may_pass)


def test_no_answer_is_not_gone() -> None:
    """A connection that breaks says nothing about what it was for."""
    assert not ApiError(None, "broken").gone and not ApiError(None, "broken").unknown_call


@pytest.mark.parametrize(
    ("status", "body", "unknown"),
    [(400, UNKNOWN, True), (404, b"Not Found", True), (405, b"", True), (400, b"no", False), (500, UNKNOWN, False)],
)
def test_a_call_that_this_server_has_not_is_recognised(status: int, body: bytes, unknown: bool) -> None:
    """The proxy before the API takes every other path for a request to a model."""
    assert error_from_answer(status, {}, body).unknown_call is unknown


@pytest.mark.parametrize(
    ("status", "body", "code", "exit_code", "words"),
    [
        (403, FORBIDDEN, "forbidden", Exit.NO_KEY, ["the key is unknown here, or may not use this model", "api.us."]),
        (403, b"Forbidden", "forbidden", Exit.NO_KEY, ["the key is unknown here"]),
        (403, b"", "forbidden", Exit.NO_KEY, ["the key is unknown here"]),
        (403, b"Insufficient permissions to Create Files", "forbidden", Exit.NO_KEY, ["the key may not do this"]),
        (403, b"API keys with purpose 'platform' cannot be used", "forbidden", Exit.NO_KEY, ["an inference key"]),
        (403, b"Real-time access to 'm' is blocked by a routing rule.", "forbidden", Exit.NO_KEY, ["a batch"]),
        (401, b"Authentication required", "key_refused", Exit.NO_KEY, ["api.doubleword.ai", "api.us.", "platform"]),
        (402, CAPPED, "payment_required", Exit.REFUSED, ["spending cap"]),
        (
            402,
            b"The API key used for this batch has reached its spending cap.",
            "payment_required",
            Exit.REFUSED,
            ["cap"],
        ),
        (402, b"Account balance too low.", "payment_required", Exit.REFUSED, ["top up"]),
        (410, b"deleted", "gone", Exit.NOT_FOUND, ["does not come back"]),
        (400, UNKNOWN, "rejected", Exit.BAD_INPUT, ["no such call", "/v1"]),
    ],
)
def test_each_refusal_names_its_likeliest_cause_first(
    status: int, body: bytes, code: str, exit_code: Exit, words: list[str]
) -> None:
    """In the hint, which differs where one status has several causes."""
    told = error_from_answer(status, {}, body).failure("asking")
    assert (told.code, told.exit_code) == (code, exit_code)
    assert all(word in told.hint for word in words)


@pytest.mark.parametrize(
    ("body", "code", "sentence"),
    [
        (CAPPED, "spend_cap_exceeded", "API key has reached its cap of $5."),
        (b'{"error":"too_many_requests","message":"Too many"}', "too_many_requests", "Too many"),
        (b'{"error":"too_many_requests"}', "too_many_requests", "too_many_requests"),
        (b'{"error":{"code":7},"message":"m"}', "", "m"),
        (b'{"detail":"Not Found"}', "", "Not Found"),
        (b"plain", "", "plain"),
    ],
)
def test_the_servers_own_word_is_kept_beside_its_sentence(body: bytes, code: str, sentence: str) -> None:
    """From every shape that has one."""
    error = error_from_answer(429, {}, body)
    assert (error.code, error.sentence) == (code, sentence)
