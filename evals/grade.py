"""Run one eval with any agent and grade what it left: on disk, on the engine, and in its last message.

    python3 evals/grade.py --list
    python3 evals/grade.py unfinished ../unfinished-run -- claude -p "{prompt}"

The folder is made and filled with the eval's files. The command runs in it, with SKILL (this skill's folder),
DOUBLEWORD_BASE_URL and DOUBLEWORD_API_KEY set; `{prompt}` in it becomes the task. The server is the embedded engine
before a model that follows the eval's script. What the command prints is taken for the agent's last message.
stdout gets one JSON object; the exit code is 0 when every check holds, 1 when one does not, 2 for bad arguments.

Needs the packages of the dev group, and tests/, whose engine it uses.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from python_calamine import CalamineWorkbook  # noqa: E402
from tests.door import call_door  # noqa: E402
from tests.engine_process import QUICK, RunningEngine, engine_with_upstream, wait_until  # noqa: E402

from doubleword.engine.models.worker import Retries  # noqa: E402

EVALS: dict[str, dict[str, Any]] = {
    one["name"]: one for one in json.loads((ROOT / "evals" / "evals.json").read_text(encoding="utf-8"))["evals"]
}
MODEL = "Qwen/Qwen3.5-9B"
KEY = "key-of-the-eval-5c1e7a90"
FOR_EVER = Retries(most=1_000_000, first_wait_s=1.0, longest_wait_s=20.0)


@dataclass(frozen=True)
class Outcome:
    """What an agent left: the folder, the engine, and what it said last."""

    folder: Path
    engine: RunningEngine
    said: str
    key: str
    before: dict[str, bytes]

    def batches(self) -> list[dict[str, Any]]:
        """The batches on the engine."""
        found: list[dict[str, Any]] = self.engine.call("GET", "/batches").json()["data"]
        return found

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Every file in the folder but the data of an embedded engine, with its bytes."""
        for path in sorted(self.folder.rglob("*")):
            name = path.relative_to(self.folder)
            if path.is_file() and not any(part.endswith(".local") for part in name.parts):
                yield name.as_posix(), path.read_bytes()


# --- checks: each returns what is wrong, or nothing --------------------------------------------------------------


def _table(outcome: Outcome, want: dict[str, Any]) -> str:
    path, column = outcome.folder / want["path"], want["column"]
    if not path.is_file():
        return f"there is no {want['path']}"
    left = iter(_rows(path.read_bytes()))
    for number, row in enumerate(_rows((ROOT / "evals" / "files" / want["like"]).read_bytes()), 1):
        text = _words(row[column])
        if not text or row[column] in want.get("without", ()):
            continue
        for found in left:
            same = all(_words(found.get(name)).lstrip("'") == _words(cell).lstrip("'") for name, cell in row.items())
            if same and any(text in _words(cell) for name, cell in found.items() if name not in row):
                break
        else:
            return f"row {number} ({text[:40]}) is not there with its own answer, in its place"
    return ""


def _columns(outcome: Outcome, want: dict[str, Any]) -> str:
    path = outcome.folder / want["path"]
    left = iter(_rows(path.read_bytes()) if path.is_file() else [])
    for number, row in enumerate(_rows((ROOT / "evals" / "files" / want["like"]).read_bytes()), 1):
        if set(row.values()) & set(want["without"]):
            continue
        found = next((one for one in left if row.items() <= one.items()), {})
        empty = [name for name in want["filled"] if not found.get(name)]
        if empty:
            return f"row {number} is not there in its place with {', '.join(empty)}"
    return ""


def _workbook(outcome: Outcome, want: dict[str, Any]) -> str:
    path = outcome.folder / want["path"]
    if not path.is_file():
        return f"there is no {want['path']}"
    header, *rows = CalamineWorkbook.from_path(str(path)).get_sheet_by_index(0).to_python()
    if header != want["header"]:
        return f"its columns are {header}, not {want['header']}"
    source = _rows((ROOT / "evals" / "files" / want["like"]).read_bytes())
    if len(rows) != len(source):
        return f"it has {len(rows)} rows, not {len(source)}"
    for number, (row, asked) in enumerate(zip(rows, source, strict=True), 1):
        cells = dict(zip(header, map(_words, row), strict=True))
        same = all(cells[name] == _words(asked[column]) for name, column in want["cells"].items())
        if not same or _words(asked[want["about"]]) not in cells[want["answer"]]:
            return f"row {number} is not there with its own answer, in its place"
    return ""


def _rows(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(content.decode("utf-8-sig").splitlines(keepends=True)))


def _words(cell: Any) -> str:
    return " ".join(cell.split()) if isinstance(cell, str) else ""


def _lines(outcome: Outcome, want: dict[str, Any]) -> str:
    path = outcome.folder / want["path"]
    lines = path.read_bytes().splitlines() if path.is_file() else []
    answers = sum(b'"response"' in line for line in lines)
    return "" if answers == want["count"] else f"{want['path']} holds {answers} answers, not {want['count']}"


def _batches(outcome: Outcome, want: int) -> str:
    made = len(outcome.batches())
    return "" if made == want else f"{made} batches were made, not {want}"


def _statuses(outcome: Outcome, want: list[str]) -> str:
    found = [one["status"] for one in outcome.batches()]
    return "" if found == want else f"the batches are {found}, not {want}"


def _bodies(outcome: Outcome, want: str) -> str:
    other = sum(not re.search(want, json.dumps(body)) for body in outcome.engine.upstream.calls)
    return f"{other} requests were asked without {want}" if other else ""


def _asked(outcome: Outcome, want: dict[str, list[int]]) -> str:
    for text, (least, most) in want.items():
        times = outcome.engine.upstream.count(text)
        if not least <= times <= most:
            return f"requests with '{text}' were asked {times} times, not {least} to {most}"
    return ""


def _kept(outcome: Outcome, want: list[str]) -> str:
    now = dict(outcome.files())
    changed = [name for name in want if now.get(name) != outcome.before[name]]
    return f"{', '.join(changed)} was changed or removed" if changed else ""


def _absent(outcome: Outcome, want: list[str]) -> str:
    there = [name for name in want if (outcome.folder / name).exists()]
    return f"{', '.join(there)} is there" if there else ""


def _holds(outcome: Outcome, want: dict[str, str]) -> str:
    content = dict(outcome.files()).get(want["path"], b"").decode("utf-8", "replace")
    return "" if re.search(want["text"], content) else f"{want['path']} does not hold {want['text']}"


def _no_file_holds(outcome: Outcome, want: str) -> str:
    found = [name for name, content in outcome.files() if want.encode() in content]
    return f"{', '.join(found)} holds it" if found else ""


def _local_job(outcome: Outcome, _want: bool) -> str:
    for path in outcome.folder.rglob("*.job.json"):
        job = json.loads(path.read_bytes())
        if job["local"] and any(one["answer"]["complete"] for one in job["results"]):
            return ""
    return "no job on the embedded engine was delivered whole"


def _says(outcome: Outcome, want: str) -> str:
    return "" if re.search(want, outcome.said, re.IGNORECASE) else f"the last message has nothing like {want}"


def _never_says(outcome: Outcome, want: str) -> str:
    found = re.search(want, outcome.said, re.IGNORECASE)
    return f"the last message says: {found[0]}" if found else ""


def _key_is_nowhere(outcome: Outcome, _want: bool) -> str:
    if outcome.key in outcome.said:
        return "the last message holds the key"
    return _no_file_holds(outcome, outcome.key)


CHECKS: dict[str, Callable[[Outcome, Any], str]] = {
    "table": _table, "columns": _columns, "workbook": _workbook, "lines": _lines, "batches": _batches,
    "statuses": _statuses, "bodies": _bodies, "asked": _asked, "kept": _kept, "absent": _absent, "holds": _holds,
    "no_file_holds": _no_file_holds, "local_job": _local_job, "says": _says, "never_says": _never_says,
    "key_is_nowhere": _key_is_nowhere,
}  # fmt: skip


# --- running and grading -----------------------------------------------------------------------------------------


def grade(name: str, folder: Path, command: list[str], limit_s: float = 3600) -> dict[str, Any]:
    """Run `command` as the agent of the eval `name` in `folder`, which is made; answers each check and its evidence."""
    eval_ = EVALS[name]
    world = eval_.get("world", {})
    folder.mkdir(parents=True)
    retries = FOR_EVER if "stuck" in world else QUICK
    with contextlib.ExitStack() as held:
        data = held.enter_context(_scratch(folder))
        engine = held.enter_context(engine_with_upstream(data, key=KEY, retries=retries))
        _set(engine, world)
        settings = {"DOUBLEWORD_BASE_URL": engine.base_url, "DOUBLEWORD_API_KEY": KEY, "SKILL": str(ROOT)}
        kept = {name: value for name, value in os.environ.items() if not name.startswith("DOUBLEWORD_")}
        _prepare(eval_, folder, settings)
        if "elsewhere" in eval_:
            _send(folder, eval_["elsewhere"], engine)
        before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        if world.get("key") is False:
            settings = {"SKILL": str(ROOT)}
        words = [word.replace("{prompt}", eval_["prompt"]) for word in command]
        done = subprocess.run(
            words, cwd=folder, env={**kept, **settings}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            timeout=limit_s, check=False,
        )  # fmt: skip
        outcome = Outcome(folder, engine, done.stdout.decode("utf-8", "replace"), KEY, before)
        checks = [*eval_["checks"], {"key_is_nowhere": True}]
        found = [(check, CHECKS[kind](outcome, want)) for check in checks for kind, want in check.items()]
    return {
        "eval": name,
        "passed": not any(wrong for _, wrong in found),
        "checks": [{"check": check, "passed": not wrong, "evidence": wrong or "holds"} for check, wrong in found],
        "said": outcome.said[-2000:],
    }


@contextlib.contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """The engine's data, beside the folder and gone afterwards."""
    place = folder.with_name(f"{folder.name}.engine")
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _set(engine: RunningEngine, world: dict[str, Any]) -> None:
    """Let the model answer as the eval's script says."""
    engine.upstream.models = [MODEL]
    for rule in world.get("fail", ()):
        engine.upstream.fail(rule["text"], rule["status"], times=rule.get("times"))
    for text in world.get("stuck", ()):
        engine.upstream.fail(text, 503)
    for rule in world.get("cut", ()):
        engine.upstream.cut(rule["text"], rule["below"])
    for rule in world.get("say", ()):
        engine.upstream.say(rule["text"], rule["answer"])


def _prepare(eval_: dict[str, Any], folder: Path, settings: dict[str, str]) -> None:
    """Put the files there, and do what an earlier session did."""
    for name in eval_["files"]:
        shutil.copy(ROOT / name, folder)
    for script, *words in eval_.get("before", ()):
        done = call_door(script, *words, cwd=folder, env=settings)
        if done.code not in (0, 6, 7):
            raise RuntimeError(f"{script} of the earlier session failed: {done.json}{done.stderr}")
    for name in eval_.get("remove", ()):
        (folder / name).unlink()


def _send(folder: Path, name: str, engine: RunningEngine) -> None:
    """Make a batch as any program does, and leave its id in batch.txt."""
    with (folder / name).open("rb") as file:
        uploaded = engine.call("POST", "/files", files={"file": (name, file)}, data={"purpose": "batch"}).json()
    asked = {"input_file_id": uploaded["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    batch = engine.call("POST", "/batches", json=asked).json()
    (folder / "batch.txt").write_text(f"{batch['id']}\n", encoding="utf-8")
    wait_until(lambda: engine.call("GET", f"/batches/{batch['id']}").json()["status"] == "completed", "its end")


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="the evals and their tasks, as JSON")
    parser.add_argument("--limit", type=float, default=3600, metavar="SECONDS", help="for the command (default 3600)")
    parser.add_argument("eval", nargs="?", choices=sorted(EVALS))
    parser.add_argument("folder", nargs="?", type=Path, help="a folder to make; it must not exist")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- and the agent's command")
    args = parser.parse_args()
    if args.list:
        answer: Any = {name: one["prompt"] for name, one in EVALS.items()}
    elif args.eval and args.folder and args.command[1:] and not args.folder.exists():
        command = args.command[1:] if args.command[0] == "--" else args.command
        answer = grade(args.eval, args.folder.absolute(), command, args.limit)
    else:
        parser.error("an eval, a folder that does not exist yet, -- and a command are needed")
    sys.stdout.write(json.dumps(answer, indent=2) + "\n")
    return 0 if answer.get("passed", True) else 1


if __name__ == "__main__":
    sys.exit(main())
