"""Laws of crashes and fences: nothing lost, nothing doubled, whoever writes and however it is cut."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from contextlib import suppress

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from streamcore.batch import PartitionId
from streamcore.contracts import FlushReason, SinkWriter
from streamcore.errors import Fenced, StreamcoreError
from streamcore.testing.sink_world import (
    LASTING,
    ORDERS,
    OTHERS,
    Crash,
    Suite,
    World,
    assert_same_rows,
    batches_of,
    deliver,
    frame_of,
)


class CrashLaws(Suite):
    """What holds when a writer dies at any moment, and when a dead one comes back."""

    def test_from_the_moment_open_returns_a_former_owner_cannot_write(self) -> None:
        async def test(world: World) -> None:
            zombie = await world.writer("zombie")
            await zombie.open({ORDERS: 0})
            await deliver(zombie, batches_of(frame_of(range(4)), [], ORDERS))
            await zombie.flush(FlushReason.END)
            await deliver(zombie, batches_of(frame_of(range(4, 20)), [], ORDERS, first=4))
            heir = await world.writer("heir")
            assert await heir.open({ORDERS: 0}) == {ORDERS: (await world.target.positions())[ORDERS]}
            await self._assert_fenced(world, zombie, 20)

        self.run(test)

    def test_a_zombie_stays_fenced_after_the_heir_went_on(self) -> None:
        async def test(world: World) -> None:
            zombie, heir = await world.writer("zombie"), await world.writer("heir")
            await zombie.open({ORDERS: 0})
            await heir.open({ORDERS: 0})
            await deliver(heir, batches_of(frame_of(range(7)), [2], ORDERS))
            await heir.flush(FlushReason.END)
            await self._assert_fenced(world, zombie, 0)
            await deliver(heir, batches_of(frame_of(range(7, 9)), [], ORDERS, first=7))
            assert await heir.flush(FlushReason.END) == {ORDERS: 9}
            assert_same_rows(await world.target.rows(), frame_of(range(9)))

        self.run(test)

    async def _assert_fenced(self, world: World, zombie: SinkWriter, at: int) -> None:
        rows, stored = await world.target.rows(), await world.target.positions()
        for late in (batches_of(frame_of(range(at + 1000, at + 1005)), [], ORDERS, first=at), []):
            with pytest.raises(Fenced):
                await deliver(zombie, late, FlushReason.END)
        assert_same_rows(await world.target.rows(), rows)
        assert await world.target.positions() == stored

    @settings(
        max_examples=40,
        deadline=None,
        phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
        suppress_health_check=[
            HealthCheck.too_slow,
            HealthCheck.differing_executors,
            HealthCheck.function_scoped_fixture,
        ],
    )
    @given(
        sizes=st.tuples(st.integers(0, 25), st.integers(0, 25)),
        lives=st.lists(
            st.tuples(
                st.integers(1, 12),  # dies at this crash point …
                st.integers(1, 12),  # … or after so many batches
                st.lists(st.integers(0, 7), min_size=1, max_size=6),  # sizes of its batches, over and over
                st.lists(st.none() | st.sampled_from(FlushReason), min_size=1, max_size=6),
            ),
            max_size=5,
        ),
        last_cuts=st.lists(st.integers(1, 7), min_size=1, max_size=4),
    )
    def test_crashes_and_other_cuts_lose_nothing_and_double_nothing(
        self,
        sizes: tuple[int, int],
        lives: list[tuple[int, int, list[int], list[FlushReason | None]]],
        last_cuts: list[int],
    ) -> None:
        frames = {ORDERS: frame_of(range(sizes[0])), OTHERS: frame_of(range(1000, 1000 + sizes[1]))}
        wanted = pl.concat(frames.values())

        async def test(world: World) -> None:
            confirmed = dict.fromkeys(frames, 0)
            for number, (crash_at, most, cuts, reasons) in enumerate(lives):
                world.passed.clear()
                world.crash_at = crash_at
                with suppress(Crash):
                    await _live(world, f"life-{number}", frames, confirmed, cuts, reasons, most)
                seen = await world.target.rows()
                assert seen["id"].n_unique() == seen.height, "a row was doubled"
                due = pl.concat(frame[: confirmed[pid]] for pid, frame in frames.items())
                assert set(due["id"]) <= set(seen["id"]), "a confirmed row is not there"
            world.crash_at = 0
            await _live(world, "last", frames, confirmed, last_cuts, [None], 10_000)
            assert confirmed == {pid: frame.height for pid, frame in frames.items()}
            assert_same_rows(await world.target.rows(), wanted)
            for zombie in world.writers[:-1]:
                with suppress(StreamcoreError, Crash):  # a crash in the background is heard of here
                    await zombie.flush(FlushReason.END)
            assert_same_rows(await world.target.rows(), wanted)
            assert await world.target.positions() == confirmed

        self.run(test)


async def _live(
    world: World,
    owner: str,
    frames: Mapping[PartitionId, pl.DataFrame],
    confirmed: dict[PartitionId, int],
    cuts: Sequence[int],
    reasons: Sequence[FlushReason | None],
    most: int,
) -> None:
    """One process: takes over, delivers at most *most* batches, then flushes or dies."""
    writer = await world.writer(owner)
    start = await writer.open(dict.fromkeys(frames, 0))
    assert all(start[pid] >= confirmed[pid] for pid in frames), "a confirmed position was taken back"
    where, sizes, turns = dict(start), itertools.cycle(cuts), itertools.cycle(reasons)
    while most and any(where[pid] < frame.height for pid, frame in frames.items()):
        for pid, frame in frames.items():
            part = frame[where[pid] : where[pid] + next(sizes)]
            await deliver(writer, batches_of(part, [], pid, first=where[pid]))
            where[pid] += part.height
        most -= 1
        world.now += 13
        if (reason := next(turns)) is not None:
            confirmed.update(await writer.flush(reason))
            assert reason not in LASTING or confirmed == where
    if not most:
        raise Crash("between two calls")
    confirmed.update(await writer.flush(FlushReason.END))
