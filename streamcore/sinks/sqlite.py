"""``SQLite``: rows to a table of a file, exactly once; append, or upsert by key.

How rows and positions are written together is in :mod:`.table_writer`. With a key, of the rows of one key
the last one counts, and an ``_op`` of delete (or update-before without its after) removes the row.

SQLite has one writer at a time: sinks of several processes, or several sinks of one file, wait for each
other. Its module takes rows as Python's tuples; polars makes whole batches of them at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from streamcore.batch import DELETES
from streamcore.contracts import SinkContext
from streamcore.errors import BadConfig
from streamcore.secrets import resolve
from streamcore.sinks.column_checks import ColumnChecks
from streamcore.sinks.fence import POSITIONS, RowFence
from streamcore.sinks.folder_storage import check_writable
from streamcore.sinks.keyed_table import KeyOption, met
from streamcore.sinks.merging import OnConflict
from streamcore.sinks.sqlite_columns import ColumnPair, TableColumn, created_type
from streamcore.sinks.table_writer import TableWriter
from streamcore.systems.sqlite import Session, connect, constant, identifier, path_of

_SLICE_ROWS = 20_000


@dataclass(frozen=True)
class SQLite(KeyOption):
    """``table`` of the file ``path``: a path, or a URI as of a source, ``sqlite:///shop.db``.

    ``key``: upsert by these columns, which need a unique index; without it rows are appended. ``create``:
    make the table when it is missing (the file is made in any case). ``name``: the sink's stable name,
    otherwise made from the table. ``on_conflict``, ``update``, ``version``: see
    :class:`streamcore.sinks.merging.Merge`.
    """

    table: str
    path: str | Path
    key: str | Sequence[str] | None = None
    create: bool = False
    name: str = ""
    on_conflict: OnConflict = "update"
    update: str | Sequence[str] | None = None
    version: str | None = None

    def __post_init__(self) -> None:
        _check_identifier(self.table, "the table's name")
        object.__setattr__(self, "name", self.name or f"sqlite:{self.table}")

    @property
    def file(self) -> Path:
        """The file's path."""
        text = resolve(str(self.path))
        return path_of(text) if text.startswith("sqlite:") else Path(text)

    def check(self, columns: pl.Schema) -> None:
        """BadConfig for unknown key columns, names and types that SQLite can't have."""
        self.check_key(columns)
        seen: dict[str, str] = {}
        for name, dtype in columns.items():
            _check_identifier(name, "the column's name")
            created_type(name, dtype)
            if seen.setdefault(name.lower(), name) != name:
                raise BadConfig(f"SQLite takes the columns {seen[name.lower()]!r} and {name!r} for one")

    def plan(self, columns: pl.Schema) -> list[str]:
        """The statements that prepare the target, for a dry run."""
        parts = [f"{identifier(name)} {created_type(name, dtype)}" for name, dtype in columns.items()]
        if self.keys:
            parts.append(f"primary key ({_list(self.keys)})")
        table = f"create table if not exists {identifier(self.table)} ({', '.join(parts)})"
        return [*([table] if self.create else []), _CREATE_POSITIONS]

    def writer(self, context: SinkContext) -> TableWriter[Session]:
        return _FileWriter(self.file, _Database(self, context), context)


_CREATE_POSITIONS = (
    f"create table if not exists {POSITIONS} (topology text, sink text, topic_id text, partition integer, "
    "topic text not null, next_offset integer not null, owner_epoch integer not null, owner text not null, "
    "updated_at text not null, primary key (topology, sink, topic_id, partition)) without rowid"
)


class _Dialect:
    """See :class:`streamcore.sinks.fence.Dialect`."""

    now = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"
    quote = staticmethod(identifier)
    constant = staticmethod(constant)

    @staticmethod
    def on_conflict(key: Sequence[str]) -> str:
        return f"on conflict ({', '.join(key)}) do update set"


class _FileWriter(TableWriter[Session]):
    """The writer to a file, which connecting makes."""

    def __init__(self, file: Path, database: _Database, context: SinkContext) -> None:
        super().__init__(database, context)
        self._file = file

    async def reach(self) -> None:
        if self._file.exists():
            await super().reach()
        else:
            check_writable(self._file.parent)


class _Database:
    """The file of a sink."""

    system = "sqlite"

    def __init__(self, sink: SQLite, context: SinkContext) -> None:
        self._sink = sink
        self.fence = RowFence[Session](POSITIONS, context.topology, context.sink, _Dialect())

    async def connect(self) -> Session:
        return await connect(self._sink.file)

    async def look(self, session: Session) -> None:
        if not self._sink.create:
            await self._columns(session)

    async def prepare(self, session: Session, columns: pl.Schema) -> Table:
        for statement in self._sink.plan(columns):
            await session.run(statement)
        found, filled = await self._columns(session)
        pairs = [ColumnPair(*pair) for pair in met(found, filled, columns, self._sink.name)]
        self._sink.merge.check_stored(pairs, self._sink.name)
        return Table(self._sink, pairs)

    async def _columns(self, session: Session) -> tuple[dict[str, TableColumn], set[str]]:
        """As of :func:`_table_columns`; BadConfig where there is no such table."""
        found, filled = await _table_columns(session, self._sink.table)
        if not found:
            raise BadConfig(
                f"there is no table {self._sink.table!r}",
                where=str(self._sink.file),
                fix="make it, or let the sink make it: create=True",
            )
        return found, filled


async def _table_columns(session: Session, table: str) -> tuple[dict[str, TableColumn], set[str]]:
    """The columns that can be written, and the names of those that SQLite fills when they are not."""
    found, filled = {}, set()
    for row in await session.rows(f"pragma table_xinfo({identifier(table)})"):
        _, name, declared, not_null, default, key, hidden = row
        if not hidden:
            column = TableColumn(str(name), str(declared), bool(not_null))
            found[column.name] = column
        if default is not None or hidden or (key and str(declared).upper() == "INTEGER"):
            filled.add(str(name))
    return found, filled


class Table:
    """``checks`` finds rows that can't be stored; :meth:`write` stores the others."""

    def __init__(self, sink: SQLite, pairs: Sequence[ColumnPair]) -> None:
        schema = pl.Schema({pair.table.name: pair.dtype for pair in pairs})
        self.checks = ColumnChecks(pairs, sink.keys, sink.merge.checks(schema))
        self._keys, self._values = sink.keys, [pair.value().alias(pair.table.name) for pair in pairs]
        self._merge, self._names = sink.merge, schema.names()
        target, marks = identifier(sink.table), ", ".join("?" * len(self._names))
        self._insert = f"insert into {target} as t ({_list(self._names)}) values ({marks})"
        self._by = [*sink.keys, *([] if sink.version is None else [sink.version])]
        if sink.keys:
            rest = [identifier(name) for name in self._merge.updated(self._names)]
            then = "update set " + ", ".join(f"{n} = excluded.{n}" for n in rest) if rest else "nothing"
            self._insert += f" on conflict ({_list(sink.keys)}) do {then}"
            same = " and ".join(f"{identifier(name)} = ?" for name in sink.keys)
            self._delete = f"delete from {target} where {same}"
        if sink.version is not None:
            version, given = identifier(sink.version), f"?{len(self._by)}"
            self._insert += f" where t.{version} is null or excluded.{version} >= t.{version}"
            self._delete += f" and ({version} is null or {given} is null or {given} >= {version})"

    async def begin(self, session: Session) -> None:
        """Checks that the key has its unique index."""
        if self._keys:
            await session.run_many(self._insert, [])

    async def refuse_at_once(self, session: Session) -> None:
        """Nothing: only deferred foreign keys wait for COMMIT, and SQLite can't have them speak up before."""

    async def write(self, session: Session, frame: pl.DataFrame) -> None:
        """The rows of *frame* (with hidden columns, in order) inside of the session's transaction."""
        for rows in self._merge.rounds(frame, self._names):
            put = rows
            if self._keys:
                gone, put = rows.filter(DELETES), rows.filter(~DELETES)
                if gone.height:
                    await session.run_many(self._delete, gone.select(self._values).select(self._by).rows())
            for part in put.select(self._values).iter_slices(_SLICE_ROWS):
                await session.run_many(self._insert, await asyncio.to_thread(part.rows))


def _check_identifier(name: str, what: str) -> None:
    if not name or "\0" in name:
        raise BadConfig(
            f"{what} {name[:80]!r} can't be used in SQLite", fix="use one character or more, no NUL"
        )


def _list(names: Sequence[str]) -> str:
    return ", ".join(map(identifier, names))
