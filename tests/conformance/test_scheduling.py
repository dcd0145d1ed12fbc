"""What a store promises for schedules, on each that there is. Contract: streamcore/metadata/scheduling.py."""

from __future__ import annotations

import asyncio

from streamcore.metadata.contract import Store
from streamcore.metadata.scheduling import ScheduleRecord
from tests.conformance.test_stores import Open, open_another, store, url

__all__ = ["open_another", "store", "url"]


async def schedule(store: Store, pipeline_id: str = "p") -> ScheduleRecord:
    return next(one for one in await store.scheduling.schedules() if one.pipeline_id == pipeline_id)


async def test_all_pipelines_have_a_place_in_their_schedule(store: Store) -> None:
    assert await store.scheduling.schedules() == []
    await store.register("q", "{}", 1)
    await store.register("p", '{"a":1}', 1)
    await store.register("p", '{"a":2}', 2)
    assert await store.scheduling.passed("q", 50, None)
    assert await store.scheduling.schedules() == [
        ScheduleRecord("p", 2, None, None),
        ScheduleRecord("q", 1, 50, None),
    ]


async def test_a_position_goes_on_from_what_was_seen(open_another: Open) -> None:
    stores = [await open_another() for _ in range(3)]
    await stores[0].register("p", "{}", 1)
    first = await asyncio.gather(*(s.scheduling.passed("p", 10 + n, None) for n, s in enumerate(stores)))
    assert sorted(first) == [False, False, True]
    at = 10 + first.index(True)
    assert not await stores[0].scheduling.passed("p", 99, 5)
    assert (await schedule(stores[0])).position_us == at
    assert await stores[1].scheduling.passed("p", 3, at), "back, when the clock was put back"
    assert (await schedule(stores[2])).position_us == 3


async def test_pausing_and_resuming(store: Store) -> None:
    await store.register("p", "{}", 1)
    assert not await store.scheduling.resume("p")
    assert await store.scheduling.pause("p", 7)
    assert not await store.scheduling.pause("p", 8)
    assert await schedule(store) == ScheduleRecord("p", 1, None, 7)
    assert await store.scheduling.passed("p", 20, None)
    assert await schedule(store) == ScheduleRecord("p", 1, 20, 7)
    assert await store.scheduling.resume("p")
    assert await schedule(store) == ScheduleRecord("p", 1, 20, None)
    assert await store.scheduling.pause("p", 30)


async def test_a_lease_of_a_clock_that_was_put_back_holds_nobody_up(store: Store) -> None:
    day = 24 * 60 * 60_000_000
    assert await store.lease("leader", "one", day + 15, day)
    assert not await store.lease("leader", "two", day + 10, day - 5)
    assert await store.lease("leader", "two", 15, 0)
    assert not await store.lease("leader", "one", 16, 1)
