"""What an answer is worth: whole, or cut off, refused, empty, without an end, or not what its request asked for.

Promises: every answer is judged, each of its choices, and by the same five words; one that was to be JSON is called
good only when it is, and obeys its schema; one that holds no text, call, vector or refusal is never good; what is
wrong with an answer never hides the answer itself.

An answer can have several flaws: one that was cut off is mostly no valid JSON either. What servers say, and how it
is called here, stands in `references/answers.md`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from doubleword.answers.choices import Choice, choices, likely, meaning
from doubleword.answers.json_text import FENCE, MARK, REASONING, SHOWS, THINK, says_something
from doubleword.answers.schema import Schema, Taken
from doubleword.answers.usage import tokens
from doubleword.answers.vectors import FLOAT32, Form, flaw_of, read_vectors
from doubleword.failure import plain
from doubleword.quick_msgspec import Struct, field
from doubleword.service import EMBEDDINGS

TRUNCATED, REFUSED, EMPTY, UNFINISHED, INVALID = FLAWS = ("truncated", "refused", "empty", "unfinished", "invalid")
# Why an answer with one of these flaws is not JSON, where it is not; the first that it has.
NOT_JSON = {
    TRUNCATED: "the answer is cut off at its limit of tokens, so it is not the JSON that was asked for",
    REFUSED: "the model refused, so there is not the JSON that was asked for",
    UNFINISHED: "the answer stops without an end, so it is not the JSON that was asked for",
    EMPTY: "the answer is empty, so it is not the JSON that was asked for",
}


class Judgement(NamedTuple):
    """The flaws of an answer, in the order of `FLAWS`. `cause` says why it failed: as invalid, or without a flaw where
    its vectors are not what was asked for.

    `texts` has the text of each choice, of a structured answer the JSON alone; `unwrapped` says what that was taken
    out of (`json_text.WRAPPINGS`). `unknown` is a word for its ending that nobody knows, `length` that of its vectors.
    """

    flaws: tuple[str, ...] = ()
    cause: str | None = None
    texts: tuple[str, ...] = ()
    unwrapped: tuple[str, ...] = ()
    unknown: str | None = None
    length: int = 0


def judged(body: dict[str, Any], endpoint: str, schema: Schema | None = None, form: Form = FLOAT32) -> Judgement:
    """What `body`, which `lines.judge` calls an answer, is worth to a request that asked for `schema` or `form`."""
    try:
        if endpoint == EMBEDDINGS:
            return _of_vectors(body, form)
        return _of_choices(body, choices(body) or [Choice()], schema)
    except RecursionError:
        return Judgement((), "the answer is nested too deep to be judged")


def _of_vectors(body: Mapping[str, Any], form: Form) -> Judgement:
    found = read_vectors(body, form)
    cause = flaw_of(found, form)
    if cause is not None:
        return Judgement((), cause)
    return Judgement((), length=len(found[0])) if found and all(found) else Judgement((EMPTY,))


def _of_choices(body: Mapping[str, Any], every: Sequence[Choice], schema: Schema | None) -> Judgement:
    found, causes, taken = set[str](), list[str](), [_taken(one, schema) for one in every]
    for choice, text in zip(every, taken, strict=True):
        flaws = _ends(choice, body, every)
        if REFUSED not in flaws and not (SHOWS.search if text.cause else says_something)(text.text):
            flaws.add(EMPTY)
        if text.cause is not None:
            causes.append(next((why for flaw, why in NOT_JSON.items() if flaw in flaws), text.cause))
            flaws.add(INVALID)
        found |= flaws
    return Judgement(
        tuple(name for name in FLAWS if name in found),
        causes[0] if causes else None,
        tuple(one.text for one in taken),
        tuple(dict.fromkeys(name for one in taken for name in one.unwrapped)),
        next((plain(one.ending, 40) for one in every if one.ending and meaning(one.ending) is None), None),
    )


def _taken(choice: Choice, schema: Schema | None) -> Taken:
    """The text of a choice, and why it is not what was asked for; a tool call is no answer, so it may be any.

    Of several messages of one response it is the last that `schema` allows. Where nothing is said, JSON may stand
    among the thoughts, to which some servers' parsers take it; there nothing else may.
    """
    if schema is None or choice.calls:
        return Taken(choice.shown)
    if choice.thought and not choice.refusal:
        found = schema.take(choice.thought, alone=True)
        return Taken("", (), found.cause) if found.cause else found._replace(unwrapped=(REASONING, *found.unwrapped))
    drafts = [schema.take(draft) for draft in reversed(choice.drafts)]
    return next((one for one in drafts if one.cause is None), None) or schema.take(choice.shown)


def _ends(choice: Choice, body: Mapping[str, Any], every: Sequence[Choice]) -> set[str]:
    """The flaws that a choice itself tells of: by the word for its ending, by a refusal, or by having no ending."""
    found = {REFUSED} if choice.refusal else set()
    kind = likely(choice.ending) if choice.ending is not None else None
    if kind in FLAWS:
        found.add(str(kind))
    if choice.ending is None and not _never_says(body, every):
        found.add(UNFINISHED)
    return found


def _never_says(body: Mapping[str, Any], every: Sequence[Choice]) -> bool:
    """Whether an answer without an ending came to its end: no choice has one, and its tokens were counted.

    Usage is the last that a server sends, so a stream that was cut has none; but Anthropic's comes first, and it
    always says how an answer ended.
    """
    anthropic = body.get("type") == "message" or "stop_reason" in body
    return not anthropic and all(one.ending is None for one in every) and bool(tokens(body)[1])


# What is said of answers that are good all the same

OUT_OF = {
    FENCE: "a code fence",
    THINK: "a text with thoughts",
    MARK: "marks around it",
    REASONING: "the field for thoughts",
}


LOOKED_AT = 10_000  # answers whose texts are held beside each other
ALIKE = 10  # from so many on, equal texts are worth a word
SHOWN = 200
SENTENCE = 20  # characters: shorter ones may be labels, which repeat


class Remarks(Struct):
    """What warnings say of answers beside their flaws: how many there are of a kind, and the custom_id of the first.

    `texts` counts equal answers among the `compared` ones; `cut_at` is the most tokens of an answer that was cut off;
    `lengths` are those of vectors, each with the custom_id of the first; `unreadable` counts lines of nobody's answer.
    """

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    texts: Counter[str] = field(default_factory=Counter)
    compared: int = 0
    cut_at: int = 0
    lengths: dict[int, str] = field(default_factory=dict)
    unreadable: int = 0

    def add(self, custom_id: str, found: Judgement, used: int | None = None, used_all: bool = False) -> None:
        """Count what is to be said of one answer of `used` tokens; `used_all` as `lines.used_all_tokens` tells it."""
        if found.unknown is not None:
            self.count(custom_id, f"ended with {found.unknown}, a word that nobody knows here")
        for name in found.unwrapped:
            self.count(custom_id, f"had their JSON in {OUT_OF[name]}, which was taken out of it")
        if TRUNCATED in found.flaws:
            self.cut_at = max(self.cut_at, used or 0)
        elif used_all:
            self.count(custom_id, "used all their tokens, so they may be cut off though the server says nothing of it")
        if found.texts and not found.flaws:
            self.compare(found.texts[0])
        if found.length:
            self.lengths.setdefault(found.length, custom_id)

    def compare(self, text: str) -> None:
        """Count a good answer's text among those that are held beside each other; of a long one its beginning."""
        if self.compared < LOOKED_AT:
            self.compared += 1
            self.texts[text if len(text) <= SHOWN else f"{text[:SHOWN]}{hash(text)}"] += 1

    def count(self, custom_id: str, said: str) -> None:
        """Count an answer of which `said` is to be said."""
        self.counts[said] += 1
        self.examples.setdefault(said, custom_id)

    def include(self, other: Remarks) -> None:
        """Count what `other` counted."""
        self.counts.update(other.counts)
        self.examples = {**other.examples, **self.examples}
        if self.compared < LOOKED_AT:  # else the texts of many files would be in memory
            self.texts.update(other.texts)
            self.compared += other.compared
        self.cut_at = max(self.cut_at, other.cut_at)
        self.lengths = {**other.lengths, **self.lengths}
        self.unreadable += other.unreadable

    def warnings(self) -> list[str]:
        """A sentence for each kind, the most frequent first."""
        told = [
            f"{n} answers {said}, such as {plain(self.examples[said], 64)}" for said, n in self.counts.most_common(5)
        ]
        for text, alike in self.texts.most_common(1):
            sentence = len(text) >= SENTENCE and not text.startswith("{") and 2 * alike >= self.compared
            if alike >= ALIKE and (sentence or alike == self.compared):
                told.append(
                    f"{alike} of {self.compared} answers that were compared are the same text: {plain(text, 80)}"
                )
        if len(self.lengths) > 1:
            unlike = (f"{length} ({plain(example, 40)})" for length, example in list(self.lengths.items())[:5])
            told.append(f"vectors have unlike lengths: {', '.join(unlike)}")
        if self.unreadable:
            told.append(f"{self.unreadable} result lines do not say whose answer they are")
        return told
