"""What was asked in the chosen requests, and of which rows: read from the batch files and their source.

Promises: a row's cells stand only beside a request that was made of that very row (`batch_files.matching`); where that
cannot be told, or a file is gone, it is said and the rest stands as it is.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from doubleword.batch_files.matching import Matching, reading_settings
from doubleword.batch_files.reading import numbered_lines, request_of
from doubleword.batch_files.record import Record, hashes_of
from doubleword.failure import Failure
from doubleword.report.answer_table import LONGEST, clipped
from doubleword.server.objects import Asked
from doubleword.system import Disk
from doubleword.tables.database import Database
from doubleword.tables.plain_copy import STDIN
from doubleword.tables.sources.source import Table

Part = tuple[str, str]  # who speaks, and what


def prompts(places: Sequence[int], asked: Sequence[Asked], disk: Disk) -> dict[int, list[Part]]:
    """The parts of the prompts of the requests at `places` in the job, from 1, as far as batch files are there."""
    ends = list(itertools.accumulate(one.requests or 0 for one in asked))
    wanted: list[set[int]] = [set() for _ in asked]
    for place in places:
        if (file := bisect.bisect_left(ends, place)) < len(asked):
            wanted[file].add(place)
    found: dict[int, list[Part]] = {}
    for one, end, own in zip(asked, ends, wanted, strict=True):
        if one.path is None or not own:
            continue
        first, last = end - (one.requests or 0) + 1, max(own)
        for place, (_, line) in zip(range(first, last + 1), numbered_lines(one.path, disk), strict=False):
            if place in own:
                found[place] = [(role, said[:LONGEST]) for role, said in parts_of(request_of(line)["body"])]
    return found


def parts_of(body: Mapping[str, Any]) -> list[Part]:
    """The texts of a request with the roles that speak them; what is no text is named, not shown."""
    asked = next((body[name] for name in ("messages", "input", "prompt") if name in body), "")
    parts = [("system", str(body[name])) for name in ("instructions", "system") if body.get(name)]
    messages = [one for one in asked if isinstance(one, dict)] if isinstance(asked, list) else []
    parts += [(str(one.get("role") or "user"), _text(one.get("content"))) for one in messages]
    return parts if messages else [*parts, ("user", _text(asked))]


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "\n".join(map(_text, content))
    if isinstance(content, dict):
        return content["text"] if isinstance(content.get("text"), str) else f"[{content.get('type', 'part')}]"
    return "" if content is None else str(content)


def cells(
    record: Record | None, files: Sequence[Path | None], disk: Disk, target: Database
) -> tuple[tuple[str, ...], dict[int, list[str | None]], str]:
    """The names of the source's columns and the cells of the requests in the table `chosen`, by their places; and why
    there are none.
    """
    if record is None:
        return (), {}, "it is not known of which table the requests were made"
    if STDIN in record.inputs:
        return (), {}, "the table came by standard input"
    try:
        settings = reading_settings(record, record.inputs, disk)
        table = Table(record.inputs, settings, disk, target)
        hashes = hashes_of(table.files, disk)
        match = Matching(table, hashes, settings, record, None, files, None, disk, target).match(record.inputs)
        number, joined = match.number_of("custom_id"), ""
        if match.numbers is not None:
            number, joined = "number", f" JOIN {match.numbers} AS numbers USING (custom_id)"
        asked = f"SELECT place, {number} AS number FROM answers JOIN chosen USING (place){joined}"
        values = "".join(f", {clipped(one)}" for one in (f'source."{at}"' for at in range(len(table.names))))
        source = f"{table.relation(raw=False)} AS source"
        found = target.run(f"SELECT asked.place{values} FROM {source} JOIN ({asked}) AS asked USING (number)")
    except Failure as failure:
        return (), {}, failure.message
    return table.names, {place: list(own) for place, *own in found}, ""
