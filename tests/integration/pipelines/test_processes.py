"""How processes of attempts begin and end: with all that they wrote, and not later than their command."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from streamcore.metadata.contract import Store
from streamcore.metadata.states import PipelineStatus, TaskStatus
from streamcore.pipelines.children import Nursery
from streamcore.pipelines.guarded import Lifeline
from streamcore.pipelines.models import PipelineConfig, TaskConfig
from streamcore.pipelines.orchestrator import PipelineOrchestrator
from tests.integration.pipelines.test_orchestrator import command, python, ran

DAEMON = """\
setsid sh -c 'echo $$ > new; mv new pid; exec sleep 3600' &
while ! test -e pid; do sleep 0.01; done
echo begun
"""


def a_command(folder: Path) -> TaskConfig:
    return command("t", "sh", "-c", DAEMON, parameters={"folder": str(folder)})


def a_function(folder: Path) -> TaskConfig:
    return python("t", "leave_a_daemon", child=True, arguments={"pid_file": f"{folder}/pid"})


@pytest.mark.parametrize(
    ("task", "status"), [(a_command, PipelineStatus.SUCCESS), (a_function, PipelineStatus.FAILED)]
)
async def test_an_attempt_ends_with_its_process_though_a_daemon_holds_its_output(
    store: Store, tmp_path: Path, task: object, status: PipelineStatus
) -> None:
    assert callable(task)
    try:
        async with PipelineOrchestrator(store) as orchestrator:
            view = await asyncio.wait_for(ran(orchestrator, task(tmp_path)), 60)
        assert view.status is status, view
        (attempt,) = await store.attempts(view.run_id)
        assert attempt.log == "begun\n"
    finally:
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


async def test_what_a_function_leaves_open_is_written(store: Store, tmp_path: Path) -> None:
    task = python("t", "leave_open", child=True, arguments={"folder": str(tmp_path)})
    async with PipelineOrchestrator(store) as orchestrator:
        view = await ran(orchestrator, task)
        assert view.status is PipelineStatus.SUCCESS, view
        assert (tmp_path / "global").read_text() == "left open"
        assert (tmp_path / "handler").read_text() == "at exit"


async def test_a_function_whose_threads_go_on_says_so_and_is_stopped(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamcore.pipelines.children._END_SECONDS", 0.1)
    task = python("t", "leave_a_thread", child=True, arguments={"seconds": 3600})
    async with PipelineOrchestrator(store) as orchestrator:
        await orchestrator.register_pipeline(PipelineConfig(pipeline_id="p", tasks=(task,)))
        run_id = await orchestrator.trigger_pipeline("p")
        await asyncio.wait_for(_told(store, run_id, "still has threads"), 60)
        await orchestrator.cancel(run_id)
        view = await asyncio.wait_for(orchestrator.wait(run_id), 60)
    assert view.tasks["t"].status is TaskStatus.CANCELLED


async def _told(store: Store, run_id: str, text: str) -> None:
    """Returns when the log of the first attempt has *text*."""
    while not any(text in one.log for one in await store.attempts(run_id)):
        await asyncio.sleep(0.05)


async def test_a_process_that_fails_behind_its_function_is_a_failure(store: Store) -> None:
    async with PipelineOrchestrator(store) as orchestrator:
        view = await ran(orchestrator, python("t", "die_behind", child=True))
    assert "ended with exit code 7 behind its work" in view.tasks["t"].reason


async def test_a_burst_leaves_no_more_spare_children_than_are_to_be_kept() -> None:
    nursery = Nursery(Lifeline(600))
    for _ in range(4):
        nursery.warm(())
    await nursery.settle()
    try:
        assert len(nursery._sorts[()].ready) == 1
    finally:
        await nursery.close()
