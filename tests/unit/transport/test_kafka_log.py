"""What may follow an append that failed, on a producer that is played here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import pyarrow as pa
import pytest
from aiokafka.errors import KafkaTimeoutError

from streamcore.contracts import Records
from streamcore.errors import Transient
from streamcore.systems.kafka import KafkaConnection
from streamcore.systems.kafka_topic_ids import TopicDescription
from streamcore.transport import kafka_log
from streamcore.transport.kafka_log import KafkaLog


class Producer:
    """Batches wait for the test to settle them. *made* counts producers."""

    made: list[Producer] = []

    def __init__(self, **_: object) -> None:
        self.sent: dict[int, list[asyncio.Future[None]]] = {0: [], 1: []}
        self.made.append(self)

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    async def send_batch(self, batch: object, topic: str, *, partition: int) -> asyncio.Future[None]:
        self.sent[partition].append(asyncio.get_running_loop().create_future())
        return self.sent[partition][-1]


@pytest.fixture
async def log(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[KafkaLog]:
    monkeypatch.setattr(kafka_log, "AIOKafkaProducer", Producer)
    monkeypatch.setattr(Producer, "made", [])
    log = KafkaLog(KafkaConnection.parse("kafka://localhost:1"))
    log._topics["t"] = TopicDescription("id", (0, 1), True)
    yield log
    await log.close()


def both() -> Records:
    """A record for each of the partitions 0 and 1."""
    values = pa.array([b"a", b"b"], pa.binary())
    return Records(values, np.zeros(2, np.int64), partitions=np.array([0, 1], np.int32))


async def test_nothing_overtakes_an_append_that_failed_in_one_partition_and_is_under_way_in_another(log):
    first = await log.append("t", both())
    (producer,) = Producer.made
    producer.sent[0][0].set_exception(KafkaTimeoutError())
    await asyncio.sleep(0)
    assert not first.done(), "the caller can't know yet"
    second = asyncio.ensure_future(log.append("t", both()))
    await asyncio.sleep(0.01)
    assert not second.done(), "what is under way must be settled"
    producer.sent[1][0].set_result(None)
    with pytest.raises(Transient, match="an append before this one failed"):
        await second
    with pytest.raises(Transient):
        await first
    assert len(producer.sent[0]) == 1
    assert not any(len(p.sent[0]) for p in Producer.made[1:])


async def test_an_append_after_a_failure_that_was_told_goes_to_another_producer(log):
    first = await log.append("t", both())
    for sent in Producer.made[0].sent.values():
        sent[0].set_exception(KafkaTimeoutError())
    with pytest.raises(Transient):
        await first
    await log.append("t", both())
    assert [len(p.sent[0]) for p in Producer.made] == [1, 1]
