"""Chunks of several partitions as one: whose record is whose, and when they go one by one after all."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

import streamcore as sc
from streamcore.batch import OFFSET, SUB, Chunk, PartitionId, RecordChunk, Rejects
from streamcore.errors import Permanent
from streamcore.joint import JointChunk, on_chunks
from streamcore.passage import RowId
from streamcore.task import PartitionTask
from tests.unit.topology.collecting import Collect


class User(sc.Event):
    id: int


def chunk(partition: int, first: int, *values: bytes, holes: int = 0) -> RecordChunk:
    at = range(first, first + len(values))
    return RecordChunk(
        PartitionId("users", partition, "id"),
        list(at),
        list(values),
        end=at.stop + holes,
        first=first,
        keys=[b"key %d" % offset for offset in at],
        timestamps=np.array(at, np.int64),
        headers=[(("h", b"%d" % offset),) for offset in at],
    )


def tasks(topology: sc.Topology, *known: RowId) -> list[PartitionTask]:
    graph = topology.freeze()
    return [PartitionTask(graph, "users", PartitionId("users", p, "id"), known=known) for p in range(2)]


def people(**rules: str) -> sc.Topology:
    topology = sc.Topology("people")
    stream = topology.stream("users", User)
    (stream.validate(sc.rules.range("id", max=9, **rules)) if rules else stream).to(Collect("out"))
    return topology


def test_a_joint_chunk_has_the_records_of_its_parts() -> None:
    joint = JointChunk([chunk(0, 500, b"a", b"b", holes=3), chunk(1, 7, b"c"), chunk(0, 505, b"d")])
    assert (joint.first, joint.end, len(joint)) == (0, 7, 4)
    assert joint.offsets().tolist() == [0, 1, 5, 6]
    assert joint.values() == [b"a", b"b", b"c", b"d"]
    assert joint.keys() == [b"key 500", b"key 501", b"key 7", b"key 505"]
    stamps = joint.timestamps()
    assert stamps is not None
    assert stamps.tolist() == [500, 501, 7, 505]
    assert [joint.headers(at)[0][1] for at in (0, 1, 5, 6)] == [b"500", b"501", b"7", b"505"]
    assert [joint.original(at).data for at in (0, 1, 5, 6)] == [b"a", b"b", b"c", b"d"]


def test_what_a_part_could_not_read_is_refused_at_its_own_position() -> None:
    broken = chunk(1, 40, b'{"id": 1}', holes=1)
    row = pl.DataFrame({OFFSET: [41], SUB: [0]}, schema={OFFSET: pl.Int64, SUB: pl.UInt32})
    broken.rejects = Rejects.of(row, "read", "corrupt", "bad")
    both = tasks(people())
    first, second = on_chunks([(both[0], chunk(0, 9, b'{"id": 2}')), (both[1], broken)])
    assert (len(first.rejects), first.records) == (0, 1)
    assert (second.rejects.frame.rows(), second.records) == ([(41, 0, "read", "corrupt", "bad")], 2)
    assert second.writes["out"].frame.rows() == [(1, 40, 0, 0)]


def test_a_rule_that_stops_names_the_position_in_the_partition() -> None:
    both = tasks(people(on_fail="stop"))
    work: list[tuple[PartitionTask, Chunk]] = [
        (both[0], chunk(0, 0, b'{"id": 2}')),
        (both[1], chunk(1, 40, b'{"id": 3}', b'{"id": 10}')),
    ]
    with pytest.raises(Permanent, match="position 41"):
        on_chunks(work)


def test_known_dead_letters_are_refused_again_in_their_own_partition() -> None:
    both = tasks(people(), RowId("decode", 0, 0))
    assert not both[0].joins
    first, second = on_chunks([(both[0], chunk(0, 0, b"{")), (both[1], chunk(1, 0, b'{"id": 1}', b"{"))])
    assert not len(first.rejects)
    assert second.rejects.frame[OFFSET].to_list() == [1]


def test_partitions_with_a_watermark_do_not_join() -> None:
    topology = sc.Topology("timed")
    users = topology.stream("users", {"id": "int64", "at": "datetime"}, event_time="at")
    users.window(sc.tumbling("1h")).aggregate(n="count(*)").to(Collect("out"))
    assert not tasks(topology)[0].joins
