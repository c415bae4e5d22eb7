"""Keys, models, and the realtime endpoints."""

from __future__ import annotations

import pytest
from tests.contract.conftest import Server
from tests.upstream import Upstream


@pytest.mark.parametrize("header", [None, "Bearer wrong-key", "bearer {key}", "Basic {key}", "Bearer "])
def test_files_and_batches_need_the_key(server: Server, header: str | None) -> None:
    """One plain text for every reason; the word Bearer is case-sensitive."""
    for method, path in (("GET", "/files"), ("POST", "/files"), ("GET", "/batches"), ("POST", "/batches")):
        headers = {"Authorization": header and header.format(key=server.key)}
        reply = server.call(method, path, headers=headers)
        assert (reply.status_code, reply.text) == (401, "Authentication required")


def test_models_and_realtime_refuse_in_json(server: Server) -> None:
    """These routes speak OpenAI's error envelope."""
    missing = server.call("GET", "/models", headers={"Authorization": None})
    assert (missing.status_code, missing.json()["error"]["code"]) == (401, "missing_authorization")
    wrong = server.call("GET", "/models", headers={"Authorization": "Bearer wrong-key"})
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (401, "invalid_api_key")
    body = server.line("a")["body"]
    realtime = server.call("POST", "/chat/completions", headers={"Authorization": "Bearer wrong-key"}, json=body)
    assert (realtime.status_code, realtime.json()["error"]["code"]) == (403, "forbidden")


def test_the_list_of_models_names_those_that_can_be_used(server: Server) -> None:
    """No prices, no limits: only ids."""
    reply = server.call("GET", "/models").json()
    assert reply["object"] == "list"
    ids = [model["id"] for model in reply["data"]]
    assert server.chat_model in ids
    assert ids == sorted(ids)
    assert all(set(model) == {"id", "object", "created", "owned_by"} for model in reply["data"])


def test_the_list_of_models_can_be_asked_for_those_that_answer_at_once_and_for_efforts(server: Server) -> None:
    """Each model is in one of the two halves; anything but true and false is refused."""

    def listed(query: str) -> list[str]:
        return [model["id"] for model in server.call("GET", f"/models{query}").json()["data"]]

    halves = [listed(f"?available_for_realtime={flag}") for flag in ("true", "false")]
    assert sorted(halves[0] + halves[1]) == listed("?include_reasoning_capabilities=true") == listed("")
    assert server.chat_model in halves[0]
    reply = server.call("GET", "/models?available_for_realtime=maybe")
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "invalid_query_parameter")


def test_a_chat_is_answered_at_once(server: Server) -> None:
    """The realtime endpoint takes the body of a request line."""
    reply = server.call("POST", "/chat/completions", json=server.line("a")["body"])
    assert reply.status_code == 200
    assert isinstance(reply.json()["choices"][0]["message"]["content"], str)


def test_a_response_is_answered_at_once(server: Server) -> None:
    """The Responses API is translated to a chat and back."""
    body = {"model": server.chat_model, "input": "Say yes.", "max_output_tokens": 16}
    reply = server.call("POST", "/responses", json=body).json()
    assert reply["object"] == "response"
    message = next(item for item in reply["output"] if item["type"] == "message")
    assert message["content"][0]["type"] == "output_text"
    assert reply["usage"]["input_tokens"] > 0


def test_an_unknown_model_is_404_in_json(server: Server) -> None:
    """Known by its code model_not_found."""
    reply = server.call("POST", "/chat/completions", json={"model": "no-such-model", "messages": []})
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "model_not_found")


def test_the_status_of_who_answers_is_passed_on(server: Server, upstream: Upstream) -> None:
    """A refusal reaches the client as it was said."""
    upstream.fail("realtime refusal", 422, body='{"error":{"message":"no"}}')
    reply = server.call("POST", "/chat/completions", json=server.line("a", "realtime refusal")["body"])
    assert (reply.status_code, reply.json()) == (422, {"error": {"message": "no"}})


@pytest.mark.parametrize("path", ["/no-such-route", "/files/", "/models/{model}"])
def test_the_proxy_takes_every_path_that_no_route_takes(server: Server, path: str) -> None:
    """It then misses the name of a model: there is no 404 for a path, not even without a key."""
    for headers in ({}, {"Authorization": None}):
        reply = server.call("GET", path.format(model=server.chat_model), headers=dict(headers))
        assert (reply.status_code, reply.json()["error"]["code"]) == (400, "bad_request")
        assert reply.json()["error"]["message"].startswith("Could not parse onwards model")


def test_a_wrong_verb_is_405(server: Server) -> None:
    """Without a body."""
    assert server.call("PUT", "/files").status_code == 405
