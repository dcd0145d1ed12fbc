"""Unbounded sources keep their laws, on the real servers."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import asyncpg
import pytest
import redis as driver
from pymongo import MongoClient, UpdateOne
from pymongo.collection import Collection

from streamcore.contracts.unbounded import UnboundedSource
from streamcore.sources.catalogue import open_unbounded
from streamcore.sources.redis_streams import Stream
from streamcore.testing.unbounded import (
    CatchingUpConformance,
    UnboundedSourceConformance,
    polled,
    reader_gives,
    reading,
)
from tests.services.mariadb import MariadbServer, execute
from tests.services.mongo import MongoServer
from tests.services.postgres import PostgresServer
from tests.services.redis import RedisServer
from tests.services.rest import RestServer, rest_server
from tests.services.s3 import S3Server

_numbers = itertools.count()


class TestSqlitePolling(CatchingUpConformance):
    """By a number that grows with each change."""

    @pytest.fixture(autouse=True)
    def database(self, tmp_path: Path) -> None:
        self.path = tmp_path / "rows.db"
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute("create table users (id integer primary key, name text, version integer)")
            connection.commit()

    def write(self, ids: Sequence[int]) -> None:
        with closing(sqlite3.connect(self.path)) as connection:
            connection.executemany(
                "insert into users "
                "select ?1, ?2, coalesce((select max(version) from users), 0) + 1 where true "
                "on conflict (id) do update set version = excluded.version",
                [(i, f"name {i}") for i in ids],
            )
            connection.commit()

    def source(self) -> UnboundedSource:
        return open_unbounded(f"sqlite:///{self.path}?table=users&poll=version&settle=0s&every=10ms")


class PostgresTable:
    """A table of users, written to by another client."""

    @pytest.fixture(autouse=True)
    def table(self, postgres: PostgresServer) -> None:
        self.dsn, self.name = postgres.dsn, f"polled_{next(_numbers)}"
        self.execute(
            f"create table {self.name} (id bigint primary key, name text, updated_at timestamptz not null)"
        )

    def execute(self, statement: str, rows: Sequence[Sequence[object]] = ()) -> None:
        async def run() -> None:
            connection = await asyncpg.connect(self.dsn)
            if rows:
                await connection.executemany(statement, rows)
            else:
                await connection.execute(statement)
            await connection.close()

        asyncio.run(run())

    def write(self, ids: Sequence[int]) -> None:
        self.execute(
            f"insert into {self.name} values ($1, $2, clock_timestamp()) "
            "on conflict (id) do update set updated_at = excluded.updated_at",
            [(i, f"name {i}") for i in ids],
        )


class TestPostgresPolling(PostgresTable, CatchingUpConformance):
    """By the clock of the database, which shows microseconds."""

    def source(self) -> UnboundedSource:
        return open_unbounded(f"{self.dsn}&table={self.name}&poll=updated_at&settle=0s&every=10ms")


@pytest.mark.slow
class TestMysqlPolling(CatchingUpConformance):
    """By the clock of the database, which shows microseconds."""

    @pytest.fixture(autouse=True)
    def table(self, mariadb: MariadbServer) -> None:
        self.dsn = mariadb.fresh_database()
        execute(
            self.dsn,
            "create table users (id bigint primary key, name text, updated_at datetime(6) not null, "
            "index (updated_at, id))",
        )

    def write(self, ids: Sequence[int]) -> None:
        # By one statement a row: now() is of the statement's beginning.
        execute(
            self.dsn,
            *(
                f"insert into users values ({i}, 'name {i}', now(6)) "
                "on duplicate key update updated_at = values(updated_at)"
                for i in ids
            ),
        )

    def source(self) -> UnboundedSource:
        return open_unbounded(f"{self.dsn}?table=users&poll=updated_at&settle=0s&every=10ms")


class TestNewFilesOfAFolder(UnboundedSourceConformance):
    """Each write is a file, moved in."""

    row_bytes = 60
    options = "settle=0s&every=10ms"

    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path) -> None:
        self.path, self.aside, self.files = tmp_path / "in", tmp_path / "aside", itertools.count()
        self.path.mkdir()
        (tmp_path / "read").mkdir()

    def write(self, ids: Sequence[int]) -> None:
        text = "".join(f'{{"id": {i}, "name": "name {i}"}}\n' for i in ids)
        self.aside.write_text(text)
        self.aside.rename(self.path / f"{next(self.files):04}.jsonl")

    def source(self) -> UnboundedSource:
        return open_unbounded(f"{self.path}/*.jsonl?{self.options}")


@pytest.mark.slow
class TestNewFilesThatAreDeleted(TestNewFilesOfAFolder):
    """What was read and is durable goes."""

    options = "settle=0s&every=10ms&done=delete"


@pytest.mark.slow
class TestNewFilesOfCsvThatAreMovedAway(TestNewFilesOfAFolder):
    """The rows are columns."""

    def write(self, ids: Sequence[int]) -> None:
        self.aside.write_text("id,name\n" + "".join(f"{i},name {i}\n" for i in ids))
        self.aside.rename(self.path / f"{next(self.files):04}.csv")

    def source(self) -> UnboundedSource:
        return open_unbounded(f"{self.path}?settle=0s&every=10ms&done={self.path.parent / 'read'}")

    def test_columns_are_those_of_the_rows_or_unknown(self) -> None:
        """The numbers of CSV are text."""
        self.write([1])
        columns = self.source().columns()
        assert columns is not None
        assert set(columns) == {"id", "name"}


class TestNewObjectsOfS3(UnboundedSourceConformance):
    """Each write is an object below a prefix."""

    row_bytes = 60

    @pytest.fixture(autouse=True)
    def bucket(self, s3: S3Server) -> None:
        self.server, self.name, self.objects = s3, s3.fresh_bucket()["BUCKET"], itertools.count()

    def write(self, ids: Sequence[int]) -> None:
        text = "".join(f'{{"id": {i}, "name": "name {i}"}}\n' for i in ids)
        key = f"in/{next(self.objects):04}.jsonl"
        self.server.client.put_object(Bucket=self.name, Key=key, Body=text.encode())

    def source(self) -> UnboundedSource:
        return open_unbounded(f"{self.server.uri(f'{self.name}/in/*.jsonl')}&settle=0s&every=10ms")


class TestPostgresLogicalDecoding(PostgresTable, UnboundedSourceConformance):
    """Inserts, updates and deletes, by a slot of its own."""

    row_bytes = 60

    @pytest.fixture(autouse=True)
    def slot(self, table: None) -> Iterator[None]:
        self.source()
        yield
        self.execute(f"select pg_drop_replication_slot('{self.name}')")

    def delete(self, ids: Sequence[int]) -> None:
        self.execute(f"delete from {self.name} where id = $1", [(i,) for i in ids])

    def source(self) -> UnboundedSource:
        return open_unbounded(f"{self.dsn}&table={self.name}&slot={self.name}&create=true&every=10ms")


class TestMongoChanges(UnboundedSourceConformance):
    """What was there, as it was at one moment, and then the changes."""

    options = "collection=users"

    @pytest.fixture(autouse=True)
    def collection(self, mongo: MongoServer) -> Iterator[None]:
        self.uri = mongo.fresh_database()
        with MongoClient(self.uri) as client:
            self.users: Collection[dict[str, object]] = client.get_default_database().create_collection(
                "users", changeStreamPreAndPostImages={"enabled": True}
            )
            yield

    def write(self, ids: Sequence[int]) -> None:
        self.users.bulk_write(
            [
                UpdateOne({"_id": i}, {"$set": {"id": i, "name": f"name {i}"}, "$inc": {"version": 1}}, True)
                for i in ids
            ]
        )

    def delete(self, ids: Sequence[int]) -> None:
        for i in ids:
            self.users.delete_one({"_id": i})

    def source(self) -> UnboundedSource:
        return open_unbounded(f"{self.uri}&{self.options}&changes=suite&every=10ms")


@pytest.mark.slow
class TestMongoChangesByMotor(TestMongoChanges):
    """The same laws on the driver that has come to its end."""

    options = "collection=users&driver=motor"


class TestMongoPolling(CatchingUpConformance):
    """By a number that grows with each change, along an index of it."""

    row_bytes = 100
    options = "collection=users"

    @pytest.fixture(autouse=True)
    def collection(self, mongo: MongoServer) -> Iterator[None]:
        self.uri, self.versions = mongo.fresh_database(), itertools.count()
        with MongoClient(self.uri) as client:
            self.users: Collection[dict[str, object]] = client.get_default_database().users
            self.users.create_index([("version", 1), ("_id", 1)])
            yield

    def write(self, ids: Sequence[int]) -> None:
        rows = [{"id": i, "name": f"name {i}", "version": next(self.versions)} for i in ids]
        self.users.bulk_write([UpdateOne({"_id": row["id"]}, {"$set": row}, True) for row in rows])

    def source(self) -> UnboundedSource:
        return open_unbounded(f"{self.uri}&{self.options}&poll=version&settle=0s&every=10ms")


@pytest.mark.slow
class TestMongoPollingByMotor(TestMongoPolling):
    """The same laws on the driver that has come to its end."""

    options = "collection=users&driver=motor"


@pytest.mark.slow
class TestMongoChangesOfADatabase(TestMongoChanges):
    """From a time on, each document as it was then; deletes are told by collection and id."""

    @pytest.fixture(autouse=True)
    def since(self, collection: None) -> None:
        self.begin = datetime.now(timezone.utc).isoformat()[:19]

    def source(self) -> UnboundedSource:
        self.options = f"collection=*&collection_field=of&documents=images&begin={self.begin}Z"
        return super().source()

    def test_rows_that_are_gone_come_as_such_if_it_says_so(self) -> None:
        self.write(range(3))
        with reading(self.source()) as reader:
            polled(reader, 3)
            self.delete([2])
            (part,) = reader_gives(reader, 1 << 20).parts
        assert part.deleted
        assert part.chunk.frame is not None
        assert part.chunk.frame.to_dicts() == [{"_id": 2, "of": "users"}]


class TestRedisStream(UnboundedSourceConformance):
    """Fields as columns of text."""

    row_bytes = 200
    what = "fields=id,name"

    @pytest.fixture(autouse=True)
    def stream(self, redis: RedisServer) -> None:
        self.url, self.key = redis.url, f"rows-{next(_numbers)}"

    def write(self, ids: Sequence[int]) -> None:
        client = driver.Redis.from_url(self.url)
        commands = client.pipeline()
        for i in ids:
            commands.xadd(self.key, self.entry(i))
        commands.execute()
        client.close()

    def entry(self, i: int) -> dict[str, str]:
        return {"id": str(i), "name": f"name {i}"}

    def source(self) -> UnboundedSource:
        found = open_unbounded(f"{self.url}?stream={self.key}&group=feed&create=true&{self.what}")
        assert isinstance(found, Stream)
        return replace(found, block=0.01)

    def test_columns_are_those_of_the_rows_or_unknown(self) -> None:
        """Fields are text."""
        self.write([1])
        assert set(self.source().columns() or {"id", "name"}) == {"id", "name"}


@pytest.mark.slow
class TestRedisStreamOfDocuments(TestRedisStream):
    """A field holds a row."""

    what = "value=row"

    def entry(self, i: int) -> dict[str, str]:
        return {"row": f'{{"id": {i}, "name": "name {i}"}}'}


@pytest.fixture(scope="module")
def api() -> Iterator[RestServer]:
    with rest_server() as running:
        yield running


class TestRestPolling(CatchingUpConformance):
    """By a time of whole seconds, which several rows share; all in one answer, with an ETag."""

    row_bytes = 130
    query = "/all?poll=updated_at"
    etags = True

    @pytest.fixture(autouse=True)
    def collection(self, api: RestServer) -> None:
        self.api, self.written = api, itertools.count()
        api.rows, api.etags = [], self.etags
        api.since = lambda row, since: str(self.mark(row)) >= since

    def mark(self, row: object) -> object:
        assert isinstance(row, dict)
        return row["updated_at"]

    def write(self, ids: Sequence[int]) -> None:
        stays = [row for row in self.api.rows if isinstance(row, dict) and row["id"] not in ids]
        self.api.rows = stays + [{"id": i, "name": f"name {i}", **self.stamp()} for i in ids]

    def stamp(self) -> dict[str, object]:
        number = next(self.written)
        seconds = datetime(2026, 11, 29, tzinfo=timezone.utc) + timedelta(seconds=number // 7)
        return {"updated_at": seconds.isoformat().replace("+00:00", "Z"), "version": number}

    def source(self) -> UnboundedSource:
        return open_unbounded(f"{self.api.url}{self.query}&every=10ms&allow_private=true")


class TestRestPollingByPages(TestRestPolling):
    """By a number, page by page; the server gives from the mark on."""

    query = "/by/page?poll=version&pagination=page&page_size=17"
    etags = False

    def mark(self, row: object) -> object:
        assert isinstance(row, dict)
        return f"{row['version']:09}"

    @pytest.fixture(autouse=True)
    def numbers(self, collection: None) -> None:
        self.api.since = lambda row, since: str(self.mark(row)) >= f"{int(since):09}"


class TestRestPollingByCursors(TestRestPolling):
    """With a server that takes no notice of since."""

    query = "/by/cursor?poll=updated_at&pagination=cursor&cursor_path=meta.next_cursor&rows_path=data.items"

    @pytest.fixture(autouse=True)
    def all_rows(self, collection: None) -> None:
        self.api.since = lambda row, since: True
