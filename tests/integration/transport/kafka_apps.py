"""Faust apps on the chunk transport, in the test's own event loop, and topics to feed them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from uuid import uuid4

import faust
import numpy as np
import pyarrow as pa

from streamcore.batch import Chunk
from streamcore.contracts import Records
from streamcore.systems.kafka import KafkaConnection
from streamcore.transport.chunks import ChunkSchema
from streamcore.transport.kafka import faust_options
from streamcore.transport.kafka_log import KafkaLog

KEEP = {"retention.ms": "-1"}
_names = itertools.count()


def fresh(name: str) -> str:
    """A topic or group name that no test has used."""
    return f"{name}-{next(_names)}-{uuid4().hex[:8]}"


def records(start: int, count: int, **fields: object) -> Records:
    """Records whose value is their number and whose key is its last two digits."""
    numbers = range(start, start + count)
    values = pa.array([b"%d" % i for i in numbers], pa.binary())
    keys = pa.array([b"%d" % (i % 100) for i in numbers], pa.binary())
    return Records(values, np.arange(start, start + count) + 1_767_225_600_000, keys, **fields)


async def filled(log: KafkaLog, topic: str, count: int, partitions: int = 4) -> None:
    """Make *topic* with the numbers 0 to *count* in it."""
    await log.create(topic, partitions, KEEP)
    await (await log.append(topic, records(0, count)))


def new_app(url: str, folder: Path, group: str, **settings: object) -> faust.App:
    """An app of consumer group *group* on the cluster at *url*."""
    folder.mkdir(exist_ok=True)
    return faust.App(
        group,
        **faust_options(KafkaConnection.parse(url)),
        consumer_auto_offset_reset=settings.pop("consumer_auto_offset_reset", "earliest"),
        topic_disable_leader=True,
        web_enabled=False,
        store="memory://",
        stream_buffer_maxsize=4,
        broker_commit_interval=0.2,
        broker_session_timeout=10.0,
        broker_heartbeat_interval=1.0,
        datadir=str(folder / group),
        topic_replication_factor=1,
        topic_partitions=4,
        **settings,
    )


class Collected:
    """What an agent got: chunks in the order of arrival."""

    def __init__(self) -> None:
        self.chunks: list[Chunk] = []

    def numbers(self, partition: int | None = None) -> list[int]:
        return [int(v) for c in self.chunks if partition in (None, c.source.partition) for v in c.values()]

    def joins(self) -> bool:
        """Whether each partition's chunks follow one another without gap or repeat."""
        ends: dict[int, int] = {}
        for chunk in self.chunks:
            if ends.get(chunk.source.partition, chunk.first) != chunk.first:
                return False
            ends[chunk.source.partition] = chunk.end
        return True


def collect(app: faust.App, topics: Sequence[str]) -> Collected:
    """An agent over the chunks of *topics*."""
    collected = Collected()

    @app.agent(app.topic(*topics, schema=ChunkSchema()))
    async def gather(stream):
        async for chunk in stream:
            collected.chunks.append(chunk)

    return collected


@contextlib.asynccontextmanager
async def running(app: faust.App) -> AsyncIterator[faust.App]:
    """*app*, started; stopped in the end as a worker stops it."""
    app.finalize()
    await app.start()
    try:
        yield app
    finally:
        await app.stop()


async def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait for *condition*; AssertionError when it does not come about."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "did not come about in time"
        await asyncio.sleep(0.02)


async def committed(url: str, group: str) -> Mapping[tuple[str, int], tuple[int, str]]:
    """The group's commits: (topic, partition) -> (offset, metadata)."""
    from aiokafka.admin import AIOKafkaAdminClient

    admin = AIOKafkaAdminClient(**KafkaConnection.parse(url).client_options())
    await admin.start()
    try:
        found = await admin.list_consumer_group_offsets(group)
        return {(tp.topic, tp.partition): (c.offset, c.metadata) for tp, c in found.items()}
    finally:
        await admin.close()
