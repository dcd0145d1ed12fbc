"""A take-over that a rebalance breaks off must not go on beside the next one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

import pytest

import streamcore as sc
from streamcore.batch import PartitionId, Range
from streamcore.observability.metrics import Metrics
from streamcore.runtime.options import PipelineOptions
from streamcore.runtime.pipeline import Pipeline
from streamcore.transport.embedded_broker import Broker
from streamcore.transport.embedded_log import EmbeddedLog
from tests.unit.runtime.test_pipeline_limits import Held

SOURCES = [PartitionId("users", number, "id") for number in range(3)]


class User(sc.Event):
    id: int


class DeafLog(EmbeddedLog):
    """Its first look at the dead letters goes on when it is cancelled, as stopping a consumer may."""

    def __init__(self, broker: Broker) -> None:
        super().__init__(broker)
        self.looking, self.go_on, self.cancelled = asyncio.Event(), asyncio.Event(), 0
        self.armed = False

    async def bounds(self, topic: str, *, settled: bool = False) -> Mapping[int, Range]:
        if self.armed and not self.looking.is_set():
            self.looking.set()
            try:
                await self.go_on.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                await asyncio.sleep(0.02)
        return await super().bounds(topic)


@pytest.fixture
async def pipeline() -> AsyncIterator[tuple[Pipeline, DeafLog]]:
    broker = Broker.open("embedded://take-over")
    log = DeafLog(broker)
    topology = sc.Topology("t")
    topology.stream("users", User).to(Held())
    options = PipelineOptions("t.dead-letters", "t.redrive", owner="me")
    pipeline = Pipeline(topology.freeze(), {"users": "users"}, log, Metrics(), options)
    await pipeline.start(1)
    log.armed = True
    yield pipeline, log
    await pipeline.stop()
    broker.close()


async def test_the_next_take_over_waits_for_the_end_of_one_that_does_not_hear(pipeline) -> None:
    work, log = pipeline
    first = asyncio.create_task(work.assigned(dict.fromkeys(SOURCES, 0)))
    await log.looking.wait()
    first.cancel()
    await asyncio.sleep(0)
    assert await work.assigned({SOURCES[2]: 0}) == {SOURCES[2]: 0}
    await asyncio.wait([first])
    assert first.cancelled()
    assert not work.failed.done()
    assert list(work.owned()) == [SOURCES[2]]
    assert list(work.ledger.positions()) == [SOURCES[2]]
