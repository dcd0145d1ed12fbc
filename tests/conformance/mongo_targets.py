"""Targets of the MongoDB sink for the conformance suite, read by a client of their own."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import polars as pl
from pymongo import AsyncMongoClient

from streamcore.batch import PartitionId
from streamcore.sinks.mongodb import MongoDB
from streamcore.systems.mongo import Driver
from streamcore.testing.sink_world import COLUMNS
from tests.conformance.behind_proxy import ProxiedUrl
from tests.services.mongo import MongoServer

_numbers = itertools.count()


class MongoTarget:
    """A fresh database."""

    def __init__(self, server: MongoServer, key: str | None = None, driver: Driver = "pymongo") -> None:
        self._server, self._database = server, f"rows-{next(_numbers)}"
        self._name = 'té\'st."collection"'
        uri = f"{server.uri(self._database)}&serverSelectionTimeoutMS=300"
        self.sink = MongoDB(self._name, uri, key=key, driver=driver)

    async def start(self) -> None:
        self._client: AsyncMongoClient[dict[str, object]] = AsyncMongoClient(self._server.uri())
        await self._client.drop_database(self._database)
        place = await self._client[self._database].create_collection(
            self._name, validator={"name": {"$ne": "forbidden"}}
        )
        await place.create_index("id", unique=True)

    async def rows(self) -> pl.DataFrame:
        found = await self._client[self._database][self._name].find({}, {"_id": 0}).to_list(None)
        return pl.DataFrame(found, schema=COLUMNS)

    async def positions(self) -> Mapping[PartitionId, int]:
        found = await self._client[self._database].streamcore_positions.find({}).to_list(None)
        return {
            PartitionId(one["topic"], one["_id"]["partition"], one["_id"]["topic_id"]): one["next_offset"]
            for one in found
        }

    async def close(self) -> None:
        await self._client.drop_database(self._database)
        await self._client.close()


class ProxiedMongoTarget(ProxiedUrl, MongoTarget):
    """The same behind a proxy."""
