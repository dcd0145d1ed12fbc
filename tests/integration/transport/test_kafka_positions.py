"""The runtime's say in each rebalance, topics that changed, transactions, plain Faust beside chunks."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import faust
import numpy as np
import pyarrow as pa
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.structs import TopicPartition
from faust.types import TP

from streamcore.batch import PartitionId
from streamcore.contracts import Lane, Records
from streamcore.errors import Fenced, TopicChanged, Transient
from streamcore.systems.kafka import KafkaConnection
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


@pytest.fixture
async def admin(kafka):
    admin = AIOKafkaAdminClient(**KafkaConnection.parse(kafka.url).client_options())
    await admin.start()
    yield admin
    await admin.close()


class Sinks:
    """Positions as the runtime keeps them; ``places`` wins over the group's commit."""

    def __init__(self, places: Mapping[int, int] | None = None) -> None:
        self.places = dict(places or {})
        self.starts: list[dict[PartitionId, int]] = []
        self.confirmed: dict[TP, int] = {}
        self.left: list[set[TP]] = []

    async def assigned(self, starts):
        self.starts.append(dict(starts))
        return {source: self.places.get(source.partition, start) for source, start in starts.items()}

    def commit_position(self, tp):
        return self.confirmed.get(tp)

    async def revoked(self, tps):
        self.left.append(tps)
        self.confirmed.update(dict.fromkeys(tps, 7))


async def test_positions_say_where_to_read_and_what_to_commit(kafka, log, tmp_path):
    topic, group = fresh("positions"), fresh("group")
    await filled(log, topic, 1_000, partitions=1)
    app = new_app(kafka.url, tmp_path, group)
    app.streamcore_positions = sinks = Sinks({0: 400})
    got = collect(app, [topic])
    async with running(app):
        await until(lambda: got.chunks and got.chunks[-1].end == 1_000)
        await asyncio.sleep(0.5)  # commits are tried every 0.2 s
        assert await committed(kafka.url, group) == {}
        sinks.confirmed[TP(topic, 0)] = 5
        await until(lambda: app.consumer._committed_offset[TP(topic, 0)] == 5)
    assert got.numbers() == list(range(400, 1_000))
    (starts,) = sinks.starts
    ((source, start),) = starts.items()
    assert (source.topic, source.partition, start) == (topic, 0, 0)
    assert sinks.left == [{TP(topic, 0)}]
    commits = await committed(kafka.url, group)
    assert commits[(topic, 0)] == (7, source.topic_id), "what revoked() made durable is in the last commit"


async def test_two_members_share_and_nothing_is_lost_or_stale(kafka, log, tmp_path):
    """The second member takes partitions over; each partition's chunks follow one another in each member."""
    topic, group = fresh("share"), fresh("group")
    await filled(log, topic, 8_000)
    first_app, second_app = (new_app(kafka.url, tmp_path / name, group) for name in "ab")
    first, second = collect(first_app, [topic]), collect(second_app, [topic])
    async with running(first_app):
        await until(lambda: sum(map(len, first.chunks)) == 8_000)
        await asyncio.sleep(0.5)
        async with running(second_app):
            await until(lambda: len(second_app.consumer._chunked_assigned) == 2)
            await until(lambda: len(first_app.consumer._chunked_assigned) == 2)
            await (await log.append(topic, records(8_000, 8_000)))
            await until(lambda: sum(map(len, first.chunks + second.chunks)) >= 16_000)
        await until(lambda: len(first_app.consumer._chunked_assigned) == 4)
        await (await log.append(topic, records(16_000, 1_000)))
        await until(lambda: sum(map(len, first.chunks + second.chunks)) >= 17_000)
    numbers = first.numbers() + second.numbers()
    assert sorted(numbers) == list(range(17_000))
    assert second.chunks
    assert second.joins()


async def test_a_record_agent_and_a_table_work_beside_a_chunked_stream(kafka, log, tmp_path):
    chunked, plain, group = fresh("chunked"), fresh("plain"), fresh("group")
    await filled(log, chunked, 2_000)
    await filled(log, plain, 300)
    for run in (1, 2):
        app = new_app(kafka.url, tmp_path, group)
        table = app.Table(f"{group}-counts", default=int, partitions=4)
        got, seen = collect(app, [chunked]), []

        @app.agent(app.topic(plain, value_type=bytes, key_type=bytes, value_serializer="raw"))
        async def one_by_one(stream, table=table, seen=seen):
            async for event in stream.events():
                table[event.key.decode()] += 1
                seen.append(int(event.value))

        async with running(app):
            await until(lambda seen=seen: len(seen) == 300)
            if run == 1:
                await until(lambda got=got: sum(map(len, got.chunks)) == 2_000)
            assert sum(table.values()) == 300 * run, "the table came back from its changelog"
        assert sorted(seen) == list(range(300 * (run - 1), 300 * run))
        await (await log.append(plain, records(300 * run, 300)))
    assert got.chunks == []


@pytest.mark.parametrize("whole_batches", [True, False])
async def test_aborted_transactions_are_skipped_and_covered(kafka, log, tmp_path, monkeypatch, whole_batches):
    monkeypatch.setenv("STREAMCORE_PUBLIC_FETCH", "0" if whole_batches else "1")
    topic, group = fresh("transactions"), fresh("group")
    await log.create(topic, 1, KEEP)
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id=fresh("tx"))
    await producer.start()
    for number in range(9):
        await producer.begin_transaction()
        for i in range(10):
            await producer.send(topic, b"%d" % (number * 10 + i), partition=0)
        await (producer.abort_transaction() if number % 3 == 2 else producer.commit_transaction())
    await producer.stop()
    app = new_app(kafka.url, tmp_path, group)
    got = collect(app, [topic])
    end = 9 * 11
    async with running(app):
        await until(lambda: got.chunks and got.chunks[-1].end == end)
        await until(lambda: app.consumer._committed_offset[TP(topic, 0)] == end)
    assert got.numbers() == [n for n in range(90) if n // 10 % 3 != 2]
    assert got.joins()
    for chunk in got.chunks:
        assert len(chunk.offsets()) == len(chunk.values()) == len(chunk) == len(chunk.keys())


async def stopped_by(app: faust.App) -> BaseException | None:
    """What the app crashed with."""
    app.finalize()
    await app.start()
    try:
        await until(lambda: app.crashed or app.crash_reason)
    finally:
        await app.stop()
    return app.crash_reason


async def test_a_topic_that_was_made_again_stops_the_worker(kafka, log, admin, tmp_path):
    topic, group = fresh("again"), fresh("group")
    await filled(log, topic, 500, partitions=1)
    app = new_app(kafka.url, tmp_path, group)
    got = collect(app, [topic])
    async with running(app):
        await until(lambda: got.numbers() == list(range(500)))
    await admin.delete_topics([topic])
    await asyncio.sleep(1)
    await filled(log, topic, 900, partitions=1)
    # The broker drops commits with the topic, but not one that comes a moment later.
    late = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, group_id=group, enable_auto_commit=False)
    await late.start()
    late.assign([TopicPartition(topic, 0)])
    await late.commit({TopicPartition(topic, 0): (500, got.chunks[0].source.topic_id)})
    await late.stop()
    again = new_app(kafka.url, tmp_path, group)
    collected = collect(again, [topic])
    error = await stopped_by(again)
    assert isinstance(error, TopicChanged)
    assert f"topic {topic} was deleted and made again" in str(error)
    assert group in str(error)
    assert collected.chunks == []


async def delete_before(admin: AIOKafkaAdminClient, topic: str, offset: int) -> None:
    await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(offset)})


async def test_a_position_that_retention_passed_stops_the_worker_at_its_start(kafka, log, admin, tmp_path):
    topic, group = fresh("retention"), fresh("group")
    await filled(log, topic, 500, partitions=1)
    app = new_app(kafka.url, tmp_path, group)
    app.streamcore_positions = sinks = Sinks()
    collect(app, [topic])
    async with running(app):
        await until(lambda: sinks.starts)
    assert (await committed(kafka.url, group))[(topic, 0)][0] == 7
    await delete_before(admin, topic, 100)
    again = new_app(kafka.url, tmp_path, group)
    collected = collect(again, [topic])
    error = await stopped_by(again)
    assert isinstance(error, TopicChanged)
    assert "retention has deleted records that were not read: position 7, the log starts at 100" in str(error)
    assert collected.chunks == []


async def test_a_position_that_retention_passes_while_running_is_never_reset(kafka, log, admin, tmp_path):
    topic = fresh("running")
    await filled(log, topic, 500, partitions=1)
    app = new_app(kafka.url, tmp_path, fresh("group"))
    collected = collect(app, [topic])
    app.finalize()
    await app.start()
    try:
        await until(lambda: collected.chunks)
        # As if the worker had been slow: it stands at 40 and the log starts at 300.
        await delete_before(admin, topic, 300)
        await app.consumer.seek_wait({TopicPartition(topic, 0): 40})
        await until(lambda: app.crashed or app.crash_reason)
    finally:
        await app.stop()
    assert isinstance(app.crash_reason, TopicChanged)
    assert "position 40, the log starts at 300" in str(app.crash_reason)


async def test_a_bookmark_that_is_kept_without_rows_is_the_next_owners(kafka, log):
    name = fresh("kept")
    await log.create(name, 1, {})
    lane = Lane(name, "feed/rows", PartitionId(name, 0, "source"), "me")
    former, heir = (log.intake(name, lane, lambda _: None) for _ in range(2))
    assert await former.open() == b""
    await former.keep(b"at 0")
    assert await heir.open() == b"at 0"
    with pytest.raises((Fenced, Transient)):
        await former.keep(b"of who is fenced")
    await heir.append(Records(pa.array([b"1"], pa.binary()), np.zeros(1, np.int64)), b"at 1")
    await heir.keep(b"behind 1")
    await former.close()
    await heir.close()
    last = log.intake(name, lane, lambda _: None)
    assert await last.open() == b"behind 1"
    await last.close()
    assert (await log.bounds(name))[0].end == 2, "a row and the end of its transaction"
