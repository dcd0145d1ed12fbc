"""Lookups in workers on Kafka that are killed: each row is there once, with the columns it was to get."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import uuid4

import asyncpg
import numpy as np
import orjson
import pyarrow as pa
import pytest

from streamcore.contracts import Records
from streamcore.systems.kafka import KafkaConnection
from streamcore.transport.kafka_log import KafkaLog
from tests.faults.processes import WorkerProcess
from tests.services.kafka import KafkaServer
from tests.services.postgres import PostgresServer

PARTITIONS, USERS = 4, 1_000
TOPOLOGY = """
import streamcore as sc

topology = sc.Topology("{name}")
visits = topology.stream("visits", {{"row": "int64", "user": "int64"}}, topic="{name}")
users = sc.references.Postgres("users", key="id", columns={{"id": "int64", "name": "string"}}, cache_for="0s")
visits.lookup(users, on={{"user": "id"}}).to(sc.sinks.Postgres("seen", create=True))
"""
USERS_TABLE = f"""
create table users (id bigint primary key, name text);
insert into users select i, 'n' || i from generate_series(0, {USERS - 1}, 2) i
"""
WAITING = """
select count(*) from pg_stat_activity
where application_name like 'streamcore lookup%' and wait_event_type = 'Lock'
"""


class Visits:
    """A topology on a topic of its own, the database that it asks and writes to, and its workers."""

    def __init__(self, server: KafkaServer, dsn: str, folder: Path) -> None:
        self.server, self.dsn, self.folder = server, dsn, folder
        self.name = f"visits-{uuid4().hex[:8]}"
        (folder / "visits.py").write_text(TOPOLOGY.format(name=self.name))
        self.log, self.sent, self.started = KafkaLog(KafkaConnection.parse(server.url)), 0, 0

    def worker(self, crash: str = "") -> WorkerProcess:
        self.started += 1
        return WorkerProcess(
            ["worker", "visits.py", "--broker", self.server.url],
            log=self.folder / f"worker-{self.started}.log",
            cwd=self.folder,
            environment={
                "DATABASE_URL": self.dsn,
                "STREAMCORE_CRASH_POINT": crash,
                "STREAMCORE_KAFKA__SESSION_TIMEOUT_S": "6",
                "STREAMCORE_STATE__DIR": str(self.folder / f"state-{self.started}"),
            },
        )

    async def send(self, count: int) -> None:
        rows = range(self.sent, self.sent + count)
        values = [orjson.dumps({"row": row, "user": row * 7 % USERS}) for row in rows]
        places = np.arange(count, dtype=np.int32) % PARTITIONS
        stamps = np.full(count, int(time.time() * 1000))
        self.sent += count
        records = Records(pa.array(values, pa.binary()), stamps, partitions=places)
        await (await self.log.append(self.name, records))

    async def seen(self, connection: asyncpg.Connection) -> list[tuple[int, str | None]]:
        try:
            return [tuple(row) for row in await connection.fetch("select row, name from seen order by row")]
        except asyncpg.UndefinedTableError:
            return []

    def expected(self) -> list[tuple[int, str | None]]:
        users = ((row, row * 7 % USERS) for row in range(self.sent))
        return [(row, f"n{user}" if user % 2 == 0 else None) for row, user in users]


async def until(holds: Callable[[], Awaitable[bool]], what: str, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not await holds():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.1)


@pytest.mark.slow
async def test_rows_of_a_worker_that_dies_while_it_looks_up_or_before_it_writes_are_there_once(
    kafka: KafkaServer, postgres: PostgresServer, tmp_path: Path
) -> None:
    visits = Visits(kafka, postgres.fresh_database(), tmp_path)
    await visits.log.create(visits.name, PARTITIONS, {})
    connection, other = await asyncpg.connect(visits.dsn), await asyncpg.connect(visits.dsn)
    await connection.execute(USERS_TABLE)

    async def all_seen() -> bool:
        return await visits.seen(connection) == visits.expected()

    async def waits() -> bool:
        return bool(await connection.fetchval(WAITING))

    with visits.worker() as first:
        first.wait_ready(60)
        await visits.send(2_000)
        await until(all_seen, "the first rows")
        with visits.worker("pipeline.before_sinks:2") as dying:  # it has looked up, and not written

            async def is_dead() -> bool:
                await visits.send(100)
                return dying.code is not None

            await until(is_dead, "the crash point")
            assert dying.code == -signal.SIGKILL, dying.output()[-2_000:]
        await until(all_seen, "rows of the worker that died")
        lock = other.transaction()
        await lock.start()
        await other.execute("lock table users in access exclusive mode")
        await visits.send(2_000)
        await until(waits, "a lookup that waits for the answer")
        first.kill()
        await lock.rollback()
        await visits.send(200)
        with visits.worker() as last:
            await until(all_seen, "rows whose lookup was broken off")
            last.terminate()
            assert last.wait(60) == 0
    assert await all_seen(), "nothing comes twice"
    await visits.log.close()
    await connection.close()
    await other.close()
