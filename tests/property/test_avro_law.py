"""Avro: records that fastavro wrote give the same in columns and by rows, whatever is broken."""

from __future__ import annotations

import datetime as dt
import io
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from unittest import mock

import fastavro
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.batch import PartitionId, RecordChunk
from streamcore.formats import Avro, avro_decoder, decoder_for
from streamcore.schema import StreamSchema

SOURCE = PartitionId("t", 0, "x")
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)

# Avro's type, the column's, and values of it.
TYPES: list[tuple[object, str, st.SearchStrategy[Any]]] = [
    ("int", "int32", st.integers(-(2**31), 2**31 - 1)),
    ("long", "int64", st.integers(-(2**63), 2**63 - 1)),
    ("double", "float64", st.floats(allow_nan=False)),
    ("boolean", "bool", st.booleans()),
    ("string", "string", st.text(max_size=80)),
    ("bytes", "binary", st.binary(max_size=80)),
    ({"type": "enum", "name": "E", "symbols": ["A", "B", "C"]}, "string", st.sampled_from("ABC")),
    ({"type": "fixed", "name": "F", "size": 3}, "binary", st.binary(min_size=3, max_size=3)),
    ({"type": "int", "logicalType": "date"}, "date", st.dates()),
    (
        {"type": "long", "logicalType": "timestamp-micros"},
        "datetime",
        st.integers(-(10**15), 10**15).map(lambda micros: EPOCH + dt.timedelta(microseconds=micros)),
    ),
    (
        {"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 9},
        "decimal",
        st.integers(-(10**19), 10**19).map(lambda unscaled: Decimal(unscaled).scaleb(-9)),
    ),
]


@st.composite
def worlds(draw: st.DrawFn) -> tuple[str, dict[str, str], list[bytes]]:
    """A writer's schema, the reader's columns, and records of which some are broken."""
    kinds = draw(st.lists(st.sampled_from(TYPES), min_size=1, max_size=4))
    fields, columns, values = [], {}, {}
    for number, (avro, column, strategy) in enumerate(kinds):
        name, optional = f"f{number}", draw(st.sampled_from(["no", "null first", "null last"]))
        kind = {**avro, "name": f"N{number}"} if isinstance(avro, dict) and "name" in avro else avro
        union = {"no": kind, "null first": ["null", kind], "null last": [kind, "null"]}[optional]
        fields.append({"name": name, "type": union})
        columns[name] = column
        values[name] = strategy if optional == "no" else st.none() | strategy
    items = {"name": "items", "type": {"type": "array", "items": ["null", "string"]}}
    values["items"] = st.lists(st.none() | st.text(max_size=9), max_size=5)
    schema = json.dumps({"type": "record", "name": "R", "fields": [*fields, items]})
    parsed, records = fastavro.parse_schema(json.loads(schema)), []
    for row in draw(st.lists(st.fixed_dictionaries(values), min_size=1, max_size=12)):
        out = io.BytesIO()
        fastavro.schemaless_writer(out, parsed, row)
        records.append(draw(BROKEN)(out.getvalue()))
    return schema, columns, records


BROKEN: st.SearchStrategy[Callable[[bytes], bytes]] = st.sampled_from(
    [*[lambda data: data] * 20, lambda data: data[:-1], lambda data: data + b"\x00", lambda data: b"\xff" * 9]
)


@settings(max_examples=200, deadline=None)
@given(world=worlds(), cut=st.integers(0, 12))
def test_columns_and_rows_say_the_same(world: tuple[str, dict[str, str], list[bytes]], cut: int) -> None:
    text, columns, records = world
    schema = StreamSchema.from_columns(columns)
    with mock.patch.object(avro_decoder, "_FEW", 10**9):
        wanted = decoder_for(Avro(schema=text), schema).decode(
            RecordChunk(SOURCE, range(len(records)), records)
        )
    with mock.patch.object(avro_decoder, "_FEW", 1):
        decoder = decoder_for(Avro(schema=text), schema)
        chunks = [
            RecordChunk(SOURCE, range(first, first + len(part)), part)
            for first, part in ((0, records[:cut]), (cut, records[cut:]))
        ]
        parts = [decoder.decode(chunk) for chunk in chunks]
    rows = [row for part in parts for row in part.frame.iter_rows()]
    assert rows == wanted.frame.rows()
    refused = [row for part in parts for row in part.rejects.frame.iter_rows()]
    assert refused == wanted.rejects.frame.rows()
