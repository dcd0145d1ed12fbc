"""What ends is started again and counted; what no worker may do is a failure."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import cast

import pytest

from tests.faults import supervisor as module
from tests.faults.processes import WorkerProcess
from tests.faults.supervisor import Supervisor


class Fake:
    """A worker that ends when it is told to."""

    was_stopped = False

    def __init__(self, crash: str) -> None:
        self.crash, self.code, self.log = crash, cast("int | None", None), Path("/nowhere")
        self.drained = 0

    def terminate(self) -> None:
        self.code = self.drained

    def kill(self) -> None:
        self.code = -signal.SIGKILL

    def output(self) -> str:
        return "starting\nError: the disk is full\nlast words"

    close = kill


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.001)
    monkeypatch.setattr(module, "_BACK_OFF_SECONDS", 0.0)


def supervised(*, bounded: bool = False) -> tuple[Supervisor, list[Fake]]:
    lives: list[Fake] = []

    def spawn(slot: int, crash: str) -> WorkerProcess:
        lives.append(Fake(crash))
        return cast(WorkerProcess, lives[-1])

    return Supervisor(spawn, bounded=bounded), lives


async def lives_are(lives: list[Fake], count: int) -> None:
    async def enough() -> None:
        while len(lives) < count:
            await asyncio.sleep(0.001)

    await asyncio.wait_for(enough(), 10)


async def test_a_kill_is_no_restart_and_each_life_has_its_crash_point() -> None:
    supervisor, lives = supervised()
    async with supervisor:
        supervisor.start(0, "one:1", "two:2")
        await supervisor.kill(0)
        await lives_are(lives, 2)
        lives[1].code = 1
        await lives_are(lives, 3)
    assert [life.crash for life in lives] == ["one:1", "two:2", ""]
    assert (supervisor.kills, supervisor.restarts) == (1, 1)
    assert supervisor.causes == ["1: Error: the disk is full"]
    assert not supervisor.failures


async def test_a_worker_that_ends_with_0_unasked_is_a_failure() -> None:
    supervisor, lives = supervised()
    async with supervisor:
        supervisor.start(0)
        lives[0].code = 0
        await lives_are(lives, 2)
    assert supervisor.failures == ["slot 0 ended with 0 unasked"]


async def test_bounded_work_ends_with_0() -> None:
    supervisor, lives = supervised(bounded=True)
    async with supervisor:
        supervisor.start(0)
        lives[0].code = 0
        while not supervisor.finished:
            await asyncio.sleep(0.001)
    assert not supervisor.failures
    assert len(lives) == 1


@pytest.mark.parametrize(("drained", "failures"), [(0, 0), (1, 1), (-signal.SIGTERM, 0)])
async def test_who_leaves_must_end_with_0_unless_it_was_not_up_yet(drained: int, failures: int) -> None:
    supervisor, lives = supervised()
    async with supervisor:
        supervisor.start(0)
        lives[0].drained = drained
        await supervisor.leave(0)
    assert len(supervisor.failures) == failures
    assert len(lives) == 1


async def test_who_ends_again_and_again_is_given_up() -> None:
    supervisor, lives = supervised()
    async with supervisor:
        supervisor.start(0)
        while not supervisor.failures:
            lives[-1].code = 1
            await asyncio.sleep(0.001)
    assert "again and again" in supervisor.failures[0]
