"""A watermark that was told without rows, and was lost in a crash, is told again at the next take-over."""

from __future__ import annotations

from unittest import mock

import orjson
import pytest
from faust.types import TP

import streamcore as sc
from streamcore.batch import Batch, Chunk, PartitionId, RecordChunk
from streamcore.observability.metrics import Metrics
from streamcore.runtime.options import PipelineOptions
from streamcore.runtime.pipeline import Pipeline
from streamcore.runtime.state_logs import StateLogWriter, made_logs
from streamcore.transport.embedded_broker import Broker
from streamcore.transport.embedded_log import EmbeddedLog
from tests.integration.runtime.memory_sink import MemorySink, Target

ROWS = PartitionId("rows", 0, "c/rows")


async def pipeline_of(log: EmbeddedLog, target: Target) -> Pipeline:
    topology = sc.Topology("t")
    rows = topology.stream("rows", {"shop": "string", "at": "int64"}, event_time="at")
    inner = (
        rows.filter("shop <> 'other'")
        .window(sc.tumbling("10ms"))
        .by("shop")
        .aggregate(n="count(*)", name="inner")
    )
    inner.window(sc.tumbling("40ms")).aggregate(n="sum(n)", name="outer").to(MemorySink("out", target))
    graph = topology.freeze()
    logs = await made_logs(graph, log, {"rows": "rows"}, {"rows": 1})
    options = PipelineOptions("dead", "redrive", state_logs=logs, owner="one", clock=lambda: 0.0)
    pipeline = Pipeline(graph, {"rows": "rows"}, log, Metrics(), options)
    await pipeline.start(1)
    return pipeline


class Worker:
    """Reads the rows and the logs to their ends, and commits what may be committed."""

    def __init__(self, log: EmbeddedLog, pipeline: Pipeline) -> None:
        self.log, self.pipeline = log, pipeline
        self.at: dict[PartitionId, int] = {}

    async def take_over(self) -> None:
        sources = [ROWS]
        for topic in self.pipeline._options.state_logs:
            found = self.log._broker.topic(topic)
            assert found is not None
            sources += [found.source(number) for number in range(len(found))]
        tps = {source: TP(source.topic, source.partition) for source in sources}
        commits = {source: self.pipeline.commit_position(tp) or 0 for source, tp in tps.items()}
        self.at = dict(await self.pipeline.assigned(commits))

    async def process(self, chunk: Chunk) -> None:
        await self.pipeline.process(chunk)
        self.at[chunk.source] = chunk.end

    async def rest(self) -> None:
        """Until nothing more comes into any log."""
        moved = True
        while moved:
            moved = False
            await self.pipeline.finish()
            for source, at in [(s, at) for s, at in self.at.items() if s != ROWS]:
                end = (await self.log.bounds(source.topic))[source.partition].end
                async for chunk in self.log.scan(source.topic, source.partition, at, end):
                    moved = True
                    await self.process(chunk)

    async def give_up(self) -> None:
        await self.pipeline.revoked({TP(source.topic, source.partition) for source in self.at})


def rows(first: int, *rows: tuple[str, int]) -> RecordChunk:
    values = [orjson.dumps({"shop": shop, "at": at}) for shop, at in rows]
    return RecordChunk(ROWS, range(first, first + len(rows)), values)


@pytest.mark.parametrize("near", [True, False], ids=["near at hand", "read again"])
async def test_a_window_of_windows_closes_without_another_row(near: bool) -> None:
    log, target = EmbeddedLog(Broker.open(f"embedded://told-{near}")), Target()
    write = StateLogWriter.write

    async def lost(self: StateLogWriter, batch: Batch) -> None:
        """Of the log of the outer windows: what says only how far the times came."""
        if len(batch) or self._target.node != "outer":
            await write(self, batch)

    worker = Worker(log, await pipeline_of(log, target))
    await worker.take_over()
    await worker.process(rows(0, ("a", 1_000), ("a", 1_005), ("a", 1_012), ("other", 1_025)))
    await worker.rest()
    with mock.patch.object(StateLogWriter, "write", lost):
        await worker.process(rows(4, ("other", 9_000)))
        await worker.rest()
    assert not target.batches, "the inner windows have closed, and the outer one has not heard how far it is"
    await worker.give_up()
    if not near:
        await worker.pipeline.stop()
        worker.pipeline = await pipeline_of(log, target)
    await worker.take_over()
    await worker.rest()
    assert target.frame()["n"].to_list() == [3]
    await worker.pipeline.stop()
    log._broker.close()
