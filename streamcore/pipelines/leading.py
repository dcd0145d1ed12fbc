"""What one of the orchestrators that share a store does for all: schedules, notifications, publishing.

The leader holds a lease of the store and renews it whenever it looks for work. One that dies or stands still
loses it; so who has led before may still be at work when another one begins, and each job is made so that
this does no harm.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from typing import ClassVar, TypeAlias

from streamcore.errors import StreamcoreError
from streamcore.metadata.contract import Store

log = logging.getLogger("streamcore.pipelines")
LONGEST_PAUSE = 8.0
"""Seconds between two tries while the store, or what else is needed, does not answer."""


MakeLeader: TypeAlias = Callable[[Store, str, int, Callable[[], int]], "Leader"]
"""Makes one for a store, an owner, a lease in microseconds and a clock."""


class Leader(ABC):
    """Does a job as long as it leads. *clock*: the time in microseconds, for :meth:`start`."""

    job: ClassVar[str]
    """For people, and the name of the lease."""
    page: ClassVar[int]
    """How much it does in one look at most; then it looks again at once."""
    pause: ClassVar[float] = 1.0
    """Seconds between two looks for work."""
    last_seconds: ClassVar[float] = 0.0
    """So long one that stops works on what is there."""

    def __init__(self, store: Store, owner: str, lease_us: int, clock: Callable[[], int]) -> None:
        self._store, self._owner, self._lease_us, self._clock = store, owner, lease_us, clock
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self.leads = False

    @abstractmethod
    async def _lead(self, now: int) -> int:
        """Do what is to be done at *now*; how much that was."""

    def start(self) -> None:
        """Look for work every ``pause`` seconds, until :meth:`stop`."""
        self._stopping.clear()
        self._task = asyncio.ensure_future(self._go_on())

    async def stop(self) -> None:
        """Work on what is there for ``last_seconds``, and let another one lead at once."""
        if self._task is not None:
            self._stopping.set()
            if self.last_seconds:
                await asyncio.wait([self._task], timeout=self.last_seconds)
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        if self.leads:
            self.leads, now = False, self._clock()
            with suppress(StreamcoreError):  # then its lease runs out
                await self._store.lease(self.job, self._owner, now - 1, now)

    async def tick(self, now: int) -> int:
        """Take or renew the lease, and work if it was got; how much was done."""
        leads = await self._store.lease(self.job, self._owner, now + self._lease_us, now)
        if leads != self.leads:
            self.leads = leads
            log.info("this orchestrator does the %s %s", self.job, "now" if leads else "no more")
        return await self._lead(now) if leads else 0

    async def _go_on(self) -> None:
        last, wait = False, self.pause
        while not last:
            last, done = self._stopping.is_set(), 0  # what was there when the end began is worked on too
            try:
                done, wait = await self.tick(self._clock()), self.pause
            except StreamcoreError as error:
                wait = min(wait * 2, LONGEST_PAUSE)
                log.warning("%s: tried again in %.1f s: %s", self.job, wait, error)
            except Exception:
                log.exception("%s: a mistake in streamcore; it goes on", self.job)
            if done >= self.page:
                last = False
            elif not last:
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), wait)
