"""The results of rows, where several rows share a request, stand in another order than their requests, or have answers
of earlier jobs.

Promises: each row has the result of its own request, once, in the order of the rows, under its own custom_id; of good
answers no more is in memory than eight bytes.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from doubleword.answers.judgement import judged
from doubleword.answers.vectors import FLOAT32, Form, asked_form
from doubleword.batch_files.row_map import RowFiles, read_answers, read_rows
from doubleword.failure import Exit, Failure
from doubleword.results.expected import Schemas
from doubleword.results.reconciliation import RUN_BYTES, Tally
from doubleword.results.result import Good, Pack, Result, line_for, line_from
from doubleword.results.spool import LENGTH, Spool
from doubleword.results.table_rows import packed_for
from doubleword.service import EMBEDDINGS
from doubleword.system import Disk

OTHER = -1  # the place of what is no good answer
ROWS_AT_ONCE = 1000


class _Kept(NamedTuple):
    """A result that is no good answer: its line, and what was packed of it, are in the spool."""

    result: Result
    line: int | None
    packed: int | None


class RowResults:
    """Takes the results of all requests in their order, then hands out those of the rows; used as a context manager.

    They are kept on disk beside `output` meanwhile. Each row is counted in `tally`. `pack` says what is kept of an
    answer where its line is not needed, `schemas` what those of earlier jobs have to be.
    """

    def __init__(self, output: Path, disk: Disk, pack: Pack | None, schemas: Schemas) -> None:
        self.tally = Tally()
        self._disk = disk
        self._pack = pack
        self._schemas = schemas
        self._spool = Spool(output.with_name(f".{output.name}.answers"), disk)
        self._places = array("q")
        self._others: dict[int, _Kept] = {}
        self._alike: dict[_Kept, _Kept] = {}  # results without a line, of which few differ but for their ids
        self._kind: tuple[str, bool, Form] | None = None  # of all good answers, as `Good` has them

    def __enter__(self) -> RowResults:
        self._spool.__enter__()
        return self

    def __exit__(self, *failed: object) -> None:
        self._spool.__exit__(*failed)

    def of(self, files: RowFiles, runs: Iterable[Result | Good]) -> Iterator[Result | Good]:
        """The results of the rows that the map in `files` has; `runs` are those of the requests.

        Raises Failure (2) for a request or an answer that is not there.
        """
        for run in runs:
            self._keep(run)
        requests = len(self._places)
        for good in self._reused(files.answers):
            self._keep(good)
        self._spool.settle()
        waiting: list[tuple[str, int]] = []
        size = 0
        for number, custom_id in read_rows(files.rows, self._disk):
            at = number - 1 if number > 0 else requests - number - 1
            if not number or number > requests or at >= len(self._places):
                raise Failure(Exit.BAD_INPUT, "row_map_lost", "the row map names requests that this job has not")
            self.tally.reused += number < 0
            place = self._places[at]
            if waiting and (place == OTHER or size > RUN_BYTES or len(waiting) >= ROWS_AT_ONCE):
                yield self._good(waiting)
                waiting, size = [], 0
            if place == OTHER:
                yield self._other(self._others[at], custom_id)
            else:
                waiting.append((custom_id, place))
                size += place & LENGTH
        if waiting:
            yield self._good(waiting)

    def _keep(self, run: Result | Good) -> None:
        """Keep the next results. Good answers of another kind than the first are kept one by one."""
        if isinstance(run, Good) and (self._kind or run[2:]) == run[2:]:
            self._kind = run.endpoint, run.packed, run.form
            self._places.extend(map(self._spool.add, run.kept))
            return
        for result in run.results():
            line, packed = (None if one is None else self._spool.add(one) for one in (result.line, result.packed))
            kept = _Kept(result._replace(custom_id="", line=None, packed=None, body=None), line, packed)
            self._others[len(self._places)] = self._alike.setdefault(kept, kept) if line is packed is None else kept
            self._places.append(OTHER)

    def _reused(self, answers: Path | None) -> Iterator[Good]:
        """The answers of earlier jobs, each with its origin."""
        for one in read_answers(answers, self._disk):
            line, pack = line_from(one.line, one.origin), self._pack if one.url != EMBEDDINGS else None
            kept, form = line, FLOAT32
            if one.url == EMBEDDINGS and one.request:
                form = asked_form(json.loads(one.request)["body"])
            if pack is not None:
                result = Result("", "succeeded", line, None, one.url)
                body = result.answer() or {}
                schema = self._schemas.expected_in([(one.origin, one.request)]).request(one.origin).schema
                texts = judged(body, one.url, schema).texts if schema is not None else ()
                kept = pack.pack(result._replace(body=body, texts=texts))
            yield Good([""], [kept], one.url, pack is not None, form)

    def _good(self, rows: Sequence[tuple[str, int]]) -> Good:
        assert self._kind is not None
        endpoint, packed, form = self._kind
        fit, custom_ids = packed_for if packed else line_for, [custom_id for custom_id, _ in rows]
        kept = self._spool.read_all([place for _, place in rows])
        self.tally.succeeded += len(rows)
        return Good(custom_ids, list(map(fit, kept, custom_ids)), endpoint, packed, form)

    def _other(self, kept: _Kept, custom_id: str) -> Result:
        line, packed = (None if one is None else self._spool.read_all([one])[0] for one in (kept.line, kept.packed))
        result = kept.result._replace(
            custom_id=custom_id,
            line=None if line is None else line_for(line, custom_id),
            packed=None if packed is None else packed_for(packed, custom_id),
        )
        self.tally.add(result)
        return result
