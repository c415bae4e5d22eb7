"""Cells that a spreadsheet would run.

Promises: a cell that a spreadsheet would take for a formula, and that is none, gets a `'` in front; amounts, telephone
numbers and a lone dash stay as they are.

Which beginnings count: OWASP, "CSV Injection"; full-width signs too, since East Asian versions of spreadsheets take
them for the plain ones.
"""

from __future__ import annotations

import re

# A NUL is left out of tables, and what stands after it may be a formula.
STARTS = frozenset("\0=@+-\t\r\n\uff1d\uff0b\uff0d\uff20")
_STARTS = "[=@\t\r\n\uff1d\uff0b\uff0d\uff20]"
_SIGNED = "[+-]"
# After a sign: figures with whatever stands between them, a currency, a unit or a percent sign. Nothing to be run.
_AMOUNT = r"[+-]+\s?([€$£¥]\s?)?[0-9 .,'" "\u2019" r"/()\-]*(e[+-]?[0-9]+)?\s?([€$£¥%‰°]|[A-Z]{3})?"


def without_formula(text: str) -> str:
    """`text`, with a `'` before what a spreadsheet would run."""
    is_run = re.match(_STARTS, text) or (re.match(_SIGNED, text) and not re.fullmatch(_AMOUNT, text, re.ASCII))
    return f"'{text}" if is_run else text


def is_run(sql: str) -> str:
    """SQL that tells whether a spreadsheet would run the text `sql`."""
    starts, signed, amount = (one.replace("'", "''") for one in (f"^{_STARTS}", f"^{_SIGNED}", _AMOUNT))
    return (
        f"({may_run(sql)} AND (regexp_matches({sql}, '{starts}') OR"
        f" (regexp_matches({sql}, '{signed}') AND NOT regexp_full_match({sql}, '{amount}'))))"
    )


def may_run(sql: str) -> str:
    """SQL that tells whether the text `sql` begins as a formula may; a swift look before `is_run`."""
    return f"left({sql}, 1) IN ({', '.join(f'chr({ord(one)})' for one in sorted(STARTS))})"
