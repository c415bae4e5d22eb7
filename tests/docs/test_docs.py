"""SKILL.md, README.md and the table of arguments: every command runs, every flag, key, code, file and limit is true.

The reference pages have tests of their own (test_references.py, test_recipes.py); what is here looks at all pages.
Two things in them are not run: the part of README.md's commands that installs uv and calls pytest, since they would
install into this very environment and run this very test; and the `npx` commands, which ask the registry.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped,unused-ignore]
from tests.docs.test_references import FENCE, LINK, commands
from tests.door import SCRIPTS, environment, run_door
from tests.engine_process import RunningEngine, engine_with_upstream

from doubleword.failure import Exit

ROOT = SCRIPTS.parent
SKILL = (ROOT / "SKILL.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
TABLE = (ROOT / "references" / "commands.md").read_text(encoding="utf-8")
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("*.md"))} | {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in sorted((ROOT / "references").glob("*.md"))
}
DOORS = sorted(path.name for path in SCRIPTS.glob("*.py"))
MODEL = "Qwen/Qwen3.5-9B"
INSTALLING = 'python3 -m venv .venv && .venv/bin/python -m pip install -q "uv>=0.9,<1" && .venv/bin/uv run '


def parser_of(door: str) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = importlib.import_module(door.removesuffix(".py")).parser()
    return made


def arguments(door: str) -> dict[str, argparse.Action]:
    """The arguments of a script by the name that documents use: the flag, or the place's name."""
    actions = [one for one in parser_of(door)._actions if one.dest != "help"]
    return {
        one.option_strings[0] if one.option_strings else f"{one.metavar}{'…' * (one.nargs in ('+', '*'))}": one
        for one in actions
    }


def by_heading(text: str, kind: str) -> dict[str, str]:
    """Fenced blocks of `kind` by the heading of the section they stand in; a section has one at most."""
    found: dict[str, str] = {}
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        for number, (name, block) in enumerate(FENCE.findall(section)):
            if name == kind:
                heading = section.splitlines()[0]
                found[heading if not number else f"{heading} #{number + 1}"] = block
    return found


# --- every command runs ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ran:
    """One command of a document, as it ended."""

    line: str
    code: int
    json: dict[str, Any]
    folder: Path


class User:
    """A shell in a folder whose name holds a blank, with a `python3` that has the packages."""

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        (shim := folder.parent / "bin" / "python3").parent.mkdir()
        shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -B "$@"\n')
        shim.chmod(0o755)
        self._env = environment(settings)
        self._env["PATH"] = f"{shim.parent}:{self._env['PATH']}"

    def run(self, line: str) -> Ran:
        """Run one line by bash; its stdout must be one JSON object."""
        done = subprocess.run(
            ["bash", "-c", line], cwd=self.folder, env=self._env, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=120, check=False,
        )  # fmt: skip
        try:
            return Ran(line, done.returncode, json.loads(done.stdout), self.folder)
        except ValueError:
            raise AssertionError(f"{line}\n{done.stdout}\n{done.stderr}") from None


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngine]:
    """The embedded engine before an upstream that answers at once under the names of the models in the documents."""
    with engine_with_upstream(tmp_path_factory.mktemp("engine")) as running:
        running.upstream.models = [MODEL, "SmolLM2-135M-Instruct"]
        yield running


@pytest.fixture(scope="module")
def settings(engine: RunningEngine) -> dict[str, str]:
    return {"DOUBLEWORD_BASE_URL": engine.base_url, "DOUBLEWORD_API_KEY": engine.key}


# What each block of SKILL.md ends with, command by command: one review of the table fails at first.
EXPECTED = {
    "The default path": [0, 0, 0, 6, 6],
    "The default path #2": [6],
    "Leave, and come back tomorrow": [6],
    "When requests failed (exit 6)": [0, 0, 0],
    "Get started without a key": [0],
}


@pytest.fixture(scope="module")
def skill_runs(
    engine: RunningEngine, settings: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[Ran]]:
    """Every command of SKILL.md in the order of the page, in one folder; the last block on the bundled model."""
    place = tmp_path_factory.mktemp("user")
    user = User(place / "my tables", settings)
    newcomer = User(tmp_path_factory.mktemp("newcomer") / "empty", {})
    shutil.copy(ROOT / "examples" / "reviews.csv", user.folder)
    engine.upstream.fail("beam could be narrowed", 500)
    ran: dict[str, list[Ran]] = {}
    for heading, block in by_heading(SKILL, "bash").items():
        if heading.startswith("When requests failed"):
            engine.upstream.forget()
        who = newcomer if "without a key" in heading else user
        absolute = re.sub(r"(?<![\w/])(scripts|examples)/", rf"{ROOT}/\1/", block)
        ran[heading] = [who.run(line) for line in absolute.splitlines()]
    return ran


def test_every_command_of_the_skill_runs_as_it_says(skill_runs: dict[str, list[Ran]]) -> None:
    """In the order of the page, with the exit codes that the page promises."""
    assert {heading: [one.code for one in runs] for heading, runs in skill_runs.items()} == EXPECTED


def test_what_failed_is_named_and_comes_with_the_retry(skill_runs: dict[str, list[Ran]]) -> None:
    """11 of 12 first, then all, each paid once."""
    first, last = skill_runs["The default path"][-1], skill_runs["When requests failed (exit 6)"][-1]
    assert (first.json["counts"]["succeeded"], last.json["counts"]["succeeded"]) == (11, 12)
    assert [one["example"] for one in first.json["failures"]] == ["row-0000003"]


def test_getting_started_needs_no_key(skill_runs: dict[str, list[Ran]]) -> None:
    """Answers of the bundled model, nothing to pay; as many of them are right as the pages say, or more."""
    (only,) = skill_runs["Get started without a key"]
    assert only.json["complete"] is True and only.json["counts"]["succeeded"] == 12
    with (only.folder / only.json["output"]).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    right = sum(row["answer"].strip().rstrip(".") == row["capital"] for row in rows)
    (said,) = set(re.findall(r"(\d+) of (?:its|the) 12 answers are right", SKILL + README))
    assert right >= int(said) >= 10


@pytest.fixture(scope="module")
def readme_runs(settings: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> list[Ran]:
    """README.md's commands in a copy of the repository, the bundled model stood in for by the quick upstream."""
    copy = tmp_path_factory.mktemp("read me") / "doubleword-api"
    user = User(copy, settings)
    for name in ("scripts", "examples"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.jsonl", "*.job.json"))
    ran: list[Ran] = []
    for block in FENCE.findall(README):
        folder = ""
        for line in block[1].splitlines():
            if line.startswith("cd "):
                folder = f"{line} && "
            elif line != f"{INSTALLING}pytest":
                command = line.replace(INSTALLING, "python3 ").replace(" --local", "")
                ran.append(user.run(folder + command))
    assert (copy / "answers.csv").read_text().count("\n") == 13
    return ran


def test_every_command_of_the_readme_runs(readme_runs: list[Ran]) -> None:
    """A whole job by one command, then the same job in five steps; all of it succeeds."""
    assert [one.code for one in readme_runs] == [0, 0, 0, 0, 0, 0]
    assert readme_runs[0].json["complete"] is True
    assert README.count(INSTALLING) == 2, "the commands that install have another form; see what is not run here"


# --- every flag -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One line of a table of arguments: which scripts it is about, the argument, its value's name, its meaning."""

    scripts: tuple[str, ...]
    name: str
    value: str
    meaning: str


SECTIONS = dict(re.findall(r"^## \d+\. (\w+\.py)\n(.*?)(?=^## |\Z)", TABLE, re.MULTILINE | re.DOTALL))


def rows_of_the_table() -> list[Row]:
    found = []
    lead = r"Of\s((?:`\w+\.py`(?:, )?)+):\n\n\| argument \| meaning \|\n\|---\|---\|\n((?:\|.*\n)+)"
    for scripts, lines in re.findall(lead, TABLE):
        for line in lines.splitlines():
            cell = re.fullmatch(r"\| `(.+?)` \| (.*) \|", line)
            assert cell, f"not a row of an argument: {line}"
            name, _, value = cell[1].replace("\\|", "|").partition(" ")
            found.append(Row(tuple(re.findall(r"\w+\.py", scripts)), name, value, cell[2]))
    return found


def test_every_argument_of_every_script_is_documented_once() -> None:
    """No more, no fewer: the tables in references/commands.md are the parsers' own list."""
    documented = [(script, row.name) for row in rows_of_the_table() for script in row.scripts]
    shared = [name for script, name in documented if script == "create_batch_file.py"]
    lead = r"all arguments of section 3 but ((?:`[^`]+`(?:, )?)+)"
    sharing = {door: re.search(lead, text) for door, text in SECTIONS.items()}
    left_out = {door: re.findall(r"`([^`]+)`", found[1]) for door, found in sharing.items() if found}
    documented += [(door, name) for door, names in left_out.items() for name in shared if name not in names]
    documented.sort()
    real = sorted((door, name) for door in DOORS for name in arguments(door))
    assert len(real) > 80
    assert documented == real


def test_one_section_is_enough_for_a_script_and_short() -> None:
    """An agent reads one of them: under 3 KB."""
    assert set(SECTIONS) == set(DOORS)
    assert {script: len(text.encode()) for script, text in SECTIONS.items() if len(text.encode()) >= 3072} == {}


@pytest.mark.parametrize("row", rows_of_the_table(), ids=lambda row: f"{row.scripts[0]} {row.name}")
def test_an_argument_is_documented_as_it_is(row: Row) -> None:
    """Its value's name, its choices and its default are those of the parser."""
    for script in row.scripts:
        action = arguments(script)[row.name]
        if row.name.startswith("--"):
            assert bool(row.value) is (action.nargs != 0), "a flag has no value, an option has one"
            if action.metavar:
                assert row.value == action.metavar
        for choice in action.choices or ():
            assert f"`{choice}`" in row.meaning
        if action.default not in (None, False, []):
            default = action.default
            assert (f"{default:g}" if isinstance(default, float) else str(default)) in row.meaning


def spans(text: str) -> list[str]:
    """What stands in code style outside of fenced blocks."""
    return re.findall(r"`([^`\n]+)`", FENCE.sub("", text))


def test_every_flag_in_the_prose_exists() -> None:
    """In code style: of the script that the words name, or else of any script."""
    every = {name for door in DOORS for name in arguments(door)}
    seen = 0
    for page, text in PAGES.items():
        for span in spans(text):
            if span.startswith(("npx ", "pytest ")):
                continue  # flags of other programs
            script = re.search(r"\w+\.py\b", span)
            known = set(arguments(script[0])) if script and script[0] in DOORS else every
            for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]*", span):
                seen += 1
                assert flag in known | {"--help"}, f"{page}: `{span}` names {flag}"
    assert seen > 100


def test_every_flag_in_a_command_exists() -> None:
    """In the fenced blocks of SKILL.md and README.md; those of the references are run or checked elsewhere."""
    found = [words for text in (SKILL, README.replace(INSTALLING, "python3 ")) for block in FENCE.findall(text)
             for words in commands(block[1])]  # fmt: skip
    assert len(found) >= 15
    for script, *words in found:
        assert {word for word in words if word.startswith("--")} <= set(arguments(script)), script


@pytest.mark.parametrize("page", ["SKILL.md", "README.md"])
def test_every_shell_block_parses(page: str) -> None:
    """As bash reads it."""
    blocks = [block for kind, block in FENCE.findall(PAGES[page]) if kind == "bash"]
    assert len(blocks) >= 3
    assert len(blocks) == PAGES[page].count("```") / 2, "a block without its language is not checked"
    for block in blocks:
        subprocess.run(["bash", "-n"], input=block.encode(), check=True, capture_output=True)


# --- every key and code ---------------------------------------------------------------------------------------


def shape(text: str) -> dict[str, Any]:
    """Keys as references/commands.md writes them: `a, b?: [{c}], d: {e}`; a list of objects as the shape of one."""
    words = re.findall(r"\w+\??|[:,\[\]{}]", text)
    place = 0

    def keys() -> dict[str, Any]:
        nonlocal place
        found: dict[str, Any] = {}
        while place < len(words) and words[place] != "}":
            name, place = words[place], place + 1
            found[name] = None
            if place < len(words) and words[place] == ":":
                opening = 2 if words[place + 1] == "[" else 1
                place += opening + 1
                found[name] = keys()
                place += opening
            if place < len(words) and words[place] == ",":
                place += 1
        return found

    return keys()


def documented_keys(door: str, lead: str = "Keys: ") -> dict[str, Any]:
    section = re.search(rf"^## \d+\. {door}\n(.*?)(?=^## |\Z)", TABLE, re.MULTILINE | re.DOTALL)
    assert section, f"references/commands.md has no section on {door}"
    line = re.search(rf"^.*?{lead}((?:`.*`,?\n)+)", section[1], re.MULTILINE)
    assert line, f"the section on {door} names no keys"
    return shape(line[1].replace("`", ""))


def differences(documented: dict[str, Any], found: dict[str, Any], place: str = "") -> list[str]:
    """Keys that one side has and the other has not; `?` marks keys that may be absent."""
    told = {name.rstrip("?"): inner for name, inner in documented.items()}
    wrong = [f"{place}{name} is not documented" for name in found if name not in told]
    wrong += [f"{place}{name} is absent" for name in documented if name[-1] != "?" and name not in found]
    for name, inner in told.items():
        parts = found.get(name)
        for part in parts if isinstance(parts, list) else [parts]:
            if isinstance(part, dict):
                wrong += differences(inner or {}, part, f"{place}{name}.")
    return wrong


def test_the_notation_of_keys_is_read_as_it_is_meant() -> None:
    """Otherwise the tests of keys would compare nothing."""
    assert shape("a, b: [{c, d?: {e}}], f?") == {"a": None, "b": {"c": None, "d?": {"e": None}}, "f?": None}
    documented = shape("a, b: [{c}], f?")
    assert differences(documented, {"a": 1, "b": [{"c": 1}, {"c": 2}]}) == []
    assert differences(documented, {"b": [{"x": 1}]}) == ["a is absent", "b.x is not documented", "b.c is absent"]


def test_every_script_answers_with_the_keys_that_are_documented(
    skill_runs: dict[str, list[Ran]], settings: dict[str, str], tmp_path: Path
) -> None:
    """Each script once, successful, and the scripts of SKILL.md in all the ways that SKILL.md runs them."""
    shutil.copy(ROOT / "examples" / "reviews.csv", tmp_path)
    make = ["--input", "reviews.csv", "--model", MODEL, "--max-tokens", "9", "--prompt", "{review}"]
    calls = [
        ("create_batch_file.py", "r.jsonl", *make), ("validate_batch_file.py", "r.jsonl"), ("try_prompt.py", *make),
        ("estimate_cost.py", "r.jsonl"), ("submit.py", "r.jsonl"), ("poll.py", "r.job.json", "--wait", "60"),
        ("fetch_results.py", "r.job.json"), ("retry_failed.py", "r.job.json"), ("run_batch.py", "o.csv", *make),
        ("list_batches.py",), ("cancel.py", "r.job.json"), ("list_models.py",), ("report.py", "r.job.json"),
        ("delete_files.py", "r.job.json"),
        ("run_dataset.py", "reviews.csv", "parts", *make[2:]),
        ("compare.py", "c.csv", *make, "--prompt", "{id}", "--expected", "id"),
    ]  # fmt: skip
    answers = []
    for door, *words in calls:
        ran = run_door(door, *words, cwd=tmp_path, env=settings)
        assert ran.code == 0, ran.json
        answers.append((door, ran.json))
    answers += [
        (script.group(1), one.json) for runs in skill_runs.values() for one in runs
        if (script := re.search(r"/(\w+\.py) ", one.line))
    ]  # fmt: skip
    assert {door for door, _ in answers} == set(DOORS) - {"local_server.py"}
    for door, answer in answers:
        kept = {name: value for name, value in answer.items() if name not in ("ok", "error")}
        assert differences(documented_keys(door), kept) == [], door
    for door in ("run_batch.py", "compare.py"):
        dry = run_door(door, "dry.csv", *make, "--dry-run", cwd=tmp_path, env=settings)
        dry.json.pop("ok")
        assert differences(documented_keys(door, "`--dry-run` instead: "), dry.json) == []
    dry = run_door("run_dataset.py", "reviews.csv", "dry", *make[2:], "--dry-run", cwd=tmp_path, env=settings)
    dry.json.pop("ok")
    assert differences(documented_keys("run_dataset.py", "`--dry-run` instead: "), dry.json) == []


def test_the_local_server_answers_with_the_keys_that_are_documented(tmp_path: Path) -> None:
    """Once it listens; it ends with its standard input."""
    words = ["--while-stdin-open", "--upstream", "http://127.0.0.1:9/v1", "--data", str(tmp_path / "data")]
    server = subprocess.Popen(
        [sys.executable, SCRIPTS / "local_server.py", *words],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(),
    )  # fmt: skip
    assert server.stdout is not None
    answer = json.loads(server.stdout.readline())
    server.communicate(timeout=30)
    assert answer.pop("ok") is True
    assert differences(documented_keys("local_server.py"), answer) == []


def test_every_table_of_exit_codes_is_whole() -> None:
    """Where the codes are listed, all of them are, and none that no script ends with."""
    codes = {int(code) for code in Exit}
    whole = 0
    for page, text in PAGES.items():
        for table in re.findall(r"^\| exit \|.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE):
            listed = {int(code) for cell in re.findall(r"^\| ([\d, ]+) \|", table, re.MULTILINE)
                      for code in cell.split(",")}  # fmt: skip
            assert listed and listed <= codes, page
            if "meaning" in text[: text.index(table)].splitlines()[-2]:
                assert listed == codes, page
                whole += 1
    assert whole == 3


def test_the_skill_names_every_script_that_charges() -> None:
    """They are those that take a limit of the cost."""
    named = re.search(r"^- Charged, (.*?)\. Before", SKILL, re.MULTILINE | re.DOTALL)
    takes_limit = {path.name for path in SCRIPTS.glob("*.py") if "add_max_cost" in path.read_text(encoding="utf-8")}
    assert named and set(re.findall(r"`(\w+\.py)`", named[1])) == takes_limit


def test_every_variable_of_the_environment_is_declared() -> None:
    """In references/commands.md what the scripts read; in the head of SKILL.md what is ours of it."""
    source = "\n".join(path.read_text(encoding="utf-8") for path in SCRIPTS.rglob("*.py"))
    read = set(re.findall(r'environ(?:\.get\(|\[)"(\w+)"', source))
    section = TABLE.split("## 1. How to read the answers\n")[1].split("\n## ")[0]
    assert read == set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))
    head = yaml.safe_load(SKILL.split("---\n")[1])["metadata"]["openclaw"]
    assert {one["name"] for one in head["envVars"]} == {name for name in read if name.startswith("DOUBLEWORD_")}


# --- every file and every figure ------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_names_is_there(page: str) -> None:
    """Paths of the skill, wherever they stand; links lead to https or to a file."""
    text = PAGES[page]
    named = set(re.findall(r"(?<![\w/.])(?:references|scripts|examples|tests|agents|evals)/[\w.-]+(?:/[\w.-]+)*", text))
    named |= {f"scripts/{name}" for name in re.findall(r"(?<![\w/])\w+\.py\b", text) if name in DOORS}
    assert named
    for name in named - {"scripts/NAME.py"}:
        name = name.rstrip(".")
        assert (ROOT / name).exists(), name
    for target in LINK.findall(FENCE.sub("", text)):
        assert target.startswith(("https://", "#")) or ((ROOT / page).parent / target).is_file(), target
    assert "http://" not in text.replace("http://127.0.0.1", "").replace("http://localhost", "")


def test_the_skill_says_when_to_read_each_reference() -> None:
    """And names no other; none of them leads to a page that SKILL.md does not name."""
    named = re.findall(r"^- `references/(\w+\.md)` (?:when|before) ", SKILL, re.MULTILINE)
    assert sorted(f"references/{name}" for name in named) == sorted(name for name in PAGES if "/" in name)
    assert set(re.findall(r"references/(\w+\.md)", SKILL)) == set(named)


CLAIM = re.compile(r"USD \d|\b\d[\d,.]* ?(?:MB|MiB|GB)\b|\b(?:50,000|24,000)\b")
SOURCE = re.compile(
    r"\w\.rs\b|\[(?:guide|skill|tiers)\]|https://|SKILL\.md 2\.0\.0|`(?:references/)?\w+\.md`, section \d|\| axum \|"
)
DATE = re.compile(r"\b20\d\d-\d\d-\d\d\b")


def test_every_price_and_limit_carries_its_source_and_date() -> None:
    """In its own paragraph or line of a table; the date in its page. What the first run downloads is no limit."""
    seen = 0
    for page, text in PAGES.items():
        prose = FENCE.sub("", text)
        for paragraph in re.split(r"\n\n|\n(?=\||- )", prose):
            if CLAIM.search(paragraph) and "packages" not in paragraph:
                seen += 1
                assert SOURCE.search(paragraph), f"{page} names no source: {paragraph}"
                assert DATE.search(prose) or "section" in paragraph, f"{page} names no date"
    assert seen >= 8


def test_every_price_that_an_estimate_uses_carries_its_source_and_date(skill_runs: dict[str, list[Ran]]) -> None:
    """No page states a price; `estimate_cost.py` does."""
    prices = skill_runs["The default path"][1].json["prices"]
    assert [price["model"] for price in prices] == [MODEL]
    assert DATE.fullmatch(prices[0]["date"]) and prices[0]["source"].startswith("https://")
