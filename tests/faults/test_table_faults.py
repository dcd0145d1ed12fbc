"""Sinks that write to tables under faults: no row lost, none doubled, whoever dies, hangs or is cut off."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Protocol

import asyncpg
import pytest
from redis.asyncio import Redis

from streamcore.contracts import FlushReason, SinkWriter
from streamcore.errors import Transient
from streamcore.testing.sink_world import ORDERS, assert_same_rows, batches_of, deliver, frame_of
from streamcore.testing.sinks import World
from tests.conformance.mysql_targets import ProxiedMysqlTarget
from tests.conformance.postgres_targets import ProxiedTarget
from tests.conformance.redis_targets import ProxiedHashTarget, ProxiedStreamTarget
from tests.faults.sink_worker import FENCED_EXIT
from tests.faults.test_sink_faults import ROWS, Worker, with_world
from tests.services.mariadb import MariadbServer, fetch
from tests.services.postgres import PostgresServer
from tests.services.redis import RedisServer

TableServer = PostgresServer | MariadbServer | RedisServer
ProxiedSink = ProxiedTarget | ProxiedMysqlTarget | ProxiedStreamTarget | ProxiedHashTarget
SERVERS = {"postgres": "postgres", "mysql": "mariadb", "redis": "redis"}
FOLLOWS = "select id from orders order by id"


class Place(Protocol):
    """Where the workers write: how they are told of it, and what is there."""

    kind: str
    address: str

    async def stored(self) -> list[int]: ...


class PostgresPlace:
    kind = "postgres"

    def __init__(self, address: str) -> None:
        self.address = address

    async def stored(self) -> list[int]:
        connection = await asyncpg.connect(self.address)
        try:
            return [row[0] for row in await connection.fetch(FOLLOWS)]
        finally:
            await connection.close()


class MysqlPlace:
    kind = "mysql"

    def __init__(self, address: str) -> None:
        self.address = address

    async def stored(self) -> list[int]:
        return [int(str(row[0])) for row in await fetch(self.address, FOLLOWS)]


class SqlitePlace:
    kind = "sqlite"

    def __init__(self, path: Path) -> None:
        self.address = str(path)

    async def stored(self) -> list[int]:
        with closing(sqlite3.connect(self.address)) as connection:
            return [row[0] for row in connection.execute(FOLLOWS)]


class RedisPlace:
    kind = "redis"

    def __init__(self, address: str) -> None:
        self.address = address

    async def stored(self) -> list[int]:
        async with Redis.from_url(self.address) as client:
            return [int(fields[b"id"]) for _, fields in await client.xrange("orders")]


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """An empty database of the system that the test asks for."""
    if request.param == "sqlite":
        return SqlitePlace(tmp_path / "orders.db")
    server = request.getfixturevalue(SERVERS[request.param])
    kinds: Mapping[str, Callable[[str], Place]] = {
        "postgres": PostgresPlace,
        "mysql": MysqlPlace,
        "redis": RedisPlace,
    }
    return kinds[request.param](server.fresh_database())


@pytest.fixture
def server(request: pytest.FixtureRequest) -> TableServer:
    """The session's server of the system that the test asks for."""
    found: TableServer = request.getfixturevalue(SERVERS[request.param])
    return found


def target_of(server: TableServer, key: str | None = None) -> ProxiedSink:
    if isinstance(server, RedisServer):
        return ProxiedHashTarget(server.url) if key else ProxiedStreamTarget(server.url)
    if isinstance(server, PostgresServer):
        return ProxiedTarget(server.dsn, key)
    return ProxiedMysqlTarget(server.dsn, key)


# ---- kill -9 and SIGSTOP


@pytest.mark.parametrize("place", ["postgres", "mysql", "sqlite", "redis"], indirect=True)
@pytest.mark.parametrize("moment", ["before_commit:3", "after_commit:3"])
async def test_after_kill_9_at_a_crash_point(place: Place, moment: str) -> None:
    point = f"{place.kind}.{moment}"
    about = {"sink": place.kind, "target": place.address}
    dead = await asyncio.to_thread(Worker(point, **about, cut=170, owner="dead").end)
    assert dead == -signal.SIGKILL, "a run that ended before its fault is invalid"
    heir = Worker(**about, cut=113, owner="heir")
    assert await asyncio.to_thread(heir.end) == 0
    assert await place.stored() == list(range(ROWS))


@pytest.mark.parametrize("place", ["postgres", "mysql", "redis"], indirect=True)
async def test_a_zombie_that_stopped_inside_of_its_transaction_cannot_hold_the_row(place: Place) -> None:
    """The heir ends the zombie's session after the lock time-out; woken up, the zombie writes nothing.

    (In Redis it holds nothing: its script was not sent.)
    """
    about = {"sink": place.kind, "target": place.address}
    zombie = Worker(**about, cut=500, owner="zombie", stop_at=f"{place.kind}.before_commit")
    await asyncio.to_thread(zombie.wait_for, "stopped")
    heir = Worker(**about, cut=700, owner="heir")
    assert await asyncio.to_thread(heir.end) == 0
    assert await place.stored() == list(range(ROWS))
    zombie.signal(signal.SIGCONT)
    assert await asyncio.to_thread(zombie.end) in (FENCED_EXIT, 1)
    assert await place.stored() == list(range(ROWS))


async def test_a_zombie_of_sqlite_writes_nothing_once_it_is_awake(tmp_path: Path) -> None:
    """It stopped behind a commit; inside of one it holds the file, as nobody can end it from outside."""
    place = SqlitePlace(tmp_path / "orders.db")
    about = {"sink": "sqlite", "target": place.address}
    zombie = Worker(**about, cut=500, owner="zombie", stop_at="sqlite.after_commit")
    await asyncio.to_thread(zombie.wait_for, "stopped")
    assert await place.stored() == list(range(500))
    heir = Worker(**about, cut=700, owner="heir")
    assert await asyncio.to_thread(heir.end) == 0
    zombie.signal(signal.SIGCONT)
    assert await asyncio.to_thread(zombie.end) == FENCED_EXIT
    assert await place.stored() == list(range(ROWS))


# ---- the network and the server


async def until_confirmed(writer: SinkWriter, position: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            assert await writer.flush(FlushReason.END) == {ORDERS: position}
            return
        except Transient:
            assert time.monotonic() < deadline, "it did not recover in 30 s"
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("server", ["postgres", "mysql", "redis"], indirect=True)
@pytest.mark.parametrize("key", [None, "id"])
async def test_a_commit_whose_reply_was_lost_is_not_repeated(server: TableServer, key: str | None) -> None:
    target = target_of(server, key)

    async def test(world: World) -> None:
        writer = await world.writer()
        await writer.open({ORDERS: 0})
        await deliver(writer, batches_of(frame_of(range(50)), [20], ORDERS))
        target.proxy.lose_reply_to(b"EVALSHA" if isinstance(server, RedisServer) else b"COMMIT")
        with pytest.raises(Transient):
            await writer.flush(FlushReason.END)
        assert target.proxy.lost == 1
        await deliver(writer, batches_of(frame_of(range(50, 60)), [], ORDERS, first=50))
        await until_confirmed(writer, 60)
        assert_same_rows(await target.rows(), frame_of(range(60)))
        assert await target.positions() == {ORDERS: 60}

    await with_world(target, test)


@pytest.mark.parametrize("server", ["postgres", "mysql", "redis"], indirect=True)
async def test_a_half_open_connection_ends_in_a_time_out(
    server: TableServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for system in ("postgres", "mysql", "redis"):
        monkeypatch.setattr(f"streamcore.systems.{system}.COMMAND_SECONDS", 0.5)
        monkeypatch.setattr(f"streamcore.systems.{system}.CONNECT_SECONDS", 0.5)
    target = target_of(server)

    async def test(world: World) -> None:
        writer = await world.writer()
        await writer.open({ORDERS: 0})
        await deliver(writer, batches_of(frame_of(range(30)), [], ORDERS))
        target.proxy.freeze()
        for _ in range(2):
            with pytest.raises(Transient):
                await asyncio.wait_for(writer.flush(FlushReason.END), 10)
        target.proxy.thaw()
        await until_confirmed(writer, 30)
        assert_same_rows(await target.rows(), frame_of(range(30)))

    await with_world(target, test)


@pytest.mark.parametrize("own", ["own_postgres", "own_mariadb", "own_redis"])
async def test_the_server_is_killed_and_comes_back(request: pytest.FixtureRequest, own: str) -> None:
    """The fsync of the first two is off, which only the machine's death would show; Redis has its AOF."""
    server = request.getfixturevalue(own)
    target = target_of(server)

    async def test(world: World) -> None:
        writer = await world.writer()
        await writer.open({ORDERS: 0})
        await deliver(writer, batches_of(frame_of(range(30)), [], ORDERS), FlushReason.END)
        await deliver(writer, batches_of(frame_of(range(30, 40)), [], ORDERS, first=30))
        await asyncio.to_thread(server.kill)
        for _ in range(3):
            with pytest.raises(Transient):
                await writer.flush(FlushReason.END)
        await asyncio.to_thread(server.start)
        await target.reconnect()
        await until_confirmed(writer, 40)
        assert_same_rows(await target.rows(), frame_of(range(40)))

    await with_world(target, test)
