"""Tombstones of a table's changelog: which row they delete, by their records' keys."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from streamcore.batch import OFFSET, OP, OP_DELETE, OP_INSERT, PartitionId, RecordChunk
from streamcore.contracts import Decoded
from streamcore.errors import BadConfig
from streamcore.formats import Arrow, Json, Raw
from streamcore.formats.keyed import Keyed
from streamcore.schema import StreamSchema
from streamcore.sinks.topic_records import record_keys

SOURCE = PartitionId("customers", 0, "id")
ZONE = dt.timezone.utc


def decoded(columns: dict[str, Any], keyed: Keyed, *records: tuple[bytes | None, bytes | None]) -> Decoded:
    """What comes of records of (key, value), from offset 10 on."""
    schema = StreamSchema.from_columns(columns, frozenset(columns))
    keys, values = [key for key, _ in records], [value for _, value in records]
    chunk = RecordChunk(SOURCE, range(10, 10 + len(records)), values, keys=keys)
    return keyed.decoder(schema).decode(chunk)


def test_a_tombstone_is_the_deletion_of_the_row_with_its_key():
    columns = {"id": "int64", "name": "string"}
    frame, rejects = _parts(
        decoded(columns, Keyed(Json(), ("id",)), (b"1", b'{"id": 1, "name": "ann"}'), (b"2", None))
    )
    assert frame.rows() == [(1, "ann", 10, 0, OP_INSERT), (2, None, 11, 0, OP_DELETE)]
    assert not rejects.height


@pytest.mark.parametrize(
    ("key_format", "key"),
    [
        *(("text", key) for key in (b"x", b"1.0", b"\xff", b"", None)),
        *(("json", key) for key in (b"{}", b'{"id": null}', b"[1]", b'"1" "2"', b"", None)),
    ],
)
def test_a_tombstone_whose_key_says_no_row_is_refused_alone(key_format, key):
    keyed = Keyed(Json(), ("id",), key_format)
    frame, rejects = _parts(
        decoded({"id": "int64"}, keyed, (None, b'{"id": 1}'), (key, None), (None, b"oops"), (b"3", None))
    )
    assert frame.select("id", OFFSET).rows() == [(1, 10), (3, 13)]
    assert rejects.select(OFFSET, "stage", "code").rows() == [(11, "decode", "key"), (12, "decode", "json")]


@pytest.mark.parametrize("key", [b'{"id": 7, "more": 1}', b"7", b" 7 "])
def test_a_key_of_json_is_an_object_or_the_only_column_s_value(key):
    frame, _ = _parts(decoded({"id": "int64"}, Keyed(Json(), ("id",), "json"), (key, None)))
    assert frame["id"].to_list() == [7]


@pytest.mark.parametrize("form", [Json(), Json(lines=True), Json(array=True), Arrow()])
def test_every_format_of_values_goes_with_tombstones(form):
    frame, rejects = _parts(decoded({"id": "int64"}, Keyed(form, ("id",)), (b"7", None)))
    assert frame.select("id", OP).rows() == [(7, OP_DELETE)]
    assert not rejects.height


TYPES: dict[str, tuple[Any, list[Any]]] = {
    "text": (pl.String(), ["", "a|b", "ü", "null"]),
    "number": (pl.Int64(), [-1, 1 << 62]),
    "float": (pl.Float64(), [0.1, 1e300, -1e-9]),
    "boolean": (pl.Boolean(), [True, False]),
    "bytes": (pl.Binary(), [b"", b"\xff\x00"]),
    "decimal": (pl.Decimal(38, 2), [Decimal("-1.50")]),
    "date": (pl.Date(), [dt.date(2026, 1, 2)]),
    "instant": (pl.Datetime("us", "UTC"), [dt.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=ZONE)]),
    "local time": (pl.Datetime("us"), [dt.datetime(2026, 1, 2, 3, 4, 5)]),
}


@pytest.mark.parametrize("name", TYPES)
def test_a_key_is_read_back_as_a_topic_sink_writes_it(name):
    dtype, values = TYPES[name]
    rows = pl.DataFrame({"k": values}, schema={"k": dtype})
    records = [(key, None) for key in record_keys(rows, ["k"]).to_pylist()]
    frame, rejects = _parts(decoded({"k": dtype}, Keyed(Json(), ("k",)), *records))
    assert not rejects.height
    assert frame["k"].to_list() == values


def test_a_key_of_several_columns_is_read_back_unless_a_text_holds_the_separator():
    rows = pl.DataFrame({"a": ["x", "y|z", ""], "b": [1, 2, 3]})
    records = [(key, None) for key in record_keys(rows, ["a", "b"]).to_pylist()]
    frame, rejects = _parts(decoded({"b": "int64", "a": "string"}, Keyed(Json(), ("a", "b")), *records))
    assert frame.select("a", "b", OFFSET).rows() == [("x", 1, 10), ("", 3, 12)]
    assert rejects.select(OFFSET, "code").rows() == [(11, "key")]


@pytest.mark.parametrize(
    ("form", "key_format", "says"), [(Json(), "avro", "unknown key_format"), (Raw(), "text", "raw ones")]
)
def test_what_can_t_be_a_table_s_format_is_refused(form, key_format, says):
    with pytest.raises(BadConfig, match=says):
        Keyed(form, ("id",), key_format)


def _parts(result: Decoded) -> tuple[pl.DataFrame, pl.DataFrame]:
    return result.frame, result.rejects.frame
