"""contracts.Log on the embedded broker: whole columns in and out, outside of consumer groups."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from streamcore.batch import Range, RecordChunk
from streamcore.contracts import Records
from streamcore.errors import BadConfig, Permanent
from streamcore.transport.embedded_blocks import cut, to_batch
from streamcore.transport.embedded_broker import Broker, Topic
from streamcore.transport.record_batches import murmur2

_SCAN_BYTES = 1 << 20


class EmbeddedLog:
    """See contracts.Log. Attached topics are not part of it: their records are not in the broker."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._turn = -1

    async def bounds(self, topic: str) -> Mapping[int, Range]:
        """First and end offset of each partition; empty when there is no such log."""
        found = self._broker.topic(topic)
        return {} if found is None else {i: Range(log.first, log.end) for i, log in enumerate(found.logs)}

    async def create(self, topic: str, partitions: int, config: Mapping[str, str]) -> bool:
        """Make the topic unless it exists; True when it was made. BadConfig for a bad name or count."""
        return self._broker.create(topic, partitions, config)

    async def append(self, topic: str, records: Records) -> Awaitable[None]:
        """Append *records*, waiting for room where a partition's memory is limited.

        Permanent when the topic is missing or the disk refuses; the result ends when they are durable.
        """
        found = self._broker.topic(topic)
        if found is None or not found.logs:
            raise Permanent(
                f"there is no topic {topic} to append to", where=self._broker.url, fix="create it first"
            )
        for partition, batch in self._spread(found, records):
            for block in cut(batch):
                await self._broker.room(topic, partition, block.nbytes)
                self._broker.append(topic, partition, block)
        return asyncio.ensure_future(self._broker.synced())

    def _spread(self, topic: Topic, records: Records) -> Iterator[tuple[int, pa.RecordBatch]]:
        batch = to_batch(records)
        if not len(records):
            return
        if records.partitions is None and records.keys is None:
            self._turn += 1
            yield self._turn % len(topic), batch
            return
        places = self._places(topic, records)
        order = np.argsort(places, kind="stable")
        ends = np.cumsum(np.bincount(places, minlength=len(topic))).tolist()
        ordered = batch if len(topic) == 1 else batch.take(pa.array(order))
        for partition, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
            if end > start:
                yield partition, ordered.slice(start, end - start)

    def _places(self, topic: Topic, records: Records) -> npt.NDArray[np.int64]:
        if records.partitions is not None:
            places = records.partitions.astype(np.int64)
            if places.min() < 0 or places.max() >= len(topic):
                raise Permanent(
                    f"topic {topic.name} has {len(topic)} partitions",
                    got=int(places.max() if places.min() >= 0 else places.min()),
                )
            return places
        assert records.keys is not None
        keys = records.keys
        places = (murmur2(keys.fill_null(b"")) & 0x7FFFFFFF).astype(np.int64) % len(topic)
        if keys.null_count:
            self._turn += 1
            places[keys.is_null().to_numpy(zero_copy_only=False)] = self._turn % len(topic)
        return places

    async def scan(self, topic: str, partition: int, start: int, end: int) -> AsyncIterator[RecordChunk]:
        """The records in ``[start, end)``, as far as the log goes. TopicChanged when *start* is gone."""
        found = self._broker.topic(topic)
        if found is None or not 0 <= partition < len(found.logs):
            raise BadConfig(f"there is no partition {partition} of a topic {topic}", where=self._broker.url)
        while chunk := found.logs[partition].read(start, _SCAN_BYTES, end):
            yield chunk
            start = chunk.end
            await asyncio.sleep(0)

    async def close(self) -> None:
        """Make what was appended durable. The broker stays open: others use it."""
        await self._broker.synced()
