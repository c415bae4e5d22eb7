"""Few-shot examples: a table of questions and their right answers, as messages that stand before the real question.

Promises: every row of the table becomes messages in its order, or is named.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from doubleword.failure import Exit, Failure, plain
from doubleword.request_lines import templates
from doubleword.request_lines.checker import Checker
from doubleword.request_lines.line import build, to_line
from doubleword.service import MAX_LINE_BYTES
from doubleword.strict_json import read as strict_json
from doubleword.system import Disk
from doubleword.tables.relation import Settings, bare_name, column_at
from doubleword.tables.rows import BadRow, Row
from doubleword.tables.sources.source import opened_table

MESSAGES = "messages"
COLUMNS = "prompt and answer, user and assistant, or messages"


def read(
    path: Path, disk: Disk, prompt: str | None, defaults: Mapping[str, str], endpoint: str
) -> list[dict[str, Any]]:
    """The messages of all rows of the table `path`, for requests to `endpoint`.

    A row gives `messages`, or a question and an answer. The question is the template `prompt` filled from the row
    where it has all of the template's columns, else its `prompt` or `user`; the answer its `answer` or `assistant`.
    Raises Failure (exit 2) that names the row.
    """
    found: list[dict[str, Any]] = []
    with opened_table([str(path)], Settings(), disk) as table:
        checker, size = Checker(), 0
        for row in table.rows():
            try:
                messages = _messages(row, prompt, defaults)
                line = to_line(build("-", endpoint, "-", None, before=messages))
            except (BadRow, ValueError) as error:
                raise _bad(path, row, error.cause if isinstance(error, BadRow) else str(error)) from None
            if checker.accepts(line) is None:
                problem = checker.explain(line)[0]
                raise _bad(path, row, f"{problem.path.removeprefix('body.')}: {problem.message}")
            size += len(line)
            if size > MAX_LINE_BYTES:
                raise _bad(path, row, f"the examples up to here are longer than a request, {MAX_LINE_BYTES:,} bytes")
            found.extend(messages)
    if not found:
        raise Failure(Exit.BAD_INPUT, "no_rows", f"--examples {plain(path, 80)} has no rows", f"give it {COLUMNS}")
    return found


def messages_of(row: Row) -> list[dict[str, Any]]:
    """The ready-made messages of `row`: its column `messages`, a list, or the JSON text of one.

    Keys without a value, as tables with fixed columns have them, are left out; raises BadRow for what is no list of
    objects with something in it.
    """
    at = column_at(MESSAGES, row.names)
    cell = row.cells[at] if at >= 0 else None
    if cell is None:
        raise BadRow(row, f"has nothing in the column {MESSAGES}, as other rows have")
    try:
        value = strict_json(cell.encode("utf-8", "surrogatepass"))
    except ValueError as error:
        raise BadRow(row, f"the column {MESSAGES} {error}") from None
    if not isinstance(value, list) or not value or not all(isinstance(one, dict) for one in value):
        said = f'the column {MESSAGES} is no list of messages like [{{"role": "user", "content": "…"}}]'
        raise BadRow(row, said)
    return [{key: item for key, item in one.items() if item is not None or key == "content"} for one in value]


def _messages(row: Row, prompt: str | None, defaults: Mapping[str, str]) -> list[dict[str, Any]]:
    if row.problem is not None:
        raise BadRow(row, row.problem)
    values = {bare_name(name): cell for name, cell in row.values.items()}
    if values.get(MESSAGES) is not None:
        return messages_of(row)
    answer = next((name for name in ("answer", "assistant") if name in values), None)
    if answer is None:
        raise BadRow(row, f"has no answer; expected the columns {COLUMNS}")
    question = next((name for name in ("prompt", "user") if name in values), None)
    places = [] if prompt is None else templates.places(prompt)
    if prompt is not None and places and (question is None or set(places) <= values.keys()):
        asked = templates.fill(prompt, row, defaults)
    elif question is not None:
        asked = templates.fill("{" + question + "}", row)
    else:
        raise BadRow(row, f"has no question; expected the columns {COLUMNS}")
    answered = templates.fill("{" + answer + "}", row)
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]


def _bad(path: Path, row: Row, cause: str) -> Failure:
    message = f"--examples {plain(path, 80)}, {row.shown}: {cause}"
    return Failure(Exit.BAD_INPUT, "bad_examples", message, "mend the row; a wrong example spoils every answer")
