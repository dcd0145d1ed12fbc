"""Tables, collections and streams as a fault run's targets, seen by plain drivers, all at one moment."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from asyncmy.errors import MySQLError
from pymongo import MongoClient
from pymongo.client_session import ClientSession
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern
from redis import Redis
from redis.exceptions import RedisError

from tests.faults.rows import REFUSED_BY_A_CHECK
from tests.faults.targets import AtUrl, Positions, Seen, in_thread
from tests.services import mariadb
from tests.services.mongo import MongoServer

_PATIENCE_MS = 3_000


class MysqlTarget(AtUrl):
    """A table whose rows are numbered as they are written."""

    kind, folds = "mysql", False

    async def prepare(self) -> None:
        await mariadb.fetch(
            self._url,
            "create table effects (place bigint auto_increment primary key, id varchar(64), `key` text, "
            f"sequence bigint, n bigint check (n <> {REFUSED_BY_A_CHECK}), bucket text, note text, "
            "twice bigint)",
        )

    async def positions(self) -> Positions:
        return (await self._look("select 1 where false")).positions

    async def look(self) -> Seen:
        return await self._look("select id from effects order by place")

    async def _look(self, effects: str) -> Seen:
        try:
            connection = await mariadb.connection(self._url)
        except MySQLError as error:
            raise ConnectionError(str(error)) from None
        try:
            async with connection.cursor() as cursor:

                async def rows(sql: str) -> list[tuple[Any, ...]]:
                    await cursor.execute(sql)
                    return list(await cursor.fetchall() or [])

                await rows("set transaction isolation level repeatable read")
                await rows("start transaction with consistent snapshot")
                stored: list[tuple[Any, ...]] = []
                if await rows("show tables like 'streamcore_positions'"):
                    stored = await rows(
                        "select `partition`, next_offset from streamcore_positions "
                        f"where topic = '{self._topic}'"
                    )
                return Seen(dict(stored), [row[0] for row in await rows(effects)], exact=True)
        except MySQLError as error:
            raise ConnectionError(str(error)) from None
        finally:
            connection.close()


class SqliteTarget:
    """A table of a file; no network is in between."""

    kind, folds = "sqlite", False

    def __init__(self, path: Path, topic: str) -> None:
        self.address, self._topic = str(path), topic

    async def prepare(self) -> None:
        with closing(sqlite3.connect(self.address)) as connection, connection:
            connection.execute(
                "create table effects (place integer primary key autoincrement, id text, key text, "
                f"sequence integer, n integer check (n <> {REFUSED_BY_A_CHECK}), bucket text, note text, "
                "twice integer)"
            )

    async def positions(self) -> Positions:
        return (await in_thread(lambda: self._look("select 1 where false"), sqlite3.Error)).positions

    async def look(self) -> Seen:
        return await in_thread(lambda: self._look("select id from effects order by place"), sqlite3.Error)

    def _look(self, effects: str) -> Seen:
        stored: Positions = {}
        with closing(sqlite3.connect(self.address, isolation_level=None)) as connection:
            connection.execute("begin")
            if connection.execute(
                "select 1 from sqlite_master where name = 'streamcore_positions'"
            ).fetchone():
                stored = dict(
                    connection.execute(
                        "select partition, next_offset from streamcore_positions where topic = ?",
                        (self._topic,),
                    )
                )
            return Seen(stored, [row[0] for row in connection.execute(effects)], exact=True)


class MongoTarget(AtUrl):
    """A collection; the order in which rows came is that of the server's oplog.

    The natural order is not: a server that was killed applies the end of its oplog again, in parallel.
    """

    kind, folds = "mongodb", False

    def __init__(self, server: MongoServer, name: str, topic: str) -> None:
        self._database = name.replace(".", "-")
        super().__init__(f"{server.uri(self._database)}&serverSelectionTimeoutMS={_PATIENCE_MS}", topic)

    async def prepare(self) -> None:
        def make() -> None:
            with self._client() as client:
                validator = {"n": {"$ne": REFUSED_BY_A_CHECK}}
                client[self._database].create_collection("effects", validator=validator)

        await in_thread(make, PyMongoError)

    async def positions(self) -> Positions:
        return (await in_thread(lambda: self._look(effects=False), PyMongoError)).positions

    async def look(self) -> Seen:
        return await in_thread(lambda: self._look(effects=True), PyMongoError)

    def _client(self) -> MongoClient[dict[str, Any]]:
        return MongoClient(self._url)

    def _look(self, *, effects: bool) -> Seen:
        with (
            self._client() as client,
            client.start_session() as session,
            session.start_transaction(read_concern=ReadConcern("snapshot")),
        ):
            return self._read(client, session, effects=effects)

    def _read(self, client: MongoClient[dict[str, Any]], session: ClientSession, *, effects: bool) -> Seen:
        database = client[self._database]
        stored = database.streamcore_positions.find({"topic": self._topic}, session=session)
        positions = {one["_id"]["partition"]: one["next_offset"] for one in stored}
        if not effects:
            return Seen(positions, (), exact=True)
        found = list(database.effects.find({}, {"id": 1}, session=session))
        places = self._places(client)
        found.sort(key=lambda one: places.get(one["_id"], -1))
        return Seen(positions, [one["id"] for one in found], exact=True)

    def _places(self, client: MongoClient[dict[str, Any]]) -> dict[Any, int]:
        """Documents by their place in the oplog."""
        mine = {"o.applyOps.ns": f"{self._database}.effects"}
        log = client.local["oplog.rs"].find(mine, {"o.applyOps.o._id": 1}).sort("$natural", 1)
        written = (one["o"]["_id"] for entry in log for one in entry["o"]["applyOps"] if "_id" in one["o"])
        return {document: place for place, document in enumerate(written)}


class RedisTarget(AtUrl):
    """A stream, whose entries are in the order in which they came."""

    kind, folds = "redis", False

    def __init__(self, url: str, name: str, topic: str) -> None:
        super().__init__(url, topic)
        self._stream, self._positions = f"effects:{name}", f"streamcore_positions:{name}:effects"

    async def prepare(self) -> None:
        """The sink makes its stream."""

    async def positions(self) -> Positions:
        return (await in_thread(lambda: self._look("0", "0"), RedisError)).positions

    async def look(self) -> Seen:
        return await in_thread(lambda: self._look("-", "+"), RedisError)

    def _look(self, first: str, last: str) -> Seen:
        with (
            Redis.from_url(self._url, decode_responses=True, socket_timeout=5) as client,
            client.pipeline(transaction=True) as both,
        ):
            both.hgetall(self._positions)
            both.xrange(self._stream, first, last)
            stored, entries = both.execute()
        places = [json.loads(text) | {"field": field} for field, text in stored.items()]
        positions = {
            int(one["field"].rpartition("/")[2]): int(one["next_offset"])
            for one in places
            if one["topic"] == self._topic
        }
        return Seen(positions, [fields["id"] for _, fields in entries], exact=True)
