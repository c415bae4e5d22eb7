"""Measure the scripts against their references, or their growth, and print Markdown tables.

python3 -m benchmarks                   every row of the table (about 10 minutes, 3 GB of temporary files)
python3 -m benchmarks --only create     the rows whose name holds a word
python3 -m benchmarks --growth          from 1,000 rows to 1,000,000; --rows 10000000 for one more step
python3 -m benchmarks --dataset         run_dataset.py over 2 parts of 50,000 rows, 20, and with --rows 10000000 200;
                                        with --ray on a cluster of this machine
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import inputs
from benchmarks import references as programs
from benchmarks.measure import Comparison, Run, compare, peak_mb_of, run

HOUSE = Path(__file__).resolve().parent.parent
PACE = 125e6  # bytes a second: a line of one gigabit
PYTHON = sys.executable
PER_FILE = 50_000


@dataclass
class Bench:
    """Where everything happens: a temporary folder, and how often each pair runs."""

    folder: Path
    times: int

    @property
    def environment(self) -> dict[str, str]:
        """This one's, but compiled modules are kept, in a place that goes afterwards, as on any user's machine."""
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        return {**kept, "PYTHONPYCACHEPREFIX": str(self.folder / "compiled")}

    def script(self, name: str, *words: str | Path, base_url: str = "") -> Run:
        """Run one of the scripts as a user does."""
        environment = {**self.environment, "DOUBLEWORD_API_KEY": "any", "DOUBLEWORD_BASE_URL": base_url}
        return run([PYTHON, str(HOUSE / "scripts" / f"{name}.py"), *map(str, words)], self.folder, environment)

    def python(self, code: str, *words: str | Path, says_s: bool = False) -> Run:
        """Run a piece of Python."""
        return self.command(PYTHON, "-c", code, *words, says_s=says_s)

    def command(self, *words: str | Path, says_s: bool = False) -> Run:
        """Run any command; with `says_s` it tells itself how long the part took that counts."""
        return run([str(word) for word in words], self.folder, self.environment, says_s)

    @contextlib.contextmanager
    def line(self, rate: float, delay_s: float = 0.0) -> Iterator[str]:
        """A server behind a line of `rate` bytes a second, and its base URL."""
        command = [PYTHON, "-m", "benchmarks.line", str(self.folder), str(rate), str(delay_s)]
        with subprocess.Popen(command, cwd=HOUSE, stdout=subprocess.PIPE) as server:
            assert server.stdout is not None
            try:
                yield f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
            finally:
                server.kill()

    def remove(self, *patterns: str) -> None:
        """Remove what an earlier run of the same command wrote."""
        for pattern in patterns:
            for path in self.folder.glob(pattern):
                if path.is_file():
                    path.unlink()


# --- the rows of the table ------------------------------------------------------------------------------------


def validate(bench: Bench, lines: int, words: int, spaced: bool = False) -> Comparison:
    """A batch file checked whole, against reading its JSON or the official CLI."""
    path = inputs.batch_file(bench.folder / "v.jsonl", lines, words, spaced)
    official = shutil.which("dw")

    def reference() -> Run:
        return bench.command(official, "files", "validate", path) if official else bench.python(programs.PARSE, path)

    return compare(lambda: bench.script("validate_batch_file", path), reference, bench.times)


def split(bench: Bench, name: str, lines: int) -> str:
    """As many batch files as `lines` need, called by one name."""
    for number, first in enumerate(range(0, lines, PER_FILE), 1):
        inputs.batch_file(bench.folder / f"{name}-{number:04d}.jsonl", min(PER_FILE, lines - first), 13, first=first)
    return f"{name}.jsonl"


def many(bench: Bench) -> Comparison:
    """Ten million lines, whose ids all have to differ, against ten times one million."""
    whole, tenth = split(bench, "ten", 10_000_000), split(bench, "one", 1_000_000)

    def ten_times() -> Run:
        runs = [bench.script("validate_batch_file", tenth) for _ in range(10)]
        return Run(sum(one.wall_s for one in runs), sum(one.cpu_s for one in runs), max(one.rss_mb for one in runs))

    return compare(lambda: bench.script("validate_batch_file", whole), ten_times, 1)


def created(bench: Bench, table: Path, output: str, *more: str) -> Run:
    """One run of create_batch_file.py, into files that are not there yet."""
    stem = Path(output).stem
    bench.remove(f"{stem}.*json*", f"{stem}-????.jsonl")
    prompt = "Classify the review of {name} as positive or negative: {review}"
    words = ("--model", "Qwen/Qwen3-30B", "--max-tokens", "16", "--prompt", prompt, *more)
    return bench.script("create_batch_file", output, "--input", table, *words)


def create(bench: Bench, rows: int = 1_000_000) -> Comparison:
    """A table made into validated, split batch files, against reading it; a table of ten million once."""
    table = inputs.table(bench.folder / "t.csv", rows)
    times = bench.times if rows <= 1_000_000 else 1
    return compare(lambda: created(bench, table, "c.jsonl"), lambda: bench.python(programs.READ, table), times)


def submit(bench: Bench) -> Comparison:
    """190 MB checked, hashed, uploaded and made a batch, against the upload alone."""
    path = inputs.batch_file(bench.folder / "u.jsonl", 43_000, 620)
    with bench.line(PACE) as url:

        def ours() -> Run:
            bench.remove("u.job.json")
            return bench.script("submit", path, base_url=url)

        return compare(ours, lambda: _curl_upload(bench, url, path), bench.times)


def upload(bench: Bench) -> Comparison:
    """The transfer alone, as fast as loopback goes."""
    path = inputs.batch_file(bench.folder / "u.jsonl", 43_000, 620)
    with bench.line(0) as url:
        return compare(
            lambda: bench.python(programs.SEND, HOUSE / "scripts", url, path, says_s=True),
            lambda: _curl_upload(bench, url, path, says_s=True),
            bench.times,
        )


def _curl_upload(bench: Bench, url: str, path: Path, says_s: bool = False) -> Run:
    fields = ("-F", "purpose=batch", "-F", f"file=@{path}", "-w", "%{time_total}")
    return bench.command("curl", "-sS", "-o", os.devnull, *fields, f"{url}/files", says_s=says_s)


def _curl_download(bench: Bench, url: str, says_s: bool = False) -> Run:
    words = ("-o", "curl.jsonl", "-w", "%{time_total}", f"{url}/files/out-f/content")
    return bench.command("curl", "-sS", *words, says_s=says_s)


def fetch(bench: Bench) -> Comparison:
    """200 MB of answers reconciled and ordered, against the download alone."""
    path = inputs.batch_file(bench.folder / "f.jsonl", PER_FILE, 20)
    inputs.results(bench.folder / "f.results.jsonl", 0, PER_FILE, 560)
    with bench.line(PACE) as url:
        bench.script("submit", path, base_url=url)
        return compare(
            lambda: bench.script("fetch_results", "f.job.json", "--force", "--output", "o.jsonl", base_url=url),
            lambda: _curl_download(bench, url),
            bench.times,
        )


def download(bench: Bench) -> Comparison:
    """The transfer alone, as fast as loopback goes."""
    inputs.results(bench.folder / "f.results.jsonl", 0, PER_FILE, 560)
    with bench.line(0) as url:
        return compare(
            lambda: bench.python(programs.RECEIVE, HOUSE / "scripts", url, "o.jsonl", says_s=True),
            lambda: _curl_download(bench, url, says_s=True),
            bench.times,
        )


def answered(bench: Bench, table: Path, rows: int) -> tuple[list[Path], list[Path]]:
    """The batch files of a table, and their results."""
    created(bench, table, "j.jsonl")
    files = sorted(bench.folder.glob("j-*.jsonl")) or [bench.folder / "j.jsonl"]
    return files, [
        inputs.results(path.with_name(f"{path.stem}.results.jsonl"), number * PER_FILE, min(PER_FILE, rows), 6)
        for number, path in enumerate(files)
    ]


def join(bench: Bench, rows: int = 1_000_000, parquet: bool = False) -> Comparison:
    """As many results as rows joined to their table, against a plain dict of the results that lie on disk.

    With `parquet` from Parquet to Parquet, each column in its type.
    """
    table = inputs.table(bench.folder / "t.csv", rows)
    form, program = ("parquet", programs.JOIN_PARQUET) if parquet else ("csv", programs.JOIN)
    if parquet:
        bench.python(programs.TO_PARQUET, table, "t.parquet")
        table = bench.folder / "t.parquet"
    files, answers = answered(bench, table, rows)
    with bench.line(0) as url:
        bench.remove("j*.job.json")
        bench.script("submit", *files, "--job", "j.job.json", base_url=url)
        words = ("--force", "--format", form, "--join", table, "--output", f"o.{form}")
        return compare(
            lambda: bench.script("fetch_results", "j.job.json", *words, base_url=url),
            lambda: bench.python(program, table, f"plain.{form}", *answers),
            bench.times,
        )


def report(bench: Bench, rows: int = 1_000_000) -> Comparison:
    """The page on as many results, against fetching them into a table, which reads and judges the same."""
    files, _ = answered(bench, inputs.table(bench.folder / "t.csv", rows), rows)
    with bench.line(0) as url:
        bench.remove("j*.job.json")
        bench.script("submit", *files, "--job", "j.job.json", base_url=url)
        return compare(
            lambda: bench.script("report", "j.job.json", base_url=url),
            lambda: bench.script(
                "fetch_results", "j.job.json", "--force", "--format", "csv", "--output", "o.csv", base_url=url
            ),
            bench.times,
        )


def dedupe(bench: Bench, rows: int = 1_000_000) -> Comparison:
    """A table of which 40 % of the rows ask what others ask, made into batch files, submitted, fetched and joined: with
    --dedupe, against the same job without it.
    """
    table = inputs.table(bench.folder / "t.csv", rows, unlike=rows * 3 // 5)

    def job(url: str, stem: str, *more: str) -> Run:
        """The three steps together; the answers come from files that are there."""
        made = created(bench, table, f"{stem}.jsonl", *more)
        files = sorted(bench.folder.glob(f"{stem}-????.jsonl"))
        for number, path in enumerate(files):
            answers = bench.folder / f"{path.stem}.results.jsonl"
            if not answers.exists():
                inputs.results(answers, number * PER_FILE, PER_FILE, 6)
        words = ("--force", "--format", "csv", "--join", table, "--output", "o.csv")
        sent = bench.script("submit", *files, base_url=url)
        steps = (made, sent, bench.script("fetch_results", f"{stem}.job.json", *words, base_url=url))
        seconds = (sum(one.wall_s for one in steps), sum(one.cpu_s for one in steps))
        for path in (*files, bench.folder / f"{stem}.job.json"):
            path.unlink()
        return Run(*seconds, max(one.rss_mb for one in steps))

    with bench.line(0) as url:
        return compare(lambda: job(url, "d", "--dedupe", "--force"), lambda: job(url, "n", "--force"), bench.times)


def help_text(bench: Bench) -> Comparison:
    """`create_batch_file.py --help`, against an interpreter that does nothing."""
    return compare(lambda: bench.script("create_batch_file", "--help"), lambda: bench.python("pass"), 3 * bench.times)


def poll(bench: Bench) -> Comparison:
    """One look at a job, against importing requests."""
    path = inputs.batch_file(bench.folder / "p.jsonl", 1, 20)
    inputs.results(bench.folder / "p.results.jsonl", 0, 1, 20)
    with bench.line(0) as url:
        bench.remove("p.job.json")
        bench.script("submit", path, base_url=url)
        return compare(
            lambda: bench.script("poll", "p.job.json", base_url=url),
            lambda: bench.python("import requests"),
            3 * bench.times,
        )


def twenty(bench: Bench) -> Comparison:
    """Twenty files of one job over a line with 0.2 s to each answer, against one file."""
    files = [inputs.batch_file(bench.folder / f"m-{number:04d}.jsonl", 1, 20, first=number) for number in range(20)]
    with bench.line(PACE, delay_s=0.2) as url:

        def submitted(*paths: Path) -> Run:
            bench.remove("*.job.json")
            return bench.script("submit", *paths, "--job", "m.job.json", base_url=url)

        return compare(lambda: submitted(*files), lambda: submitted(files[0]), bench.times)


@dataclass(frozen=True)
class Row:
    """A row of the table: what it is called, what it is held against, and the ratio and memory to reach."""

    name: str
    against: str
    ratio: float
    rss_mb: float | None
    measure: Callable[[Bench], Comparison]


PARSER = "dw files validate" if shutil.which("dw") else "orjson.loads of each line"
ROWS = (
    Row("validate 43,000 lines, 190 MB", PARSER, 1.6, 60, lambda bench: validate(bench, 43_000, 620)),
    Row("validate the same, as json.dumps writes", PARSER, 1.6, 60, lambda bench: validate(bench, 43_000, 520, True)),
    Row("validate 50,000 lines of 280 bytes", PARSER, 3.0, 60, lambda bench: validate(bench, 50_000, 13)),
    Row("validate 10,000,000 lines", "ten times 1,000,000", 1.2, 700, many),
    Row("create from 1,000,000 CSV rows", "csv.reader alone", 6.0, 500, create),
    Row("create from 10,000,000 CSV rows", "csv.reader alone", 6.0, 500, lambda bench: create(bench, 10_000_000)),
    Row("submit 190 MB at 125 MB/s", "curl -F", 1.5, 60, submit),
    Row("upload of 190 MB on loopback", "curl -F", 1.5, 60, upload),
    Row("fetch 200 MB at 125 MB/s", "curl -o", 1.6, 150, fetch),
    Row("download of 200 MB on loopback", "curl -o", 1.6, 150, download),
    Row("join 1,000,000 results, CSV", "a plain dict join", 0.8, 500, join),
    Row("join the same, Parquet", "pyarrow and a dict", 0.8, 500, lambda bench: join(bench, parquet=True)),
    Row("report on 1,000,000 results", "fetch_results.py, CSV", 3.0, 500, report),
    Row("job of 1,000,000 rows, 40 % equal, --dedupe", "the same without it", 1.3, 500, dedupe),
    Row("--help", "python3 -c pass", 4.0, None, help_text),
    Row("poll once", "python3 -c 'import requests'", 1.3, None, poll),
    Row("submit 20 files, 0.2 s to each answer", "one file", 8.0, None, twenty),
)


def table_of(bench: Bench, only: str) -> None:
    """Measure the rows whose name holds `only`, and print each as soon as it is known."""
    print("| work | against | ours s | theirs s | wall ratio (min … max) | CPU ratio | reach | peak MB | may |")
    print("|---|---|---|---|---|---|---|---|---|")
    for row in (row for row in ROWS if only in row.name):
        found = row.measure(bench)
        least, wall, most = found.ratios(lambda one: one.wall_s)
        _, cpu, _ = found.ratios(lambda one: one.cpu_s)
        ours, theirs = found.median_s()
        verdict = "" if wall <= row.ratio else " (missed)"
        memory = f"{row.rss_mb:g}" if row.rss_mb else ""
        ratio = f"**{wall:.2f}** ({least:.2f} … {most:.2f})"
        print(
            f"| {row.name} | {row.against} | {ours:.2f} | {theirs:.2f} | {ratio} | {cpu:.2f}"
            f" | {row.ratio:g}{verdict} | {found.peak_mb:.0f} | {memory} |",
            flush=True,
        )
        bench.remove("*")


def growth(bench: Bench, most: int) -> None:
    """Print seconds and memory of create, with ids of a column, and validate from 1,000 rows on, by steps of ten."""
    print("| rows | create --id s | µs a row | peak MB | validate s | µs a row | peak MB |")
    print("|---|---|---|---|---|---|---|")
    rows = 1000
    while rows <= most:
        made = created(bench, inputs.table(bench.folder / "t.csv", rows), "g.jsonl", "--id", "{sku}")
        files = sorted(bench.folder.glob("g*.jsonl"))
        read = bench.script("validate_batch_file", *files)
        cells = [f"{one.wall_s:.2f} | {1e6 * one.wall_s / rows:.2f} | {one.rss_mb:.0f}" for one in (made, read)]
        print(f"| {rows:,} | {' | '.join(cells)} |", flush=True)
        bench.remove("*")
        rows *= 10


def dataset_growth(bench: Bench, most: int, ray: bool) -> None:
    """Print seconds and memory of run_dataset.py over parts of 50,000 rows, from two of them on, by steps of ten; with
    `ray` on a cluster of its own on this machine, and then the most that one of its workers held.
    """
    print("| rows | parts | s | µs a row | CPU s | peak MB |" + (" a worker's |" if ray else ""))
    print("|---|---|---|---|---|---|" + ("---|" if ray else ""))
    table = inputs.table(bench.folder / "rows.csv", PER_FILE)
    results = inputs.results(bench.folder / "rows.results.jsonl", 0, PER_FILE, 13)
    source = bench.folder / "source"
    rows = 2 * PER_FILE
    while rows <= most:
        source.mkdir(exist_ok=True)
        for number in range(rows // PER_FILE):
            with contextlib.suppress(FileExistsError):
                os.link(table, source / f"part-{number:04d}.csv")
                os.link(results, bench.folder / f"part-{number:04d}.results.jsonl")
        with bench.line(0) as url:
            prompt = "Classify the review of {name} as positive or negative: {review}"
            words = ["--model", "Qwen/Qwen3-30B", "--max-tokens", "16", "--prompt", prompt]
            words += ["--ray", "local"] if ray else []
            with peak_mb_of("ray::") if ray else contextlib.nullcontext([0.0]) as workers:
                made = bench.script("run_dataset", source, "parts", *words, base_url=url)
        cells = f"{made.wall_s:.1f} | {1e6 * made.wall_s / rows:.1f} | {made.cpu_s:.1f} | {made.rss_mb:.0f}"
        print(f"| {rows:,} | {rows // PER_FILE} | {cells} |" + (f" {max(workers):.0f} |" if ray else ""), flush=True)
        shutil.rmtree(bench.folder / "parts")
        rows *= 10


def main() -> None:
    """Parse the arguments, work in a temporary folder, and remove it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="WORD", help="rows whose name holds this")
    parser.add_argument("--times", type=int, default=5, help="pairs of runs for each row (default 5)")
    parser.add_argument("--growth", action="store_true", help="how time and memory grow, instead of the table")
    parser.add_argument("--dataset", action="store_true", help="how a dataset of many parts grows, instead")
    parser.add_argument("--ray", action="store_true", help="--dataset on a Ray cluster of this machine")
    parser.add_argument("--rows", type=int, default=1_000_000, help="the most rows of --growth and --dataset")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), args.times)
        if args.growth:
            growth(bench, args.rows)
        elif args.dataset:
            dataset_growth(bench, args.rows, args.ray)
        else:
            table_of(bench, args.only)


if __name__ == "__main__":
    main()
