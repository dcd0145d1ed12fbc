"""The live part of sinks that write to a table of an SQL database, exactly once.

Rows are held in memory until a flush or the memory limit; then one transaction writes them together
with the positions that they cover. Its first statement is the fence's (:mod:`.fence`). After a
connection was lost, also at COMMIT, the stored positions tell what had been written.

Rows that the server refuses are found by bisecting in savepoints, become dead letters, and the rest
is written. Where there are no savepoints the system names the row, and small transactions follow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import polars as pl

from streamcore.batch import HIDDEN, Batch, PartitionId, Rejects
from streamcore.contracts import FlushReason, SinkContext
from streamcore.errors import BadConfig, Fenced, Permanent, Transient
from streamcore.sinks.fence import Fence, Move
from streamcore.sinks.pieces import PIECE_ROWS, pieces_of, split_off
from streamcore.systems.sql import Locked, Moved, RefusedRows


class Session(Protocol):
    """A connection to the database, see :class:`streamcore.systems.sql.SqlSession`."""

    @property
    def savepoints(self) -> bool:
        """Whether a transaction goes on behind a refused row that was written inside of another one."""
        ...

    def transaction(self) -> AbstractAsyncContextManager[None]: ...
    async def close(self) -> None: ...
    def abort(self) -> None: ...


class Checks(Protocol):
    """Finds rows that can't be stored before they are sent."""

    def refused(self, frame: pl.DataFrame, stage: str) -> tuple[pl.DataFrame, Rejects]: ...


SessionT = TypeVar("SessionT", bound=Session)
TableSessionT = TypeVar("TableSessionT", contravariant=True)


class Table(Protocol[TableSessionT]):
    """The table as it was found at start, and how rows get into it. Errors are the session's."""

    @property
    def checks(self) -> Checks: ...

    async def begin(self, session: TableSessionT) -> None:
        """Called once for each new session, before any row."""
        ...

    async def write(self, session: TableSessionT, frame: pl.DataFrame) -> None:
        """The rows of *frame* (with hidden columns, in order) inside of the session's transaction.

        RefusedRows when one of them can't be stored: what was written of the others is then rolled back.
        """
        ...

    async def refuse_at_once(self, session: TableSessionT) -> None:
        """Inside of a transaction: have the server say at once what it would otherwise say at COMMIT."""
        ...


class Database(Protocol[SessionT]):
    """A database with the target table, as the writer of one sink needs it."""

    @property
    def system(self) -> str:
        """The first part of the crash points' names, e.g. ``postgres``."""
        ...

    @property
    def fence(self) -> Fence[SessionT]: ...

    async def connect(self) -> SessionT: ...

    async def look(self, session: SessionT) -> None:
        """BadConfig or Permanent when the target is missing and not to be made, or may not be written to.

        Nothing is made or written. What the system does not tell without writing is not looked for.
        """
        ...

    async def prepare(self, session: SessionT, columns: pl.Schema) -> Table[SessionT]:
        """Make what is missing and meet the columns: BadConfig or Permanent with the remedy."""
        ...


@dataclass
class _Part:
    """A source partition: what is stored, and the batches ``[position, end)`` that are not."""

    epoch: int
    position: int
    end: int
    batches: list[Batch] = field(default_factory=list)

    def forget_until(self, position: int) -> None:
        """*position* is stored: drop what it covers."""
        self.position = position
        self.batches = [batch for batch in self.batches if batch.range.end > position]


class TableWriter(Generic[SessionT]):
    """See the module; one connection, one transaction at a time.

    ``most_bytes``: of rows in a transaction, about, where the system wants it small. It has no savepoints.
    """

    def __init__(
        self, database: Database[SessionT], context: SinkContext, most_bytes: int | None = None
    ) -> None:
        self._database, self._context = database, context
        self._most = min(context.memory_limit, most_bytes or context.memory_limit)
        self._parts: dict[PartitionId, _Part] = {}
        self._session: SessionT | None = None
        self._table: Table[SessionT] | None = None
        self._held = 0

    # ---- the contract

    async def start(self) -> None:
        """Connect, make what is missing and compare the columns."""
        await self._connected()

    async def reach(self) -> None:
        session = await self._database.connect()
        try:
            await self._database.look(session)
        finally:
            await session.close()

    async def open(self, partitions: Mapping[PartitionId, int]) -> Mapping[PartitionId, int]:
        if not partitions:
            return {}
        try:
            found = await self._take_over(partitions)
        except Locked:  # a former owner hangs inside of its transaction; it has lost the partition anyhow
            await self._end_former_owners(partitions)
            found = await self._take_over(partitions)
        for partition, (position, epoch) in found.items():
            self._parts[partition] = _Part(epoch, position, position)
        self._count_held()
        return {partition: position for partition, (position, _) in found.items()}

    async def write(self, batch: Batch) -> None:
        part = self._parts.get(batch.source)
        if part is None or batch.range.start != part.end:
            raise Permanent(
                "this batch does not follow the one before it" if part else "this partition is not open here",
                where=f"{self._name}, {batch.source}/{batch.range.start}",
                allowed=None if part is None else [part.end],
            )
        size = int(batch.frame.estimated_size())
        if self._held and self._held + size > self._most:
            await self._store()
        frame, rejects = self._prepared.checks.refused(batch.frame, self._context.sink)
        if len(rejects):
            await self._context.refuse(batch, rejects)
        part.batches.append(batch.with_frame(frame))
        part.end = batch.range.end
        self._held += size

    async def flush(self, reason: FlushReason) -> Mapping[PartitionId, int]:
        await self._store()
        return {partition: part.position for partition, part in self._parts.items()}

    async def release(self, partitions: Sequence[PartitionId]) -> None:
        for partition in partitions:
            self._parts.pop(partition, None)
        self._count_held()

    async def close(self) -> None:
        self._parts.clear()
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()

    # ---- connection

    @property
    def _name(self) -> str:
        return self._context.sink

    @property
    def _prepared(self) -> Table[SessionT]:
        if self._table is None:
            raise Permanent("the writer was not started", where=self._name)
        return self._table

    async def _connected(self) -> SessionT:
        """The session; a new one first reads what the old one managed to store."""
        if self._session is None:
            session = await self._database.connect()
            try:
                if self._table is None:
                    self._table = await self._database.prepare(session, self._context.columns)
                await self._table.begin(session)
                await self._reconcile(session)
            except (BadConfig, Permanent):  # the connection is sound, and nobody waits for it
                await session.close()
                raise
            except BaseException:
                session.abort()
                raise
            self._session = session
        return self._session

    def _drop_session(self) -> None:
        if self._session is not None:
            self._session.abort()
            self._session = None

    # ---- positions

    async def _take_over(self, partitions: Mapping[PartitionId, int]) -> dict[PartitionId, tuple[int, int]]:
        session = await self._connected()
        try:
            found = await self._database.fence.take_over(session, partitions, self._context.owner)
        except BaseException:
            self._drop_session()
            raise
        return {p: (found[p].position, found[p].epoch) for p in partitions}

    async def _end_former_owners(self, partitions: Mapping[PartitionId, int]) -> None:
        session = await self._connected()
        stored = await self._database.fence.stored(session)
        keys = {(p.topic_id, p.partition) for p in partitions}
        owners = {found.owner for key, found in stored.items() if key in keys}
        await self._database.fence.end_sessions(session, owners)

    async def _reconcile(self, session: SessionT) -> None:
        """Drop what is stored already, e.g. by a COMMIT whose reply was lost; Fenced if we are."""
        if not self._parts:
            return
        stored = await self._database.fence.stored(session)
        for partition, part in self._parts.items():
            found = stored.get((partition.topic_id, partition.partition))
            where = f"{self._name}, {partition}"
            if found is None or found.epoch != part.epoch:
                raise Fenced(
                    f"another owner has taken {partition} over", where=where, fix="this process must stop"
                )
            if found.position not in {part.position, *(batch.range.end for batch in part.batches)}:
                raise Permanent(
                    "the stored position is not where this process left it",
                    where=where,
                    got=found.position,
                    fix="start again, it goes on there; a backup was restored, or the last writes were lost",
                )
            part.forget_until(found.position)
        self._count_held()

    def _count_held(self) -> None:
        held = (batch for part in self._parts.values() for batch in part.batches)
        self._held = sum(int(batch.frame.estimated_size()) for batch in held)

    # ---- writing

    async def _store(self) -> None:
        """Write all that is held in one transaction; on return it is durable."""
        try:
            session = await self._connected()
            pending = {p: part for p, part in self._parts.items() if part.end > part.position}
            if not pending:
                return
            try:
                if self._held > self._most and not session.savepoints:
                    await self._store_in_pieces(session, pending, careful=False)
                else:
                    await self._transaction(session, pending, careful=False)
            except RefusedRows as error:
                if session.savepoints:
                    await self._transaction(session, pending, careful=True)
                else:
                    await self._store_in_pieces(session, pending, careful=not error.complete)
        except RefusedRows as error:
            self._drop_session()
            raise Permanent(f"rows were refused at COMMIT: {error.what}", where=self._name) from None
        except Moved:  # by our own earlier COMMIT, or we are fenced: the next session finds out
            self._drop_session()
            await self._connected()
            raise Transient("an earlier transaction arrived late", where=self._name) from None
        except BaseException:
            self._drop_session()
            raise
        for part in pending.values():
            part.forget_until(part.end)
        self._held = 0

    async def _store_in_pieces(
        self, session: SessionT, parts: Mapping[PartitionId, _Part], careful: bool
    ) -> None:
        """Each piece in a transaction of its own, again without the rows that the system named.

        If careful in small ones, since it may name one row at a time.
        """
        for partition, part in parts.items():
            part.batches = [piece for batch in part.batches for piece in self._pieces(batch, careful)]
            while part.batches:
                piece = part.batches[0]
                alone = _Part(part.epoch, part.position, piece.range.end, [piece])
                try:
                    await self._transaction(session, {partition: alone}, careful=False)
                except RefusedRows as error:
                    if not error.places or not (careful or error.complete):
                        raise
                    left, rows = split_off(piece, error.places)
                    rejects = Rejects.of(rows, self._context.sink, error.code, error.what)
                    await self._context.refuse(piece, rejects)
                    part.batches[0] = left  # not before: who is cancelled while it waits refuses them again
                else:
                    part.forget_until(piece.range.end)

    def _pieces(self, batch: Batch, careful: bool) -> list[Batch]:
        if careful:
            return pieces_of(batch)
        size = max(1, int(batch.frame.estimated_size()))
        return pieces_of(batch, max(PIECE_ROWS, len(batch) * self._most // size))

    async def _transaction(
        self, session: SessionT, parts: Mapping[PartitionId, _Part], careful: bool
    ) -> None:
        async with session.transaction():
            await self._compare_and_set(session, parts)
            if careful:
                await self._write_careful(session, parts)
            else:
                frames = [batch.frame for part in parts.values() for batch in part.batches if len(batch)]
                if frames:
                    await self._prepared.write(session, pl.concat(frames))
            self._context.crash_point(f"{self._database.system}.before_commit")
        self._context.crash_point(f"{self._database.system}.after_commit")

    async def _compare_and_set(self, session: SessionT, parts: Mapping[PartitionId, _Part]) -> None:
        moves = [Move(at, part.position, part.end, part.epoch) for at, part in parts.items()]
        if not await self._database.fence.move(session, moves):
            raise Moved

    async def _write_careful(self, session: SessionT, parts: Mapping[PartitionId, _Part]) -> None:
        """Batch by batch; what the server refuses becomes dead letters before the commit that passes it."""
        await self._prepared.refuse_at_once(session)
        for part in parts.values():
            for place, batch in enumerate(part.batches):
                rejects = Rejects.join(await self._bisect(session, batch.frame))
                if len(rejects):
                    await self._context.refuse(batch, rejects)
                    left = batch.frame.join(
                        rejects.frame, on=[*HIDDEN[:2]], how="anti", maintain_order="left"
                    )
                    part.batches[place] = batch.with_frame(left)

    async def _bisect(self, session: SessionT, frame: pl.DataFrame) -> list[Rejects]:
        """Write all rows that can be written; the others, each with the server's reason."""
        if not frame.height:
            return []
        try:
            async with session.transaction():
                await self._prepared.write(session, frame)
        except RefusedRows as error:
            if frame.height == 1:
                return [Rejects.of(frame, self._context.sink, error.code, error.what)]
        else:
            return []
        half = frame.height // 2
        return [*await self._bisect(session, frame[:half]), *await self._bisect(session, frame[half:])]
