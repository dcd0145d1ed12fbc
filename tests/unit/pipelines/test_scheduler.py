"""The scheduler on a clock of the test: what is due becomes a run, once, whatever the clock and others do."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from streamcore.metadata import open_store
from streamcore.metadata.contract import Store
from streamcore.pipelines.models import PipelineConfig, TaskConfig, TaskType
from streamcore.pipelines.scheduler import Scheduler

MINUTE = 60_000_000
HOUR = 60 * MINUTE
START = 1_700_000_000_000_000 // (24 * HOUR) * 24 * HOUR
"""A midnight in UTC."""


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    store = await open_store("memory:")
    yield store
    await store.close()


async def register(store: Store, now: int, pipeline_id: str = "p", **fields: Any) -> None:
    task = TaskConfig(task_id="a", task_type=TaskType.EMPTY)
    config = PipelineConfig(pipeline_id=pipeline_id, tasks=(task,), **fields)
    await store.register(pipeline_id, config.model_dump_json(exclude_defaults=True), now)


def scheduler(store: Store, owner: str = "me") -> Scheduler:
    return Scheduler(store, owner, 15_000_000, lambda: 0)


async def fired(store: Store) -> list[int]:
    """The hours after START whose firings have a run, in the order in which the runs were made."""
    runs = sorted(await store.runs(limit=10_000), key=lambda run: run.created_us)
    hours = [((run.scheduled_us or 0) - START) / HOUR for run in runs]
    assert len(set(hours)) == len(hours)
    return [int(hour) if hour == int(hour) else hour for hour in hours]  # type: ignore[misc]


async def ticks(one: Scheduler, begin: float, end: float, step: int = 10 * MINUTE) -> None:
    """Ask from the hour *begin* to the hour *end*, with it."""
    for now in range(START + round(begin * HOUR), START + round(end * HOUR) + 1, step):
        await one.tick(now)


async def test_each_firing_becomes_a_run(store: Store) -> None:
    await register(store, START, schedule="0 * * * *")
    await register(store, START, "on-demand")
    one = scheduler(store)
    await ticks(one, 0, 3.5)
    assert await fired(store) == [1, 2, 3]
    run = (await store.runs(limit=1))[0]
    assert (run.pipeline_id, run.version, run.created_us) == ("p", 1, START + 3 * HOUR)
    assert [task.task_id for task in await store.tasks(run.run_id)] == ["a"]


@pytest.mark.parametrize(("catchup", "made_up"), [("none", []), ("latest", [5]), ("all", [2, 3, 4, 5])])
@pytest.mark.parametrize("why", ["outage", "pause"])
async def test_what_was_missed(store: Store, catchup: str, made_up: list[int], why: str) -> None:
    await register(store, START, schedule="0 * * * *", catchup=catchup)
    await ticks(scheduler(store), 0, 1.5)
    if why == "pause":
        await store.scheduling.pause("p", START)
        await ticks(scheduler(store), 1.6, 5.4)
        await store.scheduling.resume("p")
    await ticks(scheduler(store, "next"), 5.5, 6)
    assert await fired(store) == [1, *made_up, 6]


async def test_a_firing_is_not_missed_while_leaders_change(store: Store) -> None:
    await register(store, START, schedule="0 * * * *", catchup="none")
    await ticks(scheduler(store), 0, 0.9)
    await scheduler(store, "next").tick(START + HOUR + 59_000_000)
    assert await fired(store) == [1]


async def test_many_missed_ones_are_made_up_for_tick_by_tick(store: Store) -> None:
    await register(store, START, schedule="* * * * *", catchup="all")
    one = scheduler(store)
    assert [await one.tick(START + 250 * MINUTE + n) for n in range(4)] == [100, 100, 50, 0]


async def test_another_one_does_not_schedule_until_the_lease_is_over(store: Store) -> None:
    await register(store, START, schedule="0 * * * *")
    one, other = scheduler(store), scheduler(store, "other")
    assert await one.tick(START + HOUR) == 1
    assert await other.tick(START + HOUR + 1) == 0
    assert not other.leads
    await other.tick(START + HOUR + 16_000_000)
    assert other.leads
    await one.tick(START + HOUR + 17_000_000)
    assert not one.leads


async def test_two_that_both_believe_to_lead_make_each_run_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def always(*_: object) -> bool:
        return True

    monkeypatch.setattr(store, "lease", always)
    await register(store, START, schedule="*/10 * * * *", catchup="all")
    both = [scheduler(store), scheduler(store, "other")]
    drawn = random.Random(7)
    for now in range(START, START + 3 * HOUR, 3 * MINUTE):
        await drawn.choice(both).tick(now)
    for one in both:
        await one.tick(START + 3 * HOUR)
    assert len(await fired(store)) == 18


@pytest.mark.parametrize("catchup", ["latest", "all"])
async def test_the_clock_is_put_back_and_forth(store: Store, catchup: str) -> None:
    """No firing twice, and none lost: each that the right clock passes has its run."""
    await register(store, START, schedule="0 * * * *", catchup=catchup)
    one = scheduler(store)
    await ticks(one, 0, 3.5)
    await ticks(one, 0.5, 2.5)  # three hours back
    await ticks(scheduler(store, "me"), 10.5, 10.8)  # far ahead, for a moment
    await ticks(one, 3.6, 24.1)
    assert sorted(await fired(store)) == list(range(1, 25))


async def test_a_pipeline_registered_by_a_clock_that_ran_ahead(store: Store) -> None:
    await register(store, START + 48 * HOUR, schedule="0 * * * *")
    await ticks(scheduler(store), 0, 2)
    assert await fired(store) == [1, 2]


async def test_a_new_version_changes_what_comes_next(store: Store) -> None:
    await register(store, START, schedule="0 * * * *")
    one = scheduler(store)
    await ticks(one, 0, 2.4)
    await register(store, START + round(2.5 * HOUR), schedule="30 * * * *")
    await ticks(one, 2.5, 4)
    assert await fired(store) == [1, 2, 3.5]
    await register(store, START + 4 * HOUR)
    await ticks(one, 4, 6)
    assert await fired(store) == [1, 2, 3.5]
    assert (await store.runs(limit=1))[0].version == 2


async def test_what_was_due_before_a_new_version_is_not_forgotten(store: Store) -> None:
    await register(store, START, schedule="0 * * * *", catchup="all")
    await ticks(scheduler(store), 0, 1)
    await register(store, START + round(2.5 * HOUR), schedule="45 * * * *", catchup="all")  # nobody is there
    await ticks(scheduler(store, "next"), 4, 4)
    assert await fired(store) == [1, 2, 2.75, 3.75]


async def test_jitter_delays_the_run_but_not_its_time(store: Store) -> None:
    await register(store, START, schedule="0 * * * *", schedule_jitter=1800)
    await ticks(scheduler(store), 0, 6.5, step=MINUTE)
    runs = await store.runs()
    late = [(run.created_us - (run.scheduled_us or 0)) / MINUTE for run in runs]
    assert len(late) == 6
    assert all(0 <= minutes <= 31 for minutes in late)
    assert len(set(late)) > 3


async def test_a_pipeline_that_cant_be_read_does_not_hold_up_the_others(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    await store.register("a", '{"pipeline_id":"a","schedule":"no such"}', START)
    await register(store, START, schedule="0 * * * *")
    await ticks(scheduler(store), 0, 2)
    assert await fired(store) == [1, 2]
    assert caplog.text.count("pipeline a has a schedule that can't be used") == 1


async def test_left_out_firings_are_told(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    await register(store, START, schedule="0 * * * *", timezone="Europe/Berlin")
    await ticks(scheduler(store), 5.5, 5.6)
    assert "firings from 2023-11-14T02:00:00+01:00 on were missed and are left out" in caplog.text
