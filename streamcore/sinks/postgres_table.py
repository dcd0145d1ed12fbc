"""A PostgreSQL table as the sink finds it at start, and how rows get into it."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from streamcore.batch import DELETES
from streamcore.errors import Permanent
from streamcore.sinks.column_checks import ColumnChecks
from streamcore.sinks.keyed_table import ServerTable, met, not_made
from streamcore.sinks.postgres_columns import ColumnPair, TableColumn
from streamcore.sinks.postgres_copy import CopyStream
from streamcore.sinks.postgres_statements import DELETED, STAGE, TABLE_COLUMNS, Statements
from streamcore.systems.postgres import Session

_LOCK = "select pg_advisory_xact_lock(7236278263)"  # two workers that start at once must not both create


class Table:
    """``checks`` finds rows that can't be stored; :meth:`write` stores the others."""

    def __init__(self, sink: ServerTable, pairs: Sequence[ColumnPair]) -> None:
        self._sink, self._merge = sink, sink.merge
        self._sql = Statements(sink.target, sink.positions, sink.merge)
        self._columns = [pair.table for pair in pairs]
        schema = pl.Schema({pair.table.name: pair.dtype for pair in pairs})
        self.checks = ColumnChecks(pairs, sink.keys, sink.merge.checks(schema))
        if sink.keys:
            pairs = [*pairs, ColumnPair(TableColumn(DELETED, "bool", "boolean"), pl.Boolean())]
        self._stream = CopyStream(pairs)

    @classmethod
    async def prepare(cls, session: Session, sink: ServerTable, columns: pl.Schema) -> Table:
        """Make what is missing and meet the columns: BadConfig or Permanent with the remedy."""
        await _create_missing(session, sink, columns)
        found, filled = await _table_columns(session, sink.target)
        pairs = [ColumnPair(*pair) for pair in met(found, filled, columns, sink.name)]
        sink.merge.check_stored(pairs, sink.name)
        return cls(sink, pairs)

    async def begin(self, session: Session) -> None:
        """What each new session needs; checks that the key has its unique index."""
        if self._sink.keys:
            await session.run(self._sql.create_stage(self._columns))
            await session.run("explain " + self._sql.merge(self._columns)[1])

    async def refuse_at_once(self, session: Session) -> None:
        """Constraints that are deferred speak up within the transaction."""
        await session.run("set constraints all immediate")

    async def write(self, session: Session, frame: pl.DataFrame) -> None:
        """The rows of *frame* (with hidden columns, in order) inside of the session's transaction."""
        stream = self._stream
        if not self._sink.keys:
            target = self._sink.table, self._sink.schema
            await session.copy(*target, stream.columns, stream.form, stream.of(frame))
            return
        gone, names = DELETES.alias(DELETED), [column.name for column in self._columns]
        for rows in self._merge.rounds(frame, names):
            await session.copy(STAGE, None, stream.columns, stream.form, stream.of(rows.with_columns(gone)))
            for statement in self._sql.merge(self._columns):
                await session.run(statement)


async def _table_columns(session: Session, target: str) -> tuple[dict[str, TableColumn], set[str]]:
    """The columns that can be written, and the names of those that the server fills when they are not."""
    found, filled = {}, set()
    for row in await session.rows(TABLE_COLUMNS, target):
        name, kind, shown, is_enum, length, required, has_default, generated, base = row
        if not generated:
            size = length if isinstance(length, int) else None
            column = TableColumn(
                str(name), str(kind), str(shown), bool(is_enum), size, bool(required), str(base)
            )
            found[column.name] = column
        if has_default:
            filled.add(str(name))
    return found, filled


async def _create_missing(session: Session, sink: ServerTable, columns: pl.Schema) -> None:
    for statement in sink.plan(columns):
        name = sink.target if f" {sink.target} (" in statement else sink.positions
        try:
            async with session.transaction():
                ((missing,),) = await session.rows("select to_regclass($1::text) is null", name)
                if missing:
                    await session.rows(_LOCK)
                    await session.run(statement)
        except Permanent as error:
            raise not_made(error, statement, sink.name) from None
