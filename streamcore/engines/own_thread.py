"""Work that blocks for moments, in an event loop and thread of its own: the caller's loop stays free."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

T = TypeVar("T")
Work = Callable[[asyncio.Event], Coroutine[Any, Any, T]]
"""Given an event that says when to stop."""


async def in_own_thread(work: Work[T], name: str) -> T:
    """The result of *work*, or what it raises.

    When this is cancelled, *work* is told to stop and waited for; cancelled again, it is left to stop alone.
    """
    running = _Running(work)
    with ThreadPoolExecutor(1, thread_name_prefix=name) as executor:
        future = asyncio.get_running_loop().run_in_executor(executor, running.run)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            running.stop()
            await asyncio.wait([future])
            future.exception()  # retrieved: what is told is that it was cancelled
            raise


class _Running(Generic[T]):
    """*work* in the thread that calls :meth:`run`."""

    def __init__(self, work: Work[T]) -> None:
        self._work = work
        self._lock = threading.Lock()
        self._stopped = False
        self._there: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None

    def run(self) -> T:
        return asyncio.run(self._main())

    def stop(self) -> None:
        """From any thread, at any time."""
        with self._lock:
            self._stopped = True
            if self._there is not None:
                loop, event = self._there
                loop.call_soon_threadsafe(event.set)

    async def _main(self) -> T:
        event = asyncio.Event()
        with self._lock:
            self._there = asyncio.get_running_loop(), event
            if self._stopped:
                event.set()
        try:
            return await self._work(event)
        finally:
            with self._lock:
                self._there = None
