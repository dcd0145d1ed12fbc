"""Lookups in workers on Kafka that are killed: each row is there once, with the columns it was to get."""

from __future__ import annotations

import signal
from pathlib import Path

import asyncpg
import pytest

from tests.integration.runtime.processes import Pipeline, until
from tests.services.kafka import KafkaServer
from tests.services.postgres import PostgresServer

PARTITIONS, USERS = 4, 1_000
TOPOLOGY = """
import streamcore as sc

topology = sc.Topology("NAME")
visits = topology.stream("visits", {"row": "int64", "user": "int64"}, topic="NAME")
users = sc.references.Postgres("users", key="id", columns={"id": "int64", "name": "string"}, cache_for="0s")
visits.lookup(users, on={"user": "id"}).to(sc.sinks.Postgres("seen", create=True))
"""
USERS_TABLE = f"""
create table users (id bigint primary key, name text);
insert into users select i, 'n' || i from generate_series(0, {USERS - 1}, 2) i
"""
WAITING = """
select count(*) from pg_stat_activity
where application_name like 'streamcore lookup%' and wait_event_type = 'Lock'
"""


class Visits(Pipeline):
    """Rows 0 to ``sent``, every second user of which is known."""

    sent = 0

    async def send(self, count: int) -> None:
        rows = range(self.sent, self.sent + count)
        self.sent += count
        visits = [{"row": row, "user": row * 7 % USERS} for row in rows]
        await self.append(self.name, visits, [row % PARTITIONS for row in rows])

    def expected(self) -> list[tuple[int, str | None]]:
        users = ((row, row * 7 % USERS) for row in range(self.sent))
        return [(row, f"n{user}" if user % 2 == 0 else None) for row, user in users]


@pytest.mark.slow
async def test_rows_of_a_worker_that_dies_while_it_looks_up_or_before_it_writes_are_there_once(
    kafka: KafkaServer, postgres: PostgresServer, tmp_path: Path
) -> None:
    visits = Visits(kafka, postgres.fresh_database(), tmp_path, TOPOLOGY)
    await visits.log.create(visits.name, PARTITIONS, {})
    connection, other = await asyncpg.connect(visits.dsn), await asyncpg.connect(visits.dsn)
    await connection.execute(USERS_TABLE)

    async def all_seen() -> bool:
        if not await connection.fetchval("select to_regclass('seen')"):
            return False
        rows = await connection.fetch("select row, name from seen order by row")
        return [tuple(row) for row in rows] == visits.expected()

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
