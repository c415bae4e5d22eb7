"""How many tokens the prompt of one request has: an estimate, and the most it can be.

Text is counted by kinds of characters (`WEIGHTS`); added are what chat templates put around it, images by their
size, and tools as JSON text. The most is one token for each byte of text, which no tokenizer exceeds, whichever way
it normalizes the text first, and generous room for the template.

Measured for whole tables (estimate against truth), with the tokenizers of SmolLM2 (the embedded engine's), Qwen3,
Qwen3.6, and o200k (gpt-oss):

    the six tables of `examples`, each row as "column: value" lines: alone -15 to +9 % (SmolLM2 with its template
        -11 to -4 %), inside a long instruction in Markdown -16 to +3 %
    150 rows of an airport table, names and numbers: SmolLM2 -13 %, Qwen3 -8 %, Qwen3.6 -9 %, o200k +17 % (three
        digits are one token there)
    technical documentation +4 to +14 %, Python source -4 to +7 %
    eight languages, one notice in each, with the tokenizer of multilingual-e5: within a half of the truth; with
        SmolLM2, which knows little but English, a text can have 1.3 to 4 times the estimate

A single short text is often 25 % off; over a table that evens out.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from doubleword.pricing.image_tokens import image_tokens
from doubleword.quick_msgspec import Struct

# Tokens for one character of a kind. Blanks cost nothing: they go with the word that follows.
_LOWER = b"abcdefghijklmnopqrstuvwxyz"
_UPPER = _LOWER.upper()
_DIGITS = b"0123456789"
_MARKS = bytes(byte for byte in range(33, 127) if byte not in _LOWER + _UPPER + _DIGITS)
WEIGHTS = (
    (_LOWER, 0.25),
    (_UPPER, 0.5),
    (_DIGITS, 1.0),
    (_MARKS, 0.55),
    (bytes(range(0xC2, 0xCA)), 1.5),  # first byte of Latin letters with accents: they split words
    (bytes(range(0xCA, 0xE0)), 0.45),  # of two-byte scripts: Greek, Cyrillic, Hebrew, Arabic
    (bytes(range(0xE0, 0xF0)), 0.6),  # of three-byte scripts: Chinese, Japanese, Korean, Indic, Thai
    (bytes(range(0xF0, 0xF5)), 1.5),  # of emoji and the like
)
LINE_END = 0.75  # two of them are mostly one token, and one after a mark is none with some tokenizers
MESSAGE_TOKENS = 5  # ChatML (Qwen, SmolLM2): <|im_start|> role newline … <|im_end|> newline
REPLY_TOKENS = 3  # <|im_start|> assistant newline
INPUT_TOKENS = 2  # start and end of a text to embed
# What the most allows for, beyond one token for each byte of text.
MOST_MESSAGE_TOKENS = 8
MOST_REQUEST_TOKENS = 100  # a template's own words; gpt-oss has 63
MOST_TOOLS_TOKENS = 300  # a template's words about tools
PROMPT_KEYS = ("messages", "input", "prompt", "instructions", "system")
ELSEWHERE = ("previous_response_id", "conversation")  # a prompt that goes on from what only the server knows
STEERING = ("response_format", "text", "functions", "documents")
IMAGE_TYPES = frozenset({"image_url", "input_image", "image"})
UNKNOWN_TYPES = frozenset({"input_audio", "audio_url", "video_url", "input_video", "file", "input_file", "document"})
NOT_PROMPT = frozenset({"type", "role", "id", "detail", "tool_call_id", "call_id", "status", "cache_control"})
# What input costs that a `cache_control` marker writes into the cache, by its `ttl` (docs.doubleword.ai,
# inference-api/prompt-caching); an hour's is `2`, and 3 is the dearest that the catalogue of models has a field for.
CACHE_WRITES = {"5m": Decimal("1.25"), "1h": Decimal(2)}
DEAREST_WRITE = Decimal(3)


class Template(Struct, frozen=True):
    """What a model's chat template adds of its own, in tokens: always, and where there is no system message.

    `schema_factor` is how many times the usual tokens its answers take where a schema determines them.
    """

    always: int = 0
    without_system: int = 0
    schema_factor: float = 1.0


class Prompt:
    """The tokens that one request sends.

    `tokens` is the estimate, `most` the most they can be, None where audio, video, a file or an earlier conversation
    is among them. `unseen_images` counts images whose size is not known, because only a URL is given. `write_factor` is
    how many times the price of input a token may cost, where the request has input written into the prompt cache.
    """

    def __init__(self, url: str, body: Mapping[str, Any], template: Template) -> None:
        self.unseen_images = 0
        self.write_factor = Decimal(1)
        self._texts: list[str] = []
        self._integers = self._images = self._most_images = self._messages = self._unknown = 0
        self._has_system = "instructions" in body or "system" in body
        for name in PROMPT_KEYS:
            if name in body:
                self._walk(body[name])
        self._unknown += any(body.get(name) for name in ELSEWHERE)
        around, most = self._around(url, body)
        around += template.always
        if self._messages and not self._has_system:
            around += template.without_system
        self._marked(body)
        if body.get("tools"):
            self._texts.append(json.dumps(body["tools"], ensure_ascii=False))
            most += MOST_TOOLS_TOKENS
            for tool in body["tools"] if "cache_control" in self._texts[-1] else ():
                self._marked(tool if "cache_control" in tool else {"cache_control": None})
        for name in STEERING:  # some templates show them to the model too
            if name in body:
                most += len(json.dumps(body[name]))
        joined = "".join(self._texts)
        text = joined.encode("utf-8", "surrogatepass")
        self.tokens = _weigh(text) + self._integers + self._images + around
        longest = max(len(text), _normalized_bytes(joined))
        self.most = None if self._unknown else longest + self._integers + self._most_images + most

    def _around(self, url: str, body: Mapping[str, Any]) -> tuple[int, int]:
        """Tokens that go around the text: expected, and the most."""
        if url.endswith("/embeddings"):
            texts = texts_in(body.get("input"))
            return INPUT_TOKENS * texts, MOST_MESSAGE_TOKENS * texts
        if url.endswith("/completions") and "messages" not in body:
            return 0, MOST_MESSAGE_TOKENS * texts_in(body.get("prompt"))
        self._messages += isinstance(body.get("input"), str)
        self._messages += "instructions" in body or "system" in body
        most = MOST_MESSAGE_TOKENS * self._messages + MOST_REQUEST_TOKENS
        return MESSAGE_TOKENS * self._messages + REPLY_TOKENS, most

    def _walk(self, start: Any) -> None:
        """Collect text, token numbers, images and messages from any depth, without recursion."""
        left = [start]
        while left:
            value = left.pop()
            if isinstance(value, str):
                self._texts.append(value)
            elif isinstance(value, bool):
                continue
            elif isinstance(value, int):
                self._integers += 1
            elif isinstance(value, list):
                left.extend(value)
            elif isinstance(value, dict):
                kind = value.get("type")
                self._marked(value)
                if kind in IMAGE_TYPES:
                    self._image(value.get("image_url", value.get("source")))
                elif kind in UNKNOWN_TYPES:
                    self._unknown += 1
                else:
                    if "role" in value:
                        self._messages += 1
                        self._has_system |= value["role"] in ("system", "developer")
                    left.extend(item for name, item in value.items() if name not in NOT_PROMPT)

    def _marked(self, value: Mapping[str, Any]) -> None:
        """Note what a marker of the prompt cache costs, where `value` carries one."""
        if "cache_control" in value:
            marker = value["cache_control"]
            ttl = marker.get("ttl", "5m") if isinstance(marker, dict) else None
            self.write_factor = max(self.write_factor, CACHE_WRITES.get(str(ttl), DEAREST_WRITE))

    def _image(self, place: Any) -> None:
        url = place
        if isinstance(place, dict):  # as Anthropic has it, the data stand beside their type
            data = f"data:{place.get('media_type')};base64,{place.get('data')}"
            url = data if place.get("type") == "base64" else place.get("url")
        expected, most, seen = image_tokens(url if isinstance(url, str) else "")
        self._images += expected
        self._most_images += most
        self.unseen_images += not seen


def text_tokens(text: str) -> float:
    """Estimated tokens of `text` alone, without what a template puts around it."""
    return _weigh(text.encode("utf-8", "surrogatepass"))


def texts_in(value: Any) -> int:
    """How many texts an `input` or `prompt` holds: a list of token numbers is one text."""
    return len(value) if isinstance(value, list) and value and not isinstance(value[0], int) else 1


def _normalized_bytes(text: str) -> int:
    """The bytes of `text` as a tokenizer may rewrite it first: Qwen's to NFC, SentencePiece's to NFKC.

    Both can make it longer: one Arabic ligature becomes a sentence of 33 bytes.
    """
    if text.isascii():
        return len(text)
    return max(len(unicodedata.normalize(form, text).encode("utf-8", "surrogatepass")) for form in ("NFC", "NFKC"))


def _weigh(text: bytes) -> float:
    """`WEIGHTS` over `text`; deleting a kind of byte and comparing lengths is the fastest count there is."""
    length = len(text)
    kinds = sum(weight * (length - len(text.translate(None, kind))) for kind, weight in WEIGHTS)
    return kinds + LINE_END * (text.count(b"\n") - text.count(b"\n\n"))
