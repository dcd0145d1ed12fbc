"""Whose a run is: claims that meet, a run that an heir has, a run that can't be read, an end in the midst."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from streamcore.metadata.contract import NewRun, Store
from streamcore.metadata.states import AttemptStatus, PipelineStatus, TaskStatus
from streamcore.pipelines.children import Child, Nursery
from streamcore.pipelines.guarded import Guarded, Lifeline
from streamcore.pipelines.models import PipelineConfig, TaskConfig, TaskType
from streamcore.pipelines.orchestrator import PipelineOrchestrator
from tests.integration.pipelines.test_orchestrator import python


def shell(text: str) -> TaskConfig:
    return TaskConfig(task_id="t", task_type=TaskType.COMMAND, parameters={"command": ["sh", "-c", text]})


async def queued(orchestrator: PipelineOrchestrator, task: TaskConfig, **more: Any) -> str:
    await orchestrator.register_pipeline(PipelineConfig(pipeline_id="p", tasks=(task,), **more))
    return await orchestrator.trigger_pipeline("p", queue=True)


async def until(condition: Any) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_two_claims_of_one_orchestrator_are_one(store: Store, tmp_path: Path) -> None:
    async with PipelineOrchestrator(store, take_up=False) as orchestrator:
        run_id = await queued(orchestrator, shell(f"echo once >> {tmp_path}/log; sleep 0.3"))
        await asyncio.gather(*(orchestrator._claim(run_id) for _ in range(3)))
        assert (await orchestrator.wait(run_id)).status is PipelineStatus.SUCCESS
    assert (tmp_path / "log").read_text() == "once\n"


async def test_what_runs_is_stopped_when_an_heir_has_the_run(store: Store, tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with PipelineOrchestrator(store, take_up=False, lease_seconds=3) as orchestrator:
        run_id = await queued(orchestrator, shell(f"while true; do date >> {log}; sleep 0.05; done"))
        await orchestrator._claim(run_id)
        await until(log.exists)
        now = round(time.time() * 1e6)
        heir = await store.claim(run_id, "heir", now + 3_600_000_000, now + 60_000_000)
        assert heir is not None, "as after a pause of the machine: the lease is over by the clock"
        await until(lambda: not orchestrator._executions)
        size = log.stat().st_size
        await asyncio.sleep(0.3)
        assert log.stat().st_size == size


async def test_a_run_that_cannot_be_read_is_left_and_others_go_on(store: Store, tmp_path: Path) -> None:
    now = round(time.time() * 1e6)
    await store.register("tomorrow", '{"pipeline_id":"tomorrow","new_field":1,"tasks":[]}', now)
    await store.create_run(NewRun("unreadable", "tomorrow", 1, ["t"]), 1)
    async with PipelineOrchestrator(store) as orchestrator:
        run_id = await queued(orchestrator, shell("true"))
        assert (await orchestrator.wait(run_id)).status is PipelineStatus.SUCCESS
        await until(lambda: "unreadable" in orchestrator._unreadable)
    run = await store.run("unreadable")
    assert run is not None
    assert run.status is PipelineStatus.QUEUED


async def test_what_a_guard_has_ended_is_lost_though_the_lease_is_renewed_since(store: Store) -> None:
    """As after a SIGSTOP that is longer than the lease: the beat may come before the news of the end."""
    async with PipelineOrchestrator(store, take_up=False, lease_seconds=600) as orchestrator:
        run_id = await queued(orchestrator, shell("sleep 600"))
        await orchestrator._claim(run_id)
        lifeline = orchestrator._lifeline
        await until(lambda: lifeline._held)
        (process,) = lifeline._held
        lapse(lifeline, process)
        await until(lambda: process not in lifeline._held)
        await until(lambda: lifeline._held or not orchestrator._executions)
        assert [one.status for one in await store.attempts(run_id)] == [
            AttemptStatus.LOST,
            AttemptStatus.RUNNING,
        ]
        await orchestrator.cancel(run_id)
        await orchestrator.wait(run_id)


def lapse(lifeline: Lifeline, process: Guarded) -> None:
    """The deadline passes, the guard of *process* ends it, the deadline moves; the loop has heard nothing."""
    process.tell("0\n")
    with suppress(ChildProcessError):  # it has ended, and somebody else has asked how
        os.waitid(os.P_PID, process._process.pid, os.WEXITED | os.WNOWAIT)
    lifeline.deadline = 0.0
    lifeline.extend(time.monotonic() + 600)


async def test_an_end_while_a_task_begins_stops_it(store: Store) -> None:
    orchestrator = PipelineOrchestrator(store, take_up=False)
    await orchestrator.start()
    run_id = await queued(orchestrator, shell("sleep 600"))
    commit = store.commit

    async def slow(*arguments: Any) -> None:
        await commit(*arguments)
        orchestrator._executions[run_id].hand_over()  # as stop() does, before the attempt is begun

    store.commit = slow  # type: ignore[method-assign]
    await orchestrator._claim(run_id)
    await asyncio.wait_for(orchestrator.stop(), 60)
    run = await store.run(run_id)
    assert run is not None
    assert (run.owner, run.status) == (None, PipelineStatus.RUNNING)


async def test_an_orderly_end_is_no_failure_to_tell_of(store: Store) -> None:
    hook = {"type": "webhook", "url": "https://127.0.0.1:1/x", "allow_private": True}
    async with PipelineOrchestrator(store, take_up=False) as orchestrator:
        run_id = await queued(orchestrator, shell("sleep 600"), notifications={"on_retry": hook})
        await orchestrator._claim(run_id)
        await until(lambda: orchestrator._executions[run_id]._attempts)
    (task,) = await store.tasks(run_id)
    assert task.status is TaskStatus.RETRYING
    assert await store._rows("select event from streamcore_notices") == []  # type: ignore[attr-defined]


@pytest.mark.parametrize("child", [False, True])
async def test_texts_that_no_database_holds_are_escaped(store: Store, child: bool) -> None:
    async with PipelineOrchestrator(store) as orchestrator:
        run_id = await queued(orchestrator, python("t", "fail_oddly", child=child))
        view = await orchestrator.wait(run_id)
    assert (view.status, view.tasks["t"].attempts) == (PipelineStatus.FAILED, 1)
    assert r"a\0b\ud800c" in view.tasks["t"].reason


async def test_a_spare_child_that_is_dead_is_not_handed_out() -> None:
    async with nursery() as (_, spares):
        (spare,) = spares._sorts[()].ready
        spare._process.cut()
        await until(lambda: spare.ended)
        await is_alive(await spares.take(()), spare)


async def test_a_spare_child_whose_guard_has_ended_it_is_not_handed_out_before_that_is_known() -> None:
    async with nursery() as (lifeline, spares):
        (spare,) = spares._sorts[()].ready
        lapse(lifeline, spare._process)
        await is_alive(await spares.take(()), spare)


@asynccontextmanager
async def nursery() -> AsyncIterator[tuple[Lifeline, Nursery]]:
    """One with a spare child of the sort that imports nothing ahead."""
    lifeline = Lifeline(60)
    nursery = Nursery(lifeline)
    nursery.warm(())
    await nursery.settle()
    yield lifeline, nursery
    await nursery.close()


async def is_alive(child: Child, dead: Child) -> None:
    assert child is not dead
    assert not child.ended
    await child.stop()
