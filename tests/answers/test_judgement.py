"""What an answer is worth: whole, cut off, refused, empty, without an end, or not what was asked for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from doubleword.answers.judgement import LOOKED_AT, Remarks, judged
from doubleword.answers.lines import judge
from doubleword.answers.schema import Schema
from doubleword.answers.usage import used_all_tokens
from doubleword.service import CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES

SCHEMA = Schema({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})
CALL = [{"type": "function", "function": {"name": "look", "arguments": "{}"}}]


def chat(content: Any = "yes", reason: str = "stop", **message: Any) -> dict[str, Any]:
    return {"choices": [{"message": {"content": content, **message}, "finish_reason": reason}]}


def response(*parts: dict[str, Any], **body: Any) -> dict[str, Any]:
    return {"output": [{"type": "message", "content": list(parts)}], "status": "completed", **body}


SAID = {"type": "output_text", "text": "yes"}


@pytest.mark.parametrize(
    ("body", "endpoint", "flaws"),
    [
        (chat(), CHAT, ()),
        (chat(reason="length"), CHAT, ("truncated",)),
        (chat("", "length"), CHAT, ("truncated", "empty")),
        (chat(" \n"), CHAT, ("empty",)),
        (chat("\ufeff"), CHAT, ("empty",)),
        (chat("\u200b \u200b\n\0"), CHAT, ("empty",)),
        (chat("\ufeffyes"), CHAT, ()),
        (chat(None, "content_filter"), CHAT, ("refused",)),
        (chat(None, refusal="I cannot."), CHAT, ("refused",)),
        (chat(None, tool_calls=CALL), CHAT, ()),
        (chat(None, function_call={"name": "look", "arguments": "{}"}), CHAT, ()),
        (chat([{"type": "text", "text": "yes"}]), CHAT, ()),
        ({"choices": [*chat()["choices"], *chat(reason="length")["choices"]]}, CHAT, ("truncated",)),
        ({"choices": [{"text": "done", "finish_reason": "length"}]}, COMPLETIONS, ("truncated",)),
        ({"choices": [{"text": "", "finish_reason": "stop"}]}, COMPLETIONS, ("empty",)),
        ({"data": [{"embedding": [0.5]}]}, EMBEDDINGS, ()),
        ({"data": [{"embedding": []}]}, EMBEDDINGS, ("empty",)),
        (response(SAID), RESPONSES, ()),
        (response(), RESPONSES, ("empty",)),
        (response(SAID, status="incomplete"), RESPONSES, ("truncated",)),
        (
            response(status="incomplete", incomplete_details={"reason": "content_filter"}),
            RESPONSES,
            ("refused",),
        ),
        (response({"type": "refusal", "refusal": "I cannot."}), RESPONSES, ("refused",)),
        ({"output": [{"type": "reasoning", "content": [{"text": "hm"}]}]}, RESPONSES, ("empty",)),
        ({"output": [{"type": "function_call", "name": "look", "arguments": "{}"}]}, RESPONSES, ()),
    ],
)
def test_each_endpoint_says_in_its_own_way_what_is_wrong(
    body: dict[str, Any], endpoint: str, flaws: tuple[str, ...]
) -> None:
    """A limit, a filter, a refusal, silence; thoughts are no answer, and a tool call is one."""
    found = judged(body, endpoint)
    assert (found.flaws, found.cause) == (flaws, None)


@pytest.mark.parametrize(
    ("body", "flaws", "cause"),
    [
        (chat('{"a": 1}'), (), None),
        (chat('{"a": "1"}'), ("invalid",), "at a: type"),
        (chat('{"a": 1', "length"), ("truncated", "invalid"), "cut off"),
        (chat('{"a": 1}', "length"), ("truncated",), None),
        (chat(None, refusal="I cannot."), ("refused", "invalid"), "refused"),
        (chat(""), ("empty", "invalid"), "empty"),
        (chat('```json\n{"a": 1}\n```'), (), None),
        (chat("```json\n{a: 1}\n```"), ("invalid",), "not JSON"),
        (chat('{"a": NaN}'), ("invalid",), "not JSON"),
        (chat(None, tool_calls=CALL), (), None),
        ({"choices": [*chat('{"a": 1}')["choices"], *chat("no")["choices"]]}, ("invalid",), "not JSON"),
    ],
)
def test_an_answer_that_was_to_be_json_is_held_to_it(
    body: dict[str, Any], flaws: tuple[str, ...], cause: str | None
) -> None:
    """Valid or invalid, with the first reason that explains it; every choice counts, and a tool call is free."""
    found = judged(body, CHAT, SCHEMA)
    assert found.flaws == flaws
    assert found.cause is None if cause is None else cause in str(found.cause)


def test_of_several_choices_each_is_judged_by_its_own_ending() -> None:
    """The flaws of all, the first word that nobody knows, and a failure if one failed."""
    choices = [*chat()["choices"], *chat("", "length")["choices"], *chat(reason="Weird")["choices"]]
    found = judged({"choices": choices}, CHAT)
    assert (found.flaws, found.unknown) == (("truncated", "empty"), "Weird")
    line = {
        "custom_id": "a",
        "response": {"status_code": 200, "body": {"choices": [*choices, *chat("x", "abort")["choices"]]}},
    }
    told = judge(json.dumps(line).encode(), CHAT)
    assert told is not None and told.cause == "the answer ended with abort"


def test_what_is_whole_among_several_messages_the_schema_says() -> None:
    """The last that it allows, wherever it stands; without one, the last that is complete; phases come first."""
    texts = ['{"a": 1}', '{"a": ', "Done."]
    messages = [{"type": "message", "content": [{"type": "output_text", "text": text}]} for text in texts]
    found = judged({"output": messages, "status": "completed"}, RESPONSES, SCHEMA)
    assert (found.flaws, found.texts) == ((), ('{"a": 1}',))
    assert judged({"output": messages, "status": "completed"}, RESPONSES).texts == ("Done.",)
    messages[1]["phase"] = "final_answer"
    found = judged({"output": messages, "status": "completed"}, RESPONSES, SCHEMA)
    assert (found.flaws, found.texts) == (("invalid",), ('{"a": ',))


def test_a_structured_answer_without_an_end_says_so_first() -> None:
    """The retry that fits asks it again as it is."""
    found = judged(
        {"choices": [{"message": {"content": '{"a": 1'}, "finish_reason": None}], "usage": None}, CHAT, SCHEMA
    )
    assert found.flaws == ("unfinished", "invalid") and "without an end" in str(found.cause)


@pytest.mark.parametrize(
    ("used", "limit", "choices", "all_used"),
    [(8, 8, 1, True), (7, 8, 1, False), (8, None, 1, False), (8, 8, 2, False), (16, 8, 2, True), (None, 8, 1, False)],
)
def test_an_answer_that_used_all_its_tokens_is_told(
    used: int | None, limit: int | None, choices: int, all_used: bool
) -> None:
    """By the limit of its request, for each choice; a server may say that it is complete."""
    body = {"choices": [{}] * choices, "usage": {"completion_tokens": used}}
    assert used_all_tokens(body, limit) == all_used
    assert used_all_tokens({"output": [], "usage": {"output_tokens": used}}, limit) == (
        used == limit == 8 or used == 16
    )


def test_what_is_said_of_good_answers_is_counted() -> None:
    """Wrappings, unknown words and used up tokens, each with an example; of what is called cut off nothing more."""
    remarks, others = Remarks(), Remarks()
    for name in ("a", "b"):
        remarks.add(name, judged(chat('```json\n{"a": 1}\n```'), CHAT, SCHEMA))
    others.add("c", judged(chat(reason="weird\x1b"), CHAT), used_all=True)
    others.add("d", judged(chat(reason="length"), CHAT), used_all=True)
    remarks.include(others)
    first, *rest = remarks.warnings()
    assert first == "2 answers had their JSON in a code fence, which was taken out of it, such as a"
    assert len(rest) == 2 and all(said.startswith("1 answers ") and said.endswith("such as c") for said in rest)


def test_unlike_lengths_of_vectors_are_told_across_all_files_of_a_job() -> None:
    """Once, each length with the first request that has it."""
    remarks = Remarks()
    for name, vector in (("a", [1, 2]), ("b", [1, 2]), ("c", [1])):
        file = Remarks()
        file.add(name, judged({"data": [{"embedding": vector}]}, EMBEDDINGS))
        remarks.include(file)
    assert remarks.warnings() == ["vectors have unlike lengths: 1 (c), 2 (a)"]


def test_no_more_texts_are_held_for_many_files_than_for_two() -> None:
    """A job of ten million rows has hundreds of files, and each brings thousands of texts."""
    remarks = Remarks()
    for number in range(5):
        file = Remarks()
        for at in range(LOOKED_AT):
            file.compare(f"{number} {at}")
        remarks.include(file)
    assert LOOKED_AT <= len(remarks.texts) == remarks.compared <= 2 * LOOKED_AT


def test_an_answer_nested_too_deep_fails_and_crashes_nothing() -> None:
    """Also where a parser could still read it."""
    deep: Any = "x"
    for _ in range(100_000):
        deep = [deep]
    body = {"choices": [{"message": {"content": [{"type": "thinking", "thinking": deep}]}, "finish_reason": "stop"}]}
    assert judged(body, CHAT) == ((), "the answer is nested too deep to be judged", (), (), None, 0)
