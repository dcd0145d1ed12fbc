"""Kafka as a Log: durable appends in order, reading ranges, topics; and the topic sink upon it."""

from __future__ import annotations

import asyncio
import os
import struct

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.partitioner import murmur2

from streamcore.batch import Batch, PartitionId, Range, RecordChunk, hide
from streamcore.contracts import FlushReason, Records, SinkContext
from streamcore.errors import Permanent, Transient
from streamcore.sinks.topic import Topic
from streamcore.sinks.topic_records import source_name
from streamcore.systems.kafka import KafkaConnection
from streamcore.transport import kafka_log
from streamcore.transport.kafka_log import KafkaLog
from tests.integration.transport.kafka_apps import KEEP, fresh, records


@pytest.fixture
async def log(kafka):
    log = KafkaLog(KafkaConnection.parse(kafka.url))
    yield log
    await log.close()


async def read(
    log: KafkaLog, topic: str, partition: int, start: int = 0, end: int = 1 << 60
) -> list[RecordChunk]:
    return [chunk async for chunk in log.scan(topic, partition, start, end)]


async def test_appended_records_are_read_back_by_key_and_in_order(log):
    topic = fresh("append")
    assert await log.bounds(topic) == {}
    assert await log.create(topic, 4, KEEP)
    assert not await log.create(topic, 4, KEEP), "it exists"
    outcomes = [
        await log.append(topic, records(n, 5_000, headers=(("h", b"x"),))) for n in range(0, 50_000, 5_000)
    ]
    await asyncio.gather(*outcomes)
    bounds = await log.bounds(topic)
    assert sum(bound.end for bound in bounds.values()) == 50_000
    for partition, bound in bounds.items():
        chunks = await read(log, topic, partition)
        assert [c.first for c in chunks] == [0, *(c.end for c in chunks[:-1])]
        assert not chunks or chunks[-1].end == bound.end
        numbers = [int(v) for c in chunks for v in c.values()]
        assert numbers == sorted(numbers)
        for chunk in chunks:
            assert chunk.source.topic_id.count("/") == 1
            keys = set(chunk.keys())
            assert {(murmur2(key) & 0x7FFFFFFF) % 4 for key in keys} == {partition}
            assert chunk.headers(int(chunk.offsets()[-1])) == (("h", b"x"),)
            assert [t - 1_767_225_600_000 for t in chunk.timestamps()] == [int(v) for v in chunk.values()]


async def test_a_scan_gives_exactly_the_range(log):
    topic = fresh("range")
    await log.create(topic, 1, KEEP)
    await (await log.append(topic, records(0, 1_000)))
    assert [int(v) for c in await read(log, topic, 0, 250, 700) for v in c.values()] == list(range(250, 700))
    assert await read(log, topic, 0, 1_000) == []
    with pytest.raises(Permanent, match="does not exist"):
        await read(log, topic, 1)


async def test_a_broker_that_fails_at_once_is_an_error_that_says_so(log, monkeypatch):
    async def failing(*_):
        raise Transient("Kafka failed", where="here")

    monkeypatch.setattr(kafka_log, "describe_topics", failing)
    with pytest.raises(Transient, match="Kafka failed"):
        await log.bounds("t")


async def test_tombstones_partitions_and_records_without_keys(log):
    topic = fresh("kinds")
    await log.create(topic, 3, KEEP)
    times = np.full(3, 1_767_225_600_000)
    values = pa.array([b"a", None, b"c"], pa.binary())
    await (await log.append(topic, Records(values, times, partitions=np.array([2, 0, 2], np.int32))))
    assert [v for c in await read(log, topic, 2) for v in c.values()] == [b"a", b"c"]
    assert [v for c in await read(log, topic, 0) for v in c.values()] == [None]
    for _ in range(3):
        await (await log.append(topic, Records(values, times)))
    ends = [bound.end for bound in (await log.bounds(topic)).values()]
    assert ends == [1 + 3, 3, 2 + 3], "each keyless append goes to the next partition"


async def test_a_record_too_large_is_permanent_and_later_appends_work(log):
    topic = fresh("large")
    await log.create(topic, 1, KEEP)
    large = Records(pa.array([os.urandom(3_000_000)], pa.binary()), np.array([1_767_225_600_000]))
    await (await log.append(topic, records(0, 10)))
    bad = await log.append(topic, large)
    behind = await log.append(topic, records(90, 10))
    with pytest.raises(Permanent, match="larger than the topic takes"):
        await bad
    with pytest.raises(Transient):  # its sequence number does not follow: it can't overtake the lost one
        await behind
    await (await log.append(topic, records(10, 10)))
    assert [int(v) for c in await read(log, topic, 0) for v in c.values()] == list(range(20))


async def test_missing_topics_and_partitions_are_permanent(log):
    with pytest.raises(Permanent, match="does not exist; create it"):
        await log.append(fresh("missing"), records(0, 1))
    topic = fresh("few")
    await log.create(topic, 2, KEEP)
    with pytest.raises(Permanent, match="fewer partitions than the records name, got 2, allowed: 0 to 1"):
        await log.append(
            topic, Records(pa.array([b"a"], pa.binary()), np.array([1]), partitions=np.array([2], np.int32))
        )


async def test_a_bad_topic_setting_is_permanent(log):
    with pytest.raises(Permanent):
        await log.create(fresh("bad"), 1, {"retention.ms": "never"})


async def test_a_topic_waits_for_brokers_that_the_controller_misses(log, monkeypatch):
    asked = AIOKafkaAdminClient.create_topics
    factors = [3, 3]  # more than there are brokers: the answer of a controller that misses some

    async def short_of_brokers(admin, topics):
        wanted = topics[0].replication_factor
        topics[0].replication_factor = factors.pop() if factors else wanted
        try:
            return await asked(admin, topics)
        finally:
            topics[0].replication_factor = wanted

    monkeypatch.setattr(AIOKafkaAdminClient, "create_topics", short_of_brokers)
    topic = fresh("patience")
    assert await log.create(topic, 1, KEEP)
    assert not factors
    assert set(await log.bounds(topic)) == {0}


async def test_bytes_in_flight_are_bounded(kafka):
    log = KafkaLog(KafkaConnection.parse(kafka.url), in_flight_bytes=50_000)
    topic = fresh("bounded")
    await log.create(topic, 1, KEEP)
    most, outcomes = 0, []
    for start in range(0, 40_000, 4_000):
        noise = pa.array([os.urandom(10) for _ in range(4_000)], pa.binary())
        outcomes.append(await log.append(topic, Records(noise, np.arange(start, start + 4_000))))
        most = max(most, log._in_flight)
    await asyncio.gather(*outcomes)
    assert 0 < most <= 80_000, "a batch of its own may pass the bound"
    assert log._in_flight == 0
    assert (await log.bounds(topic))[0].end == 40_000
    await log.close()


async def test_over_tls_with_a_password(kafka):
    login = f"{kafka.user}:{kafka.password}@{kafka.sasl_ssl}"
    log = KafkaLog(KafkaConnection.parse(f"kafka://{login}?ca_file={kafka.ca_file}"))
    topic = fresh("secure")
    await log.create(topic, 1, KEEP)
    await (await log.append(topic, records(0, 10)))
    assert [int(v) for c in await read(log, topic, 0) for v in c.values()] == list(range(10))
    await log.close()


async def test_the_topic_sink_writes_rows_with_their_origin(log):
    async def refuse(batch, rejects):
        raise AssertionError

    name = fresh("sink")
    context = SinkContext(
        topology="t", sink=f"topic:{name}", columns=pl.Schema({"id": pl.Int64}), key=("id",), event_time=None,
        clock=lambda: 1_700_000_000.0, owner="w", refuse=refuse, memory_limit=1 << 20,
        crash_point=lambda name: None, log=log,
    )  # fmt: skip
    writer = Topic(name, create=True, partitions=2).writer(context)
    await writer.start()
    source = PartitionId("in", 3, "cluster/uuid")
    await writer.open({source: 0})
    for start in range(0, 1_000, 100):
        offsets = np.arange(start, start + 100, dtype=np.int64)
        chunk = RecordChunk(source, offsets, [b""] * 100, timestamps=offsets)
        await writer.write(
            Batch(hide(pl.DataFrame({"id": offsets}), offsets), {source: Range(start, start + 100)}, chunk)
        )
    assert await writer.flush(FlushReason.END) == {source: 1_000}
    chunks = [c for partition in (0, 1) for c in await read(log, name, partition)]
    origins = {}
    for chunk in chunks:
        for offset, value in zip(chunk.offsets(), chunk.values(), strict=True):
            headers = dict(chunk.headers(int(offset)))
            name, *place = struct.unpack(">8sqI", headers["sc-position"])
            assert name == source_name(source)
            origins[tuple(place)] = value
    assert origins == {(i, 0): b'{"id":%d}' % i for i in range(1_000)}
