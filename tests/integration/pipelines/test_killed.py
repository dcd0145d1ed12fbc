"""Orchestrators that are killed with SIGKILL at every change of state, or stand still past their lease.

Another one on the same store goes on. At the end: the run has succeeded, each effect that is exactly once is
there once, each task's last attempt succeeded, all before it ended as lost, and nothing runs any more.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from streamcore.crashpoints import VARIABLE
from streamcore.metadata.contract import NewRun, Store
from streamcore.metadata.records import RunRecord
from streamcore.metadata.states import AttemptStatus, PipelineStatus, TaskStatus
from streamcore.pipelines.models import PipelineConfig, TaskConfig, TaskType
from tests.integration.pipelines.work import LEASE_SECONDS

T = TaskType
TOPOLOGY = """\
import streamcore as sc

class Row(sc.Event):
    n: int

topology = sc.Topology("numbers")
topology.stream("numbers", Row).to(sc.sinks.SQLite("copied", "out.db", create=True))
"""
ROWS = 3000
SHARED = pytest.mark.parametrize("url", ["sqlite", "postgres"], indirect=True)


def pipeline(folder: Path) -> PipelineConfig:
    """A table, filled in a transaction; a replay into SQLite; a command that notes each time that it runs."""
    database = f"sqlite:///{folder}/out.db"
    return PipelineConfig(
        pipeline_id="p",
        max_parallel_tasks=2,
        tasks=[
            _task(
                "fill",
                T.SQL,
                connection_string=database,
                sql=["create table if not exists filled (n int)", "insert into filled values (1), (2), (3)"],
            ),
            _task("replay", T.REPLAY, topology="counted.py", sources={"numbers": "numbers.parquet"}),
            _task(
                "note", T.COMMAND, "fill", "replay", command=["sh", "-c", "echo $STREAMCORE_ATTEMPT >> notes"]
            ),
            _task("end", T.EMPTY, "note"),
        ],
    )


def _task(task_id: str, task_type: TaskType, *needs: str, **parameters: Any) -> TaskConfig:
    return TaskConfig(task_id=task_id, task_type=task_type, depends_on=needs, parameters=parameters)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "counted.py").write_text(TOPOLOGY)
    pl.DataFrame({"n": range(ROWS)}).write_parquet(tmp_path / "numbers.parquet")
    return tmp_path


def started(url: str, run_id: str, folder: Path, crash: str = "") -> subprocess.Popen[bytes]:
    root = Path(__file__).parents[3]
    environment = {**os.environ, VARIABLE: crash, "PYTHONPATH": str(root)}
    command = [sys.executable, "-m", "tests.integration.pipelines.work", url, run_id]
    return subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True)


async def queued(store: Store, folder: Path) -> str:
    config = pipeline(folder)
    await store.register("p", config.model_dump_json(exclude_defaults=True), 1)
    now = round(time.time() * 1e6)
    await store.create_run(NewRun("the-run", "p", 1, [t.task_id for t in config.tasks]), now)
    return "the-run"


async def ended(store: Store, run_id: str, seconds: float = 120) -> RunRecord:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        run = await store.run(run_id)
        assert run is not None
        if run.status not in (PipelineStatus.QUEUED, PipelineStatus.RUNNING):
            return run
        await asyncio.sleep(0.1)
    raise AssertionError(f"it has not ended: {await store.tasks(run_id)}")


async def check(store: Store, run_id: str, folder: Path) -> None:
    run = await ended(store, run_id)
    tasks = await store.tasks(run_id)
    assert run.status is PipelineStatus.SUCCESS, tasks
    assert {task.status for task in tasks} == {TaskStatus.SUCCESS}
    with sqlite3.connect(folder / "out.db") as database:
        assert database.execute("select n from filled order by n").fetchall() == [(1,), (2,), (3,)]
        (count, distinct) = database.execute("select count(*), count(distinct n) from copied").fetchone()
    assert (count, distinct) == (ROWS, ROWS)
    for task in tasks:
        attempts = [one.status for one in await store.attempts(run_id, task.task_id)]
        before = [AttemptStatus.LOST] * (len(attempts) - 1)
        assert attempts == ([] if task.task_id == "end" else [*before, AttemptStatus.SUCCESS])
    notes = (folder / "notes").read_text().split()
    assert len(set(notes)) == len(notes), "an attempt ran twice"
    ends = [e.kind for e in await store.events(run_id) if e.kind == "run.success"]
    assert len(ends) == 1


POINTS = ["pipeline.decided", "pipeline.committed", "pipeline.effect"]
QUICK = {("pipeline.committed", 2), ("pipeline.effect", 2)}
KILLS = [
    pytest.param(f"{point}:{turn}", marks=() if (point, turn) in QUICK else pytest.mark.slow)
    for point in POINTS
    for turn in range(1, 5)
    if (point, turn) != ("pipeline.effect", 4)
]


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("crash", KILLS)
async def test_a_killed_orchestrators_run_goes_on(store: Store, url: str, folder: Path, crash: str) -> None:
    run_id = await queued(store, folder)
    first = started(url, run_id, folder, crash)
    assert await asyncio.to_thread(first.wait, 60) == -signal.SIGKILL, "it ended before the crash point"
    second = started(url, run_id, folder)
    try:
        await check(store, run_id, folder)
        assert await asyncio.to_thread(second.wait, 30) == 0
    finally:
        second.kill()


@SHARED
@pytest.mark.slow
async def test_two_orchestrators_one_of_which_is_killed_again_and_again(
    store: Store, url: str, folder: Path
) -> None:
    run_id = await queued(store, folder)
    processes = []
    try:
        for crash in ("pipeline.committed:1", "pipeline.effect:1"):  # five losses would be its own fault
            processes = [started(url, run_id, folder, crash), started(url, run_id, folder, crash)]
            for process in processes:
                await asyncio.to_thread(process.wait, 60)
        processes = [started(url, run_id, folder), started(url, run_id, folder)]
        await check(store, run_id, folder)
    finally:
        for process in processes:
            process.kill()


@SHARED
@pytest.mark.slow
async def test_one_that_stood_still_past_its_lease_changes_nothing(
    store: Store, url: str, folder: Path
) -> None:
    run_id = await queued(store, folder)
    zombie = started(url, run_id, folder, "pipeline.effect:1:SIGSTOP")
    try:
        os.waitid(os.P_PID, zombie.pid, os.WSTOPPED | os.WNOWAIT)
        heir = started(url, run_id, folder)
        await check(store, run_id, folder)
        before = await store.events(run_id)
        zombie.send_signal(signal.SIGCONT)
        assert await asyncio.to_thread(zombie.wait, 30) == 0
        assert await store.events(run_id) == before
        assert await asyncio.to_thread(heir.wait, 30) == 0
    finally:
        zombie.kill()


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "how", [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=pytest.mark.slow)], ids=lambda how: how.name
)
async def test_what_a_dead_orchestrator_began_is_ended_before_another_begins(
    store: Store, url: str, folder: Path, how: signal.Signals
) -> None:
    """The command of an orchestrator that is killed, or stands still, ends with its right to run."""
    words = ["sh", "-c", f"sleep 63.{os.getpid()} & wait"]
    config = PipelineConfig(pipeline_id="q", tasks=[_task("long", T.COMMAND, command=words)])
    await store.register("q", config.model_dump_json(exclude_defaults=True), 1)
    await store.create_run(NewRun("long-run", "q", 1, ["long"]), round(time.time() * 1e6))
    process = started(url, "long-run", folder)
    try:
        await _until(lambda: running(f"sleep 63.{os.getpid()}"))
        process.send_signal(how)
        began = time.monotonic()
        await _until(lambda: not running(f"sleep 63.{os.getpid()}"))
        assert time.monotonic() - began < LEASE_SECONDS * 5
    finally:
        process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_a_task_is_not_to_blame_that_its_orchestrator_stood_still(
    store: Store, url: str, folder: Path
) -> None:
    """It has no retries: what its guard has killed meanwhile is lost, and made again by the same one."""
    sleep = f"sleep 64.{os.getpid()}"
    words = ["sh", "-c", f"test -e awake || {sleep}"]
    config = PipelineConfig(pipeline_id="q", tasks=[_task("long", T.COMMAND, command=words)])
    await store.register("q", config.model_dump_json(exclude_defaults=True), 1)
    await store.create_run(NewRun("long-run", "q", 1, ["long"]), round(time.time() * 1e6))
    process = started(url, "long-run", folder)
    try:
        await _until(lambda: running(sleep))
        process.send_signal(signal.SIGSTOP)
        await _until(lambda: not running(sleep))
        (folder / "awake").touch()
        process.send_signal(signal.SIGCONT)
        assert (await ended(store, "long-run")).status is PipelineStatus.SUCCESS
        states = [one.status for one in await store.attempts("long-run")]
        assert states == [AttemptStatus.LOST, AttemptStatus.SUCCESS]
        assert await asyncio.to_thread(process.wait, 30) == 0
    finally:
        process.kill()


async def _until(condition: Any) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


def running(words: str) -> bool:
    """Whether a process of this command line is there."""
    found = subprocess.run(["pgrep", "-fx", words], capture_output=True, check=False)
    return found.returncode == 0
