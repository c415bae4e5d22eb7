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


def test_an_unknown_path_is_404_and_a_wrong_verb_405(server: Server) -> None:
    """Both without a body."""
    assert server.call("PUT", "/files").status_code == 405
    assert server.call("GET", "/no-such-route").status_code == 404
