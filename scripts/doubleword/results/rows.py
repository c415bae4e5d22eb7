"""The results of rows, where several rows share a request, or rows stand in another order than their requests.

Promises: each row has the result of its own request, once, in the order of the rows, under its own custom_id; of good
answers no more is in memory than eight bytes.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from doubleword.failure import Exit, Failure
from doubleword.results.reconciliation import RUN_BYTES, Tally
from doubleword.results.result import Good, Result, line_for
from doubleword.results.spool import LENGTH, Spool
from doubleword.results.table_rows import packed_for
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

    They are kept on disk beside `output` meanwhile. Each row is counted in `tally`.
    """

    def __init__(self, output: Path, disk: Disk) -> None:
        self.tally = Tally()
        self._spool = Spool(output.with_name(f".{output.name}.answers"), disk)
        self._places = array("q")
        self._others: dict[int, _Kept] = {}
        self._alike: dict[_Kept, _Kept] = {}  # results without a line, of which few differ but for their ids
        self._kind: tuple[str, bool] | None = None  # endpoint, and whether it is packed, of all good answers

    def __enter__(self) -> RowResults:
        self._spool.__enter__()
        return self

    def __exit__(self, *failed: object) -> None:
        self._spool.__exit__(*failed)

    def of(self, rows: Iterable[tuple[int, str]], runs: Iterable[Result | Good]) -> Iterator[Result | Good]:
        """The results of `rows`, each the number of its request and a custom_id; `runs` are those of the requests.

        Raises Failure (2) for a request that is not there.
        """
        for run in runs:
            self._keep(run)
        self._spool.settle()
        waiting: list[tuple[str, int]] = []
        size = 0
        for number, custom_id in rows:
            if not 0 < number <= len(self._places):
                raise Failure(Exit.BAD_INPUT, "row_map_lost", "the row map names requests that this job has not")
            place = self._places[number - 1]
            if waiting and (place == OTHER or size > RUN_BYTES or len(waiting) >= ROWS_AT_ONCE):
                yield self._good(waiting)
                waiting, size = [], 0
            if place == OTHER:
                yield self._other(self._others[number - 1], custom_id)
            else:
                waiting.append((custom_id, place))
                size += place & LENGTH
        if waiting:
            yield self._good(waiting)

    def _keep(self, run: Result | Good) -> None:
        """Keep the next results. Good answers of another kind than the first are kept one by one."""
        if isinstance(run, Good) and (self._kind or (run.endpoint, run.packed)) == (run.endpoint, run.packed):
            self._kind = (run.endpoint, run.packed)
            self._places.extend(map(self._spool.add, run.kept))
            return
        for result in run.results() if isinstance(run, Good) else [run]:
            line, packed = (None if one is None else self._spool.add(one) for one in (result.line, result.packed))
            kept = _Kept(result._replace(custom_id="", line=None, packed=None, body=None), line, packed)
            self._others[len(self._places)] = self._alike.setdefault(kept, kept) if line is packed is None else kept
            self._places.append(OTHER)

    def _good(self, rows: Sequence[tuple[str, int]]) -> Good:
        assert self._kind is not None
        endpoint, packed = self._kind
        fit, custom_ids = packed_for if packed else line_for, [custom_id for custom_id, _ in rows]
        kept = self._spool.read_all([place for _, place in rows])
        self.tally.succeeded += len(rows)
        return Good(custom_ids, list(map(fit, kept, custom_ids)), endpoint, packed)

    def _other(self, kept: _Kept, custom_id: str) -> Result:
        line, packed = (None if one is None else self._spool.read_all([one])[0] for one in (kept.line, kept.packed))
        result = kept.result._replace(
            custom_id=custom_id,
            line=None if line is None else line_for(line, custom_id),
            packed=None if packed is None else packed_for(packed, custom_id),
        )
        self.tally.add(result)
        return result
