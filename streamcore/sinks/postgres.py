"""``Postgres``: rows to a table, exactly once; append by COPY, or upsert by key.

How rows and positions are written together is in :mod:`.table_writer`. With a key, rows go through a
temporary table; of the rows of one key the last one counts, and an ``_op`` of delete (or
update-before without its after) removes the row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import polars as pl

from streamcore.batch import PartitionId
from streamcore.contracts import SinkContext
from streamcore.secrets import resolve
from streamcore.sinks.fence import Move, Stored, StoredKey, application_name, stored_by_key
from streamcore.sinks.keyed_table import ServerTable
from streamcore.sinks.postgres_columns import created_type
from streamcore.sinks.postgres_statements import TERMINATE, Statements
from streamcore.sinks.postgres_table import Table
from streamcore.sinks.table_writer import TableWriter
from streamcore.systems.postgres import Session, address, check_identifier, connect, identifier


@dataclass(frozen=True)
class Postgres(ServerTable):
    """``table`` in ``schema`` (default: the user's search path) of the database at ``url``.

    ``url`` may hold references such as ``${env:DATABASE_URL}``, the default; see
    ``streamcore.systems.postgres`` for TLS. ``key``: upsert by these columns, which need a unique
    index; without it rows are appended. ``create``: make the table when it is missing. ``name``: the
    sink's stable name, otherwise made from the table.
    ``on_conflict``, ``update``, ``version``: see :class:`streamcore.sinks.merging.Merge`.
    """

    system: ClassVar[str] = "postgres"
    check_name, quoted = staticmethod(check_identifier), staticmethod(identifier)

    url: str = field(default="${env:DATABASE_URL}", repr=False)

    @property
    def statements(self) -> Statements:
        return Statements(self.target, self.positions, self.merge)

    def check(self, columns: pl.Schema) -> None:
        """BadConfig for unknown key columns, names and types that PostgreSQL can't have."""
        self.check_key(columns)
        for name, dtype in columns.items():
            check_identifier(name, "the column's name")
            created_type(name, dtype)

    def plan(self, columns: pl.Schema) -> list[str]:
        created = [self.statements.create_table(columns)] if self.create else []
        return [*created, self.statements.create_positions()]

    def writer(self, context: SinkContext) -> TableWriter[Session]:
        return TableWriter(_Database(self, context), context)


class PostgresFence:
    """The positions of *sink* of *topology*: one statement for all partitions."""

    def __init__(self, statements: Statements, topology: str, sink: str) -> None:
        self._sql, self._identity = statements, (topology, sink)

    async def take_over(
        self, session: Session, starts: Mapping[PartitionId, int], owner: str
    ) -> Mapping[PartitionId, Stored]:
        ids = list(starts)
        rows = await session.rows(
            self._sql.take_over,
            *self._identity,
            owner,
            [p.topic_id for p in ids],
            [p.partition for p in ids],
            [p.topic for p in ids],
            [starts[p] for p in ids],
        )
        found = stored_by_key([(*row, owner) for row in rows])
        return {p: found[p.topic_id, p.partition] for p in ids}

    async def stored(self, session: Session) -> Mapping[StoredKey, Stored]:
        return stored_by_key(await session.rows(self._sql.read, *self._identity))

    async def move(self, session: Session, moves: Sequence[Move]) -> bool:
        count = await session.run(
            self._sql.compare_and_set,
            *self._identity,
            [move.partition.topic_id for move in moves],
            [move.partition.partition for move in moves],
            [move.start for move in moves],
            [move.end for move in moves],
            [move.epoch for move in moves],
        )
        return count == len(moves)

    async def end_sessions(self, session: Session, owners: Iterable[str]) -> None:
        await session.rows(TERMINATE, [application_name(*self._identity, owner) for owner in owners])


class _Database:
    """The connection to a sink's database, known to the server by its owner."""

    system = Postgres.system

    def __init__(self, sink: Postgres, context: SinkContext) -> None:
        self._sink = sink
        self._name = application_name(context.topology, context.sink, context.owner)
        self.fence = PostgresFence(sink.statements, context.topology, context.sink)

    async def connect(self) -> Session:
        return await connect(address(resolve(self._sink.url)), self._name)

    async def look(self, session: Session) -> None:
        if not self._sink.create:
            await session.run(f"explain insert into {self._sink.target} default values")  # rights too

    async def prepare(self, session: Session, columns: pl.Schema) -> Table:
        return await Table.prepare(session, self._sink, columns)
