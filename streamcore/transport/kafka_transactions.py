"""Kafka's transactions, one transactional id a lane: rows and their source's position, all or nothing.

aiokafka 0.14 does not know KIP-447, so the consumer's generation fences nobody; what fences is the
transactional id. It is initialised before any position is read: that ends a former owner's transaction and
refuses what it still sends. Whatever goes wrong with a producer, it is thrown away, and another one asks
how far the lane is. Before that it looks who opened the lane last: a worker that was stopped, and finds that
it was fenced, must not fence its heir.

Positions are records of a compacted topic, written in the same transaction (:mod:`.kafka_position_topic`).
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from itertools import count
from typing import TypeVar

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from streamcore.contracts import Lane, Records
from streamcore.errors import Fenced, Permanent, Transient
from streamcore.systems.kafka import KafkaConnection, translate
from streamcore.systems.kafka_topic_ids import describe_topics
from streamcore.transport.kafka_position_topic import PositionTopic, Stored
from streamcore.transport.record_batches import batches

T = TypeVar("T")
TRANSACTION_SECONDS = 10
"""The broker takes back a transaction that is open for so long; readers of the topic wait meanwhile."""
_ANSWER_SECONDS = 30.0
_BACKOFF_MS = 20
_CLOSE_SECONDS = 5.0


class KafkaTransactions:
    """See :class:`streamcore.contracts.Transactions`."""

    def __init__(
        self,
        connection: KafkaConnection,
        positions: PositionTopic,
        topic: str,
        lane: Lane,
        crash_point: Callable[[str], None],
    ) -> None:
        self._connection, self._positions, self._topic, self._lane = connection, positions, topic, lane
        self._crash_point = crash_point
        self._token = uuid.uuid4().hex
        self.bookmark = b""
        """What the next commit keeps beside its position; after :meth:`open` what the last one kept."""
        self._claimed = False
        self._producer: AIOKafkaProducer | None = None
        self._begun = False
        self._sent: list[asyncio.Future[object]] = []
        self._partitions = 0
        self._keyless = count()

    async def open(self, start: int) -> int:
        """See :class:`streamcore.contracts.Transactions`."""
        await self.close()
        if self._claimed:
            self._check(await self._stored())
        self._producer = await self._started()
        stored = await self._stored()
        if self._claimed:
            self._check(stored)
        position, self.bookmark = (start, b"") if stored is None else (stored.position, stored.bookmark)
        await self.commit(position)
        self._claimed = True
        return position

    def _check(self, stored: Stored | None) -> None:
        if stored is None or stored.token != self._token:
            raise Fenced(
                f"{self._lane.source} has another owner by now: {stored.owner if stored else 'unknown'}",
                where=f"sink {self._lane.sink!r}",
                fix="nothing to do: this worker stops, and its rows are the other one's",
            )

    async def _stored(self) -> Stored | None:
        try:
            return (await self._positions.read()).get(self._lane.name)
        except (KafkaError, asyncio.TimeoutError) as error:
            raise translate(error, self._positions.topic) from error

    async def append(self, records: Records) -> None:
        """See :class:`streamcore.contracts.Transactions`."""
        producer = await self._in_transaction()
        await self._within(self._send(producer, self._topic, records, self._partitions))

    async def commit(self, position: int, records: Records | None = None) -> None:
        """See :class:`streamcore.contracts.Transactions`."""
        producer = await self._in_transaction()
        await self._within(self._commit(producer, position, records))
        self._begun = False

    async def close(self) -> None:
        """See :class:`streamcore.contracts.Transactions`."""
        producer, self._producer = self._producer, None
        self._begun, self._sent = False, []
        if producer is not None:
            await _throw_away(producer)

    # ------------------------------------------------------------ one producer's life

    async def _started(self) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            **self._connection.client_options(),
            transactional_id=self._lane.name,
            transaction_timeout_ms=TRANSACTION_SECONDS * 1000,
            retry_backoff_ms=_BACKOFF_MS,
            linger_ms=0,
        )
        try:
            await self._within(producer.start())
            described = await self._within(describe_topics(producer.client, [self._topic]))
        except BaseException:
            await _throw_away(producer)
            raise
        if self._topic not in described:
            await _throw_away(producer)
            raise Permanent(f"topic {self._topic} does not exist", fix="create it, or correct its name")
        self._partitions = len(described[self._topic].partitions)
        return producer

    async def _in_transaction(self) -> AIOKafkaProducer:
        if self._producer is None:
            raise Transient("the transaction has no producer", where=self._topic, fix="open it again")
        if not self._begun:
            await self._within(self._producer.begin_transaction())
            self._begun = True
        return self._producer

    async def _send(self, producer: AIOKafkaProducer, topic: str, records: Records, partitions: int) -> None:
        keyless = next(self._keyless) % partitions
        for partition, batch in batches(records, partitions, keyless):
            batch.transactional = True
            sent = await producer.send_batch(batch, topic, partition=partition)
            sent.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._sent.append(sent)

    async def _commit(self, producer: AIOKafkaProducer, position: int, records: Records | None) -> None:
        # All in one go: one request makes them part of the transaction, and one brings them.
        if records is not None:
            await self._send(producer, self._topic, records, self._partitions)
        here = self._positions.record(self._lane, position, self._token, self.bookmark)
        await self._send(producer, self._positions.topic, here, 1)
        # aiokafka commits also when a batch has failed for good: that must be looked at first.
        await asyncio.wait(self._sent)
        for sent in self._sent:
            sent.result()
        if records is not None:
            self._crash_point("topic.before_commit")
        await producer.commit_transaction()
        self._sent.clear()

    async def _within(self, answer: Awaitable[T]) -> T:
        """*answer*, in time; what aiokafka says as our errors."""
        try:
            return await asyncio.wait_for(answer, _ANSWER_SECONDS)
        except asyncio.TimeoutError as error:
            raise Transient("the broker did not answer in time", where=self._topic) from error
        except AssertionError as error:
            # What its transaction's states do not allow any more once its sender has failed.
            raise Transient("the transaction has failed", where=self._topic) from error
        except KafkaError as error:
            raise translate(error, self._topic) from error


async def _throw_away(producer: AIOKafkaProducer) -> None:
    """End *producer* without flushing what it holds: stop() would wait for a broker that may not answer."""
    producer._closed = True  # or it complains when it is collected
    sender = producer._sender.sender_task
    if sender is not None:
        sender.cancel()
    await producer.client.close()
    if sender is not None:
        await asyncio.wait([sender], timeout=_CLOSE_SECONDS)
    held = [batch for queue in producer._message_accumulator._batches.values() for batch in queue]
    waiting = [sender, producer._txn_manager._transaction_waiter, *(batch._drain_waiter for batch in held)]
    for future in waiting:  # nobody asks how it ended
        if future is not None and future.done() and not future.cancelled():
            future.exception()
