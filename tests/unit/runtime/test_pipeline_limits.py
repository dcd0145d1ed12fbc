"""The pipeline on an embedded log: what it promises when sinks refuse, hang, end or need much memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl
import pytest
from faust.types import TP

import streamcore as sc
from streamcore.batch import Batch, PartitionId, RecordChunk, Rejects
from streamcore.contracts import FlushReason, SinkAbilities, SinkContext
from streamcore.errors import Permanent
from streamcore.observability.metrics import Metrics
from streamcore.runtime.options import PipelineOptions
from streamcore.runtime.pipeline import Pipeline
from streamcore.transport.embedded_broker import Broker
from streamcore.transport.embedded_log import EmbeddedLog

P = PartitionId("users", 0, "id")


class User(sc.Event):
    id: int


@dataclass(frozen=True)
class Held:
    """A sink that confirms when it must, like one of rolling files; it refuses the ids in ``refuses``."""

    name: str = "held"
    refuses: list[int] = field(default_factory=list)
    fails: list[Exception] = field(default_factory=list)
    abilities = SinkAbilities(stores_positions=True)

    def check(self, columns: pl.Schema) -> None:
        pass

    def writer(self, context: SinkContext) -> HeldWriter:
        return HeldWriter(self, context)


class HeldWriter:
    def __init__(self, sink: Held, context: SinkContext) -> None:
        self._sink, self._context = sink, context
        self._at: dict[PartitionId, int] = {}
        self._durable: dict[PartitionId, int] = {}

    async def start(self) -> None:
        pass

    async def open(self, partitions: Mapping[PartitionId, int]) -> Mapping[PartitionId, int]:
        self._durable.update(partitions)
        return dict(partitions)

    async def write(self, batch: Batch) -> None:
        if self._sink.fails:
            raise self._sink.fails.pop()
        bad = batch.frame.filter(pl.col("id").is_in(self._sink.refuses))
        if bad.height:
            await self._context.refuse(batch, Rejects.of(bad, self._context.sink, "refused", "no"))
        self._at[batch.source] = batch.range.end

    async def flush(self, reason: FlushReason) -> Mapping[PartitionId, int]:
        if reason not in (FlushReason.IDLE, FlushReason.TIMER):
            self._durable.update(self._at)
        return dict(self._durable)

    async def release(self, partitions: Sequence[PartitionId]) -> None:
        for source in partitions:
            self._durable.pop(source, None)

    async def close(self) -> None:
        pass


def chunk(first: int, count: int) -> RecordChunk:
    values = [json.dumps({"id": i}).encode() for i in range(first, first + count)]
    return RecordChunk(P, range(first, first + count), values)


class Scene:
    def __init__(self, broker: Broker) -> None:
        self.broker, self.metrics = broker, Metrics()

    async def pipeline(self, *sinks: Held, memory_limit: int = 1 << 30) -> Pipeline:
        topology = sc.Topology("t")
        stream = topology.stream("users", User)
        for sink in sinks:
            stream.to(sink)
        options = PipelineOptions("t.dead-letters", "t.redrive", memory_limit=memory_limit)
        pipeline = Pipeline(
            topology.freeze(), {"users": "users"}, EmbeddedLog(self.broker), self.metrics, options
        )
        await pipeline.start(1)
        await pipeline.assigned({P: 0})
        return pipeline


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    broker = Broker.open("embedded://pipeline-limits")
    yield Scene(broker)
    broker.close()


async def test_rows_that_a_sink_refuses_are_not_counted_as_written(scene: Scene) -> None:
    pipeline = await scene.pipeline(Held(refuses=[3]))
    await pipeline.process(chunk(0, 5))
    await pipeline.finish()
    assert pipeline.runners["held"].rows_out == 4
    await pipeline.stop()


async def test_the_budget_counts_the_rows_that_were_made_of_a_chunk(scene: Scene) -> None:
    pipeline = await scene.pipeline(Held())
    first = chunk(0, 100)
    await pipeline.process(first)
    assert pipeline.ledger.unconfirmed_bytes > first.nbytes
    await pipeline.finish()
    assert pipeline.ledger.unconfirmed_bytes == 0
    await pipeline.stop()


async def test_a_full_budget_presses_a_holding_sink_and_goes_on(scene: Scene) -> None:
    pipeline = await scene.pipeline(Held(), Held("second"), memory_limit=1)
    for first in range(0, 50, 10):
        await asyncio.wait_for(pipeline.process(chunk(first, 10)), 5)
    assert pipeline.processed[P] == 50
    await pipeline.stop()


class Slow(Held):
    """Slower than its source; it confirms all that was written whenever it is asked."""

    abilities = SinkAbilities(stores_positions=True, timer_seconds=0.01)

    def writer(self, context: SinkContext) -> SlowWriter:
        return SlowWriter(self, context)


class SlowWriter(HeldWriter):
    async def write(self, batch: Batch) -> None:
        await asyncio.sleep(0.02)
        await super().write(batch)

    async def flush(self, reason: FlushReason) -> Mapping[PartitionId, int]:
        return await super().flush(FlushReason.PRESSURE)


async def test_a_sink_that_is_slower_than_its_source_confirms_before_its_queue_is_empty(scene: Scene) -> None:
    pipeline = await scene.pipeline(Slow())
    runner = pipeline.runners["held"]
    for first in range(0, 70, 10):
        await pipeline.process(chunk(first, 10))
    while runner.rows_out == 0:
        await asyncio.sleep(0)
    assert runner.rows_out < 70, "it confirmed nothing until it had all"
    await pipeline.finish()
    assert runner.rows_out == 70
    await pipeline.stop()


async def test_a_sink_that_ended_ends_the_drain_with_its_error(scene: Scene) -> None:
    pipeline = await scene.pipeline(Held(fails=[Permanent("the disk is full")]))
    await pipeline.process(chunk(0, 5))
    await asyncio.wait_for(pipeline.revoked({TP("users", 0)}), 5)
    with pytest.raises(Permanent, match="the disk is full"):
        await pipeline.failed
    assert pipeline.commit_position(TP("users", 0)) == 0
    await pipeline.stop()


async def test_a_hole_in_what_the_transport_brings_stops_the_worker(scene: Scene) -> None:
    pipeline = await scene.pipeline(Held())
    await pipeline.process(chunk(0, 5))
    await pipeline.process(chunk(6, 5))
    with pytest.raises(Permanent, match="skipped records"):
        await pipeline.failed
    assert pipeline.processed[P] == 5
    await pipeline.stop()


async def test_what_has_left_is_not_owned_though_its_position_is_still_committed(scene: Scene) -> None:
    pipeline = await scene.pipeline(Held())
    await pipeline.process(chunk(0, 5))
    assert pipeline.owned() == {P: 0}
    await pipeline.revoked({TP("users", 0)})
    assert pipeline.owned() == {}
    assert pipeline.commit_position(TP("users", 0)) == 5
    await pipeline.stop()
