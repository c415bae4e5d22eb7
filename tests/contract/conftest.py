"""The server under contract: the embedded engine before a test upstream, or the one named by --server.

Where that server asks its models at a port of this machine, `--upstream-port` puts the test upstream there, so that
tests which must control the answers judge it too. Whether it dispatches batches as streams is then seen, not told.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import requests
from tests.engine_process import engine_with_upstream, priced, serve, wait_until
from tests.upstream import CHAT_MODEL, EMBEDDING_MODEL, Upstream

from doubleword.server.key import read_key

WAIT_S = 30.0
FOREIGN_WAIT_S = 3600.0
CHAT = "/v1/chat/completions"
PRICES = {CHAT_MODEL: {"24h": [40, 1.25], "1h": [80, 2.5]}}


@dataclass(frozen=True)
class Server:
    """A server that speaks the contract. `upstream` is what answers behind it, None where nobody controls that.

    `streamed` says that it asks for streams when it runs a batch; unknown without an upstream, and then false.
    """

    base_url: str
    key: str
    chat_model: str
    embedding_model: str | None
    upstream: Upstream | None = None
    streamed: bool = False
    wait_s: float = WAIT_S

    def call(self, method: str, path: str, **options: Any) -> requests.Response:
        """One HTTP call with the key; `path` begins after /v1."""
        headers = {"Authorization": f"Bearer {self.key}", **options.pop("headers", {})}
        return requests.request(method, self.base_url + path, headers=headers, timeout=60, **options)

    def line(self, custom_id: str, prompt: str = "Say yes.", **body: Any) -> dict[str, Any]:
        """A chat request line that is valid here."""
        messages = [{"role": "user", "content": prompt}]
        asked = {"model": self.chat_model, "messages": messages, "max_tokens": 5, **body}
        return {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": asked}

    def send(self, content: str | bytes, name: str = "contract.jsonl", **fields: Any) -> requests.Response:
        """POST `content` as a file, with purpose batch unless told otherwise."""
        data = {"purpose": "batch", **fields}
        data = {name: value for name, value in data.items() if value is not None}
        return self.call("POST", "/files", files={"file": (name, content)}, data=data)

    def upload(self, lines: list[dict[str, Any]], name: str = "contract.jsonl", **fields: Any) -> dict[str, Any]:
        """Upload request lines; the file object."""
        reply = self.send("".join(json.dumps(line) + "\n" for line in lines), name, **fields)
        assert reply.status_code == 201, reply.text
        made: dict[str, Any] = reply.json()
        return made

    def create(self, file_id: str, **fields: Any) -> dict[str, Any]:
        """Create a batch; the batch object."""
        body = {"input_file_id": file_id, "endpoint": CHAT, "completion_window": "24h", **fields}
        reply = self.call("POST", "/batches", json=body)
        assert reply.status_code == 201, reply.text
        made: dict[str, Any] = reply.json()
        return made

    def batch(self, batch_id: str) -> dict[str, Any]:
        """The batch object as it stands."""
        reply = self.call("GET", f"/batches/{batch_id}")
        assert reply.status_code == 200, reply.text
        got: dict[str, Any] = reply.json()
        return got

    def wait(self, batch_id: str, *statuses: str) -> dict[str, Any]:
        """The batch object once its status is one of `statuses` (default: completed)."""

        def reached() -> dict[str, Any] | None:
            batch = self.batch(batch_id)
            return batch if batch["status"] in (statuses or ("completed",)) else None

        found: dict[str, Any] = wait_until(reached, f"status {statuses}", self.wait_s)
        return found

    def run(self, lines: list[dict[str, Any]], *statuses: str) -> dict[str, Any]:
        """Upload, create and wait; the batch object at its end."""
        return self.wait(self.create(self.upload(lines)["id"])["id"], *statuses)

    def rows(self, path: str) -> list[dict[str, Any]]:
        """The JSON lines at `path`."""
        reply = self.call("GET", path)
        assert reply.status_code == 200, reply.text
        return [json.loads(line) for line in reply.content.split(b"\n") if line]

    def outputs(self, batch: dict[str, Any]) -> list[dict[str, Any]]:
        """The rows of the batch's output file."""
        return self.rows(f"/files/{batch['output_file_id']}/content")

    def errors(self, batch: dict[str, Any]) -> list[dict[str, Any]]:
        """The rows of the batch's error file."""
        return self.rows(f"/files/{batch['error_file_id']}/content")


@contextmanager
def embedded(folder: Path, streamed: bool) -> Iterator[Server]:
    """The embedded engine, whose chat model has a price and whose embedding model has none."""
    with engine_with_upstream(folder, settings=replace(priced(PRICES), streamed=streamed)) as engine:
        yield Server(engine.base_url, engine.key, CHAT_MODEL, EMBEDDING_MODEL, engine.upstream, streamed)


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server that this run judges."""
    option = request.config.getoption
    if option("--server") is None:
        with embedded(tmp_path_factory.mktemp("engine"), option("--streamed")) as engine:
            yield engine
        return
    base_url, named = option("--server").rstrip("/"), option("--chat-model")
    if named is None:
        headers = {"Authorization": f"Bearer {read_key()}"}
        named = requests.get(f"{base_url}/models", headers=headers, timeout=60).json()["data"][0]["id"]
    judged = Server(base_url, read_key(), named, option("--embedding-model"), wait_s=FOREIGN_WAIT_S)
    if option("--upstream-port") is None:
        yield judged
        return
    told = Upstream()
    with serve(told.app, option("--upstream-port")):
        judged.run([judged.line("seen")])
        yield replace(judged, upstream=told, streamed=bool(told.calls and told.calls[-1].get("stream")))
        told.release()


@pytest.fixture(scope="session")
def streamed(
    request: pytest.FixtureRequest, server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server that asks for streams: the one that is judged, or an engine that is told to."""
    if server.streamed:
        yield server
    elif request.config.getoption("--server"):
        pytest.skip("needs a server that asks for streams, and --upstream-port to see that it does")
    else:
        with embedded(tmp_path_factory.mktemp("streamed"), True) as engine:
            yield engine


@pytest.fixture
def upstream(server: Server) -> Upstream:
    """What answers behind the server."""
    if server.upstream is None:
        pytest.skip("needs to control what answers the requests: --upstream-port")
    return server.upstream
