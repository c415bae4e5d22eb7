"""The page: markup by Jinja2, which escapes all it is given, and the chosen requests as JSON for its one script.

Promises: the page fetches nothing and runs nothing but its own script (a `Content-Security-Policy` with the hashes of
script and style); the JSON holds no sign that could end its element; the page stays below 5 MB, and says how many
requests it had room for.

The policy: https://www.w3.org/TR/CSP3/, "Fetch Directives" and "hash-source". JSON in an element of the page: the HTML
Standard, "Restrictions for contents of script elements".
"""

from __future__ import annotations

import base64
import hashlib
import itertools
from collections import Counter
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from doubleword.answers.json_text import read, written
from doubleword.cli import iso
from doubleword.failure import plain
from doubleword.pricing.bill import usd
from doubleword.quick_msgspec import format_json
from doubleword.report.answer_table import WRONG, Shown
from doubleword.report.gathering import Part, Subject
from doubleword.server.key import without_key
from doubleword.system import Disk

MOST_ROWS = 2000
ROWS_BYTES = 3_900_000  # the rest of 5 MB is for the overviews, of which there are at most so many
OVERVIEWS = 20
LONGEST_PROMPT = 20_000
MOST_FILTERS = 6
MARK = b"<!doctype html>\n<!-- a report on batch jobs -->\n"
ESCAPES = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"}
UNITS = ((172_800, 86_400, "days"), (7200, 3600, "h"), (120, 60, "min"))


def page(found: Sequence[Subject], seed: int, now: float, reload_s: int, disk: Disk) -> tuple[bytes, int]:
    """The page on what was gathered until `now`, and how many rows stand in it; after 0 s it does not reload itself."""
    import jinja2
    from markupsafe import Markup

    style, script, template = (_own_text(name, disk) for name in ("page.css", "page.js", "page.html"))
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(usd=usd, when=when, duration=duration, number=number, plain=plain)
    environment.filters.update(headline=headline, segments=segments)
    answers = chosen(found)
    text = environment.from_string(template).render(
        found=found,
        title=headline(found),
        total=sum(one.total for one in found),
        wrong=sum(one.wrong for one in found),
        number_=number,
        duration=duration,
        overviews=OVERVIEWS,
        longest_prompt=LONGEST_PROMPT,
        answers=answers,
        seed=seed,
        now=now,
        reload_s=reload_s,
        # What is marked as safe is our own files, and JSON that holds no sign of markup.
        style=Markup(style),  # noqa: S704
        script=Markup(script),  # noqa: S704
        json=Markup(answers.json),  # noqa: S704
        policy=f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; img-src data:;"
        " base-uri 'none'; form-action 'none'",
    )
    return MARK + without_key(text).encode("utf-8", "replace"), answers.rows


def _own_text(name: str, disk: Disk) -> str:
    with disk.open(Path(__file__).with_name(name)) as file:
        return file.read().decode()


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


# What the overview says


def headline(found: Sequence[Subject]) -> str:
    """One line on jobs: `4,980 of 5,000 answered · 20 failed · USD 1.12`; the reason where none could be read."""
    told = [one for one in found if one.keys]
    if not told:
        return found[0].problem
    counts = Counter[str]()
    for one in told:
        counts.update(one.keys["counts"])
    parts = [f"{counts['succeeded']:,} of {counts['total']:,} answered"]
    names = {"failed": "failed", "missing": "missing", "pending": "still open"}
    parts += [f"{counts[name]:,} {said}" for name, said in names.items() if counts[name]]
    costs = [0.0 if one.is_free else one.keys["cost_usd"] for one in told]
    if None in costs:
        return " · ".join([*parts, "cost not known"])
    cost, over = sum(costs), all(one.over for one in told)
    return " · ".join([*parts, f"USD {usd(cost)}{'' if over else ' so far'}" if cost else "no cost"])


def segments(one: Subject) -> list[tuple[str, str, int]]:
    """What became of all requests: a class for its colour, its name and how many; together they are all."""
    counts, invalid = one.keys["counts"], one.keys.get("answers", {}).get("invalid", 0)
    flawed = one.wrong - counts["failed"] - counts["missing"]
    every = [
        ("good", "good answers", counts["succeeded"] - flawed),
        ("flawed", "answers with a flaw", flawed),
        ("invalid", "not what was asked for", invalid),
        ("failed", "failed", counts["failed"] - invalid),
        ("missing", "missing", counts["missing"]),
        ("open", "still open", counts.get("pending", 0)),
    ]
    return [one for one in every if one[2]]


def when(seconds: float | None) -> str:
    """`2026-11-27 22:46 UTC`."""
    return iso(seconds)[:16].replace("T", " ") + " UTC" if seconds is not None else "not yet"


def number(value: float) -> str:
    """`4,980`, `0.25`."""
    return f"{int(value):,}" if value == int(value) else f"{value:,.4g}"


def duration(seconds: float) -> str:
    """`42 s`, `12 min`, `3.5 h`."""
    size, unit = next(((size, unit) for least, size, unit in UNITS if seconds >= least), (1, "s"))
    return f"{round(seconds / size, 1):g} {unit}"


# The answers


class Chosen(NamedTuple):
    """The answers as JSON without any sign of markup; how many rows and requests they are of, and how many of these
    went wrong; how many rows of a comparison are answered in unlike ways, None where nothing is compared.
    """

    json: str
    rows: int
    requests: int
    wrong: int
    differing: int | None


# A row of the page: its answer, or in a comparison that of each job, with the job's number.
Row = list[tuple[int, Shown]]


def chosen(found: Sequence[Subject]) -> Chosen:
    """The chosen requests of all jobs, as many as there is room for: unlike answers first, then what went wrong."""
    tables = Counter(one.table for one in found)
    together: dict[Hashable, Row] = {}
    for number, one in enumerate(found):
        for shown in one.rows:
            key = (one.table, shown.custom_id) if tables[one.table] > 1 else (number, shown.place)
            together.setdefault(key, []).append((number, shown))
    parts: dict[Part, int] = {}
    kept: list[tuple[Row, str]] = []
    room = ROWS_BYTES
    for row in sorted(together.values(), key=_order)[:MOST_ROWS]:
        before = len(parts)
        text = _json(_told(row, found, parts))
        room -= len(text.encode()) + sum(len(_json(part).encode()) for part in itertools.islice(parts, before, None))
        if room < 0:
            break
        kept.append((row, text))
    kept.sort(key=lambda one: (*_order(one[0]), one[0][0][0], one[0][0][1].place))
    jobs = [{"id": one.id, "name": one.name, "columns": one.columns} for one in found]
    head = _json({"jobs": jobs, "filters": _filters(found), "parts": list(parts)})
    text = f'{head[:-1]}, "rows": [{",".join(text for _, text in kept)}]}}'
    every = [shown for row, _ in kept for _, shown in row]
    wrong = sum(shown.kind == WRONG for shown in every)
    unlike = sum(_differs(row) for row, _ in kept) if max(tables.values()) > 1 else None
    return Chosen(text, len(kept), len(every), wrong, unlike)


def _json(value: Any) -> str:
    """JSON without any sign of markup, which is at most six times as long."""
    return written(value).translate(ESCAPES)


def _order(row: Row) -> tuple[bool, int]:
    return not _differs(row), min(shown.kind for _, shown in row)


def _differs(row: Row) -> bool:
    """Whether jobs answer a row in unlike ways: not the blanks around an answer, nor the order of its fields."""
    return len(row) > 1 and len({(shown.status, _meaning(shown.answer or "")) for _, shown in row}) > 1


def _meaning(answer: str) -> str:
    try:
        return repr(sorted(read(answer).items())) if answer.startswith("{") else answer.strip()
    except (ValueError, AttributeError):
        return answer.strip()


def _told(row: Row, found: Sequence[Subject], parts: dict[Part, int]) -> dict[str, Any]:
    """A row as the script reads it; parts of prompts, which many requests share, stand in `parts` once."""
    answers = []
    for job, shown in row:
        told = {name: value for name, value in shown._asdict().items() if value not in (None, "")}
        prompt = [parts.setdefault(part, len(parts)) for part in found[job].prompts.get(shown.place, ())]
        if shown.answer and shown.answer.startswith("{"):
            told["answer"] = _indented(shown.answer)
        answers.append({**told, "job": job, "prompt": prompt})
    known = ((job, own) for job, shown in row if (own := found[job].cells.get(shown.place)))
    job, cells = next(known, (row[0][0], []))  # of that job are the names of the columns
    return {"job": job, "cells": cells, "answers": answers, **({"differs": True} if _differs(row) else {})}


def _indented(answer: str) -> str:
    """JSON as people read it, every digit as it was."""
    try:
        read(answer)
        return format_json(answer, indent=2)
    except ValueError:
        return answer


def _filters(found: Sequence[Subject]) -> list[dict[str, Any]]:
    """The fields of structured answers that have few values, with these."""
    values: dict[str, dict[str, None]] = {}
    for one in found:
        for own in one.fields:
            if own.choices:
                values.setdefault(own.name, {}).update(dict.fromkeys(own.choices))
    return [{"name": name, "values": list(few)} for name, few in list(values.items())[:MOST_FILTERS]]
