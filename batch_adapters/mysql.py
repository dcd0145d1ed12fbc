"""MySQL and MariaDB tables, views and queries as bounded streams: ``mysql://…/shop?table=users``.

Rows come in the order of a key (the primary key or a unique index without nulls, unless ``key=`` names
others). Sessions of MySQL can't share what they see, so one session reads all ranges of a key, a page of
one and a page of another, in one consistent read: the pages become columns side by side. What has no
index to go along (a view, a query, another key) is one range, read by one
statement in its order. A table without a key is read once, from its beginning.

What has no type of Arrow comes as MySQL's own text: enums, sets, json, uuid. A row with a day that there
is not (0000-00-00), or with a time that is none of a day, is refused ("range", stage "read").
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import polars as pl

from batch_adapters.key_ranges import FramePage, Key, KeyRange, Pages, PageSize, TableSource
from batch_adapters.key_sql import KeySql
from batch_adapters.mysql_columns import Column, column_of, frame_of
from batch_adapters.table_options import TableOptions, marked_key, named, no_such_table, null_key
from streamcore.errors import BadConfig
from streamcore.systems.mysql import Address, Row, address, identifier
from streamcore.systems.mysql_reading import ReadSession

_COUNTED_ROWS = 200_000
"""A table of more rows, whose key is a whole number, is cut by values of the key."""
_MOST_ROWS = 8_192


def open_mysql(url: str, options: TableOptions) -> TableSource:
    """The source that *options* say, checked: BadConfig when there is no such table, key or column."""
    return TableSource(MysqlTable(address(url), options))


@dataclass
class _Moment:
    """One session for all ranges, whose transaction sees the database at one moment.

    When its connection breaks there is a new moment, as for a run that goes on after a crash.
    """

    where: Address
    lock: threading.Lock = field(default_factory=threading.Lock)
    opened: ReadSession | None = None
    parts: int = 1
    """How many are still to be read."""

    @contextmanager
    def session(self) -> Iterator[ReadSession]:
        """The session, for one statement at a time."""
        with self.lock:
            if self.opened is None or self.opened.closed:
                self.opened = ReadSession(self.where)
            yield self.opened

    def part_read(self) -> None:
        """A part has been read. Behind the last one the server may clean up what only this moment sees."""
        with self.lock:
            self.parts -= 1
            if self.parts <= 0 and self.opened is not None:
                self.opened.close()
                self.opened = None


class MysqlTable:
    """A ``KeyedTable`` of MySQL. Connects once when it is made, to learn what there is.

    *mark*: a column whose order comes before the key's.
    """

    def __init__(self, where: Address, options: TableOptions, mark: str | None = None) -> None:
        self._where, self._mark, self._moment = where, mark, _Moment(where)
        with self._moment.session() as session:
            there = _names(session)
            if options.table is None and options.query is None:
                options = options.of_only_table(there, where.shown)
            self._options = options
            self._from = self._relation(session, there)
            every = [column_of(found) for found in session.fields(f"select * from {self._from}")]
            known = {column.name: column for column in every}
            chosen = options.columns
            self._columns = every if chosen is None else named(known, chosen, "columns", self.uri)
            self._key = self._find_key(session, known)
            self._sql = KeySql(
                self._from,
                tuple(column.ordered_sql for column in self._key),
                options.where,
                text={column.ordered_sql: column.constant_sql for column in self._key}.__getitem__,
                constant=_as_it_is,
                row_values=False,
            )
            self._check_key(session)
            self._about = self._count(session)

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

    def _relation(self, session: ReadSession, there: Sequence[str]) -> str:
        """What stands behind FROM. BadConfig when there is no such table."""
        if self._options.table is None:
            return self._options.subquery
        if self._options.table not in there and not session.rows(self._about_table("table_type", "tables")):
            raise no_such_table(self._options.table, there, self._where.shown)
        return identifier(*self._options.table.split("."))

    def _about_table(self, columns: str, catalogue: str) -> str:
        """The statement that asks for *columns* of the table in information_schema."""
        schema, _, name = (self._options.table or "").rpartition(".")
        place = _constant(schema) if schema else "database()"
        return (
            f"select {columns} from information_schema.{catalogue} "
            f"where table_schema = {place} and table_name = {_constant(name)}"
        )

    def _find_key(self, session: ReadSession, known: Mapping[str, Column]) -> Sequence[Column]:
        """The key that was given, or an index's of unique values; whether an index has its order."""
        indexes = [] if self._options.table is None else _indexes(session, self._about_table)
        unique = [index.columns for index in indexes if index.unique]
        if self._options.key is None:
            key = [known[name] for name in unique[0]] if unique else []
        else:
            key = named(known, self._options.key, "key", self.uri)
        names = [column.name for column in key]
        if self._mark is not None:
            names = marked_key(self._mark, ",".join(names), self.uri).split(",")
            key = named(known, ",".join(names), "mark", self.uri)
        self._paged = all(column.ordered_sql == identifier(column.name) for column in key) and any(
            index.columns[: len(names)] == names for index in indexes
        )
        self._surely_unique = any(set(columns) <= set(names) for columns in unique)
        return key

    def _check_key(self, session: ReadSession) -> None:
        """BadConfig for a given key that is null in a row, or of which texts that differ are the same.

        Of other values the reader finds out by itself that they come twice.
        """
        asked = self._options.key or self._mark
        if asked is None or (self._surely_unique and self._mark is None):
            return
        if session.rows(self._sql.nulls()):
            raise null_key(asked, self.uri)
        if any(column.is_text for column in self._key) and session.rows(self._sql.twice()):
            raise BadConfig(
                "the key is not unique, as the server compares texts",
                where=self.uri,
                got=asked,
                fix="give columns that are unique together with key=",
            )

    def _count(self, session: ReadSession) -> int:
        if self._options.table is None:
            return 0
        ((about,),) = session.rows(self._about_table("table_rows", "tables"))
        return int(about or 0)

    # ------------------------------------------------------------ reading

    def top(self, session: ReadSession) -> Key | None:
        """The highest key that *session* sees; None when there is no row."""
        found = session.rows(self._sql.top())
        return tuple(map(str, found[0])) if found else None

    def borders(self, parts: int) -> Sequence[Key]:
        """Keys at equal distances among the rows; of a large table among the values of a whole number."""
        if not self._paged:
            return []
        with self._moment.session() as session:
            number = len(self._key) == 1 and self._key[0].dtype.is_integer()
            found = self._values(session, parts) if number and self._about > _COUNTED_ROWS else None
            if found is None:
                found = session.rows(self._sql.borders(parts))
            keys = [tuple(map(str, row)) for row in found]
            self._moment.parts = len(keys) + 1
            return keys

    def _values(self, session: ReadSession, parts: int) -> list[Row] | None:
        key = self._sql.key[0]
        ((low, high),) = session.rows(f"select min({key}), max({key}) from {self._from}")
        if low is None or high is None:
            return None
        first, width = int(low), int(high) - int(low)
        return [(str(value),) for value in sorted({first + width * n // parts for n in range(1, parts)})]

    def read(self, part: KeyRange, max_bytes: int) -> Pages:
        page_size = PageSize(max_bytes, len(self._columns), _MOST_ROWS)
        pages = self._pages(part, page_size) if self._paged else self._stream(part, page_size)
        places = self._key_places()
        for rows in pages:
            frame, refused = frame_of(rows, self._columns)
            page_size.was(frame)
            keys = {f"_key{n}": [row[place] for row in rows] for n, place in enumerate(places)}
            yield FramePage(frame, pl.DataFrame(keys), refused)
        self._moment.part_read()

    def _pages(self, part: KeyRange, size: PageSize) -> Iterator[list[Row]]:
        """A statement a page: between two of them the session is another range's."""
        left, places = part, self._key_places()
        while True:
            wanted = size()
            with self._moment.session() as session:
                rows = session.rows(self._sql.rows(left, self._asked(), f" limit {wanted}"))
            if rows:
                yield rows
            if len(rows) < wanted:
                return
            left = KeyRange(tuple(str(rows[-1][place]) for place in places), part.until)

    def _stream(self, part: KeyRange, size: PageSize) -> Iterator[list[Row]]:
        """One statement, in a session of its own, which sees what the statement began with."""
        session = ReadSession(self._where)
        try:
            yield from session.pages(self._sql.rows(part, self._asked()), size)
        finally:
            session.close()

    def _asked(self) -> list[str]:
        """The columns, and the constants for those of the key that do not say them by themselves."""
        keys = [column for column in self._key if not self._says_its_constant(column)]
        return [
            *(column.sql for column in self._columns),
            *(f"{column.constant_sql} as _key{n}" for n, column in enumerate(keys)),
        ]

    def _says_its_constant(self, column: Column) -> bool:
        return column in self._columns and column.dtype.is_integer()

    def _key_places(self) -> list[int]:
        """Where in a row the constants of the key are."""
        behind = itertools.count(len(self._columns))
        return [
            self._columns.index(column) if self._says_its_constant(column) else next(behind)
            for column in self._key
        ]


@dataclass(frozen=True, slots=True)
class _Index:
    """``unique``: no two rows have the same values, and none is null."""

    columns: list[str]
    unique: bool


def _indexes(session: ReadSession, about_table: Callable[[str, str], str]) -> list[_Index]:
    """The indexes whose order is that of whole columns, the primary key first."""
    about = "index_name, column_name, non_unique, nullable, sub_part"
    found: dict[str, list[Row]] = {}
    for row in session.rows(f"{about_table(about, 'statistics')} order by index_name, seq_in_index"):
        found.setdefault(str(row[0]), []).append(row)
    whole = {
        name: _Index([str(row[1]) for row in rows], all(row[2] == "0" and row[3] != "YES" for row in rows))
        for name, rows in found.items()
        if all(row[1] is not None and row[4] is None for row in rows)
    }
    return sorted(whole.values(), key=lambda index: index is not whole.get("PRIMARY"))


def _names(session: ReadSession) -> list[str]:
    """The tables and views of the URL's database that this user may see."""
    rows = session.rows(
        "select table_name from information_schema.tables where table_schema = database() order by 1"
    )
    return [str(row[0]) for row in rows]


def _constant(text: str) -> str:
    return f"_utf8mb4 x'{text.encode().hex()}'"


def _as_it_is(text: str) -> str:
    return text
