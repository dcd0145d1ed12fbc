"""JSON documents behind the id of their schema: frames, rejects, and the schema of columns."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import polars as pl
import pytest

import streamcore as sc
from streamcore.batch import HIDDEN, OFFSET, PartitionId, RecordChunk
from streamcore.errors import BadConfig, Permanent
from streamcore.formats import JsonSchema, decoder_for
from streamcore.formats.json_schema import schema_of
from streamcore.references import SchemaRegistry
from streamcore.schema import StreamSchema

FORM = JsonSchema(SchemaRegistry("http://127.0.0.1:1"))


class User(sc.Event):
    id: int
    name: str | None = None


def test_documents_are_read_behind_their_frame_and_others_are_rejects() -> None:
    frame = pl.DataFrame({"id": range(50), "name": [None, "x"] * 25})
    values = replace(FORM, registered=258).encode(frame).to_pylist()
    assert values[0].startswith(b'\x00\x00\x00\x01\x02{"id":0')
    bad = [None, b"", b'{"id": 1}', b'\x00\x00\x00\x01\x02{"id": "x"}', b"\x00\x00\x00\x01\x02"]
    chunk = RecordChunk(PartitionId("t", 0, "x"), range(55), [*bad, *values])
    decoded = decoder_for(FORM, StreamSchema.of(User)).decode(chunk)
    assert decoded.frame.drop(HIDDEN).equals(frame)
    assert decoded.frame[OFFSET].to_list() == list(range(5, 55))
    codes = decoded.rejects.frame["code"].to_list()
    assert codes[:3] == ["tombstone", "framing", "framing"]
    assert len(codes) == 5


def test_the_schema_of_columns_is_closed_and_each_may_be_null() -> None:
    columns = {"n": pl.Int64, "when": pl.Datetime("us", "UTC"), "tags": pl.List(pl.String)}
    inner = pl.Struct({"x": pl.Float64, "raw": pl.Binary})
    assert json.loads(schema_of(pl.Schema({**columns, "in": inner}))) == {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "row",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "n": {"type": ["integer", "null"]},
            "when": {"type": ["string", "null"], "format": "date-time"},
            "tags": {"type": ["array", "null"], "items": {"type": ["string", "null"]}},
            "in": {
                "type": ["object", "null"],
                "properties": {
                    "x": {"type": ["number", "null"]},
                    "raw": {"type": ["string", "null"], "contentEncoding": "base64"},
                },
            },
        },
    }
    with pytest.raises(BadConfig, match=r"'d'.*JSON does not have.*cast_type"):
        FORM.encode(pl.DataFrame(schema={"d": pl.Object}))


def test_it_is_registered_under_the_topics_name_before_it_writes() -> None:
    asked: list[tuple[str, str, str]] = []

    class Registry(SchemaRegistry):
        async def register(self, subject: str, schema: str, kind: str = "AVRO") -> int:
            asked.append((subject, json.loads(schema)["title"], kind))
            return 7

    form = JsonSchema(Registry("http://127.0.0.1:1"))
    with pytest.raises(Permanent, match="registered"):
        form.encode(pl.DataFrame({"id": [1]}))
    ready = asyncio.run(form.prepared("users", pl.Schema({"id": pl.Int64})))
    assert ready.encode(pl.DataFrame({"id": [1]})).to_pylist() == [b'\x00\x00\x00\x00\x07{"id":1}']
    asyncio.run(replace(form, subject="mine").prepared("users", pl.Schema({"id": pl.Int64})))
    assert asked == [("users-value", "row", "JSON"), ("mine", "row", "JSON")]
