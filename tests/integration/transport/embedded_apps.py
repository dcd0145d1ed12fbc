"""Faust apps on the embedded transport, for the tests beside this module."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path

import faust
import numpy as np
import pyarrow as pa

from streamcore.batch import Chunk, Int64s, PartitionId, RecordChunk
from streamcore.contracts import Records
from streamcore.transport.chunks import ChunkSchema
from streamcore.transport.embedded_blocks import to_batch
from streamcore.transport.embedded_broker import Broker


def make_app(url: str, folder: Path, **options: object) -> faust.App:
    """An app of the group "group"; *folder* is for what Faust itself writes."""
    settings: dict[str, object] = {
        "topic_disable_leader": True,
        "topic_partitions": 4,
        "topic_replication_factor": 1,
        "consumer_auto_offset_reset": "earliest",
        "web_enabled": False,
        "store": "memory://",
        "datadir": folder,
        "broker_commit_interval": 0.1,
        "broker_heartbeat_interval": 0.1,
        "stream_buffer_maxsize": 4,
        "stream_recovery_delay": 0.0,
    }
    return faust.App("group", broker=url, **{**settings, **options})


def collect(app: faust.App, topic: str, handle: Callable[[Chunk], object]) -> None:
    """Let a chunked agent of *app* call *handle* with each chunk of *topic*; it may return an awaitable."""

    async def read(stream: faust.StreamT[Chunk]) -> None:
        async for chunk in stream:
            done = handle(chunk)
            if asyncio.iscoroutine(done):
                await done

    app.agent(app.topic(topic, schema=ChunkSchema()), name=f"read {topic}")(read)


@contextlib.asynccontextmanager
async def running(*apps: faust.App) -> AsyncIterator[None]:
    """Start *apps*, stop them in reverse order."""
    async with contextlib.AsyncExitStack() as stack:
        for app in apps:
            app.finalize()
            await app.start()
            stack.push_async_callback(app.stop)
        yield


async def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until *condition* holds; AssertionError after *seconds*."""
    for _ in range(int(seconds / 0.01)):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the condition did not come true")


def put(broker: Broker, topic: str, numbers: Iterable[int], partition: int = 0) -> None:
    """Append *numbers* as text."""
    values = [b"%d" % n for n in numbers]
    broker.append(
        topic, partition, to_batch(Records(pa.array(values, pa.binary()), np.zeros(len(values), np.int64)))
    )


def committed(broker: Broker, topic: str) -> dict[int, int]:
    """What the group has committed, by partition."""
    return {s.partition: o for s, o in broker.group("group").committed.items() if s.topic == topic}


class Numbers:
    """A feed of the numbers from 0 to *count* as text, *step* a chunk; can be told to fail at a position."""

    def __init__(
        self, partition: int, count: int, *, step: int = 10, topic_id: str = "run", fails_at: int = -1
    ) -> None:
        self.source = PartitionId("numbers", partition, topic_id)
        self.count, self.step, self.fails_at = count, step, fails_at
        self.reads: list[int] = []
        self._at_end = False

    def read(self, position: int, max_bytes: int) -> Chunk | None:
        self.reads.append(position)
        if 0 <= self.fails_at <= position:
            raise ValueError("the file is gone")
        if position >= self.count:
            self._at_end = True
            return None
        offsets: Int64s = np.arange(position, min(position + self.step, self.count))
        return RecordChunk(self.source, offsets, [b"%d" % o for o in offsets.tolist()])

    def end(self) -> int | None:
        return self.count if self._at_end else None

    def close(self) -> None:
        pass
