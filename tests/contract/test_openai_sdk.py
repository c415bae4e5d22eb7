"""The official OpenAI SDK, an unrelated client, runs a whole job against `local_server.py` unchanged."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator

import pytest
from openai import NotFoundError, OpenAI
from tests.contract.conftest import Server
from tests.engine_process import server_process, wait_until

ENDED = ("completed", "failed", "cancelled", "expired")


@pytest.fixture(scope="module")
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[OpenAI, str]]:
    """An SDK client and a chat model: of `local_server.py` with its own model, or of the server named by --server."""
    if request.config.getoption("--server"):
        server: Server = request.getfixturevalue("server")
        with OpenAI(base_url=server.base_url, api_key=server.key) as client:
            yield client, server.chat_model
        return
    with (
        server_process(tmp_path_factory.mktemp("sdk")) as engine,
        OpenAI(base_url=engine.base_url, api_key=engine.key) as client,
    ):
        yield client, "SmolLM2-135M-Instruct"


def test_a_batch_runs_from_upload_to_answers(target: tuple[OpenAI, str]) -> None:
    """files.create, batches.create, batches.retrieve, files.content."""
    client, model = target
    lines = [
        {
            "custom_id": f"row-{n}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": model, "messages": [{"role": "user", "content": f"Say {n}."}], "max_tokens": 8},
        }
        for n in range(3)
    ]
    content = "".join(json.dumps(line) + "\n" for line in lines).encode()
    file = client.files.create(file=("sdk.jsonl", io.BytesIO(content)), purpose="batch")
    assert file.bytes == len(content)
    created = client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"job": "sdk"}
    )
    assert created.request_counts is not None
    assert created.request_counts.total == 3
    wait_until(lambda: client.batches.retrieve(created.id).status in ENDED, "the batch to end", 3600)
    batch = client.batches.retrieve(created.id)
    assert batch.status == "completed"
    assert batch.metadata is not None
    assert batch.metadata["job"] == "sdk"
    assert batch.output_file_id is not None
    rows = [json.loads(line) for line in client.files.content(batch.output_file_id).text.splitlines()]
    assert sorted(row["custom_id"] for row in rows) == ["row-0", "row-1", "row-2"]
    assert all(row["response"]["body"]["choices"][0]["message"]["content"] for row in rows)


def test_lists_can_be_walked(target: tuple[OpenAI, str]) -> None:
    """The SDK's own paging ends, and finds what was made."""
    client, model = target
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"model": model}}
    made = {client.files.create(file=("w.jsonl", json.dumps(line).encode()), purpose="batch").id for _ in range(3)}
    seen = [file.id for file, _ in zip(client.files.list(limit=2), range(50), strict=False)]
    assert made <= set(seen)
    assert len(seen) == len(set(seen))
    assert [batch.object for batch, _ in zip(client.batches.list(limit=1), range(5), strict=False)]


def test_errors_are_known_by_status(target: tuple[OpenAI, str]) -> None:
    """A plain-text 404 becomes the SDK's NotFoundError."""
    client, _ = target
    with pytest.raises(NotFoundError):
        client.batches.retrieve("00000000-0000-4000-8000-000000000000")


def test_the_realtime_chat_answers_the_sdk(target: tuple[OpenAI, str]) -> None:
    """chat.completions.create, as any program calls it."""
    client, model = target
    answer = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "Say hello."}], max_tokens=8
    )
    assert answer.choices[0].message.content
