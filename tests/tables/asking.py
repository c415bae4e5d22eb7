"""Tables as users have them, given to create_batch_file.py, and what is asked of their rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.door import Result, call_door

from doubleword.batch_files.check import check
from doubleword.system import Disk

Content = str | bytes | Callable[[Path], object]


@dataclass(frozen=True)
class Asked:
    """The prompts of all requests, their custom_ids, and the warnings of the script."""

    prompts: list[str]
    ids: list[str]
    warnings: list[str]


def put(folder: Path, files: Mapping[str, Content]) -> None:
    """Write files: text in UTF-8, bytes, or whatever a function writes to the path it is given."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if callable(content):
            content(path)
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)


def create(
    folder: Path, files: Mapping[str, Content], *flags: str, prompt: str = "{text}", stdin: str | bytes | None = None
) -> Result:
    """Run the script on `files`, of which the first is the table unless a flag names another."""
    put(folder, files)
    given = () if "--input" in flags else ("--input", next(iter(files)))
    words = ("out.jsonl", *given, "--model", "m", "--prompt", prompt, *flags)
    return call_door("create_batch_file", *words, cwd=folder, stdin=stdin)


def ask(folder: Path, files: Mapping[str, Content], *flags: str, **more: Any) -> Asked:
    """What comes of the script, which must do."""
    done = create(folder, files, *flags, **more)
    assert done.code == 0, done.json
    assert check([folder / "out.jsonl"], Disk()).error_count == 0
    lines = [json.loads(line) for line in (folder / "out.jsonl").read_bytes().splitlines()]
    prompts = [line["body"]["messages"][-1]["content"] for line in lines]
    for path in folder.glob("out.*"):
        path.unlink()
    return Asked(prompts, [line["custom_id"] for line in lines], done.json["warnings"])


def refusal(folder: Path, files: Mapping[str, Content], *flags: str, **more: Any) -> str:
    """Code, message and hint of the script, which must end with exit 2 and write nothing."""
    done = create(folder, files, *flags, **more)
    assert done.code == 2, done.json
    assert not [path for path in folder.iterdir() if path.name.startswith((".", "out"))]
    error = done.json["error"]
    return f"{error['code']}: {error['message']} | {error['hint']}"
