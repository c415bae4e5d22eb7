"""What kind of file a source is: as the user says, else as its first bytes tell, else its ending.

Promises: a file is never read as what it is not because of its name; what no reader takes is named.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

from doubleword.failure import Exit, Failure
from doubleword.tables.plain_copy import suffix
from doubleword.text_encoding import MARK_BYTES, encoding_of

FORMATS = ("csv", "tsv", "json", "jsonl", "parquet", "xlsx", "xls", "ods", "sql", "text")
WORKBOOKS = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")
ENDINGS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".txt": "text",
    ".text": "text",
    ".sql": "sql",
    **dict.fromkeys(WORKBOOKS, "workbook"),
}
ZIP, OLE, PARQUET = b"PK\x03\x04", b"\xd0\xcf\x11\xe0", b"PAR1"
# One of these stands in every workbook that is a ZIP archive: Office Open XML part 1, OpenDocument part 2.
IN_WORKBOOKS = frozenset({"xl/workbook.xml", "xl/workbook.bin", "content.xml"})
FOREIGN = {
    ZIP: "a ZIP archive",
    b"%PDF": "a PDF",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
    b"GIF8": "an image",
    b"SQLite format 3\0": "an SQLite database",
    b"ARROW1\0": "an Arrow (Feather) file",
    b"Obj\x01": "an Avro file",
    b"\x89HDF": "an HDF5 file",
    b"{\\rtf": "a text document",
}
MARKUP = {"<html": "a web page", "<!doct": "a web page", "<table": "a web page", "<?xml": "XML"}
START = 4096
# A first line with the only name that the lines of a text file have: among those of a table, or in an object. After
# the commas of sentences stands a blank.
NAMES_TEXT = re.compile(
    r'([^\r\n]*[\t,;|])?"?text"?[\t,;|](?! )|[^\r\n]*[\t,;|]"?text"?([\r\n]|$)|\{ *"([^\r\n]*")?text" *:', re.IGNORECASE
)
OBJECTS = re.compile(r'\[\s*\{|\{\s*"')


def kind_of(path: Path, content: Path, said: str | None, shown: str) -> str:
    """What reads the file that the user calls `path`: one of `FORMATS`, or `workbook` for all workbooks; `said` is the
    format that the user says.

    `content` holds what is in it, unpacked. Raises Failure (exit 2) for an empty file, and for one of no such format.
    """
    if said is not None:
        return "workbook" if f".{said}" in WORKBOOKS else said
    with content.open("rb") as file:
        start = file.read(START)
    if not start:
        raise Failure(Exit.BAD_INPUT, "no_rows", f"{shown} is empty", "name a table with rows in it")
    if start.startswith(PARQUET):
        return "parquet"
    if start.startswith((OLE, ZIP)) and _is_workbook(start, content):
        return "workbook"
    text, by_name = _text(start), ENDINGS.get(suffix(path))
    foreign = next((kind for mark, kind in FOREIGN.items() if start.startswith(mark)), None)
    foreign = foreign or next((kind for mark, kind in MARKUP.items() if text[:6].lower().startswith(mark)), None)
    if foreign is not None and by_name != "text":
        hint = "name a table (CSV, JSON, Parquet, a workbook), or a folder of texts or images"
        raise Failure(Exit.BAD_INPUT, "bad_arguments", f"{shown} is {foreign}, not a table", hint)
    if by_name == "text" and NAMES_TEXT.match(text):
        message = f"{shown} looks like a table with a column text, and would be asked line by line"
        hint = "call it .csv, .tsv or .jsonl, or add --input-format csv; or text, where each line is to be a row"
        raise Failure(Exit.BAD_INPUT, "unknown_format", message, hint)
    found = _by_text(text, by_name)
    if found is None:
        message = f"{shown}: neither its ending nor its beginning tells the format"
        hint = f"let its name tell it, such as table.csv, or add --input-format with one of {', '.join(FORMATS)}"
        raise Failure(Exit.BAD_INPUT, "unknown_format", message, hint)
    return found


def _by_text(text: str, by_name: str | None) -> str | None:
    """What a text file is by its beginning, and its name; None where neither says it."""
    if OBJECTS.match(text) if by_name in ("csv", "tsv") else by_name is None and text.startswith(("[", "{")):
        return "json"
    if by_name == "workbook":  # as many web applications export tables, which spreadsheets open all the same
        first = text.partition("\n")[0] if "\0" not in text else ""
        return "tsv" if "\t" in first else "csv" if set(first) & set(",;") else None
    return None if by_name == "parquet" else by_name


def _text(start: bytes) -> str:
    """The beginning of a file as text, without blanks in front."""
    return start.decode(encoding_of("utf-8", start[:MARK_BYTES]), "replace").lstrip("\ufeff \t\r\n")


def _is_workbook(start: bytes, path: Path) -> bool:
    if start.startswith(OLE):
        return True
    try:
        with zipfile.ZipFile(path) as archive:
            return not IN_WORKBOOKS.isdisjoint(archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError):
        return True  # a broken one, and its reader says so
