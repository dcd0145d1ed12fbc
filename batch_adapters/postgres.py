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
from collections.abc import Sequence
from dataclasses import dataclass, field

import polars as pl
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from batch_adapters.key_ranges import Key, KeyRange, Page, Pages, TableSource
from batch_adapters.key_sql import KeySql
from batch_adapters.postgres_columns import Column, columns_of, frame_of
from streamcore.errors import BadConfig, Permanent, did_you_mean
from streamcore.systems.postgres import Address, address, identifier
from streamcore.systems.postgres_reading import ReadSession

APPLICATION = "streamcore replay"
_SAMPLED_ROWS = 200_000
"""A table of more rows is cut by a sample of its pages."""
_PLACE = "ctid"
"""The key of a table that has none. A sequential scan comes in its order."""


class PostgresOptions(BaseModel):
    """Options of PostgreSQL sources, beside those of the connection."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    table: str | None = Field(None, description="Table or view, with its schema if need be: sales.users.")
    query: str | None = Field(None, description="A SELECT instead of a table.")
    key: str | None = Field(None, description="Columns that are unique together and never null: a,b.")
    columns: str | None = Field(None, description="Columns to read: a,b. All unless given.")
    where: str | None = Field(None, description="An SQL condition on the rows.")


def open_postgres(url: str, options: PostgresOptions) -> TableSource:
    """The source that *options* say, checked: BadConfig when there is no such table, key or column."""
    where = address(url)
    if options.table is not None and options.query is not None:
        raise BadConfig("give a table or a query, not both", where=where.shown)
    if options.table is None and options.query is None:
        options = options.model_copy(update={"table": _only_table(where)})
    return TableSource(PostgresTable(where, options))


def _only_table(where: Address) -> str:
    """The only table that there is. BadConfig lists them where they are several or none."""
    session = ReadSession(where, APPLICATION)
    try:
        rows = session.rows(
            "select table_schema, table_name from information_schema.tables where table_schema not in "
            "('pg_catalog', 'information_schema') order by 1, 2"
        )
    finally:
        session.close()
    names = [str(name) if schema == "public" else f"{schema}.{name}" for schema, name in rows]
    if len(names) == 1:
        return names[0]
    raise BadConfig(
        "which table is meant?" if names else "the database has no table that this user may see",
        where=where.shown,
        allowed=names,
        fix="add ?table=NAME or ?query=SELECT…",
    )


@dataclass
class _Moment:
    """One snapshot for all sessions of this process: its keeper stays open until all has been read.

    When the keeper's connection breaks there is a new moment, as for a run that goes on after a crash.
    """

    where: Address
    lock: threading.Lock = field(default_factory=threading.Lock)
    keeper: ReadSession | None = None
    name: str = ""

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

    def forget(self) -> None:
        """Nothing more is read: let the server clean up what only the snapshot still sees."""
        with self.lock:
            if self.keeper is not None:
                self.keeper.close()
            self.keeper = None


class PostgresTable:
    """A ``KeyedTable`` of PostgreSQL. Connects once when it is made, to learn what there is."""

    def __init__(self, where: Address, options: PostgresOptions) -> None:
        self._where, self._options, self._moment = where, options, _Moment(where)
        self._parts_left = 1
        session = self._moment.session()
        try:
            self._from = self._relation(session)
            every = columns_of(session, f"select * from {self._from}", self._declared(session))
            self._columns = self._chosen(every)
            self._sql = self._ranges(session, every)
            self._about = self._count(session)
        finally:
            session.close()

    # ------------------------------------------------------------ what there is

    @property
    def uri(self) -> str:
        what = f"table={self._options.table}" if self._options.table else f"query={self._options.query}"
        return f"{self._where.shown}?{what}"

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
        if self._options.query is not None:
            return f"({self._options.query.rstrip().rstrip(';')}) as asked"
        names = (self._options.table or "").split(".")
        found = session.rows(f"select to_regclass({_constant(identifier(*names))}) is not null")
        if found[0][0]:
            return identifier(*names)
        rows = session.rows("select schemaname||'.'||tablename, tablename from pg_tables order by 1")
        there = [str(full) for full, _ in rows if not str(full).startswith(("pg_catalog", "information_"))]
        there += [name.removeprefix("public.") for name in there if name.startswith("public.")]
        raise BadConfig(
            "there is no such table, or this user may not see it",
            where=self._where.shown,
            got=self._options.table,
            allowed=there[:20],
            fix=did_you_mean(self._options.table or "", there) or "name one that there is",
        )

    def _declared(self, session: ReadSession) -> dict[str, str]:
        """The declared types of a table's columns, e.g. ``numeric(10,2)``: results only say numeric."""
        if self._options.table is None:
            return {}
        rows = session.rows(
            "select attname, format_type(atttypid, atttypmod) from pg_attribute "
            f"where attrelid = {_constant(self._from)}::regclass and attnum > 0 and not attisdropped"
        )
        return {str(name): str(type_) for name, type_ in rows}

    def _chosen(self, every: Sequence[Column]) -> list[Column]:
        if self._options.columns is None:
            return list(every)
        return self._named(every, self._options.columns, "columns")

    def _named(self, every: Sequence[Column], names: str, option: str) -> list[Column]:
        known = {column.name: column for column in every}
        for name in names.split(","):
            if name.strip() not in known:
                raise BadConfig(
                    f"{option}: there is no such column",
                    where=self.uri,
                    got=name.strip(),
                    allowed=known,
                    fix=did_you_mean(name.strip(), known),
                )
        return [known[name.strip()] for name in names.split(",")]

    def _ranges(self, session: ReadSession, every: Sequence[Column]) -> KeySql:
        """By the key that was given, the primary key, or of a table without one the place of its rows."""
        names = self._options.key or ""
        ordered = True
        if not names and self._options.table is not None:
            found, kind = self._primary_key(session)
            ordered = bool(found) or kind not in ("r", "m")
            names = found
        key = [identifier(column.name) for column in self._named(every, names, "key")] if names else []
        if not ordered:
            key = [_PLACE]
        return KeySql(self._from, tuple(key), self._options.where, _text, _constant, ordered)

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
        self._parts_left = len(found) + 1
        return [tuple(map(str, row)) for row in found]

    def read(self, part: KeyRange, max_bytes: int) -> Pages:
        if part.behind == ():
            raise Permanent(
                "without a key it is not known where to go on",
                where=self.uri,
                fix="--again reads all rows once more; give key=COLUMN before the next time",
            )
        session = self._moment.session()
        try:
            session.run("set synchronize_seqscans = off")
            session.run("set max_parallel_workers_per_gather = 0")
            for batch in session.batches(self._sql.rows(part, self._asked()), max_bytes):
                if batch.num_rows:
                    yield self._page(batch)
        finally:
            session.close()
        self._parts_left -= 1
        if not self._parts_left:
            self._moment.forget()

    def _asked(self) -> list[str]:
        """The columns, and the texts of those of the key that do not say them by themselves."""
        plain = {identifier(column.name) for column in self._columns if column.says_its_text}
        texts = [_text(name) for name in self._sql.key if name not in plain]
        return [*(column.sql for column in self._columns), *(f"{t} as _key{n}" for n, t in enumerate(texts))]

    def _page(self, batch: pa.RecordBatch) -> Page:
        count = len(self._columns)
        values = {identifier(c.name): batch.column(n) for n, c in enumerate(self._columns) if c.says_its_text}
        texts = iter(batch.columns[count:])
        last = tuple(str((values[name] if name in values else next(texts))[-1]) for name in self._sql.key)
        frame, refused = frame_of(batch.select(range(count)), self._columns)
        return Page(frame, last, refused)


def _text(column: str) -> str:
    return f"{column}::text"


def _constant(text: str) -> str:
    """*text* as a constant of SQL, which takes the type of what it is compared with."""
    return "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
