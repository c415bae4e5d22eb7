"""The tables of `references/answers.md`: each row is held against the code, and answers made of them never crash it.

`PYTHONPATH=scripts:. python tests/results/test_answers_page.py 200000 SEED` judges other ones, and more of them.
"""

from __future__ import annotations

import copy
import json
import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from doubleword.answers.choices import THOUGHTS, WORDS, likely, listed_choices, meaning
from doubleword.answers.judgement import FLAWS, Judgement, judged
from doubleword.answers.lines import Line, answer_text, finish_reason, judge, one_text
from doubleword.answers.schema import Schema
from doubleword.answers.usage import tokens
from doubleword.answers.vectors import FLOAT32, Form, asked_form, read_vectors, vectors
from doubleword.service import CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, RESPONSES

PAGE = (Path(__file__).parents[2] / "references" / "answers.md").read_text(encoding="utf-8")
SCHEMA = Schema({"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]})
MUTATED = 20_000


def rows(heading: str) -> list[list[str]]:
    """The cells of the table under `heading`, without what is above its rule."""
    part = PAGE.split(f"\n{heading}\n", 1)[1].split("\n#")[0]
    lines = [line for line in part.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def code(cell: str) -> Any:
    return json.loads(cell.strip("` "))


def shapes() -> Iterator[tuple[str, str, str, str, str]]:
    """(server, endpoint, body as JSON, what it is called, its text) of every row of section 3."""
    for endpoint in (CHAT, COMPLETIONS, RESPONSES, MESSAGES):
        for server, answer, called, text in rows(f"### {endpoint}"):
            body = answer.strip("`")
            alone = not code(answer).keys().isdisjoint(("message", "text")) and "object" not in code(answer)
            yield server, endpoint, f'{{"choices": [{body}]}}' if alone else body, called, text


SHAPES = list(shapes())
VECTORS = rows("## 4. Vectors")
WRAPPINGS = rows("## 5. JSON in a wrapping")


def read(body: str, endpoint: str) -> Line:
    """The line with `body`, judged."""
    found = judge(
        f'{{"id": "r", "custom_id": "a", "response": {{"status_code": 200, "body": {body}}}}}'.encode(), endpoint
    )
    assert found is not None
    return found


def called(body: str, endpoint: str, schema: Schema | None = None, form: Form = FLOAT32) -> tuple[str, Judgement]:
    """What the code calls an answer, in the words of the page, and its judgement."""
    told = read(body, endpoint)
    if told.cause is not None:
        return f"failed: {told.cause}", Judgement()
    assert told.body is not None
    found = judged(told.body, endpoint, schema, form)
    words = [*found.flaws, *([] if found.unknown is None else ["unknown"])]
    if found.cause is not None and not found.flaws:
        return f"failed: {found.cause}", found
    return ", ".join(words if found.flaws else ["good", *words]), found


@pytest.mark.parametrize("row", rows("## 2. Words for an ending"), ids=lambda row: row[0])
def test_each_word_for_an_ending_means_what_the_page_says(row: list[str]) -> None:
    """In any case of letters, and with what it is of before it."""
    for kind, cell in zip(("good", "truncated", "refused", "failed", "unfinished"), row[1:], strict=True):
        for word in re.findall("`([^`]+)`", cell):
            assert {meaning(one) for one in (word, word.upper(), word.lower(), f"FinishReason.{word}")} == {kind}, word


def test_no_word_is_known_that_the_page_leaves_out() -> None:
    """The page is the whole table; and what nobody knows is only guessed at."""
    page = {
        word.lower() for row in rows("## 2. Words for an ending") for word in re.findall("`([^`]+)`", " ".join(row))
    }
    known = {word for words in WORDS.values() for word in words.split()}
    assert known - page == set()
    assert [meaning(word) for word in ("repetition", "other", "server_error", "完成", "a.b")] == [None] * 5
    guesses = {
        "server_error": "failed",
        "blocked_by_policy": "refused",
        "max_tokens_reached": "truncated",
        "max_new_tokens": "truncated",
        "max_completion_tokens": "truncated",
        "preempted": "failed",
        "client_disconnected": "failed",
        "expired": "failed",
        "other": None,
    }
    assert {word: likely(word) for word in guesses} == guesses


@pytest.mark.parametrize(("server", "endpoint", "body", "expected", "text"), SHAPES, ids=lambda value: str(value)[:40])
def test_each_shape_is_called_what_the_page_says(
    server: str, endpoint: str, body: str, expected: str, text: str
) -> None:
    """And shows the text that stands there."""
    told, found = called(body, endpoint)
    assert told == expected, server
    if not told.startswith("failed"):
        answer = read(body, endpoint).body or {}
        assert answer_text(answer, endpoint).strip() == text
        assert one_text(found.texts).strip() == text


@pytest.mark.parametrize("row", VECTORS, ids=lambda row: row[0])
def test_each_form_of_a_vector_is_read_as_the_page_says(row: list[str]) -> None:
    """And what cannot be read is never given."""
    _, asked, answer, expected, cells = row
    form, shown = asked_form(code(asked)), code(cells)
    told, found = called(answer.strip("`"), EMBEDDINGS, form=form)
    assert told == expected
    assert vectors(code(answer), form) == shown
    assert found.length == (len(shown[0]) if told == "good" else 0)


@pytest.mark.parametrize("row", WRAPPINGS, ids=lambda row: row[0])
@pytest.mark.parametrize("endpoint", [CHAT, COMPLETIONS, RESPONSES, MESSAGES])
def test_each_wrapping_is_taken_off_at_every_endpoint(row: list[str], endpoint: str) -> None:
    """Where a schema was asked for; without one the text stays as it is."""
    _, given, expected, wrapping, taken = row
    content = code(given)
    fields = content if isinstance(content, dict) else {"content": content}
    said, thought = fields["content"], fields.get("reasoning", fields.get("reasoning_content"))
    body: dict[str, Any] = {"choices": [{"message": fields, "finish_reason": "stop"}]}
    if endpoint == COMPLETIONS and thought is None:
        body = {"choices": [{"text": said, "finish_reason": "stop"}]}
    elif endpoint == RESPONSES:
        output = [{"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": thought}]}]
        body = {"status": "completed", "output": [*output, {"type": "message", "content": [{"text": said}]}]}
    elif endpoint == MESSAGES:
        parts = [{"type": "thinking", "thinking": thought}, {"type": "text", "text": said}]
        body = {"type": "message", "content": parts, "stop_reason": "end_turn"}
    told, found = called(json.dumps(body), endpoint, SCHEMA)
    assert (told, ", ".join(found.unwrapped)) == (expected, wrapping)
    if taken:
        assert found.texts == (taken.strip("` ") if "``" not in taken else taken[2:-2],)
    assert called(json.dumps(body), endpoint)[1].texts == (said or "",)


# Mutations

LEAVES: list[Any] = [None, "", " ", "x", 0, 1, -1, 1.5, True, [], {}, [None], [[]], {"a": 1}, "0", "null", float("nan"),
                     10**400, "\ud800", ["x"], {"text": None}, {"type": "text"}, [{"type": "thinking"}]]  # fmt: skip


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every place in a value, as what holds it and its key there."""
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        one = waiting.pop()
        keys: Any = one if isinstance(one, dict) else range(len(one)) if isinstance(one, list) else ()
        found += [(one, key) for key in keys]
        waiting += [one[key] for key in keys]
    return found


def mutate(body: Any, chance: random.Random, pool: list[Any]) -> None:
    for _ in range(chance.randint(1, 2)):
        every = places(body)
        if not every:
            return
        holder, key = chance.choice(every)
        match chance.randrange(4):
            case 0:
                del holder[key]
            case 1:
                holder[key] = copy.deepcopy(chance.choice(LEAVES))
            case 2:
                holder[key] = copy.deepcopy(chance.choice(pool))
            case _ if isinstance(holder, list):
                holder.insert(0, copy.deepcopy(chance.choice(pool)))
            case _:
                holder[chance.choice(["index", "content", "finish_reason", "status", "error"])] = copy.deepcopy(
                    chance.choice(LEAVES)
                )


ASIDE = ("type", "index", "status")


def says_something(value: Any, under: str = "") -> bool:
    """Whether there is any text, call, vector or refusal where one may stand; thoughts are none."""
    if isinstance(value, dict):
        if under in ("content", "output") and value.get("type") in THOUGHTS:
            return False
        return any(says_something(one, name) for name, one in value.items() if name not in ASIDE)
    if isinstance(value, list):
        return any(says_something(one, under) for one in value)
    return value is not None and bool(str(value).strip())


def parts_that_say(body: dict[str, Any]) -> Iterator[tuple[Any, str]]:
    """What may hold a text, call, vector or refusal, and under which name."""
    yield from ((body.get(name), name) for name in ("content", "output", "output_text", "data"))
    for choice in listed_choices(body) or ():
        if isinstance(choice, dict):
            yield choice.get("text"), "text"
            message = choice.get("message", choice.get("delta"))
            names = ("content", "refusal", "tool_calls", "function_call", "audio", "images")
            yield from ((message.get(name), name) for name in names) if isinstance(message, dict) else ((message, ""),)


def judge_mutations(count: int, seed: int) -> int:
    """Judge `count` answers made of the page's rows; how many of them were good. Raises for the first that is a lie."""
    chance = random.Random(seed)
    sources = [(endpoint, json.loads(body)) for _, endpoint, body, _, _ in SHAPES]
    sources += [(EMBEDDINGS, code(answer)) for _, _, answer, _, _ in VECTORS]
    pool = [holder[key] for _, body in sources for holder, key in places(body)]
    good = 0
    for _ in range(count):
        endpoint, source = chance.choice(sources)
        body = copy.deepcopy(source)
        mutate(body, chance, pool)
        told = read(json.dumps(body), endpoint)
        if told.cause is not None or told.body is None:
            assert told.cause
            continue
        found = judged(told.body, endpoint, chance.choice([None, SCHEMA, Schema()]))
        finish_reason(told.body), tokens(told.body)
        shown = answer_text(told.body, endpoint)
        assert set(found.flaws) <= set(FLAWS) and (found.cause != "")
        if found.flaws or found.cause:
            continue
        good += 1
        body = told.body
        if endpoint == EMBEDDINGS:
            assert all(isinstance(one, list) and one for one in read_vectors(body)) and "null" not in shown, body
        else:
            assert found.texts and all(text.strip() for text in found.texts), body
        if "reasoning" not in found.unwrapped:
            assert any(says_something(*part) for part in parts_that_say(body)) and shown.strip('[]", '), body
    return good


def test_no_mutated_answer_crashes_or_is_good_without_anything_said() -> None:
    """Of thousands made by leaving out, replacing and doubling parts of the page's answers."""
    assert judge_mutations(MUTATED, seed=7) > MUTATED // 20


if __name__ == "__main__":
    print(judge_mutations(int(sys.argv[1]), seed=int(sys.argv[2]) if len(sys.argv) > 2 else 1))
