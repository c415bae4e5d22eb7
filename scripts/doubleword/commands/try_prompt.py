"""A few rows asked at once, before thousands are paid for: prompt, answer, tokens, and what the whole table would cost.

Promises: exactly `--rows` requests are sent, each once; a request that fails is shown with its cause; every row of the
table is checked, in constant memory.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

from doubleword.answers import lines as result_lines
from doubleword.answers import usage as usage_of
from doubleword.answers.judgement import FLAWS, INVALID, TRUNCATED, judged
from doubleword.answers.lines import one_text
from doubleword.batch_files.making import Made, Making, making
from doubleword.cli import Progress
from doubleword.failure import Exit, Failure, plain
from doubleword.jobs.connection import connect
from doubleword.jobs.cost_limit import require_within
from doubleword.pricing.estimate import Total
from doubleword.pricing.prices import REALTIME, WINDOWS, Prices, load_prices
from doubleword.pricing.prompt_tokens import Prompt, Template
from doubleword.request_lines.line import to_line
from doubleword.results.expected import Schemas
from doubleword.server.api import Api
from doubleword.server.errors import ApiError
from doubleword.service import EMBEDDINGS
from doubleword.system import System

# Characters of prompt and answer that are shown of each row: the most that leaves all rows in the output.
SHOWN = (400, 200, 100, 50, 20)
ROWS_BYTES = 3000
NOTE = "these rows were asked at the realtime price, which is higher than that of a batch"


def try_prompt(args: argparse.Namespace, system: System) -> dict[str, Any]:
    """The work of `try_prompt.py`: a few rows through the endpoint itself. Raises Failure 6 when one fails."""
    progress = Progress(system.monotonic)
    prices = load_prices(None, system.disk)
    with making(args, system.disk) as made:
        table, kept = chosen_of(made, args.rows, args.sample, prices)
        asked = [one.request for one in kept]
        warnings = made.warnings()
    if args.max_cost is not None and not args.local:
        _require_cost(asked, args.max_cost, prices)
    with tempfile.TemporaryDirectory() as folder, connect(args, system, progress.note, folder=Path(folder)) as api:
        schemas = Schemas(system.disk)
        rows = [_ask(api, request, schemas) for request in asked]
    projection = table.projection(asked, [row.get("tokens") or {} for row in rows])
    keys: dict[str, Any] = {
        "rows": _shown(rows),
        "cost_usd": 0.0 if args.local else _cost(asked, rows, prices),
        "requests": table.requests,
        "projected_cost_usd": projection["24h"],
        "projection": projection,
        **({} if args.local else {"note": NOTE}),
        "warnings": [*warnings, *_flawed(rows)],
    }
    failed = [row for row in rows if "error" in row]
    if failed:
        message = f"{len(failed)} of {len(rows)} rows have no answer as it should be; the first: {failed[0]['error']}"
        raise Failure(Exit.SOME_FAILED, "some_failed", message, "mend the prompt or the model, then try again", keys)
    return keys


Request = dict[str, Any]
Chosen = TypeVar("Chosen")


def _require_cost(asked: list[Request], limit: float, prices: Prices) -> None:
    """Raise Failure (8) unless these requests, at the realtime price, surely cost at most `limit` USD."""
    total = Total(prices)
    for request in asked:
        total.add(request)
    require_within(limit, total.estimate(REALTIME))


def _cost(asked: list[Request], rows: list[dict[str, Any]], prices: Prices) -> float | None:
    """What the answers cost at the realtime price, in USD; None where a price or a number of tokens is not known."""
    cost = Decimal(0)
    for request, row in zip(asked, rows, strict=True):
        tokens = row.get("tokens")
        price = prices.find(request["body"]["model"], REALTIME)
        if tokens is None:
            continue  # no answer, no charge
        if price is None or None in tokens.values():
            return None
        cost += price.cost(tokens["prompt"], tokens["completion"]) or 0
    return float(cost)


def chosen_of(made: Making, rows: int, seed: int | None, prices: Prices) -> tuple[Table, list[Made]]:
    """The requests for `rows` of the table, and what the whole of it would send.

    All rows are made into requests: a trial of a bad table helps nobody.
    """

    def counted(table: Table) -> Iterator[Made]:
        for one in made.requests():
            table.add(one.request)
            yield one

    while True:
        table = Table(prices)
        kept = chosen(counted(table), rows, seed)
        if not made.is_doubtful():
            return table, kept


def chosen(requests: Iterable[Chosen], count: int, seed: int | None) -> list[Chosen]:
    """The first `count` of `requests`, or with a `seed` as many drawn evenly from all; in the order of the table.

    Reads `requests` to the end and keeps `count` of them. The same seed and table give the same rows.
    """
    draw = random.Random(seed)  # noqa: S311
    kept: list[tuple[int, Chosen]] = []
    for number, request in enumerate(requests):
        if len(kept) < count:
            kept.append((number, request))
        elif seed is not None and (place := draw.randrange(number + 1)) < count:
            kept[place] = (number, request)
    return [request for _, request in sorted(kept, key=lambda one: one[0])]


class Table:
    """Counts what all requests of a table would send, to project from a few answers to the whole."""

    def __init__(self, prices: Prices) -> None:
        self.requests = 0
        self.prices = prices  # those of the server may take their place, once it has told them
        self._estimated = defaultdict[str, float](float)  # prompt tokens by model
        self._counts = Counter[str]()

    def add(self, request: Request) -> None:
        """Count a request."""
        model = request["body"]["model"]
        self.requests += 1
        self._estimated[model] += self._tokens(request)
        self._counts[model] += 1

    def _tokens(self, request: Request) -> float:
        body = request["body"]
        return Prompt(request["url"], body, self.prices.templates.get(body["model"], Template())).tokens

    def projection(self, asked: list[Request], tokens: list[dict[str, Any]]) -> dict[str, Any]:
        """Tokens of the whole table, and USD in each window and at once, from the `tokens` that the `asked` rows took.

        Prompts are counted for every row and put right by what these rows really took; answers are taken to be as
        long as these on average. None where no row was answered, and for USD where a price is not known.
        """
        told = [(request, one) for request, one in zip(asked, tokens, strict=True) if one.get("prompt") is not None]
        whole: dict[str, Any] = {"prompt_tokens": None, "completion_tokens": None}
        if not told:
            return {**whole, **dict.fromkeys((*WINDOWS, REALTIME))}
        estimated = sum(self._tokens(request) for request, _ in told)
        ratio = sum(one["prompt"] for _, one in told) / max(estimated, 0.25)  # control characters alone have no weight
        answer = sum(one["completion"] or 0 for _, one in told) / len(told)
        whole["prompt_tokens"] = round(ratio * sum(self._estimated.values()))
        whole["completion_tokens"] = round(answer * self.requests)
        for window in (*WINDOWS, REALTIME):
            usd: Decimal | None = Decimal(0)
            for model, estimated in self._estimated.items():
                price = self.prices.at_most(model, window)
                given, answered = Decimal(ratio * estimated), Decimal(answer * self._counts[model])
                cost = price.cost(given, answered) if price is not None else None
                usd = None if usd is None or cost is None else usd + cost
            whole[window] = None if usd is None else round(float(usd), 6)
        return whole


def _ask(api: Api, request: Request, schemas: Schemas) -> dict[str, Any]:
    """One request and its answer, judged as `fetch_results.py` does."""
    url, body = request["url"], request["body"]
    row: dict[str, Any] = {"custom_id": request["custom_id"], "prompt": plain(_prompt(body), SHOWN[0])}
    try:
        read = result_lines.judge(answered(api, request), url)
    except ApiError as error:
        return {**row, "error": plain(error.sentence)}
    if read is None or read.cause is not None or read.body is None:
        return {**row, "error": plain(read.cause if read is not None else "no answer")}
    answer = read.body
    asked = schemas.expected_in([(request["custom_id"], to_line(request))]).request(request["custom_id"])
    found = judged(answer, url, asked.schema, asked.form)
    prompt_tokens, completion_tokens = usage_of.tokens(answer)
    text = result_lines.answer_text(answer, url, asked.form) if url == EMBEDDINGS else one_text(found.texts)
    return {
        **row,
        "answer": plain(text, SHOWN[0]),
        "finish_reason": result_lines.finish_reason(answer) or None,
        "tokens": {"prompt": prompt_tokens, "completion": completion_tokens},
        **({"flaws": list(found.flaws)} if found.flaws else {}),
        **({"error": plain(found.cause)} if found.cause is not None else {}),
    }


def answered(api: Api, request: Request) -> bytes:
    """The answer to one request, asked once and at once, as the line that a batch would have for it.

    Raises ApiError where this one failed, Failure where the next would fail alike: the key, the credit, the network.
    """
    try:
        answer = api.realtime(request["url"], request["body"])
    except ApiError as error:
        if error.status in (401, 402, 403) or not error.sent:
            raise error.failure("asking the model") from error
        raise
    return json.dumps({"custom_id": request["custom_id"], "response": {"status_code": 200, "body": answer}}).encode()


def _flawed(rows: list[dict[str, Any]]) -> Iterator[str]:
    """What is wrong with answers that are answers all the same."""
    for flaw in FLAWS:
        ids = [row["custom_id"] for row in rows if flaw in row.get("flaws", ())]
        if flaw != INVALID and ids:
            more = ": a larger --max-tokens lets them come to their end" if flaw == TRUNCATED else ""
            yield f"{len(ids)} of {len(rows)} answers are {flaw}, such as {plain(ids[0], 64)}{more}"


def _prompt(body: dict[str, Any]) -> Any:
    """What the user would recognise: the last message, the prompt or the input, with pictures named, not shown."""
    messages = body.get("messages", body.get("input"))
    if not (isinstance(messages, list) and messages and isinstance(messages[-1], dict)):
        return body.get("prompt", body.get("input"))
    content = messages[-1].get("content")
    if not isinstance(content, list):
        return content
    return " ".join(str(part.get("text", f"[{part.get('type')}]")) for part in content if isinstance(part, dict))


def _shown(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """`rows` with their texts cut so far that all of them fit into the output, where that is possible at all."""
    cut = rows
    for limit in SHOWN:
        texts: list[dict[str, str]] = [
            {name: plain(row[name], limit) for name in ("prompt", "answer", "error") if name in row} for row in rows
        ]
        cut = [{**row, **shorter} for row, shorter in zip(rows, texts, strict=True)]
        if len(json.dumps(cut)) <= ROWS_BYTES:
            break
    return cut
