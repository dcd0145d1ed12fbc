"""An event loop in a thread of its own, for asynchronous clients that are read from by synchronous code."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class OwnLoop:
    """Runs coroutines for callers of any thread, also of one whose event loop is running: it waits meanwhile.

    The thread begins with the first call, and goes on between calls, so what a client does in the background
    is done. It ends with :meth:`close`, or with the process.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def used(self) -> bool:
        """Whether something was run that was not closed since."""
        return self._loop is not None

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        """The result of *call*, or what it raises."""
        return self.start(call).result()

    def start(self, call: Coroutine[Any, Any, T]) -> Future[T]:
        """Begin *call*. To cancel what this gives is to cancel it."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name=self._name, daemon=True)
            self._thread.start()
        return asyncio.run_coroutine_threadsafe(call, self._loop)

    def close(self) -> None:
        """End the thread. What was run must have ended. More than once does no harm."""
        loop, thread, self._loop = self._loop, self._thread, None
        if loop is None or thread is None:
            return
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
