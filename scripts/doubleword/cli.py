"""What all scripts share: arguments, exit codes, the one JSON object on stdout, progress on stderr.

Promises: stdout carries exactly one JSON object of at most 4 KB, whatever happens; `ok` is true exactly when
the exit code is 0; the API key appears in nothing that is printed; a missing package is answered with the
one command that fixes it. Only the standard library is imported here, so that `--help` needs no package.
"""

from __future__ import annotations

import argparse
import sys

if sys.version_info < (3, 10):  # noqa: UP036
    sys.stdout.write(
        '{"ok": false, "error": {"code": "old_python", "message": "Python 3.10 or newer is needed",'
        ' "hint": "run the script with uv run, or with a newer python3"}}\n'
    )
    sys.exit(2)

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from doubleword.failure import Exit, Failure, plain
from doubleword.server.key import without_key

Number = TypeVar("Number", int, float)
OUTPUT_LIMIT = 4096
EXIT_CODES = """\
exit codes: 0 done  2 bad input, nothing sent  3 no key or refused  4 not found  5 server or network kept failing
            6 finished, but some requests failed or are missing  7 not finished yet  8 refused by a limit"""


class Parser(argparse.ArgumentParser):
    """Arguments of one script; what is wrong with them becomes its JSON error and exit 2."""

    def __init__(self, description: str, examples: str) -> None:
        super().__init__(
            description=description,
            epilog=f"examples:\n{examples.rstrip()}\n\n{EXIT_CODES}",
            formatter_class=_wide,
            allow_abbrev=False,
            add_help=False,
        )
        self.add_argument("-h", "--help", action="help", help=argparse.SUPPRESS)  # who sees it needs no line on it

    def error(self, message: str) -> NoReturn:
        """Report bad arguments as the interface asks, instead of argparse's usage text."""
        raise Failure(Exit.BAD_INPUT, "bad_arguments", message, f"python3 {_script()} --help")


def _wide(prog: str) -> argparse.RawDescriptionHelpFormatter:
    """Help with each flag on a line of its own, whatever the terminal: it has to stay short."""
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=26, width=118)


def add_server(parser: argparse.ArgumentParser) -> None:
    """Add the flags that choose the server; the key has none, on purpose."""
    parser.add_argument("--base-url", metavar="URL", help="server (default: DOUBLEWORD_BASE_URL or api.doubleword.ai)")
    parser.add_argument("--local", action="store_true", help="use the embedded engine: no key, no network")


def add_names(parser: argparse.ArgumentParser) -> None:
    """Add what poll, fetch and cancel work on: a job or bare batches."""
    parser.add_argument("names", nargs="+", metavar="JOB|BATCH_ID", help="a job file, a batch file of it, or batch ids")


def add_wait(parser: argparse.ArgumentParser, default: float) -> None:
    """Add how long to watch."""
    seconds = number(float, 0, 2_678_400, "seconds from 0 to 2678400")  # every wait ends
    help_text = f"watch for so long (default {default:g})"
    parser.add_argument("--wait", type=seconds, default=default, metavar="SECONDS", help=help_text)


def add_report(parser: argparse.ArgumentParser) -> None:
    """Add the page that is written along the way."""
    parser.add_argument("--report", metavar="PATH", help="after each look write a page on the job, as report.py does")


def add_table_output(parser: argparse.ArgumentParser) -> None:
    """Add what a table of results looks like."""
    parser.add_argument("--columns", metavar="LIST", help='choose, order and rename: "sku, french=answer"')
    parser.add_argument("--bom", action="store_true", help="CSV: begin with a byte order mark, for Excel")
    parser.add_argument("--raw-cells", action="store_true", help="CSV: leave cells alone that a spreadsheet would run")


def number(kind: type[Number], least: Number, most: Number, expected: str) -> Callable[[str], Number]:
    """The type of an argument that is a number from `least` to `most`, which a NaN is not."""

    def read(text: str) -> Number:
        with contextlib.suppress(ValueError):
            value = kind(text)
            if least <= value <= most:
                return value
        raise argparse.ArgumentTypeError(f"expected {expected}, got {plain(text, 40)}")

    return read


whole = number(int, 1, 2**63 - 1, "a whole number from 1")


def delimiter(text: str) -> str:
    """One character between the cells of CSV; `tab` for a tab."""
    text = {"tab": "\t", "\\t": "\t"}.get(text, text)
    if len(text) != 1 or text in '\r\n"':
        raise argparse.ArgumentTypeError(f"expected one character, or tab, got {plain(text, 40)}")
    return text


def add_max_cost(parser: argparse.ArgumentParser) -> None:
    """Add the limit that a paid call keeps."""
    said, amount = "refuse (exit 8) unless it surely costs at most this", number(float, 0, 1e12, "USD, from 0 up")
    parser.add_argument("--max-cost", type=amount, metavar="USD", help=said)


def run(parser: argparse.ArgumentParser, work: Callable[[argparse.Namespace], dict[str, Any]]) -> NoReturn:
    """Parse the arguments, call `work` with them, print its answer as the one JSON object, and exit.

    `work` returns the script's output keys, or raises `Failure`. Ctrl-C and SIGTERM end as exit 7.
    """
    import gc
    import signal

    gc.set_threshold(50_000)  # rows in passing are many, and circles few
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        answer, code = work(parser.parse_args()), Exit.DONE
    except Failure as failure:
        answer, code = _report(failure), failure.exit_code
    except KeyboardInterrupt:
        answer = _report(Failure(Exit.NOT_FINISHED, "interrupted", "stopped before the end; nothing is lost", again()))
        code = Exit.NOT_FINISHED
    except ModuleNotFoundError as missing:
        answer, code = _report(_missing_package(missing)), Exit.BAD_INPUT
    except OSError as error:
        answer, code = _report(_disk_failure(error)), Exit.UNREACHABLE
    except Exception as bug:
        import traceback

        sys.stderr.write(without_key("".join(traceback.format_exception(bug))))
        hint = "this is a bug in the script; the job file, if there is one, is intact and the command can be run again"
        answer, code = _report(Failure(Exit.BUG, "bug", f"{type(bug).__name__}: {bug}", hint)), Exit.BUG
    _print({"ok": code == Exit.DONE, **answer})
    sys.exit(int(code))


def command(module: str, name: str) -> Callable[[argparse.Namespace], dict[str, Any]]:
    """The work of a script for `run`: a function of `module`, which takes the arguments and the `System`.

    It is loaded when it is called, so that `--help` needs no package.
    """

    def work(args: argparse.Namespace) -> dict[str, Any]:
        import importlib

        from doubleword.system import System

        answer: dict[str, Any] = getattr(importlib.import_module(module), name)(args, System())
        return answer

    return work


def announce(answer: dict[str, Any]) -> None:
    """Print the one JSON object now, for a script that goes on running afterwards."""
    _print({"ok": True, **answer})


def quoted(path: object) -> str:
    """`path` as one word of a shell command, for hints."""
    return _quoted(f"./{path}" if str(path).startswith("-") else str(path))


def again() -> str:
    """The command that is running, for hints."""
    return " ".join(["python3", *map(_quoted, sys.argv)])


def iso(seconds: float) -> str:
    """A time in seconds since the epoch, as ISO 8601 in UTC."""
    try:
        return datetime.fromtimestamp(int(seconds), timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, OSError, ValueError):
        return str(seconds)


def script(name: str) -> str:
    """The command that runs another script of this skill, for hints."""
    return f"python3 {quoted(Path(_script()).parent / name)}"


class Progress:
    """One line of progress on stderr: redrawn on a terminal, otherwise at most one every 30 s.

    Time comes from `monotonic`, so that a test can inject it.
    """

    PLAIN_INTERVAL_S = 30.0

    def __init__(self, monotonic: Callable[[], float], stream: Any = None) -> None:
        self._stream = stream or sys.stderr
        self._monotonic = monotonic
        self._terminal = bool(getattr(self._stream, "isatty", lambda: False)())
        self._last: float | None = None
        self._drawn = False

    def show(self, text: str, done: int | None = None, total: int | None = None) -> None:
        """Show `text`, with a bar on a terminal when `done` of `total` is known."""
        now = self._monotonic()
        interval = 0.2 if self._terminal else self.PLAIN_INTERVAL_S
        if self._last is not None and now - self._last < interval:
            return
        self._last = now
        if done is not None and total:
            text = f"{text} {done:,}/{total:,}"
            if self._terminal:
                filled = round(24 * min(done, total) / total)
                text = f"[{'#' * filled}{'.' * (24 - filled)}] {text}"
        line = without_key(plain(text, 200))
        self._write(f"\r\x1b[K{line}" if self._terminal else f"{line}\n")
        self._drawn = self._terminal

    def note(self, text: str) -> None:
        """Write one line that stays, whenever it comes: a warning, or a fact the user should see."""
        self.close()
        self._write(without_key(plain(text, 500)) + "\n")

    def close(self) -> None:
        """End the redrawn line, so that what follows starts on a line of its own."""
        if self._drawn:
            self._write("\r\x1b[K")
            self._drawn = False

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            pass  # a closed stderr must not end a job


def _interrupt(_signal: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _script() -> str:
    return sys.argv[0] or "script.py"


def _quoted(word: str) -> str:
    """A word for a shell; what `plain` would alter, such as two blanks in a row or half an emoji, by its bytes."""
    import shlex

    if plain(word, len(word)) == word:
        return shlex.quote(word)
    coded = re.sub(r"[^\w./-]", lambda one: "".join(f"\\x{byte:02x}" for byte in os.fsencode(one[0])), word)
    return f"$'{coded}'"


def _report(failure: Failure) -> dict[str, Any]:
    error = {"code": failure.code, "message": plain(failure.message, 600)}
    if failure.hint:
        error["hint"] = plain(failure.hint, 600)
    return {**failure.keys, "error": error}


def _disk_failure(error: OSError) -> Failure:
    """A disk that fails half-way is not bad input: something may have been sent, and running again is safe."""
    place = f" ({error.filename})" if error.filename else ""
    hint = "free some space, or choose a place you may write to, then run the same command again"
    return Failure(Exit.UNREACHABLE, "disk", f"{error.strerror or error}{place}", hint)


def _missing_package(missing: ModuleNotFoundError) -> Failure:
    """The one command that installs what the running script declares in its own inline metadata."""
    import re
    import shutil

    name = (missing.name or "").split(".")[0]
    source = Path(_script()).read_text(encoding="utf-8") if Path(_script()).is_file() else ""
    block = re.search(r"^# dependencies = \[(.*?)^# \]", source, re.MULTILINE | re.DOTALL)
    declared = re.findall(r'"([^"]+)"', block.group(1)) if block else []
    if not declared:
        raise missing
    if shutil.which("uv"):
        command = " ".join(["uv run", *map(_quoted, sys.argv)])
    else:
        command = f"{quoted(sys.executable)} -m pip install " + " ".join(map(quoted, declared))
    return Failure(Exit.BAD_INPUT, "missing_package", f"the Python package {name} is not installed", command)


def _print(answer: dict[str, Any]) -> None:
    indent = 2 if sys.stdout is not None and sys.stdout.isatty() else None
    text = json.dumps(answer, indent=indent).replace("\x7f", "")
    if len(text) > OUTPUT_LIMIT - 1:
        text = json.dumps(_capped(answer, indent), indent=indent).replace("\x7f", "")
    try:
        sys.stdout.write(without_key(text) + "\n")
        sys.stdout.flush()
    except (OSError, AttributeError, ValueError):
        # Nobody reads stdout any more; the exit code still tells. The interpreter must not fail on its own flush.
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115


def _capped(answer: dict[str, Any], indent: int | None) -> dict[str, Any]:
    """A copy of `answer` whose lists are cut, each saying how many more there are, to fit `OUTPUT_LIMIT`.

    Texts are cut where that does not suffice: one letter may take twelve bytes.
    """
    capped: dict[str, Any] = _shortened(answer)
    while len(json.dumps(capped, indent=indent)) > OUTPUT_LIMIT - 1:
        members = list(_members(capped))
        lists = [(holder, name) for holder, name in members if isinstance(holder[name], list) and holder[name]]
        texts = [(holder, name) for holder, name in members if isinstance(holder[name], str) and len(holder[name]) >= 8]
        if not lists and not texts:
            break
        holder, name = max(lists or texts, key=lambda one: len(json.dumps(one[0][one[1]])))
        half = len(holder[name]) // 2
        if not lists:
            holder[name] = plain(holder[name], half)
            continue
        holder[f"{name}_more"] = holder.get(f"{name}_more", 0) + len(holder[name]) - half
        holder[name] = holder[name][:half]
    return capped


def _shortened(value: Any) -> Any:
    """A copy of `value` with its longest texts cut."""
    if isinstance(value, dict):
        return {name: _shortened(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_shortened(item) for item in value]
    return plain(value, 200) if isinstance(value, str) and len(value) > 600 else value


def _members(value: Any) -> Iterator[tuple[dict[str, Any], str]]:
    """Each object within `value` with each of its names."""
    if isinstance(value, dict):
        yield from ((value, name) for name in value)
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _members(item)
