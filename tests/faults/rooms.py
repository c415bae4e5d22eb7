"""Runs scripts of the skill inside this process, over real HTTP, on a system that the test decides.

`Desk.run` does what a process does (arguments, exit code, the one JSON object, Ctrl-C), so a run takes
milliseconds and its clock only moves when the script sleeps. Of every run it checks what is promised of all:
never exit 1, one JSON object of at most 4 KB, `ok` only with exit 0, and the key nowhere.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from tests.clock import Clocked
from tests.door import Result, call_door
from tests.engine_process import KEY, RunningEngine, wait_until

from doubleword.commands.cancel import cancel_named
from doubleword.commands.fetch_results import fetch
from doubleword.commands.poll import poll
from doubleword.commands.retry_failed import retry
from doubleword.commands.run_batch import run
from doubleword.commands.submit import submit
from doubleword.dataset import running
from doubleword.system import Disk, System


class Unsynced(Disk):
    """A disk that does not wait for the platter: a test cuts no power, and syncing is most of a short run's time."""

    def sync(self, file: BinaryIO) -> None:
        file.flush()

    def _sync_folder(self, folder: Path) -> None:
        pass


ROOMS: dict[str, Callable[[Any, System], dict[str, Any]]] = {
    "submit": submit,
    "poll": poll,
    "fetch_results": fetch,
    "retry_failed": retry,
    "cancel": cancel_named,
    "run_batch": run,
    "run_dataset": running.run,
}
CHAT = "/v1/chat/completions"


@dataclass
class Desk:
    """One user at one folder before one server."""

    folder: Path
    base_url: str
    system: System = field(default_factory=Clocked)
    key: str = KEY
    env: Mapping[str, str] = field(default_factory=dict)
    results: list[Result] = field(default_factory=list)

    def run(self, name: str, *args: str | Path) -> Result:
        """Run `scripts/NAME.py` here; paths are relative to the folder."""
        settings = {"DOUBLEWORD_API_KEY": self.key, "DOUBLEWORD_BASE_URL": self.base_url, **self.env}
        room = ROOMS[name]
        result = call_door(name, *args, cwd=self.folder, env=settings, work=lambda given: room(given, self.system))
        self.results.append(result)
        assert result.code != 1, result
        assert self.key not in json.dumps(result.json) + result.stderr
        for path in self.folder.glob("*.json"):
            assert self.key not in path.read_text("utf-8", "replace"), path
        return result

    def batch_file(self, name: str, texts: Sequence[str], url: str = CHAT, stem: str = "row") -> Path:
        """Write a batch file whose requests ask `texts`; ids are `<stem>-1`, `<stem>-2`, …."""
        path = self.folder / name
        path.write_text(
            "".join(json.dumps(request(f"{stem}-{n}", text, url)) + "\n" for n, text in enumerate(texts, 1))
        )
        return path

    def job(self, name: str = "a.job.json") -> dict[str, Any]:
        """The job file's content."""
        value: dict[str, Any] = json.loads((self.folder / name).read_text())
        return value

    def rows(self, name: str) -> dict[str, str]:
        """The answers in a JSONL output, by custom_id, in its order."""
        lines = (self.folder / name).read_bytes().split(b"\n")
        found = [json.loads(line) for line in lines if line]
        return {row["custom_id"]: row["response"]["body"]["choices"][0]["message"]["content"] for row in found}

    def names(self) -> list[str]:
        """What stands in the folder."""
        return sorted(path.name for path in self.folder.iterdir())


def request(custom_id: str, text: str, url: str = CHAT) -> dict[str, Any]:
    """A request line that asks `text`."""
    body: dict[str, Any] = {"model": "test-chat", "messages": [{"role": "user", "content": text}]}
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body}


def another_job(desk: Desk, number: int) -> None:
    """Make the copy of a job a job of its own, to which no attempt of another copy belongs."""
    path = desk.folder / "a.job.json"
    path.write_text(path.read_text().replace(desk.job()["id"], f"{number:032x}"))


def finished(engine: RunningEngine) -> None:
    """Return when the engine has nothing left to do."""
    undone = (
        "SELECT count(*) FROM batches WHERE deleted_at IS NULL AND completed_at IS NULL AND failed_at IS NULL"
        " AND cancelled_at IS NULL"
    )

    def idle() -> bool:
        with engine.store.reading() as connection:
            return bool(connection.execute(undone).fetchone()[0] == 0)

    wait_until(idle, "the engine to finish every batch")


def emptied(engine: RunningEngine) -> None:
    """Leave the engine without files, batches and memories."""
    engine.upstream.release()
    finished(engine)
    engine.upstream.forget()
    with engine.store.writing() as connection:
        for table in ("requests", "batches", "lines", "files"):
            connection.execute(f"DELETE FROM {table}")


def batch_count(engine: RunningEngine) -> int:
    """How many batches the engine was ever asked for."""
    with engine.store.reading() as connection:
        return int(connection.execute("SELECT count(*) FROM batches").fetchone()[0])


def certificate(folder: Path, host: str) -> tuple[Path, Path]:
    """A certificate that nobody trusts, and its key."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    name = f"IP:{host}" if host[0].isdigit() else f"DNS:{host}"
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    words += ["-subj", "/CN=test", "-addext", f"subjectAltName={name}", "-keyout", str(key), "-out", str(certificate)]
    try:
        subprocess.run(words, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl, which makes the certificate, is not installed")
    return certificate, key
