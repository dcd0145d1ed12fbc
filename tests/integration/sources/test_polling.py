"""Polled tables: commits out of order, mistakes found early, and feeding that is killed at every step."""

from __future__ import annotations

import asyncio
import itertools
import json
import sqlite3
import time
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import asyncpg
import pytest

from streamcore.contracts.unbounded import CatchingUpReader
from streamcore.errors import BadConfig, Permanent, Transient
from streamcore.sources.catalogue import open_unbounded
from streamcore.systems.kafka import KafkaConnection
from streamcore.testing.unbounded import ids_of, polled, reading
from streamcore.transport.kafka_log import KafkaLog
from tests.faults.processes import WorkerProcess
from tests.services.kafka import KafkaServer
from tests.services.native import free_ports
from tests.services.postgres import PostgresServer

USERS = "create table users (id bigint primary key, name text, updated_at timestamptz not null default now())"
POLL = "&table=users&poll=updated_at&settle=0s&every=10ms"


@pytest.fixture
def database(postgres: PostgresServer) -> str:
    """The DSN of an empty database, without a query."""
    return postgres.fresh_database().partition("?")[0] + "?sslmode=disable"


def execute(dsn: str, *statements: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(dsn)
        for statement in statements:
            await connection.execute(statement)
        await connection.close()

    asyncio.run(run())


@pytest.mark.parametrize("wrote_before", [True, False])
def test_a_row_that_is_committed_late_is_not_passed_over(database: str, wrote_before: bool) -> None:
    """A transaction that began first, and so has the lower mark, is committed last."""
    execute(database, USERS)

    async def run() -> list[int]:
        late, early = [await asyncpg.connect(database) for _ in range(2)]
        loop, source = asyncio.get_running_loop(), open_unbounded(database + POLL)
        reader = await loop.run_in_executor(None, source.open, b"")
        transaction = late.transaction()
        await transaction.start()
        if wrote_before:
            await late.execute("insert into users (id, name) values (1, 'late')")
        else:
            await late.fetch("select 1")
        await early.execute("insert into users (id, name) values (2, 'early')")
        for _ in range(5):
            assert await loop.run_in_executor(None, reader.poll, 1 << 20, time.time()) is None
        assert isinstance(reader, CatchingUpReader)
        assert not reader.caught_up, "a run ends behind the late row"
        if not wrote_before:
            await late.execute("insert into users (id, name) values (1, 'late')")
        await transaction.commit()
        found = await loop.run_in_executor(None, polled, reader, 2)
        assert reader.caught_up
        reader.close()
        await late.close()
        await early.close()
        return [id for one in found for id, _ in ids_of(one)]

    assert asyncio.run(run()) == [1, 2]


def test_what_changes_before_it_is_read_comes_once_as_it_is_then(database: str) -> None:
    execute(database, USERS, "insert into users (id, name) values (1, 'a'), (2, 'b')")
    execute(database, "update users set name = 'c', updated_at = now() where id = 1")
    with reading(open_unbounded(database + POLL)) as reader:
        (one,) = polled(reader, 2)
    frame = one.parts[0].chunk.frame
    assert frame is not None
    assert frame.select("id", "name").rows() == [(2, "b"), (1, "c")]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("table=users", "add poll="),
        ("table=users&poll=updatedat", "did you mean 'updated_at'"),
        ("table=users&poll=seen", "null in some row"),
        ("table=usres&poll=updated_at", "did you mean 'users'"),
        ("table=users&poll=updated_at&every=often", "no duration"),
        ("table=log&poll=line", "key="),
    ],
)
def test_mistakes_are_found_before_a_row_is_read(database: str, options: str, says: str) -> None:
    execute(
        database,
        USERS,
        "alter table users add seen timestamptz",
        "insert into users values (1, 'a')",
        "create table log (line text)",
    )
    with pytest.raises(BadConfig, match=says):
        open_unbounded(f"{database}&{options}")


def test_who_cannot_connect_learns_why_and_no_password_is_shown(database: str) -> None:
    with pytest.raises(Permanent, match="password authentication failed") as refused:
        open_unbounded(database.replace("pgpass", "s3cret") + POLL)
    (port,) = free_ports(1)
    with pytest.raises(Transient, match="Connection refused"):
        open_unbounded(f"postgresql://u:s3cret@127.0.0.1:{port}/x?sslmode=disable{POLL}")
    assert "s3cret" not in str(refused.value)


MODULE = """
import streamcore as sc
topology = sc.Topology("NAME")
columns = {"id": "int64", "name": "string", "version": "int64"}
users = topology.stream("users", columns, key="id", topic="NAME")
users.to(sc.sinks.JsonLines("out", roll_seconds=0.1))
"""


class Shop:
    """An SQLite table of users, of which some change; ``written``: all that ever was, as (id, version)."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "shop.db"
        self.written: set[tuple[int, int]] = set()
        self._version = 0
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute("create table users (id integer primary key, name text, version integer)")
            connection.commit()

    def insert(self, start: int, count: int) -> None:
        """New rows with these ids."""
        rows = [(start + i, f"name {start + i}", self._version + i) for i in range(1, count + 1)]
        self._version += count
        with closing(sqlite3.connect(self.path)) as connection:
            connection.executemany("insert into users values (?, ?, ?)", rows)
            connection.commit()
        self.written |= {(id, version) for id, _, version in rows}

    @property
    def uri(self) -> str:
        """As a source."""
        return f"sqlite:///{self.path}?table=users&poll=version&settle=0s&every=50ms"


def until(holds: Callable[[], bool], what: str, seconds: float = 90) -> None:
    """Wait until *holds* says so."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)


def while_rows_come(shop: Shop, start: int, holds: Callable[[], bool]) -> Callable[[], bool]:
    """*holds*, with a new row at each look: whatever was taken at once, there is a second time."""
    ids = itertools.count(start)

    def looked() -> bool:
        shop.insert(next(ids), 1)
        return holds()

    return looked


def rows_in(folder: Path) -> Counter[tuple[int, int]]:
    """The (id, version) of all rows in the files of *folder*, and how often."""
    found: Counter[tuple[int, int]] = Counter()
    for file in folder.glob("out/*.jsonl"):
        found.update((row["id"], row["version"]) for row in map(json.loads, file.read_text().splitlines()))
    return found


@pytest.mark.slow
def test_a_worker_without_a_broker_that_is_killed_at_every_step_has_each_row_once(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    (tmp_path / "people.py").write_text(MODULE.replace("NAME", "people"))
    points = ["intake.before_commit", "live.appended", "pipeline.before_sinks", "files.before_seal"]
    for run, point in enumerate(points):
        shop.insert(run * 10_000, 400)
        with worker(tmp_path, shop, f"{point}:2", "65536" if run % 2 else "4096") as process:
            killed = while_rows_come(shop, run * 10_000 + 1_000, lambda: process.code is not None)
            until(killed, f"killed at {point}")
            assert process.code == -9, process.output()
    shop.insert(100_000, 50)
    with worker(tmp_path, shop, "", "4096") as process:
        until(lambda: len(rows_in(tmp_path)) >= len(shop.written), "all rows")
        shop.insert(200_000, 50)
        until(lambda: len(rows_in(tmp_path)) >= len(shop.written), "those that came while it ran")
        process.terminate()
        assert process.wait(60) == 0, process.output()
    assert rows_in(tmp_path) == Counter(shop.written), "none lost, none twice"


def worker(folder: Path, shop: Shop, crash: str, fetch: str) -> WorkerProcess:
    """A worker in *folder* that kills itself at *crash*."""
    return WorkerProcess(
        ["worker", "people.py", "--from", f"users={shop.uri}"],
        log=folder / "worker.log",
        cwd=folder,
        environment={"STREAMCORE_CRASH_POINT": crash, "STREAMCORE_LIMITS__FETCH_MAX_BYTES": fetch},
    )


@pytest.mark.slow
def test_feeding_kafka_is_killed_and_taken_over_and_each_row_is_in_the_topic_once(
    kafka: KafkaServer, tmp_path: Path
) -> None:
    shop, name = Shop(tmp_path), f"live-{uuid.uuid4().hex[:8]}"
    (tmp_path / "people.py").write_text(MODULE.replace("NAME", name))

    async def made() -> None:
        log = KafkaLog(KafkaConnection.parse(kafka.url))
        await log.create(name, 3, {})
        await log.close()

    async def topic() -> Counter[tuple[int, int]]:
        log, found = KafkaLog(KafkaConnection.parse(kafka.url)), Counter[tuple[int, int]]()
        for partition, bounds in (await log.bounds(name)).items():
            async for chunk in log.scan(name, partition, *bounds):
                rows = [json.loads(value) for value in chunk.values() if value]
                found.update((row["id"], row["version"]) for row in rows)
        await log.close()
        return found

    def feeder(crash: str = "") -> WorkerProcess:
        return WorkerProcess(
            ["feed", "people.py", "--from", f"users={shop.uri}", "--broker", kafka.url],
            log=tmp_path / "feeder.log",
            cwd=tmp_path,
            environment={"STREAMCORE_CRASH_POINT": crash, "STREAMCORE_LIMITS__FETCH_MAX_BYTES": "8192"},
        )

    asyncio.run(made())
    for run, point in enumerate(("intake.before_commit:2", "live.appended:1")):
        shop.insert(run * 10_000, 500)
        with feeder(point) as process:
            killed = while_rows_come(shop, run * 10_000 + 1_000, lambda: process.code is not None)
            until(killed, f"killed at {point}")
            assert process.code == -9, process.output()
    with feeder() as former, feeder() as heir:
        ended = lambda: former.code is not None or heir.code is not None  # noqa: E731
        # Who is fenced hears of it with the next rows.
        until(while_rows_come(shop, 50_000, ended), "one fences the other")
        assert "owner" in (former if former.code is not None else heir).output()
        staying = heir if former.code is not None else former
        shop.insert(100_000, 100)
        until(lambda: len(asyncio.run(topic())) >= len(shop.written), "all rows")
        staying.terminate()
        assert staying.wait(60) == 0, staying.output()
    assert asyncio.run(topic()) == Counter(shop.written), "none lost, none twice"
