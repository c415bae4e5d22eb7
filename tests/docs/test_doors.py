"""What all scripts have in common: help, one JSON object, declared packages, no prompts, no traces in the skill."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.door import SCRIPTS, call_door, environment

from doubleword.cli import quoted
from doubleword.failure import Exit, Failure, plain

DOORS = sorted(path.name for path in SCRIPTS.glob("*.py"))
PROJECT = SCRIPTS.parent / "pyproject.toml"
NAMED = {
    "create_batch_file.py", "validate_batch_file.py", "try_prompt.py", "estimate_cost.py", "submit.py", "poll.py",
    "fetch_results.py", "retry_failed.py", "list_batches.py", "cancel.py", "list_models.py", "run_batch.py",
    "local_server.py", "delete_files.py", "report.py", "compare.py", "run_dataset.py",
}  # fmt: skip


def declared(door: str) -> list[str]:
    """The packages of a script's inline metadata."""
    block = re.search(r"^# dependencies = \[(.*?)^# \]", (SCRIPTS / door).read_text(), re.MULTILINE | re.DOTALL)
    assert block is not None, f"{door} has no inline metadata"
    return re.findall(r'"([^"]+)"', block.group(1))


def bare(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run with an interpreter that sees no installed package at all, standard input closed."""
    return subprocess.run(
        [sys.executable, "-S", "-E", *map(str, words)],
        cwd=cwd,
        env=environment({"PATH": "", "UV": "", "DOUBLEWORD_API_KEY": "key-for-tests-0123"}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_every_script_of_the_interface_is_there() -> None:
    """No more and no fewer."""
    assert set(DOORS) == NAMED


@pytest.mark.parametrize("door", DOORS)
def test_help_needs_no_package(door: str, tmp_path: Path) -> None:
    """At most 60 lines, with examples and exit codes, from any folder."""
    shown = bare(SCRIPTS / door, "--help", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert len(shown.stdout.splitlines()) <= 60
    assert "examples:" in shown.stdout and "exit codes:" in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 120


@pytest.mark.parametrize("door", DOORS)
def test_a_script_is_a_door(door: str) -> None:
    """At most 80 lines, and nothing heavy imported before it is needed."""
    text = (SCRIPTS / door).read_text()
    assert len(text.splitlines()) <= 80
    allowed = {"__future__", "argparse", "typing", "pathlib", "doubleword", "doubleword.request_lines.arguments"}
    for node in ast.parse(text).body:
        if isinstance(node, ast.ImportFrom):
            assert node.module in allowed
        elif isinstance(node, ast.Import):
            assert {name.name for name in node.names} <= allowed


@pytest.mark.parametrize("door", DOORS)
def test_packages_are_declared_as_in_the_project(door: str) -> None:
    """A script's inline metadata pins the same ranges as pyproject.toml."""
    project = PROJECT.read_text()
    assert 'requires-python = ">=3.10"' in (SCRIPTS / door).read_text()
    for requirement in declared(door):
        assert f'"{requirement}"' in project


def reached(path: Path, within: bool) -> Iterator[str]:
    """The modules that a file imports when it is loaded; `within` its functions as well."""
    waiting: list[ast.AST] = [ast.parse(path.read_text())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module)
            yield from (f"{node.module}.{one.name}" for one in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "cli.command":
            yield str(ast.literal_eval(node.args[0]))
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        elif within or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            waiting += ast.iter_child_nodes(node)


def needed(door: str) -> set[str]:
    """The packages without which a script cannot begin its work: those of all modules that are loaded then."""
    found, waiting, seen = set[str](), list(reached(SCRIPTS / door, within=True)), set[str]()
    while waiting:
        module = waiting.pop()
        place = SCRIPTS / Path(*module.split("."))
        file = next((one for one in (place.with_suffix(".py"), place / "__init__.py") if one.is_file()), None)
        if module in seen or (file is None and module.startswith("doubleword")):
            continue
        seen.add(module)
        if file is not None:
            waiting += reached(file, within=False)
        elif module.partition(".")[0] not in sys.stdlib_module_names:
            found.add(module.partition(".")[0].replace("_", "-"))
    return found


@pytest.mark.parametrize("door", DOORS)
def test_a_script_declares_what_it_cannot_begin_without(door: str) -> None:
    """Or `uv run` brings an environment in which it ends at its first import."""
    names = {re.split(r"[><=; ]", one)[0].lower() for one in declared(door)}
    brought = {"urllib3": "requests"}  # by another package
    assert {brought.get(one, one) for one in needed(door)} <= names


@pytest.mark.parametrize("door", DOORS)
def test_a_missing_package_is_answered_with_one_command(door: str, tmp_path: Path) -> None:
    """Under an interpreter without packages a real run says what installs them, and leaves nothing."""
    (tmp_path / "a.jsonl").write_text("{}\n")
    arguments = {"create_batch_file.py": ["b.jsonl", "--example"], "run_batch.py": ["b.csv", "--example"],
                 "try_prompt.py": ["--example"], "retry_failed.py": ["a.jsonl"], "list_batches.py": [],
                 "list_models.py": [], "local_server.py": ["--data", "d"], "poll.py": ["b1", "--local"],
                 "compare.py": ["b.csv", "--input", "a.jsonl"], "cancel.py": ["b1"], "delete_files.py": ["b1", "--yes"],
                 "fetch_results.py": ["b1", "--local"], "run_dataset.py": ["a.jsonl", "o"]}  # fmt: skip
    ran = bare(SCRIPTS / door, *arguments.get(door, ["a.jsonl"]), cwd=tmp_path)
    answer = json.loads(ran.stdout)
    assert answer["ok"] is False and answer["error"]["code"] == "missing_package", ran.stdout + ran.stderr
    assert re.search(r"-m pip install \S|uv run ", answer["error"]["hint"])
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


@pytest.mark.parametrize("door", DOORS)
def test_bad_arguments_are_one_json_object(door: str, tmp_path: Path) -> None:
    """An unknown flag: exit 2, a message that names it, a hint; nothing on disk."""
    ran = bare(SCRIPTS / door, "--no-such-flag", cwd=tmp_path)
    answer = json.loads(ran.stdout)
    assert (ran.returncode, answer["ok"]) == (2, False)
    assert answer["error"]["code"] == "bad_arguments" and answer["error"]["hint"]
    assert list(tmp_path.iterdir()) == []


def test_the_skill_works_read_only_from_a_folder_with_spaces(tmp_path: Path) -> None:
    """A copy with mode 644, in a path with spaces, used from elsewhere; nothing is written into it."""
    copy = tmp_path / "my skills" / "doubleword-api"
    shutil.copytree(SCRIPTS, copy / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    for path in copy.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    before = sorted(copy.rglob("*"))
    for folder in (*(path for path in before if path.is_dir()), copy):
        folder.chmod(0o555)
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    try:
        made = subprocess.run(
            [sys.executable, "-B", copy / "scripts" / "create_batch_file.py", "a.jsonl", "--example"],
            cwd=elsewhere, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
    finally:
        for folder in (copy, *copy.rglob("*")):
            if folder.is_dir():
                folder.chmod(0o755)
    assert made.returncode == 0, made.stdout + made.stderr
    assert sorted(copy.rglob("*")) == before
    assert (elsewhere / "a.jsonl").exists()


def test_stdout_that_nobody_reads_is_no_crash(tmp_path: Path) -> None:
    """A closed standard output changes neither the exit code nor what was done."""
    ran = subprocess.run(
        ["sh", "-c", f"{sys.executable} {SCRIPTS}/create_batch_file.py a.jsonl --example >&-"],
        cwd=tmp_path, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0
    assert "Traceback" not in ran.stderr and "Exception" not in ran.stderr
    assert (tmp_path / "a.jsonl").exists()


@pytest.mark.parametrize("letter", ["x", "\u732b", "\U0001f600", '"'])
def test_the_answer_fits_whatever_it_says_and_in_whatever_letters(letter: str, tmp_path: Path) -> None:
    """A letter may take twelve bytes on stdout; what is left is still one object, with its error and its counts."""
    long = letter * 600

    def work(_: object) -> dict[str, Any]:
        rows = [{"cause": long, "example": letter * 64, "action": long} for _ in range(10)]
        keys = {"output": long, "errors": long, "failures": rows, "counts": {"total": 7}, "warnings": [long] * 10}
        raise Failure(Exit.SOME_FAILED, "some_failed", long, long, keys)

    ran = call_door("poll.py", "job", cwd=tmp_path, work=work)  # which holds it against the limit
    assert (ran.code, ran.json["counts"], ran.json["error"]["code"]) == (6, {"total": 7}, "some_failed")
    assert len(ran.json["error"]["message"]) > 30 and len(ran.json["error"]["hint"]) > 30


def test_a_list_that_was_cut_already_says_how_many_more_there_are_in_all(tmp_path: Path) -> None:
    """list_batches.py shows the newest jobs of a folder alone; where those do not fit either, all count."""
    jobs = [{"job": "x" * 500} for _ in range(10)]
    ran = call_door("poll.py", "job", cwd=tmp_path, work=lambda _: {"jobs": jobs, "jobs_more": 90})
    assert len(ran.json["jobs"]) + ran.json["jobs_more"] == 100


@pytest.mark.parametrize(
    "name",
    [
        "plain",
        "-dash",
        "two  blanks",
        "it's  \x1b[31m",
        "a\nb\t",
        " lead ",
        "fam \U0001f468\u200d\U0001f469",
        "\u202e9f",
        "a\udce9",
    ],
)
def test_a_path_in_a_hint_is_the_same_path_for_a_shell(name: str) -> None:
    """Though hints go through `plain`: neither blanks in a row nor what acts on a terminal may change a name."""
    said = plain(f"cat {quoted(name)}", 600)
    shell = shutil.which("bash")
    if shell is None:
        pytest.skip("bash is not here")
    found = subprocess.run([shell, "-c", f"printf %s {said.removeprefix('cat ')}"], capture_output=True, check=True)
    assert found.stdout.removeprefix(b"./") == os.fsencode(name)
    assert found.stdout.startswith(b"./") == name.startswith("-")
