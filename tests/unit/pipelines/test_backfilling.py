"""Backfills on a clock of the test: order, how many at once, what is run again, and who else is there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from streamcore.errors import BadConfig
from streamcore.metadata import open_store
from streamcore.metadata.backfills import BackfillRecord, BackfillStatus, NewBackfill, Reprocess
from streamcore.metadata.contract import NewRun, Store
from streamcore.metadata.records import RunMoved, RunRecord, TaskMoved, TaskRecord
from streamcore.metadata.states import PipelineStatus, TaskStatus
from streamcore.pipelines import backfilling
from streamcore.pipelines.backfilling import PRIORITY, Step, firings_of, step_of
from streamcore.pipelines.schedules import Schedule, zone_of
from tests.unit.pipelines.test_scheduler import HOUR, START, register, scheduler

R = PipelineStatus
HOURLY = Schedule("p", "0 * * * *", zone_of("UTC"))


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    store = await open_store("memory:")
    await register(store, START, schedule="0 * * * *", catchup="none")
    yield store
    await store.close()


async def create(store: Store, *hours: int, **more: Any) -> None:
    await store.backfills.create(
        NewBackfill("b", "p", [START + hour * HOUR for hour in hours], **more), START
    )


async def end(store: Store, run: RunRecord, status: PipelineStatus) -> None:
    """The run ends so, as if an orchestrator had executed it."""
    claim = await store.claim(run.run_id, "it", START * 2, START)
    assert claim is not None
    (task,) = await store.tasks(run.run_id)
    after = TaskStatus.SUCCESS if status is R.SUCCESS else TaskStatus.CANCELLED
    moved = TaskMoved(task.status, TaskRecord("a", after))
    await store.commit(claim, [RunMoved(R.QUEUED, R.RUNNING), moved, RunMoved(R.RUNNING, status)], START)


async def under_way(store: Store) -> list[RunRecord]:
    return sorted(await store.runs(statuses=[R.QUEUED]), key=lambda run: run.created_us)


def hours(runs: list[RunRecord]) -> list[int]:
    return [((run.scheduled_us or 0) - START) // HOUR for run in runs]


async def the_one(store: Store) -> BackfillRecord:
    (found,) = await store.backfills.backfills()
    return found


async def test_so_many_at_once_in_their_order_behind_live_runs(store: Store) -> None:
    await create(store, -1, -2, -3, -4, -5, parallel=2, parameters={"full": True})
    one, seen = scheduler(store), []
    for tick in range(10):
        await one.tick(START + tick * 1000)
        runs = await under_way(store)
        assert len(runs) <= 2
        for run in runs[:1]:
            seen += hours([run])
            await end(store, run, R.SUCCESS)
    assert seen == [-1, -2, -3, -4, -5]
    found = await the_one(store)
    assert (found.status, found.counts) == (BackfillStatus.DONE, {"success": 5})
    run = (await store.runs(limit=1))[0]
    assert (run.priority, run.parameters, run.version) == (PRIORITY, {"full": True}, 1)
    assert PRIORITY < 0


@pytest.mark.parametrize(
    ("reprocess", "expected"), [("none", [-4]), ("failed", [-4, -3, -2]), ("all", [-4, -3, -2, -1])]
)
async def test_firings_that_have_run_are_run_again_only_if_asked(
    store: Store, reprocess: Reprocess, expected: list[int]
) -> None:
    before = {}
    for hour, status in ((-3, R.FAILED), (-2, R.CANCELLED), (-1, R.SUCCESS)):
        run_id = f"run{hour}"
        await store.create_run(NewRun(run_id, "p", 1, ["a"], scheduled_us=START + hour * HOUR), START)
        run = await store.run(run_id)
        assert run is not None
        await end(store, run, status)
        before[hour] = run_id
    await store.create_run(NewRun("live", "p", 1, ["a"], scheduled_us=START), START)  # still runs
    await create(store, -4, -3, -2, -1, 0, parallel=9, reprocess=reprocess)
    await scheduler(store).tick(START)
    runs = [run for run in await under_way(store) if run.run_id != "live"]
    assert sorted(hours(runs)) == expected
    same = {hour for run, hour in zip(runs, hours(runs), strict=True) if run.run_id == before.get(hour)}
    assert same == ({-3, -2} if reprocess == "failed" else set()), "a failed run is gone on with"
    assert (await the_one(store)).counts.get("left out", 0) == 5 - len(expected)


async def test_two_that_believe_to_lead_start_no_more_than_asked(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A leader that stood still between reading and starting finds its view of the backfill old."""
    await create(store, -1, -2, -3, -4, parallel=2)
    seen = await the_one(store)
    await scheduler(store).tick(START)
    assert await backfilling.advance(store, seen, 1, ["a"], START) == 0
    assert hours(await under_way(store)) == [-1, -2]


async def test_a_cancelled_one_starts_nothing(store: Store) -> None:
    await create(store, -1, -2, -3)
    one = scheduler(store)
    await one.tick(START)
    await store.backfills.cancel("b", START)
    (run,) = await under_way(store)
    assert run.cancel_us == START
    await end(store, run, R.CANCELLED)
    await one.tick(START + 1)
    assert await under_way(store) == []
    assert (await the_one(store)).counts == {"cancelled": 1, "waiting": 2}


async def test_live_firings_and_a_backfill_of_the_same_time_share_one_run(store: Store) -> None:
    await create(store, 1, 2, parallel=2)
    one = scheduler(store)
    await one.tick(START + HOUR + 1)
    await one.tick(START + HOUR + 2)
    assert sorted(hours(await under_way(store))) == [1, 2]


def test_what_is_done_with_a_firing() -> None:
    run = RunRecord("r", "p", 1, R.RUNNING, 1)
    assert step_of("all", run) is Step.LEAVE_OUT
    assert step_of("none", None) is Step.RUN


def test_the_firings_of_a_range() -> None:
    range_ = (START, START + 3 * HOUR)
    forth = [START, START + HOUR, START + 2 * HOUR]
    assert firings_of(HOURLY, *range_, START * 2) == forth
    assert firings_of(HOURLY, *range_, START * 2, backwards=True) == forth[::-1]
    assert firings_of(HOURLY, *range_, START + HOUR) == forth[:2], "not those to come"
    with pytest.raises(BadConfig, match="nothing was due"):
        firings_of(HOURLY, START + 1, START + 2, START * 2)
    with pytest.raises(BadConfig, match="too many firings"):
        firings_of(Schedule("p", "* * * * *", zone_of("UTC")), START, START + 2000 * HOUR, START * 2)
