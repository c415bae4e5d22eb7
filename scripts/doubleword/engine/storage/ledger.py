"""The ledger: what each answered request used and cost, and what follows from it.

Promises: an answer and its entry become visible in the same transaction; each paid answer has one entry, failed
and cancelled requests have none; sums are exact decimals. Amounts are USD, written as texts as the server does.
"""

from __future__ import annotations

import sqlite3
from dataclasses import astuple, dataclass, fields
from decimal import Decimal
from typing import Any

from doubleword.engine.settings import Account
from doubleword.engine.storage.store import Store

# A request's cost is kept to 15 decimals, its list price and an estimate to 8.
BILLED, LISTED = Decimal("1e-15"), Decimal("1e-8")
RECENT = 100
UNLIMITED = Decimal("Infinity")


@dataclass(frozen=True)
class Tokens:
    """What an answer says it used; None where it does not say.

    `cached` is part of `prompt`, `reasoning` of `completion`.
    """

    prompt: int | None = None
    completion: int | None = None
    reasoning: int | None = None
    cached: int | None = None


@dataclass(frozen=True)
class Used:
    """One answered request: `batch_id` is None for a realtime one, `at` seconds since the epoch."""

    at: float
    batch_id: str | None
    model: str
    window: str
    tokens: Tokens
    duration_ms: float
    first_byte_ms: float


@dataclass(frozen=True)
class Entry:
    """A row of the table `ledger`: `list_cost_usd` is without cache discounts; both are None without a price."""

    at: float
    batch_id: str | None
    model: str
    completion_window: str
    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int | None
    cached_tokens: int
    duration_ms: float
    first_byte_ms: float
    cost_usd: Decimal | None
    list_cost_usd: Decimal | None


COLUMNS = ", ".join(field.name for field in fields(Entry))


class Ledger:
    """Entries of the account's requests in the store."""

    def __init__(self, store: Store, account: Account) -> None:
        self._store = store
        self._account = account

    def charge(self, connection: sqlite3.Connection, used: Used) -> None:
        """Enter one answered request at the price of this moment, in the transaction of `connection`."""
        prompt, completion = used.tokens.prompt or 0, used.tokens.completion or 0
        cached = min(used.tokens.cached or 0, prompt)
        price = self._account.prices.find(used.model, used.window)
        entry = Entry(
            used.at,
            used.batch_id,
            used.model,
            used.window,
            prompt,
            completion,
            used.tokens.reasoning,
            cached,
            used.duration_ms,
            used.first_byte_ms,
            price.cost(prompt, completion, cached) if price else None,
            price.cost(prompt, completion) if price else None,
        )
        values = [str(value) if isinstance(value, Decimal) else value for value in astuple(entry)]
        marks = ", ".join("?" * len(values))
        connection.execute(f"INSERT INTO ledger ({COLUMNS}) VALUES ({marks})", values)  # noqa: S608

    def entries(self) -> list[Entry]:
        """All entries, oldest first."""
        with self._store.reading() as connection:
            rows = connection.execute(f"SELECT {COLUMNS} FROM ledger ORDER BY no").fetchall()  # noqa: S608
        return [Entry(*row[:-2], *(value and Decimal(value) for value in row[-2:])) for row in rows]

    def spent(self) -> Decimal:
        """What all requests of the account cost so far."""
        with self._store.reading() as connection:
            return _sum(connection.execute("SELECT cost_usd FROM ledger WHERE cost_usd IS NOT NULL"))

    def balance(self) -> Decimal:
        """What is left of the account's credits, below zero where they were overdrawn; infinity without an end."""
        credits_usd = self._account.credits_usd
        return UNLIMITED if credits_usd is None else credits_usd - self.spent()

    def cap(self) -> Decimal:
        """What the key may spend."""
        return UNLIMITED if self._account.cap_usd is None else self._account.cap_usd

    def left_of_cap(self) -> Decimal:
        """What the key may still spend."""
        return UNLIMITED if self._account.cap_usd is None else self._account.cap_usd - self.spent()

    def analytics(self, connection: sqlite3.Connection, batch_id: str) -> dict[str, Any]:
        """The analytics of a batch (dwctl db/handlers/analytics.rs): the entries that are old enough to be seen.

        Requests of a model without a price are never in it, as was seen on the server.
        """
        seen = "batch_id = ? AND cost_usd IS NOT NULL AND at <= ?"
        values = (batch_id, self._store.now() - self._account.analytics_after_s)
        total = connection.execute(
            "SELECT count(*) AS requests, coalesce(sum(prompt_tokens), 0) AS prompt,"  # noqa: S608
            " coalesce(sum(completion_tokens), 0) AS completion, sum(reasoning_tokens) AS reasoning,"
            f" avg(duration_ms) AS duration, avg(first_byte_ms) AS first_byte FROM ledger WHERE {seen}",
            values,
        ).fetchone()
        shown = {
            "total_requests": total["requests"],
            "total_prompt_tokens": total["prompt"],
            "total_completion_tokens": total["completion"],
            "total_reasoning_tokens": total["reasoning"],
            "total_tokens": total["prompt"] + total["completion"],
            "avg_duration_ms": total["duration"],
            "avg_ttfb_ms": total["first_byte"],
        }
        if total["requests"]:
            for name, column, digits in (
                ("total_cost", "cost_usd", BILLED),
                ("total_list_cost", "list_cost_usd", LISTED),
            ):
                amounts = connection.execute(f"SELECT {column} FROM ledger WHERE {seen}", values)  # noqa: S608
                shown[name] = f"{_sum(amounts).quantize(digits):f}"
        return {name: value for name, value in shown.items() if value is not None}

    def estimate(self, connection: sqlite3.Connection, file_no: int, window: str) -> list[dict[str, Any]]:
        """The cost estimate of each model in an input file (files.rs:1957-2140).

        A prompt has a token for four bytes of its body. An answer is as long as the last hundred of its model were
        on average, where there are any; otherwise 1.1 times its prompt.
        """
        rows = connection.execute(
            "SELECT model, count(*) AS requests, sum(length(CAST(body AS BLOB)) / 4) AS tokens,"
            " sum(url = '/v1/embeddings') AS embeddings FROM lines WHERE file_no = ? GROUP BY model",
            (file_no,),
        ).fetchall()
        models = []
        for row in rows:
            recent = connection.execute(
                "SELECT avg(completion_tokens) FROM (SELECT completion_tokens FROM ledger WHERE model = ?"
                " ORDER BY no DESC LIMIT ?)",
                (row["model"], RECENT),
            ).fetchone()[0]
            output = row["tokens"] * 11 // 10 if recent is None else round(recent * row["requests"])
            output = row["requests"] if row["embeddings"] else output
            price = self._account.prices.find(row["model"], window)
            models.append(
                {
                    "model": row["model"],
                    "request_count": row["requests"],
                    "estimated_input_tokens": row["tokens"],
                    "estimated_output_tokens": output,
                    "estimated_cost": f"{price.cost(row['tokens'], output).quantize(LISTED):f}" if price else "0",
                }
            )
        return models


def _sum(amounts: sqlite3.Cursor) -> Decimal:
    return sum((Decimal(row[0]) for row in amounts), Decimal(0))
