"""contracts.Log on the embedded broker: whole columns in and out, outside of consumer groups."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

from streamcore.batch import Range, RecordChunk
from streamcore.contracts import Lane, Records
from streamcore.errors import BadConfig, Permanent
from streamcore.transport.embedded_blocks import cut, to_batch
from streamcore.transport.embedded_broker import Broker, Topic
from streamcore.transport.embedded_intake import EmbeddedIntake
from streamcore.transport.embedded_transactions import EmbeddedOwnedAppends, EmbeddedTransactions
from streamcore.transport.partitioning import by_partition

_SCAN_BYTES = 1 << 20


class EmbeddedLog:
    """See contracts.Log. Attached topics are not part of it: their records are not in the broker."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._turn = -1

    async def bounds(self, topic: str, *, settled: bool = False) -> Mapping[int, Range]:
        """First and end offset of each partition; empty when there is no such log."""
        found = self._broker.topic(topic)
        return {} if found is None else {i: Range(log.first, log.end) for i, log in enumerate(found.logs)}

    async def topics(self) -> Sequence[str]:
        """See :class:`streamcore.contracts.Log`."""
        return self._broker.topics

    async def create(self, topic: str, partitions: int, config: Mapping[str, str]) -> bool:
        """Make the topic unless it exists; True when it was made. BadConfig for a bad name or count."""
        return self._broker.create(topic, partitions, config)

    async def append(self, topic: str, records: Records) -> Awaitable[None]:
        """Append *records*, waiting for room where a partition's memory is limited.

        Permanent when the topic is missing or the disk refuses; the result ends when they are durable.
        """
        await self.append_if(topic, records, lambda: None)
        return asyncio.ensure_future(self._broker.synced())

    async def append_if(self, topic: str, records: Records, check: Callable[[], None]) -> None:
        """As :meth:`append`, not durable yet. *check* raises when no more of them may be appended."""
        found = self._broker.topic(topic)
        if found is None or not found.logs:
            raise Permanent(
                f"there is no topic {topic} to append to", where=self._broker.url, fix="create it first"
            )
        _check_partitions(found, records)
        if records.partitions is None:
            self._turn = (self._turn + 1) % len(found)
        for partition, part in by_partition(records, len(found), self._turn % len(found)):
            for block in cut(to_batch(part)):
                await self._broker.room(topic, partition, block.nbytes)
                check()
                self._broker.append(topic, partition, block)

    def transactions(
        self, topic: str, lane: Lane, crash_point: Callable[[str], None]
    ) -> EmbeddedTransactions:
        """See :class:`streamcore.contracts.Log`."""
        return EmbeddedTransactions(self, self._broker, topic, lane, crash_point)

    def owned(self, topic: str, lane: Lane) -> EmbeddedOwnedAppends:
        """See :class:`streamcore.contracts.Log`."""
        return EmbeddedOwnedAppends(self, self._broker, topic, lane)

    def intake(self, topic: str, lane: Lane, crash_point: Callable[[str], None]) -> EmbeddedIntake:
        """See :class:`streamcore.contracts.unbounded.Intakes`."""
        return EmbeddedIntake(self._broker, topic, lane, crash_point)

    async def scan(self, topic: str, partition: int, start: int, end: int) -> AsyncIterator[RecordChunk]:
        """The records in ``[start, end)``, as far as the log goes; durable ones only, like all that is handed
        out: who finds its dead letter here does not write it again. TopicChanged when *start* is gone.
        """
        found = self._broker.topic(topic)
        if found is None or not 0 <= partition < len(found.logs):
            raise BadConfig(f"there is no partition {partition} of a topic {topic}", where=self._broker.url)
        log = found.logs[partition]
        if log.durable < min(end, log.end):
            end = min(end, log.end)
            await self._broker.synced()
        while chunk := log.read(start, _SCAN_BYTES, end):
            yield chunk
            start = chunk.end
            await asyncio.sleep(0)

    async def trim(self, topic: str, partition: int, below: int) -> None:
        """See :class:`streamcore.contracts.Log`; whole segments are dropped, the last one never."""
        found = self._broker.topic(topic)
        if found is not None and 0 <= partition < len(found.logs):
            found.logs[partition].drop(below)

    async def close(self) -> None:
        """Make what was appended durable. The broker stays open: others use it."""
        await self._broker.synced()


def _check_partitions(topic: Topic, records: Records) -> None:
    if records.partitions is None or not len(records):
        return
    for partition in (records.partitions.min(), records.partitions.max()):
        if not 0 <= partition < len(topic):
            raise Permanent(f"topic {topic.name} has {len(topic)} partitions", got=int(partition))
