"""A table joined with another by that one's key on Kafka: its rows move from partition to partition."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
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

ORDERS, CUSTOMERS = 120, 12
Found = dict[int, tuple[int, int, int | None]]
"""Id to customer, amount and level."""


def order(id: int, round: int) -> dict[str, object]:
    """Each round moves it to another customer, or deletes it."""
    gone = (id + round) % 10 == 0
    return {"id": id, "customer": (id * 7 + round * 5) % (CUSTOMERS + 2), "amount": round, "gone": gone}


def customer(name: int, round: int) -> dict[str, object]:
    return {"name": name, "level": round * 100 + name, "gone": (name + round) % 4 == 0}


def expected(round: int) -> Found:
    orders = [order(id, round) for id in range(ORDERS)]
    levels = {c["name"]: c["level"] for n in range(CUSTOMERS) if not (c := customer(n, round))["gone"]}
    return {
        o["id"]: (o["customer"], o["amount"], levels.get(o["customer"]))  # type: ignore[misc]
        for o in orders
        if not o["gone"]
    }


class Shop(Scene):
    """Orders in 3 partitions and customers in 5, each by its own key."""

    database: str

    def topology(self) -> sc.Topology:  # type: ignore[override]
        topology = sc.Topology(self.name)
        columns = {"id": "int64", "customer": "int64", "amount": "int64", "gone": "bool"}
        orders = topology.stream("orders", columns, topic=self.topic).by("id").latest(deleted="gone")
        known = {"name": "int64", "level": "int64", "gone": "bool"}
        customers = topology.stream("customers", known, topic=f"{self.topic}-customers")
        customers_now = customers.by("name").latest(deleted="gone").drop("gone")
        on = {"customer": "name"}
        for how in ("inner", "left"):
            sink = sc.sinks.Postgres(f"{self.name}-{how}", url=self.database, key="id", create=True)
            orders.join(customers_now, on=on, how=how, name=how).to(sink)  # type: ignore[arg-type]
        return topology

    async def send_round(self, round: int, orders: Iterable[int], customers: Iterable[int]) -> None:
        rows = {
            (self.topic, 3): [order(id, round) for id in orders],
            (f"{self.topic}-customers", 5): [customer(name, round) for name in customers],
        }
        for (topic, partitions), sent in rows.items():
            places = np.array([next(iter(row.values())) % partitions for row in sent], np.int32)  # type: ignore[operator]
            stamps = np.full(len(sent), int(time.time() * 1000))
            values = pa.array([orjson.dumps(row) for row in sent], pa.binary())
            await (await self.log.append(topic, Records(values, stamps, partitions=places)))

    async def found(self, how: str) -> Found:
        connection = await asyncpg.connect(self.database)
        try:
            rows = await connection.fetch(f'select * from "{self.name}-{how}"')
        except asyncpg.UndefinedTableError:
            rows = []
        finally:
            await connection.close()
        return {row["id"]: (row["customer"], row["amount"], row["level"]) for row in rows}

    async def holds(self, round: int) -> None:
        """Both tables are those of *round*."""
        left, deadline = expected(round), time.monotonic() + 120
        inner = {id: row for id, row in left.items() if row[2] is not None}
        while (found := (await self.found("left"), await self.found("inner"))) != (left, inner):
            assert time.monotonic() < deadline, found
            await asyncio.sleep(0.2)


@pytest.fixture
async def shop(kafka: KafkaServer, postgres: PostgresServer, tmp_path: Path) -> AsyncIterator[Shop]:
    scene = Shop(kafka, tmp_path)
    scene.database = postgres.fresh_database()
    await scene.log.create(scene.topic, 3, {})
    await scene.log.create(f"{scene.topic}-customers", 5, {})
    yield scene
    await scene.log.close()


@pytest.mark.slow
async def test_rows_that_move_between_partitions_while_workers_come_and_go_leave_none_behind(
    shop: Shop,
) -> None:
    everything = range(ORDERS), range(CUSTOMERS)
    await shop.send_round(0, *everything)
    async with Working(shop, shop.topology()):
        await shop.holds(0)
        async with Working(shop, shop.topology()):
            for round in range(1, 5):
                await shop.send_round(round, *everything)
                if round == 2:
                    await shop.holds(round)
        await shop.send_round(5, range(ORDERS // 2), range(CUSTOMERS // 2))
    await shop.send_round(5, range(ORDERS // 2, ORDERS), range(CUSTOMERS // 2, CUSTOMERS))
    async with Working(shop, shop.topology()), Working(shop, shop.topology()):
        await shop.holds(5)
