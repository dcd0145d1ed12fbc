"""Laws of a sink's positions: stored, contiguous, one a partition."""

from __future__ import annotations

import pytest

from streamcore.contracts import FlushReason
from streamcore.errors import Permanent
from streamcore.testing.sink_world import (
    ORDERS,
    OTHERS,
    Suite,
    World,
    assert_same_rows,
    batches_of,
    deliver,
    empty_batch,
    frame_of,
)


class PositionLaws(Suite):
    """What ``open``, ``write`` and ``flush`` say about positions."""

    def test_open_gives_the_start_it_was_given_when_it_has_none_and_stores_it(self) -> None:
        async def test(world: World) -> None:
            first = await world.writer("worker-1")
            assert await first.open({ORDERS: 7, OTHERS: 0}) == {ORDERS: 7, OTHERS: 0}
            assert await world.target.positions() == {ORDERS: 7, OTHERS: 0}
            second = await world.writer("worker-2")
            assert await second.open({ORDERS: 99, OTHERS: 5}) == {ORDERS: 7, OTHERS: 0}

        self.run(test)

    def test_positions_survive_a_new_writer(self) -> None:
        async def test(world: World) -> None:
            writer = await world.writer("worker-1")
            await writer.open({ORDERS: 0})
            await deliver(writer, batches_of(frame_of(range(10)), [4], ORDERS))
            assert await writer.flush(FlushReason.END) == {ORDERS: 10}
            await writer.close()
            assert await world.target.positions() == {ORDERS: 10}
            again = await world.writer("worker-2")
            assert await again.open({ORDERS: 0}) == {ORDERS: 10}

        self.run(test)

    def test_positions_need_not_be_dense_and_may_pass_32_bits(self) -> None:
        async def test(world: World) -> None:
            first = 2**53 + 1
            writer = await world.writer()
            await writer.open({ORDERS: first})
            batches = batches_of(frame_of(range(6)), [2], ORDERS, first=first, gap=1000)
            await deliver(writer, batches)
            assert await writer.flush(FlushReason.END) == {ORDERS: first + 6000}
            assert_same_rows(await world.target.rows(), frame_of(range(6)))

        self.run(test)

    def test_the_topic_id_tells_a_topic_that_was_made_again_from_the_old_one(self) -> None:
        async def test(world: World) -> None:
            again = ORDERS._replace(topic_id="c/2")
            writer = await world.writer()
            await writer.open({ORDERS: 0})
            await deliver(writer, batches_of(frame_of(range(3)), [], ORDERS))
            await writer.flush(FlushReason.END)
            assert await writer.open({again: 1}) == {again: 1}

        self.run(test)

    def test_empty_batches_advance_positions(self) -> None:
        async def test(world: World) -> None:
            writer = await world.writer()
            await writer.open({ORDERS: 0})
            await writer.write(empty_batch(ORDERS, 0, 50))
            await writer.write(empty_batch(ORDERS, 50, 50))
            assert await writer.flush(FlushReason.END) == {ORDERS: 50}
            await deliver(writer, batches_of(frame_of(range(2)), [], ORDERS, first=50))
            await writer.write(empty_batch(ORDERS, 52, 60))
            assert await writer.flush(FlushReason.REVOKE) == {ORDERS: 60}
            assert await world.target.positions() == {ORDERS: 60}
            assert_same_rows(await world.target.rows(), frame_of(range(2)))

        self.run(test)

    def test_partitions_are_independent(self) -> None:
        async def test(world: World) -> None:
            one, two = await world.writer("worker-1"), await world.writer("worker-2")
            await one.open({ORDERS: 0})
            await two.open({OTHERS: 0})
            await deliver(one, batches_of(frame_of(range(5)), [], ORDERS))
            await deliver(two, batches_of(frame_of(range(100, 108)), [3], OTHERS))
            assert await two.flush(FlushReason.END) == {OTHERS: 8}
            assert await one.flush(FlushReason.END) == {ORDERS: 5}
            await one.open({OTHERS: 0})
            await deliver(one, batches_of(frame_of(range(5, 9)), [2], ORDERS, first=5))
            await deliver(one, batches_of(frame_of(range(108, 110)), [], OTHERS, first=8))
            assert await one.flush(FlushReason.END) == {ORDERS: 9, OTHERS: 10}
            assert_same_rows(await world.target.rows(), frame_of([*range(9), *range(100, 110)]))

        self.run(test)

    def test_released_partitions_are_forgotten_with_what_was_held(self) -> None:
        async def test(world: World) -> None:
            writer = await world.writer()
            await writer.open({ORDERS: 0, OTHERS: 0})
            await deliver(writer, batches_of(frame_of(range(3)), [], ORDERS))
            await deliver(writer, batches_of(frame_of(range(10, 13)), [], OTHERS))
            await writer.release([ORDERS])
            assert await writer.flush(FlushReason.END) == {OTHERS: 3}
            stored = (await world.target.positions())[ORDERS]
            assert (await writer.open({ORDERS: 0}))[ORDERS] == stored
            await deliver(writer, batches_of(frame_of(range(stored, 3)), [], ORDERS, first=stored))
            await writer.flush(FlushReason.END)
            assert_same_rows(await world.target.rows(), frame_of([*range(3), *range(10, 13)]))

        self.run(test)

    @pytest.mark.parametrize("start", [0, 4, 6, 100])
    def test_writes_are_contiguous_a_gap_or_an_overlap_is_refused(self, start: int) -> None:
        async def test(world: World) -> None:
            writer = await world.writer()
            await writer.open({ORDERS: 0})
            await deliver(writer, batches_of(frame_of(range(5)), [], ORDERS))
            with pytest.raises(Permanent):
                await deliver(writer, batches_of(frame_of(range(start, start + 3)), [], ORDERS, first=start))

        self.run(test)

    def test_a_batch_of_a_partition_that_is_not_open_is_refused(self) -> None:
        async def test(world: World) -> None:
            writer = await world.writer()
            await writer.open({ORDERS: 0})
            with pytest.raises(Permanent):
                await deliver(writer, batches_of(frame_of(range(3)), [], OTHERS))

        self.run(test)
