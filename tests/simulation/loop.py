"""A deterministic event loop: time is a number that jumps to the next timer, and processes can die.

What runs under asyncio here runs as anywhere, but nothing waits: when nothing is ready the clock jumps to the
next timer. A :class:`Process` is all that was started inside of it, tasks, callbacks and timers, told
apart by a context variable. It can be killed before any of its steps, and then not one instruction of it
runs any more (no ``finally``, as with SIGKILL), or be stopped and go on later, as with SIGSTOP.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Mapping
from contextvars import Context, ContextVar, copy_context
from typing import Any

PROCESS: ContextVar[Process | None] = ContextVar("PROCESS", default=None)
"""Whose code is running; None: that of the world outside."""


_MOST_ROUNDS = 400_000
"""Rounds of a loop by which a world must have come to rest; most take less than a twentieth."""

_BUSY_ROUNDS, _BUSY_SECONDS = 1_000, 0.001
"""After so many rounds at one instant each takes so long: code that turns until some time gets there."""


class Killed(BaseException):
    """Ends the synchronous code of a process that was killed in the middle of it."""


class Stuck(Exception):
    """Nothing is ready and no timer is set: everything waits for something that never comes."""


class Process:
    """One simulated operating system process. ``deaths`` are called when it dies, however it does."""

    def __init__(self, loop: VirtualLoop, name: str) -> None:
        self.loop, self.name = loop, name
        self.dead = self.paused = False
        self.steps = 0
        self.dies_at: int | None = None
        """Killed before this step of its."""
        self.deaths: list[Callable[[], None]] = []
        self._held: list[_Step] = []
        loop.processes.append(self)

    def start(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Begin with *coroutine*."""
        context = copy_context()
        context.run(PROCESS.set, self)
        task: asyncio.Task[None] = context.run(self.loop.create_task, coroutine)
        return task

    def kill(self) -> None:
        """SIGKILL."""
        if not self.dead:
            self.dead = True
            self._held.clear()
            for told in self.deaths:
                told()

    def pause(self) -> None:
        """SIGSTOP."""
        self.paused = True

    def go_on(self) -> None:
        """SIGCONT: what became due meanwhile runs now, in its order."""
        self.paused, held, self._held = False, self._held, []
        if not self.dead:
            for step in held:
                self.loop.again(step)

    def may_step(self, step: _Step) -> bool:
        """Whether *step* may run now; otherwise it is kept or lost."""
        if not self.dead and self.dies_at is not None and self.steps >= self.dies_at:
            self.kill()
        if self.dead:
            return False
        if self.paused:
            self._held.append(step)
            return False
        self.steps += 1
        return True


class _Step:
    """A callback of a process, on its way through the loop."""

    __slots__ = ("arguments", "callback", "context", "handle", "process")

    def __init__(
        self,
        process: Process,
        callback: Callable[..., object],
        arguments: tuple[object, ...],
        context: Context,
    ) -> None:
        self.process, self.callback, self.arguments, self.context = process, callback, arguments, context
        self.handle: asyncio.Handle | None = None

    def __call__(self) -> None:
        if self.handle is not None and self.handle.cancelled():  # while its process stood still
            return
        if self.process.may_step(self):
            try:
                self.callback(*self.arguments)
            except Killed:
                self.process.kill()


class VirtualLoop(asyncio.SelectorEventLoop):
    """See the module. *latency* gives how many virtual seconds work in a thread takes."""

    def __init__(self, latency: Callable[[], float]) -> None:
        self.now = 0.0
        self.processes: list[Process] = []
        self.errors: list[str] = []
        """What callbacks raised that nobody waited for."""
        self._latency = latency
        self.over = False
        """What the remains of dead processes still ask for is not done."""
        self.tasks: list[asyncio.Future[Any]] = []
        """All of them: what a dead process has left must not be collected, its ``finally`` would run."""
        super().__init__(_Jump(self))
        self.set_task_factory(self._task)
        self._clock_resolution = 1e-9
        self.set_exception_handler(self._noted)

    def time(self) -> float:
        return self.now

    def call_soon(  # type: ignore[override]  # without typeshed's TypeVarTuple
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        context = context if context is not None else copy_context()
        process = context.get(PROCESS)
        if self.over:
            return asyncio.Handle(callback, args, self, context)
        if process is None:
            return super().call_soon(callback, *args, context=context)
        step = _Step(process, callback, args, context)
        step.handle = super().call_soon(step, context=context)
        return step.handle

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        context = context if context is not None else copy_context()
        process = context.get(PROCESS)
        if self.over:
            return asyncio.TimerHandle(when, callback, args, self, context)
        if process is None:
            return super().call_at(when, callback, *args, context=context)
        step = _Step(process, callback, args, context)
        timer = super().call_at(when, step, context=context)
        step.handle = timer
        return timer

    def again(self, step: _Step) -> None:
        """Run a *step* that was kept while its process stood still."""
        super().call_soon(step, context=step.context)

    def world_later(self, delay: float, callback: Callable[..., object], *args: object) -> None:
        """Call *callback* after *delay* seconds in the world outside of all processes."""
        super().call_at(self.now + delay, callback, *args, context=Context())

    def run_in_executor(  # type: ignore[override]
        self, executor: object, func: Callable[..., Any], *args: Any
    ) -> Any:
        """Work in a thread: done at one instant a little later, unless its process has died by then."""
        future, process = self.create_future(), PROCESS.get()
        context = copy_context()

        def work() -> None:
            if process is not None and (process.dead or process.paused):
                if process.paused and not process.dead:
                    self.world_later(0.05, work)
                return
            try:
                result = context.run(func, *args)
            except Killed:
                assert process is not None
                process.kill()
            except Exception as error:
                if not future.done():
                    future.set_exception(error)
            else:
                if not future.done():
                    future.set_result(result)

        self.world_later(self._latency(), work)
        return future

    def _task(self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **options)
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        self.tasks.append(task)
        return task

    def _noted(self, loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
        task = context.get("task") or context.get("future")
        if context.get("message", "").startswith("Task was destroyed"):
            return  # of a process that was killed
        context_of = getattr(task, "get_context", None)  # since Python 3.12
        owner = context_of().get(PROCESS) if context_of is not None else None
        if owner is None or not owner.dead:
            self.errors.append(f"{context.get('message')}: {context.get('exception')!r}")


class _Jump(selectors.SelectSelector):
    """Waiting for a file never happens; waiting for a time is a jump of the clock."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop, self._rounds, self._at_once = loop, 0, 0

    def select(self, timeout: float | None = None) -> list[Any]:
        self._rounds += 1
        if self._rounds > _MOST_ROUNDS:
            raise Stuck(f"still at work at {self._loop.now:.3f} after {_MOST_ROUNDS} rounds of the loop")
        if timeout is None:
            raise Stuck("nothing is ready and no timer is set")
        self._at_once = 0 if timeout > 0 else self._at_once + 1
        self._loop.now += timeout if self._at_once <= _BUSY_ROUNDS else _BUSY_SECONDS
        return []
