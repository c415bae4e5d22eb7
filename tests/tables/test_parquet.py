"""Parquet: every type and value, used or not, as the text that people write."""

from __future__ import annotations

import datetime
import decimal
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.door import call_door
from tests.tables.asking import ask, put, refusal

UTC = datetime.timezone.utc


def parquet(table: Any) -> Callable[[Path], None]:
    """What writes a table, or columns by name."""
    made = table if isinstance(table, pa.Table) else pa.table(table)
    return lambda path: pq.write_table(made, path)


def stamps(*values: int, unit: str, zone: str | None = None) -> pa.Array:
    return pa.array(values, pa.timestamp(unit, tz=zone))


NANOSECONDS = 1700000000123456789
VALUES: dict[str, tuple[pa.Array, list[str]]] = {
    "seconds": (stamps(1700000000, unit="s"), ["2023-11-14 22:13:20"]),
    "milliseconds": (stamps(1700000000123, unit="ms"), ["2023-11-14 22:13:20.123"]),
    "nanoseconds": (stamps(NANOSECONDS, unit="ns"), ["2023-11-14 22:13:20.123456789"]),
    "nanoseconds in Berlin": (
        stamps(NANOSECONDS, unit="ns", zone="Europe/Berlin"),
        ["2023-11-14 22:13:20.123456789+00"],
    ),
    "year 9999 in Tokyo": (stamps(253402300799000000, unit="us", zone="Asia/Tokyo"), ["9999-12-31 23:59:59+00"]),
    "year 1": (stamps(-62135596800000000, unit="us"), ["0001-01-01 00:00:00"]),
    "beyond Python": (stamps(2**62, unit="us"), ["148108-07-06 14:00:27.387904"]),
    "days": (
        pa.array([datetime.date(2023, 11, 14), datetime.date(9999, 12, 31), datetime.date(1, 1, 1)]),
        ["2023-11-14", "9999-12-31", "0001-01-01"],
    ),
    "days in milliseconds": (pa.array([datetime.date(2023, 11, 14)], pa.date64()), ["2023-11-14"]),
    "times": (pa.array([datetime.time(9, 5)], pa.time32("s")), ["09:05:00"]),
    "times of nanoseconds": (pa.array([32701500000001], pa.time64("ns")), ["09:05:01.500000001"]),
    "durations": (pa.array([90], pa.duration("s")), ["90"]),
    "decimals": (pa.array([decimal.Decimal("19.990"), decimal.Decimal("-0.001")]), ["19.990", "-0.001"]),
    "long decimals": (
        pa.array([decimal.Decimal("12345678901234567890123456789012345678")], pa.decimal128(38, 0)),
        ["12345678901234567890123456789012345678"],
    ),
    "decimals below one": (pa.array([decimal.Decimal("0.10"), decimal.Decimal("-0.05")]), ["0.10", "-0.05"]),
    "whole decimals within": (
        pa.array([{"n": decimal.Decimal(100), "x": [decimal.Decimal("9" * 38)]}]),
        [f'{{"n":100,"x":[{"9" * 38}]}}'],
    ),
    "decimals beside single precision": (
        pa.array([{"p": 19.99, "n": decimal.Decimal(7)}], pa.struct([("p", pa.float32()), ("n", pa.decimal128(3, 0))])),
        ['{"p":19.99,"n":7}'],
    ),
    "single precision": (pa.array([19.99, 0.1, 16777216.0], pa.float32()), ["19.99", "0.1", "16777216.0"]),
    "half precision": (pa.array(numpy.array([1.5], numpy.float16)), ["1.5"]),
    "double precision": (pa.array([19.99, 0.1 + 0.2, 1e22]), ["19.99", "0.30000000000000004", "1e+22"]),
    "unsigned": (pa.array([2**64 - 1], pa.uint64()), ["18446744073709551615"]),
    "signed": (pa.array([-(2**63)], pa.int64()), ["-9223372036854775808"]),
    "booleans": (pa.array([True, False]), ["true", "false"]),
    "bytes": (pa.array(["é".encode(), b"\xff\x00"]), ["é", "\\xFF\\x00"]),
    "bytes of one length": (pa.array([b"abcd"], pa.binary(4)), ["abcd"]),
    "large texts": (pa.array(["é\0\r\n"], pa.large_string()), ["é\0\r\n"]),
    "dictionaries": (pa.array(["a", "b", "a"]).dictionary_encode(), ["a", "b", "a"]),
    "lists": (pa.array([["a", "b"], [19.0, 0.5]][:1]), ['["a","b"]']),
    "lists of single precision": (pa.array([[19.99, 0.1]], pa.list_(pa.float32())), ["[19.99,0.1]"]),
    "structs": (
        pa.array([{"p": 19.99, "u": 2**64 - 1}], pa.struct([("p", pa.float32()), ("u", pa.uint64())])),
        ['{"p":19.99,"u":18446744073709551615}'],
    ),
    "no numbers in lists": (
        pa.array([[1.5, float("nan"), -float("inf")], []]),
        ["[1.5,null,null]", "[]"],
    ),
    "no numbers in structs": (
        pa.array(
            [{"p": float("nan"), "NaN": 'says "NaN", Infinity'}], pa.struct([("p", pa.float32()), ("NaN", "str")])
        ),
        ['{"p":null,"NaN":"says \\"NaN\\", Infinity"}'],
    ),
    "structs of times": (
        pa.array([{"at": NANOSECONDS}], pa.struct([("at", pa.timestamp("ns"))])),
        ['{"at":"2023-11-14 22:13:20.123456789"}'],
    ),
    "maps": (pa.array([[("k", 1), ("l", 2)]], pa.map_(pa.string(), pa.int64())), ['{"k":1,"l":2}']),
    "uuids": (pa.array([b"\x12\x34" * 8], pa.uuid()), ["12341234-1234-1234-1234-123412341234"]),
}


@pytest.mark.parametrize("kind", VALUES)
def test_each_type_is_the_text_that_people_write(tmp_path: Path, kind: str) -> None:
    """No digit of a number or a time is lost; times of a zone are of UTC; nested ones are JSON."""
    array, texts = VALUES[kind]
    assert ask(tmp_path, {"t.parquet": parquet({"v": array})}, prompt="{v}").prompts == texts


def test_request_lines_of_parquet_keep_their_numbers(tmp_path: Path) -> None:
    """Single precision in a body is written as it is meant, not with the digits that a cast adds."""
    fields = [("model", pa.string()), ("prompt", pa.string()), ("temperature", pa.float32())]
    body = pa.array([{"model": "m", "prompt": "a", "temperature": 0.7}], pa.struct(fields))
    line = {"custom_id": ["1"], "method": ["POST"], "url": ["/v1/completions"], "body": body}
    put(tmp_path, {"t.parquet": parquet(line)})
    assert call_door("create_batch_file", "out.jsonl", "--input", "t.parquet", cwd=tmp_path).code == 0
    assert json.loads((tmp_path / "out.jsonl").read_text())["body"]["temperature"] == 0.7


def test_no_type_stands_in_the_way_of_other_columns(tmp_path: Path) -> None:
    """A prompt that uses none of them is asked, whatever the others hold; an empty value is empty."""
    columns = {name: array.slice(0, 1) for name, (array, _) in VALUES.items()}
    empty = {"null": pa.array([None], pa.null()), "NaN": pa.array([float("nan")])}
    table = {"t.parquet": parquet({**columns, **empty, "text": pa.array(["a"])})}
    assert ask(tmp_path, table).prompts == ["a"]
    assert ask(tmp_path, table, "--default", "null=-", "--default", "NaN=-", prompt="{null}{NaN}").prompts == ["--"]


def test_decimals_that_are_rounded_are_told(tmp_path: Path) -> None:
    """No reader here holds more than 38 digits."""
    value = pa.array([decimal.Decimal("1234567890123456789012345678901234567890.12")], pa.decimal256(50, 2))
    found = ask(tmp_path, {"t.parquet": parquet({"cost": value, "text": ["a"]})})
    assert "decimals of cost have more than 38 digits" in found.warnings[0]


def test_times_that_lose_digits_are_told(tmp_path: Path) -> None:
    """Those of the old type that pandas and Impala write; Spark's have no such digits."""

    def old(path: Path) -> None:
        table = pa.table({"at": stamps(NANOSECONDS, unit="ns"), "text": ["a"]})
        pq.write_table(table.replace_schema_metadata(metadata), path, use_deprecated_int96_timestamps=True)

    metadata: dict[str, str] = {}
    (said,) = ask(tmp_path, {"t.parquet": old}).warnings
    assert "t.parquet: of the times of at, which are of the old type INT96, digits below microseconds" in said
    metadata["org.apache.spark.version"] = "3.5.1"
    assert not ask(tmp_path, {"t.parquet": old}).warnings


def test_columns_keep_their_names(tmp_path: Path) -> None:
    """Also where they differ in case only, have none, or hold quotes; two of one name are refused by it."""
    arrays = [pa.array([str(at)]) for at in range(5)]
    names = ["a", "A", "", 'q"x', "filename"]
    table = {"t.parquet": parquet(pa.Table.from_arrays(arrays, names=names))}
    assert ask(tmp_path, table, prompt='{a}{A}{column3}{q"x}{filename}').prompts == ["01234"]
    nested = pa.table({"s": [{"x": 1, "y": [{"z": 2}]}], "m": [7], "x": ["own"]})
    assert ask(tmp_path, {"t.parquet": parquet(nested)}, prompt="{s.y.0.z}{m}{x}").prompts == ["27own"]
    twice = pa.Table.from_arrays(arrays[:2], names=["a", "a"])
    assert "names the column a twice" in refusal(tmp_path, {"t.parquet": parquet(twice)}, prompt="{a}")


def test_rows_stand_in_their_order(tmp_path: Path) -> None:
    """Of many row groups, read at once by several threads; empty rows are none, and keep their numbers."""
    texts = [None if number % 1000 == 7 else f"text {number}" for number in range(20_000)]
    table = {"t.parquet": lambda path: pq.write_table(pa.table({"text": texts}), path, row_group_size=3000)}
    found = ask(tmp_path, table)
    kept = [(f"row-{number:07d}", text) for number, text in enumerate(texts, 1) if text]
    assert list(zip(found.ids, found.prompts, strict=True)) == kept
    assert found.warnings == ["left out 20 empty rows"]


@pytest.mark.parametrize("content", [b"PAR1 no", b"PAR1" + b"\0" * 100 + b"PAR1"])
def test_what_is_no_parquet_is_refused(tmp_path: Path, content: bytes) -> None:
    """With its name."""
    assert "t.parquet cannot be read as Parquet" in refusal(tmp_path, {"t.parquet": content})
