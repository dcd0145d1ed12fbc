"""The pipeline without a broker's group: what a rebalance may wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Collection

import pytest
from faust.types import TP

import streamcore as sc
from streamcore.batch import PartitionId, RecordChunk
from streamcore.contracts import Records
from streamcore.errors import Fenced, Transient
from streamcore.observability.metrics import Metrics
from streamcore.passage import RowId
from streamcore.runtime.options import PipelineOptions
from streamcore.runtime.pipeline import Pipeline
from streamcore.transport.embedded_broker import Broker
from streamcore.transport.embedded_log import EmbeddedLog
from tests.integration.runtime.memory_sink import MemorySink, MemoryWriter, Target

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


async def test_a_sink_that_is_fenced_in_the_drain_does_not_break_the_rebalance_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Faust did not stop any more after an exception there; the worker ends by what has failed."""

    async def flush(writer: object, reason: object) -> None:
        raise Fenced("another owner", where="out")

    pipeline = await started(Target())
    monkeypatch.setattr(MemoryWriter, "flush", flush)
    await asyncio.wait_for(pipeline.revoked({TP("users", 0)}), 5)
    with pytest.raises(Fenced):
        pipeline.failed.result()
    await pipeline.stop()


async def test_a_sink_is_blamed_only_for_what_it_was_given() -> None:
    target = Target(delay=30)
    pipeline = await started(target)
    assert pipeline.causes([SOURCE]) == "no record arrives from the broker"
    await pipeline.process(RecordChunk(SOURCE, [0], [b'{"id": 1}'], first=0, end=1))
    assert pipeline.causes([SOURCE]) == "sink 'out' has not confirmed"
    await pipeline.stop()


async def test_dead_letters_that_cannot_be_appended_are_the_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = await started(Target())

    async def append(topic: str, records: Records) -> Awaitable[None]:
        raise Transient("the broker is away")

    monkeypatch.setattr(pipeline._log, "append", append)
    processing = asyncio.ensure_future(
        pipeline.process(RecordChunk(SOURCE, [0], [b"no JSON"], first=0, end=1))
    )
    while not pipeline.causes([SOURCE]).startswith("dead letters"):
        await asyncio.sleep(0)
    assert pipeline.causes([SOURCE]) == "dead letters: the broker is away"
    processing.cancel()
    await pipeline.stop()


async def test_what_leaves_while_it_is_taken_over_is_not_worked_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Faust may not have broken the take-over off by then, and it ends behind the partitions' leave."""
    pipeline = await started(target := Target())
    looking, go_on, real = asyncio.Event(), asyncio.Event(), pipeline._refusals.known

    async def known(source: PartitionId, position: int) -> Collection[RowId]:
        looking.set()
        await go_on.wait()
        return await real(source, position)

    monkeypatch.setattr(pipeline._refusals, "known", known)
    taking = asyncio.ensure_future(pipeline.assigned({SOURCE: 0}))
    await looking.wait()
    await pipeline.revoked({TP("users", 0)})
    go_on.set()
    await taking
    chunk = RecordChunk(SOURCE, [0], [b'{"id": 1}'], first=0, end=1)
    await pipeline.process(chunk)
    await pipeline.finish()
    assert (pipeline.owned(), target.positions[SOURCE]) == ({}, 0)
    await pipeline.assigned({SOURCE: 0})
    await pipeline.process(chunk)
    await pipeline.finish()
    assert (pipeline.owned(), pipeline.failed.done()) == ({SOURCE: 1}, False)
    await pipeline.stop()
