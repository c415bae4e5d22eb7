"""Every command of the recipes, run as it stands in the page, in the order of the page, by the shell."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.door import environment
from tests.engine_process import RunningEngine, engine_with_upstream

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "references" / "use_cases.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```bash\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
RATED = {"about": "quality", "because": "It broke.", "rating": 2}
REVIEW = {"about": "quality", "because": "It broke.", "mood": "unhappy"}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngine]:
    """The embedded engine before an upstream that has the models of the recipes and answers at once."""
    with engine_with_upstream(tmp_path_factory.mktemp("engine")) as running:
        running.upstream.models = sorted(set(re.findall(r"--model (\S+)", PAGE)))
        running.upstream.say("Stars:", json.dumps(REVIEW))
        running.upstream.say("Rate what", json.dumps(RATED))
        yield running


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder, with a blank in its name and a `python3` that has the packages."""
    made = tmp_path_factory.mktemp("a user's folder")
    shim = made / "bin" / "python3"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    shim.chmod(0o755)
    return made


@pytest.fixture(scope="module")
def said(engine: RunningEngine, folder: Path) -> list[str]:
    """What each block printed; a block is stopped by the first command that does not end with 0."""
    settings = {"DOUBLEWORD_BASE_URL": engine.base_url, "DOUBLEWORD_API_KEY": engine.key, "SKILL": str(ROOT)}
    whole = environment(settings)
    whole["PATH"] = f"{folder / 'bin'}:{whole['PATH']}"
    printed = []
    for block in BLOCKS:
        done = subprocess.run(
            ["bash", "-e", "-c", block.replace("/abs/path/doubleword-api", str(ROOT))],
            cwd=folder,
            env=whole,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        printed.append(done.stdout)
    return printed


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_block_of_the_page_runs(said: list[str]) -> None:
    """Model, key and table are the only things a user has to change."""
    assert len(said) == len(BLOCKS) >= 12


@pytest.mark.parametrize(
    ("table", "made", "answer"),
    [
        ("examples/reviews.csv", "reviews_read.csv", "mood"),
        ("examples/leads.csv", "leads_enriched.csv", "opening_line"),
        ("examples/ads.csv", "ads_written.csv", "answer"),
        ("examples/catalogue.csv", "catalogue_seo.csv", "meta_description"),
        ("examples/survey.csv", "survey_coded.csv", "code"),
        ("examples/tickets.csv", "tickets_sorted.csv", "team"),
        ("examples/catalogue.csv", "catalogue_de.csv", "answer"),
        ("examples/leads.csv", "mails_written.csv", "result_answer"),
        ("examples/reviews.csv", "reviews_week_47.csv", "answer"),
        ("examples/reviews.csv", "reviews_rated.csv", "rating"),
        ("examples/complaints.csv", "models_compared.csv", "gpt-oss-20b.topic"),
    ],
)
@pytest.mark.usefixtures("said")
def test_a_recipe_ends_with_an_answer_for_every_row(folder: Path, table: str, made: str, answer: str) -> None:
    """In the order of the table, its columns first and unchanged."""
    before, after = rows(ROOT / table), rows(folder / made)
    assert [{name: row[name] for name in before[0]} for row in after] == before
    assert all(row[answer] for row in after)


@pytest.mark.usefixtures("said")
def test_structured_answers_come_back_as_json(folder: Path) -> None:
    """The whole answer stands in its cell, to be read by the next program."""
    assert all(json.loads(row["answer"]) == REVIEW for row in rows(folder / "reviews_read.csv"))
    assert all("code" in json.loads(row["result_answer"]) for row in rows(folder / "survey_coded.csv"))


@pytest.mark.usefixtures("said")
def test_a_schema_becomes_columns(folder: Path) -> None:
    """One for each of its fields, by the name that it has there."""
    assert all(
        json.loads(row["rating"]) == 2 and row["about"] == "quality" for row in rows(folder / "reviews_rated.csv")
    )


def test_the_programs_between_the_commands_work(said: list[str]) -> None:
    """The count of themes, and the three nearest companies."""
    assert any("Counter({'quality': 12})" in text for text in said)
    (near,) = (text for text in said if re.search(r"^l0\d 0\.\d+$", text, re.MULTILINE))
    assert len(re.findall(r"^l0[1345678] [01]\.\d+$", near, re.MULTILINE)) == 3


def test_a_recipe_run_again_costs_nothing(engine: RunningEngine, folder: Path, said: list[str]) -> None:
    """The page promises it of the recurring job: the same command again asks the model nothing."""
    before = engine.upstream.count()
    block = next(block for block in BLOCKS if "run_batch.py" in block)
    settings = {"DOUBLEWORD_BASE_URL": engine.base_url, "DOUBLEWORD_API_KEY": engine.key, "SKILL": str(ROOT)}
    done = subprocess.run(
        ["bash", "-c", block.replace("python3", f'"{sys.executable}"', 1)],
        cwd=folder,
        env=environment(settings),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert said
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout)["complete"] is True
    assert engine.upstream.count() == before
