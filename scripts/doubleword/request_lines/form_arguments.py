"""From the flags to the form of requests.

Promises: flags that cannot make a valid request are refused before the first row is read, by their name.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from doubleword.failure import Exit, Failure, plain
from doubleword.request_lines import examples, response_schema, templates
from doubleword.request_lines.checker import Checker
from doubleword.request_lines.form import CONVERSATIONS, PROMPTS, REQUESTS, RequestForm
from doubleword.request_lines.line import build
from doubleword.service import CHAT, COMPLETIONS, EMBEDDINGS, MAX_LINE_BYTES, RESPONSES, TOKEN_LIMIT
from doubleword.strict_json import read
from doubleword.system import Disk
from doubleword.tables import plain_copy
from doubleword.tables.relation import bare_name, column_at
from doubleword.tables.sources.documents import ID_TEMPLATE
from doubleword.tables.sources.json_files import REQUEST_KEYS

EXAMPLE_MODEL = "SmolLM2-135M-Instruct"
EXAMPLE_TOKENS = 48
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


def form_of(
    args: argparse.Namespace, names: Sequence[str], documents: Path | None, disk: Disk, checker: Checker
) -> RequestForm:
    """The form that `args` give to requests made of rows with columns `names`; `documents` is the folder they are.

    Raises Failure (exit 2) for flags that cannot be meant.
    """
    for flag in WITHOUT[args.endpoint]:
        if getattr(args, flag) is not None:
            hint = f"leave {_flag(flag)} out, or choose another --endpoint"
            raise bad_arguments(f"{args.endpoint} takes no {_flag(flag)}", hint)
    prompt, system = _prompt(args, disk), _either(args, "system", disk)
    images = [_text("--image", one) or "" for one in args.image or ()]
    folder = documents or Path(vars(args).get("beside") or (args.input or ["-"])[0]).parent  # of staged rows, `beside`
    id_template, repair = _text("--id", args.id), bool(args.repair_ids)
    if documents is not None:
        if id_template is None:
            id_template, repair = ID_TEMPLATE, True
        if not images and prompt is not None and names[-1] == "image":
            if "image" in WITHOUT[args.endpoint]:
                hint = f"--endpoint {CHAT}; or a folder of text files"
                raise bad_arguments(f"{args.endpoint} takes no images, and {plain(documents)} holds some", hint)
            images = ["{image}"]
    if images and prompt is None:
        raise bad_arguments("--image needs a --prompt", '--prompt "Describe this image."')
    kind = _kind(args, names, prompt)
    if kind == REQUESTS:
        _refuse_flags(args)
        return RequestForm(kind, args.endpoint, id="{custom_id}", repair=repair)
    parameters = _parameters(args, disk)
    model = parameters.pop("model", EXAMPLE_MODEL if args.example else None)
    if model is None:
        raise bad_arguments("--model is missing", "--model ID; list_models.py shows which there are")
    _require_valid(args, model, system, parameters, checker)
    defaults = _defaults(args, [prompt, system, *images])
    before = [] if args.examples is None else examples.read(Path(args.examples), disk, prompt, defaults, args.endpoint)
    return RequestForm(
        kind,
        args.endpoint,
        model,
        prompt,
        system,
        id_template,
        repair,
        images,
        str(folder),
        defaults,
        parameters,
        before,
    )


def _kind(args: argparse.Namespace, names: Sequence[str], prompt: str | None) -> str:
    """What the rows are; raises Failure (exit 2) where no flag says what to ask of them."""
    if prompt is not None:
        return PROMPTS
    if set(names) >= REQUEST_KEYS:
        return REQUESTS
    if column_at(examples.MESSAGES, names) >= 0 and args.endpoint in (CHAT, RESPONSES):
        return CONVERSATIONS
    hint = '--prompt "… {column} …", or rows that hold messages, or custom_id, method, url and body'
    raise bad_arguments("--prompt is missing", hint)


def _require_valid(
    args: argparse.Namespace, model: Any, system: str | None, parameters: dict[str, Any], checker: Checker
) -> None:
    """What is wrong with the flags is no row's fault."""
    probe = build("-", args.endpoint, model, "-", system and "-", parameters)
    if checker.accepts_value(probe):
        return
    problem = checker.explain_value(probe)[0]
    if problem.path.startswith("body.tools") and args.tools is not None:
        said = f"--tools {plain(args.tools, 80)}: {problem.path.removeprefix('body.')}: {problem.message}"
        raise bad_arguments(said, "references/request_lines.md shows tools as they should be")
    raise bad_arguments(f"{problem.path}: {problem.message}", "change the flag, or the key of --body, that sets it")


def _refuse_flags(args: argparse.Namespace) -> None:
    """Rows that are requests take no flags that form requests."""
    given = [name for name in _FORMING if getattr(args, name) is not None]
    if given or args.endpoint != CHAT:
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
    text = plain_copy.text_of(Path(file), disk, MAX_LINE_BYTES)
    return _text(f"--{name}-file", text.removesuffix("\n").removesuffix("\r"))


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
        meant = [place for place in places if bare_name(place) == bare_name(column)]
        if not meant:
            known = ", ".join(plain(place, 40) for place in sorted(places)) or "none"
            message = f"--default {plain(column, 60)}: no template names this column; they name: {known}"
            raise bad_arguments(message, "an --id takes no default, as ids must differ")
        found.update(dict.fromkeys(meant, text))
    return found


def _parameters(args: argparse.Namespace, disk: Disk) -> dict[str, Any]:
    """What the flags put into the body beside the messages, the model among it."""
    parameters: dict[str, Any] = {} if args.model is None else {"model": args.model}
    if args.max_tokens is not None:
        parameters[TOKEN_LIMIT[args.endpoint]] = args.max_tokens
    parameters |= {name: value for name in ("temperature", "top_p") if (value := getattr(args, name)) is not None}
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
        if not isinstance(body, dict):
            raise ValueError("is not a JSON object")
    except ValueError as error:
        raise bad_arguments(f"--body {error}", "--body '{\"seed\": 7}'") from None
    made = build("", args.endpoint, "", "", args.system or args.system_file)["body"].keys() - {"model"}
    twice = [name for name in body if name in parameters or name in made]
    if twice:
        raise bad_arguments(f"--body holds {plain(twice[0], 40)}, which a flag sets already", "say it in one place")
    return {**parameters, **body}


def _tools(file: str, endpoint: str, disk: Disk) -> list[Any]:
    """The tools in a file, a JSON array or one object, functions in the form that `endpoint` takes."""
    try:
        found = read(plain_copy.text_of(Path(file), disk, MAX_LINE_BYTES).encode())
        if found == []:
            raise ValueError("holds no tool")
    except ValueError as error:
        raise bad_arguments(f"--tools {plain(file, 80)} {error}", "the file holds a JSON array of tools") from None
    return [_formed(tool, endpoint) for tool in (found if isinstance(found, list) else [found])]


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
