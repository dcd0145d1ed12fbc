"""``MySQL``: rows to a table of MySQL or MariaDB, exactly once; bulk insert, or upsert by key.

How rows and positions are written together is in :mod:`.table_writer`. Rows travel in INSERT statements of
many rows, whose text is made in columns. With a key, of the rows of one key the last one counts, and an
``_op`` of delete (or update-before without its after) removes the row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import polars as pl

from streamcore.contracts import SinkContext
from streamcore.secrets import resolve
from streamcore.sinks.fence import RowFence
from streamcore.sinks.keyed_table import ServerTable
from streamcore.sinks.mysql_columns import created_type
from streamcore.sinks.mysql_table import Table
from streamcore.sinks.table_writer import TableWriter
from streamcore.systems.mysql import Session, address, check_identifier, connect, constant, identifier
from streamcore.systems.mysql_locks import end_holders, held_name

_LOCK_SECONDS, _IDLE_SECONDS, _IDLE_IN_TRANSACTION_SECONDS = 5, 600, 60
_MODES = "STRICT_ALL_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"
SET_UP = (
    "set session transaction isolation level read committed",
    f"set sql_mode = '{_MODES},NO_BACKSLASH_ESCAPES,NO_AUTO_VALUE_ON_ZERO', time_zone = '+00:00', "
    f"innodb_lock_wait_timeout = {_LOCK_SECONDS}, lock_wait_timeout = {_LOCK_SECONDS}, "
    f"wait_timeout = {_IDLE_SECONDS} "
    f"/*M!100300 , idle_transaction_timeout = {_IDLE_IN_TRANSACTION_SECONDS} */",
)
"""Of each session: errors instead of changed values, and no wait without an end."""


@dataclass(frozen=True)
class MySQL(ServerTable):
    """``table`` in ``schema`` (default: the URL's database) of the server at ``url``.

    ``url`` may hold references such as ``${env:MYSQL_URL}``, the default; see ``streamcore.systems.mysql``
    for TLS. ``key``: upsert by these columns, which need a unique index; without it rows are appended.
    ``create``: make the table when it is missing. ``name``: the sink's stable name, otherwise made from the
    table. ``on_conflict``, ``update``, ``version``: see :class:`streamcore.sinks.merging.Merge`.
    """

    system: ClassVar[str] = "mysql"
    check_name, quoted = staticmethod(check_identifier), staticmethod(identifier)

    url: str = field(default="${env:MYSQL_URL}", repr=False)

    def check(self, columns: pl.Schema) -> None:
        """BadConfig for unknown key columns, names and types that MySQL can't have."""
        self.check_key(columns)
        for name, dtype in columns.items():
            check_identifier(name, "the column's name")
            created_type(name, dtype, name in self.keys)

    def plan(self, columns: pl.Schema) -> list[str]:
        return [*([self._create(columns)] if self.create else []), _CREATE_POSITIONS.format(self.positions)]

    def _create(self, columns: pl.Schema) -> str:
        parts = [f"{identifier(n)} {created_type(n, dtype, n in self.keys)}" for n, dtype in columns.items()]
        if self.keys:
            parts.append(f"primary key ({', '.join(map(identifier, self.keys))})")
        return (
            f"create table if not exists {self.target} ({', '.join(parts)}) "
            "engine = InnoDB default character set utf8mb4"
        )

    def writer(self, context: SinkContext) -> TableWriter[Session]:
        return TableWriter(_Database(self, context), context)


_CREATE_POSITIONS = (
    "create table if not exists {} (topology varchar(250), sink varchar(250), topic_id varchar(255), "
    "`partition` int, topic varchar(255) not null, next_offset bigint not null, owner_epoch bigint not null, "
    "owner varchar(255) not null, updated_at datetime(6) not null, "
    "primary key (topology, sink, topic_id, `partition`)) "
    "engine = InnoDB default character set utf8mb4 collate utf8mb4_bin"
)


class _Dialect:
    """See :class:`streamcore.sinks.fence.Dialect`."""

    now = "utc_timestamp(6)"
    quote = staticmethod(identifier)
    constant = staticmethod(constant)

    @staticmethod
    def on_conflict(key: Sequence[str]) -> str:
        return "on duplicate key update"


@dataclass(frozen=True)
class _Fence(RowFence[Session]):
    """A session holds a lock with its owner's name, by which an heir finds and ends it."""

    async def end_sessions(self, session: Session, owners: Iterable[str]) -> None:
        await end_holders(session, [held_name(self.topology, self.sink, owner) for owner in owners])


class _Database:
    """The connection to a sink's database."""

    system = MySQL.system

    def __init__(self, sink: MySQL, context: SinkContext) -> None:
        self._sink = sink
        self._held = held_name(context.topology, context.sink, context.owner)
        self.fence = _Fence(sink.positions, context.topology, context.sink, _Dialect())

    async def connect(self) -> Session:
        session = await connect(address(resolve(self._sink.url)), SET_UP)
        try:
            await session.rows(f"select get_lock({constant(self._held)}, 0)")
        except BaseException:
            session.abort()
            raise
        return session

    async def look(self, session: Session) -> None:
        if not self._sink.create:
            await session.rows(f"explain insert into {self._sink.target} values ()")  # rights too

    async def prepare(self, session: Session, columns: pl.Schema) -> Table:
        return await Table.prepare(session, self._sink, columns)
