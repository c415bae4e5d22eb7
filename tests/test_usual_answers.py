"""Usual answers: the short way gives what the long way gives, for lines of all kinds."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.test_request_line_agreement import json_values, places

from doubleword import result_reading
from doubleword.outside import Disk, WholeFile
from doubleword.request_line import CHAT
from doubleword.result_reading import Line, Result, _Into, _Shown
from doubleword.spool import Spool
from doubleword.structured import Expected
from doubleword.tables import Csv, columns_of
from doubleword.usual_answers import usual

ANSWER: dict[str, Any] = {
    "id": "batch_req_1",
    "custom_id": "row-1",
    "response": {
        "status_code": 200,
        "request_id": None,
        "body": {
            "id": "x",
            "model": "m",
            "choices": [
                {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": '=1, "yes"'}}
            ],
            "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9},
        },
    },
    "error": None,
}
EDGES = st.sampled_from(
    [None, "", " ", "stop", "length", True, False, 0, 1, -1, 1.0, 1 << 53, (1 << 53) - 1, 200, 201, 400, [], {}, "\r",
     "\0", "a\ud800", "m" * 201, [{"a": 1}], {"message": "x"}, "\u2028", "a,b\nc"]
)  # fmt: skip
NAMES = st.sampled_from(
    ["error", "refusal", "tool_calls", "function_call", "content", "choices", "model", "usage", "x"]
)


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    """A usual answer with up to three things changed, removed or added anywhere."""
    value = copy.deepcopy(ANSWER)
    for _ in range(draw(st.integers(0, 3))):
        holder, key = draw(st.sampled_from(places(value)))
        kind = draw(st.integers(0, 3))
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder, dict):
            holder[draw(NAMES)] = copy.deepcopy(draw(EDGES | json_values))
        elif kind == 2 and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]))
        else:
            holder[key] = copy.deepcopy(draw(EDGES | json_values))
        if not places(value):
            break
    return json.dumps(value).encode()


def kept(raws: list[bytes], folder: Path, short: bool, packed: bool) -> Any:
    """All that is kept of `raws`: rows with what the spool has for them, what was seen, and tokens."""
    table = Csv(WholeFile(folder / "t.csv", Disk()), columns_of([], {CHAT}, {})) if packed else None
    with pytest.MonkeyPatch.context() as patch, Spool(folder / "spool", Disk()) as spool:
        if not short:
            patch.setattr(result_reading, "usual", lambda _: None)
        into, shown, seen = _Into(spool, CHAT, Expected(), table), _Shown(), set[tuple[str, str]]()
        for raw in raws:
            into.keep(Line(raw), shown, seen)
        spool.settle()
        rows = {name: (row[:3], spool.line(row.start, row.length)) for name, row in shown.rows.items()}
        return rows, seen, shown.unreadable, shown.usage


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(lines(), min_size=1, max_size=4), st.booleans())
def test_the_short_way_keeps_what_the_long_way_keeps(
    tmp_path_factory: pytest.TempPathFactory, raws: list[bytes], packed: bool
) -> None:
    """Rows, their order of preference, the bytes kept for a table, doubles, tokens: all the same."""
    folder = tmp_path_factory.mktemp("kept")
    assert kept(raws, folder, True, packed) == kept(raws, folder, False, packed)


def test_a_usual_answer_is_known_as_one() -> None:
    """Or the short way would never be taken, and the test above hold nothing."""
    found = usual(ANSWER)
    assert found is not None
    assert (found.custom_id, found.text, found.prompt_tokens, found.completion_tokens) == ("row-1", '=1, "yes"', 7, 2)


def test_what_is_packed_is_the_row_that_would_have_been_written(tmp_path: Path) -> None:
    """With a source row before it or none, with a formula, quotes and line ends in the cells."""
    raw = json.dumps(ANSWER).encode()
    result = Result("row-1", "succeeded", raw, None, CHAT)
    answer = usual(ANSWER)
    assert answer is not None
    for source in (["a,b", "", "=1"], [""], []):
        written = []
        for packs in (False, True):
            path = tmp_path / f"{len(source)}{packs}.csv"
            columns = columns_of([f"c{number}" for number in range(len(source))], {CHAT}, {})
            with WholeFile(path, Disk()) as file, (table := Csv(file, columns)):
                packed = table.pack_usual(answer) if packs else None
                table.add(result._replace(line=None, packed=packed) if packs else result, source)
            written.append(path.read_bytes())
        assert written[0] == written[1]
