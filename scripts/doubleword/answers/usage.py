"""What an answer took: the tokens that its `usage` tells, under the names of every endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

MOST_TOKENS = 1 << 53


class Tokens(NamedTuple):
    """What an answer took. Of `prompt`, `cached` came from the prompt cache and `written` went into it; `reasoning` is
    of `completion`.
    """

    prompt: int
    completion: int
    cached: int = 0
    reasoning: int = 0
    written: int = 0


def tokens(body: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Prompt and completion tokens of `usage`, under either of their names."""
    usage = body.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    return _count(usage, "prompt_tokens", "input_tokens"), _count(usage, "completion_tokens", "output_tokens")


def usage(body: Mapping[str, Any]) -> Tokens | None:
    """All that `usage` tells, None where it tells no tokens.

    `/v1/messages` counts what the cache held, and what was written into it, beside the input (Anthropic's API); where
    gateways repeat these counts in a chat, they are part of the prompt.
    """
    prompt, completion = tokens(body)
    if prompt is None and completion is None:
        return None
    told: dict[str, Any] = body["usage"]
    given, made = _details(told, "prompt", "input"), _details(told, "completion", "output")
    read, wrote = (_count(told, f"cache_{name}_input_tokens") or 0 for name in ("read", "creation"))
    return Tokens(
        (prompt or 0) + (0 if "prompt_tokens" in told else read + wrote),
        completion or 0,
        read or _count(given, "cached_tokens") or 0,
        _count(made, "reasoning_tokens") or 0,
        wrote or _count(given, "cache_write_tokens") or 0,
    )


def _details(usage: dict[str, Any], *names: str) -> dict[str, Any]:
    found = (usage.get(f"{name}_tokens_details") for name in names)
    return next((one for one in found if isinstance(one, dict)), {})


def _count(usage: dict[str, Any], *names: str) -> int | None:
    for found in map(usage.get, names):
        if isinstance(found, int) and not isinstance(found, bool) and 0 <= found < MOST_TOKENS:
            return found
    return None


def used_all_tokens(body: Mapping[str, Any], limit: int | None) -> bool:
    """Whether an answer took all the tokens that its request allowed, so that it may be cut off, whatever its ending.

    With streamed dispatch control-layer says `completed` of every response, also of one that was cut off.
    """
    used, listed = tokens(body)[1], body.get("choices")
    return bool(limit and used) and used >= limit * (len(listed) if isinstance(listed, list) else 1)  # type: ignore[operator]
