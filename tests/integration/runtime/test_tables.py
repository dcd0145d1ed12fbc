"""Tables on real servers: PostgreSQL has them as they are, a topic their changes, and is a table again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import numpy as np
import orjson
import pyarrow as pa
import pytest

import streamcore as sc
from streamcore.contracts import Records
from tests.integration.runtime.test_worker import Scene, Working
from tests.services.kafka import KafkaServer
from tests.services.postgres import PostgresServer

USERS = 40


class Click(sc.Event):
    user: int
    page: str
    at: int


class Clicks(Scene):
    """Clicks in any of 4 partitions: a table of users, one of pages over it, and the users' newest clicks."""

    database: str

    def topology(self) -> sc.Topology:  # type: ignore[override]
        topology = sc.Topology(self.name)
        clicks = topology.stream("clicks", Click, topic=self.topic)
        users = clicks.by("user").aggregate(clicks="count(*)", page="last(page)", newest="max(at)")
        users.filter("clicks % 3 <> 0").to(self._sink("users", "user"))
        users.by("page").aggregate(users="count(*)", clicks="sum(clicks)").to(self._sink("pages", "page"))
        changes = sc.sinks.Topic(f"{self.topic}-out", create=True, partitions=2)
        clicks.by("user").top(1, order="at desc").to(changes)
        users.filter("clicks % 3 <> 0").to(sc.sinks.Topic(f"{self.topic}-users", create=True, partitions=2))
        return topology

    def reading(self) -> sc.Topology:
        """The table of users again, from the topic that is its changelog."""
        topology = sc.Topology(f"{self.name}-reading")
        schema = {"user": "int64", "clicks": "int64", "page": "string", "newest": "int64"}
        users = topology.table("users", schema, key="user", topic=f"{self.topic}-users")
        users.by("user").latest().to(self._sink("again", "user"))
        return topology

    def _sink(self, table: str, key: str) -> sc.sinks.Postgres:
        return sc.sinks.Postgres(f"{self.name}-{table}", url=self.database, key=key, create=True)

    async def send_clicks(self, first: int, count: int) -> None:
        """Clicks *first* to *first* + *count*: each user's rows lie in all partitions."""
        values = [orjson.dumps(click(number)) for number in range(first, first + count)]
        stamps = np.full(count, int(time.time() * 1000))
        places = np.array([hash((number, "p")) % 4 for number in range(first, first + count)], np.int32)
        records = Records(pa.array(values, pa.binary()), stamps, partitions=places)
        await (await self.log.append(self.topic, records))

    async def rows(self, table: str) -> list[tuple[object, ...]]:
        connection = await asyncpg.connect(self.database)
        try:
            found = await connection.fetch(f'select * from "{self.name}-{table}" order by 1')
        except asyncpg.UndefinedTableError:
            found = []
        finally:
            await connection.close()
        return [tuple(row) for row in found]


def click(number: int) -> dict[str, object]:
    user = number * 7919 % USERS
    return {"user": user, "page": f"page {user % 5}", "at": number}


def users_of(count: int) -> list[tuple[int, int, str, int]]:
    clicks = [click(number) for number in range(count)]
    found = []
    for user in range(USERS):
        mine = [c for c in clicks if c["user"] == user]
        if mine and len(mine) % 3:
            found.append((user, len(mine), f"page {user % 5}", max(c["at"] for c in mine)))  # type: ignore[type-var]
    return found  # type: ignore[return-value]


def pages_of(count: int) -> list[tuple[str, int, int]]:
    clicks = [click(number) for number in range(count)]
    pages = sorted({str(c["page"]) for c in clicks})
    return [
        (page, len({c["user"] for c in clicks if c["page"] == page}), sum(c["page"] == page for c in clicks))
        for page in pages
    ]


@pytest.fixture
async def clicks(kafka: KafkaServer, postgres: PostgresServer, tmp_path: Path) -> AsyncIterator[Clicks]:
    scene = Clicks(kafka, tmp_path)
    scene.database = postgres.fresh_database()
    await scene.log.create(scene.topic, 4, {})
    yield scene
    await scene.log.close()


async def _until(clicks: Clicks, count: int) -> None:
    deadline = time.monotonic() + 60
    while await clicks.rows("users") != users_of(count) or await clicks.rows("pages") != pages_of(count):
        assert time.monotonic() < deadline, (await clicks.rows("users"), await clicks.rows("pages"))
        await asyncio.sleep(0.2)


async def test_tables_are_what_all_rows_make_of_them_with_restarts_and_another_worker(clicks: Clicks) -> None:
    await clicks.send_clicks(0, 1_000)
    async with Working(clicks, clicks.topology()):
        await _until(clicks, 1_000)
        await clicks.send_clicks(1_000, 37)
        async with Working(clicks, clicks.topology()):
            await clicks.send_clicks(1_037, 1_000)
            await _until(clicks, 2_037)
    await clicks.send_clicks(2_037, 100)
    async with Working(clicks, clicks.topology()):
        await _until(clicks, 2_137)
    async with Working(clicks, clicks.reading()):
        await _until_same(clicks, "again", users_of(2_137))
    newest = dict(await _folded(clicks))
    assert newest == {u: max(n for n in range(2_137) if click(n)["user"] == u) for u in range(USERS)}


async def _until_same(clicks: Clicks, table: str, expected: list[tuple[int, int, str, int]]) -> None:
    deadline = time.monotonic() + 60
    while (rows := await clicks.rows(table)) != expected:
        assert time.monotonic() < deadline, rows
        await asyncio.sleep(0.2)


async def _folded(clicks: Clicks) -> list[tuple[int, int]]:
    """The topic as a compacted one keeps it: the last record of each key."""
    last: dict[bytes | None, bytes | None] = {}
    for number, bounds in (await clicks.log.bounds(f"{clicks.topic}-out")).items():
        async for chunk in clicks.log.scan(f"{clicks.topic}-out", number, *bounds):
            last.update(zip(chunk.keys(), chunk.values(), strict=True))
    rows = [orjson.loads(value) for value in last.values() if value is not None]
    return [(row["user"], row["at"]) for row in rows]
