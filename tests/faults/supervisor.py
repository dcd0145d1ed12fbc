"""Keeps workers running, as Kubernetes would: what ends is started again, and counted."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path

from tests.faults.processes import WorkerProcess

_LOOK_SECONDS = 0.03
_BACK_OFF_SECONDS = 0.3
_MOST_RESTARTS = 15

Spawn = Callable[[int, str], WorkerProcess]
"""Starts the worker of a slot, with a crash point (``name[:n[:signal]]``) or none (``""``)."""


class Supervisor:
    """Slots 0, 1, … with a worker each. ``restarts`` counts those that nobody had ordered.

    ``failures`` are what no worker may do: end with 0 unasked, end again and again, not drain.
    """

    def __init__(self, spawn: Spawn, *, bounded: bool = False) -> None:
        self._spawn, self._bounded = spawn, bounded
        self.workers: dict[int, WorkerProcess] = {}
        self._logs: list[WorkerProcess] = []
        self.restarts = 0
        self.causes: list[str] = []
        self.failures: list[str] = []
        self.kills = 0
        """Ends by SIGKILL: ours, or a crash point's."""
        self.finished = False
        """Bounded work: a worker ended with 0."""
        self._next: dict[int, list[str]] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self, slot: int, *crashes: str) -> WorkerProcess:
        """Start the worker of *slot*, its first lives with *crashes*, one each."""
        self._next[slot] = list(crashes)
        return self._start(slot)

    def _start(self, slot: int) -> WorkerProcess:
        crash = self._next[slot].pop(0) if self._next[slot] else ""
        worker = self.workers[slot] = self._spawn(slot, crash)
        self._logs.append(worker)
        return worker

    async def kill(self, slot: int) -> None:
        """SIGKILL, followed by a restart."""
        worker = self.workers[slot]
        await asyncio.to_thread(worker.kill)

    async def leave(self, slot: int, seconds: float = 40) -> None:
        """SIGTERM, no restart; the worker must drain and end with 0, unless it still starts."""
        worker = self.workers.pop(slot)
        if worker.code is not None:
            return
        worker.terminate()
        for _ in range(int(seconds / _LOOK_SECONDS)):
            if worker.code is not None:
                break
            await asyncio.sleep(_LOOK_SECONDS)
        unborn = worker.code == -signal.SIGTERM and "worker of" not in worker.output()
        # A zombie that has just found out that it was fenced ends with 1, asked or not.
        fenced = worker.was_stopped and "another owner has taken" in worker.output()
        if worker.code != 0 and not unborn and not (worker.code == 1 and fenced):
            how = "did not end" if worker.code is None else f"ended with {worker.code}"
            self.failures.append(f"slot {slot} {how} after SIGTERM: {_last_line(worker)}")

    def outputs(self) -> str:
        """All that the workers have written."""
        paths = {worker.log for worker in self._logs}
        return "".join(Path(path).read_text(errors="replace") for path in sorted(paths) if path.exists())

    async def __aenter__(self) -> Supervisor:
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        for worker in self._logs:
            await asyncio.to_thread(worker.close)

    async def _watch(self) -> None:
        while True:
            for slot, worker in list(self.workers.items()):
                if worker.code is not None:
                    await self._ended(slot, worker, worker.code)
            await asyncio.sleep(_LOOK_SECONDS)

    async def _ended(self, slot: int, worker: WorkerProcess, code: int) -> None:
        if code == -signal.SIGKILL:
            self.kills += 1
        elif code == 0 and self._bounded:
            self.finished = True
            self.workers.pop(slot)
            return
        else:
            self.restarts += 1
            self.causes.append(f"{code}: {_last_line(worker)}")
            if code == 0:
                self.failures.append(f"slot {slot} ended with 0 unasked")
            await asyncio.sleep(_BACK_OFF_SECONDS)
        if self.restarts > _MOST_RESTARTS:
            self.failures.append(f"restarted again and again: {self.causes[-1]}")
            self.workers.pop(slot, None)
        elif self.workers.get(slot) is worker:
            self._start(slot)


def _last_line(worker: WorkerProcess) -> str:
    lines = [line for line in worker.output().splitlines() if line.strip()]
    wanted = [line for line in lines if "error" in line.lower()] or lines
    return wanted[-1][:300] if wanted else "no output"
