"""Variants: every combination of models and prompts, or those that a file names.

Promises: a variant's name tells its model and prompt, and is no other's, not even as a file name; a key that nobody
knows is refused, never passed over.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from doubleword.failure import Exit, Failure, plain
from doubleword.quick_msgspec import Struct
from doubleword.request_lines import response_schema
from doubleword.request_lines.form_arguments import bad_arguments
from doubleword.service import EMBEDDINGS, MAX_LINE_BYTES
from doubleword.strict_json import read
from doubleword.system import Disk
from doubleword.tables import plain_copy

# Keys of a variant that are flags too, and what such a key has in a file: in JSON a path, a text, a number.
FLAGS = ("model", "prompt", "prompt_file", "system", "system_file", "examples", "endpoint")
FILES = ("prompt_file", "system_file", "examples")  # relative to the folder of the file that names them
PARAMETERS = ("max_tokens", "temperature", "top_p", "stop")
KEYS = ("name", *FLAGS, "parameters", "schema")
TWINS = {"prompt": "prompt_file", "prompt_file": "prompt", "system": "system_file", "system_file": "system"}
LONGEST_NAME = 60


class Variant(Struct, frozen=True):
    """One way to ask: its name, where its files are without their endings, and what `create_batch_file.py` would be
    given.
    """

    name: str
    stem: Path
    args: argparse.Namespace

    def path(self, ending: str) -> Path:
        """A file of this variant, beside the output."""
        return self.stem.with_name(f"{self.stem.name}{ending}")


def variants_of(args: argparse.Namespace, disk: Disk) -> list[Variant]:
    """The variants that `args` name; raises Failure (exit 2) for none, and for what cannot be meant."""
    if args.endpoint == EMBEDDINGS:
        raise bad_arguments("embeddings have no answers to compare", "choose another --endpoint")
    found = _named(args, disk) if args.variants else _combined(args)
    slugs = [re.sub(r"[^A-Za-z0-9._-]+|[.](?=judge$)", "-", name).strip("-.") or "variant" for name, _ in found]
    twice = [slug for slug, count in Counter(slug.casefold() for slug in slugs).items() if count > 1]
    if twice:
        message = f"two variants are called {plain(twice[0], 80)}, letters and digits alone"
        raise bad_arguments(message, "name each model and prompt once; in --variants give them unlike names")
    output = Path(args.output)
    stems = [output.with_name(f"{output.stem}.{slug}") for slug in slugs]
    return [Variant(name, stem, one) for (name, one), stem in zip(found, stems, strict=True)]


def _combined(args: argparse.Namespace) -> list[tuple[str, argparse.Namespace]]:
    """Each model with each prompt."""
    models: list[str | None] = args.model or [None]
    prompts = [("prompt", one) for one in args.prompt or ()] + [("prompt_file", one) for one in args.prompt_file or ()]
    last = Counter(_last(one) for one in models)
    stems = Counter(Path(one).stem for one in args.prompt_file or ())
    found = []
    for model, at in itertools.product(models, range(max(len(prompts), 1))):
        flag, prompt = prompts[at] if prompts else ("prompt", None)
        words = [_last(model) if last[_last(model)] == 1 else str(model)] if model is not None else []
        if flag == "prompt_file":
            words.append(Path(str(prompt)).stem if stems[Path(str(prompt)).stem] == 1 else str(prompt))
        elif len(prompts) > 1:
            words.append(f"prompt{at + 1}")
        told = {"model": model, "prompt": None, "prompt_file": None, flag: prompt}
        found.append(("+".join(words) or "rows", _with(args, told)))
    return found


def _last(model: str | None) -> str:
    """The last part of a model's id, by which people call it."""
    return (model or "").rpartition("/")[2]


def _with(args: argparse.Namespace, told: dict[str, Any]) -> argparse.Namespace:
    return argparse.Namespace(**{**vars(args), **told})


# A file of variants


def _named(args: argparse.Namespace, disk: Disk) -> list[tuple[str, argparse.Namespace]]:
    """Those of `--variants`: a JSON array of objects, each with some of `KEYS`; what one leaves out the flags say."""
    path = Path(args.variants)
    shared = {name: _only(args, name) for name in ("model", "prompt", "prompt_file")}
    try:
        content = read(plain_copy.text_of(path, disk, MAX_LINE_BYTES).encode())
    except ValueError as error:
        raise _bad(path, str(error)) from None
    if not isinstance(content, list) or not content:
        raise _bad(path, "is no list of variants")
    return [_of_entry(entry, number, _with(args, shared), path) for number, entry in enumerate(content, 1)]


def _only(args: argparse.Namespace, name: str) -> str | None:
    given: Sequence[str] = getattr(args, name) or ()
    if len(given) > 1:
        flag = f"--{name.replace('_', '-')}"
        raise bad_arguments(f"{flag} is given twice beside --variants", f"name each {flag[2:]} in the file")
    return given[0] if given else None


def _of_entry(entry: Any, number: int, args: argparse.Namespace, path: Path) -> tuple[str, argparse.Namespace]:
    if not isinstance(entry, dict):
        raise _bad(path, f"variant {number} is no object")
    unknown = [key for key in entry if key not in KEYS]
    if unknown:
        raise _bad(path, f"variant {number} has the key {plain(unknown[0], 40)}; known are {', '.join(KEYS)}")
    told: dict[str, Any] = {}
    for key in (one for one in FLAGS if one in entry):
        value = entry[key]
        if not isinstance(value, str) or not value:
            raise _bad(path, f"variant {number}: {key} is no text")
        told |= {key: str(path.parent / value) if key in FILES else value}
        if key in TWINS and TWINS[key] not in entry:
            told[TWINS[key]] = None
    name = entry.get("name") or "+".join(filter(None, [_last(told.get("model") or args.model), f"variant{number}"]))
    if not isinstance(name, str) or not name.strip() or len(name) > LONGEST_NAME:
        raise _bad(path, f"the name of variant {number} is no text of at most {LONGEST_NAME} characters")
    made = _with(args, told)
    _set_parameters(made, entry.get("parameters", {}), number, path)
    if "schema" in entry:
        _set_schema(made, entry["schema"], number, path)
    return name.strip(), made


def _set_parameters(args: argparse.Namespace, parameters: Any, number: int, path: Path) -> None:
    """What a variant says of the body, before what the flags say, `--body` among them."""
    if not isinstance(parameters, dict):
        raise _bad(path, f"variant {number}: parameters is no object")
    flags = {name: value for name, value in parameters.items() if name in PARAMETERS}
    for name, value in flags.items():
        setattr(args, name, [value] if name == "stop" and isinstance(value, str) else value)
    body = {name: value for name, value in {**_body(args), **parameters}.items() if name not in flags}
    args.body = json.dumps(body) if body else None


def _set_schema(args: argparse.Namespace, schema: Any, number: int, path: Path) -> None:
    """A schema by its file, or as it stands."""
    if isinstance(schema, str):
        args.response_schema = str(path.parent / schema)
        return
    if not isinstance(schema, dict):
        raise _bad(path, f"variant {number}: schema is neither a path nor an object")
    response_schema.require(path, schema)
    args.response_schema = None
    args.body = json.dumps({**_body(args), **response_schema.parameters(Path("answer"), schema, args.endpoint)})


def _body(args: argparse.Namespace) -> dict[str, Any]:
    try:
        body = read((args.body or "{}").encode("utf-8", "surrogateescape"))
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise bad_arguments("--body is not a JSON object", "--body '{\"seed\": 7}'")
    return body


def _bad(path: Path, said: str) -> Failure:
    hint = '[{"name": "small", "model": "ID", "prompt_file": "short.txt", "parameters": {"temperature": 0}}]'
    return Failure(Exit.BAD_INPUT, "bad_variants", f"{plain(path, 120)} {said}", f"expected {hint}")
