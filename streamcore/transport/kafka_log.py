"""The Kafka cluster as a :class:`streamcore.contracts.Log`: append, read and make topics, without groups.

Appending: columns -> record batches -> aiokafka's idempotent producer with acks=all, which retries a
batch until it is in, once. When a batch fails for good, the producer's sequence numbers are torn and
later batches of that partition fail with it, so that none overtakes the lost one. An append that is asked
for while the outcome of a torn one is not known yet, e.g. since another of its partitions is still on its
way, fails too; one that is asked for afterwards starts another producer. So a caller that looks at its
outcomes before it appends keeps its order.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from itertools import count

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.errors import (
    InvalidReplicationFactorError,
    KafkaError,
    NoError,
    TopicAlreadyExistsError,
    for_code,
)
from aiokafka.structs import TopicPartition

from streamcore.batch import PartitionId, Range, RecordChunk
from streamcore.contracts import Lane, Records
from streamcore.errors import Permanent, Transient
from streamcore.systems.kafka import KafkaConnection, translate
from streamcore.systems.kafka_topic_ids import TopicDescription, describe_topics
from streamcore.transport.kafka_chunks import chunk_of_records
from streamcore.transport.kafka_intake import KafkaIntake
from streamcore.transport.kafka_owned import KafkaOwnedAppends
from streamcore.transport.kafka_position_topic import PositionTopic
from streamcore.transport.kafka_transactions import KafkaTransactions
from streamcore.transport.record_batches import batches

IN_FLIGHT_BYTES = 16 << 20
"""How many compressed bytes may wait for their acknowledgement."""
_SCAN_BYTES = 4 << 20
_POLL_MS = 20
"""A poll that finds nothing but the marks of transactions waits for its whole time."""
_CLOSE_SECONDS = 10.0
_LEADER_SECONDS = 30.0
_SETTLED_SECONDS = 60.0
"""Longer than the broker lets any transaction of ours stay open."""


class KafkaLog:
    """All topics of the cluster at *connection*. Used from one event loop; connects when first used."""

    def __init__(self, connection: KafkaConnection, *, in_flight_bytes: int = IN_FLIGHT_BYTES) -> None:
        self._connection = connection
        self._limit = in_flight_bytes
        self._in_flight = 0
        self._room = asyncio.Event()
        self._unsettled: set[asyncio.Future[object]] = set()
        self._appending = asyncio.Lock()
        self._producer: AIOKafkaProducer | None = None
        self._torn = False
        self._tears = 0
        self._unheard: list[tuple[asyncio.Future[None], Sequence[asyncio.Future[object]]]] = []
        """Appends whose outcome nobody could know when the last one was asked for: outcome, batches."""
        self._topics: dict[str, TopicDescription] = {}
        self._keyless = count()
        self._positions: dict[str, PositionTopic] = {}

    # ------------------------------------------------------------ appending

    async def append(self, topic: str, records: Records) -> Awaitable[None]:
        """See :class:`streamcore.contracts.Log`."""
        tears = self._tears
        unheard = self._unheard = [one for one in self._unheard if not one[0].done()]
        async with self._appending:  # one caller after the other keeps each partition in order
            try:
                producer = await self._started_producer()
                described = await self._described(producer, topic)
                torn = any(_has_failed(batch) for _, sent in unheard for batch in sent)
                if torn or self._tears != tears:  # its caller could not know that what came before is lost
                    raise Transient("an append before this one failed", where=topic)
                sent = await self._send(producer, topic, records, len(described.partitions))
            except KafkaError as error:
                if self._unsettled:  # no part of it may be on its way when the caller hears that it failed
                    await asyncio.wait(self._unsettled)
                raise translate(error, topic) from error
        outcome = asyncio.ensure_future(self._outcome(topic, sent))
        outcome.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._unheard.append((outcome, sent))
        return outcome

    async def _send(
        self, producer: AIOKafkaProducer, topic: str, records: Records, partitions: int
    ) -> list[asyncio.Future[object]]:
        if records.partitions is not None and len(records) and int(records.partitions.max()) >= partitions:
            raise Permanent(
                f"topic {topic} has fewer partitions than the records name",
                got=int(records.partitions.max()),
                allowed=[f"0 to {partitions - 1}"],
                fix="add partitions to the topic",
            )
        sent: list[asyncio.Future[object]] = []
        for partition, batch in batches(records, partitions, next(self._keyless) % partitions):
            size = batch.size()
            await self._wait_for_room(size)
            delivered = asyncio.ensure_future(await producer.send_batch(batch, topic, partition=partition))
            self._in_flight += size
            self._unsettled.add(delivered)
            delivered.add_done_callback(lambda done, size=size: self._settled(done, size))
            sent.append(delivered)
        return sent

    async def _wait_for_room(self, size: int) -> None:
        while self._in_flight and self._in_flight + size > self._limit:
            self._room.clear()
            await self._room.wait()

    def _settled(self, delivered: asyncio.Future[object], size: int) -> None:
        self._in_flight -= size
        self._unsettled.discard(delivered)
        self._room.set()
        if _has_failed(delivered):
            self._torn = True
            self._tears += 1

    async def _outcome(self, topic: str, sent: Sequence[asyncio.Future[object]]) -> None:
        if sent:
            await asyncio.wait(sent)  # unlike gather it cancels nothing when it is cancelled
        if any(one.cancelled() for one in sent):
            raise Transient("the append was broken off", where=topic)
        problems = [translate(error, topic) for one in sent if (error := one.exception()) is not None]
        for problem in sorted(problems, key=lambda p: isinstance(p, Transient)):
            raise problem

    async def _started_producer(self) -> AIOKafkaProducer:
        if self._torn and self._producer is not None:
            # All of the torn producer's batches must be settled first, or it could write behind the new one.
            if self._unsettled:
                await asyncio.wait(self._unsettled)
            torn, self._producer = self._producer, None
            await self._stop(torn)
        if self._producer is None:
            self._torn = False
            producer = AIOKafkaProducer(
                **self._connection.client_options(), enable_idempotence=True, acks="all", linger_ms=0
            )
            try:
                await producer.start()
            except KafkaError as error:
                await self._stop(producer)
                raise translate(error, str(self._connection)) from error
            self._producer = producer
        return self._producer

    async def _described(self, producer: AIOKafkaProducer, topic: str) -> TopicDescription:
        if topic not in self._topics:
            found = await describe_topics(producer.client, [topic])
            if topic not in found:
                raise Permanent(f"topic {topic} does not exist", fix="create it, or correct its name")
            self._topics[topic] = found[topic]
        return self._topics[topic]

    def transactions(self, topic: str, lane: Lane, crash_point: Callable[[str], None]) -> KafkaTransactions:
        """See :class:`streamcore.contracts.Log`."""
        positions = self._positions.get(lane.topology)
        if positions is None:
            positions = self._positions[lane.topology] = PositionTopic(
                lane.topology, self.create, self._consumer
            )
        return KafkaTransactions(self._connection, positions, topic, lane, crash_point)

    def owned(self, topic: str, lane: Lane) -> KafkaOwnedAppends:
        """See :class:`streamcore.contracts.Log`."""
        return KafkaOwnedAppends(self.transactions(topic, lane, lambda name: None))

    def intake(self, topic: str, lane: Lane, crash_point: Callable[[str], None]) -> KafkaIntake:
        """See :class:`streamcore.contracts.unbounded.Intakes`."""
        return KafkaIntake(self.transactions(topic, lane, crash_point), crash_point)

    # ------------------------------------------------------------ reading

    async def bounds(self, topic: str, *, settled: bool = False) -> Mapping[int, Range]:
        """See :class:`streamcore.contracts.Log`; the end is that of the committed transactions."""
        last = await self._bounds(topic, "read_uncommitted") if settled else {}
        deadline = asyncio.get_running_loop().time() + _SETTLED_SECONDS
        while True:
            found = await self._bounds(topic, "read_committed")
            open_ = [
                number for number, held in found.items() if number in last and held.end < last[number].end
            ]
            if not open_:
                return found
            if asyncio.get_running_loop().time() > deadline:
                where = f"{topic}/{open_[0]}/{found[open_[0]].end}"
                raise Transient("a transaction stays open", where=where)
            await asyncio.sleep(_POLL_MS / 1000)

    async def _bounds(self, topic: str, isolation: str) -> dict[int, Range]:
        consumer = await self._consumer(isolation)
        try:
            found = await describe_topics(consumer._client, [topic])
            return {} if topic not in found else await self._ranges(consumer, topic, found[topic])
        except KafkaError as error:
            raise translate(error, topic) from error
        finally:
            await consumer.stop()

    async def _ranges(
        self, consumer: AIOKafkaConsumer, topic: str, described: TopicDescription
    ) -> dict[int, Range]:
        tps = [TopicPartition(topic, number) for number in described.partitions]
        await consumer._client.add_topic(topic)  # or its leaders are asked for after a first failure only
        firsts, ends = await consumer.beginning_offsets(tps), await consumer.end_offsets(tps)
        return {tp.partition: Range(firsts[tp], ends[tp]) for tp in tps}

    async def scan(self, topic: str, partition: int, start: int, end: int) -> AsyncIterator[RecordChunk]:
        """See :class:`streamcore.contracts.Log`."""
        consumer = await self._consumer()
        tp = TopicPartition(topic, partition)
        try:
            found = await describe_topics(consumer._client, [topic])
            if topic not in found or partition not in found[topic].partitions:
                raise Permanent("the partition does not exist", where=f"{topic}/{partition}")
            source = PartitionId(topic, partition, found[topic].topic_id)
            consumer.assign([tp])
            last = min(end, (await consumer.end_offsets([tp]))[tp])
            at = max(start, (await consumer.beginning_offsets([tp]))[tp])
            consumer.seek(tp, at)
            while at < last:
                records = (await consumer.getmany(tp, timeout_ms=_POLL_MS)).get(tp, [])
                after = min(await consumer.position(tp), last)
                if records:
                    yield chunk_of_records(source, at, after, [r for r in records if r.offset < last])
                at = after
        except KafkaError as error:
            raise translate(error, f"{topic}/{partition}") from error
        finally:
            await consumer.stop()

    async def _consumer(self, isolation: str = "read_committed") -> AIOKafkaConsumer:
        consumer = AIOKafkaConsumer(
            **self._connection.client_options(),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level=isolation,
            max_partition_fetch_bytes=_SCAN_BYTES,
        )
        try:
            await consumer.start()
        except KafkaError as error:
            await consumer.stop()
            raise translate(error, str(self._connection)) from error
        await asyncio.sleep(0)  # its tasks begin: aiokafka's stop() of one that has not is a CancelledError
        return consumer

    # ------------------------------------------------------------ topics

    async def topics(self) -> Sequence[str]:
        """See :class:`streamcore.contracts.Log`."""
        admin = AIOKafkaAdminClient(**self._connection.client_options())
        try:
            await admin.start()
            return sorted(await admin.list_topics())
        except KafkaError as error:
            raise translate(error, str(self._connection)) from error
        finally:
            await admin.close()

    async def create(self, topic: str, partitions: int, config: Mapping[str, str]) -> bool:
        """See :class:`streamcore.contracts.Log`; replicated as the cluster's default says."""
        admin = AIOKafkaAdminClient(**self._connection.client_options())
        try:
            await admin.start()
            wanted = NewTopic(topic, partitions, 1, topic_configs=dict(config))
            wanted.replication_factor = -1  # the constructor does not allow the cluster's default
            error_type = await self._asked_to_create(admin, wanted)
            if error_type not in (NoError, TopicAlreadyExistsError):
                raise translate(error_type(), topic)
            await self._wait_for_leaders(admin, topic)
        except KafkaError as error:
            raise translate(error, topic) from error
        finally:
            await admin.close()
        self._topics.pop(topic, None)
        return error_type is NoError

    async def _asked_to_create(self, admin: AIOKafkaAdminClient, wanted: NewTopic) -> type[KafkaError]:
        # The controller counts the brokers that it hears from: one that was too busy to be heard comes back.
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _LEADER_SECONDS
        while True:
            answer = await admin.create_topics([wanted])
            error_type: type[KafkaError] = for_code(answer.topic_errors[0][1])
            if error_type is not InvalidReplicationFactorError or loop.time() > deadline:
                return error_type
            await asyncio.sleep(0.2)

    async def _wait_for_leaders(self, admin: AIOKafkaAdminClient, topic: str) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _LEADER_SECONDS
        while loop.time() < deadline:
            found = await describe_topics(admin._client, [topic])
            if topic in found and found[topic].has_leaders:
                return
            await asyncio.sleep(0.05)
        raise Transient(f"topic {topic} has no leaders yet", fix="see the broker's log")

    async def trim(self, topic: str, partition: int, below: int) -> None:
        """See :class:`streamcore.contracts.Log`; the broker drops whole segments, some time later."""
        admin = AIOKafkaAdminClient(**self._connection.client_options())
        try:
            await admin.start()
            await admin.delete_records({TopicPartition(topic, partition): RecordsToDelete(below)})
        except KafkaError as error:
            raise translate(error, f"{topic}/{partition}") from error
        finally:
            await admin.close()

    async def close(self) -> None:
        """Send what is on its way, for a while, and disconnect."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await self._stop(producer)

    async def _stop(self, producer: AIOKafkaProducer) -> None:
        try:
            await asyncio.wait_for(producer.stop(), _CLOSE_SECONDS)
        except (KafkaError, asyncio.TimeoutError):
            return  # no broker to say goodbye to; nothing on its way was confirmed


def _has_failed(sent: asyncio.Future[object]) -> bool:
    return sent.done() and (sent.cancelled() or sent.exception() is not None)
