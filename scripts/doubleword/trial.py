"""A few rows asked at once, before thousands are paid for: prompt, answer, tokens, and what the whole table would cost.

Promises: exactly `--rows` requests are sent, each once; a request that fails is shown with its cause.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
from pathlib import Path
from typing import Any

from doubleword import pricing, result_lines
from doubleword.api import Api
from doubleword.api_error import ApiError
from doubleword.command import Progress
from doubleword.connection import connect
from doubleword.creation import requests_from
from doubleword.failure import Exit, Failure, plain
from doubleword.outside import Outside

SHOWN = 400


def try_prompt(args: argparse.Namespace, outside: Outside) -> dict[str, Any]:
    """The work of `try_prompt.py`: the first rows through the endpoint itself. Raises Failure 6 when one fails."""
    if args.rows < 1:
        raise Failure(Exit.BAD_INPUT, "bad_arguments", "--rows is a number from 1 up", "--rows 3")
    progress = Progress(outside.monotonic)
    requests = requests_from(args, outside)
    asked = [(custom_id, request) for custom_id, request, _ in itertools.islice(requests, args.rows)]
    total = len(asked) + sum(1 for _ in requests)  # the rest is checked too: a trial of a bad table helps nobody
    with tempfile.TemporaryDirectory() as folder, connect(args, outside, progress.note, folder=Path(folder)) as api:
        rows = [_ask(api, custom_id, request) for custom_id, request in asked]
    keys: dict[str, Any] = {
        "rows": rows,
        "requests": total,
        "projected_cost_usd": _projection(rows, asked, total, outside),
    }
    failed = [row for row in rows if "error" in row]
    if failed:
        message = f"{len(failed)} of {len(rows)} requests failed; the first: {failed[0]['error']}"
        raise Failure(Exit.SOME_FAILED, "some_failed", message, "mend the prompt or the model, then try again", keys)
    return keys


def _ask(api: Api, custom_id: str, request: dict[str, Any]) -> dict[str, Any]:
    url, body = request["url"], request["body"]
    row: dict[str, Any] = {"custom_id": custom_id, "prompt": plain(_prompt(body), SHOWN)}
    try:
        answer = api.realtime(url, body)
    except ApiError as error:
        if error.status in (401, 402, 403):
            raise error.failure("asking the model") from error
        return {**row, "error": plain(error.sentence)}
    line = json.dumps({"custom_id": custom_id, "response": {"status_code": 200, "body": answer}}).encode()
    judged = result_lines.judge(line, url)
    if judged is None or judged.cause is not None:
        return {**row, "error": plain(judged.cause if judged is not None else "no answer")}
    prompt_tokens, completion_tokens = result_lines.tokens(answer)
    return {
        **row,
        "answer": plain(result_lines.answer_text(answer, url), SHOWN),
        "finish_reason": result_lines.finish_reason(answer, url) or None,
        "tokens": {"prompt": prompt_tokens, "completion": completion_tokens},
    }


def _prompt(body: dict[str, Any]) -> Any:
    """What the user would recognise: the last message, the prompt or the input."""
    messages = body.get("messages")
    if isinstance(messages, list) and messages and isinstance(messages[-1], dict):
        return messages[-1].get("content")
    return body.get("prompt", body.get("input"))


def _projection(
    rows: list[dict[str, Any]], asked: list[tuple[str, dict[str, Any]]], total: int, outside: Outside
) -> float | None:
    """USD for all `total` requests in the 24h window, from the tokens these rows took; None without a price."""
    prices = pricing.load_prices(None, outside.disk)
    spent = 0.0
    counted = 0
    for row, (_, request) in zip(rows, asked, strict=True):
        price = prices.find(request["body"]["model"], "24h")
        tokens = row.get("tokens") or {}
        if price is None or tokens.get("prompt") is None:
            continue
        counted += 1
        spent += tokens["prompt"] * price.input_usd + (tokens["completion"] or 0) * price.output_usd
    return round(spent / counted * total / 1e6, 6) if counted else None
