"""The form of requests: what the flags say of all of them, and how one row becomes one of them.

Promises: flags that cannot make a valid request are refused before the first row is read, by their name; a row gives
the same request whenever it is read.
"""

from __future__ import annotations

import argparse
import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from doubleword.failure import Exit, Failure, plain
from doubleword.request_lines import examples as few_shot
from doubleword.request_lines import response_schema, templates
from doubleword.request_lines.line import (
    CHAT,
    COMPLETIONS,
    EMBEDDINGS,
    MAX_LINE_BYTES,
    RESPONSES,
    TOKEN_LIMIT,
    Checker,
    build,
    read,
)
from doubleword.request_lines.splicing import Spliced, splicer
from doubleword.system import Disk
from doubleword.tables import folders, images, sources
from doubleword.tables.sources import BadRow, Row

EXAMPLE_MODEL = "SmolLM2-135M-Instruct"
EXAMPLE_TOKENS = 48
REQUEST_KEYS = {"custom_id", "method", "url", "body"}
# What rows are: values for a prompt, conversations, or request lines already.
PROMPTS, CONVERSATIONS, REQUESTS = "prompts", "conversations", "requests"
_CHAT_ONLY = ("system", "system_file", "examples", "image", "response_schema", "tools")
# Flags that have no place in an endpoint's requests.
WITHOUT = {
    CHAT: (),
    COMPLETIONS: _CHAT_ONLY,
    EMBEDDINGS: (*_CHAT_ONLY, "max_tokens", "temperature", "top_p", "stop"),
    RESPONSES: (),
}
# Flags that have no place where the rows are requests already.
_FORMING = (
    "system", "system_file", "default", "examples", "image", "response_schema", "tools", "model", "id", "body",
    "max_tokens", "temperature", "top_p", "stop",
)  # fmt: skip


class RequestForm:
    """The form that `args` give to requests; `kind` says what the rows are, None until the first one has told."""

    def __init__(self, args: argparse.Namespace, disk: Disk, checker: Checker) -> None:
        self._args, self._disk, self._checker = args, disk, checker
        self.endpoint: str = args.endpoint
        self.kind: str | None = None
        self.repair: bool = args.repair_ids
        for name in WITHOUT[args.endpoint]:
            if getattr(args, name) is not None:
                raise bad_arguments(
                    f"{args.endpoint} takes no {_flag(name)}", f"leave {_flag(name)} out, or choose another --endpoint"
                )
        self.prompt = _prompt(args, disk)
        self.system = _either(args, "system", disk)
        self.id = _text("--id", args.id)
        self.images = [_text("--image", one) or "" for one in args.image or ()]
        self.folder = Path()
        if args.input not in (None, sources.STDIN):
            self._look_at(Path(args.input))
        self._defaults = _defaults(args, [self.prompt, self.system, *self.images])
        self._parameters = _parameters(args, disk)
        self.model: Any = self._parameters.pop("model", EXAMPLE_MODEL if args.example else None)
        if self.prompt is not None:
            self._expect(PROMPTS)
        if self.images and self.prompt is None:
            raise bad_arguments("--image needs a --prompt", '--prompt "Describe this image."')
        self._examples: list[dict[str, Any]] = []
        if args.examples is not None:
            self._examples = few_shot.read(Path(args.examples), disk, self.prompt, self._defaults, self.endpoint)

    def _look_at(self, table: Path) -> None:
        """What the table itself decides: where paths in it begin, and for a folder the ids and the images."""
        self.folder = table.parent
        if sources.is_folder(table, self._disk, self._args.input_format):
            self.folder = table
            if self.id is None:
                self.id, self.repair = folders.ID_TEMPLATE, True
            if not self.images and self.prompt is not None:
                last = sources.columns(table, self._disk, None, self._args.encoding)[-1]
                if last == "image":
                    if "image" in WITHOUT[self.endpoint]:
                        hint = f"--endpoint {CHAT}; or a folder of text files"
                        raise bad_arguments(f"{self.endpoint} takes no images, and {plain(table)} holds some", hint)
                    self.images = ["{image}"]

    def request(self, row: Row) -> dict[str, Any]:
        """The request of `row`; raises BadRow, or Failure (exit 2) where it needs flags that are not there."""
        if row.problem is not None:
            raise BadRow(row.number, row.problem)
        if self.kind is None:
            self._learn(row)
        if self.kind == REQUESTS:
            return self._own(row)
        custom_id = templates.custom_id(self.id, row, self.repair)
        system = None if self.system is None else templates.fill(self.system, row, self._defaults)
        if self.kind == CONVERSATIONS:
            if few_shot.MESSAGES not in row.values:
                raise BadRow(row.number, f"has no column {few_shot.MESSAGES}, as the rows before it have")
            messages = few_shot.messages_of(row)
            if messages[0].get("role") in ("system", "developer"):
                # The row's own stands first also where examples follow.
                own, messages = messages[:1], messages[1:]
                return self._built(custom_id, None, None, [*own, *self._examples, *messages])
            return self._built(custom_id, None, system, [*self._examples, *messages])
        assert self.prompt is not None
        urls = [self._image(template, row) for template in self.images]
        prompt = templates.fill(self.prompt, row, self._defaults)
        return self._built(custom_id, prompt, system, self._examples, urls)

    def _built(
        self, custom_id: str, prompt: str | None, system: str | None, before: list[Any], urls: list[str] | None = None
    ) -> dict[str, Any]:
        return build(custom_id, self.endpoint, self.model, prompt, system, self._parameters, before, urls or ())

    def _own(self, row: Row) -> dict[str, Any]:
        """The request that a row is; an id that is missing, empty or no text is for the check to refuse."""
        request = dict(row.values)
        given = request.get("custom_id")
        if self.repair and isinstance(given, str) and given.strip():
            request["custom_id"] = templates.repaired(given)
        return request

    def _image(self, template: str, row: Row) -> str:
        try:
            return images.image_url(templates.fill(template, row, self._defaults), self.folder, self._disk)
        except ValueError as error:
            raise BadRow(row.number, str(error), "bad_image", "mend the row or the file") from None

    def original_id(self, row: Row, custom_id: str) -> str | None:
        """The id of which `custom_id` was repaired; None where it is the row's own."""
        if not self.repair or self.id is None:
            return None
        original = row.values["custom_id"] if self.kind == REQUESTS else templates.custom_id(self.id, row)
        return original if original != custom_id else None

    @property
    def takes_cells(self) -> bool:
        """Whether requests are made of cells by a prompt and ids as they stand, so that they may be spliced."""
        return self.prompt is not None and not self.images and not (self.id is not None and self.repair)

    def splice(self, header: list[str]) -> Callable[[int, list[list[str]]], Spliced | None] | None:
        """What splices the lines of rows under `header`; None where the templates are not as plain as that needs."""
        assert self.prompt is not None
        fill, system = templates.filler(self.prompt, header), self.system
        name = None if self.id is None else templates.filler(self.id, header)
        if fill is None or (system is not None and templates.places(system)) or (name is None and self.id is not None):
            return None
        if system is not None:
            system = templates.fill(system, Row(0, {}))
        return splicer(lambda id, text: self._built(id, text, system, self._examples), fill, name, self._checker)

    def _learn(self, row: Row) -> None:
        """What the rows are, from the first good one; raises Failure where the flags do not fit that."""
        if row.values.keys() >= REQUEST_KEYS:
            self._refuse_flags()
            self.kind, self.id = REQUESTS, "{custom_id}"
        elif few_shot.MESSAGES in row.values and self.endpoint in (CHAT, RESPONSES):
            self._expect(CONVERSATIONS)
        else:
            message = "--prompt is missing"
            hint = '--prompt "… {column} …", or rows that hold messages, or custom_id, method, url and body'
            raise bad_arguments(message, hint)

    def _expect(self, kind: str) -> None:
        """Take the rows for `kind`; what is wrong with the flags is no row's fault."""
        self.kind = kind
        if self.model is None:
            raise bad_arguments("--model is missing", "--model ID; list_models.py shows which there are")
        probe = build("-", self.endpoint, self.model, "-", self.system and "-", self._parameters)
        if self._checker.accepts_value(probe):
            return
        problem = self._checker.explain_value(probe)[0]
        tool = re.fullmatch(r"body\.tools\[(\d+)\]\.?(.*)", problem.path)
        if tool and self._args.tools is not None:
            one: Any = self._parameters["tools"][int(tool[1])]
            inner = one.get("function", one) if isinstance(one, dict) else None
            called = inner.get("name") if isinstance(inner, dict) else None
            which = f"tool {int(tool[1]) + 1}" + (f" ({plain(called, 60)})" if isinstance(called, str) else "")
            where = f"{tool[2]}: " if tool[2] else ""
            said = f"--tools {plain(self._args.tools, 80)}, {which}: {where}{problem.message}"
            raise bad_arguments(said, "references/request_lines.md shows tools as they should be")
        raise bad_arguments(f"{problem.path}: {problem.message}", "change the flag, or the key of --body, that sets it")

    def _refuse_flags(self) -> None:
        """Rows that are requests take no flags that form requests."""
        given = [name for name in _FORMING if getattr(self._args, name) is not None]
        if given or self.endpoint != CHAT:
            name = _flag(given[0] if given else "endpoint")
            raise bad_arguments(f"the rows are request lines already, so {name} has no place", f"leave {name} out")


def bad_arguments(message: str, hint: str) -> Failure:
    """The Failure (exit 2) for flags that cannot be followed."""
    return Failure(Exit.BAD_INPUT, "bad_arguments", message, hint)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _prompt(args: argparse.Namespace, disk: Disk) -> str | None:
    """The prompt template; None where the rows have to be request lines or conversations."""
    if args.example:
        for name in ("input", "prompt", "prompt_file", "id", "image", "default"):
            if getattr(args, name) is not None:
                raise bad_arguments(f"--example takes no {_flag(name)}", "leave one of them out")
        if args.endpoint == EMBEDDINGS and not args.model:
            raise bad_arguments("an example for embeddings needs --model", "list_models.py shows which there are")
        return "{text}"
    return _either(args, "prompt", disk)


def _either(args: argparse.Namespace, name: str, disk: Disk) -> str | None:
    """The text of a flag, or of the file that its twin with `-file` names."""
    text, file = getattr(args, name), getattr(args, f"{name}_file")
    if file is None:
        return _text(_flag(name), text)
    if text is not None:
        raise bad_arguments(f"--{name} and --{name}-file exclude each other", "leave one of them out")
    raw = _read(file, disk)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise bad_arguments(f"{plain(file)}: byte {error.start + 1} is not UTF-8", "save it as UTF-8") from None
    return _text(f"--{name}-file", text.removesuffix("\n").removesuffix("\r"))


def _read(file: str, disk: Disk) -> bytes:
    with sources.open_input(Path(file), disk) as opened:
        return opened.read(MAX_LINE_BYTES + 1)


def _text(name: str, text: str | None) -> str | None:
    if text is not None:
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise bad_arguments(f"{name} is not UTF-8 text", "write it in UTF-8") from None
        if not text.strip():
            raise bad_arguments(f"{name} is empty", f"{name} TEXT")
        templates.places(text)  # raises where a brace stands alone
    return text


def _defaults(args: argparse.Namespace, used: list[str | None]) -> dict[str, str]:
    """What stands for missing and empty values, by the place that needs it."""
    places = set(itertools.chain.from_iterable(templates.places(one) for one in used if one is not None))
    found: dict[str, str] = {}
    for one in args.default or ():
        column, equals, text = one.partition("=")
        if not equals or not text.strip():
            raise bad_arguments(f"--default {plain(one, 60)} is not COLUMN=TEXT", "--default colour=unknown")
        if column not in places:
            known = ", ".join(plain(place, 40) for place in sorted(places)) or "none"
            message = f"--default {plain(column, 60)}: no template names this column; they name: {known}"
            raise bad_arguments(message, "an --id takes no default, as ids must differ")
        found[column] = text
    return found


def _parameters(args: argparse.Namespace, disk: Disk) -> dict[str, Any]:
    """What the flags put into the body beside the messages, the model among it."""
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
    if args.response_schema is not None:
        path = Path(args.response_schema)
        parameters |= response_schema.parameters(path, response_schema.load(path, disk), args.endpoint)
    if args.tools is not None:
        parameters["tools"] = _tools(args.tools, args.endpoint, disk)
    if args.body is None:
        return parameters
    try:
        body = read(args.body.encode("utf-8", "surrogateescape"))
    except ValueError as error:
        raise bad_arguments(f"--body {error}", "--body '{\"seed\": 7}'") from None
    if not isinstance(body, dict):
        raise bad_arguments("--body is not a JSON object", "--body '{\"seed\": 7}'")
    made = build("", args.endpoint, "", "", args.system or args.system_file)["body"].keys() - {"model"}
    twice = [name for name in body if name in parameters or name in made]
    if twice:
        raise bad_arguments(f"--body holds {plain(twice[0], 40)}, which a flag sets already", "say it in one place")
    return {**parameters, **body}


def _tools(file: str, endpoint: str, disk: Disk) -> list[Any]:
    """The tools in a file, a JSON array or one object, functions in the form that `endpoint` takes."""
    try:
        found = read(_read(file, disk))
    except ValueError as error:
        raise bad_arguments(f"--tools {plain(file, 80)} {error}", "the file holds a JSON array of tools") from None
    tools = found if isinstance(found, list) else [found]
    if not tools:
        raise bad_arguments(f"--tools {plain(file, 80)} holds no tool", "the file holds a JSON array of tools")
    return [_formed(tool, endpoint) for tool in tools]


def _formed(tool: Any, endpoint: str) -> Any:
    """A function as chat nests it, {"type", "function": {…}}, or as responses take it, all in one object."""
    if not isinstance(tool, dict) or tool.get("type") != "function":
        return tool
    inner = tool.get("function")
    if endpoint == RESPONSES and isinstance(inner, dict):
        return {"type": "function", **inner}
    if endpoint == CHAT and inner is None and "name" in tool:
        return {"type": "function", "function": {key: value for key, value in tool.items() if key != "type"}}
    return tool
