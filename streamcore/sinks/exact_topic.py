"""A topic that is written exactly once: a transaction for each source partition, committed at intervals.

Which position of a source partition its rows in the topic have reached is committed with the rows
(:class:`streamcore.contracts.Transactions`), and is the truth when the partition is taken over. Rows that
are not committed are kept here until they are: when a transaction fails, the next one has them again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from streamcore.batch import Batch, PartitionId
from streamcore.contracts import FlushReason, Lane, Log, Records, SinkContext, Transactions
from streamcore.errors import Permanent, Transient
from streamcore.sinks.appending import APPEND_ROWS

T = TypeVar("T")
_LASTING = (FlushReason.END, FlushReason.REVOKE, FlushReason.PRESSURE)
MakeRecords = Callable[[Sequence[Batch]], "Records | None"]


class ExactTopicWriter:
    """The live part of a :class:`streamcore.sinks.Topic` with ``guarantee="exactly-once"``."""

    def __init__(
        self,
        topic: str,
        make_topic: Callable[[Log], Awaitable[None]],
        records: MakeRecords,
        context: SinkContext,
        commit_seconds: float,
    ) -> None:
        self._topic, self._make_topic, self._records = topic, make_topic, records
        self._context, self._commit_seconds = context, commit_seconds
        self._lanes: dict[PartitionId, _OpenLane] = {}

    async def start(self) -> None:
        """Permanent when the topic does not exist and is not to be made."""
        await self._make_topic(self._context.log)

    async def open(self, partitions: Mapping[PartitionId, int]) -> Mapping[PartitionId, int]:
        """Fence former owners, and go on at what they committed."""
        await self.release(list(partitions))
        lanes = {source: self._lane(source) for source in partitions}
        opening = [lane.open(partitions[source]) for source, lane in lanes.items()]
        self._lanes |= lanes  # also when it fails: they are to be closed
        await _all(opening)
        return {source: lane.confirmed for source, lane in lanes.items()}

    def _lane(self, source: PartitionId) -> _OpenLane:
        context = self._context
        lane = Lane(context.topology, context.sink, source, context.owner)
        return _OpenLane(lane, context.log.transactions(self._topic, lane), self._records, context)

    async def write(self, batch: Batch) -> None:
        """Hold the rows; with many of them append what is held."""
        lane = self._lanes.get(batch.source)
        if lane is None or batch.range.start != lane.end:
            raise Permanent(
                "this batch does not follow the one before it" if lane else "this partition is not open here",
                where=f"{self._context.sink}, {batch.source}/{batch.range.start}",
                allowed=None if lane is None else [lane.end],
            )
        await lane.hold(batch)

    async def flush(self, reason: FlushReason) -> Mapping[PartitionId, int]:
        """Append what is held, and commit the transactions that are open for long enough, or all."""
        most = 0.0 if reason in _LASTING else self._commit_seconds
        await _all([lane.flush(most) for lane in self._lanes.values()])
        return {source: lane.confirmed for source, lane in self._lanes.items()}

    async def release(self, partitions: Sequence[PartitionId]) -> None:
        """Forget *partitions*, with what is not committed of them."""
        gone = [self._lanes.pop(source) for source in partitions if source in self._lanes]
        await _all([lane.close() for lane in gone])

    async def close(self) -> None:
        """Forget everything."""
        await self.release(list(self._lanes))


class _OpenLane:
    """One source partition: ``confirmed`` is committed, and all before ``end`` was taken over."""

    def __init__(
        self, lane: Lane, transactions: Transactions, records: MakeRecords, context: SinkContext
    ) -> None:
        self._lane, self._transactions, self._records = lane, transactions, records
        self._context = context
        self.confirmed = self.end = 0
        self._appended: list[Batch] = []
        self._held: list[Batch] = []
        self._held_rows = self._bytes = 0
        self._since = 0.0
        self._broken = True

    async def open(self, start: int) -> None:
        self.confirmed = self.end = await self._transactions.open(start)
        self._broken = False

    async def hold(self, batch: Batch) -> None:
        """Take *batch*; it is taken when this returns, and was not when it raises."""
        if self._broken:
            await self._mend()
        if self.end == self.confirmed:
            self._since = self._context.clock()
        self._held.append(batch)
        self._held_rows += len(batch)
        self._bytes += _size(batch)
        self.end = batch.range.end
        try:
            if self._bytes > self._context.memory_limit:
                await self._commit()
            elif self._held_rows >= APPEND_ROWS:
                await self._append()
        except Transient:
            return  # mended already, or the next call tries to

    async def flush(self, most: float) -> None:
        """Append what is held; commit if that waits for *most* seconds or longer."""
        if self._broken:
            await self._mend()
        if self.end == self.confirmed:
            return
        if self._context.clock() - self._since >= most:
            await self._commit()
        else:
            await self._append()

    async def close(self) -> None:
        await self._transactions.close()

    async def _append(self) -> None:
        if (records := self._records(self._held)) is not None:
            await self._whole(self._transactions.append(records))
        self._appended += self._held
        self._held, self._held_rows = [], 0

    async def _commit(self) -> None:
        await self._append()
        self._context.crash_point("topic.before_commit")
        await self._whole(self._transactions.commit(self.end))
        self._context.crash_point("topic.after_commit")
        self.confirmed = self.end
        self._appended, self._bytes = [], 0

    async def _whole(self, call: Awaitable[T]) -> T:
        """The result of *call*; if it does not come to its end, the transaction is begun anew."""
        self._broken = True
        try:
            result = await call
        except Transient:
            await self._mend()  # who was fenced hears it here, and not as something to try again
            raise
        self._broken = False
        return result

    async def _mend(self) -> None:
        """Begin anew where the last commit is, with all that was not part of it."""
        position = await self._transactions.open(self.confirmed)
        if not self.confirmed <= position <= self.end:
            raise Permanent(
                f"the topic's position in {self._lane.source} is not one that this worker wrote",
                where=f"sink {self._lane.sink!r}",
                got=position,
                allowed=[f"{self.confirmed} to {self.end}"],
                fix="start the worker again; somebody else writes there, or has changed the positions",
            )
        left = [batch.cut(position, self.end) for batch in (*self._appended, *self._held)]
        self._held = [batch for batch in left if batch.range.end > position]
        self._held_rows = sum(map(len, self._held))
        self._bytes = sum(map(_size, self._held))
        self._appended, self.confirmed, self._broken = [], position, False


def _size(batch: Batch) -> int:
    return int(batch.frame.estimated_size())


async def _all(calls: Sequence[Awaitable[None]]) -> None:
    """Wait for all *calls*; then the worst failure is raised, one that can't be tried again before others."""
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    problems = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    for problem in sorted(problems, key=lambda p: isinstance(p, Transient)):
        raise problem
