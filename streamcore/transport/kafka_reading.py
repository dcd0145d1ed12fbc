"""Chunks of a topic between two offsets, outside of consumer groups: synchronous, for a worker thread.

Whole record batches are taken from aiokafka where it lets us (:func:`.kafka_chunks.fetch_whole`). Only
committed records are read; offsets that hold none (marks of transactions, what compaction took) are passed.
Every wait ends: connecting within 10 seconds, and a partition that gives nothing for a minute, though it goes
on, is an error.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from aiokafka.structs import TopicPartition

from streamcore.batch import Chunk, PartitionId, Range
from streamcore.errors import Permanent, StreamcoreError, TopicChanged, Transient, did_you_mean
from streamcore.systems.kafka import KafkaConnection, probe, translate
from streamcore.systems.kafka_topic_ids import TopicDescription, describe_topics
from streamcore.systems.own_loop import OwnLoop
from streamcore.transport.kafka_chunks import KafkaChunk, chunk_of_records, fetch_whole
from streamcore.transport.whole_batches import WholeBatch

T = TypeVar("T")
FETCH_BYTES = 1 << 20
_POLL_MS = 200
_RECORD_BYTES = 100
"""What a record costs in memory beside its key and value."""
_ANSWER_SECONDS = 40.0
_STALL_SECONDS = 60.0


class TopicReader:
    """One connection to the cluster at *url* (of ``KafkaConnection.parse``), for one topic; :meth:`close` it.

    One call at a time, from any thread. Its methods raise Transient when the
    cluster does not answer, Permanent when it refuses or there is no such topic.
    """

    def __init__(self, url: str, topic: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._url, self._topic, self._clock = url, topic, clock
        self._connection = KafkaConnection.parse(url)
        self._loop = OwnLoop("kafka reader")
        self._consumer: AIOKafkaConsumer | None = None
        self._ahead: list[WholeBatch | ConsumerRecord] = []
        """Fetched, and in no chunk yet: from ``_first`` on, up to ``_behind``."""
        self._first = self._behind = 0

    def describe(self) -> TopicDescription:
        """Its id and partitions; Permanent, with what there is, when it does not exist."""
        return self._run(self._describe())

    def ranges(self, partitions: Iterable[int]) -> Mapping[int, Range]:
        """The first offset of each partition, and the one behind its last committed record."""
        return self._run(self._ranges([TopicPartition(self._topic, number) for number in partitions]))

    def at_time(self, milliseconds: int, partitions: Iterable[int]) -> Mapping[int, int | None]:
        """The first offset of each partition whose record is of this time or later; None: there is none."""
        asked = {TopicPartition(self._topic, number): milliseconds for number in partitions}
        return self._run(self._at_time(asked))

    def seek(self, partition: int, offset: int) -> None:
        """Read *partition* from *offset* on, and no other one."""
        self._run(self._seek(TopicPartition(self._topic, partition), offset))
        self._ahead, self._first, self._behind = [], offset, offset

    def read(self, source: PartitionId, partition: int, end: int, max_bytes: int) -> Chunk | None:
        """The chunk of about *max_bytes* (a record batch at least) that comes next; None at *end*.

        It may hold records behind *end*. Its offsets are the topic's; it has a record or a reject.
        """
        while True:
            if not self._ahead:
                self._first = self._behind
                tp = TopicPartition(self._topic, partition)
                self._ahead, self._behind = self._run(self._read(tp, end))
                if not self._ahead:
                    return None
            chunk = self._cut(source, max_bytes)
            if len(chunk) or len(chunk.rejects):
                return chunk

    def _cut(self, source: PartitionId, max_bytes: int) -> Chunk:
        """A chunk of the first of what is ahead."""
        count, size = 0, 0
        while count < len(self._ahead) and (not count or size < max_bytes):
            size += _size(self._ahead[count])
            count += 1
        part, self._ahead = self._ahead[:count], self._ahead[count:]
        end = _next_offset(part[-1]) if self._ahead else self._behind
        first, self._first = self._first, end
        if isinstance(part[0], WholeBatch):
            return KafkaChunk(source, first, end, part)
        return chunk_of_records(source, first, end, part)

    def close(self) -> None:
        """Disconnect. More than once does no harm."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            self._loop.run(consumer.stop())
        self._loop.close()

    # ------------------------------------------------------------ inside of the loop

    def _run(self, call: Coroutine[Any, Any, T]) -> T:
        return self._loop.run(self._translated(call))

    async def _translated(self, call: Coroutine[Any, Any, T]) -> T:
        try:
            return await call
        except StreamcoreError:
            raise
        except OffsetOutOfRangeError:
            raise TopicChanged(
                "records were deleted before they were read: retention has passed them",
                where=f"{self._connection}/{self._topic}",
                fix="read again from=earliest, and keep records for longer",
            ) from None
        except asyncio.TimeoutError:
            raise Transient("the broker did not answer in time", where=self._topic) from None
        except KafkaError as error:
            raise translate(error, f"{self._connection}/{self._topic}") from error

    async def _connected(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            await probe(self._url)
            consumer = AIOKafkaConsumer(
                **self._connection.client_options(),
                group_id=None,
                enable_auto_commit=False,
                auto_offset_reset="none",
                isolation_level="read_committed",
                max_partition_fetch_bytes=FETCH_BYTES,
            )
            self._consumer = consumer
            await asyncio.wait_for(consumer.start(), _ANSWER_SECONDS)
            fetch_whole(consumer._fetcher, lambda topic: True)
        return self._consumer

    async def _describe(self) -> TopicDescription:
        consumer = await self._connected()
        found = await asyncio.wait_for(describe_topics(consumer._client, [self._topic]), _ANSWER_SECONDS)
        if self._topic in found:
            return found[self._topic]
        there = sorted(name for name in await consumer.topics() if not name.startswith("_"))
        raise Permanent(
            "there is no such topic, or this user may not see it",
            where=str(self._connection),
            got=self._topic,
            allowed=there[:20],
            fix=did_you_mean(self._topic, there) or "name one that there is",
        )

    async def _ranges(self, tps: list[TopicPartition]) -> dict[int, Range]:
        consumer = await self._connected()
        await consumer._client.add_topic(self._topic)  # or its leaders are asked for after a first failure
        firsts = await asyncio.wait_for(consumer.beginning_offsets(tps), _ANSWER_SECONDS)
        ends = await asyncio.wait_for(consumer.end_offsets(tps), _ANSWER_SECONDS)
        return {tp.partition: Range(firsts[tp], ends[tp]) for tp in tps}

    async def _at_time(self, asked: Mapping[TopicPartition, int]) -> dict[int, int | None]:
        consumer = await self._connected()
        await consumer._client.add_topic(self._topic)
        found = await asyncio.wait_for(consumer.offsets_for_times(dict(asked)), _ANSWER_SECONDS)
        return {tp.partition: None if at is None else at.offset for tp, at in found.items()}

    async def _seek(self, tp: TopicPartition, offset: int) -> None:
        consumer = await self._connected()
        consumer.assign([tp])
        consumer.seek(tp, offset)

    async def _read(self, tp: TopicPartition, end: int) -> tuple[list[WholeBatch | ConsumerRecord], int]:
        """What was fetched next, and the offset behind it; nothing only where *end* is reached."""
        consumer = await self._connected()
        at = before = await consumer.position(tp)
        since = self._clock()
        while at < end:
            found = (await consumer.getmany(tp, timeout_ms=_POLL_MS)).get(tp, [])
            at = await consumer.position(tp)
            if found:
                return found, at
            if at > before:
                before, since = at, self._clock()
            elif self._clock() - since > _STALL_SECONDS:
                raise Transient(
                    f"nothing came for {_STALL_SECONDS:.0f} s",
                    where=f"{self._connection}/{tp.topic}/{tp.partition}",
                    got=at,
                    allowed=[f"to {end}"],
                    fix="see whether the partition has a leader",
                )
        return [], at


def _size(fetched: WholeBatch | ConsumerRecord) -> int:
    """Bytes in memory, about."""
    if isinstance(fetched, WholeBatch):
        return len(fetched.data) + fetched.unpacked
    return len(fetched.value or b"") + len(fetched.key or b"") + _RECORD_BYTES


def _next_offset(fetched: WholeBatch | ConsumerRecord) -> int:
    return fetched.next_offset if isinstance(fetched, WholeBatch) else int(fetched.offset) + 1
