"""SQLite tables, views and queries as bounded streams: ``sqlite:///shop.db?table=users``.

Rows come in the order of a key: of the rowid where the table has one, else of the primary key, or of what
``key=`` names. Each range is read in one transaction, the ranges not in the same one: SQLite can't share it.
Where others write meanwhile, a row that moves from one range into another may be missed or come twice.

A column's type is that which its declaration says, by SQLite's rules of affinity. SQLite lets any value into
any column: a row with a value of another type is refused ("type", stage "read"). A column without a declared
type, and one of a query, has the type of all of its values, else text.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import polars as pl

from batch_adapters.key_ranges import FramePage, Key, KeyRange, Pages, PageSize, TableSource
from batch_adapters.key_sql import KeySql
from batch_adapters.marks import Look
from batch_adapters.refused_rows import Refused
from batch_adapters.table_options import (
    IncrementalOptions,
    TableOptions,
    marked_key,
    named,
    no_such_table,
    null_key,
)
from streamcore.errors import BadConfig, did_you_mean
from streamcore.systems.sqlite import identifier, open_file, path_of, translated

_BUSY_SECONDS = 30.0
_MOST_ROWS = 50_000


def open_sqlite(uri: str, options: TableOptions) -> TableSource:
    """The source that *options* say, checked: BadConfig when there is no such file, table, key or column."""
    return TableSource(SqliteTable(sqlite_path(uri), options))


def sqlite_path(uri: str) -> Path:
    """The file that *uri* names. BadConfig when it is none, or has options that there are not."""
    parts, path = urlsplit(uri), path_of(uri)
    if parts.query:
        unknown = parts.query.partition("=")[0]
        raise BadConfig(
            "there is no such option",
            where=str(path),
            got=unknown,
            allowed=IncrementalOptions.model_fields,
            fix=did_you_mean(unknown, IncrementalOptions.model_fields),
        )
    if not path.is_file():
        raise BadConfig("there is no such file", where=str(path), fix="give the database's path")
    return path


@contextmanager
def _connected(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that can only read, closed at the end; errors become ours."""
    try:
        with closing(open_file(path, "ro", _BUSY_SECONDS)) as connection:
            connection.text_factory = _text
            yield connection
    except sqlite3.Error as error:
        raise translated(error, str(path)) from None


def _text(data: bytes) -> str | bytes:
    """SQLite does not check that text is UTF-8; what is not stays bytes, which no text column takes."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


class SqliteTable:
    """A ``KeyedTable`` of SQLite, and a ``MarkedTable`` with a *mark*, a column that comes before the key."""

    def __init__(self, path: Path, options: TableOptions, mark: str | None = None) -> None:
        with _connected(path) as connection:
            if options.table is None and options.query is None:
                options = options.of_only_table(_relations(connection, "table"), str(path))
            self._path, self._options, self._table, self._mark = path, options, options.table, mark
            self._from = self._relation(connection)
            every = self._every_column(connection)
            names = {name: name for name in every}
            chosen = names if options.columns is None else named(names, options.columns, "columns", self.uri)
            self._types = {name: every[name] for name in chosen}
            self._sql = KeySql(
                self._from, self._key(connection, names), options.where, _constant_of, _as_it_is
            )
            asked = options.key or mark
            if asked is not None and connection.execute(self._sql.nulls()).fetchone():
                raise null_key(asked, self.uri)
            self._about = 0
            if self._table is not None:
                (self._about,) = connection.execute(f"select count(*) from {self._from}").fetchone()

    # ------------------------------------------------------------ what there is

    @property
    def uri(self) -> str:
        return f"sqlite:///{self._path}?{self._options.shown}"

    def identity(self) -> str:
        """The file, the relation, its columns, the key and the condition."""
        about = [str(self._path.absolute()), self._from, self._options.where or "", *self._sql.key]
        return "\0".join([*about, *(f"{name} {dtype}" for name, dtype in self._types.items())])

    def columns(self) -> pl.Schema:
        return pl.Schema(self._types)

    def rows(self) -> int:
        return self._about

    def _relation(self, connection: sqlite3.Connection) -> str:
        """What stands behind FROM. BadConfig when there is no such table."""
        if self._table is None:
            return self._options.subquery
        there = _relations(connection, "table", "view")
        if self._table not in there:
            raise no_such_table(self._table, there, str(self._path))
        return identifier(self._table)

    def _every_column(self, connection: sqlite3.Connection) -> dict[str, pl.DataType]:
        """The columns' types by their declarations; by all of their values where there is none."""
        cursor = connection.execute(f"select * from {self._from} limit 0")
        names = [str(about[0]) for about in cursor.description]
        declared: dict[str, str] = {}
        if self._table is not None:
            rows = connection.execute(f"pragma table_info({identifier(self._table)})")
            declared = {str(row[1]): str(row[2]) for row in rows}
        return {name: _affinity(declared.get(name, "")) or self._found(connection, name) for name in names}

    def _found(self, connection: sqlite3.Connection, column: str) -> pl.DataType:
        name = identifier(column)
        rows = connection.execute(
            f"select distinct typeof({name}) from {self._from} where {name} is not null"
        )
        kinds = {str(row[0]) for row in rows}
        if kinds <= {"integer", "real"}:
            return pl.Float64() if "real" in kinds else pl.Int64()
        return pl.Binary() if kinds == {"blob"} else pl.String()

    def _key(self, connection: sqlite3.Connection, names: Mapping[str, str]) -> tuple[str, ...]:
        """The key of the rows, behind the mark if there is one."""
        key = self._own_key(connection, names)
        if self._mark is None:
            return key
        (mark,) = map(identifier, named(names, self._mark, "mark", self.uri))
        marked_key(mark, ",".join(key), self.uri)
        return (mark, *(column for column in key if column != mark))

    def _own_key(self, connection: sqlite3.Connection, names: Mapping[str, str]) -> tuple[str, ...]:
        """The key that was given, the rowid, or the primary key of a table that has no rowid."""
        if self._options.key is not None:
            return tuple(map(identifier, named(names, self._options.key, "key", self.uri)))
        if self._table is None or self._table not in _relations(connection, "table"):
            return ()
        try:
            connection.execute(f"select rowid from {self._from} limit 0")
        except sqlite3.OperationalError:
            rows = connection.execute(f"pragma table_info({identifier(self._table)})").fetchall()
            primary = sorted((row[5], row[1]) for row in rows if row[5])
            return tuple(identifier(str(name)) for _, name in primary)
        return ("rowid",)

    # ------------------------------------------------------------ reading

    def borders(self, parts: int) -> Sequence[Key]:
        """Keys at equal distances among the rows."""
        if not self._sql.key:
            return []
        with _connected(self._path) as connection:
            return [tuple(map(str, row)) for row in connection.execute(self._sql.borders(parts))]

    def look(self) -> Look:
        """See ``batch_adapters.marks.MarkedTable``. What is committed later was written later."""
        with _connected(self._path) as connection:
            found = connection.execute(self._sql.top()).fetchone()
            (now,) = connection.execute("select (julianday('now') - 2440587.5) * 86400.0").fetchone()
        return Look(None if found is None else tuple(map(str, found)), now)

    def close(self) -> None:
        """Connections end with what they are for."""

    def read(self, part: KeyRange, max_bytes: int) -> Pages:
        count = len(self._sql.key)
        size = PageSize(max_bytes, len(self._types), _MOST_ROWS)
        with _connected(self._path) as connection:
            asked = [*map(_constant_of, self._sql.key), *map(identifier, self._types)]
            cursor = connection.execute(self._sql.rows(part, asked))
            while page := cursor.fetchmany(size()):
                columns = list(zip(*page, strict=True))
                keys = pl.DataFrame({f"_key{n}": column for n, column in enumerate(columns[:count])})
                frame, refused = _frame(columns[count:], self._types)
                size.was(frame)
                yield FramePage(frame, keys, refused)


def _relations(connection: sqlite3.Connection, *kinds: str) -> list[str]:
    """The names of tables and views that are not SQLite's own."""
    marks = ", ".join("?" * len(kinds))
    rows = connection.execute(
        f"select name from sqlite_schema where type in ({marks}) and name not like 'sqlite\\_%' escape '\\' "
        "order by name",
        kinds,
    )
    return [str(row[0]) for row in rows]


def _affinity(declared: str) -> pl.DataType | None:
    """By https://sqlite.org/datatype3.html, section 3.1; None for NUMERIC and columns without a type."""
    name = declared.upper()
    if "INT" in name:
        return pl.Int64()
    if any(part in name for part in ("CHAR", "CLOB", "TEXT")):
        return pl.String()
    if "BLOB" in name:
        return pl.Binary()
    if any(part in name for part in ("REAL", "FLOA", "DOUB")):
        return pl.Float64()
    return None


def _frame(
    columns: Sequence[Sequence[object]], types: dict[str, pl.DataType]
) -> tuple[pl.DataFrame, Refused | None]:
    """*columns* in their *types*, and the rows with values of another type."""
    made: dict[str, pl.Series] = {}
    bad: dict[str, pl.Series] = {}
    for (name, dtype), values in zip(types.items(), columns, strict=True):
        try:
            made[name] = pl.Series(name, values, dtype, strict=True)
        except (TypeError, OverflowError, pl.exceptions.PolarsError):
            fits = [value if isinstance(value, _PYTHON[type(dtype)]) else None for value in values]
            made[name] = pl.Series(name, fits, dtype)
            missing = [value is not None for value in values]
            bad[name] = made[name].is_null() & pl.Series(missing)
    frame = pl.DataFrame(made)
    if not bad:
        return frame, None
    rows = pl.select(pl.any_horizontal(*bad.values())).to_series().to_numpy()
    raw = pl.DataFrame(
        {
            name: [
                str(value) if value is not None else None
                for value, wrong in zip(v, rows, strict=True)
                if wrong
            ]
            for (name, _), v in zip(types.items(), columns, strict=True)
        },
        schema=dict.fromkeys(types, pl.String),
    )
    return frame, Refused(np.asarray(rows, bool), raw, "type", f"a value of another type: {', '.join(bad)}")


_PYTHON: dict[type[pl.DataType], tuple[type, ...]] = {
    pl.Int64: (int,),
    pl.Float64: (float, int),
    pl.String: (str,),
    pl.Binary: (bytes,),
}


def _constant_of(column: str) -> str:
    return f"quote({column})"


def _as_it_is(constant: str) -> str:
    return constant
