"""Results as rows of a table: which columns they add, and what stands in the cells.

Promises: an answer's cell holds the answer, also an invalid one's; a number of a structured answer keeps its digits;
where an answer is not what was asked for, the columns of its parts are empty.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from doubleword.answers import lines as result_lines
from doubleword.answers import usage as usage_of
from doubleword.answers.json_text import cell_of, raw_fields_of
from doubleword.answers.lines import one_text
from doubleword.answers.usual import UsualLine
from doubleword.answers.vectors import vectors
from doubleword.failure import Exit, Failure, plain
from doubleword.quick_msgspec import Struct, encode
from doubleword.results.result import REUSED_FROM, Good, Result, origin_of
from doubleword.service import EMBEDDINGS
from doubleword.tables.formulas import STARTS
from doubleword.tables.outputs.columns import OutputColumn, free_name, selection, source_names
from doubleword.tables.staged import Kind, Staged

CUSTOM_ID, ANSWER, EMBEDDING = "custom_id", "answer", "embedding"
RESULT_COLUMNS = (CUSTOM_ID, "status", ANSWER, "finish_reason", "prompt_tokens", "completion_tokens", "error")
TOKENS = ("prompt_tokens", "completion_tokens")


class Wanted(Struct, frozen=True):
    """What the user says of a table: its format, the columns, and how CSV is written, None for as the source is.

    `reused` says that rows may have the answers of earlier jobs.
    """

    format: str
    columns: str | None = None
    delimiter: str | None = None
    byte_order_mark: bool = False
    raw_cells: bool = False
    id: str | None = None
    reused: bool = False


class Names(NamedTuple):
    """The names of an output's columns: those of the source, those that results add by what they are, and what is
    chosen of them, as pairs of new and old name.
    """

    source: tuple[str, ...]
    added: dict[str, str]
    chosen: list[tuple[str, str]]


def names_of(wanted: Wanted, source: Sequence[str], endpoints: set[str], properties: Sequence[str]) -> Names:
    """The names in the output that is `wanted`; raises Failure (exit 2) for columns that it cannot have."""
    any_case = wanted.format == "parquet"
    own = source_names(source, any_case)
    added = added_names(own, endpoints, properties, wanted.reused)
    return Names(own, added, selection(wanted.columns, [*own, *added.values()], any_case))


def added_names(
    source: Sequence[str], endpoints: set[str], properties: Sequence[str], reused: bool = False
) -> dict[str, str]:
    """What results add to the columns of `source`: the names, unlike those and each other, by what they are.

    `properties` of structured answers stand after the answer, by `property:NAME`; embeddings have a column of theirs,
    and so have, where answers are `reused`, their origins.
    """
    taken = {name.casefold() for name in source}
    answer = EMBEDDING if endpoints == {EMBEDDINGS} else ANSWER
    found = {name: free_name(answer if name == ANSWER else name, taken) for name in RESULT_COLUMNS}
    for name in properties:
        found[f"property:{name}"] = free_name(name, taken)
    order = [*RESULT_COLUMNS[:3], *(f"property:{name}" for name in properties), *RESULT_COLUMNS[3:]]
    if reused:
        found[REUSED_FROM] = free_name(REUSED_FROM, taken)
        order.append(REUSED_FROM)
    return {name: found[name] for name in order}


# What a value is, by the first letter of its JSON; all others are numbers.
_SEEN = {'"': "", "{": {}, "[": [], "t": True, "f": False, "n": None}


class _UsualRow(Struct):
    """A usual answer, as it is staged."""

    custom_id: str
    answer: str
    prompt_tokens: int
    completion_tokens: int
    status: str = "succeeded"
    finish_reason: str = "stop"


class ResultRows:
    """Results, staged row by row under what their columns are."""

    def __init__(
        self, staged: Staged, endpoints: set[str], properties: Mapping[str, str], several: bool, reused: bool
    ) -> None:
        self._staged = staged
        self._origins = [REUSED_FROM] if reused else []
        self._vectors = endpoints == {EMBEDDINGS}
        self._several = several
        self._declared = properties
        self._kinds = {name: Kind() for name in properties}
        # Staged under numbers: what a schema calls its properties may be no name in SQL, or one but for its case.
        self._places = {name: f"property {at}" for at, name in enumerate(properties)}
        self.may_run = False  # whether a spreadsheet may take some cell for a formula

    def pack(self, result: Result) -> bytes:
        """A result's row, for `add` when its turn comes."""
        return self._staged.line(self._cells(result))

    def pack_usual(self, answer: UsualLine) -> bytes:
        """The same of a usual answer."""
        body = answer.response.body
        tokens, text = body.usage, body.choices[0].message.content
        if text[0] in STARTS:
            self.may_run = True
        return encode(_UsualRow(answer.custom_id, text, tokens.prompt_tokens, tokens.completion_tokens))

    def add(self, found: Result | Good) -> None:
        """Append the rows of results."""
        self._staged.add_lines(found.packed_by(self))

    @property
    def sql(self) -> str:
        """SQL of the rows, once all are staged: `place`, from 1 in their order, and a column for each part."""
        names = [*RESULT_COLUMNS, *self._origins, *self._places.values()]
        types = {name: "BIGINT" if name in TOKENS else "VARCHAR" for name in names}
        return f"(SELECT row_number() OVER () AS place, * FROM {self._staged.sql(types)})"

    def columns(self, names: Mapping[str, str]) -> list[OutputColumn]:
        """The output columns under `names`, as `added_names` gave them."""
        return [self._column(part, name) for part, name in names.items()]

    def inexact(self) -> list[str]:
        """The properties whose numbers no number type holds."""
        return [name for name, kind in self._kinds.items() if kind.is_inexact]

    def _column(self, part: str, name: str) -> OutputColumn:
        prop = part.removeprefix("property:") if part.startswith("property:") else None
        sql = f'results."{part if prop is None else self._places[prop]}"'
        if part in TOKENS:
            return OutputColumn(name, f"CAST({sql} AS VARCHAR)", sql, "BIGINT")
        if part == ANSWER and self._vectors:
            numbers = f"TRY_CAST({sql} AS DOUBLE[])"
            beyond = " OR ".join(f"list_contains({numbers}, CAST('{one}' AS DOUBLE))" for one in ("inf", "-inf"))
            return OutputColumn(name, sql, f"CASE WHEN NOT ({beyond}) THEN {numbers} END", "DOUBLE[]")
        if prop is not None:
            kind = self._kinds[prop].type
            if self._kinds[prop].is_unseen:
                kind = {"integer": "BIGINT", "number": "DOUBLE", "boolean": "BOOLEAN"}.get(self._declared[prop], kind)
            return OutputColumn(name, sql, sql if kind == "VARCHAR" else f"TRY_CAST({sql} AS {kind})", kind)
        return OutputColumn(name, sql, sql, key=part == CUSTOM_ID, may_be_numbers=part == ANSWER)

    def _cells(self, result: Result) -> dict[str, str | int | None]:
        cells: dict[str, str | int | None] = {CUSTOM_ID: result.custom_id, "status": result.status}
        cells["error"] = result.cause
        if self._origins and result.line is not None:
            cells[REUSED_FROM] = origin_of(result.line)
        body = result.answer()
        if body is None:
            return cells
        texts: Sequence[str] = ()
        if result.endpoint == EMBEDDINGS:
            if not self._several and len(vectors(body, result.form)) > 1:
                raise several_vectors(result)
            cells[ANSWER] = result_lines.answer_text(body, EMBEDDINGS, result.form) or None
        else:
            texts = result.texts or result_lines.answer_texts(body)
            cells[ANSWER] = one_text(texts)
        cells["finish_reason"] = result_lines.finish_reason(body) or None
        cells["prompt_tokens"], cells["completion_tokens"] = usage_of.tokens(body)
        if self._kinds and texts and result.kind == "succeeded":
            self._add_properties(cells, texts[0])
        self.may_run |= any(type(cell) is str and cell[:1] in STARTS for name, cell in cells.items() if cell)
        return cells

    def _add_properties(self, cells: dict[str, str | int | None], text: str) -> None:
        """The cells of a structured answer's properties."""
        for name, raw in raw_fields_of(text).items():
            if name in self._kinds:
                self._kinds[name].see(_SEEN[raw[0]] if raw[0] in _SEEN else raw.encode())
                cells[self._places[name]] = cell_of(raw)


# What a staged row begins with.
_STAGED_ID = re.compile(rb'\{"custom_id":"(?:[^"\\]|\\.)*"').match


def packed_for(packed: bytes, custom_id: str) -> bytes:
    """What was packed of a request's answer, as that of a row that it answers."""
    start = _STAGED_ID(packed)
    assert start is not None, "a staged row begins with its custom_id"
    return b'{"custom_id":' + encode(custom_id) + packed[start.end() :]


def vector_of(result: Result) -> Sequence[float] | None:
    """The one vector of an answer; None where there is none. Raises Failure (2) for several."""
    body = result.answer()
    found = vectors(body, result.form) if body is not None and result.kind == "succeeded" else []
    if len(found) > 1:
        raise several_vectors(result)
    return found[0] if found else None


def several_vectors(result: Result) -> Failure:
    """A request that gave more than one text to embed, where only one vector has a place."""
    message = f"the answer to {plain(result.custom_id, 64)} holds several vectors, and a row has one cell for one"
    return Failure(Exit.BAD_INPUT, "several_vectors", message, "fetch them with --format jsonl or csv")
