"""Replays into a real Kafka: every row once in the topic, waiting for workers, topics of its own."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import os
import random
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import polars as pl
import pytest

from batch_adapters.catalogue import open_source
from streamcore.contracts import BoundedSource
from streamcore.errors import Permanent, Transient
from streamcore.progress import Progress, Summary
from streamcore.runtime.feeding import feed, feed_isolated
from streamcore.runtime.loading import load_topology
from streamcore.runtime.replay import ReplayOptions
from streamcore.runtime.worker import work
from streamcore.settings import Settings
from streamcore.systems.kafka import KafkaConnection
from streamcore.topology import Topology
from streamcore.transport.kafka_log import KafkaLog
from tests.services.kafka import KafkaServer
from tests.services.native import free_ports

ROWS = 40_000
START = dt.datetime(2020, 1, 1)
MODULE = """
import datetime as dt
import streamcore as sc

class Person(sc.Event):
    id: int
    age: int
    at: dt.datetime

topology = sc.Topology("{name}")
people = topology.stream("people", Person, key="id", event_time="at", topic="{name}-people")
people.filter("age >= 18").to(sc.sinks.Parquet("{folder}/out", roll_seconds=1))
"""


class World:
    """A topology of its own name, a file of rows of which every 1,000th is refused, and a broker."""

    def __init__(self, kafka: KafkaServer, folder: Path) -> None:
        self.name, self.folder, self.url = f"feed-{uuid.uuid4().hex[:8]}", folder, kafka.url
        self.module = folder / f"{self.name.replace('-', '_')}.py"
        self.module.write_text(MODULE.format(name=self.name, folder=folder))
        self.file = folder / "people.csv"
        number = pl.int_range(ROWS)
        frame = pl.select(
            id=number,
            age=pl.when(number % 1000 == 7).then(pl.lit("old")).otherwise((number % 90).cast(pl.String)),
            at=(pl.lit(START) + pl.duration(seconds=number)).dt.to_string("iso:strict"),
        )
        frame.write_csv(self.file)
        self.settings = Settings.model_validate(
            {
                "broker": {"url": self.url},
                "state": {"dir": folder / "state"},
                "limits": {"fetch_max_bytes": 65_536},
                "http": {"port": 0},
            }
        )
        self.seen: list[Progress] = []

    @property
    def topic(self) -> str:
        return f"{self.name}-people"

    @property
    def command(self) -> list[str]:
        source = f"people={self.file}?min_split_bytes=100000"
        replay = ["replay", str(self.module), "--from", source, "--broker", self.url]
        return [sys.executable, "-m", "streamcore.cli", *replay]

    @property
    def topology(self) -> Topology:
        return load_topology(str(self.module))

    @property
    def sources(self) -> dict[str, BoundedSource]:
        return {"people": open_source(self.file, min_split_bytes=100_000)}

    def options(self, **more: object) -> ReplayOptions:
        return ReplayOptions(self.settings, splits=3, **more)  # type: ignore[arg-type]

    async def feed(self, *, wait: bool = False, stop: asyncio.Event | None = None, **more: object) -> Summary:
        return await feed(
            self.topology, self.sources, self.options(**more), self.seen.append, stop, wait=wait
        )

    @contextlib.asynccontextmanager
    async def log(self) -> AsyncIterator[KafkaLog]:
        log = KafkaLog(KafkaConnection.parse(self.url))
        try:
            yield log
        finally:
            await log.close()

    async def make_topic(self, partitions: int = 4) -> None:
        async with self.log() as log:
            await log.create(self.topic, partitions, {})

    async def size(self) -> int:
        async with self.log() as log:
            return sum(bounds.end for bounds in (await log.bounds(self.topic)).values())

    async def grown(self, size: int, process: subprocess.Popen[bytes]) -> None:
        """Return when the topic has more than *size* records, or *process* has ended."""
        while process.poll() is None and await self.size() <= size:
            await asyncio.sleep(0.02)

    async def feed_as_the_command(self, speed: float | None = None) -> Summary:
        """The same run as that of ``streamcore replay``, which cuts by the number of cores."""
        sources = {"people": open_source(f"{self.file}?min_split_bytes=100000")}
        options = ReplayOptions(self.settings, speed=speed)
        return await feed(self.topology, sources, options, self.seen.append)

    async def values(self) -> list[bytes | None]:
        found: list[bytes | None] = []
        async with self.log() as log:
            for partition, bounds in (await log.bounds(self.topic)).items():
                async for chunk in log.scan(self.topic, partition, *bounds):
                    found += chunk.values()
        return found

    def written(self) -> pl.DataFrame:
        return pl.read_parquet(f"{self.folder}/out/**/*.parquet")


@pytest.fixture
def world(kafka: KafkaServer, tmp_path: Path) -> World:
    return World(kafka, tmp_path)


def ids(values: list[bytes | None]) -> Counter[int]:
    return Counter(int(json.loads(value)["id"]) for value in values if value is not None)


EVERY_ROW_ONCE = Counter(range(ROWS))
GROWN_UP = [i for i in range(ROWS) if i % 90 >= 18 and i % 1000 != 7]


async def test_every_row_is_in_the_topic_once_and_a_finished_replay_says_so(world: World) -> None:
    await world.make_topic()
    first = await world.feed()
    assert (first.status, first.progress.rows_in, first.progress.dead_letters) == (
        "finished",
        ROWS,
        ROWS // 1000,
    )
    assert ids(await world.values()) == EVERY_ROW_ONCE
    assert world.seen[-1].fraction == 1.0
    second = await world.feed()
    assert (second.status, second.progress.rows_in) == ("already finished", 0)
    third = await world.feed(again=True)
    assert third.status == "finished"
    assert len(await world.values()) == 2 * ROWS


async def test_a_replay_that_was_stopped_goes_on(world: World) -> None:
    await world.make_topic()
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(0.3, stop.set)
    first = await feed(world.topology, world.sources, world.options(speed=1e-9), world.seen.append, stop)
    assert first.status == "interrupted"
    assert len(await world.values()) < ROWS
    assert (await world.feed(speed=1e9)).status == "finished"
    assert ids(await world.values()) == EVERY_ROW_ONCE


@pytest.mark.slow
@pytest.mark.chaos
async def test_every_row_is_in_the_topic_once_after_kills_at_random(world: World) -> None:
    """Killed between appends and at any moment; a run that ended before it was killed does not count."""
    await world.make_topic()
    env = {**os.environ, "STREAMCORE_LIMITS__FETCH_MAX_BYTES": "16384"}
    speed = ROWS / 4  # four seconds for all: time enough to be killed
    points = [f"feeding.appended:{random.randint(1, 20)}", None, None]
    random.shuffle(points)
    points.append("feeding.fed")  # behind it there is nothing left to kill
    kills, found = 0, [0]
    for point in points:
        started = {**env, "STREAMCORE_CRASH_POINT": point or ""}
        command = [*world.command, "--speed", str(speed)]
        process = subprocess.Popen(command, env=started, cwd=world.folder, stderr=subprocess.PIPE)
        if point is None:
            await world.grown(found[-1], process)
            await asyncio.sleep(random.uniform(0, 0.2))
            process.kill()
        _, errors = await asyncio.to_thread(process.communicate, timeout=60)
        assert process.returncode in (0, -9), errors.decode()
        kills += process.returncode == -9
        found.append(await world.size())
    assert kills >= 2, "the replay was over before it was killed"
    assert len(set(found)) > 2, "the kills came before anything was written"
    last = await world.feed_as_the_command(speed)
    assert last.status in ("finished", "already finished")
    assert ids(await world.values()) == EVERY_ROW_ONCE


@pytest.mark.slow
@pytest.mark.chaos
async def test_every_row_is_in_the_topic_once_after_the_broker_was_killed(
    own_kafka: KafkaServer, tmp_path: Path
) -> None:
    world = World(own_kafka, tmp_path)
    await world.make_topic()
    feeding = asyncio.ensure_future(world.feed(speed=10_000))
    while not any(progress.rows_in for progress in world.seen):
        await asyncio.sleep(0.01)
    await asyncio.to_thread(own_kafka.kill)
    await asyncio.to_thread(own_kafka.start)
    assert not feeding.done(), "it was over before the broker was killed"
    summary = await asyncio.wait_for(feeding, 120)
    assert (summary.status, summary.progress.rows_in) == ("finished", ROWS)
    assert ids(await world.values()) == EVERY_ROW_ONCE


async def test_wait_ends_when_the_workers_have_committed_all(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await world.make_topic()
    stop = asyncio.Event()

    async def work_later() -> None:
        while "has no members" not in caplog.text:
            await asyncio.sleep(0.05)
        await work(world.topology, world.settings, stop)

    working = asyncio.ensure_future(work_later())
    try:
        summary = await asyncio.wait_for(world.feed(wait=True), 60)
        assert summary.status == "finished"
        left = [progress.rows_left for progress in world.seen if progress.rows_left is not None]
        assert (left[0], left[-1]) == (ROWS, 0)
    finally:
        stop.set()
        await working
    assert sorted(world.written()["id"]) == GROWN_UP
    assert await world.feed(wait=True)


async def test_isolated_it_is_worked_off_here_and_leaves_no_topic(world: World) -> None:
    summary = await feed_isolated(world.topology, world.sources, world.options(), world.seen.append)
    assert (summary.status, summary.progress.rows_in) == ("finished", ROWS)
    assert summary.progress.dead_letters == ROWS // 1000
    assert sorted(world.written()["id"]) == GROWN_UP
    async with world.log() as log:
        assert not await log.bounds(world.topic)
        for topic in _topics(world):
            assert not await log.bounds(topic)
    again = await feed_isolated(world.topology, world.sources, world.options(), world.seen.append)
    assert again.status == "already finished"


def _topics(world: World) -> list[str]:
    from streamcore.runtime.planning import plan

    name = plan(world.topology.freeze(), world.sources, splits=3, into="isolated")["people"].name
    return [f"{world.topic}.replay-{name[:8]}-0"]


async def test_an_isolated_replay_that_was_stopped_goes_on(world: World) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(2.5, stop.set)
    first = await feed_isolated(
        world.topology, world.sources, world.options(speed=1e-9), world.seen.append, stop
    )
    assert first.status == "interrupted"
    second = await feed_isolated(world.topology, world.sources, world.options(speed=1e9), world.seen.append)
    assert second.status == "finished"
    assert sorted(world.written()["id"]) == GROWN_UP


@pytest.mark.slow
@pytest.mark.chaos
@pytest.mark.parametrize("point", ["feeding.appended:5", "feeding.fed", "pipeline.before_sinks:4"])
async def test_an_isolated_replay_that_was_killed_goes_on(world: World, point: str) -> None:
    env = {**os.environ, "STREAMCORE_LIMITS__FETCH_MAX_BYTES": "65536"}
    for crash in (point, ""):
        done = await asyncio.to_thread(
            subprocess.run,
            [*world.command, "--isolate"],
            env={**env, "STREAMCORE_CRASH_POINT": crash},
            cwd=world.folder,
            capture_output=True,
            timeout=90,
        )
        assert done.returncode == (-9 if crash else 0), done.stderr.decode()
    assert sorted(world.written()["id"]) == GROWN_UP


async def test_a_missing_topic_is_told_with_the_command_that_makes_it(world: World) -> None:
    with pytest.raises(Permanent, match=f"kafka-topics.sh --create --topic {world.topic}"):
        await world.feed()


async def test_a_broker_that_is_down_is_told(world: World) -> None:
    (port,) = free_ports(1)
    down = world.settings.model_copy(
        update={"broker": world.settings.broker.model_copy(update={"url": f"kafka://127.0.0.1:{port}"})}
    )
    with pytest.raises(Transient, match="no connection to the broker"):
        await feed(world.topology, world.sources, ReplayOptions(down), world.seen.append)
