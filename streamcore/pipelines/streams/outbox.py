"""The publisher: carries the events that the store holds to a topic. One of many leads.

Of events: they are appended, and when that is durable they are noted as published. Who dies in between leaves
them to the next leader, which appends them again: each event is there at least once, and the first records of
a run's events are in its order. Readers that fold by ``event_id`` see each once.
"""

from __future__ import annotations

from collections.abc import Callable

from streamcore.contracts import Log
from streamcore.crashpoints import crash_point
from streamcore.metadata.contract import Store
from streamcore.pipelines.leading import Leader
from streamcore.pipelines.streams.events import records_of
from streamcore.sinks.topic import APPEND_TIME


class Publisher(Leader):
    """Appends what is not published to *topic* of *log*, if it leads.

    The topic is made with so many *partitions* unless it is there.
    """

    job, page, pause, last_seconds = "publishing", 1000, 0.2, 10.0

    def __init__(
        self,
        store: Store,
        owner: str,
        lease_us: int,
        clock: Callable[[], int],
        *,
        log: Log,
        topic: str,
        partitions: int,
    ) -> None:
        super().__init__(store, owner, lease_us, clock)
        self._log, self._topic, self._partitions = log, topic, partitions
        self._made = False

    async def _lead(self, now: int) -> int:
        """Publish the oldest events; how many."""
        if not self._made:
            await self._log.create(self._topic, self._partitions, APPEND_TIME)
            self._made = True
        events = await self._store.unpublished(self.page)
        if events:
            await (await self._log.append(self._topic, records_of(events)))
            crash_point("outbox.sent")
            await self._store.published([one.event_id for one in events], now)
            crash_point("outbox.noted")
        return len(events)
