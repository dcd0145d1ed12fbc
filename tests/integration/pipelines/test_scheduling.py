"""Schedules in processes that are killed: every firing has its run, once, and the runs succeed.

A minute is a second here: the orchestrators' clocks run SPEED times as fast.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamcore.crashpoints import VARIABLE
from streamcore.metadata.backfills import BackfillStatus, NewBackfill
from streamcore.metadata.contract import Store
from streamcore.metadata.records import RunRecord
from streamcore.metadata.states import PipelineStatus
from streamcore.pipelines.models import PipelineConfig, TaskConfig, TaskType
from tests.integration.pipelines.fast import START, clock

MINUTE = 60_000_000


class Leaders:
    """Orchestrators on one store, each a process."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, began: float, crash: str = "") -> subprocess.Popen[bytes]:
        """One whose fast clock began at *began*."""
        environment = {**os.environ, VARIABLE: crash}
        command = [sys.executable, "-m", "tests.integration.pipelines.fast", self._url, str(began)]
        self._processes.append(subprocess.Popen(command, cwd=Path(__file__).parents[3], env=environment))
        return self._processes[-1]

    def kill(self) -> None:
        """All of them."""
        for process in self._processes:
            process.kill()
            process.wait()


@pytest.fixture
def leaders(url: str) -> Iterator[Leaders]:
    leaders = Leaders(url)
    yield leaders
    leaders.kill()


async def registered(store: Store) -> float:
    """A pipeline that runs each minute; when the fast clock began."""
    task = TaskConfig(task_id="a", task_type=TaskType.EMPTY)
    config = PipelineConfig(pipeline_id="p", tasks=(task,), schedule="* * * * *", catchup="all")
    await store.register("p", config.model_dump_json(exclude_defaults=True), round(START * 1e6))
    return time.time()


async def made(store: Store, minute: int) -> list[RunRecord]:
    """The runs, as soon as that of *minute* is there and all have ended."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        runs = await store.runs(limit=1000)
        newest = max((run.scheduled_us or 0 for run in runs), default=0)
        if newest >= START * 1e6 + minute * MINUTE and all(run.ended_us is not None for run in runs):
            return runs
        await asyncio.sleep(0.2)
    raise AssertionError(f"minute {minute} has no run")


def check(runs: list[RunRecord]) -> None:
    minutes = sorted(((run.scheduled_us or 0) - round(START * 1e6)) // MINUTE for run in runs)
    assert minutes == list(range(1, len(runs) + 1)), "one is missing, or there twice"
    assert {run.status for run in runs} == {PipelineStatus.SUCCESS}


@pytest.mark.parametrize("url", ["sqlite", pytest.param("postgres", marks=pytest.mark.slow)], indirect=True)
@pytest.mark.parametrize("crash", ["schedule.due:2", pytest.param("schedule.made:2", marks=pytest.mark.slow)])
async def test_a_leader_is_killed_between_a_firing_and_its_run(
    store: Store, leaders: Leaders, crash: str
) -> None:
    began = await registered(store)
    leader = leaders.start(began, crash)
    assert await asyncio.to_thread(leader.wait, 60) == -signal.SIGKILL
    leaders.start(began)
    check(await made(store, int((clock(began) - START) / 60) + 2))


@pytest.mark.slow
@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_a_leader_that_stood_still_makes_nothing_twice(store: Store, leaders: Leaders) -> None:
    began = await registered(store)
    zombie = leaders.start(began, "schedule.due:2:SIGSTOP")
    await asyncio.to_thread(os.waitid, os.P_PID, zombie.pid, os.WSTOPPED | os.WNOWAIT)
    stood = int((clock(began) - START) / 60)
    leaders.start(began)
    await made(store, stood + 1)
    zombie.send_signal(signal.SIGCONT)
    check(await made(store, int((clock(began) - START) / 60) + 3))


@pytest.mark.slow
@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("crash", ["backfill.due:2", "backfill.started:2"])
async def test_a_backfill_goes_on_when_its_leader_was_killed(
    store: Store, leaders: Leaders, crash: str
) -> None:
    began = await registered(store)
    await store.scheduling.pause("p", 1)
    firings = [round(START * 1e6) - n * MINUTE for n in range(1, 7)]
    await store.backfills.create(NewBackfill("b", "p", firings, parallel=3), 1)
    leader = leaders.start(began, crash)
    assert await asyncio.to_thread(leader.wait, 60) == -signal.SIGKILL
    leaders.start(began)
    deadline = time.monotonic() + 60
    while (found := (await store.backfills.backfills())[0]).status is BackfillStatus.RUNNING:
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.2)
    assert (found.status, found.counts) == (BackfillStatus.DONE, {"success": 6})
    runs = await store.runs(limit=1000)
    assert sorted(run.scheduled_us or 0 for run in runs) == sorted(firings)
