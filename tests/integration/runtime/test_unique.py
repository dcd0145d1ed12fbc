"""The rule ``unique``, and a table with a time to live behind it, on a real broker: two workers, restarts."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import numpy as np
import orjson
import pyarrow as pa
import pytest

import streamcore as sc
from streamcore.contracts import Records
from streamcore.deadletter.reader import read
from tests.integration.runtime.test_worker import Scene, Working
from tests.services.kafka import KafkaServer
from tests.services.postgres import PostgresServer

PAYERS = 200
"""So many that a payer's rows of one partition are farther apart than its time to live: those of the other
partitions keep it alive, however unevenly these are read."""
NEW = {"id": "int64", "payer": "int64", "at": "int64"}


class Payments(Scene):
    """Payments of which every third is sent twice, to any two of four partitions."""

    database: str

    def topology(self) -> sc.Topology:  # type: ignore[override]
        topology = sc.Topology(self.name)
        sent = topology.stream("payments", NEW, topic=self.topic, event_time="at", max_lateness="1h")
        payments = sent.validate(sc.rules.unique("id"), name="checked")
        payments.to(sc.sinks.Postgres(f"{self.name}-all", url=self.database, create=True))
        payers = payments.by("payer", ttl="8h").aggregate(n="count(*)")
        payers.to(sc.sinks.Postgres(f"{self.name}-payers", url=self.database, key="payer", create=True))
        return topology

    async def send_payments(self, first: int, count: int) -> None:
        """Payments *first* to *first* + *count*, a minute apart."""
        ids = [id for id in range(first, first + count) for _ in range(2 if id % 3 == 0 else 1)]
        values = [orjson.dumps({"id": id, "payer": payer(id), "at": id * 60_000}) for id in ids]
        stamps = np.full(len(ids), int(time.time() * 1000))
        places = np.arange(len(ids), dtype=np.int32) * 3 % 4
        await (await self.log.append(self.topic, Records(pa.array(values), stamps, partitions=places)))

    async def rows(self, table: str) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(self.database)
        try:
            return list(await connection.fetch(f'select * from "{self.name}-{table}"'))
        except asyncpg.UndefinedTableError:
            return []
        finally:
            await connection.close()


def payer(id: int) -> int:
    """Those of the first 400 payments have no other, and their time to live is over in the end."""
    return id % PAYERS + (PAYERS if id < 400 else 0)


@pytest.fixture
async def payments(kafka: KafkaServer, postgres: PostgresServer, tmp_path: Path) -> AsyncIterator[Payments]:
    scene = Payments(kafka, tmp_path)
    scene.database = postgres.fresh_database()
    await scene.log.create(scene.topic, 4, {})
    yield scene
    await scene.log.close()


async def _until(payments: Payments, count: int) -> None:
    deadline = time.monotonic() + 120
    while len(rows := await payments.rows("all")) < count:
        assert time.monotonic() < deadline, len(rows)
        await asyncio.sleep(0.2)


async def test_each_key_passes_once_and_what_is_too_old_leaves(payments: Payments) -> None:
    await payments.send_payments(0, 400)
    async with Working(payments, payments.topology()):
        await _until(payments, 200)
        async with Working(payments, payments.topology()):
            await payments.send_payments(400, 500)
            await _until(payments, 500)
    await payments.send_payments(900, 1_100)
    async with Working(payments, payments.topology()):
        await _until(payments, 2_000)
        expected = Counter(payer(id) for id in range(400, 2_000))
        deadline = time.monotonic() + 120
        while (left := {r["payer"]: r["n"] for r in await payments.rows("payers")}) != expected:
            assert time.monotonic() < deadline, left
            await asyncio.sleep(0.2)
    assert Counter(row["id"] for row in await payments.rows("all")) == dict.fromkeys(range(2_000), 1)
    refused = [letter async for letter in read(payments.log, f"{payments.name}.dead-letters")]
    assert {letter.stage for letter in refused} == {"checked/duplicates"}
    assert len({letter.id for letter in refused}) == len(range(0, 2_000, 3))
