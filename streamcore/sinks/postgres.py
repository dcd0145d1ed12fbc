"""``Postgres``: rows to a table, exactly once; append by COPY, or upsert by key.

Rows are held in memory until a flush or the memory limit; then one transaction writes them together
with the positions that they cover. Its first statement compares and sets ``next_offset`` and
``owner_epoch`` of each partition in the table ``streamcore_positions``, beside the target. Taking a
partition over raises the epoch, so that a former owner's next transaction finds no row to set, rolls
back and stops. After a connection was lost, also at COMMIT, the row tells what had been written.

Rows that the server refuses are found by bisecting in savepoints, become dead letters, and the rest
is written. With a key, rows go through a temporary table; of the rows of one key the last one
counts, and an ``_op`` of delete (or update-before without its after) removes the row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from streamcore.batch import HIDDEN, Batch, PartitionId, Rejects
from streamcore.contracts import FlushReason, SinkAbilities, SinkContext
from streamcore.errors import BadConfig, Fenced, Permanent, Transient, did_you_mean
from streamcore.secrets import resolve
from streamcore.sinks.postgres_columns import created_type
from streamcore.sinks.postgres_statements import TERMINATE, Statements, application_name
from streamcore.sinks.postgres_table import Table
from streamcore.systems.postgres import Locked, RefusedRows, Session, address, check_identifier, connect


@dataclass(frozen=True)
class Postgres:
    """``table`` in ``schema`` (default: the user's search path) of the database at ``url``.

    ``url`` may hold references such as ``${env:DATABASE_URL}``, the default; see
    ``streamcore.systems.postgres`` for TLS. ``key``: upsert by these columns, which need a unique
    index; without it rows are appended. ``create``: make the table when it is missing. ``name``: the
    sink's stable name, otherwise made from the table.
    """

    table: str
    url: str = field(default="${env:DATABASE_URL}", repr=False)
    key: str | Sequence[str] | None = None
    create: bool = False
    schema: str | None = None
    name: str = ""

    def __post_init__(self) -> None:
        check_identifier(self.table, "the table's name")
        if self.schema is not None:
            check_identifier(self.schema, "the schema's name")
        full = f"{self.schema}.{self.table}" if self.schema else self.table
        object.__setattr__(self, "name", self.name or f"postgres:{full}")

    @property
    def keys(self) -> tuple[str, ...]:
        """The columns of ``key``."""
        return () if self.key is None else (self.key,) if isinstance(self.key, str) else tuple(self.key)

    @property
    def abilities(self) -> SinkAbilities:
        keyed = bool(self.keys)
        return SinkAbilities(
            not keyed, upsert=keyed, delete=keyed, transactional=True, stores_positions=True, key=self.keys
        )

    @property
    def statements(self) -> Statements:
        return Statements(self.table, self.schema, self.keys)

    def check(self, columns: pl.Schema) -> None:
        """BadConfig for unknown key columns, names and types that PostgreSQL can't have."""
        for name in self.keys:
            if name not in columns:
                hint = did_you_mean(name, columns.names())
                raise BadConfig(f"key: unknown column {name!r}", allowed=columns.names(), fix=hint)
        for name, dtype in columns.items():
            check_identifier(name, "the column's name")
            created_type(name, dtype)

    def plan(self, columns: pl.Schema) -> list[str]:
        """The statements that prepare the target, for a dry run."""
        created = [self.statements.create_table(columns)] if self.create else []
        return [*created, self.statements.create_positions()]

    def writer(self, context: SinkContext) -> PostgresWriter:
        return PostgresWriter(self, context)


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


class _Moved(Exception):
    """The stored position is not the one that this transaction starts from."""


class PostgresWriter:
    """The live part of :class:`Postgres`: one connection, one transaction at a time."""

    def __init__(self, sink: Postgres, context: SinkContext) -> None:
        self._sink, self._context = sink, context
        self._sql = sink.statements
        self._identity = context.topology, context.sink
        self._parts: dict[PartitionId, _Part] = {}
        self._session: Session | None = None
        self._table: Table | None = None
        self._held = 0

    # ---- the contract

    async def start(self) -> None:
        """Connect, make what is missing and compare the columns."""
        await self._connected()

    async def open(self, partitions: Mapping[PartitionId, int]) -> Mapping[PartitionId, int]:
        if not partitions:
            return {}
        try:
            found = await self._take_over(partitions)
        except Locked:  # a former owner hangs inside of its transaction; it has lost the partition anyhow
            await self._terminate_former_owners(partitions)
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
                where=f"{self._sink.name}, {batch.source}/{batch.range.start}",
                allowed=None if part is None else [part.end],
            )
        size = int(batch.frame.estimated_size())
        if self._held and self._held + size > self._context.memory_limit:
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
    def _prepared(self) -> Table:
        if self._table is None:
            raise Permanent("the writer was not started", where=self._sink.name)
        return self._table

    async def _connected(self) -> Session:
        """The session; a new one first reads what the old one managed to store."""
        if self._session is None:
            name = application_name(*self._identity, self._context.owner)
            session = await connect(address(resolve(self._sink.url)), name)
            try:
                if self._table is None:
                    self._table = await Table.prepare(session, self._sink, self._context.columns)
                await self._table.begin(session)
                await self._reconcile(session)
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
        ids = list(partitions)
        try:
            found = await session.rows(
                self._sql.take_over,
                *self._identity,
                self._context.owner,
                [p.topic_id for p in ids],
                [p.partition for p in ids],
                [p.topic for p in ids],
                [partitions[p] for p in ids],
            )
        except BaseException:
            self._drop_session()
            raise
        by_key = {(topic_id, number): (position, epoch) for topic_id, number, position, epoch in found}
        return {p: by_key[p.topic_id, p.partition] for p in ids}  # type: ignore[misc]

    async def _terminate_former_owners(self, partitions: Mapping[PartitionId, int]) -> None:
        session = await self._connected()
        rows = await session.rows(self._sql.read, *self._identity)
        wanted = {(p.topic_id, p.partition) for p in partitions}
        owners = {str(owner) for topic_id, number, _, _, owner in rows if (topic_id, number) in wanted}
        await session.rows(TERMINATE, [application_name(*self._identity, owner) for owner in owners])

    async def _reconcile(self, session: Session) -> None:
        """Drop what is stored already, e.g. by a COMMIT whose reply was lost; Fenced if we are."""
        if not self._parts:
            return
        rows = await session.rows(self._sql.read, *self._identity)
        stored = {(topic_id, number): (position, epoch) for topic_id, number, position, epoch, _ in rows}
        for partition, part in self._parts.items():
            position, epoch = stored.get((partition.topic_id, partition.partition), (None, None))
            where = f"{self._sink.name}, {partition}"
            if epoch != part.epoch:
                raise Fenced(
                    f"another owner has taken {partition} over", where=where, fix="this process must stop"
                )
            if position not in {part.position, *(batch.range.end for batch in part.batches)}:
                raise Permanent("the stored position was changed by hand", where=where, got=position)
            part.forget_until(position)
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
                await self._transaction(session, pending, careful=False)
            except RefusedRows:
                await self._transaction(session, pending, careful=True)
        except _Moved:  # by our own earlier COMMIT, or we are fenced: the next session finds out
            self._drop_session()
            await self._connected()
            raise Transient("an earlier transaction arrived late", where=self._sink.name) from None
        except BaseException:
            self._drop_session()
            raise
        for part in pending.values():
            part.forget_until(part.end)
        self._held = 0

    async def _transaction(self, session: Session, parts: Mapping[PartitionId, _Part], careful: bool) -> None:
        async with session.transaction():
            await self._compare_and_set(session, parts)
            if careful:
                await self._write_careful(session, parts)
            else:
                frames = [batch.frame for part in parts.values() for batch in part.batches if len(batch)]
                if frames:
                    await self._prepared.write(session, pl.concat(frames))
            self._context.crash_point("postgres.before_commit")
        self._context.crash_point("postgres.after_commit")

    async def _compare_and_set(self, session: Session, parts: Mapping[PartitionId, _Part]) -> None:
        count = await session.run(
            self._sql.compare_and_set,
            *self._identity,
            [partition.topic_id for partition in parts],
            [partition.partition for partition in parts],
            [part.position for part in parts.values()],
            [part.end for part in parts.values()],
            [part.epoch for part in parts.values()],
        )
        if count != len(parts):
            raise _Moved

    async def _write_careful(self, session: Session, parts: Mapping[PartitionId, _Part]) -> None:
        """Batch by batch; what the server refuses becomes dead letters before the commit that passes it."""
        await session.run("set constraints all immediate")
        for part in parts.values():
            for place, batch in enumerate(part.batches):
                rejects = Rejects.join(await self._bisect(session, batch.frame))
                if len(rejects):
                    await self._context.refuse(batch, rejects)
                    left = batch.frame.join(
                        rejects.frame, on=[*HIDDEN[:2]], how="anti", maintain_order="left"
                    )
                    part.batches[place] = batch.with_frame(left)

    async def _bisect(self, session: Session, frame: pl.DataFrame) -> list[Rejects]:
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
