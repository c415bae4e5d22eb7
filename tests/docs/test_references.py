"""The reference pages: every example is valid, every command parses, every flag, script, link and code exists."""

from __future__ import annotations

import ast
import csv
import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet
from tests.door import call_door

from doubleword.batch_files.check import check
from doubleword.failure import Exit
from doubleword.system import Disk

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "scripts"
PAGES = sorted((ROOT / "references").glob("*.md"))
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")


def blocks(kind: str) -> list[tuple[str, str]]:
    """(page and number, text) of every fenced block of `kind` in the reference pages."""
    return [
        (f"{page.name}#{number}", text)
        for page in PAGES
        for number, (found, text) in enumerate(FENCE.findall(page.read_text(encoding="utf-8")))
        if found == kind
    ]


def named(blocks: list[tuple[str, str]]) -> list[ParameterSet]:
    assert blocks, "a check that finds nothing to check is no check"
    return [pytest.param(text, id=name) for name, text in blocks]


def test_there_are_the_four_reference_pages() -> None:
    """SKILL.md names them."""
    names = [page.name for page in PAGES]
    assert {"api_reference.md", "request_lines.md", "troubleshooting.md", "use_cases.md"} <= set(names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_opens_with_when_to_read_it_and_what_it_holds(page: Path) -> None:
    """An agent decides by the first lines, and finds its place by the table of contents."""
    text = page.read_text(encoding="utf-8")
    assert re.search(r"\bRead this (when|before|if)\b", text[:600])
    contents = re.search(r"^## Contents\n(.*?)^## ", text, re.MULTILINE | re.DOTALL)
    assert contents
    headings = [line[3:] for line in text.splitlines() if line.startswith("## ") and line != "## Contents"]
    assert len(LINK.findall(contents.group(1))) == len(headings)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_within_the_skill_resolves(page: Path) -> None:
    """To a heading of the page, or to a file of the skill."""
    text = page.read_text(encoding="utf-8")
    prose = FENCE.sub("", text)
    anchors = {
        re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in prose.splitlines()
        if line.startswith("#")
    }
    targets = LINK.findall(prose)
    assert targets
    for target in targets:
        if target.startswith("#"):
            assert target[1:] in anchors, target
        elif not target.startswith("https://"):
            assert (page.parent / target).is_file(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_named_in_a_page_exists(page: Path) -> None:
    """Scripts, example tables and the other pages, wherever they are mentioned in code style."""
    text = page.read_text(encoding="utf-8")
    mentioned = set(re.findall(r"[\w/]*\b\w+\.(?:py|csv)\b", " ".join(re.findall(r"`([^`\n]+)`", FENCE.sub("", text)))))
    scripts = {name for name in mentioned if name.endswith(".py")}
    assert scripts
    for name in scripts:
        assert (SCRIPTS / name.removeprefix("SKILL/").removeprefix("scripts/")).is_file(), name
    for name in re.findall(r"\$SKILL/([\w./-]+)", text):
        assert (ROOT / name).is_file(), name


@pytest.mark.parametrize("text", named(blocks("jsonl")))
def test_every_example_line_is_valid(tmp_path: Path, text: str) -> None:
    """As `validate_batch_file.py` judges, so that nobody copies a line that is refused."""
    path = tmp_path / "example.jsonl"
    path.write_text(text, encoding="utf-8")
    found = check([path], Disk())
    assert found.requests >= 1
    assert not found.errors


@pytest.mark.parametrize("text", named(blocks("json")))
def test_every_json_example_is_json(text: str) -> None:
    """Also those that are no request lines."""
    for line in text.splitlines() if "\n{" in text else [text]:
        json.loads(line)


@pytest.mark.parametrize("text", named(blocks("bash")))
def test_every_shell_block_parses(text: str) -> None:
    """With the shell itself; no block asks a question or changes the folder."""
    subprocess.run(["bash", "-n"], input=text.encode(), check=True, capture_output=True)
    assert not re.search(r"^\s*(cd|read|sudo|rm)\b", text, re.MULTILINE)


def commands(text: str) -> list[list[str]]:
    """The words of every command of this skill in a shell block, beginning with the script's name."""
    lexer = shlex.shlex(text.replace("\\\n", " "), posix=True, punctuation_chars="\n;|&")
    lexer.whitespace, lexer.whitespace_split = " \t", True
    found: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= set("\n;|&"):
            found.append([])
        else:
            found[-1].append(word.replace("$SKILL", str(ROOT)))
    scripts = [words[1:] for words in found if words[:1] == ["python3"] and words[1].endswith(".py")]
    return [[Path(script).name, *words] for script, *words in scripts]


def test_every_flag_in_a_command_exists() -> None:
    """As the script's own help lists it."""
    found = [(place, words) for place, text in blocks("bash") for words in commands(text)]
    assert len(found) > 50
    help_texts: dict[str, str] = {}
    for place, (script, *words) in found:
        if script not in help_texts:
            call = [sys.executable, str(SCRIPTS / script), "--help"]
            help_texts[script] = subprocess.run(call, capture_output=True, check=True, text=True).stdout
        for flag in (word for word in words if word.startswith("--")):
            assert re.search(rf"{flag}\b", help_texts[script]), f"{place}: {script} has no {flag}"


@pytest.mark.parametrize("text", named([one for one in blocks("bash") if "create_batch_file.py" in one[1]]))
def test_a_recipe_makes_a_valid_batch_file_of_known_cost(tmp_path: Path, text: str) -> None:
    """Up to the submit every command runs as it stands; a table that an earlier recipe makes is stood in for."""
    enriched = (
        "id,company,country,evidence,industry,opening_line\nl01,Brunnhof,AT,It has a cold store.,dairy,Good day.\n"
    )
    (tmp_path / "leads_enriched.csv").write_text(enriched, encoding="utf-8")
    for script, *words in commands(text):
        if script not in ("create_batch_file.py", "estimate_cost.py"):
            continue
        found = call_door(script, *words, cwd=tmp_path)
        assert found.code == 0, found.json
        assert found.json["warnings"] == []
        if script == "estimate_cost.py":
            assert found.json["cost_usd"] is not None, f"no price for {found.json['unknown_prices']}"
            assert found.json["ceiling_usd"] is not None, "a recipe sets --max-tokens"


def test_a_recipe_hands_its_files_on() -> None:
    """What one command writes is what the next one takes, so that the five commands work in a row."""
    recipes = [text for place, text in blocks("bash") if place.startswith("use_cases") and "submit.py" in text]
    assert len(recipes) >= 9
    for text in recipes:
        called = {script: words for script, *words in commands(text)}
        batch_file = called["create_batch_file.py"][0]
        job = batch_file.replace(".jsonl", ".job.json")
        assert list(called) == ["create_batch_file.py", "estimate_cost.py", "submit.py", "poll.py", "fetch_results.py"]
        assert called["estimate_cost.py"][0] == called["submit.py"][0] == batch_file
        assert called["poll.py"][0] == called["fetch_results.py"][0] == job
        made = called["create_batch_file.py"]
        if "--join" in called["fetch_results.py"]:
            joined = called["fetch_results.py"][called["fetch_results.py"].index("--join") + 1]
            assert joined == made[made.index("--input") + 1]
        assert "--max-cost" in called["submit.py"]


# --- error codes ----------------------------------------------------------------------------------------------


def codes_in_source() -> dict[str, set[int]]:
    """Every code word of an error, and the exit codes it comes with.

    It is the word after an exit code in a call or a tuple of the source. Where a function puts the exit code before
    a `code` that it is given (`sources.BadRow`, `Source.failure`), it is every word that such a call gives.
    """
    found: dict[str, set[int]] = defaultdict(set)

    def words(nodes: Iterable[ast.AST], form: str = r"[a-z]+_[a-z_]+") -> Iterator[str]:
        values = (one.value for node in nodes for one in ast.walk(node) if isinstance(one, ast.Constant))
        return (value for value in values if isinstance(value, str) and re.fullmatch(form, value))

    for path in SCRIPTS.rglob("*.py"):
        if "engine" in path.parts:
            continue  # it is the server, and its words reach the user as the server's message
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            parts = node.args if isinstance(node, ast.Call) else node.elts if isinstance(node, ast.Tuple) else []
            for first, second in itertools.pairwise(parts):
                if isinstance(first, ast.Attribute) and ast.unparse(first.value) == "Exit":
                    for word in words([second], "[a-z_]+"):
                        found[word].add(Exit[first.attr])
            if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("BadRow", "failure"):
                for word in words(node.args[1:]):
                    found[word].add(Exit.BAD_INPUT)
            if isinstance(node, ast.FunctionDef) and "code" in [one.arg for one in node.args.args]:
                for word in words(node.args.defaults):
                    found[word].add(Exit.BAD_INPUT)
    return found


def test_every_error_code_has_its_line_in_troubleshooting() -> None:
    """Once, under an exit code that it comes with; and no line is about a code that is no more."""
    text = (ROOT / "references" / "troubleshooting.md").read_text(encoding="utf-8")
    exits: dict[str, set[int]] = {}
    for heading, table in re.findall(r"^\*\*Exit ([\d, ]+)[^\n]*\n\n((?:\|.*\n)+)", text, re.MULTILINE):
        for code in re.findall(r"^\| `(\w+)`", table, re.MULTILINE):
            assert code not in exits, f"{code} has two lines"
            exits[code] = {int(number) for number in re.findall(r"\d", heading)}
    source = codes_in_source()
    assert len(source) > 70
    assert set(exits) == set(source)
    for code, under in exits.items():
        assert under & source[code], f"{code} comes with exit {source[code]}"


# --- the example tables ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.csv")), ids=lambda path: path.name)
def test_example_tables_are_whole_and_small(path: Path) -> None:
    """8 to 12 rows, no empty cell, a first column that can be the custom_id."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert 8 <= len(rows) <= 12
    assert all(cell and isinstance(cell, str) for row in rows for cell in row.values())
    keys = [next(iter(row.values())) for row in rows]
    assert len(set(keys)) == len(keys)


def test_the_shell_is_there() -> None:
    """Without bash the checks of shell blocks would be empty."""
    assert shutil.which("bash", path=os.environ.get("PATH"))
