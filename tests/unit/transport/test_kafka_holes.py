"""Places without a record are covered by empty chunks, while partitions leave and are sought."""

from __future__ import annotations

from types import SimpleNamespace

from aiokafka import TopicPartition
from aiokafka.errors import IllegalStateError
from faust.types import TP

from streamcore.batch import Chunk
from streamcore.transport.kafka import ConsumerThread

A, B = TP("t", 0), TP("t", 1)


def reading() -> ConsumerThread:
    thread = ConsumerThread.__new__(ConsumerThread)
    thread._next = {A: 5, B: 5}
    thread._topic_ids = {"t": "id"}
    thread.consumer = SimpleNamespace(is_chunked=lambda topic: True)  # type: ignore[assignment]
    return thread


async def covered(thread: ConsumerThread, position: object) -> dict[TP, list[Chunk]]:
    ready: dict[TP, list[Chunk]] = {}
    await thread._cover_holes(SimpleNamespace(position=position), frozenset({A, B}), ready)  # type: ignore[arg-type]
    return ready


async def test_a_hole_becomes_an_empty_chunk() -> None:
    thread = reading()

    async def position(tp: TopicPartition) -> int:
        return 9

    ready = await covered(thread, position)
    assert {tp: [(c.first, c.end, len(c)) for c in chunks] for tp, chunks in ready.items()} == {
        A: [(5, 9, 0)],
        B: [(5, 9, 0)],
    }
    assert thread._next == {A: 9, B: 9}


async def test_partitions_that_leave_meanwhile_are_left_alone() -> None:
    thread = reading()

    async def position(tp: TopicPartition) -> int:
        thread._next.clear()
        return 9

    assert await covered(thread, position) == {}
    assert thread._next == {}


async def test_a_partition_that_is_sought_meanwhile_keeps_its_new_place() -> None:
    thread = reading()

    async def position(tp: TopicPartition) -> int:
        thread._next[TP(*tp)] = 2
        return 9

    assert await covered(thread, position) == {}
    assert thread._next == {A: 2, B: 2}


async def test_a_position_that_is_not_known_any_more_is_no_error() -> None:
    thread = reading()

    async def position(tp: TopicPartition) -> int:
        raise IllegalStateError("not assigned")

    assert await covered(thread, position) == {}
    assert thread._next == {A: 5, B: 5}
