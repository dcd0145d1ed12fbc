"""The mixin that keeps the offsets of chunks, on a consumer whose broker is the test."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import faust
import numpy as np
import pytest
from faust.types import TP

from streamcore.batch import PartitionId, RecordChunk
from streamcore.errors import BadConfig
from streamcore.transport.chunks import ChunkOffsets, ChunkSchema, Fetched

T0 = TP("t", 0)


def chunk(first: int, end: int, partition: int = 0) -> RecordChunk:
    offsets = np.arange(first, end)
    return RecordChunk(
        PartitionId("t", partition, "c/u"), offsets, [b"v"] * (end - first), first=first, end=end
    )


class Consumer(ChunkOffsets):
    """Partitions, commits and fetches are lists that the test fills."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.owned = {T0}
        self.commits: dict[TP, int] = {}
        self.bounds = {T0: (0, 100)}
        self.fetches: list[Fetched] = []
        self.sought: list[dict[TP, int]] = []
        self.committed: list[dict[TP, int]] = []
        self.commit_works = True
        self.during_fetch = lambda: None

    async def topic_ids(self, topics):
        return dict.fromkeys(topics, "c/u")

    async def _getmany(self, active_partitions, timeout):
        self.during_fetch()
        return self.fetches.pop(0)

    async def seek_to_committed(self):
        return {tp: self.commits.get(tp) for tp in self.owned}

    async def seek_wait(self, partitions):
        self.sought.append(dict(partitions))

    async def earliest_offsets(self, *partitions):
        return {tp: self.bounds[tp][0] for tp in partitions}

    async def highwaters(self, *partitions):
        return {tp: self.bounds[tp][1] for tp in partitions}

    async def _commit(self, offsets):
        self.committed.append(dict(offsets))
        return self.commit_works

    def assignment(self):
        return self.owned

    def highwater(self, tp):
        return self.bounds[tp][1]

    def _new_topicpartition(self, topic, partition):
        return TP(topic, partition)

    async def _seek(self, partition, offset):
        raise NotImplementedError

    async def create_topic(self, *args, **kwargs):
        raise NotImplementedError

    async def subscribe(self, topics):
        raise NotImplementedError

    async def seek_to_latest(self, *partitions):
        raise NotImplementedError

    async def seek_to_beginning(self, *partitions):
        raise NotImplementedError

    async def position(self, tp):
        raise NotImplementedError

    def topic_partitions(self, topic):
        return 1

    def key_partition(self, topic, key, partition=None):
        return 0


class Sinks:
    def __init__(self) -> None:
        self.calls: list[object] = []
        self.answer: dict[PartitionId, int] = {}
        self.commit: int | None = None

    async def assigned(self, starts):
        self.calls.append(dict(starts))
        return {**starts, **self.answer}

    def commit_position(self, tp):
        return self.commit

    async def revoked(self, tps):
        self.calls.append(("revoked", set(tps)))


@pytest.fixture
async def consumer(tmp_path):
    app = faust.App("unit", store="memory://", datadir=str(tmp_path), consumer_auto_offset_reset="earliest")
    app.finalize()
    app.topics.add(app.topic("t", schema=ChunkSchema()))
    app.topics._acking_topics.add("t")
    app.consumer_generation_id = 3

    async def nothing(*args, **kwargs):
        return None

    app._producer = SimpleNamespace(flush=nothing, buffer=None)
    made = Consumer(app.transport, nothing, nothing, nothing)
    app._consumer = made
    return made


async def seek(consumer):
    consumer.stop_flow()
    consumer.resume_partitions(consumer.owned)
    assert consumer._get_active_partitions() == set(), "not before the seek"
    await consumer.perform_seek()
    consumer.resume_flow()
    assert consumer._get_active_partitions() == consumer.owned


async def messages(consumer):
    return [message async for _, message in consumer.getmany(timeout=0.01)]


@pytest.mark.parametrize(("reset", "commit", "expected"), [
    ("earliest", None, 5), ("latest", None, 90), ("earliest", 40, 40), ("latest", 0, 0),
])  # fmt: skip
async def test_a_partition_is_sought_to_its_commit_or_the_streams_start(consumer, reset, commit, expected):
    """Also a commit of 0, which Faust takes for none."""
    consumer.app.conf.consumer_auto_offset_reset = reset
    consumer.bounds[T0] = (5, 90)
    if commit is not None:
        consumer.commits[T0] = commit
    await seek(consumer)
    assert consumer.sought == [{T0: expected}]


async def test_positions_decide_and_nothing_is_committed_without_their_leave(consumer):
    consumer.app.streamcore_positions = sinks = Sinks()
    source = PartitionId("t", 0, "c/u")
    consumer.commits[T0], sinks.answer = 40, {source: 17}
    await seek(consumer)
    assert sinks.calls == [{source: 40}]
    assert consumer.sought == [{T0: 17}]
    consumer.fetches = [Fetched({T0: [chunk(17, 20)]}, 3)]
    (message,) = await messages(consumer)
    message.incref()
    message.ack(consumer)
    await consumer.commit()
    assert consumer.committed == []
    sinks.commit = 45
    await consumer.commit()
    assert consumer.committed == [{T0: 45}]
    await consumer.commit()
    assert len(consumer.committed) == 1, "once"


async def test_revoked_is_told_once_before_the_last_commit(consumer):
    consumer.app.streamcore_positions = sinks = Sinks()
    await seek(consumer)
    sinks.commit = 9
    await consumer.commit_and_end_transactions()
    await consumer.commit_and_end_transactions()
    assert sinks.calls[1:] == [("revoked", {T0})]
    assert consumer.committed == [{T0: 9}]


async def test_without_positions_the_acked_prefix_is_committed(consumer):
    await seek(consumer)
    consumer.fetches = [Fetched({T0: [chunk(0, 10), chunk(10, 20), chunk(20, 25)]}, 3)]
    first, second, third = await messages(consumer)
    assert [m.value.first for m in (first, second, third)] == [0, 10, 20]
    for message in (second, third, first):
        message.incref()
    second.ack(consumer)
    await consumer.commit()
    assert consumer.committed == []
    first.ack(consumer)
    await consumer.commit()
    assert consumer.committed == [{T0: 20}]


async def test_a_failed_commit_is_tried_again(consumer):
    await seek(consumer)
    consumer.fetches = [Fetched({T0: [chunk(0, 10)]}, 3)]
    (message,) = await messages(consumer)
    message.incref()
    message.ack(consumer)
    consumer.commit_works = False
    assert not await consumer.commit()
    consumer.commit_works = True
    assert await consumer.commit()
    assert consumer.committed == [{T0: 10}, {T0: 10}]


async def test_what_was_fetched_under_an_older_assignment_is_dropped(consumer):
    await seek(consumer)
    consumer.fetches = [Fetched({T0: [chunk(0, 10)]}, 2)]
    assert await messages(consumer) == []


async def test_messages_carry_the_generation_of_their_fetch(consumer):
    """Faust's stream drops them when a rebalance comes while they wait in its queue."""
    await seek(consumer)
    consumer.fetches = [Fetched({T0: [chunk(0, 10)]}, 3)]
    (message,) = await messages(consumer)
    assert message.generation_id == 3


async def test_a_fetch_that_ends_before_the_flow_resumes_is_kept(consumer):
    """It was read after the seek: dropping it would lose it."""
    await seek(consumer)
    consumer.fetches = [Fetched({T0: [chunk(0, 10)]}, 3)]
    consumer.during_fetch = consumer.stop_flow
    reading = asyncio.ensure_future(messages(consumer))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not reading.done()
    consumer.resume_flow()
    assert [m.value.first for m in await reading] == [0]


async def test_holes_are_no_gaps(consumer):
    await seek(consumer)
    await consumer._add_gap(T0, 3, 9)
    assert not consumer._gap[T0]


async def test_a_topic_read_both_ways_is_refused(consumer):
    consumer.app.topics.add(consumer.app.topic("t", value_type=bytes))
    with pytest.raises(BadConfig, match="both in chunks and record by record"):
        consumer.is_chunked("t")


async def test_pausing_and_resuming_outside_of_a_rebalance_works_at_once_and_loses_nothing(consumer):
    """Back-pressure: what was fetched when the pause came is still delivered."""
    await seek(consumer)
    consumer.fetches = [Fetched({T0: [chunk(0, 10)]}, 3), Fetched({T0: [chunk(10, 20)]}, 3)]
    consumer.during_fetch = lambda: consumer.pause_partitions({T0})
    assert [m.value.first for m in await messages(consumer)] == [0]
    assert await messages(consumer) == [], "paused"
    consumer.during_fetch = lambda: None
    consumer.resume_partitions({T0})
    assert [m.value.first for m in await messages(consumer)] == [10]


# ------------------------------------------------------------ groups

T1 = TP("t", 1)


@pytest.fixture
async def grouped(consumer):
    """Two partitions of a topic whose chunks come in groups."""
    (channel,) = (c for c in consumer.app.topics if "t" in c.topics)
    channel.schema.grouped = True
    consumer.app.streamcore_positions = Sinks()
    consumer.owned, consumer.bounds = {T0, T1}, {T0: (0, 100), T1: (0, 100)}
    await seek(consumer)
    return consumer


async def spans(consumer):
    """Per message the (partition, first, end) of its chunks; done with each at once."""
    found = []
    async for tp, message in consumer.getmany(timeout=0.01):
        chunks = message.value.chunks
        assert (tp.partition, message.offset) == (chunks[0].source.partition, chunks[0].end - 1)
        found.append([(c.source.partition, c.first, c.end) for c in chunks])
        message.value.done()
    return found


async def test_small_chunks_of_one_fetch_come_together(grouped):
    grouped.fetches = [Fetched({T0: [chunk(0, 3), chunk(3, 4)], T1: [chunk(0, 9, 1)]}, 3)]
    ((*group,),) = await spans(grouped)
    assert sorted(group) == [(0, 0, 3), (0, 3, 4), (1, 0, 9)]
    assert group.index((0, 0, 3)) < group.index((0, 3, 4)), "each partition in order"


async def test_groups_end_before_they_get_too_large(grouped, monkeypatch):
    monkeypatch.setattr("streamcore.transport.chunks.GROUP_BYTES", chunk(0, 10).nbytes)
    grouped.fetches = [Fetched({T0: [chunk(0, 10), chunk(10, 20), chunk(20, 22), chunk(22, 24)]}, 3)]
    assert await spans(grouped) == [[(0, 0, 10)], [(0, 10, 20)], [(0, 20, 22), (0, 22, 24)]]


async def test_the_next_fetch_waits_for_the_work_on_a_small_one(grouped, monkeypatch):
    monkeypatch.setattr("streamcore.transport.chunks.HAND_OVER_SECONDS", 3600)
    grouped.fetches = [Fetched({T0: [chunk(0, 3)]}, 3)]
    handed_out = []

    async def read():
        async for _, message in grouped.getmany(timeout=0.01):
            handed_out.append(message.value)

    reading = asyncio.ensure_future(read())
    for _ in range(20):
        await asyncio.sleep(0)
    assert handed_out
    assert not reading.done()
    handed_out[0].done()
    await reading


async def test_it_waits_for_a_limited_time(grouped, monkeypatch):
    """Other topics of the app share the fetches."""
    monkeypatch.setattr("streamcore.transport.chunks.HAND_OVER_SECONDS", 0.001)
    grouped.fetches = [Fetched({T0: [chunk(0, 3)]}, 3)]
    assert len(await messages(grouped)) == 1


async def test_it_does_not_wait_for_the_work_on_a_large_one(grouped, monkeypatch):
    monkeypatch.setattr("streamcore.transport.chunks.HAND_OVER_SECONDS", 3600)
    monkeypatch.setattr("streamcore.transport.chunk_groups.GROUP_BYTES", 1)
    grouped.fetches = [Fetched({T0: [chunk(0, 3)]}, 3)]
    assert len(await messages(grouped)) == 1
