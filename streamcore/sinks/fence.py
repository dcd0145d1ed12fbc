"""Positions and fences of sinks in SQL databases: who owns a partition, and up to where its rows are stored.

One row for each (topology, sink, topic id, partition) of the table ``streamcore_positions``, beside the
target. Taking a partition over raises ``owner_epoch``. The first statement of a transaction that writes
rows compares and sets ``next_offset`` and ``owner_epoch``: a former owner finds no row to set.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar

from streamcore.batch import PartitionId
from streamcore.systems.sql import SqlSession

SessionT = TypeVar("SessionT", contravariant=True)
SqlSessionT = TypeVar("SqlSessionT", bound=SqlSession)
POSITIONS = "streamcore_positions"
StoredKey = tuple[str, int]
"""Topic id and partition."""


def application_name(topology: str, sink: str, owner: str) -> str:
    """How an owner's sessions are known to the server, so that an heir can end those that hang."""
    text = "\0".join((topology, sink, owner))
    return f"streamcore {hashlib.sha256(text.encode()).hexdigest()[:32]}"


class Stored(NamedTuple):
    """What the database says of a partition."""

    position: int
    epoch: int
    owner: str


def stored_by_key(rows: Iterable[Sequence[object]]) -> dict[StoredKey, Stored]:
    """*rows* of topic id, partition, position, epoch and owner, as any database gives their values."""
    return {
        (str(topic_id), int(str(number))): Stored(int(str(position)), int(str(epoch)), str(owner))
        for topic_id, number, position, epoch, owner in rows
    }


class Move(NamedTuple):
    """A partition's rows in ``[start, end)``, written by the owner of *epoch*."""

    partition: PartitionId
    start: int
    end: int
    epoch: int


class Fence(Protocol[SessionT]):
    """The positions of one sink of one topology. Errors are the session's."""

    async def take_over(
        self, session: SessionT, starts: Mapping[PartitionId, int], owner: str
    ) -> Mapping[PartitionId, Stored]:
        """Make *owner* the owner of these partitions; those that are not known begin at their start.

        From the moment this returns no former owner can move them.
        """
        ...

    async def stored(self, session: SessionT) -> Mapping[StoredKey, Stored]:
        """What is stored of all partitions of the sink."""
        ...

    async def move(self, session: SessionT, moves: Sequence[Move]) -> bool:
        """Within a transaction: whether all stood at their start and were their owner's, and then moved."""
        ...

    async def end_sessions(self, session: SessionT, owners: Iterable[str]) -> None:
        """End what the sessions of former *owners* do, where the system lets us."""
        ...


class Dialect(Protocol):
    """How a database writes what :class:`RowFence` says."""

    @property
    def now(self) -> str:
        """An expression for this moment."""
        ...

    def on_conflict(self, key: Sequence[str]) -> str:
        """What stands behind an INSERT whose row is there already by *key* (quoted), before ``a = …``."""
        ...

    def quote(self, name: str) -> str: ...

    def constant(self, value: str | int) -> str: ...


@dataclass(frozen=True)
class RowFence(Generic[SqlSessionT]):
    """A :class:`Fence` by one statement a partition, each by the primary key and in one order.

    So it locks no rows but its own, and two that take the same partitions over wait for each other.
    """

    table: str
    """Quoted, with its schema."""
    topology: str
    sink: str
    dialect: Dialect

    async def take_over(
        self, session: SqlSessionT, starts: Mapping[PartitionId, int], owner: str
    ) -> Mapping[PartitionId, Stored]:
        async with session.transaction():
            for partition in _in_order(starts):
                await session.run(self._take_over(partition, starts[partition], owner))
            found = await self.stored(session)
        return {p: found[p.topic_id, p.partition] for p in starts}

    async def stored(self, session: SqlSessionT) -> Mapping[StoredKey, Stored]:
        names = ", ".join(map(self.dialect.quote, ("topic_id", "partition", "next_offset")))
        rows = await session.rows(f"select {names}, owner_epoch, owner from {self.table} where {self._mine}")
        return stored_by_key(rows)

    async def move(self, session: SqlSessionT, moves: Sequence[Move]) -> bool:
        by_partition = {move.partition: move for move in moves}
        for partition in _in_order(by_partition):
            if await session.run(self.compare_and_set(by_partition[partition])) != 1:
                return False
        return True

    async def end_sessions(self, session: SqlSessionT, owners: Iterable[str]) -> None:
        """Nothing: see what the database offers."""

    def compare_and_set(self, move: Move) -> str:
        """The statement that moves a partition, if it stands where it should and is ours."""
        return (
            f"update {self.table} set next_offset = {move.end}, updated_at = {self.dialect.now} "
            f"where {self._mine} and {self._of(move.partition)} "
            f"and next_offset = {move.start} and owner_epoch = {move.epoch}"
        )

    def _take_over(self, partition: PartitionId, start: int, owner: str) -> str:
        constant, quote = self.dialect.constant, self.dialect.quote
        key = [quote(name) for name in ("topology", "sink", "topic_id", "partition")]
        names: tuple[str | int, ...] = (
            self.topology,
            self.sink,
            partition.topic_id,
            partition.partition,
            partition.topic,
        )
        values = [*map(constant, names), str(start), "1", constant(owner)]
        now = self.dialect.now
        return (
            f"insert into {self.table} "
            f"({', '.join(key)}, topic, next_offset, owner_epoch, owner, updated_at) "
            f"values ({', '.join(values)}, {now}) {self.dialect.on_conflict(key)} "
            f"owner_epoch = owner_epoch + 1, owner = {constant(owner)}, updated_at = {now}"
        )

    @property
    def _mine(self) -> str:
        constant = self.dialect.constant
        return f"topology = {constant(self.topology)} and sink = {constant(self.sink)}"

    def _of(self, partition: PartitionId) -> str:
        constant, quote = self.dialect.constant, self.dialect.quote
        return (
            f"topic_id = {constant(partition.topic_id)} "
            f"and {quote('partition')} = {constant(partition.partition)}"
        )


def _in_order(partitions: Iterable[PartitionId]) -> list[PartitionId]:
    return sorted(partitions, key=lambda p: (p.topic_id, p.partition))
