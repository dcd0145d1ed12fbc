"""A topic that is written exactly once: a transaction for each source partition, committed at intervals.

Which position of a source partition its rows in the topic have reached is committed with the rows
(:class:`streamcore.contracts.Transactions`), and is the truth when the partition is taken over. Rows that
are not committed are kept here until they are: when a transaction fails, the next one has them again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress

from streamcore.batch import Batch, PartitionId
from streamcore.contracts import FlushReason, Lane, Log, Records, SinkContext, Transactions
from streamcore.errors import Permanent, Transient
from streamcore.sinks.appending import APPEND_ROWS

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
        try:
            await _all([lane.open(partitions[source]) for source, lane in lanes.items()])
        except BaseException:  # also when it is broken off: a lane that is not open must not be flushed
            await _all([lane.close() for lane in lanes.values()])
            raise
        self._lanes |= lanes
        return {source: lane.confirmed for source, lane in lanes.items()}

    def _lane(self, source: PartitionId) -> _OpenLane:
        context = self._context
        lane = Lane(context.topology, context.sink, source, context.owner)
        transactions = context.log.transactions(self._topic, lane, context.crash_point)
        return _OpenLane(lane, transactions, self._records, context, self._commit_seconds)

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
        """Begin to commit what waits for long enough, or everything, and then wait for it."""
        await _all([lane.flush(lasting=reason in _LASTING) for lane in self._lanes.values()])
        return {source: lane.confirmed for source, lane in self._lanes.items()}

    async def release(self, partitions: Sequence[PartitionId]) -> None:
        """Forget *partitions*, with what is not committed of them."""
        gone = [self._lanes.pop(source) for source in partitions if source in self._lanes]
        await _all([lane.close() for lane in gone])

    async def close(self) -> None:
        """Forget everything."""
        await self.release(list(self._lanes))


class _OpenLane:
    """One source partition: ``confirmed`` is committed, and all before ``end`` was taken over.

    At most one turn (an append, with or without a commit) is under way; what comes meanwhile is held for the
    next. How it ended is looked at in the next call.
    """

    def __init__(
        self,
        lane: Lane,
        transactions: Transactions,
        records: MakeRecords,
        context: SinkContext,
        commit_seconds: float,
    ) -> None:
        self._lane, self._transactions, self._records = lane, transactions, records
        self._context, self._commit_seconds = context, commit_seconds
        self.confirmed = self.end = 0
        self._appended: list[Batch] = []
        """Not committed yet, or not known to be."""
        self._held: list[Batch] = []
        self._held_rows = self._bytes = 0
        self._asked, self._asked_at = 0, 0.0
        """What the last commit that was begun reaches, and when that was."""
        self._turn: asyncio.Task[int | None] | None = None
        self._broken = True

    async def open(self, start: int) -> None:
        self.confirmed = self.end = self._asked = await self._transactions.open(start)
        self._asked_at = self._context.clock()  # opening commits as well
        self._broken = False

    async def hold(self, batch: Batch) -> None:
        """Take *batch*; it is taken when this returns, and was not when it raises."""
        await self._settle(wait=False)
        self._held.append(batch)
        self._held_rows += len(batch)
        self._bytes += _size(batch)
        self.end = batch.range.end
        if self._bytes > self._context.memory_limit:
            with suppress(Transient):  # mended already, or the next call tries to
                await self.flush(lasting=True)
        else:
            self._begin_if_worth_it()

    async def flush(self, *, lasting: bool) -> None:
        """Begin a turn when it is time for one; *lasting*: until everything is committed."""
        await self._settle(wait=lasting)
        if lasting and self._turn is None and self.end > self.confirmed:
            self._begin(commit=True)
        else:
            self._begin_if_worth_it()
        while lasting and self._turn is not None:
            await self._settle(wait=True)

    async def close(self) -> None:
        """Break off what is under way."""
        if self._turn is not None:
            self._turn.cancel()
            await asyncio.wait([self._turn])
        await self._transactions.close()

    @property
    def _due(self) -> bool:
        """A commit for each interval at most; what comes after a pause waits for nothing."""
        since = self._context.clock() - self._asked_at
        waited = not 0 <= since < self._commit_seconds  # a clock may be set back
        return waited and self.end > self._asked

    def _begin_if_worth_it(self) -> None:
        """Nobody sees rows before their commit: few rows wait for it, and their transaction is short.

        While it is open it keeps readers from seeing what others have committed behind it.
        """
        if self._turn is None and (self._due or self._held_rows >= APPEND_ROWS):
            self._begin(commit=self._due)

    def _begin(self, *, commit: bool) -> None:
        batches, self._held, self._held_rows = self._held, [], 0
        self._appended += batches
        if commit:
            self._asked, self._asked_at = self.end, self._context.clock()
        self._turn = asyncio.create_task(self._take_turn(batches, self.end if commit else None))
        self._turn.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def _take_turn(self, batches: Sequence[Batch], position: int | None) -> int | None:
        records = self._records(batches)
        if position is not None:
            await self._transactions.commit(position, records)
            self._context.crash_point("topic.after_commit")
        elif records is not None:
            await self._transactions.append(records)
        return position

    async def _settle(self, *, wait: bool) -> None:
        """See how the last turn ended, if it has; after a failure begin anew and raise it."""
        if (turn := self._turn) is not None:
            if not turn.done() and not wait:
                return
            await asyncio.wait([turn])  # which does not break it off when this is broken off
            self._turn, self._broken = None, True
            try:
                position = turn.result()
            except Transient:
                await self._mend()  # who was fenced hears it here, and not as something to try again
                raise
            self._broken = False
            if position is not None:
                self.confirmed, self._appended = position, []
                self._bytes = sum(map(_size, self._held))
        if self._broken:
            await self._mend()

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
        self._held_rows, self._bytes = sum(map(len, self._held)), sum(map(_size, self._held))
        self._appended, self.confirmed, self._asked, self._broken = [], position, position, False


def _size(batch: Batch) -> int:
    return int(batch.frame.estimated_size())


async def _all(calls: Sequence[Awaitable[None]]) -> None:
    """Wait for all *calls*; then the worst failure is raised, one that can't be tried again before others."""
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    problems = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    for problem in sorted(problems, key=lambda p: isinstance(p, Transient)):
        raise problem
