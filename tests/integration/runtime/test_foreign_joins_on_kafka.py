"""A table joined with another by that one's key on Kafka: rows move between partitions while workers die."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import asyncpg
import pytest

from tests.integration.runtime.processes import Pipeline, until
from tests.services.kafka import KafkaServer
from tests.services.postgres import PostgresServer

ORDERS, CUSTOMERS = 120, 12
TOPOLOGY = """
import streamcore as sc

topology = sc.Topology("NAME")
columns = {"id": "int64", "customer": "int64", "amount": "int64", "gone": "bool"}
orders = topology.stream("orders", columns, topic="NAME").by("id").latest(deleted="gone").drop("gone")
columns = {"name": "int64", "level": "int64", "gone": "bool"}
customers = topology.stream("customers", columns, topic="NAME-customers").by("name").latest(deleted="gone")
found = orders.join(customers.drop("gone"), on={"customer": "name"}, how="left")
found.to(sc.sinks.Postgres("found", key="id", create=True))
"""
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


class Shop(Pipeline):
    """Orders in 3 partitions and customers in 5, each by its own key; ``round`` is the newest of them."""

    round = 0

    async def send(self) -> None:
        """The next round of all rows."""
        self.round += 1
        orders = [order(id, self.round) for id in range(ORDERS)]
        customers = [customer(name, self.round) for name in range(CUSTOMERS)]
        await self.append(self.name, orders, [id % 3 for id in range(ORDERS)])
        await self.append(f"{self.name}-customers", customers, [name % 5 for name in range(CUSTOMERS)])

    async def is_right(self) -> bool:
        """The result is that of the newest round."""
        connection = await asyncpg.connect(self.dsn)
        try:
            if not await connection.fetchval("select to_regclass('found')"):
                return False
            rows = await connection.fetch("select id, customer, amount, level from found")
            return {row[0]: tuple(row)[1:] for row in rows} == expected(self.round)
        finally:
            await connection.close()


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_rows_that_move_between_partitions_leave_none_behind_when_workers_are_killed(
    kafka: KafkaServer, postgres: PostgresServer, tmp_path: Path
) -> None:
    shop = Shop(kafka, postgres.fresh_database(), tmp_path, TOPOLOGY)
    await shop.log.create(shop.name, 3, {})
    await shop.log.create(f"{shop.name}-customers", 5, {})
    await shop.send()
    with shop.worker() as first:
        await until(shop.is_right, "the first round")
        with shop.worker("state_log.confirmed:5") as dying:

            async def is_dead() -> bool:
                await shop.send()
                await asyncio.sleep(0.5)
                return dying.code is not None

            await until(is_dead, "the crash point")
            assert dying.code == -signal.SIGKILL, dying.output()[-2_000:]
        await until(shop.is_right, "the rounds of the worker that died")
        await shop.send()
        first.kill()
        with shop.worker() as one, shop.worker() as other:
            await shop.send()
            await until(shop.is_right, "the last round")
            for worker in (one, other):
                worker.terminate()
            assert [worker.wait(60) for worker in (one, other)] == [0, 0]
    assert await shop.is_right()
    await shop.log.close()
