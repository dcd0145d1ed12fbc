"""PostgreSQL tables, views and queries as bounded streams: ``postgresql://…/shop?table=users``.

Rows come in the order of a key (the primary key, unless ``key=`` names others), in ranges of it that are
read side by side. All that one process reads is the database at one moment. A table without a key is read in
the order in which its rows lie on the disk: a run that goes on after a crash then misses or repeats rows that
were changed meanwhile.

What has no type of Arrow comes as PostgreSQL's own text: enums, uuid, json, inet, money, interval and the
like. ``numeric(p, s)`` is a decimal up to 38 digits, else text. A row with a time that is infinite, or a
decimal that is not a number, is refused ("range", stage "read").
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl
import pyarrow as pa

from batch_adapters.key_ranges import FramePage, Key, KeyRange, Pages, TableSource
from batch_adapters.key_sql import KeySql
from batch_adapters.postgres_columns import Column, columns_of, frame_of
from batch_adapters.table_options import TableOptions, marked_key, named, no_such_table, null_key
from streamcore.errors import Permanent
from streamcore.systems.postgres import Address, address, identifier
from streamcore.systems.postgres_reading import ReadSession

APPLICATION = "streamcore replay"
_SAMPLED_ROWS = 200_000
"""A table of more rows is cut by a sample of its pages."""
_PLACE = "ctid"
"""The key of a table that has none. A sequential scan comes in its order."""


def open_postgres(url: str, options: TableOptions) -> TableSource:
    """The source that *options* say, checked: BadConfig when there is no such table, key or column."""
    return TableSource(PostgresTable(address(url), options))


def _tables(where: Address) -> list[str]:
    """The tables and views that this user may see, those of public without their schema."""
    session = ReadSession(where, APPLICATION)
    try:
        return _names(session)
    finally:
        session.close()


def _names(session: ReadSession) -> list[str]:
    rows = session.rows(
        "select table_schema, table_name from information_schema.tables where table_schema not in "
        "('pg_catalog', 'information_schema') order by 1, 2"
    )
    return [str(name) if schema == "public" else f"{schema}.{name}" for schema, name in rows]


@dataclass
class _Moment:
    """One snapshot for all sessions of this process: its keeper stays open until all has been read.

    When the keeper's connection breaks there is a new moment, as for a run that goes on after a crash.
    """

    where: Address
    lock: threading.Lock = field(default_factory=threading.Lock)
    keeper: ReadSession | None = None
    name: str = ""
    parts: int = 1
    """How many are still to be read."""

    def session(self) -> ReadSession:
        """A session that sees it."""
        with self.lock:
            if self.keeper is not None:
                try:
                    return ReadSession(self.where, APPLICATION, self.name)
                except Permanent:  # the snapshot has gone with its keeper
                    self.keeper.close()
            self.keeper = ReadSession(self.where, APPLICATION)
            self.keeper.run("set idle_in_transaction_session_timeout = 0")
            self.name = self.keeper.export()
            return ReadSession(self.where, APPLICATION, self.name)

    def part_read(self) -> None:
        """A part has been read. Behind the last one the server may clean up what only the snapshot sees."""
        with self.lock:
            self.parts -= 1
            if self.parts <= 0 and self.keeper is not None:
                self.keeper.close()
                self.keeper = None


class PostgresTable:
    """A ``KeyedTable`` of PostgreSQL. Connects once when it is made, to learn what there is.

    *mark*: a column whose order comes before the key's.
    """

    def __init__(self, where: Address, options: TableOptions, mark: str | None = None) -> None:
        if options.table is None and options.query is None:
            options = options.of_only_table(_tables(where), where.shown)
        self._where, self._options, self._mark, self._moment = where, options, mark, _Moment(where)
        session = self._moment.session()
        try:
            self._from = self._relation(session)
            every = columns_of(session, f"select * from {self._from}", self._declared(session))
            known = {column.name: column for column in every}
            chosen = options.columns
            self._columns = every if chosen is None else named(known, chosen, "columns", self.uri)
            self._sql = self._ranges(session, known)
            self._about = self._count(session)
        finally:
            session.close()

    # ------------------------------------------------------------ what there is

    @property
    def uri(self) -> str:
        return f"{self._where.shown}?{self._options.shown}"

    def identity(self) -> str:
        """The relation, its columns, the key and the condition."""
        about = [self._where.shown, self._from, self._options.where or "", *self._sql.key]
        return "\0".join([*about, *map(str, self._columns)])

    def columns(self) -> pl.Schema:
        return pl.Schema({column.name: column.dtype for column in self._columns})

    def rows(self) -> int:
        return self._about

    def _relation(self, session: ReadSession) -> str:
        """What stands behind FROM. BadConfig when there is no such table."""
        if self._options.table is None:
            return self._options.subquery
        name = identifier(*self._options.table.split("."))
        if session.rows(f"select to_regclass({_constant(name)}) is not null")[0][0]:
            return name
        raise no_such_table(self._options.table, _names(session), self._where.shown)

    def _declared(self, session: ReadSession) -> dict[str, str]:
        """The declared types of a table's columns, e.g. ``numeric(10,2)``: results only say numeric."""
        if self._options.table is None:
            return {}
        rows = session.rows(
            "select attname, format_type(atttypid, atttypmod) from pg_attribute "
            f"where attrelid = {_constant(self._from)}::regclass and attnum > 0 and not attisdropped"
        )
        return {str(name): str(type_) for name, type_ in rows}

    def _ranges(self, session: ReadSession, known: Mapping[str, Column]) -> KeySql:
        """By the key that was given, the primary key, or of a table without one the place of its rows."""
        names = self._options.key or ""
        ordered = True
        if not names and self._options.table is not None:
            found, kind = self._primary_key(session)
            ordered = bool(found) or kind not in ("r", "m")
            names = found
        if self._mark is not None:
            named(known, self._mark, "mark", self.uri)
            names, ordered = marked_key(self._mark, names, self.uri), True
        key = [identifier(column.name) for column in named(known, names, "key", self.uri)] if names else []
        if not ordered:
            key = [_PLACE]
        sql = KeySql(self._from, tuple(key), self._options.where, _text, _constant, ordered)
        if (self._options.key or self._mark) is not None and session.rows(sql.nulls()):
            raise null_key(names, self.uri)
        return sql

    def _primary_key(self, session: ReadSession) -> tuple[str, str]:
        """The names of the primary key's columns, and what kind of relation it is (``pg_class.relkind``)."""
        columns, kind = session.rows(
            "select (select string_agg(a.attname, ',' order by array_position(i.indkey::int2[], a.attnum)) "
            "from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any(i.indkey) "
            "where i.indrelid = c.oid and i.indisprimary), c.relkind::text "
            f"from pg_class c where c.oid = {_constant(self._from)}::regclass"
        )[0]
        return str(columns or ""), str(kind)

    def _count(self, session: ReadSession) -> int:
        if self._options.table is None:
            return 0
        found = session.rows(
            f"select reltuples::bigint from pg_class where oid = {_constant(self._from)}::regclass"
        )
        return max(0, int(str(found[0][0])))

    # ------------------------------------------------------------ reading

    def borders(self, parts: int) -> Sequence[Key]:
        """Keys at equal distances among the rows, or among a sample of a large table's."""
        if not self._sql.key or not self._sql.ordered:
            return []
        sample = ""
        if self._options.table is not None and self._about > _SAMPLED_ROWS:
            sample = f" tablesample system ({100 * _SAMPLED_ROWS / self._about:.4f})"
        session = self._moment.session()
        try:
            found = session.rows(self._sql.borders(parts, sample))
        finally:
            session.close()
        self._moment.parts = len(found) + 1
        return [tuple(map(str, row)) for row in found]

    def read(self, part: KeyRange, max_bytes: int) -> Pages:
        session = self._moment.session()
        try:
            session.run("set synchronize_seqscans = off")
            session.run("set max_parallel_workers_per_gather = 0")
            yield from self.pages(session, part, max_bytes)
        finally:
            session.close()
        self._moment.part_read()

    def pages(self, session: ReadSession, part: KeyRange, max_bytes: int) -> Pages:
        """The rows of *part* as *session* sees them."""
        for batch in session.batches(self._sql.rows(part, self._asked()), max_bytes):
            if batch.num_rows:
                yield self._page(batch)

    def top(self, session: ReadSession) -> Key | None:
        """The highest key that *session* sees; None when there is no row."""
        found = session.rows(self._sql.top())
        return tuple(map(str, found[0])) if found else None

    def _asked(self) -> list[str]:
        """The columns, what lists can't hold, and texts of those of the key that do not say them."""
        plain = {identifier(column.name) for column in self._columns if column.says_its_text}
        texts = [_text(name) for name in self._sql.key if name not in plain]
        deep = [sql for column in self._columns if (sql := column.deep_sql) is not None]
        more = [f"{sql} as _more{n}" for n, sql in enumerate([*deep, *texts])]
        return [*(column.sql for column in self._columns), *more]

    def _page(self, batch: pa.RecordBatch) -> FramePage:
        count = len(self._columns)
        values = {identifier(c.name): batch.column(n) for n, c in enumerate(self._columns) if c.says_its_text}
        texts = iter(batch.columns[count:])
        deep = {column.name: next(texts) for column in self._columns if column.deep_sql is not None}
        keys = {name: values[name] if name in values else next(texts) for name in self._sql.key}
        frame, refused = frame_of(batch.select(range(count)), self._columns, deep)
        return FramePage(frame, pl.DataFrame(pa.table(keys)) if keys else pl.DataFrame(), refused)


def _text(column: str) -> str:
    return f"{column}::text"


def _constant(text: str) -> str:
    """*text* as a constant of SQL, which takes the type of what it is compared with."""
    return "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
