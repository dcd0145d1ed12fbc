"""A sink that takes long to take partitions over delays the worker; it does not make it stand still."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import faust
import numpy as np
import pyarrow as pa
import pytest

import streamcore as sc
from streamcore.batch import PartitionId
from streamcore.contracts import Records, SinkAbilities, SinkContext
from streamcore.errors import Permanent
from streamcore.observability.metrics import Metrics
from streamcore.runtime import app as runtime_app
from streamcore.runtime import job
from streamcore.runtime.app import AppOptions
from streamcore.runtime.options import PipelineOptions
from streamcore.runtime.pipeline import Pipeline
from streamcore.transport.embedded_broker import Broker
from streamcore.transport.embedded_log import EmbeddedLog
from tests.integration.runtime.memory_sink import MemorySink, MemoryWriter, Target


class User(sc.Event):
    id: int


@dataclass(frozen=True)
class SlowToOpen(MemorySink):
    abilities = SinkAbilities(stores_positions=True, transactional=True)

    def writer(self, context: SinkContext) -> MemoryWriter:
        return SlowWriter(self.target)


class SlowWriter(MemoryWriter):
    async def open(self, partitions: Mapping[PartitionId, int]) -> Mapping[PartitionId, int]:
        await asyncio.sleep(1.0)
        return await super().open(partitions)


@pytest.fixture
async def broker() -> AsyncIterator[Broker]:
    broker = Broker.open("embedded://slow-take-over")
    broker.create("users", 1)
    broker.create("t.redrive", 1)
    yield broker
    broker.close()


async def take_over(broker: Broker, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Target:
    """Run until the row has arrived, while Faust wants to wait for 0.2 s only."""

    def impatient(pipeline: Pipeline, topics: Sequence[str], options: AppOptions) -> faust.App:
        built = runtime_app.build_app(pipeline, topics, options)
        built.conf.broker_request_timeout = 0.2
        return built

    monkeypatch.setattr(job, "build_app", impatient)
    log, target, topology = EmbeddedLog(broker), Target(), sc.Topology("t")
    topology.stream("users", User).to(SlowToOpen("out", target))
    one = Records(pa.array([b'{"id":1}'], pa.binary()), np.zeros(1, np.int64))
    await (await log.append("users", one))
    options = PipelineOptions("t.dead-letters", "t.redrive")
    app_options = AppOptions(broker.url, "t", folder)
    async with job.running(
        topology.freeze(), {"users": "users"}, log, Metrics(), options, app_options, 1
    ) as running:
        for _ in range(100):
            running.check()
            if target.batches:
                return target
            await asyncio.sleep(0.1)
    raise AssertionError("it stands still")


async def test_a_slow_take_over_is_waited_for(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = await take_over(broker, tmp_path, monkeypatch)
    assert target.frame()["id"].to_list() == [1]


async def test_a_take_over_that_does_not_end_is_an_error(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime_app, "TAKE_OVER_SECONDS", 0.3)
    with pytest.raises(Permanent, match="could not be taken over"):
        await take_over(broker, tmp_path, monkeypatch)
