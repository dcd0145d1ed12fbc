"""The end of a partition, asked from another thread than the one in which partitions come and go."""

from __future__ import annotations

from types import MethodType, SimpleNamespace

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer.subscription_state import SubscriptionState
from faust.types import TP

from streamcore.transport.kafka import ConsumerThread


async def test_the_end_of_a_partition_that_has_just_left_is_unknown() -> None:
    """aiokafka's own method asserts that the partition is assigned."""
    state = SubscriptionState()
    state.assign_from_user([TopicPartition("t", 0)])
    consumer = SimpleNamespace(_subscription=state)
    consumer.highwater = MethodType(AIOKafkaConsumer.highwater, consumer)
    thread = ConsumerThread.__new__(ConsumerThread)
    thread._consumer = consumer
    thread.consumer = SimpleNamespace(in_transaction=False)  # type: ignore[assignment]
    assert thread.highwater(TP("t", 0)) is None  # nothing was fetched yet
    assert thread.highwater(TP("t", 1)) is None
    state.subscription.assignment.state_value(TopicPartition("t", 0)).highwater = 7
    assert thread.highwater(TP("t", 0)) == 7
