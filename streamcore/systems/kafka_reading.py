"""Records of a topic between two offsets, outside of consumer groups: synchronous, for a worker thread.

Bounds are asked for by offset or by time. Only committed records are read; offsets that hold none (marks of
transactions, what compaction took) are passed. Every wait ends: connecting within 10 seconds, and a
partition that gives nothing for a minute, though it goes on, is an error.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from aiokafka.structs import TopicPartition

from streamcore.batch import Range
from streamcore.errors import Permanent, StreamcoreError, TopicChanged, Transient, did_you_mean
from streamcore.systems.kafka import KafkaConnection, probe, translate
from streamcore.systems.kafka_topic_ids import TopicDescription, describe_topics
from streamcore.systems.own_loop import OwnLoop

T = TypeVar("T")
FETCH_BYTES = 1 << 20
_POLL_MS = 200
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

    def read(self, partition: int, end: int) -> tuple[list[ConsumerRecord], int]:
        """The next records before *end*, and the offset behind them; none only where *end* is reached."""
        return self._run(self._read(TopicPartition(self._topic, partition), end))

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

    async def _read(self, tp: TopicPartition, end: int) -> tuple[list[ConsumerRecord], int]:
        consumer = await self._connected()
        at = before = await consumer.position(tp)
        since = self._clock()
        while at < end:
            found = (await consumer.getmany(tp, timeout_ms=_POLL_MS)).get(tp, [])
            at = await consumer.position(tp)
            records = [record for record in found if record.offset < end]
            if records:
                return records, min(at, end)
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
        return [], end
