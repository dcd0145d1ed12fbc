"""Targets of the Redis sinks for the conformance suite, read by plain redis-py."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping

import polars as pl
from redis.asyncio import Redis

from streamcore.batch import PartitionId
from streamcore.sinks.redis import RedisHash, RedisSortedSet, RedisStream
from streamcore.testing.sink_world import COLUMNS
from tests.conformance.behind_proxy import ProxiedUrl

TAKEN = 424242
"""The id of a row whose key holds something else."""
_numbers = itertools.count()


class _RedisTarget:
    """Keys with an awkward prefix of their own, and a topology of its own, since all share a database."""

    sink: RedisStream | RedisHash | RedisSortedSet

    def __init__(self, url: str) -> None:
        self.url, number = url, next(_numbers)
        self.topology, self.prefix = f"conformance-{number}", f"té's\"t {number}\n[*]"

    async def start(self) -> None:
        self.client = Redis.from_url(self.url, decode_responses=True)

    async def reconnect(self) -> None:
        """After the server was away."""
        await self.client.connection_pool.disconnect()

    async def positions(self) -> Mapping[PartitionId, int]:
        found = {}
        stored = await self.client.hgetall(f"streamcore_positions:{self.topology}:{self.sink.name}")
        for field, text in stored.items():
            topic_id, _, partition = field.rpartition("/")
            place = json.loads(text)
            found[PartitionId(place["topic"], int(partition), topic_id)] = int(place["next_offset"])
        return found

    async def close(self) -> None:
        for key in await self.client.keys("*"):
            if key.startswith(self.prefix) or f":{self.topology}:" in key:
                await self.client.delete(key)
        await self.client.aclose()


class StreamTarget(_RedisTarget):
    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.sink = RedisStream(self.prefix, url)

    async def rows(self) -> pl.DataFrame:
        return read([fields for _, fields in await self.client.xrange(self.prefix)])


class JsonStreamTarget(_RedisTarget):
    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.sink = RedisStream(self.prefix, url, value="the row")

    async def rows(self) -> pl.DataFrame:
        found = [json.loads(fields["the row"]) for _, fields in await self.client.xrange(self.prefix)]
        return pl.DataFrame(found, schema=COLUMNS)


class HashTarget(_RedisTarget):
    """One key holds a text, where a row's hash would be."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.sink = RedisHash(f"{self.prefix}:{{id}}", url)

    async def start(self) -> None:
        await super().start()
        await self.client.set(f"{self.prefix}:{TAKEN}", "something else")

    async def rows(self) -> pl.DataFrame:
        keys = [key for key in await self.client.keys("*") if key.startswith(self.prefix)]
        found = [await self.client.hgetall(key) for key in keys if not key.endswith(f":{TAKEN}")]
        return read(found)


class SortedSetTarget(_RedisTarget):
    """Only ids and values are there; the names follow from the ids, as in the suite's rows."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.sink = RedisSortedSet(self.prefix, "id", "value", url)

    async def rows(self) -> pl.DataFrame:
        found = await self.client.zrange(self.prefix, 0, -1, withscores=True)
        rows = [
            {"id": int(member), "name": f"name {member}" if int(member) % 5 else None, "value": score}
            for member, score in found
        ]
        return pl.DataFrame(rows, schema=COLUMNS)


class ProxiedStreamTarget(ProxiedUrl, StreamTarget):
    """Behind a proxy."""


class ProxiedHashTarget(ProxiedUrl, HashTarget):
    """Behind a proxy."""


class ProxiedSortedSetTarget(ProxiedUrl, SortedSetTarget):
    """Behind a proxy."""


def read(rows: list[dict[str, str]]) -> pl.DataFrame:
    """Fields as Python reads them."""
    return pl.DataFrame(
        {
            "id": [int(row["id"]) for row in rows],
            "name": [row.get("name") for row in rows],
            "value": [float(row["value"]) if "value" in row else None for row in rows],
        },
        schema=COLUMNS,
    )
