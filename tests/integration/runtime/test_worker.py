"""Workers on a real broker: rows in, commits that wait for the sinks, drains, take-overs, clear refusals."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from uuid import uuid4

import numpy as np
import orjson
import pyarrow as pa
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

import streamcore as sc
from streamcore.contracts import Records
from streamcore.deadletter.reader import Filter, read
from streamcore.deadletter.redrive import plan, send
from streamcore.errors import Permanent, Transient
from streamcore.runtime.worker import work
from streamcore.settings import Settings
from streamcore.systems.kafka import KafkaConnection
from streamcore.transport.kafka_log import KafkaLog
from tests.integration.runtime.memory_sink import MemorySink, Target
from tests.services.kafka import KafkaServer


class User(sc.Event):
    id: int
    age: int


class Scene:
    """A topic, a topology of its own name, and workers in this process."""

    def __init__(self, server: KafkaServer, tmp_path: Path) -> None:
        self.url, self.server, self.tmp_path = server.url, server, tmp_path
        self.name = f"people-{uuid4().hex[:8]}"
        self.topic = f"users-{self.name}"
        self.target = Target()
        self.log = KafkaLog(KafkaConnection.parse(self.url))
        self.sent = 0

    def topology(
        self, grow: Callable[[sc.Stream], sc.Stream] = lambda s: s.filter("age >= 18")
    ) -> sc.Topology:
        topology = sc.Topology(self.name)
        grow(topology.stream("users", User, key="id", topic=self.topic)).to(MemorySink("out", self.target))
        return topology

    def settings(self, **more: object) -> Settings:
        given = {
            "broker": {"url": self.url},
            "state": {"dir": self.tmp_path / uuid4().hex},
            "http": {"port": 0},
            "runtime": {"commit_interval_s": 0.2},
            "kafka": {"session_timeout_s": 6.0},
        }
        return Settings.model_validate({**given, **more})

    async def send(self, count: int, extra: list[bytes] | None = None) -> None:
        ids = range(self.sent, self.sent + count)
        values = [orjson.dumps({"id": i, "age": i % 97}) for i in ids] + (extra or [])
        self.sent += count
        keys = [b"%d" % i for i in range(len(values))]
        stamps = np.full(len(values), int(time.time() * 1000))
        await (await self.log.append(self.topic, Records(pa.array(values), stamps, pa.array(keys))))

    def expected(self) -> list[int]:
        return [i for i in range(self.sent) if i % 97 >= 18]

    def arrived(self) -> list[int]:
        return sorted(self.target.frame()["id"])

    async def committed(self) -> int:
        consumer = AIOKafkaConsumer(bootstrap_servers=self.server.bootstrap, group_id=self.name)
        await consumer.start()
        try:
            found = [await consumer.committed(TopicPartition(self.topic, p)) for p in range(4)]
        finally:
            await consumer.stop()
        return sum(offset or 0 for offset in found)


@pytest.fixture
async def scene(kafka: KafkaServer, tmp_path: Path) -> AsyncIterator[Scene]:
    scene = Scene(kafka, tmp_path)
    await scene.log.create(scene.topic, 4, {})
    yield scene
    await scene.log.close()


class Working:
    """A worker that runs while the context is open, and then drains."""

    def __init__(self, scene: Scene, topology: sc.Topology | None = None, **more: object) -> None:
        self.stop = asyncio.Event()
        self.task = asyncio.ensure_future(
            work(topology or scene.topology(), scene.settings(**more), self.stop)
        )

    async def __aenter__(self) -> Working:
        return self

    async def __aexit__(self, *error: object) -> None:
        self.stop.set()
        await self.task


async def until(holds: Callable[[], bool], what: str, seconds: float = 30) -> None:
    for _ in range(int(seconds / 0.05)):
        if holds():
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"not within {seconds} s: {what}")


async def test_rows_arrive_once_and_are_committed_when_the_worker_drains(scene: Scene) -> None:
    await scene.send(5_000)
    async with Working(scene):
        await until(lambda: len(scene.arrived()) == len(scene.expected()), "first rows")
        await scene.send(1_000)
        await until(lambda: len(scene.arrived()) == len(scene.expected()), "more rows")
    assert scene.arrived() == scene.expected()
    assert await scene.committed() == 6_000
    await scene.send(500)
    async with Working(scene):
        await until(lambda: len(scene.arrived()) == len(scene.expected()), "rows after a restart")
    assert scene.arrived() == scene.expected()


async def test_nothing_is_committed_that_the_sink_has_not_confirmed(scene: Scene) -> None:
    await scene.send(2_000)
    scene.target.failures = [Transient("database is gone") for _ in range(40)]
    async with Working(scene, retry={"initial_s": 0.05, "max_s": 0.05}):
        await asyncio.sleep(1.5)
        assert await scene.committed() == 0
        scene.target.failures.clear()
        await until(lambda: scene.arrived() == scene.expected(), "rows after the failure")
    assert await scene.committed() == 2_000


async def test_a_second_worker_shares_and_the_rows_stay_exact(scene: Scene) -> None:
    await scene.send(3_000)
    async with Working(scene):
        await until(lambda: len(scene.arrived()) > 0, "first rows")
        async with Working(scene):
            for _ in range(10):
                await scene.send(300)
                await asyncio.sleep(0.2)
            await until(lambda: len(scene.arrived()) >= len(scene.expected()), "all rows")
    assert scene.arrived() == scene.expected()


async def test_bad_rows_are_dead_letters_and_come_back_by_redrive(scene: Scene) -> None:
    await scene.send(100, extra=[b"{broken", b'{"id": 1000, "age": "old"}'])
    letters = f"{scene.name}.dead-letters"
    async with Working(scene):
        await until(lambda: len(scene.arrived()) == len(scene.expected()), "good rows")
    found = [x async for x in read(scene.log, letters)]
    assert sorted(x.value for x in found if x.value) == [b'{"id": 1000, "age": "old"}', b"{broken"]
    chosen = await plan(scene.log, letters, f"{scene.name}.redrive", Filter(), 3)
    await send(scene.log, f"{scene.name}.redrive", chosen.send, 1.0)

    topology = sc.Topology(scene.name)
    stream = topology.stream("users", {"id": "int64", "age": "string"}, topic=scene.topic)
    stream.to(MemorySink("out", scene.target))
    async with Working(scene, topology):
        await until(lambda: 1000 in scene.target.frame()["id"], "the mended row")
    assert {x.attempts for x in [x async for x in read(scene.log, letters)]} == {1, 2}


async def test_a_batch_that_unpacks_to_too_much_is_a_dead_letter_and_the_rest_arrives(scene: Scene) -> None:
    """160 MB of spaces, which zstd packs into a few kilobytes that every broker takes."""
    await scene.send(100)
    bomb = pa.array([b" " * (160 << 20)], pa.binary())
    await (await scene.log.append(scene.topic, Records(bomb, np.full(1, int(time.time() * 1000)))))
    await scene.send(100)
    async with Working(scene):
        await until(lambda: scene.arrived() == scene.expected(), "the other rows")
        while await scene.committed() < 201:
            await asyncio.sleep(0.1)
    found = [letter async for letter in read(scene.log, f"{scene.name}.dead-letters")]
    assert [(letter.stage, letter.code) for letter in found] == [("read", "too_large")]
    assert 0 < len(found[0].value or b"") < 1 << 20


async def test_a_missing_topic_is_said_before_anything_starts(scene: Scene) -> None:
    scene.topic = "nobody-made-this"
    with pytest.raises(Permanent, match=r"no topic 'nobody-made-this'.*kafka-topics"):
        await work(scene.topology(), scene.settings(), asyncio.Event())


async def test_a_sink_that_gives_up_ends_the_worker_with_its_cause(scene: Scene) -> None:
    await scene.send(10)
    scene.target.failures = [Permanent("the table is gone", where="db/users")]
    with pytest.raises(Permanent, match="db/users: the table is gone"):
        await asyncio.wait_for(work(scene.topology(), scene.settings(), asyncio.Event()), 30)


async def test_a_stalled_sink_is_ended_by_the_watchdog(scene: Scene) -> None:
    await scene.send(10)
    scene.target.delay = 60
    with pytest.raises(Permanent, match="sink 'out' did not return"):
        await asyncio.wait_for(
            work(scene.topology(), scene.settings(runtime={"stall_timeout_s": 2.0}), asyncio.Event()), 60
        )
