"""compare.py end to end: what it says of answers, each number worked out by hand, and what it writes."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.compare.conftest import PRICE, A, B, Bench
from tests.docs.test_docs import SECTIONS
from tests.door import SCRIPTS

TEN = [f"r{number}" for number in range(10)]
EXPECTED = ["yes"] * 5 + ["no"] * 5
SAID_A = ["yes", "yes", "yes", "yes", "no", "no", "no", "no", "no", "yes"]  # 8 of 10
SAID_B = ["yes", "Yes ", "yes", "no", "no", "no", "no", "no", "yes", "maybe"]  # 6 of 10
MOOD = {
    "type": "object",
    "properties": {"label": {"type": "string", "enum": ["yes", "no"]}, "sure": {"type": "integer"}},
    "required": ["label", "sure"],
    "additionalProperties": False,
}


def table(bench: Bench, expected: Sequence[str] = EXPECTED, names: Sequence[str] = TEN) -> None:
    lines = [f"{name},{label}" for name, label in zip(names, expected, strict=True)]
    (bench.folder / "t.csv").write_text("\n".join(["title,label", *lines]) + "\n")


def say(bench: Bench, prompt: str, answers: Sequence[Any]) -> None:
    for name, answer in zip(TEN, answers, strict=True):
        bench.engine.upstream.say(f"{prompt} {name}!", answer if isinstance(answer, str) else json.dumps(answer))


@pytest.fixture
def two(bench: Bench) -> Iterator[Bench]:
    """Two prompts to one model, whose answers are as above."""
    table(bench)
    say(bench, "A", SAID_A)
    say(bench, "B", SAID_B)
    (bench.folder / "a.txt").write_text("A {title}!")
    (bench.folder / "b.txt").write_text("B {title}!")
    yield bench


PROMPTS = ("--prompt-file", "a.txt", "--prompt-file", "b.txt")


def test_the_numbers_are_those_of_the_hand(two: Bench) -> None:
    """Agreement 7 of 10, kappa (0.7 - 0.45) / 0.55 of labels, accuracy 8 and 6 of 10 with Wilson's intervals."""
    found = two.compare(*PROMPTS, "--expected", "label", models=(A,))
    assert found.code == 0, found.json
    one, other = found.json["variants"]
    assert (one["name"], other["name"]) == (f"{A}+a", f"{A}+b")
    assert one["accuracy"] == {"value": 0.8, "low": 0.4902, "high": 0.9433, "right": 8, "rows": 10}
    assert other["accuracy"] == {"value": 0.6, "low": 0.3127, "high": 0.8318, "right": 6, "rows": 10}
    assert one["confusion"] == {"no": {"no": 4, "yes": 1}, "yes": {"yes": 4, "no": 1}}
    assert other["confusion"]["no"] == {"no": 3, "maybe": 1, "yes": 1}
    assert other["classes"]["yes"] == {"rows": 5, "precision": 0.75, "recall": 0.6}
    (pair,) = found.json["pairs"]
    assert (pair["a"], pair["b"], pair["rows"], pair["agreement"]) == (one["name"], other["name"], 10, 0.7)
    # A says yes 5 times and no 5, B yes 4, no 5 and maybe once: 0.5 * 0.4 + 0.5 * 0.5 = 0.45 by chance.
    assert pair["kappa"] == round((0.7 - 0.45) / 0.55, 4)
    assert (pair["low"], pair["high"]) == (0.3968, 0.8922)
    assert pair["expected"] == {"a_only": 2, "b_only": 0, "p": 0.5, "better": None}


def test_one_that_is_better_is_called_so(bench: Bench) -> None:
    """All of ten rows against none: one chance in 512."""
    table(bench)
    say(bench, "A", EXPECTED)
    found = bench.compare("--prompt", "A {title}!", "--prompt", "B {title}!", "--expected", "label", models=(A,))
    (pair,) = found.json["pairs"]
    assert pair["expected"] == {"a_only": 10, "b_only": 0, "p": 0.002, "better": f"{A}+prompt1"}
    assert pair["agreement"] == 0.0


def test_the_table_has_the_source_and_each_variant_beside_it(two: Bench) -> None:
    """Its cells unchanged, in its order; the file of numbers has all that was said."""
    (two.folder / "t.csv").write_text((two.folder / "t.csv").read_text().replace("r3,yes", "r3,007"))
    found = two.compare(*PROMPTS, models=(A,))
    rows = two.rows()
    assert list(rows[0]) == [
        "title", "label", f"{A}+a.answer", f"{A}+a.status", f"{A}+a.error", f"{A}+b.answer", f"{A}+b.status",
        f"{A}+b.error",
    ]  # fmt: skip
    assert [row["title"] for row in rows] == TEN and rows[3]["label"] == "007"
    assert [row[f"{A}+b.answer"] for row in rows] == SAID_B
    numbers = two.summary()
    assert numbers["kind"] == "doubleword comparison" and numbers["variants"] == found.json["variants"]


def test_structured_answers_agree_field_by_field(bench: Bench) -> None:
    """`<variant>.<field>`; one that breaks its schema is wrong, and in no pair; 1 and 1.0 are one number."""
    table(bench)
    (bench.folder / "mood.json").write_text(json.dumps(MOOD))
    say(bench, "A", [{"label": label, "sure": 1} for label in SAID_A])
    say(bench, "B", [{"label": label.strip().lower(), "sure": 1} for label in SAID_B])
    more = ["--prompt", "A {title}!", "--prompt", "B {title}!", "--response-schema", "mood.json", "--expected", "label"]
    found = bench.compare(*more, models=(A,))
    assert found.code == 6, found.json
    one, other = found.json["variants"]
    assert one["accuracy"]["value"] == 0.8 and other["accuracy"] == {**other["accuracy"], "right": 6, "rows": 10}
    assert other["answers"]["invalid"] == 1 and other["counts"]["failed"] == 1
    assert " for 20 answers" in found.json["bill"] and "not charged" not in found.json["bill"]  # an invalid one is paid
    (pair,) = found.json["pairs"]
    assert pair["rows"] == 9 and pair["agreement"] == pair["fields"]["label"]["agreement"] == round(7 / 9, 4)
    assert pair["fields"]["sure"] == {"agreement": 1.0, "kappa": None}
    row = bench.rows()[9]
    assert (row[f"{A}+prompt1.label"], row[f"{A}+prompt1.sure"]) == ("yes", "1")
    assert (row[f"{A}+prompt2.label"], row[f"{A}+prompt2.status"]) == ("", "invalid")
    assert "maybe" in row[f"{A}+prompt2.answer"]


def test_costs_are_of_the_sample_and_projected_to_the_table(bench: Bench) -> None:
    """Billed as the engine's ledger has it; three of four rows asked, so a third more in the whole."""
    found = bench.compare("--rows", "3")
    spent = sum(float(one.cost_usd or 0) for one in bench.engine.ledger())
    assert found.json["cost_usd"] == pytest.approx(spent) and found.json["cost_source"] == "billed"
    for one in found.json["variants"]:
        assert one["usage"]["completion_tokens"] == 9 and one["projection"]["completion_tokens"] == 12
        assert one["cost_usd"] == pytest.approx(spent / 2)
        whole = one["projection"]["prompt_tokens"] + one["projection"]["completion_tokens"]
        assert one["projection"]["24h"] == pytest.approx(whole * PRICE["24h"][0] / 1e6)


def test_a_variant_that_fails_leaves_the_others(bench: Bench) -> None:
    """Exit 6 with its cause; nothing is said of rows that only one of a pair answered."""
    bench.engine.upstream.fail("Please", 400)
    found = bench.compare("--prompt-file", "short.txt", "--prompt-file", "long.txt", "--expected", "label", models=(A,))
    assert found.code == 6
    good, bad = found.json["variants"]
    assert (good["counts"]["succeeded"], bad["counts"]["failed"]) == (4, 4)
    assert bad["accuracy"]["value"] is None and bad["accuracy"]["rows"] == 0
    (pair,) = found.json["pairs"]
    assert (pair["rows"], pair["agreement"], pair["kappa"], pair["expected"]["better"]) == (0, None, None, None)
    (failure,) = found.json["failures"]
    assert failure["variant"] == f"{A}+long" and failure["count"] == 4 and "told to fail" in failure["cause"]
    assert "told to fail" in bench.rows()[0][f"{A}+long.error"]


def test_what_failed_is_asked_again_by_the_usual_script(bench: Bench) -> None:
    """Each variant is a job like any other; afterwards the comparison takes what the retry brought."""
    bench.engine.upstream.fail("two", 409, times=1)
    first = bench.compare()
    (broken,) = (one for one in first.json["variants"] if one["counts"]["failed"])
    assert bench.run(broken["job"], name="retry_failed").code == 0
    again = bench.compare()
    assert again.code == 0 and all(one["counts"]["succeeded"] == 4 for one in again.json["variants"]), again.json
    assert bench.engine.upstream.count() == 9


def test_a_sample_is_the_same_for_all_and_again(bench: Bench) -> None:
    """Drawn over the whole table by its number, in the order of the table."""
    (bench.folder / "t.csv").write_text("title,label\n" + "".join(f"row {n},{n}\n" for n in range(200)))
    assert bench.compare("--rows", "5", "--sample", "1").code == 0
    drawn = [int(row["label"]) for row in bench.rows()]
    assert drawn == sorted(drawn) and len(set(drawn)) == 5 and max(drawn) > 5
    asked = [call["messages"][0]["content"] for call in bench.engine.upstream.calls]
    assert sorted(asked) == sorted([f"Say row {n}" for n in drawn] * 2)
    assert all(row[f"{A}.answer"] == f"answer to: Say {row['title']}" == row[f"{B}.answer"] for row in bench.rows())


def test_rows_that_only_some_can_ask_are_no_comparison(bench: Bench) -> None:
    """Refused with the row, before anything is sent."""
    (bench.folder / "t.csv").write_text("title,note\na,x\nb,\nc,z\n")
    found = bench.compare("--prompt", "Say {title}", "--prompt", "Say {note}", "--skip-invalid", models=(A,))
    assert (found.code, found.json["error"]["code"]) == (2, "unlike_rows") and "row 2" in found.json["error"]["message"]
    assert bench.batches() == [] and not list(bench.folder.glob("cmp*"))


def test_variants_are_named_in_a_file(bench: Bench) -> None:
    """Model, prompt, system, parameters and schema of each; what is left out the flags say."""
    variants = [
        {"name": "plain", "model": A, "prompt": "Say {title}"},
        {
            "name": "strict",
            "prompt_file": "long.txt",
            "system": "Be brief.",
            "parameters": {"seed": 7, "max_tokens": 9},
        },
        {"name": "formed", "model": A, "schema": MOOD},
    ]
    (bench.folder / "v.json").write_text(json.dumps(variants))
    more = ["--variants", "v.json", "--model", B, "--prompt", "Tell {title}"]
    found = bench.run("cmp.csv", "--input", "t.csv", "--max-tokens", "4", *more)
    assert found.code == 0, found.json
    assert [one["name"] for one in found.json["variants"]] == ["plain", "strict", "formed"]
    asked = {call["messages"][-1]["content"]: call for call in bench.engine.upstream.calls}
    strict = asked["Please say one, at length"]
    assert (strict["model"], strict["seed"], strict["max_tokens"]) == (B, 7, 9)
    assert strict["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (asked["Say one"]["model"], asked["Say one"]["max_tokens"]) == (A, 4)
    assert asked["Tell one"]["response_format"]["json_schema"]["schema"] == MOOD
    assert bench.rows()[0]["formed.label"] == "yes"


def test_parameters_of_a_variant_go_before_what_is_said_for_all(bench: Bench) -> None:
    """Whether a flag says it or `--body`; what the variant leaves alone stays."""
    variants = [{"name": "warm", "parameters": {"temperature": 1, "stop": "."}}, {"name": "cold"}]
    (bench.folder / "v.json").write_text(json.dumps(variants))
    more = ["--variants", "v.json", "--top-p", "0.5", "--body", '{"temperature": 0, "seed": 7}']
    assert bench.compare(*more, "--prompt", "Say {title}", models=(A,)).code == 0
    asked = [
        (call["temperature"], call["seed"], call["top_p"], call.get("stop")) for call in bench.engine.upstream.calls
    ]
    assert sorted(asked, key=str) == [(0, 7, 0.5, None)] * 4 + [(1, 7, 0.5, ".")] * 4


@pytest.mark.parametrize(
    ("variants", "said"),
    [
        ({"name": "a"}, "no list"),
        ([], "no list"),
        ([{"nmae": "a"}], "nmae"),
        ([{"name": "a b"}, {"name": "A/B"}], "a-b"),
        ([{"schema": {"type": "object"}}], "properties"),
        ([{"parameters": {"temperature": 7}}], "temperature"),
    ],
)
def test_a_file_of_variants_is_read_strictly(bench: Bench, variants: Any, said: str) -> None:
    """What cannot be meant is named, and nothing is sent."""
    (bench.folder / "v.json").write_text(json.dumps(variants))
    found = bench.run("cmp.csv", "--input", "t.csv", "--variants", "v.json", "--model", A, "--prompt", "{title}")
    assert found.code == 2 and said in found.json["error"]["message"], found.json
    assert bench.batches() == [] and not list(bench.folder.glob("cmp*"))


def test_models_of_one_name_and_prompts_of_one_stem_are_told_apart(bench: Bench) -> None:
    """By their whole ids and paths."""
    (bench.folder / "x").mkdir()
    (bench.folder / "x" / "short.txt").write_text("{title}?")
    bench.engine.upstream.models += ["one/m", "two/m"]
    more = ["--prompt-file", "short.txt", "--prompt-file", "x/short.txt", "--dry-run"]
    found = bench.compare(*more, models=("one/m", "two/m"))
    names = ["one/m+short.txt", "one/m+x/short.txt", "two/m+short.txt", "two/m+x/short.txt"]
    assert [one["name"] for one in found.json["variants"]] == names


@pytest.mark.parametrize("now", [[], ["--now"]])
def test_a_judge_grades_each_answer_once(bench: Bench, now: list[str]) -> None:
    """By jobs of its own, with score and reason; it sees the row and the answer, and not whose it is."""
    upstream = bench.engine.upstream
    upstream.say("Grade answer to: Say", json.dumps({"reason": "short", "score": 2}))
    upstream.say("Grade answer to: Please", json.dumps({"reason": "kind", "score": 5}))
    more = ["--prompt-file", "short.txt", "--prompt-file", "long.txt", "--judge", "Grade {answer} ({label})",
            "--judge-model", B, *now]  # fmt: skip
    found = bench.compare(*more, models=(A,))
    assert found.code == 0, found.json
    short, long = found.json["variants"]
    assert {**short["judge"], **long["judge"], "rows": 4}["rows"] == 4
    assert (short["judge"]["value"], long["judge"]["value"]) == (2.0, 5.0)
    (pair,) = found.json["pairs"]
    assert pair["judge"] == {"a_only": 0, "b_only": 4, "p": 0.125, "better": None}  # four rows prove nothing
    row = bench.rows()[1]
    assert (row[f"{A}+short.judge_score"], row[f"{A}+long.judge_reason"]) == ("2", "kind")
    asked = [call for call in upstream.calls if call["model"] == B]
    assert len(asked) == 8 and {call["max_tokens"] for call in asked} == {1000}
    assert sum("(no)" in call["messages"][-1]["content"] for call in asked) == 4
    assert all(A not in json.dumps(call["messages"]) for call in asked)
    count = upstream.count()
    assert bench.compare(*more, models=(A,)).json == found.json and upstream.count() == count
    assert len(bench.batches()) == (0 if now else 4)


def test_an_answer_that_the_judge_does_not_grade_is_told(bench: Bench) -> None:
    """As when he breaks off, or fails: the mean is of the others, and says of how many."""
    bench.engine.upstream.say("Grade answer to: Say two", '{"reason": "so')
    bench.engine.upstream.say("Grade answer to: Say one", json.dumps({"reason": "so", "score": 5}))
    found = bench.compare("--judge", "Grade {answer}", "--judge-model", B, models=(A,))
    (one,) = found.json["variants"]
    assert (one["judge"]["rows"], one["judge"]["value"], one["judge"]["low"]) == (3, 2.3333, 1)  # 5, 1 and 1
    assert any("the judge graded 3 of 4 answers" in said for said in found.json["warnings"])


def test_the_judge_is_within_the_limit_too(bench: Bench) -> None:
    """What he may be asked is foreseen, and refused before the variants are paid."""
    judge = ["--judge", "Grade {answer}", "--judge-model", B]
    assert bench.compare("--max-cost", "0.02").code == 0
    before = len(bench.batches())
    refused = bench.run("other.csv", "--input", "t.csv", "--model", A, "--prompt", "Say {title}", "--max-tokens", "4",
                        *judge, "--max-cost", "0.02")  # fmt: skip
    assert (refused.code, len(bench.batches())) == (8, before), refused.json


def test_no_number_is_without_its_meaning(bench: Bench) -> None:
    """Every key of a number, in the file of all of them, is named in the references."""
    (bench.folder / "mood.json").write_text(json.dumps(MOOD))
    judge = ["--judge", "Grade {answer}", "--judge-model", B]
    bench.compare("--response-schema", "mood.json", "--expected", "label", *judge)
    page = (SCRIPTS.parent / "references" / "compare.md").read_text(encoding="utf-8")
    page += SECTIONS["compare.py"]

    def keys(value: Any) -> Iterator[str]:
        if isinstance(value, list):
            for one in value:
                yield from keys(one)
        elif isinstance(value, dict):
            for name, one in value.items():
                of_data = name in ("classes", "confusion", "fields")  # whose names are the user's
                yield name
                yield from keys(list(one.values()) if of_data else one)

    named = set(keys({name: one for name, one in bench.summary().items() if name in ("variants", "pairs")}))
    assert {"kappa", "precision", "a_only", "low", "cost_usd", "24h"} <= named
    assert {name for name in named - {"yes", "no"} if not re.search(rf"\b{name}\b", page)} == set()


@pytest.mark.parametrize("output", ["cmp.parquet", "cmp.xlsx"])
def test_other_formats_hold_the_same(two: Bench, output: str) -> None:
    """A number stays a number, and a variant's answers stand in their columns."""
    import pyarrow.parquet
    import python_calamine

    words = [output, "--input", "t.csv", "--model", A, "--max-tokens", "4", *PROMPTS]
    assert two.run(*words).code == 0
    if output.endswith("parquet"):
        found = pyarrow.parquet.read_table(two.folder / output).to_pylist()
    else:
        head, *lines = python_calamine.load_workbook(str(two.folder / output)).get_sheet_by_index(0).to_python()
        found = [dict(zip(head, line, strict=True)) for line in lines]
    assert [row[f"{A}+a.answer"] for row in found] == SAID_A and [row["title"] for row in found] == TEN


def test_the_answer_fits_whatever_is_compared(bench: Bench) -> None:
    """Twelve variants and their 66 pairs: the object is cut, the file of numbers has all."""
    prompts = [word for number in range(12) for word in ("--prompt", f"Say {{title}} {number}")]
    found = bench.compare(*prompts, "--expected", "label", models=(A,))
    assert found.code == 0 and found.json["pairs_more"] > 0
    numbers = bench.summary()
    assert len(numbers["variants"]) == 12 and len(numbers["pairs"]) == math.comb(12, 2)
    assert all("confusion" in one for one in numbers["variants"])


def test_two_models_with_two_prompts_leave_room_for_what_was_asked_of_each(bench: Bench) -> None:
    """Amounts that stand in the sums go before what each variant was measured for."""
    for title, label in zip(("one", "two", "three", "four"), ("yes", "no", "no", "no"), strict=True):
        bench.engine.upstream.say(title, label)
    found = bench.compare("--prompt", "Say {title}", "--prompt", "{title}?", "--expected", "label")
    for one in found.json["variants"]:
        assert {"counts", "usage", "cost_usd", "projection", "accuracy", "confusion"} <= one.keys(), found.json
    assert len(found.json["variants"]) == 4 and len(found.json["pairs"]) == 6


def test_answers_marked_by_a_person_are_what_is_expected(two: Bench) -> None:
    """Each file for the variant whose name it has, or that is said; what is unsure is not measured."""
    ids = [f"row-{number:07}" for number in range(1, 11)]
    marks = [("right",) * 9 + ("unsure",), ("right",) * 2 + ("wrong",) * 8]
    for name, each in zip((f"cmp.{A}-a.marks.csv", "marks.csv"), marks, strict=True):
        lines = [f"{custom_id},{mark},a note" for custom_id, mark in zip(ids, each, strict=True)]
        (two.folder / name).write_text("\n".join(["custom_id,mark,note", *lines]) + "\n")
    refused = two.compare(*PROMPTS, "--expected", "marks.csv", models=(A,))
    assert refused.code == 2 and f"{A}+a=marks.csv" in refused.json["error"]["hint"] and two.batches() == []
    named = ["--expected", f"cmp.{A}-a.marks.csv", "--expected", f"{A}+b=marks.csv"]
    found = two.compare(*PROMPTS, *named, models=(A,))
    assert found.code == 0, found.json
    assert [(one["accuracy"]["right"], one["accuracy"]["rows"]) for one in found.json["variants"]] == [(9, 9), (2, 10)]
    assert found.json["pairs"][0]["expected"] == {"a_only": 7, "b_only": 0, "p": 0.0156, "better": f"{A}+a"}


def test_right_words_among_others_are_wrong_and_said_to_be_so(bench: Bench) -> None:
    """As when a model answers in a sentence: the step that mends it is named."""
    found = bench.compare("--prompt", "Is it {label} or not?", "--expected", "label", models=(A,))
    (one,) = found.json["variants"]
    assert one["accuracy"]["right"] == 0 and found.json["pairs"] == []
    assert f"{A}: 4 wrong answers hold what is expected" in found.json["warnings"][0]


def test_cells_of_hostile_answers_are_no_formulas(bench: Bench, tmp_path: Path) -> None:
    """A spreadsheet would run them; a `'` in front stops that."""
    bench.engine.upstream.say("Say one", "=HYPERLINK(1)")
    found = bench.compare()
    assert bench.rows()[0][f"{A}.answer"] == "'=HYPERLINK(1)" and "spreadsheet" in str(found.json["warnings"])
