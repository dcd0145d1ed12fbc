"""Targets of the MongoDB sink for the conformance suite, behind a proxy and read by a client of their own."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace

import polars as pl
from pymongo import AsyncMongoClient

from streamcore.batch import PartitionId
from streamcore.sinks.mongodb import MongoDB
from streamcore.systems.mongo_writing import Driver
from streamcore.testing.sink_world import COLUMNS
from tests.faults.proxy import Proxy
from tests.services.mongo import MongoServer

_numbers = itertools.count()


class MongoTarget:
    """A fresh database; only the sink goes through the proxy."""

    def __init__(self, server: MongoServer, key: str | None = None, driver: Driver = "pymongo") -> None:
        self._server, self._database = server, f"rows-{next(_numbers)}"
        self._name = 'té\'st."collection"'
        self.sink = MongoDB(self._name, server.uri(self._database), key=key, driver=driver)
        host, _, port = server.address.rpartition(":")
        self.proxy = Proxy(host, int(port))

    async def start(self) -> None:
        self._client: AsyncMongoClient[dict[str, object]] = AsyncMongoClient(self._server.uri())
        await self._client.drop_database(self._database)
        place = await self._client[self._database].create_collection(
            self._name, validator={"name": {"$ne": "forbidden"}}
        )
        await place.create_index("id", unique=True)
        await self.proxy.up()
        uri = self._server.uri(self._database).replace(self._server.address, f"127.0.0.1:{self.proxy.port}")
        self.sink = replace(self.sink, url=f"{uri}&serverSelectionTimeoutMS=300")

    async def rows(self) -> pl.DataFrame:
        found = await self._client[self._database][self._name].find({}, {"_id": 0}).to_list(None)
        return pl.DataFrame(found, schema=COLUMNS)

    async def positions(self) -> Mapping[PartitionId, int]:
        found = await self._client[self._database].streamcore_positions.find({}).to_list(None)
        return {
            PartitionId(one["topic"], one["_id"]["partition"], one["_id"]["topic_id"]): one["next_offset"]
            for one in found
        }

    async def cut_connections(self) -> None:
        self.proxy.cut()

    async def go_down(self) -> None:
        await self.proxy.down()

    async def come_back(self) -> None:
        await self.proxy.up()

    async def close(self) -> None:
        await self.proxy.__aexit__()
        await self._client.drop_database(self._database)
        await self._client.close()
