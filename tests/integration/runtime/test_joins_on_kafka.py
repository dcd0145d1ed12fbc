"""Joins on Kafka: topics with different numbers of partitions, two workers, restarts: exact answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import asyncpg
import numpy as np
import orjson
import pyarrow as pa
import pytest

import streamcore as sc
from streamcore.contracts import Records
from tests.integration.runtime.memory_sink import MemorySink, Target
from tests.integration.runtime.test_worker import Scene, Working
from tests.services.kafka import KafkaServer
from tests.services.postgres import PostgresServer

ORDERS, RATES = 900, 300
END = 60_000
"""A time behind all rows, in ms."""


def order(number: int) -> dict[str, object]:
    return {"id": number, "customer": number * 7 % 20, "currency": f"c{number % 4}", "at": number * 10}


def rate(number: int) -> dict[str, object]:
    return {"money": f"c{number * 3 % 5}", "since": number * 30 + 5, "rate": number}


class Shop(Scene):
    """Orders in 3 partitions and rates in 5, in any of them: each key's rows lie in all."""

    database: str
    pairs: Target

    def topology(self) -> sc.Topology:  # type: ignore[override]
        topology = sc.Topology(self.name)
        orders = topology.stream(
            "orders",
            {"id": "int64", "customer": "int64", "currency": "string", "at": "int64"},
            topic=self.topic,
            event_time="at",
        )
        rates = topology.stream(
            "rates",
            {"money": "string", "since": "int64", "rate": "int64"},
            topic=f"{self.topic}-rates",
            event_time="since",
        )
        on = {"currency": "money"}
        orders.join(rates, on=on, as_of=True, how="left").to(MemorySink("newest", self.target))
        orders.join(rates, on=on, within=("0s", "40ms"), how="full").to(MemorySink("pairs", self.pairs))
        table = orders.by("currency").aggregate(orders="count(*)")
        other = rates.by("money").aggregate(rates="count(*)", newest="max(rate)")
        both = sc.sinks.Postgres(f"{self.name}-both", url=self.database, key="currency", create=True)
        table.join(other, on=on, how="full").to(both)
        return topology

    async def send_rows(self, topic: str, rows: Sequence[Mapping[str, object]], partitions: int) -> None:
        places = np.array([place % partitions for place in range(len(rows))], np.int32)
        values = pa.array([orjson.dumps(row) for row in rows], pa.binary())
        stamps = np.full(len(rows), int(time.time() * 1000))
        await (await self.log.append(topic, Records(values, stamps, partitions=places)))

    async def send_part(self, orders: range, rates: range) -> None:
        await self.send_rows(self.topic, [order(number) for number in orders], 3)
        await self.send_rows(f"{self.topic}-rates", [rate(number) for number in rates], 5)

    async def both(self) -> dict[object, tuple[object, ...]]:
        connection = await asyncpg.connect(self.database)
        try:
            found = await connection.fetch(f'select * from "{self.name}-both"')
        except asyncpg.UndefinedTableError:
            found = []
        finally:
            await connection.close()
        return {row["currency"]: (row["orders"], row["money"], row["rates"], row["newest"]) for row in found}


@pytest.fixture
async def shop(kafka: KafkaServer, postgres: PostgresServer, tmp_path: Path) -> AsyncIterator[Shop]:
    scene = Shop(kafka, tmp_path)
    scene.database, scene.pairs = postgres.fresh_database(), Target()
    await scene.log.create(scene.topic, 3, {})
    await scene.log.create(f"{scene.topic}-rates", 5, {})
    yield scene
    await scene.log.close()


def newest_of(row: Mapping[str, object]) -> object:
    seen = [r for r in map(rate, range(RATES)) if r["money"] == row["currency"] and r["since"] <= row["at"]]  # type: ignore[operator]
    return seen[-1]["rate"] if seen else None


def pairs_of() -> list[tuple[object, object]]:
    orders, rates = [order(n) for n in range(ORDERS)], [rate(n) for n in range(RATES)]
    pairs = [
        (a["id"], b["rate"])
        for a in orders
        for b in rates
        if a["currency"] == b["money"] and 0 <= b["since"] - a["at"] <= 40  # type: ignore[operator]
    ]
    left, right = {pair[0] for pair in pairs}, {pair[1] for pair in pairs}
    alone: list[tuple[object, object]] = [(a["id"], None) for a in orders if a["id"] not in left]
    return [*pairs, *alone, *((None, b["rate"]) for b in rates if b["rate"] not in right)]


def found_in(target: Target) -> list[tuple[object, object]]:
    frame = target.frame()
    rows = frame.select("id", "rate").rows() if frame.height else []
    return [row for row in rows if -1 not in row]


async def until_all(shop: Shop) -> None:
    newest = {(row["id"], newest_of(row)) for row in map(order, range(ORDERS))}
    pairs, deadline = sorted(pairs_of(), key=repr), time.monotonic() + 60
    while sorted(found_in(shop.pairs), key=repr) != pairs or set(found_in(shop.target)) != newest:
        assert time.monotonic() < deadline, (
            len(found_in(shop.pairs)),
            len(pairs),
            len(found_in(shop.target)),
        )
        await asyncio.sleep(0.2)
    assert len(found_in(shop.target)) == ORDERS


@pytest.mark.slow
async def test_joins_of_topics_with_other_numbers_of_partitions_with_restarts_and_another_worker(
    shop: Shop,
) -> None:
    await shop.send_part(range(300), range(100))
    async with Working(shop, shop.topology()):
        while not found_in(shop.target):
            await asyncio.sleep(0.1)
        async with Working(shop, shop.topology()):
            await shop.send_part(range(300, 600), range(100, 200))
            await asyncio.sleep(0.5)
    await shop.send_part(range(600, ORDERS), range(200, RATES))
    ends = [{"id": -1, "customer": -1, "currency": "end", "at": END} for _ in range(3)]
    await shop.send_rows(shop.topic, ends, 3)
    await shop.send_rows(f"{shop.topic}-rates", [{"money": "end", "since": END, "rate": -1}] * 5, 5)
    async with Working(shop, shop.topology()):
        await until_all(shop)
        expected = {
            f"c{n}": (ORDERS // 4 if n < 4 else None, f"c{n}", RATES // 5, max(newest(n))) for n in range(5)
        } | {"end": (3, "end", 5, -1)}
        deadline = time.monotonic() + 30
        while (both := await shop.both()) != expected:
            assert time.monotonic() < deadline, both
            await asyncio.sleep(0.2)


def newest(currency: int) -> list[int]:
    return [number for number in range(RATES) if number * 3 % 5 == currency]
