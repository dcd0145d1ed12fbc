"""The Faust producer of the embedded transport: one record at a time, for per-record agents and tables.

Records are in the log when ``send`` returns; they are durable with the next commit of a consumer
(see ``Group.commit``). Chunked sinks append whole columns through ``EmbeddedLog`` instead.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Mapping

from aiokafka.partitioner import murmur2
from faust.transport import producer
from faust.types import TP, HeadersArg, RecordMetadata

from streamcore.transport.embedded_blocks import one_record
from streamcore.transport.embedded_broker import Broker, Topic


class Producer(producer.Producer):  # type: ignore[misc]
    """Appends to the broker of its transport; a topic that does not exist is made."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self._broker: Broker = self.transport.broker
        self._keyless = 0

    async def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        partition: int | None,
        timestamp: float | None,
        headers: HeadersArg | None,
        *,
        transactional_id: str | None = None,
    ) -> Awaitable[RecordMetadata]:
        """Append a record, after waiting for room; *timestamp* in seconds. The result is done already."""
        found = self._topic(topic)
        if partition is None:
            partition = self._partition(found, key)
        pairs = list(headers.items() if isinstance(headers, Mapping) else headers or ())
        millis = int((time.time() if timestamp is None else timestamp) * 1000)
        record = one_record(key, value, millis, pairs)
        await self._broker.room(topic, partition, record.nbytes)
        offset = self._broker.append(topic, partition, record)
        done: asyncio.Future[RecordMetadata] = asyncio.get_running_loop().create_future()
        tp = TP(topic, partition)
        done.set_result(RecordMetadata(topic, partition, tp, offset, millis / 1000, 0))
        return done

    async def send_and_wait(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        partition: int | None,
        timestamp: float | None,
        headers: HeadersArg | None,
        *,
        transactional_id: str | None = None,
    ) -> RecordMetadata:
        """Append a record and say where it is."""
        return await (await self.send(topic, key, value, partition, timestamp, headers))

    async def flush(self) -> None:
        """Append what ``send_soon`` has buffered."""
        await self.buffer.flush()

    async def create_topic(
        self,
        topic: str,
        partitions: int,
        replication: int,
        *,
        config: Mapping[str, str] | None = None,
        compacting: bool | None = None,
        **_: object,
    ) -> None:
        """Make the topic unless it exists; a compacting one keeps all its records."""
        settings = dict(config or {})
        if compacting:
            settings["cleanup.policy"] = "compact"
        self._broker.create(topic, partitions, settings)

    def key_partition(self, topic: str, key: bytes) -> TP:
        """The partition of *key*."""
        return TP(topic, self._partition(self._topic(topic), key))

    def supports_headers(self) -> bool:
        """Records carry headers."""
        return True

    def _topic(self, topic: str) -> Topic:
        found = self._broker.topic(topic)
        if found is None:
            self._broker.create(topic, self.app.conf.topic_partitions)
            found = self._broker.topic(topic)
            assert found is not None
        return found

    def _partition(self, topic: Topic, key: bytes | None) -> int:
        if key is None:
            self._keyless += 1
            return self._keyless % len(topic)
        return int(murmur2(key) & 0x7FFFFFFF) % len(topic)
