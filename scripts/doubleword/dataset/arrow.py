"""Partitions as Arrow tables, for engines that hand them to functions: Ray Data, Spark, Daft.

`requests_of` and `answers_of` are pure: what they return follows from what they are given. `run_partition` asks and
waits, and is found again by what it asks: an engine that runs it again on the same rows pays nothing.

Promises: row N of a table is asked as `row-000000N`, and its answer stands in row N, whatever order results come in;
a row without a result is `missing`. Needs pyarrow, which is imported only here.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doubleword.answers import judgement
from doubleword.answers import lines as result_lines
from doubleword.answers import usage as usage_of
from doubleword.answers.vectors import vectors
from doubleword.batch_files.making import making
from doubleword.cli import Progress
from doubleword.dataset.part_job import PartJob
from doubleword.dataset.partitions import Partition
from doubleword.failure import Failure
from doubleword.jobs.connection import chosen_base_url, connect
from doubleword.request_lines import templates
from doubleword.request_lines.arguments import add_arguments
from doubleword.service import CHAT, EMBEDDINGS
from doubleword.system import System

if TYPE_CHECKING:
    import pyarrow

FILE = "rows.parquet"


def requests_of(table: pyarrow.Table, **asks: Any) -> list[bytes]:
    """A request line for each row, without line ends; `asks` are the arguments of create_batch_file.py, `max_tokens`
    for `--max-tokens`.

    An empty row gives none. Raises Failure (2) for a row that gives no valid request, TypeError for an unknown
    argument; `id` is one of them, since `answers_of` tells rows by their numbers.
    """
    with _written(table) as path, making(_arguments(path, asks), System().disk) as made:
        return [line for lines in made.lines() for line in lines]


def answers_of(table: pyarrow.Table, results: Iterable[bytes], endpoint: str = CHAT) -> pyarrow.Table:
    """`table` with the columns custom_id, status, answer, finish_reason, prompt_tokens, completion_tokens and error.

    `results` are lines of the server's output and error files. Of several for one row the last that succeeded counts.
    """
    import pyarrow as pa

    found: dict[str, dict[str, Any]] = {}
    for line in results:
        judged = result_lines.judge(line.strip(), endpoint)
        if judged is not None:
            row = _row(judged, endpoint)
            if row["status"] == "succeeded" or found.get(judged.custom_id, row)["status"] != "succeeded":
                found[judged.custom_id] = row
    ids = [templates.DEFAULT_ID % number for number in range(1, table.num_rows + 1)]
    rows = [found.get(one, {"custom_id": one, "status": "missing"}) for one in ids]
    answer = pa.list_(pa.float64()) if endpoint == EMBEDDINGS else pa.string()
    types = {
        "custom_id": pa.string(), "status": pa.string(), "answer": answer, "finish_reason": pa.string(),
        "prompt_tokens": pa.int64(), "completion_tokens": pa.int64(), "error": pa.string(),
    }  # fmt: skip
    for name, kind in types.items():
        table = table.append_column(name, pa.array([row.get(name) for row in rows], kind))
    return table


def run_partition(
    table: pyarrow.Table,
    *,
    run: str,
    base_url: str | None = None,
    window: str = "24h",
    wait_s: float = 90_000.0,
    max_cost: float | None = None,
    is_first: bool = False,
    columns: str | None = None,
    **asks: Any,
) -> pyarrow.Table:
    """The rows of `table` with their answers, as run_dataset.py writes them; rows that failed say why.

    The job follows from `run`, `window` and the requests: run again, anywhere, it goes on, and two partitions that ask
    the very same are one job. Without the word that it `is_first`, ten seconds are spent to look for what an earlier
    run may have sent. The key is that of the environment. Raises Failure as run_dataset.py, 7 where `wait_s` ends
    before the batch.
    """
    import pyarrow.parquet as pq

    system = System()
    server = argparse.Namespace(base_url=base_url, local=False)
    with _written(table) as path, connect(server, system, lambda _: None) as api:
        args = argparse.Namespace(**{**vars(_arguments(path, asks)), "window": window, "columns": columns})
        one, progress = Partition(FILE, FILE), Progress(system.monotonic)
        job = PartJob(args, one, path, path.parent, run, chosen_base_url(server), system, progress)
        try:
            job.submit(api, not is_first, max_cost, lambda: None)
        except Failure as failure:
            if failure.code != "no_rows":
                raise
            return answers_of(table, [], args.endpoint)
        job.finish(api, wait_s)
        return pq.read_table(job.answers)


def _row(judged: result_lines.Line, endpoint: str) -> dict[str, Any]:
    """The cells of one result."""
    row: dict[str, Any] = {"custom_id": judged.custom_id, "status": "failed", "error": judged.cause}
    if judged.body is None or judged.cause is not None:
        return row
    found = judgement.judged(judged.body, endpoint)
    prompt, completion = usage_of.tokens(judged.body)
    row.update(
        status="failed" if found.cause is not None else "succeeded",
        error=found.cause,
        finish_reason=result_lines.finish_reason(judged.body) or None,
        prompt_tokens=prompt,
        completion_tokens=completion,
    )
    if endpoint == EMBEDDINGS:
        row["answer"] = next(iter(vectors(judged.body)), None)
    elif found.texts:
        row["answer"] = result_lines.one_text(found.texts)
    return row


def _arguments(path: Path, asks: dict[str, Any]) -> argparse.Namespace:
    """The arguments of create_batch_file.py with these values."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    known = vars(parser.parse_args([]))
    unknown = sorted(asks.keys() - known.keys() | asks.keys() & {"input", "example", "force", "id"})
    if unknown:
        raise TypeError(f"{unknown[0]} is no argument of create_batch_file.py that has a place here")
    return argparse.Namespace(**{**known, **asks, "input": [str(path)]})


@contextlib.contextmanager
def _written(table: pyarrow.Table) -> Iterator[Path]:
    """The table as a Parquet file, since that is what requests are made of."""
    import pyarrow.parquet as pq

    with System().disk.work_folder(None) as folder:
        pq.write_table(table, folder / FILE)
        yield folder / FILE
