"""Deterministic inputs, the same bytes on every machine: batch files, tables, results of the one for the other."""

from __future__ import annotations

import json
import random
from pathlib import Path

TEXT = (
    "batch model tokens answer review product price shipping great poor naïve café better of the a to and with for "
    'quality "quoted" line\nbreak customer support delay refund order never always blue green 東京 size fit returned'
)
WORDS = TEXT.split(" ")
REVIEWS = 997  # different texts; a prime, so that they do not fall into step with anything else


def text(random_: random.Random, words: int) -> str:
    """So many words, some with quotes, line ends and letters beyond ASCII, as tables have them."""
    return " ".join(random_.choices(WORDS, k=words))


def batch_file(path: Path, lines: int, words: int, spaced: bool = False, first: int = 0) -> Path:
    """Chat requests `row-<first + 1>` … of about `words` words; `spaced` as json.dumps writes, else compact."""
    random_ = random.Random(words)
    texts = [text(random_, words) for _ in range(REVIEWS)]
    with path.open("w", encoding="utf-8") as file:
        for number in range(first, first + lines):
            messages = [
                {"role": "system", "content": "Answer in one word."},
                {"role": "user", "content": texts[number % REVIEWS]},
            ]
            body = {"model": "Qwen/Qwen3-30B", "messages": messages, "max_tokens": 64, "temperature": 0.2}
            line = {"custom_id": f"row-{number + 1:07d}", "method": "POST", "url": "/v1/chat/completions", "body": body}
            if spaced:
                file.write(json.dumps(line) + "\n")
            else:
                file.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")
    return path


def table(path: Path, rows: int, unlike: int | None = None) -> Path:
    """A CSV of products: sku, name, review (some cells quoted), stars; about 130 bytes a row.

    Only the first `unlike` have other names and reviews than those before them, all where it is not said.
    """
    random_ = random.Random(7)
    reviews = [text(random_, 14).replace('"', '""') for _ in range(REVIEWS)]
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write("sku,name,review,stars\n")
        for number in range(rows):
            like = number % (unlike or rows)
            file.write(f'SKU-{number:08d},Product {like % 5000},"{reviews[like % REVIEWS]}",{number % 5 + 1}\n')
    return path


def results(path: Path, first: int, rows: int, words: int) -> Path:
    """Answers for the requests `row-<first + 1>` …, in a random order, as the server writes them."""
    random_ = random.Random(first + words)
    answers = [json.dumps(text(random_, words), ensure_ascii=False) for _ in range(REVIEWS)]
    order = list(range(first, first + rows))
    random_.shuffle(order)
    with path.open("w", encoding="utf-8") as file:
        for number in order:
            file.write(
                f'{{"id":"batch_req_{number:032x}","custom_id":"row-{number + 1:07d}","response":{{"status_code":200,'
                f'"request_id":"req_{number:016x}","body":{{"id":"chatcmpl-{number:012x}","object":"chat.completion",'
                f'"created":1790000000,"model":"Qwen/Qwen3-30B","choices":[{{"index":0,"message":{{"role":"assistant",'
                f'"content":{answers[number % REVIEWS]}}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":'
                f'{30 + number % 40},"completion_tokens":{5 + number % 9},"total_tokens":{35 + number % 50}}}}}}},'
                f'"error":null}}\n'
            )
    return path
