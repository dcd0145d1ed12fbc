"""Attempts in Python processes of their own: started ahead, each used once.

A child may import what its kind of tasks needs before it has one, so that an attempt begins without waiting
for that.
Orchestrator and child speak JSON, a line a message, over a socket pair: see :mod:`.child` for its half.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import orjson
from pydantic import JsonValue

from streamcore.errors import BadConfig, Permanent
from streamcore.pipelines.guarded import Guarded, Lifeline
from streamcore.pipelines.kinds.contract import TaskContext, TaskFailed, TaskResult, TaskSkipped
from streamcore.pipelines.models import TaskType

MOST_MESSAGE = 64 << 20
HEAD_START = 0.5
"""Seconds that a task has before the process of the next one is started, which takes a core for a while."""
_END_SECONDS = 10.0
"""So long a process may end without a word about it in the log."""
_ERRORS = {"BadConfig": BadConfig, "TaskFailed": TaskFailed, "TaskSkipped": TaskSkipped}


class Child:
    """A process that waits for its one task."""

    def __init__(self, process: Guarded, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._process, self._reader, self._writer = process, reader, writer
        self._ready = False

    async def ready(self) -> None:
        """Returns when it has imported what it imports ahead, or has ended."""
        if not self._ready:
            await self._reader.readline()
            self._ready = True

    @property
    def ended(self) -> bool:
        """Whether its process is gone."""
        return self._process.gone

    @staticmethod
    async def start(lifeline: Lifeline, ahead: Sequence[str] = ()) -> Child:
        """A new one; it imports the modules *ahead* while the caller goes on."""
        ours, theirs = socket.socketpair()
        try:
            command = [sys.executable, "-m", "streamcore.pipelines.child", str(theirs.fileno()), *ahead]
            environment = {"PYTHONUNBUFFERED": "1"}
            process = await Guarded.start(command, lifeline, environment=environment, keep=[theirs.fileno()])
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        try:
            reader, writer = await asyncio.open_connection(sock=ours, limit=MOST_MESSAGE)
        except BaseException:
            ours.close()
            await process.stop()
            raise
        return Child(process, reader, writer)

    async def run(
        self, task_type: TaskType, parameters: Mapping[str, JsonValue], context: TaskContext
    ) -> TaskResult:
        """The result of the task; raises what the task raised, as far as the caller must tell it apart."""
        job = {
            "task_type": task_type.value,
            "parameters": parameters,
            "pipeline_id": context.pipeline_id,
            "run_id": context.run_id,
            "task_id": context.task_id,
            "attempt": context.attempt,
            "inputs": context.inputs,
            "upstream": context.upstream,
        }
        output = asyncio.ensure_future(self._process.wait(context.log))
        output.add_done_callback(lambda _: self._hang_up())
        try:
            self._writer.write(orjson.dumps(job) + b"\n")
            answer = await self._answer(context)
            if not (await asyncio.wait([output], timeout=_END_SECONDS))[0]:
                context.log("it is done; its process still has threads or exit handlers at work")
            code = await output
        except BaseException:
            output.cancel()
            await asyncio.gather(output, return_exceptions=True)
            raise
        finally:
            self._writer.close()
        if answer is None:
            raise Permanent(f"its process ended with {_ended(code)}, before it said how it went")
        result = _result(answer)
        if code != 0:
            raise Permanent(
                f"its process ended with {_ended(code)} behind its work: what it wrote may lack its end"
            )
        return result

    async def stop(self) -> None:
        """It isn't needed."""
        self._writer.close()
        self._process.cut()
        await self._process.stop()

    def _hang_up(self) -> None:
        """Nothing more is to come, also when a process that it left behind holds the other end."""
        with suppress(OSError):  # it is closed
            self._writer.get_extra_info("socket").shutdown(socket.SHUT_RD)

    async def _answer(self, context: TaskContext) -> dict[str, Any] | None:
        await self.ready()
        while line := await self._reader.readline():
            message: dict[str, Any] = orjson.loads(line)
            if "progress" in message:
                context.report(*message["progress"])
            else:
                return message
        return None


@dataclass(slots=True)
class _Sort:
    """Children that import the same modules: those that are ready. One is started at a time."""

    ready: deque[Child] = field(default_factory=deque)
    growing: asyncio.Lock = field(default_factory=asyncio.Lock)


class Nursery:
    """Keeps *spare* children ready of each sort that was asked for: of one sort import the same modules."""

    def __init__(self, lifeline: Lifeline, spare: int = 1) -> None:
        self._lifeline, self._spare = lifeline, spare
        self._sorts: dict[tuple[str, ...], _Sort] = {}
        self._growing: set[asyncio.Task[None]] = set()
        self._closed = False

    def warm(self, ahead: tuple[str, ...], delay: float = 0.0) -> None:
        """Start children of this sort up to the number to be kept, in the background, in *delay* seconds."""
        task = asyncio.ensure_future(self._grow(self._sorts.setdefault(ahead, _Sort()), ahead, delay))
        self._growing.add(task)
        task.add_done_callback(self._growing.discard)

    async def take(self, ahead: tuple[str, ...] | None) -> Child:
        """A child of the caller's own, ready if there is one."""
        if ahead is None:
            return await Child.start(self._lifeline)
        ready = self._sorts.setdefault(ahead, _Sort()).ready
        while ready and ready[0].ended:  # its guard ended it: the lease was over for a while
            await ready.popleft().stop()
        child = ready.popleft() if ready else await Child.start(self._lifeline, ahead)
        self.warm(ahead, HEAD_START)
        return child

    async def settle(self) -> None:
        """Returns when as many children are ready as are to be kept."""
        await asyncio.gather(*self._growing)
        await asyncio.gather(*(child.ready() for sort in self._sorts.values() for child in sort.ready))

    async def close(self) -> None:
        """End those that nobody took."""
        self._closed = True
        for task in self._growing:
            task.cancel()
        await asyncio.gather(*self._growing, return_exceptions=True)
        sorts, self._sorts = list(self._sorts.values()), {}
        await asyncio.gather(*(child.stop() for sort in sorts for child in sort.ready))

    async def _grow(self, sort: _Sort, ahead: tuple[str, ...], delay: float) -> None:
        await asyncio.sleep(delay)
        async with sort.growing:
            while len(sort.ready) < self._spare and not self._closed:
                sort.ready.append(await Child.start(self._lifeline, ahead))


def _result(answer: Mapping[str, Any]) -> TaskResult:
    if "result" in answer:
        return TaskResult(**answer["result"])
    raise _ERRORS.get(answer["type"], Permanent)(answer["error"])


def _ended(code: int) -> str:
    return f"signal {code - 128}" if code > 128 else f"exit code {code}"
