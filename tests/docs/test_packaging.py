"""What is installed: the right files, valid for every host, used read-only, with nothing for a reviewer to explain."""

from __future__ import annotations

import ast
import csv
import fnmatch
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
import yaml  # type: ignore[import-untyped,unused-ignore]
from tests.door import environment
from tests.engine_process import engine_with_upstream

ROOT = Path(__file__).resolve().parents[2]
NAME = "doubleword-api"
SKILL = (ROOT / "SKILL.md").read_text(encoding="utf-8")
HEAD, BODY = SKILL.split("---\n", 2)[1:]


def ignored(path: str, patterns: list[str]) -> bool:
    """Whether the ignore files leave `path` (relative, with slashes) out: the last pattern that matches decides.

    As in .gitignore, for the forms that are used here; a folder that is left out takes all below it along.
    """
    parts = path.split("/")
    for depth in range(1, len(parts) + 1):
        place, decided = "/".join(parts[:depth]), False
        for pattern in patterns:
            kept = pattern.startswith("!")
            text = pattern.lstrip("!")
            folder, text = text.endswith("/"), text.rstrip("/")
            if folder and depth == len(parts):
                continue
            subject = place if "/" in text else parts[depth - 1]
            if fnmatch.fnmatchcase(subject, text.lstrip("/")) and subject.count("/") == text.lstrip("/").count("/"):
                decided = not kept
        if decided:
            return True
    return False


def installed_files() -> list[str]:
    """What the registry's client would publish: no dot paths, nothing that .gitignore or .clawhubignore leaves out."""
    lines = [line for name in (".gitignore", ".clawhubignore") for line in (ROOT / name).read_text().splitlines()]
    patterns = [line for line in lines if line and not line.startswith("#")]
    found = []
    for folder, folders, names in os.walk(ROOT):
        place = Path(folder).relative_to(ROOT)
        folders[:] = [one for one in folders if not one.startswith(".") and not ignored(f"{place / one}/x", patterns)]
        found += [(place / name).as_posix() for name in names if not name.startswith(".")]
    return sorted(path for path in found if not ignored(path, patterns))


FILES = installed_files()


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The installed skill: mode 644, read-only folders, a path with spaces and an apostrophe."""
    made = tmp_path_factory.mktemp("a user's skills") / "all skills" / NAME
    for name in FILES:
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, made / name)
        (made / name).chmod(0o644)
    folders = [made, *(path for path in made.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    yield made
    for folder in folders:
        folder.chmod(0o755)


# --- the right files ------------------------------------------------------------------------------------------


def test_what_installs_is_what_is_needed() -> None:
    """The skill, its licence and what SKILL.md refers to: no tests, caches, benchmarks, jobs or tools."""
    tops = {name.split("/")[0] for name in FILES}
    assert tops == {"SKILL.md", "LICENSE", "agents", "examples", "references", "scripts"}
    assert {Path(name).suffix for name in FILES if "/" in name} == {
        ".py",
        ".md",
        ".csv",
        ".json",
        ".yaml",
        ".html",
        ".css",
        ".js",
    }
    tracked = {path.relative_to(ROOT).as_posix() for path in (ROOT / "scripts").rglob("*") if path.suffix == ".py"}
    assert tracked <= set(FILES)


@pytest.mark.parametrize(
    ("path", "left_out"),
    [
        ("tests/door.py", True), ("pyproject.toml", True), ("README.md", True), ("evals/grade.py", True),
        ("scripts/__pycache__/poll.cpython-310.pyc", True), ("scripts/doubleword/__pycache__/x", True),
        ("examples/reviews.jsonl", True), ("examples/reviews.local/engine.log", True), ("dist/x.zip", True),
        ("scripts/doubleword/engine/app.py", False), ("SKILL.md", False), ("examples/ads.csv", False),
    ],
)  # fmt: skip
def test_the_ignore_files_say_so(path: str, left_out: bool) -> None:
    """Also for files that are not there now."""
    lines = [line for name in (".gitignore", ".clawhubignore") for line in (ROOT / name).read_text().splitlines()]
    assert ignored(path, [line for line in lines if line and not line.startswith("#")]) is left_out


def test_every_host_takes_the_files() -> None:
    """At most 256 files, 1 MiB each and 8 MiB together; no plugin manifest, no link, no reserved name."""
    sizes = [(ROOT / name).stat().st_size for name in FILES]
    assert len(FILES) <= 256 and max(sizes) <= 1 << 20 and sum(sizes) <= 8 << 20
    assert not {Path(name).name for name in FILES} & {
        "plugin.json",
        "openclaw.plugin.json",
        "package.json",
        "skill-card.md",
    }
    assert not any((ROOT / name).is_symlink() for name in FILES)


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".py")])
def test_a_script_is_valid_in_the_oldest_python(name: str) -> None:
    """Its syntax is that of Python 3.10."""
    ast.parse((ROOT / name).read_text(encoding="utf-8"), feature_version=(3, 10))


# --- it works where it is installed ---------------------------------------------------------------------------


def test_a_job_runs_from_the_installed_copy(copy: Path, tmp_path: Path) -> None:
    """From another folder, table in and table out; afterwards the copy is as it was."""
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
    work = tmp_path / "else where"
    work.mkdir()
    with engine_with_upstream(tmp_path / "engine") as engine:
        done = subprocess.run(
            [sys.executable, "-B", copy / "scripts" / "run_batch.py", "answers.csv", "--input",
             copy / "examples" / "reviews.csv", "--model", "test-chat", "--prompt", "{review}"],
            cwd=work, env=environment({"DOUBLEWORD_API_KEY": engine.key, "DOUBLEWORD_BASE_URL": engine.base_url}),
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["complete"] is True
    with (work / "answers.csv").open(newline="", encoding="utf-8") as file:
        assert all(row["answer"] for row in csv.DictReader(file))
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*")} == before


# --- valid for every host -------------------------------------------------------------------------------------


def test_the_validator_of_the_specification_takes_it(copy: Path) -> None:
    """`agentskills validate`, on a folder of the skill's name."""
    pytest.importorskip("skills_ref", reason="skills-ref needs Python 3.11")
    program = Path(sys.executable).with_name("agentskills")
    done = subprocess.run([program, "validate", copy], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr


def test_every_parser_reads_the_same_head() -> None:
    """strictyaml, which reads everything as text, and PyYAML agree."""
    strictyaml = pytest.importorskip("strictyaml", reason="comes with skills-ref, which needs Python 3.11")

    def as_text(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: as_text(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [as_text(one) for one in value]
        return str(value).lower() if isinstance(value, bool) else str(value)

    assert as_text(yaml.safe_load(HEAD)) == strictyaml.load(HEAD).data


def test_the_head_says_what_hosts_ask_for() -> None:
    """The name of the folder, six keys at most, a description whose first sentence stands alone."""
    head = yaml.safe_load(HEAD)
    assert set(head) <= {"name", "description", "license", "compatibility", "metadata", "allowed-tools"}
    assert head["name"] == NAME and head["license"] == "MIT-0"
    description = head["description"]
    assert len(description) <= 1024 and not re.search(r"[<>]|---", description)
    assert "Use when" in description and "Not for" in " ".join(description.split())
    assert 40 <= len(re.split(r"(?<=\.) ", description)[0]) <= 160
    assert len(head["compatibility"]) <= 500
    assert set(head["metadata"]) == {"version", "openclaw"}
    openclaw = head["metadata"]["openclaw"]
    assert openclaw["primaryEnv"] == "DOUBLEWORD_API_KEY"
    assert {"DOUBLEWORD_API_KEY", "DOUBLEWORD_BASE_URL"} <= {one["name"] for one in openclaw["envVars"]}
    version = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version and version[1] == head["metadata"]["version"]


def test_no_host_changes_the_text() -> None:
    """Nothing that Claude Code replaces or runs when it loads SKILL.md, nothing invisible, and not too long."""
    assert len(SKILL.encode()) <= 12 * 1024 and len(SKILL.splitlines()) <= 500
    assert not re.search(r"\$\d|\$ARGUMENTS|!`|\{baseDir\}|<!--|\bcd ", BODY)
    assert BODY.index("this skill's folder") < BODY.index("```")
    assert BODY.index("## What it touches") < 6000


def test_the_card_for_codex_is_whole() -> None:
    """Its limits are those of the registry and of Codex's list of skills."""
    card = yaml.safe_load((ROOT / "agents" / "openai.yaml").read_text(encoding="utf-8"))
    assert set(card) == {"interface"}
    assert set(card["interface"]) == {"display_name", "short_description", "default_prompt"}
    assert 25 <= len(card["interface"]["short_description"]) <= 64
    assert f"${NAME}" in card["interface"]["default_prompt"]


# --- nothing to explain ---------------------------------------------------------------------------------------

PLACEHOLDER = r"(?!.{0,40}(?:your|example|placeholder|changeme|redacted|dummy|sample|test-))"
SECRET = r"(?:api[_ -]?key|client[_ -]?secret|access[_ -]?token|password)"
# What the registry's static scan and the scanners it asks look for: (which files, expression, what must trip it).
RULES: dict[str, tuple[str, str, str]] = {
    "a secret beside its name": (
        "*",
        SECRET + r"""["'`]?\s*[:=]\s*["'`]?""" + PLACEHOLDER + r"[\w./+-]{16,}",
        'api_key = "a8f5f167f44f4964e6c998de"',
    ),
    "a secret by its prefix": (
        "*",
        r"\b(?:[sap]k-|gh[pousr]_|xox[abprs]-|ya29\.|eyJ)[\w-]{12,}",
        "ghp_abcdefghijkl1234",
    ),
    "a secret in a header": ("*", r"Bearer [\w.~+/-]{15,}", "Authorization: Bearer abcdefghijklmnop"),
    "words to the model": (
        "*",
        r"ignore (?:all )?previous instructions|you are now an?\b|system[\s_-]+prompt\s*[:=]",
        'system_prompt = "x"',
    ),
    "a long blob": ("*", r"[A-Za-z0-9+/=]{200,}", "QUJD" * 60),
    "escaped code": ("*", r"(?:\\x[0-9a-f]{2}){6}", r"\x61\x62\x63\x64\x65\x66"),
    "invisible signs": ("*", "[\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]", "a\u200bb"),
    "code made at run time": ("*.py", r"(?<![\w.])(?:eval|exec|compile|__import__)\(|exec_module\(", "eval(text)"),
    "a shell": ("*.py", r"shell\s*=\s*True|os\.(?:system|popen)\(", "run(line, shell=True)"),
    "TLS that is not verified": (
        "*",
        r"verify\s*=\s*False|CERT_NONE|check_hostname\s*=\s*False",
        "get(url, verify=False)",
    ),
    "no end of waiting": ("*.py", r"timeout\s*=\s*(?:None|0)\s*[,)]", "get(url, timeout=None)"),
    "the whole environment read": (
        "*.py",
        r"dict\(os\.environ|os\.environ\.(?:copy|items|keys|values)\(|in os\.environ\b",
        "for name in os.environ:",
    ),
    "a file sent encoded": ("*.py", r"b64encode\(\s*open\(", "b64encode(open(path, 'rb').read())"),
    "a secret as an argument": (
        "*.md",
        r"(?:python3?|uv run|npx|node|uvx)\b.*--(?:token|password|private-key|api-key)\b",
        "npx x --token abc",
    ),
    "a secret in an address": ("*", r"https?://[^/\s`]*(?:TOKEN|KEY|password)\w*@", "https://$TOKEN@host/x"),
    "a download that is run": ("*", r"(?:curl|wget)\b[^\n|]*\|\s*(?:ba|z)?sh\b", "curl https://x | sh"),
    "what deletes": ("*.md", r"\brm -[a-z]*[rf]", "rm -rf folder"),
    "a tool without its version": ("*.md", r"@latest\b|\b(?:npx|uvx) (?!\S+@\d)", "npx clawhub verify"),
    "an address that hides": (
        "*",
        r"https?://(?:bit\.ly|tinyurl\.com|t\.co)/|https?://(?!127\.0\.0\.1)\d+\.\d+\.\d+\.\d+",
        "https://bit.ly/x",
    ),
    "doing it unasked": (
        "*.md",
        r"without asking|automatically execut|--(?:auto-approve|no-confirm)|\bnohup\b|always: true",
        "always: true",
    ),
    "a filled-in source": ("*.md", r"""\w+ = ["']\$\{\w+\}["']""", 'x = "${name}"'),
}


def trips(rule: str, name: str, text: str) -> list[str]:
    """The lines of `text` that trip a rule, as file:line: text."""
    files, expression, _ = RULES[rule]
    if not fnmatch.fnmatchcase(name, files):
        return []
    found = enumerate(text.splitlines(), 1)
    return [f"{name}:{number}: {line[:160]}" for number, line in found if re.search(expression, line, re.IGNORECASE)]


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_of_the_registry_is_kept(rule: str) -> None:
    """The rule finds what it is for, and nothing of it in the installed files; a failure names file and line."""
    files, _, example = RULES[rule]
    assert trips(rule, files.replace("*", "x"), example), "this rule finds nothing at all"
    found = [hit for name in FILES for hit in trips(rule, name, (ROOT / name).read_text(encoding="utf-8"))]
    assert found == []


def test_a_key_is_read_in_a_function_of_its_own() -> None:
    """One return that only reads, so that nobody has to follow the key through the code."""
    readers = {}
    for name in FILES:
        if not name.endswith(".py"):
            continue
        text = (ROOT / name).read_text(encoding="utf-8")
        reading = re.compile(r'environ(?:\.get\(|\[)"\w*KEY"')
        functions = ast.walk(ast.parse(text)) if reading.search(text) else ()
        for node in functions:
            if isinstance(node, ast.FunctionDef) and reading.search(ast.get_source_segment(text, node) or ""):
                readers[node.name] = node
    assert len(readers) == 2, f"the key and the key of an upstream: {sorted(readers)}"
    for reader in readers.values():
        statements = [one for one in reader.body if not isinstance(one, ast.Expr)]
        assert len(statements) == 1 and isinstance(statements[0], ast.Return)
        calls = [one for one in ast.walk(statements[0]) if isinstance(one, ast.Call)]
        assert {ast.unparse(one.func).rsplit(".", 1)[-1] for one in calls} <= {"get", "strip"}
