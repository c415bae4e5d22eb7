"""compare.py: the same rows under several variants, asked as linked jobs, measured and written side by side.

Promises: what a run finds done it does not do again; a run that stops anywhere is gone on with by the same command.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from doubleword.cli import Progress
from doubleword.compare import judge, measures
from doubleword.compare.answers import counted, marks_in
from doubleword.compare.asking import Asking
from doubleword.compare.output import FORMATS, refuse_foreign, shown, summary_path, write
from doubleword.compare.sample import Side, require_same_rows
from doubleword.compare.variants import Variant, variants_of
from doubleword.failure import Exit, Failure, plain
from doubleword.jobs.cost_limit import ASK, require_cost
from doubleword.jobs.job_file import job_path, locked
from doubleword.jobs.submission import WINDOWS
from doubleword.pricing.bill import told as bill_line
from doubleword.pricing.estimate import total_of
from doubleword.pricing.prices import REALTIME, load_prices
from doubleword.request_lines.form_arguments import bad_arguments
from doubleword.system import System
from doubleword.tables.plain_copy import STDIN

BILL = ("usage", "cost_usd", "cost_source", "cost_reason", "list_cost_usd", "realtime_usd", "saved_usd", "estimate_usd")


def compare(args: argparse.Namespace, system: System) -> dict[str, Any]:
    """The work of `compare.py`. Raises Failure 6 or 7 with its keys where answers failed or are still to come."""
    output = Path(args.output)
    if output.suffix not in FORMATS:
        raise Failure(Exit.BAD_INPUT, "bad_output", f"OUTPUT ends in {', '.join(FORMATS)}", "name it like models.csv")
    if args.example or not args.input or STDIN in args.input:
        raise bad_arguments("a comparison reads its table more than once", "name a file with --input PATH")
    if args.now and args.window:
        raise bad_arguments("--now asks at once, and has no --window", "leave one of them out")
    variants = variants_of(args, system.disk)
    refuse_foreign(output, system.disk, args.force)
    with contextlib.ExitStack() as held:
        if not args.dry_run:
            for path in (output, *(job_path(one.path(".jsonl")) for one in variants)):
                held.enter_context(locked(path, system.disk))
        try:
            return Comparison(args, system, held).of(variants)
        except Failure as failure:
            if failure.code == "over_max_cost":
                failure.hint = f"fewer --rows or variants, a smaller --max-tokens, or {ASK}"
            raise


class Comparison:
    """One run of `compare.py`; what it opens is held by `held`."""

    def __init__(self, args: argparse.Namespace, system: System, held: contextlib.ExitStack) -> None:
        self._args = args
        self._output = Path(args.output)
        self._disk = system.disk
        self._system = system
        progress = Progress(system.monotonic)
        held.callback(progress.close)
        self._asking = Asking(args, system, progress, held)
        self._folder = held.enter_context(system.disk.work_folder(None))
        self._sides: list[Side] = []
        self._expected: list[str | None] | None = None

    def of(self, variants: Sequence[Variant]) -> dict[str, Any]:
        """All of it."""
        args = self._args
        self._sides = [self._asking.sampled(one, args.rows, args.sample) for one in variants]
        require_same_rows(self._sides)
        self._require_columns()
        later = judge.forecast(self._sides, args, self._folder, self._disk)
        if args.dry_run:
            return self._forecast(later)
        self._asking.ask(self._sides, later)
        if args.judge:
            judge.grade(self._sides, args, self._asking, self._disk)
        return self._written(self._compared())

    def _require_columns(self) -> None:
        """What --expected and --judge name has to be there before anything is paid."""
        names = self._sides[0].names
        judge.require_judge(self._args, names)
        given: list[str] = self._args.expected or []
        if not given or (measures.column_named(given[0], names) is None and all(map(self._is_marks, given))):
            return
        if len(given) > 1:
            raise bad_arguments("--expected names one column", "several are for files of marks, one for each variant")
        try:
            at, fields = measures.expected_field(given[0], names, {one.name: one.fields for one in self._sides})
        except ValueError as error:
            raise bad_arguments(f"--expected: {plain(error)}", "--expected COLUMN, or FIELD=COLUMN") from None
        self._expected = [one.row.cells[at] for one in self._sides[0].made]
        for side in self._sides:
            side.expected = fields.get(side.name)

    def _is_marks(self, word: str) -> bool:
        """Whether `word` is a file of marks, alone or as VARIANT=FILE; then they are read."""
        name, _, place = word.rpartition("=") if self._disk.size(Path(word)) is None else ("", "", word)
        if self._disk.size(Path(place)) is None:
            return False
        file = Path(place).name
        of = [one for one in self._sides if file.startswith(one.variant.path(".").name)]
        found = [one for one in self._sides if one.name == name] if name else of or self._sides
        if len(found) != 1:
            message = f"--expected: it is not known whose answers {plain(file, 80)} marks"
            raise bad_arguments(message, f'--expected "{self._sides[0].name}={place}"')
        found[0].marks = marks_in(Path(place), self._disk)
        return True

    def _forecast(self, later: Sequence[Path]) -> dict[str, Any]:
        """What a dry run answers: requests and cost of each variant, and of all with the judge."""
        prices, disk = load_prices(None, self._disk), self._disk
        window = REALTIME if self._args.now else self._args.window or WINDOWS[0]
        each = []
        for one in self._sides:
            found = total_of([one.path], disk, prices).estimate(window)
            told = {"requests": found.requests, "cost_usd": found.cost_usd, "ceiling_usd": found.ceiling_usd}
            each.append({"name": one.name, **told})
        paths = [*(one.path for one in self._sides), *later]
        if self._args.max_cost is not None and not self._args.local:
            require_cost(paths, window, self._args.max_cost, self._system)
        total = total_of(paths, disk, prices).forecast(window)
        return {"rows": len(self._sides[0].made), "variants": each, **total}

    # Comparing

    def _compared(self) -> dict[str, Any]:
        """All the numbers."""
        variants, failures, prices = [], [], self._asking.prices
        for one in self._sides:
            table, told = one.table, one.told
            table.prices = prices
            cost = {name: one.graded.get(name) for name in ("cost_usd", "cost_source")}
            variants.append(
                {
                    "name": one.name,
                    **{name: told[name] for name in ("job", *BILL) if name in told},
                    **counted(one.answers),
                    "projection": table.projection(
                        [made.request for made in one.made], [dict(answer.tokens) for answer in one.answers]
                    ),
                    **measures.measure(one, self._expected),
                    **({"judge": {**measures.graded(one), **cost}} if one.grades else {}),
                }
            )
            failures += [{"variant": one.name, **failure} for failure in told.get("failures", ())]
        paid = [told for one in self._sides for told in (one.told, one.graded) if told]
        return {
            "output": str(self._output),
            "summary": str(summary_path(self._output)),
            "rows": len(self._sides[0].made),
            "variants": variants,
            "pairs": measures.pairs_of(self._sides),
            **_bill(paid, variants),
            "failures": failures,
        }

    def _written(self, content: dict[str, Any]) -> dict[str, Any]:
        """Write table and numbers; raises Failure 6 with the keys where a variant has failures."""
        warnings = list(dict.fromkeys(said for one in self._sides for said in one.warnings))
        alike: dict[str, list[str]] = {}  # of each sentence, the variants of which it is said
        for one, told in zip(self._sides, content["variants"], strict=True):
            said = [*told.pop("remarks", ()), *one.told.get("warnings", ())]
            good = sum(answer.is_good for answer in one.answers)
            if (count := len(one.grades) - one.grades.count(None)) < good and self._args.judge:
                said.append(f"the judge graded {count} of {good} answers; his own job says why")
            for word in dict.fromkeys(said):
                alike.setdefault(word, []).append(one.name)
        warnings += [f"{', '.join(names)}: {word}" for word, names in alike.items()]
        content["warnings"] = warnings
        more = write(self._output, self._args, self._sides, content, self._disk)
        answer = shown({**content, "warnings": [*warnings, *more][:10]})
        total = sum(one["counts"]["total"] for one in content["variants"])
        good = sum(one["counts"]["succeeded"] for one in content["variants"])
        if good < total:
            message = f"{good} of {total} requests succeeded; the others failed or are missing"
            steps = [one["action"] for one in content["failures"]]
            hint = steps[0] if steps else "the same command again asks once more what failed"
            raise Failure(Exit.SOME_FAILED, "some_failed", message, hint, answer)
        return answer


def _bill(paid: Sequence[dict[str, Any]], variants: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What all of it cost, with the judge: the sums, null where a part is not known; billed where every part is."""
    sums: dict[str, Any] = {}
    for name in ("cost_usd", "realtime_usd", "saved_usd"):
        known = [Decimal(str(one[name])) for one in paid if one.get(name) is not None]
        sums[name] = float(sum(known, Decimal(0))) if len(known) == len(paid) else None
    sources = {one.get("cost_source") for one in paid}
    sums["cost_source"] = None if None in sources else sources.pop() if len(sources) == 1 else "computed"
    answers, failed = (sum(one["counts"][name] for one in variants) for name in ("succeeded", "failed"))
    invalid = sum(one.get("answers", {}).get("invalid", 0) for one in variants)  # which failed and were charged
    answers, failed = answers + invalid, failed - invalid
    return {**sums, "bill": bill_line({**sums, "estimate_usd": None}, answers, failed)}
