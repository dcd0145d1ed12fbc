"""The compacted topic ``{topology}.positions``: how far each lane's transactions are, and who opened it last.

The last committed record of a lane counts. Read as a consumer of committed records does, up to the end of
the log: not to the last stable offset, which another lane's open transaction may hold back.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

import numpy as np
import orjson
import pyarrow as pa
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from streamcore.contracts import Lane, Records
from streamcore.errors import Transient

SUFFIX = ".positions"
CONFIG = {
    "cleanup.policy": "compact",
    "segment.bytes": str(4 << 20),
    "min.cleanable.dirty.ratio": "0.1",
    "message.timestamp.type": "LogAppendTime",
}
_READ_SECONDS = 60.0
"""Longer than any transaction can stay open."""
_POLL_MS = 20


class Stored(NamedTuple):
    """Where a lane stands; *token* is its owner's, *owner* names it for people. *bookmark*: an intake's."""

    position: int
    token: str
    owner: str
    bookmark: bytes = b""


class PositionTopic:
    """The topic of *topology*. *create* makes it, *reader* gives a consumer of an isolation level."""

    def __init__(
        self,
        topology: str,
        create: Callable[[str, int, Mapping[str, str]], Awaitable[bool]],
        reader: Callable[[str], Awaitable[AIOKafkaConsumer]],
    ) -> None:
        self.topic = topology + SUFFIX
        self._create, self._reader = create, reader
        self._made = False
        self._at = 0
        self._stored: dict[str, Stored] = {}
        self._reading: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None

    def record(self, lane: Lane, position: int, token: str, bookmark: bytes = b"") -> Records:
        """What says that *lane* stands at *position*, and at *bookmark* if it has one."""
        source = lane.source
        value = {
            "sink": lane.sink,
            "topic": source.topic,
            "topic_id": source.topic_id,
            "partition": source.partition,
            "position": position,
            "owner": lane.owner,
            "token": token,
            **({"bookmark": base64.b64encode(bookmark).decode()} if bookmark else {}),
        }
        columns = [pa.array([x], pa.binary()) for x in (orjson.dumps(value), lane.name.encode())]
        return Records(columns[0], np.zeros(1, np.int64), columns[1])

    async def read(self) -> Mapping[str, Stored]:
        """Where each lane stands, by its name; at least what was committed before the call.

        Callers share one reading: the one that begins next.
        """
        if self._next is None:
            self._next = asyncio.create_task(self._read(self._reading))
        await asyncio.shield(self._next)
        return self._stored

    async def _read(self, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        self._reading, self._next = self._next, None
        await asyncio.wait_for(self._catch_up(), _READ_SECONDS)

    async def _catch_up(self) -> None:
        if not self._made:
            await self._create(self.topic, 1, CONFIG)
            self._made = True
        tp = TopicPartition(self.topic, 0)
        every = await self._reader("read_uncommitted")
        try:
            await every._client.add_topic(self.topic)
            end = (await every.end_offsets([tp]))[tp]
        finally:
            await every.stop()
        if self._at < end:
            await self._read_to(tp, end)

    async def _read_to(self, tp: TopicPartition, end: int) -> None:
        consumer = await self._reader("read_committed")
        try:
            consumer.assign([tp])
            first = (await consumer.beginning_offsets([tp]))[tp]
            consumer.seek(tp, max(self._at, first))
            while self._at < end:
                for record in (await consumer.getmany(tp, timeout_ms=_POLL_MS)).get(tp, []):
                    value = orjson.loads(record.value)
                    self._stored[record.key.decode()] = Stored(
                        value["position"],
                        value["token"],
                        value["owner"],
                        base64.b64decode(value.get("bookmark", "")),
                    )
                self._at = await consumer.position(tp)
        except (KeyError, orjson.JSONDecodeError) as error:
            raise Transient("a record is not a position", where=f"{tp.topic}/{self._at}") from error
        finally:
            await consumer.stop()
