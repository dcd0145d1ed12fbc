"""The chunk transport on a real broker: every record once, in order, whatever the start."""

from __future__ import annotations

import asyncio

import pytest

from streamcore.systems.kafka import KafkaConnection
from streamcore.transport.chunks import Fetches
from streamcore.transport.kafka_log import KafkaLog
from tests.integration.transport.kafka_apps import (
    KEEP,
    collect,
    committed,
    filled,
    fresh,
    new_app,
    records,
    running,
    until,
)


@pytest.fixture
async def log(kafka):
    log = KafkaLog(KafkaConnection.parse(kafka.url))
    yield log
    await log.close()


async def test_ten_starts_each_read_every_record_once_in_order(kafka, log, tmp_path):
    """Faust's start-up race lost records in two of six starts."""
    topic = fresh("race")
    await filled(log, topic, 20_000)
    for _ in range(10):
        app = new_app(kafka.url, tmp_path, fresh("group"))
        got = collect(app, [topic])
        async with running(app):
            await until(lambda got=got: sum(map(len, got.chunks)) >= 20_000)
            await asyncio.sleep(0)
        assert sorted(got.numbers()) == list(range(20_000))
        assert got.joins()


async def test_a_restart_goes_on_from_the_commit(kafka, log, tmp_path):
    topic, group = fresh("resume"), fresh("group")
    await filled(log, topic, 5_000)
    first_app = new_app(kafka.url, tmp_path, group)
    first = collect(first_app, [topic])
    async with running(first_app):
        await until(lambda: sum(map(len, first.chunks)) == 5_000)
    commits = await committed(kafka.url, group)
    bounds = await log.bounds(topic)
    ends = {partition: bound.end for partition, bound in bounds.items() if bound.end}
    assert {tp[1]: offset for tp, (offset, _) in commits.items()} == ends
    assert {metadata for _, metadata in commits.values()} == {first.chunks[0].source.topic_id}
    await (await log.append(topic, records(5_000, 3_000)))
    second_app = new_app(kafka.url, tmp_path, group)
    second = collect(second_app, [topic])
    async with running(second_app):
        await until(lambda: sum(map(len, second.chunks)) >= 3_000)
    assert sorted(second.numbers()) == list(range(5_000, 8_000))


async def test_a_stream_from_latest_reads_only_what_comes_after_its_first_start(kafka, log, tmp_path):
    topic, group = fresh("latest"), fresh("group")
    await filled(log, topic, 100)
    for start in (100, 150):
        app = new_app(kafka.url, tmp_path, group, consumer_auto_offset_reset="latest")
        got = collect(app, [topic])
        async with running(app):
            await until(lambda app=app: app.consumer._chunked_assigned)
            await (await log.append(topic, records(start, 50)))
            await until(lambda got=got: sum(map(len, got.chunks)) >= 50)
        assert sorted(got.numbers()) == list(range(start, start + 50))


async def test_the_public_way_of_fetching_gives_the_same(kafka, log, tmp_path, monkeypatch):
    """STREAMCORE_PUBLIC_FETCH=1, and an aiokafka without the private names."""
    monkeypatch.setenv("STREAMCORE_PUBLIC_FETCH", "1")
    topic = fresh("public")
    await log.create(topic, 4, KEEP)
    await (await log.append(topic, records(0, 3_000, headers=(("h", b"x"),))))
    app = new_app(kafka.url, tmp_path, fresh("group"))
    got = collect(app, [topic])
    async with running(app):
        assert not app.consumer._thread.whole_batches
        await until(lambda: sum(map(len, got.chunks)) >= 3_000)
    assert sorted(got.numbers()) == list(range(3_000))
    assert got.joins()
    chunk = got.chunks[0]
    assert chunk.headers(int(chunk.offsets()[0])) == (("h", b"x"),)


async def test_a_chunk_has_all_columns_of_its_records(kafka, log, tmp_path):
    topic = fresh("columns")
    await log.create(topic, 1, KEEP)
    await (await log.append(topic, records(0, 500, headers=(("h", b"x"),))))
    app = new_app(kafka.url, tmp_path, fresh("group"))
    got = collect(app, [topic])
    async with running(app):
        assert app.consumer._thread.whole_batches
        await until(lambda: got.chunks)
    (chunk,) = got.chunks
    assert chunk.covered == (0, 500)
    assert chunk.offsets().tolist() == list(range(500))
    assert chunk.values() == [b"%d" % i for i in range(500)]
    assert chunk.keys() == [b"%d" % (i % 100) for i in range(500)]
    assert chunk.timestamps().tolist() == [1_767_225_600_000 + i for i in range(500)]
    assert chunk.headers(499) == (("h", b"x"),)
    assert chunk.original(7).data == b"7"
    assert (chunk.source.topic, chunk.source.partition) == (topic, 0)


async def test_a_killed_broker_that_comes_back_loses_and_repeats_nothing(own_kafka, tmp_path):
    """Consumer and log wait for it; an append that is on its way ends when it is back."""
    log = KafkaLog(KafkaConnection.parse(own_kafka.url))
    topic = fresh("killed")
    await filled(log, topic, 1_000)
    app = new_app(own_kafka.url, tmp_path, fresh("group"))
    got = collect(app, [topic])
    async with running(app):
        await until(lambda: sum(map(len, got.chunks)) == 1_000)
        await asyncio.to_thread(own_kafka.kill)
        on_its_way = await log.append(topic, records(1_000, 1_000))
        await asyncio.to_thread(own_kafka.start)
        await on_its_way
        await until(lambda: sum(map(len, got.chunks)) >= 2_000, 60)
        assert sorted(got.numbers()) == list(range(2_000))
        assert got.joins()
    await log.close()


async def test_the_broker_waits_for_as_many_bytes_as_are_asked_for(kafka, log, tmp_path):
    topic = fresh("waiting")
    await log.create(topic, 1, KEEP)
    app = new_app(kafka.url, tmp_path, fresh("group"))
    app.streamcore_fetches = Fetches(min_bytes=10_000, max_wait=30.0)
    got = collect(app, [topic])
    async with running(app):
        await until(lambda: app.consumer._chunked_assigned)
        await (await log.append(topic, records(0, 1)))
        await asyncio.sleep(1.0)
        assert not got.chunks
        await (await log.append(topic, records(1, 20_000)))
        await until(lambda: sum(map(len, got.chunks)) > 20_000)
    assert got.chunks[0].first == 0
    assert len(got.chunks[0]) > 1
    assert got.numbers() == list(range(20_001))
