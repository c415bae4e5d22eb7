"""What the server answers with as typed values, and the calls for the bill: analytics, estimates, deleted files."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
import responses
from tests.clock import Clocked

from doubleword.server import objects
from doubleword.server.api import Api
from doubleword.server.errors import ApiError
from doubleword.server.objects import Analytics, BatchError, CostEstimate, ModelCost

BASE = "https://server.test/v1"
UUID = "01234567-89ab-cdef-0123-456789abcdef"
BATCH = {"id": "b1", "object": "batch", "status": "completed"}
ANALYTICS = {
    "total_requests": 20, "total_prompt_tokens": 1060, "total_completion_tokens": 60, "total_tokens": 1120,
    "avg_duration_ms": 27.25, "total_cost": "0.112000000000000", "total_list_cost": "0.11200000",
}  # fmt: skip
ESTIMATE = {
    "file_id": "f1", "total_requests": 20, "total_estimated_input_tokens": 952, "total_estimated_output_tokens": 60,
    "total_estimated_cost": "0.10120000",
    "models": [{"model": "m", "request_count": 20, "estimated_input_tokens": 952, "estimated_output_tokens": 60,
                "estimated_cost": "0.10120000"}],
}  # fmt: skip
UNKNOWN = {"error": {"message": "Could not parse onwards model from request.", "code": "bad_request"}}


@pytest.fixture
def api() -> Api:
    return Api(BASE, "a-key-for-tests-0123456789", Clocked())


@responses.activate
def test_what_was_billed_comes_to_the_last_digit(api: Api) -> None:
    """Amounts are texts on the wire and exact here; reasoning tokens are told where there are any."""
    responses.get(f"{BASE}/batches/b1/analytics", json=ANALYTICS)
    amount = Decimal("0.112000000000000")
    assert api.analytics("b1") == Analytics(20, 1060, 60, None, amount, Decimal("0.11200000"))
    responses.get(f"{BASE}/batches/b2/analytics", json={"total_requests": 1, "total_reasoning_tokens": 9})
    assert api.analytics("b2") == Analytics(1, 0, 0, 9, None, None)


@responses.activate
def test_an_estimate_is_asked_for_its_window(api: Api) -> None:
    """At the live tariff, which differs by window."""
    asked = responses.matchers.query_param_matcher({"completion_window": "1h"})
    responses.get(f"{BASE}/files/f1/cost-estimate", json=ESTIMATE, match=[asked])
    cost = Decimal("0.10120000")
    assert api.cost_estimate("f1", "1h") == CostEstimate(cost, (ModelCost("m", 952, 60, cost),))


@responses.activate
@pytest.mark.parametrize(
    "answer",
    [{"status": 404, "json": {"error": {"message": "Invalid URL"}}}, {"status": 400, "json": UNKNOWN}, {"status": 405}],
)
def test_a_server_without_a_bill_gives_none(api: Api, answer: dict[str, Any]) -> None:
    """As OpenAI's, and as the proxy before an older server: nothing is known, and nothing is wrong."""
    responses.get(f"{BASE}/batches/b1/analytics", **answer)
    responses.get(f"{BASE}/files/f1/cost-estimate", **answer)
    assert api.analytics("b1") is None
    assert api.cost_estimate("f1", "24h") is None


@responses.activate
@pytest.mark.parametrize("answer", [{"status": 401}, {"status": 400, "body": "no"}, {"json": {"hello": "world"}}])
def test_a_bill_that_is_refused_is_no_empty_bill(api: Api, answer: dict[str, Any]) -> None:
    """Only an unknown call is None: a wrong key, or another object, is an error."""
    api.patience_s = 0
    responses.get(f"{BASE}/batches/b1/analytics", **answer)
    responses.get(f"{BASE}/files/f1/cost-estimate", **answer)
    with pytest.raises(ApiError):
        api.analytics("b1")
    with pytest.raises(ApiError):
        api.cost_estimate("f1", "24h")


@pytest.mark.parametrize("amount", [True, "NaN", "inf", "-1", "ten", None, [], ""])
def test_what_is_no_amount_is_none(amount: Any) -> None:
    """A bill is never made of a number that is none."""
    assert objects.analytics({"total_requests": 1, "total_cost": amount}).cost_usd is None


@responses.activate
def test_a_list_brings_the_analytics_that_were_asked_for(api: Api) -> None:
    """The list alone does (dwctl batches.rs); what is not asked for is not sent for."""
    asked = responses.matchers.query_param_matcher({"limit": "100", "include": "analytics"})
    page = {"data": [{**BATCH, "analytics": ANALYTICS}, {**BATCH, "id": "b2"}, {**BATCH, "id": "b3", "analytics": "x"}]}
    responses.get(f"{BASE}/batches", json=page, match=[asked])
    first, *others = api.batches(analytics=True)
    assert first.analytics is not None and first.analytics.requests == 20
    assert [one.analytics for one in others] == [None, None]


@responses.activate
@pytest.mark.parametrize(
    "answer",
    [{"json": {"id": "f1", "deleted": True}}, {"status": 404, "body": "File with ID f1 not found"}, {"status": 410}],
)
def test_a_file_that_is_gone_is_deleted(api: Api, answer: dict[str, Any]) -> None:
    """A lost reply is asked for again; the second call then finds nothing, which is what was wanted."""
    responses.delete(f"{BASE}/files/f1", status=502)
    responses.delete(f"{BASE}/files/f1", **answer)
    api.delete_file("f1")
    assert [call.request.method for call in responses.calls] == ["DELETE", "DELETE"]


@responses.activate
@pytest.mark.parametrize(
    "answer",
    [
        {"status": 404, "body": "<html>404</html>"},
        {"status": 400, "body": "Invalid file ID format"},
        {"status": 422, "body": "no such file"},
        {"status": 403},
        {"json": {"id": "f1", "deleted": False}},
        {"status": 307, "headers": {"Location": f"{BASE}/elsewhere"}},
    ],
)
def test_a_file_that_may_still_be_there_is_not_said_to_be_deleted(api: Api, answer: dict[str, Any]) -> None:
    """Nobody may believe that data is gone which is not."""
    responses.delete(f"{BASE}/files/f1", **answer)
    with pytest.raises(ApiError):
        api.delete_file("f1")


@responses.activate
def test_ids_of_webhooks_work_in_every_call_for_one_object(api: Api) -> None:
    """`file_<uuid>` and `batch_<uuid>` are refused by the server with 400, the bare id is not."""
    value = {"id": UUID, **ESTIMATE, **ANALYTICS}
    for folder, kind, call in (
        ("files", "file", ""), ("files", "file", "/content"), ("files", "file", "/cost-estimate"),
        ("batches", "batch", "/analytics"),
    ):  # fmt: skip
        responses.get(f"{BASE}/{folder}/{kind}_{UUID}{call}", status=400, body="Invalid ID format")
        responses.get(f"{BASE}/{folder}/{UUID}{call}", json=value)
    assert api.file(f"file_{UUID}").id == UUID
    assert b"".join(api.content(f"file_{UUID}"))
    assert api.cost_estimate(f"file_{UUID}", "24h") is not None
    assert api.analytics(f"batch_{UUID}") is not None


@responses.activate
@pytest.mark.parametrize(
    ("words", "query"),
    [
        ({}, {}),
        ({"realtime": False}, {"available_for_realtime": "false"}),
        ({"realtime": True}, {"available_for_realtime": "true"}),
        ({"reasoning": True}, {"include_reasoning_capabilities": "true"}),
    ],
)
def test_models_are_asked_for_by_what_they_can(api: Api, words: dict[str, bool], query: dict[str, str]) -> None:
    """What is said of their reasoning comes along."""
    model = {"id": "m", "supported_reasoning_efforts": {"chat_completions": ["none", "low"]}}
    responses.get(f"{BASE}/models", json={"data": [model]}, match=[responses.matchers.query_param_matcher(query)])
    assert api.models(**words) == [model]


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        (
            {
                "data": [
                    {"code": "token_limit_exceeded", "message": "Enqueued token limit reached for m.", "line": None}
                ]
            },
            (BatchError("token_limit_exceeded", "Enqueued token limit reached for m."),),
        ),
        (
            {"data": [{"message": "bad\x1b[2J line", "line": 3}, "x", {}]},
            (BatchError("", "bad[2J line", 3), BatchError("", "x")),
        ),
        ({"message": "no template"}, (BatchError("", "no template"),)),
        ({"data": None}, ()),
        (None, ()),
        ([{"code": "empty_file", "message": "no rows"}], (BatchError("empty_file", "no rows"),)),
        ("it broke", (BatchError("", "it broke"),)),
        (7, ()),
    ],
)
def test_why_a_whole_batch_failed_keeps_code_and_message(errors: Any, expected: tuple[BatchError, ...]) -> None:
    """In the form of OpenAI, in that of the stored error, and with nothing of it."""
    assert objects.batch({**BATCH, "errors": errors}).errors == expected
    assert str(BatchError("a_code", "words")) == "words (a_code)"
    assert str(BatchError("a_code", "words", 3)) == "words (a_code, line 3)"


@pytest.mark.parametrize(("word", "status"), [("COMPLETED", "completed"), ("canceled", "cancelled"), ("odd", "odd")])
def test_a_batch_is_over_in_any_case_of_letters(word: str, status: str) -> None:
    """Some servers write in capitals, or as Americans do."""
    assert objects.batch({**BATCH, "status": word}).status == status


@pytest.mark.parametrize(("value", "model"), [({}, ""), ({"model": None}, ""), ({"model": "mixed"}, "mixed")])
def test_a_batch_says_its_model_where_it_knows_it(value: dict[str, Any], model: str) -> None:
    """Older servers do not."""
    assert objects.batch({**BATCH, **value}).model == model
