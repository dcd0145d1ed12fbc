"""The broker's log as a simulated process sees it: the real embedded one, behind a network."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from streamcore.batch import Range
from streamcore.contracts import Lane, Records
from streamcore.errors import Transient
from streamcore.transport.embedded_blocks import LogChunk, cut, to_batch
from streamcore.transport.embedded_broker import Broker
from streamcore.transport.embedded_log import EmbeddedLog
from streamcore.transport.embedded_transactions import EmbeddedOwnedAppends, EmbeddedTransactions
from streamcore.transport.partitioning import by_partition
from tests.simulation.loop import PROCESS
from tests.simulation.network import Network, at_once


class SimulatedLog:
    """contracts.Log of the current process. An append may come late, in part, twice or without a reply.

    As with Kafka's idempotent producer, what was sent to a partition behind a request that failed fails too,
    and the next append waits until all of that is known.
    """

    def __init__(self, broker: Broker, network: Network) -> None:
        self._broker, self._network, self._inner = broker, network, EmbeddedLog(broker)
        self._producer = _Producer()
        self._appending = asyncio.Lock()
        self._sent: list[tuple[asyncio.Future[None], list[asyncio.Future[None]]]] = []
        """Appends whose outcome was not known when the last one was asked for."""

    async def bounds(self, topic: str, *, settled: bool = False) -> Mapping[int, Range]:
        return await self._network.call(lambda: at_once(self._inner.bounds(topic)))

    async def topics(self) -> Sequence[str]:
        return await self._network.call(lambda: at_once(self._inner.topics()))

    async def create(self, topic: str, partitions: int, config: Mapping[str, str]) -> bool:
        return await self._network.call(lambda: self._broker.create(topic, partitions, config))

    async def append(self, topic: str, records: Records) -> Awaitable[None]:
        """Each partition's records are a request of their own: some may fail."""
        network, found = self._network, self._broker.topic(topic)
        assert found is not None
        unheard = self._sent = [one for one in self._sent if not one[0].done()]
        async with self._appending:
            await self._ready()
            failed = any(_has_failed(part) for _, parts in unheard for part in parts)
            if failed or self._producer.failed or network.dice.random() < network.trouble.loss / 4:
                raise Transient("an append before this one failed, or there is no room")
            parts = by_partition(records, len(found), network.dice.randrange(len(found)))
            sent = [self._send(topic, *part) for part in parts]
        outcome = asyncio.ensure_future(_all_of(sent))
        outcome.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._sent.append((outcome, sent))
        return outcome

    async def _ready(self) -> None:
        """Another producer, once all that a torn one had sent is settled."""
        if self._producer.failed:
            if self._producer.under_way:
                await asyncio.wait(self._producer.under_way)
            self._producer = _Producer()
        await asyncio.sleep(0)

    def _send(self, topic: str, partition: int, records: Records) -> asyncio.Future[None]:
        producer, place = self._producer, (topic, partition)

        def effect() -> None:
            if place in producer.lost:
                raise Transient("out of order")
            for block in cut(to_batch(records)):
                self._broker.append(topic, partition, block)
            self._network.on_append(topic, process)

        process, late = PROCESS.get(), 0.0
        if process is not None and process in self._network.stuck and topic.endswith(".log"):
            late = self._network.stuck.pop(process)
            self._network.loop.world_later(0.0, process.kill)
        sent = self._network.send(
            effect, channel=(producer, place), on_loss=lambda: producer.lost.add(place), late=late
        )
        producer.under_way.add(sent)
        sent.add_done_callback(producer.settled)
        return sent

    async def scan(self, topic: str, partition: int, start: int, end: int) -> AsyncIterator[LogChunk]:
        while chunk := await self.read(topic, partition, start, end):
            yield chunk
            start = chunk.end

    async def read(self, topic: str, partition: int, start: int, end: int) -> LogChunk | None:
        """The records in ``[start, end)``, or some of them."""
        found = self._broker.topic(topic)
        assert found is not None
        return await self._network.call(lambda: found.logs[partition].read(start, 1 << 20, end))

    def transactions(
        self, topic: str, lane: Lane, crash_point: Callable[[str], None]
    ) -> SimulatedTransactions:
        return SimulatedTransactions(self._inner.transactions(topic, lane, crash_point), self._network)

    def owned(self, topic: str, lane: Lane) -> SimulatedOwnedAppends:
        return SimulatedOwnedAppends(self._inner.owned(topic, lane), self._network, topic)

    async def trim(self, topic: str, partition: int, below: int) -> None:
        await self._network.call(lambda: at_once(self._inner.trim(topic, partition, below)))

    async def close(self) -> None:
        pass


class SimulatedTransactions:
    """contracts.Transactions behind a network: the embedded ones, each call of which is one request."""

    def __init__(self, inner: EmbeddedTransactions, network: Network) -> None:
        self._inner, self._network = inner, network

    async def open(self, start: int) -> int:
        return await self._network.call(lambda: at_once(self._inner.open(start)), channel=self)

    async def append(self, records: Records) -> None:
        await self._network.call(lambda: at_once(self._inner.append(records)), channel=self)

    async def commit(self, position: int, records: Records | None = None) -> None:
        await self._network.call(lambda: at_once(self._inner.commit(position, records)), channel=self)

    async def close(self) -> None:
        pass


class SimulatedOwnedAppends:
    """contracts.OwnedAppends to *topic* behind a network."""

    def __init__(self, inner: EmbeddedOwnedAppends, network: Network, topic: str) -> None:
        self._inner, self._network, self._topic = inner, network, topic

    async def open(self) -> None:
        await self._network.call(lambda: at_once(self._inner.open()), channel=self)

    async def append(self, records: Records) -> None:
        process = PROCESS.get()

        def effect() -> None:
            at_once(self._inner.append(records))
            self._network.on_append(self._topic, process)

        await self._network.call(effect, channel=self)

    async def close(self) -> None:
        pass


@dataclass(eq=False)
class _Producer:
    """Requests on their way, the partitions of which one was lost, and whether any has failed by now."""

    under_way: set[asyncio.Future[None]] = field(default_factory=set)
    lost: set[tuple[str, int]] = field(default_factory=set)
    failed: bool = False

    def settled(self, sent: asyncio.Future[None]) -> None:
        """*sent* has an outcome."""
        self.under_way.discard(sent)
        self.failed |= _has_failed(sent)


def _has_failed(sent: asyncio.Future[None]) -> bool:
    return sent.done() and (sent.cancelled() or sent.exception() is not None)


async def _all_of(sent: Sequence[asyncio.Future[None]]) -> None:
    outcomes = await asyncio.gather(*sent, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
