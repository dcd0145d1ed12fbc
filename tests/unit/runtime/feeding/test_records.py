"""What the workers read is what the source held: good rows typed, refused ones as they came."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import polars as pl
import pytest
from pydantic import Field

import streamcore as sc
from streamcore.batch import FrameChunk, Original, PartitionId, RecordChunk, Rejects
from streamcore.contracts.unbounded import Taken
from streamcore.formats import decoder_for
from streamcore.graph import Source
from streamcore.runtime.feeding.records import At, Label, RowMaker, unpack_at
from streamcore.runtime.live.records import RecordMaker
from tests.unit.topology.collecting import Collect

SOURCE = PartitionId("t", 0, "test")


class Reading(sc.Event):
    device: str = Field(validation_alias="Device Id")
    value: int = Field(ge=0)


def source(format: str = "json", key: str | tuple[str, ...] = "device") -> Source:
    topology = sc.Topology("t")
    topology.stream("t", Reading, key=key, format=format).to(Collect("out"))
    part = topology.freeze().sources["t"].part
    assert isinstance(part, Source)
    return part


def frame_chunk(columns: dict[str, list[object]]) -> FrameChunk:
    frame = pl.DataFrame(columns)
    return FrameChunk(SOURCE, np.arange(frame.height, dtype=np.int64) * 10, frame, first=0, end=1000)


class Ragged(FrameChunk):
    """A chunk of a file that holds a record at 5 which is no row."""

    __slots__ = ()

    def original(self, offset: int) -> Original:
        return Original(b"x,y,z", "bytes") if offset == 5 else super().original(offset)


@pytest.mark.parametrize("format", ["json", "arrow", "ndjson", "json_array"])
def test_workers_find_the_same_rows_and_refuse_the_same(format: str) -> None:
    part = source(format)
    chunk = frame_chunk({"Device Id": ["a", None, "c", "d"], "value": [1, 2, -3, 4]})
    rows = RowMaker(part).make(chunk)
    here = decoder_for(part.format, part.schema).decode(chunk)
    there = decoder_for(part.format, part.schema).decode(
        RecordChunk(SOURCE, [0, 10, 20, 30], rows.values.to_pylist())
    )
    assert there.frame.equals(here.frame)
    assert there.rejects.frame["_offset"].to_list() == here.rejects.frame["_offset"].to_list() == [10, 20]
    assert rows.keys.to_pylist() == [b"a", None, None, b"d"]


def test_a_record_of_several_rows_goes_in_whole_when_one_is_refused() -> None:
    texts = [
        b'[{"Device Id": "a", "value": 1}, {"Device Id": "b", "value": 2}]',
        b'[{"Device Id": "c", "value": 3}, 4]',
    ]
    rows = RowMaker(source("json_array")).make(RecordChunk(SOURCE, [5, 9], texts))
    assert [json.loads(v)[0]["Device Id"] for v in rows.values.to_pylist()] == ["a", "b", "c"]
    assert rows.values[2].as_py() == texts[1]
    assert [unpack_at(at) for at in rows.at.to_pylist()] == [At(5, 0), At(5, 1), At(9, 0)]


def test_records_that_could_not_be_cut_go_in_as_they_are() -> None:
    places = pl.DataFrame({"_offset": [5], "_sub": [0]}, {"_offset": pl.Int64, "_sub": pl.UInt32})
    bad = Rejects.of(places, "read", "ragged", "")
    frame = pl.DataFrame({"Device Id": ["a", "b"], "value": ["1", "2"]})
    chunk = Ragged(SOURCE, np.array([0, 9], np.int64), frame, first=0, end=12, rejects=bad)
    rows = RowMaker(source()).make(chunk)
    assert rows.values.to_pylist()[1] == b"x,y,z"
    assert rows.places["_offset"].to_list() == [0, 5, 9]


@pytest.mark.parametrize("key", ["device", ()])
def test_a_rows_partition_does_not_depend_on_how_it_was_read(key: str | tuple[str, ...]) -> None:
    maker = RowMaker(source(key=key))
    ids = [str(i) if i % 5 else None for i in range(100)]
    texts = [json.dumps({"Device Id": i, "value": 1}).encode() for i in ids]
    whole = maker.make(RecordChunk(SOURCE, range(100), texts)).partitions(7)
    cuts = [
        maker.make(RecordChunk(SOURCE, range(a, a + 10), texts[a : a + 10])).partitions(7)
        for a in range(0, 100, 10)
    ]
    assert np.concatenate(cuts).tolist() == whole.tolist()
    assert len(set(whole.tolist())) == 7


def test_labels_are_read_back_and_foreign_ones_are_none() -> None:
    label = Label("abc-0", 3, 12345)
    assert Label.unpack(label.pack()) == label
    assert Label.unpack(b"\xff other") is None
    assert Label.unpack(b"a b c") is None


class Registry(sc.SchemaRegistry):
    """Knows each schema as 7."""

    async def register(self, subject: str, schema: str, kind: str = "AVRO") -> int:
        assert (subject, kind) == ("t-value", "AVRO")
        return 7


def test_rows_of_a_format_with_a_registry_are_written_with_the_id_of_their_schema() -> None:
    form = sc.Avro(Registry("http://127.0.0.1:1"))
    node = sc.Topology("t").stream("rows", {"id": "int64"}, key="id", topic="t", format=form).node
    assert isinstance(node.part, Source)
    frame = FrameChunk(SOURCE, np.arange(3), pl.DataFrame({"id": [1, 2, 3]}), first=0, end=3)
    bounded, unbounded = RowMaker(node.part), RecordMaker(node.part)
    asyncio.run(bounded.start("t"))
    asyncio.run(unbounded.start())
    records = unbounded.make([Taken(frame)], 0)
    assert records is not None
    for values in (bounded.make(frame).values, records.values):
        assert values.to_pylist() == [b"\0\0\0\0\7\2" + bytes([2 * number]) for number in (1, 2, 3)]
