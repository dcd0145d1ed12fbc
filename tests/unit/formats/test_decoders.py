"""What a decoder does besides reading: names, defaults, missing columns, refusals at load."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from pydantic import Field, field_validator

from streamcore.batch import HIDDEN, OFFSET, FrameChunk, PartitionId, RecordChunk
from streamcore.contracts import Decoded
from streamcore.errors import BadConfig
from streamcore.formats import Arrow, Json, Raw, decoder_for, format_named
from streamcore.schema import Event, StreamSchema

SOURCE = PartitionId("t", 0, "id")


class Strike(Event):
    airport: str = Field(alias="Airport Name")
    height: int = Field(0, ge=0)
    note: str | None = None


SCHEMA = StreamSchema.of(Strike)


def from_frame(frame: pl.DataFrame, schema: StreamSchema = SCHEMA) -> Decoded:
    chunk = FrameChunk(SOURCE, np.arange(frame.height), frame, first=0, end=frame.height)
    return decoder_for(Json(), schema).decode(chunk)


def from_json(values: list[bytes | None], schema: StreamSchema = SCHEMA) -> Decoded:
    return decoder_for(Json(), schema).decode(RecordChunk(SOURCE, range(len(values)), values))


def test_aliases_names_and_defaults_in_frames() -> None:
    for name in ("Airport Name", "airport"):
        frame = pl.DataFrame({name: ["BER", None], "other": [1, 2]})
        decoded = from_frame(frame)
        assert decoded.frame.drop(HIDDEN).rows() == [("BER", 0, None)]
        assert decoded.rejects.frame.select(OFFSET, "stage", "code").rows() == [(1, "schema", "schema")]


@pytest.mark.parametrize("many", [1, 100], ids=["by rows", "by columns"])
def test_aliases_names_and_defaults_in_json(many: int) -> None:
    texts = [
        b'{"Airport Name":"A"}',
        b'{"airport":"B","height":3}',
        b'{"airport":"C","Airport Name":"D"}',
        b"{}",
    ]
    decoded = from_json([*texts, *[texts[0]] * many])
    assert decoded.frame.drop(HIDDEN).rows()[:3] == [("A", 0, None), ("B", 3, None), ("D", 0, None)]
    assert decoded.rejects.frame[OFFSET].to_list() == [3]


def test_a_missing_column_names_what_there_is() -> None:
    with pytest.raises(BadConfig, match=r"no column 'Airport Name' or 'airport', allowed: Airports, height"):
        from_frame(pl.DataFrame({"Airports": ["BER"], "height": [1]}))


def test_python_validators_see_every_row() -> None:
    class Upper(Event):
        code: str

        @field_validator("code")
        @classmethod
        def upper(cls, value: str) -> str:
            return value.upper()

    schema = StreamSchema.of(Upper)
    assert from_frame(pl.DataFrame({"code": ["a", "b"]}), schema).frame["code"].to_list() == ["A", "B"]
    assert from_json([b'{"code":"a"}'] * 100, schema).frame["code"].to_list() == ["A"] * 100


def test_formats_by_name() -> None:
    assert format_named("ndjson") == Json(lines=True)
    with pytest.raises(BadConfig, match="did you mean 'json'"):
        format_named("jsn")


def test_raw_keeps_keys_and_tombstones_and_takes_no_other_columns() -> None:
    decoder = decoder_for(Raw(), StreamSchema.from_columns({"key": "binary", "value": "binary"}))
    decoded = decoder.decode(RecordChunk(SOURCE, [3, 4], [b"v", None], keys=[None, b"k"]))
    assert decoded.frame.drop(HIDDEN).rows() == [(None, b"v"), (b"k", None)]
    required = StreamSchema.from_columns({"value": "binary"}, required=frozenset({"value"}))
    refused = decoder_for(Raw(), required).decode(RecordChunk(SOURCE, [3, 4], [b"v", None]))
    assert refused.rejects.frame.select(OFFSET, "code").rows() == [(4, "null")]
    with pytest.raises(BadConfig, match="'airport'"):
        decoder_for(Raw(), SCHEMA)
    with pytest.raises(BadConfig, match="needs a column 'value'"):
        Raw().encode(pl.DataFrame({"a": [1]}))


def test_json_refuses_types_that_it_can_not_hold() -> None:
    with pytest.raises(BadConfig, match=r"JSON can't hold column 'a'.*Categorical"):
        decoder_for(Json(), StreamSchema(pl.Schema({"a": pl.Categorical()})))
    with pytest.raises(BadConfig, match="choose one"):
        Json(lines=True, array=True)


def test_json_writes_no_nan() -> None:
    frame = pl.DataFrame({"f": [1.5, float("nan"), float("inf"), None]})
    assert Json().encode(frame).to_pylist() == [b'{"f":1.5}', *[b'{"f":null}'] * 3]


def test_arrow_messages_of_other_columns_are_refused_one_by_one() -> None:
    arrow = Arrow()
    good = arrow.message(pl.DataFrame({"airport": ["A", "B"], "height": [1, -1]}))
    bad = arrow.message(pl.DataFrame({"x": [1]}))
    decoder = decoder_for(arrow, SCHEMA)
    decoded = decoder.decode(RecordChunk(SOURCE, range(4), [good, bad, good, None]))
    assert decoded.frame.select("_offset", "_sub", "airport").rows() == [(0, 0, "A"), (2, 0, "A")]
    assert decoded.rejects.frame.select("_offset", "_sub", "code").rows() == [
        (0, 1, "schema"),
        (1, 0, "columns"),
        (2, 1, "schema"),
        (3, 0, "tombstone"),
    ]
