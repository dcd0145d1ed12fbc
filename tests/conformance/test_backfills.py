"""What a store promises for backfills, on each that there is. Contract: streamcore/metadata/backfills.py."""

from __future__ import annotations

import asyncio
from typing import Any

from streamcore.metadata.backfills import BackfillRecord, BackfillStatus, NewBackfill
from streamcore.metadata.contract import NewRun, Store
from streamcore.metadata.records import RunMoved
from streamcore.metadata.states import PipelineStatus
from tests.conformance.test_stores import MINUTE, Open, claimed, open_another, queued, store, url

__all__ = ["open_another", "store", "url"]
R = PipelineStatus


async def created(store: Store, *firings: int, backfill_id: str = "b", **more: Any) -> BackfillRecord:
    await store.backfills.create(NewBackfill(backfill_id, "p", firings, **more), 5)
    return await read(store, backfill_id)


async def read(store: Store, backfill_id: str = "b") -> BackfillRecord:
    return next(one for one in await store.backfills.backfills() if one.backfill_id == backfill_id)


def new(run_id: str, firing: int, **more: Any) -> NewRun:
    return NewRun(run_id, "p", 1, ["a"], scheduled_us=firing, priority=-10, **more)


async def end(store: Store, run_id: str, status: PipelineStatus) -> None:
    claim = await claimed(store, run_id)
    await store.commit(claim, [RunMoved(R.QUEUED, R.RUNNING), RunMoved(R.RUNNING, status)], 9)


async def test_a_backfill_is_kept_with_its_firings_in_their_order(store: Store) -> None:
    made = await created(store, 300, 100, 200, parallel=2, reprocess="failed", parameters={"n": 1})
    assert made == BackfillRecord(
        "b", "p", BackfillStatus.RUNNING, 5, None, 100, 300, 2, "failed", {"n": 1}, 0, {"waiting": 3}
    )
    assert (made.total, made.active) == (3, 0)
    assert [(w.place, w.scheduled_us) for w in await store.backfills.waiting("b", 2)] == [(0, 300), (1, 100)]
    assert await created(store, 1) == made, "made once"
    await store.backfills.create(NewBackfill("c", "q", [1]), 6)
    assert [one.backfill_id for one in await store.backfills.backfills()] == ["c", "b"]
    assert [one.backfill_id for one in await store.backfills.backfills("p")] == ["b"]
    assert len(await store.backfills.backfills(limit=1)) == 1


async def test_starts_count_and_each_firing_gets_one_run(store: Store) -> None:
    backfill = await created(store, 100, 200)
    assert await store.backfills.start(backfill, 0, new("one", 100), 6)
    assert not await store.backfills.start(backfill, 1, new("two", 200), 6), "another start was not seen"
    backfill = await read(store)
    assert not await store.backfills.start(backfill, 0, new("again", 100), 6), "it is not waiting"
    assert await store.run("two") is None
    assert await store.create_run(new("live", 200), 7)
    assert not await store.backfills.start(backfill, 1, new("two", 200), 8), "it has a run meanwhile"
    assert await store.run("two") is None
    backfill = await read(store)
    assert (backfill.started, backfill.active, backfill.counts) == (1, 1, {"queued": 1, "waiting": 1})
    runs = await store.backfills.runs_of("p", 100, 200)
    assert {at: (run.run_id, run.priority) for at, run in runs.items()} == {
        100: ("one", -10),
        200: ("live", -10),
    }
    assert set(await store.backfills.runs_of("p", 101, 300)) == {200}
    assert await store.backfills.runs_of("q", 100, 200) == {}


async def test_of_starts_at_once_one_is_made(open_another: Open) -> None:
    stores = [await open_another() for _ in range(3)]
    seen = await created(stores[0], 100, 200, 300)
    got = await asyncio.gather(
        *(s.backfills.start(seen, n, new(f"r{n}", n * 100 + 100), 6) for n, s in enumerate(stores))
    )
    assert sorted(got) == [False, False, True]
    assert (await read(stores[1])).active == 1


async def test_a_run_takes_the_place_of_another(store: Store) -> None:
    backfill = await created(store, 100)
    assert await store.create_run(new("old", 100), 1)
    assert not await store.backfills.start(backfill, 0, new("new", 100, instead_of="other"), 6)
    assert await store.backfills.start(backfill, 0, new("new", 100, instead_of="old"), 6)
    assert (await store.backfills.runs_of("p", 100, 100))[100].run_id == "new"
    assert await store.run("old") is not None


async def test_a_failed_run_is_opened_again(store: Store) -> None:
    backfill = await created(store, 100)
    assert await store.create_run(new("old", 100), 1)
    await end(store, "old", R.FAILED)
    run = await store.run("old")
    assert run is not None
    assert await store.backfills.reopen(backfill, 0, run, [], 10)
    assert (await store.run("old")).status is R.QUEUED  # type: ignore[union-attr]
    assert (await read(store)).counts == {"queued": 1}
    assert not await store.backfills.reopen(backfill, 0, run, [], 10)


async def test_it_is_done_when_nothing_waits(store: Store) -> None:
    backfill = await created(store, 100, 200)
    await store.backfills.leave_out("b", 0)
    assert not await store.backfills.finish("b", 9)
    assert await store.backfills.start(backfill, 1, new("one", 200), 6)
    assert await store.backfills.finish("b", 9)
    assert not await store.backfills.finish("b", 10)
    done = await read(store)
    assert (done.status, done.ended_us, done.counts) == (
        BackfillStatus.DONE, 9, {"left out": 1, "queued": 1},
    )  # fmt: skip
    assert await store.backfills.backfills(running=True) == []


async def test_cancelling_asks_for_the_end_of_its_runs_and_starts_no_more(store: Store) -> None:
    backfill = await created(store, 100, 200, 300)
    other = await queued(store)
    assert await store.backfills.start(backfill, 0, new("one", 100), 6)
    await store.backfills.leave_out("b", 2)
    assert await store.backfills.cancel("b", 8)
    assert not await store.backfills.cancel("b", 9)
    assert not await store.backfills.start(await read(store), 1, new("two", 200), 9)
    await claimed(store, "one", until=MINUTE)
    await claimed(store, other, until=MINUTE)
    assert await store.beat("me", MINUTE) == {"one": True, other: False}
    assert (await read(store)).status is BackfillStatus.CANCELLED
