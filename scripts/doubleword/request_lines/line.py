"""One request of a batch: how its line is built, and what the server does to it without a word."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from doubleword.failure import plain
from doubleword.service import CHAT, COMPLETIONS, RESPONSES

# The server drops these from the body without a word: files.rs:223-231, pg.rs:76-96.
DROPPED = ("priority", "service_tier", "background")

BLANK = b" \t\r\n"
# As the schema says it of a custom_id. The server counts bytes, and refuses control characters: files.rs:130.
MAX_ID = 64
_NO_ID = re.compile(r"[\x00-\x1f\x7f-\x9f]|^ | $")


def is_id(custom_id: str) -> bool:
    """Whether the server takes `custom_id`."""
    return custom_id != "" and fits_bytes(custom_id) and not _NO_ID.search(custom_id)


def fits_bytes(custom_id: str) -> bool:
    """Whether `custom_id` is UTF-8 text of no more bytes than the server takes."""
    try:
        return len(custom_id) <= MAX_ID and len(custom_id.encode()) <= MAX_ID
    except UnicodeEncodeError:
        return False


def build(
    custom_id: str,
    endpoint: str,
    model: str,
    prompt: str | None,
    system: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    before: Sequence[Mapping[str, Any]] = (),
    images: Sequence[str] = (),
) -> dict[str, Any]:
    """The request line that asks `model` for `prompt` at `endpoint`, with `parameters` beside it in the body.

    The prompt becomes a user message (chat), `prompt` (completions) or `input` (embeddings, responses); the
    system text a system message (chat) or `instructions` (responses), and there is no other place for one. `images`
    are URLs that stand in the user message after the prompt, `before` messages that stand between it and the system
    text, or without a prompt at the end; only chat and responses take them.
    """
    body: dict[str, Any] = {"model": model}
    asked: list[Mapping[str, Any]] = [*before]
    if prompt is not None:
        asked.append({"role": "user", "content": _parts(endpoint, prompt, images) if images else prompt})
    if endpoint == CHAT:
        messages = [] if system is None else [{"role": "system", "content": system}]
        body["messages"] = [*messages, *asked]
    elif endpoint == COMPLETIONS:
        body["prompt"] = prompt
    else:
        body["input"] = asked if before or images else prompt
        if endpoint == RESPONSES and system is not None:
            body["instructions"] = system
    body.update(parameters or {})
    return {"custom_id": custom_id, "method": "POST", "url": endpoint, "body": body}


def _parts(endpoint: str, prompt: str, images: Sequence[str]) -> list[dict[str, Any]]:
    if endpoint == RESPONSES:
        return [{"type": "input_text", "text": prompt}, *({"type": "input_image", "image_url": url} for url in images)]
    return [{"type": "text", "text": prompt}, *({"type": "image_url", "image_url": {"url": url}} for url in images)]


def to_line(request: Mapping[str, Any]) -> bytes:
    """`request` as compact JSON in UTF-8, without a line end.

    Raises ValueError for what JSON cannot carry: NaN, infinity, lone surrogates.
    """
    try:
        line = _encoder()(request)
    except (TypeError, RecursionError) as refused:
        raise ValueError(plain(refused)) from None
    except UnicodeEncodeError:
        raise ValueError("holds half of a surrogate pair (\\ud800 to \\udfff), which is not text") from None
    if b"null" in line and _holds_no_number(request):
        raise ValueError("holds NaN or infinity, which is not JSON")
    return line


@functools.cache
def _encoder(order: Literal["sorted"] | None = None) -> Callable[[Any], bytes]:
    from doubleword import quick_msgspec

    return quick_msgspec.Encoder(order=order).encode


def _holds_no_number(value: Any) -> bool:
    """Whether a float in `value` is NaN or infinite; the encoder writes null for it."""
    if isinstance(value, Mapping):
        return any(map(_holds_no_number, value.values()))
    if isinstance(value, list):
        return any(map(_holds_no_number, value))
    return isinstance(value, float) and not abs(value) < float("inf")


def canonical(url: str, body: Mapping[str, Any]) -> bytes:
    """What two requests have in common that ask the same JSON, whatever the order of keys and the forms of numbers.

    What the server drops from a body (dwctl files.rs, pg.rs) is left out, so that its copy counts as the same; it sorts
    the keys of what it keeps.
    """
    encode = _encoder("sorted")
    kept = {name: value for name, value in body.items() if name not in DROPPED}
    found = encode([url, kept])
    return encode([url, _plain_numbers(kept)]) if _WHOLE_FLOAT.search(found) else found


def digest_of(url: str, body: Mapping[str, Any]) -> str:
    """The `canonical` form of a request, in 32 digits."""
    return hashlib.blake2b(canonical(url, body), digest_size=16).hexdigest()


# A whole number that is written as a fraction, as 1.0, or with an exponent.
_WHOLE_FLOAT = re.compile(rb"[:,\[]-?\d+(?:\.0|(?:\.\d+)?e[+-]?\d+)[,}\]]")


def _plain_numbers(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain_numbers(one) for name, one in value.items()}
    if isinstance(value, list):
        return list(map(_plain_numbers, value))
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**63 else value


def cautions(body: Mapping[str, Any]) -> list[str]:
    """What the server does to a valid body without saying so: keys it drops, schema properties it re-orders."""
    from doubleword.answers.schema import nodes

    found = [f"the server drops {name} from a batch request" for name in DROPPED if name in body]
    for place in (("response_format", "json_schema", "schema"), ("text", "format", "schema")):
        schema: Any = body
        for name in place:
            schema = schema.get(name) if isinstance(schema, Mapping) else None
        for names in (list(node["properties"]) for node in nodes(schema) if isinstance(node.get("properties"), dict)):
            if names != sorted(names):
                given, sent = plain(", ".join(names), 80), plain(", ".join(sorted(names)), 80)
                found.append(
                    f"{'.'.join(place)}: the server sorts keys, so the model writes {sent} instead of {given};"
                    " name the properties so that their alphabetical order is the one you want"
                )
                break
    return found
