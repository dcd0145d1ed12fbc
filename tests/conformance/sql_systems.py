"""SQL databases as the tests of types see them: their own client, our sink and our source."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import ClassVar, Protocol

import asyncpg
import polars as pl
import pytest

from streamcore.contracts import Sink
from streamcore.sinks import Postgres, SQLite, postgres_columns, sqlite_columns
from tests.conformance.postgres_found_types import POSTGRES_SOURCE
from tests.conformance.postgres_types import POSTGRES, SETUP
from tests.conformance.sqlite_types import SQLITE, SQLITE_SOURCE, Sql
from tests.conformance.type_tables import Line


class SqlSystem(Protocol):
    """A database of the test's own. ``code``: of the dead letters of what no type can hold."""

    lines: ClassVar[Sequence[Line]]
    source: ClassVar[Sequence[Line]]
    code: ClassVar[str]

    def sink(self, table: str, create: bool = False) -> Sink: ...

    def uri(self, table: str) -> str:
        """What our source reads."""
        ...

    def execute(self, *statements: str) -> list[tuple[object, ...]]:
        """The rows of the last one."""
        ...

    def types(self, table: str) -> list[tuple[object, ...]]:
        """Those of its columns, as the database tells them."""
        ...

    def fill(self, table: str, rows: Sequence[Sequence[object]]) -> None:
        """What another program writes there."""
        ...

    def kind(self, declared: str) -> str:
        """What decides whether a column fits one that is *declared* so."""
        ...

    def pair(self, declared: str) -> Callable[[pl.DataType], object]:
        """BadConfig where a column of the stream does not fit one that is *declared* so."""
        ...

    def apart(self, dtype: pl.DataType, declared: str) -> bool:
        """Whether rows with such a pair of columns travel in another way than those without one."""
        ...


def table_of(columns: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {declared}" for name, declared in columns.items())


class PostgresTypes:
    """See :class:`SqlSystem`."""

    lines, source, code = POSTGRES, POSTGRES_SOURCE, "range"

    def __init__(self, request: pytest.FixtureRequest) -> None:
        database: str = request.getfixturevalue("postgres").fresh_database()
        self._dsn = f"{database.partition('?')[0]}?sslmode=disable"
        self._kinds: dict[str, tuple[object, ...]] = {}
        self.execute(SETUP)

    def sink(self, table: str, create: bool = False) -> Sink:
        return Postgres(table, self._dsn, create=create)

    def uri(self, table: str) -> str:
        return f"{self._dsn}&table={table}&key=place"

    def execute(self, *statements: str) -> list[tuple[object, ...]]:
        async def run() -> list[tuple[object, ...]]:
            connection = await asyncpg.connect(self._dsn)
            try:
                rows = [await connection.fetch(statement) for statement in statements]
                return [tuple(row) for row in rows[-1]]
            finally:
                await connection.close()

        return asyncio.run(run())

    def types(self, table: str) -> list[tuple[object, ...]]:
        return self.execute(
            "select format_type(atttypid, atttypmod) from pg_attribute "
            f"where attrelid = '{table}'::regclass and attnum > 0 order by attnum"
        )

    def fill(self, table: str, rows: Sequence[Sequence[object]]) -> None:
        values = ", ".join(f"({', '.join(map(self._literal, row))})" for row in rows)
        self.execute(f"insert into {table} values {values}")

    def _literal(self, value: object) -> str:
        if value is None:
            return "null"
        text = f"\\x{value.hex()}" if isinstance(value, bytes) else str(value)
        if isinstance(value, list):
            text = f"{{{','.join('NULL' if one is None else _inside(one) for one in value)}}}"
        return "'" + text.replace("'", "''") + "'"

    def kind(self, declared: str) -> str:
        return declared

    def apart(self, dtype: pl.DataType, declared: str) -> bool:
        return not self.pair(declared)(dtype).binary

    def pair(self, declared: str) -> Callable[[pl.DataType], postgres_columns.ColumnPair]:
        if declared not in self._kinds:
            (self._kinds[declared],) = self.execute(
                f"select typname, typtype = 'e' from pg_type where oid = '{declared}'::regtype"
            )
        kind, is_enum = self._kinds[declared]
        column = postgres_columns.TableColumn("v", str(kind), declared, bool(is_enum))
        return partial(postgres_columns.ColumnPair, column)


def _inside(value: object) -> str:
    """A value within an array."""
    text = f"\\x{value.hex()}" if isinstance(value, bytes) else str(value)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


class SqliteTypes:
    """See :class:`SqlSystem`."""

    lines, source, code = SQLITE, SQLITE_SOURCE, "type"

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._path = request.getfixturevalue("tmp_path_factory").mktemp("types") / "types.db"

    def sink(self, table: str, create: bool = False) -> Sink:
        return SQLite(table, self._path, create=create)

    def uri(self, table: str) -> str:
        return f"sqlite:///{self._path}?table={table}&key=place"

    def execute(self, *statements: str) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(self._path)) as connection, connection:
            return [connection.execute(statement).fetchall() for statement in statements][-1]

    def types(self, table: str) -> list[tuple[object, ...]]:
        return self.execute(f"select type from pragma_table_info('{table}')")

    def fill(self, table: str, rows: Sequence[Sequence[object]]) -> None:
        with closing(sqlite3.connect(self._path)) as connection, connection:
            for row in rows:
                places = ", ".join(value if isinstance(value, Sql) else "?" for value in row)
                sent = [value for value in row if not isinstance(value, Sql)]
                connection.execute(f"insert into {table} values ({places})", sent)

    def kind(self, declared: str) -> str:
        return sqlite_columns.TableColumn("v", declared).affinity

    def apart(self, dtype: pl.DataType, declared: str) -> bool:
        return False

    def pair(self, declared: str) -> Callable[[pl.DataType], object]:
        return partial(sqlite_columns.ColumnPair, sqlite_columns.TableColumn("v", declared))
