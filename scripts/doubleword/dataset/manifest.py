"""The sums over all parts: what `_manifest.json` holds, and what the script says in the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from doubleword.cli import again, script
from doubleword.dataset.partitions import Partition
from doubleword.dataset.places import is_url
from doubleword.failure import Exit, Failure, plain

NAME = "_manifest.json"
KEYS = ("rows", "succeeded", "failed", "missing")
DONE, SOME_FAILED, EMPTY, OPEN = "done", "some_failed", "empty", "open"


def manifest(parts: Sequence[Partition], records: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """`{parts: [{part, rows, succeeded, failed, missing, cost_usd, state}]}` and the sums of the parts that ended.

    What an open part holds is null, and one without rows has no file. `cost_usd` is null where that of a part is not
    known.
    """
    told, ended = [], [records[one.part] for one in parts if one.part in records]
    for one in parts:
        record = records.get(one.part, dict.fromkeys((*KEYS, "cost_usd")))
        state = OPEN if record["rows"] is None else DONE
        told.append({"part": one.part, **{name: record[name] for name in (*KEYS, "cost_usd")}, "state": state})
    costs = [one["cost_usd"] for one in ended]
    return {
        "parts": told,
        **{name: sum(one[name] for one in ended) for name in KEYS},
        "cost_usd": None if None in costs else round(sum(costs), 6),
    }


def answer(
    output: str, parts: Sequence[Partition], records: Mapping[str, Mapping[str, Any]], said: Sequence[str]
) -> dict[str, Any]:
    """The keys of `run_dataset.py`; raises Failure 7 with them while parts are open, 6 where requests failed.

    `said` is why parts are open.
    """
    whole = manifest(parts, records)
    states = Counter(_outcome(one) for one in whole["parts"])
    failures = _failures(parts, records)
    told: dict[str, dict[str, None]] = {}  # of each sentence, the parts that say it
    for one in parts:
        for word in records.get(one.part, {}).get("warnings", ()):
            told.setdefault(word, {})[plain(one.part, 80)] = None
    warnings = [
        f"{next(iter(of))}: {word}" + (f" (as of {len(of) - 1} more parts)" if len(of) > 1 else "")
        for word, of in told.items()
    ]
    keys = {
        "output": output,
        "manifest": f"{output.rstrip('/')}/{NAME}",
        "complete": not states[OPEN],
        "parts": {"total": len(parts), **{name: states[name] for name in (DONE, SOME_FAILED, EMPTY, OPEN)}},
        "counts": {"total": whole["rows"], **{name: whole[name] for name in KEYS[1:]}},
        "cost_usd": whole["cost_usd"],
        "failures": failures,
        **({"warnings": warnings[:10]} if warnings else {}),
    }
    if states[OPEN]:
        why = f": {said[0]}" if said else ""
        message = f"{states[OPEN]} of {len(parts)} parts are not done yet{why}"
        raise Failure(Exit.NOT_FINISHED, "not_finished", message, again(), keys)
    if not whole["rows"]:
        raise Failure(Exit.BAD_INPUT, "no_rows", "no partition has a row to ask", "check the source and --where", keys)
    if whole["succeeded"] != whole["rows"]:
        lost = whole["failed"] + whole["missing"]
        message = f"{whole['succeeded']} of {whole['rows']} requests succeeded; {lost} failed or are missing"
        hint = f"{script('retry_failed.py')} on the jobs in _work of the output, then run the same command again"
        if is_url(output):
            hint = "the rows that failed stand in their parts with the error: ask them as a dataset of their own"
        raise Failure(Exit.SOME_FAILED, "some_failed", message, hint, keys)
    return keys


def _outcome(part: Mapping[str, Any]) -> str:
    """How a part ended, if it did."""
    if part["state"] == OPEN:
        return OPEN
    return DONE if 0 < part["succeeded"] == part["rows"] else SOME_FAILED if part["rows"] else EMPTY


def _failures(parts: Sequence[Partition], records: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The most frequent causes over all parts, each with one part that has it."""
    found: dict[str, dict[str, Any]] = {}
    for one in parts:
        for failure in records.get(one.part, {}).get("failures", ()):
            known = found.setdefault(failure["cause"], {"cause": failure["cause"], "count": 0, "part": one.part})
            known["count"] += failure["count"]
    return sorted(found.values(), key=lambda one: -one["count"])[:10]
