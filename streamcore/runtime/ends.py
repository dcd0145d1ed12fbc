"""Where the partitions end, asked of the broker itself.

A consumer knows the end of a partition from its last fetch. When it silently stops fetching, that end
stands still with it and nothing seems to wait: so the watchdog asks by a connection of its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from streamcore.batch import PartitionId
from streamcore.contracts import Log
from streamcore.errors import StreamcoreError

log = logging.getLogger(__name__)


class Ends:
    """The ends of all partitions of *topics* in *log*, as old as *every* seconds."""

    def __init__(self, log: Log, topics: Iterable[str], every: float) -> None:
        self._log, self._topics, self._every = log, tuple(topics), every
        self._ends: dict[tuple[str, int], int] = {}

    def of(self, source: PartitionId) -> int | None:
        """The end of *source* when the broker was asked last, None before that."""
        return self._ends.get((source.topic, source.partition))

    async def ask(self) -> None:
        """Ask once. A broker that does not answer leaves what is known."""
        for topic in self._topics:
            try:
                bounds = await asyncio.wait_for(self._log.bounds(topic), self._every)
            except (StreamcoreError, asyncio.TimeoutError) as error:
                log.debug("asking for the ends of %s: %s", topic, error)
                continue
            self._ends.update({(topic, partition): found.end for partition, found in bounds.items()})

    async def keep_asking(self) -> None:
        """Ask again and again, until cancelled."""
        while True:
            await self.ask()
            await asyncio.sleep(self._every)
