"""The arguments that say which requests to make: all of create_batch_file.py but OUTPUT.

They stand apart from what does the work, so that `--help` answers without loading it.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from doubleword.cli import delimiter, number, whole
from doubleword.failure import plain
from doubleword.service import CHAT, ENDPOINTS


def add_arguments(parser: argparse.ArgumentParser, several: bool = False) -> None:
    """Add everything that says which requests to make, which is all of create_batch_file.py but OUTPUT.

    With `several` models and prompts may be repeated, and come as lists.
    """
    parser.set_defaults(reuse=None)  # which only some take, by `add_reuse`
    add = parser.add_argument
    often: dict[str, Any] = {"action": "append"} if several else {}
    real = number(float, -sys.float_info.max, sys.float_info.max, "a number")
    add("--input", action="append", metavar="PATH", help="table, workbook, folder, 'glob', query.sql; - is stdin")
    add(
        "--input-format",
        type=_format,
        metavar="FORMAT",
        help="csv, tsv, json, jsonl, parquet, xlsx, xls, ods, sql, text",
    )
    add("--encoding", default="utf-8", metavar="NAME", help="of CSV, TSV, JSON and text (default: utf-8)")
    add("--delimiter", type=delimiter, metavar="D", help="between cells, if not found; tab is a word")
    add("--quote", type=_quote, metavar="Q", help="around cells, or none, if not found")
    add("--header-row", type=whole, metavar="N", help="the line of the header, from 1, if not found")
    add("--sheet", metavar="NAME", help="of a workbook (default: the first)")
    add("--where", metavar="SQL", help="only these rows: \"stars <= 2 and lang = 'de'\"")
    add("--prompt", **often, metavar="TEXT", help="with {column} or {a.nested.value}; {{ is a brace")
    add("--prompt-file", **often, metavar="FILE", help="the same, from a file")
    add("--system", metavar="TEXT", help="system text, with {column} places")
    add("--system-file", metavar="FILE", help="the same, from a file")
    add("--default", action="append", metavar="COL=TEXT", help="for empty values; may be repeated")
    add("--examples", metavar="FILE", help="table of prompt and answer, shown to the model first")
    add("--image", action="append", metavar="TEMPLATE", help='path or URL, "{photo}"; may be repeated')
    add("--model", **often, metavar="ID", help="as list_models.py shows it")
    others = ", ".join(one for one in ENDPOINTS if one != CHAT)
    add("--endpoint", choices=ENDPOINTS, default=CHAT, metavar="PATH", help=f"default {CHAT}; or {others}")
    add("--id", metavar="TEMPLATE", help="custom_id from columns (default: row-0000001, …)")
    add("--repair-ids", action="store_true", help="make ids that the server refuses fit")
    add("--max-tokens", type=whole, metavar="N", help="longest answer, in tokens")
    add("--temperature", type=real, metavar="X", help="0 to 2")
    add("--top-p", type=real, metavar="X", help="0 to 1")
    add("--stop", action="append", metavar="S", help="end of the answer; may be repeated")
    add("--response-schema", metavar="FILE", help="JSON Schema that every answer obeys")
    add("--tools", metavar="FILE", help="JSON array of tools that the model may call")
    add("--body", metavar="JSON", help="more parameters, for example '{\"seed\": 7}'")
    add("--limit", type=whole, metavar="N", help="only the first N rows")
    if several:
        parser.set_defaults(dedupe=False)
    else:
        add("--dedupe", action="store_true", help="send equal requests once, and give each row the answer")
    add("--skip-invalid", action="store_true", help="leave bad rows out, and list them in warnings")
    add("--example", action="store_true", help="a small example; needs no input")
    add("--force", action="store_true", help="replace an existing output")


def add_reuse(parser: argparse.ArgumentParser) -> None:
    """Add what takes answers of earlier jobs over."""
    said = "earlier jobs, or folders of them: take over their good answers to the same requests"
    parser.add_argument("--reuse", nargs="+", action="extend", metavar="JOB", help=said)


def _quote(text: str) -> str:
    if text != "none" and len(text) != 1:
        raise argparse.ArgumentTypeError(f"expected one character, or none, got {plain(text, 40)}")
    return "" if text == "none" else text


def _format(text: str) -> str:
    from doubleword.tables.sources.kinds import FORMATS

    if text not in FORMATS:
        raise argparse.ArgumentTypeError(f"expected one of {', '.join(FORMATS)}, got {plain(text, 40)}")
    return text
