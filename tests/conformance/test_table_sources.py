"""Tables of databases keep the laws of bounded sources, on the real servers."""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import sqlite3
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from urllib.parse import quote
from uuid import UUID

import asyncpg
import orjson
import polars as pl
import pytest
from bson import Binary
from redis import Redis

from batch_adapters.catalogue import open_source
from streamcore.contracts import BoundedSource
from streamcore.testing.sources import ReadRecord, SourceContent, TableSourceConformance
from tests.services.mariadb import MariadbServer, execute
from tests.services.mongo import MongoServer
from tests.services.postgres import PostgresServer
from tests.services.redis import RedisServer

_numbers = itertools.count()


class PostgresLaws(TableSourceConformance):
    """A table in a schema of its own for each test."""

    known_columns = {"id": pl.Int64(), "name": pl.String()}
    query = "table={table}"

    @pytest.fixture
    def folder(self, tmp_path: Path, postgres: PostgresServer) -> Path:
        self.dsn = postgres.dsn
        self.table = f"laws_{next(_numbers)}.Rows o'f"
        return tmp_path

    def execute(self, *statements: str) -> None:
        async def run() -> None:
            connection = await asyncpg.connect(self.dsn)
            for statement in statements:
                await connection.execute(statement)
            await connection.close()

        asyncio.run(run())

    @property
    def quoted(self) -> str:
        return ".".join(f'"{name}"' for name in self.table.split("."))

    def write(self, folder: Path, content: SourceContent) -> None:
        schema = self.table.split(".")[0]
        rows = [(row["id"], str(row["name"])) for row in reversed(content.good())]

        async def fill(connection: asyncpg.Connection) -> None:
            await connection.copy_records_to_table(self.table.split(".")[1], schema_name=schema, records=rows)

        self.execute(
            f"drop schema if exists {schema} cascade; create schema {schema}",
            f"create table {self.quoted} (id bigint primary key, name text)",
        )
        self.connected(fill)

    def connected(self, work: Callable[[asyncpg.Connection], Awaitable[None]]) -> None:
        async def run() -> None:
            connection = await asyncpg.connect(self.dsn)
            await work(connection)
            await connection.close()

        asyncio.run(run())

    def change(self, folder: Path, deleted: Sequence[int], inserted: Sequence[int]) -> None:
        ids, new = ",".join(map(str, deleted)), ",".join(f"({i}, 'name {i}')" for i in inserted)
        self.execute(
            f"delete from {self.quoted} where id in ({ids})", f"insert into {self.quoted} values {new}"
        )

    def open(self, folder: Path) -> BoundedSource:
        where = f"{self.dsn}&{self.query.format(table=self.table, quoted=self.quoted)}"
        return open_source(where.replace(" ", "%20"))

    def row_of(self, record: ReadRecord) -> Mapping[str, object]:
        number, name = record.value  # type: ignore[misc]  # a row of two columns
        return {"id": number, "name": name}


class TestPostgresTable(PostgresLaws):
    pass


class TestPostgresQuery(PostgresLaws):
    query = "query=select id, name from {quoted}&key=id"


@pytest.mark.slow
class TestPostgresByTextsOfTwoColumns(PostgresLaws):
    """Keys that are not numbers: in the server's own order."""

    query = (
        "query=select id, name, lpad((id %2B 1000)::text, 9, '0') as k from {quoted}&key=k,name"
        "&columns=id,name"
    )


class MysqlLaws(TableSourceConformance):
    """A table in a database of its own for each test."""

    known_columns = {"id": pl.Int64(), "name": pl.String()}
    query = "table=Rows o'f"
    definition = "(id bigint primary key, name text)"

    @pytest.fixture
    def folder(self, tmp_path: Path, mariadb: MariadbServer) -> Path:
        self.dsn = mariadb.fresh_database()
        return tmp_path

    def write(self, folder: Path, content: SourceContent) -> None:
        rows = ",".join(f"({row['id']}, '{row['name']}')" for row in reversed(content.good()))
        execute(
            self.dsn,
            "drop table if exists `Rows o'f`",
            f"create table `Rows o'f` {self.definition}",
            f"insert into `Rows o'f` (id, name) values {rows}" if rows else "select 1",
        )

    def change(self, folder: Path, deleted: Sequence[int], inserted: Sequence[int]) -> None:
        ids, new = ",".join(map(str, deleted)), ",".join(f"({i}, 'name {i}')" for i in inserted)
        execute(
            self.dsn,
            f"delete from `Rows o'f` where id in ({ids})",
            f"insert into `Rows o'f` (id, name) values {new}",
        )

    def open(self, folder: Path) -> BoundedSource:
        return open_source(f"{self.dsn}?{self.query}".replace(" ", "%20"))

    def row_of(self, record: ReadRecord) -> Mapping[str, object]:
        number, name = record.value  # type: ignore[misc]  # a row of two columns
        return {"id": number, "name": name}


class TestMysqlTable(MysqlLaws):
    pass


@pytest.mark.slow
class TestMysqlQuery(MysqlLaws):
    """Read by one statement."""

    query = "query=select id, name from `Rows o'f`&key=id"


@pytest.mark.slow
class TestMysqlByTextsOfTwoColumns(MysqlLaws):
    """Pages along an index of two texts, in an order of the server's own."""

    query = "table=Rows o'f&key=place,name&columns=id,name"
    definition = (
        "(id bigint, name varchar(40), place varchar(20) as (lpad(id + 1000, 9, '0')) stored, "
        "unique (place, name))"
    )


class SqliteLaws(TableSourceConformance):
    """A table in a file."""

    known_columns = {"id": pl.Int64(), "name": pl.String()}
    bad_code = "type"
    definition = "(id integer primary key, name text)"
    options = "table=Rows%20o'f"
    bad_name = b"\xff"

    def execute(self, folder: Path, *statements: str) -> None:
        with closing(sqlite3.connect(folder / "rows.db")) as connection:
            for statement in statements:
                connection.execute(statement)
            connection.commit()

    def write(self, folder: Path, content: SourceContent) -> None:
        rows: list[tuple[object, object]] = []
        for place, row in enumerate(content.good(), 1):
            rows.append((10 * int(str(row["id"])), row["name"]))
            if content.bad_every and place % content.bad_every == 0:
                rows.append((10 * int(str(row["id"])) + 5, self.bad_name))
        self.execute(
            folder, 'drop table if exists "Rows o\'f"', f'create table "Rows o\'f" {self.definition}'
        )
        with closing(sqlite3.connect(folder / "rows.db")) as connection:
            connection.executemany('insert into "Rows o\'f" values (?, ?)', reversed(rows))
            connection.commit()

    def change(self, folder: Path, deleted: Sequence[int], inserted: Sequence[int]) -> None:
        ids, new = (
            ",".join(str(10 * i) for i in deleted),
            ",".join(f"({10 * i}, 'name {i}')" for i in inserted),
        )
        table = '"Rows o\'f"'
        self.execute(folder, f"delete from {table} where id in ({ids})", f"insert into {table} values {new}")

    def open(self, folder: Path) -> BoundedSource:
        return open_source(f"sqlite:///{folder}/rows.db?{self.options}")

    def row_of(self, record: ReadRecord) -> Mapping[str, object]:
        number, name = record.value  # type: ignore[misc]  # a row of two columns
        return {"id": int(number) // 10, "name": name}


class TestSqliteByRowid(SqliteLaws):
    pass


@pytest.mark.slow
class TestSqliteWithoutRowid(SqliteLaws):
    definition = "(id text primary key, name text) without rowid"
    options = 'query=select cast(id as integer) as n, id, name from "Rows o\'f"&key=n&columns=id,name'
    known_columns = {"id": pl.String(), "name": pl.String()}


class TestSqliteByTwoColumns(SqliteLaws):
    definition = "(id integer, name text, primary key (id, name)) without rowid"


class MongoLaws(TableSourceConformance):
    """A collection with an awkward name for each test."""

    bad_code = "range"
    options = ""

    @pytest.fixture
    def folder(self, tmp_path: Path, mongo: MongoServer) -> Path:
        self.server = mongo
        self.name = f"laws {next(_numbers)}.Rows o'f"
        return tmp_path

    def id_of(self, number: int) -> object:
        """The ``_id`` of row *number*: in an order of its own type."""
        return number

    def document(self, number: int) -> dict[str, object]:
        return {"_id": self.id_of(2 * number), "id": number, "name": f"name {number}"}

    def write(self, folder: Path, content: SourceContent) -> None:
        rows: list[dict[str, object]] = []
        for place, row in enumerate(content.good(), 1):
            number = int(str(row["id"]))
            rows.append(self.document(number))
            if content.bad_every and place % content.bad_every == 0:
                rows.append({"_id": self.id_of(2 * number + 1), "id": number, "name": [{"x": float("nan")}]})
        with self.server.client() as client:
            client.laws.drop_collection(self.name)
            client.laws.create_collection(self.name)
            if rows:
                client.laws[self.name].insert_many(rows[::-1])

    def change(self, folder: Path, deleted: Sequence[int], inserted: Sequence[int]) -> None:
        with self.server.client() as client:
            client.laws[self.name].delete_many({"id": {"$in": list(deleted)}})
            client.laws[self.name].insert_many([self.document(number) for number in inserted])

    def open(self, folder: Path) -> BoundedSource:
        return open_source(f"{self.server.uri('laws')}&collection={self.name}{self.options}")

    def row_of(self, record: ReadRecord) -> Mapping[str, object]:
        document = orjson.loads(record.value)  # type: ignore[arg-type]  # JSON
        return {"id": document["id"], "name": document["name"]}


class TestMongoByNumbers(MongoLaws):
    pass


@pytest.mark.slow
class TestMongoByIdsOfSeveralTypes(MongoLaws):
    """Numbers come before texts, UUIDs and dates: each border and bookmark lies among all of them."""

    options = '&filter={"id": {"$gt": -100}}&columns=id,name'

    def id_of(self, number: int) -> object:
        if number < 100:
            return number
        if number < 250:
            return f"{number:05}"
        if number < 400:
            return Binary.from_uuid(UUID(int=number))
        return dt.datetime(2026, 1, 1) + dt.timedelta(seconds=number)


@pytest.mark.slow
class TestMongoByMotor(TestMongoByIdsOfSeveralTypes):
    """The same laws on the driver that has come to its end."""

    options = f"{TestMongoByIdsOfSeveralTypes.options}&driver=motor"


class RedisLaws(TableSourceConformance):
    """A stream of its own for each test. It only grows at its end: nothing is inserted before that."""

    known_columns = {"id": pl.String(), "name": pl.String()}
    bad_code = "utf8"
    options = "fields=id,name"

    @pytest.fixture
    def folder(self, tmp_path: Path, redis: RedisServer) -> Path:
        self.url, self.key = redis.url, f"laws {next(_numbers)}"
        return tmp_path

    def entry(self, number: int) -> dict[str, str | bytes]:
        return {"id": str(number), "name": f"name {number}"}

    def write(self, folder: Path, content: SourceContent) -> None:
        with Redis.from_url(self.url) as client, client.pipeline() as commands:
            commands.delete(self.key)
            commands.xadd(self.key, {"id": "first"}, "1-0")
            commands.xdel(self.key, "1-0")
            for place, row in enumerate(content.good(), 1):
                number = int(str(row["id"]))
                commands.xadd(self.key, self.entry(number), f"{10 + number}-1")
                if content.bad_every and place % content.bad_every == 0:
                    commands.xadd(self.key, {"id": "x", "name": b"\xff"}, f"{10 + number}-2")
            commands.execute()

    def change(self, folder: Path, deleted: Sequence[int], inserted: Sequence[int]) -> None:
        with Redis.from_url(self.url) as client, client.pipeline() as commands:
            for number in deleted:
                commands.xdel(self.key, f"{10 + number}-1")
            for number in inserted:
                if number > 0:
                    commands.xadd(self.key, self.entry(number), f"{10 + number}-1")
            commands.execute()

    def open(self, folder: Path) -> BoundedSource:
        return open_source(f"{self.url}?stream={quote(self.key)}&{self.options}")

    def row_of(self, record: ReadRecord) -> Mapping[str, object]:
        number, name = record.value  # type: ignore[misc]  # a row of two columns
        return {"id": int(number), "name": name}


class TestRedisByFields(RedisLaws):
    pass


@pytest.mark.slow
class TestRedisByValue(RedisLaws):
    """The row is JSON in a field, which the stream's format judges."""

    known_columns = None
    bad_code = None
    options = "value=row"

    def entry(self, number: int) -> dict[str, str | bytes]:
        return {"row": orjson.dumps({"id": number, "name": f"name {number}"})}

    def row_of(self, record: ReadRecord) -> Mapping[str, object]:
        found: dict[str, object] = orjson.loads(record.value)  # type: ignore[arg-type]  # JSON
        return found
