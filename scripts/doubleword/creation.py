"""Requests made from rows: what create_batch_file.py, try_prompt.py and run_batch.py have in common.

Promises: every row becomes exactly one valid request, or the row is named; with `--skip-invalid` rows are passed
over only with their number and cause in the warnings, and a table without a valid row is an error.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from doubleword import sources, templates
from doubleword.batch_file import Source, Writer, numbered, source_path
from doubleword.command import Progress
from doubleword.failure import Exit, Failure, plain
from doubleword.outside import Disk, Outside
from doubleword.request_line import (
    CHAT,
    COMPLETIONS,
    EMBEDDINGS,
    MAX_LINE_BYTES,
    RESPONSES,
    TOKEN_LIMIT,
    Checker,
    build,
    cautions,
    read,
    to_line,
)
from doubleword.seen_ids import SeenIds
from doubleword.sources import BadRow, Cells, Row
from doubleword.splicing import splicer

SHOWN_ROWS = 20
EXAMPLE_MODEL = "SmolLM2-135M-Instruct"
EXAMPLE_TOKENS = 48
EXAMPLE_TEXTS = (
    "Name three colours of the rainbow.",
    "Write one sentence about the sea.",
    "Translate 'good morning' into French.",
)
REQUEST_KEYS = {"custom_id", "method", "url", "body"}
# Flags that have no place in the body of an endpoint's requests.
WITHOUT = {
    CHAT: (),
    COMPLETIONS: ("system",),
    EMBEDDINGS: ("system", "max_tokens", "temperature", "top_p", "stop"),
    RESPONSES: (),
}


def create(args: argparse.Namespace, outside: Outside) -> dict[str, Any]:
    """Write the requests of `args` to `args.output`; returns the output keys of create_batch_file.py.

    Raises Failure (exit 2) and leaves nothing behind for bad arguments, a bad row, a table without rows, or an
    output that exists.
    """
    output = Path(args.output)
    _refuse_input_as_output(args.input, output)
    suspects = None if args.example or args.input == sources.STDIN else frozenset[int]()
    progress = Progress(outside.monotonic)
    while True:
        making = Making(args, outside.disk, suspects)
        with contextlib.suppress(_Suspicious), Writer(output, outside.disk, args.force) as writer:
            for lines in making.lines():
                writer.write_lines(lines)
                if making.made >= 1000:
                    progress.show(f"{making.made:,} requests written")
            suspects = making.new_suspects()
            if suspects:
                raise _Suspicious
            writer.source = making.source()
            break
    progress.close()
    return {
        "files": [{"path": str(one.path), "requests": one.requests, "bytes": one.bytes} for one in writer.files],
        "requests": sum(one.requests for one in writer.files),
        "bytes": sum(one.bytes for one in writer.files),
        "models": list(making.models),
        "warnings": making.warnings(),
    }


class _Suspicious(Exception):
    """Two requests may have the same custom_id: what was written goes, and the table is read again to see."""


def requests_from(
    args: argparse.Namespace, outside: Outside, warnings: list[str] | None = None
) -> Iterator[tuple[str, dict[str, Any], Row]]:
    """Yield (custom_id, request, row) for each row of `args`; at the end `warnings` gets what create would warn of.

    Raises Failure (exit 2) for bad arguments, a bad row unless `args.skip_invalid`, and a table without rows.
    """
    making = Making(args, outside.disk)
    for row, request, _ in making.requests():
        yield request["custom_id"], request, row
    if warnings is not None:
        warnings.extend(making.warnings())


@dataclass
class Making:
    """The making of one set of requests; the rows are read once, by `lines` or by `requests`.

    `suspects` are those of `SeenIds`.
    """

    args: argparse.Namespace
    disk: Disk
    suspects: frozenset[int] | None = None
    models: dict[str, None] = field(default_factory=dict)
    made: int = 0

    def __post_init__(self) -> None:
        args = self.args
        self._skipped: list[str] = []
        self._skips = 0
        self._rows = 0
        self._cautions: dict[str, None] = {}
        self._passing: bool | None = None  # whether the rows are request lines already; the first row tells
        self._url = ""
        self._seen = SeenIds(self.suspects)
        self._checker = Checker()
        self._prompt = _prompt(args, self.disk)
        self._system = _text("--system", args.system)
        self._id = _text("--id", args.id)
        self._parameters = _parameters(args)
        self._model: Any = self._parameters.pop("model", EXAMPLE_MODEL if args.example else None)
        if not args.example and args.input is None:
            raise _bad("there are no rows", "name a table with --input PATH, or write an --example")
        if self._prompt is not None and self._model is None:
            raise _bad("--model is missing", "--model ID; list_models.py shows which there are")
        if self._prompt is not None:
            self._refuse_bad_parameters()

    def lines(self) -> Iterator[list[bytes]]:
        """Yield the lines of all rows, some at a time: spliced where that can be done, else as `requests` does."""
        blocks = self._cells()
        if blocks is None:
            yield from ([line] for _, _, line in self.requests())
            return
        splice = self._splice(next(blocks).cells[0])
        for block in blocks:
            lines = splice(block.first, block.cells) if splice is not None and block.sound and self.made else None
            if lines is None:
                lines = [made[1] for row in block.rows() if (made := self._attempt(row)) is not None]
            else:
                self.made += len(lines)
                self._rows = block.first + len(lines) - 1
            yield lines
        self._require_some()

    def requests(self) -> Iterator[tuple[Row, dict[str, Any], bytes]]:
        """Yield each row with its request and the line that holds it."""
        for row in itertools.islice(self._read(), self.args.limit):
            made = self._attempt(row)
            if made is not None:
                yield row, *made
        self._require_some()

    def _attempt(self, row: Row) -> tuple[dict[str, Any], bytes] | None:
        """The request of `row` and its line; None where a bad row is left out."""
        self._rows = row.number
        try:
            request, line = self._make(row)
        except BadRow as bad:
            if not self.args.skip_invalid:
                raise
            self._skips += 1
            if len(self._skipped) < SHOWN_ROWS:
                self._skipped.append(f"row {bad.number}: {bad.cause}")
            return None
        self.made += 1
        self.models[request["body"]["model"]] = None
        if self.made == 1 or self._passing:
            self._cautions.update(dict.fromkeys(cautions(request["body"])))
        return request, line

    def _require_some(self) -> None:
        if not self.made:
            message = "the table has no rows"
            if self._skips:
                message = f"none of {self._skips:,} rows is valid; {self._skipped[0]}"
            raise Failure(Exit.BAD_INPUT, "no_rows", message, "check the table and the flags; nothing was written")

    def _cells(self) -> Iterator[Cells] | None:
        """The rows as bare cells; None where requests are not made of cells by a prompt and the default ids."""
        args = self.args
        if self._prompt is None or self._id is not None or args.input is None:
            return None
        return sources.read_cells(Path(args.input), self.disk, args.input_format, args.encoding, args.limit)

    def _splice(self, header: list[str]) -> Callable[[int, list[list[str]]], list[bytes] | None] | None:
        """What splices the lines of rows under `header`; None where the templates are not as plain as that needs."""
        assert self._prompt is not None
        fill, system = templates.filler(self._prompt, header), self._system
        if fill is None or (system is not None and templates.places(system)):
            return None
        if system is not None:
            system = templates.fill(system, Row(0, {}))
        args, model, parameters = self.args, self._model, self._parameters
        return splicer(lambda id, text: build(id, args.endpoint, model, text, system, parameters), fill, self._checker)

    def new_suspects(self) -> frozenset[int]:
        """The suspects of another making, which this one gave reason for; none where all ids are surely unlike."""
        repeated, known = self._seen.repeated(), self.suspects or frozenset()
        return frozenset() if repeated <= known else known | repeated

    def warnings(self) -> list[str]:
        """What the user should know about the requests made, skipped rows first."""
        found = []
        if self._skips:
            found.append(f"skipped {self._skips:,} of {self._rows:,} rows")
            found.extend(self._skipped)
            if self._skips > len(self._skipped):
                found.append(f"and {self._skips - len(self._skipped):,} more skipped rows")
        if self._prompt is not None and not self.args.example and not templates.places(self._prompt):
            found.append("the prompt has no {column}, so every row asks the same")
        return [*found, *self._cautions]

    def source(self) -> Source | None:
        """Where the rows came from; None for the example."""
        if self.args.input is None:
            return None
        path = Path(self.args.input)
        kind = sources.format_of(path, self.disk, self.args.input_format)
        template = "{custom_id}" if self._passing else self._id
        return Source(str(path), kind, self.args.encoding, template, self._rows)

    def _read(self) -> Iterator[Row]:
        if self.args.example:
            return (Row(number, {"text": text}) for number, text in enumerate(EXAMPLE_TEXTS, 1))
        return sources.read(Path(self.args.input), self.disk, self.args.input_format, self.args.encoding)

    def _make(self, row: Row) -> tuple[dict[str, Any], bytes]:
        """The request of `row` and its line; raises BadRow."""
        if row.problem is not None:
            raise BadRow(row.number, row.problem)
        if self._passing is None:
            self._passing = self._prompt is None and row.values.keys() >= REQUEST_KEYS
            self._refuse_flags()
        if self._passing:
            request = dict(row.values)
        else:
            assert self._prompt is not None
            prompt = templates.fill(self._prompt, row)
            system = None if self._system is None else templates.fill(self._system, row)
            custom_id = templates.custom_id(self._id, row)
            request = build(custom_id, self.args.endpoint, self._model, prompt, system, self._parameters)
        try:
            line = to_line(request)
        except ValueError as error:
            raise BadRow(row.number, str(error)) from None
        if len(line) > MAX_LINE_BYTES:
            raise BadRow(row.number, f"the request has {len(line):,} bytes, and may have {MAX_LINE_BYTES:,}")
        if self._passing:  # as it will be read, whatever types the table had
            accepted = self._checker.accepts(line)
        else:
            accepted = request if self._checker.accepts_value(request) else None
        if accepted is None:
            raise BadRow(row.number, self._why(line))
        self._require_new(row, accepted)
        return accepted, line

    def _why(self, line: bytes) -> str:
        if len(self._skipped) >= SHOWN_ROWS:
            return "is refused"  # it will not be shown, and the explanation takes its time
        problems = self._checker.explain(line)
        return f"{problems[0].path}: {problems[0].message}" if problems else "is refused"

    def _require_new(self, row: Row, request: dict[str, Any]) -> None:
        custom_id = request["custom_id"]
        given = self._id is not None or self._passing  # the default ids cannot meet
        if given and self._seen.is_used(custom_id):
            hint = "make --id of columns that differ in every row, or leave it out"
            raise BadRow(row.number, f"the custom_id {custom_id} is used before", "duplicate_custom_id", hint)
        if self._passing:
            self._url = self._url or request["url"]
            if request["url"] != self._url:
                said = f"url: is {request['url']}, but the first request's is {self._url}; one endpoint a file"
                raise BadRow(row.number, said)

    def _refuse_bad_parameters(self) -> None:
        """What is wrong with the flags is no row's fault."""
        probe = build("-", self.args.endpoint, self._model, "-", self._system and "-", self._parameters)
        if not self._checker.accepts_value(probe):
            problem = self._checker.explain_value(probe)[0]
            raise _bad(f"{problem.path}: {problem.message}", "change the flag, or the key of --body, that sets it")

    def _refuse_flags(self) -> None:
        """Rows that are requests take no prompt, and other rows need one."""
        args = self.args
        if not self._passing:
            if self._prompt is None:
                raise _bad(
                    "--prompt is missing", '--prompt "… {column} …", or rows that hold custom_id, method, url, body'
                )
            return
        given = [name for name in ("system", "model", "id", "body", *_FLAGS) if getattr(args, name) is not None]
        if given or args.endpoint != CHAT:
            name = (given[0] if given else "endpoint").replace("_", "-")
            raise _bad(f"the rows are request lines already, so --{name} has no place", f"leave --{name} out")


_FLAGS = ("max_tokens", "temperature", "top_p", "stop")


def _prompt(args: argparse.Namespace, disk: Disk) -> str | None:
    """The prompt template; None where the rows have to be request lines."""
    if args.example:
        for name in ("input", "prompt", "prompt_file", "id"):
            if getattr(args, name) is not None:
                raise _bad(f"--example takes no --{name.replace('_', '-')}", "leave one of them out")
        if args.endpoint == EMBEDDINGS and not args.model:
            raise _bad("an example for embeddings needs --model", "list_models.py shows which there are")
        return "{text}"
    if args.prompt is not None and args.prompt_file is not None:
        raise _bad("--prompt and --prompt-file exclude each other", "leave one of them out")
    if args.prompt_file is None:
        return _text("--prompt", args.prompt)
    with sources.open_input(Path(args.prompt_file), disk) as file:
        raw = file.read(MAX_LINE_BYTES + 1)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _bad(f"{plain(args.prompt_file)}: byte {error.start + 1} is not UTF-8", "save it as UTF-8") from None
    return _text("--prompt-file", text.removesuffix("\n").removesuffix("\r"))


def _text(name: str, text: str | None) -> str | None:
    if text is not None:
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise _bad(f"{name} is not UTF-8 text", "write it in UTF-8") from None
        if not text.strip():
            raise _bad(f"{name} is empty", f"{name} TEXT")
        templates.places(text)  # raises where a brace stands alone
    return text


def _parameters(args: argparse.Namespace) -> dict[str, Any]:
    """What the flags put into the body beside the prompt, the model among it."""
    for name in WITHOUT[args.endpoint]:
        if getattr(args, name) is not None:
            flag = f"--{name.replace('_', '-')}"
            raise _bad(f"{args.endpoint} takes no {flag}", f"leave {flag} out, or choose another --endpoint")
    parameters: dict[str, Any] = {} if args.model is None else {"model": args.model}
    if args.max_tokens is not None:
        parameters[TOKEN_LIMIT[args.endpoint]] = args.max_tokens
    for name in ("temperature", "top_p"):
        if getattr(args, name) is not None:
            parameters[name] = getattr(args, name)
    if args.example and args.max_tokens is None and args.endpoint in TOKEN_LIMIT:
        parameters[TOKEN_LIMIT[args.endpoint]] = EXAMPLE_TOKENS
    if args.stop:
        parameters["stop"] = args.stop[0] if len(args.stop) == 1 else args.stop
    if args.body is None:
        return parameters
    try:
        body = read(args.body.encode("utf-8", "surrogateescape"))
    except ValueError as error:
        raise _bad(f"--body {error}", "--body '{\"seed\": 7}'") from None
    if not isinstance(body, dict):
        raise _bad("--body is not a JSON object", "--body '{\"seed\": 7}'")
    made = build("", args.endpoint, "", "", args.system)["body"].keys() - {"model"}
    twice = [name for name in body if name in parameters or name in made]
    if twice:
        raise _bad(f"--body holds {plain(twice[0], 40)}, which a flag sets already", "say it in one place")
    return {**parameters, **body}


def _refuse_input_as_output(source: str | None, output: Path) -> None:
    """The output must not replace, or with --force remove, the very table it is made from."""
    if source in (None, sources.STDIN):
        return
    taken, number = [output, source_path(output)], 1
    while numbered(output, number).exists():
        taken.append(numbered(output, number))
        number += 1
    if os.path.realpath(str(source)) in {os.path.realpath(path) for path in taken}:
        raise _bad(f"the output {plain(output)} would take the place of the input", "choose another name")


def _bad(message: str, hint: str) -> Failure:
    return Failure(Exit.BAD_INPUT, "bad_arguments", message, hint)
