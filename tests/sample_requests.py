"""Request lines that the server takes, one for each thing a line may hold: the ground that tests build upon."""

from __future__ import annotations

from typing import Any


def chat(**body: Any) -> dict[str, Any]:
    """A chat request with `body` beside its model and one message."""
    return line("/v1/chat/completions", **{"messages": [{"role": "user", "content": "Say hello."}], **body})


def line(url: str, custom_id: str = "row-0000001", **body: Any) -> dict[str, Any]:
    """A request for `url` with `body` beside its model."""
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": {"model": "some-model", **body}}


def nested(depth: int) -> str:
    """The text of an array nested `depth` times."""
    return "[" * depth + "]" * depth


TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}
FORMAT = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": {"type": "object"}}}
CONVERSATION = [
    {"role": "system", "content": [{"type": "text", "text": 'Be brief: "one" word, é 日本 \u2028.'}]},
    {"role": "developer", "content": "Answer in English."},
    {
        "role": "user",
        "name": "kim",
        "content": [
            {"type": "text", "text": "What is this?"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
            {"type": "video_url", "video_url": {"url": "https://example.org/v.mp4"}},
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
            {"type": "file", "file": {"file_id": "f"}},
        ],
    },
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "A chair."},
    {"role": "assistant", "content": [{"type": "text", "text": "A chair."}], "refusal": None},
    {"role": "assistant", "content": "It is a chair."},
    {"role": "function", "name": "look_up", "content": None},
]
VALID: list[dict[str, Any]] = [
    chat(),
    chat(messages=CONVERSATION),
    chat(
        temperature=0.5, top_p=1, frequency_penalty=-2, presence_penalty=2.0, n=1, seed=7, stop=["a", "b"],
        stream=False, max_tokens=10, max_completion_tokens=10, logprobs=True, top_logprobs=20, logit_bias={"5": -100},
        user="u", metadata={"k": "v"}, parallel_tool_calls=True, reasoning_effort="low", top_k=40, min_p=0.1,
    ),
    chat(tools=[TOOL, {"type": "custom"}], tool_choice={"type": "function", "function": {"name": "look_up"}}),
    chat(tools=[TOOL], tool_choice="required", response_format=FORMAT),
    chat(temperature=None, stop=None, tools=None, response_format=None, stream=None, max_tokens=None),
    chat(response_format={"type": "json_object"}),
    line("/v1/completions", prompt="Once", max_tokens=5, logprobs=3, echo=False, best_of=2, suffix=None, stop="x"),
    line("/v1/completions", prompt=[[1, 2], [3]]),
    line("/v1/embeddings", input="query: rice", encoding_format="float", dimensions=8, user="u"),
    line("/v1/embeddings", input=["a", "b"]),
    line("/v1/embeddings", input=[1, 2, 18446744073709551615]),
    line("/v1/responses", input="Say hello.", instructions="Be brief.", max_output_tokens=20, temperature=0),
    line(
        "/v1/responses",
        input=[
            {"role": "user", "content": [{"type": "input_text", "text": "Hi"}, {"type": "input_image"}]},
            {"type": "message", "role": "assistant", "content": "Hello."},
            {"type": "function_call_output", "call_id": "c", "output": "1"},
        ],
        reasoning={"effort": "high", "summary": None}, background=False, truncation="auto", include=[],
        text={"format": {"type": "json_schema", "name": "answer", "schema": {"type": "object"}}},
        tools=[{"type": "function", "name": "f", "parameters": None}, {"type": "web_search"}], tool_choice="auto",
    ),
    line("/v1/messages", messages=[{"role": "user", "content": "Hi"}], max_tokens=5),
    line(
        "/v1/messages",
        system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}], max_tokens=20,
        messages=[
            {"role": "user", "content": [
                {"type": "text", "text": "What is it?"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}},
            ]},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "look_up", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "A chair."}]},
        ],
        tools=[{"name": "look_up", "input_schema": {"type": "object"}}, {"type": "web_search_20250305", "name": "w"}],
        tool_choice={"type": "auto"}, temperature=1, top_p=0.5, top_k=5, stop_sequences=["x"],
        metadata={"user_id": "u"}, thinking={"type": "disabled"}, stream=False,
    ),
]  # fmt: skip
