"""Dead letters of rows that a sink's server refused: only the owner of their partition can send them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import polars as pl
import pytest

from streamcore.batch import OFFSET, SUB, PartitionId, RecordChunk, Rejects
from streamcore.contracts import Lane, Log
from streamcore.deadletter.reader import read
from streamcore.errors import Fenced
from streamcore.passage import RowId
from streamcore.runtime.options import PipelineOptions
from streamcore.runtime.refusals import Refusals
from streamcore.systems.kafka import KafkaConnection
from streamcore.transport.embedded_broker import Broker
from streamcore.transport.embedded_log import EmbeddedLog
from streamcore.transport.kafka_log import KafkaLog
from tests.integration.transport.kafka_apps import fresh, records
from tests.services.kafka import KafkaServer

SOURCE, OTHER = PartitionId("users", 0, "cluster/users"), PartitionId("orders", 0, "cluster/orders")


@pytest.fixture(params=["embedded", "kafka"])
async def log(request: pytest.FixtureRequest) -> AsyncIterator[Log]:
    if request.param == "embedded":
        broker = Broker.open(f"embedded://{fresh('owned')}")
        yield EmbeddedLog(broker)
        broker.close()
    else:
        kafka: KafkaServer = request.getfixturevalue("kafka")
        log = KafkaLog(KafkaConnection.parse(kafka.url))
        yield log
        await log.close()


async def worker(log: Log, topology: str, owner: str) -> Refusals:
    options = PipelineOptions(f"{topology}.dead-letters", f"{topology}.redrive", owner=owner)
    refusals = Refusals(log, topology, options, lambda topic: topic)
    await refusals.start(1)
    return refusals


def chunk(source: PartitionId) -> RecordChunk:
    return RecordChunk(source, [7, 8, 9], [b"a", b"b", b"c"])


def refused(offset: int) -> Rejects:
    rows = pl.DataFrame([(offset, 0)], schema={OFFSET: pl.Int64, SUB: pl.UInt32}, orient="row")
    return Rejects.of(rows, "postgres:users", "check_violation", "no")


async def letters(log: Log, topology: str) -> list[tuple[str, int]]:
    return [(one.source.topic, one.offset) async for one in read(log, f"{topology}.dead-letters")]


async def test_a_former_owner_sends_none_whatever_it_has_heard(log: Log) -> None:
    topology = fresh("owned")
    quiet, busy, heir = [await worker(log, topology, name) for name in ("quiet", "busy", "heir")]
    await quiet.own([SOURCE])
    await busy.own([SOURCE])
    await busy.append(chunk(SOURCE), refused(7), 0, as_owner=True)
    await heir.own([SOURCE])
    assert await heir.known(SOURCE, 0) == [RowId("postgres:users", 7, 0)]
    for former in (quiet, busy):
        with pytest.raises(Fenced):
            await former.append(chunk(SOURCE), refused(8), 0, as_owner=True)
    await heir.append(chunk(SOURCE), refused(9), 0, as_owner=True)
    assert await letters(log, topology) == [("users", 7), ("users", 9)]
    for one in (quiet, busy, heir):
        await one.close()


async def test_each_partition_has_its_owner_and_what_has_left_has_none(log: Log) -> None:
    topology = fresh("owned")
    first, second = [await worker(log, topology, name) for name in ("first", "second")]
    await first.own([SOURCE, OTHER])
    await second.own([OTHER])
    await asyncio.gather(*(first.append(chunk(SOURCE), refused(n), 0, as_owner=True) for n in (7, 8)))
    await second.append(chunk(OTHER), refused(8), 0, as_owner=True)
    await first.release([SOURCE])
    with pytest.raises(Fenced, match="has left this worker"):
        await first.append(chunk(SOURCE), refused(9), 0, as_owner=True)
    assert sorted(await letters(log, topology)) == [("orders", 8), ("users", 7), ("users", 8)]
    for one in (first, second):
        await one.close()


async def test_who_takes_over_sees_what_lies_behind_anothers_open_transaction(kafka: KafkaServer) -> None:
    log, topology = KafkaLog(KafkaConnection.parse(kafka.url)), fresh("owned")
    topic = f"{topology}.dead-letters"
    heir, another = [await worker(log, topology, name) for name in ("heir", "another")]
    stuck = log.transactions(topic, Lane(topology, "dead letters", OTHER, "stuck"), lambda _: None)
    await stuck.open(0)
    await stuck.append(records(0, 1))
    while not (await every(log, topic)):
        await asyncio.sleep(0.01)
    await heir.append(chunk(SOURCE), refused(7), 0)
    assert (await log.bounds(topic))[0].end == 0, "the open transaction hides it"
    await heir.own([SOURCE])
    looking = asyncio.ensure_future(heir.known(SOURCE, 0))
    await asyncio.sleep(0)
    await another.own([OTHER])
    assert await looking == [RowId("postgres:users", 7, 0)]
    for one in (heir, another, stuck, log):
        await one.close()


async def every(log: KafkaLog, topic: str) -> int:
    """The end of the topic, with what is not committed."""
    return (await log._bounds(topic, "read_uncommitted"))[0].end
