"""What the flags make of rows: defaults, conversations, examples, images, tools, and ids that fit."""

from __future__ import annotations

import base64
import csv
import json
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.door import Result, call_door
from tests.sample_requests import TOOL, chat

from doubleword import images
from doubleword.batch_files.check import check
from doubleword.batch_files.record import Record, read_record
from doubleword.request_lines.checker import Checker
from doubleword.request_lines.line import build, is_id
from doubleword.request_lines.templates import custom_id, repaired
from doubleword.system import Disk
from doubleword.tables.rows import Row

PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC")
IMAGES = {
    "png": PNG,
    "jpeg": b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01",
    "gif": b"GIF89a\x01\x00\x01\x00\x00\x00;",
    "webp": b"RIFF\x1a\x00\x00\x00WEBPVP8L",
}


def create(folder: Path, rows: Any, *flags: str | Path) -> Result:
    """Run create_batch_file.py on rows from standard input, or on a table where flags name one."""
    given = () if "--input" in flags else ("--input", "-")
    return call_door("create_batch_file", "out.jsonl", *given, *flags, cwd=folder, stdin=json.dumps(rows))


def bodies(folder: Path) -> list[dict[str, Any]]:
    """The bodies of the requests made, which must be valid."""
    assert check([folder / "out.jsonl"], Disk()).error_count == 0
    return [json.loads(line)["body"] for line in (folder / "out.jsonl").read_bytes().splitlines()]


def record_of(folder: Path) -> Record:
    """The record beside the batch file."""
    found = read_record(folder / "out.jsonl", Disk())
    assert found is not None
    return found


def ids(folder: Path) -> list[str]:
    return [json.loads(line)["custom_id"] for line in (folder / "out.jsonl").read_bytes().splitlines()]


def refused(result: Result, code: str, *parts: str) -> None:
    """Exit 2 with a cause, and nothing written."""
    assert (result.code, result.json["error"]["code"]) == (2, code), result.json
    for part in parts:
        assert part in result.json["error"]["message"] + " | " + result.json["error"]["hint"]


LONG = "é" * 40  # more bytes than an id may have
PROMPT = ("--model", "m", "--prompt")


# Templates


def test_defaults_stand_for_what_is_missing_or_empty(tmp_path: Path) -> None:
    """In the prompt and the system text, for columns and for nested values; other values stay."""
    rows = [{"a": "x", "b": {"c": "y"}}, {"a": " ", "b": None, "n": 2}, {"b": {"c": None}}]
    flags = [*PROMPT, "{a} {b.c}", "--system", "{a}", "--default", "a=none = 0", "--default", "b.c=?"]
    assert create(tmp_path, rows, *flags).code == 0
    said = [[one["content"] for one in body["messages"]] for body in bodies(tmp_path)]
    assert said == [["x", "x y"], ["none = 0", "none = 0 ?"], ["none = 0", "none = 0 ?"]]


def test_defaults_fill_empty_cells_of_a_table_that_is_read_fast(tmp_path: Path) -> None:
    """Cells are spliced into lines only where none is empty; the default stands in the row that needs it."""
    (tmp_path / "t.csv").write_text("a,b\n" + "1,2\n" * 150 + ",2\n" + "1,2\n" * 150)
    assert create(tmp_path, None, "--input", "t.csv", *PROMPT, "{a}{b}", "--default", "a=?").code == 0
    assert [body["messages"][0]["content"] for body in bodies(tmp_path)] == ["12"] * 150 + ["?2"] + ["12"] * 150


@pytest.mark.parametrize("column", ["a", " a", "a "])
def test_a_default_names_its_column_as_a_place_does(tmp_path: Path, column: str) -> None:
    """Blanks around names do not count, here as little as in the prompt."""
    assert create(tmp_path, [{" a": "x"}, {" a": ""}], *PROMPT, "{a}{ a }", "--default", f"{column}=?").code == 0
    assert [body["messages"][0]["content"] for body in bodies(tmp_path)] == ["xx"]
    assert (
        create(tmp_path, [{" a": "", "b": "y"}], *PROMPT, "{b}{ a }", "--default", f"{column}=?", "--force").code == 0
    )
    assert [body["messages"][0]["content"] for body in bodies(tmp_path)] == ["y?"]


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--default", "a"], "--default a is not COLUMN=TEXT"),
        (["--default", "a= "], "is not COLUMN=TEXT"),
        (["--default", "A=x"], "no template names this column; they name: a"),
        (["--default", "i=x", "--id", "{i}"], "an --id takes no default"),
        (["--system", "x", "--system-file", "s.txt"], "exclude each other"),
        (["--image", "{photo"], "lone {"),
    ],
)
def test_flags_that_cannot_be_meant_are_refused(tmp_path: Path, words: list[str], part: str) -> None:
    """A default that stands for nothing is a slip of the pen, and ids must differ."""
    refused(
        create(tmp_path, [{"a": "1"}], *PROMPT, "{a}", *words),
        "bad_template" if "{p" in words[1] else "bad_arguments",
        part,
    )
    assert list(tmp_path.iterdir()) == []


def test_the_system_text_may_come_from_a_file(tmp_path: Path) -> None:
    """As the prompt may, with places."""
    (tmp_path / "s.txt").write_text("Be {how}.\n")
    assert create(tmp_path, [{"a": "1", "how": "brief"}], *PROMPT, "{a}", "--system-file", "s.txt").code == 0
    assert bodies(tmp_path)[0]["messages"][0] == {"role": "system", "content": "Be brief."}


# Conversations


CONVERSATION = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]


def test_a_column_of_messages_is_the_conversation(tmp_path: Path) -> None:
    """A list, or the JSON text of one; the system text comes first where the row has none of its own."""
    own = [{"role": "system", "content": "Mine."}, {"role": "user", "content": "Hi", "name": None}]
    rows = [{"messages": CONVERSATION}, {"messages": json.dumps(own)}]
    assert create(tmp_path, rows, "--model", "m", "--system", "Be brief.", "--temperature", "0").code == 0
    first, second = bodies(tmp_path)
    assert first["messages"] == [{"role": "system", "content": "Be brief."}, *CONVERSATION]
    assert second["messages"] == [own[0], {"role": "user", "content": "Hi"}]
    assert first["model"] == "m" and first["temperature"] == 0


def test_a_conversation_becomes_the_input_of_responses(tmp_path: Path) -> None:
    """The system text becomes the instructions there."""
    flags = ["--model", "m", "--system", "Be brief.", "--endpoint", "/v1/responses"]
    assert create(tmp_path, [{"messages": CONVERSATION}], *flags).code == 0
    assert bodies(tmp_path) == [{"model": "m", "input": CONVERSATION, "instructions": "Be brief."}]


@pytest.mark.parametrize(
    ("value", "part"),
    [
        ("[", "row 2: the column messages is not JSON"),
        ("{}", "row 2: the column messages is no list of messages"),
        ([], "row 2: the column messages is no list of messages"),
        (["Hi"], "row 2: the column messages is no list of messages"),
        ([{"role": "bot", "content": "x"}], "row 2: body.messages[0].role: expected"),
        ([{"role": "user"}], "row 2: body.messages[0].content: is missing"),
        (None, "row 2: has nothing in the column messages"),
    ],
)
def test_messages_that_are_none_are_bad_rows(tmp_path: Path, value: Any, part: str) -> None:
    """By their number, and what is wrong."""
    rows = [{"messages": CONVERSATION}, {"messages": value, "n": 2}]
    refused(create(tmp_path, rows, "--model", "m"), "bad_row", part)
    assert list(tmp_path.iterdir()) == []


def test_conversations_need_what_they_need(tmp_path: Path) -> None:
    """A model, and an endpoint that has messages; an image belongs to a prompt."""
    rows = [{"messages": CONVERSATION}]
    refused(create(tmp_path, rows), "bad_arguments", "--model is missing")
    refused(
        create(tmp_path, rows, "--model", "m", "--endpoint", "/v1/completions"), "bad_arguments", "--prompt is missing"
    )
    refused(create(tmp_path, rows, "--model", "m", "--image", "{a}"), "bad_arguments", "--image needs a --prompt")
    refused(create(tmp_path, [*rows, {"a": 1}], "--model", "m"), "bad_row", "row 2: has nothing in the column")


# Examples


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("e.csv", "prompt,answer\nFilm: Up,good\n"),
        ("e.csv", "user;assistant\nFilm: Up;good\n"),
        ("e.csv", "title, answer\nUp,good\n"),
        (
            "e.jsonl",
            '{"messages": [{"role": "user", "content": "Film: Up"}, {"role": "assistant", "content": "good"}]}',
        ),
    ],
)
@pytest.mark.parametrize("endpoint", ["/v1/chat/completions", "/v1/responses"])
def test_examples_stand_before_the_question(tmp_path: Path, name: str, content: str, endpoint: str) -> None:
    """In whichever columns they come; with the columns of the prompt they are asked as it asks."""
    (tmp_path / name).write_text(content)
    (tmp_path / "t.csv").write_text("title\nBig\nJaws\n")
    flags = ["--input", "t.csv", "--system", "Judge.", "--examples", name, "--endpoint", endpoint]
    assert create(tmp_path, None, *flags, *PROMPT, "Film: {title}").code == 0
    shown = [{"role": "user", "content": "Film: Up"}, {"role": "assistant", "content": "good"}]
    for title, body in zip(("Big", "Jaws"), bodies(tmp_path), strict=True):
        asked = [*shown, {"role": "user", "content": f"Film: {title}"}]
        if endpoint == "/v1/responses":
            assert (body["instructions"], body["input"]) == ("Judge.", asked)
        else:
            assert body["messages"] == [{"role": "system", "content": "Judge."}, *asked]


def test_a_structured_example_answer_is_its_json(tmp_path: Path) -> None:
    """An example of an answer that obeys a schema is written as the model is to write it."""
    (tmp_path / "e.json").write_text('[{"prompt": "Up", "answer": {"good": true}}]')
    assert create(tmp_path, [{"a": "Big"}], *PROMPT, "{a}", "--examples", "e.json").code == 0
    assert bodies(tmp_path)[0]["messages"][1] == {"role": "assistant", "content": '{"good":true}'}


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("prompt\nx\n", "row 1: has no answer"),
        ("answer\nx\n", "row 1: the template '{a}' names the column a"),
        ("prompt,answer\nx,\n", "row 1: the column answer is empty"),
        ("prompt,answer\na,b\nx\n", "row 2: has 1 cells"),
        ('messages\n"[{""role"": ""bot""}]"\n', "row 1: messages[0].role: expected"),
        ("prompt,answer\n", "has no rows"),
    ],
)
def test_wrong_examples_are_named_by_their_row(tmp_path: Path, content: str, part: str) -> None:
    """Before any request is made."""
    (tmp_path / "e.csv").write_text(content)
    result = create(tmp_path, [{"a": "1"}], *PROMPT, "{a}", "--examples", "e.csv")
    refused(result, "no_rows" if "no rows" in part else "bad_examples", "e.csv", part)
    assert not (tmp_path / "out.jsonl").exists()


# Tools


@pytest.mark.parametrize("endpoint", ["/v1/chat/completions", "/v1/responses"])
@pytest.mark.parametrize("tools", [TOOL, [TOOL], {"type": "function", **TOOL["function"]}], ids=["one", "many", "flat"])  # type: ignore[dict-item]
def test_tools_come_from_a_file_in_the_form_of_their_endpoint(tmp_path: Path, endpoint: str, tools: Any) -> None:
    """A function may be written as either endpoint has it; one object is a list of one."""
    (tmp_path / "tools.json").write_text(json.dumps(tools))
    assert create(tmp_path, [{"a": "1"}], *PROMPT, "{a}", "--tools", "tools.json", "--endpoint", endpoint).code == 0
    flat = {"type": "function", **TOOL["function"]}  # type: ignore[dict-item]
    assert bodies(tmp_path)[0]["tools"] == [flat if endpoint == "/v1/responses" else TOOL]


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("[", ("tools.json is not JSON",)),
        ("[]", ("tools.json holds no tool",)),
        ('["x"]', ("tools[0]: expected object, got string",)),
        (json.dumps([TOOL, {"type": "function", "function": {"name": "f", "parameters": 1}}]),
         ("tools[1].function.parameters: expected object",)),
        (json.dumps([{"type": "function", "function": {}}]), ("tools[0].function.name: is missing",)),
        (json.dumps([{"type": "function", "function": 1}]), ("tools[0].function: expected object",)),
    ],
)  # fmt: skip
def test_a_wrong_tool_is_named(tmp_path: Path, content: str, parts: tuple[str, ...]) -> None:
    """By its place in the file, and what is wrong with it."""
    (tmp_path / "tools.json").write_text(content)
    refused(create(tmp_path, [{"a": "1"}], *PROMPT, "{a}", "--tools", "tools.json"), "bad_arguments", *parts)


# Images


@pytest.mark.parametrize("endpoint", ["/v1/chat/completions", "/v1/responses"])
def test_images_are_urls_or_files_by_their_content(tmp_path: Path, endpoint: str) -> None:
    """A path begins in the table's folder, its type is that of its bytes; web addresses and data URIs stay."""
    (tmp_path / "table").mkdir()
    for name, content in IMAGES.items():
        (tmp_path / "table" / f"{name}.bin").write_bytes(content)
    uri = "data:image/png;base64," + base64.b64encode(PNG).decode()
    photos = [f"{name}.bin" for name in IMAGES] + ["https://example.org/a b.png".replace(" ", "%20"), uri]
    (tmp_path / "table" / "t.csv").write_text("photo\n" + "".join(f'"{one}"\n' for one in photos))
    flags = ["--input", "table/t.csv", "--image", "{photo}", "--image", "png.bin", "--endpoint", endpoint]
    assert create(tmp_path, None, *flags, *PROMPT, "What is it?").code == 0
    expected = [f"data:image/{n};base64,{base64.b64encode(c).decode()}" for n, c in IMAGES.items()] + photos[4:]
    for body, url in zip(bodies(tmp_path), expected, strict=True):
        if endpoint == "/v1/responses":
            text, *shown = body["input"][0]["content"]
            assert (text, [one["image_url"] for one in shown]) == (
                {"type": "input_text", "text": "What is it?"},
                [url, uri],
            )
        else:
            text, *shown = body["messages"][0]["content"]
            assert (text, [one["image_url"]["url"] for one in shown]) == (
                {"type": "text", "text": "What is it?"},
                [url, uri],
            )


@pytest.mark.parametrize(
    ("value", "part"),
    [
        ("secret.txt", "row 1: secret.txt is not a png, jpeg, gif or webp image"),
        ("none.png", "row 1: there is no file none.png"),
        ("folder", "row 1: there is no file folder"),
        ("/dev/zero", "row 1: there is no file /dev/zero"),
        ("file:///etc/passwd", "row 1: file:///etc/passwd is neither a path nor"),
        ("ftp://example.org/a.png", "is neither a path nor"),
        ("data:text/plain;base64,AAAA", "is no data URI of an image"),
        ("data:image/png;base64,%%%", "is no data URI of an image"),
        ("a\x00b", "row 1"),
    ],
)
def test_no_other_file_is_ever_sent(tmp_path: Path, value: str, part: str) -> None:
    """Whatever a table names: only images leave the disk."""
    (tmp_path / "secret.txt").write_text("root:x:0:0")
    (tmp_path / "folder").mkdir()
    refused(create(tmp_path, [{"photo": value}], *PROMPT, "?", "--image", "{photo}"), "bad_image", part)
    assert not (tmp_path / "out.jsonl").exists()


def test_an_image_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    """Its size is looked at first; row, file, size and limit are named."""

    class Unread(Disk):
        def size(self, path: Path) -> int | None:
            return images.MAX_IMAGE_BYTES + 1

        def open(self, path: Path) -> BinaryIO:
            raise AssertionError("it was read")

    with pytest.raises(ValueError, match=r"big\.png has 7,864,321 bytes, .* may have 7,864,320"):
        images.image_url("big.png", tmp_path, Unread())
    with (tmp_path / "big.png").open("wb") as file:
        file.write(PNG)
        file.truncate(images.MAX_IMAGE_BYTES - 100)
    result = create(tmp_path, [{"a": "big.png"}], *PROMPT, "x" * 200, "--image", "{a}")
    refused(result, "bad_row", "row 1: the request has", "may have 10,485,760")


# Folders


def test_a_folder_of_texts_is_a_table_of_its_files(tmp_path: Path) -> None:
    """In the order of their paths, which are their ids; hidden files and links that lead out do not count."""
    docs = tmp_path / "docs"
    (docs / "b").mkdir(parents=True)
    (docs / ".git").mkdir()
    for name, content in {
        "b/Grüße.txt": "\ufeffÄ".encode(), "b/a.md": b"two\n", "a.txt": "one".encode("utf-16"), ".hidden": b"x",
        ".git/config": b"x",
    }.items():  # fmt: skip
        (docs / name).write_bytes(content)
    (tmp_path / "outside.txt").write_text("secret")
    (docs / "link.txt").symlink_to(tmp_path / "outside.txt")
    (docs / "again.txt").symlink_to(docs / "a.txt")
    result = create(tmp_path, None, "--input", "docs", *PROMPT, "{path}|{name}|{text}")
    assert result.code == 0, result.json
    said = [body["messages"][0]["content"] for body in bodies(tmp_path)]
    assert said == ["a.txt|a|one", "again.txt|again|one", "b/Grüße.txt|Grüße|Ä", "b/a.md|a|two\n"]
    assert ids(tmp_path) == ["a.txt", "again.txt", repaired("b/Grüße.txt"), "b/a.md"]
    form = record_of(tmp_path).form
    assert (form.id, form.repair) == ("{path}", True)


def test_a_folder_of_images_shows_them(tmp_path: Path) -> None:
    """Without --image, as what else would the folder be for."""
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "a.png").write_bytes(PNG)
    (tmp_path / "p" / "b.jpg").write_bytes(IMAGES["jpeg"])
    assert create(tmp_path, None, "--input", "p", *PROMPT, "Describe {name}.").code == 0
    shown = [body["messages"][0]["content"] for body in bodies(tmp_path)]
    assert [parts[0]["text"] for parts in shown] == ["Describe a.", "Describe b."]
    assert [parts[1]["image_url"]["url"][:15] for parts in shown] == ["data:image/png;", "data:image/jpeg"]
    refused(
        create(tmp_path, None, "--input", "p", *PROMPT, "{name}", "--force", "--endpoint", "/v1/embeddings"),
        "bad_arguments", "/v1/embeddings takes no images",
    )  # fmt: skip


def test_other_files_of_a_folder_are_named_or_left_out_and_counted(tmp_path: Path) -> None:
    """A file that is neither, one of another kind, one too large: none goes silently."""
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "a.txt").write_text("one")
    (docs / "b.bin").write_bytes(b"PK\x03\x04\x00")
    (docs / "c.png").write_bytes(PNG)
    (docs / "d.txt").write_bytes(b"one\nAm\xe9lie")
    (docs / "e.txt").write_bytes(b"x" * 10_485_761)
    flags = ["--input", "docs", *PROMPT, "{text}"]
    refused(create(tmp_path, None, *flags), "bad_row", "row 2: b.bin is neither text nor an image")
    result = create(tmp_path, None, *flags, "--skip-invalid")
    assert result.code == 0
    assert result.json["requests"] == 1
    parts = ["skipped 4 of 5 rows", "b.bin is neither", "c.png is an image, and the files before it are texts",
             "d.txt is no image (png, jpeg, gif or webp), and no text in utf-8: byte 0xe9 in line 2",
             "e.txt has 10,485,761 bytes"]  # fmt: skip
    assert all(part in said for part, said in zip(parts, result.json["warnings"], strict=True))


def test_the_output_does_not_become_a_row_of_its_input(tmp_path: Path) -> None:
    """A batch file in the folder that is read would be a row of the next run."""
    (tmp_path / "a.txt").write_text("one")
    refused(create(tmp_path, None, "--input", ".", *PROMPT, "{text}"), "bad_arguments", "input folder")
    refused(create(tmp_path, None, "--input", ".", "--input-format", "csv", *PROMPT, "{text}"), "bad_arguments", "")


# Ids


@given(st.one_of(st.text(max_size=80), st.text("a -~é\t\x7f", max_size=70)))
def test_an_id_is_repaired_exactly_where_the_server_refuses_it(original: str) -> None:
    """The result is taken by the schema; what was good stays, and it follows from the original alone."""
    fit = repaired(original)
    assert not Checker().explain_value(build(fit, "/v1/embeddings", "m", "x"))
    accepted = not Checker().explain_value(build(original, "/v1/embeddings", "m", "x"))
    assert accepted is is_id(original) is (fit == original)
    assert repaired(fit) == fit == repaired(original)


def test_repaired_ids_are_readable_and_unlike() -> None:
    """Their beginning is that of the original; two originals that begin alike differ."""
    long = ["Crème brûlée, " + "x" * 80 + end for end in "ab"]
    first, second = map(repaired, long)
    assert first.startswith("Creme-brulee-xxx") and len(first) == 64
    assert first[:51] == second[:51] and first != second
    assert repaired("日" * 30).startswith("id-")


def test_ids_are_repaired_on_request_and_the_map_is_kept(tmp_path: Path) -> None:
    """Beside the batch file; the source file notes it, so that the join finds the same ids."""
    rows = [{"a": "Grüße"}, {"a": LONG}, {"a": "x" * 70}]
    refused(create(tmp_path, rows, *PROMPT, "{a}", "--id", "{a}"), "bad_row", "row 2: custom_id", "--repair-ids")
    assert list(tmp_path.iterdir()) == []
    result = create(tmp_path, rows, *PROMPT, "{a}", "--id", "{a}", "--repair-ids")
    assert (result.code, result.json["ids"]) == (0, "out.ids.csv")
    assert ids(tmp_path) == ["Grüße", repaired(LONG), repaired("x" * 70)]
    with (tmp_path / "out.ids.csv").open(encoding="utf-8", newline="") as file:
        kept = list(csv.DictReader(file))
    assert [(row["custom_id"], row["original"]) for row in kept] == [(repaired(row["a"]), row["a"]) for row in rows[1:]]
    form = record_of(tmp_path).form
    assert form.repair
    again = [custom_id(form.id, Row(1, ("a",), list(row.values())), form.repair) for row in rows]
    assert again == ids(tmp_path)


def test_ids_beyond_ascii_are_taken_and_told(tmp_path: Path) -> None:
    """As the server takes them; older ones may not."""
    rows = [{"id": "café", "a": "x"}, {"id": "日本", "a": "y"}, {"id": "plain", "a": "z"}]
    result = create(tmp_path, rows, *PROMPT, "{a}", "--id", "{id}")
    assert ids(tmp_path) == ["café", "日本", "plain"]
    assert result.json["warnings"] == ["custom_ids such as café are not ASCII; older servers may refuse them"]
    again = [{**chat(seed=number), "custom_id": one["id"]} for number, one in enumerate(rows)]
    assert create(tmp_path, again, "--force").json["warnings"] == result.json["warnings"]


def test_an_id_that_is_a_number_is_told_how_to_be_written(tmp_path: Path) -> None:
    """Repairing ids would not help; of another form it is no id at all."""
    for value, said in ((7, 'is a number: write "7"'), (None, "is null: write a text")):
        result = create(tmp_path, [{**chat(), "custom_id": value}])
        refused(result, "bad_row", f"row 1: custom_id: {said}")
        assert "--repair-ids" not in result.json["error"]["hint"]


def test_the_map_of_repaired_ids_is_a_table_that_is_safe_to_open(tmp_path: Path) -> None:
    """Ids come from anywhere; no spreadsheet runs one, and none ends its row."""
    rows = [{"a": f'=HYPERLINK("{LONG}","y")'}, {"a": "a\rb"}, {"a": "a\nb"}, {"a": f"@{LONG}"}]
    assert create(tmp_path, rows, *PROMPT, "x {a}", "--id", "{a}", "--repair-ids").code == 0
    with (tmp_path / "out.ids.csv").open(encoding="utf-8", newline="") as file:
        kept = [row["original"] for row in csv.DictReader(file)]
    assert kept == [f'\'=HYPERLINK("{LONG}","y")', "a\rb", "a\nb", f"'@{LONG}"]


def test_no_map_is_kept_of_nothing(tmp_path: Path) -> None:
    """With --force one of an earlier making goes, and a table of the user's own of that name stays."""
    words = [*PROMPT, "{a}", "--id", "{a}", "--repair-ids", "--force"]
    assert create(tmp_path, [{"a": LONG}], *words).json["ids"] == "out.ids.csv"
    assert "ids" not in create(tmp_path, [{"a": "e"}], *words).json
    assert not (tmp_path / "out.ids.csv").exists()
    (tmp_path / "out.ids.csv").write_text("mine")
    assert create(tmp_path, [{"a": "e"}], *words).code == 0
    assert (tmp_path / "out.ids.csv").read_text() == "mine"


def test_an_existing_file_is_not_replaced_by_the_map(tmp_path: Path) -> None:
    """The map and the batch file appear together or not at all."""
    (tmp_path / "out.ids.csv").write_text("mine")
    refused(create(tmp_path, [{"a": LONG}], *PROMPT, "{a}", "--id", "{a}", "--repair-ids"), "output_exists", "out.ids")
    assert [path.name for path in tmp_path.iterdir()] == ["out.ids.csv"]
    assert (tmp_path / "out.ids.csv").read_text() == "mine"


def test_repaired_ids_that_meet_are_found(tmp_path: Path) -> None:
    """Two rows with one original, or an id that looks like a repaired one, are told apart by nobody."""
    words = [*PROMPT, "{a}", "--id", "{a}", "--repair-ids"]
    for value in (LONG, repaired(LONG)):
        refused(create(tmp_path, [{"a": LONG}, {"a": value}], *words), "duplicate_custom_id", "row 2")
    assert list(tmp_path.iterdir()) == []


def test_ids_of_request_lines_are_repaired_too(tmp_path: Path) -> None:
    """An empty one stays an error: there is nothing to make an id of."""
    rows = [{**chat(), "custom_id": LONG}, {**chat(), "custom_id": "b"}]
    assert create(tmp_path, rows, "--repair-ids").code == 0
    assert ids(tmp_path) == [repaired(LONG), "b"]
    refused(create(tmp_path, [{**chat(), "custom_id": ""}], "--repair-ids", "--force"), "bad_row", "row 1: custom_id")
    for bad in ({"method": "POST"}, {**chat(), "custom_id": 7}):
        refused(create(tmp_path, [chat(), bad], "--repair-ids", "--force"), "bad_row", "row 2: custom_id")


@pytest.mark.parametrize(
    "words", [["--image", "{a}"], ["--default", "a=b"], ["--examples", "e.csv"], ["--tools", "t.json"], ["--system-file", "s"]]  # noqa: E501
)  # fmt: skip
def test_request_lines_take_no_flags_that_form_requests(tmp_path: Path, words: list[str]) -> None:
    """What they ask stands in them already."""
    for name, content in (("e.csv", "prompt,answer\na,b\n"), ("t.json", json.dumps(TOOL)), ("s", "x")):
        (tmp_path / name).write_text(content)
    result = create(tmp_path, [chat()], *words)
    refused(result, "bad_arguments", words[0])
