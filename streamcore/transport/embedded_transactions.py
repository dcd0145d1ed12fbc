"""Rows in the embedded log exactly once: what a crash left of a transaction is taken over, not taken back.

A commit makes the appended rows durable, then replaces one small file: the lane's position, and the ends of
the topic's partitions. So a row is there or not when a position says so. After a crash rows may lie behind
those ends which no position passes yet; their headers say where they came from (``sc-position``). They will
be made again, and are the same, so those that are there already are left out then. Nothing is ever hidden
from readers or removed, and a row is once in the log.

A directory belongs to one process at a time, so another owner of a lane is always of this process.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamcore.batch import PartitionId
from streamcore.contracts import Lane, Records
from streamcore.errors import Fenced, Permanent
from streamcore.transport.embedded_broker import Broker

if TYPE_CHECKING:
    from streamcore.transport.embedded_log import EmbeddedLog

HEADER = "sc-position"


class EmbeddedTransactions:
    """See :class:`streamcore.contracts.Transactions`."""

    def __init__(
        self, log: EmbeddedLog, broker: Broker, topic: str, lane: Lane, crash_point: Callable[[str], None]
    ) -> None:
        self._log, self._broker, self._topic, self._lane = log, broker, topic, lane
        self._crash_point = crash_point
        self._group = broker.group("lane-" + hashlib.sha256(lane.name.encode()).hexdigest()[:32])
        self._opened = False
        self._there = pa.array([], pa.binary())
        """Headers of the rows that lie behind the last commit."""
        self._beyond = 0
        """All of them are below this position."""

    async def open(self, start: int) -> int:
        """See :class:`streamcore.contracts.Transactions`."""
        if self._opened:
            self._check()
        self._broker.owners[self._lane.name] = self
        self._opened = True
        stored = (await self._group.settled()).get(self._lane.source)
        self._there = await self._behind_the_commit() if stored is not None else pa.array([], pa.binary())
        self._beyond = max((_offset(value) + 1 for value in self._there.to_pylist()), default=0)
        position = start if stored is None else stored
        await self.commit(position)
        return position

    def _check(self) -> None:
        _check_owner(self._broker, self._lane, self)

    async def append(self, records: Records) -> None:
        """See :class:`streamcore.contracts.Transactions`."""
        self._check()
        if len(self._there):
            new = pc.invert(pc.is_in(_positions(records), self._there))
            records = _filtered(records, new)
        if len(records):
            await self._log.append_if(self._topic, records, self._check)

    async def commit(self, position: int, records: Records | None = None) -> None:
        """See :class:`streamcore.contracts.Transactions`."""
        if records is not None:
            await self.append(records)
            self._crash_point("topic.before_commit")
        if position >= self._beyond:
            self._there = pa.array([], pa.binary())
        ends = self._ends() if not len(self._there) else {}
        await self._group.store({self._lane.source: position, **ends}, self._check)

    async def close(self) -> None:
        """See :class:`streamcore.contracts.Transactions`."""

    def _ends(self) -> dict[PartitionId, int]:
        found = self._broker.topic(self._topic)
        if found is None or not found.logs:
            raise Permanent(f"there is no topic {self._topic} to append to", fix="create it first")
        return {log.source: log.end for log in found.logs}

    async def _behind_the_commit(self) -> pa.BinaryArray:
        """The headers of this lane's rows that were appended since the last commit."""
        lane = hashlib.sha256(f"{self._lane.source.topic_id}/{self._lane.source.partition}".encode()).digest()
        found = []
        for source, end in self._ends().items():
            begin = self._group.committed.get(source, self._broker.bounds(source).start)
            async for chunk in self._log.scan(self._topic, source.partition, begin, end):
                headers = [dict(chunk.headers(offset)).get(HEADER) for offset in chunk.offsets().tolist()]
                found += [h for h in headers if h is not None and h[:8] == lane[:8]]
        return pa.array(found, pa.binary())


class EmbeddedOwnedAppends:
    """See :class:`streamcore.contracts.OwnedAppends`."""

    def __init__(self, log: EmbeddedLog, broker: Broker, topic: str, lane: Lane) -> None:
        self._log, self._broker, self._topic, self._lane = log, broker, topic, lane

    async def open(self) -> None:
        """See :class:`streamcore.contracts.OwnedAppends`."""
        self._broker.owners[self._lane.name] = self

    async def append(self, records: Records) -> None:
        """See :class:`streamcore.contracts.OwnedAppends`."""
        await self._log.append_if(self._topic, records, self._check)
        await self._broker.synced()

    def _check(self) -> None:
        _check_owner(self._broker, self._lane, self)

    async def close(self) -> None:
        """See :class:`streamcore.contracts.OwnedAppends`."""


def _check_owner(broker: Broker, lane: Lane, who: object) -> None:
    if broker.owners.get(lane.name) is not who:
        raise Fenced(f"{lane.source} has another owner by now", where=f"sink {lane.sink!r}")


def _offset(header: bytes) -> int:
    return int.from_bytes(header[8:16], "big", signed=True)


def _positions(records: Records) -> pa.BinaryArray:
    value = next((value for name, value in records.headers if name == HEADER), None)
    if not isinstance(value, pa.Array):
        raise Permanent(f"the records do not say where they came from: they have no header {HEADER}")
    return value


def _filtered(records: Records, keep: pa.BooleanArray) -> Records:
    places = np.flatnonzero(keep.to_numpy(zero_copy_only=False))
    return replace(
        records,
        values=records.values.filter(keep),
        timestamps=records.timestamps[places],
        keys=None if records.keys is None else records.keys.filter(keep),
        partitions=None if records.partitions is None else records.partitions[places],
        headers=tuple((n, v if isinstance(v, bytes) else v.filter(keep)) for n, v in records.headers),
    )
