"""The pipeline without a broker's group: what a rebalance may wait for."""

from __future__ import annotations

import asyncio

import pytest
from faust.types import TP

import streamcore as sc
from streamcore.batch import PartitionId, RecordChunk
from streamcore.errors import Fenced
from streamcore.observability.metrics import Metrics
from streamcore.runtime.pipeline import Pipeline, PipelineOptions
from streamcore.transport.embedded_broker import Broker
from streamcore.transport.embedded_log import EmbeddedLog
from tests.integration.runtime.memory_sink import MemorySink, Target

SOURCE = PartitionId("users", 0, "c/1")


class User(sc.Event):
    id: int


async def started(target: Target) -> Pipeline:
    topology = sc.Topology("people")
    topology.stream("users", User).to(MemorySink("out", target))
    log = EmbeddedLog(Broker.open("embedded://pipeline-test"))
    pipeline = Pipeline(
        topology.freeze(), {"users": "users"}, log, Metrics(), PipelineOptions("dead", "redrive")
    )
    await pipeline.start(1)
    await pipeline.assigned({SOURCE: 0})
    return pipeline


async def test_a_rebalance_does_not_wait_for_a_sink_that_was_fenced_meanwhile() -> None:
    target = Target(delay=0.05, failures=[Fenced("another owner", where="out")])
    pipeline = await started(target)
    chunk = RecordChunk(SOURCE, [0], [b'{"id": 1}'], first=0, end=1)
    await pipeline.process(chunk)
    await asyncio.wait_for(pipeline.revoked({TP("users", 0)}), 5)
    with pytest.raises(Fenced):
        pipeline.failed.result()
    assert pipeline.commit_position(TP("users", 0)) == 0
    await pipeline.stop()
