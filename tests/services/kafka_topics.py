"""What is in topics, as a reader of all records or of the committed ones sees it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import CompactArray, CompactString, Int16, Int32, Int64, Schema, TaggedFields

_TEXT = CompactString("utf-8")
_ENDING = ["PrepareCommit", "PrepareAbort"]
"""States of transactions whose end was acknowledged and is not written to all their partitions yet."""


async def records(bootstrap: str, topic: str) -> list[ConsumerRecord]:
    """All records of *topic*, partition by partition; none when it does not exist."""
    async with _reading(bootstrap, topic) as (consumer, tps):
        return await _up_to(consumer, await consumer.end_offsets(tps) if tps else {})


async def committed_records(bootstrap: str, topic: str, patience: float) -> list[ConsumerRecord]:
    """The same, of committed transactions only, as a reader of those sees them.

    An open transaction hides what is behind it: waits until all that is there now can be seen, for *patience*
    seconds at most. A commit may show a little after it was acknowledged; that is waited for in any case.
    """
    async with _reading(bootstrap, topic) as (every, tps):
        ends = await every.end_offsets(tps) if tps else {}
    async with _reading(bootstrap, topic, "read_committed") as (consumer, tps):
        deadline = time.monotonic() + patience
        while tps:
            ending = await _ending(consumer._client)
            stable = await consumer.end_offsets(tps)
            hidden = any(stable[tp] < ends.get(tp, 0) for tp in tps)
            if not hidden or (not ending and time.monotonic() > deadline):
                return await _up_to(consumer, stable)
            await asyncio.sleep(0.02)
        return []


class _ListTransactionsResponse(Response):  # type: ignore[misc]
    API_KEY = 66
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        ("unknown_state_filters", CompactArray(_TEXT)),
        (
            "transaction_states",
            CompactArray(("id", _TEXT), ("producer_id", Int64), ("state", _TEXT), ("tags", TaggedFields)),
        ),
        ("tags", TaggedFields),
    )


class _ListTransactionsRequest(RequestStruct):  # type: ignore[misc]
    """KIP-664's, which aiokafka does not have."""

    API_KEY = 66
    API_VERSION = 0
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _ListTransactionsResponse
    SCHEMA = Schema(
        ("state_filters", CompactArray(_TEXT)),
        ("producer_id_filters", CompactArray(Int64)),
        ("tags", TaggedFields),
    )


class _Ending(Request[_ListTransactionsRequest]):  # type: ignore[misc]
    API_KEY = 66

    def build(self, request_struct_class: type[_ListTransactionsRequest]) -> _ListTransactionsRequest:
        return request_struct_class(_ENDING, [], {})


async def _ending(client: AIOKafkaClient) -> bool:
    """Whether any transaction is in one of the states of ``_ENDING``."""
    answers = [await client.send(broker.nodeId, _Ending()) for broker in client.cluster.brokers()]
    return any(answer.transaction_states for answer in answers)


@asynccontextmanager
async def _reading(
    bootstrap: str, topic: str, isolation: str = "read_uncommitted"
) -> AsyncIterator[tuple[AIOKafkaConsumer, list[TopicPartition]]]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        enable_auto_commit=False,
        isolation_level=isolation,
        fetch_max_wait_ms=50,
    )
    await consumer.start()
    try:
        await consumer._client.add_topic(topic)
        numbers = consumer._client.cluster.partitions_for_topic(topic) or set()
        yield consumer, [TopicPartition(topic, number) for number in sorted(numbers)]
    finally:
        with suppress(Exception):
            await consumer.stop()


async def _up_to(consumer: AIOKafkaConsumer, ends: Mapping[TopicPartition, int]) -> list[ConsumerRecord]:
    found: list[ConsumerRecord] = []
    consumer.assign(list(ends))
    for tp in ends:
        consumer.seek(tp, 0)
    for tp, end in ends.items():
        while await consumer.position(tp) < end:
            found += (await consumer.getmany(tp, timeout_ms=20)).get(tp, [])
    return found


async def stored_positions(bootstrap: str, topic: str, patience: float) -> list[dict[str, Any]]:
    """The last committed record of each key of the topic of positions."""
    found = await committed_records(bootstrap, topic, patience)
    return [json.loads(value) for value in {record.key: record.value for record in found}.values()]
