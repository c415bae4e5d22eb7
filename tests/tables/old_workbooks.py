"""Workbooks that no package here writes: .xls and encrypted ones, in the Compound File Binary format, and .ods.

Layouts: [MS-CFB] 2.2 and 2.6, [MS-XLS] 2.4, OpenDocument 1.3 part 2 and 3.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

SECTOR = 512
END, FREE, FAT = 0xFFFFFFFE, 0xFFFFFFFF, 0xFFFFFFFD


def compound_file(streams: Mapping[str, bytes]) -> bytes:
    """A compound file of streams, each in sectors of its own: one sector of the table, one of the directory."""
    table, sectors = [FAT, END], []
    directory = [("Root Entry", 5, FREE, 1, END, 0)]
    for number, (name, content) in enumerate(streams.items(), 1):
        content = content.ljust(4096, b"\0") + b"\0" * (-len(content) % SECTOR if len(content) > 4096 else 0)
        first, count = len(table), len(content) // SECTOR
        table += [*range(first + 1, first + count), END]
        sibling = number + 1 if number < len(streams) else FREE
        directory.append((name, 2, sibling, FREE, first, len(content)))
        sectors.append(content)
    entries = b"".join(_entry(*one) for one in directory)
    header = struct.pack("<8s16xHHHHH6xIIII", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", 0x3E, 3, 0xFFFE, 9, 6, 0, 1, 1, 0)
    header += struct.pack("<IIIII", 4096, END, 0, END, 0) + struct.pack("<109I", 0, *[FREE] * 108)
    fat = struct.pack(f"<{SECTOR // 4}I", *table, *[FREE] * (SECTOR // 4 - len(table)))
    return header + fat + entries.ljust(SECTOR, b"\0") + b"".join(sectors)


def _entry(name: str, kind: int, right: int, child: int, first: int, size: int) -> bytes:
    wide = name.encode("utf-16-le")
    head = struct.pack("<64sHBBIII", wide, len(wide) + 2, kind, 1, FREE, right, child)
    return head + b"\0" * 36 + struct.pack("<IQ", first, size)


def xls(rows: Sequence[Sequence[str | float]], dates: Sequence[int] = ()) -> bytes:
    """An .xls workbook of one sheet; numbers in the columns `dates` are days."""
    formats = b"".join(_record(0x00E0, struct.pack("<HH16x", 0, number)) for number in (0, 14))
    name = b"Sheet1"
    globals_ = _record(0x0809, struct.pack("<HHHHII", 0x0600, 5, 0, 0, 0, 0)) + formats
    bound = struct.pack("<IBBBB", len(globals_) + 4 + 8 + len(name) + 4, 0, 0, len(name), 0) + name
    globals_ += _record(0x0085, bound) + _record(0x000A, b"")
    cells = b""
    for row, values in enumerate(rows):
        for column, value in enumerate(values):
            place = struct.pack("<HHH", row, column, 1 if column in dates else 0)
            if isinstance(value, str):
                cells += _record(0x0204, place + struct.pack("<HB", len(value), 1) + value.encode("utf-16-le"))
            else:
                cells += _record(0x0203, place + struct.pack("<d", value))
    sheet = _record(0x0809, struct.pack("<HHHHII", 0x0600, 0x10, 0, 0, 0, 0)) + cells + _record(0x000A, b"")
    return compound_file({"Workbook": globals_ + sheet})


def _record(kind: int, content: bytes) -> bytes:
    return struct.pack("<HH", kind, len(content)) + content


def ods(path: Path, rows: Sequence[Sequence[str]]) -> None:
    """Write an .ods workbook of one sheet; a cell is the XML of its element."""
    office = "urn:oasis:names:tc:opendocument:xmlns:"
    spaces = " ".join(f'xmlns:{name}="{office}{name}:1.0"' for name in ("office", "table", "text"))
    body = "".join(f"<table:table-row>{''.join(row)}</table:table-row>" for row in rows)
    content = (
        f'<?xml version="1.0" encoding="UTF-8"?><office:document-content {spaces}><office:body><office:spreadsheet>'
        f'<table:table table:name="One">{body}</table:table>'
        "</office:spreadsheet></office:body></office:document-content>"
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr("content.xml", content)
        archive.writestr("META-INF/manifest.xml", f'<manifest:manifest xmlns:manifest="{office}manifest:1.0"/>')
